//! The proxy configurations in README, tested with the real programs.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::server::{Answer, Server, exchange, exchange_on, fixture, free_port, request, wait_for};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxy {
    Nginx,
    Caddy,
    Haproxy,
    Apache,
}

impl Proxy {
    const ALL: [Self; 4] = [Self::Nginx, Self::Caddy, Self::Haproxy, Self::Apache];

    fn program(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Caddy => "caddy",
            Self::Haproxy => "haproxy",
            Self::Apache => "apache2",
        }
    }

    pub fn is_installed(self) -> bool {
        is_installed(self.program())
    }

    /// The block in README for this program.
    fn lines(self) -> String {
        let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md"));
        let readme = readme.expect("README");
        let fence = format!("```{}\n", self.program().trim_end_matches('2'));
        let (_, block) = readme.split_once(&fence).expect("a block of README");
        block.split("```").next().expect("its end").to_owned()
    }

    /// The lines in README with other ports and our own host, plus the settings that the program needs to
    /// run from a folder.
    fn configuration(self, folder: &Path, port: u16, server: &str) -> String {
        let lines = self
            .lines()
            .replace("127.0.0.1:8000", server)
            .replace("listen 80;", &format!("listen 127.0.0.1:{port};"))
            .replace("bind :80", &format!("bind 127.0.0.1:{port}"))
            .replace("*:80", &format!("127.0.0.1:{port}"));
        let folder = folder.display();
        match self {
            Self::Nginx => format!(
                "daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}}\n\
                 http {{ access_log off; client_body_temp_path {folder}/a; proxy_temp_path {folder}/b;\n\
                 fastcgi_temp_path {folder}/c; uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;\n\
                 {lines} }}"
            ),
            Self::Caddy => {
                let lines = lines.replace("crashes.example.org", &format!("http://:{port}"));
                format!(
                    "{{\n admin off\n auto_https off\n storage file_system {folder}\n}}\n{lines}"
                )
            }
            Self::Haproxy => format!(
                "defaults\n timeout connect 15m\n timeout client 15m\n timeout server 15m\n{lines}"
            ),
            Self::Apache => {
                let modules = ["mpm_event", "authz_core", "proxy", "proxy_http"];
                let modules: String = modules
                    .iter()
                    .map(|name| {
                        format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n")
                    })
                    .collect();
                format!(
                    "{modules}Listen 127.0.0.1:{port}\nServerName localhost\nPidFile {folder}/pid\n\
                     ErrorLog {folder}/error.log\nDefaultRuntimeDir {folder}\nUser daemon\nGroup daemon\n{lines}"
                )
            }
        }
    }

    fn command(self, file: &Path) -> Command {
        let mut command = Command::new(self.program());
        match self {
            Self::Nginx => command.arg("-c").arg(file),
            Self::Caddy => command
                .args(["run", "--adapter", "caddyfile", "--config"])
                .arg(file),
            Self::Haproxy => command.arg("-f").arg(file),
            Self::Apache => command.arg("-DFOREGROUND").arg("-f").arg(file),
        };
        command
    }
}

/// True if a program is installed. Otherwise prints a message, but in CI it panics.
pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin".into(), "/usr/local/sbin".into()];
    let found = std::env::split_paths(&path)
        .chain(more)
        .any(|folder| folder.join(program).is_file());
    assert!(found || std::env::var("CI").is_err(), "{program} is needed");
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found
}

/// A server behind a proxy.
pub struct Behind {
    pub server: Server,
    /// The proxy's address, as a URL.
    pub site: String,
    address: String,
    proxy: Child,
    folder: tempfile::TempDir,
}

impl Behind {
    /// Starts both. `settings` are additional lines for the server's configuration.
    pub fn start(proxy: Proxy, settings: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("appliance.toml");
        let text = format!("[http]\ntrusted_proxies = \"127.0.0.1\"\n{settings}");
        fs::write(&config, text).expect("a file");
        let config = config.to_str().expect("a plain path");
        let server = Server::start_in(&folder.path().join("data"), &["--config", config]);
        let port = free_port();
        let file = folder.path().join("proxy.conf");
        let lines = proxy.configuration(folder.path(), port, &server.address);
        fs::write(&file, lines).expect("a file");
        let log = fs::File::create(folder.path().join("log")).expect("a file");
        let mut child = proxy
            .command(&file)
            .env("HOME", folder.path())
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the proxy starts");
        let address = format!("127.0.0.1:{port}");
        wait_for("the proxy to listen", || {
            if child.try_wait().expect("its state").is_some() {
                let log = fs::read_to_string(folder.path().join("log")).unwrap_or_default();
                panic!("{proxy:?} ended: {log}");
            }
            TcpStream::connect(&address).ok()
        });
        Self {
            server,
            site: format!("http://{address}"),
            address,
            proxy: child,
            folder,
        }
    }

    fn ask(&self, bytes: &[u8]) -> Answer {
        let answer = exchange(&self.address, bytes, false);
        answer.unwrap_or_else(|| {
            let head = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
            let log = |name| fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
            panic!("no answer to {head:?}: {} {}", log("log"), log("error.log"))
        })
    }

    fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask(&request("GET", path, headers, b""))
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        // With SIGTERM, so that its own processes end, too.
        crate::server::send_signal(self.proxy.id(), rustix::process::Signal::TERM);
        let _ = self.proxy.wait();
    }
}

/// A report in HTTP/1.1 chunks, larger than the default limit of proxies.
fn large_report() -> Vec<u8> {
    let dump = fixture("dumps/linux-x86_64-firefox_esr.dmp");
    let part = |name: &str, file: &str, bytes: &[u8]| {
        let head = format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n");
        [head.as_bytes(), bytes, b"\r\n"].concat()
    };
    let body = [
        part("ProductName", "", b"App"),
        part("upload_file_minidump", "; filename=\"x.dmp\"", &dump),
        part("large", "; filename=\"large\"", &vec![b'x'; 12 << 20]),
        b"--b--\r\n".to_vec(),
    ]
    .concat();
    let mut bytes = b"POST /submit HTTP/1.1\r\nHost: crashes.example.org\r\nContent-Type: multipart/form-data; boundary=b\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n".to_vec();
    for chunk in body.chunks(60_000) {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

/// A connection from this local address.
fn connect_from(client: [u8; 4], address: &str) -> TcpStream {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build();
    runtime.expect("a runtime").block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket
            .bind((client, 0).into())
            .expect("an address of this machine");
        let stream = socket.connect(address.parse().expect("an address")).await;
        let stream = stream.expect("a connection").into_std().expect("a stream");
        stream.set_nonblocking(false).expect("a blocking stream");
        stream
    })
}

const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");
const HOST: (&str, &str) = ("Host", "crashes.example.org");
const PAGE: (&str, &str) = ("Accept", "text/html");

#[test]
fn behind_each_proxy_of_readme_strangers_stay_out_and_everybody_else_gets_in() {
    for proxy in Proxy::ALL {
        if !proxy.is_installed() {
            continue;
        }
        let behind = Behind::start(proxy, "[access]\nanonymous_per_minute = 10\n");
        // A client without credentials has no rights, whatever it claims.
        for headers in [
            vec![HOST],
            vec![("Host", "localhost")],
            vec![HOST, ("X-Forwarded-For", "127.0.0.1")],
        ] {
            let answer = behind.get("/users/", &[headers, vec![PAGE]].concat());
            assert_eq!(answer.status, 401, "{proxy:?}");
        }
        let mallory = b"name=mallory&role=admin";
        let answer = behind.ask(&request("POST", "/users/put", &[HOST, FORM], mallory));
        assert!(
            matches!(answer.status, 401 | 403),
            "{proxy:?}: {}",
            answer.status
        );

        // The form of a browser behind the proxy, without the newer header.
        let body = format!("next=/&token={}", behind.server.key());
        let login = |origin: &str| {
            let headers = [HOST, FORM, ("Origin", origin)];
            let answer = behind.ask(&request("POST", "/login/", &headers, body.as_bytes()));
            answer.status
        };
        assert_eq!(login("http://crashes.example.org"), 303, "{proxy:?}");
        assert_eq!(login("http://evil.example"), 403, "{proxy:?}");

        let answer = behind.ask(&large_report());
        assert_eq!(answer.status, 200, "{proxy:?}: {}", answer.text());
        let id = answer.crash_id();
        assert_eq!(behind.server.wait_processed(&id), "processed", "{proxy:?}");

        // Each client has its own limit. The proxy's address for it counts, whatever the client claims.
        let from = |client: [u8; 4]| {
            let headers = [HOST, PAGE, ("X-Forwarded-For", "198.51.100.7")];
            let asked = request("GET", "/search/", &headers, b"");
            let stream = connect_from(client, &behind.address);
            exchange_on(stream, &asked, false)
                .expect("an answer")
                .status
        };
        let (busy, other) = ([127, 0, 0, 2], [127, 0, 0, 3]);
        wait_for("one client to be slowed down", || {
            (from(busy) == 429).then_some(())
        });
        assert_eq!(from(other), 401, "{proxy:?}");
    }
}
