//! Late symbols: crashes that lacked them are reprocessed, after all new crashes.

use std::collections::BTreeMap;

use crashkeep::crash::facts::Facts;
use crashkeep::crash::id::CrashId;
use crashkeep::crash::lack::Lack;
use crashkeep::store::State;

use crate::retention::House;
use crate::server::{Server, fixture, wait_for};

/// A store whose crashes are numbered.
struct Yard {
    house: House,
    ids: BTreeMap<u128, CrashId>,
}

impl Yard {
    fn new() -> Self {
        Self {
            house: House::new(),
            ids: BTreeMap::new(),
        }
    }

    fn accept(&mut self, number: u128) {
        let id = self.house.accept_of(number, ["A", "1"], None);
        self.ids.insert(number, id);
    }

    /// Ends the next job with these modules as missing. Returns the number of its crash.
    fn walk(&self, signature: &str, lacks: &[&str]) -> u128 {
        let facts = Facts::default();
        let done = self.house.finish_lacking(signature, facts, lacks, None);
        let found = self.ids.iter().find(|(_, id)| **id == done);
        *found.expect("one of ours").0
    }

    fn mend(&self, module: &str) -> u64 {
        let lacks = vec![Lack::parse(module).expect("a lack")];
        self.house.store.mend(lacks).expect("durable")
    }

    /// The newest reprocessing job: affected, done, improved, and whether it has ended.
    fn newest_mend(&self) -> (u64, u64, u64, bool) {
        let mend = self.house.store.mends(1).expect("readable").remove(0).row;
        let has_ended = mend.ended_at_ms.is_some();
        (mend.affected, mend.done, mend.improved, has_ended)
    }

    fn state(&self, number: u128) -> Option<State> {
        self.house.state(self.ids[&number])
    }
}

#[test]
fn late_symbols_do_those_again_that_lacked_them_newest_first_and_after_new_ones() {
    let mut yard = Yard::new();
    for (number, lacks) in [
        (1, &["a/1", "b/2"][..]),
        (2, &["a/1"]),
        (3, &["c/3"]),
        (4, &["a/1"]),
    ] {
        yard.accept(number);
        assert_eq!(yard.walk("poor", lacks), number);
    }
    let lacking = |yard: &Yard| -> Vec<(String, u64)> {
        let lacking = yard.house.store.lacking(None, None, 10).expect("readable");
        let rows = lacking.into_iter();
        rows.map(|row| (row.lack.to_string(), row.crashes))
            .collect()
    };
    let row = |module: &str, crashes| (module.to_owned(), crashes);
    assert_eq!(
        lacking(&yard),
        [row("a/1", 3), row("b/2", 1), row("c/3", 1)]
    );

    assert_eq!(yard.mend("nobody/9"), 0);
    assert!(yard.house.store.mends(9).expect("readable").is_empty());
    assert_eq!(yard.mend("a/1"), 3);
    assert_eq!(yard.mend("a/1"), 0, "they wait already");
    yard.accept(5);
    yard.accept(6);
    // One job of a reprocessed crash may have been handed out before the new crashes arrived.
    let first = yard.walk("rich", &[]);
    let rest: Vec<u128> = (0..4)
        .map(|at| yard.walk(if at < 3 { "rich" } else { "richer" }, &["b/2"][..at / 3]))
        .collect();
    let order = [vec![first], rest].concat();
    let mends: Vec<u128> = order.iter().copied().filter(|n| *n < 5).collect();
    assert_eq!(mends, [4, 2, 1], "the newest first: {order:?}");
    assert!(
        order[..3].contains(&5) && order[..3].contains(&6),
        "{order:?}"
    );
    assert_eq!(yard.newest_mend(), (3, 3, 3, true));
    let mend = yard.house.store.mends(1).expect("readable").remove(0);
    assert_eq!((mend.signatures_before, mend.signatures_after), (1, 2));
    assert_eq!(mend.row.modules, ["a/1"]);
    assert_eq!(lacking(&yard), [row("b/2", 1), row("c/3", 1)]);
    assert!((1..=6).all(|n| yard.state(n) == Some(State::Processed)));
    assert!(yard.house.store.audit().expect("an audit").is_clean());
}

#[test]
fn symbols_without_rules_of_unwinding_are_an_improvement() {
    let mut yard = Yard::new();
    yard.accept(1);
    yard.walk("poor", &["a/1", "b/2"]);
    yard.mend("a/1");
    yard.walk("better", &["a/1 unwind", "b/2"]);
    assert_eq!(yard.newest_mend(), (1, 1, 1, true));
    // The opposite result does not count as improved.
    yard.mend("b/2");
    yard.walk("worse", &["a/1", "b/2"]);
    assert_eq!(yard.newest_mend(), (1, 1, 0, true));
}

#[test]
fn what_crashes_lack_is_counted_as_crashes_come_change_and_go() {
    use redb::TableDefinition;
    const TOTALS: TableDefinition<u32, u64> = TableDefinition::new("lack_totals");
    const RELEASES: TableDefinition<(u32, u32, u32), u64> = TableDefinition::new("lack_releases");
    let house = House::new();
    for (number, release, lacks) in [
        (1, ["A", "1"], &["a/1", "b/2"][..]),
        (2, ["A", "2"], &["a/1"]),
        (3, ["B", "1"], &["a/1", "c/3"]),
    ] {
        house.accept_of(number, release, None);
        house.finish_lacking("s", Facts::default(), lacks, None);
    }
    let lacking = |house: &House, product, version| -> Vec<(String, u64, usize)> {
        let found = house.store.lacking(product, version, 10).expect("readable");
        let rows = found.into_iter();
        rows.map(|row| (row.lack.to_string(), row.crashes, row.releases.len()))
            .collect()
    };
    let row = |lack: &str, crashes, releases| (lack.to_owned(), crashes, releases);
    let all = [row("a/1", 3, 3), row("b/2", 1, 1), row("c/3", 1, 1)];
    assert_eq!(lacking(&house, None, None), all);
    assert_eq!(
        lacking(&house, Some("A"), None),
        [row("a/1", 2, 2), row("b/2", 1, 1)]
    );
    assert_eq!(lacking(&house, Some("A"), Some("2")), [row("a/1", 1, 1)]);
    assert_eq!(lacking(&house, Some("none"), None), []);
    // A store from before the counts gets them when it is opened.
    let house = house.meddled(4, |write| {
        write.delete_table(TOTALS).expect("it is there");
        write.delete_table(RELEASES).expect("it is there");
    });
    assert_eq!(lacking(&house, None, None), all);
    house.pass_after(1_000);
    assert_eq!(lacking(&house, None, None), []);
}

#[test]
fn a_mend_ends_though_crashes_are_asked_for_deleted_or_no_better() {
    let mut yard = Yard::new();
    for number in 1..=40 {
        yard.accept(number);
        yard.walk("poor", &["a/1"]);
    }
    assert_eq!(yard.mend("a/1"), 40);
    assert_eq!(yard.newest_mend(), (40, 0, 0, false));
    yard.house.store.request(yard.ids[&1]).expect("asked for");
    // The answer to a request may arrive before its job is in the channel.
    let first = [(); 2].map(|()| yard.walk("poor", &["a/1"]));
    assert!(
        first.contains(&1),
        "what was asked for goes first: {first:?}"
    );
    // Queued crashes are deleted. Those in a channel finish without improvement.
    yard.house.pass_after(1_000);
    let left = (2..=40).filter(|n| yard.state(*n).is_some());
    for _ in 0..left.count() {
        yard.walk("poor", &["a/1"]);
    }
    let (affected, done, improved, has_ended) = yard.newest_mend();
    assert_eq!((affected, done, improved), (40, 40, 0));
    assert!(has_ended);
    assert!(yard.house.store.audit().expect("an audit").is_clean());
}

#[test]
fn a_server_mends_what_it_finds_symbols_for() {
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
    wait_for("the end of the mend", || {
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
fn an_upload_of_symbols_mends_at_once() {
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
