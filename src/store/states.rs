//! The states of a crash, and the steps between them, inside one write transaction.
//!
//! ```text
//!             accept                    claim              finish
//!   (client) -------> queued (ready) --------> processing --------> processed | failed
//!            \           ^   ^   ^                |   |                   |
//!             \          |   |   `- fault, slow --'   |                   |
//!              \         |   `------- take back ------'                   |
//!               `-> deferred                                              |
//!                        `------- prioritize, reprocess <-----------------'
//! ```
//!
//! A worker's answer counts only while its (seq, attempt) is in `working`. Execution is at-least-once,
//! effects are exactly-once. These files have the commands that take a crash through its states:
//! [`super::accept`], [`super::results`] (of workers), [`super::prioritize`], [`super::reprocess`],
//! [`super::delete`].

use redb::ReadableTable;

use super::crashes::StoredCrash;
use super::error::StoreError;
use super::rows::{Lane, State};
use super::txn::Txn;
use crate::crash::id::CrashId;
use crate::limits;

/// A crash that was handed to a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    pub seq: u64,
    pub id: CrashId,
    /// How often the crash was handed out, including this time. The worker's answer must contain it.
    pub attempt: u32,
    /// Faults counted before this attempt.
    pub faults: u8,
    pub lane: Lane,
    /// True if the server died too often while it processed this crash. The worker then finishes the crash
    /// without a walk.
    pub set_aside: bool,
}

impl Txn<'_> {
    pub(super) fn count(&mut self, state: State, delta: i64) -> Result<(), StoreError> {
        let now = self.states.get(state as u8)?.map_or(0, |v| v.value());
        self.states
            .insert(state as u8, now.saturating_add_signed(delta))?;
        Ok(())
    }

    /// Removes the crash from the table of its state.
    pub(super) fn leave(&mut self, seq: u64, row: &StoredCrash) -> Result<(), StoreError> {
        match row.state {
            State::Queued => drop(self.ready.remove((row.lane as u8, seq))?),
            State::Processing => drop(self.working.remove(seq)?),
            State::Deferred => {
                if let Some(until) = row.deferred_until_ms {
                    self.deferred.remove((until, seq))?;
                }
            }
            State::Processed | State::Failed => {}
        }
        Ok(())
    }

    /// Inserts the crash into the table of its state.
    pub(super) fn enter(&mut self, seq: u64, row: &StoredCrash) -> Result<(), StoreError> {
        match row.state {
            State::Queued => drop(self.ready.insert((row.lane as u8, seq), ())?),
            State::Processing => drop(self.working.insert(seq, row.attempts)?),
            State::Deferred => {
                if let Some(until) = row.deferred_until_ms {
                    self.deferred.insert((until, seq), ())?;
                }
            }
            State::Processed | State::Failed => {}
        }
        Ok(())
    }

    /// Moves a crash between states. `change` edits the row; tables and counts follow it.
    pub(super) fn transition(
        &mut self,
        seq: u64,
        mut row: StoredCrash,
        change: impl FnOnce(&mut StoredCrash),
    ) -> Result<StoredCrash, StoreError> {
        self.leave(seq, &row)?;
        self.count(row.state, -1)?;
        change(&mut row);
        self.enter(seq, &row)?;
        self.count(row.state, 1)?;
        self.put(seq, &row)?;
        Ok(row)
    }

    /// Hands out the oldest crash of a lane. A crash with a damaged row is removed from the queue, so that it
    /// does not block the others.
    pub(crate) fn claim(&mut self, lane: Lane) -> Result<Option<Job>, StoreError> {
        loop {
            let first = self
                .ready
                .range((lane as u8, 0)..=(lane as u8, u64::MAX))?
                .next();
            let Some(entry) = first.transpose()? else {
                return Ok(None);
            };
            let (_, seq) = entry.0.value();
            drop(entry);
            let row = match self.row(seq) {
                Err(error @ (StoreError::Damaged(_) | StoreError::Newer(_))) => {
                    tracing::error!(seq, %error, "removed a damaged crash from the queue");
                    self.ready.remove((lane as u8, seq))?;
                    self.count(State::Queued, -1)?;
                    continue;
                }
                other => other?,
            };
            return self.hand_out(seq, row, lane).map(Some);
        }
    }

    /// Moves a crash to `working` and returns its job.
    pub(super) fn hand_out(
        &mut self,
        seq: u64,
        row: StoredCrash,
        lane: Lane,
    ) -> Result<Job, StoreError> {
        let row = self.transition(seq, row, |row| {
            row.state = State::Processing;
            row.attempts = row.attempts.saturating_add(1);
            row.lane = lane;
        })?;
        Ok(Job {
            seq,
            id: row.id,
            attempt: row.attempts,
            faults: row.faults,
            lane,
            set_aside: row.server_deaths >= limits::SERVER_DEATHS_MAX,
        })
    }

    /// The row of a job; `None` if its answer comes too late to count.
    pub(super) fn in_flight(&self, job: &Job) -> Result<Option<StoredCrash>, StoreError> {
        let attempt = self.working.get(job.seq)?.map(|attempt| attempt.value());
        let is_current = attempt == Some(job.attempt);
        is_current.then(|| self.row(job.seq)).transpose()
    }

    /// Returns the crashes in flight to the queue, except those (seq and attempt) for which `keep` returns
    /// true. If `died`, the server did not stop in order, so its death counts against each of them. Returns
    /// their number.
    pub(crate) fn take_back(
        &mut self,
        died: bool,
        keep: impl Fn(u64, u32) -> bool,
    ) -> Result<usize, StoreError> {
        let mut in_flight = Vec::new();
        for entry in self.working.iter()? {
            let (seq, attempt) = entry?;
            if !keep(seq.value(), attempt.value()) {
                in_flight.push(seq.value());
            }
        }
        for &seq in &in_flight {
            let row = match self.row(seq) {
                Err(error @ (StoreError::Damaged(_) | StoreError::Newer(_))) => {
                    tracing::error!(seq, %error, "a damaged crash is no longer in flight");
                    self.working.remove(seq)?;
                    self.count(State::Processing, -1)?;
                    continue;
                }
                other => other?,
            };
            self.transition(seq, row, |row| {
                row.state = State::Queued;
                if died {
                    row.server_deaths = row.server_deaths.saturating_add(1);
                    if row.server_deaths >= limits::SERVER_DEATHS_SUSPECT {
                        row.lane = Lane::Suspect;
                    }
                }
            })?;
        }
        Ok(in_flight.len())
    }
}
