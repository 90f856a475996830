//! How many reports each throttle rule has decided about.

use serde_json::{Value, json};

use super::doc::{AnswerDoc, Doc, Param, ParamKind, count, hits, object, text};
use crate::web::{App, Request, Response, WebError};

const DAYS_DEFAULT: u32 = 7;
const DAYS_MAX: u32 = 366;

pub const COUNTS: Doc = Doc::new(
    "Reports by day, throttle rule, outcome, product and version; also those that were discarded",
    &[Param::new(
        "days",
        ParamKind::Number(DAYS_MAX as u64),
        "Days up to today; 7 if missing",
    )],
    AnswerDoc::Json(|| {
        hits(object(&[
            ("date", text()),
            ("rule", text()),
            ("outcome", text()),
            ("product", text()),
            ("version", text()),
            ("reports", count()),
        ]))
    }),
);

pub fn counts(app: &App, request: &Request, _: &[String]) -> Result<Response, WebError> {
    let days = match request.query.get("days") {
        None => DAYS_DEFAULT,
        Some(given) => match given.parse() {
            Ok(days) if days <= DAYS_MAX => days,
            _ => {
                let why = format!("days is {given:?}; it can be 0 to {DAYS_MAX}");
                return Err(WebError::bad("days", why));
            }
        },
    };
    let today = app.clock.now().day();
    let decided = match days {
        0 => Vec::new(),
        days => app.store.decisions(today.back(days - 1)..=today)?,
    };
    let found: Vec<Value> = decided
        .into_iter()
        .map(|one| {
            json!({
                "date": one.day.text(),
                "rule": one.rule,
                "outcome": one.outcome.name(),
                "product": one.product,
                "version": one.version,
                "reports": one.reports,
            })
        })
        .collect();
    Ok(Response::json(
        &json!({ "total": found.len(), "hits": found }),
    ))
}
