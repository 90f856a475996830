//! Numbers for texts that are part of many keys.
//!
//! ```text
//! names        text -> id
//! name_texts   id   -> text
//! ```

use std::collections::HashMap;

use redb::{ReadTransaction, ReadableTable};

use super::error::StoreError;
use super::handle::Store;
pub(crate) use super::tables::NameId;
use super::tables::*;
use super::txn::Txn;

impl Store {
    /// The texts of these ids, in the same order.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if an id has no text. Any other error means that the store cannot be read.
    pub fn names(&self, ids: &[NameId]) -> Result<Vec<String>, StoreError> {
        self.read(|read| {
            let mut names = Names::open(read)?;
            ids.iter().map(|id| names.text(*id)).collect()
        })
    }
}

pub(super) fn name_id(read: &ReadTransaction, text: &str) -> Result<Option<NameId>, StoreError> {
    Ok(read.open_table(NAMES)?.get(text)?.map(|id| id.value()))
}

/// Texts of names. Each is read once.
pub(super) struct Names {
    texts: redb::ReadOnlyTable<u32, &'static str>,
    known: HashMap<NameId, String>,
}

impl Names {
    pub(super) fn open(read: &ReadTransaction) -> Result<Self, StoreError> {
        Ok(Self {
            texts: read.open_table(NAME_TEXTS)?,
            known: HashMap::new(),
        })
    }

    pub(super) fn text(&mut self, id: NameId) -> Result<String, StoreError> {
        if let Some(text) = self.known.get(&id) {
            return Ok(text.clone());
        }
        let text = self.texts.get(id)?.map(|text| text.value().to_owned());
        let text =
            text.ok_or_else(|| StoreError::Damaged(format!("the text of name {id} is missing")))?;
        self.known.insert(id, text.clone());
        Ok(text)
    }
}

impl Txn<'_> {
    /// The id of a text. A new text gets a new id.
    pub(super) fn name(&mut self, text: &str) -> Result<NameId, StoreError> {
        if let Some(id) = self.names.get(text)? {
            return Ok(id.value());
        }
        let id = u32::try_from(self.next(meta::NEXT_NAME)?)
            .map_err(|_| StoreError::Damaged("too many names (more than 2^32)".into()))?;
        self.names.insert(text, id)?;
        self.name_texts.insert(id, text)?;
        Ok(id)
    }
}
