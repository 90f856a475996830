//! Who may do what.
//!
//! Until accounts exist there are two sorts of callers: local ones, who act as admin, and
//! everybody else, who may submit reports and ask for the server's health. Local means: the
//! server is bound to loopback, the peer is loopback, the Host header names loopback (so that a
//! web page elsewhere cannot reach in through a DNS name of its own), and no proxy has forwarded
//! the request.

use std::net::SocketAddr;

use crate::web::{Request, Role};

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

/// The caller's role.
pub fn role_of(request: &Request, bound: SocketAddr) -> Role {
    let local = bound.ip().is_loopback()
        && request.peer.is_some_and(|peer| peer.is_loopback())
        && request.header("host").is_some_and(names_loopback)
        && !request.headers.iter().any(|(name, _)| is_forwarding(name));
    if local { Role::Admin } else { Role::Anonymous }
}

/// Why somebody without a role is not served, and what to do about it.
pub fn refusal(bound: SocketAddr) -> &'static str {
    if bound.ip().is_loopback() {
        "pages and API are served to this machine alone: open them under 127.0.0.1 or localhost, without a proxy in between"
    } else {
        "this server is bound to an address that is not loopback, so it serves only the collector (/submit) and its health; bind [http] listen to 127.0.0.1 to use pages and API"
    }
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
            role: Role::Anonymous,
            body: Vec::new(),
        }
    }

    fn role(bound: &str, peer: &str, headers: &[(&str, &str)]) -> Role {
        role_of(&request(peer, headers), bound.parse().expect("an address"))
    }

    #[test]
    fn only_a_local_caller_of_a_loopback_server_is_admin() {
        let loopback = "127.0.0.1:8000";
        assert_eq!(
            role(loopback, "127.0.0.1", &[("host", "localhost:8000")]),
            Role::Admin
        );
        assert_eq!(
            role(loopback, "127.0.0.1", &[("host", "127.0.0.1")]),
            Role::Admin
        );
        assert_eq!(
            role("[::1]:8000", "::1", &[("host", "[::1]:8000")]),
            Role::Admin
        );
        assert_eq!(
            role(loopback, "127.0.0.1", &[("host", "evil.example")]),
            Role::Anonymous
        );
        assert_eq!(
            role(loopback, "127.0.0.1", &[("host", "127.0.0.1.evil.example")]),
            Role::Anonymous
        );
        assert_eq!(role(loopback, "127.0.0.1", &[]), Role::Anonymous);
        for header in ["x-forwarded-for", "x-forwarded-proto", "via", "forwarded"] {
            let forwarded = [("host", "localhost"), (header, "x")];
            assert_eq!(
                role(loopback, "127.0.0.1", &forwarded),
                Role::Anonymous,
                "{header}"
            );
        }
        for host in [
            "localhost:80.evil",
            "[::1]evil.com",
            "localhost:1@evil.com",
            "[::1",
            "",
        ] {
            assert_eq!(
                role(loopback, "127.0.0.1", &[("host", host)]),
                Role::Anonymous,
                "{host}"
            );
        }
        assert_eq!(
            role("0.0.0.0:8000", "127.0.0.1", &[("host", "localhost")]),
            Role::Anonymous
        );
        assert_eq!(
            role(loopback, "10.0.0.1", &[("host", "localhost")]),
            Role::Anonymous
        );
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
