//! redb on the store's disk trait.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};

use redb::{Database, StorageBackend};

use super::contain::contained;
use super::disk::DiskFile;
use super::error::StoreError;
use super::overlay::OverlayFile;

/// Of redb's magic number at the start of its file.
const MAGIC_BYTES: usize = 9;

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

/// An open database. redb writes when it is closed. On a damaged file that can panic, and panic
/// again while the first panic unwinds, which ends the process: such a database is left as a kill
/// would leave it.
pub struct Open {
    /// `None` only while it is dropped.
    database: Option<Database>,
    is_damaged: AtomicBool,
}

impl Open {
    /// Has it not closed in order.
    pub fn mark_damaged(&self) {
        self.is_damaged.store(true, Ordering::Relaxed);
    }
}

impl std::ops::Deref for Open {
    type Target = Database;

    fn deref(&self) -> &Database {
        self.database
            .as_ref()
            .expect("it is there until it is dropped")
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let database = self.database.take();
        if self.is_damaged.load(Ordering::Relaxed) {
            std::mem::forget(database);
            return;
        }
        let closed = contained(|| {
            drop(database);
            Ok(())
        });
        if let Err(error) = closed {
            tracing::error!(%error, "the database could not be closed in order");
        }
    }
}

/// Opens the database in `file`, repairing what a kill or a power cut left; an empty file becomes
/// a new database. `cache_bytes` bounds redb's page cache.
pub fn open(file: Arc<dyn DiskFile>, cache_bytes: usize, life: &Life) -> Result<Open, StoreError> {
    let life = life.clone();
    let database = Database::builder()
        .set_cache_size(cache_bytes)
        .create_with_backend(Backend { file, life })?;
    Ok(Open {
        database: Some(database),
        is_damaged: AtomicBool::new(false),
    })
}

/// Opens what is committed in `file` for reading, without writing to it: what redb has to repair
/// first stays in memory.
pub fn open_for_reading(
    file: Arc<dyn DiskFile>,
    cache_bytes: usize,
    life: &Life,
) -> Result<Open, StoreError> {
    open(Arc::new(OverlayFile::over(file)?), cache_bytes, life)
}
