//! Turns a plain answer into one that hyper sends. Adds the headers that every answer has, and the base path
//! of the public URL.

use hyper::header::{self, HeaderName, HeaderValue};

use super::body::Outgoing;
use super::compress::compress;
use crate::config;
use crate::pages;
use crate::web::{Body, HTML, Response};

/// No script, no inline style, no content from other sites, no page of ours in a frame.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// The answer in hyper's form. `gzip` is whether the client accepts it; `None` if the answer must not be
/// compressed.
pub(crate) fn send(
    http: &config::Http,
    mut response: Response,
    head_only: bool,
    gzip: Option<bool>,
) -> hyper::Response<Outgoing> {
    under_base_path(http.public_url.base_path(), &mut response);
    if let Some(accepted) = gzip {
        compress(&mut response, accepted);
    }
    let body = match response.body {
        Body::Bytes(bytes) => Outgoing::bytes(bytes),
        Body::Payload(reader) if head_only => Outgoing::length_alone(Some(reader.bytes())),
        Body::Payload(reader) => Outgoing::payload(reader),
        Body::Stream { bytes, .. } if head_only => Outgoing::length_alone(bytes),
        Body::Stream { reader, bytes } => Outgoing::stream(reader, bytes),
    };
    let mut built = hyper::Response::new(body);
    *built.status_mut() = hyper::StatusCode::from_u16(response.status)
        .unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
    let headers = built.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(response.content_type),
    );
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if *http.noindex {
        let name = HeaderName::from_static("x-robots-tag");
        headers.insert(name, HeaderValue::from_static("noindex, nofollow"));
    }
    for (name, value) in response.headers {
        match HeaderValue::from_str(&value) {
            Ok(value) => drop(headers.insert(HeaderName::from_static(name), value)),
            Err(_) => tracing::error!(name, "a header's value cannot be sent"),
        }
    }
    built
}

/// Pages and redirects contain absolute paths. If users reach the server below a base path, this function
/// inserts it before them.
fn under_base_path(base: &str, response: &mut Response) {
    if base.is_empty() {
        return;
    }
    for (name, value) in &mut response.headers {
        if *name == "location" && value.starts_with('/') {
            value.insert_str(0, base);
        }
    }
    if response.content_type == HTML
        && let Body::Bytes(page) = &mut response.body
    {
        *page = pages::below(base, page);
    }
}
