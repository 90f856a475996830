//! A real server on a temporary directory, spoken to over its socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_crashkeep");
/// For anything that a server does by itself; reached only when it is broken.
pub const PATIENCE: Duration = Duration::from_secs(60);

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

/// Waits until `ready` gives a value; panics with `what` when it never does.
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

    /// The crash id that the collector answered.
    pub fn crash_id(&self) -> String {
        let text = self.text();
        let id = text
            .lines()
            .find_map(|line| line.strip_prefix("CrashID=bp-"));
        id.unwrap_or_else(|| panic!("no crash id in {} {text}", self.status))
            .to_owned()
    }
}

/// Sends bytes to an address; `None` without a whole answer.
pub fn exchange(address: &str, bytes: &[u8], half_close: bool) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    // A server may answer and close before it has read all: then the answer counts.
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
    /// Removes the directory, where the server made its own.
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

    /// A server on `data`, with further arguments.
    pub fn start_in(data: &Path, arguments: &[&str]) -> Self {
        let listen: &[&str] = match arguments.contains(&"--listen") {
            true => &[],
            false => &["--listen", "127.0.0.1:0"],
        };
        let mut command = Command::new(PROGRAM);
        command
            .args(["serve", "--data"])
            .arg(data)
            .args(listen)
            .args(arguments);
        Self::spawn(command, data)
    }

    /// The demo, on a directory of its own.
    pub fn start_demo() -> Self {
        let mut command = Command::new(PROGRAM);
        command.args(["demo", "--listen", "127.0.0.1:0"]);
        Self::spawn(command, &std::env::temp_dir().join("demo"))
    }

    fn spawn(mut command: Command, data: &Path) -> Self {
        let mut child = command
            // So that a configuration of the checkout is not picked up.
            .current_dir(data.parent().expect("a folder above"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("stdout is a pipe");
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("a line on stdout");
        let address = line.trim().strip_prefix("listening on http://");
        let address = address
            .unwrap_or_else(|| panic!("no listening line but {line:?}"))
            .to_owned();
        Self {
            child,
            address,
            data: data.to_path_buf(),
            _temporary: None,
        }
    }

    /// What a client of ours shows as its token.
    pub fn token(&self) -> String {
        "0123456789abcdef".repeat(4)
    }

    /// Sends bytes as they are; `half_close` then ends our side.
    pub fn send(&self, bytes: &[u8], half_close: bool) -> Answer {
        self.try_send(bytes, half_close).expect("an answer")
    }

    /// The same where the server may die; `None` without a whole answer.
    pub fn try_send(&self, bytes: &[u8], half_close: bool) -> Option<Answer> {
        // Tests of other binds give 0.0.0.0; we still knock on loopback.
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
        self.send(&request(method, path, headers, body), false)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[], b"")
    }

    /// Posts a form of texts and of files (name, file name, bytes) to the collector.
    pub fn submit(&self, annotations: &[(&str, &str)], files: &[(&str, &str, &[u8])]) -> Answer {
        self.send(&submission(annotations, files), false)
    }

    pub fn state(&self, id: &str) -> Value {
        self.get(&format!("/api/CrashState/?crash_id={id}")).json()
    }

    /// Waits for the end of processing; returns the state's name.
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

    /// A counter or gauge; 0 where it has not been counted.
    pub fn metric(&self, line_start: &str) -> u64 {
        let text = self.get("/metrics").text();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(line_start)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse().expect("a number"))
    }

    /// Puts the corpus' symbols where the server looks for them.
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

    /// SIGTERM, and the exit code.
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

/// The bytes of a chunked body, once its end is there.
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
