//! The cost of computing signatures: the command compared with siggen itself, and a preview over many
//! crashes.
//!
//! `SIGGEN_PYTHON` names a Python with siggen (`pip install siggen==2.2.20241029`). Without it, the figure
//! of the command is omitted.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crashkeep::clock::{Clock, SystemClock};
use crashkeep::crash::facts::Facts;
use crashkeep::crash::id::{CrashId, Kept};
use crashkeep::naming::Naming;
use crashkeep::queue::queue;
use crashkeep::signature::{CrashData, Generator, Input, ListTexts, Lists, Ruleset, StoredFrame};
use crashkeep::store::disk::OsDisk;
use crashkeep::store::{Finished, NewCrash, Payload, Store, StoreOptions};

use super::{PROGRAM, ROUNDS, figure, median};

/// Number of stored crashes.
const CRASHES: u64 = 100_000;
/// Frames of a crashing stack and of thread 0.
const FRAMES: (u64, u64) = (40, 40);
/// How often the vectors are repeated in one run of the command. The command's start counts and siggen's
/// does not, so the start should be short compared with the run.
const REPEATS: usize = 60;

pub fn run(root: &Path) {
    let vectors = vectors();
    command(&vectors);
    let functions = functions(&vectors);
    for (name, per_input) in [("5_alike", 5), ("none_alike", 1)] {
        preview(&root.join(name), name, per_input, &functions);
    }
}

fn vectors() -> Vec<String> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/signatures/visible.jsonl.gz");
    let file = std::fs::File::open(path).expect("the vectors");
    let mut text = String::new();
    flate2::read::GzDecoder::new(file)
        .read_to_string(&mut text)
        .expect("gzip");
    let input = |line: &str| {
        let vector: serde_json::Value = serde_json::from_str(line).expect("JSON");
        vector["input"].to_string()
    };
    text.lines().map(input).collect()
}

/// Runs both in turns on the same vectors. siggen runs in one process that is already warm.
fn command(vectors: &[String]) {
    let Some(python) = std::env::var_os("SIGGEN_PYTHON") else {
        println!("signature: left out, as SIGGEN_PYTHON is not set");
        return;
    };
    const SCRIPT: &str = "import sys, json, time\n\
        from siggen.generator import SignatureGenerator\n\
        generator = SignatureGenerator()\n\
        lines = sys.stdin.read().rstrip(chr(10)).split(chr(10))\n\
        begun = time.perf_counter()\n\
        for line in lines: generator.generate(json.loads(line))\n\
        print(len(lines) / (time.perf_counter() - begun))\n";
    let once = vectors.join("\n") + "\n";
    let many = once.repeat(REPEATS);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let mut command = Command::new(&python);
        let output = fed(command.args(["-c", SCRIPT]).stderr(Stdio::null()), &once);
        theirs.push(output.trim().parse().expect("siggen's rate"));
        let begun = Instant::now();
        let output = fed(Command::new(PROGRAM).arg("signature"), &many);
        let lines = output.lines().count();
        assert_eq!(lines, vectors.len() * REPEATS);
        ours.push(lines as f64 / begun.elapsed().as_secs_f64());
    }
    figure(
        "signature",
        median(ours),
        "crashes/s",
        "siggen",
        median(theirs),
    );
}

/// The output of a command for this input.
fn fed(command: &mut Command, input: &str) -> String {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input.as_bytes()).expect("it reads"));
        let mut output = String::new();
        let mut stdout = child.stdout.take().expect("a pipe");
        stdout.read_to_string(&mut output).expect("it prints");
        assert!(child.wait().expect("its end").success());
        output
    })
}

/// Real functions from the stacks of the vectors.
fn functions(vectors: &[String]) -> Vec<String> {
    let mut functions = Vec::new();
    for vector in vectors {
        let value: serde_json::Value = serde_json::from_str(vector).expect("JSON");
        let threads = value["threads"].as_array().into_iter().flatten();
        for frame in threads.flat_map(|t| t["frames"].as_array().into_iter().flatten()) {
            let function = frame["function"].as_str().filter(|f| !f.is_empty());
            functions.extend(function.filter(|f| f.len() < 300).map(str::to_owned));
        }
    }
    functions.sort();
    functions.dedup();
    functions
}

/// A preview over crashes, of which `per_input` each have the same signature input.
fn preview(root: &Path, name: &str, per_input: u64, functions: &[String]) {
    std::fs::create_dir_all(root).expect("a folder");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (lanes, jobs, _stop) = queue(256, 256);
    let options = StoreOptions {
        cache_bytes: 64 << 20,
        spill_dir: root.to_path_buf(),
    };
    let disk = Arc::new(OsDisk::new(&root.join("data")).expect("a disk"));
    let store = Store::open(disk, options, clock.clone(), Box::new(lanes)).expect("a store");
    let store = Arc::new(store);
    let generator = Generator::new(Ruleset::Crashkeep, Arc::new(Lists::builtin()));
    let next = AtomicU64::new(1);
    std::thread::scope(|scope| {
        for _ in 0..128 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number > CRASHES {
                        return;
                    }
                    // Above the bits that all ids have in common.
                    let id = CrashId::new(u128::from(number) << 80, Kept::Accepted, clock.now());
                    let accepted = store.accept(NewCrash {
                        id,
                        received_at: clock.now(),
                        product: "Lynx".into(),
                        version: "1".into(),
                        throttle_rule: "r".into(),
                        deferred_days: None,
                        raw: Payload::from_bytes(br#"{"annotations": {}, "metadata": {}}"#),
                        digest: None,
                        parts: Vec::new(),
                    });
                    accepted.expect("durable");
                }
            });
        }
        for done in 0..CRASHES {
            let job = jobs.next().expect("a job");
            let named = input(done / per_input, functions);
            let signature = generator.generate(&named.crash_data()).text;
            let finished = Finished {
                processed: Payload::from_bytes(b"{}"),
                signature,
                processed_at: clock.now(),
                facts: Facts::default(),
                lacks: Vec::new(),
                used: Vec::new(),
                named,
                revision: 0,
                failure: None,
            };
            store.finish(job, finished).expect("the store runs");
        }
    });
    // The answer of the writer comes after everything that was sent before.
    store.forget_frames().expect("readable");
    store.audit().expect("readable");
    let naming = Naming::open(store.clone(), Ruleset::Crashkeep).expect("the lists");
    let mut texts = ListTexts::builtin();
    texts.0[0].push_str("\nmozilla::\n");
    texts.0[1].push_str("\nstd::\n");
    texts.0[4].push_str("merge js::* => the script engine\n");
    let (mut seconds, mut whole) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let preview = naming.preview(texts.clone()).expect("good lists");
        seconds.push(begun.elapsed().as_secs_f64());
        assert!(
            preview.crashes >= CRASHES - 1_000 && preview.changed > 0,
            "{preview:?}"
        );
        // The same without stored inputs: the same number of crashes, computed from their complete data.
        let inputs: Vec<_> = (0..1_000).map(|n| input(n, functions)).collect();
        let begun = Instant::now();
        for input in &inputs {
            let data: CrashData = input.crash_data();
            std::hint::black_box(generator.generate(&data));
        }
        whole.push(begun.elapsed().as_secs_f64() * CRASHES as f64 / inputs.len() as f64);
    }
    let bytes = std::fs::metadata(root.join("data/store.redb")).map_or(0, |m| m.len());
    println!(
        "preview_{name}: {CRASHES} crashes, store.redb has {} MiB",
        bytes >> 20
    );
    figure(
        &format!("preview_100k_{name}"),
        median(seconds),
        "s",
        "each_named_from_its_whole_data",
        median(whole),
    );
    store.close();
}

/// A signature input: real functions in an order that depends on `number`.
fn input(number: u64, functions: &[String]) -> Input<StoredFrame> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut frame = || {
        // xorshift: the same crashes in each round.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let frame = StoredFrame {
            function: Some(functions[state as usize % functions.len()].clone()),
            ..StoredFrame::default()
        };
        frame.reduced(false)
    };
    Input {
        product: "Lynx".into(),
        crashing: (0..FRAMES.0).map(|_| frame()).collect(),
        first: Some((0..FRAMES.1).map(|_| frame()).collect()),
        reason: Some("SIGSEGV / SEGV_MAPERR".into()),
        mdsw_status_string: Some("OK".into()),
        ..Input::default()
    }
}
