//! An endpoint that does nothing, to test a token or the request limit.

use serde_json::{Map, Value, json};

use super::doc::{AnswerDoc, Doc, any_object, object, text};
use crate::app::App;
use crate::web::{Captures, Request, Response, WebError};

pub(crate) const NOOP: Doc = Doc::new(
    "Returns the parameters of the request and the caller, for tests of clients",
    &[],
    AnswerDoc::Json(|| {
        object(&[
            ("params", any_object()),
            ("caller", text()),
            ("rights", text()),
        ])
    }),
);

/// Returns the parameters, and who the caller is.
///
/// # Errors
/// Never fails. All handlers have this type.
pub(crate) fn noop(_: &App, request: &Request, _: &Captures) -> Result<Response, WebError> {
    let mut params: Map<String, Value> = Map::new();
    for (name, _) in &request.query.0 {
        let values: Vec<&str> = request.query.all(name).collect();
        params.insert(name.clone(), json!(values));
    }
    Ok(Response::json(&json!({
        "params": params,
        "caller": request.caller.name(),
        "rights": request.caller.rights.to_string(),
    })))
}
