use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use super::*;
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::crash::facts::Facts;
use crate::crash::id::{CrashId, Kept};
use crate::crash::raw::RawCrash;
use crate::fields::Catalogue;
use crate::index::{Side, Watermark, Writer};
use crate::query::Query;
use crate::queue::{Jobs, Stop, queue};
use crate::store::disk::OsDisk;
use crate::store::{Finished, NewCrash, Payload, StoreOptions};

struct Fixture {
    store: Arc<Store>,
    index: Arc<Index>,
    indexer: Indexer,
    jobs: Jobs,
    _stop: Stop,
}

impl Fixture {
    fn open(dir: &Path) -> Self {
        let (lanes, jobs, stop) = queue(1_000, 1_000);
        let disk = Arc::new(OsDisk::new(dir).unwrap());
        let options = StoreOptions {
            cache_bytes: 1 << 20,
            spill_dir: dir.to_path_buf(),
        };
        let store = Store::open(disk, options, Arc::new(SystemClock), Box::new(lanes)).unwrap();
        let store = Arc::new(store);
        let catalogue = Arc::new(Catalogue::builtin());
        let index = Index::open(&dir.join("index"), store.id().unwrap(), catalogue).unwrap();
        let index = Arc::new(index);
        let indexer =
            Indexer::start(store.clone(), index.clone(), Arc::new(Metrics::default())).unwrap();
        Self {
            store,
            index,
            indexer,
            jobs,
            _stop: stop,
        }
    }

    fn accept(&self, number: u128) -> CrashId {
        let received_at = SystemClock.now();
        // The day takes the last digits.
        let id = CrashId::new(number << 64, Kept::Accepted, received_at);
        let mut raw = RawCrash::default();
        raw.annotations.insert("guid".into(), format!("g{number}"));
        let crash = NewCrash {
            id,
            received_at,
            product: "P".into(),
            version: "1".into(),
            throttle_rule: "default".into(),
            deferred_days: None,
            raw: Payload::from_bytes(&serde_json::to_vec(&raw).unwrap()),
            digest: None,
            parts: Vec::new(),
        };
        self.store.accept(crash).unwrap();
        id
    }

    fn process(&self, signature: &str) {
        let job = self.jobs.next().unwrap();
        let processed = json!({ "signature": signature, "product": "P", "json_dump": {} });
        let finished = Finished {
            processed: Payload::from_bytes(processed.to_string().as_bytes()),
            signature: signature.into(),
            processed_at: SystemClock.now(),
            facts: Facts::default(),
            lacks: Vec::new(),
            used: Vec::new(),
            named: Default::default(),
            revision: 0,
            failure: None,
        };
        self.store.finish(job, finished).unwrap();
    }

    fn total(&self, field: &str, value: &str) -> u64 {
        let now = Timestamp::from_ms(SystemClock.now().ms() + 60_000);
        let params = [(field.to_owned(), value.to_owned())];
        let query = Query::parse(self.index.catalogue(), &params, now, true).unwrap();
        self.index.search(&query).unwrap().total
    }

    /// Waits until a condition is true. Returns the milliseconds that it took.
    fn until(&self, what: &str, mut condition: impl FnMut(&Self) -> bool) -> u128 {
        let began = Instant::now();
        while !condition(self) {
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "{what}: {:?}",
                self.indexer.status()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        began.elapsed().as_millis()
    }

    fn close(self) {
        let began = Instant::now();
        self.indexer.stop();
        assert!(
            began.elapsed() < Duration::from_secs(1),
            "{:?}",
            began.elapsed()
        );
        self.store.close();
    }
}

#[test]
fn a_crash_is_found_soon_after_it_is_processed_and_under_its_newest_signature() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::open(dir.path());
    let id = fixture.accept(1);
    fixture.process("first");
    let took = fixture.until("found", |h| h.total("signature", "=first") == 1);
    assert!(took < 2_000, "{took} ms");
    assert_eq!(fixture.total("annotation.guid", "g1"), 1);
    fixture.store.prioritize(id).unwrap();
    fixture.process("second");
    fixture.until("found anew", |h| h.total("signature", "=second") == 1);
    assert_eq!(fixture.total("signature", "=first"), 0);
    fixture.until("caught up", |h| h.indexer.status().changes_waiting == 0);
    fixture.until("forgotten", |h| {
        h.store.status().unwrap().changes_waiting == 0
    });
    fixture.close();
}

#[test]
fn a_deleted_index_is_built_from_the_store_and_new_crashes_are_found_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::open(dir.path());
    for number in 0..450 {
        fixture.accept(number);
        fixture.process("old");
    }
    fixture.until("all indexed", |h| h.total("signature", "=old") == 450);
    fixture.accept(450);
    fixture.close();
    // Renamed and not removed: tantivy may still be merging, and would make a file in the folder meanwhile.
    std::fs::rename(dir.path().join("index"), dir.path().join("gone")).unwrap();

    let fixture = Fixture::open(dir.path());
    fixture.process("new");
    fixture.until("the new one", |h| h.total("signature", "=new") == 1);
    fixture.until("built", |h| h.indexer.status().building.is_none());
    fixture.until("the old ones", |h| h.total("signature", "=old") == 450);
    assert_eq!(
        fixture.index.watermark().and_then(|mark| mark.rebuilt_to),
        None
    );
    assert_eq!(fixture.indexer.status().documents, 451);
    fixture.close();
}

#[test]
fn a_restart_goes_on_where_the_index_was() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::open(dir.path());
    fixture.accept(1);
    fixture.process("one");
    fixture.until("indexed", |h| h.total("signature", "=one") == 1);
    fixture.indexer.stop();
    fixture.accept(2);
    fixture.process("two");
    fixture.until("stored", |h| h.store.change_range().unwrap().0 == 2);
    fixture.close();

    let fixture = Fixture::open(dir.path());
    assert_eq!(
        fixture.total("signature", "=one"),
        1,
        "nothing is thrown away"
    );
    fixture.until("caught up", |h| h.total("signature", "=two") == 1);
    assert_eq!(fixture.indexer.status().building, None);
    fixture.close();
}

#[test]
fn an_index_is_built_beside_the_one_that_answers() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::open(dir.path());
    for number in 0..650 {
        fixture.accept(number);
        fixture.process("old");
    }
    fixture.until("all indexed", |h| h.total("signature", "=old") == 650);
    // Damage that no change repairs. Only a build from the store's rows does.
    fixture.indexer.stop();
    let mut writer = Writer::open(&fixture.index, Side::Current).unwrap();
    (1..=50).for_each(|seq| writer.delete(seq));
    writer.commit(fixture.index.watermark().unwrap()).unwrap();
    drop(writer);
    let metrics = Arc::new(Metrics::default());
    let indexer = Indexer::start(fixture.store.clone(), fixture.index.clone(), metrics).unwrap();
    let fixture = Fixture { indexer, ..fixture };
    assert_eq!(fixture.total("signature", "=old"), 600);
    fixture.indexer.rebuild();
    fixture.accept(650);
    fixture.process("new");
    let mut was_beside = false;
    fixture.until("the whole", |h| {
        was_beside |= h.indexer.building().is_some_and(|b| b.is_beside);
        let found = h.total("signature", "=old");
        assert!(
            found >= 600,
            "{found}: the old one answers until the new one is whole"
        );
        found == 650
    });
    fixture.until("the new one", |h| h.total("signature", "=new") == 1);
    fixture.until("in place", |h| h.indexer.building().is_none());
    assert!(was_beside);
    assert_eq!(fixture.indexer.status().documents, 651);
    // The new index receives changes.
    fixture.accept(651);
    fixture.process("newer");
    fixture.until("the newer one", |h| h.total("signature", "=newer") == 1);
    fixture.close();
    let left = std::fs::read_dir(dir.path().join("index")).unwrap().count();
    assert_eq!(
        left, 2,
        "a folder, and which: nothing of the old one is left"
    );
}

#[test]
fn a_build_beside_goes_on_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::open(dir.path());
    for number in 0..300 {
        fixture.accept(number);
        fixture.process("old");
    }
    fixture.until("all indexed", |h| h.total("signature", "=old") == 300);
    fixture.indexer.stop();
    let change = fixture.index.watermark().unwrap().change;
    // Half of it was committed when the server died.
    fixture.index.begin_next().unwrap();
    let mut writer = Writer::open(&fixture.index, Side::Next).unwrap();
    writer
        .commit(Watermark {
            change,
            rebuilt_to: Some(100),
        })
        .unwrap();
    drop(writer);
    fixture.accept(300);
    fixture.process("new");
    fixture.until("stored", |h| h.store.change_range().unwrap().0 > change);
    fixture.close();

    let fixture = Fixture::open(dir.path());
    // The first hundred are missing in the next index. So this shows that the server continued the build
    // and did not start again.
    fixture.until("in place", |h| h.total("signature", "=old") == 200);
    fixture.until("the new one", |h| h.total("signature", "=new") == 1);
    fixture.until("done", |h| h.indexer.building().is_none());
    fixture.close();
}

#[test]
fn a_rebuild_without_a_server_puts_a_whole_index_in_place() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::open(dir.path());
    for number in 0..300 {
        fixture.accept(number);
        fixture.process("old");
    }
    fixture.until("all indexed", |h| h.total("signature", "=old") == 300);
    fixture.indexer.stop();
    fixture.accept(300);
    fixture.process("new");
    fixture.until("stored", |h| h.store.change_range().unwrap().0 > 300);
    let built = rebuild(&fixture.store, &fixture.index, |_| {}).unwrap();
    assert_eq!((built.rows, built.rows_total), (301, 301));
    assert_eq!(fixture.total("signature", "=old"), 300);
    assert_eq!(fixture.total("signature", "=new"), 1);
    // The same when there is no current index.
    fixture.index.reset().unwrap();
    let built = rebuild(&fixture.store, &fixture.index, |_| {}).unwrap();
    assert_eq!(built.rows, 301);
    assert_eq!(fixture.total("signature", "=old"), 300);
    fixture.close();
}

#[test]
fn an_index_ahead_of_its_store_is_built_anew() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::open(dir.path());
    fixture.accept(1);
    fixture.process("one");
    fixture.until("indexed", |h| h.total("signature", "=one") == 1);
    fixture.indexer.stop();
    let mut writer = Writer::open(&fixture.index, Side::Current).unwrap();
    writer.delete(1);
    writer
        .commit(Watermark {
            change: 99,
            rebuilt_to: None,
        })
        .unwrap();
    drop(writer);
    fixture.close();

    let fixture = Fixture::open(dir.path());
    fixture.until("built", |h| h.total("signature", "=one") == 1);
    fixture.close();
}
