//! The cost of symbols in a walk, compared with programs that parse the text of symbol files.
//!
//! The symbol file is a real one of the corpus, extended after its last address. So the frames are real, and
//! the size is that of a large program.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use crashkeep::stackwalk::{Walker, WalkerOptions};
use crashkeep::symbols::SymbolDirs;
use crashkeep::symbols::mapped::{Check, Mapped, MappedDir, Stamp, convert};
use minidump_unwind::{Symbolizer, simple_symbol_supplier};

use super::{PROGRAM, ROUNDS, figure, median};

const DUMP: &str = "linux-x86_64-acmed_null_read";
const WALKS: usize = 200;

pub fn run(root: &Path) {
    small(&root.join("symbols-small"));
    for megabytes in [60, 200] {
        let root = root.join(format!("symbols-{megabytes}"));
        let dump = fixture(&format!("dumps/{DUMP}.dmp"));
        let id = module_id(&dump);
        let folder = root.join("symbols/acmed").join(&id);
        fs::create_dir_all(&folder).expect("a folder");
        let text = grown(&id, megabytes << 20);
        let path = folder.join("acmed.sym");
        fs::write(&path, &text).expect("a file");
        conversion(megabytes, &text);
        drop(text);
        let mapped = MappedDir::new(root.join("mapped"), root.join("incoming"));
        opening(megabytes, &root, &path, &mapped, &id);
        walking(
            &format!("{megabytes}mb"),
            &root,
            &fs::read(dump).expect("a dump"),
            mapped,
        );
    }
}

/// The unchanged symbols of the corpus: less than a megabyte.
fn small(root: &Path) {
    let dump = fixture(&format!("dumps/{DUMP}.dmp"));
    let id = module_id(&dump);
    let folder = root.join("symbols/acmed").join(&id);
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("acmed.sym"), grown(&id, 0)).expect("a file");
    let mapped = MappedDir::new(root.join("mapped"), root.join("incoming"));
    walking("small", root, &fs::read(dump).expect("a dump"), mapped);
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

/// The debug id of `acmed` in the dump.
fn module_id(dump: &Path) -> String {
    let walk = Command::new(PROGRAM)
        .args(["walk", "--json"])
        .arg(dump)
        .output();
    let json: serde_json::Value =
        serde_json::from_slice(&walk.expect("it runs").stdout).expect("JSON");
    let modules = json["modules"].as_array().expect("modules");
    let acmed = modules.iter().find(|m| m["debug_file"] == "acmed");
    let id = acmed.expect("acmed is loaded")["debug_id"].as_str();
    id.expect("it has an id").to_owned()
}

/// The symbol file of the corpus, extended by functions, lines, inlined calls and CFI in the proportions of
/// a C++ or Rust program.
fn grown(id: &str, bytes: usize) -> String {
    let packed = File::open(fixture(&format!("symbols/acmed/{id}/acmed.sym.gz"))).expect("symbols");
    let mut text = String::new();
    flate2::read::GzDecoder::new(packed)
        .read_to_string(&mut text)
        .expect("text");
    let mut cfi = String::new();
    let mut address = 0x1000_0000_u64;
    for n in 0_u64.. {
        if text.len() + cfi.len() >= bytes {
            break;
        }
        let size = 0x80 + n % 7 * 0x40;
        let _ = writeln!(
            text,
            "FUNC {address:x} {size:x} 0 namespace_{}::Type_{}<std::string, {n}>::method_{n}(int, char const*)",
            n % 13,
            n % 101
        );
        for inline in 0..n % 5 {
            let at = address + inline * 0x18;
            let _ = writeln!(
                text,
                "INLINE {inline} {} {} {} {at:x} 18",
                n % 900,
                n % 50,
                n % 60
            );
        }
        for line in 0..size / 8 {
            let at = address + line * 8;
            let _ = writeln!(text, "{at:x} 8 {} {}", n % 3000 + line, (n + line) % 50);
        }
        let _ = writeln!(
            cfi,
            "STACK CFI INIT {address:x} {size:x} .cfa: $rsp 8 + .ra: .cfa -8 + ^\n\
             STACK CFI {:x} .cfa: $rsp 16 + $rbp: .cfa -16 + ^\n\
             STACK CFI {:x} .cfa: $rsp {} +",
            address + 1,
            address + 4,
            16 + n % 40 * 8
        );
        address += size;
    }
    text + &cfi
}

const STAMP: Stamp = Stamp {
    bytes: 0,
    modified_ns: 0,
};

/// Conversion from text to the mapped form, both in memory, compared with parsing by breakpad-symbols.
fn conversion(megabytes: usize, text: &str) {
    let size = text.len() as f64 / 1e6;
    let (mut ours, mut theirs, mut share) = (vec![], vec![], 0.0);
    for _ in 0..ROUNDS {
        let begun = cpu::own();
        let mut out = Cursor::new(Vec::new());
        convert(text.as_bytes(), STAMP, None, &mut out).expect("memory");
        ours.push(size / (cpu::own() - begun));
        share = out.into_inner().len() as f64 / text.len() as f64;
        let begun = cpu::own();
        let parsed = breakpad_symbols::SymbolFile::from_bytes(text.as_bytes()).expect("symbols");
        theirs.push(size / (cpu::own() - begun));
        drop(parsed);
    }
    let name = format!("symbols_{megabytes}mb_conversion");
    figure(
        &name,
        median(ours),
        "MB/cpu_s",
        "breakpad_symbols_parse",
        median(theirs),
    );
    println!("figure symbols_{megabytes}mb_mapped_size {share:.2} of_the_text baseline none 0");
}

/// Time to open a mapped file: as walkers do, with the checksum of the head only, and as programs do that
/// cannot have the file made again.
fn opening(megabytes: usize, root: &Path, text: &Path, mapped: &MappedDir, id: &str) {
    let begun = Instant::now();
    let texts = SymbolDirs::new(vec![root.join("symbols")]);
    assert!(mapped.convert(&texts, "acmed", id).expect("a mapped file"));
    let on_disk = begun.elapsed().as_secs_f64() * 1000.0;
    println!("figure symbols_{megabytes}mb_map_on_disk {on_disk:.0} ms baseline none 0");
    let path = MappedDir::path_in(mapped.root(), "acmed", id).expect("a path");
    let time = |check| {
        let begun = Instant::now();
        let mapped = Mapped::open(&File::open(&path).expect("a file"), check).expect("whole");
        let time = begun.elapsed().as_secs_f64() * 1000.0;
        assert_eq!(mapped.corrupt(), None);
        time
    };
    let whole = median((0..ROUNDS).map(|_| time(Check::Whole)).collect());
    let pieces = median((0..ROUNDS * 20).map(|_| time(Check::Pieces)).collect());
    let parse = median(
        (0..ROUNDS)
            .map(|_| {
                let begun = Instant::now();
                let parsed = breakpad_symbols::SymbolFile::from_file(text).expect("symbols");
                let time = begun.elapsed().as_secs_f64() * 1000.0;
                drop(parsed);
                time
            })
            .collect(),
    );
    let name = format!("symbols_{megabytes}mb_open");
    figure(
        &format!("{name}_first"),
        pieces,
        "ms",
        "breakpad_symbols_parse",
        parse,
    );
    figure(
        &format!("{name}_whole"),
        whole,
        "ms",
        "breakpad_symbols_parse",
        parse,
    );
}

/// The cost of one crash for a walker and its worker together. Compared with one process per crash, and with
/// one long-running symbolizer of the minidump crates.
///
/// The unit is crashes per second of CPU time, including system time. The wall-clock time would depend on
/// other processes on the machine.
fn walking(size: &str, root: &Path, dump: &[u8], mapped: MappedDir) {
    let symbols = root.join("symbols");
    let file = root.join("crash.dmp");
    fs::write(&file, dump).expect("a file");
    let mut options = WalkerOptions::new(PROGRAM.into());
    options.symbols = vec![symbols.clone()];
    options.mapped = Some(Arc::new(mapped));
    let mut walker = Walker::new(options);
    let symbolizer = Symbolizer::new(simple_symbol_supplier(vec![symbols.clone()]));
    let in_process = || {
        let read = minidump::Minidump::read(dump).expect("a dump");
        let walk = minidump_processor::process_minidump(&read, &symbolizer);
        let Poll::Ready(state) = pin!(walk).poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("a lone walk waits for nobody");
        };
        let mut json = Vec::new();
        let state = state.expect("a walk");
        state.print_json(&mut json, false).expect("JSON");
        json
    };
    // Both have loaded their symbols before the measurement starts.
    let before = cpu::own();
    let ours = walker.walk(dump).expect("a walker").expect("a walk");
    let theirs = in_process();
    assert!(cpu::own() > before, "processor time can be read");
    assert_eq!(frames(&ours), frames(&theirs), "the same walk");
    let (mut walks, mut symbolizers, mut processes) = (vec![], vec![], vec![]);
    let program = tool();
    let child = walker.pid().expect("the walker lives");
    for _ in 0..ROUNDS {
        let begun = cpu::own() + cpu::of(child);
        for _ in 0..WALKS {
            walker.walk(dump).expect("a walker").expect("a walk");
        }
        walks.push(WALKS as f64 / (cpu::own() + cpu::of(child) - begun));
        let begun = cpu::own();
        for _ in 0..WALKS {
            in_process();
        }
        symbolizers.push(WALKS as f64 / (cpu::own() - begun));
        let Some(program) = &program else { continue };
        let begun = cpu::ended_children();
        let mut runs = 0.0;
        // The system measures ended children in hundredths of a second.
        while cpu::ended_children() - begun < 0.5 {
            let status = Command::new(program)
                .args(["--json", "--symbols-path"])
                .args([&symbols, &file])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            assert!(status.expect("it runs").success());
            runs += 1.0;
        }
        processes.push(runs / (cpu::ended_children() - begun));
    }
    let name = format!("symbols_{size}_walker");
    let walks = median(walks);
    figure(
        &name,
        walks,
        "crashes/cpu_s",
        "shared_symbolizer_in_process",
        median(symbolizers),
    );
    if processes.is_empty() {
        println!(
            "skipped {name} against minidump_stackwalk_process: no minidump-stackwalk on PATH or in $MINIDUMP_STACKWALK"
        )
    } else {
        figure(
            &name,
            walks,
            "crashes/cpu_s",
            "minidump_stackwalk_process",
            median(processes),
        )
    }
    let private = memory_kb(child, "RssAnon:") as f64 / 1024.0;
    println!("figure symbols_{size}_private_memory {private:.1} MB baseline none 0");
}

/// CPU time in seconds, user plus system.
pub mod cpu {
    use std::fs;

    use rustix::time::{ClockId, clock_gettime};

    use crate::TICKS;

    /// CPU time of this process with all its threads.
    pub fn own() -> f64 {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
    }

    /// CPU time of a process with one thread.
    pub fn of(pid: u32) -> f64 {
        let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).expect("Linux");
        let nanoseconds = text.split(' ').next().and_then(|n| n.parse::<f64>().ok());
        nanoseconds.expect("a number") / 1e9
    }

    /// CPU time of those children of this process that have ended.
    pub fn ended_children() -> f64 {
        let stat = fs::read_to_string("/proc/self/stat").expect("Linux");
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let ticks = fields.split_whitespace().skip(13).take(2);
        ticks
            .filter_map(|ticks| ticks.parse::<f64>().ok())
            .sum::<f64>()
            / TICKS
    }
}

/// The value of one line in /proc/PID/status.
pub fn memory_kb(pid: u32, key: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    let kb = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    kb.expect("a number")
}

/// Function and line of all frames of the crashing thread.
fn frames(json: &[u8]) -> Vec<String> {
    let json: serde_json::Value = serde_json::from_slice(json).expect("JSON");
    let frames = json["crashing_thread"]["frames"]
        .as_array()
        .expect("frames");
    frames
        .iter()
        .map(|frame| {
            format!(
                "{} {} {}",
                frame["offset"], frame["function"], frame["line"]
            )
        })
        .collect()
}

fn tool() -> Option<PathBuf> {
    let named = std::env::var_os("MINIDUMP_STACKWALK").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("minidump-stackwalk"));
    named.into_iter().chain(on_path).find(|path| path.is_file())
}
