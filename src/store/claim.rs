//! Which crashes a batch hands out to workers.

use super::error::StoreError;
use super::rows::Lane;
use super::states::Job;
use super::txn::Txn;
use crate::clock::Timestamp;

/// Where the writer sends jobs. Only the writer sends, so the number of free places can only grow between
/// `free` and `send`.
pub trait JobSink: Send {
    /// Number of jobs of a lane that can be sent now without blocking.
    fn free(&self, lane: Lane) -> usize;
    fn send(&self, job: Job);
    /// Called after each batch with true if at least one lane of the fast workers is full.
    fn is_behind(&self, is_behind: bool);
}

/// The jobs that a batch hands out to workers.
#[derive(Default)]
pub(crate) struct HandedOut {
    pub(crate) jobs: Vec<Job>,
    /// See [`JobSink::is_behind`].
    pub(crate) is_behind: bool,
}

/// How many jobs may be handed out.
pub(crate) struct Free {
    /// Free places in each lane's channel.
    pub(crate) places: [usize; Lane::ALL.len()],
    /// Whether a suspect may be handed out. Only one at a time may.
    pub(crate) suspect: bool,
}

impl Free {
    /// Fills the workers' channels from the lanes, priority first.
    pub(crate) fn claim(mut self, txn: &mut Txn, now: Timestamp) -> Result<HandedOut, StoreError> {
        let mut jobs = Vec::new();
        for lane in Lane::QUICK.into_iter().chain([Lane::Slow]) {
            self.fill(lane, &mut jobs, || txn.claim(lane))?;
        }
        // A suspect uses a place of the slowest lane, because it may take as long.
        let slowest = &mut self.places[Lane::Slowest as usize];
        if self.suspect
            && *slowest > 0
            && let Some(job) = txn.claim(Lane::Suspect)?
        {
            *slowest -= 1;
            jobs.push(job);
        }
        self.fill(Lane::Slowest, &mut jobs, || txn.claim(Lane::Slowest))?;
        self.fill(Lane::Reprocess, &mut jobs, || txn.claim_reprocessing(now))?;
        let is_full = |lane: &Lane| self.places[*lane as usize] == 0;
        let is_behind = Lane::QUICK.iter().any(is_full);
        Ok(HandedOut { jobs, is_behind })
    }

    fn fill(
        &mut self,
        lane: Lane,
        jobs: &mut Vec<Job>,
        mut claim: impl FnMut() -> Result<Option<Job>, StoreError>,
    ) -> Result<(), StoreError> {
        let places = &mut self.places[lane as usize];
        while *places > 0 {
            let Some(job) = claim()? else { break };
            *places -= 1;
            jobs.push(job);
        }
        Ok(())
    }
}
