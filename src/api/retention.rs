//! The pass of retention that stopped itself: what it would delete, and the word to let it go on.

use serde_json::{Value, json};

use super::doc::{AnswerDoc, Doc, count, flag, object, text};
use crate::retention::{Held, Planned};
use crate::web::{App, Request, Response, WebError};

pub const RETENTION: Doc = Doc::new(
    "Whether a pass of retention has stopped itself, and what it would delete",
    &[],
    AnswerDoc::Json(answer),
);
pub const CONFIRM: Doc = Doc::new(
    "Lets the pass of retention go on that has stopped itself",
    &[],
    AnswerDoc::Json(answer),
);

fn answer() -> Value {
    let kind = || {
        object(&[
            ("stored", count()),
            ("due", count()),
            ("unexplained", count()),
        ])
    };
    object(&[
        ("waits", flag()),
        ("reason", text()),
        ("since", text()),
        ("processed", kind()),
        ("failed", kind()),
        ("deferred", kind()),
        ("symbols", kind()),
    ])
}

pub fn state(app: &App, _: &Request, _: &[String]) -> Result<Response, WebError> {
    Ok(Response::json(&of(app.retention.status().held.as_ref())))
}

pub fn confirm(app: &App, _: &Request, _: &[String]) -> Result<Response, WebError> {
    let held = app.retention.status().held;
    if !app.retention.confirm() {
        return Err(WebError::new(
            409,
            "no pass of retention waits to be confirmed",
        ));
    }
    Ok(Response::json(&of(held.as_ref())))
}

fn of(held: Option<&Held>) -> Value {
    let Some(held) = held else {
        return json!({ "waits": false });
    };
    let kind = |kind: Planned| {
        json!({
            "stored": kind.stored,
            "due": kind.due,
            "unexplained": kind.unexplained,
        })
    };
    json!({
        "waits": true,
        "reason": held.to_string(),
        "since": held.at.rfc3339(),
        "processed": kind(held.plan.processed),
        "failed": kind(held.plan.failed),
        "deferred": kind(held.plan.deferred),
        "symbols": kind(held.plan.symbols),
    })
}
