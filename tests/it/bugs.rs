//! Bugs on a real server: links that file them, bugs that users attached, and bugs whose crash-signature
//! field in a Bugzilla names a signature.

use std::path::Path;
use std::time::Duration;

use crashkeep::bugs::reference;
use crashkeep::bugzilla::{Pass, Tracker};
use crashkeep::clock::{Clock, DAY_MS, Timestamp};
use crashkeep::outbound::{Bounds, Outbound};
use crashkeep::store::bugs::{Association, BugChange};
use crossbeam_channel::bounded;

use crate::fake_bugzilla::{FakeBugzilla, Mood};
use crate::retention::{START, TestStore};
use crate::server::{Answer, PATIENCE, Server, fixture, wait_for};
use crate::topcrashers::{plain, section};

const FORM: [(&str, &str); 1] = [("Content-Type", "application/x-www-form-urlencoded")];

/// A server with this configuration.
fn server(folder: &Path, config: &str) -> Server {
    let file = folder.join("a.toml");
    std::fs::write(&file, config).expect("written");
    let file = file.to_str().expect("a plain path");
    Server::start_in(&folder.join("data"), &["--config", file])
}

fn crash(server: &Server, product: &str) -> String {
    let dump = fixture("dumps/linux-x86_64-null_read_av.dmp");
    let annotations = [
        ("ProductName", product),
        ("Version", "1.2"),
        ("BuildID", "20261101"),
        ("Comments", "TOP SECRET"),
        ("URL", "https://secret.example/"),
    ];
    let id = server
        .submit(&annotations, &[("upload_file_minidump", "x", &dump)])
        .crash_id();
    assert_eq!(server.wait_processed(&id), "processed");
    id
}

fn signature(server: &Server, id: &str) -> String {
    let signature = server.processed(id)["signature"].clone();
    signature.as_str().expect("a signature").to_owned()
}

/// The body of a form, or a query.
fn pairs(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(pairs)
        .finish()
}

fn post(server: &Server, path: &str, form: &[(&str, &str)]) -> Answer {
    server.request("POST", path, &FORM, pairs(form).as_bytes())
}

fn signature_page(server: &Server, signature: &str) -> String {
    let answer = server.get(&format!(
        "/signature/?{}",
        pairs(&[("signature", signature)])
    ));
    assert_eq!(answer.status, 200);
    answer.text()
}

fn bugs_of(server: &Server, signature: &str) -> serde_json::Value {
    let query = pairs(&[("signatures", signature)]);
    server.get(&format!("/api/Bugs/?{query}")).json()
}

/// The URL of the first link with this text.
fn link(html: &str, text: &str) -> String {
    let end = html
        .find(&format!(">{text}</a>"))
        .unwrap_or_else(|| panic!("no link {text}"));
    let start = html[..end].rfind("href=\"").expect("an address") + 6;
    let address = &html[start..];
    let address = &address[..address.find('"').expect("its end")];
    address.replace("&amp;", "&")
}

#[test]
fn links_file_a_bug_about_a_crash_with_what_is_public_of_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = "[[bug_template]]\nname = \"Everywhere <x>\"\n\
        url = \"https://bugs.example/new?t={title}&d={description}&v={version}&b={build_id}&p={product}&os={op_sys}&cpu={rep_platform}&{{\"\n\
        [[bug_template]]\nname = \"Only B\"\nproduct = \"B\"\nurl = \"https://b.example/{uuid}\"\n";
    let server = server(folder.path(), config);
    let id = crash(&server, "A & Co");
    let name = signature(&server, &id);

    let report = server.get(&format!("/report/index/{id}")).text();
    let address = link(&report, "Everywhere &lt;x&gt;");
    let query = address
        .strip_prefix("https://bugs.example/new?")
        .expect("the template's own text");
    let values: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes())
        .into_owned()
        .collect();
    let value = |key: &str| {
        let found = values.iter().find(|(k, _)| k == key);
        found
            .unwrap_or_else(|| panic!("{key} in {query}"))
            .1
            .as_str()
    };
    assert_eq!(value("t"), format!("Crash in [@ {name}]"));
    assert_eq!(
        (value("v"), value("b"), value("p")),
        ("1.2", "20261101", "A & Co")
    );
    assert_eq!(value("cpu"), "amd64");
    assert_eq!(value("os"), server.processed(&id)["os_pretty_version"]);
    let description = value("d");
    assert!(
        description.starts_with(&format!(
            "Crash report: http://127.0.0.1/report/index/{id}\n\nReason: SIGSEGV\n"
        )),
        "{description}"
    );
    assert!(description.contains("\nTop 10 frames of crashing thread:\n```\n0  null_read_av  "));
    assert!(query.ends_with("&{"), "a doubled brace is one");
    assert!(!query.to_lowercase().contains("secret"), "{query}");
    assert!(!report.contains("Only B"), "that is another product's");

    let page = wait_for("the crash in the index", || {
        Some(signature_page(&server, &name)).filter(|page| page.contains("Everywhere"))
    });
    assert_eq!(
        link(&page, "Everywhere &lt;x&gt;"),
        address,
        "of the newest crash"
    );
    assert!(!page.contains("Only B"));
    let of_b = crash(&server, "B");
    let newest = |page: String| link(&page, "Only B") == format!("https://b.example/{of_b}");
    wait_for("the crash in the index", || {
        let page = signature_page(&server, &name);
        (page.contains("Only B") && newest(page)).then_some(())
    });
    let query = pairs(&[("signature", &name), ("product", "A & Co")]);
    let of_a = server.get(&format!("/signature/?{query}")).text();
    assert_eq!(link(&of_a, "Everywhere &lt;x&gt;"), address);
    assert!(
        !of_a.contains("Only B"),
        "the reader asked for another product"
    );
}

#[test]
fn the_public_address_stands_in_links_where_it_is_set() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = "[http]\npublic_url = \"https://crashes.example/\"\n\
        [[bug_template]]\nname = \"T\"\nurl = \"https://b.example/?{crash_url}|{signature_url}\"\n";
    let server = server(folder.path(), config);
    let id = crash(&server, "A");
    let report = server.get(&format!("/report/index/{id}")).text();
    let address = percent_encoding::percent_decode_str(&link(&report, "T"))
        .decode_utf8_lossy()
        .into_owned();
    let expected = format!(
        "https://b.example/?https://crashes.example/report/index/{id}|https://crashes.example/signature/?signature="
    );
    assert!(address.starts_with(&expected), "{address}");
}

#[test]
fn a_bug_is_attached_by_hand_and_outlives_the_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut first = server(folder.path(), "");
    let id = crash(&first, "A");
    let name = signature(&first, &id);
    let none = bugs_of(&first, &name);
    assert_eq!(none, serde_json::json!({"hits": [], "total": 0}));

    let attach = |server: &Server, bug: &str| {
        post(
            server,
            "/signature/bugs/attach",
            &[("signature", &name), ("bug", bug)],
        )
    };
    for (bug, status, word) in [
        ("https://github.com/o/r/issues/12#issuecomment-3", 303, ""),
        ("https://bugs.example/show_bug.cgi?id=77", 303, ""),
        ("https://bugs.example/77", 303, ""),
        ("javascript:alert(1)", 400, "does not begin with https://"),
        ("78", 400, "set [bugzilla] url"),
        ("", 400, "bug is missing"),
    ] {
        let answer = attach(&first, bug);
        assert_eq!(answer.status, status, "{bug}");
        let text = plain(&answer.text());
        assert!(text.contains(word), "{bug}: {text}");
    }
    let long = "x".repeat(2_000);
    let answer = post(
        &first,
        "/signature/bugs/attach",
        &[("signature", &long), ("bug", "1")],
    );
    assert_eq!(answer.status, 400);
    let foreign = [FORM[0], ("Origin", "https://evil.example")];
    let body = pairs(&[("signature", &name), ("bug", "https://b.example/1")]);
    let answer = first.request("POST", "/signature/bugs/attach", &foreign, body.as_bytes());
    assert_eq!(answer.status, 403);

    let both = serde_json::json!({"hits": [
        {"id": 77, "signature": name}, {"id": "o/r#12", "signature": name}
    ], "total": 2});
    assert_eq!(bugs_of(&first, &name), both);
    assert_eq!(first.terminate(), Some(0));

    let second = server(folder.path(), "");
    assert_eq!(bugs_of(&second, &name), both);
    let posted = post(
        &second,
        "/api/Bugs/",
        &[("signatures", &name), ("signatures", "none")],
    );
    assert_eq!(posted.json(), both, "Socorro's clients may post");
    let by_bug = second.get("/api/SignaturesByBugs/?bug_ids=77&bug_ids=78");
    assert_eq!(
        by_bug.json(),
        serde_json::json!({"hits": [{"id": 77, "signature": name}], "total": 1})
    );
    for path in ["/api/Bugs/", "/api/SignaturesByBugs/?bug_ids="] {
        assert_eq!(second.get(path).status, 400, "{path}");
    }

    let bugs = section(&signature_page(&second, &name), "Bugs");
    assert_eq!(
        link(&bugs, "o/r#12"),
        "https://github.com/o/r/issues/12#issuecomment-3"
    );
    assert_eq!(link(&bugs, "77"), "https://bugs.example/show_bug.cgi?id=77");
    let report = second.get(&format!("/report/index/{id}")).text();
    assert!(plain(&section(&report, "Bugs")).contains("o/r#12"));
    let top = second.get("/topcrashers/?product=A").text();
    assert_eq!(link(&top, "77"), "https://bugs.example/show_bug.cgi?id=77");
    assert!(link(&top, "r#12").ends_with("/o/r/issues/12#issuecomment-3"));

    let detach = |id: &str, tracker: &str| {
        let form = [
            ("signature", name.as_str()),
            ("id", id),
            ("tracker", tracker),
        ];
        post(&second, "/signature/bugs/detach", &form).status
    };
    assert_eq!(detach("77", "https://github.com"), 404);
    assert_eq!(detach("77", "https://bugs.example"), 303);
    assert_eq!(detach("77", "https://bugs.example"), 404);
    assert_eq!(detach("o/r#12", "https://github.com"), 303);
    assert_eq!(bugs_of(&second, &name), none);
    assert!(
        !second
            .get("/topcrashers/?product=A")
            .text()
            .contains("/issues/12")
    );
}

#[test]
fn a_bug_s_other_signatures_are_answered_too() {
    let server = Server::start();
    for (signature, bug) in [
        ("a | b", "7"),
        ("c", "7"),
        ("c", "8"),
        ("d", "8"),
        ("e", "9"),
    ] {
        let bug = format!("https://bugs.example/{bug}");
        let form = [("signature", signature), ("bug", bug.as_str())];
        assert_eq!(post(&server, "/signature/bugs/attach", &form).status, 303);
    }
    let expected = serde_json::json!({"hits": [
        {"id": 7, "signature": "a | b"}, {"id": 7, "signature": "c"},
    ], "total": 2});
    assert_eq!(bugs_of(&server, "a | b"), expected);
    assert_eq!(bugs_of(&server, "c")["total"], 4);
    let page = signature_page(&server, "c");
    let bugs = section(&page, "Bugs");
    let (newer, older) = (bugs.find(">8</a>"), bugs.find(">7</a>"));
    assert!(newer.expect("8") < older.expect("7"), "newest first");
}

/// A store that is fed by a fake Bugzilla.
struct Polling {
    test: TestStore,
    fake: FakeBugzilla,
    tracker: Tracker,
}

impl Polling {
    fn new() -> Self {
        Self::within(Bounds::default())
    }

    fn within(bounds: Bounds) -> Self {
        let (test, fake) = (TestStore::new(), FakeBugzilla::start());
        let tracker = Tracker {
            store: test.store.clone(),
            outbound: Outbound::to(&[&fake.url()], bounds),
            url: fake.url(),
        };
        Self {
            test,
            fake,
            tracker,
        }
    }

    fn pass(&self) -> Result<Pass, String> {
        let (_wake, woken) = bounded(1);
        let pass = self.tracker.pass(self.test.clock.now(), &woken);
        pass.map_err(|error| error.to_string())
    }

    fn days_later(&self, days: i64) {
        let now = self.test.clock.now().ms() + days * DAY_MS;
        self.test.clock.set(Timestamp::from_ms(now));
    }

    /// The signatures of a bug in the store.
    fn signatures(&self, id: u64) -> Vec<String> {
        let found = self.test.store.signatures_of(&[id.to_string()]);
        let found = found.expect("readable").into_iter();
        found.map(|association| association.signature).collect()
    }

    fn bug(&self, signature: &str) -> Association {
        let found = self.test.store.bugs_of(&[signature.to_owned()]);
        let mut found = found.expect("readable").remove(signature).expect("a bug");
        assert_eq!(found.len(), 1);
        found.remove(0)
    }
}

const NO: [&str; 0] = [];

#[test]
fn what_a_bug_s_field_names_comes_changes_and_goes() {
    let polling = Polling::new();
    polling
        .fake
        .put(7, "[@ a | b]\n[@ f<T[4]>::g ]", "2026-11-22");
    polling.fake.put(8, "", "2026-11-22");
    polling.fake.put(9, "[@ old]", "2026-11-20");
    assert_eq!(
        polling.pass(),
        Ok(Pass {
            changed: 2,
            refreshed: 0
        })
    );
    assert_eq!(polling.signatures(7), ["a | b", "f<T[4]>::g"]);
    assert_eq!(polling.signatures(8), NO);
    assert_eq!(polling.signatures(9), NO, "made before the first look");
    let bug = polling.bug("a | b");
    assert_eq!((bug.by_hand, bug.polled), (false, true));
    assert_eq!(
        bug.bug.url,
        format!("{}/show_bug.cgi?id=7", polling.fake.url())
    );
    let standing = &bug.bug.standing;
    assert_eq!(
        (standing.status.as_str(), standing.is_open),
        ("NEW", Some(true))
    );
    assert_eq!(standing.summary, "Crash <7>");

    polling.days_later(1);
    polling.fake.put(7, "[@ a | b] [@ c]", "2026-11-23");
    polling.pass().expect("a pass");
    assert_eq!(polling.signatures(7), ["a | b", "c"]);

    polling.days_later(1);
    polling.fake.put(7, "gone", "2026-11-24");
    polling.pass().expect("a pass");
    assert_eq!(polling.signatures(7), NO);
    let known = polling.test.store.bugs_in(&polling.fake.url());
    assert_eq!(
        known.expect("readable"),
        NO,
        "a bug about nothing is forgotten"
    );
}

#[test]
fn bugzilla_is_asked_in_its_own_words_from_before_the_last_success_on() {
    let polling = Polling::new();
    polling.fake.put(7, "[@ a]", "2026-11-22");
    polling.pass().expect("a pass");
    let words = |days: &str| -> Vec<(String, String)> {
        [
            ("chfield", "[Bug creation]"),
            ("chfield", "cf_crash_signature"),
            ("chfieldfrom", days),
            ("chfieldto", "Now"),
            (
                "include_fields",
                "id,status,resolution,summary,is_open,cf_crash_signature",
            ),
            ("order", "bug_id"),
            ("limit", "200"),
            ("offset", "0"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    };
    assert_eq!(polling.fake.asked(), [words("2026-11-21")]);

    polling.days_later(10);
    polling.fake.mood(Mood::Status(503));
    polling.pass().expect_err("no pass");
    polling.fake.mood(Mood::Well);
    polling.fake.asked();
    polling.pass().expect("a pass");
    assert_eq!(
        polling.fake.asked(),
        [words("2026-11-21")],
        "as if there had been no failure"
    );
    polling.pass().expect("a pass");
    let standing = [
        ("id", "7"),
        ("include_fields", "id,status,resolution,summary,is_open"),
    ];
    let standing = standing.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(polling.fake.asked(), [words("2026-12-01"), standing.into()]);
    let last = polling.test.store.last_pass(&polling.fake.url());
    assert_eq!(last.expect("readable"), Some(polling.test.clock.now()));
}

#[test]
fn what_people_attached_stays_whatever_the_field_says() {
    let polling = Polling::new();
    let by_hand = |number: u64, signature: &str| BugChange::Attach {
        bug: reference::in_bugzilla(&polling.fake.url(), number),
        signature: signature.into(),
    };
    let changes = vec![by_hand(7, "both"), by_hand(7, "hand"), by_hand(8, "x")];
    polling.test.store.change_bugs(changes).expect("durable");
    polling.fake.put(7, "[@ both] [@ field]", "2026-11-22");
    polling.fake.put(8, "", "2026-11-01");
    assert_eq!(
        polling.pass(),
        Ok(Pass {
            changed: 1,
            refreshed: 1
        })
    );
    assert_eq!(polling.signatures(7), ["both", "field", "hand"]);
    assert_eq!(
        polling.bug("x").bug.standing.status,
        "NEW",
        "of other bugs, too"
    );

    polling.fake.put(7, "", "2026-11-22");
    polling.pass().expect("a pass");
    assert_eq!(polling.signatures(7), ["both", "hand"]);
    let both = polling.bug("both");
    assert_eq!((both.by_hand, both.polled), (true, false));

    polling.fake.put(7, "[@ both]", "2026-11-22");
    polling.pass().expect("a pass");
    let detach = |signature: &str| BugChange::Detach {
        key: both.bug.key.clone(),
        signature: signature.into(),
    };
    let changes = vec![detach("both"), detach("hand"), detach("never was")];
    polling.test.store.change_bugs(changes).expect("durable");
    assert_eq!(polling.signatures(7), ["both"], "the field says so still");
}

#[test]
fn many_bugs_come_in_pages_and_are_asked_for_in_batches() {
    let polling = Polling::new();
    for id in 1..=450 {
        polling.fake.put(id, &format!("[@ s{id}]"), "2026-11-22");
    }
    assert_eq!(
        polling.pass(),
        Ok(Pass {
            changed: 450,
            refreshed: 0
        })
    );
    assert_eq!(polling.fake.asked().len(), 3);
    assert_eq!(polling.signatures(450), ["s450"]);
    polling.days_later(20);
    polling.pass().expect("a pass");
    polling.days_later(1);
    polling.fake.resolve(333);
    polling.fake.asked();
    assert_eq!(
        polling.pass(),
        Ok(Pass {
            changed: 0,
            refreshed: 450
        })
    );
    assert_eq!(polling.fake.asked().len(), 1 + 5);
    let bug = polling.bug("s333").bug;
    assert_eq!(bug.standing.resolution, "FIXED");
    assert!(bug.is_resolved() && !polling.bug("s334").bug.is_resolved());
}

#[test]
fn an_answer_that_is_none_changes_nothing_and_says_why() {
    let bounds = |whole| Bounds {
        connect: PATIENCE,
        whole,
        body_bytes: 10_000,
    };
    let hasty = Polling::within(bounds(Duration::from_secs(1)));
    hasty.fake.mood(Mood::Silent);
    let error = hasty.pass().expect_err("no answer");
    assert!(error.contains("did not answer in time"), "{error}");

    let polling = Polling::within(bounds(PATIENCE));
    polling.fake.put(7, "[@ a]", "2026-11-22");
    polling.pass().expect("a pass");
    polling.fake.put(7, "[@ b]", "2026-11-22");
    let elsewhere = FakeBugzilla::start();
    elsewhere.put(7, "[@ evil]", "2026-11-22");
    for (mood, why) in [
        (
            Mood::Refuses(200),
            "status 200: Can't use cf_crash_signature",
        ),
        (
            Mood::Refuses(400),
            "status 400: Can't use cf_crash_signature",
        ),
        (Mood::Status(500), "status 500"),
        (Mood::Status(200), "its answer is invalid:"),
        (
            Mood::Redirects(elsewhere.url()),
            "redirects are not followed",
        ),
        (
            Mood::Redirects("/rest/bug".into()),
            "redirects are not followed",
        ),
        (Mood::Huge(20_000), "larger than 10000 bytes"),
    ] {
        polling.fake.mood(mood.clone());
        let error = polling.pass().expect_err(why);
        assert!(error.contains(why), "{mood:?}: {error}");
        assert_eq!(polling.signatures(7), ["a"], "{mood:?}");
    }
    assert_eq!(elsewhere.asked(), Vec::<Vec<_>>::new(), "nobody went there");
    let last = polling.test.store.last_pass(&polling.fake.url());
    assert_eq!(last.expect("readable"), Some(START));
    polling.fake.mood(Mood::Well);
    polling.pass().expect("it is well again");
    assert_eq!(polling.signatures(7), ["b"]);
}

#[test]
fn a_pass_ends_between_two_questions_when_the_server_stops() {
    let polling = Polling::new();
    let (wake, woken) = bounded(1);
    drop(wake);
    let pass = polling.tracker.pass(START, &woken);
    assert_eq!(
        pass.expect_err("no pass").to_string(),
        "the server is stopping"
    );
    assert_eq!(polling.fake.asked(), Vec::<Vec<_>>::new());
}

#[test]
fn a_server_without_tls_is_told_from_one_with_it() {
    let fake = FakeBugzilla::start();
    let url = format!("https://{}", fake.address);
    let outbound = Outbound::to(&[&url], Bounds::default());
    let error = outbound.get(&url).expect_err("no TLS").to_string();
    assert!(!error.is_empty());
    assert_eq!(fake.asked(), Vec::<Vec<_>>::new());
}

#[test]
fn pages_show_how_the_tracker_s_bugs_stand() {
    let fake = FakeBugzilla::start();
    let folder = tempfile::tempdir().expect("a folder");
    let config = format!("[bugzilla]\nurl = \"{}\"\nevery = \"100 ms\"\n", fake.url());
    let mut server = server(folder.path(), &config);
    let id = crash(&server, "A");
    let name = signature(&server, &id);
    let day = "9999-01-01";
    fake.put(70, &format!("[@ {name} ]"), day);
    fake.put(71, "", day);
    let form = [("signature", name.as_str()), ("bug", "71")];
    assert_eq!(post(&server, "/signature/bugs/attach", &form).status, 303);
    wait_for("both bugs", || {
        (bugs_of(&server, &name)["total"] == 2).then_some(())
    });

    let bugs = wait_for("how the bugs stand", || {
        let bugs = section(&signature_page(&server, &name), "Bugs");
        (bugs.matches("NEW").count() >= 2).then_some(bugs)
    });
    assert!(bugs.contains("Crash &lt;70&gt;"), "{bugs}");
    assert!(!bugs.contains("<s>"), "{bugs}");
    let text = plain(&bugs);
    assert!(
        text.contains("from the bug") && text.contains("Detach"),
        "{text}"
    );
    let detach = [
        ("signature", name.as_str()),
        ("id", "70"),
        ("tracker", &fake.url()),
    ];
    let answer = post(&server, "/signature/bugs/detach", &detach);
    assert_eq!(answer.status, 409);
    assert!(answer.text().contains("crash-signature field"));

    fake.resolve(70);
    let struck = |html: &str, id: u64| {
        let link = html.find(&format!(">{id}</a>")).expect("the bug");
        let count = |tag: &str| html[..link].matches(tag).count();
        count("<s>") > count("</s>")
    };
    wait_for("the resolved bug", || {
        let bugs = section(&signature_page(&server, &name), "Bugs");
        struck(&bugs, 70).then_some(())
    });
    let pages = [
        "/topcrashers/?product=A".to_owned(),
        format!("/report/index/{id}"),
    ];
    for page in pages {
        let html = wait_for("the page", || {
            Some(server.get(&page).text()).filter(|html| html.contains(">70</a>"))
        });
        assert!(struck(&html, 70) && !struck(&html, 71), "{page}");
    }

    assert!(server.metric("crashkeep_bugzilla_passes_total{outcome=\"ok\"}") > 1);
    assert!(server.metric("crashkeep_bugzilla_last_success_seconds") > 1_700_000_000);
    assert_eq!(server.metric("crashkeep_bugzilla_failing"), 0);
    fake.mood(Mood::Redirects("http://127.0.0.1:9/".into()));
    wait_for("the failure on the status page", || {
        let status = plain(&section(&server.get("/status/").text(), "Bug tracker"));
        (status.contains("it redirects to") && status.contains("Last successful poll"))
            .then_some(())
    });
    assert_eq!(server.metric("crashkeep_bugzilla_failing"), 1);
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn without_a_tracker_nobody_is_asked() {
    let server = Server::start();
    let threads = format!("/proc/{}/task", server.child.id());
    // A thread sets its name shortly after its start.
    let names = wait_for("the threads", || {
        let tasks = std::fs::read_dir(&threads).expect("threads");
        let names: Vec<String> = tasks
            .filter_map(|task| {
                std::fs::read_to_string(task.expect("a thread").path().join("comm")).ok()
            })
            .collect();
        let is_named = names.iter().any(|name| name.trim() == "retention");
        is_named.then_some(names)
    });
    assert!(
        !names.iter().any(|name| name.trim() == "bugzilla"),
        "{names:?}"
    );
    assert!(!server.get("/status/").text().contains("Bug tracker"));
    assert!(
        !server
            .get("/metrics")
            .text()
            .contains("bugzilla_last_success")
    );
}
