//! The cost of walking dumps that are hostile or damaged.

#[path = "../../tests/it/hostile.rs"]
mod hostile;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crashkeep::appliance::{Appliance, Place};
use crashkeep::config::Config;
use crashkeep::stackwalk::{
    MAP_BYTES_MAX, Mode, SymbolCache, WalkLimits, Walker, WalkerOptions, walk,
};
use crashkeep::symbols::SymbolDirs;

use super::symbols::{cpu, memory_kb};
use super::{PROGRAM, ROUNDS, Server, connections, dumps, figure, median, post, rate, request};

const MUTANTS: usize = 10_000;
/// Valid crashes in the benchmark of faults.
const GOOD: usize = 3_000;
/// Time limit for them, many times what they need.
const GOOD_SECONDS_MAX: Duration = Duration::from_secs(120);

/// Walks each kind of hostile dump in its own walker. Compares time and memory with the limits.
pub fn hostile() {
    let small = dumps().into_iter().min_by_key(Vec::len).expect("dumps");
    for (name, dump) in hostile::dumps() {
        let mut times = vec![];
        let mut memory = 0;
        for _ in 0..ROUNDS {
            let mut walker = Walker::new(WalkerOptions::new(PROGRAM.into()));
            walker.walk(&small).expect("a walker").expect("a walk");
            let begun = Instant::now();
            walker.walk(&dump).expect("no fault").expect("a walk");
            times.push(begun.elapsed().as_secs_f64() * 1000.0);
            let pid = walker.pid().expect("it lives");
            memory = memory.max(memory_kb(pid, "VmHWM:"));
        }
        let memory = memory as f64 / 1024.0;
        figure(
            &format!("hostile_{name}"),
            median(times),
            "ms",
            "limit",
            250.0,
        );
        figure(
            &format!("hostile_{name}_peak"),
            memory,
            "MiB",
            "limit",
            128.0,
        );
    }
}

/// CPU time for the text of one frame. Compares a normal walk with one whose output limit is 0, which
/// unwinds the same frames and writes neither frames nor modules.
pub fn json(root: &Path) {
    let symbols = root.join("json-symbols");
    super::unpack(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/symbols"),
        &symbols,
    );
    let cache = SymbolCache::new(SymbolDirs::new(vec![symbols]), MAP_BYTES_MAX);
    let mute = WalkLimits {
        json_bytes_max: 0,
        ..WalkLimits::NONE
    };
    let name = "tests/fixtures/dumps/linux-x86_64-acmed_stack_overflow.dmp";
    let dump = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect("a dump");
    let mut per_frame = vec![];
    for _ in 0..ROUNDS {
        let (mut all_us, mut mute_us, mut frames) = (0.0, 0.0, 0);
        for _ in 0..40 {
            let begun = cpu::own();
            let json = walk(&dump, &cache, &WalkLimits::NONE, Mode::True).expect("a walk");
            all_us += (cpu::own() - begun) * 1e6;
            let begun = cpu::own();
            walk(&dump, &cache, &mute, Mode::True).expect_err("no room");
            mute_us += (cpu::own() - begun) * 1e6;
            frames += frames_of(&json);
        }
        per_frame.push((all_us - mute_us) / frames as f64);
    }
    figure("json", median(per_frame), "cpu_us/frame", "limit", 1.0);
}

/// Number of frames of all threads. The JSON contains those of the crashing thread twice.
fn frames_of(json: &[u8]) -> usize {
    let json: serde_json::Value = serde_json::from_slice(json).expect("JSON");
    let threads = json["threads"].as_array().expect("threads");
    let frames = threads
        .iter()
        .map(|thread| thread["frames"].as_array().map_or(0, Vec::len));
    frames.sum()
}

/// Sends real dumps with changed bytes to a server. The processing of each must end.
pub fn mutants(root: &Path) {
    let dumps: Vec<_> = dumps()
        .into_iter()
        .filter(|dump| dump.len() < 300 << 10)
        .collect();
    let server = Server::start(&root.join("mutants"));
    let lines = connections(&server, 4);
    let begun = Instant::now();
    rate(4, MUTANTS, |thread, n| {
        let mutant = mutated(&dumps[n % dumps.len()], n as u64);
        post(
            &mut lines[thread].lock().expect("no panic"),
            &request(&mutant),
        );
    });
    while server.metric("crashkeep_processed") + server.metric("crashkeep_failed") < MUTANTS as f64
    {
        assert!(
            begun.elapsed() < Duration::from_secs(900),
            "some do not end"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "figure mutants_ended {MUTANTS} dumps baseline none 0 ({seconds:.0} s, {} failed, {} walker faults, {} panics)",
        server.metric("crashkeep_failed"),
        server.metric("crashkeep_walker_faults_total"),
        server.metric("crashkeep_panics_total"),
    );
    server.stop();
}

/// Changes some bytes. Every third time near the beginning, where the lists are.
fn mutated(dump: &[u8], seed: u64) -> Vec<u8> {
    let mut state = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut below = |limit: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 20) as usize % limit.max(1)
    };
    let mut bytes = dump.to_vec();
    let reach = match seed % 3 {
        0 => bytes.len().min(4096),
        _ => bytes.len(),
    };
    for _ in 0..=below(16) {
        let at = below(reach);
        let word = at..(at + 4).min(bytes.len());
        match below(4) {
            0 => bytes[at] ^= 1 << below(8),
            1 => bytes[word].fill(0xff),
            2 => {
                let value = (below(1 << 30) as u32).to_le_bytes();
                let length = word.len();
                bytes[word].copy_from_slice(&value[..length]);
            }
            _ => {
                let length = below(256).min(bytes.len() - at);
                let from = below(bytes.len() - length);
                bytes.copy_within(from..from + length, at);
            }
        }
    }
    bytes
}

/// The rate of valid crashes on a server whose walkers commit a fault at every hundredth crash, compared
/// with the rate without faults.
pub fn faults(root: &Path) {
    let dumps = dumps();
    let all = ["abort", "loop", "overflow", "stop", "memory", "garbage"];
    for (name, words) in [
        ("of_all_kinds", &all[..]),
        ("that_die", &["abort", "overflow", "memory", "garbage"]),
        ("that_hang", &["loop", "stop"]),
    ] {
        let (mut with, mut without) = (vec![], vec![]);
        for round in 0..ROUNDS {
            for (words, rates) in [(&[][..], &mut without), (words, &mut with)] {
                let folder = root.join(format!("faults-{name}-{round}-{}", words.len()));
                rates.push(good_rate(&folder, &dumps, words));
            }
        }
        let (with, without) = (median(with), median(without));
        figure(
            &format!("good_crashes_beside_faults_{name}"),
            with,
            "crashes/s",
            "alone",
            without,
        );
    }
}

fn good_rate(folder: &Path, dumps: &[Vec<u8>], faults: &[&str]) -> f64 {
    fs::create_dir_all(folder).expect("a folder");
    let program = folder.join("walker");
    fs::write(
        &program,
        format!("#!/bin/sh\nexec {PROGRAM} \"$@\" --plant-faults\n"),
    )
    .expect("a script");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("executable");
    let place = Place {
        data: folder.join("data"),
        program,
        read_only: false,
    };
    let config = Config::parse("bench", "[http]\nlisten = \"127.0.0.1:0\"\n").expect("good");
    let appliance = Appliance::start(config, &place).expect("a server");
    let server = Server::at(&appliance.address().to_string());
    let lines = connections(&server, 4);
    let begun = Instant::now();
    rate(4, GOOD, |thread, n| {
        let mut line = lines[thread].lock().expect("no panic");
        if n % 100 == 50 && !faults.is_empty() {
            let order = format!("CKFAULT {}", faults[n / 100 % faults.len()]);
            post(&mut line, &request(order.as_bytes()));
        }
        post(&mut line, &request(&dumps[n % dumps.len()]));
    });
    // Valid crashes become processed. Crashes that order a fault do not.
    while server.metric("crashkeep_processed") < GOOD as f64 {
        assert!(
            begun.elapsed() < GOOD_SECONDS_MAX,
            "the good ones do not end"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    let rate = GOOD as f64 / begun.elapsed().as_secs_f64();
    drop(lines);
    appliance.stop();
    rate
}
