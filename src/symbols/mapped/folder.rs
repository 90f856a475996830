//! The folder of mapped symbol files: `<debug file>/<DEBUGID>/symbols.map`.
//!
//! A file is written under a temporary name, synced and renamed, so a reader always sees a whole file. If two
//! threads want the same file, it is converted once.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read};
use std::path::{Path, PathBuf};

use super::{Stamp, convert, reader};
use crate::symbols::SymbolDirs;
use crate::symbols::dirs::module_folder;
use parking_lot::{Condvar, Mutex};

const FILE_NAME: &str = "symbols.map";

/// The folder of mapped symbol files, for code that writes them.
#[derive(Debug)]
pub struct MappedDir {
    root: PathBuf,
    /// Folder for unfinished files, on the same file system. The server empties it when it starts.
    spill_dir: PathBuf,
    /// Files that a thread is converting.
    under_way: Mutex<HashSet<PathBuf>>,
    ended: Condvar,
}

impl MappedDir {
    pub fn new(root: PathBuf, spill_dir: PathBuf) -> Self {
        Self {
            root,
            spill_dir,
            under_way: Mutex::default(),
            ended: Condvar::new(),
        }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The path of a module's mapped file below `root`, whether it exists or not; `None` if the names are
    /// unusable.
    pub fn path_in(root: &Path, debug_file: &str, debug_id: &str) -> Option<PathBuf> {
        Some(module_folder(root, debug_file, debug_id)?.join(FILE_NAME))
    }

    /// Creates the mapped file of a module, unless there is a whole one that was made from the current symbol
    /// file. Returns false if the module has no symbol file.
    ///
    /// # Errors
    /// Reading or writing failed, for example because the disk is full. The caller can convert the text in
    /// memory with [`Mapped::from_text`](super::Mapped::from_text).
    pub fn convert(
        &self,
        texts: &SymbolDirs,
        debug_file: &str,
        debug_id: &str,
    ) -> io::Result<bool> {
        let Some(symbols) = texts.find(debug_file, debug_id) else {
            return Ok(false);
        };
        let Some(path) = Self::path_in(&self.root, debug_file, debug_id) else {
            return Ok(false);
        };
        let _turn = self.turn(path.clone());
        let text = symbols.open()?;
        let stamp = text.stamp;
        if File::open(&path).is_ok_and(|file| reader::stamp_of(file).is_ok_and(|is| is == stamp)) {
            return Ok(true);
        }
        self.write(text.reader, stamp, &path)?;
        Ok(true)
    }

    /// Removes the mapped files of modules that have no symbol file in `texts` any more.
    ///
    /// # Errors
    /// A folder cannot be read or removed. The next call continues.
    pub(crate) fn sweep(&self, texts: &SymbolDirs) -> io::Result<()> {
        for by_name in folders_in(&self.root)? {
            let mut is_empty = true;
            for by_id in folders_in(&by_name)? {
                let names = (by_name.file_name(), by_id.file_name());
                let (Some(name), Some(id)) = names else {
                    continue;
                };
                match texts.find(&name.to_string_lossy(), &id.to_string_lossy()) {
                    Some(_) => is_empty = false,
                    None => fs::remove_dir_all(&by_id)?,
                }
            }
            if is_empty {
                // Another thread may have added a file since. Then the folder stays.
                let _ = fs::remove_dir(&by_name);
            }
        }
        Ok(())
    }

    fn write(&self, text: impl Read, stamp: Stamp, path: &Path) -> io::Result<()> {
        let folder = path.parent().unwrap_or(&self.root);
        fs::create_dir_all(folder)?;
        fs::create_dir_all(&self.spill_dir)?;
        let mut file = tempfile::NamedTempFile::new_in(&self.spill_dir)?;
        let mut out = BufWriter::with_capacity(1 << 20, file.as_file_mut());
        convert(text, stamp, Some(&self.spill_dir), &mut out)?;
        drop(out);
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    }

    /// Waits until no other thread converts this file.
    fn turn(&self, path: PathBuf) -> Turn<'_> {
        let mut under_way = self.under_way.lock();
        while !under_way.insert(path.clone()) {
            self.ended.wait(&mut under_way);
        }
        Turn { dir: self, path }
    }
}

/// The folders in a folder; empty if the folder does not exist.
fn folders_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut folders = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            folders.push(path);
        }
    }
    Ok(folders)
}

struct Turn<'a> {
    dir: &'a MappedDir,
    path: PathBuf,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut under_way = self.dir.under_way.lock();
        under_way.remove(&self.path);
        self.dir.ended.notify_all();
    }
}
