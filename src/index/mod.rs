//! The index: what finds, sorts and counts crashes.
//!
//! It is derived from the store and never holds the only copy of anything: deleting it costs time.
//! Every commit carries a [`Watermark`], the store's id and which fields are known in full
//! (`known`); a folder (`folder`) of another store, or one that does not open, is removed, and the
//! index begins empty without a watermark, which tells the indexer to build it from the store's rows.
//!
//! It can be built anew beside itself: searches go on in the old one until [`Index::swap`] puts the
//! new one in its place. So it is where the catalogue is another one than that of the index: for
//! searches that name a field which the old index does not know, the new one answers as far as it is.
//!
//! 1. [`Document`] is a crash as the index holds it.
//! 2. [`Writer`] takes documents and commits them; a commit is searchable when it returns.
//! 3. [`Index::search`] answers a [`Query`](crate::query::Query): a segment after the other
//!    (`filter`), a block of documents at a time, it starts from the range of dates, drops what a
//!    condition excludes (`pattern`, `words`), and counts (`counting`, `top`, `unique`) and sorts
//!    (`ranking`) the rest over columns. So totals and facets are exact, not estimates, but for
//!    very many distinct values, which say so. Time and memory of a search are bounded (`bounds`).
//!
//! No name of tantivy leaves this module.

mod bounds;
mod columns;
mod counting;
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
mod top;
mod unique;
mod words;
mod writer;

use std::path::Path;
use std::sync::{Arc, RwLock};

use crate::fields::{self, Field};
use bounds::SharedBytes;
use folder::{Folders, Opened};
use terms::Dictionaries;

pub use bounds::SearchBounds;
pub use document::{Document, Scalar};
pub use error::IndexError;
pub use facets::{FacetBucket, FacetResult};
pub use known::Coverage;
pub use search::{Hit, SearchResult};
pub use writer::{Watermark, Writer};

/// An open index. Many threads may search it; one [`Writer`] writes each of its sides.
pub struct Index {
    folders: Folders,
    dictionaries: Arc<Dictionaries>,
    shared_bytes: Arc<SharedBytes>,
    sides: RwLock<Sides>,
}

/// What is open just now.
#[derive(Clone)]
struct Sides {
    current: Arc<Opened>,
    next: Option<Arc<Opened>>,
}

/// Which of the two a writer writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The index that searches are answered from.
    Current,
    /// The one that is built beside it.
    Next,
}

/// How the index is, for the status page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexStatus {
    /// Crashes that a search can find.
    pub documents: u64,
    /// Parts that the index consists of just now.
    pub segments: u64,
    /// `None`: it is empty and has to be built.
    pub watermark: Option<Watermark>,
}

impl Index {
    /// Opens the index of this store below `dir`, or begins an empty one. Where the index is of no
    /// use, one that was built beside it takes its place, whole or not. Where it was made for
    /// another catalogue, an empty one is begun beside it.
    ///
    /// # Errors
    /// The directory cannot be read or written.
    pub fn open(dir: &Path, store_id: u128) -> Result<Self, IndexError> {
        Self::open_for(dir, store_id, fields::all())
    }

    /// The same for a catalogue that need not be this process's.
    pub fn open_for(
        dir: &Path,
        store_id: u128,
        catalogue: &'static [Field],
    ) -> Result<Self, IndexError> {
        let folders = Folders::new(dir, store_id, catalogue)?;
        let mut next = folders.open_next()?;
        let current = match folders.current().map(|number| folders.open(number)) {
            Some(Ok(current)) => current,
            of_no_use => {
                if let Some(Err(why)) = of_no_use {
                    tracing::warn!(%why, "the index is built anew");
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

    /// Throws the current index away and begins an empty one. No writer of it may be open.
    pub fn reset(&self) -> Result<(), IndexError> {
        let begun = Arc::new(self.folders.begin()?);
        self.folders.put_in_place(begun.number)?;
        self.change(|sides| sides.current = begun)
    }

    /// Begins an empty index beside this one. No writer of it may be open.
    pub fn begin_next(&self) -> Result<(), IndexError> {
        let begun = Arc::new(self.folders.begin()?);
        self.change(|sides| sides.next = Some(begun))
    }

    /// Gives up what is built beside this index. No writer of it may be open.
    pub fn drop_next(&self) -> Result<(), IndexError> {
        self.change(|sides| sides.next = None)
    }

    /// How far the index is that is built beside this one; `None` where there is none.
    pub fn next_watermark(&self) -> Option<Watermark> {
        self.sides().next.and_then(|next| next.watermark())
    }

    /// Puts what was built beside this index in its place. No writer may be open. Searches that
    /// run end on the old files; a kill leaves one of the two.
    pub fn swap(&self) -> Result<(), IndexError> {
        let next = self.side(Side::Next)?;
        self.folders.put_in_place(next.number)?;
        self.change(|sides| {
            sides.current = next;
            sides.next = None;
        })
    }

    /// How far the index has come; `None` where it has to be built.
    pub fn watermark(&self) -> Option<Watermark> {
        self.sides().current.watermark()
    }

    /// Whether the index was made for this catalogue. Else another one has to be built beside it.
    pub fn is_up_to_date(&self) -> bool {
        self.sides().current.is_up_to_date
    }

    /// Fields of the catalogue that only an index has which is still to be built beside this one.
    pub fn unbuilt(&self) -> Vec<Field> {
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

    /// The files of one side; an error where there are none.
    fn side(&self, side: Side) -> Result<Arc<Opened>, IndexError> {
        let Sides { current, next } = self.sides();
        match side {
            Side::Current => Ok(current),
            Side::Next => {
                next.ok_or_else(|| IndexError::Io("nothing is built beside the index".into()))
            }
        }
    }

    fn sides(&self) -> Sides {
        self.sides.read().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// Changes what is open, and removes what is not any more.
    fn change(&self, change: impl FnOnce(&mut Sides)) -> Result<(), IndexError> {
        let numbers = {
            let mut sides = self.sides.write().unwrap_or_else(|e| e.into_inner());
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
