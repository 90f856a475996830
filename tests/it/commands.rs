//! Commands without a server, and `submit` with one.

use std::process::{Command, Output};

use crate::server::{PROGRAM, Server, fixture, fixtures, wait_for};

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
        stderr(&output).contains("Connection refused"),
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
    // If the first index were still being built in place, the command would continue that build.
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
    let partly = "/api/SuperSearch/?processor_notes=~incomplete+walk&_results_number=0";
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

/// A server that uses TLS and answers one request. The thread returns the request that it received.
fn tls_server() -> (u16, std::thread::JoinHandle<Vec<u8>>) {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use std::io::{Read, Write};
    let leaf = CertificateDer::from_pem_slice(&fixture("tls/leaf.pem")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(&fixture("tls/leaf.key")).expect("a key");
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("a version")
        .with_no_client_auth()
        .with_single_cert(vec![leaf], key)
        .expect("they fit");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let thread = std::thread::spawn(move || {
        let (socket, _) = listener.accept().expect("a client");
        let session = rustls::ServerConnection::new(config.into()).expect("a session");
        let mut stream = rustls::StreamOwned::new(session, socket);
        let mut received = Vec::new();
        let mut piece = [0; 65536];
        loop {
            let count = stream.read(&mut piece).unwrap_or(0);
            received.extend_from_slice(&piece[..count]);
            let text = String::from_utf8_lossy(&received).into_owned();
            let head = text.find("\r\n\r\n");
            let length = text.lines().find_map(|line| {
                let value = line.to_ascii_lowercase();
                value
                    .strip_prefix("content-length: ")?
                    .trim()
                    .parse::<usize>()
                    .ok()
            });
            let is_whole =
                head.is_some_and(|head| received.len() >= head + 4 + length.unwrap_or(0));
            if count == 0 || is_whole {
                break;
            }
        }
        let body = "{\"hits\": []}";
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let _ = stream.flush();
        received
    });
    (port, thread)
}

#[test]
fn commands_speak_https_and_keep_their_token_out_of_the_process_list() {
    let folder = tempfile::tempdir().expect("a folder");
    let token_file = folder.path().join("token");
    std::fs::write(&token_file, "s3cret-of-a-file\n").expect("written");
    let dump = fixtures().join("dumps/linux-x86_64-crash.dmp");
    let ca = fixtures().join("tls/ca.pem");
    let run = |arguments: &[&str], variables: &[(&str, &str)]| {
        let output = std::process::Command::new(PROGRAM)
            .args(arguments)
            .current_dir(folder.path())
            .env("SSL_CERT_FILE", &ca)
            .envs(variables.iter().copied())
            .output()
            .expect("it runs");
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    };
    let (port, server) = tls_server();
    let url = format!("https://localhost:{port}/submit");
    let (is_good, said) = run(
        &["submit", &url, "--dump", dump.to_str().expect("a path")],
        &[],
    );
    assert!(is_good, "{said}");
    let received = server.join().expect("its end");
    assert!(memchr::memmem::find(&received, &fixture("dumps/linux-x86_64-crash.dmp")).is_some());

    let file = token_file.to_str().expect("a path");
    let key = folder.path().join("data");
    std::fs::create_dir(&key).expect("a folder");
    let local_key = "0123456789abcdef".repeat(2);
    std::fs::write(key.join("local-key"), &local_key).expect("written");
    for (options, variables, token) in [
        (&["--token", "of-an-option"][..], &[][..], "of-an-option"),
        (
            &["--token-file", file],
            &[("CRASHKEEP_TOKEN", "x")],
            "s3cret-of-a-file",
        ),
        (
            &[],
            &[("CRASHKEEP_TOKEN", "of-a-variable")],
            "of-a-variable",
        ),
        (&[], &[], &local_key),
    ] {
        let (port, server) = tls_server();
        let url = format!("https://127.0.0.1:{port}");
        let arguments = [&["symbols", "missing", "--server", &url], options].concat();
        let (is_good, said) = run(&arguments, variables);
        assert!(is_good, "{said}");
        let received =
            String::from_utf8_lossy(&server.join().expect("its end")).to_ascii_lowercase();
        assert!(
            received.contains(&format!("auth-token: {token}\r\n")),
            "{received}"
        );
    }
    // A certificate that no trusted authority has signed.
    let (port, server) = tls_server();
    let url = format!("https://localhost:{port}/submit");
    let other = fixtures().join("tls/leaf.pem");
    let (is_good, said) = run(
        &["submit", &url, "--dump", dump.to_str().expect("a path")],
        &[("SSL_CERT_FILE", other.to_str().expect("a path"))],
    );
    assert!(
        !is_good && said.to_lowercase().contains("certificate"),
        "{said}"
    );
    drop(server.join());
}

#[test]
fn health_prints_the_heartbeat_and_fails_without_a_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let path = data.to_str().expect("a plain path");
    let mut server = Server::start_in(&data, &[]);
    let output = run(&["health", "--data", path]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        stdout(&output).contains("\"errors\":[]"),
        "{}",
        stdout(&output)
    );
    server.terminate();

    let output = run(&["health", "--data", path]);
    assert!(!output.status.success());
    let text = stderr(&output);
    assert!(text.contains("no server has "), "{text}");
}

#[test]
fn every_command_has_a_manual_page() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("a plain path");
    let output = run(&["man", path]);
    assert!(output.status.success(), "{}", stderr(&output));
    let page = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap_or_default();
    assert!(page("crashkeep.1").contains("crashkeep\\-token(1)"));
    assert!(page("crashkeep-serve.1").contains("read\\-only"));
    assert!(page("crashkeep-token-create.1").contains("scopes"));
    assert_eq!(page("crashkeep-walker.1"), "", "hidden commands have none");
}
