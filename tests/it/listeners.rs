//! The listeners of the server: TLS with a certificate that changes, the collector's own port, a Unix
//! socket.

use std::fs;
use std::io::{Read, Write};
use std::process::Command;

use rustix::process::Signal;

use crate::server::{
    Server, exchange, fixture, fixtures, free_port, request, send_signal, submission, wait_for,
};

fn start_with(folder: &tempfile::TempDir, settings: &str, arguments: &[&str]) -> Server {
    let config = folder.path().join("appliance.toml");
    fs::write(&config, settings).expect("a file");
    let config = config.to_str().expect("a plain path").to_owned();
    let arguments = [&["--config", &config], arguments].concat();
    Server::start_in(&folder.path().join("data"), &arguments)
}

fn report() -> Vec<u8> {
    let dump = fixture("dumps/linux-x86_64-crash.dmp");
    submission(
        &[("ProductName", "App"), ("Version", "1")],
        &[("upload_file_minidump", "x.dmp", &dump)],
    )
}

/// The output of curl for a URL, if it trusts only this certificate.
fn curl(certificate: &str, url: &str) -> Result<String, String> {
    let output = Command::new("curl")
        .args(["-sS", "--cacert"])
        .arg(fixtures().join("tls").join(certificate))
        .arg(url)
        .output()
        .expect("curl runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stderr))
    }
}

#[test]
fn both_ports_speak_tls_and_the_certificate_is_read_again_on_sighup() {
    let folder = tempfile::tempdir().expect("a folder");
    let put = |name: &str| {
        for end in ["pem", "key"] {
            let from = fixtures().join(format!("tls/{name}.{end}"));
            fs::copy(from, folder.path().join(format!("site.{end}"))).expect("copied");
        }
    };
    put("first");
    let port = free_port();
    let settings = format!(
        "[http]\ntls_certificate = \"{0}/site.pem\"\ntls_key = \"{0}/site.key\"\ncollector_listen = \"127.0.0.1:{port}\"\n",
        folder.path().display()
    );
    let server = start_with(&folder, &settings, &[]);
    let urls = [
        format!("https://{}/__version__", server.address),
        format!("https://127.0.0.1:{port}/__version__"),
    ];
    for url in &urls {
        assert!(
            curl("first.pem", url)
                .expect("an answer")
                .contains("crashkeep")
        );
        assert!(curl("second.pem", url).is_err());
    }
    let cookie = Command::new("curl")
        .args(["-sS", "-i", "--cacert"])
        .arg(fixtures().join("tls/first.pem"))
        .arg(format!("https://{}/?key={}", server.address, server.key()))
        .output()
        .expect("curl runs");
    let cookie = String::from_utf8_lossy(&cookie.stdout).into_owned();
    assert!(cookie.contains("__Host-crashkeep="), "{cookie}");
    put("second");
    send_signal(server.child.id(), Signal::HUP);
    for url in &urls {
        wait_for("the new certificate", || curl("second.pem", url).ok());
    }
    // An invalid file changes nothing.
    fs::write(folder.path().join("site.key"), "no key").expect("written");
    send_signal(server.child.id(), Signal::HUP);
    for url in &urls {
        assert!(curl("second.pem", url).is_ok());
    }
}

#[test]
fn the_collectors_port_takes_reports_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let port = free_port();
    let settings = format!("[http]\ncollector_listen = \"127.0.0.1:{port}\"\n");
    let server = start_with(&folder, &settings, &[]);
    let address = format!("127.0.0.1:{port}");
    let answer = exchange(&address, &report(), false).expect("an answer");
    assert_eq!(server.wait_processed(&answer.crash_id()), "processed");
    let key = ("Auth-Token", server.key());
    for (path, status) in [
        ("/__heartbeat__", 200),
        ("/__lbheartbeat__", 200),
        ("/", 404),
        ("/login/", 404),
        ("/users/", 404),
        ("/metrics", 404),
        ("/api/SuperSearch/", 404),
    ] {
        let asked = request("GET", path, &[key], b"");
        let answer = exchange(&address, &asked, false).expect("an answer");
        assert_eq!(answer.status, status, "{path}");
    }
}

#[test]
fn a_proxy_reaches_the_server_through_a_unix_socket() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("http.sock");
    // The socket file of a killed server.
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("a socket"));
    let listen = format!("unix:{}", socket.display());
    let settings = "[http]\ntrusted_proxies = \"unix\"\npublic_url = \"http://crashes.lan\"\n[access]\nanonymous_per_minute = 3\n";
    let mut command = Command::new(crate::server::PROGRAM);
    let config = folder.path().join("appliance.toml");
    fs::write(&config, settings).expect("a file");
    command
        .args(["serve", "--listen", &listen, "--config"])
        .arg(&config)
        .arg("--data")
        .arg(folder.path().join("data"))
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null());
    let mut child = command.spawn().expect("it starts");
    let mut said = [0; 4096];
    let count = child.stdout.as_mut().expect("a pipe").read(&mut said);
    let said = String::from_utf8_lossy(&said[..count.expect("lines")]).into_owned();
    let key = fs::read_to_string(folder.path().join("data/local-key")).expect("a key");
    let expected = format!(
        "listening on {listen}\nopen http://crashes.lan/?key={}\n",
        key.trim()
    );
    assert_eq!(said, expected);
    let ask = |bytes: &[u8]| {
        let mut stream = std::os::unix::net::UnixStream::connect(&socket).expect("a connection");
        stream.write_all(bytes).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    };
    assert!(ask(&report()).contains("CrashID=bp-"));
    let from = |client: &str| {
        let headers = [("Accept", "text/html"), ("X-Forwarded-For", client)];
        ask(&request("GET", "/search/", &headers, b""))
    };
    wait_for("one client to be slowed down", || {
        from("203.0.113.9")
            .starts_with("HTTP/1.1 429")
            .then_some(())
    });
    assert!(from("198.51.100.7").starts_with("HTTP/1.1 401"));
    send_signal(child.id(), Signal::TERM);
    assert_eq!(child.wait().expect("its end").code(), Some(0));
    assert!(!socket.exists(), "the socket is gone with its server");
}
