//! redb on the store's disk trait.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::{Database, StorageBackend};

use super::disk::DiskFile;
use super::error::StoreError;

/// Of redb's magic number at the start of its file.
const MAGIC_BYTES: usize = 9;

/// One life of the open database file.
///
/// After an I/O error redb refuses to write until it is opened again, while readers may still
/// hold the old handle. [`Life::end`] makes sure that the old handle can never write again, not
/// even when its last reader drops it, so that two handles never write one file.
#[derive(Clone, Debug, Default)]
pub struct Life(Arc<AtomicBool>);

impl Life {
    pub fn end(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn check(&self) -> io::Result<()> {
        match self.0.load(Ordering::SeqCst) {
            false => Ok(()),
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
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.life.check()?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.life.check()?;
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.life.check()?;
        self.file.write_at(offset, data)
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
pub fn open(file: Arc<dyn DiskFile>, cache_bytes: usize) -> Result<(Database, Life), StoreError> {
    let life = Life::default();
    let backend = Backend {
        file,
        life: life.clone(),
    };
    let database = Database::builder()
        .set_cache_size(cache_bytes)
        .create_with_backend(backend)?;
    Ok((database, life))
}
