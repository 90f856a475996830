//! Symbols: uploads through the protocols of all tools, and downloads.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::server::{Answer, PROGRAM, Server, fixture, send_signal, wait_for};

const ACMED: &str = "acmed/135F08D1B8BB3CACF63971E176A8388F0/acmed.sym";
const OTHER_ACMED: &str = "acmed/9A3DB037F2C1EFD28025FE267EDCB01E0/acmed.sym";
const OVERFLOW: &str = "overflow/B0E1FC01EF48E39CAF5C881D2DF0C3840/overflow.sym";

/// A symbol file of the corpus.
pub fn sym(path: &str) -> Vec<u8> {
    let packed = fixture(&format!("symbols/{path}.gz"));
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(&packed[..])
        .read_to_end(&mut text)
        .expect("gzip");
    text
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    flate2::read::GzEncoder::new(bytes, flate2::Compression::default())
        .read_to_end(&mut packed)
        .expect("packed");
    packed
}

fn small(id: &str, name: &str, function: &str) -> String {
    format!("MODULE Linux x86_64 {id} {name}\nPUBLIC 10 0 {function}\n")
}

pub fn zip_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    for (name, bytes) in entries {
        writer.start_file(*name, options).expect("an entry");
        writer.write_all(bytes).expect("written");
    }
    writer.finish().expect("a zip").into_inner()
}

pub fn form(parts: &[(&str, Option<&str>, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, file_name, bytes) in parts {
        let file_name = file_name.map_or(String::new(), |n| format!("; filename=\"{n}\""));
        let head =
            format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"{file_name}\r\n\r\n");
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--b--\r\n");
    body
}

const FORM: (&str, &str) = ("Content-Type", "multipart/form-data; boundary=b");
const URLENCODED: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

impl Server {
    fn upload(&self, body: &[u8]) -> Answer {
        self.request("POST", "/upload/", &[URLENCODED], body)
    }

    fn stored(&self, place: &str) -> Vec<u8> {
        let answer = self.get(&format!("/symbols/{place}"));
        assert_eq!(answer.status, 200, "{place}: {}", answer.text());
        answer.body
    }
}

pub fn outcomes(answer: &Answer) -> Vec<(String, String)> {
    let files = answer.json()["files"].as_array().expect("files").clone();
    let text = |file: &Value, key: &str| file[key].as_str().expect("a text").to_owned();
    files
        .iter()
        .map(|file| (text(file, "name"), text(file, "outcome")))
        .collect()
}

/// All files below a folder.
pub fn files_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            // These are only marks that map the id of a program to debug ids.
            true if path.ends_with("by-code-id") => {}
            true => found.extend(files_below(&path)),
            false => found.push(path.display().to_string()),
        }
    }
    found
}

#[test]
fn an_archive_is_taken_file_by_file_and_answered_as_tecken_answers() {
    let server = Server::start();
    let (acmed, overflow) = (sym(ACMED), sym(OTHER_ACMED));
    let archive = zip_of(&[
        (ACMED, &acmed),
        (
            "acmed/9A3DB037F2C1EFD28025FE267EDCB01E0/acmed.sym.gz",
            &gzip(&overflow),
        ),
        ("firefox-156-symbols.txt", b"a list"),
        (
            "../../../../tmp/evil.sym",
            small("5A9832E5287241C1838ED98914E9B7FF1", "tame", "f").as_bytes(),
        ),
        ("acmed/BAD/acmed.sym", b"no symbols"),
        ("acmed/BAD/acmed", b"\x7fELF\x02\x01\x01"),
    ]);
    for body in [
        archive.clone(),
        form(&[("symbols.zip", Some("symbols.zip"), &archive)]),
    ] {
        let kind = if body == archive {
            ("Content-Type", "application/zip")
        } else {
            FORM
        };
        let answer = server.request("POST", "/upload/", &[kind], &body);
        assert_eq!(answer.status, 201, "{}", answer.text());
        let again = answer.json()["upload"]["skipped_keys"]
            .as_array()
            .expect("keys")
            .len();
        let names: Vec<String> = outcomes(&answer).into_iter().map(|(_, o)| o).collect();
        match again {
            0 => assert_eq!(names, ["stored", "stored", "stored", "refused", "refused"]),
            n => {
                assert_eq!(n, 3);
                assert_eq!(names, ["same", "same", "same", "refused", "refused"]);
            }
        }
        let files = &answer.json()["files"];
        assert_eq!(
            files[2]["url"],
            "/symbols/tame/5A9832E5287241C1838ED98914E9B7FF1/tame.sym"
        );
        assert!(
            files[3]["error"]
                .as_str()
                .expect("why")
                .starts_with("line 1: ")
        );
        assert!(
            files[4]["error"]
                .as_str()
                .expect("why")
                .starts_with("it cannot be read")
        );
    }
    assert_eq!(server.stored(ACMED), acmed);
    assert_eq!(files_below(&server.data.join("symbols")).len(), 3 * 2);
    assert_eq!(
        server.metric("crashkeep_symbols_uploaded_total{outcome=\"stored\"}"),
        3
    );
    assert_eq!(
        server.metric("crashkeep_symbols_uploaded_total{outcome=\"refused\"}"),
        4
    );
}

#[test]
fn breakpads_own_uploader_is_understood_in_both_protocols() {
    let server = Server::start();
    let answer = server.send(
        &server.with_key(&fixture("requests/breakpad-sym_upload-v1.http")),
        true,
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(outcomes(&answer)[0].1, "stored");
    assert!(
        server
            .stored(OVERFLOW)
            .starts_with(b"MODULE Linux x86_64 B0E1FC01")
    );

    let server = Server::start();
    // The client sends its key in the query of every request except the upload itself.
    let send = |name: &str| {
        let captured = fixture(&format!("requests/breakpad-sym_upload-v2-{name}.http"));
        let captured = String::from_utf8(captured).expect("text");
        let shown = captured.replace("key=secret123", &format!("key={}", server.key()));
        server.send(shown.as_bytes(), true)
    };
    assert_eq!(send("1-status").text(), "{\"status\": \"MISSING\"}\n");
    let created = send("2-create").text();
    assert!(
        created.starts_with("{\"uploadUrl\": \"http://127.0.0.1:18104/v1/uploads/"),
        "{created}"
    );
    assert!(created.contains("\", \"uploadKey\": \""), "{created}");
    // The recorded client uploaded its file to its own URL.
    let put = fixture("requests/breakpad-sym_upload-v2-3-put.http");
    let json: Value = serde_json::from_str(&created).expect("JSON");
    let url = json["uploadUrl"].as_str().expect("an address");
    let path = url
        .strip_prefix("http://127.0.0.1:18104")
        .expect("our host");
    let rest = put.strip_prefix(b"PUT /put/K1").expect("its address");
    let missing = send("4-complete");
    assert_eq!(missing.status, 400, "{}", missing.text());
    let answer = server.send(&[b"PUT ", path.as_bytes(), rest].concat(), true);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(send("4-complete").text(), "{\"result\": \"OK\"}\n");
    assert_eq!(send("1-status").text(), "{\"status\": \"FOUND\"}\n");
}

#[test]
fn one_file_is_taken_as_it_is_or_packed() {
    let server = Server::start();
    let text = sym(ACMED);
    let body = form(&[("symbol_file", Some("acmed.sym"), &text)]);
    let answer = server.request("POST", "/symbols", &[FORM], &body);
    assert_eq!(
        (answer.status, outcomes(&answer)[0].1.as_str()),
        (200, "stored")
    );
    for (body, headers) in [
        (text.clone(), vec![URLENCODED]),
        (gzip(&text), vec![]),
        (gzip(&text), vec![("Content-Encoding", "gzip")]),
        (gzip(&body), vec![FORM, ("Content-Encoding", "gzip")]),
    ] {
        let answer = server.request("POST", "/upload/", &headers, &body);
        assert_eq!(
            (answer.status, outcomes(&answer)[0].1.as_str()),
            (200, "same")
        );
    }
    let put = server.request("PUT", "/upload/acmed.sym", &[], &text);
    assert_eq!(
        outcomes(&put),
        [("acmed.sym".to_owned(), "same".to_owned())]
    );
}

#[test]
fn a_symbol_file_goes_out_with_its_length_or_packed() {
    let server = Server::start();
    let text = sym(ACMED);
    assert_eq!(server.upload(&text).status, 200);
    let lower = ACMED.replace(
        "135F08D1B8BB3CACF63971E176A8388F0",
        "135f08d1b8bb3cacf63971e176a8388f0",
    );
    assert_eq!(server.stored(&lower), text);
    let head = server.request_bytes("HEAD", &format!("/symbols/{ACMED}"), &[], b"");
    let mut stream = TcpStream::connect(&server.address).expect("a connection");
    stream.write_all(&head).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(
        answer.contains(&format!("Content-Length: {}\r\n", text.len())),
        "{answer}"
    );
    assert!(answer.ends_with("\r\n\r\n"), "no body");

    let get = server.request_bytes(
        "GET",
        &format!("/symbols/{ACMED}"),
        &[("Accept-Encoding", "gzip")],
        b"",
    );
    let mut stream = TcpStream::connect(&server.address).expect("a connection");
    stream.write_all(&get).expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let at = answer
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .expect("a head")
        + 4;
    let head = String::from_utf8_lossy(&answer[..at]).into_owned();
    assert!(head.contains("Content-Encoding: gzip\r\n"), "{head}");
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&unchunked(&answer[at..])[..])
        .read_to_end(&mut unpacked)
        .expect("gzip");
    assert_eq!(unpacked, text);

    for path in [
        "/symbols/acmed/135F08D1B8BB3CACF63971E176A8388F0/acmed.pdb",
        "/symbols/acmed/135F08D1B8BB3CACF63971E176A8388F1/acmed.sym",
        "/symbols/acmed/..%2f..%2fstore.redb/store.redb.sym",
    ] {
        let answer = server.get(path);
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (404, "Symbol Not Found\n"),
            "{path}"
        );
    }
    assert_eq!(
        server.metric("crashkeep_symbols_asked_total{outcome=\"hit\"}"),
        3
    );
    assert_eq!(
        server.metric("crashkeep_symbols_asked_total{outcome=\"miss\"}"),
        3
    );
}

/// The body of a chunked answer.
fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    loop {
        let end = body.windows(2).position(|w| w == b"\r\n").expect("a size");
        let size = std::str::from_utf8(&body[..end]).expect("hexadecimal");
        let size = usize::from_str_radix(size, 16).expect("hexadecimal");
        if size == 0 {
            return whole;
        }
        whole.extend_from_slice(&body[end + 2..end + 2 + size]);
        body = &body[end + 2 + size + 2..];
    }
}

#[test]
fn another_content_of_a_debug_id_waits_beside_until_it_is_called_for() {
    let server = Server::start();
    let text = |function| small("5A9832E5287241C1838ED98914E9B7FF1", "app", function);
    let place = "app/5A9832E5287241C1838ED98914E9B7FF1/app.sym";
    let text = |function| format!("{}FUNC 20 4 0 f\n", text(function));
    server.upload(text("first").as_bytes());
    let second = server.upload(text("second").as_bytes());
    assert_eq!(
        (second.status, outcomes(&second)[0].1.as_str()),
        (200, "kept_beside")
    );
    assert!(second.text().contains("?replace=1"));
    assert_eq!(server.stored(place), text("first").as_bytes());
    let third = server.request("POST", "/upload/?replace=1", &[], text("second").as_bytes());
    assert_eq!(outcomes(&third)[0].1, "replaced");
    assert_eq!(server.stored(place), text("second").as_bytes());
    assert_eq!(files_below(&server.data.join("symbols")).len(), 3);
}

#[test]
fn hostile_uploads_are_refused_with_the_reason_and_leave_nothing() {
    let server = Server::start();
    let id = "5A9832E5287241C1838ED98914E9B7FF1";
    let whole = zip_of(&[(ACMED, &sym(ACMED))]);
    let cut = &whole[..whole.len() / 2];
    let bomb = [small(id, "bomb", "f").into_bytes(), b"\n".repeat(64 << 20)].concat();
    let evil = small(id, "../../../evil", "f");
    let nested = (0..4).fold(whole.clone(), |inner, _| zip_of(&[("a.zip", &inner)]));
    let pdb = b"Microsoft C/C++ MSF 7.00\r\n\x1aDS\0\0\0";
    for (body, status, why) in [
        (cut.to_vec(), 400, "the archive cannot be read"),
        (gzip(&bomb), 400, "the decompressed upload is larger"),
        (
            zip_of(&[("a", &bomb), ("b", b"x")]),
            400,
            "the decompressed upload is larger",
        ),
        (nested, 400, "an archive nested in 4 other archives"),
        (zip_of(&[]), 400, "no files"),
        (evil.into_bytes(), 400, "not a plain file name"),
        (fixture("broken/symbols/bad_id_length.sym"), 400, "33 to 40"),
        (fixture("broken/symbols/binary_junk.sym"), 400, "line 1"),
        (
            fixture("broken/symbols/no_module_line.sym"),
            400,
            "line 1: the file does not begin with MODULE",
        ),
        (pdb.to_vec(), 400, "it cannot be read"),
        (Vec::new(), 400, "empty"),
    ] {
        let answer = server.upload(&body);
        assert_eq!(answer.status, status, "{why}: {}", answer.text());
        let error = answer.json()["error"].as_str().expect("why").to_owned();
        assert!(error.contains(why), "{error}");
    }
    let no_file = server.request(
        "POST",
        "/upload/",
        &[FORM],
        &form(&[("url", None, b"https://x/y.zip")]),
    );
    assert_eq!(no_file.status, 400);
    let zstd = server.request("POST", "/upload/", &[("Content-Encoding", "zstd")], b"x");
    assert_eq!(zstd.status, 415);
    let claimed =
        b"POST /upload/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999999\r\n\r\nMODULE";
    let answer = server.send(&server.with_key(claimed), false);
    assert_eq!(answer.status, 413);
    assert!(
        answer.text().contains("symbols.upload_bytes_max"),
        "{}",
        answer.text()
    );
    let elsewhere = server.request(
        "POST",
        "/upload/",
        &[("Origin", "http://evil.example")],
        b"x",
    );
    assert_eq!(elsewhere.status, 403);
    assert_eq!(files_below(&server.data.join("symbols")), [""; 0]);
    assert_eq!(files_below(&server.data.join("incoming")), [""; 0]);
}

#[test]
fn a_kill_in_the_middle_of_an_upload_leaves_no_half_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let text = sym(ACMED);
    let mut server = Server::start_in(&data, &[]);
    let whole = server.request_bytes("POST", "/upload/", &[], &text);
    let mut stream = TcpStream::connect(&server.address).expect("a connection");
    stream
        .write_all(&whole[..whole.len() - 100])
        .expect("most of it");
    wait_for("the upload to be under way", || {
        let open = std::fs::read_dir(format!("/proc/{}/fd", server.child.id())).ok()?;
        let incoming = data.join("incoming");
        open.flatten()
            .filter_map(|entry| std::fs::read_link(entry.path()).ok())
            .any(|path| path.starts_with(&incoming))
            .then_some(())
    });
    send_signal(server.child.id(), Signal::KILL);
    server.child.wait().expect("its end");
    // A kill between the check and the rename leaves this file.
    std::fs::write(data.join("incoming/.tmpLeft"), &text[..1000]).expect("a file");
    assert_eq!(files_below(&data.join("symbols")), [""; 0]);
    let server = Server::start_in(&data, &[]);
    assert_eq!(files_below(&data.join("incoming")), [""; 0]);
    assert_eq!(outcomes(&server.upload(&text))[0].1, "stored");
}

#[test]
fn the_next_walk_uses_symbols_that_were_uploaded() {
    let server = Server::start();
    let dump = fixture("dumps/linux-x86_64-acmed_null_read.dmp");
    let id = server
        .submit(
            &[("ProductName", "A")],
            &[("upload_file_minidump", "a.dmp", &dump)],
        )
        .crash_id();
    assert_eq!(server.wait_processed(&id), "processed");
    let before = server.processed(&id)["signature"].clone();
    for file in [ACMED, OTHER_ACMED] {
        let crlf = String::from_utf8(sym(file))
            .expect("UTF-8")
            .replace('\n', "\r\n");
        let answer = server.upload(crlf.trim_end().as_bytes());
        assert_eq!(
            answer.json()["files"][0]["notes"]
                .as_array()
                .expect("notes")
                .iter()
                .filter(|note| note.as_str().is_some_and(|note| note.contains("line")))
                .count(),
            2
        );
    }
    let again = server.request(
        "POST",
        "/api/Reprocessing/",
        &[URLENCODED],
        format!("crash_ids={id}").as_bytes(),
    );
    assert_eq!(again.status, 200, "{}", again.text());
    let functions = wait_for("the second walk", || {
        let crash = server.processed(&id);
        let frames = crash["json_dump"]["crashing_thread"]["frames"]
            .as_array()?
            .clone();
        frames[0]["function"].as_str().map(str::to_owned)
    });
    assert_ne!(server.processed(&id)["signature"], before);
    assert!(!functions.is_empty());
}

#[test]
fn the_fields_own_stackwalker_finds_symbols_here() {
    let Some(program) = crate::clients::installed("CRASHKEEP_MINIDUMP_STACKWALK") else {
        return;
    };
    let server = Server::start();
    assert_eq!(server.upload(&sym(ACMED)).status, 200);
    let other = sym(OTHER_ACMED);
    assert_eq!(server.upload(&other).status, 200);
    let folder = tempfile::tempdir().expect("a folder");
    let output = Command::new(program)
        .args([
            "--json",
            "--symbols-url",
            &format!("{}/symbols/", server.url_with_key()),
        ])
        .arg("--symbols-cache")
        .arg(folder.path().join("cache"))
        .arg("--symbols-tmp")
        .arg(folder.path())
        .arg(crate::server::fixtures().join("dumps/linux-x86_64-acmed_null_read.dmp"))
        .output()
        .expect("it runs");
    let walk: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let frames = &walk["crashing_thread"]["frames"];
    assert!(frames[0]["function"].is_string(), "{frames}");
    assert!(server.metric("crashkeep_symbols_asked_total{outcome=\"hit\"}") > 0);
}

#[test]
fn the_command_adds_offline_and_through_a_server_and_lists() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let source = folder.path().join("source/deep");
    std::fs::create_dir_all(&source).expect("a folder");
    std::fs::write(source.join("a.sym"), sym(ACMED)).expect("a file");
    std::fs::write(source.join("b.sym.gz"), gzip(&sym(OTHER_ACMED))).expect("a file");
    std::fs::write(source.join("notes.txt"), "not taken").expect("a file");
    let bad = folder.path().join("bad.sym");
    std::fs::write(&bad, "nothing").expect("a file");
    let run = |arguments: &[&str]| {
        Command::new(PROGRAM)
            .arg("symbols")
            .args(arguments)
            .arg("--data")
            .arg(&data)
            .current_dir(folder.path())
            .output()
            .expect("it runs")
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let added = run(&["add", "source"]);
    assert_eq!(
        text(&added.stdout),
        format!("stored: {ACMED}\nstored: {OTHER_ACMED}\n")
    );
    assert!(added.status.success(), "{}", text(&added.stderr));
    let list = text(&run(&["list"]).stdout);
    assert_eq!(list.lines().count(), 2);
    assert!(list.contains("135F08D1B8BB3CACF63971E176A8388F0") && list.contains(" acmed"));

    let server = Server::start_in(&data, &[]);
    let url = format!("http://{}", server.address);
    let sent = run(&[
        "add",
        "source",
        "bad.sym",
        "--server",
        &url,
        "--token",
        server.key(),
    ]);
    assert_eq!(
        text(&sent.stdout),
        format!("same: {ACMED}\nsame: {OTHER_ACMED}\n")
    );
    assert_eq!(sent.status.code(), Some(1));
    assert!(
        text(&sent.stderr).contains("refused: \"bad.sym\": line 1"),
        "{}",
        text(&sent.stderr)
    );
}

#[test]
fn addresses_are_named_as_eliot_names_them() {
    let server = Server::start();
    let id = "5A9832E5287241C1838ED98914E9B7FF1";
    let text = format!(
        "MODULE Linux x86_64 {id} app\nFILE 0 a.c\nFILE 1 b.h\nINLINE_ORIGIN 0 inner\nFUNC 10 20 0 outer\nINLINE 0 7 0 0 14 4\n10 4 5 0\n14 4 99 1\nPUBLIC 100 0 exported\n"
    );
    server.upload(text.as_bytes());
    let json = ("Content-Type", "application/json");
    let ask = |body: &str| server.request("POST", "/symbolicate/v5", &[json], body.as_bytes());
    let lower = id.to_lowercase();
    let other = id.replace('5', "6");
    let body = format!(
        r#"{{"jobs":[{{"memoryMap":[["app","{lower}"],["gone","{other}"],["unused","{id}"]],"stacks":[[[0,17],[0,21],[0,258],[1,5],[-1,4660]]]}}]}}"#
    );
    let answer = ask(&body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let expected = serde_json::json!({"results": [{
        "stacks": [[
            {"frame": 0, "module": "app", "module_offset": "0x11", "function": "outer",
             "function_offset": "0x1", "file": "a.c", "line": 5},
            {"frame": 1, "module": "app", "module_offset": "0x15", "function": "outer",
             "function_offset": "0x5", "file": "a.c", "line": 7,
             "inlines": [{"function": "inner", "file": "b.h", "line": 99}]},
            {"frame": 2, "module": "app", "module_offset": "0x102", "function": "exported",
             "function_offset": "0x2"},
            {"frame": 3, "module": "gone", "module_offset": "0x5"},
            {"frame": 4, "module": "<unknown>", "module_offset": "0x1234"},
        ]],
        "found_modules": {format!("app/{lower}"): true, format!("gone/{other}"): false, format!("unused/{id}"): null},
    }]});
    assert_eq!(answer.json(), expected);
    let job = format!(r#"{{"memoryMap":[["app","{id}"]],"stacks":[[[0,17]]]}}"#);
    assert_eq!(
        ask(&job).json()["results"][0]["stacks"][0][0]["function"],
        "outer"
    );
    let many = [job.as_str(); 11].join(",");
    let long = format!(
        r#"{{"memoryMap":[],"stacks":[[{}]]}}"#,
        vec!["[-1,1]"; 20_001].join(",")
    );
    for (body, why) in [
        ("{", "not valid JSON"),
        (r#"{"stacks":[]}"#, "has no list memoryMap"),
        (r#"{"memoryMap":[["a"]],"stacks":[]}"#, "invalid module"),
        (r#"{"memoryMap":[],"stacks":[[[0,1]]]}"#, "invalid stack"),
        (
            &format!(r#"{{"jobs":[{many}]}}"#),
            "11 jobs in one request; the limit is 10",
        ),
        (&long, "20001 frames in one request; the limit is 20000"),
    ] {
        let answer = ask(body);
        assert_eq!(answer.status, 400, "{why}");
        let error = answer.json()["error"].as_str().expect("why").to_owned();
        assert!(error.contains(why), "{error}");
    }
}
