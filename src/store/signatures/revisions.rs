//! The revisions of the signature lists.

use redb::{ReadableTable, ReadableTableMetadata};

use crate::signature::ListTexts;
use crate::store::batch::Batch;
use crate::store::command::Command;
use crate::store::error::StoreError;
use crate::store::handle::Store;
use crate::store::rows::{self, ResignRow, RevisionRow, Stored};
use crate::store::tables::*;
use crate::store::txn::Txn;

/// Lists that were activated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    pub texts: ListTexts,
    pub author: String,
    pub at_ms: i64,
    pub comment: String,
    /// The earlier revision that this one restores.
    pub restores: Option<u64>,
}

/// Lists to activate.
#[derive(Clone, Debug)]
pub struct NewRevision {
    pub texts: ListTexts,
    pub author: String,
    pub comment: String,
    pub restores: Option<u64>,
    /// The revision that the author saw. If another one is active, nothing changes.
    pub based_on: u64,
}

/// Number of revisions that are kept.
const REVISIONS_MAX: u64 = 1_000;
impl Store {
    /// The active lists; `None` for the built-in ones.
    ///
    /// # Errors
    /// The store cannot be read, or the row of the newest revision is damaged.
    pub(crate) fn active_lists(&self) -> Result<Option<(u64, Revision)>, StoreError> {
        Ok(self.list_revisions(1)?.pop())
    }

    /// The newest revisions.
    ///
    /// # Errors
    /// The store cannot be read, or the row of a revision is damaged.
    pub fn list_revisions(&self, limit: usize) -> Result<Vec<(u64, Revision)>, StoreError> {
        self.read(|read| {
            let revisions = read.open_table(LIST_REVISIONS)?;
            let mut found = Vec::new();
            for entry in revisions.iter()?.rev().take(limit) {
                let (revision, row) = entry?;
                found.push((revision.value(), rows::decode(row.value())?));
            }
            Ok(found)
        })
    }

    /// A revision; `None` if it does not exist or is no longer kept.
    ///
    /// # Errors
    /// The store cannot be read, or the row of this revision is damaged.
    pub fn list_revision(&self, revision: u64) -> Result<Option<Revision>, StoreError> {
        self.read(|read| {
            let revisions = read.open_table(LIST_REVISIONS)?;
            let row = revisions.get(revision)?;
            row.map(|row| rows::decode(row.value())).transpose()
        })
    }

    /// Stores lists as the newest revision and starts a re-sign with them. Returns `None` if another revision
    /// is active than the one that the author saw.
    ///
    /// # Errors
    /// The store cannot be written, or the row of the running re-sign is damaged.
    pub fn revise(&self, new: NewRevision) -> Result<Option<u64>, StoreError> {
        self.ask(Revise(Box::new(new)))
    }
}

struct Revise(Box<NewRevision>);

impl Command for Revise {
    type Answer = Option<u64>;

    fn apply(&self, txn: &mut Txn, batch: &mut Batch) -> Result<Option<u64>, StoreError> {
        let latest = txn.revision()?;
        if latest != self.0.based_on {
            return Ok(None);
        }
        if let Some(mut row) = txn.resign_row(latest)?
            && row.ended_at_ms.is_none()
        {
            row.ended_at_ms = Some(batch.now.ms());
            row.superseded = true;
            txn.resigns.insert(latest, rows::encode(&row).as_slice())?;
        }
        let revision = latest + 1;
        let row = Revision {
            texts: self.0.texts.clone(),
            author: self.0.author.clone(),
            at_ms: batch.now.ms(),
            comment: self.0.comment.clone(),
            restores: self.0.restores,
        };
        txn.list_revisions
            .insert(revision, rows::encode(&row).as_slice())?;
        let resign = ResignRow::begun(batch.now, txn.signed.len()?);
        txn.resigns
            .insert(revision, rows::encode(&resign).as_slice())?;
        let oldest = revision.saturating_sub(REVISIONS_MAX);
        txn.list_revisions.retain_in(..=oldest, |_, _| false)?;
        txn.resigns.retain_in(..=oldest, |_, _| false)?;
        Ok(Some(revision))
    }
}

impl Txn<'_> {
    /// The revision of the active lists.
    pub(super) fn revision(&self) -> Result<u64, StoreError> {
        Ok(self
            .list_revisions
            .last()?
            .map_or(0, |(revision, _)| revision.value()))
    }
}

impl Stored for Revision {
    type Row = RevisionRow;

    fn to_row(&self) -> RevisionRow {
        RevisionRow {
            lists: self
                .texts
                .changed()
                .map(|(file, text)| (file.to_owned(), text.to_owned()))
                .collect(),
            author: self.author.clone(),
            at_ms: self.at_ms,
            comment: self.comment.clone(),
            restores: self.restores,
        }
    }

    fn from_row(row: RevisionRow) -> Self {
        Self {
            texts: ListTexts::with(row.lists),
            author: row.author,
            at_ms: row.at_ms,
            comment: row.comment,
            restores: row.restores,
        }
    }
}
