//! Reports that are sent again: how long they are recognised.

use crashkeep::clock::{Clock, DAY_MS, Timestamp};
use crashkeep::crash::id::{CrashId, Kept};
use crashkeep::store::repeats::Repeat;
use crashkeep::store::{NewCrash, Payload, State};

use crate::retention::{START, TestStore};
use crate::server::{Server, fixture};

/// Stores a report with this digest. Returns the id of the new crash, and the id in the answer.
fn accept(test: &TestStore, number: u128, digest: u128) -> (CrashId, CrashId) {
    let now = test.clock.now();
    let id = CrashId::new(number << 64, Kept::Accepted, now);
    let crash = NewCrash {
        id,
        received_at: now,
        product: "A".into(),
        version: "1".into(),
        throttle_rule: "r".into(),
        deferred_days: None,
        raw: Payload::from_bytes(br#"{"annotations": {}, "metadata": {}}"#),
        parts: Vec::new(),
        digest: Some(digest),
    };
    (id, test.store.accept(crash).expect("durable"))
}

#[test]
fn a_report_counts_as_the_same_for_a_day_from_its_receipt() {
    let test = TestStore::new();
    let (first, kept) = accept(&test, 1, 7);
    assert_eq!(first, kept);
    test.clock.set(Timestamp::from_ms(START.ms() + DAY_MS - 1));
    let (_, again) = accept(&test, 2, 7);
    assert_eq!(again, first);
    assert_eq!(
        test.store.repeated(7, test.clock.now()).ok(),
        Some(Repeat::Stored(first))
    );
    test.clock.set(Timestamp::from_ms(START.ms() + DAY_MS));
    assert_eq!(
        test.store.repeated(7, test.clock.now()).ok(),
        Some(Repeat::New)
    );
    let (third, kept) = accept(&test, 3, 7);
    assert_eq!(kept, third);
    let (fourth, kept) = accept(&test, 4, 8);
    assert_eq!(kept, fourth, "another digest is another report");
    // The first one is forgotten. The newer one is not.
    assert_eq!(accept(&test, 5, 7).1, third);
}

#[test]
fn a_report_whose_crash_was_deleted_is_a_new_one() {
    let test = TestStore::new();
    let (first, _) = accept(&test, 1, 7);
    let seq = test.store.crash(first).expect("readable").expect("there").0;
    let deleted = test
        .store
        .delete(vec![seq], &[State::Queued, State::Processing]);
    assert_eq!(deleted.expect("deleted"), 1);
    let (second, kept) = accept(&test, 2, 7);
    assert_eq!(kept, second);
}

#[test]
fn a_report_whose_bytes_somebody_removed_is_taken_when_it_comes_again() {
    let server = Server::start();
    let dump = fixture("dumps/linux-x86_64-crash.dmp");
    let submit = || {
        let files: [(&str, &str, &[u8]); 1] = [("upload_file_minidump", "x.dmp", &dump)];
        let answer = server.submit(&[("ProductName", "App")], &files);
        answer.crash_id()
    };
    let first = submit();
    server.wait_processed(&first);
    assert_eq!(submit(), first);
    for entry in std::fs::read_dir(server.data.join("segments")).expect("a folder") {
        std::fs::remove_file(entry.expect("an entry").path()).expect("removed");
    }
    let second = submit();
    assert_ne!(second, first);
    let raw = server.get(&format!("/api/RawCrash/?crash_id={second}&format=raw"));
    assert_eq!(raw.body, dump);
}
