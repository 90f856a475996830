//! What is kept for how long, and the daily look whether all is in its place.
//!
//! Symbols have a retention of their own, since they are of use to crashes that are still to come:
//! by the time since a walk used them last, and by age, but never those of a pinned release. The
//! same pass brings what the store knows of them in line with their folders.
//!
//! A thread of its own makes a pass at the start and then every hour. It counts what it would
//! delete first, and waits for a person where that is too much ([`plan`]). Then it deletes
//! deferred crashes whose time is up, and processed and failed ones that are older than their
//! settings, in small batches so that intake never waits; at last the files of segments that hold
//! nothing live any more. Once a day the store audits itself. The clock is an argument.

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
use crate::symbols::{Shelf, SymbolDirs};
use parking_lot::Mutex;

pub use plan::{Held, Plan, Planned, plan};

/// Between two passes.
const PASS_EVERY: Duration = Duration::from_secs(60 * 60);
/// Between two audits.
const AUDIT_EVERY_MS: i64 = DAY_MS;
/// Crashes deleted in one transaction.
const DELETE_BATCH: usize = 64;
/// Rows looked at between two of them.
const SCAN_BATCH: usize = 1_000;

/// Days that things are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Crashes, by state, from their receipt.
    pub processed_days: u32,
    pub failed_days: u32,
    /// Symbols, from their last use or upload; 0 is for ever.
    pub symbols_unused_days: u32,
    /// Symbols, from their last upload; 0 is for ever.
    pub symbols_days: u32,
}

impl Keep {
    /// Processed and failed crashes go that were received before these times, in ms.
    fn limits(&self, now: Timestamp) -> (i64, i64) {
        let limit = |days: u32| now.ms().saturating_sub(i64::from(days) * DAY_MS);
        (limit(self.processed_days), limit(self.failed_days))
    }

    /// What a pass went by.
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

/// Where symbols lie.
pub struct SymbolPlaces {
    pub shelf: Shelf,
    pub dirs: SymbolDirs,
    pub mapped: Arc<MappedDir>,
}

/// What a pass did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    pub deferred_deleted: u64,
    pub processed_deleted: u64,
    pub failed_deleted: u64,
    pub segments_removed: u64,
    /// Modules.
    pub symbols_deleted: u64,
}

/// The last results, for the status page.
#[derive(Clone, Debug, Default)]
pub struct RetentionStatus {
    pub last_pass: Option<(Timestamp, Pass)>,
    pub last_audit: Option<(Timestamp, Audit)>,
    /// The pass that waits for somebody to confirm it.
    pub held: Option<Held>,
    pub error: Option<String>,
}

pub struct Retention {
    /// `None` where nothing may be changed.
    task: Option<PeriodicTask>,
    status: Arc<Mutex<RetentionStatus>>,
    /// What somebody has confirmed and no pass has taken up yet.
    confirmed: Arc<Mutex<Option<Plan>>>,
}

impl Retention {
    /// `keep` is asked at each pass.
    pub fn start(
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
                tracing::error!(%error, "a pass of retention failed; the next one goes on");
                error.to_string()
            });
            *told.lock() = status;
            Left::Nothing
        })?;
        retention.task = Some(task);
        Ok(retention)
    }

    /// Retention of a server that changes nothing.
    pub fn idle() -> Self {
        Self {
            task: None,
            status: Arc::default(),
            confirmed: Arc::default(),
        }
    }

    pub fn status(&self) -> RetentionStatus {
        self.status.lock().clone()
    }

    /// Lets the pass go on that waits, as it was shown. Returns whether one waits.
    pub fn confirm(&self) -> bool {
        let Some(held) = self.status().held else {
            return false;
        };
        tracing::info!(plan = %held.plan, "a pass of retention was confirmed");
        *self.confirmed.lock() = Some(held.plan);
        if let Some(task) = &self.task {
            task.wake();
        }
        true
    }

    pub fn stop(&self) {
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

/// Deletes what is too old at `now`, unless that is too much for a pass that nobody has confirmed.
/// `is_thorough`: looks at every crash, also behind those that are too young.
pub fn guarded_pass(
    store: &Store,
    symbols: &SymbolPlaces,
    keep: &Keep,
    now: Timestamp,
    is_thorough: bool,
    confirmed: Option<Plan>,
) -> Result<Result<Pass, Held>, StoreError> {
    let plan = plan(store, symbols, keep, now, is_thorough)?;
    // A tenth more may have come due since somebody looked at it.
    let is_confirmed = confirmed.is_some_and(|seen| plan.due() <= seen.due() + seen.due() / 10);
    if plan.must_wait() && !is_confirmed {
        // What is dead already can go.
        store.sweep()?;
        return Ok(Err(Held { at: now, plan }));
    }
    let mut done = pass(store, keep, now, is_thorough)?;
    match symbols_pass(store, symbols, keep, now) {
        Ok(deleted) => done.symbols_deleted = deleted,
        // Crashes do not wait for a folder that somebody else has changed.
        Err(error) => tracing::error!(%error, "symbols could not be looked through"),
    }
    if done != Pass::default() {
        tracing::info!(?done, "retention");
    }
    store.retained(keep.row(now))?;
    Ok(Ok(done))
}

/// Crashes that are due: sequence number and time of receipt in ms.
struct DueRows {
    processed: Vec<(u64, i64)>,
    failed: Vec<(u64, i64)>,
}

/// Hands out the processed and failed crashes that are due, some at a time.
///
/// Sequence numbers ascend with receipt, so a batch in which nothing is due ends the search, unless
/// it is thorough. Crashes dated in the future say nothing: the clock was wrong when they came.
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

/// Deletes what is too old at `now`, and gives back the room.
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
            // Entries without a crash: the audit's business.
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

/// Brings what the store knows of symbols in line with their folders, and deletes what is too old
/// at `now`. Returns how many modules that were.
pub fn symbols_pass(
    store: &Store,
    symbols: &SymbolPlaces,
    keep: &Keep,
    now: Timestamp,
) -> anyhow::Result<u64> {
    let mut there: HashSet<String> = symbols.shelf.debug_ids()?.into_iter().collect();
    let pinned: HashSet<Release> = store.pinned_releases()?.into_iter().collect();
    let mut changes = Vec::new();
    let mut deleted = 0;
    for row in store.all_symbols()? {
        let debug_id = row.module.debug_id.clone();
        let is_there = there.remove(&debug_id);
        let is_pinned = row.releases.iter().any(|release| pinned.contains(release));
        let is_due = is_there && !is_pinned && is_too_old(&row, keep, now);
        if is_due {
            symbols.shelf.remove(&debug_id)?;
            deleted += 1;
        }
        if is_there && !is_due {
            // Shelves of older versions have no marks.
            symbols.shelf.mark_code(&row.module)?;
        }
        if is_due || !is_there {
            changes.push(SymbolChange::Forget { debug_id });
        }
    }
    // Put there by the command line, or by a server that died before it wrote that down.
    for module in there.iter().filter_map(|id| symbols.shelf.module(id)) {
        changes.push(SymbolChange::Put {
            module,
            release: None,
        });
    }
    for debug_id in symbols.shelf.sources_alone()? {
        let added = symbols.shelf.sources(&debug_id);
        let added = added.iter().map(|upload| upload.added_at_ms).max();
        if is_past(keep.symbols_unused_days, added.unwrap_or(0), now)
            || is_past(keep.symbols_days, added.unwrap_or(0), now)
        {
            symbols.shelf.remove(&debug_id)?;
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
