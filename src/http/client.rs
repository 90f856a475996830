//! A small HTTP client for our own commands.

use std::fmt;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;

/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
const TIMEOUT: Duration = Duration::from_secs(120);
/// For a file of symbols.
const FILE_TIMEOUT: Duration = Duration::from_secs(30 * 60);

#[derive(Debug)]
pub struct PostError(String);

impl fmt::Display for PostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PostError {}

/// What is sent.
pub enum Sent {
    Get,
    Post {
        content_type: String,
        body: Vec<u8>,
    },
    /// A file.
    Put(Vec<u8>),
}

/// Posts `body` to an `http://` URL; returns the status and the answer's text.
pub fn post(url: &str, content_type: &str, body: Vec<u8>) -> Result<(u16, String), PostError> {
    let content_type = content_type.to_owned();
    ask(url, Sent::Post { content_type, body }, None)
}

/// The same with any method, and with a token where the server wants one.
pub fn ask(url: &str, sent: Sent, token: Option<&str>) -> Result<(u16, String), PostError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|e| PostError(e.to_string()))?;
    let timeout = match sent {
        // The server converts before it answers.
        Sent::Put(_) => FILE_TIMEOUT,
        _ => TIMEOUT,
    };
    runtime.block_on(async {
        match tokio::time::timeout(timeout, exchange(url, sent, token)).await {
            Ok(result) => result.map_err(|e| PostError(format!("{url}: {e}"))),
            Err(_) => Err(PostError(format!(
                "{url}: no answer within {} s",
                timeout.as_secs()
            ))),
        }
    })
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

async fn exchange(url: &str, sent: Sent, token: Option<&str>) -> Result<(u16, String), AnyError> {
    let uri: hyper::Uri = url
        .parse()
        .map_err(|_| "this is no URL; write it as http://HOST:PORT/submit")?;
    if uri.scheme_str() != Some("http") {
        return Err("only http:// URLs can be posted to; use curl for others".into());
    }
    let host = uri.host().ok_or("the URL names no host")?;
    let authority = uri.authority().ok_or("the URL names no host")?.to_string();
    let address = (
        host.trim_start_matches('[').trim_end_matches(']'),
        uri.port_u16().unwrap_or(80),
    );
    let stream = tokio::net::TcpStream::connect(address).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let path = uri.path_and_query().map_or("/", |p| p.as_str());
    let (method, content_type, body) = match sent {
        Sent::Get => (hyper::Method::GET, None, Vec::new()),
        Sent::Post { content_type, body } => (hyper::Method::POST, Some(content_type), body),
        Sent::Put(body) => {
            let content_type = "application/octet-stream".to_owned();
            (hyper::Method::PUT, Some(content_type), body)
        }
    };
    let mut request = hyper::Request::builder()
        .method(method)
        .uri(path)
        .header("host", authority)
        .header(
            "user-agent",
            concat!("crashkeep/", env!("CARGO_PKG_VERSION")),
        );
    if let Some(content_type) = content_type {
        request = request.header("content-type", content_type);
    }
    if let Some(token) = token {
        request = request.header("auth-token", token);
    }
    let request = request.body(Full::new(Bytes::from(body)))?;
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    let answer = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
        .collect()
        .await?
        .to_bytes();
    drop(sender);
    let _ = connection.await;
    Ok((status, String::from_utf8_lossy(&answer).into_owned()))
}

/// A `multipart/form-data` body to be posted.
pub struct Form {
    boundary: String,
    body: Vec<u8>,
}

impl Default for Form {
    fn default() -> Self {
        Self::new()
    }
}

impl Form {
    pub fn new() -> Self {
        let boundary = format!("crashkeep-{}", uuid::Uuid::new_v4().simple());
        Self {
            boundary,
            body: Vec::new(),
        }
    }

    pub fn part(&mut self, name: &str, file_name: Option<&str>, bytes: &[u8]) {
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
        self.body.extend_from_slice(head.as_bytes());
        self.body.extend_from_slice(b"\r\n\r\n");
        self.body.extend_from_slice(bytes);
        self.body.extend_from_slice(b"\r\n");
    }

    pub fn finish(mut self) -> (String, Vec<u8>) {
        self.body
            .extend_from_slice(format!("--{}--\r\n", self.boundary).as_bytes());
        (
            format!("multipart/form-data; boundary={}", self.boundary),
            self.body,
        )
    }
}
