//! Tests with real client programs, if they are installed.

use std::process::Command;

use crate::server::{Server, fixtures};

/// The path in an environment variable, or `None` with a message. In CI a missing variable is an error.
pub fn installed(variable: &str) -> Option<String> {
    let path = std::env::var(variable).ok();
    if path.is_none() {
        assert!(std::env::var("CI").is_err(), "{variable} must be set in CI");
        eprintln!("skipped: {variable} is not set");
    }
    path
}

#[test]
fn a_real_crashpad_handler_counts_its_upload_as_a_success() {
    let Some(handler) = installed("CRASHKEEP_CRASHPAD_HANDLER") else {
        return;
    };
    let server = Server::start();
    let folder = tempfile::tempdir().expect("a folder");
    let script = fixtures().join("../../.ci/crashpad.py");
    let dump = fixtures().join("dumps/linux-x86_64-chromium_renderer.dmp");
    let output = Command::new("python3")
        .arg(script)
        .args([&handler, &format!("http://{}/submit", server.address)])
        .arg(dump)
        .arg(folder.path().join("database"))
        .output()
        .expect("python3 runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text} {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let id = text
        .trim()
        .strip_prefix("CrashID=bp-")
        .expect("the id that the handler keeps");
    assert_eq!(server.wait_processed(id), "processed");
    let crash = server.processed(id);
    assert_eq!(crash["product"], "Chrome_Linux");
    assert_eq!(crash["process_type"], "renderer");
    assert_eq!(crash["reason"], "SIGSEGV");
}

/// The event in MessagePack that `b06` contains as a file.
fn sentry_event() -> Vec<u8> {
    let request = crate::server::fixture("intake/b06-sentry-event-only.http");
    let head = b"filename=\"__sentry-event\"\r\nContent-Type: application/octet-stream\r\n\r\n";
    let from = memchr::memmem::find(&request, head).expect("the part") + head.len();
    let bytes =
        memchr::memmem::find(&request[from..], b"\r\n------crashBoundary7").expect("its end");
    request[from..from + bytes].to_vec()
}

#[test]
fn a_real_crashpad_handler_of_sentrys_reports_by_its_dsn() {
    let Some(handler) = installed("CRASHKEEP_CRASHPAD_HANDLER") else {
        return;
    };
    let server = Server::start();
    let folder = tempfile::tempdir().expect("a folder");
    let event = folder.path().join("__sentry-event");
    std::fs::write(&event, sentry_event()).expect("a file");
    let url = format!(
        "http://{}/api/42/minidump/?sentry_client=sentry.native/0.14.0&sentry_key=0123456789abcdef0123456789abcdef",
        server.address
    );
    let output = Command::new("python3")
        .arg(fixtures().join("../../.ci/crashpad.py"))
        .args([&handler, &url])
        .arg(fixtures().join("dumps/linux-x86_64-crash.dmp"))
        .arg(folder.path().join("database"))
        .arg(event)
        .output()
        .expect("python3 runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text} {said}");
    let id = text.trim();
    assert_eq!(id.len(), 36, "the id that the handler keeps: {id}");
    assert_eq!(server.wait_processed(id), "processed");
    let crash = server.processed(id);
    assert_eq!(crash["mdsw_status_string"], "OK");
    for (key, value) in [
        ("product", "my-game"),
        ("version", "4.5.6+789"),
        ("environment", "staging"),
    ] {
        assert_eq!(crash[key], value, "{key}");
    }
}

#[test]
fn sentry_cli_sends_an_envelope_and_knows_who_it_is() {
    let Some(program) = installed("CRASHKEEP_SENTRY_CLI") else {
        return;
    };
    let server = Server::start();
    let folder = tempfile::tempdir().expect("a folder");
    let dump = crate::server::fixture("dumps/linux-x86_64-crash.dmp");
    let event = br#"{"event_id":"5f0c1a2b3c4d5e6f708192a3b4c5d6e7","release":"game@1.2","environment":"qa","tags":{"a":"b"}}"#;
    let mut envelope = b"{\"event_id\":\"5f0c1a2b3c4d5e6f708192a3b4c5d6e7\"}\n".to_vec();
    for (head, content) in [
        (r#""type":"event""#, &event[..]),
        (
            r#""type":"attachment","filename":"x.dmp","attachment_type":"event.minidump""#,
            &dump,
        ),
        (r#""type":"session""#, br#"{"sid":"5f0c1a2b-3c4d-5e6f-7081-92a3b4c5d6e7","status":"crashed","started":"2026-11-29T00:00:00Z","attrs":{"release":"game@1.2"}}"#),
    ] {
        let head = format!("{{{head},\"length\":{}}}\n", content.len());
        envelope.extend([head.as_bytes(), content, b"\n"].concat());
    }
    let path = folder.path().join("crash.envelope");
    std::fs::write(&path, envelope).expect("a file");
    let run = |arguments: &[&str]| {
        let output = Command::new(&program)
            .arg("--url")
            .arg(format!("http://{}/", server.address))
            .args(arguments)
            .current_dir(folder.path())
            .env(
                "SENTRY_DSN",
                format!("http://0123456789abcdef@{}/42", server.address),
            )
            .env("SENTRY_AUTH_TOKEN", server.key())
            .env("SENTRY_ORG", "acme")
            .env("SENTRY_PROJECT", "app")
            .env("SENTRY_DISABLE_UPDATE_CHECK", "1")
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}");
        said
    };
    run(&["send-envelope", "--raw", "crash.envelope"]);
    assert_eq!(server.metric("crashkeep_stored_total"), 1);
    assert_eq!(
        server.metric("crashkeep_sentry_items_total{type=\"session\"}"),
        1
    );
    let found = crate::server::wait_for("the search to find it", || {
        let found = server
            .get("/api/SuperSearch/?environment=qa&_columns=version&_columns=sentry_event_id");
        let hits = found.json()["hits"].as_array().cloned().unwrap_or_default();
        hits.first().cloned()
    });
    assert_eq!(found["version"], "1.2");
    assert_eq!(found["sentry_event_id"], "5f0c1a2b3c4d5e6f708192a3b4c5d6e7");
    let said = run(&["info"]);
    assert!(said.contains("Auth Token"), "{said}");
    // A source bundle, as `debug-files upload --include-sources` creates it.
    let bundle = crate::server::fixture("intake/b11-source-bundle.src.zip");
    std::fs::write(folder.path().join("hello.src.zip"), &bundle).expect("a file");
    run(&["debug-files", "upload", "hello.src.zip"]);
    let kept = server
        .data
        .join("symbols/F4B454D931DE2D6FE046810DF4EC5C6D0");
    let names: Vec<String> = std::fs::read_dir(kept)
        .expect("a folder of its debug id")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    assert!(
        names.iter().any(|name| name.ends_with(".sources.zst")),
        "{names:?}"
    );
    assert!(
        names.iter().all(|name| name != "module.json"),
        "it has no symbols: {names:?}"
    );
}

/// Runs an existing Python tool for Socorro. Returns its output.
fn tool(bin: &str, name: &str, token: &str, arguments: &[&str]) -> String {
    let output = Command::new(format!("{bin}/{name}"))
        .args(arguments)
        .env("CRASHSTATS_API_TOKEN", token)
        .env("COLUMNS", "400")
        .output()
        .expect("the tool runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{name} {arguments:?}: {said} {}",
        String::from_utf8_lossy(&output.stderr)
    );
    said
}

#[test]
fn crashstats_tools_search_fetch_and_reprocess() {
    let Some(bin) = installed("CRASHKEEP_PYTHON_CLIENTS") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let crashkeep = |arguments: &[&str]| {
        let output = Command::new(crate::server::PROGRAM)
            .args(arguments)
            .arg("--data")
            .arg(&data)
            .output()
            .expect("the program runs");
        assert!(output.status.success(), "{arguments:?}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    crashkeep(&["user", "add", "ann", "--role", "admin"]);
    let token = crashkeep(&["token", "create", "--user", "ann"]);
    crashkeep(&["user", "add", "bob", "--role", "viewer"]);
    let viewer = crashkeep(&["token", "create", "--user", "bob"]);
    let server = Server::start_in(&data, &[]);
    let host = format!("http://{}", server.address);
    let dump = crate::server::fixture("dumps/linux-x86_64-firefox_esr.dmp");
    let ids: Vec<String> = (0..3)
        .map(|n| {
            let comment = format!("secret {n}");
            let annotations = [
                ("ProductName", "Firefox"),
                ("Version", "140.1"),
                ("Comments", comment.as_str()),
            ];
            let files: &[(&str, &str, &[u8])] = &[("upload_file_minidump", "x.dmp", &dump)];
            server.submit(&annotations, files).crash_id()
        })
        .collect();
    let search = |token: &str, more: &[&str]| {
        let arguments = [&["--host", &host, "--product=Firefox"], more].concat();
        tool(&bin, "supersearch", token, &arguments)
    };
    crate::server::wait_for("the crashes to be found", || {
        let found = search(&token, &["--_columns=uuid", "--num=all"]);
        (found.lines().filter(|line| line.len() == 36).count() == 3).then_some(())
    });
    // Several pages, protected columns, ranges and sorting.
    let found = search(
        &token,
        &[
            "--_columns=uuid",
            "--_columns=user_comments",
            "--_sort=user_comments",
            "--num=2",
            "--format=json",
        ],
    );
    assert!(
        found.contains("secret 0") && found.contains("secret 1") && !found.contains("secret 2"),
        "{found}"
    );
    // A column that a viewer may not see is missing, as on Socorro. The tool reports that.
    let hidden = Command::new(format!("{bin}/supersearch"))
        .args([
            "--host",
            &host,
            "--product=Firefox",
            "--_columns=user_comments",
        ])
        .env("CRASHSTATS_API_TOKEN", &viewer)
        .output()
        .expect("the tool runs");
    let said = String::from_utf8_lossy(&hidden.stdout).into_owned()
        + &String::from_utf8_lossy(&hidden.stderr);
    assert!(
        said.contains("no data") && !said.contains("secret"),
        "{said}"
    );
    let link = format!("{host}/search/?product=Firefox&version=%3E%3D140&_columns=uuid");
    let found = tool(
        &bin,
        "supersearch",
        &token,
        &["--host", &host, "--supersearch-url", &link, "--num=10"],
    );
    assert_eq!(
        found.lines().filter(|line| line.len() == 36).count(),
        3,
        "{found}"
    );
    let facet = |more: &[&str]| {
        let arguments = [
            &["--host", &host, "--_facets=product", "--format=json"],
            more,
        ]
        .concat();
        tool(&bin, "supersearchfacet", &token, &arguments)
    };
    let counted = facet(&[]);
    assert!(
        counted.contains("Firefox") && counted.contains('3'),
        "{counted}"
    );
    let by_day = tool(
        &bin,
        "supersearchfacet",
        &token,
        &[
            "--host",
            &host,
            "--_histogram.date=product",
            "--relative-range=2d",
            "--format=csv",
        ],
    );
    assert!(by_day.contains("Firefox"), "{by_day}");
    let place = folder.path().join("fetched");
    let path = place.to_str().expect("a plain path");
    let fetch = [
        "--host",
        &host,
        "--raw",
        "--dumps",
        "--processed",
        path,
        &ids[0],
        &ids[1],
    ];
    tool(&bin, "fetch-data", &token, &fetch);
    let fetched = find_file(&place, &ids[0], "upload_file_minidump");
    assert!(fetched.contains(&dump), "the dump came back byte for byte");
    let done = |id: &str| {
        server_get(
            &server,
            &token,
            &format!("/api/ProcessedCrash/?crash_id={id}"),
        )
    };
    let before = done(&ids[0])["completed_datetime"].clone();
    let said = tool(&bin, "reprocess", &token, &["--host", &host, &ids[0]]);
    assert!(!said.contains("rror"), "{said}");
    crate::server::wait_for("the crash to be processed again", || {
        (done(&ids[0])["completed_datetime"] != before).then_some(())
    });
    let refused = Command::new(format!("{bin}/reprocess"))
        .args(["--host", &host, &ids[0]])
        .env("CRASHSTATS_API_TOKEN", &viewer)
        .output()
        .expect("the tool runs");
    let said = String::from_utf8_lossy(&refused.stdout).into_owned()
        + &String::from_utf8_lossy(&refused.stderr);
    assert!(
        said.contains("403") || said.contains("permission"),
        "{said}"
    );
    // For the output of siggen's converter, the server computes the same signature as siggen.
    let script = "import sys, json\n\
        from siggen.utils import convert_to_crash_data\n\
        print(json.dumps({'jobs': [convert_to_crash_data(json.load(sys.stdin))]}))";
    let crash = done(&ids[0]).to_string();
    let jobs = python(&format!("{bin}/python3"), script, crash.as_bytes());
    let headers = [
        ("Auth-Token", token.as_str()),
        ("Content-Type", "application/json"),
    ];
    let named = server.request("POST", "/api/CrashSignature/", &headers, jobs.as_bytes());
    let named = named.json()["results"][0]["signature"].clone();
    assert_eq!(named, done(&ids[0])["signature"]);
    let file = folder.path().join("jobs.json");
    std::fs::write(&file, &jobs).expect("a file");
    let curl = Command::new("curl")
        .args([
            "-sS",
            "-H",
            &format!("Auth-Token: {token}"),
            "-H",
            "Content-Type: application/json",
        ])
        .args([
            "-d",
            &format!("@{}", file.display()),
            &format!("{host}/api/CrashSignature/"),
        ])
        .output()
        .expect("curl runs");
    let by_curl: serde_json::Value = serde_json::from_slice(&curl.stdout).expect("JSON");
    assert_eq!(by_curl["results"][0]["signature"], named);
}

fn server_get(server: &Server, token: &str, path: &str) -> serde_json::Value {
    let answer = server.request("GET", path, &[("Auth-Token", token)], b"");
    answer.json()
}

/// The output of a script for this input.
pub fn python(program: &str, script: &str, input: &[u8]) -> String {
    use std::io::Write;
    let mut child = Command::new(program)
        .args(["-c", script])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("python3 runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(input).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).expect("text");
    text.trim().to_owned()
}

/// The contents of files below a folder whose path contains both words.
fn find_file(folder: &std::path::Path, id: &str, kind: &str) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(find_file(&path, id, kind));
        } else if path.to_string_lossy().contains(id) && path.to_string_lossy().contains(kind) {
            found.push(std::fs::read(&path).expect("a file"));
        }
    }
    found
}

#[test]
fn what_tries_the_api_by_its_description_finds_nothing() {
    let Some(bin) = installed("CRASHKEEP_PYTHON_CLIENTS") else {
        return;
    };
    let server = Server::start_demo();
    let folder = tempfile::tempdir().expect("a folder");
    let checks = "not_a_server_error,response_schema_conformance,content_type_conformance,status_code_conformance";
    let output = Command::new(format!("{bin}/schemathesis"))
        .arg("run")
        .arg(format!("http://{}/api/openapi.json", server.address))
        .args(["--header", &format!("Auth-Token: {}", server.key())])
        .args([
            "--checks",
            checks,
            "--phases",
            "fuzzing",
            "--max-examples",
            "25",
        ])
        .current_dir(folder.path())
        .output()
        .expect("schemathesis runs");
    let said: String = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| line.chars().take(300).collect::<String>() + "\n")
        .collect();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("Fuzzing"), "{said}");
}
