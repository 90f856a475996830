//! The fixed pool of workers. Each worker thread takes a job, has its walker walk the dump, and passes the
//! processed crash to the store.
//!
//! A walker is a child process. Only its own worker starts, uses and kills it. If it dies or exceeds a
//! limit, this counts as a fault of the crash. After [`limits::FAULTS_MAX`] faults the crash fails, and the
//! store keeps the reason. A worker never walks a dump itself, so no dump can kill it.
//!
//! There are three kinds of workers (ADR 17). `count` fast workers abort a walk that takes many times the
//! average CPU time, and requeue the crash without a fault. Half as many slow workers take those crashes and
//! allow ten times as much. They requeue what is still not done. One last worker takes those crashes, and
//! suspects, and allows them the full deadline. The walkers of the slow workers and of the last one have a
//! lower priority than others. These workers also pause while the lanes of the fast ones are full. So dumps
//! that hang do not delay other crashes, however many there are. A good dump that takes long is walked
//! completely, only later. If all dumps are fast, only fast workers start walkers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};

use crate::clock::{Clock, Timestamp};
use crate::crash::id::CrashId;
use crate::crash::raw::RawCrash;
use crate::fields::Catalogue;
use crate::limits;
use crate::metrics::Metrics;
use crate::naming::Naming;
use crate::process::{self, Input, Walked, memory};
use crate::queue::{Jobs, Stop};
use crate::stackwalk::{Walker, WalkerFault, WalkerOptions, WalkerStop};
use crate::store::{Finished, Job, Payload, Store, StoredCrash};
use crate::vital::Vital;
use parking_lot::Mutex;

/// Pause between two attempts to start a walker.
const RESTART_EVERY: Duration = Duration::from_secs(1);
/// While fast jobs wait, a slow worker pauses this many times as long as it worked. So it uses a tenth of a
/// CPU.
const REST_TIMES: u32 = 9;
const REST_LOOK_EVERY: Duration = Duration::from_millis(20);
/// The assumed CPU time of a walk that slow workers did not finish.
const SLOWEST_MIN: Duration = Duration::from_secs(1);

/// The state of a worker, for the status page.
#[derive(Clone, Debug, Default)]
pub(crate) struct WorkerStatus {
    pub(crate) busy_with: Option<CrashId>,
    pub(crate) busy_since: Option<Timestamp>,
    /// The walker process, if it runs.
    pub(crate) walker_pid: Option<u32>,
    pub(crate) finished: u64,
    pub(crate) faults: u64,
}

pub(crate) struct Pool {
    /// Number of fast workers. The slow ones and the last one come after them in each list.
    count: usize,
    statuses: Vec<Arc<Mutex<WorkerStatus>>>,
    jobs: Jobs,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// The stop handle of each worker's walker.
    walkers: Vec<WalkerStop>,
    stop: Mutex<Option<Stop>>,
    /// Disconnected when every worker has ended.
    ended: Receiver<()>,
}

/// The parts of the server that all workers share.
#[derive(Clone)]
pub(crate) struct PoolParts {
    pub(crate) store: Arc<Store>,
    /// The fields whose annotations are copied to processed crashes.
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) naming: Arc<Naming>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) walker: WalkerOptions,
}

impl Pool {
    /// Starts `count` workers for quick walks, and further ones for slow walks.
    ///
    /// # Errors
    /// The operating system cannot start a thread.
    pub(crate) fn start(
        count: usize,
        parts: PoolParts,
        jobs: Jobs,
        stop: Stop,
    ) -> std::io::Result<Self> {
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
                is_low_priority: patience != Patience::Quick,
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
                        number: number - 1,
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

    /// The status of every worker. Slow workers and the last one are included only after their first job.
    pub(crate) fn status(&self) -> Vec<WorkerStatus> {
        self.statuses
            .iter()
            .map(|s| s.lock().clone())
            .enumerate()
            .filter(|(index, s)| *index < self.count || s.busy_with.is_some() || s.finished > 0)
            .map(|(_, status)| status)
            .collect()
    }

    /// Jobs in the channels, which no worker has taken yet.
    pub(crate) fn waiting(&self) -> usize {
        self.jobs.waiting()
    }

    /// Lets each fast worker finish its job, for at most `grace`. When the store closes, it requeues the
    /// walks that are not done. They run again after the next start.
    pub(crate) fn stop(&self, grace: Duration) {
        self.stop.lock().take();
        let (quick, others) = self.walkers.split_at(self.count);
        others.iter().for_each(WalkerStop::stop);
        if let Err(RecvTimeoutError::Timeout) = self.ended.recv_timeout(grace) {
            tracing::warn!(
                "a walk did not finish before shutdown; it runs again after the next start"
            );
            quick.iter().for_each(WalkerStop::stop);
        }
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                tracing::error!("a worker panicked");
            }
        }
    }
}

/// The average CPU time of walks on this server, and the resulting time limit for fast workers.
///
/// The limit depends on the site: large dumps take longer than small ones. If every walk is slow, none
/// counts as slow.
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
    /// The limit is this many times the mean.
    const TIMES: u32 = 20;
    /// Lower and upper bound of the limit.
    const MIN: Duration = Duration::from_millis(20);
    const MAX: Duration = Duration::from_secs(1);
    /// A slow worker allows this many times as much as a fast one.
    const SLOW_TIMES: u32 = 10;
    /// The mean before the first walk. The first walks take longer because they open their symbols.
    const FIRST_MEAN_US: u64 = 2_500;
    /// One walk moves the mean by the difference divided by this.
    const WEIGHT: u64 = 16;

    /// CPU time within which a fast worker's walk must end.
    fn quick(&self) -> Duration {
        let mean = Duration::from_micros(self.mean_us.load(Ordering::Relaxed));
        (mean * Self::TIMES).clamp(Self::MIN, Self::MAX)
    }

    /// CPU time within which a slow worker's walk must end.
    fn slow(&self) -> Duration {
        self.quick() * Self::SLOW_TIMES
    }

    fn saw(&self, walk: Duration) {
        let walk = walk.min(Self::MAX / Self::TIMES).as_micros() as u64;
        let mean = self.mean_us.load(Ordering::Relaxed);
        // If two threads write at once, one value may be lost. That hardly changes the mean.
        let next = (mean * (Self::WEIGHT - 1) + walk) / Self::WEIGHT;
        self.mean_us.store(next, Ordering::Relaxed);
    }
}

/// Which jobs a worker takes, and when it requeues them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// Takes all jobs that were not requeued. Requeues walks that take long.
    Quick,
    /// Takes requeued jobs. Requeues walks that take much longer.
    Slow,
    /// Takes jobs that were requeued twice, and suspects. Walks them up to the deadline.
    Deadline,
}

/// The results of the other dumps of a report, by name.
type Others = Vec<(String, Walked)>;

struct Worker {
    /// Counts from 0.
    number: usize,
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
            self.parts.store.started(self.number, &job);
            let outcome = self.work(&job, started_at);
            self.parts.store.ended(self.number);
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
                // A walk that slept until the deadline used no CPU time.
                self.rest(self.walker.used().unwrap_or_else(|| begun.elapsed()));
            }
        }
    }

    /// Pauses to let fast workers go first, for [`REST_TIMES`] the CPU time of `work`, or until no lane of
    /// theirs is full. `work` was spent on this crash by other workers, or on the previous crash by this
    /// one. A low priority alone is not enough: a CPU that runs another process is not available at once.
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

    /// Does one job and hands in its result. Returns the name of the outcome.
    fn work(&mut self, job: &Job, started_at: Timestamp) -> &'static str {
        let row = match self.parts.store.crash_at(job.seq) {
            Ok(Some(row)) => row,
            // Somebody deleted the crash while it waited for a worker.
            Ok(None) => return "deleted",
            Err(error) => {
                tracing::error!(crash_id = %job.id, %error, "the crash of a job cannot be read");
                return "unreadable";
            }
        };
        let raw = self.parts.store.raw(&row);
        let alone = |walked| (walked, vec![]);
        let (walked, others) = match (&raw, job.set_aside) {
            (_, true) => alone(Walked::GivenUp {
                status: "SetAside".into(),
                why: format!(
                    "the server died {} times while it processed this crash; reprocess it to try again",
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
            is_own: &|debug_id| self.parts.store.has_uploaded(debug_id),
            started_at,
            now: self.parts.clock.now(),
        };
        let active = self.parts.naming.active();
        let processed = process::process(&input, &self.parts.catalogue, &active.generator);
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
            revision: active.revision,
            failure: processed.failure,
        };
        // The only error is that the store is closing. It then requeues the job.
        let _ = self.parts.store.finish(job.clone(), finished);
        outcome
    }

    /// Walks the dumps of a crash, the main one first. If the job was requeued or the pool is stopping, the
    /// error is the name of the outcome.
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
            // A fault here does not affect the main dump, so the walk is not repeated.
            let walked = self.walk_part(job, row, &part.name)?;
            let walked = walked.unwrap_or_else(|fault| given_up(&fault));
            others.push((part.name.clone(), walked));
        }
        Ok((main, others))
    }

    /// The memory report; `None` if there is none, or none that can be read within the limits.
    fn memory_report(&self, row: &StoredCrash) -> Option<Vec<u8>> {
        let part = row.parts.iter().find(|p| p.part.name == memory::PART)?;
        if part.part.bytes > limits::MEMORY_REPORT_BYTES_MAX {
            return None;
        }
        let reader = self.parts.store.part(part).ok()?;
        reader.read_all().ok()
    }

    /// Walks one dump. The outer error is the same as for [`walk`](Self::walk).
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
                    tracing::error!(%fault, "cannot start a walker; trying again");
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
