//! The collector: requests of real and broken clients, byte for byte, and the answers.

use crate::server::{Server, fixture, fixture_names, submission, wait_for};

/// A captured request, with the product and version that the client sent.
const CLIENTS: [(&str, Option<&str>, Option<&str>); 17] = [
    ("antenna-mini_poster-json-gzip.http", Some("Firefox"), None),
    ("antenna-mini_poster.http", Some("Firefox"), None),
    (
        "breakpad-minidump_upload.http",
        Some("MyApp"),
        Some("1.2.3"),
    ),
    ("chromium-crashpad-annotations-attachment.http", None, None),
    ("chromium-crashpad-browser.http", Some("Chrome_Linux"), None),
    ("chromium-crashpad-plain.http", None, None),
    (
        "chromium-crashpad-renderer.http",
        Some("Chrome_Linux"),
        None,
    ),
    ("crashpad-socket-gzip.http", None, None),
    ("crashpad-socket-plain.http", None, None),
    ("curl-chunked-expect.http", None, None),
    ("curl-form.http", None, None),
    ("firefox-crashreporter-curl-fallback.http", None, None),
    ("firefox-crashreporter-real.http", Some("Firefox"), None),
    ("firefox-crashreporter-small.http", None, None),
    ("node-fetch.http", None, None),
    ("python-requests-gzip.http", None, None),
    ("sentry-crashpad-annotations-attachment.http", None, None),
];

#[test]
fn every_captured_client_gets_a_crash_id_and_its_dump_is_walked() {
    let server = Server::start();
    for (name, product, version) in CLIENTS {
        let answer = server.send(&fixture(&format!("requests/{name}")), false);
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        assert_eq!(
            answer.header("content-length"),
            Some(answer.body.len().to_string().as_str()),
            "{name}"
        );
        assert!(
            answer.head.contains("\r\nContent-Length: "),
            "Crashpad matches it by case: {}",
            answer.head
        );
        let id = answer.crash_id();
        assert_eq!(server.wait_processed(&id), "processed", "{name}");
        let crash = server.processed(&id);
        assert_eq!(
            crash["mdsw_status_string"], "OK",
            "{name}: {}",
            crash["processor_notes"]
        );
        for (key, expected) in [("product", product), ("version", version)] {
            if let Some(expected) = expected {
                assert_eq!(crash[key], expected, "{name}: {key}");
            }
        }
        let page = server.get(&format!("/report/index/{id}"));
        assert_eq!(page.status, 200, "{name}");
    }
    let received = server.metric("crashkeep_received_total");
    // Two of the captures contain the report of another capture in another form.
    let repeated = server.metric("crashkeep_discarded_total{reason=\"repeated\"}");
    let stored = server.metric("crashkeep_stored_total");
    assert_eq!((received, stored, repeated), (17, 15, 2));
}

#[test]
fn every_capture_that_is_a_crash_upload_is_in_the_table() {
    let known: Vec<&str> = CLIENTS
        .iter()
        .map(|(name, ..)| *name)
        .chain(["python-raw-body.http"])
        .collect();
    let uploads = fixture_names("requests");
    let uploads = uploads
        .iter()
        .filter(|n| !n.contains("sym_upload") && !n.contains("sentry-cli"));
    for name in uploads {
        assert!(known.contains(&name.as_str()), "{name} is not tested");
    }
}

#[test]
fn stock_crashpads_http_1_0_request_is_answered_and_its_connection_closed() {
    let server = Server::start();
    for name in ["crashpad-socket-gzip.http", "crashpad-socket-plain.http"] {
        let answer = server.send(&fixture(&format!("requests/{name}")), false);
        assert!(
            answer.head.starts_with("HTTP/1.1 200 OK\r\n"),
            "{}",
            answer.head
        );
        assert_eq!(answer.header("connection"), Some("close"));
        assert_eq!(answer.header("transfer-encoding"), None);
    }
}

#[test]
fn broken_requests_get_a_clear_answer_and_store_nothing() {
    let server = Server::start();
    let cases = [
        ("no_boundary_param", 400, Some("no_boundary")),
        ("no_final_boundary", 400, Some("invalid_payload_structure")),
        ("truncated_body", 400, Some("incomplete_body")),
        ("gzip_truncated", 400, Some("bad_gzip")),
        ("gzip_declared_not_gzip", 400, Some("bad_gzip")),
        ("gzip_expands_64mib", 413, Some("inflated_too_large")),
        ("unknown_encoding", 415, Some("unknown_encoding")),
        ("chunk_size_bad", 400, None),
        ("10000_fields", 413, Some("too_many_annotations")),
    ];
    for (name, status, code) in cases {
        let answer = server.send(&fixture(&format!("broken/requests/{name}.http")), true);
        assert_eq!(answer.status, status, "{name}: {}", answer.text());
        if let Some(code) = code {
            let text = answer.text();
            assert_eq!(
                text.lines().next(),
                Some(format!("Discarded=malformed_{code}").as_str()),
                "{name}"
            );
            assert!(text.lines().count() > 1, "{name}: the reason in words");
        }
    }
    let text = server.request(
        "POST",
        "/submit",
        &[("Content-Type", "text/plain")],
        b"text",
    );
    assert_eq!(text.status, 400);
    assert!(
        text.text()
            .starts_with("Discarded=malformed_wrong_content_type\n")
    );

    let received = server.metric("crashkeep_received_total");
    let discarded: u64 = server
        .get("/metrics")
        .text()
        .lines()
        .filter(|line| line.starts_with("crashkeep_discarded_total{"))
        .map(|line| {
            line.rsplit(' ')
                .next()
                .expect("a value")
                .parse::<u64>()
                .expect("a number")
        })
        .sum();
    assert_eq!(
        (received, discarded, server.metric("crashkeep_stored_total")),
        (10, 10, 0)
    );
}

#[test]
fn odd_but_readable_requests_are_kept_with_a_note() {
    let server = Server::start();
    let post = |name: &str| {
        let answer = server.send(&fixture(&format!("broken/requests/{name}.http")), true);
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        let id = answer.crash_id();
        assert_eq!(server.wait_processed(&id), "processed", "{name}");
        id
    };
    let notes = |id: &str| {
        let processed = server.processed(id);
        format!(
            "{} {}",
            processed["processor_notes"], processed["collector_notes"]
        )
    };

    assert!(notes(&post("no_minidump_part")).contains("no minidump"));
    assert!(notes(&post("empty_minidump_part")).contains("upload_file_minidump is empty"));
    assert!(notes(&post("gzip_undeclared")).contains("gzip, but there is no Content-Encoding"));
    post("no_prod_ver");

    let two = post("two_minidumps");
    let raw = server.get(&format!("/api/RawCrash/?crash_id={two}")).json();
    let mut names: Vec<&String> = raw["metadata"]["dump_checksums"]
        .as_object()
        .expect("sums")
        .keys()
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "upload_file_minidump",
            "upload_file_minidump_2",
            "upload_file_minidump_browser"
        ]
    );
    assert!(notes(&two).contains("stored as upload_file_minidump_2"));

    let evil = post("evil_names");
    let page = server.get(&format!("/report/index/{evil}")).text();
    assert!(!page.contains("<script"), "markup of a client is escaped");
    assert!(!std::path::Path::new("/etc/passwd.dmp").exists());
}

#[test]
fn annotations_and_files_come_back_exactly_as_they_were_sent() {
    let server = Server::start();
    let dump = fixture("dumps/windows-x86-test_app.dmp");
    let binary: Vec<u8> = (0..=255).cycle().take(3_000_000).collect();
    let answer = server.submit(
        &[
            ("ProductName", "Büro"),
            ("Unheard-Of", "a\r\nb"),
            ("Version", "7"),
        ],
        &[
            ("upload_file_minidump", "../../x.dmp", &dump),
            ("app.log", "app.log", b"line one\nline two\n"),
            ("core", "C:\\temp\\core.bin", &binary),
        ],
    );
    let id = answer.crash_id();
    let raw = server.get(&format!("/api/RawCrash/?crash_id={id}")).json();
    assert_eq!(raw["ProductName"], "Büro");
    assert_eq!(raw["Unheard-Of"], "a\r\nb");
    let part = |name: &str| {
        server.get(&format!(
            "/api/RawCrash/?crash_id={id}&format=raw&name={name}"
        ))
    };
    assert_eq!(part("upload_file_minidump").body, dump);
    assert_eq!(part("app.log").body, b"line one\nline two\n");
    assert_eq!(part("core").body, binary);
    let dump = part("upload_file_minidump");
    assert_eq!(
        dump.header("content-type"),
        Some("application/octet-stream")
    );
    assert_eq!(
        dump.header("content-disposition"),
        Some(format!("attachment; filename=\"{id}.dmp\"").as_str())
    );
    assert_eq!(part("none").status, 404);
    let page = server.get(&format!("/report/index/{id}")).text();
    for text in ["Unheard-Of", "app.log", "Büro"] {
        assert!(page.contains(text), "the page shows {text}");
    }
}

#[test]
fn a_text_that_fits_no_annotation_is_kept_as_an_attachment() {
    let server = Server::start();
    let long = "x".repeat(2 * 1024 * 1024);
    let id = server
        .submit(&[("ProductName", "A"), ("Log", &long)], &[])
        .crash_id();
    let kept = server.get(&format!("/api/RawCrash/?crash_id={id}&format=raw&name=Log"));
    assert_eq!(kept.body.len(), long.len());
}

#[test]
fn bounds_are_those_of_the_configuration_and_named_in_the_answer() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("small.toml");
    let text = "[http]\nreport_bytes_max = \"64 KiB\"\npublic_url = \"https://crashes.example.org/\"\n\
                [[throttle]]\nname = \"no_toys\"\nfield = \"ProductName\"\nop = \"is\"\nvalue = \"Toy\"\noutcome = \"reject\"\n\
                [[throttle]]\nname = \"later\"\nfield = \"ProductName\"\nop = \"is\"\nvalue = \"Later\"\noutcome = \"defer\"\n\
                [[throttle]]\nname = \"pretend\"\nfield = \"ProductName\"\nop = \"is\"\nvalue = \"Fake\"\noutcome = \"fake-accept\"\n";
    std::fs::write(&config, text).expect("a configuration");
    let config = config.to_str().expect("a plain path");
    let server = Server::start_in(&folder.path().join("data"), &["--config", config]);

    let large = vec![7; 100_000];
    let answer = server.submit(&[("ProductName", "A")], &[("f", "f", &large)]);
    assert_eq!(answer.status, 413);
    assert!(
        answer
            .text()
            .starts_with("Discarded=malformed_report_too_large\n")
    );
    assert!(
        answer
            .text()
            .contains("http.report_bytes_max (65536 bytes)"),
        "{}",
        answer.text()
    );

    let small = server.submit(&[("ProductName", "A")], &[]);
    let id = small.crash_id();
    assert!(small.text().ends_with(&format!(
        "ViewURL=https://crashes.example.org/report/index/{id}\n"
    )));

    assert_eq!(
        server.submit(&[("ProductName", "Toy")], &[]).text(),
        "Discarded=rule_no_toys\n"
    );
    let fake = server.submit(&[("ProductName", "Fake")], &[]).crash_id();
    assert_eq!(
        server
            .get(&format!("/api/CrashState/?crash_id={fake}"))
            .status,
        404
    );

    let later = server.submit(&[("ProductName", "Later")], &[]).crash_id();
    assert_eq!(
        &later[29..30],
        "1",
        "the throttle digit of a deferred crash"
    );
    assert_eq!(server.state(&later)["state"], "deferred");
    let page = format!("/report/index/{later}");
    let opened = server.get(&page).text();
    assert!(
        opened.contains("deferred by") && opened.contains("later"),
        "the page says why"
    );
    assert_eq!(
        server.state(&later)["state"],
        "deferred",
        "looking changes nothing"
    );
    let found = |search: &str| {
        let path = format!("/api/SuperSearch/?product=Later&{search}");
        server.get(&path).json()["total"].as_u64()
    };
    wait_for("the deferred crash in searches", || {
        (found("state=%3Ddeferred") == Some(1)).then_some(())
    });
    assert_eq!(found("throttle_rule=later&state=%3Ddeferred"), Some(1));
    assert_eq!(found(&format!("uuid=%3D{later}")), Some(1));
    assert_eq!(found(""), Some(0), "others leave it out");
    let list = server.get("/search/?state=%3Ddeferred").text();
    assert!(list.contains(&later) && server.get("/status/").text().contains("state=%3Ddeferred"));
    let promoted = server.request("POST", &format!("{page}/reprocess"), &[], b"");
    assert_eq!(promoted.status, 303);
    assert_eq!(server.wait_processed(&later), "processed");
    wait_for("the processed crash in searches", || {
        (found("") == Some(1) && found("state=%3Ddeferred") == Some(0)).then_some(())
    });

    let other = server.submit(&[("ProductName", "Later")], &[]).crash_id();
    let promoted = server.request(
        "POST",
        &format!("/report/index/{other}/reprocess"),
        &[],
        b"",
    );
    assert_eq!(promoted.status, 303);
    assert_eq!(server.wait_processed(&other), "processed");

    let page = server.get("/about/throttling/").text();
    for row in [
        "<td>Toy</td><td><span class=\"muted\">unnamed</span></td><td class=\"num\"><span class=\"faint\">0</span></td><td class=\"num\"><span class=\"faint\">0</span></td><td class=\"num\">1</td>",
        "<code>no_toys</code></td><td><code>ProductName</code> is <code>Toy</code></td><td>reject</td><td class=\"num\">1</td><td class=\"num\">1</td>",
    ] {
        assert!(page.contains(row), "{page}");
    }
}

#[test]
fn a_body_that_never_ends_takes_no_place_of_others() {
    let server = Server::start();
    // A client that stops in the middle of its body blocks only its own connection.
    let bytes = submission(&[("ProductName", "A")], &[("f", "f", &[0; 10_000])]);
    let mut stalled = std::net::TcpStream::connect(&server.address).expect("a connection");
    std::io::Write::write_all(&mut stalled, &bytes[..bytes.len() - 100])
        .expect("most of it is sent");
    assert_eq!(server.submit(&[("ProductName", "B")], &[]).status, 200);
    drop(stalled);
    crate::server::wait_for("the stalled upload to be booked", || {
        let received = server.metric("crashkeep_received_total");
        let booked = server.metric("crashkeep_stored_total")
            + server.metric("crashkeep_discarded_total{reason=\"malformed_incomplete_body\"}")
            + server.metric("crashkeep_failed_total{reason=\"connection_lost\"}");
        (received == 2 && booked == 2).then_some(())
    });
}

/// Posts a body with one JSON part `extra`.
fn post_extra(server: &Server, json: &[u8]) -> crate::server::Answer {
    let head = "--b\r\nContent-Disposition: form-data; name=\"extra\"; filename=\"extra.json\"\r\nContent-Type: application/json\r\n\r\n";
    let body = [head.as_bytes(), json, b"\r\n--b--\r\n"].concat();
    let kind = [("Content-Type", "multipart/form-data; boundary=b")];
    server.request("POST", "/submit", &kind, &body)
}

#[test]
fn odd_values_in_the_json_part_lose_neither_the_report_nor_themselves() {
    let server = Server::start();
    let long = "x".repeat(2 * 1024 * 1024);
    let json = format!(
        "\u{feff}{{\"ProductName\": \"A\", \"n\": 1e400, \"s\": \"\\ud800\", \"o\": {{\"k\": [1]}}, \"n\": 2, \"Log\": \"{long}\"}}"
    );
    let answer = post_extra(&server, json.as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
    let id = answer.crash_id();
    let raw = server.get(&format!("/api/RawCrash/?crash_id={id}")).json();
    for (key, value) in [
        ("ProductName", "A"),
        ("n", "1e400"),
        ("n_2", "2"),
        ("s", "\"\\ud800\""),
        ("o", "{\"k\": [1]}"),
    ] {
        assert_eq!(raw[key], value, "{key}");
    }
    let kept = server.get(&format!("/api/RawCrash/?crash_id={id}&format=raw&name=Log"));
    assert_eq!(kept.body.len(), long.len());

    for (json, code) in [
        ("[1]", "invalid_json_value"),
        ("{\"a\":", "invalid_json"),
        ("", "invalid_json"),
    ] {
        let answer = post_extra(&server, json.as_bytes());
        assert_eq!(
            answer.text().lines().next(),
            Some(format!("Discarded=malformed_{code}").as_str())
        );
    }
    let many = format!("{{{}\"z\":0}}", "\"\":0,".repeat(500_000));
    assert_eq!(post_extra(&server, many.as_bytes()).status, 413);
}

#[test]
fn bytes_behind_a_whole_gzip_body_are_left_out_with_a_note() {
    use std::io::Write;
    let server = Server::start();
    let form = b"--b\r\nContent-Disposition: form-data; name=\"ProductName\"\r\n\r\nA\r\n--b--\r\n";
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(form).expect("memory");
    let body = [&packer.finish().expect("memory")[..], b"\0\0junk"].concat();
    let headers = [
        ("Content-Type", "multipart/form-data; boundary=b"),
        ("Content-Encoding", "gzip"),
    ];
    let answer = server.request("POST", "/submit", &headers, &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let raw = server
        .get(&format!("/api/RawCrash/?crash_id={}", answer.crash_id()))
        .json();
    assert!(
        raw["metadata"]["collector_notes"]
            .to_string()
            .contains("after the end of the report")
    );
}

#[test]
fn a_bare_http_1_0_request_is_answered() {
    let server = Server::start();
    let answer = server.send(b"GET /__lbheartbeat__ HTTP/1.0\r\n\r\n", false);
    assert_eq!(answer.status, 200);
    let two_hosts = b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n";
    assert_eq!(server.send(two_hosts, false).status, 400);
    let proxied = b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(server.send(proxied, false).status, 401);
}
