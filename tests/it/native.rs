//! Programs and debug files: accepted by every upload protocol, converted to symbols, completed by each
//! other, and downloaded unchanged.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use crashkeep::clock::{DAY_MS, Timestamp};
use crashkeep::retention::{Keep, SymbolPlaces, symbols_pass};
use crashkeep::store::symbols::{Release, SymbolChange};
use crashkeep::symbols::mapped::MappedDir;
use crashkeep::symbols::{Conflict, Incoming, SymbolDirs, SymbolStore};
use serde_json::Value;

use crate::server::{Answer, PROGRAM, Server, fixture, wait_for};
use crate::symbols::{files_below, gzip, outcomes, sym};

const LINUX: &str = "C0BCC3F19827FE653058404B2831D9E60";
const LINUX_BUILD: &str = "f1c3bcc0279865fe3058404b2831d9e64135386c";
const WINDOWS: &str = "3249D99D0C4049318610F4E4FB0B69361";
const MAC: &str = "67E9247C814E392BA027DBDE6748FCBF0";

fn native(name: &str) -> Vec<u8> {
    match name {
        "linux-x86_64-crash.debug" => {
            let mut bytes = Vec::new();
            let packed = fixture("native/linux-x86_64-crash.debug.gz");
            std::io::copy(&mut flate2::read::GzDecoder::new(&packed[..]), &mut bytes)
                .expect("gzip");
            bytes
        }
        name => fixture(&format!("native/{name}")),
    }
}

impl Server {
    fn put(&self, name: &str, body: &[u8]) -> Answer {
        self.request("PUT", &format!("/upload/{name}"), &[], body)
    }

    /// The outcome for one file.
    fn put_one(&self, name: &str, body: &[u8]) -> String {
        let answer = self.put(name, body);
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        outcomes(&answer).remove(0).1
    }

    fn module(&self, debug_id: &str) -> Value {
        let answer = self.get(&format!("/api/Symbols/?debug_id={debug_id}"));
        answer.json()["hits"][0].clone()
    }

    /// The processed crash of a dump.
    fn crash_of(&self, dump: &str) -> String {
        let dump = fixture(&format!("dumps/{dump}.dmp"));
        let files: [(&str, &str, &[u8]); 1] = [("upload_file_minidump", "a.dmp", &dump)];
        let annotations = [("ProductName", "App"), ("Version", "1.0")];
        let id = self.submit(&annotations, &files).crash_id();
        assert_eq!(self.wait_processed(&id), "processed");
        id
    }

    fn frames(&self, id: &str) -> Vec<Value> {
        let crash = self.processed(id);
        let frames = crash["json_dump"]["crashing_thread"]["frames"].as_array();
        frames.expect("frames").clone()
    }
}

fn tar_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder
            .append_data(&mut header, name, *bytes)
            .expect("an entry");
    }
    builder.into_inner().expect("a tar")
}

#[test]
fn every_format_becomes_functions_lines_and_rules_of_unwinding() {
    let server = Server::start();
    for (name, file, id, functions) in [
        ("crash", "linux-x86_64-crash.debug", LINUX, 100),
        ("crash.pdb", "windows-x86-crash.pdb", WINDOWS, 92),
        ("crash", "macos-x86_64-crash.dwarf", MAC, 193),
        (
            "sigsegv.pdb",
            "windows-x86_64-sigsegv.pdb",
            "7DD47A9FC2E8499AA78EC14AE2C965A21",
            4,
        ),
    ] {
        assert_eq!(server.put_one(name, &native(file)), "stored", "{file}");
        let module = server.module(id);
        assert!(module["functions"].as_u64() >= Some(functions), "{module}");
        assert_eq!(module["debug_file"], name);
    }
    let expected = [
        (
            "linux-x86_64-crash",
            ["main", "/data/linux/../linux/main.cpp", "35"],
        ),
        (
            "windows-x86-crash",
            [
                "main(int, char**)",
                "c:\\projects\\breakpad-tools\\windows\\crash\\main.cpp",
                "35",
            ],
        ),
        (
            "macos-x86_64-crash",
            [
                "main",
                "/Users/travis/build/getsentry/breakpad-tools/macos/../macos/main.cpp",
                "32",
            ],
        ),
        (
            "windows-x86_64-sigsegv",
            ["crash(bool)", "c:\\temp\\sigsegv.cpp", "22"],
        ),
    ];
    for (dump, [function, file, line]) in expected {
        let frame = server.frames(&server.crash_of(dump)).remove(0);
        assert_eq!(frame["function"], function, "{frame}");
        assert_eq!(frame["file"], file, "{frame}");
        assert_eq!(frame["line"].to_string(), line, "{frame}");
    }
}

/// Our functions of a PDB, compared with those that Breakpad's own tool found in it, by address and size.
#[test]
fn a_pdb_has_the_functions_that_breakpads_own_tool_finds() {
    let server = Server::start();
    server.put_one("crash.pdb", &native("windows-x86-crash.pdb"));
    let ours = server.get(&format!("/symbols/crash.pdb/{WINDOWS}/crash.sym"));
    let functions = |text: &str| -> Vec<(String, String)> {
        let lines = text.lines().filter_map(|line| line.strip_prefix("FUNC "));
        let mut found: Vec<(String, String)> = lines
            .map(|line| {
                let mut words = line.trim_start_matches("m ").split(' ').map(str::to_owned);
                (
                    words.next().unwrap_or_default(),
                    words.next().unwrap_or_default(),
                )
            })
            .collect();
        found.sort();
        found
    };
    let theirs = sym("crash.pdb/3249D99D0C4049318610F4E4FB0B69361/crash.sym");
    let theirs = functions(&String::from_utf8(theirs).expect("UTF-8"));
    assert_eq!(theirs.len(), 92);
    assert_eq!(functions(&ours.text()), theirs);
}

#[test]
fn a_program_completes_its_debug_file_and_its_crashes_are_reprocessed() {
    let server = Server::start();
    assert_eq!(
        server.put_one("crash.debug", &native("linux-x86_64-crash.debug")),
        "stored"
    );
    assert_eq!(server.module(LINUX)["usable"], false);
    let id = server.crash_of("linux-x86_64-crash");
    assert_eq!(server.frames(&id)[1]["trust"], "scan");
    let missing = server.get("/api/MissingSymbols/?product=App").json();
    let hits = missing["hits"].as_array().expect("hits");
    let ours = hits.iter().find(|hit| hit["debug_id"] == LINUX);
    let ours = ours.expect("the module lacks something");
    assert_eq!(ours["cause"], "no_unwind");
    assert_eq!(ours["releases"][0]["version"], "1.0");
    let command = ours["command"].as_str().expect("a command");
    assert!(
        command.starts_with("crashkeep symbols add --server http://"),
        "{command}"
    );

    assert_eq!(
        server.put_one("crash", &native("linux-x86_64-crash.elf")),
        "completed"
    );
    assert_eq!(server.module(LINUX)["usable"], true);
    wait_for("the crash to be reprocessed", || {
        (server.frames(&id)[1]["trust"] == "cfi").then_some(())
    });
    let page = wait_for("the reprocessing to end", || {
        let page = server.get("/symbols/").text();
        page.contains("1 crash improved").then_some(page)
    });
    assert!(page.contains("1 of 1"), "{page}");
    // Both can be downloaded unchanged, and belong to one module.
    for (address, file) in [
        (
            format!("/buildid/{LINUX_BUILD}/debuginfo"),
            "linux-x86_64-crash.debug",
        ),
        (
            format!("/buildid/{LINUX_BUILD}/executable"),
            "linux-x86_64-crash.elf",
        ),
        (
            format!("/symbols/crash/elf-buildid-{LINUX_BUILD}/crash"),
            "linux-x86_64-crash.elf",
        ),
        (
            format!("/symbols/_.debug/elf-buildid-sym-{LINUX_BUILD}/_.debug"),
            "linux-x86_64-crash.debug",
        ),
    ] {
        let answer = server.get(&address);
        assert_eq!(answer.status, 200, "{address}");
        assert!(answer.body == native(file), "{address}");
    }
    assert_eq!(
        server.get(&format!("/buildid/{LINUX_BUILD}/source")).status,
        404
    );
    assert_eq!(server.get("/buildid/c0c0/debuginfo").status, 404);
}

#[test]
fn windows_debuggers_find_both_files_where_symsrv_has_them() {
    let server = Server::start();
    // The program contains the name of its debug file. The upload had another name.
    assert_eq!(
        server.put_one("renamed.pdb", &native("windows-x86-crash.pdb")),
        "stored"
    );
    assert_eq!(
        server.put_one("crash.exe", &native("windows-x86-crash.exe")),
        "kept"
    );
    let module = server.module(WINDOWS);
    assert_eq!(module["debug_file"], "crash.pdb");
    let code_id = module["code_id"].as_str().expect("an id").to_owned();
    for (address, file) in [
        (
            format!("/symbols/crash.pdb/{WINDOWS}/crash.pdb"),
            "windows-x86-crash.pdb",
        ),
        (
            format!("/symbols/crash.exe/{code_id}/crash.exe"),
            "windows-x86-crash.exe",
        ),
        (
            format!("/symbols/crash.exe/{}/crash.exe", code_id.to_uppercase()),
            "windows-x86-crash.exe",
        ),
    ] {
        assert!(server.get(&address).body == native(file), "{address}");
    }
    let by_program = server.get(&format!("/symbols/crash.exe/{code_id}/crash.sym"));
    let by_debug_file = server.get(&format!("/symbols/crash.pdb/{WINDOWS}/crash.sym"));
    assert_eq!(by_debug_file.status, 200);
    assert_eq!(by_program.status, 302, "as Tecken answers");
    let place = format!("/symbols/crash.pdb/{WINDOWS}/crash.sym");
    assert_eq!(by_program.header("location"), Some(place.as_str()));
    let at_root = server.get(&format!("/crash.exe/{code_id}/crash.sym?_refresh=1"));
    let place = format!("/crash.pdb/{WINDOWS}/crash.sym?_refresh=1");
    assert_eq!(at_root.header("location"), Some(place.as_str()));
    assert_eq!(server.get(&place).body, by_debug_file.body);
    for file in ["crash.pd_", "file.ptr", "crash.ex_"] {
        let packed = server.get(&format!("/symbols/crash.pdb/{WINDOWS}/{file}"));
        assert_eq!(packed.status, 404, "{file}");
    }
    let head = server.request_bytes(
        "HEAD",
        &format!("/symbols/crash.pdb/{WINDOWS}/crash.pdb"),
        &[],
        b"",
    );
    let mut stream = TcpStream::connect(&server.address).expect("a connection");
    stream.write_all(&head).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.contains("Content-Length: 1019904\r\n"), "{answer}");
}

#[test]
fn packed_files_and_archives_of_all_sorts_are_unpacked() {
    let server = Server::start();
    let (text, elf) = (
        sym("acmed/135F08D1B8BB3CACF63971E176A8388F0/acmed.sym"),
        native("linux-x86_64-crash.elf"),
    );
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 3).expect("zstd");
    let xz = |bytes: &[u8]| {
        let mut packed = Vec::new();
        let mut encoder = liblzma::write::XzEncoder::new(&mut packed, 6);
        encoder.write_all(bytes).expect("xz");
        encoder.finish().expect("xz");
        packed
    };
    let bzip2 = |bytes: &[u8]| {
        let mut packed = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        packed.write_all(bytes).expect("bzip2");
        packed.finish().expect("bzip2")
    };
    let tar = tar_of(&[("bin/crash", &elf), ("acmed.sym", &text)]);
    let first = server.put("all.tar.gz", &gzip(&tar));
    assert_eq!(first.status, 201);
    assert_eq!(
        outcomes(&first),
        [("bin/crash", "stored"), ("acmed.sym", "stored")]
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
    );
    for (name, body, files) in [
        ("a.sym.zst", zstd(&text), 1),
        ("a.sym.xz", xz(&text), 1),
        ("crash.xz", xz(&elf), 1),
        ("crash.bz2", bzip2(&elf), 1),
        ("all.tar", tar.clone(), 2),
        ("all.tar.zst", zstd(&tar), 2),
        ("all.tar.xz", xz(&tar), 2),
    ] {
        let answer = server.put(name, &body);
        let found = outcomes(&answer);
        assert_eq!(found.len(), files, "{name}: {}", answer.text());
        assert!(found.iter().all(|(_, outcome)| outcome == "same"), "{name}");
    }
    // A file with compressed sections.
    assert_eq!(
        server.put_one("crash.debug", &native("linux-x86_64-crash.debug-zstd")),
        "completed"
    );
}

/// A recorded exchange of a real `sentry-cli debug-files upload`.
#[test]
fn sentrys_own_uploader_is_understood() {
    let server = Server::start();
    let send = |name: &str| {
        let answer = server.send(
            &server.with_key(&fixture(&format!(
                "requests/sentry-cli-debug-files-{name}.http"
            ))),
            true,
        );
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        answer.json()
    };
    let options = send("1-options");
    assert_eq!(options["hashAlgorithm"], "sha1");
    assert_eq!(
        options["url"],
        "http://127.0.0.1:18105/api/0/organizations/acme/chunk-upload/"
    );
    let files = send("2-assemble");
    for (hash, file) in files.as_object().expect("files") {
        assert_eq!(file["state"], "not_found");
        assert_eq!(file["missingChunks"][0], hash.as_str());
    }
    send("3-chunks");
    let done = send("4-assemble-again");
    for (_, file) in done.as_object().expect("files") {
        assert_eq!(file["state"], "ok", "{file}");
    }
    assert_eq!(server.module(LINUX)["uploads"][0]["kind"], "elf");
    assert_eq!(send("4-assemble-again"), done, "it is remembered");
    assert_eq!(files_below(&server.data.join("incoming")), [""; 0]);
    let wrong = server.request(
        "POST",
        "/api/0/projects/a/b/files/difs/assemble/",
        &[],
        br#"{"../../x": {"name": "x", "chunks": []}}"#,
    );
    assert_eq!(wrong.status, 400);
}

#[test]
fn what_crashes_lack_is_fetched_from_other_servers() {
    let source = Server::start_public();
    source.put_one("crash.debug", &native("linux-x86_64-crash.debug"));
    source.put_one("crash", &native("linux-x86_64-crash.elf"));
    source.put_one("crash.pdb", &native("windows-x86-crash.pdb"));
    source.put_one("crash", &native("macos-x86_64-crash.dwarf"));
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("appliance.toml");
    let sources: String = [
        ("debuginfod", ""),
        ("symsrv", "/symbols"),
        ("breakpad", "/symbols/"),
    ]
    .map(|(kind, path)| {
        let at = format!("http://{}{path}", source.address);
        format!("[[symbol_source]]\nname = \"{kind}\"\nkind = \"{kind}\"\nat = \"{at}\"\n")
    })
    .concat();
    std::fs::write(&config, sources).expect("a file");
    let config = config.to_str().expect("a plain path");
    let server = Server::start_in(&folder.path().join("data"), &["--config", config]);
    let dumps = [
        "linux-x86_64-crash",
        "windows-x86-crash",
        "macos-x86_64-crash",
    ];
    let ids = dumps.map(|dump| server.crash_of(dump));
    for id in &ids {
        wait_for("functions", || {
            server.frames(id)[0]["file"].is_string().then_some(())
        });
    }
    // The program was fetched, too, because the debug file has no unwind rules.
    wait_for("rules of unwinding", || {
        (server.frames(&ids[0])[1]["trust"] == "cfi").then_some(())
    });
    assert!(server.metric("crashkeep_symbols_fetched_total{outcome=\"hit\"}") >= 4);
    // Each server is asked once for what it does not have.
    wait_for("the misses", || {
        (server.metric("crashkeep_symbols_fetched_total{outcome=\"miss\"}") > 0).then_some(())
    });
    // A server that cannot be reached does not count as a miss, and does not prevent requests to others.
    assert_eq!(
        server.metric("crashkeep_symbols_fetched_total{outcome=\"failed\"}"),
        0
    );
}

#[test]
fn a_miss_is_remembered_and_forgotten() {
    let numbered = crate::retention::TestStore::new();
    let store = &numbered.store;
    let at = |ms| Timestamp::from_ms(ms);
    let missed = |source: &str, at| SymbolChange::Missed {
        source: source.into(),
        debug_id: "AB1".into(),
        at,
    };
    let changes = vec![missed("a", at(5)), missed("b", at(9))];
    store.change_symbols(changes).expect("durable");
    assert_eq!(store.missed_at("a", "AB1").expect("readable"), Some(at(5)));
    assert_eq!(store.missed_at("a", "AB2").expect("readable"), None);
    let forget = SymbolChange::ForgetMisses { up_to: at(5) };
    store.change_symbols(vec![forget]).expect("durable");
    assert_eq!(store.missed_at("a", "AB1").expect("readable"), None);
    assert_eq!(store.missed_at("b", "AB1").expect("readable"), Some(at(9)));
}

/// Retention of symbols by last use, by age, and of pinned releases. The clock is an argument.
#[test]
fn symbols_are_kept_by_use_by_age_and_by_release() {
    let root = tempfile::tempdir().expect("a folder");
    let [symbols, incoming, mapped] =
        ["symbols", "incoming", "mapped"].map(|name| root.path().join(name));
    for folder in [&symbols, &incoming] {
        std::fs::create_dir(folder).expect("a folder");
    }
    let places = SymbolPlaces {
        symbol_store: SymbolStore::new(symbols.clone(), incoming.clone()),
        dirs: SymbolDirs::new(vec![symbols]),
        mapped: Arc::new(MappedDir::new(mapped, incoming)),
    };
    let numbered = crate::retention::TestStore::new();
    let day = |n: i64| Timestamp::from_ms(n * DAY_MS);
    let ids = [1, 2, 3].map(|n| format!("{n:032X}0"));
    for (id, version) in ids.iter().zip(["1", "2", "3"]) {
        let text = format!("MODULE Linux x86_64 {id} app\nFUNC 10 4 0 f\n");
        let incoming = Incoming {
            name: "app.sym",
            native: None,
            notes: Vec::new(),
            now_ms: day(100).ms(),
        };
        let taken = places
            .symbol_store
            .take(&mut text.as_bytes(), incoming, Conflict::KeepFirst);
        let put = SymbolChange::Put {
            module: taken.expect("a good file").module,
            release: Some(release(version)),
        };
        numbered.store.change_symbols(vec![put]).expect("durable");
    }
    fn release(version: &str) -> Release {
        Release {
            product: "App".into(),
            version: version.into(),
        }
    }
    let pin = SymbolChange::Pin(release("1"));
    numbered.store.change_symbols(vec![pin]).expect("durable");
    // A crash uses the second module.
    numbered.use_symbols(&ids[1], day(120));
    let pass = |unused, days, now| {
        let keep = Keep {
            symbols_unused_days: unused,
            symbols_days: days,
            ..crate::retention::KEEP
        };
        symbols_pass(&numbered.store, &places, &keep, now).expect("a pass");
        places.symbol_store.debug_ids().expect("a list")
    };
    assert_eq!(
        pass(0, 0, day(9_999)),
        ids,
        "without a setting all are kept"
    );
    assert_eq!(pass(30, 0, day(129)), ids);
    assert_eq!(
        pass(30, 0, day(131)),
        ids[..2],
        "pinned, and used not long ago"
    );
    assert_eq!(pass(0, 50, day(151)), ids[..1], "pinned");
    let unpin = SymbolChange::Unpin(release("1"));
    numbered.store.change_symbols(vec![unpin]).expect("durable");
    assert_eq!(pass(30, 0, day(151)), [""; 0]);
    assert!(numbered.store.all_symbols().expect("readable").is_empty());
}

#[test]
fn an_archive_is_fetched_only_from_where_it_may_be() {
    let source = Server::start_public();
    source.put_one("crash.pdb", &native("windows-x86-crash.pdb"));
    let at = format!("http://{}", source.address);
    let url = format!("{at}/symbols/crash.pdb/{WINDOWS}/crash.pdb");
    let body: String = form_urlencoded::Serializer::new(String::new())
        .append_pair("url", &url)
        .finish();
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let closed = Server::start();
    let refused = closed.request("POST", "/upload/", &form, body.as_bytes());
    assert_eq!(refused.status, 400);
    assert!(refused.text().contains("symbols.fetch_from"));

    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("appliance.toml");
    std::fs::write(&config, format!("[symbols]\nfetch_from = \"{at}\"\n")).expect("a file");
    let config = config.to_str().expect("a plain path");
    let open = Server::start_in(&folder.path().join("data"), &["--config", config]);
    let taken = open.request("POST", "/upload/", &form, body.as_bytes());
    assert_eq!(taken.status, 200, "{}", taken.text());
    assert_eq!(open.module(WINDOWS)["debug_file"], "crash.pdb");
    let elsewhere = open.request(
        "POST",
        "/upload/",
        &form,
        b"url=http%3A%2F%2F127.0.0.1%3A9%2Fx",
    );
    assert_eq!(elsewhere.status, 400);
    assert!(
        elsewhere.text().contains("not one of the servers"),
        "{}",
        elsewhere.text()
    );
}

pub fn run(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(PROGRAM)
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("it runs");
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[test]
fn a_release_is_checked_before_it_goes_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let build = folder.path().join("build");
    std::fs::create_dir(&build).expect("a folder");
    std::fs::write(build.join("crash"), native("linux-x86_64-crash.elf")).expect("a file");
    std::fs::write(build.join("crash.exe"), native("windows-x86-crash.exe")).expect("a file");
    std::fs::write(build.join("notes.txt"), "no program").expect("a file");
    let (status, text) = run(folder.path(), &["symbols", "check", "build"]);
    assert_eq!(status, Some(1), "{text}");
    assert!(
        text.contains("2 programs, 2 without usable symbols"),
        "{text}"
    );
    assert!(
        text.contains(&format!("no symbols are stored for crash {LINUX}")),
        "{text}"
    );

    let (status, text) = run(folder.path(), &["symbols", "add", "build"]);
    assert_eq!(status, Some(0), "{text}");
    let (status, text) = run(folder.path(), &["symbols", "check", "build"]);
    assert_eq!(status, Some(1), "{text}");
    assert!(
        text.contains("have no functions; add its debug file"),
        "{text}"
    );

    let debug = folder.path().join("debug");
    std::fs::create_dir(&debug).expect("a folder");
    std::fs::write(
        debug.join("crash.debug"),
        native("linux-x86_64-crash.debug"),
    )
    .expect("a file");
    std::fs::write(debug.join("crash.pdb"), native("windows-x86-crash.pdb")).expect("a file");
    let (status, text) = run(folder.path(), &["symbols", "add", "debug"]);
    assert_eq!(status, Some(0), "{text}");
    let (status, text) = run(folder.path(), &["symbols", "check", "build"]);
    assert_eq!(status, Some(0), "{text}");

    // A server that finds the folder has the same symbols, and reports what its crashes lack.
    let server = Server::start_in(&folder.path().join("data"), &[]);
    let url = format!("http://{}", server.address);
    wait_for("the server to look through the folder", || {
        server.module(WINDOWS)["usable"].as_bool()
    });
    let (status, text) = run(
        folder.path(),
        &[
            "symbols",
            "check",
            "build",
            "--server",
            &url,
            "--token",
            server.key(),
        ],
    );
    assert_eq!(status, Some(0), "{text}");
    let missing = [
        "symbols",
        "missing",
        "--server",
        &url,
        "--token",
        server.key(),
    ];
    let (status, text) = run(folder.path(), &missing);
    assert_eq!((status, text.as_str()), (Some(0), ""));
    server.crash_of("linux-x86_64-acmed_null_read");
    let (status, text) = run(folder.path(), &missing);
    assert_eq!(status, Some(1));
    assert!(
        text.contains("No symbols with this name have been uploaded."),
        "{text}"
    );
    let other = sym("acmed/135F08D1B8BB3CACF63971E176A8388F0/acmed.sym");
    let other = String::from_utf8(other).expect("UTF-8");
    let other = other.replacen("135F08D1B8BB3CACF63971E176A8388F0", LINUX, 1);
    let other = other.replacen(LINUX, "1111111111111111111111111111111110", 1);
    assert_eq!(server.put_one("acmed.sym", other.as_bytes()), "stored");
    let hits = server.get("/api/MissingSymbols/").json()["hits"].clone();
    let acmed = hits
        .as_array()
        .expect("hits")
        .iter()
        .find(|hit| hit["debug_file"] == "acmed");
    let acmed = acmed.expect("acmed is missing").clone();
    assert_eq!(acmed["cause"], "other_builds");
    assert_eq!(
        acmed["other_builds"][0]["debug_id"],
        "1111111111111111111111111111111110"
    );
    let page = server.get("/symbols/").text();
    assert!(page.contains("but for other builds"), "{page}");
}

#[test]
fn hostile_programs_cost_one_answer() {
    let server = Server::start();
    let mut dice = 88_172_645_463_325_252_u64;
    let mut roll = |below: usize| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        (dice % below as u64) as usize
    };
    for name in [
        "linux-x86_64-crash.elf",
        "windows-x86-crash.exe",
        "windows-x86-crash.pdb",
        "macos-x86_64-crash.dwarf",
    ] {
        let whole = native(name);
        for round in 0..12 {
            let mut bytes = whole.clone();
            match round % 3 {
                0 => bytes.truncate(roll(whole.len())),
                1 => (0..40).for_each(|_| {
                    let at = roll(whole.len().min(4096));
                    bytes[at] ^= 1 << roll(8);
                }),
                _ => (0..200).for_each(|_| {
                    let at = roll(whole.len());
                    bytes[at] = roll(256) as u8;
                }),
            }
            let answer = server.put("x", &bytes);
            assert!(
                matches!(answer.status, 200 | 400),
                "{name}: {}",
                answer.text()
            );
        }
    }
    assert_eq!(files_below(&server.data.join("incoming")), [""; 0]);
    assert_eq!(server.metric("crashkeep_panics_total"), 0);
    server.crash_of("linux-x86_64-crash");
}

#[test]
fn a_conversion_that_panics_is_a_refusal_of_its_file() {
    let server = Server::start();
    let mut bytes = native("windows-x86_64-sigsegv.pdb");
    // With this byte, the reader of PDB files panics.
    bytes[57_549] = 66;
    let answer = server.put("x.pdb", &bytes);
    assert_eq!(answer.status, 400);
    let text = answer.text();
    assert!(text.contains("failed because of its content"), "{text}");
    assert_eq!(files_below(&server.data.join("incoming")), [""; 0]);
    let whole = native("windows-x86_64-sigsegv.pdb");
    assert_eq!(server.put_one("x.pdb", &whole), "stored");
}

#[test]
fn debuginfod_finds_both_files_of_a_build() {
    let Some(program) = crate::clients::installed("CRASHKEEP_DEBUGINFOD_FIND") else {
        return;
    };
    let server = Server::start();
    server.put_one("crash.debug", &native("linux-x86_64-crash.debug"));
    server.put_one("crash", &native("linux-x86_64-crash.elf"));
    let folder = tempfile::tempdir().expect("a folder");
    for (what, file) in [
        ("debuginfo", "linux-x86_64-crash.debug"),
        ("executable", "linux-x86_64-crash.elf"),
    ] {
        let output = Command::new(&program)
            .args([what, LINUX_BUILD])
            .env("DEBUGINFOD_URLS", format!("{}/", server.url_with_key()))
            .env("DEBUGINFOD_CACHE_PATH", folder.path())
            .output()
            .expect("it runs");
        let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let found = std::fs::read(&path).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(found == native(file), "{what}");
    }
}

#[test]
fn sentry_cli_uploads_every_format() {
    let Some(program) = crate::clients::installed("CRASHKEEP_SENTRY_CLI") else {
        return;
    };
    let server = Server::start();
    let folder = tempfile::tempdir().expect("a folder");
    let files = [
        ("crash.debug", native("linux-x86_64-crash.debug")),
        ("crash", native("linux-x86_64-crash.elf")),
        ("crash.pdb", native("windows-x86-crash.pdb")),
        ("crash.exe", native("windows-x86-crash.exe")),
        ("mac/crash", native("macos-x86_64-crash.dwarf")),
        (
            "acmed.sym",
            sym("acmed/135F08D1B8BB3CACF63971E176A8388F0/acmed.sym"),
        ),
    ];
    std::fs::create_dir(folder.path().join("mac")).expect("a folder");
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).expect("a file");
    }
    let output = Command::new(program)
        .arg("--url")
        .arg(format!("http://{}/", server.address))
        .args(["--auth-token", server.key()])
        .args(["debug-files", "upload", "-o", "acme", "-p", "app"])
        .arg(folder.path())
        .env("SENTRY_DISABLE_UPDATE_CHECK", "1")
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
    for id in [LINUX, WINDOWS, "135F08D1B8BB3CACF63971E176A8388F0"] {
        assert_eq!(server.module(id)["usable"], true, "{id}: {said}");
    }
    assert!(server.module(MAC)["functions"].as_u64() > Some(0), "{said}");
}

#[test]
fn a_folder_of_symbols_is_used_where_it_lies() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = "null_read_av/7B7D1968FF0D47AE4366E9C3A7E1B6750";
    let symbols = folder.path().join("more").join(place);
    std::fs::create_dir_all(&symbols).expect("a folder");
    let text = sym(&format!("{place}/null_read_av.sym"));
    std::fs::write(symbols.join("null_read_av.sym"), &text).expect("a file");
    let at = folder.path().join("more");
    let config = folder.path().join("appliance.toml");
    let source = format!(
        "[[symbol_source]]\nkind = \"folder\"\nat = \"{}\"\n",
        at.display()
    );
    std::fs::write(&config, source).expect("a file");
    let config = config.to_str().expect("a plain path");
    let server = Server::start_in(&folder.path().join("data"), &["--config", config]);
    let id = server.crash_of("linux-x86_64-null_read_av");
    assert_eq!(server.frames(&id)[0]["function"], "crash()");
    let served = server.get(&format!("/symbols/{place}/null_read_av.sym"));
    assert_eq!(served.body, text);
    // It has no unwind rules. The report must not take it for another build.
    let missing = server.get("/api/MissingSymbols/").json();
    let causes = missing["hits"].as_array().expect("a list").iter();
    let ours = causes.filter(|hit| hit["debug_file"] == "null_read_av");
    for hit in ours {
        assert_ne!(hit["cause"], "other_builds", "{missing}");
        assert_ne!(hit["cause"], "never_uploaded", "{missing}");
    }
    // The file is read and not changed.
    assert_eq!(files_below(&at).len(), 1);
    assert_eq!(files_below(&folder.path().join("data/symbols")), [""; 0]);
}

/// A program by sym-upload-v2, which sends the name in its last request.
#[test]
fn a_program_that_is_put_without_a_name_gets_it_later() {
    let server = Server::start();
    let created = server
        .request("POST", "/v1/uploads:create", &[], b"")
        .json();
    let key = created["uploadKey"].as_str().expect("a key").to_owned();
    let put = server.request(
        "PUT",
        &format!("/v1/uploads/{key}"),
        &[],
        &native("linux-x86_64-crash.elf"),
    );
    assert_eq!(put.status, 200, "{}", put.text());
    let done = server.request(
        "POST",
        &format!("/v1/uploads/{key}:complete"),
        &[],
        format!(
            "{{ symbol_id: {{debug_file: \"crash\", debug_id: \"{LINUX}\" }}, symbol_upload_type: \"ELF\" }}"
        )
        .as_bytes(),
    );
    assert_eq!(done.text(), "{\"result\": \"OK\"}\n");
    assert_eq!(server.module(LINUX)["debug_file"], "crash");
    assert_eq!(server.module(LINUX)["code_file"], "crash");
    let by_name = server.get("/api/Symbols/?debug_file=crash").json();
    assert_eq!(by_name["hits"].as_array().map(Vec::len), Some(1));
    let text = server
        .get(&format!("/symbols/crash/{LINUX}/crash.sym"))
        .text();
    assert!(text.starts_with(&format!("MODULE Linux x86_64 {LINUX} crash\n")));
}
