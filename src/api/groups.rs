//! Groups of crashes, which keep their number when their signature changes.

use serde_json::{Value, json};

use super::doc::{AnswerDoc, Doc, Param, ParamKind, count, list, object, text};
use crate::app::App;
use crate::web::{Captures, Request, Response, WebError};

pub(crate) const GROUP: Doc = Doc::new(
    "The group of a signature, or the group with a number; the number stays when the signature changes",
    &[
        Param::new("group", ParamKind::Number(u64::MAX), "Number of the group"),
        Param::new(
            "signature",
            ParamKind::Text,
            "Signature, if the number is not known",
        ),
    ],
    AnswerDoc::Json(|| {
        object(&[
            ("group", count()),
            ("signature", text()),
            (
                "origin",
                json!({ "type": ["integer", "null"], "minimum": 0 }),
            ),
            ("merged", list(count())),
            ("former_signatures", list(text())),
            ("url", text()),
        ])
    }),
);

/// Returns a group: its number, its signature, the group that it split off from, the groups that became part
/// of it, and its former signatures.
///
/// # Errors
/// 400 if there is neither `group` nor `signature`, 404 if there is no such group, 503 while the store cannot
/// be read, 500 if stored data is damaged.
pub(crate) fn group(app: &App, request: &Request, _: &Captures) -> Result<Response, WebError> {
    let id = request.query.number("group", 0..)?;
    let found = match (id, request.query.get("signature")) {
        (Some(id), _) => app.store.group(id)?,
        (None, Some(signature)) => app.store.group_of(signature)?,
        (None, None) => {
            let message = "group is missing; send group=NUMBER or signature=TEXT";
            return Err(WebError::bad("group", message));
        }
    };
    let group = found.ok_or_else(|| WebError::not_found("there is no such group"))?;
    let names = [group.signature.clone()];
    let mut former = app.store.former_signatures(&names)?;
    let former = former.remove(&group.signature).unwrap_or_default();
    let url = format!("{}/group/{}", app.address(request), group.id);
    let answer: Value = json!({
        "group": group.id,
        "signature": group.signature,
        "origin": group.origin,
        "merged": group.members,
        "former_signatures": former,
        "url": url,
    });
    Ok(Response::json(&answer))
}
