//! The cost of searches over many crashes, compared with SQLite on the same crashes.
//!
//! `SEARCH_CRASHES` is the number of crashes (1,000,000). The baseline is the `sqlite3` module of `python3`
//! with covering indexes and FTS5. It runs in turns with the search. Without `python3`, its figures are
//! omitted. Each question is asked with many values. A figure is the median over all of them in `ROUNDS`
//! rounds, `_p95` is the 95th percentile, and `_p95_cpu` is the 95th percentile of CPU time alone, which is
//! the time on an otherwise idle machine.

pub mod crashes;
mod lag;
mod questions;
mod rebuild;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crashkeep::clock::SystemClock;
use crashkeep::fields::Catalogue;
use crashkeep::index::{Document, Index, Side, Watermark, Writer};
use crashkeep::query::Query;
use crashkeep::queue::{Lanes, queue};
use crashkeep::store::disk::OsDisk;
use crashkeep::store::{Store, StoreOptions};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value as Json, json};

use super::{ROUNDS, Server, figure, median};
use crashes::{Crash, END, Site, Value};
use questions::Question;

/// Values per crash, including id and date.
const FIELDS: usize = 40;
/// Values per crash for a site that sends nearly all fields.
const FIELDS_MANY: usize = 100;
/// Crashes between two commits, as during a build of the index.
const COMMIT_EVERY: u64 = 50_000;
/// Concurrent clients of the server.
const CLIENTS: usize = 4;

pub fn run(root: &Path) {
    let crashes = std::env::var("SEARCH_CRASHES").map_or(1_000_000, |text| {
        text.parse().expect("SEARCH_CRASHES is a number")
    });
    let root = root.join("search");
    let data = root.join("data");
    let site = Site::new(crashes, FIELDS);
    let mut baseline = Baseline::start(&root);
    let index = build(&data, &site, crashes, "", baseline.as_mut());
    let status = index.status();
    println!(
        "search: {} crashes, {} segments",
        status.documents, status.segments
    );
    if let Some(baseline) = &mut baseline {
        let built = baseline.read();
        println!(
            "sqlite: {} crashes, {} bytes each, {:.0} written a CPU second",
            built["crashes"],
            built["bytes"].as_u64().unwrap_or(0) / crashes,
            crashes as f64 / built["cpu_s"].as_f64().unwrap_or(1.0),
        );
    }
    let questions = questions::all(&site);
    ask(&index, &questions, baseline.as_mut());
    drop(index);
    served(&data, &questions);
    let many = (crashes / 10).max(10_000);
    rebuild::run(&root.join("rebuild"), (crashes / 10).max(10_000));
    lag::run(&root.join("lag"));
    build(
        &root.join("many"),
        &Site::new(many, FIELDS_MANY),
        many,
        "_100_fields",
        None,
    );
}

fn open_store(data: &Path, lanes: Lanes) -> Store {
    std::fs::create_dir_all(data).expect("a folder");
    let options = StoreOptions {
        cache_bytes: 64 << 20,
        spill_dir: data.to_path_buf(),
    };
    let disk = Arc::new(OsDisk::new(data).expect("a disk"));
    let store = Store::open(disk, options, Arc::new(SystemClock), Box::new(lanes));
    store.expect("a store")
}

fn seconds(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Writes an index that a server on this directory continues to use.
fn build(
    data: &Path,
    site: &Site,
    crashes: u64,
    name: &str,
    mut baseline: Option<&mut Baseline>,
) -> Arc<Index> {
    let (lanes, _jobs, _stop) = queue(1, 1);
    let store = open_store(data, lanes);
    let dir = data.join("index");
    let catalogue = Arc::new(Catalogue::builtin());
    let index = Index::open(&dir, store.id().expect("an id"), catalogue);
    let index = Arc::new(index.expect("an index"));
    let mut writer = Writer::open(&index, Side::Current).expect("a writer");
    let mark = Watermark {
        change: store.change_range().expect("readable").0,
        rebuilt_to: None,
    };
    store.close();
    let (begun, mut others) = (seconds(ClockId::ProcessCPUTime), 0.0);
    let started = Instant::now();
    for number in 0..crashes {
        let at = seconds(ClockId::ThreadCPUTime);
        let crash = site.crash(number);
        let processed = crash.json(&site.catalogue);
        if let Some(baseline) = &mut baseline {
            baseline.take(&crash);
        }
        others += seconds(ClockId::ThreadCPUTime) - at;
        let document = Document::new(
            &site.catalogue,
            crash.seq,
            crash.id,
            crash.received_at,
            processed.as_bytes(),
            &BTreeMap::new(),
        );
        writer.put(&document.expect("JSON")).expect("written");
        if number % COMMIT_EVERY == COMMIT_EVERY - 1 {
            writer.commit(mark).expect("committed");
        }
    }
    writer.commit(mark).expect("committed");
    settle(&index);
    let spent = seconds(ClockId::ProcessCPUTime) - begun - others;
    drop(writer);
    println!(
        "search{name}: built in {:.0} s of wall-clock time, the making of crashes included",
        started.elapsed().as_secs_f64()
    );
    println!(
        "figure search_index{name} {:.0} crashes/cpu_s baseline target 8000",
        crashes as f64 / spent
    );
    println!(
        "figure search_index{name}_size {:.0} bytes/crash baseline target 1200",
        folder_bytes(&dir) as f64 / crashes as f64
    );
    index
}

/// Waits until all merges have ended, because they use CPU time, too.
fn settle(index: &Index) {
    let mut quiet = Instant::now();
    let mut cpu = seconds(ClockId::ProcessCPUTime);
    while quiet.elapsed() < Duration::from_secs(1) {
        std::thread::sleep(Duration::from_millis(50));
        let now = seconds(ClockId::ProcessCPUTime);
        if now - cpu > 0.01 {
            quiet = Instant::now();
        }
        cpu = now;
    }
    let _ = index.status();
}

fn folder_bytes(path: &Path) -> u64 {
    std::fs::read_dir(path)
        .expect("a folder")
        .map(|entry| {
            let entry = entry.expect("an entry");
            if entry.file_type().expect("a type").is_dir() {
                folder_bytes(&entry.path())
            } else {
                entry.metadata().map_or(0, |m| m.len())
            }
        })
        .sum()
}

fn percentile_95(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(values.len() * 95 / 100).min(values.len() - 1)]
}

fn query(params: &str) -> Query {
    let params: Vec<_> = form_urlencoded::parse(params.as_bytes())
        .into_owned()
        .collect();
    Query::parse(&Catalogue::builtin(), &params, END, true).expect("a query")
}

fn ask(index: &Index, questions: &[Question], mut baseline: Option<&mut Baseline>) {
    for question in questions {
        let (mut ours, mut cpu, mut theirs) = (vec![], vec![], vec![]);
        for round in 0..ROUNDS {
            for variant in &question.variants {
                let query = query(&variant.params);
                let before = seconds(ClockId::ThreadCPUTime);
                let begun = Instant::now();
                let result = index.search(&query).expect("an answer");
                cpu.push((seconds(ClockId::ThreadCPUTime) - before) * 1000.0);
                ours.push(begun.elapsed().as_secs_f64() * 1000.0);
                // Broad questions take SQLite a long time. Three rounds are enough for a median.
                if let Some(baseline) = baseline.as_mut().filter(|_| round < 3) {
                    let answer = baseline.ask(&variant.statements);
                    theirs.push(answer["ms"].as_f64().expect("a time"));
                    let counts = answer["counts"].as_array().expect("counts");
                    let counts = counts.iter().map(|n| n.as_u64().unwrap_or(0)).collect();
                    question.compare(&result, counts, &variant.params);
                }
            }
        }
        let name = format!("search_{}", question.name);
        println!(
            "figure {name}_p95 {:.2} ms baseline target {}",
            percentile_95(ours.clone()),
            question.target_ms
        );
        println!(
            "figure {name}_p95_cpu {:.2} ms baseline target {}",
            percentile_95(cpu),
            question.target_ms
        );
        if !theirs.is_empty() {
            println!(
                "sqlite_{}_p95 {:.2} ms",
                question.name,
                percentile_95(theirs.clone())
            );
            figure(&name, median(ours), "ms", "sqlite", median(theirs));
        }
    }
}

/// A real server over that index, with several concurrent clients.
fn served(data: &Path, questions: &[Question]) {
    let server = Server::start(data);
    let before = server.resident_mib();
    let paths: Vec<String> = questions
        .iter()
        .flat_map(|question| &question.variants)
        .map(|variant| format!("/api/SuperSearch/?{}", variant.params))
        .collect();
    let times = std::sync::Mutex::new(vec![]);
    let peak = std::sync::Mutex::new(before);
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (server, paths, times, peak) = (&server, &paths, &times, &peak);
            scope.spawn(move || {
                for at in 0..paths.len() {
                    // Each client uses its own order.
                    let path = &paths[(at * 37 + client * 11) % paths.len()];
                    let begun = Instant::now();
                    get(server, path);
                    let ms = begun.elapsed().as_secs_f64() * 1000.0;
                    times.lock().expect("no panic").push(ms);
                    let now = server.resident_mib();
                    let mut peak = peak.lock().expect("no panic");
                    *peak = peak.max(now);
                }
            });
        }
    });
    let times = times.into_inner().expect("no panic");
    println!(
        "search: {} answers of a server with {CLIENTS} clients, median {:.1} ms, p95 {:.1} ms",
        times.len(),
        median(times.clone()),
        percentile_95(times)
    );
    println!(
        "figure search_memory {:.0} MiB baseline idle {before:.0} (target 400)",
        peak.into_inner().expect("no panic")
    );
    server.stop();
}

fn get(server: &Server, path: &str) -> String {
    let mut connection = TcpStream::connect(&server.address).expect("a connection");
    let key = &server.key;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuth-Token: {key}\r\nConnection: close\r\n\r\n"
    );
    connection.write_all(request.as_bytes()).expect("sent");
    let mut text = String::new();
    connection.read_to_string(&mut text).expect("an answer");
    assert!(text.starts_with("HTTP/1.1 200"), "{path}: {text}");
    text
}

/// SQLite in its own process.
struct Baseline {
    child: Child,
    input: BufWriter<ChildStdin>,
    output: BufReader<ChildStdout>,
    is_filled: bool,
}

/// The fields that both sides get, without those that only pages show.
const COLUMNS: [&str; 36] = [
    "date",
    "signature",
    "proto_signature",
    "product",
    "version",
    "release_channel",
    "build_id",
    "process_type",
    "state",
    "report_type",
    "throttle_rule",
    "reason",
    "address",
    "startup_crash",
    "crashing_thread",
    "thread_count",
    "modules_in_stack",
    "platform",
    "platform_version",
    "platform_pretty_version",
    "cpu_arch",
    "cpu_info",
    "cpu_count",
    "cpu_microcode_version",
    "adapter_vendor_id",
    "adapter_device_id",
    "adapter_driver_version",
    "total_physical_memory",
    "available_physical_memory",
    "available_virtual_memory",
    "system_memory_use_percentage",
    "uptime",
    "install_time",
    "useragent_locale",
    "moz_crash_reason",
    "user_comments",
];

impl Baseline {
    fn start(root: &Path) -> Option<Self> {
        std::fs::create_dir_all(root).expect("a folder");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/search/sqlite.py");
        let child = Command::new("python3")
            .arg(script)
            .arg(root.join("baseline.sqlite"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut child) = child else {
            println!("search: the baseline is left out, as there is no python3");
            return None;
        };
        let mut input = BufWriter::with_capacity(1 << 20, child.stdin.take().expect("a pipe"));
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        writeln!(input, "{}", COLUMNS.join("\t")).expect("it reads");
        Some(Self {
            child,
            input,
            output,
            is_filled: false,
        })
    }

    fn take(&mut self, crash: &Crash) {
        let mut line = crash.received_at.ms().to_string();
        for name in &COLUMNS[1..] {
            line.push('\t');
            match crash.value(name) {
                Some(Value::Text(text)) => line.push_str(text),
                Some(Value::Integer(number)) => line.push_str(&number.to_string()),
                Some(Value::Bool(value)) => line.push_str(if *value { "1" } else { "0" }),
                None => {}
            }
        }
        writeln!(self.input, "{line}").expect("it reads");
    }

    fn ask(&mut self, statements: &[(String, Vec<Json>)]) -> Json {
        writeln!(self.input, "{}", json!({ "statements": statements })).expect("it reads");
        self.input.flush().expect("it reads");
        self.answer()
    }

    /// The summary of the baseline after it has all crashes.
    fn read(&mut self) -> Json {
        if !self.is_filled {
            writeln!(self.input, ".").expect("it reads");
            self.input.flush().expect("it reads");
            self.is_filled = true;
        }
        self.answer()
    }

    fn answer(&mut self) -> Json {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("an answer");
        serde_json::from_str(&line).expect("JSON")
    }
}

impl Drop for Baseline {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
