//! What the writer thread and the readers share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::Sender;
use parking_lot::{Mutex, RwLock};

use super::backend;
use super::discards::Discards;
use super::disk::{Disk, DiskFile};
use super::error::StoreError;
use super::segments;
use crate::clock::Clock;

/// The file of the database in the data directory.
pub(crate) const DATABASE: &str = "store.redb";

/// The state that the writer thread and readers share.
pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    /// The database file, which we keep locked.
    pub(crate) file: Arc<dyn DiskFile>,
    /// The first damage found in the database, if any.
    pub(crate) damage: Mutex<Option<String>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) database: RwLock<Arc<backend::Open>>,
    pub(crate) readers: segments::Readers,
    /// Why the store cannot be written now; `None` if it can.
    pub(crate) latched: Mutex<Option<String>>,
    pub(crate) last_change: AtomicU64,
    pub(crate) change_signal: Sender<()>,
    pub(crate) discards: Mutex<Discards>,
}

impl Shared {
    pub(crate) fn database(&self) -> Arc<backend::Open> {
        self.database.read().clone()
    }

    pub(crate) fn replace_database(&self, database: backend::Open) {
        *self.database.write() = Arc::new(database);
    }

    /// Fails if `store.redb` is no longer the file that we have open and locked. Another process may be
    /// writing the file that has this name now.
    pub(crate) fn check_in_place(&self) -> Result<(), StoreError> {
        if self.file.is_in_place()? {
            Ok(())
        } else {
            Err(StoreError::Unavailable(format!(
                "{DATABASE} was removed or replaced while the server was running, so no reports are accepted; restore the file or restart the server. Stop the server before you change its data directory"
            )))
        }
    }

    /// Stores the first damage for the status page and the health check.
    pub(crate) fn note(&self, error: &StoreError) {
        if let StoreError::Corrupt(_) = error {
            self.database().mark_damaged();
            let mut damage = self.damage.lock();
            damage.get_or_insert_with(|| error.to_string());
        }
    }

    pub(crate) fn latch(&self, error: &StoreError) {
        self.note(error);
        *self.latched.lock() = Some(error.to_string());
    }

    /// Returns true if it was latched.
    pub(crate) fn unlatch(&self) -> bool {
        let mut latched = self.latched.lock();
        latched.take().is_some()
    }

    pub(crate) fn last_change(&self) -> u64 {
        self.last_change.load(Ordering::Acquire)
    }

    pub(crate) fn tell_change(&self, change: u64) {
        self.last_change.store(change, Ordering::Release);
        // A full channel means that the indexer has a signal that it has not read yet.
        let _ = self.change_signal.try_send(());
    }
}
