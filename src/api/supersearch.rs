//! SuperSearch: the search of the pages, for programs.

use serde_json::{Map, Value, json};

use crate::fields;
use crate::index::{IndexError, SearchResult};
use crate::query::{Query, QueryError};
use crate::web::{App, Request, Response, Role, WebError};

type Answer = Result<Response, WebError>;

impl From<QueryError> for WebError {
    fn from(error: QueryError) -> Self {
        Self::bad(&error.field, error.message)
    }
}

impl From<IndexError> for WebError {
    fn from(error: IndexError) -> Self {
        if let IndexError::TooComplex | IndexError::TimedOut = error {
            return Self::new(400, error.to_string());
        }
        tracing::error!(%error, "a search failed");
        Self::new(
            503,
            format!("the search index cannot answer just now: {error}"),
        )
    }
}

/// Searches with Socorro's parameters; hits, total and facets in Socorro's shape. While the index is
/// built from the store it says so under `rebuilding`, and whether answers are complete meanwhile.
pub fn supersearch(app: &App, request: &Request, _: &[String]) -> Answer {
    let query = Query::parse(
        &request.query.0,
        app.clock.now(),
        request.role >= Role::Protected,
    )?;
    let result = app.index.search(&query)?;
    let mut answer = to_json(&query, &result);
    if let Some(building) = app.indexer.building() {
        answer["rebuilding"] = json!({
            "rows": building.rows,
            "rows_total": building.rows_total,
            "is_complete": building.is_beside,
        });
    }
    Ok(Response::json(&answer))
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

/// The field catalogue.
pub fn fields(_: &App, request: &Request, _: &[String]) -> Answer {
    let fields: Map<String, Value> = fields::all()
        .iter()
        .filter(|field| !field.is_protected() || request.role >= Role::Protected)
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
            (field.name.to_owned(), definition)
        })
        .collect();
    Ok(Response::json(&Value::Object(fields)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_that_is_cut_off_is_told_in_socorros_words() {
        fn check(error: IndexError, start: &str) {
            let error = WebError::from(error);
            assert_eq!(error.status, 400);
            assert!(error.message.starts_with(start), "{}", error.message);
        }
        check(IndexError::TimedOut, "Search query timed out. ");
        check(
            IndexError::TooComplex,
            "Search query is too complex to execute. Simplify the search pattern and try again.",
        );
    }
}
