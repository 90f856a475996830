//! Symbols that crashes lack, and what became of crashes whose symbols came late.

use maud::{Markup, html};

use super::{Page, ago, counted, number, shown, span_text};
use crate::clock::Timestamp;
use crate::fields::name;
use crate::store::mends::Mend;
use crate::web::{App, Params, Request, Response, WebError};

const MENDS: usize = 50;
const MODULES: usize = 200;
/// Modules that are named of one mend.
const NAMED: usize = 3;
/// While a mend goes on, the page asks again.
const REFRESH_S: u32 = 2;

pub fn symbols(app: &App, _: &Request, _: &[String]) -> Result<Response, WebError> {
    let mends = app.store.mends(MENDS)?;
    let lacking = app.store.lacking(MODULES)?;
    let mut page = Page::new("Symbols", "/symbols/");
    let goes_on = mends.iter().any(|mend| mend.row.ended_at_ms.is_none());
    page.refresh_s = (goes_on && !app.read_only).then_some(REFRESH_S);
    let now = app.clock.now();
    let content = html! {
        div.head {
            h1 { "Symbols" }
            p.plain.muted { "Crashes whose stacks ask for symbols that come later are walked and named again by themselves, the newest first, behind everything that is new." }
        }
        section.panel {
            header { h2 { "Mended crashes" } }
            @if mends.is_empty() { div.body.muted { "No symbols have come late so far." } } @else { (mended(&mends, now)) }
        }
        section.panel {
            header { h2 { "Missing symbols" } span.muted.small { "by the crashes that would get better stacks" } }
            @if lacking.is_empty() { div.empty { p { "Every module of every stack had its symbols." } } } @else { (missing(&lacking)) }
        }
    };
    Ok(Response::html(page.render(content)))
}

fn mended(mends: &[Mend], now: Timestamp) -> Markup {
    html! {
        div.scroll { table {
            thead { tr { th { "Symbols came" } th { "For" } th.num { "Done" } th { "Outcome" } th.num.hide-s { "Took" } } }
            tbody {
                @for mend in mends {
                    @let row = &mend.row;
                    @let begun = Timestamp::from_ms(row.begun_at_ms);
                    @let ended = row.ended_at_ms.map(Timestamp::from_ms);
                    tr {
                        td.nowrap { (ago(begun, now)) }
                        td {
                            @for module in row.modules.iter().take(NAMED) { div.sig { (shown(file_of(module).0)) } }
                            @if row.modules.len() > NAMED { span.muted { "and " (row.modules.len() - NAMED) " more" } }
                        }
                        td.num { (number(row.done)) " of " (number(row.affected)) }
                        td {
                            (counted(row.improved, "crash", "crashes")) " improved, "
                            (counted(mend.signatures_before, "signature", "signatures")) " became " (number(mend.signatures_after))
                        }
                        td.num.hide-s { (span_text(ended.unwrap_or(now).ms_since(begun))) }
                    }
                }
            }
        } }
    }
}

fn missing(lacking: &[(String, u64)]) -> Markup {
    html! {
        div.scroll { table.top {
            thead { tr { th.num { "#" } th.num { "Crashes" } th { "Module" } th { "Debug id" } } }
            tbody {
                @for (at, (module, crashes)) in lacking.iter().enumerate() {
                    @let (file, id) = file_of(module);
                    tr {
                        td.num { (at + 1) }
                        td.num { (number(*crashes)) }
                        td { span.sig { (shown(file)) } }
                        td { a.sig href=(search(id)) title="Its crashes" { (shown(id)) } }
                    }
                }
            }
        } }
    }
}

fn file_of(module: &str) -> (&str, &str) {
    module.rsplit_once('/').unwrap_or((module, ""))
}

fn search(debug_id: &str) -> String {
    let params = vec![(name::MISSING_SYMBOLS.to_owned(), format!("~{debug_id}"))];
    format!("/search/?{}", Params(params).to_query())
}
