//! The states of a crash, and the steps between them, inside one write transaction.
//!
//! ```text
//!             accept                     finish
//!   (client) -------> queued (ready) ------------> processed | failed
//!            \           ^   | ^                        |
//!             \          |   '-' fault, slow           |
//!              `-> deferred                            |
//!                        `-- prioritize, reprocess <---'
//! ```
//!
//! A crash that a worker has keeps its state in the database; see [`super::in_flight`]. A worker's answer
//! counts only while its attempt is the current one. Execution is at-least-once, effects are exactly-once.
//! These files have the commands that take a crash through its states: [`super::accept`],
//! [`super::results`] (of workers), [`super::prioritize`], [`super::reprocess`], [`super::delete`].

use redb::ReadableTable;

use super::batch::Batch;
use super::crashes::StoredCrash;
use super::error::StoreError;
use super::in_flight::Started;
use super::rows::{self, Lane, State};
use super::txn::Txn;
use crate::crash::id::CrashId;
use crate::limits;

/// A crash that was handed to a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    pub seq: u64,
    pub id: CrashId,
    /// The number of the server process that handed it out. Later processes have higher numbers.
    pub life: u64,
    /// The number of this attempt. It rises with every answer of a worker and every death of the server. A
    /// worker's answer must contain it.
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
            // Only earlier versions of the program stored this state.
            State::Processing => {}
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

    /// The row of a job, if its attempt is the current one; `None` if its answer comes too late to count. The
    /// job is no longer in flight after this.
    pub(super) fn end_attempt(
        &mut self,
        job: &Job,
        batch: &mut Batch,
    ) -> Result<Option<StoredCrash>, StoreError> {
        let current = batch.in_flight.get(&job.seq).map(|attempt| attempt.number);
        if current != Some(job.attempt) || batch.life != job.life {
            return Ok(None);
        }
        batch.in_flight.remove(&job.seq);
        if self.crashes.get(job.seq)?.is_none() {
            return Ok(None);
        }
        let mut row = self.row(job.seq)?;
        row.attempts = job.attempt;
        Ok(Some(row))
    }

    /// Counts the death of the server against the crashes that workers had started. Returns their number.
    pub(crate) fn count_death<'s>(
        &mut self,
        started: impl Iterator<Item = &'s Started>,
    ) -> Result<usize, StoreError> {
        let mut counted = 0;
        for started in started {
            let row = match self.crashes.get(started.seq)? {
                Some(row) => rows::decode_or_skip::<StoredCrash>(row.value()),
                None => None,
            };
            // If the attempt is stored, the worker had given its answer.
            let Some(row) = row.filter(|row| row.attempts < started.attempt) else {
                continue;
            };
            counted += 1;
            let seq = started.seq;
            let deaths = row.server_deaths.saturating_add(1);
            let is_suspect = deaths >= limits::SERVER_DEATHS_SUSPECT;
            if is_suspect {
                self.begin_reprocessing(seq)?;
            }
            self.transition(seq, row, |row| {
                row.attempts = started.attempt;
                row.server_deaths = deaths;
                if is_suspect {
                    row.state = State::Queued;
                    row.lane = Lane::Suspect;
                }
            })?;
        }
        Ok(counted)
    }

    /// Queues the crashes that an earlier version of the program had in the table `working` when it died.
    /// Its death counts against each of them. Returns their number.
    pub(crate) fn empty_working(&mut self) -> Result<usize, StoreError> {
        let mut in_flight = Vec::new();
        for entry in self.working.iter()? {
            in_flight.push(entry?.0.value());
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
                row.server_deaths = row.server_deaths.saturating_add(1);
                if row.server_deaths >= limits::SERVER_DEATHS_SUSPECT {
                    row.lane = Lane::Suspect;
                }
            })?;
        }
        Ok(in_flight.len())
    }
}
