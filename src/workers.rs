//! The fixed pool: each worker thread takes a job, has its walker walk the dump, and hands the
//! processed crash to the store.
//!
//! A walker is a child process that only its own worker starts, uses and kills. When it dies or
//! overruns, the fault is counted against the crash; after [`limits::FAULTS_MAX`] the crash is
//! given up and finished as failed, with the reason. A worker itself never walks and never dies
//! of a dump.
//!
//! There are twice as many workers as are to be busy, and a seat for each that is to be. Whoever takes
//! jobs holds a seat, and keeps it until a walk takes [`SLOW_AFTER`]: then that walk goes on without one, at
//! the lowest priority, and a spare worker takes the next job. So dumps that hang hold nobody up, unless
//! there are as many of them as spare workers; and without such dumps the spare ones start no walker.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::clock::{Clock, Timestamp};
use crate::crash::id::CrashId;
use crate::crash::raw::RawCrash;
use crate::limits;
use crate::metrics::Metrics;
use crate::naming::Naming;
use crate::process::{self, Input, Walked};
use crate::queue::{Jobs, Stop};
use crate::stackwalk::{Walker, WalkerFault, WalkerOptions};
use crate::store::{CrashRow, Finished, Job, Payload, Store};

/// Between two tries to start a walker that cannot be started.
const RESTART_EVERY: Duration = Duration::from_secs(1);

/// What a walk may take before it gives its seat up: many times what honest dumps take.
const SLOW_AFTER: Duration = Duration::from_secs(2);

/// What a worker does, for the status page.
#[derive(Clone, Debug, Default)]
pub struct WorkerStatus {
    pub busy_with: Option<CrashId>,
    pub busy_since: Option<Timestamp>,
    /// The walker process, if one is running.
    pub walker_pid: Option<u32>,
    pub finished: u64,
    pub faults: u64,
}

pub struct Pool {
    /// Workers that are to be busy; those behind them are spare.
    count: usize,
    statuses: Vec<Arc<Mutex<WorkerStatus>>>,
    jobs: Jobs,
    threads: Mutex<Vec<JoinHandle<()>>>,
    stop: Mutex<Option<Stop>>,
    /// Disconnects when every worker has ended.
    ended: Receiver<()>,
}

/// What all workers share.
#[derive(Clone)]
pub struct PoolParts {
    pub store: Arc<Store>,
    pub naming: Arc<Naming>,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
    pub walker: WalkerOptions,
}

impl Pool {
    pub fn start(count: usize, parts: PoolParts, jobs: Jobs, stop: Stop) -> std::io::Result<Self> {
        let (alive, ended) = bounded::<()>(0);
        let seats = Seats::new(count);
        let mut threads = Vec::new();
        let mut statuses = Vec::new();
        for number in 1..=count * 2 {
            let status = Arc::new(Mutex::new(WorkerStatus::default()));
            statuses.push(status.clone());
            let (parts, jobs, alive) = (parts.clone(), jobs.clone(), alive.clone());
            let seats = seats.clone();
            let seat = (number <= count).then(|| seats.seat());
            let thread = std::thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || {
                    let _alive = alive;
                    Worker {
                        walker: Walker::new(parts.walker.clone()),
                        parts,
                        jobs,
                        seats,
                        status,
                    }
                    .run(seat);
                })?;
            threads.push(thread);
        }
        Ok(Self {
            count,
            statuses,
            jobs,
            threads: Mutex::new(threads),
            stop: Mutex::new(Some(stop)),
            ended,
        })
    }

    /// Every worker; spare ones only once they have had something to do.
    pub fn status(&self) -> Vec<WorkerStatus> {
        self.statuses
            .iter()
            .map(|s| s.lock().unwrap_or_else(|e| e.into_inner()).clone())
            .enumerate()
            .filter(|(index, s)| *index < self.count || s.busy_with.is_some() || s.finished > 0)
            .map(|(_, status)| status)
            .collect()
    }

    /// Jobs handed out that no worker has taken yet.
    pub fn waiting(&self) -> usize {
        self.jobs.waiting()
    }

    /// Lets each worker end its job, for at most `grace`. What is then still being walked is
    /// taken back by the store when it closes, and walked again after the next start.
    pub fn stop(&self, grace: Duration) {
        self.stop.lock().unwrap_or_else(|e| e.into_inner()).take();
        if let Err(RecvTimeoutError::Timeout) = self.ended.recv_timeout(grace) {
            tracing::warn!("a walk outlasts the stop; it will be done again after the next start");
            return;
        }
        for thread in self
            .threads
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .drain(..)
        {
            if thread.join().is_err() {
                tracing::error!("a worker panicked");
            }
        }
    }
}

/// The right to work, as often as there are workers that are to be busy.
#[derive(Clone)]
struct Seats {
    free: Receiver<()>,
    back: Sender<()>,
}

/// A seat that is taken, until it is left.
struct Seat(Mutex<Option<Sender<()>>>);

impl Seats {
    /// Room for so many, all of which are taken.
    fn new(count: usize) -> Self {
        let (back, free) = bounded(count);
        Self { free, back }
    }

    fn seat(&self) -> Arc<Seat> {
        Arc::new(Seat(Mutex::new(Some(self.back.clone()))))
    }

    /// Waits for one; `None` when it is time to end.
    fn take(&self, jobs: &Jobs) -> Option<Arc<Seat>> {
        jobs.next_of(&self.free)?;
        Some(self.seat())
    }
}

impl Seat {
    fn leave(&self) {
        if let Some(back) = self.0.lock().unwrap_or_else(|e| e.into_inner()).take() {
            // There is room: no more seats come back than were taken.
            let _ = back.try_send(());
        }
    }

    fn is_held(&self) -> bool {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).is_some()
    }
}

struct Worker {
    walker: Walker,
    parts: PoolParts,
    jobs: Jobs,
    seats: Seats,
    status: Arc<Mutex<WorkerStatus>>,
}

impl Worker {
    /// Works with a seat, or waits for one.
    fn run(mut self, mut seat: Option<Arc<Seat>>) {
        loop {
            seat = match seat.filter(|seat| seat.is_held()) {
                Some(seat) => Some(seat),
                None => self.seats.take(&self.jobs),
            };
            let Some(leaving) = seat.clone() else { return };
            let Some(job) = self.jobs.next() else { return };
            self.walker
                .when_slow(SLOW_AFTER, Arc::new(move || leaving.leave()));
            let begun = Instant::now();
            let started_at = self.parts.clock.now();
            self.update(|status| {
                status.busy_with = Some(job.id);
                status.busy_since = Some(started_at);
            });
            let outcome = self.work(&job, started_at);
            let pid = self.walker.pid();
            let metrics = &self.parts.metrics;
            metrics.process_seconds.record(begun.elapsed());
            metrics.processed.add(outcome);
            self.update(|status| {
                status.busy_with = None;
                status.busy_since = None;
                status.walker_pid = pid;
                status.finished += 1;
            });
        }
    }

    fn update(&self, change: impl FnOnce(&mut WorkerStatus)) {
        change(&mut self.status.lock().unwrap_or_else(|e| e.into_inner()));
    }

    /// Does one job and hands in its result; returns the outcome's name.
    fn work(&mut self, job: &Job, started_at: Timestamp) -> &'static str {
        let row = match self.parts.store.crash_at(job.seq) {
            Ok(Some(row)) => row,
            // Deleted in the meantime, or its row is damaged: nothing to hand in.
            other => {
                tracing::error!(crash_id = %job.id, ?other, "a job's crash cannot be read");
                return "unreadable";
            }
        };
        let raw = self.parts.store.raw(&row);
        let alone = |walked| (walked, vec![]);
        let (walked, others) = match (&raw, job.set_aside) {
            (_, true) => alone(Walked::GivenUp {
                status: "SetAside".into(),
                why: format!(
                    "the server died {} times while this crash was in flight; reprocess it to try again",
                    row.server_deaths
                ),
            }),
            (Err(error), _) => alone(Walked::GivenUp {
                status: "DamagedReport".into(),
                why: error.to_string(),
            }),
            (Ok(_), false) => match self.walk(job, &row) {
                Some(walked) => walked,
                None => return "fault",
            },
        };
        let raw = raw.unwrap_or_else(|_| {
            let mut raw = RawCrash::default();
            raw.metadata.received_at_ms = row.received_at_ms;
            raw
        });
        let input = Input {
            id: job.id,
            raw: &raw,
            parts: row.parts.iter().map(|p| &p.part).collect(),
            walked,
            others,
            started_at,
            now: self.parts.clock.now(),
        };
        let in_force = self.parts.naming.in_force();
        let processed = process::process(&input, &in_force.generator);
        let outcome = if processed.failure.is_some() {
            "failed"
        } else {
            "processed"
        };
        let finished = Finished {
            processed: Payload::from_bytes(&processed.json),
            signature: processed.signature,
            processed_at: self.parts.clock.now(),
            facts: processed.facts,
            lacks: processed.lacks,
            used: processed.used,
            named: processed.named,
            revision: in_force.revision,
            failure: processed.failure,
        };
        // Err only says that the store is being closed: it takes the job back.
        let _ = self.parts.store.finish(job.clone(), finished);
        outcome
    }

    /// Walks the dumps, the main one first. `None` where the job went back to the queue, or the pool
    /// is stopping.
    fn walk(&mut self, job: &Job, row: &CrashRow) -> Option<(Walked, Vec<(String, Walked)>)> {
        let parts: Vec<_> = row.parts.iter().map(|p| &p.part).collect();
        let Some(main) = process::main_dump(&parts) else {
            return Some((Walked::NoDump, vec![]));
        };
        let main = match self.walk_part(job, row, &main.name)? {
            Ok(walked) => walked,
            Err(fault) if job.faults + 1 >= limits::FAULTS_MAX => given_up(&fault),
            Err(fault) => {
                let _ = self.parts.store.fault(job.clone(), fault.to_string());
                return None;
            }
        };
        let mut others = Vec::new();
        for part in process::other_dumps(&parts).take(limits::OTHER_DUMPS_MAX) {
            // A fault here is no reason to do without the main dump, so it is not tried again.
            let walked = self.walk_part(job, row, &part.name)?;
            let walked = walked.unwrap_or_else(|fault| given_up(&fault));
            others.push((part.name.clone(), walked));
        }
        Some((main, others))
    }

    /// Walks one dump. `None` where the pool is stopping.
    fn walk_part(
        &mut self,
        job: &Job,
        row: &CrashRow,
        name: &str,
    ) -> Option<Result<Walked, WalkerFault>> {
        let stored = row.parts.iter().find(|p| p.part.name == name)?;
        let read = self.parts.store.part(stored);
        let dump = match read.and_then(|reader| reader.read_all()) {
            Ok(dump) => dump,
            Err(error) => {
                return Some(Ok(Walked::GivenUp {
                    status: "DamagedReport".into(),
                    why: error.to_string(),
                }));
            }
        };
        loop {
            match self.walker.walk(&dump) {
                Ok(Ok(json)) => return Some(Ok(Walked::Whole(json))),
                Ok(Err(error)) => {
                    return Some(Ok(Walked::Unreadable {
                        status: error.status.to_string(),
                        why: error.to_string(),
                    }));
                }
                Err(fault) if !fault.is_of_the_dump() => {
                    tracing::error!(%fault, "a walker cannot be started; trying again");
                    if self.jobs.stopped_within(RESTART_EVERY) {
                        return None;
                    }
                }
                Err(fault) => {
                    self.parts.metrics.walker_faults.add(1);
                    self.update(|status| status.faults += 1);
                    tracing::warn!(crash_id = %job.id, dump = name, %fault, faults = job.faults + 1, "a walker failed on a crash");
                    return Some(Err(fault));
                }
            }
        }
    }
}

fn given_up(fault: &WalkerFault) -> Walked {
    Walked::GivenUp {
        status: "WalkerFailed".into(),
        why: fault.to_string(),
    }
}
