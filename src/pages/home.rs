//! The home page: crashes per product, and the newest crashes.

use maud::{Markup, html};

use super::parts::daily::{self, CHART_DAYS, Range};
use super::parts::scope::Scope;
use super::{
    Page, ago, counted, number, product_path, report_path, search_for, shown, signature, text_of,
};
use crate::app::App;
use crate::fields::name;
use crate::index::SearchResult;
use crate::query::{Facet, Query};
use crate::store::{State, StoredCrash};
use crate::web::{Captures, Request, Response, WebError};

const NEWEST: usize = 25;
const PRODUCTS: usize = 50;
/// The default number of days of a search.
const DAYS: u64 = 7;

/// Shows the newest crashes and the counts of the last days.
///
/// # Errors
/// 400 if the search exceeds its limits, 503 while the store or the index cannot answer, 500 if the database
/// is damaged.
pub(crate) fn home(app: &App, request: &Request, _: &Captures) -> Result<Response, WebError> {
    let newest = app.store.newest(NEWEST)?;
    let week = week(app, request.sees_protected())?;
    let content = html! {
        div.head {
            h1 { "Crashes" }
            div.chips {
                @match app.store.latched() {
                    None if app.read_only => span.chip.warn { "read-only" },
                    None => span.chip.good { "intake up" },
                    Some(why) => span.chip.bad { "intake down: " (why) },
                }
                span.chip { b { (number(week.total)) } " processed in " (DAYS) " days" }
            }
        }
        @if newest.is_empty() { (first_steps(request)) } @else {
            div.cols {
                div.stackup { (per_day(app, request, &week)?) (newest_crashes(app, &newest)) }
                div.stackup { (products(&week)) (signatures(&week)) }
            }
        }
    };
    Ok(Response::html(Page::new("Crashes", "/").render(content)))
}

/// Counts for the last seven days.
fn week(app: &App, may_see_protected: bool) -> Result<SearchResult, WebError> {
    let query = Query::of([], None, app.clock.now(), may_see_protected)?
        .count_within(Facet::terms(name::PRODUCT), Facet::terms(name::VERSION))
        .count(Facet::terms(name::SIGNATURE))
        .values(PRODUCTS);
    Ok(app.index.search(&query)?)
}

/// Crashes per day: by version if there is only one product, otherwise by product.
fn per_day(app: &App, request: &Request, week: &SearchResult) -> Result<Markup, WebError> {
    let by = match week.facets.terms(name::PRODUCT).len() {
        1 => name::VERSION,
        _ => name::PRODUCT,
    };
    let range = Range::days(CHART_DAYS, app.clock.now());
    let chart = daily::chart(app, request, &Scope::default(), range, by)?;
    Ok(html! {
        @if !chart.is_empty() {
            section.panel {
                header {
                    h2 { "Crashes per day" }
                    span.muted.small { "last " (CHART_DAYS) " days, in UTC" }
                    span.act { a href="/topcrashers/" { "top crashers" } }
                }
                div.body { (chart.markup()) }
                (chart.table())
            }
        }
    })
}

/// Instructions for a server without any crash.
pub(super) fn first_steps(request: &Request) -> Markup {
    let host = shown(request.header("host").unwrap_or("127.0.0.1:8000")).into_owned();
    html! {
        section.panel {
            header { h2 { "No crashes yet" } }
            div.empty {
                p { "Send one with any client, or with curl:" }
                pre { "curl -F upload_file_minidump=@some.dmp -F ProductName=MyApp -F Version=1.0 " "http:" "//" (host) "/submit" }
                p { "The response contains the crash id. The crash appears here at once and is processed within about two seconds." }
            }
        }
    }
}

fn newest_crashes(app: &App, newest: &[StoredCrash]) -> Markup {
    let now = app.clock.now();
    html! {
        section.panel {
            header {
                h2 { "Newest crashes" }
                span.act { a href="/search/" { "all" } }
            }
            div.scroll {
                table {
                    thead { tr { th { "Received" } th { "Signature" } th { "Product" } } }
                    tbody {
                        @for row in newest {
                            tr {
                                td.nowrap { a href=(report_path(row.id)) { (ago(row.received_at(), now)) } }
                                td {
                                    @match &row.processed {
                                        Some(processed) => a.sig href=(report_path(row.id)) { (signature(&processed.signature)) },
                                        None => a.muted href=(report_path(row.id)) { (row.state.name()) },
                                    }
                                    @if row.processed.is_some() && row.state != State::Processed { span.marks { span.hot { (row.state.name()) } } }
                                }
                                td { (shown(if row.product.is_empty() { "unnamed" } else { &row.product })) " " span.muted { (shown(&row.version)) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn products(week: &SearchResult) -> Markup {
    html! {
        section.panel {
            header { h2 { "Products" } span.muted.small { "crashes in " (DAYS) " days" } }
            @let products = week.facets.terms(name::PRODUCT);
            @if products.is_empty() { div.body.muted { "No processed crash has a product name yet." } }
            table {
                tbody {
                    @for product in products {
                        @let product_name = text_of(&product.term);
                        tr {
                            td {
                                a href=(product_path(&product_name)) { b { (shown(&product_name)) } }
                                div.small.muted {
                                    @for (at, version) in product.facets.terms(name::VERSION).iter().take(4).enumerate() {
                                        @if at > 0 { ", " }
                                        (shown(&text_of(&version.term))) " (" (number(version.count)) ")"
                                    }
                                }
                            }
                            td.num { a href=(search_for(name::PRODUCT, &product_name)) { (counted(product.count, "crash", "crashes")) } }
                        }
                    }
                }
            }
        }
    }
}

fn signatures(week: &SearchResult) -> Markup {
    let top = week.facets.terms(name::SIGNATURE);
    html! {
        @if !top.is_empty() {
            section.panel {
                header { h2 { "Most frequent" } span.muted.small { "in " (DAYS) " days" } }
                table {
                    tbody {
                        @for bucket in top.iter().take(10) {
                            @let text = text_of(&bucket.term);
                            tr {
                                td { a.sig href=(Scope::default().signature_page(&text)) { (signature(&text)) } }
                                td.num { a href=(search_for(name::SIGNATURE, &text)) { (number(bucket.count)) } }
                            }
                        }
                    }
                }
            }
        }
    }
}
