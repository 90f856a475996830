//! What is kept for how long, and the daily look whether all is in its place.
//!
//! Symbols have a retention of their own, since they are of use to crashes that are still to come:
//! by the time since a walk used them last, and by age, but never those of a pinned release. The
//! same pass brings what the store knows of them in line with their folders.
//!
//! A thread of its own makes a pass at the start and then every hour: deferred crashes whose time
//! is up, then processed and failed ones that are older than their settings, in small batches so
//! that intake never waits; at last the files of segments that hold nothing live any more. Once a
//! day the store audits itself. The clock is an argument.

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::clock::{Clock, DAY_MS, Timestamp};
use crate::errand::{Errand, Left};
use crate::store::symbols::{Release, SymbolChange, SymbolRow};
use crate::store::{Audit, State, Store, StoreError};
use crate::symbols::mapped::MappedDir;
use crate::symbols::{Shelf, SymbolDirs};

/// Between two passes.
const PASS_EVERY: Duration = Duration::from_secs(60 * 60);
/// Between two audits.
const AUDIT_EVERY_MS: i64 = DAY_MS;
/// Crashes deleted in one transaction.
const DELETE_BATCH: usize = 64;
/// Rows looked at between two of them.
const SCAN_BATCH: usize = 1_000;

/// Days that things are kept.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// Crashes, by state, from their receipt.
    pub processed_days: u32,
    pub failed_days: u32,
    /// Symbols, from their last use or upload; 0 is for ever.
    pub symbols_unused_days: u32,
    /// Symbols, from their last upload; 0 is for ever.
    pub symbols_days: u32,
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
    pub error: Option<String>,
}

pub struct Retention {
    errand: Errand,
    status: Arc<Mutex<RetentionStatus>>,
}

impl Retention {
    /// `keep` is asked at each pass.
    pub fn start(
        store: Arc<Store>,
        symbols: SymbolPlaces,
        keep: impl Fn() -> Keep + Send + 'static,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        let status = Arc::new(Mutex::new(RetentionStatus::default()));
        let told = status.clone();
        let errand = Errand::start("retention", PASS_EVERY, move |_| {
            let now = clock.now();
            let mut status = told.lock().unwrap_or_else(|e| e.into_inner()).clone();
            let result = look(&store, &symbols, &keep(), now, &mut status);
            status.error = result.err().map(|error| {
                tracing::error!(%error, "a pass of retention failed; the next one goes on");
                error.to_string()
            });
            *told.lock().unwrap_or_else(|e| e.into_inner()) = status;
            Left::Nothing
        })?;
        Ok(Self { errand, status })
    }

    pub fn status(&self) -> RetentionStatus {
        self.status
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .clone()
    }

    pub fn stop(&self) {
        self.errand.stop();
    }
}

fn look(
    store: &Store,
    symbols: &SymbolPlaces,
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
    let mut done = pass(store, keep, now)?;
    match symbols_pass(store, symbols, keep, now) {
        Ok(deleted) => done.symbols_deleted = deleted,
        // Crashes do not wait for a folder that somebody else has changed.
        Err(error) => tracing::error!(%error, "symbols could not be looked through"),
    }
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

fn is_too_old(row: &SymbolRow, keep: &Keep, now: Timestamp) -> bool {
    let added = row.module.uploads.iter().map(|upload| upload.added_at_ms);
    is_past(keep.symbols_unused_days, row.touched_at_ms(), now)
        || is_past(keep.symbols_days, added.max().unwrap_or(0), now)
}

fn is_past(days: u32, since_ms: i64, now: Timestamp) -> bool {
    days > 0 && now.ms() - since_ms >= i64::from(days) * DAY_MS
}
