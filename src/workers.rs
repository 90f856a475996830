//! The fixed pool: each worker thread takes a job, has its walker walk the dump, and hands the
//! processed crash to the store.
//!
//! A walker is a child process that only its own worker starts, uses and kills. When it dies or
//! overruns, the fault is counted against the crash; after [`limits::FAULTS_MAX`] the crash is
//! given up and finished as failed, with the reason. A worker itself never walks and never dies
//! of a dump.
//!
//! Workers differ in patience. As many as are to be busy are quick: they end a walk that takes many times
//! as long as walks do here, and put the crash back, without a fault. Half as many take those crashes, for
//! ten times as long, and put back what is not done then; one takes what is left, and suspects, to the
//! deadline. Their walkers let all others go first, and they rest while the quick have more than they can
//! do. So dumps that hang hold nobody up, however many there are, and an honest dump that takes long is
//! walked whole, only later. Where all dumps are quick, only the quick start walkers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};

use crate::clock::{Clock, Timestamp};
use crate::crash::id::CrashId;
use crate::crash::raw::RawCrash;
use crate::limits;
use crate::metrics::Metrics;
use crate::naming::Naming;
use crate::process::{self, Input, Walked, memory};
use crate::queue::{Jobs, Stop};
use crate::stackwalk::{Walker, WalkerFault, WalkerOptions, WalkerStop};
use crate::store::{Finished, Job, Payload, Store, StoredCrash};
use crate::vital::Vital;
use parking_lot::Mutex;

/// Between two tries to start a walker that cannot be started.
const RESTART_EVERY: Duration = Duration::from_secs(1);
/// Rest after slow work, while others wait: a tenth of a processor each goes to what takes long.
const REST_TIMES: u32 = 9;
const REST_LOOK_EVERY: Duration = Duration::from_millis(20);
/// What a walk is taken to need that was not done in the time of slow ones.
const SLOWEST_MIN: Duration = Duration::from_secs(1);

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
    /// Quick workers; those behind them have more patience.
    count: usize,
    statuses: Vec<Arc<Mutex<WorkerStatus>>>,
    jobs: Jobs,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Of each worker's walker.
    walkers: Vec<WalkerStop>,
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
        let pace = Arc::new(Pace::default());
        let mut threads = Vec::new();
        let mut walkers = Vec::new();
        let mut statuses = Vec::new();
        let mut patiences = vec![Patience::Quick; count];
        patiences.resize(count + count.div_ceil(2), Patience::Slow);
        patiences.push(Patience::Deadline);
        for (number, patience) in (1..).zip(patiences) {
            let status = Arc::new(Mutex::new(WorkerStatus::default()));
            statuses.push(status.clone());
            let (parts, jobs, alive) = (parts.clone(), jobs.clone(), alive.clone());
            let walker = Walker::new(WalkerOptions {
                gives_way: patience != Patience::Quick,
                ..parts.walker.clone()
            });
            walkers.push(walker.stopper());
            let pace = pace.clone();
            let thread = std::thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || {
                    let _alive = alive;
                    let vital = Vital::new("worker");
                    Worker {
                        walker,
                        patience,
                        pace,
                        parts,
                        jobs,
                        status,
                    }
                    .run();
                    vital.finish();
                })?;
            threads.push(thread);
        }
        Ok(Self {
            count,
            statuses,
            jobs,
            threads: Mutex::new(threads),
            walkers,
            stop: Mutex::new(Some(stop)),
            ended,
        })
    }

    /// Every worker; those that are not quick only once they have had something to do.
    pub fn status(&self) -> Vec<WorkerStatus> {
        self.statuses
            .iter()
            .map(|s| s.lock().clone())
            .enumerate()
            .filter(|(index, s)| *index < self.count || s.busy_with.is_some() || s.finished > 0)
            .map(|(_, status)| status)
            .collect()
    }

    /// Jobs handed out that no worker has taken yet.
    pub fn waiting(&self) -> usize {
        self.jobs.waiting()
    }

    /// Lets each quick worker end its job, for at most `grace`. What is then still being walked is
    /// taken back by the store when it closes, and walked again after the next start.
    pub fn stop(&self, grace: Duration) {
        self.stop.lock().take();
        let (quick, others) = self.walkers.split_at(self.count);
        others.iter().for_each(WalkerStop::stop);
        if let Err(RecvTimeoutError::Timeout) = self.ended.recv_timeout(grace) {
            tracing::warn!("a walk outlasts the stop; it will be done again after the next start");
            quick.iter().for_each(WalkerStop::stop);
        }
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                tracing::error!("a worker panicked");
            }
        }
    }
}

/// How much processor time walks take here, and from it what is too long for a quick worker.
///
/// A site whose dumps are large has another measure than one whose dumps are small; and where every
/// walk is slow, none is.
struct Pace {
    /// The running mean, in microseconds.
    mean_us: AtomicU64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            mean_us: AtomicU64::new(Self::FIRST_MEAN_US),
        }
    }
}

impl Pace {
    /// As many times the mean.
    const TIMES: u32 = 20;
    /// Whatever the mean.
    const MIN: Duration = Duration::from_millis(20);
    const MAX: Duration = Duration::from_secs(1);
    /// A slow walk may take so many times as long as a quick one.
    const SLOW_TIMES: u32 = 10;
    /// Before any walk was seen: the first ones open their symbols.
    const FIRST_MEAN_US: u64 = 2_500;
    /// One walk moves the mean by this part of the difference.
    const WEIGHT: u64 = 16;

    /// The processor time in which a quick worker's walk must end.
    fn quick(&self) -> Duration {
        let mean = Duration::from_micros(self.mean_us.load(Ordering::Relaxed));
        (mean * Self::TIMES).clamp(Self::MIN, Self::MAX)
    }

    /// The same for the workers behind them.
    fn slow(&self) -> Duration {
        self.quick() * Self::SLOW_TIMES
    }

    fn saw(&self, walk: Duration) {
        let walk = walk.min(Self::MAX / Self::TIMES).as_micros() as u64;
        let mean = self.mean_us.load(Ordering::Relaxed);
        // Of two that are written at once one may be lost, which a mean does not show.
        let next = (mean * (Self::WEIGHT - 1) + walk) / Self::WEIGHT;
        self.mean_us.store(next, Ordering::Relaxed);
    }
}

/// What a worker takes, and when it puts it back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// All but what was put back. Puts back what takes long.
    Quick,
    /// What was put back. Puts back what takes much longer.
    Slow,
    /// What was put back again, and suspects; to the deadline.
    Deadline,
}

/// What became of the dumps beside the main one, by name.
type Others = Vec<(String, Walked)>;

struct Worker {
    walker: Walker,
    patience: Patience,
    pace: Arc<Pace>,
    parts: PoolParts,
    jobs: Jobs,
    status: Arc<Mutex<WorkerStatus>>,
}

impl Worker {
    fn run(mut self) {
        loop {
            let job = match self.patience {
                Patience::Quick => self.jobs.next_quick(),
                Patience::Slow => self.jobs.next_slow(),
                Patience::Deadline => self.jobs.next_slowest(),
            };
            let Some(job) = job else { return };
            match self.patience {
                Patience::Quick => {}
                Patience::Slow => self.rest(self.pace.quick()),
                Patience::Deadline => self.rest(SLOWEST_MIN),
            }
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
            if self.patience != Patience::Quick {
                // One that slept to the deadline took nothing from anybody.
                self.rest(self.walker.used().unwrap_or_else(|| begun.elapsed()));
            }
        }
    }

    /// Lets the quick go first after so much slow work, of others on the crash or of us on one before:
    /// for [`REST_TIMES`] that processor time, or until they are no longer behind. A processor that is lent out, at
    /// whatever priority, is not at once there when it is wanted.
    fn rest(&self, work: Duration) {
        let until = Instant::now() + work * REST_TIMES;
        while self.jobs.is_behind() && Instant::now() < until {
            if self.jobs.stopped_within(REST_LOOK_EVERY) {
                return;
            }
        }
    }

    fn update(&self, change: impl FnOnce(&mut WorkerStatus)) {
        change(&mut self.status.lock());
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
                Ok(walked) => walked,
                Err(outcome) => return outcome,
            },
        };
        let raw = raw.unwrap_or_else(|_| {
            let mut raw = RawCrash::default();
            raw.metadata.received_at_ms = row.received_at_ms;
            raw
        });
        let memory_report = self.memory_report(&row);
        let input = Input {
            id: job.id,
            raw: &raw,
            parts: row.parts.iter().map(|p| &p.part).collect(),
            walked,
            others,
            memory_report: memory_report.as_deref(),
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

    /// Walks the dumps, the main one first. Where the job went back to the queue or the pool is stopping,
    /// the error is the outcome's name.
    fn walk(&mut self, job: &Job, row: &StoredCrash) -> Result<(Walked, Others), &'static str> {
        let parts: Vec<_> = row.parts.iter().map(|p| &p.part).collect();
        let Some(main) = process::main_dump(&parts) else {
            return Ok((Walked::NoDump, vec![]));
        };
        let main = match self.walk_part(job, row, &main.name)? {
            Ok(walked) => walked,
            Err(fault) if fault.is_final() || job.faults + 1 >= limits::FAULTS_MAX => {
                given_up(&fault)
            }
            Err(fault) => {
                let _ = self.parts.store.fault(job.clone(), fault.to_string());
                return Err("fault");
            }
        };
        let mut others = Vec::new();
        for part in process::other_dumps(&parts).take(limits::OTHER_DUMPS_MAX) {
            // A fault here is no reason to do without the main dump, so it is not tried again.
            let walked = self.walk_part(job, row, &part.name)?;
            let walked = walked.unwrap_or_else(|fault| given_up(&fault));
            others.push((part.name.clone(), walked));
        }
        Ok((main, others))
    }

    /// The memory report, unless there is none that can be read within bounds.
    fn memory_report(&self, row: &StoredCrash) -> Option<Vec<u8>> {
        let part = row.parts.iter().find(|p| p.part.name == memory::PART)?;
        if part.part.bytes > limits::MEMORY_REPORT_BYTES_MAX {
            return None;
        }
        let reader = self.parts.store.part(part).ok()?;
        reader.read_all().ok()
    }

    /// Walks one dump. The outer error is that of [`walk`](Self::walk).
    fn walk_part(
        &mut self,
        job: &Job,
        row: &StoredCrash,
        name: &str,
    ) -> Result<Result<Walked, WalkerFault>, &'static str> {
        let Some(stored) = row.parts.iter().find(|p| p.part.name == name) else {
            return Ok(Ok(Walked::NoDump));
        };
        let read = self.parts.store.part(stored);
        let dump = match read.and_then(|reader| reader.read_all()) {
            Ok(dump) => dump,
            Err(error) => {
                return Ok(Ok(Walked::GivenUp {
                    status: "DamagedReport".into(),
                    why: error.to_string(),
                }));
            }
        };
        loop {
            let budget = match self.patience {
                Patience::Quick => Some(self.pace.quick()),
                Patience::Slow => Some(self.pace.slow()),
                Patience::Deadline => None,
            };
            let begun = Instant::now();
            match self.walker.walk_within(&dump, budget) {
                Ok(Ok(json)) => {
                    let used = self.walker.used().unwrap_or_else(|| begun.elapsed());
                    self.pace.saw(used);
                    return Ok(Ok(Walked::Whole(json)));
                }
                Ok(Err(error)) => {
                    return Ok(Ok(Walked::Unreadable {
                        status: error.status.to_string(),
                        why: error.to_string(),
                    }));
                }
                Err(WalkerFault::Stopped) => return Err("stopped"),
                Err(WalkerFault::Slow) => {
                    let _ = self.parts.store.set_back(job.clone());
                    return Err("slow");
                }
                Err(fault) if !fault.is_of_the_dump() => {
                    tracing::error!(%fault, "a walker cannot be started; trying again");
                    if self.jobs.stopped_within(RESTART_EVERY) {
                        return Err("stopped");
                    }
                }
                Err(fault) => {
                    self.parts.metrics.walker_faults.add(1);
                    self.update(|status| status.faults += 1);
                    tracing::warn!(crash_id = %job.id, dump = name, %fault, faults = job.faults + 1, "a walker failed on a crash");
                    return Ok(Err(fault));
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
