//! Who may do what.
//!
//! A caller is known by a token, which tools send as a header and browsers as a cookie. Until the
//! first account exists, local callers act as admin without one, and everybody else may submit
//! reports and ask for the server's health. Local means: the server is bound to loopback, the
//! peer is loopback, the Host header names loopback (so that a web page elsewhere cannot reach in
//! through a DNS name of its own), and no proxy has forwarded the request.

pub mod accounts;
pub mod pace;

use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::rights::{Rights, Scope};
use crate::web::{App, Caller, Request, WebError};
use pace::Who;

/// The cookie that holds a browser's token.
pub const COOKIE: &str = "crashkeep";
/// Addresses of the protocol that sends its key in the query.
const KEY_IN_QUERY: [&str; 2] = ["/v1/", "/api/v1/"];

/// Finds out who asks. `is_for_us` is false where the request's target names another host.
///
/// # Errors
/// A token was shown that is not, or no longer, good for anything, or the store cannot be read.
pub fn identify(
    app: &App,
    request: &Request,
    bound: SocketAddr,
    is_for_us: bool,
) -> Result<Caller, WebError> {
    // Some tools send a token always; while there is no account it can be no account's.
    if !app.store.has_users()? {
        let is_local = is_for_us && is_local(request, bound);
        return Ok(match is_local {
            true => Caller::local(),
            false => Caller::anonymous(),
        });
    }
    if let Some(secret) = shown_secret(request) {
        return holder_of(app, &secret)?.map_err(|why| WebError::forbidden(why.text()));
    }
    if let Some(secret) = cookie(request) {
        // An old cookie must not keep anybody from logging in again.
        if let Ok(caller) = holder_of(app, secret)? {
            return Ok(caller);
        }
    }
    Ok(match *app.config.get().access.public_read {
        true => Caller {
            rights: Rights::of([Scope::Submit, Scope::Read]),
            ..Caller::anonymous()
        },
        false => Caller::anonymous(),
    })
}

/// Why a token is no good. The texts are Socorro's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadToken {
    Unknown,
    Expired,
    UserGone,
}

impl BadToken {
    pub fn text(self) -> &'static str {
        match self {
            Self::Unknown => "API Token not matched",
            Self::Expired => "API Token found but expired",
            Self::UserGone => "User of API token not active",
        }
    }
}

/// The caller whose token this is the secret of.
pub fn holder_of(app: &App, secret: &str) -> Result<Result<Caller, BadToken>, WebError> {
    let Some(holder) = app.store.holder(&accounts::hash_of(secret))? else {
        return Ok(Err(BadToken::Unknown));
    };
    if holder.has_expired(app.clock.now()) {
        return Ok(Err(BadToken::Expired));
    }
    let rights = holder.rights();
    Ok(match holder.user {
        None => Err(BadToken::UserGone),
        Some(user) => Ok(Caller {
            rights,
            user: Some(user.name),
            token: Some(holder.key_id),
            is_local: false,
        }),
    })
}

/// The secret that a program shows: in Socorro's header, as a bearer, as the password of basic
/// authentication (which feed readers know), or as sym_upload's key.
fn shown_secret(request: &Request) -> Option<String> {
    if let Some(token) = request.header("auth-token") {
        return Some(token.trim().to_owned());
    }
    if let Some(header) = request.header("authorization") {
        let (scheme, value) = header.trim().split_once(' ').unwrap_or((header, ""));
        let value = value.trim();
        return Some(match scheme.eq_ignore_ascii_case("basic") {
            false => value.to_owned(),
            true => {
                let decoded = STANDARD.decode(value).unwrap_or_default();
                let pair = String::from_utf8_lossy(&decoded).into_owned();
                let (name, password) = pair.split_once(':').unwrap_or((&pair, ""));
                let secret = if password.is_empty() { name } else { password };
                secret.to_owned()
            }
        });
    }
    let has_key = KEY_IN_QUERY
        .iter()
        .any(|start| request.path.starts_with(start));
    let key = request.query.get("key").filter(|_| has_key)?;
    Some(key.to_owned())
}

fn cookie(request: &Request) -> Option<&str> {
    let headers = request.headers.iter();
    headers
        .filter(|(name, _)| name == "cookie")
        .flat_map(|(_, value)| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, value)| *name == COOKIE && !value.is_empty())
        .map(|(_, value)| value)
}

/// Counts a request against its caller's pace.
pub fn pace(app: &App, request: &Request) -> Result<(), WebError> {
    let caller = &request.caller;
    let config = app.config.get();
    let (who, limit) = match (caller.token, request.peer) {
        _ if caller.is_local => return Ok(()),
        (Some(token), _) => (Who::Token(token), *config.access.requests_per_minute),
        (None, peer) => (
            peer.map_or(Who::Others, Who::at),
            *config.access.anonymous_per_minute,
        ),
    };
    app.pace.count(who, limit, app.clock.now()).map_err(|wait| {
        let why = format!("Too Many Requests: {limit} a minute are allowed; try again in {wait} s");
        WebError::new(429, why).with("retry-after", wait.to_string())
    })
}

/// Why a caller may not use something, and what to do about it; 401 where a token would help.
pub fn refusal(
    app: &App,
    caller: &Caller,
    needs: Scope,
    bound: SocketAddr,
) -> Result<WebError, WebError> {
    if caller.user.is_some() {
        return Ok(WebError::forbidden(format!(
            "Use of this endpoint requires the '{}' permission",
            needs.name()
        )));
    }
    if app.store.has_users()? {
        let why = "a token is needed: send it in the header Auth-Token, or log in at /login/";
        return Ok(WebError::new(401, why));
    }
    let why = match bound.ip().is_loopback() {
        true => {
            "pages and API are served to this machine alone: open them under 127.0.0.1 or localhost, without a proxy in between, or make an account with `crashkeep user add`"
        }
        false => {
            "this server is bound to an address that is not loopback and has no account, so it serves only the collector (/submit) and its health; make one with `crashkeep user add NAME --role admin`, or bind [http] listen to 127.0.0.1"
        }
    };
    Ok(WebError::forbidden(why))
}

/// Headers by which proxies say that they forward for somebody else, beside `X-Forwarded-*`.
const FORWARDING: [&str; 6] = [
    "forwarded",
    "via",
    "x-real-ip",
    "x-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
];

fn is_forwarding(header: &str) -> bool {
    header.starts_with("x-forwarded-") || FORWARDING.contains(&header)
}

fn is_local(request: &Request, bound: SocketAddr) -> bool {
    bound.ip().is_loopback()
        && request.peer.is_some_and(|peer| peer.is_loopback())
        && request.header("host").is_some_and(names_loopback)
        && !request.headers.iter().any(|(name, _)| is_forwarding(name))
}

/// Whether a request that changes something comes from a page of another site. Browsers say so
/// in one or two headers; programs send neither.
pub fn is_cross_site(request: &Request) -> bool {
    let fetched_from = request.header("sec-fetch-site");
    let foreign_site = fetched_from.is_some_and(|site| !matches!(site, "same-origin" | "none"));
    let foreign_origin = request.header("origin").is_some_and(|origin| {
        let host = origin.split_once("://").map(|(_, host)| host);
        host.is_none() || host != request.header("host")
    });
    foreign_site || foreign_origin
}

/// Whether a Host header names this machine: a name or address, and perhaps a port.
pub fn names_loopback(host: &str) -> bool {
    let (name, rest) = match host.strip_prefix('[') {
        Some(bracketed) => match bracketed.split_once(']') {
            Some((name, rest)) => (name, rest),
            None => return false,
        },
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let port_ok = rest.is_empty()
        || rest
            .strip_prefix(':')
            .is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()));
    port_ok
        && (name.eq_ignore_ascii_case("localhost")
            || name
                .parse::<std::net::IpAddr>()
                .is_ok_and(|ip| ip.is_loopback()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::{Method, Params};

    fn request(peer: &str, headers: &[(&str, &str)]) -> Request {
        Request {
            method: Method::Post,
            path: "/".into(),
            query: Params::default(),
            headers: headers
                .iter()
                .map(|(n, v)| (n.to_string(), v.to_string()))
                .collect(),
            peer: peer.parse().ok(),
            caller: Caller::anonymous(),
            body: Vec::new(),
        }
    }

    fn local(bound: &str, peer: &str, headers: &[(&str, &str)]) -> bool {
        is_local(&request(peer, headers), bound.parse().expect("an address"))
    }

    #[test]
    fn only_a_local_caller_of_a_loopback_server_is_admin() {
        let loopback = "127.0.0.1:8000";
        assert!(local(loopback, "127.0.0.1", &[("host", "localhost:8000")]));
        assert!(local(loopback, "127.0.0.1", &[("host", "127.0.0.1")]));
        assert!(local("[::1]:8000", "::1", &[("host", "[::1]:8000")]));
        assert!(!local(loopback, "127.0.0.1", &[("host", "evil.example")]));
        assert!(!local(
            loopback,
            "127.0.0.1",
            &[("host", "127.0.0.1.evil.example")]
        ));
        assert!(!local(loopback, "127.0.0.1", &[]));
        for header in ["x-forwarded-for", "x-forwarded-proto", "via", "forwarded"] {
            let forwarded = [("host", "localhost"), (header, "x")];
            assert!(!local(loopback, "127.0.0.1", &forwarded), "{header}");
        }
        for host in [
            "localhost:80.evil",
            "[::1]evil.com",
            "localhost:1@evil.com",
            "[::1",
            "",
        ] {
            assert!(!local(loopback, "127.0.0.1", &[("host", host)]), "{host}");
        }
        assert!(!local(
            "0.0.0.0:8000",
            "127.0.0.1",
            &[("host", "localhost")]
        ));
        assert!(!local(loopback, "10.0.0.1", &[("host", "localhost")]));
    }

    #[test]
    fn a_request_from_another_site_is_told_by_its_headers() {
        let cross = |headers: &[(&str, &str)]| is_cross_site(&request("127.0.0.1", headers));
        assert!(!cross(&[("host", "localhost:8000")]));
        assert!(!cross(&[
            ("host", "localhost:8000"),
            ("origin", "http://localhost:8000")
        ]));
        assert!(cross(&[
            ("host", "localhost:8000"),
            ("origin", "http://evil.example")
        ]));
        assert!(cross(&[("host", "localhost:8000"), ("origin", "null")]));
        assert!(cross(&[("sec-fetch-site", "cross-site")]));
        assert!(cross(&[
            ("sec-fetch-site", "none"),
            ("host", "localhost"),
            ("origin", "http://evil.example")
        ]));
        assert!(!cross(&[
            ("sec-fetch-site", "same-origin"),
            ("host", "localhost"),
            ("origin", "http://localhost")
        ]));
    }
}
