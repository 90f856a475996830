//! A small HTTP client for our own commands.

use std::fmt;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;

/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
const TIMEOUT: Duration = Duration::from_secs(120);

#[derive(Debug)]
pub struct PostError(String);

impl fmt::Display for PostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PostError {}

/// Posts `body` to an `http://` URL; returns the status and the answer's text.
pub fn post(url: &str, content_type: &str, body: Vec<u8>) -> Result<(u16, String), PostError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|e| PostError(e.to_string()))?;
    runtime.block_on(async {
        match tokio::time::timeout(TIMEOUT, exchange(url, content_type, body)).await {
            Ok(result) => result.map_err(|e| PostError(format!("{url}: {e}"))),
            Err(_) => Err(PostError(format!(
                "{url}: no answer within {} s",
                TIMEOUT.as_secs()
            ))),
        }
    })
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

async fn exchange(url: &str, content_type: &str, body: Vec<u8>) -> Result<(u16, String), AnyError> {
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
    let request = hyper::Request::post(path)
        .header("host", authority)
        .header(
            "user-agent",
            concat!("crashkeep/", env!("CARGO_PKG_VERSION")),
        )
        .header("content-type", content_type)
        .body(Full::new(Bytes::from(body)))?;
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
