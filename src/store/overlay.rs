//! A read-only directory with an overlay: changes stay in memory.
//!
//! redb refuses to open a file read-only that was not closed cleanly, and a copy of a running or killed
//! server never was. With the overlay, redb repairs the copy in memory. No byte below the root changes,
//! whoever owns it and however it is mounted.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{self, Disk, DiskFile};
use parking_lot::Mutex;

const PAGE: u64 = 4096;

#[derive(Debug)]
pub(crate) struct OverlayDisk {
    root: PathBuf,
    changes: Mutex<Changes>,
}

#[derive(Debug, Default)]
struct Changes {
    files: BTreeMap<String, Arc<OverlayFile>>,
    removed: BTreeSet<String>,
}

impl OverlayDisk {
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            root: root.to_path_buf(),
            changes: Mutex::default(),
        }
    }

    fn changes(&self) -> parking_lot::MutexGuard<'_, Changes> {
        self.changes.lock()
    }
}

impl Disk for OverlayDisk {
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut changes = self.changes();
        let there = self.root.join(path).exists() && !changes.removed.contains(path);
        if there || changes.files.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        changes.removed.remove(path);
        let file = Arc::new(OverlayFile::empty());
        changes.files.insert(path.to_owned(), file.clone());
        Ok(file)
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut changes = self.changes();
        if let Some(file) = changes.files.get(path) {
            return Ok(file.clone());
        }
        if changes.removed.contains(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let file = Arc::new(OverlayFile::over(disk::open_read_only(
            &self.root.join(path),
        )?)?);
        changes.files.insert(path.to_owned(), file.clone());
        Ok(file)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let changes = self.changes();
        let prefix = if dir.is_empty() {
            String::new()
        } else {
            format!("{dir}/")
        };
        let mut names: BTreeSet<String> = changes
            .files
            .keys()
            .filter_map(|path| path.strip_prefix(&prefix).map(str::to_owned))
            .filter(|name| !name.contains('/'))
            .collect();
        for entry in std::fs::read_dir(self.root.join(dir))? {
            if let Ok(name) = entry?.file_name().into_string()
                && !changes.removed.contains(&format!("{prefix}{name}"))
            {
                names.insert(name);
            }
        }
        Ok(names.into_iter().collect())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut changes = self.changes();
        let opened = changes.files.remove(path).is_some();
        if !opened && !self.root.join(path).exists() {
            return Err(io::ErrorKind::NotFound.into());
        }
        changes.removed.insert(path.to_owned());
        Ok(())
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        if self.root.join(dir).is_dir() {
            Ok(())
        } else {
            Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("{dir} does not exist: not a crashkeep data directory"),
            ))
        }
    }

    fn sync_dir(&self, _: &str) -> io::Result<()> {
        Ok(())
    }
}

/// A file that is read from its base. Writes go to memory.
#[derive(Debug)]
pub(crate) struct OverlayFile {
    base: Option<Arc<dyn DiskFile>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    len: u64,
    /// Length of the base that is still visible. If the file is truncated and grows again, the new part reads
    /// as zeros.
    base_len: u64,
    /// Pages that were written, by page number.
    pages: BTreeMap<u64, Vec<u8>>,
}

impl OverlayFile {
    /// An overlay over a file, without changes.
    ///
    /// # Errors
    /// The length of the file cannot be read.
    pub(crate) fn over(base: Arc<dyn DiskFile>) -> io::Result<Self> {
        let len = base.len()?;
        Ok(Self::new(Some(base), len))
    }

    fn empty() -> Self {
        Self::new(None, 0)
    }

    fn new(base: Option<Arc<dyn DiskFile>>, len: u64) -> Self {
        Self {
            base,
            state: Mutex::new(State {
                len,
                base_len: len,
                pages: BTreeMap::new(),
            }),
        }
    }

    fn state(&self) -> parking_lot::MutexGuard<'_, State> {
        self.state.lock()
    }

    /// A page of the base, without the overlay.
    fn base_page(&self, number: u64, base_len: u64) -> io::Result<Vec<u8>> {
        let mut page = vec![0; PAGE as usize];
        let start = number * PAGE;
        let there = base_len.saturating_sub(start).min(PAGE) as usize;
        if let Some(base) = &self.base
            && there > 0
        {
            base.read_at(start, &mut page[..there])?;
        }
        Ok(page)
    }
}

/// The pages that `offset..offset + len` touches: page number, start in the page, length.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let end = offset + len as u64;
    let mut at = offset;
    std::iter::from_fn(move || {
        (at < end).then(|| {
            let (page, start) = (at / PAGE, at % PAGE);
            let n = (PAGE - start).min(end - at);
            at += n;
            (page, start as usize, n as usize)
        })
    })
}

impl DiskFile for OverlayFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().len)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        if offset + out.len() as u64 > state.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut filled = 0;
        for (number, start, n) in pieces(offset, out.len()) {
            let target = &mut out[filled..filled + n];
            match state.pages.get(&number) {
                Some(page) => target.copy_from_slice(&page[start..start + n]),
                None => {
                    let page = self.base_page(number, state.base_len)?;
                    target.copy_from_slice(&page[start..start + n]);
                }
            }
            filled += n;
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let mut taken = 0;
        for (number, start, n) in pieces(offset, bytes.len()) {
            if !state.pages.contains_key(&number) {
                let page = self.base_page(number, state.base_len)?;
                state.pages.insert(number, page);
            }
            let page = state.pages.get_mut(&number).expect("it was put in");
            page[start..start + n].copy_from_slice(&bytes[taken..taken + n]);
            taken += n;
        }
        state.len = state.len.max(offset + bytes.len() as u64);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        if len < state.len {
            state.base_len = state.base_len.min(len);
            state.pages.retain(|number, _| number * PAGE < len);
            let cut = (len % PAGE) as usize;
            if let Some(page) = state.pages.get_mut(&(len / PAGE)) {
                page[cut..].fill(0);
            }
        }
        state.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_reads_as_written_and_its_base_does_not_change() {
        let root = tempfile::tempdir().expect("a folder");
        let before: Vec<u8> = (0..10_000).map(|n| n as u8).collect();
        std::fs::write(root.path().join("f"), &before).expect("written");
        let disk = OverlayDisk::new(root.path());
        let file = disk.open("f").expect("it is there");
        let mut expected = before.clone();
        let read = |expected: &[u8]| {
            let mut all = vec![0; expected.len()];
            file.read_at(0, &mut all).expect("readable");
            assert_eq!(all, expected);
            assert_eq!(file.len().ok(), Some(expected.len() as u64));
        };
        read(&expected);
        file.write_at(4_000, &[7; 300]).expect("memory");
        expected[4_000..4_300].fill(7);
        read(&expected);
        file.set_len(5_000).expect("memory");
        expected.truncate(5_000);
        read(&expected);
        file.set_len(9_000).expect("memory");
        expected.resize(9_000, 0);
        read(&expected);
        file.write_at(12_000, b"end").expect("memory");
        expected.resize(12_000, 0);
        expected.extend_from_slice(b"end");
        read(&expected);
        assert!(file.read_at(12_002, &mut [0; 2]).is_err());
        assert_eq!(std::fs::read(root.path().join("f")).ok(), Some(before));
    }

    #[test]
    fn names_come_and_go_in_memory_alone() {
        let root = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(root.path().join("d")).expect("a folder");
        std::fs::write(root.path().join("d/a"), b"a").expect("written");
        let disk = OverlayDisk::new(root.path());
        assert!(disk.create("d/a").is_err());
        disk.create("d/b").expect("a new name");
        disk.remove("d/a").expect("it is there");
        assert_eq!(disk.list("d").ok(), Some(vec!["b".to_owned()]));
        assert!(disk.open("d/a").is_err());
        disk.create("d/a").expect("the name is free again");
        assert!(root.path().join("d/a").exists() && !root.path().join("d/b").exists());
    }
}
