//! Error pages: what is wrong, and what the user can do next.

use maud::html;

use super::{Page, shown};
use crate::web::{HTML, Response, WebError};

pub(crate) fn page(error: &WebError) -> Response {
    let title = match error.status {
        400 => "Bad request",
        403 => "Access denied",
        404 => "Not found",
        405 => "Method not allowed",
        429 => "Too many requests",
        500.. => "Server error",
        _ => "Request refused",
    };
    let content = html! {
        div.head {
            h1 { (title) }
            p { (shown(&error.message)) "." }
            @if let Some(field) = &error.field {
                p.muted { "Check the parameter " code { (shown(field)) } "." }
            }
            p { a href="/" { "Home" } " · " a href="/search/" { "Search" } " · " a href="/status/" { "Server status" } }
        }
    };
    Response {
        headers: error.headers.clone(),
        ..Response::new(error.status, HTML, Page::new(title, "").render(content))
    }
}
