//! The folders of an index: how one is opened, started, and put in the place of another.
//!
//! ```text
//! <number>/   an index
//! current     the number of the index that answers searches
//! ```
//!
//! A folder with a greater number is an index that is being built beside it. All other folders are removed.
//! `current` is replaced by a rename, so a kill at any moment leaves one index. A folder keeps its path as
//! long as it exists, and within a process no other folder gets the same path. This is necessary because
//! tantivy's merge threads outlive the writer, and write to the path that they know.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tantivy::directory::MmapDirectory;
use tantivy::{IndexReader, IndexSettings, ReloadPolicy};

use super::error::IndexError;
use super::keys::Keys;
use super::schema::{self, Layout};
use super::watermark::{self, Watermark};
use crate::fields::Catalogue;
use parking_lot::Mutex;

const CURRENT: &str = "current";
/// The new content of [`CURRENT`], before the rename.
const CURRENT_NEW: &str = "current.new";

/// An open index in one of the folders.
pub(crate) struct Opened {
    pub(crate) number: u64,
    pub(crate) tantivy: tantivy::Index,
    pub(crate) reader: IndexReader,
    pub(crate) layout: Layout,
    /// It was made for this catalogue and was never written under another one.
    pub(crate) is_up_to_date: bool,
    watermark: Mutex<Option<Watermark>>,
    /// As of the last commit.
    keys: Mutex<Option<Arc<Keys>>>,
}

impl Opened {
    fn new(
        number: u64,
        tantivy: tantivy::Index,
        layout: Layout,
        is_up_to_date: bool,
        watermark: Option<Watermark>,
    ) -> Result<Self, IndexError> {
        schema::register_analyzer(&tantivy);
        let reader = tantivy
            .reader_builder()
            .reload_policy(ReloadPolicy::Manual)
            .try_into()?;
        Ok(Self {
            number,
            tantivy,
            reader,
            layout,
            is_up_to_date,
            watermark: Mutex::new(watermark),
            keys: Mutex::default(),
        })
    }

    pub(crate) fn watermark(&self) -> Option<Watermark> {
        *self.watermark.lock()
    }

    /// Which annotations have columns; `None` if the index does not store this.
    pub(crate) fn keys(&self) -> Option<Arc<Keys>> {
        self.keys.lock().clone()
    }

    pub(crate) fn set_keys(&self, keys: Keys) {
        *self.keys.lock() = Some(Arc::new(keys));
    }

    pub(crate) fn set_watermark(&self, watermark: Watermark) {
        *self.watermark.lock() = Some(watermark);
    }

    /// The last change that it contains.
    pub(crate) fn change(&self) -> u64 {
        self.watermark().map_or(0, |mark| mark.change)
    }

    /// Whether it contains every crash up to its last change.
    pub(crate) fn is_whole(&self) -> bool {
        self.watermark()
            .is_some_and(|mark| mark.rebuilt_to.is_none())
    }
}

/// The folders of one store's index, and the catalogue with which they are opened.
pub(crate) struct Folders {
    dir: PathBuf,
    pub(crate) store_id: u128,
    pub(crate) catalogue: Arc<Catalogue>,
    /// The greatest number that was ever used here.
    last: AtomicU64,
}

impl Folders {
    pub(crate) fn new(dir: &Path, store_id: u128, catalogue: Arc<Catalogue>) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let folders = Self {
            dir: dir.to_path_buf(),
            store_id,
            catalogue,
            last: AtomicU64::new(0),
        };
        let last = folders.numbers()?.pop();
        folders.last.store(last.unwrap_or(0), Ordering::SeqCst);
        Ok(folders)
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(number.to_string())
    }

    /// The numbers of all folders, ascending.
    fn numbers(&self) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.parse().ok());
            numbers.extend(number.filter(|n: &u64| name.to_str() == Some(&n.to_string())));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The number of the index that answers searches; `None` if there is none.
    pub(crate) fn current(&self) -> Option<u64> {
        let text = std::fs::read_to_string(self.dir.join(CURRENT)).ok()?;
        text.trim().parse().ok()
    }

    /// The index that was being built beside the current one, if it can be used.
    pub(crate) fn open_next(&self) -> io::Result<Option<Opened>> {
        let current = self.current();
        let numbers = self.numbers()?.into_iter().rev();
        let mut later = numbers.take_while(|number| Some(*number) > current);
        Ok(later.find_map(|number| self.open(number).ok()))
    }

    /// Opens an index of an earlier process. `Err` is the reason why it cannot be used.
    pub(crate) fn open(&self, number: u64) -> Result<Opened, String> {
        let path = self.path(number);
        let tantivy = tantivy::Index::open_in_dir(path).map_err(|e| e.to_string())?;
        let payload = tantivy.load_metas().map_err(|e| e.to_string())?.payload;
        let payload = payload.ok_or("it is empty")?;
        let payload = watermark::read_payload(&payload, self.store_id);
        let payload = payload.ok_or("it belongs to another store or version")?;
        let (watermark, known) = (payload.watermark, payload.known);
        if !known.is_readable() {
            return Err("it has another layout".into());
        }
        let own = Layout::new(&self.catalogue);
        let is_up_to_date = known == own.known && tantivy.schema() == own.schema;
        if !is_up_to_date && watermark.rebuilt_to.is_some() {
            return Err("it was being built for another catalogue".into());
        }
        let layout = Layout::of(tantivy.schema(), known, &self.catalogue);
        let layout = layout.ok_or("it has another schema")?;
        let opened = Opened::new(number, tantivy, layout, is_up_to_date, Some(watermark));
        let opened = opened.map_err(|e| e.to_string())?;
        if let Some(keys) = payload.keys {
            opened.set_keys(keys);
        }
        Ok(opened)
    }

    /// Creates an empty index in a new folder.
    pub(crate) fn begin(&self) -> Result<Opened, IndexError> {
        let number = self.last.fetch_add(1, Ordering::SeqCst) + 1;
        let path = self.path(number);
        std::fs::create_dir_all(&path)?;
        let directory = MmapDirectory::open(&path).map_err(|e| IndexError::Io(e.to_string()))?;
        let settings = IndexSettings {
            // There are no stored documents to compress.
            docstore_compress_dedicated_thread: false,
            ..IndexSettings::default()
        };
        let layout = Layout::new(&self.catalogue);
        let tantivy = tantivy::Index::create(directory, layout.schema.clone(), settings)?;
        Opened::new(number, tantivy, layout, true, None)
    }

    /// Makes this index the current one, in one step.
    pub(crate) fn put_in_place(&self, number: u64) -> io::Result<()> {
        let new = self.dir.join(CURRENT_NEW);
        let mut file = std::fs::File::create(&new)?;
        writeln!(file, "{number}")?;
        file.sync_all()?;
        std::fs::rename(new, self.dir.join(CURRENT))?;
        std::fs::File::open(&self.dir)?.sync_all()
    }

    /// Removes all indexes except these, and indexes of versions that named folders after the catalogue. A
    /// folder that cannot be removed now, because a merge may be writing there, is left for the next call.
    pub(crate) fn keep_only(&self, numbers: &[u64]) -> io::Result<()> {
        let kept: Vec<String> = numbers.iter().map(u64::to_string).collect();
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let stem = name.split('-').next().unwrap_or_default();
            let is_number = name.bytes().all(|b| b.is_ascii_digit());
            let is_earlier = stem.len() == 16 && stem.bytes().all(|b| b.is_ascii_hexdigit());
            if (is_number || is_earlier) && !kept.iter().any(|kept| *kept == name) {
                let gone = std::fs::remove_dir_all(entry.path());
                if let Err(error) = gone {
                    tracing::warn!(%error, folder = %name, "an unused index cannot be removed; the next start tries again");
                }
            }
        }
        Ok(())
    }
}
