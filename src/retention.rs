//! What is kept for how long, and the daily look whether all is in its place.
//!
//! A thread of its own makes a pass at the start and then every hour: deferred crashes whose time
//! is up, then processed and failed ones that are older than their settings, in small batches so
//! that intake never waits; at last the files of segments that hold nothing live any more. Once a
//! day the store audits itself. The clock is an argument.

use std::io;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use crate::clock::{Clock, DAY_MS, Timestamp};
use crate::store::{Audit, State, Store, StoreError};

/// Between two passes.
const PASS_EVERY: Duration = Duration::from_secs(60 * 60);
/// Between two audits.
const AUDIT_EVERY_MS: i64 = DAY_MS;
/// Crashes deleted in one transaction.
const DELETE_BATCH: usize = 64;
/// Rows looked at between two of them.
const SCAN_BATCH: usize = 1_000;

/// Days that crashes are kept, by state, from their receipt.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    pub processed_days: u32,
    pub failed_days: u32,
}

/// What a pass did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    pub deferred_deleted: u64,
    pub processed_deleted: u64,
    pub failed_deleted: u64,
    pub segments_removed: u64,
}

/// The last results, for the status page.
#[derive(Clone, Debug, Default)]
pub struct RetentionStatus {
    pub last_pass: Option<(Timestamp, Pass)>,
    pub last_audit: Option<(Timestamp, Audit)>,
    pub error: Option<String>,
}

pub struct Retention {
    stop: Mutex<Option<Sender<()>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    status: Arc<Mutex<RetentionStatus>>,
}

impl Retention {
    /// `keep` is asked at each pass.
    pub fn start(
        store: Arc<Store>,
        keep: impl Fn() -> Keep + Send + 'static,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        let (stop, stopped) = bounded::<()>(0);
        let status = Arc::new(Mutex::new(RetentionStatus::default()));
        let told = status.clone();
        let thread = std::thread::Builder::new()
            .name("retention".into())
            .spawn(move || {
                loop {
                    let now = clock.now();
                    let mut status = told.lock().unwrap_or_else(|e| e.into_inner()).clone();
                    let result = look(&store, &keep(), now, &mut status);
                    status.error = result.err().map(|error| {
                        tracing::error!(%error, "a pass of retention failed; the next one goes on");
                        error.to_string()
                    });
                    *told.lock().unwrap_or_else(|e| e.into_inner()) = status;
                    if let Ok(()) | Err(RecvTimeoutError::Disconnected) =
                        stopped.recv_timeout(PASS_EVERY)
                    {
                        return;
                    }
                }
            })?;
        Ok(Self {
            stop: Mutex::new(Some(stop)),
            thread: Mutex::new(Some(thread)),
            status,
        })
    }

    pub fn status(&self) -> RetentionStatus {
        self.status
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .clone()
    }

    pub fn stop(&self) {
        self.stop.lock().unwrap_or_else(|e| e.into_inner()).take();
        let thread = self.thread.lock().unwrap_or_else(|e| e.into_inner()).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("retention panicked");
        }
    }
}

fn look(
    store: &Store,
    keep: &Keep,
    now: Timestamp,
    status: &mut RetentionStatus,
) -> Result<(), StoreError> {
    let due = status
        .last_audit
        .as_ref()
        .is_none_or(|(at, _)| now.ms_since(*at) >= AUDIT_EVERY_MS);
    if due {
        let audit = store.audit()?;
        if !audit.is_clean() {
            tracing::warn!(?audit, "an audit put crashes back in their places");
        }
        status.last_audit = Some((now, audit));
        let forgotten = store.forget_frames()?;
        if forgotten > 0 {
            tracing::info!(
                frames = forgotten,
                "forgot the frames of crashes that are gone"
            );
        }
    }
    let done = pass(store, keep, now)?;
    if done != Pass::default() {
        tracing::info!(?done, "retention");
    }
    status.last_pass = Some((now, done));
    Ok(())
}

/// Deletes what is too old at `now`, and gives back the room.
pub fn pass(store: &Store, keep: &Keep, now: Timestamp) -> Result<Pass, StoreError> {
    let mut done = Pass::default();
    loop {
        let overdue = store.overdue(now, DELETE_BATCH)?;
        if overdue.is_empty() {
            break;
        }
        let deleted = store.delete(overdue, &[State::Deferred])?;
        if deleted == 0 {
            // Entries without a crash: the audit's business.
            break;
        }
        done.deferred_deleted += deleted;
    }
    let limit = |days: u32| now.ms().saturating_sub(i64::from(days) * DAY_MS);
    let (processed_before, failed_before) = (limit(keep.processed_days), limit(keep.failed_days));
    let mut after = 0;
    loop {
        let rows = store.scan(after, SCAN_BATCH)?;
        let Some((last, newest)) = rows.last() else {
            break;
        };
        after = *last;
        // Sequence numbers ascend with receipt; a clock that was set back only makes the
        // search go on a little.
        let is_beyond = newest.received_at_ms >= processed_before.max(failed_before);
        let old = |state, before| {
            let rows = rows
                .iter()
                .filter(move |(_, row)| row.state == state && row.received_at_ms < before);
            rows.map(|(seq, _)| *seq).collect::<Vec<u64>>()
        };
        for batch in old(State::Processed, processed_before).chunks(DELETE_BATCH) {
            done.processed_deleted += store.delete(batch.to_vec(), &[State::Processed])?;
        }
        for batch in old(State::Failed, failed_before).chunks(DELETE_BATCH) {
            done.failed_deleted += store.delete(batch.to_vec(), &[State::Failed])?;
        }
        if is_beyond {
            break;
        }
    }
    done.segments_removed = store.sweep()?;
    Ok(done)
}
