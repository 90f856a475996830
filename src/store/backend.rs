//! redb on the store's disk trait.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, RwLock};

use redb::{Database, StorageBackend};

use super::disk::DiskFile;
use super::error::StoreError;

/// Of redb's magic number at the start of its file.
const MAGIC_BYTES: usize = 9;
const PAGE_BYTES: u64 = 4096;

/// One life of the open database file.
///
/// After an I/O error redb refuses to work until it is opened again, while readers may still
/// hold the old handle. [`Life::end`] makes sure that the old handle never touches the file again:
/// it cannot write when its last reader drops it, so that two handles never write one file, and
/// it cannot read pages that the new handle has used for something else since.
///
/// A failed sync may leave its pages readable from memory though no later sync writes them. redb
/// survives that as we commit, in two phases: a header points at pages only once they are synced,
/// and the header itself is written again by each open and commit.
#[derive(Clone, Debug, Default)]
pub struct Life(Arc<RwLock<bool>>);

impl Life {
    /// Waits for running operations, and refuses all others from now on.
    pub fn end(&self) {
        *self.0.write().unwrap_or_else(|e| e.into_inner()) = true;
    }

    fn during<R>(&self, operation: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        let ended = self.0.read().unwrap_or_else(|e| e.into_inner());
        match *ended {
            false => operation(),
            true => Err(io::Error::other(
                "this handle of the store was given up after an I/O error",
            )),
        }
    }
}

fn pages(offset: u64, bytes: usize) -> std::ops::Range<u64> {
    offset / PAGE_BYTES..(offset + bytes as u64).div_ceil(PAGE_BYTES)
}

#[derive(Debug)]
struct Backend {
    file: Arc<dyn DiskFile>,
    life: Life,
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.life.during(|| self.file.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.life.during(|| self.file.read_at(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.life.during(|| self.file.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.life.during(|| self.file.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.life.during(|| self.file.write_at(offset, data))
    }
}

/// A file that is read from the disk and written to memory: with it redb can open, and repair for
/// itself, what is on a disk that takes no writes.
#[derive(Debug)]
struct Overlay {
    file: Arc<dyn DiskFile>,
    life: Life,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    len: u64,
    /// Bytes of the file below this may be read; above it there are zeros.
    file_len: u64,
    pages: BTreeMap<u64, Vec<u8>>,
}

impl Overlay {
    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn page(&self, written: &Written, page: u64) -> io::Result<Vec<u8>> {
        if let Some(bytes) = written.pages.get(&page) {
            return Ok(bytes.clone());
        }
        let mut bytes = vec![0; PAGE_BYTES as usize];
        let start = page * PAGE_BYTES;
        let there = written.file_len.saturating_sub(start).min(PAGE_BYTES);
        if there > 0 {
            self.file.read_at(start, &mut bytes[..there as usize])?;
        }
        Ok(bytes)
    }

    /// Calls `each` with every page of a range: its bytes, the part of it, the part of the range.
    fn each_page(
        &self,
        written: &Written,
        offset: u64,
        bytes: usize,
        mut each: impl FnMut(u64, Vec<u8>, std::ops::Range<usize>, std::ops::Range<usize>),
    ) -> io::Result<()> {
        let end = offset + bytes as u64;
        for page in pages(offset, bytes) {
            let first = page * PAGE_BYTES;
            let (from, to) = (offset.max(first), end.min(first + PAGE_BYTES));
            let part = (from - first) as usize..(to - first) as usize;
            let range = (from - offset) as usize..(to - offset) as usize;
            each(page, self.page(written, page)?, part, range);
        }
        Ok(())
    }
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.written().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.life.during(|| {
            let written = self.written();
            if offset + out.len() as u64 > written.len {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.each_page(&written, offset, out.len(), |_, bytes, part, range| {
                out[range].copy_from_slice(&bytes[part]);
            })
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut written = self.written();
        written.len = len;
        written.file_len = written.file_len.min(len);
        written.pages.retain(|page, _| page * PAGE_BYTES < len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.life.during(|| {
            let mut written = self.written();
            let mut changed = Vec::new();
            self.each_page(
                &written,
                offset,
                data.len(),
                |page, mut bytes, part, range| {
                    bytes[part].copy_from_slice(&data[range]);
                    changed.push((page, bytes));
                },
            )?;
            written.pages.extend(changed);
            written.len = written.len.max(offset + data.len() as u64);
            Ok(())
        })
    }
}

/// Empties a database file whose making was cut short by a kill or a power cut.
///
/// redb writes its magic number last, once everything else of a new database is synced, and
/// refuses a file that has a length but no magic number. Such a file was never a database, unless
/// its first bytes were destroyed later: so nothing is done where the store holds payloads.
pub fn clear_unmade(
    file: &dyn DiskFile,
    has_payloads: impl FnOnce() -> io::Result<bool>,
) -> io::Result<()> {
    let mut magic = [0; MAGIC_BYTES];
    let len = file.len()?;
    if len == 0 {
        return Ok(());
    }
    let seen = magic.len().min(usize::try_from(len).unwrap_or(usize::MAX));
    file.read_at(0, &mut magic[..seen])?;
    if magic == [0; MAGIC_BYTES] && !has_payloads()? {
        file.set_len(0)?;
        file.sync_data()?;
    }
    Ok(())
}

/// Opens the database in `file`, repairing what a kill or a power cut left; an empty file becomes
/// a new database. `cache_bytes` bounds redb's page cache.
pub fn open(
    file: Arc<dyn DiskFile>,
    cache_bytes: usize,
    life: &Life,
) -> Result<Database, StoreError> {
    let life = life.clone();
    Ok(Database::builder()
        .set_cache_size(cache_bytes)
        .create_with_backend(Backend { file, life })?)
}

/// Opens what is committed in `file` for reading, without writing to it.
pub fn open_for_reading(
    file: Arc<dyn DiskFile>,
    cache_bytes: usize,
    life: &Life,
) -> Result<Database, StoreError> {
    let len = file.len()?;
    let overlay = Overlay {
        file,
        life: life.clone(),
        written: Mutex::new(Written {
            len,
            file_len: len,
            pages: BTreeMap::new(),
        }),
    };
    Ok(Database::builder()
        .set_cache_size(cache_bytes)
        .create_with_backend(overlay)?)
}
