//! Many real uploads through the collector of a real server: what each costs, and whether the cost grows.
//!
//! `LOAD_CRASHES=1000000 LOAD_DATA=DIR cargo bench --bench appliance -- load`. The server runs in this process,
//! because its clock must follow the dates of the reports. The run can be stopped, or killed, and continued: it
//! goes on after the crashes that the data directory has. `LOAD_EVERY` is the number of crashes between two
//! reports.

mod dumps;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crashkeep::appliance::{Appliance, Place};
use crashkeep::clock::{Clock, Timestamp};
use crashkeep::config::Config;
use crashkeep::fields::Source;

use super::search::crashes::{PRODUCTS, Random, Site, Value};
use super::{PROGRAM, Server, TICKS, connections, post};
use dumps::Base;

const CONNECTIONS: usize = 8;
/// Crashes that may wait to be processed before the clients pause.
const WAITING_MAX: u64 = 4_000;
/// How often a page is requested.
const PAGE_ROUNDS: u32 = 10;

/// The time of the report that is sent.
struct Dated(AtomicI64);

impl Clock for Dated {
    fn now(&self) -> Timestamp {
        Timestamp::from_ms(self.0.load(Ordering::Relaxed))
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

pub fn run(root: &Path) {
    let crashes = setting("LOAD_CRASHES", 20_000);
    let every = setting("LOAD_EVERY", 100_000).min(crashes);
    let data = std::env::var_os("LOAD_DATA").map_or(root.join("load"), PathBuf::from);
    let site = Site::new(crashes, 60);
    let bases: Vec<Base> = super::dumps().into_iter().filter_map(Base::new).collect();
    // Most dumps of clients are small.
    let bases: Vec<Base> = bases.into_iter().filter(Base::is_small).collect();
    let clock = Arc::new(Dated(AtomicI64::new(site.crash(0).received_at.ms())));
    let place = Place {
        data: data.clone(),
        program: PROGRAM.into(),
        read_only: false,
    };
    let text = "[http]\nlisten = \"127.0.0.1:0\"\n[retention]\nprocessed_days = 3650\n";
    let config = Config::parse("load", text).expect("good");
    let appliance = Appliance::start_at(config, &place, clock.clone()).expect("a server");
    let mut server = Server::at(&appliance.address().to_string());
    server.key = appliance.local_key().unwrap_or_default();
    let load = Load {
        site,
        bases,
        clock,
        server,
        data,
    };
    let mut next = load.stored();
    println!("load: {next} of {crashes} crashes are stored already");
    while next < crashes {
        let end = (next / every + 1) * every;
        load.stretch(next, end.min(crashes));
        next = end;
    }
    let begun = Instant::now();
    appliance.stop();
    println!("figure load_stop {:.2} s", begun.elapsed().as_secs_f64());
}

struct Load {
    site: Site,
    bases: Vec<Base>,
    clock: Arc<Dated>,
    server: Server,
    data: PathBuf,
}

impl Load {
    fn stored(&self) -> u64 {
        let states = ["queued", "deferred", "processing", "processed", "failed"];
        let count = |state: &str| self.server.metric(&format!("crashkeep_{state}")) as u64;
        states.into_iter().map(count).sum()
    }

    /// Sends the crashes of a range, waits until all are processed, and prints the costs.
    fn stretch(&self, from: u64, to: u64) {
        let before = Costs::now();
        let begun = Instant::now();
        let next = AtomicU64::new(from);
        let lines = connections(&self.server, CONNECTIONS);
        let times = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for line in &lines {
                let (next, times) = (&next, &times);
                scope.spawn(move || {
                    let line = &mut line.lock().expect("no panic");
                    let mut own = Vec::new();
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= to {
                            break;
                        }
                        if number % 500 == 0 {
                            self.wait_until_fewer_wait();
                        }
                        own.push(self.send(number, line));
                    }
                    times.lock().expect("no panic").extend(own);
                });
            }
        });
        self.server.wait_idle();
        let took = begun.elapsed().as_secs_f64();
        let count = (to - from) as f64;
        let mut times = times.into_inner().expect("no panic");
        times.sort_unstable();
        let share = |of: usize| times[(times.len() * of / 100).min(times.len() - 1)].as_secs_f64();
        println!("\nload at {to} crashes");
        println!("figure load_rate {:.0} crashes/s", count / took);
        println!(
            "figure load_upload p50 {:.2} ms p99 {:.2} ms",
            share(50) * 1e3,
            share(99) * 1e3
        );
        before.print(&Costs::now(), count);
        self.print_sizes(to as f64);
        self.print_pages();
    }

    fn wait_until_fewer_wait(&self) {
        while self.server.metric("crashkeep_queued") as u64 > WAITING_MAX {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn send(&self, number: u64, line: &mut TcpStream) -> Duration {
        let crash = self.site.crash(number);
        self.clock
            .0
            .fetch_max(crash.received_at.ms(), Ordering::Relaxed);
        let mut annotations = BTreeMap::new();
        for (name, value) in &crash.values {
            let field = self.site.catalogue.by_name(name).expect("a field");
            if let Source::Annotation(key) = &field.source {
                let text = match value {
                    Value::Text(text) => text.clone(),
                    Value::Integer(number) => number.to_string(),
                    Value::Bool(value) => u8::from(*value).to_string(),
                };
                annotations.insert(key.to_string(), text);
            }
        }
        let kind = match crash.value("signature") {
            Some(Value::Text(text)) => text.bytes().fold(7, |hash: u64, byte| {
                hash.wrapping_mul(0x100_0000_01b3) ^ u64::from(byte)
            }),
            _ => 0,
        };
        let base = &self.bases[Random::new(kind).below(self.bases.len() as u64) as usize];
        let request = request(&annotations, &base.crash(kind, number));
        let begun = Instant::now();
        post(line, &request);
        begun.elapsed()
    }

    fn print_sizes(&self, crashes: f64) {
        let mut total = 0.0;
        for part in ["store.redb", "segments", "index", "symbols"] {
            let bytes = allocated(&self.data.join(part)) as f64;
            total += bytes;
            println!(
                "figure load_size_{part} {:.1} MB {:.0} bytes/crash",
                bytes / 1e6,
                bytes / crashes
            );
        }
        println!("figure load_size {:.1} MB", total / 1e6);
        let anonymous = in_file("/proc/self/status", "RssAnon:").unwrap_or(0.0) / 1024.0;
        println!("figure load_anonymous {anonymous:.0} MiB");
    }

    fn print_pages(&self) {
        let product = PRODUCTS[0].0;
        let pages = [
            ("home", "/".to_owned()),
            ("product_home", format!("/home/product/{product}")),
            ("top_crashers", format!("/topcrashers/?product={product}")),
            ("trends", format!("/trends/?product={product}")),
            ("urls", format!("/trends/urls/?product={product}")),
            ("search", format!("/search/?product={product}")),
            ("symbols", "/symbols/".to_owned()),
            ("status", "/status/".to_owned()),
        ];
        for (name, path) in pages {
            let get = || self.server.get(&path);
            assert_eq!(get(), 200, "{path}");
            let before = cpu_ms();
            for _ in 0..PAGE_ROUNDS {
                get();
            }
            let cost = (cpu_ms() - before) / f64::from(PAGE_ROUNDS);
            println!("figure load_page_{name} {cost:.1} ms CPU");
        }
    }
}

/// A report with these annotations, as one request on a keep-alive connection.
fn request(annotations: &BTreeMap<String, String>, dump: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(dump.len() + 4096);
    for (key, value) in annotations {
        let _ = write!(
            body,
            "--b\r\nContent-Disposition: form-data; name=\"{key}\"\r\n\r\n{value}\r\n"
        );
    }
    body.extend_from_slice(
        b"--b\r\nContent-Disposition: form-data; name=\"upload_file_minidump\"; filename=\"d\"\r\n\r\n",
    );
    body.extend_from_slice(dump);
    body.extend_from_slice(b"\r\n--b--\r\n");
    let head = format!(
        "POST /submit HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.into_bytes(), body].concat()
}

/// What this process has used so far.
struct Costs {
    /// CPU time in ms by the name of the thread, without its number.
    threads: BTreeMap<String, f64>,
    /// CPU time of the walkers, in ms.
    walkers: f64,
    /// Bytes that reached the disk.
    written: f64,
}

impl Costs {
    fn now() -> Self {
        let mut threads = BTreeMap::new();
        for task in folder(Path::new("/proc/self/task")) {
            let name = fs::read_to_string(task.join("comm")).unwrap_or_default();
            let name = name
                .trim()
                .trim_end_matches(|c: char| c.is_ascii_digit() || c == '-');
            *threads.entry(name.to_owned()).or_default() += ticks_ms(&task.join("stat"));
        }
        let own = std::process::id().to_string();
        let is_child = |stat: &str| {
            let after = stat.rsplit(") ").next().unwrap_or_default();
            after.split(' ').nth(1) == Some(&own)
        };
        let stats = folder(Path::new("/proc"))
            .into_iter()
            .map(|p| p.join("stat"));
        let walkers = stats
            .filter(|path| fs::read_to_string(path).is_ok_and(|stat| is_child(&stat)))
            .map(|path| ticks_ms(&path))
            .sum();
        Self {
            threads,
            walkers,
            written: in_file("/proc/self/io", "write_bytes:").unwrap_or(0.0),
        }
    }

    fn print(&self, after: &Self, crashes: f64) {
        let mut server = 0.0;
        for (name, ms) in &after.threads {
            let ms = (ms - self.threads.get(name).unwrap_or(&0.0)) / crashes;
            if ms >= 0.001 {
                println!("figure load_cpu_{name} {ms:.3} ms/crash");
            }
            // The clients are threads of this process, too.
            if !name.starts_with("appliance") {
                server += ms;
            }
        }
        println!("figure load_cpu {server:.3} ms/crash without walkers");
        let walkers = (after.walkers - self.walkers) / crashes;
        println!("figure load_cpu_walkers {walkers:.3} ms/crash");
        let written = (after.written - self.written) / crashes;
        println!("figure load_written {:.1} KB/crash", written / 1e3);
    }
}

fn folder(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten();
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect()
}

/// CPU time in a file `stat` of /proc.
fn ticks_ms(path: &Path) -> f64 {
    let stat = fs::read_to_string(path).unwrap_or_default();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or("")
        .split_whitespace()
        .collect();
    let ticks = |at: usize| {
        fields
            .get(at)
            .and_then(|f| f.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    (ticks(11) + ticks(12)) / TICKS * 1000.0
}

fn cpu_ms() -> f64 {
    ticks_ms(Path::new("/proc/self/stat"))
}

/// The number after a name in a file of /proc.
fn in_file(path: &str, name: &str) -> Option<f64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Blocks that a file or folder uses, in bytes.
fn allocated(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let own = fs::symlink_metadata(path).map_or(0, |m| m.blocks() * 512);
    own + folder(path).iter().map(|path| allocated(path)).sum::<u64>()
}
