//! The API for people: every endpoint with its parameters, a form to try it, and a command line.

use maud::{Markup, html};

use super::Page;
use crate::api::doc::{BodyDoc, Doc, Param, ParamKind};
use crate::app::App;
use crate::rights::Scope;
use crate::web::{Method, Request, Response};

/// An entry of the route table that has a description.
pub(crate) struct Endpoint {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) needs: Option<Scope>,
    pub(crate) doc: &'static Doc,
}

pub(crate) fn page(app: &App, request: &Request, endpoints: &[Endpoint]) -> Response {
    let address = app.address(request);
    let content = html! {
        div.head {
            h1 { "API" }
            p.muted {
                "Names and formats are the same as in Socorro, so tools for Socorro work here. Errors are JSON with " code { "error" } ", " code { "field" } " and " code { "value" } ". "
                "Send a token in the header " code { "Auth-Token" } " or " code { "Authorization: Bearer" } ". " a href="/account/" { "Your tokens" } "."
            }
            div.chips {
                a.chip href="/api/openapi.json" { "OpenAPI" }
                a.chip href="/api/SuperSearchFields/" { "all fields" }
            }
        }
        nav.row-of-links aria-label="Endpoints" {
            @for endpoint in endpoints { a href={ "#" (anchor(endpoint)) } { (name(endpoint)) } " " }
        }
        @for endpoint in endpoints { (panel(endpoint, &address, request)) }
    };
    Response::html(Page::new("API", "").render(content))
}

/// The name of an endpoint: `SuperSearch` for `/api/SuperSearch/`.
fn name(endpoint: &Endpoint) -> &str {
    endpoint
        .path
        .trim_start_matches("/api/")
        .trim_end_matches('/')
}

fn method(endpoint: &Endpoint) -> &'static str {
    match endpoint.method {
        Method::Get => "GET",
        Method::Post => "POST",
        Method::Put => "PUT",
    }
}

fn anchor(endpoint: &Endpoint) -> String {
    format!("{}-{}", method(endpoint).to_lowercase(), name(endpoint))
}

fn panel(endpoint: &Endpoint, address: &str, request: &Request) -> Markup {
    let doc = endpoint.doc;
    html! {
        section.panel id=(anchor(endpoint)) {
            header {
                h2 { (name(endpoint)) }
                span.muted.small.mono { (method(endpoint)) " " (endpoint.path) }
                @if let Some(scope) = endpoint.needs {
                    @let may = request.may(scope);
                    span.act { span.chip.warn[!may] { "needs " b { (scope.name()) } } }
                }
            }
            div.body.stackup {
                p.plain { (doc.title) "." }
                @if !doc.params.is_empty() {
                    dl.facts {
                        @for param in doc.params {
                            dt { code { (param.name) } @if param.is_required { " (required)" } @else if is_many(param) { " (repeatable)" } }
                            dd { (param.text) "." @if let ParamKind::Choice(known) = param.kind { " One of: " (known.join(", ")) "." } }
                        }
                    }
                }
                @if doc.is_search { p.plain.muted { "Also all parameters of a " a href="/search/" { "search" } ": conditions by field name, _columns, _facets, _aggs.*, _histogram.*, _sort, _results_number." } }
                @if let BodyDoc::Json(_) | BodyDoc::Text = doc.body {
                    p.plain.muted { "The body is " @if matches!(doc.body, BodyDoc::Text) { "the text of the lists." } @else { "JSON; " a href="/api/openapi.json" { "its schema" } "." } }
                } @else { (form(endpoint)) }
                div.scroll { code.small.nowrap { (curl(endpoint, address)) } }
            }
        }
    }
}

fn is_many(param: &Param) -> bool {
    matches!(param.kind, ParamKind::Texts | ParamKind::CrashIds)
}

fn form(endpoint: &Endpoint) -> Markup {
    let doc = endpoint.doc;
    html! {
        form.filters method=(method(endpoint).to_lowercase()) action=(endpoint.path) {
            @for param in doc.params {
                label { (param.name)
                    @if let ParamKind::Choice(known) = param.kind {
                        select name=(param.name) { @for value in known { option value=(value) { (value) } } }
                    } @else { input type="text" name=(param.name) required[param.is_required]; }
                }
            }
            @if doc.is_search {
                label { "q" input type="text" name="q"; }
                label { "product" input type="text" name="product"; }
                label { "_facets" input type="text" name="_facets" value="signature"; }
            }
            div.act { button type="submit" { "Try" } }
        }
    }
}

fn curl(endpoint: &Endpoint, address: &str) -> String {
    let doc = endpoint.doc;
    let url = format!("{address}{}", endpoint.path);
    match (doc.body, endpoint.method) {
        (BodyDoc::Json(_), _) => format!(
            "curl -H 'Auth-Token: TOKEN' -H 'Content-Type: application/json' -d @FILE '{url}'"
        ),
        (BodyDoc::Text, _) => format!("curl -H 'Auth-Token: TOKEN' --data-binary @FILE '{url}'"),
        (_, Method::Get) => {
            let given = doc.params.iter().filter(|param| param.is_required);
            let given: Vec<String> = given.map(|param| format!("{}=...", param.name)).collect();
            let query = if doc.is_search {
                "product=...".to_owned()
            } else {
                given.join("&")
            };
            let mark = if query.is_empty() { "" } else { "?" };
            format!("curl -H 'Auth-Token: TOKEN' '{url}{mark}{query}'")
        }
        _ => {
            let given: String = doc
                .params
                .iter()
                .take(1)
                .map(|param| format!(" -d '{}=...'", param.name))
                .collect();
            format!("curl -H 'Auth-Token: TOKEN'{given} '{url}'")
        }
    }
}
