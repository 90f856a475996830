//! Identifies callers and checks what they may do.
//!
//! A caller is identified by a token, which tools send in a header, or by a session. A login with a token
//! opens the session, and the browser stores it in a cookie. Until the first account exists, the holder of
//! the [local key](local_key) is admin, on a server that listens only on its own machine. Everybody else may
//! submit reports and check the health of the server.

pub(crate) mod accounts;
pub mod commands;
mod holder;
pub(crate) mod local_key;
pub(crate) mod origin;
pub(crate) mod pace;
pub(crate) mod sessions;

pub(crate) use holder::BadToken;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::app::App;
use crate::rights::{Rights, Scope};
use crate::web::{Caller, ListenerKind, Request, WebError};
use accounts::hash_of;
use holder::caller_of;
use pace::Who;

/// The challenge to a client that sent no token.
const CHALLENGE: &str = "Basic realm=\"crashkeep: use a token as the password\"";

/// Identifies the caller of a request. `has_key_in_query`: whether its route takes a token as the parameter
/// `key`.
///
/// # Errors
/// The token is invalid or has expired, the address sent too many invalid tokens, or the store cannot be
/// read. The error is the answer to the client.
pub(crate) fn identify(
    app: &App,
    request: &Request,
    has_key_in_query: bool,
) -> Result<Caller, WebError> {
    if let Some(shown) = shown_secret(request, has_key_in_query) {
        let caller = holder_of(app, request, &shown.secret)?;
        return caller.map_err(|why| shown.refused(why));
    }
    if let Some(caller) = session_of(app, request)? {
        return Ok(caller);
    }
    let mut caller = Caller::anonymous();
    if *app.config.get().access.public_read && app.store.has_users()? {
        caller.rights = Rights::of([Scope::Submit, Scope::Read]);
    }
    Ok(caller)
}

/// The caller with this token secret, local key or command key.
///
/// # Errors
/// 429 if the address of the request sent too many invalid ones. Then the secret is not looked up.
pub(crate) fn holder_of(
    app: &App,
    request: &Request,
    secret: &str,
) -> Result<Result<Caller, BadToken>, WebError> {
    let hash = hash_of(secret);
    let now = app.clock.now();
    if app.command_key.is(&hash) {
        return Ok(match request.arrival.listener {
            ListenerKind::Control => Ok(Caller::local()),
            ListenerKind::Main | ListenerKind::Collector => Err(BadToken::Unknown),
        });
    }
    if app.local_key.is(&hash) && !app.store.has_users()? {
        return Ok(Ok(Caller::local()));
    }
    let limit = *app.config.get().access.failed_logins_per_minute;
    let who = Who::failing_at(request.arrival.client);
    if !app.pace.is_proven(&hash) {
        let checked = app.pace.check(who, limit, now);
        checked
            .map_err(|wait| too_many(format!("limit is {limit} wrong tokens per minute"), wait))?;
    }
    let found = match app.store.holder(&hash)? {
        None => Err(BadToken::Unknown),
        Some(holder) => caller_of(holder, now),
    };
    match &found {
        Ok(_) => app.pace.prove(hash),
        Err(_) => {
            app.pace.disprove(&hash);
            // If the limit was reached meanwhile, the next request gets the error.
            let _ = app.pace.count(who, limit, now);
        }
    }
    Ok(found)
}

/// The caller of the session in the request's cookie. `None` without a valid session, so that an old cookie
/// does not prevent a new login.
fn session_of(app: &App, request: &Request) -> Result<Option<Caller>, WebError> {
    let Some(secret) = sessions::cookie(app, request) else {
        return Ok(None);
    };
    let hash = hash_of(secret);
    let now = app.clock.now();
    if !app.pace.is_proven(&hash) {
        // Invented cookies count as requests without a token. So their look-ups are limited.
        let limit = *app.config.get().access.anonymous_per_minute;
        let who = Who::at(request.arrival.client);
        let checked = app.pace.check(who, limit, now);
        checked.map_err(|wait| too_many(format!("limit is {limit} requests per minute"), wait))?;
    }
    let caller = sessions::caller(app, &hash, now)?;
    match &caller {
        Some(_) => app.pace.prove(hash),
        None => app.pace.disprove(&hash),
    }
    Ok(caller)
}

/// A secret in the request of a program.
struct Shown {
    secret: String,
    /// True if it is in `Authorization`. Then the client understands a challenge.
    is_authorization: bool,
}

impl Shown {
    /// Clients that use `Auth-Token` understand 403. Clients that use `Authorization` try again after 401.
    fn refused(&self, why: BadToken) -> WebError {
        if self.is_authorization {
            challenge(why.text())
        } else {
            WebError::forbidden(why.text())
        }
    }
}

/// The answer that requests a token.
pub(crate) fn challenge(why: &str) -> WebError {
    WebError::new(401, why).with("www-authenticate", CHALLENGE.to_owned())
}

/// The secret in the request of a program: in Socorro's header, as a bearer token, as the password of basic
/// authentication (which feed readers, wget and debuggers support), or as the key of sym_upload.
fn shown_secret(request: &Request, has_key_in_query: bool) -> Option<Shown> {
    let plain = |secret: &str| Shown {
        secret: secret.to_owned(),
        is_authorization: false,
    };
    if let Some(token) = request.header("auth-token") {
        return Some(plain(token.trim()));
    }
    if let Some(header) = request.header("authorization") {
        let (scheme, value) = header.trim().split_once(' ').unwrap_or((header, ""));
        let value = value.trim();
        let secret = if scheme.eq_ignore_ascii_case("basic") {
            let decoded = STANDARD.decode(value).unwrap_or_default();
            let pair = String::from_utf8_lossy(&decoded).into_owned();
            let (name, password) = pair.split_once(':').unwrap_or((&pair, ""));
            let secret = if password.is_empty() { name } else { password };
            secret.to_owned()
        } else {
            value.to_owned()
        };
        return Some(Shown {
            secret,
            is_authorization: true,
        });
    }
    let key = request.query.get("key").filter(|_| has_key_in_query)?;
    Some(plain(key))
}

/// Counts a request against the limit of its caller.
///
/// # Errors
/// 429 with the time to wait, if the caller has made too many requests in this minute.
pub(crate) fn pace(app: &App, request: &Request) -> Result<(), WebError> {
    let caller = &request.caller;
    let config = app.config.get();
    let (who, limit) = match caller.token {
        _ if caller.is_local => return Ok(()),
        Some(token) => (Who::Token(token), *config.access.requests_per_minute),
        None => (
            Who::at(request.arrival.client),
            *config.access.anonymous_per_minute,
        ),
    };
    let counted = app.pace.count(who, limit, app.clock.now());
    counted.map_err(|wait| too_many(format!("limit is {limit} requests per minute"), wait))
}

fn too_many(limit: String, wait_s: i64) -> WebError {
    let why = format!("Too Many Requests: {limit}; try again in {wait_s} s");
    WebError::new(429, why).with("retry-after", wait_s.to_string())
}

/// The refusal for a caller without the scope `needs`, and what the caller can do; 401 if a token would
/// help.
///
/// # Errors
/// The store cannot be read, so it is not known whether the server has accounts. The error is the answer to
/// the client.
pub(crate) fn refusal(app: &App, caller: &Caller, needs: Scope) -> Result<WebError, WebError> {
    if caller.user.is_some() || caller.is_local {
        return Ok(WebError::forbidden(format!(
            "Use of this endpoint requires the '{}' permission",
            needs.name()
        )));
    }
    if app.store.has_users()? {
        let why = "a token is required; send it in the header Auth-Token, or log in at /login/";
        return Ok(WebError::new(401, why));
    }
    Ok(match app.local_key.secret() {
        Some(_) => WebError::new(
            401,
            "this server has no accounts yet; open the URL that it printed at startup, or log in with the local key (in the file local-key of the data directory)",
        ),
        None => WebError::forbidden(
            "this server has no accounts yet, so it only serves the collector (/submit) and the health URLs; create an account on its machine with `crashkeep user add NAME --role admin`",
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::{Arrival, Method, Params};

    pub(super) fn request(headers: &[(&str, &str)]) -> Request {
        Request {
            method: Method::Post,
            path: "/".into(),
            query: Params::default(),
            headers: headers
                .iter()
                .map(|(n, v)| (n.to_string(), v.to_string()))
                .collect(),
            arrival: Arrival {
                listener: ListenerKind::Main,
                is_tls: false,
                is_proxied: false,
                client: "127.0.0.1".parse().ok(),
            },
            caller: Caller::anonymous(),
            body: Vec::new(),
        }
    }

    #[test]
    fn a_secret_is_found_in_every_usual_place() {
        let check = |headers: &[(&str, &str)], secret: Option<&str>| {
            let shown = shown_secret(&request(headers), false).map(|shown| shown.secret);
            assert_eq!(shown.as_deref(), secret, "{headers:?}");
        };
        check(&[], None);
        check(&[("auth-token", " a ")], Some("a"));
        check(&[("authorization", "Bearer a")], Some("a"));
        check(&[("authorization", "bearer a")], Some("a"));
        check(&[("authorization", "Basic bWU6YQ==")], Some("a"));
        check(&[("authorization", "Basic YTo=")], Some("a"));
        check(&[("authorization", "Basic ???")], Some(""));
    }
}
