//! Compresses pages for clients that ask for it.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::web::{Body, HTML, Response};

/// Smaller pages gain little.
const BYTES_MIN: usize = 4096;

/// Whether the answer to a request may be compressed. Secrets, such as a new token, are shown only in answers to
/// forms. Compressing them with other text could reveal them to somebody who sees the lengths of answers.
pub(crate) fn is_allowed(method: &hyper::Method) -> bool {
    [hyper::Method::GET, hyper::Method::HEAD].contains(method)
}

/// Compresses a page. `accepted` says whether the client accepts gzip.
pub(crate) fn compress(response: &mut Response, accepted: bool) {
    let Body::Bytes(page) = &mut response.body else {
        return;
    };
    if response.content_type != HTML || page.len() <= BYTES_MIN {
        return;
    }
    response.headers.push(("vary", "accept-encoding".into()));
    if !accepted {
        return;
    }
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    // Memory takes every byte.
    if packed.write_all(page).is_ok()
        && let Ok(packed) = packed.finish()
    {
        *page = packed;
        response.headers.push(("content-encoding", "gzip".into()));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn compressed(mut response: Response, accepted: bool) -> (Option<Vec<u8>>, usize) {
        compress(&mut response, accepted);
        let packed = response
            .headers
            .iter()
            .any(|(name, _)| *name == "content-encoding");
        let headers = response.headers.len();
        let Body::Bytes(bytes) = response.body else {
            unreachable!("a page has bytes")
        };
        (packed.then_some(bytes), headers)
    }

    #[test]
    fn long_pages_are_compressed_for_those_who_ask() {
        let page = "<p>crash</p>".repeat(1_000);
        let (packed, _) = compressed(Response::html(page.clone()), true);
        let packed = packed.expect("compressed");
        assert!(packed.len() < page.len() / 10);
        let mut text = String::new();
        flate2::read::GzDecoder::new(&*packed)
            .read_to_string(&mut text)
            .expect("gzip");
        assert_eq!(text, page);
        // A cache must not give either form to a client that needs the other.
        assert_eq!(compressed(Response::html(page.clone()), false), (None, 1));
        assert_eq!(compressed(Response::html("short"), true), (None, 0));
        assert_eq!(compressed(Response::text(200, page), true), (None, 0));
    }

    #[test]
    fn answers_to_forms_are_never_compressed() {
        assert!(is_allowed(&hyper::Method::GET) && !is_allowed(&hyper::Method::POST));
    }
}
