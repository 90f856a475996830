//! Passes jobs from durable rows to workers, through five bounded channels. Fast workers take three of them:
//! the priority lane, the normal lane, then the lane of reprocessing for late symbols. The other two go to
//! separate workers: slow jobs, and jobs that take even longer or may kill the server.
//!
//! The table in the store is the queue. A channel carries the jobs that the store has handed out.
//! [`queue`] creates both ends. The store's writer fills the channels up to their capacity, and workers
//! empty them.

use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, never, select_biased};

use crate::store::{Job, JobSink, Lane};

/// The writer's end.
pub struct Lanes {
    priority: Sender<Job>,
    normal: Sender<Job>,
    mend: Sender<Job>,
    slow: Sender<Job>,
    slowest: Sender<Job>,
}

/// A worker's end. Clones share the channels.
#[derive(Clone)]
pub struct Jobs {
    priority: Receiver<Job>,
    normal: Receiver<Job>,
    mend: Receiver<Job>,
    slow: Receiver<Job>,
    slowest: Receiver<Job>,
    /// Workers are behind while this many jobs wait in one lane of the fast workers.
    behind_at: usize,
    stop: Receiver<()>,
}

/// Dropping this stops every [`Jobs`], including the jobs in the channels.
pub struct Stop(#[allow(dead_code, reason = "dropping it is the signal")] Sender<()>);

/// Jobs that wait in each channel, not counting those that workers have taken. The store hands out jobs when
/// it commits, which it does ten times a second. Meanwhile the workers must not run out of jobs.
pub const PLACES: usize = 512;

/// `places` is the capacity of each lane. Workers are behind while `behind_at` jobs wait in one lane of the
/// fast workers.
pub fn queue(places: usize, behind_at: usize) -> (Lanes, Jobs, Stop) {
    let (priority_in, priority) = bounded(places);
    let (normal_in, normal) = bounded(places);
    let (mend_in, mend) = bounded(places);
    let (slow_in, slow) = bounded(places);
    let (slowest_in, slowest) = bounded(places);
    let (stop_in, stop) = bounded(0);
    (
        Lanes {
            priority: priority_in,
            normal: normal_in,
            mend: mend_in,
            slow: slow_in,
            slowest: slowest_in,
        },
        Jobs {
            priority,
            normal,
            mend,
            slow,
            slowest,
            behind_at,
            stop,
        },
        Stop(stop_in),
    )
}

impl Lanes {
    fn channel(&self, lane: Lane) -> &Sender<Job> {
        match lane {
            Lane::Priority => &self.priority,
            Lane::Normal => &self.normal,
            Lane::Reprocess => &self.mend,
            Lane::Slow => &self.slow,
            Lane::Slowest | Lane::Suspect => &self.slowest,
        }
    }
}

impl JobSink for Lanes {
    fn free(&self, lane: Lane) -> usize {
        let channel = self.channel(lane);
        channel
            .capacity()
            .unwrap_or(0)
            .saturating_sub(channel.len())
    }

    fn send(&self, job: Job) {
        // The writer never sends more jobs than there is room for. If the workers are gone, the store
        // requeues the job when it closes.
        let _ = self.channel(job.lane).try_send(job);
    }
}

impl Jobs {
    /// The next job of any lane: the priority lane first, the slowest lane last. `None` if the queue is
    /// stopped.
    pub fn next(&self) -> Option<Job> {
        self.take(|_| true)
    }

    /// The next job for a fast worker.
    pub fn next_quick(&self) -> Option<Job> {
        self.take(|lane| Lane::QUICK.contains(&lane))
    }

    /// The next job for a slow worker.
    pub fn next_slow(&self) -> Option<Job> {
        self.take(|lane| lane == Lane::Slow)
    }

    /// The next job for the last worker: the slowest jobs and suspects. So suspects delay no other crash.
    pub fn next_slowest(&self) -> Option<Job> {
        self.take(|lane| lane == Lane::Slowest)
    }

    fn take(&self, is_wanted: impl Fn(Lane) -> bool) -> Option<Job> {
        let open = |lane, channel: &Receiver<Job>| {
            if is_wanted(lane) {
                channel.clone()
            } else {
                never()
            }
        };
        let mut priority = open(Lane::Priority, &self.priority);
        let mut normal = open(Lane::Normal, &self.normal);
        let mut mend = open(Lane::Reprocess, &self.mend);
        let mut slow = open(Lane::Slow, &self.slow);
        let mut slowest = open(Lane::Slowest, &self.slowest);
        loop {
            select_biased! {
                recv(self.stop) -> _ => return None,
                recv(priority) -> job => match job {
                    Ok(job) => return Some(job),
                    Err(_) => priority = never(),
                },
                recv(normal) -> job => match job {
                    Ok(job) => return Some(job),
                    Err(_) => normal = never(),
                },
                recv(mend) -> job => match job {
                    Ok(job) => return Some(job),
                    Err(_) => mend = never(),
                },
                recv(slow) -> job => match job {
                    Ok(job) => return Some(job),
                    Err(_) => slow = never(),
                },
                recv(slowest) -> job => match job {
                    Ok(job) => return Some(job),
                    Err(_) => slowest = never(),
                },
            }
        }
    }

    /// Waits for at most `wait`. Returns true if the queue is stopped.
    pub(crate) fn stopped_within(&self, wait: Duration) -> bool {
        !matches!(self.stop.recv_timeout(wait), Err(RecvTimeoutError::Timeout))
    }

    /// True if more jobs wait for the fast workers than these can take at once.
    pub fn is_behind(&self) -> bool {
        let lanes = [&self.priority, &self.normal, &self.mend];
        lanes.iter().any(|lane| lane.len() >= self.behind_at)
    }

    /// Jobs in the channels, which no worker has taken yet.
    pub fn waiting(&self) -> usize {
        let lanes = [
            &self.priority,
            &self.normal,
            &self.mend,
            &self.slow,
            &self.slowest,
        ];
        lanes.map(Receiver::len).iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crash::id::CrashId;

    fn job(seq: u64, lane: Lane) -> Job {
        Job {
            seq,
            id: CrashId::from_bits(0),
            life: 1,
            attempt: 1,
            faults: 0,
            lane,
            set_aside: false,
        }
    }

    #[test]
    fn the_priority_lane_goes_first_and_the_room_is_bounded() {
        let (lanes, jobs, _stop) = queue(2, 2);
        lanes.send(job(1, Lane::Normal));
        lanes.send(job(2, Lane::Normal));
        lanes.send(job(3, Lane::Priority));
        assert_eq!(
            (lanes.free(Lane::Normal), lanes.free(Lane::Priority)),
            (0, 1)
        );
        lanes.send(job(4, Lane::Reprocess));
        let order: Vec<u64> = (0..4).filter_map(|_| jobs.next()).map(|j| j.seq).collect();
        assert_eq!(order, [3, 1, 2, 4]);
    }

    #[test]
    fn what_takes_long_has_takers_of_its_own() {
        let (lanes, jobs, stop) = queue(2, 2);
        lanes.send(job(1, Lane::Slow));
        lanes.send(job(2, Lane::Suspect));
        lanes.send(job(3, Lane::Slowest));
        assert_eq!(lanes.free(Lane::Suspect), 0);
        lanes.send(job(4, Lane::Reprocess));
        assert_eq!(jobs.next_slow().map(|j| j.seq), Some(1));
        assert_eq!(jobs.next_slowest().map(|j| j.seq), Some(2));
        assert_eq!(jobs.next_quick().map(|j| j.seq), Some(4));
        assert_eq!(jobs.waiting(), 1);
        drop(stop);
        assert_eq!(jobs.next_quick(), None);
    }

    #[test]
    fn a_stop_comes_before_waiting_jobs() {
        let (lanes, jobs, stop) = queue(2, 2);
        lanes.send(job(1, Lane::Normal));
        drop(stop);
        assert_eq!(jobs.next(), None);
        assert_eq!(jobs.waiting(), 1);
    }
}
