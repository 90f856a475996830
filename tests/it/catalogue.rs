//! A site changes its `[[fields]]`: answers of the server while the index is built for the new ones. And two
//! servers with different fields in one process.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crashkeep::appliance::{Appliance, Place};
use crashkeep::config::Config;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::server::{PROGRAM, Server, exchange, request, send_signal, submission, wait_for};

const CRASHES: u64 = 600;
/// The value of a field that a viewer may no longer see.
const SECRET: &str = "hush";

const BEFORE: &str = "
[[fields]]
annotation = \"SecretThing\"
name = \"secret\"
kind = \"string\"
public = true
text = true
[[fields]]
annotation = \"Level\"
kind = \"string\"
public = true
";
const AFTER: &str = "
[[fields]]
annotation = \"SecretThing\"
name = \"secret\"
kind = \"string\"
text = true
[[fields]]
annotation = \"Level\"
kind = \"integer\"
public = true
[[fields]]
annotation = \"Shade\"
kind = \"enum\"
public = true
";

fn annotations(number: u64) -> [(&'static str, String); 5] {
    let trace = "java.lang.Error\n\tat a.b.main(Main.java:7)";
    [
        ("ProductName", "Lynx".into()),
        ("JavaStackTrace", trace.into()),
        ("SecretThing", format!("{SECRET} {number}")),
        ("Level", (number % 9).to_string()),
        ("Shade", ["dark", "light"][number as usize % 2].into()),
    ]
}

fn submit(server: &Server, number: u64) {
    let annotations = annotations(number);
    let annotations: Vec<(&str, &str)> = annotations.iter().map(|(k, v)| (*k, &v[..])).collect();
    let answer = server.submit(&annotations, &[]);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// The answer, and whether it says that it is complete.
fn ask(server: &Server, query: &str, token: &str) -> (Value, bool) {
    let path = format!("/api/SuperSearch/?{query}");
    let answer = server.request("GET", &path, &[("Auth-Token", token)], b"");
    assert_eq!(answer.status, 200, "{query}: {}", answer.text());
    let found = answer.json();
    let is_complete = found["rebuilding"]["is_complete"] != json!(false);
    (found, is_complete)
}

fn crashkeep(data: &Path, arguments: &[&str]) -> String {
    let output = Command::new(PROGRAM)
        .args(arguments)
        .arg("--data")
        .arg(data)
        .current_dir(data.parent().expect("a folder above"))
        .output();
    let output = output.expect("the program runs");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Values that only the new index has are marked as incomplete until it is complete, and never wrong.
fn check_new_fields(server: &Server, count: u64, token: &str) -> bool {
    let (found, is_complete) = ask(
        server,
        "product=Lynx&_facets=level&_facets=shade&_results_number=0",
        token,
    );
    let counts = |field: &str| -> BTreeMap<String, u64> {
        let buckets = found["facets"][field].as_array().expect("a facet").iter();
        let bucket = |b: &Value| (b["term"].to_string(), b["count"].as_u64().expect("a count"));
        buckets.map(bucket).collect()
    };
    let expected = |value: &dyn Fn(u64) -> String| {
        let mut counts = BTreeMap::<String, u64>::new();
        (0..count).for_each(|number| *counts.entry(value(number)).or_default() += 1);
        counts
    };
    for (field, expected) in [
        ("level", expected(&|number| (number % 9).to_string())),
        (
            "shade",
            expected(&|number| format!("\"{}\"", annotations(number)[4].1)),
        ),
    ] {
        let found = counts(field);
        let is_part = { found.iter() }.all(|(term, n)| expected.get(term).is_some_and(|m| n <= m));
        assert!(is_part, "{field}: {found:?} of {expected:?}");
        assert!(!is_complete || found == expected, "{field}: {found:?}");
    }
    if !is_complete {
        assert_eq!(found["rebuilding"]["fields"], json!(["level", "shade"]));
    }
    is_complete
}

/// A file contains every crash, or is refused with the names of the fields that are not built.
fn check_files(server: &Server, count: u64, token: &str) {
    let file = |columns: &str| {
        let path = format!("/api/SearchExport/?{columns}");
        server.request("GET", &path, &[("Auth-Token", token)], b"")
    };
    let lines = |text: &str| text.lines().count() as u64 - 1;
    assert_eq!(lines(&file("_columns=uuid").text()), count);
    let file = file("_columns=uuid&_columns=level");
    match file.status {
        200 => assert_eq!(lines(&file.text()), count),
        503 => {
            assert!(file.text().contains("level"), "{}", file.text());
            assert!(file.header("retry-after").is_some());
        }
        other => panic!("{other}: {}", file.text()),
    }
}

#[test]
fn searches_go_on_and_nothing_leaks_while_the_index_is_built_for_other_fields_and_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let [viewer, admin] = ["viewer", "admin"].map(|role| {
        crashkeep(&data, &["user", "add", role, "--role", role]);
        crashkeep(&data, &["token", "create", "--user", role])
    });
    let config = folder.path().join("other.toml");
    let start = || {
        let config = config.to_str().expect("a plain path");
        Server::start_in(&data, &["--config", config])
    };
    std::fs::write(&config, BEFORE).expect("a file");
    let mut server = start();
    std::thread::scope(|scope| {
        for part in 0..8 {
            let server = &server;
            scope.spawn(move || (part..CRASHES).step_by(8).for_each(|n| submit(server, n)));
        }
    });
    let total =
        |server: &Server, query: &str, token: &str| ask(server, query, token).0["total"].as_u64();
    let some = "_results_number=0";
    wait_for("the first index", || {
        let (found, is_complete) = ask(&server, some, &admin);
        (found["total"] == CRASHES && is_complete).then_some(())
    });
    assert_eq!(total(&server, "q=hush", &viewer), Some(CRASHES));
    assert_eq!(
        total(&server, "level=~1", &admin),
        Some(CRASHES.div_ceil(9))
    );
    assert_eq!(server.terminate(), Some(0));

    std::fs::write(&config, AFTER).expect("a file");
    let mut count = CRASHES;
    // Each run is killed when this many rows are built. The last one builds all.
    for rows in [0, 1, 200, 400, u64::MAX] {
        let mut server = start();
        let is_complete = check_new_fields(&server, count, &admin);
        assert!(rows != 0 || !is_complete, "it has hardly begun");
        let hidden = "secret=hush&_columns=secret&_columns=product&_facets=secret&q=lynx";
        let (shown, _) = ask(&server, hidden, &viewer);
        assert!(!shown.to_string().contains(SECRET), "{shown}");
        assert_eq!(total(&server, "q=hush", &viewer), Some(0));
        assert_eq!(
            total(&server, "secret=hush", &admin),
            Some(count),
            "who may see it"
        );
        check_files(&server, count, &admin);
        if rows > 0 {
            submit(&server, count);
            wait_for("the new crash", || {
                let (found, is_complete) = ask(&server, "product=Lynx&_results_number=0", &admin);
                assert!(is_complete, "{found}");
                let total = found["total"].as_u64().expect("a total");
                assert!(total == count || total == count + 1, "{total} of {count}");
                (total > count).then_some(())
            });
            count += 1;
            wait_for("the build", || {
                assert_eq!(total(&server, some, &admin), Some(count));
                check_new_fields(&server, count, &admin);
                let status = ask(&server, some, &admin).0;
                let done = status["rebuilding"]["rows"].as_u64();
                done.is_none_or(|done| done >= rows).then_some(())
            });
        }
        if rows < u64::MAX {
            send_signal(server.child.id(), Signal::KILL);
            server.child.wait().expect("its end");
        } else {
            assert!(check_new_fields(&server, count, &admin));
        }
    }
    let left = std::fs::read_dir(data.join("index")).expect("a folder");
    assert_eq!(
        left.count(),
        2,
        "a folder, and which: nothing of the old one is left"
    );
}

#[test]
fn two_servers_with_different_fields_run_in_one_process() {
    let start = |data: &Path, settings: &str| {
        let text = format!("[http]\nlisten = \"127.0.0.1:0\"\n[workers]\ncount = 1\n{settings}");
        let place = Place {
            data: data.to_owned(),
            program: PROGRAM.into(),
            read_only: false,
        };
        let config = Config::parse("test", &text).expect("a configuration");
        Appliance::start(config, &place).expect("a server")
    };
    let ask = |server: &Appliance, path: &str| {
        let key = server.local_key().expect("a key");
        let asked = request("GET", path, &[("Auth-Token", &key)], b"");
        exchange(&server.address().to_string(), &asked, false).expect("an answer")
    };
    let folder = tempfile::tempdir().expect("a folder");
    // The same annotation with two names and kinds, and two annotations that identify an installation.
    let settings = |name: &str, kind: &str, told_by: &str| {
        format!(
            "[installations]\ntold_by = \"{told_by}\"\n[[fields]]\nannotation = \"Level\"\nname = \"{name}\"\nkind = \"{kind}\"\n"
        )
    };
    let one = start(
        &folder.path().join("one"),
        &settings("level", "integer", "Host"),
    );
    let other = start(
        &folder.path().join("other"),
        &settings("stage", "string", "Seat"),
    );
    for server in [&one, &other] {
        let crash = [("ProductName", "Lynx"), ("Level", "7"), ("Host", "a")];
        let sent = submission(&crash, &[]);
        let answer = exchange(&server.address().to_string(), &sent, false);
        answer.expect("an answer").crash_id();
        wait_for("the crash in the index", || {
            let found = ask(server, "/api/SuperSearch/?product=Lynx").json();
            (found["total"] == 1).then_some(())
        });
    }
    let found = |server: &Appliance, condition: &str| {
        let answer = ask(server, &format!("/api/SuperSearch/?{condition}"));
        (answer.status, answer.json()["total"].as_u64())
    };
    assert_eq!(found(&one, "level=>=5"), (200, Some(1)));
    assert_eq!(found(&other, "stage=7"), (200, Some(1)));
    assert_eq!(found(&one, "stage=7").0, 400, "the other server's field");
    assert_eq!(
        found(&other, "level=>=5").0,
        400,
        "the other server's field"
    );
    assert_eq!(found(&one, "installation=!__null__"), (200, Some(1)));
    assert_eq!(found(&other, "installation=!__null__"), (200, Some(0)));
    one.stop();
    other.stop();
}
