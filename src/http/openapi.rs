//! The description of the API, derived from the route table and the field catalogue: as OpenAPI 3.1 for
//! programs, as a page for people.

use serde_json::{Map, Value, json};

use super::route::Route;
use crate::api::doc::{self, AnswerDoc, BodyDoc, Doc};
use crate::app::App;
use crate::fields::Catalogue;
use crate::pages::api::{self, Endpoint};
use crate::web::{Method, Request, Response, WebError};

fn described(routes: &[Route]) -> impl Iterator<Item = (&Route, &'static Doc)> {
    routes.iter().filter_map(|route| Some((route, route.doc?)))
}

/// `GET /api/`
pub(crate) fn page(app: &App, request: &Request, routes: &[Route]) -> Result<Response, WebError> {
    let endpoints: Vec<Endpoint> = described(routes)
        .map(|(route, doc)| Endpoint {
            method: route.method,
            path: route.path,
            needs: route.needs,
            doc,
        })
        .collect();
    Ok(api::page(app, request, &endpoints))
}

/// `GET /api/openapi.json`
pub(crate) fn json(app: &App, request: &Request, routes: &[Route]) -> Result<Response, WebError> {
    let mut paths: Map<String, Value> = Map::new();
    for (route, doc) in described(routes) {
        let method = match route.method {
            Method::Get => "get",
            Method::Post => "post",
            Method::Put => "put",
        };
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[method] = operation(&app.catalogue, route, doc, request.sees_protected());
    }
    Ok(Response::json(&json!({
        "openapi": "3.1.0",
        "info": {
            "title": "crashkeep",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Search, count and read crashes. The formats are those of Socorro's API.",
        },
        "servers": [{ "url": app.address(request) }],
        "security": [{ "token": [] }, { "bearer": [] }, {}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": { "type": "apiKey", "in": "header", "name": "Auth-Token" },
                "bearer": { "type": "http", "scheme": "bearer" },
            },
            "schemas": { "Error": error() },
        },
    })))
}

/// The schema of error answers.
fn error() -> Value {
    json!({
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": { "type": "string", "description": "what is wrong, and how to fix it" },
            "field": { "type": "string", "description": "the parameter that caused the error" },
            "value": { "type": ["string", "null"], "description": "its value" },
            "reason": { "type": "string", "description": "what is wrong with it" },
        },
    })
}

fn operation(catalogue: &Catalogue, route: &Route, doc: &Doc, sees_protected: bool) -> Value {
    let own = doc.params.iter();
    let own = own.map(|param| {
        (
            param.name.to_owned(),
            param.schema(),
            param.text,
            param.is_required,
        )
    });
    let mut params: Vec<(String, Value, &str, bool)> = own.collect();
    if doc.is_search {
        let of_search = doc::search_params(catalogue).into_iter();
        params.extend(of_search.map(|(name, schema, text)| (name.to_owned(), schema, text, false)));
        let seen = catalogue
            .all()
            .iter()
            .filter(|field| sees_protected || !field.is_protected());
        params.extend(seen.map(|field| {
            (
                field.name.to_string(),
                doc::condition(field),
                &*field.description,
                false,
            )
        }));
    }
    let mut operation = json!({
        "summary": doc.title,
        "responses": responses(doc),
    });
    match doc.body {
        BodyDoc::Form => {
            let required: Vec<&str> = params
                .iter()
                .filter(|p| p.3)
                .map(|p| p.0.as_str())
                .collect();
            let properties: Map<String, Value> = params
                .iter()
                .map(|(name, schema, text, _)| {
                    let mut schema = schema.clone();
                    schema["description"] = (*text).into();
                    (name.clone(), schema)
                })
                .collect();
            let schema =
                json!({ "type": "object", "required": required, "properties": properties });
            operation["requestBody"] = json!({
                "required": true,
                "content": { "application/x-www-form-urlencoded": { "schema": schema } },
            });
            return operation;
        }
        BodyDoc::Json(schema) => {
            operation["requestBody"] = json!({
                "required": true, "content": { "application/json": { "schema": schema() } },
            });
        }
        BodyDoc::Text => {
            operation["requestBody"] = json!({
                "required": true, "content": { "text/plain": { "schema": doc::text() } },
            });
        }
        BodyDoc::None => {}
    }
    let params: Vec<Value> = params
        .into_iter()
        .map(|(name, schema, text, is_required)| {
            json!({
                "name": name, "in": "query", "required": is_required, "schema": schema,
                "description": text, "style": "form", "explode": true,
            })
        })
        .collect();
    operation["parameters"] = params.into();
    if let Some(scope) = route.needs {
        operation["x-scope"] = scope.name().into();
    }
    operation
}

fn responses(doc: &Doc) -> Value {
    let content: Map<String, Value> = match doc.answer {
        AnswerDoc::Json(schema) => {
            let json = json!({ "schema": schema() });
            [("application/json".to_owned(), json)]
                .into_iter()
                .collect()
        }
        AnswerDoc::Files(types) => types
            .iter()
            .map(|media| ((*media).to_owned(), json!({})))
            .collect(),
    };
    let mut responses = json!({ "200": { "description": "success", "content": content } });
    for (status, why) in [
        ("400", "a parameter is invalid; the response names it"),
        ("403", "access denied"),
        ("404", "not found"),
        ("409", "conflict: the data changed in the meantime"),
        ("413", "the request is too large"),
        (
            "429",
            "too many requests; retry after the time in Retry-After",
        ),
        (
            "503",
            "currently unavailable, or not possible on this server",
        ),
    ] {
        let schema = json!({ "$ref": "#/components/schemas/Error" });
        responses[status] = json!({
            "description": why, "content": { "application/json": { "schema": schema } },
        });
    }
    // Sent before a route is known, so without a body.
    responses["414"] = json!({ "description": "the URL is too long" });
    responses["431"] = json!({ "description": "the URL and the headers are too long" });
    responses
}
