//! The folders of an index: how one is opened, begun, and put in another's place.
//!
//! ```text
//! current   searches are answered from it
//! next      is built beside it, and becomes `current` when it is whole
//! old       was replaced; whoever comes upon it removes it
//! ```

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tantivy::directory::MmapDirectory;
use tantivy::{IndexReader, IndexSettings, ReloadPolicy};

use super::error::IndexError;
use super::schema::{self, Layout};
use super::writer::{self, Watermark};
use crate::fields::Field;

pub const CURRENT: &str = "current";
pub const NEXT: &str = "next";
const OLD: &str = "old";

/// An index in one of the folders, open.
pub struct Opened {
    pub tantivy: tantivy::Index,
    pub reader: IndexReader,
    pub layout: Layout,
    /// It was made for this catalogue, and written under no other.
    pub is_up_to_date: bool,
    watermark: Mutex<Option<Watermark>>,
}

impl Opened {
    fn new(
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
            tantivy,
            reader,
            layout,
            is_up_to_date,
            watermark: Mutex::new(watermark),
        })
    }

    pub fn watermark(&self) -> Option<Watermark> {
        *self.watermark.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub fn set_watermark(&self, watermark: Watermark) {
        *self.watermark.lock().unwrap_or_else(|e| e.into_inner()) = Some(watermark);
    }

    /// Whether every crash is in it that its last change knows of.
    pub fn is_whole(&self) -> bool {
        self.watermark()
            .is_some_and(|mark| mark.rebuilt_to.is_none())
    }
}

/// The folders of one store's index, and the catalogue that it is opened with.
pub struct Folders {
    pub dir: PathBuf,
    pub store_id: u128,
    pub catalogue: &'static [Field],
}

impl Folders {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Opens what an earlier run left. `Err` says why it is of no use, which is nothing where
    /// there is none.
    pub fn open(&self, name: &str) -> Result<Opened, Option<String>> {
        let path = self.path(name);
        match path.join("meta.json").exists() {
            true => self.open_there(&path).map_err(Some),
            false => Err(None),
        }
    }

    fn open_there(&self, path: &Path) -> Result<Opened, String> {
        let tantivy = tantivy::Index::open_in_dir(path).map_err(|e| e.to_string())?;
        let payload = tantivy.load_metas().map_err(|e| e.to_string())?.payload;
        let payload = payload.ok_or("it is empty")?;
        let payload = writer::read_payload(&payload, self.store_id);
        let (watermark, known) = payload.ok_or("it belongs to another store or version")?;
        if !known.is_readable() {
            return Err("it is laid out otherwise".into());
        }
        let own = Layout::new(self.catalogue);
        let is_up_to_date = known == own.known && tantivy.schema() == own.schema;
        if !is_up_to_date && watermark.rebuilt_to.is_some() {
            return Err("it was being built for another catalogue".into());
        }
        let layout = Layout::of(tantivy.schema(), known, self.catalogue);
        let layout = layout.ok_or("its schema is another one")?;
        Opened::new(tantivy, layout, is_up_to_date, Some(watermark)).map_err(|e| e.to_string())
    }

    /// Makes an empty index where anything may have been.
    pub fn begin(&self, name: &str) -> Result<Opened, IndexError> {
        let path = self.path(name);
        self.remove(name)?;
        std::fs::create_dir_all(&path)?;
        let directory = MmapDirectory::open(&path).map_err(|e| IndexError::Io(e.to_string()))?;
        let settings = IndexSettings {
            // Nothing is stored, so there is nothing to compress beside.
            docstore_compress_dedicated_thread: false,
            ..IndexSettings::default()
        };
        let layout = Layout::new(self.catalogue);
        let tantivy = tantivy::Index::create(directory, layout.schema.clone(), settings)?;
        Opened::new(tantivy, layout, true, None)
    }

    pub fn remove(&self, name: &str) -> Result<(), IndexError> {
        match std::fs::remove_dir_all(self.path(name)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e.into()),
            _ => Ok(()),
        }
    }

    /// Puts what was built beside in the place of the current index, which may be missing. A kill
    /// leaves one of the two whole: where it comes between both renames, [`NEXT`].
    pub fn replace(&self) -> Result<(), IndexError> {
        let [current, next, old] = [CURRENT, NEXT, OLD].map(|name| self.path(name));
        // Before anything is moved away.
        std::fs::metadata(&next)?;
        self.remove(OLD)?;
        match std::fs::rename(&current, &old) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e.into()),
            _ => std::fs::rename(next, current)?,
        }
        std::fs::File::open(&self.dir)?.sync_all()?;
        self.remove(OLD)
    }

    /// Removes what was replaced, and indexes of versions that named their folders after the
    /// catalogue, which nothing would keep up to date.
    pub fn clean_up(&self) -> Result<(), IndexError> {
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let stem = name.split('-').next().unwrap_or_default();
            let is_earlier = stem.len() == 16 && stem.bytes().all(|b| b.is_ascii_hexdigit());
            if (is_earlier || name == OLD) && entry.file_type()?.is_dir() {
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }
}
