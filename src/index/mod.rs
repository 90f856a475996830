//! The index: what finds, sorts and counts crashes.
//!
//! It is derived from the store and never holds the only copy of anything: deleting it costs time.
//! One folder holds it for each fingerprint of the field catalogue, so that a server with another
//! catalogue builds its own. Every commit carries a [`Watermark`] and the store's id; a folder of
//! another store, or one that does not open, is removed, and the index begins empty without a
//! watermark, which tells the indexer to build it from the store's rows.
//!
//! It can be built anew beside itself, in a folder with [`NEXT`] behind its name: searches go on in
//! the old one until [`Index::swap`] puts the new one in its place.
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

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};

use tantivy::directory::MmapDirectory;
use tantivy::{IndexReader, IndexSettings, ReloadPolicy};

use crate::fields;
use schema::Layout;
use terms::Dictionaries;

pub use bounds::SearchBounds;
pub use document::{Document, Scalar};
pub use error::IndexError;
pub use facets::{FacetBucket, FacetResult};
pub use search::{Hit, SearchResult};
pub use writer::{Watermark, Writer};

/// An open index. Many threads may search it; one [`Writer`] writes it.
pub struct Index {
    folder: PathBuf,
    store_id: u128,
    layout: Layout,
    dictionaries: Arc<Dictionaries>,
    opened: RwLock<Arc<Opened>>,
    /// What is built beside it.
    next: Mutex<Option<Arc<Opened>>>,
}

/// Behind the name of a folder that is being built.
const NEXT: &str = "-next";
/// Behind the name of one that was replaced.
const OLD: &str = "-old";

/// Which of the two a writer writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The index that searches are answered from.
    Current,
    /// The one that is built beside it.
    Next,
}

/// The files of one life of the index: [`Index::reset`] begins another.
struct Opened {
    tantivy: tantivy::Index,
    reader: IndexReader,
    watermark: Mutex<Option<Watermark>>,
}

impl Opened {
    fn watermark(&self) -> Option<Watermark> {
        *self.watermark.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn set_watermark(&self, watermark: Option<Watermark>) {
        *self.watermark.lock().unwrap_or_else(|e| e.into_inner()) = watermark;
    }
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
    /// Opens the index of this store below `dir`, or begins an empty one. Folders of other
    /// catalogues are removed. Where the index is of no use, one that was built beside it takes
    /// its place, whole or not.
    ///
    /// # Errors
    /// The directory cannot be read or written.
    pub fn open(dir: &Path, store_id: u128) -> Result<Self, IndexError> {
        let fingerprint = fields::fingerprint();
        let folder = dir.join(&fingerprint);
        std::fs::create_dir_all(dir)?;
        remove_others(dir, &fingerprint)?;
        let layout = Layout::new();
        let beside = side_folder(&folder, NEXT);
        let mut next = match beside.exists() {
            true => open_marked(&beside, &layout, store_id),
            false => None,
        };
        let opened = match open_folder(&folder, &layout, store_id) {
            Ok(opened) if opened.watermark().is_some() || next.is_none() => opened,
            result => {
                if let (Err(why), true) = (&result, folder.join("meta.json").exists()) {
                    tracing::warn!(%why, "the index is built anew");
                }
                match next.take() {
                    None => begin(&folder, &layout)?,
                    Some(built) => {
                        drop((built, result));
                        replace(&folder)?;
                        open_folder(&folder, &layout, store_id).map_err(IndexError::Damaged)?
                    }
                }
            }
        };
        if next.is_none() {
            remove(&beside)?;
        }
        Ok(Self {
            folder,
            store_id,
            layout,
            dictionaries: Arc::default(),
            opened: RwLock::new(Arc::new(opened)),
            next: Mutex::new(next.map(Arc::new)),
        })
    }

    /// Throws everything away and begins an empty index. No writer may be open.
    pub fn reset(&self) -> Result<(), IndexError> {
        let mut opened = self.opened.write().unwrap_or_else(|e| e.into_inner());
        *opened = Arc::new(begin(&self.folder, &self.layout)?);
        Ok(())
    }

    /// Begins an empty index beside this one. No writer of it may be open.
    pub fn begin_next(&self) -> Result<(), IndexError> {
        let mut next = self.next.lock().unwrap_or_else(|e| e.into_inner());
        *next = None;
        *next = Some(Arc::new(begin(
            &side_folder(&self.folder, NEXT),
            &self.layout,
        )?));
        Ok(())
    }

    /// Gives up what is built beside this index. No writer of it may be open.
    pub fn drop_next(&self) -> Result<(), IndexError> {
        *self.next.lock().unwrap_or_else(|e| e.into_inner()) = None;
        remove(&side_folder(&self.folder, NEXT))
    }

    /// How far the index is that is built beside this one; `None` where there is none.
    pub fn next_watermark(&self) -> Option<Watermark> {
        let next = self.next.lock().unwrap_or_else(|e| e.into_inner());
        next.as_ref().and_then(|next| next.watermark())
    }

    /// Puts what was built beside this index in its place. No writer may be open. Searches that
    /// run end on the old files; a kill leaves one of the two.
    pub fn swap(&self) -> Result<(), IndexError> {
        let mut opened = self.opened.write().unwrap_or_else(|e| e.into_inner());
        *self.next.lock().unwrap_or_else(|e| e.into_inner()) = None;
        replace(&self.folder)?;
        let new = open_folder(&self.folder, &self.layout, self.store_id);
        *opened = Arc::new(new.map_err(IndexError::Damaged)?);
        Ok(())
    }

    /// How far the index has come; `None` where it has to be built.
    pub fn watermark(&self) -> Option<Watermark> {
        self.opened().watermark()
    }

    pub fn status(&self) -> IndexStatus {
        let opened = self.opened();
        let searcher = opened.reader.searcher();
        IndexStatus {
            documents: searcher.num_docs(),
            segments: searcher.segment_readers().len() as u64,
            watermark: opened.watermark(),
        }
    }

    /// The files of one side; an error where there are none.
    fn side(&self, side: Side) -> Result<Arc<Opened>, IndexError> {
        match side {
            Side::Current => Ok(self.opened()),
            Side::Next => {
                let next = self.next.lock().unwrap_or_else(|e| e.into_inner());
                let none = || IndexError::Io("nothing is built beside the index".into());
                next.clone().ok_or_else(none)
            }
        }
    }

    fn opened(&self) -> Arc<Opened> {
        self.opened
            .read()
            .unwrap_or_else(|e| e.into_inner())
            .clone()
    }
}

/// Opens what an earlier run left. `Err` says why it is of no use.
fn open_folder(folder: &Path, layout: &Layout, store_id: u128) -> Result<Opened, String> {
    let tantivy = tantivy::Index::open_in_dir(folder).map_err(|e| e.to_string())?;
    if tantivy.schema() != layout.schema {
        return Err("its schema is another one".into());
    }
    let payload = tantivy.load_metas().map_err(|e| e.to_string())?.payload;
    let watermark = match payload {
        None => None,
        Some(text) => {
            Some(writer::read_payload(&text, store_id).ok_or("it belongs to another store")?)
        }
    };
    with_reader(tantivy, watermark).map_err(|e| e.to_string())
}

/// The same for one that was built beside: `None` where it cannot go on.
fn open_marked(folder: &Path, layout: &Layout, store_id: u128) -> Option<Opened> {
    let opened = open_folder(folder, layout, store_id).ok()?;
    opened.watermark().is_some().then_some(opened)
}

fn side_folder(folder: &Path, suffix: &str) -> PathBuf {
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    folder.with_file_name(name)
}

fn remove(folder: &Path) -> Result<(), IndexError> {
    match std::fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e.into()),
        _ => Ok(()),
    }
}

/// Puts the folder that was built beside in place of this one, which may be missing.
fn replace(folder: &Path) -> Result<(), IndexError> {
    let (next, old) = (side_folder(folder, NEXT), side_folder(folder, OLD));
    // Before anything is moved away.
    std::fs::metadata(&next)?;
    remove(&old)?;
    match std::fs::rename(folder, &old) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e.into()),
        _ => std::fs::rename(next, folder)?,
    }
    if let Some(dir) = folder.parent() {
        std::fs::File::open(dir)?.sync_all()?;
    }
    remove(&old)
}

/// Makes an empty index where anything may have been.
fn begin(folder: &Path, layout: &Layout) -> Result<Opened, IndexError> {
    remove(folder)?;
    std::fs::create_dir_all(folder)?;
    let directory = MmapDirectory::open(folder).map_err(|e| IndexError::Io(e.to_string()))?;
    let settings = IndexSettings {
        // Nothing is stored, so there is nothing to compress beside.
        docstore_compress_dedicated_thread: false,
        ..IndexSettings::default()
    };
    let tantivy = tantivy::Index::create(directory, layout.schema.clone(), settings)?;
    with_reader(tantivy, None)
}

fn with_reader(
    tantivy: tantivy::Index,
    watermark: Option<Watermark>,
) -> Result<Opened, IndexError> {
    schema::register_analyzer(&tantivy);
    let reader = tantivy
        .reader_builder()
        .reload_policy(ReloadPolicy::Manual)
        .try_into()?;
    Ok(Opened {
        tantivy,
        reader,
        watermark: Mutex::new(watermark),
    })
}

/// Removes indexes of other catalogues, which nothing would keep up to date, and what was replaced.
fn remove_others(dir: &Path, fingerprint: &str) -> Result<(), IndexError> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let (stem, suffix) = name.split_at(name.find('-').unwrap_or(name.len()));
        let is_ours = stem.len() == fingerprint.len()
            && stem.bytes().all(|b| b.is_ascii_hexdigit())
            && ["", NEXT, OLD].contains(&suffix)
            && entry.file_type()?.is_dir();
        if is_ours && (stem != fingerprint || suffix == OLD) {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}
