//! The files that pages load: all of them are in the binary.

use crate::web::{App, Request, Response, WebError};

pub fn style(_: &App, _: &Request, _: &[String]) -> Result<Response, WebError> {
    // Its URL carries a hash of its content.
    Ok(
        Response::new(200, "text/css; charset=utf-8", crate::pages::STYLE)
            .with("cache-control", super::CACHE_FOREVER.into()),
    )
}
