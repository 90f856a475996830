//! Rebuilds the index from the rows of a store.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crashkeep::clock::Timestamp;
use crashkeep::crash::facts::Facts;
use crashkeep::crash::raw::RawCrash;
use crashkeep::fields::Catalogue;
use crashkeep::index::Index;
use crashkeep::indexer;
use crashkeep::queue::queue;
use crashkeep::store::{Finished, NewCrash, Payload};
use rustix::time::ClockId;
use serde_json::json;

use super::crashes::{Site, Value};
use super::{FIELDS, open_store, seconds};

/// Threads of a walk, and frames of each thread. The indexer skips this part of a processed crash.
const THREADS: usize = 30;
const FRAMES: usize = 8;

pub fn run(root: &Path, crashes: u64) {
    let site = Site::new(crashes, FIELDS);
    let (lanes, jobs, _stop) = queue(256, 256);
    let store = Arc::new(open_store(root, lanes));
    let frame = json!({ "frame": 1, "module": "libgeneral.so", "function": "general::walk::Frame::next",
        "offset": "0x00000000004a1b20", "trust": "cfi", "file": "src/general/walk.rs", "line": 127 });
    let thread = json!({ "frame_count": FRAMES, "frames": vec![frame; FRAMES] });
    let walk = json!({ "status": "OK", "threads": vec![thread; THREADS] }).to_string();
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= crashes {
                        return;
                    }
                    let crash = site.crash(number);
                    let mut raw = RawCrash::default();
                    for (name, value) in &crash.values {
                        let text = match value {
                            Value::Text(text) => text.clone(),
                            Value::Integer(number) => number.to_string(),
                            Value::Bool(value) => value.to_string(),
                        };
                        // Some of these are fields, some are not.
                        raw.annotations.insert(format!("X{}", name.len() % 8), text);
                    }
                    let accepted = store.accept(NewCrash {
                        id: crash.id,
                        received_at: crash.received_at,
                        product: "Lynx".into(),
                        version: "1".into(),
                        throttle_rule: "r".into(),
                        deferred_days: None,
                        raw: Payload::from_bytes(&serde_json::to_vec(&raw).expect("JSON")),
                        digest: None,
                        parts: Vec::new(),
                    });
                    accepted.expect("durable");
                }
            });
        }
        for number in 0..crashes {
            let job = jobs.next().expect("a job");
            let crash = site.crash(number);
            let processed = crash.json(&site.catalogue);
            let processed = processed.replace("{\"threads\":[]}", &walk);
            let finished = Finished {
                processed: Payload::from_bytes(processed.as_bytes()),
                signature: "s".into(),
                processed_at: Timestamp::from_ms(0),
                facts: Facts::default(),
                lacks: Vec::new(),
                used: Vec::new(),
                named: Default::default(),
                revision: 0,
                failure: None,
            };
            store.finish(job, finished).expect("the store runs");
        }
    });
    // The answer of the writer comes after everything that was sent before.
    store.sweep().expect("the store runs");
    let catalogue = Arc::new(Catalogue::builtin());
    let index = Index::open(&root.join("index"), store.id().expect("an id"), catalogue);
    let index = Arc::new(index.expect("an index"));
    // The first build creates the current index, so that the second one runs beside it.
    indexer::rebuild(&store, &index, |_| {}).expect("built");
    let (cpu, begun) = (seconds(ClockId::ProcessCPUTime), Instant::now());
    let built = indexer::rebuild(&store, &index, |_| {}).expect("built");
    let cpu = seconds(ClockId::ProcessCPUTime) - cpu;
    assert_eq!((built.rows, index.status().documents), (crashes, crashes));
    println!(
        "search_rebuild: {crashes} crashes of {} KiB each in {:.1} s",
        walk.len() >> 10,
        begun.elapsed().as_secs_f64()
    );
    println!(
        "figure search_rebuild {:.0} crashes/cpu_s baseline target 5000",
        crashes as f64 / cpu
    );
    store.close();
}
