//! How many reports each throttle rule has decided.

use serde_json::{Value, json};

use super::doc::{AnswerDoc, Doc, Param, ParamKind, count, hits, object, text};
use crate::app::App;
use crate::limits;
use crate::store::counters::Decided;
use crate::web::{Captures, Request, Response, WebError};

const DAYS_DEFAULT: u32 = 7;
const DAYS_MAX: u32 = 366;

pub(crate) const COUNTS: Doc = Doc::new(
    "Number of reports by day, throttle rule, outcome, product and version, including discarded reports",
    &[Param::new(
        "days",
        ParamKind::Number(DAYS_MAX as u64),
        "Number of days up to today; default: 7",
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

/// Number of reports by day, throttle rule, outcome, product and version.
///
/// # Errors
/// 400 if `days` is not a number in its range, 503 while the store cannot be read or written, 500 if stored
/// data is damaged.
pub(crate) fn counts(app: &App, request: &Request, _: &Captures) -> Result<Response, WebError> {
    let days = request.query.number("days", 0..=DAYS_MAX)?;
    let days = days.unwrap_or(DAYS_DEFAULT);
    let today = app.clock.now().day();
    let decided = match days {
        0 => Vec::new(),
        days => app.store.decisions(today.back(days - 1)..=today)?,
    };
    let found: Vec<Value> = folded(decided)
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

/// Product and version of the rows that are counted together because there are too many.
const OTHERS: &str = "(others)";

/// The rows with the most reports. The others are summed up in one row per day, rule and outcome.
fn folded(mut decided: Vec<Decided>) -> Vec<Decided> {
    if decided.len() <= limits::THROTTLE_COUNTS_MAX {
        return decided;
    }
    decided.sort_by_key(|one| std::cmp::Reverse(one.reports));
    let mut others: Vec<Decided> = Vec::new();
    for one in decided.drain(limits::THROTTLE_COUNTS_MAX..) {
        let is_same = |known: &&mut Decided| {
            (known.day, &known.rule, known.outcome) == (one.day, &one.rule, one.outcome)
        };
        match others.iter_mut().find(is_same) {
            Some(known) => known.reports += one.reports,
            None => others.push(Decided {
                product: OTHERS.into(),
                version: OTHERS.into(),
                ..one
            }),
        }
    }
    decided.extend(others);
    decided.sort_by(|a, b| (b.day.0, &a.rule, &a.product).cmp(&(a.day.0, &b.rule, &b.product)));
    decided
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Day;
    use crate::throttle::Outcome;

    #[test]
    fn products_that_clients_invent_are_counted_together() {
        let one = |n: usize| Decided {
            day: Day(7),
            rule: "r".into(),
            outcome: Outcome::Accept,
            product: format!("p{n}"),
            version: "1".into(),
            reports: if n == 0 { 5 } else { 1 },
        };
        let all: Vec<Decided> = (0..limits::THROTTLE_COUNTS_MAX + 50).map(one).collect();
        let folded = folded(all);
        assert_eq!(folded.len(), limits::THROTTLE_COUNTS_MAX + 1);
        let others = folded.iter().find(|one| one.product == OTHERS);
        assert_eq!(others.map(|one| one.reports), Some(50));
        assert!(folded.iter().any(|one| one.product == "p0"));
    }
}
