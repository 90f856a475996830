//! Background jobs: reprocessing, and computing signatures again.

use serde_json::{Value, json};

use super::doc::{AnswerDoc, Doc, Param, ParamKind, count, hits, object, text, text_or_null};
use crate::app::App;
use crate::clock::Timestamp;
use crate::store::mends::Mend;
use crate::store::signing::ResignRow;
use crate::web::{Request, Response, WebError};

const JOBS_DEFAULT: usize = 50;
const JOBS_MAX: usize = 1_000;

pub const JOBS: Doc = Doc::new(
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

pub fn jobs(app: &App, request: &Request, _: &[String]) -> Result<Response, WebError> {
    let limit = match request.query.get("limit") {
        None => JOBS_DEFAULT,
        Some(given) => match given.parse() {
            Ok(limit) if limit <= JOBS_MAX => limit,
            _ => {
                let why = format!("limit is {given:?}; it must be a number from 0 to {JOBS_MAX}");
                return Err(WebError::bad("limit", why));
            }
        },
    };
    let mut mends = app.store.mends(limit)?;
    if !request.sees_protected() {
        // A search can contain values that this caller may not see.
        for mend in &mut mends {
            mend.row.asked = mend.row.asked.take().map(|_| String::new());
        }
    }
    let resigns = app.store.resigns(limit)?;
    let mut found: Vec<(i64, Value)> = mends
        .iter()
        .map(|mend| (mend.row.begun_at_ms, of_mend(mend)))
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

pub fn of_mend(mend: &Mend) -> Value {
    let row = &mend.row;
    json!({
        "id": format!("mend-{}", mend.id),
        "kind": if row.asked.is_some() { "reprocess" } else { "symbols" },
        "asked": row.asked,
        "modules": row.modules,
        "begun": moment(row.begun_at_ms),
        "ended": row.ended_at_ms.map(moment),
        "total": row.affected,
        "done": row.done,
        "changed": row.improved,
        "signatures_before": mend.signatures_before,
        "signatures_after": mend.signatures_after,
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
