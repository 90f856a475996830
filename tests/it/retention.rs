//! What goes when, with a clock that jumps.

use std::sync::Arc;

use crashkeep::clock::{Clock, DAY_MS, ManualClock, Timestamp};
use crashkeep::crash::id::{CrashId, Kept};
use crashkeep::queue::{Jobs, Stop, queue};
use crashkeep::retention::{Keep, Pass, pass};
use crashkeep::store::counters::Facts;
use crashkeep::store::disk::OsDisk;
use crashkeep::store::mends::Lack;
use crashkeep::store::{Finished, NewCrash, Payload, State, Store, StoreOptions};

pub const START: Timestamp = Timestamp::from_ms(1_795_338_764_123);
pub const KEEP: Keep = Keep {
    symbols_unused_days: 0,
    symbols_days: 0,
    processed_days: 100,
    failed_days: 10,
};

/// A store without a server, whose jobs the test does by hand.
pub struct House {
    pub clock: Arc<ManualClock>,
    pub store: Arc<Store>,
    pub jobs: Jobs,
    _stop: Stop,
    root: tempfile::TempDir,
}

impl House {
    pub fn new() -> Self {
        Self::open(
            tempfile::tempdir().expect("a folder"),
            Arc::new(ManualClock::at(START)),
            4,
        )
    }

    /// Hands out `room` jobs at once.
    fn open(root: tempfile::TempDir, clock: Arc<ManualClock>, room: usize) -> Self {
        let (lanes, jobs, stop) = queue(room);
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

    /// Closes the store, changes its tables behind its back, and opens it again.
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

    /// Ends the next job, well or not.
    fn finish(&self, failure: Option<&str>) {
        self.finish_as("s", Facts::default(), failure);
    }

    pub fn finish_as(&self, signature: &str, facts: Facts, failure: Option<&str>) {
        self.finish_lacking(signature, facts, &[], failure);
    }

    /// Returns which crash it was.
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

    /// Ends the next job; returns which crash it was.
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
        pass(&self.store, &KEEP, now).expect("a pass")
    }

    fn segment_files(&self) -> usize {
        std::fs::read_dir(self.root.path().join("data/segments"))
            .expect("a folder")
            .count()
    }
}

#[test]
fn crashes_go_when_their_state_says_and_their_room_comes_back() {
    let house = House::new();
    let deferred = house.accept(1, Some(2));
    let processed = house.accept(2, None);
    house.finish(None);
    let failed = house.accept(3, None);
    house.finish(Some("it overran"));
    assert_eq!(house.segment_files(), 3);

    assert_eq!(house.pass_after(1).deferred_deleted, 0);
    let third_day = house.pass_after(3);
    assert_eq!(
        (third_day.deferred_deleted, third_day.failed_deleted),
        (1, 0)
    );
    assert_eq!(
        (house.state(deferred), house.state(failed)),
        (None, Some(State::Failed))
    );
    // The deferred stream held nothing else, and was too old to take more.
    assert_eq!((third_day.segments_removed, house.segment_files()), (1, 2));

    let later = house.pass_after(11);
    assert_eq!((later.failed_deleted, later.processed_deleted), (1, 0));
    assert_eq!(house.state(processed), Some(State::Processed));
    let much_later = house.pass_after(101);
    assert_eq!(
        (much_later.processed_deleted, much_later.segments_removed),
        (1, 2)
    );
    assert_eq!(house.segment_files(), 0);

    let status = house.store.status().expect("readable");
    assert!(
        status.states.iter().all(|(_, count)| *count == 0),
        "{status:?}"
    );
    assert!(house.store.audit().expect("readable").is_clean());
    // Two ends of processing and three deletions reach the index.
    assert_eq!(house.store.changes(0, 10).expect("readable").len(), 5);
}

#[test]
fn what_waits_or_is_being_walked_is_never_deleted() {
    let house = House::new();
    let waiting: Vec<CrashId> = (1..=20).map(|n| house.accept(n, None)).collect();
    let done = house.pass_after(10_000);
    assert_eq!((done.processed_deleted, done.failed_deleted), (0, 0));
    for id in waiting {
        assert!(matches!(
            house.state(id),
            Some(State::Queued | State::Processing)
        ));
    }
    assert!(house.store.audit().expect("readable").is_clean());
}

#[test]
fn a_promoted_crash_outlives_its_time_as_a_deferred_one() {
    let house = House::new();
    let id = house.accept(1, Some(2));
    house.store.request(id).expect("known");
    house.finish(None);
    assert_eq!(house.pass_after(50).deferred_deleted, 0);
    assert_eq!(house.state(id), Some(State::Processed));
}

#[test]
fn an_audit_puts_crashes_back_where_their_state_says() {
    use redb::TableDefinition;
    const READY: TableDefinition<(u8, u64), ()> = TableDefinition::new("ready");
    const IDS: TableDefinition<u128, u64> = TableDefinition::new("ids");
    const STATES: TableDefinition<u8, u64> = TableDefinition::new("states");

    // No job is taken: what the channels have no room for waits in the table.
    let house = House::new();
    let ids: Vec<CrashId> = (1..=10).map(|n| house.accept(n, None)).collect();
    let house = house.meddled(0, |write| {
        let mut ready = write.open_table(READY).expect("the table");
        // One crash that nobody would ever hand out, one in two lanes, one that is not there.
        ready.remove((1, 10)).expect("it is queued");
        ready.insert((0, 9), ()).expect("written");
        ready.insert((1, 4711), ()).expect("written");
        let mut table = write.open_table(IDS).expect("the table");
        table.remove(ids[7].bits()).expect("it is there");
        let mut states = write.open_table(STATES).expect("the table");
        states.insert(3, 5).expect("written");
    });
    let store = &house.store;
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
