//! Sessions of browsers. The cookie contains a random secret, and the store its hash. Neither contains the
//! token of the login.

use super::accounts::{hash_of, new_secret};
use super::holder::caller_of;
use crate::app::App;
use crate::clock::{DAY_MS, Timestamp};
use crate::store::StoreError;
use crate::store::accounts::{AccountChange, KeyHash, SessionRow};
use crate::web::{Caller, Request};

const SESSION_DAYS: i64 = 14;

/// Opens a session for `caller`. Returns the `Set-Cookie` header for the browser. The session ends with the
/// caller's token, but at the latest after two weeks.
///
/// # Errors
/// The store cannot be written, or a stored session is damaged. The browser must not get a cookie.
pub(crate) fn open(app: &App, request: &Request, caller: &Caller) -> Result<String, StoreError> {
    let now = app.clock.now();
    let longest = Timestamp::from_ms(now.ms().saturating_add(SESSION_DAYS * DAY_MS));
    let expires_at = caller.expires_at.map_or(longest, |at| at.min(longest));
    let secret = new_secret();
    let row = SessionRow {
        key_id: caller.token,
        created_at_ms: now.ms(),
        expires_at_ms: expires_at.ms(),
    };
    let change = AccountChange::PutSession(hash_of(&secret), row);
    app.store.change_accounts(vec![change])?;
    let seconds = expires_at.ms_since(now) / 1000;
    Ok(set_cookie(app, request, &secret, seconds))
}

/// Ends the session of this request, if any. Returns the header that removes the cookie.
///
/// # Errors
/// The store cannot be written. The session may still be open.
pub(crate) fn close(app: &App, request: &Request) -> Result<String, StoreError> {
    if let Some(secret) = cookie(app, request) {
        let change = AccountChange::RemoveSession(hash_of(secret));
        app.store.change_accounts(vec![change])?;
    }
    Ok(set_cookie(app, request, "", 0))
}

/// The caller who opened the session with this hash; `None` if there is no valid session.
pub(super) fn caller(
    app: &App,
    hash: &KeyHash,
    now: Timestamp,
) -> Result<Option<Caller>, StoreError> {
    let Some(session) = app.store.session(hash)? else {
        return Ok(None);
    };
    if session.row.expires_at_ms <= now.ms() {
        return Ok(None);
    }
    let caller = match session.holder {
        Some(holder) => caller_of(holder, now).ok(),
        // The local key ends with the first account, and so do the sessions that it opened.
        None => (!app.store.has_users()?).then(Caller::local),
    };
    Ok(caller.map(|caller| Caller {
        has_session: true,
        ..caller
    }))
}

/// The secret in the request's cookie.
pub(super) fn cookie<'a>(app: &App, request: &'a Request) -> Option<&'a str> {
    let wanted = cookie_name(app, request);
    let headers = request.headers.iter();
    headers
        .filter(|(name, _)| name == "cookie")
        .flat_map(|(_, value)| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, value)| *name == wanted && !value.is_empty())
        .map(|(_, value)| value)
}

fn is_https(app: &App, request: &Request) -> bool {
    request.arrival.is_tls || app.config.get().http.public_url.is_https()
}

/// With these prefixes, browsers accept a cookie only from the host itself, over https.
fn cookie_name(app: &App, request: &Request) -> &'static str {
    let config = app.config.get();
    let has_path = !config.http.public_url.base_path().is_empty();
    match (is_https(app, request), has_path) {
        (false, _) => "crashkeep",
        (true, false) => "__Host-crashkeep",
        (true, true) => "__Secure-crashkeep",
    }
}

fn set_cookie(app: &App, request: &Request, secret: &str, seconds: i64) -> String {
    let config = app.config.get();
    let name = cookie_name(app, request);
    let base = config.http.public_url.base_path();
    let path = if base.is_empty() { "/" } else { base };
    let secure = if is_https(app, request) {
        "; Secure"
    } else {
        ""
    };
    format!("{name}={secret}; Path={path}; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}")
}
