//! Feeds the store's changes to the index, on its own thread.
//!
//! 1. At the start the indexer compares the watermark of the last commit with the store's feed of changes.
//!    If the feed does not continue from the watermark, it builds the index from the store's rows.
//! 2. It reads changes in batches, writes the current state of each changed crash, and commits the index: at
//!    once after an idle time, otherwise at most every half second.
//! 3. Only after the commit may the store forget the changes. So a kill at any point repeats work and never
//!    skips it.
//!
//! A build does not stop the feed: the indexer alternates between a batch of changes and a batch of rows. So
//! new crashes can be found as fast as usual, and a restart continues from the last commit. On request, and
//! if the index was made for another catalogue, the indexer builds a complete index beside the current one.
//! The next index also receives the changes that arrive meanwhile. When it is complete, it replaces the
//! current one ([`Indexer::rebuild`], or [`rebuild()`] without a server).
//! An error closes the writers. After a pause the indexer starts again at step 1.
//!
//! `run` is the thread, `feed` are these steps, `line` is the writer of one of the two indexes.

mod feed;
mod line;
mod rebuild;
mod run;
mod shared;
mod status;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, bounded};

use crate::index::Index;
use crate::metrics::Metrics;
use crate::store::Store;
use crate::vital::Vital;
use parking_lot::Mutex;
use shared::Shared;

pub use rebuild::rebuild;
pub(crate) use status::{Building, IndexerStatus};

/// The indexer thread.
pub struct Indexer {
    stop: Mutex<Option<Sender<()>>>,
    wake: Sender<()>,
    thread: Mutex<Option<JoinHandle<()>>>,
    shared: Arc<Shared>,
}

impl Indexer {
    /// Starts the thread.
    ///
    /// # Errors
    /// The operating system cannot start the thread.
    pub fn start(store: Arc<Store>, index: Arc<Index>, metrics: Arc<Metrics>) -> io::Result<Self> {
        let shared = Arc::new(Shared::new(store, index, metrics));
        let (stop, stopped) = bounded(0);
        let (wake, woken) = bounded(1);
        let thread = std::thread::Builder::new().name("indexer".into()).spawn({
            let shared = shared.clone();
            move || {
                let vital = Vital::new("indexer");
                shared.run(&stopped, &woken);
                vital.finish();
            }
        })?;
        Ok(Self {
            stop: Mutex::new(Some(stop)),
            wake,
            thread: Mutex::new(Some(thread)),
            shared,
        })
    }

    pub(crate) fn status(&self) -> IndexerStatus {
        let index = self.shared.index.status();
        let change = index.watermark.map_or(0, |mark| mark.change);
        let last = self
            .shared
            .store
            .change_range()
            .map_or(change, |(last, _)| last);
        IndexerStatus {
            documents: index.documents,
            change,
            changes_waiting: last.saturating_sub(change),
            building: self.building(),
            error: self.shared.error.lock().clone(),
        }
    }

    /// The build in progress, if any.
    pub(crate) fn building(&self) -> Option<Building> {
        *self.shared.building.lock()
    }

    /// Requests a new index, which is built beside the current one. Searches continue. If a build is already
    /// in progress, nothing changes.
    pub(crate) fn rebuild(&self) {
        self.shared.is_asked.store(true, Ordering::SeqCst);
        // If the channel is full, the thread has a signal that it has not read yet.
        let _ = self.wake.try_send(());
    }

    /// Commits what is written and ends the thread.
    pub fn stop(&self) {
        drop(self.stop.lock().take());
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the indexer panicked");
        }
    }
}

impl Drop for Indexer {
    fn drop(&mut self) {
        self.stop();
    }
}
