//! Walkers that die, hang, use too much memory or send garbage, in a complete server. The server keeps
//! running, each crash ends with its reason, and the other crashes are walked.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crashkeep::appliance::{Appliance, Place};
use crashkeep::config::Config;
use serde_json::Value;

use crate::server::{Answer, PATIENCE, exchange, fixture, request, submission, wait_for};
use crate::walker::{faulty, faulty_once};

fn config(workers: usize, deadline: &str) -> Config {
    let text = format!(
        "[http]\nlisten = \"127.0.0.1:0\"\n[workers]\ncount = {workers}\nwalk_deadline = \"{deadline}\"\n"
    );
    Config::parse("faults", &text).unwrap()
}

struct Faulty {
    appliance: Appliance,
    address: String,
    _folder: tempfile::TempDir,
}

impl Faulty {
    fn start(config: Config) -> Self {
        Self::start_with(config, faulty)
    }

    /// `program` creates the program of the walkers in a folder.
    fn start_with(config: Config, program: impl FnOnce(&Path) -> PathBuf) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = Place {
            data: folder.path().join("data"),
            program: program(folder.path()),
            read_only: false,
        };
        let appliance = Appliance::start(config, &place).unwrap();
        Self {
            address: appliance.address().to_string(),
            appliance,
            _folder: folder,
        }
    }

    fn submit(&self, dump: &[u8]) -> String {
        let files: [(&str, &str, &[u8]); 1] = [("upload_file_minidump", "x.dmp", dump)];
        let form = submission(&[("ProductName", "Faulty"), ("Version", "1")], &files);
        exchange(&self.address, &form, false)
            .expect("an answer")
            .crash_id()
    }

    fn get(&self, api: &str, id: &str) -> Value {
        self.ask(&format!("/api/{api}/?crash_id={id}")).json()
    }

    fn ask(&self, path: &str) -> Answer {
        let key = self.appliance.local_key().expect("a key");
        let asked = request("GET", path, &[("Auth-Token", &key)], b"");
        exchange(&self.address, &asked, false).expect("an answer")
    }

    /// The number of jobs with this outcome.
    fn outcomes(&self, outcome: &str) -> u64 {
        let metrics = exchange(&self.address, &request("GET", "/metrics", &[], b""), false);
        let text = metrics.expect("an answer").text();
        let line = text.lines().find_map(|line| {
            line.strip_prefix("crashkeep_processed_total{outcome=\"")?
                .strip_prefix(outcome)?
                .strip_prefix("\"} ")
        });
        line.map_or(0, |count| count.parse().unwrap())
    }

    /// The processed crash, once the crash is in a final state.
    fn processed(&self, id: &str) -> Value {
        wait_for(&format!("the end of {id}"), || {
            let state = self.get("CrashState", id)["state"].clone();
            (state == "processed" || state == "failed").then_some(())
        });
        self.get("ProcessedCrash", id)
    }
}

#[test]
fn a_server_outlives_every_fault_of_its_walkers_and_says_what_it_was() {
    let server = Faulty::start(config(2, "1 s"));
    let good = fixture("dumps/linux-x86_64-null_read_av.dmp");
    let faults = [
        ("abort", "the walker died on this dump (signal 6)"),
        ("overflow", "has overflowed its stack"),
        ("loop", "the walk took longer than 1s"),
        ("memory", "the walk took "),
        ("garbage", "the walker sent an invalid answer"),
        ("stop", "the walk took longer than 1s"),
    ];
    let mut sent = Vec::new();
    for (fault, reason) in faults {
        sent.push((
            server.submit(format!("CKFAULT {fault}").as_bytes()),
            Some(reason),
        ));
        for _ in 0..5 {
            sent.push((server.submit(&good), None));
        }
    }
    for (id, reason) in sent {
        let crash = server.processed(&id);
        let notes = crash["processor_notes"].as_str().unwrap_or_default();
        match reason {
            Some(reason) => {
                assert_eq!(crash["state"], "failed", "{notes}");
                assert!(notes.contains(reason), "{reason}: {notes}");
            }
            None => {
                assert_eq!(crash["state"], "processed", "{notes}");
                assert_eq!(crash["json_dump"]["crash_info"]["type"], "SIGSEGV");
            }
        }
    }
    server.appliance.wait_idle(PATIENCE);
    server.appliance.stop();
}

#[test]
fn dumps_that_hang_hold_nobody_up() {
    let server = Faulty::start(config(1, "10 min"));
    let good = fixture("dumps/linux-x86_64-null_read_av.dmp");
    let mut hanging = Vec::new();
    let mut others = Vec::new();
    // More of them than there are workers of any kind.
    for word in ["stop", "loop", "stop", "loop", "stop"] {
        hanging.push(server.submit(format!("CKFAULT {word}").as_bytes()));
        others.push(server.submit(&good));
    }
    for id in others {
        assert_eq!(server.processed(&id)["state"], "processed");
    }
    for id in &hanging {
        let state = server.get("CrashState", id)["state"].clone();
        assert!(state == "processing" || state == "queued", "{state}");
    }
    // The server also does not wait for their deadline when it stops.
    let begun = Instant::now();
    server.appliance.stop();
    assert!(begun.elapsed() < Duration::from_secs(10 * 60));
}

#[cfg(target_os = "linux")]
#[test]
fn a_dump_that_takes_long_is_walked_to_its_end_and_has_no_fault() {
    let server = Faulty::start(config(1, "60 s"));
    let slow = server.submit(b"CKFAULT busy");
    let crash = server.processed(&slow);
    assert_eq!(crash["mdsw_status_string"], "MissingHeader", "{crash}");
    // Once by a fast worker, once by a slow one.
    assert_eq!(server.outcomes("slow"), 2);
    assert_eq!(server.outcomes("fault"), 0);
    server.appliance.stop();
}

#[cfg(target_os = "linux")]
#[test]
fn what_takes_too_much_memory_once_is_not_tried_again() {
    let server = Faulty::start(config(1, "60 s"));
    let (memory, abort) = (b"CKFAULT memory", b"CKFAULT abort");
    let ids = [server.submit(memory), server.submit(abort)];
    for id in ids {
        assert_eq!(server.processed(&id)["state"], "failed");
    }
    // The dump that killed its walker was walked a second time.
    assert_eq!(server.outcomes("fault"), 1);
    server.appliance.stop();
}

#[test]
fn a_crash_in_work_shows_its_state_and_the_page_looks_again() {
    let server = Faulty::start(config(1, "10 min"));
    let in_work = server.submit(b"CKFAULT stop");
    let done = server.submit(&fixture("dumps/linux-x86_64-null_read_av.dmp"));
    let page = |id: &str| server.ask(&format!("/report/index/{id}")).text();
    // Between two kinds of workers the crash is queued for a moment.
    let page_in_work = wait_for("the page of a crash in work", || {
        Some(page(&in_work)).filter(|page| page.contains("processing, attempt"))
    });
    assert!(page_in_work.contains("http-equiv=\"refresh\""));
    assert_eq!(server.processed(&done)["state"], "processed");
    assert!(!page(&done).contains("http-equiv"));
    server.appliance.stop();
}

#[test]
fn a_walker_that_dies_on_a_crash_is_replaced_and_the_crash_is_walked_again() {
    // On a busy machine the first walker may be aborted as slow before it commits the fault.
    wait_for("a fault", || {
        let server = Faulty::start_with(config(1, "60 s"), faulty_once);
        // For a walker without `--plant-faults` this is not a dump.
        let id = server.submit(b"CKFAULT abort");
        let crash = server.processed(&id);
        assert_eq!(crash["state"], "processed", "{crash}");
        assert_eq!(crash["mdsw_status_string"], "MissingHeader", "{crash}");
        let attempts = server.get("CrashState", &id)["attempts"].clone();
        let is_fault = server.outcomes("fault") == 1;
        server.appliance.stop();
        (is_fault && attempts == 2).then_some(())
    });
}
