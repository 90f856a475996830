//! Access for pages of other sites that read symbols or symbolicate addresses, such as the Firefox Profiler.
//!
//! Only marked routes allow it, and only for origins that the configuration names. Cookies are ignored: such
//! a page sends a token, or sees only what everybody may see.

use hyper::HeaderMap;
use hyper::header;

use super::routes::{self, Route};
use crate::config::Config;
use crate::web::{Method, Response};

/// Seconds for which a browser may cache the answer to a preflight request.
const PREFLIGHT_SECONDS: &str = "86400";

/// The origin of the page that sent this request, if it may use the route.
pub(crate) fn allowed(config: &Config, route: &Route, headers: &HeaderMap) -> Option<String> {
    let origin = headers.get(header::ORIGIN)?.to_str().ok()?;
    (route.is_shared && config.http.cors_origins.allow(origin)).then(|| origin.to_owned())
}

/// The answer to a preflight request of a browser.
pub(crate) fn preflight(config: &Config, path: &str, headers: &HeaderMap) -> Option<Response> {
    let method = headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
    let method = match method.as_bytes() {
        b"GET" | b"HEAD" => Method::Get,
        b"POST" => Method::Post,
        _ => return None,
    };
    let (route, _) = routes::find(method, path).ok()?;
    let origin = allowed(config, route, headers)?;
    let response = Response::text(200, "")
        .with("access-control-allow-methods", "GET, HEAD, POST".into())
        .with(
            "access-control-allow-headers",
            "auth-token, authorization, content-type".into(),
        )
        .with("access-control-max-age", PREFLIGHT_SECONDS.into());
    Some(share(response, origin))
}

/// Allows pages of this origin to read an answer.
pub(crate) fn share(response: Response, origin: String) -> Response {
    response
        .with("access-control-allow-origin", origin)
        .with("vary", "origin, accept-encoding".into())
        .with("cross-origin-resource-policy", "cross-origin".into())
}
