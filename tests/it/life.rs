//! Starts, stops and kills of the server, and access from other sites.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::Signal;

use crate::server::{Server, fixture, send_signal, submission, wait_for};

/// Number of uploads in the test of a killed server.
const UPLOADS: u64 = 300;

#[test]
fn a_killed_server_has_every_answered_crash_with_its_exact_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let dump = fixture("dumps/linux-x86_64-null_read_av.dmp");
    let answered: Mutex<BTreeMap<String, Vec<u8>>> = Mutex::default();
    let sent = AtomicU64::new(0);
    let mut server = Server::start_in(&data, &[]);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let n = sent.fetch_add(1, Ordering::Relaxed);
                    if n >= UPLOADS {
                        return;
                    }
                    // Every upload is different: it has an attachment with its number.
                    let own = [n.to_le_bytes().repeat(512), dump[..1000].to_vec()].concat();
                    let bytes = submission(
                        &[("ProductName", "Kill")],
                        &[
                            ("upload_file_minidump", "x.dmp", &dump),
                            ("own", "own", &own),
                        ],
                    );
                    if let Some(answer) = server.try_send(&bytes, false) {
                        answered
                            .lock()
                            .expect("no panic")
                            .insert(answer.crash_id(), own);
                    }
                }
            });
        }
        scope.spawn(|| {
            wait_for("some uploads", || {
                (answered.lock().expect("no panic").len() as u64 > UPLOADS / 3).then_some(())
            });
            kill_9(server.child.id());
        });
    });
    server.child.wait().expect("its end");
    let answered = answered.into_inner().expect("no panic");
    assert!(
        (answered.len() as u64) < UPLOADS,
        "the kill came in the middle: {}",
        answered.len()
    );

    let server = Server::start_in(&data, &[]);
    for (id, own) in &answered {
        assert_eq!(server.wait_processed(id), "processed", "{id}");
        let part = server.get(&format!("/api/RawCrash/?crash_id={id}&format=raw&name=own"));
        assert_eq!(&part.body, own, "{id}");
        let part = server.get(&format!("/api/RawCrash/?crash_id={id}&format=raw"));
        assert_eq!(part.body, dump, "{id}");
    }
}

fn kill_9(pid: u32) {
    send_signal(pid, Signal::KILL);
}

#[test]
fn sigterm_ends_it_in_order_and_the_next_start_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let mut server = Server::start_in(&data, &[]);
    let dump = fixture("dumps/linux-x86_64-firefox_esr.dmp");
    let files: [(&str, &str, &[u8]); 1] = [("upload_file_minidump", "x", &dump)];
    let ids: Vec<String> = (0..10)
        .map(|_| server.submit(&[("ProductName", "A")], &files).crash_id())
        .collect();
    assert_eq!(server.terminate(), Some(0));
    let server = Server::start_in(&data, &[]);
    for id in &ids {
        assert_eq!(server.wait_processed(id), "processed");
        assert_eq!(server.state(id)["reason"], serde_json::Value::Null);
    }
}

#[test]
fn a_second_server_on_the_same_directory_is_refused_with_the_holders_pid() {
    let server = Server::start();
    let second = std::process::Command::new(crate::server::PROGRAM)
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(&server.data)
        .output()
        .expect("it runs");
    assert_eq!(second.status.code(), Some(1));
    let text = String::from_utf8_lossy(&second.stderr);
    assert!(
        text.contains(&format!("pid {}", server.child.id())),
        "{text}"
    );
}

#[test]
fn a_deleted_index_is_built_anew_at_the_next_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let mut server = Server::start_in(&data, &[]);
    let total = |server: &Server| {
        server.get("/api/SuperSearch/?_results_number=0").json()["total"].as_u64()
    };
    for n in 0..20 {
        let version = n.to_string();
        let id = server
            .submit(&[("ProductName", "A"), ("Version", &version)], &[])
            .crash_id();
        server.wait_processed(&id);
    }
    wait_for("the index", || (total(&server) == Some(20)).then_some(()));
    assert_eq!(server.terminate(), Some(0));
    std::fs::remove_dir_all(data.join("index")).expect("the index is there");
    let server = Server::start_in(&data, &[]);
    wait_for("the new index", || {
        (total(&server) == Some(20)).then_some(())
    });
}

#[test]
fn bound_to_all_addresses_only_the_collector_and_the_health_urls_answer() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start_in(&folder.path().join("data"), &["--listen", "0.0.0.0:0"]);
    let id = server.submit(&[("ProductName", "A")], &[]).crash_id();
    for path in [
        "/__heartbeat__",
        "/__lbheartbeat__",
        "/__version__",
        "/metrics",
    ] {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    for path in [
        "/",
        "/search/",
        "/status/",
        &format!("/report/index/{id}"),
        "/api/SuperSearch/",
    ] {
        let answer = server.get(path);
        assert_eq!(answer.status, 403, "{path}");
        assert!(
            answer.text().contains("crashkeep user add"),
            "{path} names the way out"
        );
    }
    let path = format!("/api/RawCrash/?crash_id={id}&format=raw");
    assert_eq!(server.get(&path).status, 403);
}

#[test]
fn a_page_of_another_site_reaches_nothing() {
    let server = Server::start();
    // A page of another site that reaches us under its own host name brings neither key nor cookie.
    let nothing = ("Cookie", "a=b");
    let rebound = server.request("GET", "/", &[nothing, ("Host", "evil.example")], b"");
    assert_eq!(rebound.status, 401);
    let id = server.submit(&[("ProductName", "A")], &[]).crash_id();
    let path = format!("/api/Reprocessing/?crash_ids={id}");
    for headers in [
        [("Origin", "http://evil.example"), nothing],
        [("Sec-Fetch-Site", "cross-site"), nothing],
        [("Referer", "http://evil.example/"), nothing],
    ] {
        let headers = [("Auth-Token", server.key()), headers[0], headers[1]];
        let cross = server.request("POST", &path, &headers, b"");
        assert_eq!(cross.status, 403, "{headers:?}");
        assert!(cross.text().contains("another site"), "{}", cross.text());
    }
    // Reports may come from everywhere, also from a program in a page.
    let form = crate::server::submission(&[("ProductName", "A")], &[]);
    let form = String::from_utf8(form).expect("text");
    let form = form.replacen("Host:", "Origin: http://game.example\r\nHost:", 1);
    assert_eq!(server.send(form.as_bytes(), false).status, 200);
}

#[test]
fn every_answer_has_the_same_security_headers() {
    let server = Server::start();
    for path in [
        "/",
        "/search/",
        "/status/",
        "/nothing",
        "/api/CrashState/",
        "/metrics",
        "/report/index/x",
        "/submit",
    ] {
        let answer = server.get(path);
        let policy = answer.header("content-security-policy").unwrap_or_default();
        assert!(
            policy.starts_with("default-src 'none'; style-src 'self'"),
            "{path}: {policy}"
        );
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "same-origin"),
            ("cache-control", "no-store"),
            ("cross-origin-opener-policy", "same-origin"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{path}: {name}");
        }
    }
}

#[test]
fn pages_load_nothing_from_elsewhere_and_need_no_script() {
    let server = Server::start();
    let dump = fixture("dumps/linux-x86_64-null_read_av.dmp");
    let id = server
        .submit(
            &[("ProductName", "A")],
            &[("upload_file_minidump", "x", &dump)],
        )
        .crash_id();
    server.wait_processed(&id);
    for path in ["/", "/search/", "/status/", &format!("/report/index/{id}")] {
        let page = server.get(path).text();
        for forbidden in [
            "<script", "style=\"", "src=\"", "http://", "https://", "@import",
        ] {
            assert!(!page.contains(forbidden), "{path} has {forbidden}");
        }
    }
    let style = server.get("/").text();
    let style = style
        .split("/assets/")
        .nth(1)
        .and_then(|s| s.split('"').next())
        .expect("a style sheet");
    assert_eq!(server.get(&format!("/assets/{style}")).status, 200);
}

#[test]
fn the_data_directory_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let server = Server::start();
    let mode = |path: &Path| path.metadata().expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&server.data), 0o700);
    assert_eq!(mode(&server.data.join("store.redb")), 0o600);
}

#[test]
fn nothing_of_a_data_directory_that_others_may_enter_can_be_read_by_them() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let open = |path: &Path| {
        std::fs::create_dir_all(path).expect("a folder");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(path, mode).expect("it is ours");
    };
    open(&data);
    // As an older version has left it.
    open(&data.join("index"));
    let server = Server::start_in(&data, &[]);
    let dump = fixture("dumps/linux-x86_64-acmed_null_read.dmp");
    server.install_symbols("acmed");
    let report = server.submit(
        &[("ProductName", "App")],
        &[("upload_file_minidump", "x", &dump)],
    );
    assert_eq!(server.wait_processed(&report.crash_id()), "processed");
    wait_for("the index", || {
        let found = server.get("/api/SuperSearch/?product=App").json();
        (found["total"] == 1).then_some(())
    });
    let mut below = vec![data.clone()];
    while let Some(folder) = below.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            // The test itself created this folder.
            if path.ends_with("symbols") {
                continue;
            }
            let mode = path.metadata().expect("it is there").permissions().mode();
            assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", path.display());
            if path.is_dir() {
                below.push(path);
            }
        }
    }
}

/// All files below a folder, with their bytes.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path)
            } else {
                let bytes = std::fs::read(&path).expect("a file");
                found.insert(path.display().to_string(), bytes);
            }
        }
    }
    found
}

#[test]
fn a_killed_servers_directory_opens_read_only_and_not_a_byte_of_it_changes() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let server = Server::start_in(&data, &[]);
    let dump = fixture("dumps/linux-x86_64-null_read_av.dmp");
    let files: [(&str, &str, &[u8]); 1] = [("upload_file_minidump", "x", &dump)];
    let id = server.submit(&[("ProductName", "Kept")], &files).crash_id();
    server.wait_processed(&id);
    kill_9(server.child.id());
    drop(server);
    let before = contents(&data);

    let mut server = Server::start_in(&data, &["--read-only"]);
    assert!(
        server
            .get(&format!("/report/index/{id}"))
            .text()
            .contains("Crashing thread")
    );
    assert_eq!(
        server
            .get(&format!("/api/RawCrash/?crash_id={id}&format=raw"))
            .body,
        dump
    );
    wait_for("the search", || {
        server
            .get("/search/?product=Kept")
            .text()
            .contains(&id)
            .then_some(())
    });
    let refused = server.submit(&[("ProductName", "A")], &[]);
    assert_eq!(refused.status, 503);
    assert!(refused.text().contains("read-only"), "{}", refused.text());
    assert_eq!(
        server
            .request(
                "POST",
                &format!("/api/Reprocessing/?crash_ids={id}"),
                &[],
                b""
            )
            .status,
        503
    );
    assert!(server.get("/status/").text().contains("read-only"));
    assert_eq!(server.terminate(), Some(0));
    assert!(
        contents(&data) == before,
        "nothing was written below the data directory"
    );

    let nothing = folder.path().join("nothing");
    let refused = std::process::Command::new(crate::server::PROGRAM)
        .args(["serve", "--read-only", "--listen", "127.0.0.1:0", "--data"])
        .arg(&nothing)
        .output()
        .expect("it runs");
    assert_eq!(refused.status.code(), Some(1));
    assert!(!nothing.exists(), "a read-only server makes no directory");
}

#[test]
fn bytes_of_crashes_are_never_touched_without_their_database() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let mut server = Server::start_in(&data, &[]);
    let id = server
        .submit(&[("ProductName", "A")], &[("f", "f", &[7; 9_000])])
        .crash_id();
    server.wait_processed(&id);
    assert_eq!(server.terminate(), Some(0));
    let database = std::fs::read(data.join("store.redb")).expect("the database");
    let segments = contents(&data.join("segments"));
    for broken in [None, Some(b"")] {
        std::fs::remove_file(data.join("store.redb")).expect("it is there");
        if let Some(bytes) = broken {
            std::fs::write(data.join("store.redb"), bytes).expect("written");
        }
        let refused = std::process::Command::new(crate::server::PROGRAM)
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(&data)
            .output()
            .expect("it runs");
        assert_eq!(refused.status.code(), Some(1));
        let text = String::from_utf8_lossy(&refused.stderr);
        assert!(text.contains("restore it from a backup"), "{text}");
        assert!(contents(&data.join("segments")) == segments);
        std::fs::write(data.join("store.redb"), &database).expect("written");
    }
    let server = Server::start_in(&data, &[]);
    assert_eq!(server.state(&id)["state"], "processed");
}

#[test]
fn sighup_activates_a_good_configuration_and_keeps_the_last_good_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("site.toml");
    let write = |text: &str| std::fs::write(&file, text).expect("a configuration");
    let rule = |outcome: &str| {
        format!(
            "[[throttle]]\nname = \"toys\"\nfield = \"ProductName\"\nop = \"is\"\nvalue = \"Toy\"\noutcome = \"{outcome}\"\n"
        )
    };
    write(&rule("reject"));
    let config = file.to_str().expect("a plain path");
    let mut server = Server::start_in(&folder.path().join("data"), &["--config", config]);
    let toy = || server.submit(&[("ProductName", "Toy")], &[]).text();
    let status = |words: &str| {
        send_signal(server.child.id(), Signal::HUP);
        wait_for(words, || {
            server.get("/status/").text().contains(words).then_some(())
        });
    };
    assert_eq!(toy(), "Discarded=rule_toys\n");

    write(&rule("defer"));
    status("all settings are active");
    let deferred = toy();
    assert_eq!(
        deferred.lines().next().map(|line| &line[40..41]),
        Some("1"),
        "{deferred}"
    );

    write(&rule("drop"));
    status("accept, defer, reject, fake-accept");
    let page = server.get("/status/").text();
    assert!(
        page.contains("site.toml:6") && page.contains("The previous configuration stays active.")
    );
    assert!(toy().starts_with("CrashID="));

    write("[workers]\ncount = 7\n");
    status("needs a restart: [workers] count");
    assert_eq!(
        toy()
            .lines()
            .next()
            .map(|line| line[40..41].to_owned())
            .as_deref(),
        Some("0")
    );
    assert_eq!(server.terminate(), Some(0));
}
