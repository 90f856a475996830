//! The search page: a box and a form for the query, the crashes found, and counts of them.
//!
//! The parameters are those of SuperSearch, so the query string of the page also works for the API. Some
//! parameters belong only to the form. `from` and `to` are days, for which browsers can show a calendar.
//! `page` counts from 1. `add_field`, `add_op` and `add_value` are one additional condition. A parameter
//! that cannot be read is reported at its control. The rest of the search runs nevertheless.

pub(crate) mod feed;
mod form;
mod results;
pub(crate) mod saved;

use maud::{Markup, html};

use super::parts::scope::{day_bound, is_day};
use super::{Page, report_path};
use crate::app::App;
use crate::crash::id::CrashId;
use crate::fields::{Catalogue, name};
use crate::index::{Coverage, SearchResult};
use crate::query::{Budget, FieldRef, Query, QueryError};
use crate::store::accounts::SearchRow;
use crate::web::{Captures, Params, Request, Response, WebError};

const PER_PAGE: usize = 50;
/// Values per facet.
const FACET_VALUES: usize = 12;
const COLUMNS: [&str; 6] = [
    name::DATE,
    name::SIGNATURE,
    name::PRODUCT,
    name::VERSION,
    name::PLATFORM,
    name::REASON,
];
const FACETS: [&str; 5] = [
    name::SIGNATURE,
    name::PRODUCT,
    name::VERSION,
    name::PLATFORM,
    name::PROCESS_TYPE,
];
/// Maximum number of invalid parameters that a page reports.
const PROBLEMS_MAX: usize = 20;

/// An invalid parameter.
struct Problem {
    param: String,
    value: Option<String>,
    text: String,
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        let (param, value) = (error.field.clone(), error.value.clone());
        let error = WebError::from(error);
        Self {
            param,
            value,
            text: match error.hint {
                Some(hint) => format!("{}; {hint}", error.message),
                None => error.message,
            },
        }
    }
}

/// The query in the request, and the parameters that could not be read.
struct Asked {
    query: Query,
    problems: Vec<Problem>,
    page: usize,
}

/// Runs the search and shows what it found.
///
/// # Errors
/// 400 if the search exceeds its limits or has too many invalid parameters, 503 while the store or the index
/// cannot answer, 500 if stored data is damaged. A few invalid parameters are not an error, but a page with
/// status 400 that explains them.
pub(crate) fn search(app: &App, request: &Request, _: &Captures) -> Result<Response, WebError> {
    let params = &request.query;
    if let Some(id) = params
        .get("q")
        .and_then(|text| text.parse::<CrashId>().ok())
    {
        return Ok(Response::see_other(&report_path(id)));
    }
    if params.0.iter().any(|(name, _)| name.starts_with(ADDITION)) {
        let whole = with_addition(params).to_query();
        return Ok(Response::see_other(&format!("/search/?{whole}")));
    }
    let asked = Asked::read(app, request, params)?;
    let result = app.index.search(&asked.query)?;
    let view = View {
        catalogue: &app.catalogue,
        params,
        asked: &asked,
        result: &result,
        saved: searches_shown_to(app, request)?,
        owner: request.caller.name(),
        is_admin: request.is_admin(),
        sees_protected: request.sees_protected(),
        may_save: !app.read_only && (request.caller.user.is_some() || request.caller.is_local),
        is_behind: app.indexer.status().error.is_some(),
    };
    let page = Page {
        query: params.get("q").unwrap_or_default(),
        ..Page::new("Search", "/search/")
    };
    Ok(Response {
        status: if asked.problems.is_empty() { 200 } else { 400 },
        ..Response::html(page.render(view.markup()))
    })
}

/// The searches of all users. A caller without the right to protected fields sees only its own, because a
/// search can contain any text.
fn searches_shown_to(app: &App, request: &Request) -> Result<Vec<(u64, SearchRow)>, WebError> {
    let mut saved = app.store.searches()?;
    if !request.sees_protected() {
        saved.retain(|(_, row)| row.owner == request.caller.name());
    }
    Ok(saved)
}

/// The parameters, with the form's additional condition as one of them if it is complete.
fn with_addition(params: &Params) -> Params {
    let op = params.get("add_op").unwrap_or_default();
    let is_whole = matches!(op, "__null__" | "!__null__");
    let value = match params.get("add_value") {
        _ if is_whole => Some(op.to_owned()),
        value => value.map(|value| format!("{op}{value}")),
    };
    let mut whole = params.clone();
    whole
        .0
        .retain(|(name, value)| !is_own(name) && !value.is_empty());
    if let (Some(field), Some(value)) = (params.get("add_field"), value) {
        whole.0.push((field.to_owned(), value));
    }
    whole
}

impl Asked {
    fn read(app: &App, request: &Request, params: &Params) -> Result<Self, WebError> {
        let (now, sees_protected) = (app.clock.now(), request.sees_protected());
        let mut problems = Vec::new();
        let mut asked = Vec::new();
        let given = params.0.iter().filter(|(_, value)| !value.is_empty());
        for (name, value) in given.filter(|(name, _)| !is_own(name)) {
            if !is_day(name) {
                asked.push((name.clone(), value.clone()));
                continue;
            }
            match day_bound(name, value) {
                Ok(bound) => asked.push((name::DATE.to_owned(), bound)),
                Err(text) => problems.push(Problem {
                    param: name.clone(),
                    value: Some(value.clone()),
                    text,
                }),
            }
        }
        // A wrong page in a URL that somebody edited shows the first page.
        let page = params.number("page", 1_usize..).ok().flatten().unwrap_or(1);
        let [number, offset, values] =
            [PER_PAGE, (page - 1).saturating_mul(PER_PAGE), FACET_VALUES].map(|n| n.to_string());
        let defaults: [(&str, Vec<&str>); 5] = [
            ("_columns", COLUMNS.to_vec()),
            ("_facets", FACETS.to_vec()),
            ("_results_number", vec![&number]),
            ("_results_offset", vec![&offset]),
            ("_facets_size", vec![&values]),
        ];
        for (param, values) in defaults {
            if !asked.iter().any(|(name, _)| name == param) {
                asked.extend(
                    values
                        .iter()
                        .map(|value| (param.to_owned(), (*value).to_owned())),
                );
            }
        }
        let mut budget = Budget::default();
        let mut query = loop {
            let parsed =
                Query::parse_within(&app.catalogue, &asked, now, sees_protected, &mut budget);
            let error = match parsed {
                Ok(query) => break query,
                Err(error) => error,
            };
            let before = asked.len();
            if problems.len() < PROBLEMS_MAX {
                drop_blamed(&mut asked, &error);
            }
            if asked.len() == before {
                return Err(error.into());
            }
            problems.push(error.into());
        };
        // Every row has a link to its report.
        let id = FieldRef::of(name::UUID);
        if !query.columns.contains(&id) {
            query.columns.push(id);
        }
        Ok(Self {
            query,
            problems,
            page,
        })
    }

    fn problems_of<'a>(&'a self, param: &'a str) -> impl Iterator<Item = &'a Problem> {
        self.problems.iter().filter(move |p| p.param == param)
    }
}

/// Removes the parameter that an error is about.
fn drop_blamed(asked: &mut Vec<(String, String)>, error: &QueryError) {
    let before = asked.len();
    asked.retain(|(name, value)| *name != error.field || error.value.as_ref() != Some(value));
    if asked.len() == before {
        asked.retain(|(name, _)| *name != error.field);
    }
}

/// Prefix of the form's parameters for an additional condition.
const ADDITION: &str = "add_";

/// True if a parameter belongs only to the form and not to the search.
fn is_own(name: &str) -> bool {
    name == "page" || name.starts_with(ADDITION)
}

struct View<'a> {
    catalogue: &'a Catalogue,
    params: &'a Params,
    asked: &'a Asked,
    result: &'a SearchResult,
    saved: Vec<(u64, SearchRow)>,
    /// The owner of the searches that this caller can save and remove.
    owner: &'a str,
    is_admin: bool,
    sees_protected: bool,
    may_save: bool,
    is_behind: bool,
}

impl View<'_> {
    fn markup(&self) -> Markup {
        html! {
            div.head {
                h1 { "Search" }
                @if let Some(what) = self.lacking() {
                    div.chips { span.chip.warn { (what) " " a href="/status/" { "Status" } } }
                }
            }
            section.panel { div.body { (self.form()) } }
            div.cols {
                (self.hits())
                div.stackup { (self.facets()) (self.saved()) }
            }
        }
    }

    /// What the answer lacks because an index is being built or is behind.
    fn lacking(&self) -> Option<String> {
        let not_indexed = &self.result.not_indexed;
        if !not_indexed.is_empty() {
            return Some(format!(
                "Not every crash is indexed by {}: clients send more different annotations than the index has columns. Add an annotation to [[fields]] to make it a field, or rebuild the index on the status page to index the most frequent annotations.",
                not_indexed.join(", ")
            ));
        }
        let coverage = &self.result.coverage;
        let fields = coverage.fields().join(", ");
        match coverage {
            Coverage::SomeCrashes(_) if fields.is_empty() => {
                Some("The index is being built: some crashes are not found yet.".into())
            }
            Coverage::SomeCrashes(_) => Some(format!(
                "The index is being rebuilt with {fields}: crashes that are not indexed yet are missing."
            )),
            Coverage::SomeWords(_) => Some(format!(
                "The index is being rebuilt with {fields}: a text search may not find words in these fields yet."
            )),
            Coverage::Whole => self
                .is_behind
                .then(|| "The newest crashes are not indexed yet and are not found.".into()),
        }
    }

    /// The URL of this page with changed parameters, at the first page of results.
    fn address(&self, change: impl FnOnce(&mut Vec<(String, String)>)) -> String {
        let mut params = self.params.clone();
        params
            .0
            .retain(|(name, value)| !is_own(name) && !value.is_empty());
        change(&mut params.0);
        format!("/search/?{}", params.to_query())
    }

    /// The complete search as parameters of the API, without the given parameters.
    fn as_params(&self, without: &[&str]) -> String {
        let mut params = self.asked.query.to_params();
        params.retain(|(name, _)| !without.contains(&name.as_str()));
        Params(params).to_query()
    }
}
