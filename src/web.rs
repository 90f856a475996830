//! Plain requests and responses: the part of HTTP that handlers see. This module does not use hyper.

use std::fmt::Display;
use std::net::IpAddr;
use std::num::ParseIntError;
use std::ops::RangeBounds;
use std::str::FromStr;

use crate::clock::Timestamp;
use crate::number::{NumberError, number};
use crate::rights::{Rights, Scope};
use crate::store::PayloadReader;

/// Who sends a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) rights: Rights,
    /// Name of the account.
    pub(crate) user: Option<String>,
    /// Id of the token in this request, or of the token with which the session was opened.
    pub(crate) token: Option<u64>,
    /// When that token expires.
    pub(crate) expires_at: Option<Timestamp>,
    /// True if the request has a session cookie. A form can close the session.
    pub(crate) has_session: bool,
    /// True if the caller has a command's key, or the local key while no account exists.
    pub(crate) is_local: bool,
}

impl Caller {
    /// A caller without credentials.
    pub(crate) fn anonymous() -> Self {
        Self {
            rights: Rights::of([Scope::Submit]),
            user: None,
            token: None,
            expires_at: None,
            has_session: false,
            is_local: false,
        }
    }

    /// A caller with the local key before the first account exists, or a command on this machine.
    pub(crate) fn local() -> Self {
        Self {
            rights: Rights::ALL,
            is_local: true,
            ..Self::anonymous()
        }
    }

    /// The name that others see beside the caller's actions.
    pub(crate) fn name(&self) -> &str {
        match &self.user {
            Some(user) => user,
            None if self.is_local => "local",
            None => "anonymous",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Post,
    Put,
}

impl Method {
    /// True if a request with this method may change something.
    pub(crate) fn changes(self) -> bool {
        self != Self::Get
    }
}

/// The listener that accepted a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListenerKind {
    /// Pages, API and collector.
    Main,
    /// Only the collector and the health URLs.
    Collector,
    /// `crashkeep` commands on this machine.
    Control,
}

/// How a request arrived.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) listener: ListenerKind,
    /// True if our own listener uses TLS.
    pub(crate) is_tls: bool,
    /// True if the peer is a proxy whose forwarding headers we trust.
    pub(crate) is_proxied: bool,
    /// Address of the client: that of the peer, or as the proxy reports it; `None` if it is unknown.
    pub(crate) client: Option<IpAddr>,
}

/// A request with its body in memory.
#[derive(Debug)]
pub struct Request {
    pub(crate) method: Method,
    /// Without the query, still percent-encoded.
    pub(crate) path: String,
    pub(crate) query: Params,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) arrival: Arrival,
    pub(crate) caller: Caller,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// True if the caller has this scope.
    pub(crate) fn may(&self, scope: Scope) -> bool {
        self.caller.rights.has(scope)
    }

    pub(crate) fn is_admin(&self) -> bool {
        self.may(Scope::Admin)
    }

    /// True if the caller may see protected fields.
    pub(crate) fn sees_protected(&self) -> bool {
        self.may(Scope::ReadProtected)
    }

    /// The value of the first header of this name. `name` must be in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }

    /// Host and port that the client used to reach the server.
    pub(crate) fn host(&self) -> Option<&str> {
        let forwarded = self
            .arrival
            .is_proxied
            .then(|| self.header("x-forwarded-host"));
        forwarded.flatten().or_else(|| self.header("host"))
    }

    /// The parameters in a form body, or those of the query if the body is not a form.
    pub(crate) fn form(&self) -> Params {
        match self.header("content-type") {
            Some(kind) if kind.starts_with("application/x-www-form-urlencoded") => {
                Params::parse(&String::from_utf8_lossy(&self.body))
            }
            _ => self.query.clone(),
        }
    }
}

/// Decoded `key=value` pairs in the order received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params(pub Vec<(String, String)>);

impl Params {
    pub fn parse(text: &str) -> Self {
        Self(
            form_urlencoded::parse(text.as_bytes())
                .into_owned()
                .collect(),
        )
    }

    /// The first value of a key, unless it is empty.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(k, v)| k == key && !v.is_empty())
            .map(|(_, v)| v.as_str())
    }

    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(k, _)| k == key)
            .map(|(_, v)| v.as_str())
    }

    /// The number in the first value of a key, unless it is missing or empty.
    ///
    /// # Errors
    /// 400 if the value is not a number in this range.
    pub(crate) fn number<N>(
        &self,
        key: &str,
        range: impl RangeBounds<N>,
    ) -> Result<Option<N>, WebError>
    where
        N: FromStr<Err = ParseIntError> + PartialOrd + Display,
    {
        let text = self.get(key);
        Ok(text.map(|text| number(key, text, range)).transpose()?)
    }

    /// The pairs as the query of a URL, without `?`.
    pub(crate) fn to_query(&self) -> String {
        form_urlencoded::Serializer::new(String::new())
            .extend_pairs(&self.0)
            .finish()
    }
}

pub(crate) enum Body {
    Bytes(Vec<u8>),
    /// A stored payload. It is read while it is sent.
    Payload(Box<PayloadReader>),
    /// Read while it is sent, in chunks if the length is unknown.
    Stream {
        reader: Box<dyn std::io::Read + Send>,
        bytes: Option<u64>,
    },
}

pub struct Response {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    /// Further headers. A value never contains text from a client, except percent-encoded in a URL.
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Body,
}

/// True if the client accepts gzip: the header names it, and its weight is not 0.
pub(crate) fn accepts_gzip(header: &str) -> bool {
    header.split(',').any(|coding| {
        let mut parameters = coding.split(';').map(str::trim);
        let name = parameters.next().unwrap_or_default();
        let weight = parameters.find_map(|p| p.strip_prefix("q=")?.parse::<f32>().ok());
        name.eq_ignore_ascii_case("gzip") && weight != Some(0.0)
    })
}

pub(crate) const HTML: &str = "text/html; charset=utf-8";
pub(crate) const JSON: &str = "application/json";
pub(crate) const TEXT: &str = "text/plain; charset=utf-8";

impl Response {
    pub(crate) fn new(status: u16, content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            content_type,
            headers: Vec::new(),
            body: Body::Bytes(body.into()),
        }
    }

    pub(crate) fn text(status: u16, body: impl Into<String>) -> Self {
        Self::new(status, TEXT, body.into())
    }

    pub(crate) fn html(body: impl Into<String>) -> Self {
        Self::new(200, HTML, body.into())
    }

    pub(crate) fn json(value: &serde_json::Value) -> Self {
        Self::new(200, JSON, value.to_string())
    }

    /// Redirects the browser to a path on this server, with GET.
    pub(crate) fn see_other(path: &str) -> Self {
        Self::text(303, "").with("location", path.to_owned())
    }

    pub(crate) fn with(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }
}

/// Why a request failed: the status, and what the reader can do about it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct WebError {
    pub(crate) status: u16,
    /// The parameter or field with the problem, if any.
    pub(crate) field: Option<String>,
    /// Its value.
    pub(crate) value: Option<Box<str>>,
    pub(crate) message: String,
    /// What is accepted, and what the user most likely meant.
    pub(crate) hint: Option<Box<str>>,
    /// Further headers of the answer.
    pub(crate) headers: Vec<(&'static str, String)>,
}

impl WebError {
    pub(crate) fn new(status: u16, message: impl Into<String>) -> Self {
        Self {
            status,
            field: None,
            value: None,
            message: message.into(),
            hint: None,
            headers: Vec::new(),
        }
    }

    /// The error for an invalid parameter.
    pub(crate) fn bad(field: &str, message: impl Into<String>) -> Self {
        Self {
            field: Some(field.to_owned()),
            ..Self::new(400, message)
        }
    }

    /// The error for a parameter that is required but missing.
    pub(crate) fn missing(field: &str) -> Self {
        Self::bad(field, format!("{field} is missing"))
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(404, message)
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(403, message)
    }

    pub(crate) fn with(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The answer of the API. Existing tools read the key `error`.
    pub(crate) fn to_json(&self) -> Response {
        let mut body = serde_json::json!({ "error": self.message });
        if let Some(field) = &self.field {
            body["field"] = field.as_str().into();
            body["value"] = self.value.as_deref().into();
            body["reason"] = match &self.hint {
                Some(hint) => format!("{}; {hint}", self.message).into(),
                None => self.message.as_str().into(),
            };
        }
        Response {
            status: self.status,
            headers: self.headers.clone(),
            ..Response::json(&body)
        }
    }
}

impl From<NumberError> for WebError {
    fn from(error: NumberError) -> Self {
        Self {
            value: Some(error.value.as_str().into()),
            ..Self::bad(&error.name, error.to_string())
        }
    }
}

/// The segments of a path that its route captured, percent-decoded, by the names in the route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captures(Vec<(&'static str, String)>);

impl Captures {
    pub(crate) fn push(&mut self, name: &'static str, text: String) {
        self.0.push((name, text));
    }

    /// The segment with this name; empty if the route has no such name.
    pub(crate) fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(known, _)| *known == name);
        found.map_or("", |(_, text)| text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_sent_to_those_who_ask_for_it() {
        for (header, accepted) in [
            ("gzip", true),
            ("br, gzip;q=0.5", true),
            ("gzip;q=0", false),
            ("identity", false),
            ("", false),
        ] {
            assert_eq!(accepts_gzip(header), accepted, "{header}");
        }
    }
}
