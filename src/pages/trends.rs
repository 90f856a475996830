//! Trends of a product: crashes per day and per build, and how long it runs between crashes.
//!
//! All data come from the store's counters, so they include crashes that retention has deleted.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use maud::{Markup, html};

use super::home::first_steps;
use super::parts::chart::{Line, Lines, SERIES_MAX, Stack};
use super::parts::controls::{self, one_of, option, system};
use super::parts::daily::Range;
use super::parts::ranking::{SYSTEMS, share, share_text};
use super::parts::scope::Scope;
use super::parts::split::{Split, split};
use super::{Page, counted, day_text, number, shown, span_text};
use crate::api::table;
use crate::app::App;
use crate::clock::{Day, Timestamp};
use crate::crash::facts::System;
use crate::fields::name;
use crate::fields::version::VersionKey;
use crate::query::FieldRef;
use crate::store::counters::{NameId, Tallies, Tally};
use crate::web::{Captures, Params, Request, Response, WebError};

const DAYS: [u32; 6] = [7, 14, 28, 60, 180, 365];
const DAYS_DEFAULT: u32 = 28;
/// Days since a version was first seen for which the time between crashes is shown.
const LIFE_DAYS: u32 = 60;
const BUILDS_MAX: usize = 20;
/// Rows in the table of versions.
const VERSIONS_MAX: usize = 100;
const FORMATS: [&str; 1] = ["csv"];

/// Shows the trends of a product, or returns them as a file.
///
/// # Errors
/// 400 if a parameter is invalid. 503 while the store cannot be read, 500 if stored data is damaged.
pub(crate) fn trends(app: &App, request: &Request, _: &Captures) -> Result<Response, WebError> {
    let filters = Filters::parse(&request.query)?;
    let (products, _) = app.store.counted_products()?;
    let Some(product) = filters.product.clone().or(products.first().cloned()) else {
        let content = html! { div.head { h1 { "Trends" } } (first_steps(request)) };
        return Ok(Response::html(
            Page::new("Trends", "/trends/").render(content),
        ));
    };
    let now = app.clock.now();
    let counts = Counts::load(app, &product)?;
    let view = View::new(filters, product, products, counts, now);
    if let Some(format) = request.query.get("format") {
        if !FORMATS.contains(&format) {
            return Err(controls::refused("format", format, &FORMATS));
        }
        return view.csv();
    }
    let title = format!("Trends of {}", view.product);
    let may_see_urls = request.sees_protected();
    Ok(Response::html(
        Page::new(&title, "/trends/").render(view.markup(&title, may_see_urls)),
    ))
}

/// The parameters in the URL.
struct Filters {
    product: Option<String>,
    versions: Vec<String>,
    days: u32,
    /// The usual name of a system.
    system: Option<&'static str>,
}

impl Filters {
    fn parse(params: &Params) -> Result<Self, WebError> {
        let versions = params.all(name::VERSION).filter(|v| !v.is_empty());
        Ok(Self {
            product: params.get(name::PRODUCT).map(str::to_owned),
            versions: versions.map(str::to_owned).collect(),
            days: one_of(params, "days", &DAYS)?.unwrap_or(DAYS_DEFAULT),
            system: system(params)?,
        })
    }

    /// The part of a counter that the filters select.
    fn tally(&self, row: &Tallies) -> Tally {
        match self.system {
            None => row.total(),
            Some(label) => {
                let known = System::ALL.into_iter().find(|s| s.name() == label);
                row.of(known.unwrap_or_default())
            }
        }
    }
}

/// All counters of a product, with their texts.
struct Counts(Vec<Count>);

struct Count {
    day: Day,
    version: String,
    build: String,
    row: Tallies,
}

impl Counts {
    fn load(app: &App, product: &str) -> Result<Self, WebError> {
        let ever = Day(0)..=Day(u32::MAX);
        let sums: HashMap<(Day, NameId, NameId), Tallies> =
            app.store
                .counters(product, ever, |key| Some((key.day, key.version, key.build)))?;
        let ids: BTreeSet<NameId> = sums.keys().flat_map(|(_, v, b)| [*v, *b]).collect();
        let ids: Vec<NameId> = ids.into_iter().collect();
        let texts: HashMap<NameId, String> =
            ids.iter().copied().zip(app.store.names(&ids)?).collect();
        let mut counts: Vec<Count> = sums
            .into_iter()
            .map(|((day, version, build), row)| Count {
                day,
                version: texts[&version].clone(),
                build: texts[&build].clone(),
                row,
            })
            .collect();
        counts.sort_by(|a, b| (a.day, &a.version, &a.build).cmp(&(b.day, &b.version, &b.build)));
        Ok(Self(counts))
    }
}

struct View {
    filters: Filters,
    product: String,
    products: Vec<String>,
    counts: Counts,
    range: Range,
    from: Day,
    today: Day,
}

/// The totals of a version or a build in the period.
#[derive(Default)]
struct Sum {
    row: Tallies,
    tally: Tally,
}

impl View {
    fn new(
        filters: Filters,
        product: String,
        products: Vec<String>,
        counts: Counts,
        now: Timestamp,
    ) -> Self {
        let today = now.day();
        Self {
            from: today.back(filters.days - 1),
            range: Range::days(filters.days.into(), now),
            today,
            filters,
            product,
            products,
            counts,
        }
    }

    fn is_chosen(&self, version: &str) -> bool {
        self.filters.versions.is_empty() || self.filters.versions.iter().any(|v| v == version)
    }

    /// The counters that the filters select.
    fn period(&self) -> impl Iterator<Item = &Count> {
        let chosen = |count: &&Count| count.day >= self.from && self.is_chosen(&count.version);
        self.counts.0.iter().filter(chosen)
    }

    fn sums<'a>(&'a self, key: impl Fn(&'a Count) -> &'a str) -> BTreeMap<&'a str, Sum> {
        let mut sums: BTreeMap<&str, Sum> = BTreeMap::new();
        for count in self.period() {
            let sum = sums.entry(key(count)).or_default();
            sum.row.add(&count.row);
            sum.tally.add(self.filters.tally(&count.row));
        }
        sums.retain(|_, sum| sum.tally.crashes > 0);
        sums
    }

    /// The crashes in a search with the same filters, on any day.
    fn scope(&self) -> Scope {
        let scope = Scope::default().with(name::PRODUCT, &self.product);
        let versions = self.filters.versions.iter();
        let scope = versions.fold(scope, |scope, version| scope.with(name::VERSION, version));
        match self.filters.system {
            Some(system) => controls::on_system(&scope, system),
            None => scope,
        }
    }

    fn markup(&self, title: &str, may_see_urls: bool) -> Markup {
        let versions = self.sums(|count| &count.version);
        let product = [(name::PRODUCT.to_owned(), self.product.clone())];
        html! {
            div.head {
                div.crumbs { a href="/" { "Home" } " / " a href=(super::product_path(&self.product)) { (shown(&self.product)) } " / trends" }
                h1 { (shown(title)) }
                div.chips {
                    span.chip { a href={ "/topcrashers/?" (Params(product.to_vec()).to_query()) } { "Top crashers" } }
                    @if may_see_urls { span.chip { a href={ "/trends/urls/?" (Params(product.to_vec()).to_query()) } { "URLs and domains" } } }
                    span.chip { a href=(self.address(&[("format", "csv")])) { "CSV" } }
                }
                p.plain.muted.small { "Crashes are counted when they are processed. The counts stay when crashes are deleted, so they cover more time than a search." }
            }
            section.panel { div.body { (self.form()) } }
            @if versions.is_empty() {
                section.panel { div.empty {
                    p { "No crashes of " b { (shown(&self.product)) } " were counted in the last " (self.filters.days) " days with these filters." }
                    p { a href={ "/trends/?" (Params(vec![product[0].clone(), ("days".into(), "365".into())]).to_query()) } { "All versions in 365 days" } }
                } }
            } @else {
                @let days = self.per_day(&versions);
                section.panel {
                    header { h2 { "Crashes per " (self.range.each()) } span.muted.small { "last " (self.filters.days) " days, in UTC" } }
                    div.body { (days.markup()) }
                    (days.table())
                }
                @let builds = self.per_build();
                section.panel {
                    header { h2 { "Crashes per build" } span.muted.small { "the newest " (BUILDS_MAX) " builds of this period" } }
                    div.body { (builds.markup()) }
                    (builds.table())
                }
                (self.between_failures(&versions))
                (self.versions(&versions))
            }
        }
    }

    fn address(&self, further: &[(&str, &str)]) -> String {
        let mut params = vec![(name::PRODUCT.to_owned(), self.product.clone())];
        let versions = self.filters.versions.iter();
        params.extend(versions.map(|version| (name::VERSION.to_owned(), version.clone())));
        params.push(("days".into(), self.filters.days.to_string()));
        params.extend(
            self.filters
                .system
                .map(|system| (name::PLATFORM.to_owned(), system.to_owned())),
        );
        params.extend(further.iter().map(|(n, v)| ((*n).into(), (*v).into())));
        format!("/trends/?{}", Params(params).to_query())
    }

    fn form(&self) -> Markup {
        let named = self
            .counts
            .0
            .iter()
            .filter(|count| !count.version.is_empty());
        let all: BTreeSet<&str> = named.map(|count| &*count.version).collect();
        let offered = newest_first(all.into_iter(), controls::VERSIONS_MAX);
        html! {
            form.filters action="/trends/" {
                label { "Product" select name=(name::PRODUCT) {
                    @if !self.products.contains(&self.product) { (option(&self.product, &shown(&self.product), true)) }
                    @for product in &self.products { (option(product, &shown(product), *product == self.product)) }
                } }
                label { "Period" select name="days" {
                    @for days in DAYS { (option(&days.to_string(), &format!("{days} days"), days == self.filters.days)) }
                } }
                (controls::systems(self.filters.system))
                (controls::versions(&offered, &self.filters.versions))
                div.act { button.primary type="submit" { "Show" } a.small href="/trends/" { "Clear" } }
            }
        }
    }

    fn per_day(&self, versions: &BTreeMap<&str, Sum>) -> Stack {
        let starts: Vec<Timestamp> = self.range.starts().collect();
        let bar_of = |day: Day| starts.partition_point(|start| *start <= day.start()).max(1) - 1;
        let mut cells: HashMap<(usize, &str), u64> = HashMap::new();
        let mut totals = vec![0; starts.len()];
        for count in self.period() {
            let crashes = self.filters.tally(&count.row).crashes;
            *cells
                .entry((bar_of(count.day), &count.version))
                .or_default() += crashes;
            totals[bar_of(count.day)] += crashes;
        }
        let mut most: Vec<&str> = versions.keys().copied().filter(|v| !v.is_empty()).collect();
        most.sort_by_key(|version| std::cmp::Reverse(versions[version].tally.crashes));
        most.truncate(SERIES_MAX - 1);
        let values = newest_first(most.into_iter(), SERIES_MAX);
        split(Split {
            title: format!("Crashes per {} by version", self.range.each()),
            bar: self.range.bar(),
            bars: self.range.bars(&self.scope()),
            field: name::VERSION,
            values: values.iter().map(|version| (*version, *version)).collect(),
            count: |bar: usize, version: &str| cells.get(&(bar, version)).copied().unwrap_or(0),
            total: |bar: usize| totals[bar],
        })
    }

    fn per_build(&self) -> Stack {
        let sums = self.sums(|count| &count.build);
        let mut builds = newest_first(sums.keys().copied(), BUILDS_MAX);
        builds.reverse();
        let (from, to) = (
            self.from.start(),
            Timestamp::from_ms(self.range.to.ms() + 1),
        );
        let scope = self.scope().between(from, to);
        let bars = builds.iter().map(|build| {
            if build.is_empty() {
                (
                    "no build id".into(),
                    scope.lacking(FieldRef::of(name::BUILD_ID)),
                )
            } else {
                (shown(build).into_owned(), scope.with(name::BUILD_ID, build))
            }
        });
        let row = |bar: usize| &sums[builds[bar]];
        let count = |bar: usize, platform: &str| {
            let system = SYSTEMS.iter().position(|(_, p)| *p == platform);
            system.map_or(0, |at| row(bar).row.of(System::ALL[at]).crashes)
        };
        let systems = SYSTEMS.into_iter();
        let mut stack = split(Split {
            title: "Crashes per build by system, oldest first".into(),
            bar: "Build",
            bars: bars.collect(),
            field: name::PLATFORM,
            values: systems
                .filter(|(_, platform)| (0..builds.len()).any(|bar| count(bar, platform) > 0))
                .collect(),
            count,
            total: |bar: usize| row(bar).tally.crashes,
        });
        for bar in &mut stack.bars {
            bar.tick = build_tick(&bar.label, self.range.to);
        }
        stack
    }

    /// A chart of the newest versions, by days since each was first seen.
    fn between_failures(&self, versions: &BTreeMap<&str, Sum>) -> Markup {
        let timed = versions.iter().filter(|(_, sum)| sum.tally.with_uptime > 0);
        let timed = timed.map(|(version, _)| *version);
        let mut lines: Vec<(String, Vec<Option<f64>>)> = Vec::new();
        for version in newest_first(timed, SERIES_MAX) {
            let of_version = || {
                self.counts
                    .0
                    .iter()
                    .filter(|count| count.version == version)
            };
            let Some(first) = of_version().map(|count| count.day).min() else {
                continue;
            };
            let mut days = vec![Tally::default(); LIFE_DAYS as usize];
            for count in of_version() {
                if let Some(day) = days.get_mut((count.day.0 - first.0) as usize) {
                    day.add(self.filters.tally(&count.row));
                }
            }
            let name = if version.is_empty() {
                "unnamed".to_owned()
            } else {
                version.to_owned()
            };
            lines.push((name, days.iter().map(Tally::mean_uptime_s).collect()));
        }
        let highest = lines.iter().flat_map(|(_, values)| values.iter().flatten());
        let (unit, seconds) = time_unit(highest.copied().fold(0.0, f64::max));
        let lines: Vec<Line> = lines
            .into_iter()
            .map(|(name, values)| Line {
                name,
                values: values
                    .iter()
                    .map(|value| value.map(|s| s / seconds))
                    .collect(),
            })
            .collect();
        // The chart ends with the age of the oldest version.
        let lived = lines
            .iter()
            .filter_map(|line| line.values.iter().rposition(Option::is_some));
        let days = lived.max().map_or(1, |last| last + 1).max(7);
        let chart = Lines {
            title: "Mean time between failures, by days since the version was first seen".into(),
            unit: unit.into(),
            place: "Day",
            places: (0..days).map(|day| day.to_string()).collect(),
            lines: lines
                .into_iter()
                .map(|mut line| {
                    line.values.truncate(days);
                    line
                })
                .collect(),
        };
        html! {
            section.panel {
                header {
                    h2 { "Mean time between failures" }
                    span.muted.small { "total uptime divided by the crashes with a known uptime, in " (unit) }
                }
                @if chart.is_empty() {
                    div.body.muted { "No crash of this period has a known uptime. Clients send it as StartupTime and CrashTime, and most dumps contain it." }
                } @else {
                    div.body { (chart.markup()) }
                    (chart.table())
                }
            }
        }
    }

    fn versions(&self, versions: &BTreeMap<&str, Sum>) -> Markup {
        let total: u64 = versions.values().map(|sum| sum.tally.crashes).sum();
        let (from, to) = (
            self.from.start(),
            Timestamp::from_ms(self.range.to.ms() + 1),
        );
        let scope = self.scope().between(from, to);
        let mut first: HashMap<&str, Day> = HashMap::new();
        for count in &self.counts.0 {
            let day = first.entry(&count.version).or_insert(count.day);
            *day = count.day.min(*day);
        }
        let rows = newest_first(versions.keys().copied(), VERSIONS_MAX);
        html! {
            section.panel {
                header { h2 { "Versions" } span.muted.small { (counted(total, "crash", "crashes")) " in " (self.filters.days) " days" } }
                div.scroll { table {
                    thead { tr {
                        th { "Version" } th { "First seen" } th.num { "Crashes" } th.num { "Share" }
                        th.num title="Total uptime divided by the crashes with a known uptime" { "Time between failures" }
                        @for system in System::ALL { th.num.hide-s { (system.name()) } }
                    } }
                    tbody {
                        @for version in rows {
                            @let sum = &versions[version];
                            @let there = if version.is_empty() { scope.lacking(FieldRef::of(name::VERSION)) } else { scope.without(name::VERSION).with(name::VERSION, version) };
                            tr {
                                td { @if version.is_empty() { span.muted { "unnamed" } } @else { (shown(version)) } }
                                td.nowrap { (day_text(first[version].start(), self.today.start())) }
                                td.num { a href=(there.search()) { (number(sum.tally.crashes)) } }
                                td.num { (share_text(share(sum.tally.crashes, total))) }
                                td.num { @match sum.tally.mean_uptime_s() {
                                    Some(seconds) => (span_text((seconds * 1_000.0) as i64)),
                                    None => span.faint { "–" },
                                } }
                                @for system in System::ALL { td.num.hide-s { (number(sum.row.of(system).crashes)) } }
                            }
                        }
                    }
                } }
            }
        }
    }

    fn csv(&self) -> Result<Response, WebError> {
        let systems = System::ALL.into_iter();
        let asked = systems.filter(|s| self.filters.system.is_none_or(|label| s.name() == label));
        let asked: Vec<System> = asked.collect();
        let rows = self.period().flat_map(|count| {
            asked.iter().filter_map(|system| {
                let tally = count.row.of(*system);
                (tally.crashes > 0).then(|| {
                    [
                        count.day.start().utc().date().to_string(),
                        count.version.clone(),
                        count.build.clone(),
                        system.name().to_owned(),
                        tally.crashes.to_string(),
                        tally.with_uptime.to_string(),
                        tally.uptime_s.to_string(),
                    ]
                })
            })
        });
        let header = [
            "day",
            "version",
            "build_id",
            "system",
            "crashes",
            "with_uptime",
            "uptime_s",
        ];
        table::csv("trends", &header, rows)
    }
}

/// The newest of these versions or builds, newest first.
fn newest_first<'a>(versions: impl Iterator<Item = &'a str>, most: usize) -> Vec<&'a str> {
    let mut versions: Vec<&str> = versions.collect();
    versions.sort_by_cached_key(|version| std::cmp::Reverse(VersionKey::new(version)));
    versions.truncate(most);
    versions
}

/// A readable unit for a time of this many seconds, and the seconds in that unit.
fn time_unit(seconds: f64) -> (&'static str, f64) {
    match seconds {
        _ if seconds >= 2.0 * 86_400.0 => ("days", 86_400.0),
        _ if seconds >= 2.0 * 3_600.0 => ("hours", 3_600.0),
        _ if seconds >= 2.0 * 60.0 => ("minutes", 60.0),
        _ => ("seconds", 1.0),
    }
}

/// The day of a build if its id begins with one, otherwise the end of the id.
fn build_tick(build: &str, now: Timestamp) -> String {
    const KEPT: usize = 8;
    let is_dated = build.len() == 14 && build.bytes().all(|b| b.is_ascii_digit());
    if is_dated {
        let day = format!(
            "{}-{}-{}T00:00:00Z",
            &build[..4],
            &build[4..6],
            &build[6..8]
        );
        if let Some(day) = Timestamp::parse_rfc3339(&day) {
            return day_text(day, now);
        }
    }
    match build.char_indices().nth_back(KEPT - 1) {
        Some((at, _)) if at > 0 => format!("…{}", &build[at..]),
        _ => build.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_are_named_by_their_day() {
        let now = Timestamp::parse_rfc3339("2026-11-22T09:12:44Z").expect("a moment");
        let check = |build: &str, expected: &str| assert_eq!(build_tick(build, now), expected);
        check("20261103093000", "3 Nov");
        check("20251231235959", "31 Dec 2025");
        check("20269903093000", "…03093000");
        check("4711", "4711");
        check("main-ünïcödé", "…-ünïcödé");
    }

    #[test]
    fn times_are_measured_in_the_unit_that_reads_well() {
        let unit = |seconds: f64| time_unit(seconds).0;
        assert_eq!(
            [0.0, 119.0, 120.0, 7_199.0, 7_200.0, 172_800.0].map(unit),
            ["seconds", "seconds", "minutes", "minutes", "hours", "days"]
        );
    }
}
