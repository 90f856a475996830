//! Commands without a server, and `submit` with one.

use std::process::{Command, Output};

use crate::server::{PROGRAM, Server, fixtures, wait_for};

fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM)
        .args(arguments)
        .output()
        .expect("the program runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn submit_prints_the_answer_of_the_collector() {
    let server = Server::start();
    let dump = fixtures().join("dumps/linux-x86_64-null_read_av.dmp");
    let dump = dump.to_str().expect("a plain path");
    let url = format!("http://{}/submit", server.address);
    let named = format!("upload_file_minidump_browser={dump}");
    let output = run(&[
        "submit",
        &url,
        "--dump",
        dump,
        "--dump",
        &named,
        "-a",
        "ProductName=A",
        "-a",
        "Note=x=\"y\"",
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    let id = text.trim().strip_prefix("CrashID=bp-").expect("a crash id");
    let raw = server.get(&format!("/api/RawCrash/?crash_id={id}")).json();
    assert_eq!(
        (raw["ProductName"].as_str(), raw["Note"].as_str()),
        (Some("A"), Some("x=\"y\""))
    );
    assert_eq!(
        raw["metadata"]["dump_checksums"]
            .as_object()
            .map(|m| m.len()),
        Some(2)
    );

    let output = run(&["submit", "https://127.0.0.1:1/submit", "--dump", dump]);
    assert!(!output.status.success());
    assert!(
        stderr(&output).contains("only http:// URLs"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn reindex_builds_the_index_anew_while_no_server_runs() {
    let root = tempfile::tempdir().expect("a folder");
    let data = root.path().join("data");
    let path = data.to_str().expect("a plain path");
    let mut server = Server::start_in(&data, &[]);
    let trace = "java.lang.Error\n\tat a.b.main(Main.java:7)";
    let annotations = [("ProductName", "Lynx"), ("JavaStackTrace", trace)];
    let ids: Vec<String> = (0..3)
        .map(|_| server.submit(&annotations, &[]).crash_id())
        .collect();
    ids.iter().for_each(|id| drop(server.wait_processed(id)));
    // One that is still being built in place would be gone on with.
    wait_for("the first index", || {
        let found = server.get("/api/SuperSearch/?product=Lynx").json();
        (found["total"] == 3 && found.get("rebuilding").is_none()).then_some(())
    });
    let output = run(&["reindex", "--data", path]);
    assert!(!output.status.success());
    let text = stderr(&output);
    assert!(text.contains("open in another process (pid "), "{text}");
    server.terminate();

    let output = run(&["reindex", "--data", path]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.starts_with("3 crashes indexed in "), "{text}");
    let server = Server::start_in(&data, &[]);
    let found = server.get("/api/SuperSearch/?product=Lynx").json();
    assert_eq!(found["total"], 3, "no waiting: it was whole at the start");
    assert!(found.get("rebuilding").is_none(), "{found}");
}

#[test]
fn config_check_names_file_line_and_what_is_accepted() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("a.toml");
    let path = file.to_str().expect("a plain path");
    std::fs::write(
        &file,
        "[http]\nlisten = \"127.0.0.1:1\"\n\n[workers]\nwalk_deadline = 60\n",
    )
    .expect("written");
    let output = run(&["config", "check", "--config", path]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("a.toml:5: [workers] walk_deadline must be a time such as"),
        "{}",
        stderr(&output)
    );

    std::fs::write(&file, "[workers]\ncount = 3\n").expect("written");
    assert!(run(&["config", "check", "--config", path]).status.success());
    let printed = stdout(&run(&["config", "print", "--config", path]));
    assert!(
        printed
            .lines()
            .any(|l| l.starts_with("count = 3") && l.ends_with("a.toml:2")),
        "{printed}"
    );
    assert!(
        printed
            .lines()
            .any(|l| l.starts_with("report_bytes_max = \"100 MiB\"") && l.ends_with("# default"))
    );

    let output = run(&["serve", "--config", "/nonexistent.toml"]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn the_help_names_every_command() {
    let help = stdout(&run(&["--help"]));
    for command in ["serve", "walk", "submit", "signature", "config"] {
        assert!(help.contains(command), "{help}");
    }
    assert!(
        !help.contains("walker"),
        "the child of a worker is nobody's command"
    );
}

#[test]
fn the_demo_is_filled_when_it_says_that_it_listens() {
    let mut server = Server::start_demo();
    let metric = |name: &str| server.metric(name);
    let received = metric("crashkeep_received_total");
    assert!(received > 100, "{received}");
    assert_eq!(
        metric("crashkeep_discarded_total{reason=\"rule_no_local_builds\"}"),
        1
    );
    assert_eq!(metric("crashkeep_deferred"), 1);
    assert_eq!(metric("crashkeep_processed") + 2, received);
    let partly = "/api/SuperSearch/?processor_notes=~walked+in+part&_results_number=0";
    assert_eq!(
        server.get(partly).json()["total"],
        1,
        "one dump is too much"
    );
    let two_weeks = "/api/SuperSearch/?_facets=product&_facets=_histogram.date&_results_number=0";
    let old = time::OffsetDateTime::now_utc().date() - time::Duration::days(20);
    let found = server.get(&format!("{two_weeks}&date=%3E{old}")).json();
    assert_eq!(found["total"].as_u64(), Some(received - 2));
    assert_eq!(found["facets"]["product"].as_array().map(Vec::len), Some(3));
    assert!(
        found["facets"]["histogram_date"]
            .as_array()
            .is_some_and(|days| days.len() >= 13)
    );
    let home = server.get("/").text();
    for product in ["Acme Server", "Pipeline", "Ledger Desktop"] {
        assert!(home.contains(product), "{product}");
    }
    assert_eq!(server.terminate(), Some(0));
}
