//! The top of the page: signature, state, the main facts as chips, the button to reprocess.

use maud::{Markup, html};

use super::view::View;
use crate::app::App;
use crate::crash::walk::Walk;
use crate::pages::parts::scope::Scope;
use crate::pages::{ago, product_path, report_path, shown, signature};
use crate::store::{State, StoredCrash};

pub(super) fn head(app: &App, view: &View) -> Markup {
    let row = &view.row;
    let text = |key: &str| view.processed.as_ref().and_then(|p| p.text(key));
    let product = if row.product.is_empty() {
        "unnamed product"
    } else {
        &row.product
    };
    html! {
        div.head {
            div.crumbs {
                a href="/" { "Home" } " / "
                @if row.product.is_empty() { (product) } @else { a href=(product_path(&row.product)) { (shown(product)) } } " / "
                @if let Some(processed) = &row.processed {
                    a href=(Scope::default().signature_page(&processed.signature)) { "crashes with this signature" } " / "
                    a href={ (report_path(row.id)) "/signature" } { "why this signature" } " / "
                }
                "report"
            }
            @match &row.processed {
                Some(processed) => h1.signature { (signature(&processed.signature)) },
                None => h1 { "Crash " span.mono { (row.id) } },
            }
            div.chips {
                (state_chip(row))
                @if let Some(reason) = text("reason") {
                    span.chip.bad {
                        (shown(&reason))
                        @if let Some(address) = text("address") { " at " b.mono { (address) } }
                    }
                }
                @if let Some(words) = text("reason_text") { span.chip { (shown(&words)) } }
                @if let Some(verdict) = text("verdict") {
                    span.chip.warn title="Probably not a bug of the program" {
                        span { b { (verdict) } ": " (shown(&text("verdict_evidence").unwrap_or_default())) }
                    }
                }
                span.chip { b { (shown(product)) } " " (shown(&row.version)) }
                @if let Some(os) = text("os_pretty_version") {
                    span.chip { (shown(&os)) " " (text("cpu_arch").unwrap_or_default()) }
                }
                @if let Some((index, thread)) = view.processed.as_ref().and_then(|p| p.walk.as_ref()).and_then(Walk::crashing_thread) {
                    span.chip { "thread " (index) @if let Some(name) = &thread.thread_name { " " b { (shown(name)) } } }
                }
                @if view.processed.as_ref().and_then(|p| p.walk.as_ref()).is_some_and(|walk| !walk.partial.is_empty()) {
                    span.chip.warn title="the walk reached a limit; the notes say which" { "partially processed" }
                }
                @for damage in &view.damage { span.chip.bad { (damage) } }
            }
            div.small.muted {
                span.mono { (row.id) } " · received " (ago(row.received_at(), app.clock.now()))
                " · " a href={ "/api/ProcessedCrash/?crash_id=" (row.id) } { "processed JSON" }
                " · " a href={ "/api/RawCrash/?crash_id=" (row.id) } { "raw JSON" }
            }
            @if view.may_reprocess {
            form.inline method="post" action={ (report_path(row.id)) "/reprocess" } {
                button type="submit" {
                    @match row.state {
                        State::Deferred => "Process now",
                        State::Queued => "Move to the front",
                        _ => "Reprocess",
                    }
                }
            }
            }
        }
    }
}

fn state_chip(row: &StoredCrash) -> Markup {
    html! {
        @match row.state {
            State::Processed => {},
            State::Failed => span.chip.bad { "failed" @if let Some(why) = &row.reason { ": " (shown(why)) } },
            State::Queued => span.chip.warn { "queued" @if let Some(why) = &row.reason { ", after: " (shown(why)) } },
            State::Processing => span.chip.warn { "processing, attempt " (row.attempts) },
            State::Deferred => span.chip.warn { "deferred by " b { (row.throttle_rule) } },
        }
    }
}
