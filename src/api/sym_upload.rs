//! The protocol sym-upload-v2 of Breakpad's `sym_upload`, under `/v1` and `/api/v1`.
//!
//! A client asks whether the symbols exist, requests a URL, uploads the file to it, and reports that it is
//! done. The server keeps no state between these requests. It stores a file when it is uploaded, and answers
//! the last request from the stored symbols. So a server that was killed or restored in between gives the
//! same answer.
//!
//! Clients search the answers for `"name": "value"` with exactly one space.

use std::fs::File;

use super::symbols::{self, spaced};
use crate::app::App;
use crate::store::symbols::SymbolChange;
use crate::upload::{self, NAMELESS};
use crate::web::{Captures, Request, Response, WebError};

/// `GET /v1/symbols/<debug file>/<DEBUGID>:checkStatus`
///
/// # Errors
/// 404 if the URL does not end with `:checkStatus`.
pub(crate) fn status(app: &App, _: &Request, captures: &Captures) -> Result<Response, WebError> {
    let known = captures
        .get("id_and_verb")
        .strip_suffix(":checkStatus")
        .ok_or_else(|| {
            WebError::not_found("this URL must end with :checkStatus; symbols are under /symbols/")
        })?;
    let status = match app.symbols.module(known) {
        Some(_) => "FOUND",
        None => "MISSING",
    };
    Ok(spaced(&[("status", status)]))
}

/// `POST /v1/uploads:create`
///
/// # Errors
/// Never fails. All handlers have this type.
pub(crate) fn create(app: &App, request: &Request, _: &Captures) -> Result<Response, WebError> {
    let key = format!("{:032x}", (app.random)());
    let mut url = format!("{}/v1/uploads/{key}", app.address(request));
    // The client sends its key with every request except the upload itself, which goes to exactly this URL.
    if let Some(token) = request.query.get("key") {
        let token: String = form_urlencoded::byte_serialize(token.as_bytes()).collect();
        url += &format!("?key={token}");
    }
    Ok(spaced(&[("uploadUrl", &url), ("uploadKey", &key)]))
}

/// `PUT /v1/uploads/<key>`
///
/// # Errors
/// As for [`symbols::upload()`].
pub(crate) fn put(
    app: &App,
    request: &Request,
    _: &Captures,
    body: File,
) -> Result<Response, WebError> {
    symbols::upload(app, request, &Captures::default(), body)
}

/// `POST /v1/uploads/<key>:complete`
///
/// # Errors
/// 404 if the URL does not end with `:complete`, 400 if the body lacks a value or no symbols with this debug
/// id are stored, 503 if the name cannot be stored, 500 if stored data is damaged.
pub(crate) fn complete(
    app: &App,
    request: &Request,
    captures: &Captures,
) -> Result<Response, WebError> {
    if !captures.get("key_and_verb").ends_with(":complete") {
        return Err(WebError::not_found("this URL must end with :complete"));
    }
    let body = String::from_utf8_lossy(&request.body);
    let value = |names: [&'static str; 2]| {
        names
            .iter()
            .find_map(|name| bare_value(&body, name))
            .ok_or_else(|| WebError::bad(names[0], "missing in the body"))
    };
    let debug_file = value(["debug_file", "debugFile"])?;
    let debug_id = value(["debug_id", "debugId"])?;
    match app.symbols.module(debug_id) {
        Some(module) => {
            // The upload contains a file without a name. This is the first request that contains one.
            if module.debug_file == NAMELESS
                && let Some(module) =
                    (app.symbols.rename(debug_id, debug_file)).map_err(upload::storage)?
            {
                app.store.change_symbols(vec![SymbolChange::Put {
                    module,
                    release: None,
                }])?;
            }
            Ok(spaced(&[("result", "OK")]))
        }
        None => Err(WebError::new(
            400,
            "no symbols with this debug id are stored; the uploaded file has a different debug id, or was rejected",
        )),
    }
}

/// The value of a key. The key may lack its quotes, because clients send invalid JSON.
fn bare_value<'a>(body: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = body;
    loop {
        let at = rest.find(name)?;
        rest = &rest[at + name.len()..];
        let value = rest.trim_start_matches('"').trim_start().strip_prefix(':');
        let Some(quoted) = value.and_then(|value| value.trim_start().strip_prefix('"')) else {
            continue;
        };
        return quoted.split_once('"').map(|(value, _)| value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stand_with_and_without_quotes() {
        for body in [
            "{ symbol_id: {debug_file: \"a b\", debug_id: \"1\" }, symbol_upload_type: \"BREAKPAD\" }",
            "{\"symbol_id\":{\"debug_file\":\"a b\",\"debug_id\":\"1\"}}",
        ] {
            assert_eq!(bare_value(body, "debug_file"), Some("a b"));
            assert_eq!(bare_value(body, "debug_id"), Some("1"));
            assert_eq!(bare_value(body, "debugFile"), None);
        }
    }
}
