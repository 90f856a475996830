//! SuperSearch: the search of the pages, as an API.

use serde_json::{Map, Value, json};

use super::doc::{AnswerDoc, Doc, any_object, count, flag, list, object, text};
use super::parsed;
use crate::app::App;
use crate::index::SearchResult;
use crate::query::Query;
use crate::web::{Captures, Request, Response, WebError};

type Answer = Result<Response, WebError>;

const FOUND: AnswerDoc = AnswerDoc::Json(|| {
    let mut found = object(&[
        ("hits", list(any_object())),
        ("total", count()),
        ("facets", any_object()),
        ("errors", list(any_object())),
    ]);
    found["properties"]["rebuilding"] = object(&[
        ("rows", count()),
        ("rows_total", count()),
        ("is_complete", flag()),
        ("fields", list(text())),
    ]);
    found["properties"]["not_indexed"] = list(text());
    let understood = object(&[("query", any_object()), ("indices", list(text()))]);
    json!({ "anyOf": [found, understood] })
});

pub(crate) const SEARCH: Doc = Doc::new(
    "Searches and counts crashes. Protected fields are omitted if the caller does not have the scope read:protected",
    &[],
    FOUND,
)
.search();

pub(crate) const UNREDACTED: Doc = Doc::new(
    "The same as SuperSearch, but requires the scope read:protected",
    &[],
    FOUND,
)
.search();

/// Searches with Socorro's parameters. Hits, total and facets have Socorro's format. While an index is built
/// from the store, `rebuilding` contains the progress, whether this answer is complete nevertheless, and
/// otherwise the fields that make it incomplete. `not_indexed` lists the annotations that are not indexed
/// for every crash.
///
/// # Errors
/// 400 if the search is invalid or exceeds its limits, 503 while the index cannot answer.
pub(crate) fn supersearch(app: &App, request: &Request, _: &Captures) -> Answer {
    let query = parsed(app, request, &request.query.0)?;
    let wants_query = request.query.get("_return_query");
    if wants_query.is_some_and(|text| matches!(text, "1" | "true" | "True" | "t" | "y" | "yes")) {
        return Ok(Response::json(&as_understood(&query)));
    }
    let result = app.index.search(&query)?;
    let mut answer = to_json(&query, &result);
    let building = app.indexer.building();
    if building.is_some() || !result.coverage.is_whole() {
        let building = building.unwrap_or_default();
        answer["rebuilding"] = json!({
            "rows": building.rows,
            "rows_total": building.rows_total,
            "is_complete": result.coverage.is_whole(),
            "fields": result.coverage.fields(),
        });
    }
    if !result.not_indexed.is_empty() {
        answer["not_indexed"] = json!(result.not_indexed);
    }
    Ok(Response::json(&answer))
}

/// The query as the server understood it, with everything that it added. Every parameter is a list.
fn as_understood(query: &Query) -> Value {
    let mut params: Map<String, Value> = Map::new();
    for (name, value) in query.to_params() {
        let values = params.entry(name).or_insert_with(|| json!([]));
        if let Value::Array(values) = values {
            values.push(value.into());
        }
    }
    json!({ "query": params, "indices": ["crashkeep"] })
}

fn to_json(query: &Query, result: &SearchResult) -> Value {
    let names: Vec<String> = query.columns.iter().map(|column| column.name()).collect();
    let hits: Vec<Value> = result
        .hits
        .iter()
        .map(|hit| {
            names
                .iter()
                .cloned()
                .zip(hit.values.iter().cloned())
                .collect::<Map<_, _>>()
                .into()
        })
        .collect();
    let facets: Map<String, Value> = result
        .facets
        .iter()
        .map(|(label, facet)| (label.clone(), facet.to_json()))
        .collect();
    json!({ "hits": hits, "total": result.total, "facets": facets, "errors": [] })
}

pub(crate) const FIELDS: Doc = Doc::new(
    "All fields by name: type, annotation, unit, description and visibility",
    &[],
    AnswerDoc::Json(|| json!({ "type": "object", "additionalProperties": any_object() })),
);

/// The field catalogue.
///
/// # Errors
/// Never fails. All handlers have this type.
pub(crate) fn fields(app: &App, request: &Request, _: &Captures) -> Answer {
    let fields = app.catalogue.all().iter();
    let fields: Map<String, Value> = fields
        .filter(|field| !field.is_protected() || request.sees_protected())
        .map(|field| {
            let definition = json!({
                "name": field.name,
                "title": field.title,
                "query_type": field.kind.name(),
                "in_database_name": field.key,
                "annotation": field.annotation(),
                "unit": field.unit,
                "description": field.description,
                "example": field.example,
                "is_protected": field.is_protected(),
                "is_exposed": field.flags.form,
                "is_returned": field.flags.column,
            });
            (field.name.to_string(), definition)
        })
        .collect();
    Ok(Response::json(&Value::Object(fields)))
}
