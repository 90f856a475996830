//! The page of a product: crashes per day, new signatures, and signatures whose rank changed.

use maud::{Markup, html};

use super::parts::chart::Stack;
use super::parts::daily::{self, CHART_DAYS, Range};
use super::parts::ranking::{self, Movement, Row};
use super::parts::scope::Scope;
use super::topcrashers::movement;
use super::{Page, counted, day_text, number, shown, signature, text_of};
use crate::app::App;
use crate::clock::{DAY_MS, Timestamp};
use crate::fields::name;
use crate::fields::version::VersionKey;
use crate::index::SearchResult;
use crate::query::Facet;
use crate::web::{Captures, Params, Request, Response, WebError};

/// Number of days that are compared with the same number of days before.
const WEEK_DAYS: i64 = 7;
/// Rows per list.
const ROWS: usize = 10;
/// Number of signatures that are checked for being new.
const CANDIDATES_MAX: usize = 200;
/// A signature counts as a mover only if it is or was within this rank. Lower ranks are random.
const MOVERS_RANK_MAX: usize = 100;
const VERSIONS: usize = 8;

/// Shows the product in the URL.
///
/// # Errors
/// 400 if the search exceeds its limits, 503 while the store or the index cannot answer, 500 if stored data
/// is damaged.
pub(crate) fn product(
    app: &App,
    request: &Request,
    captures: &Captures,
) -> Result<Response, WebError> {
    let product = captures.get("product");
    let view = View::load(app, request, product)?;
    Ok(Response::html(
        Page::new(product, "/").render(view.markup()),
    ))
}

struct View<'a> {
    product: &'a str,
    chart: Stack,
    /// Counts of the week and of the week before.
    week: SearchResult,
    before: SearchResult,
    scope: Scope,
    scope_before: Scope,
    fresh: Vec<(Row, Timestamp)>,
    movers: Vec<Row>,
    now: Timestamp,
}

impl<'a> View<'a> {
    fn load(app: &App, request: &Request, product: &'a str) -> Result<Self, WebError> {
        let now = app.clock.now();
        let timeless = Scope::default().with(name::PRODUCT, product);
        let chart = daily::chart(
            app,
            request,
            &timeless,
            Range::days(CHART_DAYS, now),
            name::VERSION,
        )?;
        let from = Timestamp::from_ms(now.ms() - WEEK_DAYS * DAY_MS);
        let before_from = Timestamp::from_ms(from.ms() - WEEK_DAYS * DAY_MS);
        let scope = timeless.between(from, now);
        let scope_before = timeless.between(before_from, from);
        let counts = |scope: &Scope| -> Result<SearchResult, WebError> {
            let query = scope
                .query(app, request)?
                .count(Facet::terms(name::SIGNATURE))
                .count(Facet::terms(name::VERSION))
                .count(Facet::distinct(name::INSTALLATION));
            Ok(app.index.search(&query)?)
        };
        let (week, before) = (counts(&scope)?, counts(&scope_before)?);
        let rows = ranking::rank(&week, &before, &[]);
        let movers = movers(&rows);
        let candidates: Vec<Row> = rows
            .into_iter()
            .filter(|row| row.movement == Movement::New)
            .take(CANDIDATES_MAX)
            .collect();
        let names: Vec<String> = candidates.iter().map(|row| row.signature.clone()).collect();
        let first_seen = app.store.first_seen(&names)?;
        let mut fresh: Vec<(Row, Timestamp)> = candidates
            .into_iter()
            .filter_map(|row| {
                let at = *first_seen.get(&row.signature)?;
                (at >= from).then_some((row, at))
            })
            .collect();
        fresh.sort_by_key(|(row, at)| (std::cmp::Reverse(at.day()), row.rank));
        Ok(Self {
            product,
            chart,
            week,
            before,
            scope,
            scope_before,
            fresh,
            movers,
            now,
        })
    }

    fn top_crashers(&self, further: &[(&str, &str)]) -> String {
        let mut params = vec![(name::PRODUCT.to_owned(), self.product.to_owned())];
        params.extend(further.iter().map(|(n, v)| ((*n).into(), (*v).into())));
        format!("/topcrashers/?{}", Params(params).to_query())
    }

    fn trends(&self) -> String {
        let product = vec![(name::PRODUCT.to_owned(), self.product.to_owned())];
        format!("/trends/?{}", Params(product).to_query())
    }

    fn markup(&self) -> Markup {
        let is_quiet = self.chart.is_empty() && self.week.total == 0;
        html! {
            div.head {
                div.crumbs { a href="/" { "Home" } " / product" }
                h1 { (shown(self.product)) }
                div.chips {
                    span.chip { a href=(self.top_crashers(&[])) { "Top crashers" } }
                    span.chip { a href=(self.trends()) { "Trends" } }
                    span.chip { a href=(Scope::default().with(name::PRODUCT, self.product).search()) { "Search" } }
                    (self.versions())
                }
            }
            @if is_quiet {
                section.panel { div.empty {
                    p { "No crashes of " b { (shown(self.product)) } " were received in the last " (CHART_DAYS) " days." }
                    p {
                        "Look at the " a href=(self.top_crashers(&[("days", "28")])) { "last 28 days" } ", at "
                        a href=(self.trends()) { "older trends" } ", or at " a href="/" { "all products" } ". Also check that the client sends exactly this product name."
                    }
                } }
            } @else {
                (self.figures())
                section.panel {
                    header { h2 { "Crashes per day" } span.muted.small { "last " (CHART_DAYS) " days, in UTC" } }
                    div.body { (self.chart.markup()) }
                    (self.chart.table())
                }
                div.halves { (self.fresh()) (self.movers()) }
            }
        }
    }

    /// Links to the top crashers of the newest versions.
    fn versions(&self) -> Markup {
        let versions = self.week.facets.terms(name::VERSION).iter();
        let mut versions: Vec<(String, u64)> = versions
            .map(|bucket| (text_of(&bucket.term), bucket.count))
            .collect();
        versions.sort_by_cached_key(|(version, _)| std::cmp::Reverse(VersionKey::new(version)));
        html! {
            @for (version, count) in versions.iter().take(VERSIONS) {
                span.chip title={ (counted(*count, "crash", "crashes")) " in " (WEEK_DAYS) " days" } {
                    a href=(self.top_crashers(&[(name::VERSION, version)])) { b { (shown(version)) } }
                }
            }
        }
    }

    fn figures(&self) -> Markup {
        let installs = self.week.facets.distinct(name::INSTALLATION);
        let installs_before = self.before.facets.distinct(name::INSTALLATION);
        html! {
            div.stats {
                div.panel.stat {
                    a.v href=(self.scope.search()) { (number(self.week.total)) }
                    span.l {
                        (if self.week.total == 1 { "crash" } else { "crashes" }) " in " (WEEK_DAYS) " days; "
                        a href=(self.scope_before.search()) { (number(self.before.total)) } " in the " (WEEK_DAYS) " before"
                    }
                }
                div.panel.stat {
                    span.v { (number(installs)) }
                    span.l { "installs that crashed; " (number(installs_before)) " in the " (WEEK_DAYS) " days before" }
                }
                div.panel.stat {
                    a.v href="#new" { (number(self.fresh.len() as u64)) }
                    span.l { "new signatures in " (WEEK_DAYS) " days" }
                }
            }
        }
    }

    fn fresh(&self) -> Markup {
        html! {
            section.panel id="new" {
                header { h2 { "New signatures" } span.muted.small { "first seen in the last " (WEEK_DAYS) " days" } }
                @if self.fresh.is_empty() { div.body.muted { "None. All signatures of this period were seen before." } }
                @else { div.scroll { table {
                    thead { tr { th { "First seen" } th { "Signature" } th.num { "Crashes" } } }
                    tbody {
                        @for (row, at) in self.fresh.iter().take(ROWS) {
                            tr { td.nowrap { (day_text(*at, self.now)) } (self.named(row)) }
                        }
                    }
                } } }
            }
        }
    }

    fn movers(&self) -> Markup {
        html! {
            section.panel {
                header { h2 { "Movers" } span.muted.small { "change of rank since the " (WEEK_DAYS) " days before" } }
                @if self.movers.is_empty() { div.body.muted { "No signature that occurred in both weeks changed its rank." } }
                @else { div.scroll { table {
                    thead { tr { th.num { "Moved" } th.num { "Rank" } th { "Signature" } th.num { "Crashes" } } }
                    tbody {
                        @for row in &self.movers {
                            tr { td.num { (movement(row.movement)) } td.num { (row.rank) } (self.named(row)) }
                        }
                    }
                } } }
            }
        }
    }

    fn named(&self, row: &Row) -> Markup {
        html! {
            td { a.sig href=(self.scope.signature_page(&row.signature)) { (signature(&row.signature)) } }
            td.num { a href=(self.scope.with(name::SIGNATURE, &row.signature).search()) { (number(row.count)) } }
        }
    }
}

/// The signatures of both weeks whose rank changed most.
fn movers(rows: &[Row]) -> Vec<Row> {
    let places = |row: &Row| match row.movement {
        Movement::By(places) => places,
        Movement::New => 0,
    };
    let mut movers: Vec<&Row> = rows
        .iter()
        .filter(|row| {
            let previous = row.rank as i64 + places(row);
            places(row) != 0 && previous.min(row.rank as i64) <= MOVERS_RANK_MAX as i64
        })
        .collect();
    movers.sort_by_key(|row| (std::cmp::Reverse(places(row).abs()), row.rank));
    movers.into_iter().take(ROWS).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{FacetBucket, FacetResult, Facets};

    fn period(signatures: &[&str]) -> SearchResult {
        let buckets = signatures.iter().enumerate().map(|(at, text)| FacetBucket {
            term: (*text).into(),
            count: 100 - at as u64,
            facets: Facets::default(),
        });
        SearchResult {
            coverage: Default::default(),
            not_indexed: Vec::new(),
            columns: Vec::new(),
            hits: Vec::new(),
            total: 1_000,
            facets: Facets::from_iter([(
                name::SIGNATURE.into(),
                FacetResult::Buckets(buckets.collect()),
            )]),
        }
    }

    #[test]
    fn the_largest_moves_come_first_and_newcomers_are_no_movers() {
        let rows = ranking::rank(
            &period(&["new", "d", "b", "c", "a"]),
            &period(&["a", "b", "c", "d"]),
            &[],
        );
        let found: Vec<_> = movers(&rows)
            .iter()
            .map(|row| (row.signature.clone(), row.movement))
            .collect();
        let expected = [("a", -4), ("d", 2), ("b", -1), ("c", -1)];
        assert_eq!(
            found,
            expected.map(|(s, places)| (s.to_owned(), Movement::By(places)))
        );
    }
}
