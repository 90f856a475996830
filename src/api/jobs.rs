//! Background jobs: reprocessing, and computing signatures again.

use serde_json::{Value, json};

use super::doc::{AnswerDoc, Doc, Param, ParamKind, count, hits, object, text, text_or_null};
use crate::app::App;
use crate::clock::Timestamp;
use crate::store::reprocess::{Cause, Reprocessing};
use crate::store::signatures::ResignRow;
use crate::web::{Captures, Request, Response, WebError};

const JOBS_DEFAULT: usize = 50;
const JOBS_MAX: usize = 1_000;

pub(crate) const JOBS: Doc = Doc::new(
    "Jobs with their progress: reprocessing of crashes, and updates of signatures; newest first",
    &[Param::new(
        "limit",
        ParamKind::Number(JOBS_MAX as u64),
        "Maximum number of jobs of each kind; default: 50",
    )],
    AnswerDoc::Json(|| {
        hits(object(&[
            ("id", text()),
            ("kind", text()),
            ("begun", text()),
            ("ended", text_or_null()),
            ("total", count()),
            ("done", count()),
            ("changed", count()),
        ]))
    }),
);

/// The newest reprocessings and re-signs.
///
/// # Errors
/// 400 if `limit` is not a number in its range. 503 while the store cannot be read, 500 if stored data is
/// damaged.
pub(crate) fn jobs(app: &App, request: &Request, _: &Captures) -> Result<Response, WebError> {
    let limit = request.query.number("limit", 0..=JOBS_MAX)?;
    let limit = limit.unwrap_or(JOBS_DEFAULT);
    let mut reprocessings = app.store.reprocessings(limit)?;
    if !request.sees_protected() {
        // A search can contain values that this caller may not see.
        for reprocessing in &mut reprocessings {
            if let Cause::Request { request } = &mut reprocessing.cause {
                request.clear();
            }
        }
    }
    let resigns = app.store.resigns(limit)?;
    let mut found: Vec<(i64, Value)> = reprocessings
        .iter()
        .map(|reprocessing| (reprocessing.begun_at_ms, of_reprocessing(reprocessing)))
        .chain(
            resigns
                .iter()
                .map(|(id, row)| (row.begun_at_ms, of_resign(*id, row))),
        )
        .collect();
    found.sort_by_key(|(begun, _)| std::cmp::Reverse(*begun));
    let found: Vec<Value> = found.into_iter().map(|(_, job)| job).collect();
    Ok(Response::json(
        &json!({ "total": found.len(), "hits": found }),
    ))
}

fn moment(ms: i64) -> String {
    Timestamp::from_ms(ms).rfc3339()
}

pub(crate) fn of_reprocessing(reprocessing: &Reprocessing) -> Value {
    let (kind, asked) = match &reprocessing.cause {
        Cause::Request { request } => ("reprocess", Some(request)),
        Cause::Symbols { .. } => ("symbols", None),
    };
    json!({
        "id": format!("reprocessing-{}", reprocessing.id),
        "kind": kind,
        "asked": asked,
        "modules": reprocessing.cause.modules(),
        "begun": moment(reprocessing.begun_at_ms),
        "ended": reprocessing.ended_at_ms.map(moment),
        "total": reprocessing.crashes,
        "done": reprocessing.done,
        "changed": reprocessing.improved,
        "signatures_before": reprocessing.signatures_before,
        "signatures_after": reprocessing.signatures_after,
    })
}

fn of_resign(id: u64, row: &ResignRow) -> Value {
    json!({
        "id": format!("resign-{id}"),
        "kind": "signatures",
        "begun": moment(row.begun_at_ms),
        "ended": row.ended_at_ms.map(moment),
        "total": row.total,
        "done": row.looked_at,
        "changed": row.changed,
    })
}
