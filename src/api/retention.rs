//! The pass of retention that is waiting for confirmation: what it would delete, and how to confirm it.

use serde_json::{Value, json};

use super::doc::{AnswerDoc, Doc, count, flag, object, text_or_null};
use crate::app::App;
use crate::retention::{Held, Planned};
use crate::web::{Captures, Request, Response, WebError};

pub(crate) const RETENTION: Doc = Doc::new(
    "Whether retention is on hold, and what it would delete",
    &[],
    AnswerDoc::Json(answer),
);
pub(crate) const CONFIRM: Doc = Doc::new(
    "Confirms the retention pass that is on hold",
    &[],
    AnswerDoc::Json(answer),
);

fn answer() -> Value {
    let kind = || {
        let mut kind = object(&[
            ("stored", count()),
            ("due", count()),
            ("unexplained", count()),
        ]);
        kind["type"] = json!(["object", "null"]);
        kind
    };
    object(&[
        ("waits", flag()),
        ("reason", text_or_null()),
        ("since", text_or_null()),
        ("processed", kind()),
        ("failed", kind()),
        ("deferred", kind()),
        ("symbols", kind()),
    ])
}

/// Whether retention is on hold, and what it would delete.
///
/// # Errors
/// Never fails. All handlers have this type.
pub(crate) fn state(app: &App, _: &Request, _: &Captures) -> Result<Response, WebError> {
    Ok(Response::json(&of(app.retention.status().held.as_ref())))
}

/// Confirms the pass that is on hold. It then runs at once.
///
/// # Errors
/// 409 if retention is not on hold.
pub(crate) fn confirm(app: &App, _: &Request, _: &Captures) -> Result<Response, WebError> {
    let held = app.retention.status().held;
    if !app.retention.confirm() {
        return Err(WebError::new(409, "retention is not on hold"));
    }
    Ok(Response::json(&of(held.as_ref())))
}

/// What would be deleted. If no pass waits, everything except `waits` is null.
fn of(held: Option<&Held>) -> Value {
    let kind = |of: fn(&Held) -> Planned| {
        held.map(|held| {
            let planned = of(held);
            json!({
                "stored": planned.stored,
                "due": planned.due,
                "unexplained": planned.unexplained,
            })
        })
    };
    json!({
        "waits": held.is_some(),
        "reason": held.map(Held::to_string),
        "since": held.map(|held| held.at.rfc3339()),
        "processed": kind(|held| held.plan.processed),
        "failed": kind(|held| held.plan.failed),
        "deferred": kind(|held| held.plan.deferred),
        "symbols": kind(|held| held.plan.symbols),
    })
}
