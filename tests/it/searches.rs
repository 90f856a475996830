//! Compares searches with a scan over the store, at every stage of a crash's life.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use crashkeep::clock::{Clock, DAY_MS, ManualClock, Timestamp};
use crashkeep::crash::facts::Facts;
use crashkeep::crash::id::{CrashId, Kept};
use crashkeep::crash::raw::RawCrash;
use crashkeep::fields::{Catalogue, Field, Kind, Source};
use crashkeep::index::{Coverage, Document, Index, Scalar, Side, Watermark, Writer};
use crashkeep::indexer::Indexer;
use crashkeep::metrics::Metrics;
use crashkeep::query::{FieldRef, Query};
use crashkeep::queue::{Jobs, Stop, queue};
use crashkeep::store::disk::OsDisk;
use crashkeep::store::signatures::Resigned;
use crashkeep::store::{Finished, NewCrash, Payload, State, Store, StoreOptions, StoredCrash};
use serde_json::{Value, json};

use crate::oracle::{Oracle, asked};
use crate::server::wait_for;

const START: Timestamp = Timestamp::from_ms(1_795_338_764_123);
const CRASHES: u64 = 300;
/// Queries after each stage. There are eight stages.
const QUERIES: u64 = 250;

/// Random numbers that are the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }
}

struct TestServer {
    clock: Arc<ManualClock>,
    store: Arc<Store>,
    index: Arc<Index>,
    indexer: Option<Indexer>,
    jobs: Jobs,
    _stop: Stop,
    root: tempfile::TempDir,
}

fn open_index(root: &Path, store: &Store) -> Arc<Index> {
    let id = store.id().expect("an id");
    let catalogue = Arc::new(Catalogue::builtin());
    Arc::new(Index::open(&root.join("index"), id, catalogue).expect("an index"))
}

impl TestServer {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a folder");
        let clock = Arc::new(ManualClock::at(START));
        let (lanes, jobs, stop) = queue(1_000, 1_000);
        let options = StoreOptions {
            cache_bytes: 1 << 20,
            spill_dir: root.path().to_path_buf(),
        };
        let disk = Arc::new(OsDisk::new(&root.path().join("data")).expect("a disk"));
        let store = Store::open(disk, options, clock.clone(), Box::new(lanes)).expect("a store");
        let index = open_index(root.path(), &store);
        let mut test = Self {
            clock,
            store: Arc::new(store),
            index,
            indexer: None,
            jobs,
            _stop: stop,
            root,
        };
        test.start();
        test
    }

    fn start(&mut self) {
        let (store, index) = (self.store.clone(), self.index.clone());
        let indexer = Indexer::start(store, index, Arc::new(Metrics::default()));
        self.indexer = Some(indexer.expect("a thread"));
    }

    /// Ends the server. Only its files remain.
    fn stop(&mut self) {
        self.indexer.take().expect("it runs").stop();
    }

    fn reopen(&mut self) {
        self.index = open_index(self.root.path(), &self.store);
        self.start();
    }

    fn accept(&self, number: u64, random: &mut Random) -> CrashId {
        let received_at = self.clock.now();
        let id = CrashId::new(u128::from(number) << 64, Kept::Accepted, received_at);
        let mut raw = RawCrash::default();
        let mut put = |key: &str, value: String| raw.annotations.insert(key.into(), value);
        put("ProductName", "P".into());
        if random.one_in(2) {
            put("guid", format!(" g{} of it", random.below(9)));
        }
        if random.one_in(3) {
            put("a.b", random.of(&["dotted", "", "DOM::x"]).into());
        }
        let raw = serde_json::to_vec(&raw).expect("JSON");
        let crash = NewCrash {
            id,
            received_at,
            product: "P".into(),
            version: "1".into(),
            throttle_rule: "r".into(),
            deferred_days: None,
            raw: Payload::from_bytes(&raw),
            digest: None,
            parts: Vec::new(),
        };
        self.store.accept(crash).expect("durable");
        id
    }

    fn process(&self, random: &mut Random) {
        let job = self.jobs.next().expect("a job");
        let processed = processed(random);
        let signature = processed["signature"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let finished = Finished {
            processed: Payload::from_bytes(processed.to_string().as_bytes()),
            signature,
            processed_at: self.clock.now(),
            facts: Facts::default(),
            lacks: Vec::new(),
            used: Vec::new(),
            named: Default::default(),
            revision: 0,
            failure: random.one_in(20).then(|| "too bad".into()),
        };
        self.store.finish(job, finished).expect("the store runs");
    }

    /// Waits until the index has all changes and is complete.
    fn settle(&self) {
        // The answer of the writer comes after everything that was sent before.
        self.store.sweep().expect("the store runs");
        let (last, _) = self.store.change_range().expect("readable");
        wait_for("the index", || {
            let mark = self.index.watermark()?;
            (mark.change == last && mark.rebuilt_to.is_none()).then_some(())
        });
    }

    /// Sends the queries to the index and to the oracle.
    fn check(&self, stage: &str, random: &mut Random) {
        self.settle();
        let oracle = Oracle::of(&self.store);
        assert_eq!(
            self.index.status().documents,
            oracle.len() as u64,
            "{stage}"
        );
        let asked = self.ask(stage, random, &oracle, &oracle);
        assert_eq!((asked.partly, asked.words), (0, 0), "{stage}");
        // Otherwise most queries would prove nothing.
        assert!(
            asked.found > QUERIES / 4,
            "{stage}: only {} queries found something",
            asked.found
        );
    }

    /// Compares the index with a scan over all crashes. For searches that only an unfinished index can
    /// answer, compares it with a scan over those that are `built`.
    fn ask(&self, stage: &str, random: &mut Random, all: &Oracle, built: &Oracle) -> Asked {
        let mut asked = Asked::default();
        for number in 0..QUERIES {
            let params = params(all, random);
            let text = format!("{stage}, query {number}: {params:?}");
            let (now, sees_protected) = (self.clock.now(), !random.one_in(5));
            let query = Query::parse(self.index.catalogue(), &params, now, sees_protected);
            let query = query.unwrap_or_else(|e| panic!("{text}: {e}"));
            let printed = query.to_params();
            let again = Query::parse(self.index.catalogue(), &printed, now, sees_protected);
            assert_eq!(again.as_ref(), Ok(&query), "{text}: {printed:?}");
            let result = self
                .index
                .search(&query)
                .unwrap_or_else(|e| panic!("{text}: {e}"));
            let is_whole = result.coverage.is_whole();
            let expected = match &result.coverage {
                Coverage::Whole => all.answer(&query),
                Coverage::SomeCrashes(fields) => {
                    asked.partly += 1;
                    let names = query.fields().into_iter().map(FieldRef::name);
                    let names: BTreeSet<String> = names.collect();
                    assert!(
                        fields.iter().all(|f| names.contains(f)),
                        "{text}: {fields:?}"
                    );
                    built.answer(&query)
                }
                Coverage::SomeWords(fields) => {
                    asked.words += 1;
                    assert!(query.text.is_some() && !fields.is_empty(), "{text}");
                    let without = Query {
                        text: None,
                        ..query
                    };
                    let most = all.answer(&without).total;
                    assert!(result.total <= most, "{text}: {} of {most}", result.total);
                    continue;
                }
            };
            assert_eq!(result.total, expected.total, "{text}");
            let seqs: Vec<u64> = result.hits.iter().map(|hit| hit.seq).collect();
            assert_eq!(seqs, expected.seqs, "{text}");
            let values: Vec<Vec<Value>> = result.hits.into_iter().map(|hit| hit.values).collect();
            assert_eq!(values, expected.values, "{text}");
            let facets = result
                .facets
                .iter()
                .map(|(label, f)| (label.clone(), f.to_json()));
            assert_eq!(facets.collect::<Vec<_>>(), expected.facets, "{text}");
            asked.found += u64::from(is_whole && expected.total > 0);
        }
        asked
    }

    /// The crashes of the store, converted as the indexer does it.
    fn documents(&self) -> Vec<Document> {
        let rows = self.store.scan(0, usize::MAX).expect("readable");
        let document = |(seq, row): (u64, StoredCrash)| {
            let processed = self.store.processed(&row).expect("readable")?;
            let annotations = self.store.raw(&row).expect("readable").annotations;
            let received_at = row.received_at();
            let document = Document::new(
                &Catalogue::builtin(),
                seq,
                row.id,
                received_at,
                &processed,
                &annotations,
            );
            Some(document.expect("JSON"))
        };
        rows.into_iter().filter_map(document).collect()
    }

    fn write(&self, side: Side, documents: &[Document], watermark: Watermark) {
        let mut writer = Writer::open(&self.index, side).expect("no other writer");
        for document in documents {
            writer.put(document).expect("written");
        }
        writer.commit(watermark).expect("committed");
    }
}

/// The number of searches of a stage, by the kind of answer.
#[derive(Debug, Default)]
struct Asked {
    /// Complete answers that are not empty.
    found: u64,
    /// Answers from an index that is being built.
    partly: u64,
    /// Answers with missing words.
    words: u64,
}

/// The catalogue of an older version of the program, with this change.
fn catalogue_before(change: fn(&mut Field)) -> Arc<Catalogue> {
    let now = Catalogue::builtin();
    let mut fields: Vec<Field> = now.all().iter().map(|field| (**field).clone()).collect();
    fields.iter_mut().for_each(change);
    fields.retain(|field| field.name != NONE);
    Arc::new(Catalogue::of(fields, &[], now.installation_keys()))
}

/// A field with this name is removed.
const NONE: &str = "";

/// A crash as a server with that catalogue wrote it. The values differ in every field that the catalogue
/// defines differently.
fn as_before(document: &Document, catalogue: &Catalogue) -> Document {
    let mut before = Document {
        fields: Vec::new(),
        ..document.clone()
    };
    for (field, values) in &document.fields {
        let Some(was) = catalogue.all().iter().find(|was| was.name == field.name) else {
            continue;
        };
        let values = values.iter().map(|value| match value {
            value if was == field => value.clone(),
            Scalar::Integer(number) if was.kind.is_text() => {
                Scalar::Text(number.wrapping_add(1).to_string())
            }
            Scalar::Integer(number) => Scalar::Integer(number.wrapping_add(1)),
            Scalar::Text(text) => Scalar::Text(format!("{text} before")),
            value => value.clone(),
        });
        before.fields.push((was.clone(), values.collect()));
    }
    // An annotation that was a field then was not stored as an annotation.
    before.annotations.retain(|(key, value)| {
        let was = catalogue.by_annotation(key);
        before
            .fields
            .extend(was.map(|was| (was.clone(), vec![Scalar::Text(value.clone())])));
        was.is_none()
    });
    before
}

/// A random processed crash. Some values have the wrong type.
fn processed(random: &mut Random) -> Value {
    const CLASSES: [&str; 6] = ["Promise", "promise", "Énd", "Window", "x1", "abort"];
    const SPACES: [&str; 4] = ["mozilla::dom", "core", "std", "Core"];
    let mut function = || format!("{}::{}", random.of(&SPACES), random.of(&CLASSES));
    let signature = function();
    let stack = [signature.clone(), function(), function()].join(" | ");
    let mut crash = json!({ "proto_signature": stack });
    let mut put = |one_in: usize, random: &mut Random, key: &str, value: Value| {
        if !random.one_in(one_in) {
            crash[key] = value;
        }
    };
    put(12, random, "signature", signature.into());
    let value = random.of(&["Lynx", "lynx", "Puma", "Lynx Mobile"]);
    put(9, random, "product", value.into());
    let value = random.of(&[
        "99.0b2", "99.0b10", "99.0", "100.0", "9.5", "99.0.1", "99-0.1",
    ]);
    put(9, random, "version", value.into());
    let value = random.of(&[json!("20260801"), json!(20_260_901), json!("x")]);
    put(4, random, "build", value);
    let value = random.of(&["Linux", "Windows NT", "Mac OS X"]);
    put(9, random, "os_name", value.into());
    let value = format!("{:#x}", random.below(200));
    put(5, random, "address", value.into());
    let value = random.of(&["SIGSEGV / SEGV_MAPERR", "SIGABRT", "EXCEPTION_BREAKPOINT"]);
    put(5, random, "reason", value.into());
    let value: Vec<String> = (0..random.below(4))
        .map(|_| format!("a{}:1", random.below(6)))
        .collect();
    put(2, random, "addons", json!(value));
    let value: Vec<String> = (0..random.below(5))
        .map(|_| format!(" lib{}.so/A", random.below(5)))
        .collect();
    put(3, random, "modules_in_stack", value.join(";").into());
    let value = random.of(&["it went away", "the secret word", "Window gone"]);
    put(2, random, "user_comments", value.into());
    let value = random.of(&[
        json!(0),
        json!(-1),
        json!(60),
        json!("300"),
        json!("soon"),
        json!(i64::MAX),
        json!(7.5),
    ]);
    put(5, random, "uptime", value);
    let value = json!(random.below(40));
    put(4, random, "install_time", value);
    let value = random.of(&[
        json!(0.0),
        json!(-0.0),
        json!(0.25),
        json!(-3.5),
        json!(1e12),
        json!(7),
    ]);
    put(3, random, "uptime_ts", value);
    let value = random.of(&[json!(true), json!(false), json!("true")]);
    put(2, random, "startup_crash", value);
    put(3, random, "safe_mode", json!(true));
    let value = Timestamp::from_ms(START.ms() - (random.below(90) as i64) * DAY_MS).rfc3339();
    put(2, random, "submitted_timestamp", value.into());
    put(
        50,
        random,
        "json_dump",
        json!({ "signature": "not this", "threads": [[[]]] }),
    );
    crash
}

/// A random valid search.
fn params(oracle: &Oracle, random: &mut Random) -> Vec<(String, String)> {
    let fields = asked();
    let mut params: Vec<(String, String)> = Vec::new();
    for _ in 0..random.below(4) {
        let field = random.of(&fields);
        params.push((field.name(), condition(&field, oracle, random)));
    }
    // Otherwise a search covers only the last seven days.
    if random.below(4) > 0 {
        let ago = |days: usize| Timestamp::from_ms(START.ms() - days as i64 * DAY_MS).rfc3339();
        params.push(("date".into(), format!(">={}", ago(random.below(40)))));
        if random.one_in(3) {
            params.push(("date".into(), format!("<{}", ago(random.below(10)))));
        }
    }
    if random.one_in(4) {
        let texts = [
            "promise",
            "dom::Promise",
            "\"mozilla dom\"",
            "core std",
            "secret",
            "énd",
            "went away",
            "dotted",
            "g3",
            "nowhere",
            "\"core::x1 | std\"",
            "-std",
            "core -\"x1 | std\"",
            "::",
        ];
        params.push(("q".into(), random.of(&texts).into()));
    }
    let inner = |random: &mut Random| {
        let name = random.of(&fields).name();
        match random.below(4) {
            0 => format!("_cardinality.{name}"),
            1 => random
                .of(&[
                    "_histogram.date",
                    "_histogram.uptime_ts",
                    "_histogram.install_time",
                ])
                .into(),
            _ => name,
        }
    };
    for _ in 0..random.below(3) {
        params.push(("_facets".into(), inner(random)));
    }
    for _ in 0..random.below(3) {
        let outer: Vec<String> = (0..1 + random.below(2))
            .map(|_| {
                random
                    .of(&[
                        "product",
                        "version",
                        "addons",
                        "platform",
                        "signature",
                        "startup_crash",
                        "install_time",
                    ])
                    .into()
            })
            .collect();
        params.push((format!("_aggs.{}", outer.join(".")), inner(random)));
    }
    if random.one_in(4) {
        let outer = random.of(&["date", "install_time", "uptime_ts"]);
        params.push((format!("_histogram.{outer}"), inner(random)));
    }
    let interval = random.of(&["hour", "day", "week", "month", "quarter"]);
    params.push(("_histogram_interval.date".into(), interval.into()));
    params.push((
        "_histogram_interval.install_time".into(),
        random.of(&["7", "2.5"]).into(),
    ));
    params.push(("_histogram_interval.uptime_ts".into(), "1000".into()));
    for _ in 0..random.below(3) {
        let sign = random.of(&["", "-"]);
        params.push((
            "_sort".into(),
            format!("{sign}{}", random.of(&fields).name()),
        ));
    }
    for _ in 0..random.below(4) {
        params.push(("_columns".into(), random.of(&fields).name()));
    }
    params.push((
        "_facets_size".into(),
        random.of(&["0", "1", "3", "50", "10000"]).into(),
    ));
    params.push(("_results_number".into(), random.below(60).to_string()));
    params.push(("_results_offset".into(), (random.below(4) * 9).to_string()));
    params
}

fn condition(field: &FieldRef, oracle: &Oracle, random: &mut Random) -> String {
    let not = if random.one_in(4) { "!" } else { "" };
    if random.one_in(8) {
        return format!("{not}__null__");
    }
    let known = oracle.texts(field);
    let known = if known.is_empty() {
        "x".to_owned()
    } else {
        random.of(&known)
    };
    let range = random.of(&[">", ">=", "<", "<="]);
    let value = match field.kind() {
        Kind::Bool => return format!("{not}{}", random.of(&["__true__", "true", "no"])),
        Kind::Date => format!("{range}{known}"),
        Kind::Integer | Kind::Float => {
            let number = match random.below(3) {
                0 => random.of(&["-7", "0", "5", "99999999"]).to_owned(),
                _ => known,
            };
            format!("{}{number}", random.of(&["", range]))
        }
        Kind::Version => format!("{}{known}", random.of(&["", range])),
        Kind::Enum => random.of(&[
            known.clone(),
            "nowhere".into(),
            format!("={known}"),
            format!("~{}", known.chars().next().unwrap_or('x')),
            format!("^{}", known.chars().next().unwrap_or('x')),
        ]),
        Kind::Address => {
            if known.starts_with("0x") {
                format!("{}{known}", random.of(&["", "=", "~", range]))
            } else {
                "0x10".to_owned()
            }
        }
        Kind::String => {
            let chars: Vec<char> = known.chars().collect();
            let from = random.below(chars.len());
            let to = from + 1 + random.below(chars.len() - from);
            let part: String = chars[from..to].iter().collect();
            let holes: String = chars
                .iter()
                .map(|c| {
                    if random.one_in(5) {
                        random.of(&['*', '?'])
                    } else {
                        *c
                    }
                })
                .collect();
            match random.below(9) {
                0 => known,
                1 => format!("={known}"),
                2 => format!("~{part}"),
                3 => format!("~{holes}"),
                4 => format!(
                    "^{}",
                    &holes[..holes.chars().next().map_or(0, char::len_utf8)]
                ),
                5 => format!("${part}"),
                6 => format!("@{}.*", regex::escape(&part)),
                7 => format!("@.*{}.*|nowhere", regex::escape(&part)),
                // A word of the value, or none.
                _ => known
                    .split(|c: char| !c.is_alphanumeric())
                    .next()
                    .unwrap_or("|")
                    .to_owned(),
            }
        }
    };
    format!("{not}{value}")
}

#[test]
fn any_search_equals_a_plain_scan_over_the_store_at_every_stage() {
    let random = &mut Random(42);
    let mut test = TestServer::new();
    let mut ids = Vec::new();
    // In parts, to create several segments. The last tenth is not processed yet.
    for number in 0..CRASHES {
        test.clock.set(Timestamp::from_ms(
            START.ms() - ((CRASHES - number) as i64) * DAY_MS / 9,
        ));
        ids.push(test.accept(number, random));
        if number < CRASHES * 9 / 10 {
            test.process(random);
        }
        if number % 60 == 59 {
            test.settle();
        }
    }
    test.clock.set(START);
    test.check("first", random);

    for _ in 0..40 {
        test.store
            .prioritize(random.of(&ids))
            .expect("the store runs");
    }
    for _ in 0..30 {
        test.process(random);
    }
    test.check("done again", random);

    for (seq, row) in test.store.scan(0, usize::MAX).expect("readable") {
        let Some(known) = &row.processed else {
            continue;
        };
        if !random.one_in(5) {
            continue;
        }
        let json = test
            .store
            .processed(&row)
            .expect("readable")
            .expect("processed");
        let mut json: Value = serde_json::from_slice(&json).expect("JSON");
        // The walk must remain the last member, as in every processed crash.
        let walk = json
            .as_object_mut()
            .expect("an object")
            .shift_remove("json_dump");
        json["signature"] = "a new name".into();
        if let Some(walk) = walk {
            json["json_dump"] = walk;
        }
        let resigned = Resigned {
            seq,
            read: known.blob,
            processed: Payload::from_bytes(json.to_string().as_bytes()),
            signature: "a new name".into(),
            revision: 0,
        };
        test.store.resign(resigned).expect("the store runs");
    }
    test.check("named again", random);

    let some: Vec<u64> = (1..=CRASHES).filter(|_| random.one_in(4)).collect();
    let deleted = test
        .store
        .delete(some, &[State::Processed, State::Failed])
        .expect("durable");
    assert!(deleted > 20);
    test.check("deleted", random);

    // Killed between writing and the commit: the written document is lost, and the next start writes the
    // right one.
    test.stop();
    let mut writer = Writer::open(&test.index, Side::Current).expect("no other writer");
    let other = Document::new(
        test.index.catalogue(),
        1,
        CrashId::from_bits(1),
        START,
        br#"{"signature": "never committed"}"#,
        &BTreeMap::new(),
    );
    writer.put(&other.expect("JSON")).expect("written");
    (2..50).for_each(|seq| writer.delete(seq));
    drop(writer);
    for number in CRASHES..CRASHES + 30 {
        test.accept(number, random);
        test.process(random);
    }
    test.reopen();
    test.check("killed before a commit", random);

    // Killed between the commit of the index and the note in the store: changes arrive twice.
    test.stop();
    for _ in 0..20 {
        test.store
            .prioritize(random.of(&ids))
            .expect("the store runs");
        test.process(random);
    }
    test.store.sweep().expect("the store runs");
    let before = test.index.watermark().expect("a mark");
    test.reopen();
    test.settle();
    test.stop();
    let mut writer = Writer::open(&test.index, Side::Current).expect("no other writer");
    writer.commit(before).expect("committed");
    drop(writer);
    test.reopen();
    test.check("killed after a commit", random);

    // Killed during a build.
    test.stop();
    let (change, _) = test.store.change_range().expect("readable");
    test.index.reset().expect("ours");
    let mut writer = Writer::open(&test.index, Side::Current).expect("no other writer");
    writer
        .commit(Watermark {
            change,
            rebuilt_to: Some(0),
        })
        .expect("committed");
    drop(writer);
    test.reopen();
    test.process(random);
    test.check("killed while it is built", random);

    test.stop();
    std::fs::remove_dir_all(test.root.path().join("index")).expect("ours");
    test.reopen();
    test.check("built anew", random);
    test.stop();
}

#[test]
fn any_search_equals_a_plain_scan_while_fields_change_their_kind() {
    check_while_built(1, |field| match &*field.name {
        "install_time" => field.kind = Kind::String,
        "uptime" => field.kind = Kind::Date,
        _ => {}
    });
}

#[test]
fn any_search_equals_a_plain_scan_while_fields_come() {
    check_while_built(2, |field| {
        if ["addons", "submitted_timestamp"].contains(&&*field.name) {
            field.name = NONE.into();
        }
    });
}

#[test]
fn any_search_equals_a_plain_scan_while_a_field_goes_and_others_are_read_elsewhere() {
    check_while_built(3, |field| match &*field.name {
        "build_id" => field.key = "another_key".into(),
        "reason" => field.flags.text = false,
        // No crash here has this annotation. It represents a field that is removed.
        "throttle_rule" => field.source = Source::Annotation("guid".into()),
        _ => {}
    });
}

/// Tests each step of building an index beside one of another catalogue.
fn check_while_built(seed: u64, change: fn(&mut Field)) {
    let random = &mut Random(seed);
    let mut test = TestServer::new();
    let some = CRASHES / 2;
    for number in 0..CRASHES {
        test.clock.set(Timestamp::from_ms(
            START.ms() - ((CRASHES - number) as i64) * DAY_MS / 9,
        ));
        test.accept(number, random);
        test.process(random);
    }
    test.clock.set(START);
    test.settle();
    test.stop();

    // The files that the previous server left.
    let before = catalogue_before(change);
    let folder = test.root.path().join("index");
    std::fs::rename(&folder, test.root.path().join("not this")).expect("ours");
    let (change, _) = test.store.change_range().expect("readable");
    let id = test.store.id().expect("an id");
    test.index = Arc::new(Index::open(&folder, id, before.clone()).expect("an index"));
    let documents = test.documents();
    let left: Vec<Document> = documents.iter().map(|d| as_before(d, &before)).collect();
    let whole = |change| Watermark {
        change,
        rebuilt_to: None,
    };
    test.write(Side::Current, &left, whole(change));

    let check =
        |test: &TestServer, stage: &str, random: &mut Random, is_built: &dyn Fn(u64) -> bool| {
            assert!(!test.index.is_up_to_date(), "{stage}");
            let all = Oracle::of(&test.store);
            let built = Oracle::of_some(&test.store, is_built);
            let asked = test.ask(stage, random, &all, &built);
            assert!(
                asked.found.min(asked.partly) > QUERIES / 10,
                "{stage}: {asked:?}"
            );
        };
    test.index = open_index(test.root.path(), &test.store);
    check(&test, "nothing is built", random, &|_| false);
    let half: Vec<Document> = { documents.iter().cloned() }
        .filter(|d| d.seq <= some)
        .collect();
    let mark = |change| Watermark {
        change,
        rebuilt_to: Some(some),
    };
    test.write(Side::Next, &half, mark(change));
    check(&test, "half is built", random, &|seq| seq <= some);
    test.index = open_index(test.root.path(), &test.store);
    check(&test, "killed amid it", random, &|seq| seq <= some);

    // New crashes are written to both indexes, as the indexer does it.
    for number in CRASHES..CRASHES + 30 {
        test.accept(number, random);
        test.process(random);
    }
    test.store.sweep().expect("the store runs");
    let (change, _) = test.store.change_range().expect("readable");
    let new: Vec<Document> = { test.documents().into_iter() }
        .filter(|document| document.seq > CRASHES)
        .collect();
    test.write(Side::Current, &new, whole(change));
    test.write(Side::Next, &new, mark(change));
    let is_built = |seq| seq <= some || seq > CRASHES;
    check(&test, "with new crashes", random, &is_built);

    test.reopen();
    wait_for("the new index", || test.index.is_up_to_date().then_some(()));
    test.check("in place", random);
    test.stop();
}
