//! The files that pages load. All of them are part of the binary.

use crate::app::App;
use crate::pages;
use crate::web::{Captures, Request, Response, WebError};

/// For answers that change only when the program changes.
const CACHE_FOREVER: &str = "public, max-age=31536000, immutable";

pub(crate) fn style(_: &App, _: &Request, _: &Captures) -> Result<Response, WebError> {
    Ok(kept("text/css; charset=utf-8", pages::STYLE))
}

pub(crate) fn icon(_: &App, _: &Request, _: &Captures) -> Result<Response, WebError> {
    Ok(kept("image/svg+xml", pages::ICON))
}

/// Tells search engines whether they may index the pages.
pub(crate) fn robots(app: &App, _: &Request, _: &Captures) -> Result<Response, WebError> {
    let rules = if *app.config.get().http.noindex {
        "User-agent: *\nDisallow: /\n"
    } else {
        "User-agent: *\nDisallow:\n"
    };
    Ok(Response::text(200, rules))
}

/// An answer that a browser may cache without limit: the URL changes with the content.
fn kept(content_type: &'static str, content: &str) -> Response {
    Response::new(200, content_type, content).with("cache-control", CACHE_FOREVER.into())
}
