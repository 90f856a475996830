//! All outgoing requests of a server. They go only to servers that the configuration names.
//!
//! A client is created for certain origins and refuses all others. It follows redirects only to these
//! origins, and only when it fetches a file. It uses no proxy from the environment. It limits the time and
//! the bytes of every answer. If the configuration names no server, no client exists and nothing here ever
//! runs.

use std::fs::File;
use std::io;
use std::time::Duration;

use ureq::http::Uri;

use crate::limits;

/// Limits for an answer.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Time to connect, including TLS.
    pub connect: Duration,
    /// Time from the first byte of the request to the last byte of the answer.
    pub whole: Duration,
    pub body_bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(limits::OUTBOUND_CONNECT_SECONDS_MAX),
            whole: Duration::from_secs(limits::OUTBOUND_SECONDS_MAX),
            body_bytes: limits::OUTBOUND_BYTES_MAX,
        }
    }
}

#[derive(Debug)]
pub struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// Why a request has no answer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutboundError {
    /// The origin of the URL is not one of the client's origins.
    #[error("{origin} is not one of the servers in the configuration")]
    Foreign { origin: String },
    /// The server redirects to another URL.
    #[error(
        "it redirects to {to:?}; redirects are not followed; if you trust that address, configure it"
    )]
    Redirected { to: String },
    /// The answer is larger than this.
    #[error("its answer is larger than {bytes_max} bytes")]
    TooLarge { bytes_max: u64 },
    /// There was no connection, a time-out, or an answer that is not HTTP.
    #[error("{0}")]
    Failed(String),
}

/// A client of certain servers.
pub struct Outbound {
    agent: ureq::Agent,
    origins: Vec<String>,
    bounds: Bounds,
}

impl Outbound {
    /// A client that may send requests to the origins of these URLs.
    pub fn to(addresses: &[&str], bounds: Bounds) -> Self {
        let origins = addresses.iter().filter_map(|text| text.parse().ok());
        Self {
            agent: ureq::Agent::config_builder()
                .http_status_as_error(false)
                .max_redirects(0)
                .proxy(None)
                .timeout_connect(Some(bounds.connect))
                .timeout_global(Some(bounds.whole))
                .user_agent(concat!("crashkeep/", env!("CARGO_PKG_VERSION")))
                .accept("application/json, */*")
                .build()
                .new_agent(),
            origins: origins.map(|uri| origin(&uri)).collect(),
            bounds,
        }
    }

    /// Sends a GET request. Every status except a redirect is an answer.
    ///
    /// # Errors
    /// There is no answer within the limits of the client. Only [`OutboundError::Failed`] may go away later.
    pub fn get(&self, address: &str) -> Result<Answer, OutboundError> {
        let mut response = self.call(address)?;
        if let Some(to) = redirection(&response) {
            return Err(OutboundError::Redirected { to });
        }
        let body = response.body_mut().with_config();
        let body = body.limit(self.bounds.body_bytes).read_to_vec();
        Ok(Answer {
            status: response.status().as_u16(),
            body: body.map_err(|e| self.failed(e))?,
        })
    }

    /// Sends a GET request and writes the body of the answer into a file. Returns the status. Follows a few
    /// redirects to the client's origins.
    ///
    /// # Errors
    /// As for [`Self::get`], and [`OutboundError::Redirected`] only after too many redirects.
    /// [`OutboundError::Failed`] also if the file cannot be written.
    pub(crate) fn get_into(&self, address: &str, file: &mut File) -> Result<u16, OutboundError> {
        let mut response = self.call(address)?;
        for _ in 0..limits::OUTBOUND_REDIRECTS_MAX {
            let Some(to) = redirection(&response) else {
                break;
            };
            response = self.call(&to)?;
        }
        if let Some(to) = redirection(&response) {
            return Err(OutboundError::Redirected { to });
        }
        let body = response.body_mut().with_config();
        let mut reader = body.limit(self.bounds.body_bytes).reader();
        match io::copy(&mut reader, file) {
            Ok(_) => Ok(response.status().as_u16()),
            Err(error) => Err(match error.downcast::<ureq::Error>() {
                Ok(error) => self.failed(error),
                Err(error) => OutboundError::Failed(error.to_string()),
            }),
        }
    }

    fn call(&self, address: &str) -> Result<ureq::http::Response<ureq::Body>, OutboundError> {
        let uri: Uri = address
            .parse()
            .map_err(|e| OutboundError::Failed(format!("{address:?} is not a valid URL: {e}")))?;
        let origin = origin(&uri);
        if !self.origins.contains(&origin) {
            return Err(OutboundError::Foreign { origin });
        }
        self.agent.get(uri).call().map_err(|e| self.failed(e))
    }

    fn failed(&self, error: ureq::Error) -> OutboundError {
        match error {
            ureq::Error::BodyExceedsLimit(bytes_max) => OutboundError::TooLarge { bytes_max },
            ureq::Error::Timeout(what) => OutboundError::Failed(format!(
                "it did not answer in time ({what}, at most {} s in all)",
                self.bounds.whole.as_secs_f64()
            )),
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                OutboundError::Failed("it refuses the connection".into())
            }
            error => OutboundError::Failed(error.to_string()),
        }
    }
}

/// The target of a redirect; `None` if the response is not a redirect.
fn redirection(response: &ureq::http::Response<ureq::Body>) -> Option<String> {
    if !response.status().is_redirection() {
        return None;
    }
    let to = response.headers().get("location");
    let to = to.map(|to| String::from_utf8_lossy(to.as_bytes()).into_owned());
    Some(to.unwrap_or_default())
}

/// Scheme, host and port.
fn origin(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or_default();
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    format!("{scheme}://{authority}").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_origins_that_were_named_are_asked() {
        // Nothing listens on port 9 of this machine. A different error would mean that the client tried to
        // connect.
        let outbound = Outbound::to(&["http://127.0.0.1:9/bz"], Bounds::default());
        for address in [
            "http://127.0.0.1:10/",
            "https://127.0.0.1:9/",
            "http://localhost:9/",
            "http://user@127.0.0.1:9/",
            "http://127.0.0.1:9.example.org/",
            "/rest/bug",
        ] {
            let error = outbound.get(address).expect_err(address);
            let refused = matches!(&error, OutboundError::Foreign { .. })
                || matches!(&error, OutboundError::Failed(why) if why.contains("is not a valid URL"));
            assert!(refused, "{address}: {error:?}");
        }
    }
}
