//! Crashes that somebody waits for: they go to the priority lane.

use super::batch::Batch;
use super::command::Command;
use super::error::StoreError;
use super::handle::Store;
use super::rows::{Lane, State};
use super::txn::Txn;
use crate::crash::id::CrashId;

/// The result of prioritizing a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prioritized {
    Unknown,
    /// The crash is queued: in the priority lane, or in the suspects' lane if it is a suspect.
    Queued,
}

impl Store {
    /// Moves a crash to the priority lane: promotes a deferred crash, reprocesses a finished one, and
    /// restarts one that is being processed.
    ///
    /// # Errors
    /// The store cannot be written, or this crash is damaged.
    pub fn prioritize(&self, id: CrashId) -> Result<Prioritized, StoreError> {
        self.ask(Prioritize(id))
    }

    /// Does the same for many crashes, in as few transactions as possible. The answers are in the order of
    /// `ids`.
    ///
    /// # Errors
    /// As for one crash. The others may be in the priority lane.
    pub(crate) fn prioritize_all(&self, ids: &[CrashId]) -> Result<Vec<Prioritized>, StoreError> {
        self.ask_all(ids.iter().copied().map(Prioritize))
    }
}

struct Prioritize(CrashId);

impl Command for Prioritize {
    type Answer = Prioritized;

    fn apply(&self, txn: &mut Txn, batch: &mut Batch) -> Result<Prioritized, StoreError> {
        let Some(seq) = txn.seq_of(self.0)? else {
            return Ok(Prioritized::Unknown);
        };
        let row = txn.row(seq)?;
        if row.state == State::Deferred {
            // The index has it as a deferred crash.
            txn.changed(seq)?;
        }
        let attempt = batch.in_flight.remove(&seq);
        txn.transition(seq, row, |row| {
            row.state = State::Queued;
            // The answer to the attempt in progress no longer counts.
            row.attempts = attempt.map_or(row.attempts, |attempt| attempt.number);
            // A suspect stays a suspect, because waiting for it does not make it harmless.
            if row.lane != Lane::Suspect {
                row.lane = Lane::Priority;
            }
            row.faults = 0;
            row.deferred_until_ms = None;
        })?;
        Ok(Prioritized::Queued)
    }
}
