//! Which crashes are handed out to workers. A claim writes nothing: see [`super::in_flight`].

use std::collections::HashSet;

use redb::{ReadOnlyTable, ReadTransaction};

use super::batch::Batch;
use super::command::Command;
use super::crashes::StoredCrash;
use super::error::StoreError;
use super::in_flight::Attempts;
use super::rows::{self, Lane, State};
use super::states::Job;
use super::tables::*;
use super::txn::Txn;
use crate::limits;

/// Where the writer sends jobs. Only the writer sends, so the number of free places can only grow between
/// `free` and `send`.
pub trait JobSink: Send {
    /// Number of jobs of a lane that can be sent now without blocking.
    fn free(&self, lane: Lane) -> usize;
    fn send(&self, job: Job);
}

/// Chooses the jobs that are handed out next.
pub(crate) struct Claim<'c> {
    /// Number of this server process.
    pub(crate) life: u64,
    /// Free places in each lane's channel.
    pub(crate) places: [usize; Lane::ALL.len()],
    /// Whether a suspect may be handed out. Only one at a time may.
    pub(crate) suspect: bool,
    /// The crashes that workers have.
    pub(crate) in_flight: &'c Attempts,
    /// The crashes that cannot be handed out.
    pub(crate) unclaimable: &'c mut HashSet<Unclaimable>,
}

/// A job, and the state of its crash in the database.
pub(crate) struct Claimed {
    pub(crate) job: Job,
    pub(crate) state: State,
}

/// A crash in a queue that cannot be handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Unclaimable {
    /// Its row is missing or damaged.
    Queued { lane: Lane, seq: u64 },
    /// It waits for reprocessing, but is queued already, or its row is missing or damaged.
    Reprocess { seq: u64 },
}

impl Claim<'_> {
    /// Fills the workers' channels from the lanes, priority first.
    pub(crate) fn jobs(mut self, read: &ReadTransaction) -> Result<Vec<Claimed>, StoreError> {
        let mut jobs = Vec::new();
        if self.places == [0; Lane::ALL.len()] {
            return Ok(jobs);
        }
        let ready = read.open_table(READY)?;
        let crashes = read.open_table(CRASHES)?;
        for lane in Lane::QUICK.into_iter().chain([Lane::Slow]) {
            let places = self.places[lane as usize];
            self.places[lane as usize] -= self.fill(lane, places, &ready, &crashes, &mut jobs)?;
        }
        // A suspect uses a place of the slowest lane, because it may take as long.
        let slowest = self.places[Lane::Slowest as usize];
        let suspects = slowest.min(usize::from(self.suspect));
        let slowest = slowest - self.fill(Lane::Suspect, suspects, &ready, &crashes, &mut jobs)?;
        self.fill(Lane::Slowest, slowest, &ready, &crashes, &mut jobs)?;
        let places = self.places[Lane::Reprocess as usize];
        self.fill_reprocessing(places, read, &crashes, &mut jobs)?;
        Ok(jobs)
    }

    /// Adds the oldest crashes of a lane. Returns how many.
    fn fill(
        &mut self,
        lane: Lane,
        places: usize,
        ready: &ReadOnlyTable<(u8, u64), ()>,
        crashes: &ReadOnlyTable<u64, &'static [u8]>,
        jobs: &mut Vec<Claimed>,
    ) -> Result<usize, StoreError> {
        if places == 0 {
            return Ok(0);
        }
        let before = jobs.len();
        for entry in ready.range((lane as u8, 0)..=(lane as u8, u64::MAX))? {
            if jobs.len() == before + places {
                break;
            }
            let (_, seq) = entry?.0.value();
            let unclaimable = Unclaimable::Queued { lane, seq };
            if self.in_flight.contains_key(&seq) || self.unclaimable.contains(&unclaimable) {
                continue;
            }
            match readable(crashes, seq)? {
                Some(row) => jobs.push(self.claimed(seq, &row, lane)),
                None => drop(self.unclaimable.insert(unclaimable)),
            }
        }
        Ok(jobs.len() - before)
    }

    /// Adds the newest crashes that wait for reprocessing.
    fn fill_reprocessing(
        &mut self,
        places: usize,
        read: &ReadTransaction,
        crashes: &ReadOnlyTable<u64, &'static [u8]>,
        jobs: &mut Vec<Claimed>,
    ) -> Result<(), StoreError> {
        if places == 0 {
            return Ok(());
        }
        let until = jobs.len() + places;
        for entry in read.open_table(REPROCESS_WAITING)?.range::<u64>(..)? {
            if jobs.len() == until {
                break;
            }
            let seq = order(entry?.0.value());
            let unclaimable = Unclaimable::Reprocess { seq };
            if self.in_flight.contains_key(&seq) || self.unclaimable.contains(&unclaimable) {
                continue;
            }
            let row = readable(crashes, seq)?;
            match row.filter(|row| matches!(row.state, State::Processed | State::Failed)) {
                Some(row) => jobs.push(self.claimed(seq, &row, Lane::Reprocess)),
                // Somebody prioritized the crash since, and that processing uses the new symbols.
                None => drop(self.unclaimable.insert(unclaimable)),
            }
        }
        Ok(())
    }

    fn claimed(&self, seq: u64, row: &StoredCrash, lane: Lane) -> Claimed {
        let job = Job {
            seq,
            id: row.id,
            life: self.life,
            attempt: row.attempts.saturating_add(1),
            faults: row.faults,
            lane,
            set_aside: row.server_deaths >= limits::SERVER_DEATHS_MAX,
        };
        let state = row.state;
        Claimed { job, state }
    }
}

/// The row of a crash; `None` if it is missing or cannot be read.
fn readable(
    crashes: &ReadOnlyTable<u64, &'static [u8]>,
    seq: u64,
) -> Result<Option<StoredCrash>, StoreError> {
    let row = crashes.get(seq)?;
    Ok(row.and_then(|row| rows::decode_or_skip(row.value())))
}

/// The key in the table of crashes that wait for reprocessing. It sorts the newest crash first.
pub(super) fn order(seq: u64) -> u64 {
    u64::MAX - seq
}

/// Removes crashes from their queues that cannot be handed out.
pub(crate) struct Unqueue(pub(crate) Vec<Unclaimable>);

impl Command for Unqueue {
    type Answer = ();

    fn apply(&self, txn: &mut Txn, batch: &mut Batch) -> Result<(), StoreError> {
        for crash in &self.0 {
            match *crash {
                Unclaimable::Queued { lane, seq } => {
                    if txn.ready.remove((lane as u8, seq))?.is_some() {
                        tracing::error!(seq, "removed a damaged crash from the queue");
                        txn.count(State::Queued, -1)?;
                    }
                }
                Unclaimable::Reprocess { seq } => txn.skip_reprocessing(seq, batch.now)?,
            }
        }
        Ok(())
    }
}
