//! From durable rows to workers, by four bounded channels: a priority lane before the normal one, what
//! may get a better result behind both, and beside them what takes long or may bring the server down.
//!
//! The table in the store is the queue; a channel only carries what the store has handed out
//! durably. [`queue`] makes both ends: the store's writer fills the channels as far as they have
//! room, workers empty them.

use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, never, select_biased};

use crate::store::{Job, JobSink, Lane};

/// The writer's end.
pub struct Lanes {
    priority: Sender<Job>,
    normal: Sender<Job>,
    mend: Sender<Job>,
    slow: Sender<Job>,
}

/// A worker's end. Clones share the channels.
#[derive(Clone)]
pub struct Jobs {
    priority: Receiver<Job>,
    normal: Receiver<Job>,
    mend: Receiver<Job>,
    slow: Receiver<Job>,
    stop: Receiver<()>,
}

/// Stops every [`Jobs`] when it is dropped, jobs in the channels included.
pub struct Stop(#[allow(dead_code, reason = "dropping it is the signal")] Sender<()>);

/// `places` is how many jobs each lane holds beside those that workers have taken: one a worker
/// keeps them busy, more would only grow what a kill throws back.
pub fn queue(places: usize) -> (Lanes, Jobs, Stop) {
    let (priority_in, priority) = bounded(places);
    let (normal_in, normal) = bounded(places);
    let (mend_in, mend) = bounded(places);
    let (slow_in, slow) = bounded(places);
    let (stop_in, stop) = bounded(0);
    (
        Lanes {
            priority: priority_in,
            normal: normal_in,
            mend: mend_in,
            slow: slow_in,
        },
        Jobs {
            priority,
            normal,
            mend,
            slow,
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
            Lane::Mend => &self.mend,
            Lane::Slow | Lane::Suspect => &self.slow,
        }
    }
}

impl JobSink for Lanes {
    fn room(&self, lane: Lane) -> usize {
        let channel = self.channel(lane);
        channel
            .capacity()
            .unwrap_or(0)
            .saturating_sub(channel.len())
    }

    fn send(&self, job: Job) {
        // The writer never sends more than there is room; a job that finds its workers gone is
        // taken back when the store is closed.
        let _ = self.channel(job.lane).try_send(job);
    }
}

impl Jobs {
    /// The next job: the priority lane first, what takes long last; `None` when it is time to end.
    pub fn next(&self) -> Option<Job> {
        self.take(true, true)
    }

    /// The same without what takes long.
    pub fn next_quick(&self) -> Option<Job> {
        self.take(true, false)
    }

    /// The next of those that take long; suspects are among them, so that they too hold nobody up.
    pub fn next_slow(&self) -> Option<Job> {
        self.take(false, true)
    }

    fn take(&self, with_quick: bool, with_slow: bool) -> Option<Job> {
        let open = |is_wanted: bool, channel: &Receiver<Job>| match is_wanted {
            true => channel.clone(),
            false => never(),
        };
        let mut priority = open(with_quick, &self.priority);
        let mut normal = open(with_quick, &self.normal);
        let mut mend = open(with_quick, &self.mend);
        let mut slow = open(with_slow, &self.slow);
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
            }
        }
    }

    /// Waits, and tells whether it is time to end.
    pub fn stopped_within(&self, wait: Duration) -> bool {
        !matches!(self.stop.recv_timeout(wait), Err(RecvTimeoutError::Timeout))
    }

    /// Jobs handed out that no worker has taken yet.
    pub fn waiting(&self) -> usize {
        self.priority.len() + self.normal.len() + self.mend.len() + self.slow.len()
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
            attempt: 1,
            faults: 0,
            lane,
            set_aside: false,
        }
    }

    #[test]
    fn the_priority_lane_goes_first_and_the_room_is_bounded() {
        let (lanes, jobs, _stop) = queue(2);
        lanes.send(job(1, Lane::Normal));
        lanes.send(job(2, Lane::Normal));
        lanes.send(job(3, Lane::Priority));
        assert_eq!(
            (lanes.room(Lane::Normal), lanes.room(Lane::Priority)),
            (0, 1)
        );
        lanes.send(job(4, Lane::Mend));
        let order: Vec<u64> = (0..4).filter_map(|_| jobs.next()).map(|j| j.seq).collect();
        assert_eq!(order, [3, 1, 2, 4]);
    }

    #[test]
    fn what_takes_long_has_takers_of_its_own() {
        let (lanes, jobs, stop) = queue(2);
        lanes.send(job(1, Lane::Slow));
        lanes.send(job(2, Lane::Suspect));
        assert_eq!(lanes.room(Lane::Suspect), 0);
        lanes.send(job(3, Lane::Mend));
        assert_eq!(jobs.next_slow().map(|j| j.seq), Some(1));
        assert_eq!(jobs.next_quick().map(|j| j.seq), Some(3));
        drop(stop);
        assert_eq!(jobs.next_quick(), None);
    }

    #[test]
    fn a_stop_comes_before_waiting_jobs() {
        let (lanes, jobs, stop) = queue(2);
        lanes.send(job(1, Lane::Normal));
        drop(stop);
        assert_eq!(jobs.next(), None);
        assert_eq!(jobs.waiting(), 1);
    }
}
