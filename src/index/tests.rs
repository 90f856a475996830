use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use super::bounds::SearchBounds;
use super::*;
use crate::clock::Timestamp;
use crate::crash::id::CrashId;
use crate::fields::version::VersionKey;
use crate::fields::{Kind, Source, Visibility};
use crate::limits;
use crate::query::Query;

const NOW: Timestamp = Timestamp::from_ms(1_795_338_764_123);
const STORE: u128 = 0xfeed;

fn builtin() -> Arc<Catalogue> {
    Arc::new(Catalogue::builtin())
}

struct Bench {
    dir: tempfile::TempDir,
    index: Arc<Index>,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let index = Arc::new(Index::open(dir.path(), STORE, builtin()).unwrap());
        Self { dir, index }
    }

    fn folder(&self) -> std::path::PathBuf {
        self.side(Side::Current)
    }

    fn side(&self, side: Side) -> std::path::PathBuf {
        let number = self.index.side(side).unwrap().number;
        self.dir.path().join(number.to_string())
    }

    fn reopen(self, store_id: u128) -> Self {
        let Self { dir, index } = self;
        drop(index);
        let index = Arc::new(Index::open(dir.path(), store_id, builtin()).unwrap());
        Self { dir, index }
    }

    fn put(&self, documents: &[Document]) {
        let mut writer = Writer::open(&self.index, Side::Current).unwrap();
        for document in documents {
            writer.put(document).unwrap();
        }
        writer
            .commit(Watermark {
                change: documents.len() as u64,
                rebuilt_to: None,
            })
            .unwrap();
    }

    fn search(&self, params: &str) -> SearchResult {
        self.index.search(&query(params, true)).unwrap()
    }

    /// Sequence numbers that are found, ascending.
    fn found(&self, params: &str) -> Vec<u64> {
        let mut seqs: Vec<u64> = self.search(params).hits.iter().map(|hit| hit.seq).collect();
        seqs.sort_unstable();
        seqs
    }
}

fn query(params: &str, may_see_protected: bool) -> Query {
    let params: Vec<_> = form_urlencoded::parse(params.as_bytes())
        .into_owned()
        .collect();
    Query::parse(&builtin(), &params, NOW, may_see_protected).unwrap_or_else(|e| panic!("{e}"))
}

fn document(seq: u64, processed: Value, annotations: &[(&str, &str)]) -> Document {
    let annotations = annotations
        .iter()
        .map(|(k, v)| (k.to_string(), v.to_string()))
        .collect();
    let received_at = Timestamp::from_ms(NOW.ms() - 1_000 * seq as i64);
    let processed = processed.to_string();
    let id = CrashId::from_bits(seq.into());
    let processed = processed.as_bytes();
    Document::new(&builtin(), seq, id, received_at, processed, &annotations).unwrap()
}

#[test]
fn each_operator_finds_what_it_says() {
    let bench = Bench::new();
    bench.put(&[
        document(
            1,
            json!({"signature": "mozilla::dom::Promise::Settle", "uptime": 5, "startup_crash": true,
                "product": "Firefox", "version": "99.0b2", "uptime_ts": 0.5,
                "modules_in_stack": "a.so/1;b.so/2"}),
            &[("guid", "x1"), ("a.b", "dotted")],
        ),
        document(
            2,
            json!({"signature": "mozilla::dom::promise", "uptime": 50, "startup_crash": false,
                "product": "Firefox Enterprise", "version": "99.0b10", "user_comments": "secret word"}),
            &[("guid", "x2")],
        ),
        document(
            3,
            json!({"signature": "abort | core::panic", "uptime": 500, "product": "firefox",
                "version": "99.0", "reason": "SIGSEGV / SEGV_MAPERR"}),
            &[],
        ),
        document(4, json!({"uptime_ts": 2.0, "version": "100.0", "uptime": -1}), &[]),
    ]);
    let check = |params: &str, expected: &[u64]| {
        assert_eq!(bench.found(params), expected, "{params}");
    };
    check("", &[1, 2, 3, 4]);
    // Ranges before and after all values: no bound may be moved to the nearest value.
    check("date=<2001-01-08", &[]);
    check("date=>2100-01-01&date=<2100-01-02", &[]);
    check("signature=promise", &[1, 2]);
    check("signature=Promise settle", &[1]);
    check("signature=promise&signature=panic", &[1, 2, 3]);
    check("signature==mozilla::dom::promise", &[2]);
    check("signature==mozilla::dom", &[]);
    check("signature=~dom::P", &[1]);
    check("signature=~dom*ttl", &[1]);
    check("signature=~p?nic", &[3]);
    check("signature=^mozilla", &[1, 2]);
    check("signature=^mozilla*e", &[1, 2]);
    check("signature=^m?zilla", &[1, 2]);
    check("signature=$panic", &[3]);
    check("signature=@mozilla.*[eE]", &[1, 2]);
    check("signature=@mozilla", &[]);
    check("signature=__null__", &[4]);
    check("signature=!__null__", &[1, 2, 3]);
    check("signature=__null__&signature=~panic", &[3, 4]);
    check("signature=!~Promise", &[2, 3, 4]);
    check("signature=!~Promise&signature=!~panic", &[2, 4]);
    check("signature=!promise", &[3, 4]);
    check("signature=|", &[]);
    check("product=Firefox", &[1]);
    check("product=Firefox&product=firefox", &[1, 3]);
    check("product=!Firefox", &[2, 3, 4]);
    check("uptime=>5", &[2, 3]);
    check("uptime=>=5&uptime=<500", &[1, 2]);
    check("uptime=!>5", &[1, 4]);
    check("uptime=5&uptime=500", &[1, 3]);
    check("uptime=<0", &[4]);
    check("uptime_ts=<=0.5", &[1]);
    check("uptime_ts=>0.5", &[4]);
    check("startup_crash=__true__", &[1]);
    check("startup_crash=!__true__", &[2, 3, 4]);
    check("startup_crash=no", &[2]);
    check("version=99.0b", &[1, 2]);
    check("version=>99.0b2&version=<=99.0", &[2, 3]);
    check("modules_in_stack==b.so/2", &[1]);
    check("modules_in_stack=a.so", &[1]);
    check("annotation.guid=x2", &[2]);
    check("annotation.guid=!__null__", &[1, 2]);
    check("annotation.a.b==dotted", &[1]);
    check("annotation.none=__null__", &[1, 2, 3, 4]);
    check("date=>=2026-11-22T09:12:42", &[1, 2]);
    check("q=promise", &[1, 2]);
    check("q=dom::promise::settle", &[1]);
    check("q=\"promise dom\"", &[]);
    check("q=panic maperr", &[3]);
    check("q=secret", &[2]);
    check("q=dotted", &[1]);
    for hidden in ["q=secret", "q=dotted"] {
        assert_eq!(
            bench.index.search(&query(hidden, false)).unwrap().total,
            0,
            "{hidden}"
        );
    }
    let result = bench.search(
        "_columns=uuid&_columns=version&_columns=modules_in_stack&_columns=annotation.a.b\
         &_columns=startup_crash&_columns=date&_sort=version&_results_number=2&_results_offset=0",
    );
    let id = CrashId::from_bits(1).to_string();
    assert_eq!(
        result.hits[0].values,
        [
            json!(id),
            json!("99.0b2"),
            json!("a.so/1;b.so/2"),
            json!("dotted"),
            json!(true),
            json!("2026-11-22T09:12:43.123Z"),
        ]
    );
    assert_eq!((result.hits[1].seq, result.total), (2, 4));
}

/// A pseudo-random crash that depends only on the number.
fn random(seq: u64) -> Value {
    let random = |salt: u64| xxhash_rust::xxh3::xxh3_64_with_seed(&seq.to_le_bytes(), salt);
    let products = ["Firefox", "Fenix", "Thunderbird"];
    let mut crash = json!({
        "product": products[random(1) as usize % 3],
        "version": format!("{}.0{}", 98 + random(2) % 4, ["", "b1", "b2", "b10"][random(3) as usize % 4]),
        "signature": format!("sig{}", random(4) % 1_000 * (random(5) % 1_000) / 40_000),
        "install_time": random(6) % 50,
        "uptime": random(7) % 1_000,
    });
    if random(8).is_multiple_of(2) {
        crash["startup_crash"] = json!(random(9).is_multiple_of(2));
    }
    if random(10).is_multiple_of(3) {
        crash["addons"] = json!([
            format!("a{}", random(11) % 5),
            format!("b{}", random(12) % 5)
        ]);
    }
    crash
}

/// Three segments, with deleted and replaced documents in each.
fn random_bench() -> (Bench, BTreeMap<u64, Value>) {
    let bench = Bench::new();
    let mut kept = BTreeMap::new();
    let mut writer = Writer::open(&bench.index, Side::Current).unwrap();
    for part in 0..3 {
        for seq in part * 100 + 1..=part * 100 + 100 {
            writer.put(&document(seq, random(seq), &[])).unwrap();
            kept.insert(seq, random(seq));
            if seq % 7 == 0 {
                writer.delete(seq / 2);
                kept.remove(&(seq / 2));
            }
            if seq % 11 == 0 {
                let replaced = seq / 3;
                writer
                    .put(&document(replaced, random(replaced + 1_000), &[]))
                    .unwrap();
                kept.insert(replaced, random(replaced + 1_000));
            }
        }
        writer
            .commit(Watermark {
                change: part,
                rebuilt_to: None,
            })
            .unwrap();
    }
    (bench, kept)
}

#[test]
fn alternatives_find_what_each_finds_alone() {
    let (bench, _) = random_bench();
    for (field, values) in [
        (
            "signature",
            &["%3Dsig0", "%3Dsig3", "%3Dsig7", "~1", "__null__"][..],
        ),
        ("version", &["98.0", "99.0b1", "100.0b", "nope"]),
        ("addons", &["%3Da1", "%3Db2", "__null__"]),
        ("startup_crash", &["true", "__null__"]),
    ] {
        let conditions: Vec<String> = values.iter().map(|v| format!("{field}={v}")).collect();
        let more = "&_results_number=1000";
        let mut expected: Vec<u64> = conditions
            .iter()
            .flat_map(|condition| bench.found(&format!("{condition}{more}")))
            .collect();
        expected.sort_unstable();
        expected.dedup();
        assert!(!expected.is_empty(), "{field}");
        let found = bench.found(&format!("{}{more}", conditions.join("&")));
        assert_eq!(found, expected, "{field}");
    }
}

type Tally = BTreeMap<String, u64>;

fn tally(crashes: &BTreeMap<u64, Value>, key: &str) -> Vec<(Value, u64)> {
    let mut counts = Tally::new();
    for crash in crashes.values() {
        let values = match &crash[key] {
            Value::Null => Vec::new(),
            Value::Array(values) => values.clone(),
            value => vec![value.clone()],
        };
        for value in values {
            *counts.entry(value.to_string()).or_default() += 1;
        }
    }
    let mut sorted: Vec<(Value, u64)> = counts
        .into_iter()
        .map(|(v, n)| (serde_json::from_str(&v).unwrap(), n))
        .collect();
    sorted.sort_by(|(a, m), (b, n)| {
        n.cmp(m).then_with(|| match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ if key == "version" => version(a).cmp(&version(b)),
            _ => a.as_str().cmp(&b.as_str()),
        })
    });
    sorted
}

fn version(value: &Value) -> VersionKey {
    VersionKey::new(value.as_str().unwrap())
}

fn counts(result: &SearchResult, label: &str) -> Vec<(Value, u64)> {
    let (_, facet) = result.facets.iter().find(|(l, _)| l == label).unwrap();
    facet
        .buckets()
        .iter()
        .map(|b| (b.term.clone(), b.count))
        .collect()
}

#[test]
fn facets_equal_a_plain_scan() {
    let (bench, kept) = random_bench();
    let result = bench.search(
        "_facets=signature&_facets=version&_facets=install_time&_facets=addons&_facets=startup_crash\
         &_facets=_cardinality.signature&_facets=_cardinality.install_time&_facets_size=1000\
         &_facets=_histogram.uptime&_histogram_interval.uptime=100&_facets=_histogram.date",
    );
    assert_eq!(result.total, kept.len() as u64);
    for key in ["signature", "version", "install_time", "addons"] {
        assert_eq!(counts(&result, key), tally(&kept, key), "{key}");
    }
    let bools: BTreeMap<String, u64> = tally(&kept, "startup_crash")
        .into_iter()
        .map(|(v, n)| (if v == json!(true) { "T" } else { "F" }.to_owned(), n))
        .collect();
    let found: BTreeMap<String, u64> = counts(&result, "startup_crash")
        .into_iter()
        .map(|(v, n)| (v.as_str().unwrap().to_owned(), n))
        .collect();
    assert_eq!(found, bools);
    for key in ["signature", "install_time"] {
        let distinct: BTreeSet<String> = kept.values().map(|c| c[key].to_string()).collect();
        let label = format!("cardinality_{key}");
        let (_, facet) = result.facets.iter().find(|(l, _)| *l == label).unwrap();
        assert_eq!(*facet, FacetResult::Cardinality(distinct.len() as u64));
    }
    let mut histogram = BTreeMap::<u64, u64>::new();
    for crash in kept.values() {
        *histogram
            .entry(crash["uptime"].as_u64().unwrap() / 100 * 100)
            .or_default() += 1;
    }
    let histogram: Vec<_> = histogram.into_iter().map(|(v, n)| (json!(v), n)).collect();
    assert_eq!(counts(&result, "histogram_uptime"), histogram);
    let days = counts(&result, "histogram_date");
    assert_eq!(
        days,
        [(json!("2026-11-22T00:00:00+00:00"), kept.len() as u64)]
    );
}

#[test]
fn the_commonest_of_many_texts_are_exact_over_segments() {
    let bench = Bench::new();
    let mut kept = BTreeMap::new();
    let mut writer = Writer::open(&bench.index, Side::Current).unwrap();
    for part in 0..4_u64 {
        for seq in part * 300 + 1..=part * 300 + 300 {
            let number = seq % 300;
            let address = match number {
                // Frequent in one part, and nearly as frequent everywhere, but not the first of any part.
                0..20 => format!("of part {part}"),
                20..32 => "everywhere".to_owned(),
                // In some parts as frequent as the others.
                32..80 => format!("{}", (number + part) % 7),
                _ => format!("{seq:#x}"),
            };
            let crash = json!({ "address": address });
            writer.put(&document(seq, crash.clone(), &[])).unwrap();
            kept.insert(seq, crash);
        }
        let change = part;
        let rebuilt_to = None;
        let mark = Watermark { change, rebuilt_to };
        writer.commit(mark).unwrap();
    }
    assert!(bench.index.status().segments > 1);
    let expected = tally(&kept, "address");
    for size in 1..=15 {
        let result = bench.search(&format!("_facets=address&_facets_size={size}"));
        assert_eq!(counts(&result, "address"), expected[..size], "{size}");
    }
}

#[test]
fn facets_inside_facets_equal_a_plain_scan() {
    let (bench, mut kept) = random_bench();
    kept.retain(|_, crash| crash["uptime"].as_u64().unwrap() >= 500);
    let result = bench.search(
        "uptime=>=500&_aggs.product.version=signature&_aggs.product=_cardinality.install_time\
         &_facets_size=10000",
    );
    assert_eq!(result.total, kept.len() as u64);
    let (_, products) = result.facets.iter().find(|(l, _)| l == "product").unwrap();
    assert_eq!(products.buckets().len(), 3);
    for product in products.buckets() {
        let mut inside = kept.clone();
        inside.retain(|_, crash| crash["product"] == product.term);
        assert_eq!(product.count, inside.len() as u64);
        let (label, versions) = &product.facets[0];
        assert_eq!(label, "version");
        let found: Vec<_> = versions
            .buckets()
            .iter()
            .map(|b| (b.term.clone(), b.count))
            .collect();
        assert_eq!(found, tally(&inside, "version"));
        for version in versions.buckets() {
            let mut inside = inside.clone();
            inside.retain(|_, crash| crash["version"] == version.term);
            let found: Vec<_> = version.facets[0]
                .1
                .buckets()
                .iter()
                .map(|b| (b.term.clone(), b.count))
                .collect();
            assert_eq!(found, tally(&inside, "signature"));
        }
        let installs: BTreeSet<_> = inside
            .values()
            .map(|c| c["install_time"].as_u64())
            .collect();
        assert_eq!(
            product.facets[1].1,
            FacetResult::Cardinality(installs.len() as u64)
        );
    }
    let json = products.to_json();
    assert!(json[0]["facets"]["cardinality_install_time"]["value"].is_u64());
}

#[test]
fn results_are_sorted_over_all_segments_and_paged() {
    let (bench, kept) = random_bench();
    let mut expected: Vec<(u64, &Value)> = kept.iter().map(|(seq, crash)| (*seq, crash)).collect();
    let version = |crash: &Value| VersionKey::new(crash["version"].as_str().unwrap());
    expected.sort_by(|(s, a), (t, b)| {
        let signature = |crash: &Value| crash["signature"].as_str().unwrap().to_owned();
        version(b)
            .cmp(&version(a))
            .then_with(|| signature(a).cmp(&signature(b)))
            .then(t.cmp(s))
    });
    let expected: Vec<u64> = expected.into_iter().map(|(seq, _)| seq).collect();
    let mut found = Vec::new();
    for offset in (0..400).step_by(37) {
        let params = format!(
            "_sort=-version&_sort=signature&_facets=&_results_number=37&_results_offset={offset}"
        );
        found.extend(bench.search(&params).hits.iter().map(|hit| hit.seq));
    }
    assert_eq!(found, expected);
    let newest: Vec<u64> = bench.search("").hits.iter().map(|hit| hit.seq).collect();
    assert!(newest.is_sorted() && newest.len() == 100);
    // Crashes without a value come last in both directions.
    for sort in ["startup_crash", "-startup_crash"] {
        let page = bench.search(&format!(
            "_columns=startup_crash&_sort={sort}&_results_number=1000"
        ));
        let blank = page
            .hits
            .iter()
            .position(|hit| hit.values[0].is_null())
            .unwrap();
        assert!(
            page.hits[blank..].iter().all(|hit| hit.values[0].is_null()),
            "{sort}"
        );
    }
}

#[test]
fn a_search_ends_at_its_bounds() {
    let (bench, _) = random_bench();
    let bounds = |time_max: Duration, bytes_max: usize| SearchBounds {
        time_max,
        bytes_max,
    };
    let long = Duration::from_secs(60);
    for params in [
        "",
        "_facets=signature",
        "_facets=install_time",
        "_aggs.product.version=signature",
        "_aggs.product=_cardinality.uuid",
        "_sort=version&_facets=",
        "signature=@.*1",
    ] {
        let query = query(params, true);
        let ends = |bounds: SearchBounds| bench.index.search_within(&query, &bounds);
        assert!(ends(bounds(long, 64 << 20)).is_ok(), "{params}");
        let late = ends(bounds(Duration::ZERO, 64 << 20));
        assert!(matches!(late, Err(IndexError::TimedOut)), "{params}");
        let large = ends(bounds(long, 1_000));
        assert!(matches!(large, Err(IndexError::TooComplex)), "{params}");
    }
}

#[test]
fn a_reopened_index_knows_how_far_it_had_come() {
    let bench = Bench::new();
    assert_eq!(bench.index.watermark(), None);
    bench.put(&[document(1, json!({"signature": "a"}), &[("k", "v")])]);
    let watermark = Watermark {
        change: 1,
        rebuilt_to: None,
    };
    let bench = bench.reopen(STORE);
    let status = bench.index.status();
    assert_eq!((status.documents, status.watermark), (1, Some(watermark)));
    assert_eq!(bench.found("annotation.k=v"), [1]);
    bench.put(&[document(
        2,
        json!({"signature": "b"}),
        &[("k", "w"), ("a.b", "w")],
    )]);
    assert_eq!(bench.found("annotation.k=w&annotation.a.b=w"), [2]);
}

#[test]
fn another_store_starts_anew() {
    let bench = Bench::new();
    bench.put(&[document(1, json!({"signature": "a"}), &[])]);
    let bench = bench.reopen(STORE + 1);
    let status = bench.index.status();
    assert_eq!((status.documents, status.watermark), (0, None));
}

#[test]
fn a_damaged_index_starts_anew() {
    type Damage = fn(&Path);
    let damages: [Damage; 4] = [
        |folder| std::fs::write(folder.join("meta.json"), "{\"nonsense\"").unwrap(),
        |folder| std::fs::remove_file(folder.join("meta.json")).unwrap(),
        |folder| {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_some_and(|e| e == "fast") {
                    std::fs::remove_file(path).unwrap();
                }
            }
        },
        |folder| std::fs::remove_dir_all(folder).unwrap(),
    ];
    for damage in damages {
        let bench = Bench::new();
        bench.put(&[document(1, json!({"signature": "a"}), &[])]);
        damage(&bench.folder());
        let bench = bench.reopen(STORE);
        assert_eq!(
            (bench.index.status().documents, bench.index.watermark()),
            (0, None)
        );
        bench.put(&[document(2, json!({"signature": "a"}), &[])]);
        assert_eq!(bench.found(""), [2]);
    }
}

#[test]
fn what_was_replaced_and_indexes_of_earlier_versions_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let gone = ["7", "0123456789abcdef", "0123456789abcdef-next"];
    for name in gone.into_iter().chain(["keep-this"]) {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    Index::open(dir.path(), STORE, builtin()).unwrap();
    for name in gone {
        assert!(!dir.path().join(name).exists(), "{name}");
    }
    assert!(dir.path().join("keep-this").exists());
}

#[test]
fn distinct_annotations_are_bounded_and_an_answer_says_what_is_not_indexed() {
    use crate::limits::INDEX_ANNOTATION_KEYS_MAX;
    let bench = Bench::new();
    let keys: Vec<String> = (0..INDEX_ANNOTATION_KEYS_MAX + 5)
        .map(|n| format!("k{n:04}"))
        .collect();
    let annotations: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "v")).collect();
    bench.put(&[document(1, json!({"signature": "a"}), &annotations)]);
    let over = INDEX_ANNOTATION_KEYS_MAX;
    let none: [u64; 0] = [];
    let not_indexed = |bench: &Bench, params: &str| bench.search(params).not_indexed;
    assert_eq!(bench.found("annotation.k0000=v"), [1]);
    assert!(not_indexed(&bench, "annotation.k0000=v").is_empty());
    assert_eq!(bench.found(&format!("annotation.k{over:04}=v")), none);
    assert_eq!(
        not_indexed(&bench, &format!("_facets=annotation.k{over:04}")),
        [format!("annotation.k{over:04}")]
    );
    // A frequent key still gets a column, and all this is kept over a restart.
    let bench = bench.reopen(STORE);
    let often: Vec<Document> = (2..8)
        .map(|seq| {
            document(
                seq,
                json!({"signature": "a"}),
                &[("new", "v"), ("k0000", "v")],
            )
        })
        .collect();
    bench.put(&often);
    assert_eq!(bench.found("annotation.k0000=v").len(), 7);
    assert_eq!(bench.found("annotation.new=v"), [4, 5, 6, 7]);
    let bench = bench.reopen(STORE);
    assert_eq!(not_indexed(&bench, "annotation.new=v"), ["annotation.new"]);
    assert_eq!(bench.found("signature=a").len(), 7);
}

/// The catalogue of an earlier version of the program.
fn earlier(change: impl FnOnce(&mut Vec<Field>)) -> Arc<Catalogue> {
    let now = builtin();
    let mut fields: Vec<Field> = now.all().iter().map(|field| (**field).clone()).collect();
    change(&mut fields);
    Arc::new(Catalogue::of(fields, &[], now.installation_keys()))
}

fn field_of<'f>(catalogue: &'f mut [Field], name: &str) -> &'f mut Field {
    catalogue.iter_mut().find(|f| f.name == name).unwrap()
}

/// An index of an earlier catalogue, with one document for each list of values.
fn left_by(catalogue: Arc<Catalogue>, crashes: &[&[(&str, Scalar)]]) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(dir.path(), STORE, catalogue.clone()).unwrap();
    let index = Arc::new(index);
    let mut writer = Writer::open(&index, Side::Current).unwrap();
    for (seq, values) in (1..).zip(crashes) {
        let mut document = document(seq, json!({}), &[]);
        for (name, value) in *values {
            match name.strip_prefix("annotation.") {
                None => {
                    let field = catalogue.by_name(name).unwrap();
                    document.fields.push((field.clone(), vec![value.clone()]));
                }
                Some(key) => {
                    let Scalar::Text(text) = value else { panic!() };
                    document.annotations.push((key.into(), text.clone()));
                }
            }
        }
        writer.add(&document).unwrap();
    }
    writer.commit(whole(crashes.len() as u64)).unwrap();
    drop((writer, index));
    let index = Arc::new(Index::open(dir.path(), STORE, builtin()).unwrap());
    Bench { dir, index }
}

fn text(text: &str) -> Scalar {
    Scalar::Text(text.into())
}

const fn whole(change: u64) -> Watermark {
    Watermark {
        change,
        rebuilt_to: None,
    }
}

impl Bench {
    /// The crashes that are found, and the coverage of the answer.
    fn answer(&self, params: &str) -> (Vec<u64>, Coverage) {
        (self.found(params), self.search(params).coverage)
    }

    fn write(&self, side: Side, documents: &[Document], watermark: Watermark) {
        let mut writer = Writer::open(&self.index, side).unwrap();
        for document in documents {
            writer.put(document).unwrap();
        }
        writer.commit(watermark).unwrap();
    }
}

fn some_crashes(fields: &[&str]) -> Coverage {
    Coverage::SomeCrashes(fields.iter().map(|f| f.to_string()).collect())
}

#[test]
fn an_index_of_another_catalogue_answers_for_what_both_have_alike() {
    // All except the first would be found by searches that do not mean them.
    let before = earlier(|fields| {
        fields.retain(|f| f.name != "addons");
        field_of(fields, "uptime").kind = Kind::String;
        // Another kind in a column of the same type.
        field_of(fields, "install_time").kind = Kind::Date;
        field_of(fields, "build_id").key = "another_key".into();
        field_of(fields, "throttle_rule").source = Source::Annotation("Other".into());
    });
    let bench = left_by(
        before,
        &[
            &[
                ("signature", text("a")),
                ("uptime", text("7")),
                ("install_time", Scalar::Integer(5)),
                ("build_id", text("b")),
                ("throttle_rule", text("r")),
            ],
            &[("signature", text("b")), ("annotation.guid", text("g"))],
        ],
    );
    assert!(!bench.index.is_up_to_date());
    let unbuilt = bench.index.unbuilt();
    let unbuilt: BTreeSet<&str> = unbuilt.iter().map(|f| &*f.name).collect();
    let expected = [
        "addons",
        "build_id",
        "install_time",
        "throttle_rule",
        "uptime",
    ];
    assert_eq!(unbuilt, expected.into());
    let known = [
        ("signature==a", vec![1]),
        ("signature=!a", vec![2]),
        ("annotation.guid=g", vec![2]),
        ("_facets=signature", vec![1, 2]),
    ];
    for (params, found) in &known {
        assert_eq!(
            bench.answer(params),
            (found.clone(), Coverage::Whole),
            "{params}"
        );
    }
    for (params, fields) in [
        ("uptime=7", &["uptime"][..]),
        ("install_time=5", &["install_time"]),
        ("build_id=b", &["build_id"]),
        ("throttle_rule=r", &["throttle_rule"]),
        ("addons=__null__", &["addons"]),
        ("signature==a&_sort=uptime", &["uptime"]),
        ("_columns=uptime&_columns=addons", &["addons", "uptime"]),
        (
            "_aggs.signature=_cardinality.install_time",
            &["install_time"],
        ),
        ("annotation.Other=!x", &["annotation.Other"]),
    ] {
        let nothing = (Vec::new(), some_crashes(fields));
        assert_eq!(bench.answer(params), nothing, "{params}");
    }
    // New crashes are in both indexes, with the fields that each of them knows.
    let new = document(3, json!({"signature": "c", "uptime": 9}), &[]);
    let started = Watermark {
        change: 3,
        rebuilt_to: Some(0),
    };
    bench.write(Side::Current, std::slice::from_ref(&new), whole(3));
    bench.write(Side::Next, &[new], started);
    assert_eq!(bench.answer("signature==c"), (vec![3], Coverage::Whole));
    let is_known = (vec![3], some_crashes(&["uptime"]));
    assert_eq!(bench.answer("uptime=9"), is_known);
    // A kill in the middle leaves both.
    let bench = bench.reopen(STORE);
    assert_eq!(bench.answer("uptime=9"), is_known);
    assert_eq!(bench.answer("signature==a"), (vec![1], Coverage::Whole));
    let old = [1, 2].map(|seq| document(seq, json!({"signature": "d", "uptime": 7}), &[]));
    bench.write(Side::Next, &old, whole(2));
    let is_behind = (vec![1, 2], some_crashes(&["uptime"]));
    assert_eq!(bench.answer("uptime=7"), is_behind);
    bench.write(Side::Next, &[], whole(3));
    // Complete already, but not in place yet.
    assert_eq!(bench.answer("uptime=7"), (vec![1, 2], Coverage::Whole));
    bench.index.swap().unwrap();
    assert!(bench.index.is_up_to_date());
    assert_eq!(bench.answer("uptime=7"), (vec![1, 2], Coverage::Whole));
    assert_eq!(bench.answer("signature==a"), (vec![], Coverage::Whole));
}

#[test]
fn the_full_text_says_which_words_an_index_of_another_catalogue_does_not_know() {
    // `user_comments` is protected, `reason` is public. Both were annotations without a field.
    let before = earlier(|fields| {
        fields.retain(|f| !["user_comments", "reason"].contains(&&*f.name));
        field_of(fields, "throttle_rule").source = Source::Annotation("Other".into());
    });
    let bench = left_by(
        before,
        &[&[
            ("signature", text("alpha")),
            ("annotation.Comments", text("hush")),
            ("annotation.Guid", text("plain")),
        ]],
    );
    let ask = |params: &str, may_see_protected: bool| {
        let result = bench.index.search(&query(params, may_see_protected));
        let result = result.unwrap();
        (result.total, result.coverage)
    };
    let words =
        |fields: &[&str]| Coverage::SomeWords(fields.iter().map(|f| f.to_string()).collect());
    // A viewer learns only of public fields, and finds nothing in others.
    assert_eq!(ask("q=alpha", false), (1, words(&["reason"])));
    for hidden in ["q=hush", "q=plain"] {
        assert_eq!(ask(hidden, false).0, 0, "{hidden}");
    }
    let (total, coverage) = ask("q=alpha", true);
    let fields = BTreeSet::from_iter(coverage.fields().iter().map(String::as_str));
    let expected = ["reason", "user_comments", "annotation.Other"];
    assert_eq!((total, fields), (1, expected.into()));
}

#[test]
fn a_field_that_becomes_protected_is_hidden_in_an_index_of_before_at_once() {
    let before = earlier(|fields| {
        field_of(fields, "user_comments").visibility = Visibility::Public;
        fields.retain(|f| f.name != "addons");
    });
    let bench = left_by(before, &[&[("user_comments", text("hush"))]]);
    assert!(!bench.index.is_up_to_date());
    let ask = |params: &str, may_see_protected: bool| {
        let query = query(params, may_see_protected);
        bench.index.search(&query).unwrap()
    };
    assert_eq!(ask("user_comments=hush", true).total, 1);
    assert_eq!(ask("q=hush", true).total, 1);
    assert_eq!(ask("q=hush", false).total, 0);
    let shown = ask(
        "user_comments=nothing&_columns=user_comments&_facets=user_comments",
        false,
    );
    assert_eq!(shown.total, 1, "the condition is dropped");
    assert!(
        !format!("{shown:?}").contains("hush"),
        "neither as a value nor as a count: {shown:?}"
    );
}

#[test]
fn a_kill_at_any_step_of_taking_over_leaves_an_index_that_answers() {
    type Step = fn(&Bench);
    const HALF: Watermark = Watermark {
        change: 1,
        rebuilt_to: Some(1),
    };
    let new = || document(2, json!({"signature": "new"}), &[]);
    // The state of the disk, whether the old index answers, and the progress of the next one.
    let steps: [(&str, Step, bool, Option<Watermark>); 7] = [
        ("before anything", |_| {}, true, None),
        (
            "before its first commit",
            |bench| std::fs::remove_file(bench.side(Side::Next).join("meta.json")).unwrap(),
            true,
            None,
        ),
        (
            "damaged",
            |bench| std::fs::write(bench.side(Side::Next).join("meta.json"), "{").unwrap(),
            true,
            None,
        ),
        ("half built", |_| {}, true, Some(HALF)),
        ("built", |_| {}, true, Some(whole(2))),
        (
            "before the rename",
            |bench| std::fs::write(bench.dir.path().join("current.new"), "").unwrap(),
            true,
            Some(whole(2)),
        ),
        (
            "before the old one is removed",
            |bench| {
                let next = bench.index.side(Side::Next).unwrap().number;
                bench.index.folders.put_in_place(next).unwrap();
            },
            false,
            Some(whole(2)),
        ),
    ];
    let folders = |bench: &Bench| {
        let entries = std::fs::read_dir(bench.dir.path()).unwrap();
        let is_folder = |e: &std::fs::DirEntry| e.file_type().unwrap().is_dir();
        entries.filter(|e| is_folder(e.as_ref().unwrap())).count()
    };
    for (what, step, is_old, mark) in steps {
        let before = earlier(|fields| fields.retain(|f| f.name != "addons"));
        let bench = left_by(before, &[&[("signature", text("old"))]]);
        if let Some(mark) = mark {
            bench.write(Side::Next, &[new()], mark);
        }
        step(&bench);
        let bench = bench.reopen(STORE);
        let (found, seq) = if is_old {
            ("signature==old", 1)
        } else {
            ("signature==new", 2)
        };
        assert_eq!(bench.answer(found), (vec![seq], Coverage::Whole), "{what}");
        assert_eq!(bench.index.is_up_to_date(), !is_old, "{what}");
        let next = bench.index.next_watermark();
        assert_eq!(next, mark.filter(|_| is_old), "{what}");
        assert_eq!(folders(&bench), 1 + usize::from(is_old), "{what}");
        // In every case the index can be built further.
        if is_old {
            bench.index.begin_next().unwrap();
            bench.write(Side::Next, &[new()], whole(2));
            bench.index.swap().unwrap();
        }
        let found = bench.answer("addons=__null__");
        assert_eq!(found, (vec![2], Coverage::Whole), "{what}");
        assert_eq!(folders(&bench), 1, "{what}");
    }
}

#[test]
fn who_comes_back_to_a_catalogue_is_not_deceived_by_what_was_written_meanwhile() {
    let without = earlier(|fields| fields.retain(|f| f.name != "uptime"));
    let with_uptime = |seq| document(seq, json!({"uptime": 5}), &[]);
    let bench = Bench::new();
    bench.put(&[with_uptime(1)]);
    let open = |dir: &Path, catalogue| Arc::new(Index::open(dir, STORE, catalogue).unwrap());
    let Bench { dir, index } = bench;
    drop(index);
    // Only opening it changes nothing.
    drop(open(dir.path(), without.clone()));
    let index = open(dir.path(), builtin());
    assert!(index.is_up_to_date());
    drop(index);
    let index = open(dir.path(), without);
    let mut writer = Writer::open(&index, Side::Current).unwrap();
    writer.put(&with_uptime(2)).unwrap();
    writer.commit(whole(2)).unwrap();
    drop((writer, index));
    let bench = Bench {
        index: open(dir.path(), builtin()),
        dir,
    };
    assert!(!bench.index.is_up_to_date());
    let nothing = (Vec::new(), some_crashes(&["uptime"]));
    assert_eq!(bench.answer("uptime=5"), nothing);
    assert_eq!(bench.answer(""), (vec![1, 2], Coverage::Whole));
}

#[test]
fn a_field_that_no_index_has_is_named() {
    let before = earlier(|fields| fields.retain(|f| f.name != "uptime"));
    let bench = left_by(before, &[&[]]);
    bench.index.drop_next().unwrap();
    let refused = bench.index.search(&query("uptime=5&_columns=uptime", true));
    let why = refused.unwrap_err();
    assert!(
        matches!(&why, IndexError::Unbuilt(fields) if *fields == ["uptime"]),
        "{why:?}"
    );
    assert!(why.to_string().contains("uptime"), "{why}");
}

#[test]
fn a_search_that_finds_no_memory_left_by_others_can_be_made_again() {
    let bench = Bench::new();
    // Sorted as versions, these need more memory than each search may always use.
    let number = limits::SEARCH_BYTES_FREE as u64 / 200 + 10;
    let crash = |seq| document(seq, json!({ "version": format!("1.{seq}") }), &[]);
    bench.put(&(1..=number).map(crash).collect::<Vec<_>>());
    let bounds = SearchBounds {
        bytes_max: limits::SEARCHES_BYTES_MAX + limits::SEARCH_BYTES_FREE,
        ..SearchBounds::default()
    };
    let other = bounds::Running::begin(&bounds, bench.index.shared_bytes.clone());
    other.check_bytes(bounds.bytes_max).unwrap();
    let large = query("_sort=version&_facets=", true);
    let refused = bench.index.search(&large);
    assert!(matches!(refused, Err(IndexError::Busy)), "{refused:?}");
    assert_eq!(bench.search("version=1.7").total, 1, "small ones go on");
    drop(other);
    assert_eq!(bench.index.search(&large).unwrap().total, number);
}
