//! The page of one signature: what its crashes have in common, crashes per day, and the newest ones.
//!
//! Accepts every condition of a search. `by` counts the values of any field of the catalogue.

use std::sync::Arc;

use maud::{Markup, html};

use super::bugs;
use super::group;
use super::parts::daily::{self, Range};
use super::parts::ranking::{share, share_text};
use super::parts::rule_form;
use super::parts::scope::{Scope, alike_page, to_filters};
use super::{Page, bar, counted, day_text, minute, number, report_path, shown, signature, text_of};
use crate::app::App;
use crate::clock::{DAY_MS, Timestamp};
use crate::fields::{self, Catalogue, Field, Kind, name};
use crate::index::SearchResult;
use crate::limits;
use crate::query::{Facet, FieldRef, Filter, Op, Query};
use crate::store::signatures::{Group, Moves};
use crate::web::{Captures, Params, Request, Response, WebError};

const PER_PAGE: usize = 50;
/// Values per panel.
const PANEL_VALUES: usize = 12;
/// Values in the panel of the chosen field.
const BY_VALUES: usize = 100;
const PANELS: [&str; 6] = [
    name::PLATFORM_PRETTY_VERSION,
    name::VERSION,
    name::PROCESS_TYPE,
    name::CPU_ARCH,
    name::REASON,
    name::ADDRESS,
];
const COLUMNS: [&str; 9] = [
    name::UUID,
    name::DATE,
    name::PRODUCT,
    name::VERSION,
    name::BUILD_ID,
    name::PLATFORM_PRETTY_VERSION,
    name::REASON,
    name::ADDRESS,
    name::UPTIME,
];
/// The first second of each range of the uptime, and the name of the range.
const UPTIMES: [(i64, &str); 5] = [
    (0, "below 1 min"),
    (60, "1 to 5 min"),
    (300, "5 to 15 min"),
    (900, "15 to 60 min"),
    (3_600, "1 h and longer"),
];

/// Maximum number of other signatures of the same crashes on the page.
const MOVES_MAX: usize = 10;

/// Shows the signature in the parameter `signature`.
///
/// # Errors
/// 400 if the signature is missing, a parameter is invalid or the search exceeds its limits, 503 while the
/// store or the index cannot answer, 500 if stored data is damaged.
pub(crate) fn report(app: &App, request: &Request, _: &Captures) -> Result<Response, WebError> {
    let Some(text) = request.query.get(name::SIGNATURE) else {
        return Err(WebError::bad(
            name::SIGNATURE,
            "signature is missing; the URL is /signature/?signature=... with the complete signature",
        ));
    };
    let view = View::load(app, request, text)?;
    Ok(Response::html(
        Page::new(text, "/topcrashers/").render(view.markup()),
    ))
}

struct View<'a> {
    signature: &'a str,
    params: &'a Params,
    /// Crashes of the signature in the range of dates.
    scope: Scope,
    range: Range,
    result: SearchResult,
    /// Counts in the order of [`UPTIMES`].
    uptimes: [u64; 5],
    first: Option<First>,
    bugs: bugs::Panel,
    /// `None` while it is not decided.
    group: Option<Group>,
    may_change: bool,
    /// The signatures that crashes of this signature have now.
    moved_to: Moves,
    /// The signatures that crashes of this signature had before.
    moved_from: Moves,
    chart: super::parts::chart::Stack,
    by: Option<Arc<Field>>,
    /// The fields that the user can choose to count by.
    choices: Vec<Arc<Field>>,
    page: usize,
    now: Timestamp,
}

impl<'a> View<'a> {
    fn load(app: &App, request: &'a Request, signature: &'a str) -> Result<Self, WebError> {
        let params = &request.query;
        let now = app.clock.now();
        let may_see_protected = request.sees_protected();
        let choices = choices(&app.catalogue, may_see_protected);
        let by = match params.get("by") {
            None => None,
            Some(text) => Some(choices.iter().find(|f| f.name == text).ok_or_else(|| {
                let message = format!(
                    "by is {text:?}; it must be a field with facets, see /api/SuperSearchFields/"
                );
                WebError::bad("by", message)
            })?),
        };
        let page = params.number("page", 1..)?.unwrap_or(1);
        let mut conditions = to_filters(params)?;
        conditions.retain(|(name, _)| name != name::SIGNATURE && name != "by");
        conditions.push((name::SIGNATURE.into(), format!("={signature}")));
        // Bounds of the date that the URL lacks become fixed here, so that every link counts the same
        // crashes.
        let query = Query::parse(&app.catalogue, &conditions, now, may_see_protected)?;
        let scope = Scope::of(&query);
        let (from, to) = query.date_range();
        let ends_before = |f: &Filter| f.field.name() == name::DATE && f.op == Op::Below;
        let excluded_ms = i64::from(query.filters.iter().any(ends_before));
        let range = Range {
            from: from.unwrap_or(now),
            to: Timestamp::from_ms(to.unwrap_or(now).ms() - excluded_ms),
        };
        let result = newest(&scope, app, request, by, page)?;
        Ok(Self {
            signature,
            params,
            uptimes: uptimes(&scope, app, request)?,
            first: First::find(signature, app, request)?,
            bugs: bugs::Panel::of_signature(app, request, signature, &scope)?,
            group: app.store.group_of(signature)?,
            may_change: request.is_admin() && !app.read_only,
            moved_to: app.store.moved_to(signature)?,
            moved_from: app.store.moved_from(signature)?,
            chart: daily::chart(app, request, &scope, range, name::VERSION)?,
            scope,
            range,
            result,
            by: by.cloned(),
            choices,
            page,
            now,
        })
    }

    fn markup(&self) -> Markup {
        html! {
            (self.head())
            (moves("Crashes moved to", &self.moved_to))
            section.panel { div.body { (self.form()) } }
            @if self.result.total == 0 {
                section.panel { div.empty {
                    p { "No crashes with this signature from " (self.range.from) " to " (self.range.to) " match the conditions." }
                    p { "Choose an earlier start date, or remove a condition."
                        @if let Some(first) = &self.first { " The first crash with this signature was received " (first.link(html! { "on " (day_text(first.at, self.now)) })) "." }
                    }
                } }
                (self.bugs.markup())
            } @else {
                section.panel {
                    header { h2 { "Crashes over time" } span.muted.small { "days in UTC" } }
                    div.body { (self.chart.markup()) }
                    (self.chart.table())
                }
                (self.bugs.markup())
                @if let Some(field) = &self.by { div.by id="by" { (self.panel(field, BY_VALUES)) } }
                div.grid3.broad {
                    @for panel in PANELS.map(fields::builtin) {
                        (self.panel(&panel, PANEL_VALUES))
                        @if panel.name == name::PROCESS_TYPE { (self.uptime_panel()) }
                    }
                }
                (self.reports())
            }
            (moves("Crashes moved from", &self.moved_from))
            @if self.may_change { (rule_form::panel(self.signature, self.params.get(name::PRODUCT))) }
        }
    }

    fn head(&self) -> Markup {
        let product = self.params.get(name::PRODUCT);
        html! {
            div.head {
                div.crumbs {
                    a href="/" { "Home" } " / "
                    @if let Some(product) = product {
                        a href=(super::product_path(product)) { (shown(product)) } " / "
                        a href={ "/topcrashers/?" (Params(vec![(name::PRODUCT.into(), product.into())]).to_query()) } { "Top crashers" }
                    } @else { a href="/topcrashers/" { "Top crashers" } }
                    " / signature"
                }
                h1.signature { (signature(self.signature)) }
                div.chips {
                    @if let Some(group) = &self.group { (group_chip(group)) }
                    span.chip { a href=(alike_page(self.signature)) { "similar signatures" } }
                    span.chip { a href=(self.scope.search()) { (counted(self.result.total, "crash", "crashes")) } }
                    span.chip { b { (number(self.result.facets.distinct(name::INSTALLATION))) } " installs" }
                    @if let Some(first) = &self.first {
                        span.chip title="Across all products and versions" { "first seen " (first.link(first.at.to_string())) }
                    }
                }
                p.plain.muted.small { "Received from " (self.range.from) " to " (self.range.to) "." }
            }
        }
    }

    /// The conditions with links to remove them, the dates, and the field to count by.
    fn form(&self) -> Markup {
        let own = ["from", "to", "by", "page", name::SIGNATURE];
        let conditions: Vec<&(String, String)> = self
            .params
            .0
            .iter()
            .filter(|(n, v)| !v.is_empty() && !own.contains(&n.as_str()) && !n.starts_with('_'))
            .collect();
        html! {
            form.filters action="/signature/" {
                input type="hidden" name=(name::SIGNATURE) value=(self.signature);
                label { "From" input type="date" name="from" value=(self.params.get("from").unwrap_or_default()); }
                label { "To" input type="date" name="to" value=(self.params.get("to").unwrap_or_default()); }
                label { "Count by" select name="by" {
                    option value="" { "no field" }
                    @for field in &self.choices {
                        option value=(field.name) selected[self.by.as_ref().is_some_and(|by| by.name == field.name)] { (field.title) }
                    }
                } }
                @for (name, value) in &conditions { input type="hidden" name=(name) value=(value); }
                div.act { button.primary type="submit" { "Show" } a.small href=(Scope::default().signature_page(self.signature)) { "Clear" } }
            }
            @if !conditions.is_empty() {
                div.chips {
                    @for (name, value) in &conditions {
                        span.chip { (shown(name)) " " b { (shown(value)) }
                            a href=(self.address(|p| p.retain(|(n, v)| n != name || v != value))) title="Remove this condition" { "✕" } }
                    }
                }
            }
        }
    }

    /// The URL of this page with changed parameters, at the first page of results.
    fn address(&self, change: impl FnOnce(&mut Vec<(String, String)>)) -> String {
        let mut params = self.params.clone();
        params.0.retain(|(n, v)| n != "page" && !v.is_empty());
        change(&mut params.0);
        format!("/signature/?{}", params.to_query())
    }

    fn panel(&self, field: &Arc<Field>, values_max: usize) -> Markup {
        let values = self.result.facets.terms(&field.name);
        let has_installs = field.name == name::VERSION;
        let named: u64 = values.iter().map(|bucket| bucket.count).sum();
        // A crash can have several values of a split field. Then `named` is larger and nothing is missing.
        let missing = if values.len() < BY_VALUES {
            self.result.total.saturating_sub(named)
        } else {
            0
        };
        html! {
            section.panel {
                header {
                    h2 { (field.title) }
                    @if let Some(unit) = &field.unit { span.muted.small { "in " (unit) } }
                    @if values.len() > values_max {
                        span.act { a href={ (self.address(|p| {
                            p.retain(|(n, _)| n != "by");
                            p.push(("by".into(), field.name.to_string()));
                        })) "#by" } { "more" } }
                    }
                }
                div.scroll { table.facet.shares {
                    thead { tr { th { "Value" } th.num { "Crashes" } th.num { "Share" } @if has_installs { th.num { "Installs" } } @else { th {} } } }
                    tbody {
                        @for bucket in values.iter().take(values_max) {
                            @let value = text_of(&bucket.term);
                            @let scope = self.scope.without(&field.name).with_field(FieldRef::Known(field.clone()), &value);
                            tr {
                                td { span.sig { (shown(&value)) } }
                                td.num { a href=(scope.search()) { (number(bucket.count)) } }
                                td.num { (share_text(share(bucket.count, self.result.total))) }
                                @if has_installs { td.num { (number(bucket.facets.distinct(name::INSTALLATION))) } }
                                @else { td { (bar(bucket.count, self.result.total)) } }
                            }
                        }
                        @if missing > 0 {
                            tr {
                                td.muted { "unknown" }
                                td.num { a href=(self.scope.lacking(FieldRef::Known(field.clone())).search()) { (number(missing)) } }
                                td.num { (share_text(share(missing, self.result.total))) }
                                td {}
                            }
                        }
                    }
                } }
            }
        }
    }

    fn uptime_panel(&self) -> Markup {
        let known: u64 = self.uptimes.iter().sum();
        html! {
            section.panel {
                header { h2 { "Uptime" } span.muted.small { "of " (counted(known, "crash", "crashes")) " with a known uptime" } }
                div.scroll { table.facet.shares {
                    thead { tr { th { "Ran for" } th.num { "Crashes" } th.num { "Share" } th {} } }
                    tbody {
                        @for (at, (_, text)) in UPTIMES.iter().enumerate() {
                            @let count = self.uptimes[at];
                            tr {
                                td { (text) }
                                td.num { a href=(uptime_range(&self.scope, at).search()) { (number(count)) } }
                                td.num { (share_text(share(count, known))) }
                                td { (bar(count, known)) }
                            }
                        }
                    }
                } }
            }
        }
    }

    fn reports(&self) -> Markup {
        let reachable = (self.result.total as usize).min(limits::RESULTS_END_MAX);
        let last = reachable.div_ceil(PER_PAGE);
        let to = |page: usize| {
            self.address(|params| params.push(("page".into(), page.to_string()))) + "#reports"
        };
        html! {
            section.panel id="reports" {
                header {
                    h2 { "Reports" }
                    span.muted.small { "newest first" }
                    span.act { a href=(self.scope.search()) { "search these crashes" } }
                }
                div.scroll {
                    table {
                        thead { tr { th { "Received" } th { "Product" } th.hide-s { "Build" } th { "Platform" } th.hide-s { "Reason" } th.hide-s { "Address" } th.num { "Uptime" } } }
                        tbody {
                            @for hit in &self.result.hits {
                                @let value = |field: &str| text_of(self.result.value(hit, field));
                                tr {
                                    td.nowrap { a href=(report_path(value(name::UUID))) { (minute(&value(name::DATE))) } }
                                    td { (shown(&value(name::PRODUCT))) " " span.muted { (shown(&value(name::VERSION))) } }
                                    td.hide-s { (shown(&value(name::BUILD_ID))) }
                                    td { (shown(&value(name::PLATFORM_PRETTY_VERSION))) }
                                    td.hide-s { (shown(&value(name::REASON))) }
                                    td.hide-s.mono { (shown(&value(name::ADDRESS))) }
                                    td.num { @if let Some(seconds) = self.result.value(hit, name::UPTIME).as_i64() { (super::span_text(seconds.saturating_mul(1_000))) } }
                                }
                            }
                        }
                    }
                }
                @if last > 1 {
                    div.pager {
                        @if self.page > 1 { a href=(to(self.page - 1)) { "Newer" } }
                        span.muted { "page " (self.page) " of " (number(last as u64)) }
                        @if self.page < last { a href=(to(self.page + 1)) { "Older" } }
                    }
                }
            }
        }
    }
}

fn group_chip(group: &Group) -> Markup {
    html! {
        span.chip title="This address stays when the signature changes" {
            a href=(group::path(group)) { "group " (group.id) }
            @if let Some(origin) = group.origin { " from " a href={ "/group/" (origin) } { (origin) } }
            @if !group.members.is_empty() {
                " with "
                @for (at, member) in group.members.iter().take(MOVES_MAX).enumerate() {
                    @if at > 0 { ", " }
                    (member)
                }
                @if group.members.len() > MOVES_MAX { " and " (group.members.len() - MOVES_MAX) " more" }
            }
        }
    }
}

/// The fields with few enough values to count by.
fn choices(catalogue: &Catalogue, may_see_protected: bool) -> Vec<Arc<Field>> {
    catalogue
        .all()
        .iter()
        .filter(|field| field.flags.facet && field.kind != Kind::Date)
        .filter(|field| may_see_protected || !field.is_protected())
        .cloned()
        .collect()
}

fn newest(
    scope: &Scope,
    app: &App,
    request: &Request,
    by: Option<&Arc<Field>>,
    page: usize,
) -> Result<SearchResult, WebError> {
    let installs = || Facet::distinct(name::INSTALLATION);
    let query = scope
        .query(app, request)?
        .count(installs())
        .count_within(Facet::terms(name::VERSION), installs());
    let panels = PANELS.into_iter().map(FieldRef::of);
    let panels = panels.chain(by.cloned().map(FieldRef::Known));
    let query = panels
        .fold(query, |query, panel| query.count(Facet::Terms(panel)))
        .values(BY_VALUES)
        .list(&COLUMNS, PER_PAGE)
        .skip_pages(page - 1)?;
    Ok(app.index.search(&query)?)
}

/// Crashes in one range of the uptime.
fn uptime_range(scope: &Scope, at: usize) -> Scope {
    let scope = match at {
        0 => scope.clone(),
        _ => scope.at_least(name::UPTIME, UPTIMES[at].0),
    };
    match UPTIMES.get(at + 1) {
        Some((end, _)) => scope.below(name::UPTIME, *end),
        None => scope,
    }
}

/// Runs two searches: one for the first hour in minutes, one for longer uptimes.
fn uptimes(scope: &Scope, app: &App, request: &Request) -> Result<[u64; 5], WebError> {
    let last = UPTIMES.len() - 1;
    let hour = scope
        .below(name::UPTIME, UPTIMES[last].0)
        .query(app, request)?
        .count(Facet::histogram(name::UPTIME, 60.0));
    let mut counts = [0; 5];
    for minute in app.index.search(&hour)?.facets.histogram(name::UPTIME) {
        let second = minute.term.as_i64().unwrap_or(0);
        let at = UPTIMES.iter().rposition(|(start, _)| second >= *start);
        counts[at.unwrap_or(0)] += minute.count;
    }
    let longer = uptime_range(scope, last).query(app, request)?;
    counts[last] = app.index.search(&longer)?.total;
    Ok(counts)
}

/// The first crash that was ever counted for a signature.
struct First {
    at: Timestamp,
    /// The report of that crash, if it still exists.
    report: Option<String>,
}

impl First {
    fn find(signature: &str, app: &App, request: &Request) -> Result<Option<Self>, WebError> {
        let first = app.store.first_seen(&[signature.to_owned()])?;
        let Some(at) = first.into_values().next() else {
            return Ok(None);
        };
        let day = at.day().start();
        let query = Scope::default()
            .with(name::SIGNATURE, signature)
            .between(day, Timestamp::from_ms(day.ms() + DAY_MS))
            .query(app, request)?
            .list(&[name::UUID], 1)
            .sorted_by(name::DATE);
        let found = app.index.search(&query)?;
        let report = found.hits.first();
        let report = report.map(|hit| text_of(found.value(hit, name::UUID)));
        Ok(Some(Self { at, report }))
    }

    fn link(&self, text: impl maud::Render) -> Markup {
        html! {
            @match &self.report {
                Some(id) => a href=(report_path(id)) { (text) },
                None => (text),
            }
        }
    }
}

/// Signatures that the crashes had before or have now, because lists changed or symbols arrived.
fn moves(title: &str, moves: &Moves) -> Markup {
    html! {
        @if !moves.is_empty() {
            section.panel.moves {
                header { h2 { (title) } }
                div.body.small { ul.notes {
                    @for (other, crashes) in moves.iter().take(MOVES_MAX) {
                        li {
                            a.sig href=(Scope::default().signature_page(other)) { (signature(other)) } " "
                            span.faint { (counted(*crashes, "crash", "crashes")) }
                        }
                    }
                    @if moves.len() > MOVES_MAX { li.faint { "and " (moves.len() - MOVES_MAX) " more" } }
                } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_the_uptime_meet() {
        let texts: Vec<String> = (0..UPTIMES.len())
            .map(|at| uptime_range(&Scope::default(), at).search())
            .collect();
        assert_eq!(
            texts,
            [
                "/search/?uptime=%3C60",
                "/search/?uptime=%3E%3D60&uptime=%3C300",
                "/search/?uptime=%3E%3D300&uptime=%3C900",
                "/search/?uptime=%3E%3D900&uptime=%3C3600",
                "/search/?uptime=%3E%3D3600",
            ]
        );
    }

    #[test]
    fn protected_fields_are_counted_for_those_who_may_see_them() {
        let catalogue = Catalogue::builtin();
        let has = |protected, name: &str| {
            choices(&catalogue, protected)
                .iter()
                .any(|f| f.name == name)
        };
        assert!(has(true, name::URL) && !has(false, name::URL));
        assert!(has(false, name::REASON) && !has(true, name::UUID));
    }
}
