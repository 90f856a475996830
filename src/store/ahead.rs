//! The reports in the log that the database does not have yet. Clients have their answers, so every read by
//! id finds them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::crashes::StoredCrash;
use super::repeat_table::is_recent;
use super::rows::{ReportRow, State, Stored};
use super::segment_head::Position;
use crate::clock::Timestamp;
use crate::crash::id::CrashId;

/// The log may be ahead of the database by this many reports.
const REPORTS_MAX: usize = 4_096;
/// The log may be ahead of the database by this many bytes. A start after a kill reads them again.
const BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A report in the log.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Logged {
    pub(crate) seq: u64,
    pub(crate) crash: StoredCrash,
    /// See [`super::repeats`].
    pub(crate) digest: Option<u128>,
    /// The end of its closing record.
    pub(crate) end: Position,
    /// When its segment was created.
    pub(crate) segment_created_at_ms: i64,
}

impl Logged {
    pub(crate) fn row(&self) -> ReportRow {
        ReportRow {
            seq: self.seq,
            crash: self.crash.to_row(),
            digest: self.digest,
        }
    }

    pub(crate) fn of_row(row: ReportRow, end: Position, segment_created_at_ms: i64) -> Self {
        Self {
            seq: row.seq,
            crash: StoredCrash::from_row(row.crash),
            digest: row.digest,
            end,
            segment_created_at_ms,
        }
    }

    fn bytes(&self) -> u64 {
        self.crash.blobs().map(|blob| blob.stored_bytes).sum()
    }
}

/// How much the writer has been told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    #[default]
    Nothing,
    Reports,
    /// The log is so far ahead that the writer should commit at once.
    Urgent,
}

#[derive(Default)]
struct Reports {
    by_seq: BTreeMap<u64, Arc<Logged>>,
    ids: HashMap<CrashId, u64>,
    digests: HashMap<u128, u64>,
    bytes: u64,
    told: Told,
}

/// The reports that only the log has.
#[derive(Default)]
pub(crate) struct Ahead {
    state: Mutex<Reports>,
    /// Signals that the writer has stored reports.
    shrunk: Condvar,
}

impl Ahead {
    /// Adds reports that are durable in the log. Returns whether the writer must be told, and whether it
    /// should commit at once.
    pub(crate) fn add(&self, reports: Vec<Logged>) -> Option<bool> {
        let mut state = self.state.lock();
        for report in reports {
            state.bytes += report.bytes();
            state.ids.insert(report.crash.id, report.seq);
            if let Some(digest) = report.digest {
                state.digests.insert(digest, report.seq);
            }
            state.by_seq.insert(report.seq, Arc::new(report));
        }
        let is_far = state.bytes > BYTES_MAX / 2 || state.by_seq.len() > REPORTS_MAX / 2;
        let due = if is_far { Told::Urgent } else { Told::Reports };
        let must_tell = due > state.told && !state.by_seq.is_empty();
        state.told = state.told.max(due);
        must_tell.then_some(is_far)
    }

    /// The reports that the next commit stores, in the order of the log.
    pub(crate) fn reports(&self) -> Vec<Arc<Logged>> {
        let mut state = self.state.lock();
        state.told = Told::Nothing;
        state.by_seq.values().cloned().collect()
    }

    /// Removes reports that the database has now.
    pub(crate) fn remove(&self, reports: &[Arc<Logged>]) {
        if reports.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        for report in reports {
            if state.by_seq.remove(&report.seq).is_none() {
                continue;
            }
            state.bytes -= report.bytes();
            state.ids.remove(&report.crash.id);
            if let Some(digest) = report.digest
                && state.digests.get(&digest) == Some(&report.seq)
            {
                state.digests.remove(&digest);
            }
        }
        drop(state);
        self.shrunk.notify_all();
    }

    /// Whether the log may take more reports.
    pub(crate) fn has_room(&self) -> bool {
        let state = self.state.lock();
        state.bytes < BYTES_MAX && state.by_seq.len() < REPORTS_MAX
    }

    /// Waits until the writer has stored reports, for at most `wait`.
    pub(crate) fn wait(&self, wait: Duration) {
        self.shrunk.wait_for(&mut self.state.lock(), wait);
    }

    pub(crate) fn crash(&self, id: CrashId) -> Option<(u64, StoredCrash)> {
        let state = self.state.lock();
        let seq = *state.ids.get(&id)?;
        Some((seq, state.by_seq.get(&seq)?.crash.clone()))
    }

    pub(crate) fn crash_at(&self, seq: u64) -> Option<StoredCrash> {
        let state = self.state.lock();
        state.by_seq.get(&seq).map(|report| report.crash.clone())
    }

    /// The crash of a recent report with this digest.
    pub(crate) fn repeated(&self, digest: u128, now: Timestamp) -> Option<StoredCrash> {
        let state = self.state.lock();
        let report = state.by_seq.get(state.digests.get(&digest)?)?;
        is_recent(report.crash.received_at_ms, now).then(|| report.crash.clone())
    }

    /// Sequence number and state of each report.
    pub(crate) fn states(&self) -> Vec<(u64, State)> {
        let state = self.state.lock();
        let reports = state.by_seq.values();
        reports
            .map(|report| (report.seq, report.crash.state))
            .collect()
    }
}
