//! From a dump to its report: walk, signature, page, API, search.

use crate::server::{Server, fixture, fixture_names, wait_for};

#[test]
fn a_dump_with_symbols_becomes_a_named_report_with_source_lines() {
    let server = Server::start();
    for module in [
        "null_read_av",
        "libc-2.13.so",
        "ld-2.13.so",
        "libgcc_s.so.1",
    ] {
        server.install_symbols(module);
    }
    let dump = fixture("dumps/linux-x86_64-null_read_av.dmp");
    let files: [(&str, &str, &[u8]); 1] = [("upload_file_minidump", "x.dmp", &dump)];
    let id = server
        .submit(&[("prod", "Demo"), ("ver", "1.0")], &files)
        .crash_id();
    assert_eq!(server.wait_processed(&id), "processed");

    let crash = server.processed(&id);
    for (key, value) in [
        ("crash_id", id.as_str()),
        ("signature", "crash"),
        ("product", "Demo"),
        ("version", "1.0"),
        ("os_name", "Linux"),
        ("reason", "SIGSEGV"),
        ("address", "0x0000000000000000"),
        ("state", "processed"),
    ] {
        assert_eq!(crash[key], value, "{key}");
    }
    assert!(
        crash["date_processed"]
            .as_str()
            .is_some_and(|d| d.ends_with('Z'))
    );
    let frame = &crash["json_dump"]["crashing_thread"]["frames"][0];
    assert_eq!(
        (frame["function"].as_str(), frame["line"].as_u64()),
        (Some("crash()"), Some(18))
    );

    let page = server.get(&format!("/report/index/bp-{id}"));
    assert_eq!(
        page.header("location"),
        Some(format!("/report/index/{id}").as_str()),
        "one address a crash"
    );
    let page = server.get(&format!("/report/index/{id}")).text();
    for text in [
        "null_read_av.cc:18",
        "context",
        "Crashing thread",
        "libc-2.13.so",
        "SIGSEGV",
        "Demo",
    ] {
        assert!(page.contains(text), "the page shows {text}");
    }
    assert!(
        !page.contains("http-equiv=\"refresh\""),
        "a finished report does not reload itself"
    );
}

/// The page of a report with these dumps, and its processed crash.
fn page_of(server: &Server, dumps: &[(&str, &[u8])]) -> (String, serde_json::Value) {
    let files: Vec<(&str, &str, &[u8])> = dumps
        .iter()
        .map(|(name, dump)| (*name, "x.dmp", *dump))
        .collect();
    let id = server
        .submit(&[("ProductName", "Shown"), ("Version", "1")], &files)
        .crash_id();
    assert_eq!(server.wait_processed(&id), "processed");
    let page = server.get(&format!("/report/index/{id}"));
    assert_eq!(page.status, 200);
    (page.text(), server.processed(&id))
}

#[test]
fn a_report_shows_everything_that_its_dump_tells() {
    let server = Server::start();
    for module in fixture_names("symbols") {
        server.install_symbols(&module);
    }
    for (dump, texts) in [
        (
            "linux-x86_64-crash",
            &[
                "Crash analysis",
                "Bit flip?",
                "Errors while the client wrote the dump",
            ][..],
        ),
        (
            "linux-x86_64-acmed_null_read",
            &[
                "a null pointer",
                "there is no memory at the address",
                "reads 4 bytes at",
                "Process limits",
                "Max open files",
                "Handles",
                "Distribution",
                "Memory maps",
            ],
        ),
        ("windows-x86_64-electron", &["last error ERROR_"]),
        (
            "linux-x86_64-acmed_stack_overflow",
            &["656 frames", "156 frames left out", "likely a guard page"],
        ),
    ] {
        let bytes = fixture(&format!("dumps/{dump}.dmp"));
        let (page, _) = page_of(&server, &[("upload_file_minidump", &bytes)]);
        for text in texts {
            assert!(page.contains(text), "{dump}: the page lacks {text:?}");
        }
        assert!(!page.contains("partially processed"), "{dump}");
    }
}

#[test]
fn the_other_dumps_of_a_report_are_walked_and_shown() {
    let server = Server::start();
    let main = fixture("dumps/linux-x86_64-crash.dmp");
    let browser = fixture("dumps/windows-x86_64-sigsegv.dmp");
    let broken = fixture("broken/dumps/no_thread_list.dmp");
    let (page, crash) = page_of(
        &server,
        &[
            ("upload_file_minidump", &main),
            ("upload_file_minidump_browser", &browser),
            ("signature", &broken),
        ],
    );
    let other = &crash["upload_file_minidump_browser"];
    assert_eq!(other["json_dump"]["system_info"]["os"], "Windows NT");
    assert_eq!(crash["json_dump"]["system_info"]["os"], "Linux");
    assert_eq!(crash["os_name"], "Linux");
    // A name that a client chose does not become one of our keys.
    let broken = &crash["upload_file_minidump_signature"];
    assert_eq!(broken["mdsw_status_string"], "MissingThreadList");
    assert!(crash["signature"].is_string());
    for text in [
        "Dump <span class=\"mono\">upload_file_minidump_browser",
        "Stack, threads and modules",
        "There is no stack of this dump (MissingThreadList)",
        "signature cannot be walked",
    ] {
        assert!(page.contains(text), "the page lacks {text:?}");
    }
}

#[test]
fn a_hostile_dump_ends_as_a_report_that_says_what_it_lacks() {
    let server = Server::start();
    for (name, dump) in crate::hostile::dumps() {
        let (page, crash) = page_of(&server, &[("upload_file_minidump", &dump)]);
        let notes = crash["processor_notes"].as_str().unwrap_or_default();
        let is_whole = ["endless_handle", "return_addresses_256kb"].contains(&name);
        assert_eq!(page.contains("partially processed"), !is_whole, "{name}");
        assert_eq!(
            notes.contains("incomplete walk: "),
            !is_whole,
            "{name}: {notes}"
        );
        assert!(page.len() < 4 << 20, "{name}: {} bytes", page.len());
    }
    assert_eq!(server.metric("crashkeep_walker_faults_total"), 0);
}

#[test]
fn every_broken_dump_ends_with_a_page_that_says_why() {
    let server = Server::start();
    for name in fixture_names("broken/dumps") {
        let dump = fixture(&format!("broken/dumps/{name}"));
        let files: [(&str, &str, &[u8]); 1] = [("upload_file_minidump", &name, &dump)];
        let id = server
            .submit(&[("ProductName", "Broken"), ("Version", "1")], &files)
            .crash_id();
        let state = server.wait_processed(&id);
        let crash = server.processed(&id);
        let status = crash["mdsw_status_string"].as_str().unwrap_or_default();
        let notes = crash["processor_notes"].as_str().unwrap_or_default();
        assert!(
            status == "OK" || notes.contains("the minidump cannot be walked"),
            "{name}: {state} {status} {notes}"
        );
        assert!(
            !crash["signature"].as_str().unwrap_or_default().is_empty(),
            "{name}"
        );
        let page = server.get(&format!("/report/index/{id}"));
        assert_eq!(page.status, 200, "{name}");
        if status != "OK" {
            assert!(page.text().contains("There is no stack"), "{name}");
        }
        let back = server.get(&format!("/api/RawCrash/?crash_id={id}&format=raw"));
        assert_eq!(back.body, dump, "{name}: the bytes to try again");
    }
    assert_eq!(server.metric("crashkeep_panics_total"), 0);
}

#[test]
fn symbols_that_come_late_are_used_when_the_crash_is_processed_again() {
    let server = Server::start();
    let dump = fixture("dumps/linux-x86_64-acmed_div_zero.dmp");
    let id = server
        .submit(
            &[("ProductName", "A")],
            &[("upload_file_minidump", "x", &dump)],
        )
        .crash_id();
    server.wait_processed(&id);
    let before = server.processed(&id)["signature"]
        .as_str()
        .expect("a signature")
        .to_owned();
    assert!(
        before.contains("acmed@0x"),
        "{before}: a frame without function is module@offset"
    );
    server.install_symbols("acmed");
    let body = format!("crash_ids={id}");
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let answer = server.request("POST", "/api/Reprocessing/", &form, body.as_bytes());
    assert_eq!((answer.status, answer.text().as_str()), (200, "true"));
    wait_for("the new signature", || {
        (server.processed(&id)["signature"] == "acmed::math::average").then_some(())
    });
    assert_eq!(server.state(&id)["attempts"], 2);
}

#[test]
fn the_api_names_what_is_wrong_with_a_request() {
    let server = Server::start();
    let unknown = "5c3f1b52-9a0e-4d1f-8a77-2f1000261122";
    for (path, status, word) in [
        (
            format!("/api/CrashState/?crash_id={unknown}"),
            404,
            "does not exist",
        ),
        ("/api/CrashState/".into(), 400, "crash_id is missing"),
        (
            "/api/ProcessedCrash/?crash_id=x".into(),
            400,
            "not a crash id",
        ),
        (
            format!("/api/RawCrash/?crash_id={unknown}&format=raw"),
            404,
            "does not exist",
        ),
        ("/api/Nothing/".into(), 404, "page not found"),
    ] {
        let answer = server.get(&path);
        assert_eq!(answer.status, status, "{path}");
        assert!(
            answer.json()["error"]
                .as_str()
                .is_some_and(|e| e.contains(word)),
            "{path}: {}",
            answer.text()
        );
    }
    let answer = server.request(
        "POST",
        &format!("/api/Reprocessing/?crash_ids={unknown}"),
        &[],
        b"",
    );
    assert_eq!(answer.status, 404, "{}", answer.text());
    assert_eq!(
        server
            .request("POST", "/api/Reprocessing/", &[], b"")
            .status,
        400
    );
    assert_eq!(server.get("/api/Reprocessing/").status, 405);
    assert_eq!(server.get(&format!("/report/index/{unknown}")).status, 404);
    assert_eq!(server.get("/report/index/%3Cscript%3E").status, 400);
}

#[test]
fn a_crash_is_found_by_everything_that_the_search_form_offers() {
    let server = Server::start();
    server.install_symbols("acmed");
    let dump = fixture("dumps/linux-x86_64-acmed_null_read.dmp");
    let first = server
        .submit(
            &[
                ("ProductName", "Acme Server"),
                ("Version", "2.4.1"),
                ("Build-Note", "nightly tile cache"),
            ],
            &[("upload_file_minidump", "x", &dump)],
        )
        .crash_id();
    let windows = fixture("dumps/windows-x86-test_app.dmp");
    let files: [(&str, &str, &[u8]); 1] = [("upload_file_minidump", "x", &windows)];
    let second = server
        .submit(&[("ProductName", "Other"), ("Version", "10.0")], &files)
        .crash_id();
    server.wait_processed(&first);
    server.wait_processed(&second);
    let found = |query: &str| {
        let answer = server.get(&format!(
            "/api/SuperSearch/?_columns=uuid&_facets_size=0&{query}"
        ));
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
        let json = answer.json();
        let hits = json["hits"].as_array().expect("hits").iter();
        let mut ids: Vec<String> = hits
            .map(|h| h["uuid"].as_str().expect("a uuid").to_owned())
            .collect();
        assert_eq!(json["total"].as_u64(), Some(ids.len() as u64), "{query}");
        ids.sort();
        ids
    };
    wait_for("both crashes in the index", || {
        (found("").len() == 2).then_some(())
    });
    for query in [
        "product=Acme+Server",
        "version=2.4.1",
        "platform=Linux",
        "signature=~render::fetch",
        "product=!Other",
        "q=decode_tile",
        "cpu_arch=amd64",
    ] {
        assert_eq!(found(query), [first.as_str()], "{query}");
        let page = server.get(&format!("/search/?{query}")).text();
        assert!(
            page.contains(&first) && !page.contains(&second),
            "the page for {query}"
        );
    }
    assert_eq!(found("platform=Windows+NT"), [second.as_str()]);
    assert!(found("date=%3C2020-01-01").is_empty());
    let facets = server
        .get("/api/SuperSearch/?_facets=product&_results_number=0")
        .json();
    assert_eq!(
        facets["facets"]["product"].as_array().map(Vec::len),
        Some(2)
    );
    let bad = server.get("/api/SuperSearch/?nonsense=1");
    assert_eq!(bad.status, 400);
    assert!(bad.text().contains("nonsense"), "{}", bad.text());
    let home = server.get("/").text();
    assert!(
        home.contains("Acme Server") && home.contains(&first),
        "home shows products and newest crashes"
    );
}

#[test]
fn downloads_keep_the_names_that_clients_gave() {
    let server = Server::start();
    let dump = fixture("dumps/linux-x86_64-null_read_av.dmp");
    let answer = server.submit(
        &[("ProductName", "App")],
        &[
            ("upload_file_minidump", "x.dmp", &dump),
            (
                "view_hierarchy",
                "C:\\tmp\\B\u{fc}ro \u{202e}plan.json",
                b"{}",
            ),
            ("upload_file_minidump_gpu", "y", &dump),
        ],
    );
    let id = answer.crash_id();
    let named = |name: &str| {
        let path = format!("/api/RawCrash/?crash_id={id}&format=raw&name={name}");
        let answer = server.get(&path);
        answer
            .header("content-disposition")
            .expect("a name")
            .to_owned()
    };
    assert_eq!(
        named("view_hierarchy"),
        format!(
            "attachment; filename=\"{id}-B_ro_plan.json\"; filename*=UTF-8''{id}-B%C3%BCro%20plan.json"
        )
    );
    assert_eq!(
        named("upload_file_minidump_gpu"),
        format!("attachment; filename=\"{id}-upload_file_minidump_gpu.dmp\"")
    );
}

#[test]
fn installations_are_counted_by_what_each_client_sends() {
    let server = Server::start();
    for (key, value) in [
        ("guid", "11111111-aaaa"),
        ("guid", "22222222-bbbb"),
        ("guid", "22222222-bbbb"),
        ("InstallTime", "1795338000"),
        ("Other", "x"),
    ] {
        server.submit(
            &[("ProductName", "App"), ("Version", "1"), (key, value)],
            &[],
        );
    }
    let search = "/api/SuperSearch/?product=App&_facets=_cardinality.installation";
    let found = crate::server::wait_for("the index", || {
        let found = server.get(search).json();
        (found["total"] == 5).then_some(found)
    });
    assert_eq!(found["facets"]["cardinality_installation"]["value"], 3);
    let page = server.get("/home/product/App").text();
    assert!(
        page.contains("<span class=\"v\">3</span><span class=\"l\">installs that crashed"),
        "{page}"
    );
}
