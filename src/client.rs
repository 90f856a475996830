//! The HTTP client of our own commands, for http:// and https://.
//!
//! It connects to any address that the user types. (`outbound`, which a server uses, does not.) It reads
//! files while it sends them, so that memory use does not grow with file size. It shows the progress on a
//! terminal.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, SendBody, http};

/// Maximum bytes of an answer that we read.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(120);
/// For files: sending a large file may take an hour, and a server converts symbols before it answers.
const FILE_TIMEOUT: Duration = Duration::from_secs(4 * 60 * 60);
/// For bodies of at least this size we send `Expect: 100-continue`, so that the server can refuse the
/// request before we send the body.
const EXPECT_BYTES_MIN: u64 = 1024 * 1024;
/// Smaller bodies are sent before a user could read the progress.
const SHOWN_BYTES_MIN: u64 = 4 * 1024 * 1024;
const SHOW_EVERY: Duration = Duration::from_millis(200);

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct PostError(String);

/// The method of a request and its body.
pub(crate) enum Sent {
    Get,
    Post {
        content_type: String,
        body: Vec<u8>,
    },
    Form(Form),
    /// A file.
    Put(File),
}

/// Sends a request with any method, and with a token if the server requires one. Returns the status and the
/// text of the answer.
///
/// # Errors
/// There is no answer. The message names the URL and the reason. An answer with an error status is not an
/// error.
pub(crate) fn ask(url: &str, sent: Sent, token: Option<&str>) -> Result<(u16, String), PostError> {
    exchange(url, sent, token).map_err(|error| PostError(format!("{url}: {error}")))
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

fn exchange(url: &str, sent: Sent, token: Option<&str>) -> Result<(u16, String), AnyError> {
    let uri: http::Uri = url
        .parse()
        .map_err(|_| "not a valid URL; use the form http://HOST:PORT/submit")?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
        return Err("not a valid URL; use the form http://HOST:PORT/submit".into());
    }
    let is_encrypted = uri.scheme_str() == Some("https");
    let (method, content_type, body, timeout) = match sent {
        Sent::Get => ("GET", None, Pieces::default(), TIMEOUT),
        Sent::Post { content_type, body } => {
            ("POST", Some(content_type), Pieces::of(body), TIMEOUT)
        }
        Sent::Form(form) => {
            let (content_type, body) = form.finish();
            ("POST", Some(content_type), body, FILE_TIMEOUT)
        }
        Sent::Put(file) => {
            let mut body = Pieces::default();
            body.file(file)?;
            let content_type = "application/octet-stream".to_owned();
            ("PUT", Some(content_type), body, FILE_TIMEOUT)
        }
    };
    let mut request = http::Request::builder()
        .method(method)
        .uri(uri)
        .header("content-length", body.bytes);
    if let Some(content_type) = content_type {
        request = request.header("content-type", content_type);
    }
    if let Some(token) = token {
        request = request.header("auth-token", token);
    }
    if body.bytes >= EXPECT_BYTES_MIN {
        request = request.header("expect", "100-continue");
    }
    let agent = agent(timeout, is_encrypted)?;
    let response = if method == "GET" {
        agent.run(request.body(())?)
    } else {
        let mut shown = Shown::new(body);
        let sent = agent.run(request.body(SendBody::from_reader(&mut shown))?);
        shown.end();
        sent
    };
    let mut response: http::Response<Body> = response.map_err(said)?;
    let answer = response.body_mut().with_config().limit(ANSWER_BYTES_MAX);
    let answer = answer.read_to_vec().map_err(said)?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    Ok((response.status().as_u16(), text))
}

fn said(error: ureq::Error) -> AnyError {
    match error {
        ureq::Error::Timeout(what) => format!("time-out ({what})").into(),
        ureq::Error::Io(error) => error.into(),
        error => error.into(),
    }
}

/// A client that follows no redirects. With https it trusts Mozilla's list of authorities, or the authorities in the
/// file that `SSL_CERT_FILE` names, as OpenSSL's programs do.
fn agent(timeout: Duration, is_encrypted: bool) -> Result<Agent, AnyError> {
    let mut tls = TlsConfig::builder();
    let authorities = std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty());
    if is_encrypted && let Some(path) = authorities {
        let shown = path.display().to_string();
        let pem = std::fs::read(path).map_err(|error| format!("SSL_CERT_FILE {shown}: {error}"))?;
        let found: Vec<Certificate<'static>> = parse_pem(&pem)
            .filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            })
            .collect();
        if found.is_empty() {
            return Err(format!("SSL_CERT_FILE {shown} contains no certificate").into());
        }
        tls = tls.root_certs(RootCerts::Specific(Arc::new(found)));
    }
    Ok(Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .tls_config(tls.build())
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_global(Some(timeout))
        .user_agent(concat!("crashkeep/", env!("CARGO_PKG_VERSION")))
        .build()
        .new_agent())
}

/// A body that consists of several pieces.
#[derive(Default)]
struct Pieces {
    /// In reverse order: the last element is read next.
    left: Vec<Box<dyn Read>>,
    bytes: u64,
}

impl Pieces {
    fn of(bytes: Vec<u8>) -> Self {
        let mut pieces = Self::default();
        pieces.text(bytes);
        pieces
    }

    fn text(&mut self, bytes: Vec<u8>) {
        self.bytes += bytes.len() as u64;
        self.left.push(Box::new(io::Cursor::new(bytes)));
    }

    /// The length is fixed now. If the file grows, only its current length is sent.
    fn file(&mut self, file: File) -> io::Result<()> {
        let bytes = file.metadata()?.len();
        self.bytes += bytes;
        self.left.push(Box::new(file.take(bytes)));
        Ok(())
    }

    /// Call this after the last piece and before reading.
    fn finish(mut self) -> Self {
        self.left.reverse();
        self
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(piece) = self.left.last_mut() {
            let count = piece.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            self.left.pop();
        }
        Ok(0)
    }
}

/// A body that shows its progress on a terminal.
struct Shown {
    body: Pieces,
    sent: u64,
    shown_at: Option<Instant>,
    is_shown: bool,
}

impl Shown {
    fn new(body: Pieces) -> Self {
        Self {
            is_shown: body.bytes >= SHOWN_BYTES_MIN && io::stderr().is_terminal(),
            body,
            sent: 0,
            shown_at: None,
        }
    }

    fn show(&mut self) {
        let is_due = self.shown_at.is_none_or(|at| at.elapsed() >= SHOW_EVERY);
        if self.is_shown && is_due {
            self.shown_at = Some(Instant::now());
            let (sent, all) = (self.sent >> 20, self.body.bytes >> 20);
            let percent = self.sent * 100 / self.body.bytes.max(1);
            let _ = write!(io::stderr(), "\rsent {sent} of {all} MiB ({percent} %)");
        }
    }

    /// Clears the progress line.
    fn end(&mut self) {
        if self.shown_at.is_some() {
            let _ = write!(io::stderr(), "\r{:40}\r", "");
        }
    }
}

impl Read for Shown {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.body.read(buffer)?;
        self.sent += count as u64;
        self.show();
        Ok(count)
    }
}

/// A `multipart/form-data` body for a POST request.
pub(crate) struct Form {
    boundary: String,
    body: Pieces,
}

impl Default for Form {
    fn default() -> Self {
        Self::new()
    }
}

impl Form {
    pub(crate) fn new() -> Self {
        let boundary = format!("crashkeep-{}", uuid::Uuid::new_v4().simple());
        Self {
            boundary,
            body: Pieces::default(),
        }
    }

    pub(crate) fn part(&mut self, name: &str, file_name: Option<&str>, bytes: &[u8]) {
        self.head(name, file_name);
        self.body.text(bytes.to_vec());
        self.body.text(b"\r\n".to_vec());
    }

    /// Adds a file. It is read while it is sent.
    ///
    /// # Errors
    /// The length of the file cannot be read.
    pub(crate) fn file(&mut self, name: &str, file_name: &str, file: File) -> io::Result<()> {
        self.head(name, Some(file_name));
        self.body.file(file)?;
        self.body.text(b"\r\n".to_vec());
        Ok(())
    }

    fn head(&mut self, name: &str, file_name: Option<&str>) {
        let quoted = |text: &str| {
            text.replace('%', "%25")
                .replace('"', "%22")
                .replace('\r', "%0D")
                .replace('\n', "%0A")
        };
        let mut head = format!(
            "--{}\r\nContent-Disposition: form-data; name=\"{}\"",
            self.boundary,
            quoted(name)
        );
        if let Some(file_name) = file_name {
            head += &format!(
                "; filename=\"{}\"\r\nContent-Type: application/octet-stream",
                quoted(file_name)
            );
        }
        self.body.text((head + "\r\n\r\n").into_bytes());
    }

    fn finish(mut self) -> (String, Pieces) {
        self.body
            .text(format!("--{}--\r\n", self.boundary).into_bytes());
        (
            format!("multipart/form-data; boundary={}", self.boundary),
            self.body.finish(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_as_long_as_it_says() {
        let mut form = Form::new();
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"MDMP...").expect("written");
        io::Seek::rewind(&mut file).expect("rewound");
        form.part("a\"b", None, b"one");
        form.file("dump", "x.dmp", file).expect("a file");
        let (kind, mut body) = form.finish();
        let bytes = body.bytes;
        let mut read = Vec::new();
        body.read_to_end(&mut read).expect("readable");
        assert_eq!(read.len() as u64, bytes);
        let text = String::from_utf8(read).expect("text");
        let boundary = kind.split("boundary=").nth(1).expect("a boundary");
        assert!(text.starts_with(&format!("--{boundary}\r\n")));
        assert!(text.contains("name=\"a%22b\"\r\n\r\none\r\n--"));
        assert!(text.contains(
            "filename=\"x.dmp\"\r\nContent-Type: application/octet-stream\r\n\r\nMDMP...\r\n--"
        ));
        assert!(text.ends_with("--\r\n"));
    }

    #[test]
    fn an_address_must_be_one() {
        for url in ["127.0.0.1:8000/submit", "ftp://h/", "http://", ""] {
            let error = ask(url, Sent::Get, None).expect_err(url);
            assert!(error.to_string().contains("not a valid URL"), "{error}");
        }
    }
}
