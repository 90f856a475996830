//! What the writer thread and the readers share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crossbeam_channel::Sender;
use parking_lot::{Mutex, RwLock};

use super::ahead::Ahead;
use super::backend;
use super::budget::Budget;
use super::discards::Discards;
use super::disk::{Disk, DiskFile};
use super::error::StoreError;
use super::identity::Identity;
use super::in_flight::{InFlight, Marks};
use super::segments::{self, SegmentNumbers};
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
    /// Why the database cannot be written now; `None` if it can.
    pub(crate) latched: Mutex<Option<String>>,
    /// Why the log of reports cannot be written now; `None` if it can.
    log_fault: Mutex<Option<String>>,
    /// The reports that only the log has.
    pub(crate) ahead: Ahead,
    pub(crate) numbers: SegmentNumbers,
    identity: OnceLock<Identity>,
    pub(crate) last_change: AtomicU64,
    pub(crate) change_signal: Sender<()>,
    pub(crate) discards: Mutex<Discards>,
    /// The crashes that workers have.
    pub(crate) in_flight: InFlight,
    /// The results that wait for the next commit.
    pub(crate) results: Arc<Budget>,
    /// The crashes that workers have started to process.
    pub(crate) marks: Marks,
}

impl Shared {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        file: Arc<dyn DiskFile>,
        clock: Arc<dyn Clock>,
        database: backend::Open,
        change_signal: Sender<()>,
        marks: Marks,
    ) -> Self {
        Self {
            readers: segments::Readers::new(disk.clone()),
            disk,
            file,
            damage: Mutex::new(None),
            clock,
            database: RwLock::new(Arc::new(database)),
            latched: Mutex::new(None),
            log_fault: Mutex::new(None),
            ahead: Ahead::default(),
            numbers: SegmentNumbers::default(),
            identity: OnceLock::new(),
            last_change: AtomicU64::new(0),
            change_signal,
            discards: Mutex::default(),
            in_flight: InFlight::default(),
            results: Arc::default(),
            marks,
        }
    }

    /// Set once, when the store is opened.
    pub(crate) fn set_identity(&self, identity: Identity) {
        let _ = self.identity.set(identity);
    }

    pub(crate) fn identity(&self) -> &Identity {
        self.identity
            .get()
            .expect("it is set when the store is opened")
    }

    pub(crate) fn log_fails(&self, error: &StoreError) {
        self.note(error);
        *self.log_fault.lock() = Some(error.to_string());
    }

    /// Returns true if it could not be written before.
    pub(crate) fn log_works(&self) -> bool {
        self.log_fault.lock().take().is_some()
    }

    /// Why the store cannot be written now; `None` if it can.
    pub(crate) fn unwritable(&self) -> Option<String> {
        let latched = self.latched.lock().clone();
        latched.or_else(|| self.log_fault.lock().clone())
    }
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
