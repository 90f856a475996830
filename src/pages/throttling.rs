//! How reports are throttled: the rules in their order, and what each has decided.

use maud::{Markup, html};

use super::{Page, number, shown};
use crate::fields::name;
use crate::query::Query;
use crate::throttle::{DEFAULT_RULE, Rule};
use crate::web::{App, Params, Request, Response, Role, WebError};

pub fn throttling(app: &App, request: &Request, _: &[String]) -> Result<Response, WebError> {
    let since_start = app.metrics.throttled.get();
    let kept = kept(app, request.role >= Role::Protected)?;
    let rules = &app.config.throttle.value;
    let row = |at: usize, rule_name: &str, condition: Markup, outcome: String| {
        let kept = kept
            .iter()
            .find(|(found, _)| found == rule_name)
            .map_or(0, |(_, n)| *n);
        html! {
            tr {
                td.num { (at) }
                td { code { (rule_name) } }
                td { (condition) }
                td { (outcome) }
                td.num { (number(since_start.get(rule_name).copied().unwrap_or(0))) }
                td.num { a href=(search(rule_name)) { (number(kept)) } }
            }
        }
    };
    let content = html! {
        div.head {
            h1 { "How reports are throttled" }
            p.muted {
                "The first rule whose condition holds decides about a report, or about the share of such reports that it names. "
                "A deferred report is kept for " (app.config.deferred.keep_days.0) " days and walked when somebody asks for it."
            }
        }
        section.panel {
            header { h2 { "Rules" } span.muted.small { "from " (app.config.throttle.source) } }
            div.scroll {
                table {
                    thead { tr { th.num { "#" } th { "Rule" } th { "Holds for" } th { "Outcome" } th.num { "Decided since the start" } th.num { "Processed in 7 days" } } }
                    tbody {
                        @for (at, rule) in rules.iter().enumerate() {
                            (row(at + 1, &rule.name, condition(rule), rule.outcome.to_string()))
                        }
                        (row(rules.len() + 1, DEFAULT_RULE, html! { "every other report" }, "accept".into()))
                    }
                }
            }
        }
        @if rules.is_empty() {
            p.muted { "No rule is set, so every report is kept. Rules stand in " code { "appliance.toml" } " as " code { "[[throttle]]" } "." }
        }
    };
    Ok(Response::html(Page::new("Throttling", "").render(content)))
}

fn condition(rule: &Rule) -> Markup {
    html! {
        @if rule.field.is_empty() { "every report" } @else {
            code { (shown(&rule.field)) } " " (rule.op) " "
            @if !rule.value.is_empty() { code { (shown(&rule.value)) } }
        }
        @if rule.percent < 100.0 { ", " (rule.percent) " % of them" }
    }
}

/// Crashes of the last seven days by the rule that let them in.
fn kept(app: &App, may_see_protected: bool) -> Result<Vec<(String, u64)>, WebError> {
    let params = [
        ("_facets", name::THROTTLE_RULE),
        ("_facets_size", "1000"),
        ("_results_number", "0"),
    ]
    .map(|(k, v)| (k.to_owned(), v.to_owned()));
    let query = Query::parse(&params, app.clock.now(), may_see_protected)?;
    let result = app.index.search(&query)?;
    let buckets = result.facets.iter().flat_map(|(_, facet)| facet.buckets());
    Ok(buckets
        .map(|b| (b.term.as_str().unwrap_or_default().to_owned(), b.count))
        .collect())
}

fn search(rule: &str) -> String {
    let params = Params(vec![(name::THROTTLE_RULE.to_owned(), rule.to_owned())]);
    format!("/search/?{}", params.to_query())
}
