//! Bugs over a real server: links that file them, bugs attached by hand, and those that a
//! Bugzilla names in its crash-signature field.

use std::path::Path;

use crate::server::{Answer, Server, fixture, wait_for};
use crate::topcrashers::{plain, section};

const FORM: [(&str, &str); 1] = [("Content-Type", "application/x-www-form-urlencoded")];

/// A server with a configuration.
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

/// A form's body or a query.
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

/// The address of the first link with this text.
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
    assert!(description.contains("\nTop 10 frames of crashing thread:\n0  null_read_av  "));
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
