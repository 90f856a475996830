//! Walkers that die, hang, swell and babble under a whole server: it stays up, each crash ends with its
//! reason, and those of others are walked.

use std::time::Duration;

use crashkeep::appliance::{Appliance, Place};
use crashkeep::config::Config;
use serde_json::Value;

use crate::server::{exchange, fixture, request, submission, wait_for};
use crate::walker::faulty;

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
        let folder = tempfile::tempdir().unwrap();
        let place = Place {
            data: folder.path().join("data"),
            program: faulty(folder.path()),
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
        let path = format!("/api/{api}/?crash_id={id}");
        let answer = exchange(&self.address, &request("GET", &path, &[], b""), false);
        answer.expect("an answer").json()
    }

    /// The processed crash, once there is one in a final state.
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
        ("abort", "the walker died of this dump (signal 6)"),
        ("overflow", "has overflowed its stack"),
        ("loop", "the walk took longer than 1s"),
        ("memory", "the walk took "),
        ("garbage", "the walker answered nonsense"),
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
    server.appliance.wait_idle(Duration::from_secs(10));
    server.appliance.stop();
}

#[test]
fn dumps_that_hang_hold_nobody_up() {
    let server = Faulty::start(config(1, "10 min"));
    let hanging = server.submit(b"CKFAULT stop");
    let good = fixture("dumps/linux-x86_64-null_read_av.dmp");
    let others: Vec<String> = (0..5).map(|_| server.submit(&good)).collect();
    for id in others {
        assert_eq!(server.processed(&id)["state"], "processed");
    }
    assert_eq!(server.get("CrashState", &hanging)["state"], "processing");
}
