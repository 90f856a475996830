//! The cost of the appliance, compared with the minimum that its guarantees cost on the same disk.
//!
//! `cargo bench --bench appliance` prints one line per figure: `figure NAME VALUE UNIT baseline NAME VALUE`.
//! All uploads are different. The baselines run in the same process on the same directory: one file per
//! crash with fsync, and one raw append with fdatasync after each report. Figures are medians of `ROUNDS`
//! rounds. The rounds alternate between the measurement and its baselines, so that noise from other
//! processes affects both.
//!
//! The walk is compared with the program `minidump-stackwalk` (`cargo install minidump-stackwalk`), from
//! PATH or from `MINIDUMP_STACKWALK`. Without the program this figure is omitted.

#![allow(unreachable_pub, reason = "nothing outside uses a bench")]

mod containment;
mod load;
mod naming;
mod search;
mod symbols;

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crashkeep::stackwalk::{Walker, WalkerOptions};

const PROGRAM: &str = env!("CARGO_BIN_EXE_crashkeep");
const ROUNDS: usize = 5;
/// Number of crashes in the directory on which the server is started.
const FILLED_CRASHES: usize = 10_000;
/// Clock ticks per second in /proc/PID/stat. The value is the same on every Linux that we know.
const TICKS: f64 = 100.0;

fn main() {
    let root = tempfile::tempdir().expect("a directory");
    println!("machine: {} cores; medians of {ROUNDS} rounds", cores());
    // `cargo bench --bench appliance -- symbols` runs only the named parts.
    let named: Vec<_> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let is_asked = |part: &str| named.is_empty() || named.iter().any(|name| name == part);
    if is_asked("start") {
        start(root.path());
    }
    if is_asked("collector") {
        for (name, bytes) in [("64k", 64 << 10), ("500k", 500 << 10)] {
            for connections in [1, 8, 64] {
                collector(root.path(), name, bytes, connections);
            }
        }
    }
    if is_asked("pipeline") {
        pipeline(root.path());
    }
    if is_asked("walk") {
        walk(root.path());
    }
    if is_asked("naming") {
        naming::run(root.path());
    }
    if is_asked("symbols") {
        symbols::run(root.path());
    }
    if is_asked("search") {
        search::run(root.path());
    }
    if named.iter().any(|name| name == "load") {
        load::run(root.path());
    }
    if is_asked("json") {
        containment::json(root.path());
    }
    if is_asked("hostile") {
        containment::hostile();
    }
    if is_asked("mutants") {
        containment::mutants(root.path());
    }
    if is_asked("faults") {
        containment::faults(root.path());
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn figure(name: &str, value: f64, unit: &str, baseline: &str, against: f64) {
    println!(
        "figure {name} {value:.2} {unit} baseline {baseline} {against:.2} ({:.2} of it)",
        value / against
    );
}

struct Server {
    /// `None` if the server runs in this process.
    child: Option<Child>,
    address: String,
    /// Makes its holder an admin. Empty if the server runs in this process.
    key: String,
}

impl Server {
    fn start(data: &Path) -> Self {
        let mut child = Command::new(PROGRAM)
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .current_dir(data.parent().expect("a folder above"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let address = line
            .trim()
            .strip_prefix("listening on http://")
            .expect("an address");
        let key = std::fs::read_to_string(data.join("local-key")).expect("the local key");
        Self {
            address: address.to_owned(),
            child: Some(child),
            key: key.trim().to_owned(),
        }
    }

    /// A server that is already running.
    fn at(address: &str) -> Self {
        Self {
            child: None,
            address: address.to_owned(),
            key: String::new(),
        }
    }

    fn pid(&self) -> u32 {
        self.child.as_ref().map_or_else(std::process::id, Child::id)
    }

    /// CPU time of the server so far, without its walkers.
    fn cpu_ms(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("Linux");
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or("")
            .split_whitespace()
            .collect();
        let ticks: f64 = [11, 12]
            .iter()
            .map(|at| fields[*at].parse::<f64>().unwrap_or(0.0))
            .sum();
        ticks / TICKS * 1000.0
    }

    /// The value of a counter or gauge in `/metrics`.
    fn metric(&self, name: &str) -> f64 {
        let mut connection = TcpStream::connect(&self.address).expect("a connection");
        let request = "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";
        connection.write_all(request.as_bytes()).expect("sent");
        let mut text = String::new();
        connection.read_to_string(&mut text).expect("an answer");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().expect("a number"))
    }

    /// The status of the answer to a GET request of an admin.
    fn get(&self, path: &str) -> u16 {
        let mut connection = TcpStream::connect(&self.address).expect("a connection");
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuth-Token: {}\r\nConnection: close\r\n\r\n",
            self.key
        );
        connection.write_all(request.as_bytes()).expect("sent");
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).expect("an answer");
        let status = answer.get(9..12).map(String::from_utf8_lossy);
        status.and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// Waits until no crash is queued or being processed.
    fn wait_idle(&self) {
        while self.metric("crashkeep_queued") + self.metric("crashkeep_processing") > 0.0 {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn resident_mib(&self) -> f64 {
        let path = format!("/proc/{}/status", self.pid());
        let status = std::fs::read_to_string(path).expect("Linux");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
        kib.expect("a size") / 1024.0
    }

    fn wait_processed(&self, crashes: usize) {
        while self.metric("crashkeep_processed") < crashes as f64 {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn stop(mut self) {
        if let Some(mut child) = self.child.take() {
            let pid = rustix::process::Pid::from_raw(child.id() as i32).expect("a pid");
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            let _ = child.wait();
        }
    }
}

/// A report with this file, as one request on a keep-alive connection.
fn request(file: &[u8]) -> Vec<u8> {
    let head = "--b\r\nContent-Disposition: form-data; name=\"ProductName\"\r\n\r\nBench\r\n\
                --b\r\nContent-Disposition: form-data; name=\"upload_file_minidump\"; filename=\"d\"\r\n\r\n";
    let body = [head.as_bytes(), file, b"\r\n--b--\r\n"].concat();
    let lines = format!(
        "POST /submit HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [lines.as_bytes(), &body].concat()
}

fn post(connection: &mut TcpStream, request: &[u8]) {
    connection.write_all(request).expect("sent");
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    while !answer.ends_with(b"\n") || !answer.windows(4).any(|w| w == b"\r\n\r\n") {
        let n = connection.read(&mut chunk).expect("an answer");
        assert!(n > 0, "the server hung up");
        answer.extend_from_slice(&chunk[..n]);
    }
    assert!(
        answer.starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
}

/// Incompressible bytes that differ with `seed`.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Calls `work` for each number below `count` on this many threads. Returns the calls per second.
fn rate(threads: usize, count: usize, work: impl Fn(usize, usize) + Sync) -> f64 {
    let next = AtomicUsize::new(0);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (next, work) = (&next, &work);
            scope.spawn(move || {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= count {
                        return;
                    }
                    work(thread, n);
                }
            });
        }
    });
    count as f64 / begun.elapsed().as_secs_f64()
}

fn collector(root: &Path, name: &str, bytes: usize, connections: usize) {
    let count = if bytes > 100 << 10 { 200 } else { 600 };
    let (mut ours, mut cpu, mut files, mut raw) = (vec![], vec![], vec![], vec![]);
    for round in 0..ROUNDS {
        let data = root.join(format!("collector-{name}-{connections}-{round}"));
        let server = Server::start(&data);
        let seeds = (round * count) as u64;
        let requests: Vec<Vec<u8>> = (0..count)
            .map(|n| request(&noise(seeds + n as u64, bytes)))
            .collect();
        let lines = self::connections(&server, connections);
        let before = server.cpu_ms();
        ours.push(rate(connections, count, |thread, n| {
            post(&mut lines[thread].lock().expect("no panic"), &requests[n]);
        }));
        cpu.push((server.cpu_ms() - before) / count as f64);
        drop(lines);
        server.stop();
        let folder = root.join("files");
        std::fs::create_dir_all(&folder).expect("a folder");
        files.push(rate(connections, count, |_, n| {
            let mut file = File::create(folder.join(n.to_string())).expect("a file");
            file.write_all(&requests[n]).expect("written");
            file.sync_all().expect("synced");
            File::open(&folder)
                .expect("the folder")
                .sync_all()
                .expect("synced");
        }));
        let log = Mutex::new(
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(root.join("log"))
                .expect("a file"),
        );
        raw.push(rate(1, count, |_, n| {
            let mut log = log.lock().expect("no panic");
            log.write_all(&requests[n]).expect("written");
            log.sync_data().expect("synced");
        }));
        for gone in [&data, &folder] {
            std::fs::remove_dir_all(gone).expect("ours");
        }
        std::fs::remove_file(root.join("log")).expect("ours");
    }
    let ours = median(ours);
    let name = format!("collector_{name}_{connections}");
    figure(&name, ours, "uploads/s", "file_fsync", median(files));
    figure(
        &name,
        ours,
        "uploads/s",
        "raw_append_fdatasync",
        median(raw),
    );
    println!(
        "figure {name}_cpu {:.2} ms/upload baseline none 0",
        median(cpu)
    );
}

/// All dumps of the corpus.
fn dumps() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/dumps");
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .expect("dumps")
        .map(|e| e.expect("an entry").path())
        .collect();
    names.sort();
    let dump = |name: &PathBuf| std::fs::read(name).expect("a dump");
    names.iter().map(dump).collect()
}

fn connections(server: &Server, count: usize) -> Vec<Mutex<TcpStream>> {
    let connect = |_| TcpStream::connect(&server.address).expect("a connection");
    (0..count).map(connect).map(Mutex::new).collect()
}

/// Real dumps, from the first byte sent to the last crash processed.
fn pipeline(root: &Path) {
    let dumps = dumps();
    let (mut uploads, mut processed) = (vec![], vec![]);
    for round in 0..ROUNDS {
        let server = Server::start(&root.join(format!("pipeline-{round}")));
        // Long enough that the interval between two commits does not matter.
        let count = dumps.len() * 25;
        let lines = connections(&server, 8);
        let begun = Instant::now();
        uploads.push(rate(8, count, |thread, n| {
            let mut dump = dumps[n % dumps.len()].clone();
            dump.extend_from_slice(&(n as u64).to_le_bytes());
            post(
                &mut lines[thread].lock().expect("no panic"),
                &request(&dump),
            );
        }));
        server.wait_processed(count);
        processed.push(count as f64 / begun.elapsed().as_secs_f64());
        server.stop();
    }
    figure(
        "pipeline",
        median(processed),
        "crashes/s",
        "their_uploads_alone",
        median(uploads),
    );
}

/// All dumps of the corpus with their symbols: in a worker's walker, which keeps running, compared with the
/// usual program, which is started for each dump.
fn walk(root: &Path) {
    let program = std::env::var("MINIDUMP_STACKWALK").unwrap_or("minidump-stackwalk".into());
    if Command::new(&program).arg("--version").output().is_err() {
        println!("figure walk is left out: there is no program {program}");
        return;
    }
    let symbols = root.join("symbols");
    unpack(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/symbols"),
        &symbols,
    );
    let dumps = dumps();
    let file = root.join("walked.dmp");
    let mut walker = Walker::new(WalkerOptions {
        symbols: vec![symbols.clone()],
        ..WalkerOptions::new(PROGRAM.into())
    });
    let (mut ours, mut theirs) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        let (mut walker_s, mut program_s) = (0.0, 0.0);
        for dump in &dumps {
            std::fs::write(&file, dump).expect("written");
            let begun = Instant::now();
            let dump = std::fs::read(&file).expect("read");
            walker.walk(&dump).expect("no fault").expect("a walk");
            walker_s += begun.elapsed().as_secs_f64();
            let begun = Instant::now();
            let walked = Command::new(&program)
                .args(["--json", "--symbols-path"])
                .args([&symbols, &file])
                .output()
                .expect("it runs");
            assert!(walked.status.success());
            program_s += begun.elapsed().as_secs_f64();
        }
        ours.push(walker_s * 1000.0 / dumps.len() as f64);
        theirs.push(program_s * 1000.0 / dumps.len() as f64);
    }
    figure(
        "walk",
        median(ours),
        "ms/dump",
        "minidump_stackwalk_started_per_dump",
        median(theirs),
    );
}

/// Unpacks symbol files into the layout of a symbol server.
fn unpack(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("symbols") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy();
        match name.strip_suffix(".gz") {
            None if path.is_dir() => unpack(&path, &to.join(&*name)),
            None => {}
            Some(name) => {
                let packed = File::open(&path).expect("a file");
                let mut text = Vec::new();
                flate2::read::GzDecoder::new(packed)
                    .read_to_end(&mut text)
                    .expect("gzip");
                std::fs::write(to.join(name), text).expect("written");
            }
        }
    }
}

/// Time from exec to the listening line, and memory of an idle server, with an empty directory and with one
/// that contains crashes.
fn start(root: &Path) {
    starts("empty", |round| root.join(format!("start-{round}")));
    let filled = root.join("filled");
    fill(&filled, FILLED_CRASHES);
    starts(&FILLED_CRASHES.to_string(), |_| filled.clone());
}

fn fill(data: &Path, crashes: usize) {
    let dumps = dumps();
    let smallest = dumps.iter().min_by_key(|dump| dump.len()).expect("dumps");
    let server = Server::start(data);
    let lines = connections(&server, 8);
    rate(8, crashes, |thread, n| {
        let mut dump = smallest.clone();
        dump.extend_from_slice(&(n as u64).to_le_bytes());
        post(
            &mut lines[thread].lock().expect("no panic"),
            &request(&dump),
        );
    });
    server.wait_processed(crashes);
    server.stop();
}

fn starts(name: &str, data: impl Fn(usize) -> PathBuf) {
    let (mut times, mut floor, mut memory) = (vec![], vec![], vec![]);
    for round in 0..ROUNDS * 3 {
        let begun = Instant::now();
        let server = Server::start(&data(round));
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
        memory.push(server.resident_mib());
        server.stop();
        let begun = Instant::now();
        let version = Command::new(PROGRAM)
            .arg("--version")
            .output()
            .expect("it runs");
        assert!(version.status.success());
        floor.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    figure(
        &format!("start_{name}"),
        median(times),
        "ms",
        "exec_of_the_program",
        median(floor),
    );
    println!(
        "figure idle_memory_{name} {:.1} MiB baseline none 0",
        median(memory)
    );
}
