//! redb's storage backend on the store's disk trait.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::{Database, StorageBackend};

use super::contain::contained;
use super::disk::DiskFile;
use super::error::StoreError;
use super::overlay::OverlayFile;
use parking_lot::RwLock;

/// Length of redb's magic number at the start of its file.
const MAGIC_BYTES: usize = 9;

/// The lifetime of one handle of the open database file.
///
/// After an I/O error redb refuses to work until it is opened again, but readers may still hold the old
/// handle. After [`Life::end`] the old handle never touches the file again. It cannot write when its last
/// reader drops it, so two handles never write the same file. It also cannot read pages that the new handle
/// has reused since.
///
/// After a failed sync, the kernel may still return the pages from memory although no later sync writes them.
/// redb survives this because we commit in two phases: a header points at pages only after they are synced,
/// and each open and each commit writes the header again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Life(Arc<RwLock<bool>>);

impl Life {
    /// Waits for running operations, and refuses all later ones.
    pub(crate) fn end(&self) {
        *self.0.write() = true;
    }

    fn during<R>(&self, operation: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        let ended = self.0.read();
        if *ended {
            Err(io::Error::other(
                "this database handle was closed after an I/O error",
            ))
        } else {
            operation()
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

/// Empties a database file if a kill or a power cut interrupted its creation.
///
/// redb writes its magic number last, when everything else of a new database is synced, and refuses a file
/// that has a length but no magic number. Such a file was never a database, unless its first bytes were
/// destroyed later. So this function does nothing if the store has payloads.
pub(crate) fn clear_unmade(
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

/// An open database. redb writes to the file when it is closed. On a damaged file that can panic, and panic
/// again while the first panic unwinds, which ends the process. So a damaged database is not closed: its file
/// stays as a kill would leave it.
pub(crate) struct Open {
    /// `None` only while it is dropped.
    database: Option<Database>,
    is_damaged: AtomicBool,
}

impl Open {
    /// Prevents the database from being closed in order.
    pub(crate) fn mark_damaged(&self) {
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
            tracing::error!(%error, "the database could not be closed cleanly");
        }
    }
}

/// Opens the database in `file` and repairs it after a kill or a power cut. An empty file becomes a new
/// database. `cache_bytes` limits redb's page cache.
pub(crate) fn open(
    file: Arc<dyn DiskFile>,
    cache_bytes: usize,
    life: &Life,
) -> Result<Open, StoreError> {
    let life = life.clone();
    let database = Database::builder()
        .set_cache_size(cache_bytes)
        .create_with_backend(Backend { file, life })?;
    Ok(Open {
        database: Some(database),
        is_damaged: AtomicBool::new(false),
    })
}

/// Opens the committed data in `file` for reading and does not write to it. Repairs that redb makes first
/// stay in memory.
pub(crate) fn open_for_reading(
    file: Arc<dyn DiskFile>,
    cache_bytes: usize,
    life: &Life,
) -> Result<Open, StoreError> {
    open(Arc::new(OverlayFile::over(file)?), cache_bytes, life)
}
