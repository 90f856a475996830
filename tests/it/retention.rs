//! When data are deleted, with a clock that jumps.

use std::sync::Arc;

use crashkeep::clock::{Clock, DAY_MS, ManualClock, Timestamp};
use crashkeep::crash::facts::Facts;
use crashkeep::crash::id::{CrashId, Kept};
use crashkeep::crash::lack::Lack;
use crashkeep::queue::{Jobs, Stop, queue};
use crashkeep::retention::{Held, Keep, Pass, SymbolPlaces, guarded_pass, pass, plan};
use crashkeep::store::disk::OsDisk;
use crashkeep::store::{Finished, NewCrash, Payload, State, Store, StoreOptions};
use crashkeep::symbols::mapped::MappedDir;
use crashkeep::symbols::{SymbolDirs, SymbolStore};

pub const START: Timestamp = Timestamp::from_ms(1_795_338_764_123);
pub const KEEP: Keep = Keep {
    symbols_unused_days: 0,
    symbols_days: 0,
    processed_days: 100,
    failed_days: 10,
};

/// A store without a server. The test executes its jobs.
pub struct TestStore {
    pub clock: Arc<ManualClock>,
    pub store: Arc<Store>,
    pub jobs: Jobs,
    _stop: Stop,
    root: tempfile::TempDir,
}

impl TestStore {
    pub fn new() -> Self {
        Self::open(
            tempfile::tempdir().expect("a folder"),
            Arc::new(ManualClock::at(START)),
            4,
        )
    }

    /// `room` is the number of jobs that can be handed out at the same time.
    fn open(root: tempfile::TempDir, clock: Arc<ManualClock>, room: usize) -> Self {
        let (lanes, jobs, stop) = queue(room, room);
        let options = StoreOptions {
            cache_bytes: 1 << 20,
            spill_dir: root.path().to_path_buf(),
        };
        let disk = Arc::new(OsDisk::new(&root.path().join("data")).expect("a disk"));
        let store = Store::open(disk, options, clock.clone(), Box::new(lanes)).expect("a store");
        Self {
            clock,
            store: Arc::new(store),
            jobs,
            _stop: stop,
            root,
        }
    }

    /// Closes the store, changes its tables directly, and opens it again.
    pub fn meddled(self, room: usize, change: impl FnOnce(&redb::WriteTransaction)) -> Self {
        self.store.close();
        let path = self.root.path().join("data/store.redb");
        let database = redb::Database::open(path).expect("closed by now");
        let write = database.begin_write().expect("nobody else writes");
        change(&write);
        write.commit().expect("durable");
        drop(database);
        Self::open(self.root, self.clock, room)
    }

    fn accept(&self, number: u128, deferred_days: Option<u32>) -> CrashId {
        self.accept_of(number, ["A", "1"], deferred_days)
    }

    pub fn accept_of(
        &self,
        number: u128,
        [product, version]: [&str; 2],
        deferred_days: Option<u32>,
    ) -> CrashId {
        let now = self.clock.now();
        let id = CrashId::new(number << 64, Kept::Accepted, now);
        self.store
            .accept(NewCrash {
                id,
                received_at: now,
                product: product.into(),
                version: version.into(),
                throttle_rule: "r".into(),
                deferred_days,
                raw: Payload::from_bytes(br#"{"annotations": {}, "metadata": {}}"#),
                digest: None,
                parts: Vec::new(),
            })
            .expect("durable");
        id
    }

    /// Ends the next job, with or without a failure.
    fn finish(&self, failure: Option<&str>) {
        self.finish_as("s", Facts::default(), failure);
    }

    pub fn finish_as(&self, signature: &str, facts: Facts, failure: Option<&str>) {
        self.finish_lacking(signature, facts, &[], failure);
    }

    /// Returns the id of the crash.
    pub fn finish_lacking(
        &self,
        signature: &str,
        facts: Facts,
        lacks: &[&str],
        failure: Option<&str>,
    ) -> CrashId {
        self.end(Finished {
            processed: Payload::from_bytes(b"{}"),
            signature: signature.into(),
            processed_at: START,
            facts,
            lacks: lacks.iter().filter_map(|text| Lack::parse(text)).collect(),
            used: Vec::new(),
            named: Default::default(),
            revision: 0,
            failure: failure.map(str::to_owned),
        })
    }

    /// A crash whose walk used the symbols of a module.
    pub fn use_symbols(&self, debug_id: &str, at: Timestamp) {
        self.accept_of(1, ["App", "2"], None);
        self.end(Finished {
            processed: Payload::from_bytes(b"{}"),
            signature: "s".into(),
            processed_at: at,
            facts: Facts::default(),
            lacks: Vec::new(),
            used: vec![("app".into(), debug_id.into())],
            named: Default::default(),
            revision: 0,
            failure: None,
        });
    }

    /// Ends the next job. Returns the id of its crash.
    fn end(&self, finished: Finished) -> CrashId {
        let job = self.jobs.next().expect("a job");
        let id = job.id;
        self.store.finish(job, finished).expect("the store runs");
        crate::server::wait_for("the result", || {
            let state = self.state(id)?;
            matches!(state, State::Processed | State::Failed).then_some(())
        });
        id
    }

    pub fn state(&self, id: CrashId) -> Option<State> {
        self.store
            .crash(id)
            .expect("readable")
            .map(|(_, row)| row.state)
    }

    pub fn pass_after(&self, days: i64) -> Pass {
        let now = Timestamp::from_ms(START.ms() + days * DAY_MS);
        self.clock.set(now);
        pass(&self.store, &KEEP, now, false).expect("a pass")
    }

    /// Runs a pass `days` after the start. It stops if it would delete too much.
    fn guarded_after(&self, days: i64, keep: &Keep) -> Result<Pass, Held> {
        let now = Timestamp::from_ms(START.ms() + days * DAY_MS);
        self.clock.set(now);
        guarded_pass(&self.store, &self.places(), keep, now, false, None).expect("a pass")
    }

    fn places(&self) -> SymbolPlaces {
        let at = |name: &str| self.root.path().join(name);
        SymbolPlaces {
            symbol_store: SymbolStore::new(at("symbols"), at("incoming")),
            dirs: SymbolDirs::new(vec![at("symbols")]),
            mapped: Arc::new(MappedDir::new(at("mapped"), at("incoming"))),
        }
    }

    /// Processed crashes that were received on these days after the start.
    fn processed_on(&self, days: impl IntoIterator<Item = i64>) -> Vec<CrashId> {
        let mut ids = Vec::new();
        for day in days {
            self.clock
                .set(Timestamp::from_ms(START.ms() + day * DAY_MS));
            ids.push(self.accept(1_000 + ids.len() as u128, None));
            self.finish(None);
        }
        ids
    }

    fn left(&self, ids: &[CrashId]) -> usize {
        ids.iter().filter(|id| self.state(**id).is_some()).count()
    }

    fn segment_files(&self) -> usize {
        std::fs::read_dir(self.root.path().join("data/segments"))
            .expect("a folder")
            .count()
    }
}

#[test]
fn crashes_go_when_their_state_says_and_their_room_comes_back() {
    let test = TestStore::new();
    let deferred = test.accept(1, Some(2));
    let processed = test.accept(2, None);
    test.finish(None);
    let failed = test.accept(3, None);
    test.finish(Some("it overran"));
    assert_eq!(test.segment_files(), 2);

    assert_eq!(test.pass_after(1).deferred_deleted, 0);
    let third_day = test.pass_after(3);
    assert_eq!(
        (third_day.deferred_deleted, third_day.failed_deleted),
        (1, 0)
    );
    assert_eq!(
        (test.state(deferred), test.state(failed)),
        (None, Some(State::Failed))
    );
    // The log has the other reports in the same segment.
    assert_eq!((third_day.segments_removed, test.segment_files()), (0, 2));

    let later = test.pass_after(11);
    assert_eq!((later.failed_deleted, later.processed_deleted), (1, 0));
    assert_eq!(test.state(processed), Some(State::Processed));
    let much_later = test.pass_after(101);
    assert_eq!(
        (much_later.processed_deleted, much_later.segments_removed),
        (1, 2)
    );
    assert_eq!(test.segment_files(), 0);

    let status = test.store.status().expect("readable");
    assert!(
        status.states.iter().all(|(_, count)| *count == 0),
        "{status:?}"
    );
    assert!(test.store.audit().expect("readable").is_clean());
    // One deferral, two processings and three deletions reach the index.
    assert_eq!(test.store.changes(0, 10).expect("readable").len(), 6);
}

#[test]
fn what_waits_or_is_being_walked_is_never_deleted() {
    let test = TestStore::new();
    let waiting: Vec<CrashId> = (1..=20).map(|n| test.accept(n, None)).collect();
    let done = test.pass_after(10_000);
    assert_eq!((done.processed_deleted, done.failed_deleted), (0, 0));
    for id in waiting {
        assert!(matches!(
            test.state(id),
            Some(State::Queued | State::Processing)
        ));
    }
    assert!(test.store.audit().expect("readable").is_clean());
}

#[test]
fn a_promoted_crash_outlives_its_time_as_a_deferred_one() {
    let test = TestStore::new();
    let id = test.accept(1, Some(2));
    test.store.prioritize(id).expect("known");
    test.finish(None);
    assert_eq!(test.pass_after(50).deferred_deleted, 0);
    assert_eq!(test.state(id), Some(State::Processed));
}

#[test]
fn an_audit_puts_crashes_back_where_their_state_says() {
    use redb::TableDefinition;
    const READY: TableDefinition<(u8, u64), ()> = TableDefinition::new("ready");
    const IDS: TableDefinition<u128, u64> = TableDefinition::new("ids");
    const STATES: TableDefinition<u8, u64> = TableDefinition::new("states");

    // No job is taken, so all crashes that do not fit into the channels wait in the table.
    let test = TestStore::new();
    let ids: Vec<CrashId> = (1..=10).map(|n| test.accept(n, None)).collect();
    let test = test.meddled(0, |write| {
        let mut ready = write.open_table(READY).expect("the table");
        // One crash that would never be handed out, one in two lanes, one that does not exist.
        ready.remove((1, 10)).expect("it is queued");
        ready.insert((0, 9), ()).expect("written");
        ready.insert((1, 4711), ()).expect("written");
        let mut table = write.open_table(IDS).expect("the table");
        table.remove(ids[7].bits()).expect("it is there");
        let mut states = write.open_table(STATES).expect("the table");
        states.insert(3, 5).expect("written");
    });
    let store = &test.store;
    let audit = store.audit().expect("readable");
    assert_eq!(audit.misplaced, [8, 9, 10, 4711]);
    assert_eq!(audit.miscounted, [State::Processed]);
    assert!(
        store.audit().expect("readable").is_clean(),
        "all was put right"
    );
    let status = store.status().expect("readable");
    assert_eq!(status.states[0], (State::Queued, 10));
    assert_eq!(status.states[3], (State::Processed, 0));
    assert!(store.crash(ids[7]).expect("readable").is_some());
}

#[test]
fn a_clock_that_is_a_year_ahead_deletes_nothing_until_somebody_says_so() {
    let test = TestStore::new();
    let ids = test.processed_on(0..20);
    test.guarded_after(20, &KEEP).expect("nothing is due");
    let held = test.guarded_after(385, &KEEP).expect_err("it waits");
    assert_eq!(
        (held.plan.processed.due, held.plan.processed.stored),
        (20, 20)
    );
    assert_eq!(test.left(&ids), 20);
    assert!(
        held.to_string().contains("20 of 20 processed crashes"),
        "{held}"
    );
    // The clock is corrected. Retention continues normally.
    test.guarded_after(21, &KEEP).expect("nothing is due");
    assert_eq!(test.left(&ids), 20);
    // The clock was right after all.
    let held = test.guarded_after(385, &KEEP).expect_err("it waits again");
    let now = test.clock.now();
    let confirmed = Some(held.plan);
    let done = guarded_pass(&test.store, &test.places(), &KEEP, now, false, confirmed);
    let done = done.expect("a pass").expect("somebody said so");
    assert_eq!(done.processed_deleted, 20);
    assert_eq!(test.left(&ids), 0);
    test.guarded_after(386, &KEEP)
        .expect("nothing waits any more");
}

#[test]
fn a_first_pass_goes_by_the_newest_crash() {
    let test = TestStore::new();
    let ids = test.processed_on(0..5);
    assert!(test.guarded_after(400, &KEEP).is_err());
    assert_eq!(test.left(&ids), 5);
}

#[test]
fn days_that_went_by_explain_what_falls_due_in_them() {
    let test = TestStore::new();
    let ids = test.processed_on(0..50);
    test.guarded_after(50, &KEEP).expect("nothing is due");
    for day in 98..130 {
        test.guarded_after(day, &KEEP)
            .expect("a day explains a day");
    }
    assert_eq!(test.left(&ids), 50 - 29);
    // The server was off over a weekend.
    test.guarded_after(132, &KEEP)
        .expect("three days explain three days");
    assert_eq!(test.left(&ids), 50 - 32);
}

#[test]
fn a_setting_that_would_delete_more_than_a_tenth_waits() {
    let test = TestStore::new();
    let ids = test.processed_on(0..50);
    test.guarded_after(50, &KEEP).expect("nothing is due");
    let shorter = |processed_days| Keep {
        processed_days,
        ..KEEP
    };
    test.guarded_after(50, &shorter(46)).expect("a few less");
    assert_eq!(test.left(&ids), 46);
    let held = test
        .guarded_after(50, &shorter(20))
        .expect_err("most would go");
    assert_eq!(held.plan.processed.unexplained, 26);
    assert_eq!(test.left(&ids), 46);
    test.guarded_after(50, &shorter(46))
        .expect("the setting is put back");
}

#[test]
fn deferred_crashes_and_failed_ones_wait_too_when_the_clock_is_ahead() {
    let test = TestStore::new();
    let deferred = test.accept(1, Some(2));
    let failed = test.accept(2, None);
    test.finish(Some("broken"));
    test.guarded_after(0, &KEEP).expect("nothing is due");
    let held = test.guarded_after(365, &KEEP).expect_err("it waits");
    assert_eq!((held.plan.deferred.due, held.plan.failed.due), (1, 1));
    assert_eq!(test.left(&[deferred, failed]), 2);
}

#[test]
fn crashes_dated_in_the_future_neither_go_nor_stop_the_others() {
    let test = TestStore::new();
    // More than one batch of rows, from a clock that was a year ahead.
    let ahead = Timestamp::from_ms(START.ms() + 365 * DAY_MS);
    test.clock.set(ahead);
    let future: Vec<CrashId> = std::thread::scope(|scope| {
        let test = &test;
        let accept = |from: u128| (from..=1_040).step_by(40).map(|n| test.accept(n, Some(7)));
        let threads = (1..=40).map(|from| scope.spawn(move || accept(from).collect::<Vec<_>>()));
        let threads: Vec<_> = threads.collect();
        threads
            .into_iter()
            .flat_map(|t| t.join().expect("accepted"))
            .collect()
    });
    assert!(future.len() > 1_000);
    let past = test.processed_on([0]);
    let done = test.pass_after(101);
    assert_eq!(done.processed_deleted, 1);
    assert_eq!((test.left(&future), test.left(&past)), (future.len(), 0));
    let now = test.clock.now();
    let planned = plan(&test.store, &test.places(), &KEEP, now, false).expect("a plan");
    assert_eq!(planned.due(), 0);
}

/// A server whose clock is a year ahead of its three crashes, so its retention waits.
pub struct Waiting {
    /// Runs until it is dropped.
    _appliance: crashkeep::appliance::Appliance,
    pub data: std::path::PathBuf,
    pub address: String,
    pub key: String,
    _folder: tempfile::TempDir,
}

impl Waiting {
    pub fn start() -> Self {
        use crashkeep::appliance::{Appliance, Place};
        use crashkeep::config::Config;
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        let mut server = crate::server::Server::start_in(&data, &[]);
        for number in ["1", "2", "3"] {
            let annotations = [("ProductName", "A"), ("Version", number)];
            let id = server.submit(&annotations, &[]).crash_id();
            server.wait_processed(&id);
        }
        server.terminate();
        let place = Place {
            data: data.clone(),
            program: crate::server::PROGRAM.into(),
            read_only: false,
        };
        let now = Timestamp::from_ms(crashkeep::clock::SystemClock.now().ms() + 365 * DAY_MS);
        let config = Config::parse("a", "[http]\nlisten = \"127.0.0.1:0\"\n").expect("good");
        let ahead = Arc::new(ManualClock::at(now));
        let appliance = Appliance::start_at(config, &place, ahead).expect("a server");
        let address = appliance.address().to_string();
        let key = appliance.local_key().expect("a key");
        let waiting = Self {
            _appliance: appliance,
            data,
            address,
            key,
            _folder: folder,
        };
        crate::server::wait_for("the warning", || {
            let asked = crate::server::request("GET", "/__heartbeat__", &[], b"");
            let heartbeat = crate::server::exchange(&waiting.address, &asked, false)?;
            heartbeat.json()["warnings"].is_array().then_some(())
        });
        waiting
    }
}

#[test]
fn a_pass_that_stopped_itself_is_told_and_goes_on_when_an_admin_says_so() {
    use crate::server::{exchange, request, wait_for};
    let waiting = Waiting::start();
    let Waiting {
        data, address, key, ..
    } = &waiting;
    let command = |arguments: &[&str]| {
        let output = std::process::Command::new(crate::server::PROGRAM)
            .arg("retention")
            .args(arguments)
            .arg("--data")
            .arg(data)
            .current_dir(data.parent().expect("a folder above"))
            .output()
            .expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), text)
    };
    let get = |path: &str| {
        let asked = request("GET", path, &[("Auth-Token", key)], b"");
        exchange(address, &asked, false).expect("an answer")
    };
    let heartbeat = wait_for("the warning", || {
        let heartbeat = get("/__heartbeat__");
        let warnings = heartbeat.json()["warnings"].to_string();
        warnings
            .contains("3 of 3 processed crashes")
            .then_some(heartbeat)
    });
    assert_eq!(heartbeat.status, 200, "reports are taken all the same");
    let page = get("/status/").text();
    assert!(
        page.contains("retention is waiting for confirmation"),
        "{page}"
    );
    assert!(page.contains("action=\"/status/retention\""), "{page}");
    let server = format!("http://{address}");
    let (code, text) = command(&["--server", &server]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("3 of 3 processed crashes"), "{text}");
    let (code, text) = command(&["--server", &server, "--confirm"]);
    assert_eq!((code, text.as_str()), (Some(0), "confirmed\n"));
    wait_for("the pass", || {
        get("/metrics")
            .text()
            .contains("crashkeep_processed 0\n")
            .then_some(())
    });
    wait_for("the end of the warning", || {
        get("/__heartbeat__").json()["warnings"]
            .is_null()
            .then_some(())
    });
    let (code, text) = command(&["--server", &server, "--confirm"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("retention is not on hold"), "{text}");
}

#[test]
fn without_a_server_the_command_says_what_a_pass_would_delete() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let mut server = crate::server::Server::start_in(&data, &[]);
    server.terminate();
    let output = std::process::Command::new(crate::server::PROGRAM)
        .args(["retention", "--data"])
        .arg(&data)
        .current_dir(folder.path())
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "would delete: nothing\n"
    );
}
