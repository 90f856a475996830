//! Login with a token, and logout.

use maud::{Markup, html};

use super::{Page, shown};
use crate::access::{self, sessions};
use crate::app::App;
use crate::web::{Captures, HTML, Params, Request, Response, WebError};

/// The parameter with the path to open after the login.
const NEXT: &str = "next";
/// The parameter with the local key in the URL that the server prints.
const KEY: &str = "key";

/// The login form, shown instead of a page that needs more rights.
pub(crate) fn ask(request: &Request, error: &WebError) -> Response {
    // The status must be an error: a browser must not take the form for the requested page.
    answer(
        error.status,
        &address(request, &request.query),
        Some(&error.message),
    )
}

/// Shows the form.
///
/// # Errors
/// Never fails. All handlers have this type.
pub(crate) fn form(_: &App, request: &Request, _: &Captures) -> Result<Response, WebError> {
    let next = request.query.get(NEXT).unwrap_or("/");
    Ok(answer(200, next, None))
}

/// Opens a session for the holder of a token or of the local key.
///
/// # Errors
/// 503 while the store cannot be written, 500 if stored data is damaged. A wrong token is not an error, but a
/// page with status 403. After too many of them the page has status 429.
pub(crate) fn login(app: &App, request: &Request, _: &Captures) -> Result<Response, WebError> {
    let form = request.form();
    let next = form.get(NEXT).unwrap_or("/");
    let secret = form.get("token").unwrap_or_default().trim();
    match access::holder_of(app, request, secret) {
        Err(error) if error.status == 429 => {
            let page = answer(429, next, Some(&error.message));
            let headers = error.headers;
            Ok(Response { headers, ..page })
        }
        Err(error) => Err(error),
        Ok(Err(why)) => Ok(answer(403, next, Some(why.text()))),
        Ok(Ok(caller)) => {
            let cookie = sessions::open(app, request, &caller)?;
            Ok(Response::see_other(local(next)).with("set-cookie", cookie))
        }
    }
}

/// Ends the session.
///
/// # Errors
/// 503 while the store cannot be written. The session may still be open.
pub(crate) fn logout(app: &App, request: &Request, _: &Captures) -> Result<Response, WebError> {
    let gone = sessions::close(app, request)?;
    Ok(Response::see_other("/login/").with("set-cookie", gone))
}

/// Opens a session for a caller with the local key in the URL, and redirects the browser to the same URL
/// without the key, so that the key is not visible any longer. `None` if there is no valid key.
///
/// # Errors
/// 429 if the address of the request sent too many wrong keys, 503 while the store cannot be written, 500 if
/// stored data is damaged.
pub(crate) fn by_key(app: &App, request: &Request) -> Result<Option<Response>, WebError> {
    let Some(key) = request.query.get(KEY) else {
        return Ok(None);
    };
    let Ok(caller) = access::holder_of(app, request, key)? else {
        return Ok(None);
    };
    // A token in a URL would be stored in logs and browser histories. Only the local key may be used there.
    if !caller.is_local {
        return Ok(None);
    }
    let cookie = sessions::open(app, request, &caller)?;
    let mut rest = request.query.clone();
    rest.0.retain(|(name, _)| name != KEY);
    let next = address(request, &rest);
    Ok(Some(
        Response::see_other(local(&next)).with("set-cookie", cookie),
    ))
}

/// Path and query of this request, with other parameters.
fn address(request: &Request, query: &Params) -> String {
    if query.0.is_empty() {
        request.path.clone()
    } else {
        format!("{}?{}", request.path, query.to_query())
    }
}

/// Returns only paths on this server, so that a link to the form cannot redirect users elsewhere.
fn local(next: &str) -> &str {
    let is_path = next.starts_with('/') && !next.starts_with("//");
    let is_plain = next.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    if is_path && is_plain { next } else { "/" }
}

fn answer(status: u16, next: &str, problem: Option<&str>) -> Response {
    let page = Page::new("Log in", "/account/").render(markup(next, problem));
    Response::new(status, HTML, page)
}

fn markup(next: &str, problem: Option<&str>) -> Markup {
    html! {
        div.head {
            h1 { "Log in" }
            @if let Some(problem) = problem { div.chips { span.chip.warn { (shown(problem)) } } }
        }
        section.panel.narrow {
            div.body {
                form.filters method="post" action="/login/" {
                    // Browsers store a password together with a user name.
                    input type="text" name="account" value="crashkeep" autocomplete="username" aria-label="Account" hidden;
                    label { "Token or local key" input type="password" name="token" required autofocus autocomplete="current-password"; }
                    input type="hidden" name=(NEXT) value=(next);
                    div.act { button.primary type="submit" { "Log in" } }
                }
                p.muted.small { "An admin creates accounts and tokens under " a href="/users/" { "Users" } " or with " code { "crashkeep token create --user NAME" } ". On a server without accounts, log in with the local key that the server printed at startup." }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_sent_to_another_site() {
        for elsewhere in [
            "//evil.example",
            "https://evil.example",
            "/\\evil.example",
            "",
            "/a\r\nb",
        ] {
            assert_eq!(local(elsewhere), "/", "{elsewhere:?}");
        }
        assert_eq!(local("/search/?product=A%20B"), "/search/?product=A%20B");
    }
}
