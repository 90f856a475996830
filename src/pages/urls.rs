//! The URLs that were open when a product crashed, and their domains. Both are protected.

use maud::{Markup, html};

use super::parts::controls::{one_of, option, refused};
use super::parts::ranking::{share, share_text};
use super::parts::scope::Scope;
use super::{Page, bar, counted, number, shown, signature, text_of};
use crate::api::table;
use crate::app::App;
use crate::clock::{DAY_MS, Timestamp};
use crate::fields::name;
use crate::index::{FacetBucket, SearchResult};
use crate::query::Facet;
use crate::web::{Captures, Params, Request, Response, WebError};

const DAYS: [u32; 5] = [1, 3, 7, 14, 28];
const DAYS_DEFAULT: u32 = 7;
/// Rows of the table.
const SIZE: usize = 500;
/// A URL with fewer crashes may identify a user, and says nothing about the page.
const CRASHES_MIN: u64 = 2;
const KINDS: [(&str, &str); 2] = [("page", name::URL_PAGE), ("domain", name::URL_DOMAIN)];

/// Shows the URLs or domains with the most crashes, or returns them as a file.
///
/// # Errors
/// 400 if a parameter is invalid or the search exceeds its limits, 503 while the store or the index cannot
/// answer, 500 if stored data is damaged.
pub(crate) fn urls(app: &App, request: &Request, _: &Captures) -> Result<Response, WebError> {
    let params = &request.query;
    let days = one_of(params, "days", &DAYS)?.unwrap_or(DAYS_DEFAULT);
    let by = params.get("by").unwrap_or(KINDS[0].0);
    let Some((by, field)) = KINDS.into_iter().find(|(kind, _)| *kind == by) else {
        return Err(refused("by", by, &KINDS.map(|(kind, _)| kind)));
    };
    let (products, _) = app.store.counted_products()?;
    let product = params.get(name::PRODUCT).map(str::to_owned);
    let to = app.clock.now();
    let from = Timestamp::from_ms(to.ms() - i64::from(days) * DAY_MS);
    let scope = Scope::default().between(from, to);
    let scope = match &product {
        Some(product) => scope.with(name::PRODUCT, product),
        None => scope,
    };
    let query = scope
        .query(app, request)?
        .count_within(Facet::terms(field), Facet::terms(name::SIGNATURE))
        .count_within(Facet::terms(field), Facet::distinct(name::SIGNATURE))
        .values(SIZE);
    let found = app.index.search(&query)?;
    let view = View {
        product,
        products,
        days,
        by,
        field,
        scope,
        found,
    };
    match params.get("format") {
        None => Ok(Response::html(
            Page::new("URLs and domains", "/trends/").render(view.markup()),
        )),
        Some("csv") => view.csv(),
        Some(other) => Err(refused("format", other, &["csv"])),
    }
}

struct View {
    product: Option<String>,
    products: Vec<String>,
    days: u32,
    by: &'static str,
    field: &'static str,
    scope: Scope,
    found: SearchResult,
}

impl View {
    fn rows(&self) -> impl Iterator<Item = &FacetBucket> {
        let rows = self.found.facets.terms(self.field).iter();
        rows.filter(|bucket| bucket.count >= CRASHES_MIN)
    }

    fn address(&self, by: &str, further: &[(&str, &str)]) -> String {
        let mut params = vec![("by".to_owned(), by.to_owned())];
        params.extend(
            self.product
                .iter()
                .map(|product| (name::PRODUCT.to_owned(), product.clone())),
        );
        params.push(("days".into(), self.days.to_string()));
        params.extend(further.iter().map(|(n, v)| ((*n).into(), (*v).into())));
        format!("/trends/urls/?{}", Params(params).to_query())
    }

    fn markup(&self) -> Markup {
        html! {
            div.head {
                div.crumbs {
                    a href="/" { "Home" } " / "
                    @if let Some(product) = &self.product { a href=(super::product_path(product)) { (shown(product)) } " / " }
                    a href="/trends/" { "trends" } " / pages"
                }
                h1 { "Crashes by " (self.by) @if let Some(product) = &self.product { " of " (shown(product)) } }
                div.chips {
                    @for (kind, _) in KINDS {
                        span.chip { @if kind == self.by { b { "by " (kind) } } @else { a href=(self.address(kind, &[])) { "by " (kind) } } }
                    }
                    span.chip { a href=(self.address(self.by, &[("format", "csv")])) { "CSV" } }
                    span.chip.warn { "protected" }
                }
                p.plain.muted.small { "URLs are cut before ? and #. URLs of only one crash are not shown." }
            }
            section.panel { div.body { form.filters action="/trends/urls/" {
                input type="hidden" name="by" value=(self.by);
                label { "Product" select name=(name::PRODUCT) {
                    (option("", "any", self.product.is_none()))
                    @if let Some(product) = self.product.as_ref().filter(|p| !self.products.contains(p)) { (option(product, &shown(product), true)) }
                    @for product in &self.products { (option(product, &shown(product), Some(product) == self.product.as_ref())) }
                } }
                label { "Period" select name="days" {
                    @for days in DAYS { (option(&days.to_string(), &(if days == 1 { "1 day".to_owned() } else { format!("{days} days") }), days == self.days)) }
                } }
                div.act { button.primary type="submit" { "Show" } }
            } } }
            section.panel {
                @if self.rows().next().is_none() {
                    div.empty { p { "No " (self.by) " has " (CRASHES_MIN) " or more crashes. Clients send the URL in the annotation " code { "URL" } "." } }
                } @else { (self.table()) }
            }
        }
    }

    fn table(&self) -> Markup {
        html! {
            div.scroll { table.top {
                thead { tr { th.num { "#" } th { (self.by) } th.num { "Crashes" } th.num.hide-s { "Share" } th.num { "Signatures" } th.hide-s { "Most frequent" } } }
                tbody {
                    @for (at, bucket) in self.rows().enumerate() {
                        @let value = text_of(&bucket.term);
                        @let scope = self.scope.with(self.field, &value);
                        tr {
                            td.num { (at + 1) }
                            td { span.sig { (shown(&value)) } }
                            td.num { a href=(scope.search()) { (number(bucket.count)) } }
                            td.num.hide-s { (share_text(share(bucket.count, self.found.total))) " " (bar(bucket.count, self.found.total)) }
                            td.num { a href={ (scope.search()) "&_facets=" (name::SIGNATURE) } { (counted(bucket.facets.distinct(name::SIGNATURE), "signature", "signatures")) } }
                            td.hide-s { @if let Some(first) = bucket.facets.terms(name::SIGNATURE).first() {
                                @let text = text_of(&first.term);
                                a.sig href=(scope.signature_page(&text)) { (signature(&text)) }
                            } }
                        }
                    }
                }
            } }
        }
    }

    fn csv(&self) -> Result<Response, WebError> {
        let rows = self.rows().map(|bucket| {
            let first = bucket.facets.terms(name::SIGNATURE).first();
            [
                text_of(&bucket.term),
                bucket.count.to_string(),
                bucket.facets.distinct(name::SIGNATURE).to_string(),
                first.map_or_else(String::new, |first| text_of(&first.term)),
            ]
        });
        table::csv(
            "urls",
            &[self.by, "crashes", "signatures", "most_frequent_signature"],
            rows,
        )
    }
}
