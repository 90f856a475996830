//! Late symbols: crashes that lacked them are reprocessed, after all new crashes.

use std::collections::BTreeMap;

use crashkeep::crash::facts::Facts;
use crashkeep::crash::id::CrashId;
use crashkeep::crash::lack::Lack;
use crashkeep::store::State;
use crashkeep::store::reprocess::Reprocessing;

use crate::retention::TestStore;
use crate::server::{Server, fixture, wait_for};

/// A store whose crashes are numbered.
struct NumberedCrashes {
    test: TestStore,
    ids: BTreeMap<u128, CrashId>,
}

impl NumberedCrashes {
    fn new() -> Self {
        Self {
            test: TestStore::new(),
            ids: BTreeMap::new(),
        }
    }

    fn accept(&mut self, number: u128) {
        let id = self.test.accept_of(number, ["A", "1"], None);
        self.ids.insert(number, id);
    }

    /// Ends the next job with these modules as missing. Returns the number of its crash.
    fn walk(&self, signature: &str, lacks: &[&str]) -> u128 {
        let facts = Facts::default();
        let done = self.test.finish_lacking(signature, facts, lacks, None);
        let found = self.ids.iter().find(|(_, id)| **id == done);
        *found.expect("one of ours").0
    }

    fn reprocess_lacking(&self, module: &str) -> u64 {
        let lacks = vec![Lack::parse(module).expect("a lack")];
        self.test.store.reprocess_lacking(lacks).expect("durable")
    }

    fn reprocessings(&self) -> Vec<Reprocessing> {
        self.test.store.reprocessings(9).expect("readable")
    }

    /// The newest reprocessing: affected, done, improved, and whether it has ended.
    fn newest(&self) -> (u64, u64, u64, bool) {
        let newest = self.reprocessings().remove(0);
        let has_ended = !newest.is_running();
        (newest.crashes, newest.done, newest.improved, has_ended)
    }

    fn state(&self, number: u128) -> Option<State> {
        self.test.state(self.ids[&number])
    }
}

#[test]
fn crashes_that_lacked_late_symbols_are_reprocessed_newest_first_and_after_new_ones() {
    let mut numbered = NumberedCrashes::new();
    for (number, lacks) in [
        (1, &["a/1", "b/2"][..]),
        (2, &["a/1"]),
        (3, &["c/3"]),
        (4, &["a/1"]),
    ] {
        numbered.accept(number);
        assert_eq!(numbered.walk("poor", lacks), number);
    }
    let lacking = |numbered: &NumberedCrashes| -> Vec<(String, u64)> {
        let lacking = numbered
            .test
            .store
            .lacking(None, None, 10)
            .expect("readable");
        let rows = lacking.into_iter();
        rows.map(|row| (row.lack.to_string(), row.crashes))
            .collect()
    };
    let row = |module: &str, crashes| (module.to_owned(), crashes);
    assert_eq!(
        lacking(&numbered),
        [row("a/1", 3), row("b/2", 1), row("c/3", 1)]
    );

    assert_eq!(numbered.reprocess_lacking("nobody/9"), 0);
    assert!(numbered.reprocessings().is_empty());
    assert_eq!(numbered.reprocess_lacking("a/1"), 3);
    assert_eq!(numbered.reprocess_lacking("a/1"), 0, "they wait already");
    numbered.accept(5);
    numbered.accept(6);
    // One job of a reprocessed crash may have been handed out before the new crashes arrived.
    let first = numbered.walk("rich", &[]);
    let rest: Vec<u128> = (0..4)
        .map(|at| numbered.walk(if at < 3 { "rich" } else { "richer" }, &["b/2"][..at / 3]))
        .collect();
    let order = [vec![first], rest].concat();
    let again: Vec<u128> = order.iter().copied().filter(|n| *n < 5).collect();
    assert_eq!(again, [4, 2, 1], "the newest first: {order:?}");
    assert!(
        order[..3].contains(&5) && order[..3].contains(&6),
        "{order:?}"
    );
    assert_eq!(numbered.newest(), (3, 3, 3, true));
    let newest = numbered.reprocessings().remove(0);
    assert_eq!((newest.signatures_before, newest.signatures_after), (1, 2));
    assert_eq!(newest.cause.modules(), ["a/1"]);
    assert_eq!(lacking(&numbered), [row("b/2", 1), row("c/3", 1)]);
    assert!((1..=6).all(|n| numbered.state(n) == Some(State::Processed)));
    assert!(numbered.test.store.audit().expect("an audit").is_clean());
}

#[test]
fn symbols_without_rules_of_unwinding_are_an_improvement() {
    let mut numbered = NumberedCrashes::new();
    numbered.accept(1);
    numbered.walk("poor", &["a/1", "b/2"]);
    numbered.reprocess_lacking("a/1");
    numbered.walk("better", &["a/1 unwind", "b/2"]);
    assert_eq!(numbered.newest(), (1, 1, 1, true));
    // The opposite result does not count as improved.
    numbered.reprocess_lacking("b/2");
    numbered.walk("worse", &["a/1", "b/2"]);
    assert_eq!(numbered.newest(), (1, 1, 0, true));
}

#[test]
fn what_crashes_lack_is_counted_as_crashes_come_change_and_go() {
    use redb::TableDefinition;
    const TOTALS: TableDefinition<u32, u64> = TableDefinition::new("lack_totals");
    const RELEASES: TableDefinition<(u32, u32, u32), u64> = TableDefinition::new("lack_releases");
    let test = TestStore::new();
    for (number, release, lacks) in [
        (1, ["A", "1"], &["a/1", "b/2"][..]),
        (2, ["A", "2"], &["a/1"]),
        (3, ["B", "1"], &["a/1", "c/3"]),
    ] {
        test.accept_of(number, release, None);
        test.finish_lacking("s", Facts::default(), lacks, None);
    }
    let lacking = |test: &TestStore, product, version| -> Vec<(String, u64, usize)> {
        let found = test.store.lacking(product, version, 10).expect("readable");
        let rows = found.into_iter();
        rows.map(|row| (row.lack.to_string(), row.crashes, row.releases.len()))
            .collect()
    };
    let row = |lack: &str, crashes, releases| (lack.to_owned(), crashes, releases);
    let all = [row("a/1", 3, 3), row("b/2", 1, 1), row("c/3", 1, 1)];
    assert_eq!(lacking(&test, None, None), all);
    assert_eq!(
        lacking(&test, Some("A"), None),
        [row("a/1", 2, 2), row("b/2", 1, 1)]
    );
    assert_eq!(lacking(&test, Some("A"), Some("2")), [row("a/1", 1, 1)]);
    assert_eq!(lacking(&test, Some("none"), None), []);
    // A store from before the counts gets them when it is opened.
    let test = test.meddled(4, |write| {
        write.delete_table(TOTALS).expect("it is there");
        write.delete_table(RELEASES).expect("it is there");
    });
    assert_eq!(lacking(&test, None, None), all);
    test.pass_after(1_000);
    assert_eq!(lacking(&test, None, None), []);
}

#[test]
fn a_reprocessing_ends_though_crashes_are_prioritized_deleted_or_no_better() {
    let mut numbered = NumberedCrashes::new();
    for number in 1..=40 {
        numbered.accept(number);
        numbered.walk("poor", &["a/1"]);
    }
    assert_eq!(numbered.reprocess_lacking("a/1"), 40);
    assert_eq!(numbered.newest(), (40, 0, 0, false));
    numbered
        .test
        .store
        .prioritize(numbered.ids[&1])
        .expect("asked for");
    // The answer to a request may arrive before its job is in the channel.
    let first = [(); 2].map(|()| numbered.walk("poor", &["a/1"]));
    assert!(
        first.contains(&1),
        "what was asked for goes first: {first:?}"
    );
    // Queued crashes are deleted. Those in a channel finish without improvement.
    numbered.test.pass_after(1_000);
    let left = (2..=40).filter(|n| numbered.state(*n).is_some());
    for _ in 0..left.count() {
        numbered.walk("poor", &["a/1"]);
    }
    let (affected, done, improved, has_ended) = numbered.newest();
    assert_eq!((affected, done, improved), (40, 40, 0));
    assert!(has_ended);
    assert!(numbered.test.store.audit().expect("an audit").is_clean());
}

#[test]
fn a_server_reprocesses_the_crashes_that_it_finds_symbols_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let mut server = Server::start_in(&data, &[]);
    let dump = fixture("dumps/linux-x86_64-acmed_null_read.dmp");
    let files: [(&str, &str, &[u8]); 1] = [("upload_file_minidump", "x", &dump)];
    let id = server.submit(&[("ProductName", "P")], &files).crash_id();
    assert_eq!(server.wait_processed(&id), "processed");
    let poor = server.processed(&id)["signature"].clone();
    let page = server.get("/symbols/").text();
    assert!(
        page.contains(">acmed<") && page.contains("No crashes have been reprocessed"),
        "{page}"
    );

    // The server need not be running when the symbols arrive.
    assert_eq!(server.terminate(), Some(0));
    server.install_symbols("acmed");
    let server = Server::start_in(&data, &[]);
    wait_for("a better signature", || {
        let now = server.processed(&id)["signature"].clone();
        (now != poor).then_some(())
    });
    wait_for("the end of the reprocessing", || {
        let page = server.get("/symbols/").text();
        let outcome = "1 crash improved, 1 signature became 1";
        (page.contains(outcome) && page.contains("1 of 1")).then_some(())
    });
    let signature = server.processed(&id)["signature"].clone();
    wait_for("the index", || {
        let found = server
            .get("/api/SuperSearch/?_facets=signature&_results_number=0")
            .json();
        (found["facets"]["signature"][0]["term"] == signature).then_some(())
    });
}

#[test]
fn an_upload_of_symbols_reprocesses_crashes_at_once() {
    let server = Server::start();
    let dump = fixture("dumps/linux-x86_64-acmed_null_read.dmp");
    let files: [(&str, &str, &[u8]); 1] = [("upload_file_minidump", "x", &dump)];
    let id = server.submit(&[("ProductName", "P")], &files).crash_id();
    assert_eq!(server.wait_processed(&id), "processed");
    let poor = server.processed(&id)["signature"].clone();
    let place = "acmed/135F08D1B8BB3CACF63971E176A8388F0";
    let packed = fixture(&format!("symbols/{place}/acmed.sym.gz"));
    let begun = std::time::Instant::now();
    let answer = server.request(
        "POST",
        "/upload/",
        &[("Content-Type", "application/octet-stream")],
        &packed,
    );
    assert!(answer.status < 300, "{}", answer.text());
    wait_for("a better signature", || {
        let now = server.processed(&id)["signature"].clone();
        (now != poor).then_some(())
    });
    println!("better after {} ms", begun.elapsed().as_millis());
    let kept = server.get(&format!("/symbols/{place}/acmed.sym"));
    assert!(
        kept.text()
            .starts_with("MODULE Linux x86_64 135F08D1B8BB3CACF63971E176A8388F0 acmed")
    );
}
