//! Bugs and the signatures that they are about, in the format of Socorro's `Bugs` and `SignaturesByBugs`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::doc::{AnswerDoc, Doc, Param, ParamKind, hits as hits_of, object, text};
use crate::app::App;
use crate::limits;
use crate::store::bugs::Association;
use crate::web::{Captures, Params, Request, Response, WebError};

type Answer = Result<Response, WebError>;

const ASSOCIATIONS: AnswerDoc = AnswerDoc::Json(|| {
    let id = json!({ "type": ["integer", "string"] });
    hits_of(object(&[("id", id), ("signature", text())]))
});

pub(crate) const BUGS: Doc = Doc::new(
    "Bugs of signatures, and all other signatures that the same bugs name",
    &[Param::new("signatures", ParamKind::Texts, "Signatures").required()],
    ASSOCIATIONS,
);

/// The same with a form, for more signatures than fit into a URL.
pub(crate) const BUGS_POSTED: Doc = BUGS.form();

pub(crate) const SIGNATURES: Doc = Doc::new(
    "Signatures that bugs name",
    &[Param::new("bug_ids", ParamKind::Texts, "Bugs").required()],
    ASSOCIATIONS,
);

/// The bugs of signatures, and the other signatures of those bugs.
///
/// # Errors
/// 400 if `signatures` is missing or has too many values. 503 while the store cannot be read, 500 if stored
/// data is damaged.
pub(crate) fn of_signatures(app: &App, request: &Request, _: &Captures) -> Answer {
    let signatures = asked(&request.form(), "signatures")?;
    let found = app.store.bugs_of(&signatures)?;
    let ids: BTreeSet<String> = found
        .values()
        .flatten()
        .map(|association| association.bug.key.id.clone())
        .collect();
    let keys: BTreeSet<_> = found.into_values().flatten().map(|a| a.bug.key).collect();
    let all = app.store.signatures_of(&Vec::from_iter(ids))?;
    let of_them = all.into_iter().filter(|a| keys.contains(&a.bug.key));
    Ok(hits(of_them.collect()))
}

/// The signatures of bugs.
///
/// # Errors
/// 400 if `bug_ids` is missing or has too many values. 503 while the store cannot be read, 500 if stored data
/// is damaged.
pub(crate) fn signatures(app: &App, request: &Request, _: &Captures) -> Answer {
    let ids = asked(&request.query, "bug_ids")?;
    Ok(hits(app.store.signatures_of(&ids)?))
}

/// The distinct values of a list parameter.
pub(super) fn asked(params: &Params, name: &str) -> Result<Vec<String>, WebError> {
    let values: BTreeSet<&str> = params.all(name).filter(|v| !v.is_empty()).collect();
    if values.is_empty() {
        let why = format!("{name} is missing; repeat the parameter for several values");
        return Err(WebError::bad(name, why));
    }
    if values.len() > limits::BUGS_ASKED_MAX {
        let why = format!(
            "{name} has {} values; the limit is {}; send several requests",
            values.len(),
            limits::BUGS_ASKED_MAX
        );
        return Err(WebError::bad(name, why));
    }
    Ok(values.into_iter().map(str::to_owned).collect())
}

fn hits(mut found: Vec<Association>) -> Response {
    found.sort_by(|a, b| (&a.bug.key, &a.signature).cmp(&(&b.bug.key, &b.signature)));
    let hits: Vec<Value> = found
        .iter()
        .map(|a| json!({ "id": id(&a.bug.key.id), "signature": a.signature }))
        .collect();
    Response::json(&json!({ "hits": hits, "total": found.len() }))
}

/// The id as a number if possible. Existing tools expect Bugzilla's ids as numbers.
fn id(text: &str) -> Value {
    text.parse::<u64>()
        .map_or_else(|_| text.into(), Value::from)
}
