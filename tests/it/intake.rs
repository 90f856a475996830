//! Reports in the less common forms that real clients send.

use std::io::Write;

use serde_json::Value;

use crate::server::{Answer, Server, fixture, wait_for};

/// Sends a recorded request.
fn replay(server: &Server, name: &str) -> Answer {
    server.send(&fixture(&format!("intake/{name}")), false)
}

/// The processed crash for a request that must be accepted and walked.
fn walked(server: &Server, answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let id = answer.crash_id();
    assert_eq!(server.wait_processed(&id), "processed");
    let crash = server.processed(&id);
    assert_eq!(
        crash["mdsw_status_string"], "OK",
        "{}",
        crash["processor_notes"]
    );
    crash
}

fn notes(crash: &Value) -> String {
    format!("{} {}", crash["processor_notes"], crash["collector_notes"])
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(bytes).expect("memory");
    packer.finish().expect("memory")
}

fn small_dump() -> Vec<u8> {
    fixture("dumps/linux-x86_64-crash.dmp")
}

/// The bytes of a part, as downloaded from the server.
fn part(server: &Server, crash: &Value, name: &str) -> Vec<u8> {
    let id = crash["crash_id"].as_str().expect("an id");
    let path = format!("/api/RawCrash/?crash_id={id}&format=raw&name={name}");
    server.get(&path).body
}

#[test]
fn a_multipart_body_as_the_dump_is_walked_and_its_annotations_count() {
    let server = Server::start();
    let crash = walked(
        &server,
        &replay(&server, "b03-nested-multipart-as-dump.http"),
    );
    assert_eq!(
        (&crash["product"], &crash["version"]),
        (&"NestedApp".into(), &"3.2.1".into())
    );
    assert_eq!(crash["process_type"], "renderer");
    assert!(notes(&crash).contains("is a multipart body"));
    let kept = part(&server, &crash, "upload_file_minidump");
    assert!(kept.starts_with(b"--"), "kept as it came");
    let sent = fixture("intake/b03-nested-multipart-as-dump.http");
    assert!(memchr::memmem::find(&sent, &kept).is_some());

    let packed = gzip(&kept);
    let answer = server.submit(&[], &[("upload_file_minidump", "x.dmp.gz", &packed)]);
    let crash = walked(&server, &answer);
    assert_eq!(crash["product"], "NestedApp");
    assert_eq!(part(&server, &crash, "upload_file_minidump"), packed);
}

#[test]
fn a_packed_dump_is_walked_and_kept_as_it_came() {
    let server = Server::start();
    let crash = walked(&server, &replay(&server, "b04-gzip-dump-in-part.http"));
    assert!(notes(&crash).contains("was compressed"));
    assert!(part(&server, &crash, "upload_file_minidump").starts_with(b"\x1f\x8b"));
    let (xz, bzip2, zstd) = (
        include_bytes!("../fixtures/intake/crash.dmp.xz"),
        include_bytes!("../fixtures/intake/crash.dmp.bz2"),
        include_bytes!("../fixtures/intake/crash.dmp.zst"),
    );
    let zip = include_bytes!("../fixtures/intake/crash.dmp.zip");
    for (name, bytes) in [
        ("x.dmp.xz", &xz[..]),
        ("x.dmp.bz2", bzip2),
        ("x.dmp.zst", zstd),
        ("x.dmp.zip", zip),
    ] {
        for part_name in ["upload_file_minidump", "crash"] {
            let answer = server.submit(&[("ProductName", "P")], &[(part_name, name, bytes)]);
            let crash = walked(&server, &answer);
            assert_eq!(part(&server, &crash, part_name), bytes, "{name}");
        }
    }
}

#[test]
fn a_packed_dump_that_grows_without_bound_costs_its_own_report_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("a.toml");
    std::fs::write(&config, "[http]\ninflated_bytes_max = \"16 MiB\"\n").expect("written");
    let config = config.to_str().expect("a path").to_owned();
    let server = Server::start_in(&folder.path().join("data"), &["--config", &config]);
    let mut bomb = gzip(&vec![0; 64 << 20]);
    bomb = gzip(&bomb);
    let answer = server.submit(
        &[("ProductName", "P")],
        &[("upload_file_minidump", "x.dmp", &bomb)],
    );
    let id = answer.crash_id();
    assert_eq!(server.wait_processed(&id), "processed");
    let crash = server.processed(&id);
    assert_eq!(crash["mdsw_status_string"], "BadPacking");
    assert!(
        notes(&crash).contains("times its compressed size when decompressed"),
        "{}",
        notes(&crash)
    );
    assert_eq!(part(&server, &crash, "upload_file_minidump"), bomb);
}

#[test]
fn a_dump_alone_is_a_report() {
    let server = Server::start();
    let crash = walked(&server, &replay(&server, "b05-raw-dump-body.http"));
    assert_eq!(
        (&crash["product"], &crash["version"]),
        (&"App".into(), &"1".into())
    );
    let dump = small_dump();
    let packed = gzip(&dump);
    for (kind, encoding, body, kept) in [
        ("application/octet-stream", None, &dump, &dump),
        ("application/octet-stream", Some("gzip"), &packed, &dump),
        ("application/octet-stream", None, &packed, &packed),
        ("application/x-dmp; x=y", Some("gzip"), &packed, &dump),
        ("application/gzip", None, &packed, &packed),
    ] {
        let mut headers = vec![("Content-Type", kind)];
        headers.extend(encoding.map(|encoding| ("Content-Encoding", encoding)));
        let answer = server.request("POST", "/submit?prod=App&ver=2", &headers, body);
        let crash = walked(&server, &answer);
        assert_eq!(
            (&crash["product"], &crash["version"]),
            (&"App".into(), &"2".into())
        );
        assert_eq!(
            &part(&server, &crash, "upload_file_minidump"),
            kept,
            "{kind} {encoding:?}"
        );
    }
    let other = server.request("POST", "/submit", &[("Content-Type", "text/plain")], &dump);
    assert!(
        other
            .text()
            .starts_with("Discarded=malformed_wrong_content_type\n")
    );
}

#[test]
fn a_report_without_a_body_says_so_as_antenna_does() {
    let server = Server::start();
    for kind in [
        "multipart/form-data; boundary=b",
        "application/octet-stream",
    ] {
        let answer = server.request("POST", "/submit", &[("Content-Type", kind)], b"");
        assert_eq!(answer.status, 400);
        assert!(
            answer
                .text()
                .starts_with("Discarded=malformed_no_content_length\n")
        );
        let chunked = format!(
            "POST /submit HTTP/1.1\r\nHost: h\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        );
        assert_eq!(server.send(chunked.as_bytes(), false).status, 400);
    }
}

#[test]
fn a_dump_without_a_file_name_is_a_dump() {
    let server = Server::start();
    walked(&server, &replay(&server, "b07-dump-without-filename.http"));
    let packed = gzip(&small_dump());
    let head = b"--b\r\nContent-Disposition: form-data; name=\"minidump\"\r\nContent-Type: application/gzip\r\n\r\n";
    let body = [&head[..], &packed, b"\r\n--b--\r\n"].concat();
    let kind = [("Content-Type", "multipart/form-data; boundary=b")];
    walked(&server, &server.request("POST", "/submit", &kind, &body));
}

#[test]
fn a_value_in_pieces_is_one_annotation() {
    let server = Server::start();
    let long: String = "ä".repeat(300);
    // Breakpad splits between bytes and not between characters.
    let (first, rest) = long.as_bytes().split_at(255);
    let (second, third) = rest.split_at(255);
    let mut body = Vec::new();
    for (key, value) in [
        ("long__2", second),
        ("long__1", first),
        ("long__3", third),
        ("alone__1", b"a"),
        ("gap__1", b"g1"),
        ("gap__3", b"g3"),
        ("taken", b"t"),
        ("taken__1", b"t1"),
        ("taken__2", b"t2"),
        ("not__01", b"n"),
    ] {
        let head = format!("--b\r\nContent-Disposition: form-data; name=\"{key}\"\r\n\r\n");
        body.extend([head.as_bytes(), value, b"\r\n"].concat());
    }
    body.extend_from_slice(b"--b--\r\n");
    let kind = [("Content-Type", "multipart/form-data; boundary=b")];
    let id = server.request("POST", "/submit", &kind, &body).crash_id();
    let raw = server.get(&format!("/api/RawCrash/?crash_id={id}")).json();
    assert_eq!(raw["long"], long);
    assert!(raw.get("long__1").is_none());
    for (key, value) in [
        ("alone__1", "a"),
        ("gap__1", "g1"),
        ("gap__3", "g3"),
        ("taken", "t"),
        ("taken__1", "t1"),
        ("taken__2", "t2"),
        ("not__01", "n"),
    ] {
        assert_eq!(raw[key], value, "{key}");
    }
}

#[test]
fn a_comma_or_single_quotes_in_the_content_type_are_read() {
    let server = Server::start();
    let dump = small_dump();
    for (kind, boundary) in [
        ("multipart/form-data, boundary=b", "b"),
        ("multipart/form-data; boundary='b'", "b"),
        ("multipart/form-data; boundary='b'", "'b'"),
    ] {
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"upload_file_minidump\"; filename=\"x\"\r\n\r\n"
        );
        let end = format!("\r\n--{boundary}--\r\n");
        let body = [head.as_bytes(), &dump, end.as_bytes()].concat();
        let answer = server.request("POST", "/submit", &[("Content-Type", kind)], &body);
        walked(&server, &answer);
    }
}

#[test]
fn an_event_of_sentrys_native_client_names_the_crash() {
    let server = Server::start();
    let crash = walked(&server, &replay(&server, "b06-sentry-event-only.http"));
    for (key, value) in [
        ("product", "my-game"),
        ("version", "4.5.6+789"),
        ("environment", "staging"),
        ("sentry_event_id", "5f0c1a2b3c4d5e6f708192a3b4c5d6e7"),
        ("sentry_tags", "gpu=RTX 4090;map=de_dust"),
    ] {
        assert_eq!(crash[key], value, "{key}");
    }
    assert!(
        crash["sentry_user"]
            .to_string()
            .contains("player@example.com")
    );
    crate::server::wait_for("the search to find it", || {
        let tag =
            "/api/SuperSearch/?environment=staging&sentry_tags=~gpu&annotation.tag.map=~de_dust";
        (server.get(tag).json()["total"] == 1).then_some(())
    });
}

/// An envelope with these items: head without its length, and content.
fn envelope(items: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = b"{\"event_id\":\"5f0c1a2b3c4d5e6f708192a3b4c5d6e7\"}\n".to_vec();
    for (head, content) in items {
        let head = head.replacen('{', &format!("{{\"length\":{},", content.len()), 1);
        body.extend([head.as_bytes(), b"\n", content, b"\n"].concat());
    }
    body
}

#[test]
fn sentrys_endpoints_take_reports_and_answer_as_relay_does() {
    let server = Server::start();
    let dump = small_dump();
    let body = [
        &b"--b\r\nContent-Disposition: form-data; name=\"sentry[release]\"\r\n\r\ng@1\r\n--b\r\nContent-Disposition: form-data; name=\"upload_file_minidump\"; filename=\"x\"\r\n\r\n"[..],
        &dump,
        b"\r\n--b--\r\n",
    ]
    .concat();
    let headers = [
        ("Content-Type", "multipart/form-data; boundary=b"),
        ("X-Sentry-Auth", "Sentry sentry_key=abc, sentry_version=7"),
    ];
    let answer = server.request("POST", "/api/42/minidump/?sentry_key=abc", &headers, &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let id = answer.text();
    assert_eq!(id.len(), 36, "the id alone, as a UUID: {id}");
    assert_eq!(server.wait_processed(&id), "processed");
    let crash = server.processed(&id);
    assert_eq!(
        (&crash["product"], &crash["version"]),
        (&"g".into(), &"1".into())
    );

    let body = envelope(&[
        (
            r#"{"type":"event"}"#,
            br#"{"release":"g@2","user":{"id":"u"},"tags":{"a":"b"},"breadcrumbs":[{"message":"m"}]}"#,
        ),
        (
            r#"{"type":"attachment","filename":"x.dmp","attachment_type":"event.minidump"}"#,
            &dump,
        ),
        (r#"{"type":"attachment","filename":"log.txt"}"#, b"a log"),
        (r#"{"type":"session"}"#, b"{}"),
        (r#"{"type":"transaction"}"#, b"{}"),
    ]);
    for (path, encoding, body) in [
        ("/api/42/envelope/", "identity", body.clone()),
        ("/api/42/envelope", "gzip", gzip(&body)),
    ] {
        let headers = [("Content-Encoding", encoding)];
        let answer = server.request("POST", path, &headers, &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let id = answer.json()["id"].as_str().expect("an id").to_owned();
        assert_eq!(id.len(), 32, "as Relay writes it");
        assert_eq!(server.wait_processed(&id), "processed");
        let crash = server.processed(&id);
        assert_eq!(crash["mdsw_status_string"], "OK");
        assert_eq!(
            (&crash["product"], &crash["version"]),
            (&"g".into(), &"2".into())
        );
        assert_eq!(crash["sentry_tags"], "a=b");
        assert!(crash["breadcrumbs"].to_string().contains('m'));
        assert_eq!(part(&server, &crash, "log.txt"), b"a log");
    }
    assert_eq!(
        server.metric("crashkeep_sentry_items_total{type=\"session\"}"),
        2
    );
    assert_eq!(
        server.metric("crashkeep_sentry_items_total{type=\"transaction\"}"),
        2
    );
}

#[test]
fn an_envelope_without_a_crash_is_acknowledged_counted_and_not_stored() {
    let server = Server::start();
    let body = envelope(&[
        (r#"{"type":"session"}"#, b"{}"),
        (r#"{"type":"x<y>"}"#, b"?"),
    ]);
    let answer = server.request("POST", "/api/1/envelope/", &[], &body);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["id"], "5f0c1a2b3c4d5e6f708192a3b4c5d6e7");
    let answer = server.request(
        "POST",
        "/api/1/envelope/",
        &[],
        b"{}\n{\"type\":\"session\"}\n{}\n",
    );
    assert_eq!(answer.json(), serde_json::json!({}));
    assert_eq!(
        server.metric("crashkeep_sentry_items_total{type=\"session\"}"),
        2
    );
    assert_eq!(
        server.metric("crashkeep_sentry_items_total{type=\"other\"}"),
        1
    );
    assert_eq!(server.metric("crashkeep_stored_total"), 0);
    let bad = server.request("POST", "/api/1/envelope/", &[], b"no envelope");
    assert_eq!(bad.status, 400);
    assert_eq!(bad.json()["causes"][0], "malformed_invalid_envelope");
}

#[test]
fn raw_characters_in_a_target_are_served() {
    let server = Server::start();
    let request = fixture("intake/b08-raw-gt-in-query.http");
    let answer = server.send(&server.with_key(&request), false);
    assert_eq!(answer.status, 200, "{}", answer.text());
    for target in [
        "/search/?product=<b>|^{}\"`\\",
        "/search/?product=caf\u{e9}",
    ] {
        let bytes =
            format!("GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
        let answer = server.send(&server.with_key(bytes.as_bytes()), false);
        assert_eq!(answer.status, 200, "{target}: {}", answer.text());
    }
}

#[test]
fn every_request_of_a_connection_has_its_head_read() {
    use std::io::Read;
    let server = Server::start();
    let body = "--b\r\nContent-Disposition: form-data; name=\"ProductName\"\r\n\r\nA\r\n--b--\r\n";
    let form = "Host: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=b";
    let mut requests = format!(
        "POST /submit HTTP/1.1\r\n{form}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    requests += &format!(
        "POST /submit HTTP/1.1\r\n{form}\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    requests += "GET /__lbheartbeat__?a=>2026-01-01 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    requests += "GET /__lbheartbeat__ HTTP/1.1\r\nHost: 127.0.0.1\r\nX : y\r\n\r\nGET /__lbheartbeat__ HTTP/1.1\r\n\r\n";
    let mut stream = std::net::TcpStream::connect(&server.address).expect("a connection");
    stream
        .set_read_timeout(Some(crate::server::PATIENCE))
        .expect("set");
    stream.write_all(requests.as_bytes()).expect("sent");
    let mut answers = String::new();
    stream
        .read_to_string(&mut answers)
        .expect("the server closes after a refusal");
    let statuses: Vec<&str> = answers
        .split("HTTP/1.1 ")
        .skip(1)
        .map(|answer| &answer[..3])
        .collect();
    assert_eq!(statuses, ["200", "200", "200", "400"], "{answers}");
    assert!(
        answers.ends_with("without a space before the colon\n"),
        "{answers}"
    );
}

#[test]
fn ambiguous_framing_is_refused_with_a_text_and_the_connection_closed() {
    let server = Server::start();
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Content-Length: 5\r\nContent-Length: 6",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding : chunked",
        "X: a\r\n Content-Length: 5",
        "X: a\nContent-Length: 5",
    ] {
        let bytes = format!("POST /submit HTTP/1.1\r\nHost: h\r\n{lines}\r\n\r\n0\r\n\r\n");
        let answer = server.send(bytes.as_bytes(), false);
        assert_eq!(answer.status, 400, "{lines}");
        assert!(!answer.body.is_empty(), "{lines}");
        assert_eq!(answer.header("connection"), Some("close"), "{lines}");
    }
    // An ambiguity in the chunks themselves ends the body.
    let chunks = "POST /submit HTTP/1.1\r\nHost: h\r\nContent-Type: multipart/form-data; boundary=b\r\nTransfer-Encoding: chunked\r\n\r\n5\nabc";
    let answer = server.send(chunks.as_bytes(), false);
    assert!(
        answer
            .text()
            .starts_with("Discarded=malformed_incomplete_body"),
        "{}",
        answer.text()
    );
}

#[test]
fn a_crash_time_in_milliseconds_is_one_in_seconds_with_a_note() {
    let server = Server::start();
    let crash = walked(&server, &replay(&server, "b09-crashtime-in-ms.http"));
    assert_eq!(crash["crash_time"], 1_795_970_657);
    assert_eq!(crash["uptime"], 200);
    assert!(
        crash["client_crash_date"]
            .as_str()
            .expect("a date")
            .starts_with("2026-11-29")
    );
    assert!(
        notes(&crash).contains("CrashTime is in milliseconds"),
        "{}",
        notes(&crash)
    );
}

#[test]
fn an_empty_target_or_a_space_in_it_is_refused_with_a_text() {
    let server = Server::start();
    for line in ["GET  HTTP/1.1", "GET /a b HTTP/1.1", "GET / HTTP/2.0"] {
        let answer = server.send(format!("{line}\r\nHost: h\r\n\r\n").as_bytes(), false);
        assert!(matches!(answer.status, 400 | 505), "{line}");
        assert!(!answer.body.is_empty());
    }
}

#[test]
fn a_module_without_its_debug_record_is_found_by_the_programs_id() {
    let server = Server::start();
    let dump = fixture("intake/b10-windows-x86-crash-no-cv.dmp");
    let answer = server.submit(
        &[("ProductName", "P")],
        &[("upload_file_minidump", "x.dmp", &dump)],
    );
    // Also for a crash that arrived before its symbols.
    let early = walked(&server, &answer);
    let early = early["crash_id"].as_str().expect("an id").to_owned();
    let missing = server.get("/api/MissingSymbols/").text();
    assert!(missing.contains("crash.exe"), "{missing}");
    for name in ["crash.pdb", "crash.exe"] {
        let bytes = fixture(&format!("native/windows-x86-{name}"));
        let answer = server.request("PUT", &format!("/upload/{name}"), &[], &bytes);
        assert!(matches!(answer.status, 200 | 201), "{}", answer.text());
    }
    let answer = server.submit(
        &[("ProductName", "Later")],
        &[("upload_file_minidump", "x.dmp", &dump)],
    );
    let crash = walked(&server, &answer);
    let frame = &crash["json_dump"]["crashing_thread"]["frames"][0];
    assert!(frame["function"].is_string(), "{frame}");
    assert!(
        !crash["signature"].to_string().contains("crash.exe@"),
        "{}",
        crash["signature"]
    );
    wait_for("the early crash to have its names", || {
        let has_names = server.processed(&early)["signature"] == crash["signature"];
        has_names.then_some(())
    });
}

/// Unreal's crash file with these files, compressed.
fn unreal_crash(files: &[(&str, &[u8])]) -> Vec<u8> {
    let text = |text: &str| {
        let mut bytes = 260u32.to_le_bytes().to_vec();
        bytes.extend_from_slice(text.as_bytes());
        bytes.resize(264, 0);
        bytes
    };
    let mut bytes = [b"CR1".to_vec(), text("UECC-1"), text("UECC-1.uecrash")].concat();
    bytes.extend([0; 4]);
    bytes.extend((files.len() as u32).to_le_bytes());
    for (index, (name, content)) in files.iter().enumerate() {
        bytes.extend((index as u32).to_le_bytes());
        bytes.extend(text(name));
        bytes.extend((content.len() as u32).to_le_bytes());
        bytes.extend_from_slice(content);
    }
    let mut packer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(&bytes).expect("memory");
    packer.finish().expect("memory")
}

const CONTEXT: &[u8] = b"<FGenericCrashContext><RuntimeProperties><GameName>UE-Game</GameName>\
    <BuildVersion>1.2</BuildVersion></RuntimeProperties></FGenericCrashContext>";

#[test]
fn unreals_crash_file_is_a_report() {
    let server = Server::start();
    let dump = small_dump();
    let body = unreal_crash(&[
        ("CrashContext.runtime-xml", CONTEXT),
        ("UEMinidump.dmp", &dump),
        ("Game.log", b"a log"),
    ]);
    let path = "/api/7/unreal/0123456789abcdef/?AppID=CrashReporter&UserID=x";
    let answer = server.request(
        "POST",
        path,
        &[("Content-Type", "application/octet-stream")],
        &body,
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    let id = answer.text();
    assert_eq!(server.wait_processed(&id), "processed");
    let crash = server.processed(&id);
    assert_eq!(crash["mdsw_status_string"], "OK");
    assert_eq!(
        (&crash["product"], &crash["version"]),
        (&"Game".into(), &"1.2".into())
    );
    assert_eq!(part(&server, &crash, "Game.log"), b"a log");

    // If Unreal could not write a dump, the file contains four bytes instead.
    let body = unreal_crash(&[
        ("CrashContext.runtime-xml", CONTEXT),
        ("UEMinidump.dmp", b"\0\0\0\0"),
        ("Game.log", b"a log"),
    ]);
    let id = server.request("POST", path, &[], &body).text();
    assert_eq!(server.wait_processed(&id), "processed");
    let crash = server.processed(&id);
    assert_eq!(crash["product"], "Game");
    assert!(
        notes(&crash).contains("has no minidump"),
        "{}",
        notes(&crash)
    );

    for body in [
        &b"no zlib"[..],
        &body[..body.len() - 10],
        &unreal_crash(&[])[..9],
    ] {
        let bad = server.request("POST", path, &[], body);
        assert_eq!(bad.status, 400, "{}", bad.text());
        assert!(bad.json()["detail"].is_string());
    }
    let bomb = {
        let mut packer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        packer.write_all(&vec![0; 64 << 20]).expect("memory");
        packer.finish().expect("memory")
    };
    assert!(matches!(
        server.request("POST", path, &[], &bomb).status,
        400 | 413
    ));
}

#[test]
fn further_paths_take_reports() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("a.toml");
    std::fs::write(
        &config,
        "[http]\nsubmit_paths = [\"/post\", \"/cr/report\"]\n",
    )
    .expect("written");
    let config = config.to_str().expect("a path").to_owned();
    let server = Server::start_in(&folder.path().join("data"), &["--config", &config]);
    let dump = small_dump();
    for path in ["/post", "/cr/report/"] {
        let answer = server.request(
            "POST",
            &format!("{path}?ProductName=P&path={path}"),
            &[("Content-Type", "application/x-dmp")],
            &dump,
        );
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.crash_id();
    }
    assert_eq!(server.get("/post").status, 404);
    std::fs::write(&config, "[http]\nsubmit_paths = [\"/search\"]\n").expect("written");
    let output = std::process::Command::new(crate::server::PROGRAM)
        .args(["config", "check", "--config", &config])
        .output()
        .expect("it runs");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("a.toml:2") && said.contains("already used by /search/"),
        "{said}"
    );
}

#[test]
fn a_report_that_comes_again_is_answered_with_the_same_id() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let mut server = Server::start_in(&data, &[]);
    let dump = small_dump();
    let send = |server: &Server, version: &str, dump: &[u8]| {
        let files: [(&str, &str, &[u8]); 1] = [("upload_file_minidump", "x.dmp", dump)];
        server
            .submit(&[("ProductName", "P"), ("Version", version)], &files)
            .crash_id()
    };
    let first = send(&server, "1", &dump);
    assert_eq!(send(&server, "1", &dump), first);
    assert_ne!(send(&server, "2", &dump), first, "other annotations");
    let other = fixture("dumps/linux-x86_64-null_read_av.dmp");
    assert_ne!(send(&server, "1", &other), first, "another dump");
    let with_log = server.submit(
        &[("ProductName", "P"), ("Version", "1")],
        &[
            ("upload_file_minidump", "x.dmp", &dump),
            ("log", "a.log", b"what no other report has"),
        ],
    );
    assert_ne!(with_log.crash_id(), first, "nothing that was sent is lost");
    assert_eq!(server.metric("crashkeep_stored_total"), 4);
    assert_eq!(
        server.metric("crashkeep_discarded_total{reason=\"repeated\"}"),
        1
    );
    // Without a dump, nothing proves that two reports are about the same crash.
    let bare = |server: &Server| server.submit(&[("ProductName", "P")], &[]).crash_id();
    assert_ne!(bare(&server), bare(&server));
    // A kill loses none of this.
    crate::server::send_signal(server.child.id(), rustix::process::Signal::KILL);
    server.child.wait().expect("its end");
    drop(server);
    let server = Server::start_in(&data, &[]);
    assert_eq!(send(&server, "1", &dump), first);
    assert_eq!(server.metric("crashkeep_stored_total"), 0);
}

#[test]
fn pages_of_named_origins_may_read_symbols_and_no_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("a.toml");
    std::fs::write(
        &config,
        "[http]\ncors_origins = [\"https://profiler.example\"]\n",
    )
    .expect("written");
    let config = config.to_str().expect("a path").to_owned();
    let server = Server::start_in(&folder.path().join("data"), &["--config", &config]);
    let good = [
        ("Origin", "https://profiler.example"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Content-Type", "application/json"),
        ("Access-Control-Request-Method", "POST"),
    ];
    let job = br#"{"memoryMap": [], "stacks": []}"#;
    let answer = server.request("POST", "/symbolicate/v5", &good, job);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("https://profiler.example")
    );
    assert_eq!(
        answer.header("cross-origin-resource-policy"),
        Some("cross-origin")
    );
    let asked = server.request("OPTIONS", "/symbolicate/v5", &good, b"");
    assert_eq!(asked.status, 200);
    let headers = asked
        .header("access-control-allow-headers")
        .unwrap_or_default();
    assert!(
        headers.contains("auth-token") && headers.contains("content-type"),
        "{headers}"
    );
    let id = "3249D99D0C4049318610F4E4FB0B69361";
    for path in [
        format!("/symbols/a.pdb/{id}/a.sym"),
        format!("/a.pdb/{id}/a.sym"),
    ] {
        let answer = server.request("GET", &path, &good[..2], b"");
        assert_eq!(answer.status, 404);
        assert_eq!(
            answer.header("access-control-allow-origin"),
            Some("https://profiler.example")
        );
    }
    let evil = [
        ("Origin", "https://evil.example"),
        ("Content-Type", "application/json"),
        ("Access-Control-Request-Method", "POST"),
    ];
    for (method, path, headers) in [
        ("POST", "/symbolicate/v5", &evil[..]),
        ("OPTIONS", "/symbolicate/v5", &evil[..]),
        ("GET", "/api/SuperSearch/", &good[..2]),
        ("OPTIONS", "/api/Reprocessing/", &good[..]),
        ("POST", "/api/Reprocessing/", &good[..]),
    ] {
        let answer = server.request(method, path, headers, b"");
        assert_eq!(
            answer.header("access-control-allow-origin"),
            None,
            "{method} {path}"
        );
        assert!(method == "GET" || answer.status >= 400, "{method} {path}");
    }
}

#[test]
fn a_zip_with_as_many_entries_as_allowed_is_taken() {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    let mut file = |name: &str, bytes: &[u8]| {
        writer.start_file(name, options).expect("memory");
        writer.write_all(bytes).expect("memory");
    };
    // Other files beside the symbols count as entries and are not read.
    for n in 1..10_000 {
        file(&format!("{n}-symbols.txt"), b"x");
    }
    file(
        "f.so/ABCDEF0123456789ABCDEF01234567890/f.so.sym",
        b"MODULE Linux x86_64 ABCDEF0123456789ABCDEF01234567890 f.so\nFUNC 1000 10 0 f\n1000 10 1 1\n",
    );
    let zip = writer.finish().expect("memory").into_inner();
    let server = Server::start();
    let answer = server.request("PUT", "/upload/a.zip", &[], &zip);
    assert_eq!(answer.status, 201, "{}", answer.text());
}

#[test]
fn an_upload_without_a_valid_token_is_refused_as_tecken_refuses_it() {
    let server = Server::start();
    // The body is larger than a socket buffer. The client must still see the answer.
    let zip = [&b"PK\x03\x04"[..], &vec![0; 900_000]].concat();
    for token in ["", "nonsense", "0123456789abcdef0123456789abcdef"] {
        let headers = [("Auth-Token", token), ("Host", "crashes.example")];
        let answer = server.request("POST", "/upload/", &headers, &zip);
        assert_eq!(answer.status, 403, "{token:?}: {}", answer.text());
        assert!(answer.json()["error"].is_string());
    }
}
