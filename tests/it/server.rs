//! A real server on a temporary directory, used over its socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_crashkeep");
/// Time limit for everything that a server does by itself. It is reached only if the server is broken. Slow
/// walks run at the lowest priority: beside two busy CPUs, one second of CPU time takes minutes.
pub const PATIENCE: Duration = Duration::from_secs(900);

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

pub fn fixture(path: &str) -> Vec<u8> {
    let path = fixtures().join(path);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Names of the files in a folder of fixtures, sorted.
pub fn fixture_names(folder: &str) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(fixtures().join(folder))
        .expect("a folder of fixtures")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("a plain name")
        })
        .collect();
    names.sort();
    names
}

/// Waits until `ready` returns a value. Panics with `what` if it never does.
pub fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A port that is free now, for programs that do not support port 0.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

pub fn send_signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid as i32).expect("a pid");
    rustix::process::kill_process(pid, signal).expect("it can be signalled");
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("no JSON ({e}): {}", self.text()))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The crash id in the collector's answer.
    pub fn crash_id(&self) -> String {
        let text = self.text();
        let id = text
            .lines()
            .find_map(|line| line.strip_prefix("CrashID=bp-"));
        id.unwrap_or_else(|| panic!("no crash id in {} {text}", self.status))
            .to_owned()
    }
}

/// Sends bytes to an address. `None` if there is no complete answer.
pub fn exchange(address: &str, bytes: &[u8], half_close: bool) -> Option<Answer> {
    exchange_on(TcpStream::connect(address).ok()?, bytes, half_close)
}

/// The same on an open connection.
pub fn exchange_on(mut stream: TcpStream, bytes: &[u8], half_close: bool) -> Option<Answer> {
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    // A server may answer and close before it has read everything. Then the answer counts.
    let _ = stream.write_all(bytes);
    if half_close {
        let _ = stream.shutdown(Shutdown::Write);
    }
    let mut received = Vec::new();
    let mut chunk = [0; 65536];
    loop {
        if let Some(answer) = whole_answer(&received) {
            return Some(answer);
        }
        match stream.read(&mut chunk) {
            Ok(n) if n > 0 => received.extend_from_slice(&chunk[..n]),
            _ => return None,
        }
    }
}

pub struct Server {
    pub child: Child,
    pub address: String,
    pub data: PathBuf,
    /// The key that requests send: the local key if the server has no account.
    pub key: Option<String>,
    /// Removes the directory, if the test server created it.
    _temporary: Option<tempfile::TempDir>,
}

impl Server {
    /// A server on a fresh directory, bound to loopback.
    pub fn start() -> Self {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let data = temporary.path().join("data");
        let mut server = Self::start_in(&data, &[]);
        server._temporary = Some(temporary);
        server
    }

    /// A server with public read access, as a source of symbols for other servers.
    pub fn start_public() -> Self {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let data = temporary.path().join("data");
        let config = temporary.path().join("public.toml");
        std::fs::write(&config, "[access]\npublic_read = true\n").expect("a file");
        let run = |arguments: &[&str]| {
            let output = Command::new(PROGRAM)
                .args(arguments)
                .arg("--data")
                .arg(&data)
                .output()
                .expect("the program runs");
            assert!(output.status.success(), "{arguments:?}");
            String::from_utf8(output.stdout)
                .expect("text")
                .trim()
                .to_owned()
        };
        run(&["user", "add", "admin", "--role", "admin"]);
        let token = run(&["token", "create", "--user", "admin"]);
        let config = config.to_str().expect("a plain path");
        let mut server = Self::start_in(&data, &["--config", config]);
        server.key = Some(token);
        server._temporary = Some(temporary);
        server
    }

    /// A server on `data`, with additional arguments.
    pub fn start_in(data: &Path, arguments: &[&str]) -> Self {
        let listen: &[&str] = if arguments.contains(&"--listen") {
            &[]
        } else {
            &["--listen", "127.0.0.1:0"]
        };
        let mut command = Command::new(PROGRAM);
        command
            .args(["serve", "--data"])
            .arg(data)
            .args(listen)
            .args(arguments);
        Self::spawn(command, data)
    }

    /// The demo, on its own directory.
    pub fn start_demo() -> Self {
        let mut command = Command::new(PROGRAM);
        command.args(["demo", "--listen", "127.0.0.1:0"]);
        Self::spawn(command, &std::env::temp_dir().join("demo"))
    }

    fn spawn(mut command: Command, data: &Path) -> Self {
        let mut child = command
            // So that the server does not read the configuration of the checkout.
            .current_dir(data.parent().expect("a folder above"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("a line on stdout");
        let url = line.trim().strip_prefix("listening on ");
        let address = url.and_then(|url| Some(url.split_once("://")?.1.to_owned()));
        let address = address.unwrap_or_else(|| panic!("no listening line but {line:?}"));
        // The server writes both lines at once. The second one exists only if there is no account.
        let open = String::from_utf8_lossy(stdout.buffer()).into_owned();
        let key = open
            .lines()
            .find_map(|line| line.strip_prefix("open ")?.split_once("?key="))
            .map(|(_, key)| key.to_owned());
        Self {
            child,
            address,
            key,
            data: data.to_path_buf(),
            _temporary: None,
        }
    }

    /// Sends bytes unchanged. With `half_close`, closes our sending side after them.
    pub fn send(&self, bytes: &[u8], half_close: bool) -> Answer {
        self.try_send(bytes, half_close).expect("an answer")
    }

    /// The same for a server that may die. `None` if there is no complete answer.
    pub fn try_send(&self, bytes: &[u8], half_close: bool) -> Option<Answer> {
        // Tests with other addresses bind 0.0.0.0. We connect to loopback nevertheless.
        exchange(
            &self.address.replace("0.0.0.0", "127.0.0.1"),
            bytes,
            half_close,
        )
    }

    pub fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        self.send(&self.request_bytes(method, path, headers, body), false)
    }

    /// The bytes of such a request.
    pub fn request_bytes(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Vec<u8> {
        let shows_something = headers.iter().any(|(name, _)| {
            ["auth-token", "authorization", "cookie"].contains(&name.to_ascii_lowercase().as_str())
        });
        let mut headers = headers.to_vec();
        if let (Some(key), false) = (&self.key, shows_something) {
            headers.push(("Auth-Token", key));
        }
        request(method, path, &headers, body)
    }

    /// A recorded request, with our key in place of its credentials.
    pub fn with_key(&self, bytes: &[u8]) -> Vec<u8> {
        let end = bytes
            .windows(4)
            .position(|w| w == b"\r\n\r\n")
            .expect("a head");
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let shows = |line: &&str| !line.to_ascii_lowercase().starts_with("auth");
        let mut lines: Vec<&str> = head.split("\r\n").filter(shows).collect();
        let key = format!("Auth-Token: {}", self.key());
        lines.push(&key);
        [lines.join("\r\n").as_bytes(), &bytes[end..]].concat()
    }

    /// The key, for programs that accept one.
    pub fn key(&self) -> &str {
        self.key.as_deref().expect("a key")
    }

    /// The URL with the key as password, for programs that accept no other credentials.
    pub fn url_with_key(&self) -> String {
        format!("http://crashkeep:{}@{}", self.key(), self.address)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[], b"")
    }

    /// Posts a form with texts and files (name, file name, bytes) to the collector.
    pub fn submit(&self, annotations: &[(&str, &str)], files: &[(&str, &str, &[u8])]) -> Answer {
        self.send(&submission(annotations, files), false)
    }

    pub fn state(&self, id: &str) -> Value {
        self.get(&format!("/api/CrashState/?crash_id={id}")).json()
    }

    /// Waits for the end of processing. Returns the name of the state.
    pub fn wait_processed(&self, id: &str) -> String {
        wait_for(&format!("the processing of {id}"), || {
            let state = self.state(id)["state"]
                .as_str()
                .expect("a state")
                .to_owned();
            matches!(state.as_str(), "processed" | "failed").then_some(state)
        })
    }

    pub fn processed(&self, id: &str) -> Value {
        self.get(&format!("/api/ProcessedCrash/?crash_id={id}"))
            .json()
    }

    /// The value of a counter or gauge; 0 if it does not exist.
    pub fn metric(&self, line_start: &str) -> u64 {
        let text = self.get("/metrics").text();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(line_start)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse().expect("a number"))
    }

    /// Copies the symbols of the corpus into the symbol store of the server.
    pub fn install_symbols(&self, module: &str) {
        for id in fixture_names(&format!("symbols/{module}")) {
            for file in fixture_names(&format!("symbols/{module}/{id}")) {
                let folder = self.data.join("symbols").join(module).join(&id);
                std::fs::create_dir_all(&folder).expect("a symbol folder");
                let packed = fixture(&format!("symbols/{module}/{id}/{file}"));
                let mut text = Vec::new();
                flate2::read::GzDecoder::new(&packed[..])
                    .read_to_end(&mut text)
                    .expect("gzip");
                std::fs::write(folder.join(file.trim_end_matches(".gz")), text)
                    .expect("a symbol file");
            }
        }
    }

    /// Sends SIGTERM. Returns the exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        send_signal(self.child.id(), rustix::process::Signal::TERM);
        self.child.wait().expect("the end of the server").code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!(
        "{method} {path} HTTP/1.1\r\nContent-Length: {}\r\nConnection: close\r\n",
        body.len()
    );
    if !headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("host"))
    {
        text += "Host: 127.0.0.1\r\n";
    }
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    text += "\r\n";
    [text.as_bytes(), body].concat()
}

pub fn submission(annotations: &[(&str, &str)], files: &[(&str, &str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (key, value) in annotations {
        let part =
            format!("--b\r\nContent-Disposition: form-data; name=\"{key}\"\r\n\r\n{value}\r\n");
        body.extend_from_slice(part.as_bytes());
    }
    for (name, file_name, bytes) in files {
        let head = format!(
            "--b\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{file_name}\"\r\nContent-Type: application/octet-stream\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--b--\r\n");
    request(
        "POST",
        "/submit",
        &[("Content-Type", "multipart/form-data; boundary=b")],
        &body,
    )
}

fn whole_answer(received: &[u8]) -> Option<Answer> {
    let end = received.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&received[..end]).into_owned();
    let rest = &received[end + 4..];
    let status = head.split(' ').nth(1)?.parse().ok()?;
    if status == 100 {
        return whole_answer(rest);
    }
    let answer = Answer {
        status,
        head,
        body: Vec::new(),
    };
    if answer.header("transfer-encoding") == Some("chunked") {
        let body = whole_chunks(rest)?;
        return Some(Answer { body, ..answer });
    }
    let length: usize = answer.header("content-length")?.parse().ok()?;
    (rest.len() >= length).then(|| Answer {
        body: rest[..length].to_vec(),
        ..answer
    })
}

/// The bytes of a chunked body, if it is complete.
fn whole_chunks(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|w| w == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).ok()?, 16).ok()?;
        let from = line + 2;
        let chunk = rest.get(from..from + size)?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(chunk);
        rest = rest.get(from + size + 2..)?;
    }
}
