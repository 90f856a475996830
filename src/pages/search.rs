//! Search: a form of the usual questions, the crashes that answer them, and counts beside them.
//!
//! The parameters are SuperSearch's, so a page's address works for the API too. Two are the
//! form's own: `from` and `to` are days, which browsers can offer a calendar for.

use maud::{Markup, html};

use super::scope::{Scope, exactly, to_filters};
use super::{Page, bar, counted, minute, number, report_path, shown, signature, text_of};
use crate::crash::id::CrashId;
use crate::fields;
use crate::index::{FacetBucket, FacetResult, SearchResult};
use crate::limits;
use crate::query::{FieldRef, Query};
use crate::web::{App, Params, Request, Response, Role, WebError};

const PER_PAGE: usize = 50;
/// Values that each facet lists.
const FACET_VALUES: usize = 12;
const COLUMNS: [&str; 7] = [
    fields::name::UUID,
    fields::name::DATE,
    fields::name::SIGNATURE,
    fields::name::PRODUCT,
    fields::name::VERSION,
    fields::name::PLATFORM,
    fields::name::REASON,
];
const FACETS: [&str; 5] = [
    fields::name::SIGNATURE,
    fields::name::PRODUCT,
    fields::name::VERSION,
    fields::name::PLATFORM,
    fields::name::PROCESS_TYPE,
];
/// Fields with an input of their own in the form.
const INPUTS: [(&str, &str, &str); 4] = [
    (fields::name::PRODUCT, "Product", "any"),
    (fields::name::VERSION, "Version", "any"),
    (
        fields::name::SIGNATURE,
        "Signature",
        "words, ~part, =exact, ^start",
    ),
    (fields::name::PLATFORM, "Platform", "any"),
];

pub fn search(app: &App, request: &Request, _: &[String]) -> Result<Response, WebError> {
    let params = &request.query;
    if let Some(id) = params
        .get("q")
        .and_then(|text| text.parse::<CrashId>().ok())
    {
        return Ok(Response::see_other(&report_path(id)));
    }
    let filters = to_filters(params)?;
    let page: usize = params
        .get("page")
        .and_then(|p| p.parse().ok())
        .unwrap_or(1)
        .max(1);
    let mut asked = filters.clone();
    for (name, values) in [("_columns", &COLUMNS[..]), ("_facets", &FACETS[..])] {
        asked.extend(
            values
                .iter()
                .map(|value| (name.to_owned(), (*value).to_owned())),
        );
    }
    for (name, value) in [
        ("_results_number", PER_PAGE),
        ("_results_offset", (page - 1).saturating_mul(PER_PAGE)),
        ("_facets_size", FACET_VALUES),
    ] {
        asked.push((name.to_owned(), value.to_string()));
    }
    let query = Query::parse(&asked, app.clock.now(), request.role >= Role::Protected)?;
    let result = app.index.search(&query)?;
    let text = params.get("q").unwrap_or_default();
    let view = View {
        params,
        query: &query,
        result: &result,
        page,
    };
    let content = html! {
        div.head {
            h1 { "Search" }
            @let index = app.indexer.status();
            @if index.building.is_some_and(|building| !building.is_beside) || index.error.is_some() {
                div.chips { span.chip.warn { "The index is behind the store: not every crash is found yet. " a href="/status/" { "Status" } } }
            }
        }
        section.panel { div.body { (view.form()) } }
        div.cols {
            section.panel {
                header {
                    h2 { (counted(result.total, "crash", "crashes")) }
                    span.muted.small { (view.range()) }
                    span.act { a href={ "/api/SuperSearch/?" (Params(query.to_params()).to_query()) } { "as JSON" } }
                }
                (view.table())
                (view.pager())
            }
            div.stackup { (view.facets()) }
        }
    };
    Ok(Response::html(
        Page {
            query: text,
            ..Page::new("Search", "/search/")
        }
        .render(content),
    ))
}

struct View<'a> {
    params: &'a Params,
    query: &'a Query,
    result: &'a SearchResult,
    page: usize,
}

impl View<'_> {
    fn form(&self) -> Markup {
        let own = |name: &str| {
            INPUTS.iter().any(|(input, ..)| *input == name)
                || matches!(name, "q" | "from" | "to" | "page")
                || name.starts_with('_')
        };
        // A field can have several conditions; its input holds the first, the others stay too.
        let mut seen: Vec<&str> = Vec::new();
        let others: Vec<&(String, String)> = self
            .params
            .0
            .iter()
            .filter(|(name, value)| {
                let first = !seen.contains(&name.as_str());
                seen.push(name);
                !value.is_empty()
                    && (!own(name) || (!first && !name.starts_with('_') && name != "page"))
            })
            .collect();
        html! {
            form.filters action="/search/" {
                label { "Text" input type="search" name="q" value=(self.params.get("q").unwrap_or_default()) placeholder="functions, modules, comments, notes"; }
                @for (name, title, hint) in INPUTS {
                    label { (title) input type="text" name=(name) value=(self.params.get(name).unwrap_or_default()) placeholder=(hint); }
                }
                label { "From" input type="date" name="from" value=(self.params.get("from").unwrap_or_default()); }
                label { "To" input type="date" name="to" value=(self.params.get("to").unwrap_or_default()); }
                @for (name, value) in &others { input type="hidden" name=(name) value=(value); }
                div.act { button.primary type="submit" { "Search" } a.small href="/search/" { "Clear" } }
            }
            @if !others.is_empty() {
                div.chips {
                    @for (name, value) in &others {
                        span.chip { (shown(name)) " " b { (shown(value)) } a href=(self.without(name, value)) title="Remove this condition" { "✕" } }
                    }
                }
            }
        }
    }

    /// The page's address with its parameters changed, on the first page.
    fn address(&self, change: impl FnOnce(&mut Vec<(String, String)>)) -> String {
        let mut params = self.params.clone();
        params
            .0
            .retain(|(name, value)| name != "page" && !value.is_empty());
        change(&mut params.0);
        format!("/search/?{}", params.to_query())
    }

    fn without(&self, name: &str, value: &str) -> String {
        self.address(|params| params.retain(|(n, v)| n != name || v != value))
    }

    /// Narrows the search to one value of a field.
    fn narrowed(&self, name: &str, value: &str) -> String {
        let value = exactly(name, value);
        self.address(|params| {
            params.retain(|(n, _)| n != name);
            params.push((name.to_owned(), value));
        })
    }

    fn range(&self) -> String {
        let (from, to) = self.query.date_range();
        let text =
            |at: Option<crate::clock::Timestamp>| at.map_or("any time".into(), |at| at.to_string());
        format!("received from {} to {}", text(from), text(to))
    }

    fn table(&self) -> Markup {
        if self.result.hits.is_empty() {
            return html! {
                div.empty {
                    p { "No crash answers this. Without dates the search looks at the last seven days; take away a condition, or begin further back." }
                }
            };
        }
        let scope = Scope::of(self.query);
        html! {
            div.scroll {
                table.hits {
                    thead { tr { th { "Received" } th { "Signature" } th { "Product" } th.hide-s { "Platform" } th.hide-s { "Reason" } } }
                    tbody {
                        @for hit in &self.result.hits {
                            @let value = |at: usize| text_of(&hit.values[at]);
                            tr {
                                td.nowrap { a href=(report_path(value(0))) title="Open the report" { (minute(&value(1))) } }
                                td { a.sig href=(scope.signature_page(&value(2))) { (signature(&value(2))) } }
                                td { (shown(&value(3))) " " span.muted { (shown(&value(4))) } }
                                td.nowrap.hide-s { (shown(&value(5))) }
                                td.hide-s { (shown(&value(6))) }
                            }
                        }
                    }
                }
            }
        }
    }

    fn pager(&self) -> Markup {
        let reachable = (self.result.total as usize).min(limits::RESULTS_END_MAX);
        let last = reachable.div_ceil(PER_PAGE).max(1);
        let to =
            |page: usize| self.address(|params| params.push(("page".into(), page.to_string())));
        html! {
            @if last > 1 {
                div.pager {
                    @if self.page > 1 { a href=(to(self.page - 1)) { "Newer" } }
                    span.muted { "page " (self.page) " of " (number(last as u64)) }
                    @if self.page < last { a href=(to(self.page + 1)) { "Older" } }
                }
            }
        }
    }

    fn facets(&self) -> Markup {
        html! {
            @for (name, facet) in FACETS.iter().filter_map(|name| Some((*name, self.facet(name)?))) {
                section.panel {
                    header { h2 { (FieldRef::find(name).map_or(name.to_owned(), title)) } }
                    table.facet {
                        tbody {
                            @for bucket in facet {
                                @let value = text_of(&bucket.term);
                                tr {
                                    td { a.sig href=(self.narrowed(name, &value)) { @if name == fields::name::SIGNATURE { (signature(&value)) } @else { (shown(&value)) } } }
                                    td.num { (number(bucket.count)) }
                                    td { (bar(bucket.count, self.result.total)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    fn facet(&self, name: &str) -> Option<&[FacetBucket]> {
        let (_, facet): &(String, FacetResult) =
            self.result.facets.iter().find(|(label, _)| label == name)?;
        Some(facet.buckets()).filter(|buckets| !buckets.is_empty())
    }
}

fn title(field: FieldRef) -> String {
    match field {
        FieldRef::Known(field) => field.title.to_owned(),
        FieldRef::Annotation(key) => key,
    }
}
