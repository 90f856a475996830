//! Products and versions from which crashes have come.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::doc::{AnswerDoc, Doc, Param, ParamKind, count, hits, object, text};
use crate::app::App;
use crate::clock::{Day, Timestamp};
use crate::fields::name;
use crate::limits;
use crate::query::{Facet, FieldRef, Filter, Op, Query};
use crate::web::{Captures, Request, Response, WebError};

type Answer = Result<Response, WebError>;

pub(crate) const VERSIONS: Doc = Doc::new(
    "Products and versions with crashes, newest version first",
    &[Param::new(
        "product",
        ParamKind::Texts,
        "Products; default: all",
    )],
    AnswerDoc::Json(|| {
        hits(object(&[
            ("product", text()),
            ("version", text()),
            ("start_date", text()),
            ("end_date", text()),
            ("crashes", count()),
        ]))
    }),
);

/// All versions of all products that were ever counted, including those whose crashes have been deleted. If
/// there are too many products or versions, those with the most crashes. `left_out` is the number of the
/// others.
///
/// # Errors
/// 503 while the store cannot be read, 500 if stored data is damaged.
pub(crate) fn versions(app: &App, request: &Request, _: &Captures) -> Answer {
    let wanted: Vec<&str> = request
        .query
        .all("product")
        .filter(|p| !p.is_empty())
        .collect();
    let mut found = Vec::new();
    let (products, mut left_out) = if wanted.is_empty() {
        app.store.counted_products()?
    } else {
        let named: BTreeSet<String> = wanted.iter().map(|name| name.to_string()).collect();
        let more = named.len().saturating_sub(limits::PRODUCTS_MAX) as u64;
        (named.into_iter().take(limits::PRODUCTS_MAX).collect(), more)
    };
    for product in products {
        // By version: first day, last day, crashes.
        let mut releases: BTreeMap<u32, (Day, Day, u64)> = BTreeMap::new();
        let days = Timestamp::from_ms(0).day()..=app.clock.now().day();
        let by_day = app
            .store
            .counters(&product, days, |key| Some((key.version, key.day)))?;
        for ((version, day), row) in by_day {
            let crashes = row.total().crashes;
            let seen = releases.entry(version).or_insert((day, day, 0));
            *seen = (seen.0.min(day), seen.1.max(day), seen.2 + crashes);
        }
        let mut most: Vec<(u32, (Day, Day, u64))> = releases.into_iter().collect();
        most.sort_by_key(|(version, (.., crashes))| (std::cmp::Reverse(*crashes), *version));
        left_out += most.len().saturating_sub(limits::VERSIONS_MAX) as u64;
        most.truncate(limits::VERSIONS_MAX);
        let releases: BTreeMap<u32, (Day, Day, u64)> = most.into_iter().collect();
        let ids: Vec<u32> = releases.keys().copied().collect();
        let names = app.store.names(&ids)?;
        let mut named: Vec<(String, (Day, Day, u64))> =
            names.into_iter().zip(releases.into_values()).collect();
        named.sort_by(|a, b| {
            let key = crate::fields::version::VersionKey::new;
            key(&b.0).cmp(&key(&a.0))
        });
        for (version, (first, last, crashes)) in named {
            found.push(json!({
                "product": product,
                "version": version,
                "start_date": first.text(),
                "end_date": last.text(),
                "crashes": crashes,
            }));
        }
    }
    Ok(Response::json(&json!({
        "total": found.len(),
        "hits": found,
        "left_out": left_out,
    })))
}

pub(crate) const VERSION_STRING: Doc = Doc::new(
    "Versions that were reported for a build",
    &[
        Param::new("product", ParamKind::Text, "Product").required(),
        Param::new("channel", ParamKind::Text, "Release channel").required(),
        Param::new("build_id", ParamKind::Text, "Build id").required(),
    ],
    AnswerDoc::Json(|| hits(object(&[("version_string", text())]))),
);

/// Versions of a build of a channel, from the crashes of the longest period that a search may cover.
///
/// # Errors
/// 400 if a parameter is missing or the search exceeds its limits, 503 while the index cannot answer.
pub(crate) fn version_string(app: &App, request: &Request, _: &Captures) -> Answer {
    let now = app.clock.now();
    let longest = limits::DATE_RANGE_DAYS_MAX * crate::clock::DAY_MS;
    let from = Timestamp::from_ms(now.ms().saturating_sub(longest));
    let date = FieldRef::of(name::DATE);
    let mut conditions = vec![Filter::new(date, Op::AtLeast, from.into())];
    for (asked, field) in [
        ("product", name::PRODUCT),
        ("channel", name::RELEASE_CHANNEL),
        ("build_id", name::BUILD_ID),
    ] {
        let value = request.query.get(asked);
        let value = value.ok_or_else(|| WebError::bad(asked, format!("{asked} is missing")))?;
        conditions.extend(Filter::equal(FieldRef::of(field), value));
    }
    let query = Query::of(conditions, None, now, request.sees_protected())?
        .count(Facet::terms(name::VERSION));
    let found = app.index.search(&query)?;
    let versions = found.facets.terms(name::VERSION).iter();
    let versions: Vec<Value> = versions
        .map(|bucket| json!({ "version_string": bucket.term }))
        .collect();
    Ok(Response::json(
        &json!({ "total": versions.len(), "hits": versions }),
    ))
}
