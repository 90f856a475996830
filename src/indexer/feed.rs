//! Writes changes, and rows of a build, to the current index and to the one that is built beside it.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::line::Line;
use super::shared::{Broken, Shared};
use super::status::Building;
use crate::index::{Document, Side, Watermark};
use crate::process;
use crate::store::{State, StoreError, StoredCrash};

/// Changes or rows between two checks of the clock and of the stop signal.
const BATCH: usize = 200;
/// Pause between two commits while changes arrive.
const COMMIT_PAUSE: Duration = Duration::from_millis(500);
/// Pause between two commits while only old rows are written.
const BUILD_COMMIT_PAUSE: Duration = Duration::from_secs(10);

/// The writers, and what they have not committed yet.
pub(super) struct Feed<'s> {
    shared: &'s Shared,
    /// The current index, and the next one if it is being built.
    pub(super) lines: Vec<Line>,
    /// The last change that all indexes have.
    change: u64,
    pub(super) building: Building,
    /// Crashes that changed since the build began. Their current state is already written. `None` if an
    /// earlier run began the build.
    written: Option<HashSet<u64>>,
    committed_at: Instant,
    /// True if changes wait for a commit.
    has_changes: bool,
    /// True if rows wait for a commit.
    has_rows: bool,
}

impl<'s> Feed<'s> {
    pub(super) fn open(shared: &'s Shared) -> Result<Self, Broken> {
        let (last, _) = shared.store.change_range()?;
        let states = shared.store.status()?.states;
        let rows_total: u64 = states.iter().map(|(_, crashes)| crashes).sum();
        let fresh = Watermark {
            change: last,
            // The index of a store without crashes is complete at once.
            rebuilt_to: (rows_total > 0).then_some(0),
        };
        let index = &shared.index;
        let current = current_start(shared, fresh)?;
        let line = Line::open(index, Side::Current, current.mark, current.is_fresh)?;
        let mut lines = vec![line];
        let mut change = current.mark.change;
        let mut is_fresh = current.is_fresh;
        if let Some(next) = next_start(shared, current.mark, fresh)? {
            is_fresh |= next.is_fresh;
            let line = Line::open(index, Side::Next, next.mark, is_fresh);
            lines.push(line.map_err(Broken::Next)?);
            change = change.min(next.mark.change);
        }
        let mut building = Building {
            is_beside: lines.len() > 1,
            ..Building::default()
        };
        if lines.iter().any(|line| line.rebuilt_to.is_some()) {
            building.rows_total = rows_total;
            shared.set_building(Some(building));
        } else {
            shared.set_building(None);
        }
        let committed_at = Instant::now();
        Ok(Self {
            shared,
            lines,
            change,
            building,
            written: is_fresh.then(HashSet::new),
            // So that the first change is committed at once.
            committed_at: committed_at
                .checked_sub(COMMIT_PAUSE)
                .unwrap_or(committed_at),
            has_changes: false,
            has_rows: false,
        })
    }

    pub(super) fn is_building(&self) -> bool {
        self.lines.iter().any(|line| line.rebuilt_to.is_some())
    }

    /// Writes a batch of changes, and a batch of rows while building. Returns true if there is more.
    pub(super) fn advance(&mut self) -> Result<bool, Broken> {
        let changes = self.shared.store.changes(self.change, BATCH)?;
        // Only the last change of a crash needs to be written.
        let crashes: BTreeMap<u64, u64> = changes.iter().map(|c| (c.seq, c.change)).collect();
        for seq in crashes.into_keys() {
            self.write_change(seq)?;
        }
        if let Some(last) = changes.last() {
            self.change = last.change;
            self.has_changes = true;
        }
        let building = self.lines.iter().enumerate();
        let building = building.filter_map(|(at, line)| Some((at, line.rebuilt_to?)));
        let Some((at, done)) = { building }.next() else {
            return Ok(changes.len() == BATCH);
        };
        let rows = self.shared.store.scan(done, BATCH)?;
        self.has_rows = true;
        self.building.rows += rows.len() as u64;
        self.lines[at].rebuilt_to = rows.last().map(|(seq, _)| *seq);
        for (seq, row) in rows {
            self.write_row(at, seq, &row)?;
        }
        if self.lines[at].rebuilt_to.is_none() {
            // The end of the build must be committed.
            self.has_changes = true;
            self.written = None;
            tracing::info!(rows = self.building.rows, "the index is built");
        }
        self.shared.set_building(Some(self.building));
        Ok(true)
    }

    fn row(&self, seq: u64) -> Result<Option<StoredCrash>, Broken> {
        match self.shared.store.crash_at(seq) {
            Err(error @ (StoreError::Damaged(_) | StoreError::Newer(_))) => {
                tracing::error!(seq, %error, "a crash cannot be indexed");
                Ok(None)
            }
            other => Ok(other?),
        }
    }

    /// Makes all indexes agree with the store about a crash. An unprocessed crash has no document.
    fn write_change(&mut self, seq: u64) -> Result<(), Broken> {
        let document = match self.row(seq)? {
            Some(row) => self.document(seq, &row)?,
            None => None,
        };
        for line in &mut self.lines {
            line.write(seq, document.as_ref(), false)?;
        }
        if self.is_building()
            && let Some(written) = &mut self.written
        {
            written.insert(seq);
        }
        self.shared.metrics.indexed.add(1);
        Ok(())
    }

    /// Writes a row to the index that is being built.
    fn write_row(&mut self, at: usize, seq: u64, row: &StoredCrash) -> Result<(), Broken> {
        let is_new = match &self.written {
            Some(written) if written.contains(&seq) => return Ok(()),
            written => written.is_some(),
        };
        let document = self.document(seq, row)?;
        self.lines[at].write(seq, document.as_ref(), is_new)?;
        self.shared.metrics.indexed.add(1);
        Ok(())
    }

    fn document(&self, seq: u64, row: &StoredCrash) -> Result<Option<Document>, Broken> {
        let store = &self.shared.store;
        let left_out = |why: &dyn std::fmt::Display| {
            tracing::error!(crash_id = %row.id, error = %why, "a crash cannot be indexed");
        };
        let processed = match store.processed(row) {
            Ok(Some(processed)) => processed,
            Ok(None) if row.state == State::Deferred => return Ok(self.deferred(seq, row)?),
            Ok(None) => return Ok(None),
            Err(error @ (StoreError::Damaged(_) | StoreError::Newer(_))) => {
                left_out(&error);
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let annotations = match store.raw(row) {
            Ok(raw) => raw.annotations,
            // It is still useful to find the processed crash alone.
            Err(StoreError::Damaged(_) | StoreError::Newer(_)) => BTreeMap::new(),
            Err(error) => return Err(error.into()),
        };
        let (catalogue, at) = (self.shared.index.catalogue(), row.received_at());
        match Document::new(catalogue, seq, row.id, at, &processed, &annotations) {
            Ok(document) => Ok(Some(document)),
            Err(error) => {
                left_out(&error);
                Ok(None)
            }
        }
    }

    /// The document of a report that was not processed, from what its client sent.
    fn deferred(&self, seq: u64, row: &StoredCrash) -> Result<Option<Document>, StoreError> {
        let raw = match self.shared.store.raw(row) {
            Err(error @ (StoreError::Damaged(_) | StoreError::Newer(_))) => {
                tracing::error!(crash_id = %row.id, %error, "a crash cannot be indexed");
                return Ok(None);
            }
            raw => raw?,
        };
        let (catalogue, at) = (self.shared.index.catalogue(), row.received_at());
        let known = process::unprocessed(catalogue, &raw, &row.throttle_rule);
        Ok(Document::new(catalogue, seq, row.id, at, &known, &raw.annotations).ok())
    }

    fn commit_pause(&self) -> Option<Duration> {
        match (self.has_changes, self.has_rows) {
            (true, _) => Some(COMMIT_PAUSE),
            (false, true) => Some(BUILD_COMMIT_PAUSE),
            (false, false) => None,
        }
    }

    /// Time until the next commit; `None` if there is nothing to commit.
    pub(super) fn commit_in(&self) -> Option<Duration> {
        Some(
            self.commit_pause()?
                .saturating_sub(self.committed_at.elapsed()),
        )
    }

    pub(super) fn commit_due(&self) -> bool {
        self.commit_in().is_some_and(|wait| wait.is_zero())
    }

    pub(super) fn commit(&mut self) -> Result<(), Broken> {
        let (change, has_changes) = (self.change, self.has_changes);
        // An index whose rows are complete has nothing new unless changes arrived. The current index is
        // committed last, so that the next one has everything that it has. It is committed even if the
        // commit of the next one fails.
        let due = |line: &&mut Line| has_changes || line.rebuilt_to.is_some();
        let lines = self.lines.iter_mut().rev().filter(due);
        let outcomes: Vec<Result<(), Broken>> = lines.map(|line| line.commit(change)).collect();
        outcomes.into_iter().collect::<Result<(), Broken>>()?;
        self.committed_at = Instant::now();
        (self.has_changes, self.has_rows) = (false, false);
        // Searches see the end of a build only now. A next index is useful once it is in place.
        if !self.is_building() && !self.building.is_beside {
            self.shared.set_building(None);
        }
        match self.shared.store.indexed(self.change) {
            // The store only keeps the changes longer than necessary.
            Err(StoreError::Stopping) => Ok(()),
            other => Ok(other?),
        }
    }

    /// Puts the next index in place, if there is one. Everything must be committed.
    pub(super) fn finish(self) -> Result<(), Broken> {
        let shared = self.shared;
        if self.lines.len() < 2 {
            return Ok(());
        }
        // This closes two writers and cancels their merges.
        drop(self);
        shared.index.swap()?;
        shared.set_building(None);
        tracing::info!("the new index is in use");
        Ok(())
    }

    /// Ends the feed. Rows of a build in progress are not committed, because that may take too long; the
    /// next start writes them again. For that build the store keeps the changes, and only the current index
    /// commits them.
    pub(super) fn close(mut self) -> Result<(), Broken> {
        let is_beside = self.lines.len() > 1;
        if self.has_changes && self.lines[0].rebuilt_to.is_none() {
            if is_beside {
                self.lines[0].commit(self.change)?
            } else {
                self.commit()?
            }
        }
        Ok(())
    }
}

/// Where the feed of an index starts.
struct Start {
    mark: Watermark,
    /// True if the index is empty and its build begins now.
    is_fresh: bool,
}

/// Decides whether the current index continues at its mark. Otherwise empties it: it is built again in place.
fn current_start(shared: &Shared, fresh: Watermark) -> Result<Start, Broken> {
    let mark = shared.index.watermark();
    if let Some(mark) = mark
        && shared.continues(mark)?
    {
        return Ok(Start {
            mark,
            is_fresh: false,
        });
    }
    let last_change = fresh.change;
    tracing::info!(last_change, "the index is built from the store");
    // An index without a mark is empty.
    if mark.is_some() {
        shared.index.reset()?;
    }
    Ok(Start {
        mark: fresh,
        is_fresh: true,
    })
}

/// Decides whether an index is built beside the current one. The build of an earlier run continues if it can.
fn next_start(
    shared: &Shared,
    current: Watermark,
    fresh: Watermark,
) -> Result<Option<Start>, Broken> {
    let index = &shared.index;
    let is_asked = shared.is_asked.swap(false, Ordering::SeqCst);
    let is_in_place = current.rebuilt_to.is_some();
    if !is_in_place
        && let Some(mark) = index.next_watermark()
        && shared.continues(mark)?
    {
        return Ok(Some(Start {
            mark,
            is_fresh: false,
        }));
    }
    // An index that is being built in place is already up to date.
    if is_in_place || !is_asked && index.is_up_to_date() {
        index.drop_next()?;
        return Ok(None);
    }
    let unbuilt = index.unbuilt();
    let unbuilt: Vec<&str> = unbuilt.iter().map(|field| &*field.name).collect();
    tracing::info!(
        last_change = fresh.change,
        is_up_to_date = index.is_up_to_date(),
        fields_unbuilt = unbuilt.join(", "),
        "a new index is built beside the current one"
    );
    index.begin_next()?;
    Ok(Some(Start {
        mark: fresh,
        is_fresh: true,
    }))
}
