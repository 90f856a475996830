//! Top crashers: the signatures with the most crashes, compared with the equal period before. `ranking` has
//! the formulas.

use std::collections::HashMap;

use maud::{Markup, html};

use super::bugs;
use super::home::first_steps;
use super::parts::controls::{
    self, OTHER, on_system, one_of, option, refused, system, word, words,
};
use super::parts::ranking::{
    self, Movement, Row, SYSTEMS, StartUp, difference_text, share, share_text,
};
use super::parts::scope::Scope;
use super::{Page, bar, counted, day_text, number, shown, signature, text_of};
use crate::api::table;
use crate::app::App;
use crate::clock::{DAY_MS, Timestamp};
use crate::fields::name;
use crate::fields::version::VersionKey;
use crate::index::SearchResult;
use crate::query::{Facet, FieldRef};
use crate::store::bugs::Association;
use crate::web::{Captures, Params, Request, Response, WebError};

const DAYS: [u32; 5] = [1, 3, 7, 14, 28];
const DAYS_DEFAULT: u32 = 7;
const SIZES: [u32; 4] = [50, 100, 200, 300];
const PROCESS_TYPES: [&str; 9] = [
    "parent",
    "content",
    "gpu",
    "plugin",
    "rdd",
    "socket",
    "utility",
    "renderer",
    "gpu-process",
];
/// The end of the period.
const MODES: [(&str, &str); 2] = [("realtime", "now"), ("byday", "last midnight")];
/// What the period selects.
const RANGES: [(&str, &str); 2] = [("report", "reports"), ("build", "builds")];
const ANY: &str = "any";
const REPORT_TYPES: [(&str, &str); 3] = [("crash", "crashes"), ("hang", "hangs"), (ANY, "any")];
/// Which crashes are ranked, by their verdict.
const VERDICTS: [(&str, &str); 2] = [("any", "all"), ("none", "bugs of the program")];
const FORMATS: [&str; 1] = ["csv"];
/// Days whose products and versions the form offers.
const OFFER_DAYS: i64 = 28;
/// Limit of products, and of versions per product, that are read for the choice.
const OFFER_VALUES: usize = 100;

/// Shows the top crashers of a product, or returns them as a file.
///
/// # Errors
/// 400 if a parameter is invalid or the search exceeds its limits, 503 while the store or the index cannot
/// answer, 500 if stored data is damaged.
pub(crate) fn topcrashers(
    app: &App,
    request: &Request,
    _: &Captures,
) -> Result<Response, WebError> {
    let filters = Filters::parse(&request.query)?;
    let now = app.clock.now();
    let offered = offered(app, request, now)?;
    let product = match filters
        .product
        .clone()
        .or(offered.first().map(Product::name))
    {
        Some(product) => product,
        None => {
            let content = html! { div.head { h1 { "Top crashers" } } (first_steps(request)) };
            return Ok(page("Top crashers", content));
        }
    };
    let view = View::load(app, request, filters, product, offered, now)?;
    if let Some(format) = request.query.get("format") {
        return if FORMATS.contains(&format) {
            view.csv()
        } else {
            Err(refused("format", format, &FORMATS))
        };
    }
    Ok(page(&view.title(), view.markup()))
}

fn page(title: &str, content: Markup) -> Response {
    Response::html(Page::new(title, "/topcrashers/").render(content))
}

/// The parameters in the URL.
#[derive(Debug, PartialEq)]
struct Filters {
    product: Option<String>,
    versions: Vec<String>,
    days: u32,
    /// One of [`MODES`].
    mode: &'static str,
    /// One of [`RANGES`].
    range: &'static str,
    /// One of [`REPORT_TYPES`].
    report_type: &'static str,
    /// The usual name of a system, or [`OTHER`].
    system: Option<&'static str>,
    process_type: Option<&'static str>,
    /// One of [`VERDICTS`].
    verdict: &'static str,
    size: u32,
}

impl Filters {
    fn parse(params: &Params) -> Result<Self, WebError> {
        let versions = params.all(name::VERSION).filter(|v| !v.is_empty());
        Ok(Self {
            product: params.get(name::PRODUCT).map(str::to_owned),
            versions: versions.map(str::to_owned).collect(),
            days: one_of(params, "days", &DAYS)?.unwrap_or(DAYS_DEFAULT),
            mode: word(params, "_tcbs_mode", &MODES)?,
            range: word(params, "_range_type", &RANGES)?,
            report_type: word(params, "_report_type", &REPORT_TYPES)?,
            system: system(params)?,
            process_type: process_type(params)?,
            verdict: word(params, "_verdict", &VERDICTS)?,
            size: one_of(params, "_facets_size", &SIZES)?.unwrap_or(SIZES[0]),
        })
    }

    /// The crashes to rank, without a range of dates.
    fn scope(&self, product: &str) -> Scope {
        let mut scope = Scope::default().with(name::PRODUCT, product);
        for version in &self.versions {
            scope = scope.with(name::VERSION, version);
        }
        if let Some(system) = self.system {
            scope = on_system(&scope, system);
        }
        if self.report_type != ANY {
            scope = scope.with(name::REPORT_TYPE, self.report_type);
        }
        if self.verdict == "none" {
            scope = scope.lacking(FieldRef::of(name::VERDICT));
        }
        match self.process_type {
            Some(OTHER) => PROCESS_TYPES.iter().fold(scope, |scope, known| {
                scope.except(name::PROCESS_TYPE, known)
            }),
            Some(process_type) => scope.with(name::PROCESS_TYPE, process_type),
            None => scope,
        }
    }
}

/// Two equal periods. The later one is ranked.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Periods {
    before: Timestamp,
    from: Timestamp,
    to: Timestamp,
    /// The time until which crashes can exist.
    now: Timestamp,
}

impl Periods {
    fn new(filters: &Filters, now: Timestamp) -> Self {
        let to = match filters.mode {
            "byday" => now.day().start(),
            _ => now,
        };
        let length = i64::from(filters.days) * DAY_MS;
        Self {
            before: Timestamp::from_ms(to.ms() - 2 * length),
            from: Timestamp::from_ms(to.ms() - length),
            to,
            now,
        }
    }

    /// The crashes of the later period, and those of the period before.
    fn scopes(&self, filters: &Filters, timeless: &Scope) -> (Scope, Scope) {
        match filters.range {
            "build" => (
                self.built(timeless, self.from, self.to),
                self.built(timeless, self.before, self.from),
            ),
            _ => (
                timeless.between(self.from, self.to),
                timeless.between(self.before, self.from),
            ),
        }
    }

    /// Crashes of builds from this period. No crash is older than its build.
    fn built(&self, scope: &Scope, from: Timestamp, to: Timestamp) -> Scope {
        scope
            .at_least(name::BUILD_ID, build_id(from))
            .below(name::BUILD_ID, build_id(to))
            .between(from, self.now)
    }
}

/// The build id of a build at this time.
fn build_id(at: Timestamp) -> String {
    let text = at.rfc3339();
    text.chars().filter(char::is_ascii_digit).take(14).collect()
}

fn process_type(params: &Params) -> Result<Option<&'static str>, WebError> {
    let accepted = || PROCESS_TYPES.iter().chain([&OTHER]).copied();
    match params.get(name::PROCESS_TYPE) {
        None | Some("any") => Ok(None),
        Some(text) => match accepted().find(|known| *known == text) {
            Some(known) => Ok(Some(known)),
            None => {
                let accepted: Vec<&str> = ["any"].into_iter().chain(accepted()).collect();
                Err(refused(name::PROCESS_TYPE, text, &accepted))
            }
        },
    }
}

/// A product with recent crashes, and its versions.
struct Product {
    name: String,
    versions: Vec<String>,
}

impl Product {
    fn name(&self) -> String {
        self.name.clone()
    }
}

/// Products by number of crashes, most first.
fn offered(app: &App, request: &Request, now: Timestamp) -> Result<Vec<Product>, WebError> {
    let from = Timestamp::from_ms(now.ms() - OFFER_DAYS * DAY_MS);
    let query = Scope::default()
        .between(from, now)
        .query(app, request)?
        .count_within(Facet::terms(name::PRODUCT), Facet::terms(name::VERSION))
        .values(OFFER_VALUES);
    let found = app.index.search(&query)?;
    let products = found.facets.terms(name::PRODUCT).iter();
    Ok(products
        .map(|product| {
            let versions = product.facets.terms(name::VERSION).iter();
            let mut versions: Vec<String> = versions
                .take(controls::VERSIONS_MAX)
                .map(|version| text_of(&version.term))
                .collect();
            versions.sort_by_cached_key(|version| std::cmp::Reverse(VersionKey::new(version)));
            Product {
                name: text_of(&product.term),
                versions,
            }
        })
        .collect())
}

struct View {
    params: Params,
    filters: Filters,
    product: String,
    offered: Vec<Product>,
    /// The crashes that are ranked.
    scope: Scope,
    scope_before: Scope,
    periods: Periods,
    total: u64,
    total_before: u64,
    rows: Vec<Row>,
    first_seen: HashMap<String, Timestamp>,
    bugs: HashMap<String, Vec<Association>>,
}

impl View {
    fn load(
        app: &App,
        request: &Request,
        filters: Filters,
        product: String,
        offered: Vec<Product>,
        now: Timestamp,
    ) -> Result<Self, WebError> {
        let periods = Periods::new(&filters, now);
        let (scope, scope_before) = periods.scopes(&filters, &filters.scope(&product));
        let found = signatures(&scope, app, request, filters.size)?;
        let by_signature = |scope: &Scope| -> Result<SearchResult, WebError> {
            let query = scope
                .query(app, request)?
                .count(Facet::terms(name::SIGNATURE));
            Ok(app.index.search(&query)?)
        };
        let before = by_signature(&scope_before)?;
        let early = by_signature(&soon_after_start(&scope))?;
        let rows = ranking::rank(&found, &before, early.facets.terms(name::SIGNATURE));
        let names: Vec<String> = rows.iter().map(|row| row.signature.clone()).collect();
        let first_seen = app.store.first_seen(&names)?;
        let bugs = bugs::of_groups(app, &names)?;
        Ok(Self {
            params: request.query.clone(),
            filters,
            product,
            offered,
            scope,
            scope_before,
            periods,
            total: found.total,
            total_before: before.total,
            rows,
            first_seen,
            bugs,
        })
    }

    fn title(&self) -> String {
        if self.filters.versions.is_empty() {
            format!("Top crashers of {}", self.product)
        } else {
            format!(
                "Top crashers of {} {}",
                self.product,
                self.filters.versions.join(", ")
            )
        }
    }

    fn markup(&self) -> Markup {
        html! {
            div.head {
                div.crumbs { a href="/" { "Home" } " / " a href=(super::product_path(&self.product)) { (shown(&self.product)) } " / top crashers" }
                h1 { (shown(&self.title())) }
                (self.summary())
            }
            section.panel { div.body { (self.form()) } }
            section.panel {
                header { h2 { "Signatures" } span.act { (self.csv_link()) } }
                (self.table())
            }
        }
    }

    fn summary(&self) -> Markup {
        let listed: u64 = self.rows.iter().map(|row| row.count).sum();
        let days = self.filters.days;
        let Periods { from, to, .. } = self.periods;
        html! {
            p.plain {
                "Top " b { (self.rows.len()) } " crashing " (if self.rows.len() == 1 { "signature" } else { "signatures" }) ", "
                b { (counted(listed, "crash", "crashes")) } ", "
                b { (share_text(share(listed, self.total))) } " of all "
                a href=(self.scope.search()) { (number(self.total)) } "."
            }
            p.plain.muted.small {
                @if self.filters.range == "build" { "Of builds from " } @else { "Received from " }
                (from) " to " (to) ". The columns Moved and Change compare with the "
                @if days == 1 { "day" } @else { (days) " days" } " before, which had "
                a href=(self.scope_before.search()) { (counted(self.total_before, "crash", "crashes")) } "."
            }
            @let others: Vec<&Product> = self.offered.iter().filter(|p| p.name != self.product).collect();
            @if !others.is_empty() {
                p.plain.small.row-of-links {
                    span.muted { "Other products: " }
                    @for (at, other) in others.iter().enumerate() {
                        @if at > 0 { " · " }
                        a href={ "/topcrashers/?" (Params(vec![(name::PRODUCT.into(), other.name())]).to_query()) } { (shown(&other.name)) }
                    }
                }
            }
        }
    }

    fn form(&self) -> Markup {
        let here = self.offered.iter().find(|p| p.name == self.product);
        let versions: Vec<&str> = here.map_or(Vec::new(), |p| {
            p.versions.iter().map(String::as_str).collect()
        });
        let filters = &self.filters;
        html! {
            form.filters action="/topcrashers/" {
                label { "Product" select name=(name::PRODUCT) {
                    @if here.is_none() { (option(&self.product, &shown(&self.product), true)) }
                    @for product in &self.offered { (option(&product.name, &shown(&product.name), product.name == self.product)) }
                } }
                label { "Period" select name="days" {
                    @for days in DAYS {
                        @let text = if days == 1 { "1 day".to_owned() } else { format!("{days} days") };
                        (option(&days.to_string(), &text, days == filters.days))
                    }
                } }
                (words("Until", "_tcbs_mode", &MODES, filters.mode))
                (words("Dates of", "_range_type", &RANGES, filters.range))
                (controls::systems(filters.system))
                (words("Type", "_report_type", &REPORT_TYPES, filters.report_type))
                label { "Process" select name=(name::PROCESS_TYPE) {
                    (option("", "any", filters.process_type.is_none()))
                    @for kind in PROCESS_TYPES.iter().chain([&OTHER]) {
                        (option(kind, kind, filters.process_type == Some(*kind)))
                    }
                } }
                label title="Leaves out crashes that a driver, another program, faulty hardware or a broken machine caused" {
                    "Crashes" select name="_verdict" {
                        @for (word, text) in VERDICTS { (option(word, text, word == filters.verdict)) }
                    }
                }
                label { "Signatures" select name="_facets_size" {
                    @for size in SIZES { (option(&size.to_string(), &size.to_string(), size == filters.size)) }
                } }
                (controls::versions(&versions, &filters.versions))
                div.act { button.primary type="submit" { "Show" } a.small href="/topcrashers/" { "Clear" } }
            }
        }
    }

    fn csv(&self) -> Result<Response, WebError> {
        let header = [
            "rank",
            "moved",
            "signature",
            "crashes",
            "share_percent",
            "change_points",
            "windows",
            "macos",
            "linux",
            "other",
            "installs",
            "startup_crashes",
            "first_seen",
        ];
        let rows = self.rows.iter().map(|row| {
            let moved = match row.movement {
                Movement::New => "new".to_owned(),
                Movement::By(places) => places.to_string(),
            };
            let first = self.first_seen.get(&row.signature);
            let [windows, mac, linux, other] = row.systems.map(|n| n.to_string());
            [
                row.rank.to_string(),
                moved,
                row.signature.clone(),
                row.count.to_string(),
                format!("{:.2}", row.share),
                row.difference
                    .map_or_else(String::new, |points| format!("{points:.2}")),
                windows,
                mac,
                linux,
                other,
                row.installs.to_string(),
                row.startup_crashes.to_string(),
                first.map_or_else(String::new, |at| at.day().start().utc().date().to_string()),
            ]
        });
        table::csv("topcrashers", &header, rows)
    }

    /// A link to the table as a CSV file.
    fn csv_link(&self) -> Markup {
        let mut params = self.params.clone();
        params
            .0
            .retain(|(name, value)| name != "format" && !value.is_empty());
        if params.get(name::PRODUCT).is_none() {
            params.0.push((name::PRODUCT.into(), self.product.clone()));
        }
        params.0.push(("format".into(), "csv".into()));
        html! { a href={ "/topcrashers/?" (params.to_query()) } { "CSV" } }
    }

    fn table(&self) -> Markup {
        if self.rows.is_empty() {
            return html! {
                div.empty {
                    p { "No crashes of " b { (shown(&self.product)) } " match these filters. Choose a longer period, or remove a filter." }
                    p { a href={ "/topcrashers/?" (Params(vec![(name::PRODUCT.into(), self.product.clone()), ("days".into(), "28".into())]).to_query()) } { "All crashes of this product in 28 days" } }
                }
            };
        }
        html! {
            div.scroll {
                table.top {
                    thead { tr {
                        th.num { "#" }
                        th.num.hide-s title="Change of rank since the period before, shown from 5 places on" { "Moved" }
                        th { "Signature" }
                        @match self.filters.system {
                            Some(system) => th.num { "On " (if system == OTHER { "other systems" } else { system }) },
                            None => th.num { "Crashes" },
                        }
                        th.num title="Share of all crashes that match the filters" { "Share" }
                        th.num.hide-s title="Percentage points since the period before" { "Change" }
                        @if self.filters.system.is_none() {
                            @for (label, _) in SYSTEMS { th.num.hide-s { (label) } }
                            th.num.hide-s { "Other" }
                        }
                        th.num.hide-s title="Number of different installation times" { "Installs" }
                        th.num.hide-s title="First day with this signature in any product" { "First seen" }
                        th title="Newest first; resolved bugs are crossed out" { "Bugs" }
                    } }
                    tbody { @for row in &self.rows { (self.row(row)) } }
                }
            }
        }
    }

    fn row(&self, row: &Row) -> Markup {
        let scope = self.scope.with(name::SIGNATURE, &row.signature);
        let page = self.scope.signature_page(&row.signature);
        html! {
            tr {
                td.num { (row.rank) }
                td.num.hide-s { @if row.movement.is_notable() { (movement(row.movement)) } @else { span.faint { "–" } } }
                td { a.sig href=(page) { (signature(&row.signature)) } " " (marks(row, &scope)) }
                td.num { a href=(scope.search()) { (number(row.count)) } }
                td.num { (share_text(row.share)) " " span.hide-s { (bar(row.count, self.total)) } }
                td.num.hide-s {
                    @match row.difference {
                        Some(points) => (difference_text(points)),
                        None => span.faint { "–" },
                    }
                }
                @if self.filters.system.is_none() {
                    @let systems = SYSTEMS.iter().map(|(label, _)| *label).chain([OTHER]);
                    @for (system, count) in systems.zip(row.systems) {
                        td.num.hide-s {
                            @if count == 0 { span.faint { "0" } }
                            @else { a href=(on_system(&scope, system).search()) { (number(count)) } }
                        }
                    }
                }
                td.num.hide-s { a href={ (page) "&by=" (name::INSTALLATION) "#by" } { (number(row.installs)) } }
                td.num.hide-s {
                    @if let Some(at) = self.first_seen.get(&row.signature) {
                        @let day = at.day().start();
                        @let that_day = Scope::default()
                            .with(name::SIGNATURE, &row.signature)
                            .between(day, Timestamp::from_ms(day.ms() + DAY_MS));
                        a href=(that_day.search()) { (day_text(day, self.periods.now)) }
                    }
                }
                td.bugs { @if let Some(bugs) = self.bugs.get(&row.signature) { (bugs::ids(bugs, &page)) } }
            }
        }
    }
}

pub(super) fn movement(movement: Movement) -> Markup {
    html! {
        @match movement {
            Movement::New => span.new title="Not in the period before" { "new" },
            Movement::By(0) => span.faint { "–" },
            Movement::By(places @ 1..) => span.up { "↑ " (places) },
            Movement::By(places) => span.down { "↓ " (places.abs()) },
        }
    }
}

/// Special properties of a signature's crashes, each with a link to the search that counts it.
fn marks(row: &Row, scope: &Scope) -> Markup {
    let startup = scope.is_true(name::STARTUP_CRASH).search();
    html! {
        span.marks {
            @match row.start_up() {
                StartUp::All => { a.hot href=(startup) { "all at startup" } " " }
                StartUp::Some => { a.warn href=(startup) { (number(row.startup_crashes)) " at startup" } " " }
                StartUp::Never => {},
            }
            @if row.is_soon_after_start() {
                a href=(soon_after_start(scope).search()) title={ (number(row.early_crashes)) " of " (number(row.count)) " in the first minute" } { "early crash" }
                " "
            }
            @if let Some((verdict, count)) = &row.verdict {
                a href=(scope.with(name::VERDICT, verdict).search()) title="Probably not a bug of the program" {
                    @if *count < row.count { (share_text(share(*count, row.count))) " " } (verdict)
                }
                " "
            }
            @if row.gc_crashes > 0 {
                a href=(scope.is_true(name::IS_GARBAGE_COLLECTING).search()) { (share_text(share(row.gc_crashes, row.count))) " in garbage collection" }
            }
        }
    }
}

/// The signatures of a period, with the counts that the table shows.
fn signatures(
    scope: &Scope,
    app: &App,
    request: &Request,
    size: u32,
) -> Result<SearchResult, WebError> {
    let inside = [
        Facet::terms(name::PLATFORM),
        Facet::terms(name::STARTUP_CRASH),
        Facet::terms(name::IS_GARBAGE_COLLECTING),
        Facet::terms(name::VERDICT),
        Facet::distinct(name::INSTALLATION),
    ];
    let query = scope.query(app, request)?.values(size as usize);
    let query = inside.into_iter().fold(query, |query, facet| {
        query.count_within(Facet::terms(name::SIGNATURE), facet)
    });
    Ok(app.index.search(&query)?)
}

/// The crashes in the first minute.
fn soon_after_start(scope: &Scope) -> Scope {
    scope.below(name::UPTIME, 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(query: &str) -> Result<Filters, WebError> {
        Filters::parse(&Params::parse(query))
    }

    #[test]
    fn an_address_without_filters_means_a_week_of_everything() {
        let expected = Filters {
            product: None,
            versions: Vec::new(),
            days: 7,
            mode: "realtime",
            range: "report",
            report_type: "crash",
            system: None,
            process_type: None,
            verdict: "any",
            size: 50,
        };
        assert_eq!(filters("").expect("good"), expected);
        let empty = "product=&version=&days=&platform=&process_type=&_facets_size=&_tcbs_mode=";
        assert_eq!(filters(empty).expect("good"), expected);
    }

    #[test]
    fn values_that_are_not_offered_are_refused_with_those_that_are() {
        fn check(query: &str, field: &str, accepted: &str) {
            let error = filters(query).expect_err(query);
            assert_eq!((error.status, error.field.as_deref()), (400, Some(field)));
            assert!(error.message.ends_with(accepted), "{}", error.message);
        }
        check("days=5", "days", "accepted: 1, 3, 7, 14, 28");
        check("days=+7", "days", "1, 3, 7, 14, 28");
        check("_facets_size=51", "_facets_size", "50, 100, 200, 300");
        check(
            "platform=BeOS",
            "platform",
            "Windows, Windows NT, macOS, Mac OS X, Linux, other",
        );
        check("process_type=thread", "process_type", "gpu-process, other");
        check("_tcbs_mode=x", "_tcbs_mode", "realtime, byday");
        check("_range_type=x", "_range_type", "report, build");
        check("_report_type=x", "_report_type", "crash, hang, any");
        check("_verdict=x", "_verdict", "any, none");
    }

    #[test]
    fn filters_become_conditions_of_a_search() {
        fn check(query: &str, expected: &str) {
            let scope = filters(query).expect(query).scope("A");
            assert_eq!(scope.search(), format!("/search/?product=A{expected}"));
        }
        check("", "&report_type=crash");
        check("_report_type=any", "");
        check(
            "_report_type=any&version=1.0&version=2.0",
            "&version=1.0&version=2.0",
        );
        check("_report_type=any&platform=Windows", "&platform=Windows+NT");
        check("_report_type=any&platform=Mac+OS+X", "&platform=Mac+OS+X");
        check(
            "_report_type=any&platform=other",
            "&platform=%21Windows+NT&platform=%21Mac+OS+X&platform=%21Linux",
        );
        check("_report_type=any&_verdict=none", "&verdict=__null__");
        check(
            "_report_type=any&process_type=content",
            "&process_type=content",
        );
    }

    #[test]
    fn periods_end_now_or_at_midnight_and_hold_reports_or_builds() {
        let now = Timestamp::parse_rfc3339("2026-11-22T09:12:44Z").expect("a moment");
        let scopes = |query: &str| {
            let filters = filters(query).expect(query);
            let (scope, before) = Periods::new(&filters, now).scopes(&filters, &Scope::default());
            [scope, before].map(|scope| {
                let query = scope.search().replace("%3A", ":").replace("%3E", ">");
                query.replace("%3D", "=").replace("%3C", "<")
            })
        };
        assert_eq!(
            scopes("days=1&_tcbs_mode=byday"),
            [
                "/search/?date=>=2026-11-21T00:00:00Z&date=<2026-11-22T00:00:00Z",
                "/search/?date=>=2026-11-20T00:00:00Z&date=<2026-11-21T00:00:00Z"
            ]
        );
        assert_eq!(
            scopes("days=3&_range_type=build"),
            [
                "/search/?build_id=>=20261119091244&build_id=<20261122091244&date=>=2026-11-19T09:12:44Z&date=<2026-11-22T09:12:44Z",
                "/search/?build_id=>=20261116091244&build_id=<20261119091244&date=>=2026-11-16T09:12:44Z&date=<2026-11-22T09:12:44Z"
            ]
        );
    }
}
