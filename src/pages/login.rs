//! Logging in with a token, and out again. The cookie is the token: whoever removes the token ends
//! what it opened.

use maud::{Markup, html};

use super::{Page, shown};
use crate::access::{self, COOKIE};
use crate::web::{App, HTML, Request, Response, WebError};

/// Where the form sends people on to.
const NEXT: &str = "next";
/// Days that a browser keeps the cookie.
const COOKIE_DAYS: u32 = 14;

/// The form, in the place of a page that asks for more rights.
pub fn ask(request: &Request, error: &WebError) -> Response {
    let query = request.query.to_query();
    let next = match query.is_empty() {
        true => request.path.clone(),
        false => format!("{}?{query}", request.path),
    };
    // No answer that browsers read as a page may be the one that was asked for.
    answer(401, &next, Some(&error.message))
}

pub fn form(_: &App, request: &Request, _: &[String]) -> Result<Response, WebError> {
    let next = request.query.get(NEXT).unwrap_or("/");
    Ok(answer(200, next, None))
}

pub fn login(app: &App, request: &Request, _: &[String]) -> Result<Response, WebError> {
    let form = request.form();
    let next = form.get(NEXT).unwrap_or("/");
    let secret = form.get("token").unwrap_or_default().trim();
    match access::holder_of(app, secret)? {
        Err(why) => Ok(answer(403, next, Some(why.text()))),
        Ok(_) => Ok(Response::see_other(local(next)).with("set-cookie", cookie(app, secret))),
    }
}

pub fn logout(app: &App, _: &Request, _: &[String]) -> Result<Response, WebError> {
    let gone = format!("{}; Max-Age=0", attributes(app, ""));
    Ok(Response::see_other("/login/").with("set-cookie", gone))
}

/// The header that makes a browser log in with this token, whose form was checked by finding it.
pub fn cookie(app: &App, secret: &str) -> String {
    let seconds = COOKIE_DAYS * 24 * 60 * 60;
    format!("{}; Max-Age={seconds}", attributes(app, secret))
}

fn attributes(app: &App, value: &str) -> String {
    let is_https = app.config.get().http.public_url.starts_with("https://");
    let secure = if is_https { "; Secure" } else { "" };
    format!("{COOKIE}={value}; Path=/; HttpOnly; SameSite=Lax{secure}")
}

/// A path of our own, so that a link to the form cannot send people elsewhere.
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
                    // Browsers keep a password by a name.
                    input type="text" name="account" value="crashkeep" autocomplete="username" aria-label="Account" hidden;
                    label { "Token" input type="password" name="token" required autofocus autocomplete="current-password"; }
                    input type="hidden" name=(NEXT) value=(next);
                    div.act { button.primary type="submit" { "Log in" } }
                }
                p.muted.small { "An admin makes accounts and tokens under " a href="/users/" { "Users" } " or with " code { "crashkeep token create --user NAME" } "." }
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
