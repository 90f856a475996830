//! Data directories that released versions wrote still open, with everything that is in them.
//!
//! `fixtures/store/README.md` says what the directories hold. Their manifest is what was sent and what
//! that version answered; each test goes through all of it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{Cursor, Read};
use std::path::Path;
use std::sync::{Arc, Mutex};

use crashkeep::clock::{Clock, Day, ManualClock, Timestamp};
use crashkeep::crash::id::CrashId;
use crashkeep::crash::lack::Lack;
use crashkeep::queue::queue;
use crashkeep::rights::{Rights, Scope};
use crashkeep::store::disk::Disk;
use crashkeep::store::reprocess::Cause;
use crashkeep::store::symbols::Release;
use crashkeep::store::{OpenError, Store, StoreError, StoreOptions, StoredCrash, tables};
use redb::{ReadableDatabase, ReadableTable, TableHandle};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::server::{PROGRAM, Server, fixture, wait_for};
use crate::sim_disk::{Change, Image};
use crate::store::{Disks, Note, audit, cut_everywhere, database_on};

/// Closed in order, with the index and the symbols.
const CLOSED: &str = "data.tar.xz";
/// As a kill of a busy server left it: crashes are in flight.
const KILLED: &str = "killed.tar.xz";

/// Tables without a row in either directory: what is in them is gone within milliseconds.
const EMPTY: [&str; 1] = ["outdated"];
/// Opening rewrites what these hold: it takes back what was in flight.
const REWRITTEN: [&str; 6] = ["meta", "states", "segments", "crashes", "ready", "changes"];
/// And empties this one.
const EMPTIED: &str = "working";

/// A manifest of a directory.
struct Manifest(Value);

impl Manifest {
    fn v1() -> Self {
        let json = fixture("store/v1/manifest.json");
        Self(serde_json::from_slice(&json).expect("JSON"))
    }

    fn list(&self, key: &str) -> &[Value] {
        let list = self.0[key].as_array().filter(|list| !list.is_empty());
        list.unwrap_or_else(|| panic!("the manifest has no {key}"))
    }

    fn made_at(&self) -> Timestamp {
        Timestamp::from_ms(self.0["made_at_ms"].as_i64().expect("a time"))
    }
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    let found = value[key].as_str();
    found.unwrap_or_else(|| panic!("no {key} in {value}"))
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

fn sha256_hex(bytes: &[u8]) -> String {
    hex(Sha256::digest(bytes))
}

fn id_of(crash: &Value) -> CrashId {
    text(crash, "id").parse().expect("a crash id")
}

fn archive(name: &str) -> tar::Archive<impl Read> {
    let packed = Cursor::new(fixture(&format!("store/v1/{name}")));
    tar::Archive::new(liblzma::read::XzDecoder::new(packed))
}

/// A directory of the fixture as it lies on a simulated disk: what belongs to the store.
fn image(name: &str) -> Image {
    let mut image = Image::default();
    image.apply(&Change::<Note>::CreateDir {
        path: "segments".into(),
    });
    for entry in archive(name).entries().expect("an archive") {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a path").to_str().map(str::to_owned);
        let path = path.expect("a plain path");
        let is_of_store = ["FORMAT", "store.redb"].contains(&path.as_str());
        if entry.header().entry_type().is_file() && (is_of_store || path.starts_with("segments/")) {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).expect("readable");
            image.put(&path, &bytes);
        }
    }
    image
}

/// An open store that hands out no jobs.
fn open(disk: Arc<dyn Disk>, manifest: &Manifest) -> Result<Store, OpenError> {
    let (lanes, _jobs, _stop) = queue(0, 0);
    let options = StoreOptions {
        cache_bytes: 1 << 20,
        spill_dir: std::env::temp_dir(),
    };
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(manifest.made_at()));
    Store::open(disk, options, clock, Box::new(lanes))
}

/// What is wrong, for a place that only a failed check names.
fn expect<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result<(), String> {
    if found == expected {
        Ok(())
    } else {
        Err(format!("{what} is {found:?}, was {expected:?}"))
    }
}

type Check = fn(&Store, &Manifest) -> Result<(), String>;

/// Holds an open store against all that is in the manifest.
fn check(store: &Store, manifest: &Manifest) -> Result<(), String> {
    let checks: [Check; 7] = [
        check_crashes,
        check_counts,
        check_names,
        check_bugs,
        check_accounts,
        check_symbols,
        check_reprocessings,
    ];
    checks.iter().try_for_each(|check| check(store, manifest))
}

fn check_crashes(store: &Store, manifest: &Manifest) -> Result<(), String> {
    let crashes = manifest.list("crashes");
    for crash in crashes {
        let found = store.crash(id_of(crash)).map_err(|e| e.to_string())?;
        let (_, row) = found.ok_or_else(|| format!("{} is lost", text(crash, "name")))?;
        check_crash(store, &row, crash).map_err(|e| format!("{}: {e}", text(crash, "name")))?;
    }
    let all = store.scan(0, usize::MAX).map_err(|e| e.to_string())?;
    expect("the number of crashes", all.len(), crashes.len())?;
    let gone = id_of(&manifest.0["gone"]);
    let gone = store.crash(gone).map_err(|e| e.to_string())?;
    expect("a crash that was deleted", gone.is_none(), true)?;
    let audit = store.audit().map_err(|e| e.to_string())?;
    expect("the audit", audit.is_clean(), true)
}

fn check_crash(store: &Store, row: &StoredCrash, crash: &Value) -> Result<(), String> {
    let state = match (text(crash, "state"), row.state.name()) {
        // One that is to be done again stays processed until its turn comes.
        ("mending", state @ ("processed" | "queued")) => state,
        (expected, _) => expected,
    };
    expect("the state", row.state.name(), state)?;
    let signature = row.processed.as_ref().map(|p| p.signature.as_str());
    expect("the signature", signature, crash["signature"].as_str())?;
    let raw = store.raw(row).map_err(|e| e.to_string())?;
    expect(
        "the annotations",
        json!(raw.annotations),
        crash["annotations"].clone(),
    )?;
    let metadata = json!({
        "collector_notes": raw.metadata.collector_notes,
        "throttle_rule": raw.metadata.throttle_rule,
        "user_agent": raw.metadata.user_agent,
    });
    expect("the metadata", metadata, crash["metadata"].clone())?;
    let mut parts = Vec::new();
    for part in &row.parts {
        let bytes = store.part(part).and_then(|reader| reader.read_all());
        let bytes = bytes.map_err(|e| e.to_string())?;
        parts.push(json!({
            "name": part.part.name,
            "file_name": part.part.file_name,
            "bytes": bytes.len(),
            "sha256": sha256_hex(&bytes),
        }));
    }
    expect("the parts", json!(parts), crash["parts"].clone())?;
    let processed = store.processed(row).map_err(|e| e.to_string())?;
    let processed: Option<Value> = processed.and_then(|json| serde_json::from_slice(&json).ok());
    let signature = processed.as_ref().map(|crash| &crash["signature"]);
    expect(
        "the signature of the processed crash",
        signature.unwrap_or(&Value::Null),
        &crash["signature"],
    )
}

fn check_counts(store: &Store, manifest: &Manifest) -> Result<(), String> {
    let ever = || Day(0)..=manifest.made_at().day();
    let releases = manifest.list("products");
    let products: BTreeSet<&str> = releases.iter().map(|one| text(one, "product")).collect();
    let counted = store.counted_products().map_err(|e| e.to_string())?;
    let expected = products.iter().map(|p| p.to_string()).collect();
    expect("the products", counted, (expected, 0))?;
    let mut found = BTreeMap::new();
    for product in products {
        let rows = store
            .counters(product, ever(), |key| Some((key.day, key.version)))
            .map_err(|e| e.to_string())?;
        for ((day, version), row) in rows {
            let version = store
                .names(&[version])
                .map_err(|e| e.to_string())?
                .remove(0);
            let sum = found
                .entry((product.to_owned(), version))
                .or_insert((day, day, 0));
            *sum = (sum.0.min(day), sum.1.max(day), sum.2 + row.total().crashes);
        }
    }
    let found = found
        .into_iter()
        .map(|((product, version), (first, last, crashes))| {
            json!({
                "product": product,
                "version": version,
                "start_date": first.text(),
                "end_date": last.text(),
                "crashes": crashes,
            })
        });
    expect_same("the counters", found, releases)?;

    for seen in manifest.list("first_dates") {
        let signature = text(seen, "signature").to_owned();
        let sightings = store.sightings(&signature).map_err(|e| e.to_string())?;
        let crashes: u64 = sightings.iter().map(|one| one.crashes).sum();
        expect(&signature, Some(crashes), seen["crashes"].as_u64())?;
        let first = store.first_seen(std::slice::from_ref(&signature));
        let first = first.map_err(|e| e.to_string())?[&signature];
        expect(&signature, &*first.rfc3339(), text(seen, "first_date"))?;
        let last = sightings.iter().map(|one| one.last_at).max();
        let last = last.map(Timestamp::rfc3339);
        expect(&signature, last.as_deref(), seen["last_date"].as_str())?;
    }

    let decided = store.decisions(ever()).map_err(|e| e.to_string())?;
    let found = decided.into_iter().map(|one| {
        json!({
            "date": one.day.text(),
            "rule": one.rule,
            "outcome": one.outcome.name(),
            "product": one.product,
            "version": one.version,
            "reports": one.reports,
        })
    });
    // That of the year before was too old to be told of by then.
    let newest = found.filter(|one| text(one, "version") != "0.9");
    expect_same("the decisions", newest, manifest.list("decisions"))
}

/// Compares lists of which the order does not matter.
fn expect_same(
    what: &str,
    found: impl Iterator<Item = Value>,
    expected: &[Value],
) -> Result<(), String> {
    let found: BTreeSet<String> = found.map(|one| one.to_string()).collect();
    let expected: BTreeSet<String> = expected.iter().map(Value::to_string).collect();
    expect(what, found, expected)
}

fn check_names(store: &Store, manifest: &Manifest) -> Result<(), String> {
    let revisions = store.list_revisions(100).map_err(|e| e.to_string())?;
    let resigns = store.resigns(100).map_err(|e| e.to_string())?;
    let found = revisions
        .iter()
        .zip(&resigns)
        .map(|((number, row), (of, resign))| {
            json!({
                "revision": number,
                "author": row.author,
                "date": Timestamp::from_ms(row.at_ms).rfc3339(),
                "comment": row.comment,
                "restores": row.restores,
                "resign": {
                    "begun": Timestamp::from_ms(resign.begun_at_ms).rfc3339(),
                    "ended": resign.ended_at_ms.map(|ms| Timestamp::from_ms(ms).rfc3339()),
                    "superseded": resign.superseded,
                    "total": resign.total,
                    "looked_at": resign.looked_at,
                    "changed": resign.changed,
                    "unreadable": resign.unreadable,
                },
            })
            .to_string()
            .replace("\"revision\":0", &format!("of {of}"))
        });
    let expected = manifest.0["revisions"]["revisions"].as_array();
    let expected = expected.expect("revisions").iter().map(Value::to_string);
    expect(
        "the revisions",
        found.collect::<Vec<_>>(),
        expected.collect(),
    )?;

    for step in manifest.list("moves") {
        let (from, to) = (text(step, "from"), text(step, "to"));
        let crashes = step["crashes"].as_u64().expect("a number");
        let moved = store.moved_to(from).map_err(|e| e.to_string())?;
        expect("a move", moved, vec![(to.to_owned(), crashes)])?;
        let moved = store.moved_from(to).map_err(|e| e.to_string())?;
        expect("a move", moved, vec![(from.to_owned(), crashes)])?;
    }

    // What named each crash is kept, down to its frames.
    for crash in manifest.list("crashes") {
        let found = store.crash(id_of(crash)).map_err(|e| e.to_string())?;
        let (seq, row) = found.ok_or("a crash is lost")?;
        let input = store.signature_input(seq).map_err(|e| e.to_string())?;
        expect("its input", input.is_some(), row.processed.is_some())?;
    }
    Ok(())
}

fn check_bugs(store: &Store, manifest: &Manifest) -> Result<(), String> {
    let tracker = text(&manifest.0["tracker"], "url");
    let polled = text(&manifest.0["tracker"], "bug");
    for bugs in manifest.list("bugs") {
        let signature = text(bugs, "signature").to_owned();
        let found = store.bugs_of(std::slice::from_ref(&signature));
        let found = found.map_err(|e| e.to_string())?.remove(&signature);
        let found = found.unwrap_or_default();
        let numbers = found.iter().map(|one| {
            let id = &one.bug.key.id;
            let id = id.parse::<u64>().map_or_else(|_| json!(id), Value::from);
            json!({ "id": id, "signature": one.signature })
        });
        let expected = bugs["hits"].as_array().expect("hits");
        expect_same("the bugs", numbers, expected)?;
        for one in &found {
            let is_polled = one.bug.key.id == polled;
            expect(
                "where a bug is from",
                (one.by_hand, one.polled),
                (!is_polled, is_polled),
            )?;
            expect(
                "whether a bug is open",
                one.bug.standing.is_open.is_some(),
                is_polled,
            )?;
        }
    }
    let known = store.bugs_in(tracker).map_err(|e| e.to_string())?;
    expect("the tracker's bugs", known, vec![polled.to_owned()])?;
    let pass = store.last_pass(tracker).map_err(|e| e.to_string())?;
    expect("the last pass over the tracker", pass.is_some(), true)
}

fn check_accounts(store: &Store, manifest: &Manifest) -> Result<(), String> {
    let accounts = manifest.list("accounts");
    let users = store.users().map_err(|e| e.to_string())?;
    let found: BTreeSet<(String, &str)> = users
        .iter()
        .map(|u| (u.name.clone(), u.role().name()))
        .collect();
    let expected = accounts
        .iter()
        .map(|one| (text(one, "name").to_owned(), text(one, "role")));
    expect("the accounts", found, expected.collect())?;
    for account in accounts {
        let hash = Sha256::digest(text(account, "token")).into();
        let holder = store.holder(&hash).map_err(|e| e.to_string())?;
        let holder = holder.ok_or("a token is lost")?;
        let user = holder.user.as_ref().ok_or("a token's user is lost")?;
        expect("a token's user", &*user.name, text(account, "name"))?;
        expect(
            "a token's label",
            &*holder.key.label,
            text(account, "label"),
        )?;
        let rights = match account["scopes"].as_str() {
            None => user.role().rights(),
            Some(scope) => Rights::of([Scope::by_name(scope).expect("a scope")]),
        };
        expect("a token's rights", holder.rights(), rights)?;
        let days = holder.key.expires_at_ms.map(|at| {
            Timestamp::from_ms(at).ms_since(Timestamp::from_ms(holder.key.created_at_ms))
                / crashkeep::clock::DAY_MS
        });
        expect("a token's days", days, account["days"].as_i64())?;
    }
    let searches = store.searches().map_err(|e| e.to_string())?;
    let found = searches
        .into_iter()
        .map(|(_, row)| json!({ "owner": row.owner, "name": row.name, "query": row.query }));
    expect_same("the saved searches", found, manifest.list("searches"))
}

fn releases_of(value: &Value) -> BTreeSet<Release> {
    let releases = value["releases"].as_array().expect("releases").iter();
    let releases = releases.map(|one| Release {
        product: text(one, "product").to_owned(),
        version: text(one, "version").to_owned(),
    });
    releases.collect()
}

fn check_symbols(store: &Store, manifest: &Manifest) -> Result<(), String> {
    let modules = manifest.list("symbols");
    let all = store.all_symbols().map_err(|e| e.to_string())?;
    expect("the number of modules", all.len(), modules.len())?;
    for module in modules {
        let id = text(module, "debug_id");
        let row = store.symbols_of(id).map_err(|e| e.to_string())?;
        let row = row.ok_or_else(|| format!("module {id} is lost"))?;
        let found = [
            &row.module.debug_file,
            &row.module.code_file,
            &row.module.code_id,
        ];
        let expected = ["debug_file", "code_file", "code_id"].map(|key| text(module, key));
        expect("a module", found.map(String::as_str), expected)?;
        let uploads = row.module.uploads.iter().map(|upload| json!(upload.sha256));
        let expected = module["uploads"].as_array().expect("uploads").iter();
        let expected = expected.map(|upload| upload["sha256"].clone());
        expect(
            "its uploads",
            uploads.collect::<Vec<_>>(),
            expected.collect(),
        )?;
        let releases: BTreeSet<Release> = row.releases.iter().cloned().collect();
        expect("its releases", releases, releases_of(module))?;
        expect(
            "whether it was used",
            row.used_at_ms.is_some(),
            module["last_used_at"].is_string(),
        )?;
        let named = store
            .symbols_named(&row.module.debug_file)
            .map_err(|e| e.to_string())?;
        expect("modules of its name", named.contains(&row), true)?;
        if !row.module.code_id.is_empty() {
            let named = store
                .symbols_by_code(&row.module.code_id)
                .map_err(|e| e.to_string())?;
            expect("modules of its code id", named.contains(&row), true)?;
        }
    }
    let pins = store.pinned_releases().map_err(|e| e.to_string())?;
    let pins = pins
        .into_iter()
        .map(|one| json!({ "product": one.product, "version": one.version }));
    expect_same("the pinned releases", pins, manifest.list("pins"))?;

    let found = store
        .lacking(None, None, 1_000)
        .map_err(|e| e.to_string())?;
    let lacking = manifest.list("lacking");
    let found = found.into_iter().map(|one| {
        let releases = one.releases.iter().map(|(release, crashes)| {
            json!({ "product": release.product, "version": release.version, "crashes": crashes })
        });
        let Lack {
            debug_file,
            debug_id,
            ..
        } = &one.lack;
        json!({
            "debug_file": debug_file,
            "debug_id": debug_id,
            "crashes": one.crashes,
            "releases": releases.collect::<Vec<_>>(),
        })
    });
    expect_same("what crashes lack", found, lacking)?;
    let missed = lacking.iter().filter(|one| {
        // As that version spelt it.
        let key = format!("{} Symbols", text(one, "debug_id"));
        let at = store.missed_at(text(&manifest.0, "source"), &key);
        at.is_ok_and(|at| at.is_some())
    });
    expect(
        "what the symbol server did not have",
        missed.count() > 0,
        true,
    )
}

fn check_reprocessings(store: &Store, manifest: &Manifest) -> Result<(), String> {
    let reprocessings = store.reprocessings(100).map_err(|e| e.to_string())?;
    let found = reprocessings.iter().map(|found| {
        json!({
            // The id that the API of the first version had.
            "id": format!("mend-{}", found.id),
            "asked": match &found.cause {
                Cause::Request { request } => Some(request),
                Cause::Symbols { .. } => None,
            },
            "modules": found.cause.modules(),
            "ended": found.ended_at_ms.map(|ms| Timestamp::from_ms(ms).rfc3339()),
            "total": found.crashes,
            "done": found.done,
            "changed": found.improved,
            "signatures": [found.signatures_before, found.signatures_after],
        })
    });
    let expected = manifest.list("jobs").iter();
    let expected = expected.filter(|job| text(job, "id").starts_with("mend-"));
    let expected: Vec<Value> = expected
        .map(|job| {
            json!({
                "id": job["id"],
                "asked": job["asked"],
                "modules": job["modules"],
                "ended": job["ended"],
                "total": job["total"],
                "done": job["done"],
                "changed": job["changed"],
                "signatures": [job["signatures_before"], job["signatures_after"]],
            })
        })
        .collect();
    expect("the number of reprocessings", expected.len() > 1, true)?;
    expect_same("the reprocessings", found, &expected)
}

/// The bytes of a table's rows, by those of their keys.
type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

fn rows_of<K: redb::Key, V: redb::Value>(
    read: &redb::ReadTransaction,
    table: redb::TableDefinition<'static, K, V>,
) -> (String, Rows) {
    let mut rows = Rows::new();
    let opened = read.open_table(table).expect("a table");
    for entry in opened.iter().expect("rows") {
        let (key, value) = entry.expect("a row");
        let key = K::as_bytes(&key.value()).as_ref().to_vec();
        rows.insert(key, V::as_bytes(&value.value()).as_ref().to_vec());
    }
    (table.name().to_owned(), rows)
}

/// Every table of the first released version, with its rows.
fn tables_of_v1(image: &Image) -> BTreeMap<String, Rows> {
    let database = database_on(&Disks::of(image.clone()));
    let read = database.begin_read().expect("a transaction");
    macro_rules! all {
        ($($table:ident)+) => { BTreeMap::from([$(rows_of(&read, tables::$table)),+]) };
    }
    all!(
        META IDS CRASHES READY WORKING DEFERRED CHANGES SEGMENTS STATES NAMES NAME_TEXTS COUNTERS
        SIGHTINGS SEEN GONE DECISIONS BUGS BUG_SIGNATURES SIGNATURE_BUGS TRACKERS LACKS LACKING
        REPROCESS_WAITING REPROCESS_WORKING REPROCESSINGS SYMBOLS SYMBOL_NAMES SYMBOL_CODES
        SYMBOL_PINS SYMBOL_MISSES REPROCESSING_SIGNATURES SIGNED INPUTS INPUT_USES INPUT_IDS FRAMES FRAME_IDS LIST_REVISIONS RESIGNS
        OUTDATED MOVES MOVED_FROM USERS KEYS KEY_HASHES SEARCHES
    )
}

/// Holds the tables after an opening against those before it.
fn check_tables(
    before: &BTreeMap<String, Rows>,
    after: &BTreeMap<String, Rows>,
) -> Result<(), String> {
    for (name, rows) in before {
        let now = &after[name];
        let table = name.as_str();
        if table == EMPTIED {
            expect(table, now.len(), 0)?;
        } else if !REWRITTEN.contains(&table) {
            for (key, value) in rows {
                expect(&format!("{table} {}", hex(key)), now.get(key), Some(value))?;
            }
            expect(
                &format!("the number of rows of {table}"),
                now.len(),
                rows.len(),
            )?;
        } else {
            let lost = rows.keys().find(|key| !now.contains_key(*key));
            expect(&format!("a lost row of {table}"), lost, None)?;
        }
    }
    let queued = before["ready"].len() + before[EMPTIED].len();
    expect("the number of queued crashes", after["ready"].len(), queued)
}

#[test]
fn the_directories_of_v1_have_a_row_in_every_table() {
    let mut full = BTreeSet::new();
    for name in [CLOSED, KILLED] {
        let database = database_on(&Disks::of(image(name)));
        let read = database.begin_read().expect("a transaction");
        let listed: BTreeSet<String> = read
            .list_tables()
            .expect("tables")
            .map(|t| t.name().to_owned())
            .collect();
        drop((read, database));
        let tables = tables_of_v1(&image(name));
        assert!(tables.keys().eq(&listed), "{listed:?}");
        for (table, rows) in tables {
            eprintln!("{name} {table}: {} rows", rows.len());
            if !rows.is_empty() {
                full.insert(table);
            }
        }
    }
    let names = tables_of_v1(&image(CLOSED)).into_keys();
    let empty: Vec<String> = names.filter(|name| !full.contains(name)).collect();
    assert_eq!(empty, EMPTY);
}

#[test]
fn a_store_of_v1_opens_with_every_row() {
    let manifest = Manifest::v1();
    for name in [CLOSED, KILLED] {
        let disk = Disks::of(image(name));
        let before = tables_of_v1(&disk.image());
        let store = open(Arc::new(disk.clone()), &manifest).expect("it opens");
        check(&store, &manifest).unwrap_or_else(|e| panic!("{name}: {e}"));
        drop(store);
        check_tables(&before, &tables_of_v1(&disk.image()))
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        audit(&disk.image()).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

/// Of the names and the bytes of a disk's files.
fn digest(image: &Image) -> [u8; 32] {
    let mut digest = Sha256::new();
    for path in image.files() {
        let bytes = image.file(path).unwrap_or_default();
        digest.update(format!("{path} {}\n", bytes.len()));
        digest.update(bytes);
    }
    digest.finalize().into()
}

/// Cuts the power at every step of an opening of a directory, and again at steps of the openings after.
fn cut_the_upgrade_of(name: &str) {
    let manifest = Manifest::v1();
    let before = tables_of_v1(&image(name));
    let disk = Disks::of(image(name));
    drop(open(Arc::new(disk.clone()), &manifest).expect("it opens"));
    let (first, changes) = disk.history();
    // Many cuts leave the same bytes: those before the first sync, for one.
    let seen = Mutex::new(HashSet::new());
    let checked = cut_everywhere(&first, &changes, 1, |_, disk| {
        let is_new = seen
            .lock()
            .expect("no check panicked")
            .insert(digest(&disk.image()));
        if !is_new {
            return Ok(());
        }
        let store = open(Arc::new(disk.clone()), &manifest);
        let store = store.map_err(|e| format!("does not open: {e}"))?;
        check(&store, &manifest)?;
        drop(store);
        let image = disk.image();
        check_tables(&before, &tables_of_v1(&image))?;
        audit(&image)
    });
    let (single, double) = checked.unwrap_or_else(|e| panic!("{e}"));
    let (changes, different) = (changes.len(), seen.into_inner().expect("ended").len());
    eprintln!("{changes} changes: {single} single cuts, {double} double, {different} disks");
    assert!(single > 100 && different > 30);
}

#[test]
fn power_cuts_at_every_step_of_an_upgrade_lose_nothing() {
    cut_the_upgrade_of(CLOSED);
}

#[test]
fn power_cuts_at_every_step_of_an_upgrade_after_a_kill_lose_nothing() {
    cut_the_upgrade_of(KILLED);
}

/// Unpacks a directory of the fixture.
fn unpack(name: &str, data: &Path) {
    archive(name).unpack(data).expect("unpacked");
}

/// An address with parameters.
fn asked(path: &str, params: &[(&str, &str)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(params);
    format!("{path}?{}", query.finish())
}

#[test]
fn a_server_on_a_directory_of_v1_shows_all_of_it_and_goes_on() {
    let manifest = Manifest::v1();
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    unpack(CLOSED, &data);
    let config = folder.path().join("other.toml");
    let text_of_config = "[access]\nrequests_per_minute = 100000\n\
        [retention]\nprocessed_days = 36500\nfailed_days = 36500\n";
    std::fs::write(&config, text_of_config).expect("a file");
    let config = config.to_str().expect("a plain path");
    let mut server = Server::start_in(&data, &["--config", config]);
    server.key = Some(text(&manifest.list("accounts")[0], "token").to_owned());
    let json = |path: &str, params: &[(&str, &str)]| {
        let path = asked(path, params);
        let answer = server.get(&path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    };
    assert_eq!(server.get("/__heartbeat__").status, 200);

    for crash in manifest.list("crashes") {
        let (id, name) = (text(crash, "id"), text(crash, "name"));
        match text(crash, "state") {
            // What waited is done now.
            "queued" | "mending" => assert_eq!(server.wait_processed(id), "processed", "{name}"),
            state => assert_eq!(server.state(id)["state"], state, "{name}"),
        }
        if matches!(text(crash, "state"), "processed" | "failed") {
            assert_eq!(
                server.processed(id)["signature"],
                crash["signature"],
                "{name}"
            );
            let page = server.get(&format!("/report/index/{id}"));
            assert_eq!(page.status, 200, "{name}");
        }
        let raw = json("/api/RawCrash/", &[("crash_id", id)]);
        for (key, value) in crash["annotations"].as_object().expect("annotations") {
            assert_eq!(&raw[key], value, "{name}: {key}");
        }
        for (key, value) in crash["metadata"].as_object().expect("metadata") {
            assert_eq!(&raw["metadata"][key], value, "{name}: {key}");
        }
        for part in crash["parts"].as_array().expect("parts") {
            let params = [
                ("crash_id", id),
                ("format", "raw"),
                ("name", text(part, "name")),
            ];
            let bytes = server.get(&asked("/api/RawCrash/", &params)).body;
            assert_eq!(sha256_hex(&bytes), text(part, "sha256"), "{name}: {part}");
        }
    }

    for module in manifest.list("symbols") {
        for file in module["files"].as_array().expect("files") {
            let answer = server.get(text(file, "path"));
            assert_eq!(sha256_hex(&answer.body), text(file, "sha256"), "{file}");
        }
        let hits = json("/api/Symbols/", &[("debug_id", text(module, "debug_id"))]);
        let found = &hits["hits"][0];
        for key in [
            "debug_file",
            "code_id",
            "functions",
            "publics",
            "unwind_rules",
            "usable",
        ] {
            assert_eq!(found[key], module[key], "{key} of {module}");
        }
    }

    // This version has other rules, so it signs all crashes again with the active lists.
    let without_last_resign = |mut revisions: Value| {
        revisions["revisions"][0]["resign"].take();
        revisions
    };
    let revisions = without_last_resign(json("/api/SignatureRevisions/", &[]));
    let known = without_last_resign(manifest.0["revisions"].clone());
    assert_eq!(revisions, known);
    for lists in manifest.list("lists") {
        let path = format!("/api/SignatureLists/?revision={}", lists["revision"]);
        // v1 had no families; they follow the other lists.
        let export = server.get(&path).text();
        let (before, _) = export.split_once("==> families/").expect("families");
        assert_eq!(
            sha256_hex(before.as_bytes()),
            text(lists, "sha256"),
            "{path}"
        );
    }
    for bugs in manifest.list("bugs") {
        let found = json("/api/Bugs/", &[("signatures", text(bugs, "signature"))]);
        assert_eq!(found["hits"], bugs["hits"]);
    }
    for account in manifest.list("accounts") {
        if account["days"].is_u64() {
            // It ends on some day.
            continue;
        }
        let (name, role) = (text(account, "name"), text(account, "role"));
        let token = [("Auth-Token", text(account, "token"))];
        let status = |path: &str| server.request("GET", path, &token, b"").status;
        assert_eq!(status("/users/") == 200, role == "admin", "{name}");
        assert_eq!(
            status("/api/SuperSearchUnredacted/") == 200,
            role != "viewer",
            "{name}"
        );
        let page = server.request("GET", "/account/", &token, b"").text();
        assert!(page.contains(name), "{page}");
        let form = [("Content-Type", "application/x-www-form-urlencoded")];
        let body = format!("token={}", text(account, "token"));
        let login = server.request("POST", "/login/", &form, body.as_bytes());
        let cookie = login
            .header("set-cookie")
            .unwrap_or_else(|| panic!("{}", login.text()));
        let cookie = cookie.split(';').next().expect("a cookie");
        let page = server
            .request("GET", "/search/", &[("Cookie", cookie)], b"")
            .text();
        for search in manifest.list("searches") {
            // A viewer sees public fields alone, and what others looked for may be more.
            let is_shown = role != "viewer" || text(search, "owner") == name;
            assert_eq!(page.contains(text(search, "name")), is_shown, "{search}");
        }
    }

    // Counts go on from where they were.
    let releases = json("/api/ProductVersions/", &[])["hits"].clone();
    for release in manifest.list("products") {
        let key = |one: &Value| (one["product"].clone(), one["version"].clone());
        let found = releases
            .as_array()
            .expect("hits")
            .iter()
            .find(|one| key(one) == key(release));
        let found = found.unwrap_or_else(|| panic!("{release} is lost"));
        assert_eq!(found["start_date"], release["start_date"]);
        assert!(
            found["crashes"].as_u64() >= release["crashes"].as_u64(),
            "{found}"
        );
    }
    wait_for("the end of the reprocessing", || {
        let jobs = json("/api/Jobs/", &[]);
        jobs["hits"]
            .as_array()?
            .iter()
            .all(|job| job["ended"].is_string())
            .then_some(())
    });
    // Names that crashes lost or got when they were done now.
    let is_waited = |crash: &&Value| ["queued", "mending"].contains(&text(crash, "state"));
    let waited = manifest.list("crashes").iter().filter(is_waited);
    let moved: BTreeSet<String> = waited
        .flat_map(|crash| {
            [
                crash["signature"].clone(),
                server.processed(text(crash, "id"))["signature"].clone(),
            ]
        })
        .filter_map(|signature| signature.as_str().map(str::to_owned))
        .collect();
    for seen in manifest.list("first_dates") {
        let signature = text(seen, "signature");
        if !moved.contains(signature) {
            let found = json("/api/SignatureFirstDate/", &[("signatures", signature)]);
            assert_eq!(&found["hits"][0], seen);
        }
    }
    // The index finds each crash, whether it was built anew or not.
    let day = crashkeep::clock::DAY_MS;
    let at = |ms: i64| Timestamp::from_ms(manifest.made_at().ms() + ms).rfc3339();
    let (from, to) = (format!(">={}", at(-day)), format!("<{}", at(day)));
    let search = [
        ("date", &*from),
        ("date", &to),
        ("_columns", "uuid"),
        ("_results_number", "100"),
    ];
    wait_for("every crash in the index", || {
        let found = json("/api/SuperSearch/", &search);
        let hits = found["hits"].as_array()?.iter();
        let found: BTreeSet<&str> = hits.filter_map(|hit| hit["uuid"].as_str()).collect();
        let all = manifest.list("crashes").iter();
        all.filter(|crash| crash["state"] != "deferred")
            .all(|crash| found.contains(text(crash, "id")))
            .then_some(())
    });

    // A deferred crash can still be promoted.
    let deferred = manifest
        .list("crashes")
        .iter()
        .find(|crash| crash["state"] == "deferred");
    let deferred = text(deferred.expect("a deferred crash"), "id");
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let body = format!("crash_ids={deferred}");
    let answer = server.request("POST", "/api/Reprocessing/", &form, body.as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(server.wait_processed(deferred), "processed");
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn a_layout_of_a_later_version_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    unpack(CLOSED, &data);
    std::fs::write(data.join("FORMAT"), "crashkeep 3\n").expect("a file");
    let output = std::process::Command::new(PROGRAM)
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(&data)
        .current_dir(folder.path())
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for words in ["a newer crashkeep wrote", "layout 3", "layouts up to 2"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let kept = std::fs::read(data.join("FORMAT")).expect("the file");
    assert_eq!(kept, b"crashkeep 3\n");
}

/// Writes a row version that nobody knows into the first row of a table.
macro_rules! make_newer {
    ($disk:expr, $table:ident) => {{
        let database = database_on($disk);
        let write = database.begin_write().expect("a transaction");
        let mut table = write.open_table(tables::$table).expect("a table");
        let first = table.first().expect("readable").expect("a row");
        let (key, mut row) = (first.0.value(), first.1.value().to_vec());
        drop(first);
        row[0] = 200;
        table.insert(key, row.as_slice()).expect("written");
        drop(table);
        write.commit().expect("durable");
    }};
}

#[test]
fn a_row_of_a_later_version_is_refused_as_one_and_not_as_damage() {
    let manifest = Manifest::v1();
    let is_told = |text: String| {
        for words in ["a newer crashkeep wrote", "version 200"] {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert!(!text.contains("damage"), "{text}");
    };
    // Without its segments a store cannot be used.
    let disk = Disks::of(image(CLOSED));
    make_newer!(&disk, SEGMENTS);
    match open(Arc::new(disk), &manifest) {
        Err(error @ OpenError::Store(StoreError::Newer(_))) => is_told(error.to_string()),
        other => panic!("{:?}", other.err()),
    }
    // Without a crash it can, and nothing is done to the row.
    let disk = Disks::of(image(CLOSED));
    make_newer!(&disk, CRASHES);
    let before = tables_of_v1(&disk.image())["crashes"].clone();
    let store = open(Arc::new(disk.clone()), &manifest).expect("it opens");
    let refused = manifest
        .list("crashes")
        .iter()
        .filter_map(|crash| store.crash(id_of(crash)).err());
    let refused: Vec<StoreError> = refused.collect();
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert!(matches!(refused[0], StoreError::Newer(_)));
    is_told(refused[0].to_string());
    let all = manifest.list("crashes").len();
    assert_eq!(
        store.scan(0, usize::MAX).expect("the others").len(),
        all - 1
    );
    let seqs: Vec<u64> = (1..=100).collect();
    assert!(
        store
            .prioritize(id_of(&manifest.list("crashes")[0]))
            .is_err()
    );
    store
        .delete(seqs, &crashkeep::store::State::ALL)
        .expect("the others go");
    assert_eq!(store.latched(), None);
    drop(store);
    let after = tables_of_v1(&disk.image())["crashes"].clone();
    assert_eq!(after.len(), 1);
    let (key, row) = after.first_key_value().expect("the row");
    assert_eq!(before.get(key), Some(row));
}
