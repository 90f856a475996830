//! Counts that outlive the crashes, compared with a simple model.

use std::collections::BTreeMap;

use crashkeep::clock::{Clock, DAY_MS, Day, Timestamp};
use crashkeep::crash::facts::{Facts, System};
use crashkeep::crash::id::CrashId;
use crashkeep::store::State;
use crashkeep::store::counters::{Discard, OTHERS, Tallies, Tally};
use crashkeep::throttle::Outcome;

use redb::TableHandle as _;

use crate::retention::{START, TestStore};
use crate::sim_disk::Random;

const EVER: std::ops::RangeInclusive<Day> = Day(0)..=Day(u32::MAX);

/// The values by which a crash is counted: product, version, build, signature, system, uptime, and the day.
#[derive(Clone, Debug)]
struct As {
    product: &'static str,
    version: &'static str,
    signature: &'static str,
    facts: Facts,
    at: Timestamp,
    is_deleted: bool,
}

impl As {
    fn day(&self) -> Day {
        self.at.day()
    }
}

type Key = (Day, String, String);

fn expected(counted: &[&As], product: &str) -> BTreeMap<Key, [Tally; 4]> {
    let mut rows: BTreeMap<Key, [Tally; 4]> = BTreeMap::new();
    for one in counted.iter().filter(|one| one.product == product) {
        let key = (one.day(), one.version.to_owned(), one.facts.build.clone());
        rows.entry(key).or_default()[one.facts.system as usize].add(Tally {
            crashes: 1,
            with_uptime: one.facts.uptime_s.is_some().into(),
            uptime_s: one.facts.uptime_s.unwrap_or(0),
        });
    }
    rows
}

fn stored(test: &TestStore, product: &str) -> BTreeMap<Key, [Tally; 4]> {
    let sums = test
        .store
        .counters(product, EVER, |key| {
            Some((key.day, [key.version, key.build]))
        })
        .expect("readable");
    sums.into_iter()
        .map(|((day, ids), row): (_, Tallies)| {
            let names = test.store.names(&ids).expect("names");
            let [version, build] = names.try_into().expect("two");
            let tallies = System::ALL.map(|system| row.of(system));
            ((day, version, build), tallies)
        })
        .collect()
}

fn facts(random: &mut Random) -> Facts {
    Facts {
        build: ["", "20261101", "20261102"][random.below(3) as usize].into(),
        system: System::ALL[random.below(4) as usize],
        uptime_s: (random.below(3) > 0).then(|| random.below(1_000)),
    }
}

#[test]
fn each_crash_is_counted_once_as_what_it_was_processed_last() {
    let mut test = TestStore::new();
    let mut random = Random(7);
    let mut crashes: Vec<(CrashId, As)> = Vec::new();
    for number in 0..600u128 {
        let day_ms = random.below(5) as i64 * DAY_MS;
        test.clock.set(Timestamp::from_ms(
            START.ms() + day_ms + random.below(1_000) as i64,
        ));
        let signature = ["a", "b | c", "d"][random.below(3) as usize];
        let facts = facts(&mut random);
        let failure = (random.below(5) == 0).then_some("no");
        // Every third time, a crash that is already counted is reprocessed.
        if number % 3 == 2 {
            let at = random.below(crashes.len() as u64) as usize;
            let (id, counted) = &mut crashes[at];
            if counted.is_deleted {
                continue;
            }
            if number > 60 && random.below(5) == 0 {
                let (seq, _) = test.store.crash(*id).expect("readable").expect("stored");
                let deleted = test.store.delete(vec![seq], &State::ALL);
                assert_eq!(deleted.expect("it was there"), 1);
                counted.is_deleted = true;
                continue;
            }
            test.store.prioritize(*id).expect("asked for");
            test.finish_as(signature, facts.clone(), failure);
            (counted.signature, counted.facts) = (signature, facts);
        } else {
            let product = ["A", "B"][random.below(2) as usize];
            let version = ["1", "2"][random.below(2) as usize];
            let id = test.accept_of(number, [product, version], None);
            test.finish_as(signature, facts.clone(), failure);
            let counted = As {
                product,
                version,
                signature,
                facts,
                at: test.clock.now(),
                is_deleted: false,
            };
            crashes.push((id, counted));
        }
        // A store that was written before these tables existed. No crash has been deleted yet.
        if number == 60 {
            test = test.meddled(4, |write| {
                for name in ["seen", "gone"] {
                    let table = write.list_tables().expect("tables");
                    let table = table.into_iter().find(|table| table.name() == name);
                    write
                        .delete_table(table.expect("it is there"))
                        .expect("deleted");
                }
            });
        }
    }
    let counted: Vec<&As> = crashes.iter().map(|(_, counted)| counted).collect();
    let both = || ["A", "B"].map(|product| stored(&test, product));
    let found = both();
    assert_eq!(found, ["A", "B"].map(|p| expected(&counted, p)));
    assert_eq!(stored(&test, "C"), BTreeMap::new());

    for signature in ["a", "b | c", "d", "e"] {
        let mut expected: BTreeMap<_, (u64, Timestamp, Timestamp)> = BTreeMap::new();
        for one in counted.iter().filter(|one| one.signature == signature) {
            let key = (one.day(), one.product, one.version, &*one.facts.build);
            let row = expected.entry(key).or_insert((0, one.at, one.at));
            *row = (row.0 + 1, row.1.min(one.at), row.2.max(one.at));
        }
        let sightings = test.store.sightings(signature).expect("readable");
        let found: BTreeMap<_, _> = sightings
            .iter()
            .map(|s| {
                let key = (s.day, &*s.product, &*s.version, &*s.build);
                (key, (s.crashes, s.first_at, s.last_at))
            })
            .collect();
        assert_eq!(found, expected, "{signature}");
        let first = test.store.first_seen(&[signature.to_owned()]);
        let first = first.expect("readable").into_values().next();
        assert_eq!(first, sightings.iter().map(|s| s.first_at).min());
    }
    let products = test.store.counted_products().expect("readable");
    assert_eq!(products, (vec!["A".to_owned(), "B".to_owned()], 0));
    test.pass_after(1_000);
    assert!(crashes.iter().all(|(id, _)| test.state(*id).is_none()));
    assert_eq!(both(), found, "counts outlive the crashes");
}

#[test]
fn a_signature_that_no_crash_has_any_more_was_never_seen() {
    let test = TestStore::new();
    let id = test.accept_of(1, ["A", "1"], None);
    test.finish_as("wrong", Facts::default(), None);
    test.store.prioritize(id).expect("asked for");
    test.finish_as("right", Facts::default(), None);
    assert_eq!(test.store.sightings("wrong").expect("readable"), []);
    let first = test.store.first_seen(&["wrong".into(), "right".into()]);
    assert_eq!(
        first.expect("readable"),
        [("right".to_owned(), START)].into()
    );
    assert_eq!(test.state(id), Some(State::Processed));
}

#[test]
fn decisions_count_kept_and_discarded_reports_by_product_and_version() {
    let test = TestStore::new();
    test.accept_of(1, ["A", "1"], None);
    test.accept_of(2, ["A", "1"], None);
    test.accept_of(3, ["A", "2"], Some(3));
    let discard = |rule: &str, outcome, version: &str| {
        test.store.discarded(Discard {
            day: START.day(),
            rule: rule.into(),
            outcome,
            product: "A".into(),
            version: version.into(),
        });
    };
    for _ in 0..500 {
        discard("old", Outcome::Reject, "0.9");
    }
    discard("quiet", Outcome::FakeAccept, "0.8");
    let counts = || {
        let decided = test.store.decisions(EVER).expect("readable");
        let mut counts: Vec<_> = decided
            .into_iter()
            .map(|d| (d.rule, d.outcome.to_string(), d.version, d.reports))
            .collect();
        counts.sort();
        counts
    };
    let row = |rule: &str, outcome: &str, version: &str, reports| {
        (
            rule.to_owned(),
            outcome.to_owned(),
            version.to_owned(),
            reports,
        )
    };
    let expected = [
        row("old", "reject", "0.9", 500),
        row("quiet", "fake-accept", "0.8", 1),
        row("r", "accept", "1", 2),
        row("r", "defer", "2", 1),
    ];
    assert_eq!(counts(), expected);
    for version in 0..1_200 {
        discard("flood", Outcome::Reject, &version.to_string());
    }
    let flood: Vec<_> = counts().into_iter().filter(|c| c.0 == "flood").collect();
    assert!(
        flood.len() <= 1_001,
        "{} rows of a client's making",
        flood.len()
    );
    assert_eq!(flood.iter().map(|c| c.3).sum::<u64>(), 1_200);
    assert!(flood.iter().any(|c| c.2 == OTHERS && c.3 >= 200));
}
