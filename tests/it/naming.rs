//! Signature lists that are edited: preview, apply, restore, explain.

use std::sync::Arc;

use crashkeep::crash::facts::Facts;
use crashkeep::naming::Naming;
use crashkeep::signature::{Input, ListTexts, Ruleset, StoredFrame};
use crashkeep::store::signatures::NewRevision;
use crashkeep::store::{Finished, Payload, State};
use serde_json::{Value, json};

use crate::retention::{START, TestStore};
use crate::server::{Server, fixture, send_signal, wait_for};

/// Number of crashes whose server is killed during a re-sign.
const MANY: usize = 800;

/// Sends a report without a dump. Its signature comes from its Java exception and this method.
fn submit(server: &Server, method: &str, annotations: &[(&str, &str)]) -> String {
    let trace = format!("java.lang.Error\n\tat {method}(Main.java:7)");
    let own = [
        ("ProductName", "Lynx"),
        ("Version", "1.0"),
        ("JavaStackTrace", trace.as_str()),
    ];
    server.submit(&[&own, annotations].concat(), &[]).crash_id()
}

fn named(method: &str) -> String {
    format!("java.lang.Error: at {method}(Main.java)")
}

fn signature(server: &Server, id: &str) -> String {
    let processed = server.processed(id);
    processed["signature"]
        .as_str()
        .expect("a signature")
        .to_owned()
}

/// The active lists with these site rules.
fn lists_with(server: &Server, rules: &str) -> String {
    let exported = server.get("/api/SignatureLists/").text();
    let heading = "==> site_rules.txt <==\n";
    let (lists, _) = exported.split_once(heading).expect("the file is exported");
    format!("{lists}{heading}{rules}")
}

fn post(server: &Server, path: &str, body: &str) -> crate::server::Answer {
    server.request("POST", path, &[], body.as_bytes())
}

/// The re-sign of the newest revision, once it has ended.
fn resigned(server: &Server) -> Value {
    wait_for("the re-sign", || {
        let revisions = server.get("/api/SignatureRevisions/").json();
        let resign = revisions["revisions"][0]["resign"].clone();
        resign["ended"].is_string().then_some(resign)
    })
}

fn found(server: &Server, signature: &str) -> u64 {
    let value: String =
        form_urlencoded::byte_serialize(format!("={signature}").as_bytes()).collect();
    let answer = server.get(&format!(
        "/api/SuperSearch/?signature={value}&_results_number=0"
    ));
    answer.json()["total"].as_u64().expect("a total")
}

fn page(server: &Server, signature: &str) -> String {
    let value: String = form_urlencoded::byte_serialize(signature.as_bytes()).collect();
    server.get(&format!("/signature/?signature={value}")).text()
}

#[test]
fn lists_are_tried_on_history_activated_and_taken_back() {
    let server = Server::start();
    let mut ids = Vec::new();
    for method in ["a.b.one", "a.b.one", "a.b.one", "a.b.two", "a.b.old"] {
        ids.push(submit(&server, method, &[]));
    }
    for mode in ["day", "night"] {
        ids.push(submit(&server, "a.b.both", &[("Mode", mode)]));
    }
    let untouched = submit(&server, "a.b.else", &[("ProductName", "Fox")]);
    ids.iter().chain([&untouched]).for_each(|id| {
        assert_eq!(server.wait_processed(id), "processed");
    });
    wait_for("the index", || {
        (found(&server, &named("a.b.one")) == 3).then_some(())
    });
    let bug = format!(
        "signature={}&bug=https%3A%2F%2Fbugs.example%2F77",
        named("a.b.old").replace(' ', "%20")
    );
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let attached = server.request("POST", "/signature/bugs/attach", &form, bug.as_bytes());
    assert_eq!(attached.status, 303, "{}", attached.text());

    let rules = format!(
        "merge {} => {}\nrename {} => the new one\nsplit {} by Mode\nmerge @Other {} => nothing\n",
        named("a.b.one"),
        named("a.b.two"),
        named("a.b.old"),
        named("a.b.both"),
        named("a.b.else"),
    );
    let lists = lists_with(&server, &rules);
    let preview = post(&server, "/api/SignaturePreview/", &lists).json();
    assert_eq!(
        (&preview["crashes"], &preview["changed"]),
        (&json!(8), &json!(6)),
        "{preview}"
    );
    let group = |kind: &str| {
        let groups = &preview[kind];
        assert_eq!(groups["count"], 1, "{kind}: {preview}");
        groups["groups"][0].clone()
    };
    let merge = group("merges");
    assert_eq!(
        (&merge["signature"], &merge["crashes"]),
        (&json!(named("a.b.two")), &json!(4))
    );
    assert_eq!(merge["parts"][0]["signature"], named("a.b.one"));
    assert_eq!(merge["parts"][0]["examples"][0], ids[0].as_str());
    let split = group("splits");
    assert_eq!(split["signature"], named("a.b.both"));
    assert_eq!(split["parts"].as_array().map(Vec::len), Some(2));
    assert_eq!(group("renames")["parts"][0]["signature"], "the new one");
    assert_eq!(
        signature(&server, &ids[0]),
        named("a.b.one"),
        "a preview changes nothing"
    );

    let applied = post(
        &server,
        "/api/SignatureLists/?author=Ada&comment=tidy",
        &lists,
    );
    assert_eq!(applied.json(), json!({ "revision": 1 }));
    assert_eq!(resigned(&server)["changed"], 6);
    assert_eq!(signature(&server, &ids[0]), named("a.b.two"));
    assert_eq!(signature(&server, &ids[4]), "the new one");
    assert_eq!(
        signature(&server, &ids[5]),
        format!("{} | Mode=day", named("a.b.both"))
    );
    assert_eq!(signature(&server, &untouched), named("a.b.else"));
    let notes = server.processed(&ids[0])["processor_notes"].to_string();
    assert!(
        notes.contains("revision 1") && notes.contains(&named("a.b.one")),
        "{notes}"
    );
    wait_for("the index", || {
        (found(&server, &named("a.b.two")) == 4).then_some(())
    });
    assert_eq!(found(&server, &named("a.b.one")), 0);
    // The counts that outlive the crashes follow.
    let asked = [named("a.b.one"), named("a.b.two")].map(|signature| {
        let value: String = form_urlencoded::byte_serialize(signature.as_bytes()).collect();
        let path = format!("/api/SignatureFirstDate/?signatures={value}");
        server.get(&path).json()
    });
    assert_eq!(asked[0]["total"], 0);
    let hit = &asked[1]["hits"][0];
    assert_eq!(
        (&hit["crashes"], &hit["versions"]),
        (&json!(4), &json!(["1.0"])),
        "{hit}"
    );
    // New crashes get their signature from the new lists at once, including the rules for one product.
    let new = submit(&server, "a.b.one", &[]);
    server.wait_processed(&new);
    assert_eq!(signature(&server, &new), named("a.b.two"));

    // Links and bugs of the old signature still work.
    let old = page(&server, &named("a.b.old"));
    assert!(
        old.contains("Crashes moved to") && old.contains("the new one"),
        "{old}"
    );
    let renamed = page(&server, "the new one");
    assert!(
        renamed.contains("https://bugs.example/show_bug.cgi?id=77")
            && renamed.contains("from the former signature"),
        "{renamed}"
    );

    let explained = server
        .get(&format!("/api/SignatureExplanation/?crash_id={}", ids[4]))
        .json();
    assert_eq!(explained["signature"], "the new one");
    let last = explained["rules"]
        .as_array()
        .and_then(|rules| rules.last())
        .expect("rules");
    assert_eq!(
        (&last["rule"], &last["before"]),
        (&json!("SiteRename"), &json!(named("a.b.old")))
    );
    let shown = server
        .get(&format!("/report/index/{}/signature", ids[4]))
        .text();
    assert!(
        shown.contains("SiteRename") && shown.contains("site_rules.txt:2"),
        "{shown}"
    );

    // A change based on older lists does not overwrite newer changes.
    let stale = post(&server, "/api/SignatureLists/?based_on=0", &lists);
    assert_eq!(stale.status, 409, "{}", stale.text());
    let broken = post(
        &server,
        "/api/SignatureLists/",
        &lists_with(&server, "merge a => b\n prefix (x"),
    );
    assert_eq!(broken.status, 400);
    let why = broken.json()["error"].to_string();
    assert!(why.contains("site_rules.txt:2:9: unclosed group"), "{why}");
    assert_eq!(server.get("/api/SignatureRevisions/").json()["in_force"], 1);

    let restored = server.request(
        "POST",
        "/signatures/restore",
        &form,
        b"revision=0&based_on=1",
    );
    assert_eq!(restored.status, 303, "{}", restored.text());
    assert_eq!(resigned(&server)["changed"], 7, "the new crash, too");
    for (id, method) in ids.iter().zip([
        "a.b.one", "a.b.one", "a.b.one", "a.b.two", "a.b.old", "a.b.both", "a.b.both",
    ]) {
        assert_eq!(signature(&server, id), named(method));
    }
    let revisions = server.get("/api/SignatureRevisions/").json();
    assert_eq!(revisions["revisions"][0]["restores"], 0);
    let first = &revisions["revisions"][1];
    assert_eq!(
        (&first["author"], &first["comment"]),
        (&json!("Ada"), &json!("tidy"))
    );
}

#[test]
fn the_form_keeps_what_was_typed_and_says_what_is_wrong_with_it() {
    let server = Server::start();
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let body = |site: &str| -> String {
        let mut form = form_urlencoded::Serializer::new(String::new());
        for file in crashkeep::signature::FILES {
            let text = match file {
                crashkeep::signature::SITE_RULES => site,
                _ if file.starts_with("families/") => "# none\r\n",
                _ => "# none\r\nmemcpy\r\n",
            };
            form.append_pair(file, text);
        }
        form.append_pair("based_on", "0")
            .append_pair("comment", "<b>why</b>")
            .finish()
    };
    let refused = server.request(
        "POST",
        "/signatures/apply",
        &form,
        body("rename <i>").as_bytes(),
    );
    assert_eq!(refused.status, 400);
    let text = refused.text();
    assert!(
        text.contains("site_rules.txt:1:8") && text.contains("&lt;b&gt;why"),
        "{text}"
    );
    assert!(
        text.contains("rename &lt;i&gt;") && !text.contains("<i>"),
        "{text}"
    );
    let previewed = server.request("POST", "/signatures/preview", &form, body("").as_bytes());
    assert!(
        previewed.status == 200 && previewed.text().contains("Preview: 0 crashes change"),
        "{}",
        previewed.text()
    );
    let applied = server.request("POST", "/signatures/apply", &form, body("").as_bytes());
    assert_eq!(applied.status, 303, "{}", applied.text());
    assert!(server.get("/signatures/").text().contains("revision 1"));
    let exported = server.get("/api/SignatureLists/").text();
    assert!(
        exported.contains("# none\nmemcpy\n"),
        "line ends are those of files: {exported:?}"
    );
}

#[test]
fn a_killed_re_sign_goes_on_and_counts_every_crash_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let mut server = Server::start_in(&data, &[]);
    let ids: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let server = &server;
                scope.spawn(move || -> Vec<String> {
                    (0..MANY / 8)
                        .map(|_| submit(server, "a.b.many", &[]))
                        .collect()
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|t| t.join().expect("no panic"))
            .collect()
    });
    for id in &ids {
        assert_eq!(server.wait_processed(id), "processed");
    }
    let rules = format!("rename {} => few\n", named("a.b.many"));
    let applied = post(
        &server,
        "/api/SignatureLists/",
        &lists_with(&server, &rules),
    );
    assert_eq!(applied.status, 200, "{}", applied.text());
    let at_kill = wait_for("some of the re-sign", || {
        let revisions = server.get("/api/SignatureRevisions/").json();
        let resign = revisions["revisions"][0]["resign"].clone();
        (resign["changed"].as_u64() > Some(0)).then_some(resign)
    });
    send_signal(server.child.id(), rustix::process::Signal::KILL);
    server.child.wait().expect("its end");
    assert!(
        at_kill["ended"].is_null(),
        "the kill came in the middle: {at_kill}"
    );

    let server = Server::start_in(&data, &[]);
    let resign = resigned(&server);
    let counts = (&resign["changed"], &resign["looked_at"], &resign["total"]);
    let all = json!(MANY);
    assert_eq!(counts, (&all, &all, &all), "{resign}");
    for id in &ids {
        assert_eq!(signature(&server, id), "few");
    }
    wait_for("the index", || {
        (found(&server, "few") == MANY as u64).then_some(())
    });
}

#[test]
fn crash_data_is_named_without_being_stored() {
    let server = Server::start();
    let body = r#"{"jobs": [{"threads": [{"frames": [{"function": "f(int)", "module": "m"}]}]}, {"hang": "ui"}]}"#;
    let answer = post(&server, "/api/CrashSignature/", body);
    assert_eq!(
        answer.json(),
        json!({ "results": [
            { "signature": "f", "notes": [], "extra": { "proto_signature": "f" } },
            { "signature": "hang: ui | EMPTY: no frame data available",
              "notes": ["SignatureGenerationRule: CSignatureTool: no frame data for crashing thread (0)"], "extra": {} },
        ] })
    );
    for (body, expected) in [
        ("{", "not valid JSON"),
        ("{}", "jobs is missing"),
        (r#"{"jobs": [1]}"#, "job 0 is not an object"),
    ] {
        let answer = post(&server, "/api/CrashSignature/", body);
        assert_eq!(answer.status, 400);
        assert!(answer.text().contains(expected), "{}", answer.text());
    }
}

#[test]
fn a_walked_crash_is_explained_frame_by_frame() {
    let server = Server::start();
    server.install_symbols("acmed");
    let dump = fixture("dumps/linux-x86_64-acmed_panic_abort.dmp");
    let id = server
        .submit(
            &[("ProductName", "Lynx")],
            &[("upload_file_minidump", "x.dmp", &dump)],
        )
        .crash_id();
    server.wait_processed(&id);
    let explained = server
        .get(&format!("/api/SignatureExplanation/?crash_id={id}"))
        .json();
    assert_eq!(explained["signature"], signature(&server, &id).as_str());
    assert_eq!(explained["signature"], explained["stored_signature"]);
    let frames = explained["frames"].as_array().expect("frames");
    let fates: Vec<&str> = frames.iter().filter_map(|f| f["fate"].as_str()).collect();
    assert_eq!(
        fates.iter().filter(|fate| **fate == "last").count(),
        1,
        "{fates:?}"
    );
    let skipped = frames
        .iter()
        .find(|f| f["fate"] == "machinery" || f["fate"] == "generic");
    let entry = &skipped.expect("a frame that a list knows")["entries"][0];
    assert!(entry["line"].as_u64() > Some(0), "{explained}");
    let modules = explained["modules"].as_array().expect("modules");
    let owner_of = |module: &str| {
        let found = modules.iter().find(|step| step["module"] == module);
        found.map(|step| step["owner"].clone())
    };
    assert_eq!(owner_of("acmed"), Some(json!("program")), "{modules:?}");
    assert_eq!(owner_of("libc.so.6"), Some(json!("library")), "{modules:?}");

    // The page has a form that changes the owner, with a preview.
    let page = server.get(&format!("/report/index/{id}/signature")).text();
    assert!(page.contains("name=\"module\" value=\"acmed\""), "{page}");
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let rule = b"module=acmed&kind=library&product=Lynx";
    let preview = server.request("POST", "/signatures/rule", &form, rule);
    assert_eq!(preview.status, 200);
    let text = preview.text();
    assert!(text.contains("library @&quot;Lynx&quot; acmed"), "{text}");
}

/// Ends the next job as a crash in this function, with its signature computed under a revision of the lists.
fn finish(test: &TestStore, function: &str, revision: u64) {
    let frame = |function: &str| StoredFrame {
        function: Some(function.into()),
        ..StoredFrame::default()
    };
    let job = test.jobs.next().expect("a job");
    let id = job.id;
    let finished = Finished {
        processed: Payload::from_bytes(b"{}"),
        signature: function.into(),
        processed_at: START,
        facts: Facts::default(),
        lacks: Vec::new(),
        used: Vec::new(),
        named: Input {
            crashing: vec![frame(function), frame("main")],
            ..Input::default()
        },
        revision,
        failure: None,
    };
    test.store.finish(job, finished).expect("the store runs");
    wait_for("the result", || {
        (test.state(id) == Some(State::Processed)).then_some(())
    });
}

#[test]
fn frames_go_with_the_last_crash_that_has_them() {
    let test = TestStore::new();
    for (number, function) in [(1, "a"), (2, "b"), (3, "a")] {
        test.accept_of(number, ["Lynx", "1"], None);
        finish(&test, function, 0);
    }
    let delete = |seq: u64| {
        test.store
            .delete(vec![seq], &[State::Processed])
            .expect("durable")
    };
    assert_eq!(test.store.forget_frames().expect("readable"), 0);
    assert_eq!(delete(1), 1);
    assert_eq!(
        test.store.forget_frames().expect("readable"),
        0,
        "crash 3 has its frames"
    );
    assert_eq!(delete(2), 1);
    assert_eq!(
        test.store.forget_frames().expect("readable"),
        1,
        "b, and not main"
    );
    assert!(test.store.signature_input(2).expect("readable").is_none());
    let left = test
        .store
        .signature_input(3)
        .expect("readable")
        .expect("kept");
    assert_eq!(left.crashing[0].function.as_deref(), Some("a"));
    assert_eq!(delete(3), 1);
    assert_eq!(test.store.forget_frames().expect("readable"), 2);
}

#[test]
fn what_was_named_under_older_lists_meanwhile_is_named_again() {
    let test = TestStore::new();
    let id = test.accept_of(1, ["Lynx", "1"], None);
    let mut texts = ListTexts::builtin();
    texts.0[4] = "rename late => on time".into();
    let revision = test.store.revise(NewRevision {
        texts,
        author: "a".into(),
        comment: String::new(),
        restores: None,
        based_on: 0,
    });
    assert_eq!(revision.expect("durable"), Some(1));
    let naming = Arc::new(Naming::open(test.store.clone(), Ruleset::Crashkeep).expect("lists"));
    naming.start().expect("a thread");
    wait_for("the re-sign of nothing", || {
        let (_, row) = test.store.resigns(1).expect("readable").pop()?;
        row.ended_at_ms
    });
    finish(&test, "late", 0);
    // The thread checks from time to time. Applying another revision wakes it.
    let again = test
        .store
        .list_revision(1)
        .expect("readable")
        .expect("there");
    let new = NewRevision {
        texts: again.texts,
        author: "a".into(),
        comment: String::new(),
        restores: Some(1),
        based_on: 1,
    };
    assert_eq!(naming.revise(new).expect("good lists"), 2);
    wait_for("the new name", || {
        let (_, row) = test.store.crash(id).expect("readable")?;
        (row.processed?.signature == "on time").then_some(())
    });
    let moved = test.store.moved_to("late").expect("readable");
    assert_eq!(moved, [("on time".to_owned(), 1)]);
    naming.stop();
}

#[test]
fn crashes_are_signed_again_when_the_rules_are_others() {
    let data = tempfile::tempdir().expect("a folder");
    let start = |ruleset: &str| {
        let config = data.path().join("c.toml");
        std::fs::write(&config, format!("[signature]\nruleset = {ruleset:?}\n")).expect("written");
        let config = config.to_str().expect("UTF-8");
        Server::start_in(data.path(), &["--config", config])
    };
    let mut server = start("socorro");
    server.install_symbols("acmed");
    let dump = fixture("dumps/linux-x86_64-acmed_panic_abort.dmp");
    let files: [(&str, &str, &[u8]); 1] = [("upload_file_minidump", "x.dmp", &dump)];
    let id = server.submit(&[("ProductName", "Lynx")], &files).crash_id();
    server.wait_processed(&id);
    let before = signature(&server, &id);
    server.terminate();

    let mut server = start("crashkeep");
    let ours = "panic | Option::expect | acmed::config::apply_limits";
    assert_ne!(before, ours);
    wait_for("a new signature", || {
        (signature(&server, &id) == ours).then_some(())
    });
    server.terminate();

    let server = start("socorro");
    wait_for("the signature of siggen", || {
        (signature(&server, &id) == before).then_some(())
    });
}

#[test]
fn a_signature_with_the_same_stack_is_found_and_merged_by_its_form() {
    let server = Server::start();
    server.install_symbols("acmed");
    server.request(
        "POST",
        "/api/SignatureLists/?based_on=0",
        &[],
        lists_with(&server, "rename @Old acmed::render::fetch => fetch_old\n").as_bytes(),
    );
    let dump = fixture("dumps/linux-x86_64-acmed_null_read.dmp");
    let crash = |product: &str, version: &str| {
        let id = server
            .submit(
                &[("ProductName", product), ("Version", version)],
                &[("upload_file_minidump", "x.dmp", &dump)],
            )
            .crash_id();
        server.wait_processed(&id);
        id
    };
    let old = crash("Old", "1.0");
    let new = crash("New", "2.0");
    assert_eq!(signature(&server, &old), "fetch_old");
    assert_eq!(signature(&server, &new), "acmed::render::fetch");
    wait_for("both in the index", || {
        (found(&server, "fetch_old") + found(&server, "acmed::render::fetch") == 2).then_some(())
    });
    let page = server.get("/signature/alike/?signature=fetch_old").text();
    assert!(page.contains("100 %"), "{page}");
    assert!(
        page.contains("became") && page.contains("<b>2.0</b>"),
        "{page}"
    );
    assert_eq!(server.get("/signature/alike/").status, 400);

    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let rule = "signature=fetch_old&kind=merge&to=acmed%3A%3Arender%3A%3Afetch&comment=one+bug";
    let preview = server.request("POST", "/signatures/rule", &form, rule.as_bytes());
    assert_eq!(preview.status, 200);
    let text = preview.text();
    assert!(
        text.contains("# one bug\nmerge fetch_old =&gt; acmed::render::fetch\n"),
        "{text}"
    );
    assert!(text.contains("1 crash changes"), "{text}");
    assert_eq!(
        signature(&server, &old),
        "fetch_old",
        "a preview changes nothing"
    );
    let wrong = server.request(
        "POST",
        "/signatures/rule",
        &form,
        b"signature=a&kind=drop&to=b",
    );
    assert_eq!(wrong.status, 400);
}

#[test]
fn a_group_stays_when_the_signature_of_its_crashes_changes() {
    let server = Server::start();
    let ids: Vec<String> = [("a.x", "1"), ("a.x", "2"), ("a.x", "2"), ("b.y", "1")]
        .iter()
        .map(|(method, kind)| submit(&server, method, &[("Kind", kind)]))
        .collect();
    for id in &ids {
        assert_eq!(server.wait_processed(id), "processed");
    }
    let (x, y) = (named("a.x"), named("b.y"));
    let query = |signature: &str| -> String {
        form_urlencoded::byte_serialize(signature.as_bytes()).collect()
    };
    let group_of = |signature: &str| {
        let answer = server.get(&format!("/api/Group/?signature={}", query(signature)));
        (answer.status == 200).then(|| answer.json())
    };
    let number = |signature: &str| group_of(signature).map(|group| group["group"].clone());
    let (group_x, group_y) = (number(&x).expect("a group"), number(&y).expect("a group"));
    assert!(group_x.as_u64() != group_y.as_u64());
    let leads_to = |group: &Value| {
        let answer = server.get(&format!("/group/{group}"));
        assert_eq!(answer.status, 303, "group {group}");
        answer.header("location").expect("a location").to_owned()
    };
    let page_of = |signature: &str| format!("/signature/?signature={}", query(signature));
    assert_eq!(leads_to(&group_x), page_of(&x));
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let bug = format!(
        "signature={}&bug=https%3A%2F%2Fbugs.example%2F77",
        query(&x)
    );
    let attached = server.request("POST", "/signature/bugs/attach", &form, bug.as_bytes());
    assert_eq!(attached.status, 303, "{}", attached.text());
    let first_seen = |signature: &str| {
        let csv = server
            .get("/topcrashers/?product=Lynx&format=csv&days=1")
            .text();
        let line = csv.lines().find(|line| line.contains(signature));
        line.and_then(|line| line.rsplit(',').next())
            .map(str::to_owned)
    };
    let apply = |rules: &str| {
        let applied = post(&server, "/api/SignatureLists/", &lists_with(&server, rules));
        assert_eq!(applied.status, 200, "{}", applied.text());
        resigned(&server);
    };
    let settled = |what: &str, signature: &str, group: &Value| {
        wait_for(what, || {
            (number(signature).as_ref() == Some(group)).then_some(())
        });
    };

    // A merge: the oldest number stays, and both lead to the same page. The bug and the first date follow.
    apply(&format!("merge {y} => {x}\n"));
    settled("the merge", &x, &group_x);
    wait_for("the end of the other group", || {
        number(&y).is_none().then_some(())
    });
    assert_eq!(
        (leads_to(&group_x), leads_to(&group_y)),
        (page_of(&x), page_of(&x))
    );
    let merged = group_of(&x).expect("a group");
    assert_eq!(merged["merged"], json!([group_y]));
    assert_eq!(merged["former_signatures"], json!([y]));

    // A new name, without the merge. The other group has its own number again.
    apply(&format!("rename {x} => shorter\n"));
    settled("the rename", "shorter", &group_x);
    settled("the parting", &y, &group_y);
    assert_eq!(
        (leads_to(&group_x), leads_to(&group_y)),
        (page_of("shorter"), page_of(&y))
    );
    let top = wait_for("the index", || {
        let top = server.get("/topcrashers/?product=Lynx").text();
        (top.contains("shorter") && !top.contains("a.x")).then_some(top)
    });
    assert!(
        top.contains("bugs.example/77") || top.contains(">77<"),
        "{top}"
    );
    assert!(first_seen("shorter").is_some());

    // A split: the larger part keeps the number, the other one names it as its origin.
    apply(&format!("split {x} by Kind\n"));
    let (larger, smaller) = (format!("{x} | Kind=2"), format!("{x} | Kind=1"));
    settled("the split", &larger, &group_x);
    let part = group_of(&smaller).expect("a group");
    assert_eq!(part["origin"], group_x);
    assert!(page(&server, &smaller).contains(&format!("from <a href=\"/group/{group_x}\">")));

    // Undone: everything is as it was, and the number of the part leads to the whole.
    apply("");
    settled("the undo", &x, &group_x);
    assert_eq!(number(&y), Some(group_y));
    assert_eq!(leads_to(&part["group"]), page_of(&x));
    assert_eq!(server.get("/group/x").status, 400);
    assert_eq!(server.get("/group/99999").status, 404);
}
