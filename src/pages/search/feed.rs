//! Any search as an Atom feed (RFC 4287) of its newest crashes.

use maud::{Markup, html};

use super::Asked;
use crate::app::App;
use crate::fields::name;
use crate::pages::{report_path, shown, text_of};
use crate::web::{Captures, Params, Request, Response, WebError};

const ATOM: &str = "application/atom+xml; charset=utf-8";
const ENTRIES: usize = 50;
const COLUMNS: [&str; 7] = [
    name::UUID,
    name::DATE,
    name::SIGNATURE,
    name::PRODUCT,
    name::VERSION,
    name::PLATFORM,
    name::REASON,
];

/// The newest crashes that a search finds, as an Atom feed.
///
/// # Errors
/// 400 for any invalid parameter, because a feed reader cannot show what is wrong, and if the search exceeds
/// its limits. 503 while the index cannot answer.
pub(crate) fn feed(app: &App, request: &Request, _: &Captures) -> Result<Response, WebError> {
    let params = &request.query;
    let asked = Asked::read(app, request, params)?;
    if let Some(problem) = asked.problems.into_iter().next() {
        return Err(WebError::bad(&problem.param, problem.text));
    }
    let mut query = asked.query;
    query.facets.clear();
    query.sort.clear();
    query.results_offset = 0;
    let query = query.list(&COLUMNS, ENTRIES);
    let found = app.index.search(&query)?;
    let address = app.address(request);
    let page = format!("{address}/search/?{}", params.to_query());
    let newest = found.hits.first();
    let newest = newest.map(|hit| text_of(found.value(hit, name::DATE)));
    let updated = newest.unwrap_or_else(|| app.clock.now().rfc3339());
    let markup = html! {
        feed xmlns="http://www.w3.org/2005/Atom" {
            title { "crashkeep: " (clean(&title(params))) }
            id { (page) }
            updated { (updated) }
            (link("alternate", &page))
            (link("self", &format!("{address}/search/feed.atom?{}", params.to_query())))
            generator version=(env!("CARGO_PKG_VERSION")) { "crashkeep" }
            @for hit in &found.hits {
                @let value = |field: &str| clean(&text_of(found.value(hit, field)));
                entry {
                    title { (value(name::SIGNATURE)) }
                    id { "urn:uuid:" (value(name::UUID)) }
                    updated { (value(name::DATE)) }
                    author { name { (value(name::PRODUCT)) " " (value(name::VERSION)) } }
                    (link("alternate", &format!("{address}{}", report_path(value(name::UUID)))))
                    summary { (value(name::PRODUCT)) " " (value(name::VERSION)) ", " (value(name::PLATFORM)) ", " (value(name::REASON)) }
                }
            }
        }
    };
    Ok(Response::new(200, ATOM, markup.into_string()))
}

fn link(rel: &str, to: &str) -> Markup {
    // With a closing tag. Without it, this would be HTML and not XML.
    html! { link rel=(rel) href=(to) {} }
}

/// Removes characters that an XML document must not contain.
fn clean(text: &str) -> String {
    shown(text)
        .chars()
        .filter(|c| !matches!(c, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}'))
        .collect()
}

/// The conditions in the syntax of the search box.
fn title(params: &Params) -> String {
    let conditions = params
        .0
        .iter()
        .filter(|(name, value)| !name.starts_with('_') && !value.is_empty());
    let texts: Vec<String> = conditions
        .map(|(name, value)| match name.as_str() {
            "q" => value.clone(),
            _ => crate::query::language::write(name, value),
        })
        .collect();
    if texts.is_empty() {
        "all crashes".to_owned()
    } else {
        texts.join(" ")
    }
}
