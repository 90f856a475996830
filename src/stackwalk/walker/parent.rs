//! The parent's side of a walker: a long-lived child process that a dump may kill.
//!
//! For a walk it starts a child if none is running, writes the request, and reads the reply. Any fault (the
//! child's death, an exceeded limit, an invalid reply) ends the child. The child is killed and reaped, and
//! the next walk starts a new one. So no dump is affected by what an earlier dump left behind.
//!
//! A child writes no files. If it needs symbol files that are not mapped, it answers with their names. The
//! worker's thread maps them and sends the dump again. The server converts, for three reasons. A walk never
//! spends memory or time on reading text. Several walkers that need the same file have it converted once.
//! Nobody has to guess beforehand which files stacks will need. If a file cannot be mapped, for example
//! because the disk is full, the child converts it in its own memory and keeps it as long as it lives.
//!
//! Each child has two threads in this process. `walker-watch` kills the child when a walk takes too long
//! (`watch`). This closes the child's pipes, so that a caller does not wait for a child that neither reads
//! nor writes. `walker-stderr` keeps the last output on stderr. Both are joined when the child is cleaned up.
//! This cannot block, because a walker cannot start processes.

use std::collections::{HashSet, VecDeque};
use std::ffi::OsString;
use std::io::{self, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::watch::{Cut, Watch, Watching};
use super::wire;
use crate::child::{self, Answers};
use crate::limits;
use crate::stackwalk::provider::MapRequest;
use crate::stackwalk::walk::Attempt;
use crate::stackwalk::{MAP_BYTES_MAX, MAPS_MAX, Unmapped, WalkError};
use crate::symbols::SymbolDirs;
use crate::symbols::mapped::MappedDir;
use parking_lot::Mutex;

/// Bytes of a child's stderr that are kept: enough for a panic message or an allocation failure.
const STDERR_BYTES_KEPT: usize = 4096;
/// How long a child that closed its output may take to exit, so that we get its own exit status.
const EXIT_GRACE: Duration = Duration::from_millis(500);
/// How often one dump is sent again because of symbols. With more symbols, stacks may lead to further
/// modules.
const MAP_ROUNDS_MAX: usize = 16;

/// How walkers are started and what they may use.
#[derive(Debug, Clone)]
pub struct WalkerOptions {
    /// The `crashkeep` binary itself, which is started as `crashkeep walker ...`.
    pub program: PathBuf,
    /// Symbol folders. The first one that has a file wins. Relative paths start at the server's working
    /// directory.
    pub symbols: Vec<PathBuf>,
    /// Private memory of the child, in bytes.
    pub heap_bytes: u64,
    /// Address space of the child, in bytes.
    pub address_bytes: u64,
    /// CPU time per dump, in whole seconds. The kernel may allow one second more.
    pub cpu_seconds: u64,
    /// Time limit per dump, including the start of the child, but not counting time spent waiting for a CPU.
    pub deadline: Duration,
    /// JSON per dump, in bytes.
    pub output_bytes_max: u64,
    /// Limit of the size of a compressed dump after decompression, in bytes.
    pub unpacked_bytes_max: u64,
    /// Limit of the ratio by which decompression may enlarge a dump, beyond its first MiB.
    pub ratio_max: u64,
    /// The folder of mapped symbols. Without it, the child converts symbols in its memory.
    pub mapped: Option<Arc<MappedDir>>,
    /// Mapped symbols that the child keeps open between dumps, in bytes.
    pub map_bytes_max: u64,
    /// Number of mapped files that it keeps open between dumps.
    pub maps_max: u64,
    /// The child runs at the lowest priority.
    pub is_low_priority: bool,
}

impl WalkerOptions {
    /// Defaults that are sufficient for any honest dump: 1 GiB of heap, 30 s of CPU time, 60 s in total.
    pub fn new(program: PathBuf) -> Self {
        Self {
            program,
            symbols: vec![],
            heap_bytes: 1 << 30,
            address_bytes: 16 << 30,
            cpu_seconds: 30,
            deadline: Duration::from_secs(60),
            output_bytes_max: limits::WALK_BYTES_MAX as u64,
            unpacked_bytes_max: 200 << 20,
            ratio_max: 200,
            mapped: None,
            map_bytes_max: MAP_BYTES_MAX,
            maps_max: MAPS_MAX,
            is_low_priority: false,
        }
    }

    fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["walker".into()];
        for folder in &self.symbols {
            arguments.extend(["--symbols".into(), folder.into()]);
        }
        if let Some(mapped) = &self.mapped {
            arguments.extend(["--mapped".into(), mapped.root().into()]);
        }
        for (name, value) in [
            ("--heap-bytes", self.heap_bytes),
            ("--address-bytes", self.address_bytes),
            ("--cpu-seconds", self.cpu_seconds),
            ("--output-bytes-max", self.output_bytes_max),
            ("--unpacked-bytes-max", self.unpacked_bytes_max),
            ("--ratio-max", self.ratio_max),
            ("--map-bytes-max", self.map_bytes_max),
            ("--maps-max", self.maps_max),
        ] {
            arguments.extend([name.into(), value.to_string().into()]);
        }
        arguments
    }
}

/// The answer of a walker that worked: the walk's JSON, or why this dump has none.
pub(crate) type WalkReply = Result<Vec<u8>, WalkError>;

/// A walk that ended without an answer. The child is gone; the next walk starts another one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WalkerFault {
    /// The child could not be started. This is not a fault of the dump; try again later.
    #[error("the walker cannot be started: {reason}")]
    Unstarted { reason: String },
    /// The child died on this dump. `end` is for example `signal 11` or `exit code 3`. `stderr` is the end of
    /// its output there, often empty.
    #[error("the walker died on this dump ({end}){}", after_colon(stderr))]
    Died { end: String, stderr: String },
    /// The dump exceeded a limit.
    #[error(transparent)]
    Overran(Overrun),
    /// The child sent an invalid answer.
    #[error("the walker sent an invalid answer: {reason}")]
    Garbled { reason: String },
    /// The walk exceeded its budget, see [`Walker::walk_within`]. This is not a fault.
    #[error("the walk exceeded its budget")]
    Slow,
    /// The walker was told to stop.
    #[error("the walker was stopped")]
    Stopped,
}

/// The limit that a walk exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Overrun {
    #[error("the walk took longer than {0:?}")]
    Deadline(Duration),
    #[error("the walk took more than {0} s of CPU time")]
    CpuSeconds(u64),
    #[error("the walk took more than {} MiB of memory", .0 >> 20)]
    HeapBytes(u64),
}

fn after_colon(stderr: &str) -> String {
    match stderr.trim() {
        "" => String::new(),
        text => format!(": {text}"),
    }
}

impl WalkerFault {
    /// Whether this dump probably brought the walker down.
    pub fn is_of_the_dump(&self) -> bool {
        !matches!(self, Self::Unstarted { .. } | Self::Slow | Self::Stopped)
    }

    /// Whether the same dump would end in the same way again. A walk needs the same memory and CPU time each
    /// time, but the time that it waits for a disk depends on what else the machine does (ADR 17).
    pub(crate) fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Overran(Overrun::HeapBytes(_) | Overrun::CpuSeconds(_))
        )
    }
}

/// One walker, for one worker thread.
///
/// Start it and use it on the thread that owns it. On Linux, a child is killed when the *thread* that started
/// it ends.
pub struct Walker {
    options: WalkerOptions,
    /// Started by the first walk, and again after each fault.
    child: Option<Running>,
    /// Number of the last request, counted over all children.
    job: u64,
    used: Option<Duration>,
    stop: WalkerStop,
}

/// Stops a walker from another thread. The current walk and every later one end with
/// [`WalkerFault::Stopped`].
#[derive(Clone, Default)]
pub(crate) struct WalkerStop(Arc<Mutex<Stopping>>);

#[derive(Default)]
struct Stopping {
    is_told: bool,
    child: Option<Arc<Watch>>,
}

impl WalkerStop {
    pub(crate) fn stop(&self) {
        let mut stopping = self.0.lock();
        stopping.is_told = true;
        if let Some(child) = stopping.child.take() {
            child.stop();
        }
    }

    /// Makes `stop` end this child from now on. Returns false if `stop` was already called.
    fn covers(&self, child: &Arc<Watch>) -> bool {
        let mut stopping = self.0.lock();
        stopping.child = Some(child.clone());
        !stopping.is_told
    }
}

struct Running {
    pid: u32,
    watch: Arc<Watch>,
    watcher: JoinHandle<()>,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    stderr: JoinHandle<Vec<u8>>,
}

impl Walker {
    pub fn new(options: WalkerOptions) -> Self {
        Self {
            options,
            child: None,
            job: 0,
            used: None,
            stop: WalkerStop::default(),
        }
    }

    pub(crate) fn stopper(&self) -> WalkerStop {
        self.stop.clone()
    }

    /// The process id of the child that the last walk left running, if any. For logs and metrics.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(|child| child.pid)
    }

    /// CPU time of the last try, if the system reports it.
    pub(crate) fn used(&self) -> Option<Duration> {
        self.used
    }

    /// Walks a dump in the child. Each try returns shortly after the deadline at the latest.
    ///
    /// # Errors
    /// See [`WalkerFault`]. The inner result is the walker's own verdict about the dump.
    pub fn walk(&mut self, dump: &[u8]) -> Result<WalkReply, WalkerFault> {
        self.walk_within(dump, None)
    }

    /// The same, but ends with [`WalkerFault::Slow`] as soon as a try has used the CPU time of `budget` or is
    /// idle (ADR 17).
    ///
    /// # Errors
    /// See [`WalkerFault`]. After [`WalkerFault::Slow`], the caller can walk the dump again with a larger
    /// budget.
    pub(crate) fn walk_within(
        &mut self,
        dump: &[u8],
        budget: Option<Duration>,
    ) -> Result<WalkReply, WalkerFault> {
        let mut mapped = HashSet::new();
        for _ in 0..MAP_ROUNDS_MAX {
            let requests = match self.attempt(dump, Unmapped::Request, budget)? {
                Ok(Attempt::Walked(json)) => return Ok(Ok(json)),
                Ok(Attempt::NeedsMaps(requests)) => requests,
                Err(error) => return Ok(Err(error)),
            };
            // If a file was mapped and the walker asks for it again, the file is changing at this moment.
            let is_met = requests
                .into_iter()
                .all(|request| self.map(&request) && mapped.insert(request));
            if !is_met {
                break;
            }
        }
        match self.attempt(dump, Unmapped::Convert, budget)? {
            Ok(Attempt::Walked(json)) => Ok(Ok(json)),
            Err(error) => Ok(Err(error)),
            Ok(Attempt::NeedsMaps(_)) => {
                self.drop_child();
                let reason = "it asked for symbols again although it was told to walk without them"
                    .to_owned();
                Err(WalkerFault::Garbled { reason })
            }
        }
    }

    /// Whether the walker will now find these symbols mapped, if they exist at all.
    fn map(&self, request: &MapRequest) -> bool {
        let Some(dir) = &self.options.mapped else {
            return false;
        };
        let texts = SymbolDirs::new(self.options.symbols.clone());
        match dir.convert(&texts, &request.debug_file, &request.debug_id) {
            Ok(_) => true,
            Err(error) => {
                let (file, id) = (&request.debug_file, &request.debug_id);
                tracing::warn!(%file, %id, %error, "symbols cannot be mapped; the walk goes on without them");
                false
            }
        }
    }

    fn attempt(
        &mut self,
        dump: &[u8],
        unmapped: Unmapped,
        budget: Option<Duration>,
    ) -> Result<wire::Reply, WalkerFault> {
        let begun = Instant::now();
        let mut child = self.alive()?;
        if !self.stop.covers(&child.watch) {
            child.end(Duration::ZERO);
            return Err(WalkerFault::Stopped);
        }
        self.job += 1;
        let bytes_max = self.options.output_bytes_max;
        child.watch.begin(begun, self.options.deadline, budget);
        let reply = child.exchange(self.job, unmapped, dump, bytes_max);
        // The reply may be truncated although it seems complete, because the child was killed.
        let Watching { cut, used } = child.watch.end();
        self.used = used;
        match (cut, reply) {
            (None, Ok(reply)) => {
                self.child = Some(child);
                Ok(reply)
            }
            (Some(cut), _) => {
                child.end(Duration::ZERO);
                Err(self.fault_of(cut))
            }
            (None, Err(wire::ReplyError::Garbled(reason))) => {
                child.end(Duration::ZERO);
                Err(WalkerFault::Garbled { reason })
            }
            (None, Err(wire::ReplyError::Ended)) => {
                let (status, stderr) = child.end(EXIT_GRACE);
                Err(self.explain(status, stderr))
            }
        }
    }

    fn fault_of(&self, cut: Cut) -> WalkerFault {
        match cut {
            Cut::Deadline => WalkerFault::Overran(Overrun::Deadline(self.options.deadline)),
            Cut::Slow => WalkerFault::Slow,
            Cut::Stop => WalkerFault::Stopped,
        }
    }

    /// The child of the last walk, or a new one. A child that died while idle is replaced silently, because
    /// this dump did not cause it.
    fn alive(&mut self) -> Result<Running, WalkerFault> {
        if let Some(child) = self.child.take() {
            if matches!(child.watch.lock().process.try_wait(), Ok(None)) {
                return Ok(child);
            }
            child.end(Duration::ZERO);
        }
        Running::start(&self.options).map_err(|error| WalkerFault::Unstarted {
            reason: format!("{}: {error}", self.options.program.display()),
        })
    }

    fn explain(&self, status: Option<ExitStatus>, stderr: String) -> WalkerFault {
        if is_cpu_overrun(status) {
            return WalkerFault::Overran(Overrun::CpuSeconds(self.options.cpu_seconds));
        }
        // The standard library writes this before it aborts on a failed allocation.
        if stderr.contains("memory allocation of") {
            return WalkerFault::Overran(Overrun::HeapBytes(self.options.heap_bytes));
        }
        let end = status.map_or_else(|| "no exit status".to_owned(), end_of);
        WalkerFault::Died { end, stderr }
    }

    fn drop_child(&mut self) {
        if let Some(child) = self.child.take() {
            child.end(Duration::ZERO);
        }
    }
}

impl Drop for Walker {
    fn drop(&mut self) {
        self.drop_child();
    }
}

/// The command that starts a child.
fn command(options: &WalkerOptions) -> Command {
    let mut command = Command::new(&options.program);
    command
        .args(options.arguments())
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // Without this variable, Windows cannot load its own libraries.
    if cfg!(windows)
        && let Some(root) = std::env::var_os("SystemRoot")
    {
        command.env("SystemRoot", root);
    }
    // Ctrl-C at a terminal signals the whole process group, but the server must end its walkers itself.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command
}

/// Ends a child that cannot be used.
fn kill(process: &mut Child) {
    let _ = process.kill();
    let _ = process.wait();
}

/// Sets the lowest priority. Raising it again needs privileges.
#[cfg(unix)]
fn lower_priority(process: &Child) {
    /// The lowest priority: beside a process of normal priority it gets a seventieth of the CPU.
    const NICE: i32 = 19;
    let pid = i32::try_from(process.id()).ok();
    let pid = pid.and_then(rustix::process::Pid::from_raw);
    // If this is refused, the walk competes for the CPU as usual.
    let _ = rustix::process::setpriority_process(pid, NICE);
}

#[cfg(not(unix))]
fn lower_priority(_: &Child) {}

impl Running {
    fn start(options: &WalkerOptions) -> io::Result<Self> {
        // A walker cannot read folders that are created after it has restricted itself.
        if let Some(mapped) = &options.mapped {
            let _ = std::fs::create_dir_all(mapped.root());
        }
        let mut process = command(options).spawn()?;
        if options.is_low_priority {
            lower_priority(&process);
        }
        let pipes = (
            process.stdin.take(),
            process.stdout.take(),
            process.stderr.take(),
        );
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            unreachable!("all three were asked for as pipes");
        };
        // Larger pipe buffers for most dumps and walks, so that the two sides rarely wait for each other.
        child::widen(&stdin);
        child::widen(&stdout);
        let answers = Answers::of(&stdout).inspect_err(|_| kill(&mut process))?;
        let pid = process.id();
        let watch = Arc::new(Watch::over(process, answers));
        let threads = Self::threads(watch.clone(), stderr);
        let (watcher, stderr) = threads.inspect_err(|_| kill(&mut watch.lock().process))?;
        Ok(Self {
            pid,
            watch,
            watcher,
            stdin,
            stdout: BufReader::new(stdout),
            stderr,
        })
    }

    fn threads(
        watch: Arc<Watch>,
        stderr: ChildStderr,
    ) -> io::Result<(JoinHandle<()>, JoinHandle<Vec<u8>>)> {
        let stderr = thread::Builder::new()
            .name("walker-stderr".to_owned())
            .spawn(move || tail_of(stderr))?;
        let watcher = thread::Builder::new()
            .name("walker-watch".to_owned())
            .spawn(move || watch.run())?;
        Ok((watcher, stderr))
    }

    /// Sends one request and reads its reply, while the watch runs. If the watch kills the child, both fail.
    fn exchange(
        &mut self,
        job: u64,
        unmapped: Unmapped,
        dump: &[u8],
        bytes_max: u64,
    ) -> Result<wire::Reply, wire::ReplyError> {
        wire::write_request(&mut self.stdin, job, unmapped, dump)?;
        self.watch.is_its_turn();
        Answers::wait(self.stdout.get_ref());
        self.watch.answers();
        wire::read_reply(&mut self.stdout, job, bytes_max)
    }

    /// Ends the child: waits up to `grace` for it to exit, kills it, reaps it, joins its threads.
    fn end(self, grace: Duration) -> (Option<ExitStatus>, String) {
        drop(self.stdin);
        self.watch.finish();
        let _ = self.watcher.join();
        let process = &mut self.watch.lock().process;
        let until = Instant::now() + grace;
        while Instant::now() < until && matches!(process.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(2));
        }
        let _ = process.kill();
        let status = process.wait().ok();
        drop(self.stdout);
        let stderr = self.stderr.join().unwrap_or_default();
        (status, String::from_utf8_lossy(&stderr).into_owned())
    }
}

/// Reads to the end and returns the last [`STDERR_BYTES_KEPT`] bytes.
fn tail_of(mut stderr: ChildStderr) -> Vec<u8> {
    let mut tail = VecDeque::with_capacity(STDERR_BYTES_KEPT);
    let mut chunk = [0; 1024];
    while let Ok(length @ 1..) = stderr.read(&mut chunk) {
        tail.extend(&chunk[..length]);
        tail.drain(..tail.len().saturating_sub(STDERR_BYTES_KEPT));
    }
    tail.into()
}

#[cfg(unix)]
fn end_of(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("signal {signal}"),
        (_, Some(code)) => format!("exit code {code}"),
        _ => status.to_string(),
    }
}

#[cfg(not(unix))]
fn end_of(status: ExitStatus) -> String {
    status.to_string()
}

#[cfg(target_os = "linux")]
fn is_cpu_overrun(status: Option<ExitStatus>) -> bool {
    use std::os::unix::process::ExitStatusExt;
    let signal = status.and_then(|status| status.signal());
    signal == Some(rustix::process::Signal::XCPU.as_raw())
}

#[cfg(not(target_os = "linux"))]
fn is_cpu_overrun(_: Option<ExitStatus>) -> bool {
    false
}
