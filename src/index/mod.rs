//! The index: finds, sorts and counts crashes.
//!
//! It is derived from the store and never has the only copy of anything. Deleting it costs time, never data.
//! Every commit stores a [`Watermark`], the store's id, and which fields the index knows completely
//! (`known`). A folder (`folder`) of another store, or one that does not open, is removed. The index then
//! starts empty and without a watermark, so the indexer builds it from the store's rows.
//!
//! A new index can be built beside the current one. Searches use the old one until [`Index::swap`] puts the
//! new one in its place. This also happens after a change of the catalogue (ADR 19). If a search then names a
//! field that the old index does not know, the new one answers, as far as it is built.
//!
//! 1. [`Document`] is a crash as the index stores it.
//! 2. [`Writer`] adds documents and commits them. A commit is searchable when it returns.
//! 3. [`Index::search`] answers a [`Query`](crate::query::Query), one segment after the other (`filter`) and
//!    one block of documents at a time. It starts from the range of dates and drops what a condition excludes
//!    (`pattern`, `words`). Then it counts (`counting`, `unique`) and sorts (`ranking`) the rest,
//!    reading columns (ADR 6). So totals and facets are exact. Only the number of very many distinct values
//!    is an estimate, and marked as such. Time and memory of a search are limited (`bounds`).
//!
//! No name of tantivy leaves this module.

mod bounds;
mod columns;
mod context;
mod counting;
mod coverage;
mod document;
mod error;
mod facets;
mod filter;
mod folder;
mod keys;
mod known;
mod pattern;
mod ranking;
mod schema;
mod search;
mod terms;
#[cfg(test)]
mod tests;
mod unique;
mod watermark;
mod words;
mod writer;

use std::path::Path;
use std::sync::Arc;

use crate::fields::{Catalogue, Field};
use bounds::SharedBytes;
use folder::{Folders, Opened};
use parking_lot::RwLock;
use terms::Dictionaries;

pub use coverage::Coverage;
pub use document::{Document, Scalar};
pub(crate) use error::IndexError;
pub(crate) use facets::FacetBucket;
pub use facets::FacetResult;
#[cfg(test)]
pub(crate) use facets::Facets;
pub(crate) use search::Hit;
pub use search::SearchResult;
pub use watermark::Watermark;
pub use writer::Writer;

/// An open index. Many threads may search it. Each of its sides has at most one [`Writer`].
pub struct Index {
    folders: Folders,
    dictionaries: Arc<Dictionaries>,
    shared_bytes: Arc<SharedBytes>,
    sides: RwLock<Sides>,
}

/// The indexes that are open now.
#[derive(Clone)]
struct Sides {
    current: Arc<Opened>,
    next: Option<Arc<Opened>>,
}

/// Which of the two indexes a writer writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The index that answers searches.
    Current,
    /// The index that is built beside it.
    Next,
}

/// The state of the index, for the status page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexStatus {
    /// Crashes that a search can find.
    pub documents: u64,
    /// Number of segments of the index.
    pub segments: u64,
    /// `None`: it is empty and must be built.
    pub(crate) watermark: Option<Watermark>,
}

impl Index {
    /// Opens the index of this store below `dir`, or starts an empty one. It has the fields of the catalogue.
    /// If the current index cannot be used, an index that was built beside it takes its place, complete or not.
    /// If the current index was made for another catalogue, an empty one is started beside it.
    ///
    /// # Errors
    /// The directory cannot be read or written.
    pub fn open(dir: &Path, store_id: u128, catalogue: Arc<Catalogue>) -> Result<Self, IndexError> {
        let folders = Folders::new(dir, store_id, catalogue)?;
        let mut next = folders.open_next()?;
        let current = match folders.current().map(|number| folders.open(number)) {
            Some(Ok(current)) => current,
            unusable => {
                if let Some(Err(why)) = unusable {
                    tracing::warn!(%why, "the index cannot be used; a new one is built");
                }
                let opened = match next.take() {
                    Some(next) => next,
                    None => folders.begin()?,
                };
                folders.put_in_place(opened.number)?;
                opened
            }
        };
        next = next.filter(|next| next.is_up_to_date);
        if next.is_none() && !current.is_up_to_date {
            next = Some(folders.begin()?);
        }
        let sides = Sides {
            current: Arc::new(current),
            next: next.map(Arc::new),
        };
        folders.keep_only(&sides.numbers())?;
        Ok(Self {
            folders,
            dictionaries: Arc::default(),
            shared_bytes: Arc::default(),
            sides: RwLock::new(sides),
        })
    }

    /// The fields for which the index was opened.
    pub fn catalogue(&self) -> &Catalogue {
        &self.folders.catalogue
    }

    /// Discards the current index and starts an empty one. No writer of it may be open.
    ///
    /// # Errors
    /// The folder of the index cannot be read or written.
    pub fn reset(&self) -> Result<(), IndexError> {
        let begun = Arc::new(self.folders.begin()?);
        self.folders.put_in_place(begun.number)?;
        self.change(|sides| sides.current = begun)
    }

    /// Starts an empty index beside this one. No writer of it may be open.
    ///
    /// # Errors
    /// The folder of the index cannot be read or written.
    pub(crate) fn begin_next(&self) -> Result<(), IndexError> {
        let begun = Arc::new(self.folders.begin()?);
        self.change(|sides| sides.next = Some(begun))
    }

    /// Discards the index that is built beside this one. No writer of it may be open.
    ///
    /// # Errors
    /// The folder of the index cannot be read. The discarded index is not used any more, but its files remain
    /// until the next start.
    pub(crate) fn drop_next(&self) -> Result<(), IndexError> {
        self.change(|sides| sides.next = None)
    }

    /// The progress of the index that is built beside this one; `None` if there is none, or if it has no
    /// commit.
    pub(crate) fn next_watermark(&self) -> Option<Watermark> {
        self.sides().next.and_then(|next| next.watermark())
    }

    /// Puts the index that was built beside this one in its place. No writer may be open. Running searches
    /// finish on the old files. A kill leaves one of the two.
    ///
    /// # Errors
    /// No index is built beside this one, or the folder of the index cannot be read or written.
    pub(crate) fn swap(&self) -> Result<(), IndexError> {
        let next = self.side(Side::Next)?;
        self.folders.put_in_place(next.number)?;
        self.change(|sides| {
            sides.current = next;
            sides.next = None;
        })
    }

    /// The progress of the index; `None` if it must be built.
    pub fn watermark(&self) -> Option<Watermark> {
        self.sides().current.watermark()
    }

    /// Whether the index was made for this catalogue. If not, another one must be built beside it.
    pub fn is_up_to_date(&self) -> bool {
        self.sides().current.is_up_to_date
    }

    /// Fields of the catalogue that this index does not know, so that another one must be built beside it.
    pub(crate) fn unbuilt(&self) -> Vec<Arc<Field>> {
        self.sides().current.layout.missing.clone()
    }

    pub fn status(&self) -> IndexStatus {
        let opened = self.sides().current;
        let searcher = opened.reader.searcher();
        IndexStatus {
            documents: searcher.num_docs(),
            segments: searcher.segment_readers().len() as u64,
            watermark: opened.watermark(),
        }
    }

    /// One side of the index.
    ///
    /// # Errors
    /// [`IndexError::Io`] if no index is built beside the current one.
    fn side(&self, side: Side) -> Result<Arc<Opened>, IndexError> {
        let Sides { current, next } = self.sides();
        match side {
            Side::Current => Ok(current),
            Side::Next => next.ok_or_else(|| {
                IndexError::Io("no index is being built beside the current one".into())
            }),
        }
    }

    fn sides(&self) -> Sides {
        self.sides.read().clone()
    }

    /// Changes which indexes are open, and removes the folders of all others.
    fn change(&self, change: impl FnOnce(&mut Sides)) -> Result<(), IndexError> {
        let numbers = {
            let mut sides = self.sides.write();
            change(&mut sides);
            sides.numbers()
        };
        Ok(self.folders.keep_only(&numbers)?)
    }
}

impl Sides {
    fn numbers(&self) -> Vec<u64> {
        let next = self.next.iter().map(|next| next.number);
        next.chain([self.current.number]).collect()
    }
}
