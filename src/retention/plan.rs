//! What a pass of retention would delete, and whether it may.
//!
//! Retention deletes by the clock, and clocks are sometimes wrong. A clock that is a year ahead would delete
//! everything. So a pass first counts. The time since the last pass explains the crashes that became due in
//! it, up to [`EXPLAINED_DAYS_MAX`]. Crashes that are due beyond that, or only because a setting changed,
//! are unexplained. If there are too many of them, the pass waits for confirmation.

use std::collections::HashSet;
use std::fmt;

use super::{DueRows, Keep, SymbolPlaces, due_rows, is_too_old};
use crate::clock::{DAY_MS, Timestamp};
use crate::store::symbols::Release;
use crate::store::{State, Store, StoreError};

/// Days since the last pass that can explain deletions: a long weekend. If more time passed, somebody set
/// the clock, or the server was off.
const EXPLAINED_DAYS_MAX: i64 = 3;
/// One in this many stored things may be deleted without an explanation.
const UNEXPLAINED_ONE_IN: u64 = 10;
/// If this many crashes of one kind are unexplained, the limit also applies to the kind alone.
const KIND_MIN: u64 = 100;

/// Counts of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Planned {
    pub stored: u64,
    /// Number to be deleted now.
    pub due: u64,
    /// Number of those that the time since the last pass does not explain.
    pub unexplained: u64,
}

impl Planned {
    fn is_too_much(&self) -> bool {
        self.unexplained > 0 && self.unexplained * UNEXPLAINED_ONE_IN > self.stored
    }
}

/// What a pass would delete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub deferred: Planned,
    pub processed: Planned,
    pub failed: Planned,
    /// Modules.
    pub(crate) symbols: Planned,
}

impl Plan {
    fn crashes(&self) -> [Planned; 3] {
        [self.deferred, self.processed, self.failed]
    }

    /// Total number to be deleted.
    pub fn due(&self) -> u64 {
        self.crashes().iter().map(|kind| kind.due).sum::<u64>() + self.symbols.due
    }

    /// True if the pass needs confirmation.
    pub(crate) fn must_wait(&self) -> bool {
        let sum = |of: fn(&Planned) -> u64| self.crashes().iter().map(of).sum();
        let all = Planned {
            stored: sum(|kind| kind.stored),
            due: sum(|kind| kind.due),
            unexplained: sum(|kind| kind.unexplained),
        };
        let alone = self.crashes().into_iter();
        all.is_too_much()
            || self.symbols.is_too_much()
            || alone
                .filter(|kind| kind.unexplained >= KIND_MIN)
                .any(|kind| kind.is_too_much())
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [
            (self.processed, "processed crashes"),
            (self.failed, "failed crashes"),
            (self.deferred, "deferred crashes"),
            (self.symbols, "symbol files"),
        ];
        let parts: Vec<String> = kinds
            .iter()
            .filter(|(kind, _)| kind.due > 0)
            .map(|(kind, name)| format!("{} of {} {name}", kind.due, kind.stored))
            .collect();
        if parts.is_empty() {
            f.write_str("nothing")
        } else {
            f.write_str(&parts.join(", "))
        }
    }
}

/// A pass that waits for confirmation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub(crate) at: Timestamp,
    pub plan: Plan,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "retention is on hold: it would delete {}, which is more than expected since its last pass. Check the clock and [retention]. If this is correct, confirm it on the status page or with `crashkeep retention --confirm`",
            self.plan
        )
    }
}

/// Counts what a pass at `now` would delete.
///
/// # Errors
/// The store cannot be read, or stored data is damaged.
pub fn plan(
    store: &Store,
    symbols: &SymbolPlaces,
    keep: &Keep,
    now: Timestamp,
    is_thorough: bool,
) -> Result<Plan, StoreError> {
    let last = store.last_retention()?;
    let last_at = match last {
        Some(pass) => Timestamp::from_ms(pass.at_ms),
        // The server was running when the newest crash arrived.
        None => newest(store, now)?.unwrap_or(now),
    };
    let kept = last.map_or(*keep, |pass| Keep::of(&pass));
    let explained_until = now.min(Timestamp::from_ms(
        last_at.ms().saturating_add(EXPLAINED_DAYS_MAX * DAY_MS),
    ));
    let mut plan = Plan::default();
    for (state, count) in store.status()?.states {
        match state {
            State::Deferred => plan.deferred.stored = count,
            State::Processed => plan.processed.stored = count,
            State::Failed => plan.failed.stored = count,
            State::Queued | State::Processing => {}
        }
    }
    plan.deferred.due = store.deferred_between(None, now)?;
    plan.deferred.unexplained = store.deferred_between(Some(explained_until), now)?;
    let (processed_until, failed_until) = kept.limits(explained_until);
    due_rows(store, keep, now, is_thorough, |rows: DueRows| {
        for (kind, rows, until) in [
            (&mut plan.processed, &rows.processed, processed_until),
            (&mut plan.failed, &rows.failed, failed_until),
        ] {
            let unexplained = rows.iter().filter(|(_, at_ms)| *at_ms >= until);
            kind.due += rows.len() as u64;
            kind.unexplained += unexplained.count() as u64;
        }
        Ok(())
    })?;
    if keep.symbols_days > 0 || keep.symbols_unused_days > 0 {
        let pinned: HashSet<Release> = store.pinned_releases()?.into_iter().collect();
        for row in store.all_symbols()? {
            plan.symbols.stored += 1;
            let is_pinned = row.releases.iter().any(|release| pinned.contains(release));
            let is_there = symbols.symbol_store.module(&row.module.debug_id).is_some();
            if !is_pinned && is_there && is_too_old(&row, keep, now) {
                plan.symbols.due += 1;
                plan.symbols.unexplained += u64::from(!is_too_old(&row, &kept, explained_until));
            }
        }
    }
    Ok(plan)
}

/// Time of receipt of the newest crash that is not dated in the future.
fn newest(store: &Store, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
    const LOOKED_AT: usize = 1_000;
    let rows = store.newest(LOOKED_AT)?;
    let past = rows.iter().map(|row| row.received_at());
    Ok(past.filter(|at| *at <= now).max())
}
