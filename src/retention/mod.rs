//! Deletes what is older than its retention period, and audits the store daily.
//!
//! Symbols have their own retention, because they are useful for future crashes. It depends on the time
//! since a walk last used them, and on their age. Symbols of a pinned release are never deleted. The same
//! pass makes the store's records about symbols agree with the folders.
//!
//! A separate thread makes a pass at the start and then every hour. The pass first counts what it would
//! delete. If that is too much, it waits for confirmation ([`plan()`]). Then it deletes expired deferred
//! crashes, and processed and failed crashes that are older than their settings. It does so in small
//! batches, so that intake never waits. Last, it deletes the files of segments that contain no live data.
//! Once a day the store audits itself. The clock is an argument.

mod plan;

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, DAY_MS, Timestamp};
use crate::periodic::{Left, PeriodicTask};
use crate::store::passes::PassRow;
use crate::store::symbols::{Release, StoredSymbols, SymbolChange};
use crate::store::{Audit, State, Store, StoreError};
use crate::symbols::mapped::MappedDir;
use crate::symbols::{SymbolDirs, SymbolStore};
use parking_lot::Mutex;

pub use plan::{Held, plan};
pub(crate) use plan::{Plan, Planned};

/// Interval between two passes.
const PASS_EVERY: Duration = Duration::from_secs(60 * 60);
/// Interval between two audits.
const AUDIT_EVERY_MS: i64 = DAY_MS;
/// Crashes that one transaction deletes.
const DELETE_BATCH: usize = 64;
/// Rows that are read in one transaction.
const SCAN_BATCH: usize = 1_000;

/// Retention periods in days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Crashes, by state, counted from their receipt.
    pub processed_days: u32,
    pub failed_days: u32,
    /// Symbols, counted from their last use or upload; 0 means no limit.
    pub symbols_unused_days: u32,
    /// Symbols, counted from their last upload; 0 means no limit.
    pub symbols_days: u32,
}

impl Keep {
    /// Processed and failed crashes are deleted if they were received before these times, in ms.
    fn limits(&self, now: Timestamp) -> (i64, i64) {
        let limit = |days: u32| now.ms().saturating_sub(i64::from(days) * DAY_MS);
        (limit(self.processed_days), limit(self.failed_days))
    }

    /// The periods that a pass used.
    fn of(pass: &PassRow) -> Self {
        Self {
            processed_days: pass.processed_days,
            failed_days: pass.failed_days,
            symbols_unused_days: pass.symbols_unused_days,
            symbols_days: pass.symbols_days,
        }
    }

    fn row(&self, at: Timestamp) -> PassRow {
        PassRow {
            at_ms: at.ms(),
            processed_days: self.processed_days,
            failed_days: self.failed_days,
            symbols_unused_days: self.symbols_unused_days,
            symbols_days: self.symbols_days,
        }
    }
}

/// The folders of symbols.
pub struct SymbolPlaces {
    pub symbol_store: SymbolStore,
    pub dirs: SymbolDirs,
    pub mapped: Arc<MappedDir>,
}

/// What a pass deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    pub deferred_deleted: u64,
    pub processed_deleted: u64,
    pub failed_deleted: u64,
    pub segments_removed: u64,
    /// Number of modules.
    pub(crate) symbols_deleted: u64,
}

/// The latest results, for the status page.
#[derive(Clone, Debug, Default)]
pub(crate) struct RetentionStatus {
    pub(crate) last_pass: Option<(Timestamp, Pass)>,
    pub(crate) last_audit: Option<(Timestamp, Audit)>,
    /// The pass that waits for confirmation.
    pub(crate) held: Option<Held>,
    pub(crate) error: Option<String>,
}

pub(crate) struct Retention {
    /// `None` if the server is read-only.
    task: Option<PeriodicTask>,
    status: Arc<Mutex<RetentionStatus>>,
    /// The plan that was confirmed, until a pass takes it.
    confirmed: Arc<Mutex<Option<Plan>>>,
}

impl Retention {
    /// Starts the thread. It calls `keep` at each pass.
    ///
    /// # Errors
    /// The operating system cannot start the thread.
    pub(crate) fn start(
        store: Arc<Store>,
        symbols: SymbolPlaces,
        keep: impl Fn() -> Keep + Send + 'static,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        let mut retention = Self::idle();
        let (told, confirmed) = (retention.status.clone(), retention.confirmed.clone());
        let task = PeriodicTask::start("retention", PASS_EVERY, move |_| {
            let now = clock.now();
            let mut status = told.lock().clone();
            let confirmed = confirmed.lock().take();
            let result = look(&store, &symbols, &keep(), now, confirmed, &mut status);
            status.error = result.err().map(|error| {
                tracing::error!(%error, "a retention pass failed; will try again");
                error.to_string()
            });
            *told.lock() = status;
            Left::Nothing
        })?;
        retention.task = Some(task);
        Ok(retention)
    }

    /// The retention of a read-only server.
    pub(crate) fn idle() -> Self {
        Self {
            task: None,
            status: Arc::default(),
            confirmed: Arc::default(),
        }
    }

    pub(crate) fn status(&self) -> RetentionStatus {
        self.status.lock().clone()
    }

    /// Confirms the waiting pass, as it was shown. Returns true if a pass is waiting.
    pub(crate) fn confirm(&self) -> bool {
        let Some(held) = self.status().held else {
            return false;
        };
        tracing::info!(plan = %held.plan, "a retention pass was confirmed");
        *self.confirmed.lock() = Some(held.plan);
        if let Some(task) = &self.task {
            task.wake();
        }
        true
    }

    pub(crate) fn stop(&self) {
        if let Some(task) = &self.task {
            task.stop();
        }
    }
}

fn look(
    store: &Store,
    symbols: &SymbolPlaces,
    keep: &Keep,
    now: Timestamp,
    confirmed: Option<Plan>,
    status: &mut RetentionStatus,
) -> Result<(), StoreError> {
    let due = status
        .last_audit
        .as_ref()
        .is_none_or(|(at, _)| now.ms_since(*at).abs() >= AUDIT_EVERY_MS);
    if due {
        let audit = store.audit()?;
        if !audit.is_clean() {
            tracing::warn!(
                ?audit,
                "an audit found and repaired crashes in the wrong state"
            );
        }
        status.last_audit = Some((now, audit));
        let forgotten = store.forget_frames()?;
        if forgotten > 0 {
            tracing::info!(frames = forgotten, "removed the frames of deleted crashes");
        }
    }
    match guarded_pass(store, symbols, keep, now, due, confirmed)? {
        Ok(done) => {
            status.held = None;
            status.last_pass = Some((now, done));
        }
        Err(held) => {
            tracing::warn!("{held}");
            status.held = Some(held);
        }
    }
    Ok(())
}

/// Deletes what is too old at `now`. If that is too much and not confirmed, returns [`Held`] instead. With
/// `is_thorough` it checks every crash, not only the oldest ones.
///
/// # Errors
/// The store cannot be read or written, or stored data is damaged. Some crashes may be deleted already. The
/// next pass continues.
pub fn guarded_pass(
    store: &Store,
    symbols: &SymbolPlaces,
    keep: &Keep,
    now: Timestamp,
    is_thorough: bool,
    confirmed: Option<Plan>,
) -> Result<Result<Pass, Held>, StoreError> {
    let plan = plan(store, symbols, keep, now, is_thorough)?;
    // Up to a tenth more may have become due since the user confirmed.
    let is_confirmed = confirmed.is_some_and(|seen| plan.due() <= seen.due() + seen.due() / 10);
    if plan.must_wait() && !is_confirmed {
        // Segments without live data can be deleted in any case.
        store.sweep()?;
        return Ok(Err(Held { at: now, plan }));
    }
    let mut done = pass(store, keep, now, is_thorough)?;
    match symbols_pass(store, symbols, keep, now) {
        Ok(deleted) => done.symbols_deleted = deleted,
        // Crashes are deleted even if the folder of symbols cannot be read.
        Err(error) => {
            tracing::error!(%error, "the symbols folder could not be checked for old files")
        }
    }
    if done != Pass::default() {
        tracing::info!(?done, "retention");
    }
    store.retained(keep.row(now))?;
    Ok(Ok(done))
}

/// Crashes that are due: sequence number, and time of receipt in ms.
struct DueRows {
    processed: Vec<(u64, i64)>,
    failed: Vec<(u64, i64)>,
}

/// Passes the processed and failed crashes that are due to `each`, in batches.
///
/// Sequence numbers ascend with the time of receipt. So the search ends at a batch in which nothing is due,
/// unless it is thorough. Crashes with a date in the future are ignored: the clock was wrong when they
/// arrived.
fn due_rows(
    store: &Store,
    keep: &Keep,
    now: Timestamp,
    is_thorough: bool,
    mut each: impl FnMut(DueRows) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let (processed_before, failed_before) = keep.limits(now);
    let mut after = 0;
    loop {
        let rows = store.scan(after, SCAN_BATCH)?;
        let Some((last, _)) = rows.last() else {
            return Ok(());
        };
        after = *last;
        let old = |state, before| {
            let rows = rows
                .iter()
                .filter(move |(_, row)| row.state == state && row.received_at_ms < before);
            rows.map(|(seq, row)| (*seq, row.received_at_ms)).collect()
        };
        let due = DueRows {
            processed: old(State::Processed, processed_before),
            failed: old(State::Failed, failed_before),
        };
        let is_past = rows.iter().any(|(_, row)| {
            (processed_before.max(failed_before)..=now.ms()).contains(&row.received_at_ms)
        });
        let is_end = due.processed.is_empty() && due.failed.is_empty() && is_past;
        each(due)?;
        if is_end && !is_thorough {
            return Ok(());
        }
    }
}

/// Deletes what is too old at `now`, and frees the disk space.
///
/// # Errors
/// The store cannot be read or written. Some crashes may be deleted already. The next pass continues.
pub fn pass(
    store: &Store,
    keep: &Keep,
    now: Timestamp,
    is_thorough: bool,
) -> Result<Pass, StoreError> {
    let mut done = Pass::default();
    loop {
        let overdue = store.overdue(now, DELETE_BATCH)?;
        if overdue.is_empty() {
            break;
        }
        let deleted = store.delete(overdue, &[State::Deferred])?;
        if deleted == 0 {
            // These entries have no crash. The audit repairs that.
            break;
        }
        done.deferred_deleted += deleted;
    }
    let delete = |due: &[(u64, i64)], states| {
        let mut deleted = 0;
        for batch in due.chunks(DELETE_BATCH) {
            let seqs = batch.iter().map(|(seq, _)| *seq).collect();
            deleted += store.delete(seqs, states)?;
        }
        Ok::<u64, StoreError>(deleted)
    };
    due_rows(store, keep, now, is_thorough, |due| {
        done.processed_deleted += delete(&due.processed, &[State::Processed])?;
        done.failed_deleted += delete(&due.failed, &[State::Failed])?;
        Ok(())
    })?;
    done.segments_removed = store.sweep()?;
    Ok(done)
}

/// Makes the store's records about symbols agree with the folders, and deletes symbols that are too old at
/// `now`. Returns the number of deleted modules.
///
/// # Errors
/// The store or a folder of symbols cannot be read or written. Some modules may be deleted already. The next
/// pass continues.
pub fn symbols_pass(
    store: &Store,
    symbols: &SymbolPlaces,
    keep: &Keep,
    now: Timestamp,
) -> anyhow::Result<u64> {
    let mut there: HashSet<String> = symbols.symbol_store.debug_ids()?.into_iter().collect();
    let pinned: HashSet<Release> = store.pinned_releases()?.into_iter().collect();
    let mut changes = Vec::new();
    let mut deleted = 0;
    for row in store.all_symbols()? {
        let debug_id = row.module.debug_id.clone();
        let is_there = there.remove(&debug_id);
        let is_pinned = row.releases.iter().any(|release| pinned.contains(release));
        let is_due = is_there && !is_pinned && is_too_old(&row, keep, now);
        if is_due {
            symbols.symbol_store.remove(&debug_id)?;
            deleted += 1;
        }
        if is_there && !is_due {
            // Symbol stores of older versions have no marks.
            symbols.symbol_store.mark_code(&row.module)?;
        }
        if is_due || !is_there {
            changes.push(SymbolChange::Forget { debug_id });
        }
    }
    // The command line added these, or a server that died before it wrote the records.
    for module in there
        .iter()
        .filter_map(|id| symbols.symbol_store.module(id))
    {
        changes.push(SymbolChange::Put {
            module,
            release: None,
        });
    }
    for debug_id in symbols.symbol_store.sources_alone()? {
        let added = symbols.symbol_store.sources(&debug_id);
        let added = added.iter().map(|upload| upload.added_at_ms).max();
        if is_past(keep.symbols_unused_days, added.unwrap_or(0), now)
            || is_past(keep.symbols_days, added.unwrap_or(0), now)
        {
            symbols.symbol_store.remove(&debug_id)?;
        }
    }
    if !changes.is_empty() {
        store.change_symbols(changes)?;
    }
    symbols.mapped.sweep(&symbols.dirs)?;
    Ok(deleted)
}

fn is_too_old(row: &StoredSymbols, keep: &Keep, now: Timestamp) -> bool {
    let added = row.module.uploads.iter().map(|upload| upload.added_at_ms);
    is_past(keep.symbols_unused_days, row.touched_at_ms(), now)
        || is_past(keep.symbols_days, added.max().unwrap_or(0), now)
}

fn is_past(days: u32, since_ms: i64, now: Timestamp) -> bool {
    days > 0 && now.ms() - since_ms >= i64::from(days) * DAY_MS
}
