//! How reports are throttled: the rules in order, and the decisions of each.

use std::collections::{BTreeMap, HashMap};

use maud::{Markup, html};

use super::{Page, counted, number, shown};
use crate::app::App;
use crate::clock::Day;
use crate::fields::name;
use crate::query::{Facet, Query};
use crate::store::counters::Decided;
use crate::throttle::{DEFAULT_RULE, Outcome, Rule};
use crate::web::{Captures, Request, Response, WebError};

/// Days for which decisions are counted.
const DAYS: u32 = 28;
/// Default number of days of a search.
const SEARCH_DAYS: u32 = 7;
/// Rows of the table of products and versions.
const VERSIONS_MAX: usize = 200;

/// Shows the rules with their decisions of the last days.
///
/// # Errors
/// 400 if the search exceeds its limits, 503 while the store or the index cannot answer, 500 if stored data
/// is damaged.
pub(crate) fn throttling(app: &App, request: &Request, _: &Captures) -> Result<Response, WebError> {
    let today = app.clock.now().day();
    let decided = app.store.decisions(today.back(DAYS - 1)..=today)?;
    let config = app.config.get();
    let view = View {
        rules: &config.throttle.value,
        by_rule: by_rule(&decided, today),
        processed: processed(app, request.sees_protected())?,
    };
    let rules = view.rules;
    let content = html! {
        div.head {
            h1 { "How reports are throttled" }
            p.muted {
                "The first matching rule decides what happens to a report. A rule with a percentage applies only to that share of the matching reports. "
                "A deferred report is kept for " (config.deferred.keep_days.0) " days and processed only on request. "
                a href="/search/?state=%3Ddeferred" { "Deferred reports" }
            }
        }
        section.panel {
            header { h2 { "Rules" } span.muted.small { "from " (config.throttle.source) } }
            (view.table())
        }
        @if rules.is_empty() {
            p.muted { "No rules are configured, so every report is accepted. Configure rules in " code { "appliance.toml" } " as " code { "[[throttle]]" } "." }
        }
        (versions(&decided))
    };
    Ok(Response::html(Page::new("Throttling", "").render(content)))
}

/// Number of reports that a rule decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    today: u64,
    days: u64,
}

struct View<'a> {
    rules: &'a [Rule],
    /// By name and outcome, because the outcome of a rule may have changed.
    by_rule: BTreeMap<(String, &'static str), Counts>,
    /// Crashes in the search index, by the rule that accepted them.
    processed: HashMap<String, u64>,
}

impl View<'_> {
    fn table(&self) -> Markup {
        let default = (DEFAULT_RULE.to_owned(), Outcome::Accept.name());
        let now: Vec<(String, &str)> = self
            .rules
            .iter()
            .map(|rule| (rule.name.clone(), rule.outcome.name()))
            .chain([default])
            .collect();
        html! {
            div.scroll {
                table {
                    thead { tr {
                        th.num { "#" } th { "Rule" } th { "Condition" } th { "Outcome" }
                        th.num { "Reports today" } th.num { "In " (DAYS) " days" }
                        th.num { "Processed in " (SEARCH_DAYS) " days" }
                    } }
                    tbody {
                        @for (at, rule) in self.rules.iter().enumerate() {
                            (self.row(Some(at + 1), &now[at], condition(rule)))
                        }
                        (self.row(Some(now.len()), &now[now.len() - 1], html! { "all other reports" }))
                        @for key in self.by_rule.keys().filter(|key| !now.contains(key)) {
                            (self.row(None, key, html! { span.muted { "no longer configured" } }))
                        }
                    }
                }
            }
        }
    }

    fn row(&self, at: Option<usize>, key: &(String, &'static str), condition: Markup) -> Markup {
        let counts = self.by_rule.get(key).copied().unwrap_or_default();
        let (name, outcome) = key;
        let is_kept = [Outcome::Accept, Outcome::Defer]
            .map(Outcome::name)
            .contains(outcome);
        html! {
            tr {
                td.num { @if let Some(at) = at { (at) } }
                td { code { (shown(name)) } }
                td { (condition) }
                td { (outcome) }
                td.num { (number(counts.today)) }
                td.num { (number(counts.days)) }
                td.num {
                    @if is_kept {
                        a href=(super::search_for(name::THROTTLE_RULE, name)) { (number(self.processed.get(name).copied().unwrap_or(0))) }
                    } @else { span.faint { "–" } }
                }
            }
        }
    }
}

fn by_rule(decided: &[Decided], today: Day) -> BTreeMap<(String, &'static str), Counts> {
    let mut counts: BTreeMap<(String, &'static str), Counts> = BTreeMap::new();
    for one in decided {
        let counts = counts
            .entry((one.rule.clone(), one.outcome.name()))
            .or_default();
        counts.days += one.reports;
        if one.day == today {
            counts.today += one.reports;
        }
    }
    counts
}

/// Reports per product and version, by outcome. Those with the most dropped reports come first.
fn versions(decided: &[Decided]) -> Markup {
    let mut sums: HashMap<(&str, &str), [u64; Outcome::ALL.len()]> = HashMap::new();
    for one in decided {
        let sums = sums.entry((&one.product, &one.version)).or_default();
        sums[one.outcome as usize] += one.reports;
    }
    let mut rows: Vec<_> = sums.into_iter().collect();
    rows.sort_by_key(|(names, sums)| {
        let dropped = sums[Outcome::Reject as usize] + sums[Outcome::FakeAccept as usize];
        let all: u64 = sums.iter().sum();
        (std::cmp::Reverse((dropped, all)), *names)
    });
    let left_out = rows.len().saturating_sub(VERSIONS_MAX);
    html! {
        section.panel {
            header { h2 { "By product and version" } span.muted.small { "reports in " (DAYS) " days, most rejected first" } }
            @if rows.is_empty() { div.body.muted { "No reports received." } }
            @else {
                div.scroll { table {
                    thead { tr { th { "Product" } th { "Version" } @for (outcome, _) in Outcome::ALL { th.num { (outcome) } } } }
                    tbody {
                        @for ((product, version), sums) in rows.iter().take(VERSIONS_MAX) {
                            tr {
                                td { (named(product)) }
                                td { (named(version)) }
                                @for count in sums { td.num { @if *count == 0 { span.faint { "0" } } @else { (number(*count)) } } }
                            }
                        }
                    }
                } }
                @if left_out > 0 { div.body.muted { (counted(left_out as u64, "more version is", "more versions are")) " not listed." } }
            }
        }
    }
}

fn named(text: &str) -> Markup {
    html! { @if text.is_empty() { span.muted { "unnamed" } } @else { (shown(text)) } }
}

fn condition(rule: &Rule) -> Markup {
    html! {
        @if rule.field.is_empty() { "all reports" } @else {
            code { (shown(&rule.field)) } " " (rule.op) " "
            @if !rule.value.is_empty() { code { (shown(&rule.value)) } }
        }
        @if rule.percent < 100.0 { ", " (rule.percent) " % of them" }
    }
}

/// Crashes that a search without dates finds, by the rule that accepted them.
fn processed(app: &App, may_see_protected: bool) -> Result<HashMap<String, u64>, WebError> {
    let query = Query::of([], None, app.clock.now(), may_see_protected)?
        .count(Facet::terms(name::THROTTLE_RULE));
    let result = app.index.search(&query)?;
    let rules = result.facets.terms(name::THROTTLE_RULE).iter();
    Ok(rules
        .map(|bucket| (super::text_of(&bucket.term), bucket.count))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(day: u32, outcome: Outcome, version: &str, reports: u64) -> Decided {
        Decided {
            day: Day(day),
            rule: "r".into(),
            outcome,
            product: "P".into(),
            version: version.into(),
            reports,
        }
    }

    #[test]
    fn a_rule_is_counted_by_each_outcome_that_it_had() {
        let found = by_rule(
            &[
                decided(9, Outcome::Reject, "1", 5),
                decided(10, Outcome::Reject, "1", 2),
                decided(10, Outcome::Reject, "2", 1),
                decided(8, Outcome::Defer, "1", 7),
            ],
            Day(10),
        );
        let row = |outcome, today, days| (("r".to_owned(), outcome), Counts { today, days });
        assert_eq!(
            found,
            [row("reject", 3, 8), row("defer", 0, 7)]
                .into_iter()
                .collect()
        );
    }

    #[test]
    fn the_most_refused_versions_come_first() {
        let page = versions(&[
            decided(1, Outcome::Accept, "kept", 900),
            decided(1, Outcome::Reject, "refused", 4),
            decided(2, Outcome::FakeAccept, "refused", 3),
            decided(1, Outcome::Reject, "<b>", 6),
        ]);
        let page = page.into_string();
        let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text}: {page}"));
        assert!(at("refused</td>") < at("&lt;b&gt;") && at("&lt;b&gt;") < at("kept</td>"));
    }
}
