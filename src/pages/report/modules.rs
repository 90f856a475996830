//! The modules of the process and their symbols.

use maud::{Markup, html};

use crate::crash::walk::{Module, Walk};
use crate::pages::shown;

/// Modules that a page lists. The API returns all of them.
const MODULES_MAX: usize = 1_000;

pub(super) fn modules(walk: &Walk, anchor: &str) -> Markup {
    let in_stacks = walk
        .modules
        .iter()
        .filter(|m| symbols_word(m).is_some())
        .count();
    html! {
        section.panel id=(anchor) {
            header {
                h2 { "Modules" }
                span.muted.small { (walk.modules.len()) " loaded, " (in_stacks) " of them in stacks" }
            }
            details open[walk.modules.len() <= 60] {
                summary { "List" }
                div.scroll {
                    table {
                        thead { tr { th { "Module" } th { "Symbols" } th { "Version" } th.hide-s { "Debug id" } th.hide-s { "Code id" } th { "Address" } } }
                        tbody {
                            @for module in walk.modules.iter().take(MODULES_MAX) {
                                tr {
                                    td.mono { (shown(module.filename.as_deref().unwrap_or("unnamed"))) }
                                    td { (symbols(module)) }
                                    td { (shown(module.version.as_deref().unwrap_or_default())) }
                                    td.mono.hide-s { (module.debug_id.as_deref().unwrap_or_default()) }
                                    td.mono.hide-s { (shown(module.code_id.as_deref().unwrap_or_default())) }
                                    td.mono { (module.base_addr.as_deref().unwrap_or_default()) }
                                }
                            }
                        }
                    }
                }
            }
            @if walk.modules.len() > MODULES_MAX {
                div.body.small.muted { (walk.modules.len() - MODULES_MAX) " more modules; the API returns them" }
            }
            @if !walk.unloaded_modules.is_empty() {
                details {
                    summary { "Unloaded modules: " (walk.unloaded_modules.len()) }
                    div.scroll {
                        table {
                            thead { tr { th { "Module" } th.hide-s { "Code id" } th { "From" } th { "To" } } }
                            tbody {
                                @for module in walk.unloaded_modules.iter().take(MODULES_MAX) {
                                    tr {
                                        td.mono { (shown(module.filename.as_deref().unwrap_or("unnamed"))) }
                                        td.mono.hide-s { (shown(module.code_id.as_deref().unwrap_or_default())) }
                                        td.mono { (module.base_addr.as_deref().unwrap_or_default()) }
                                        td.mono { (module.end_addr.as_deref().unwrap_or_default()) }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// What happened to the symbols of a module; `None` if no stack needed them.
fn symbols_word(module: &Module) -> Option<&'static str> {
    match (
        module.corrupt_symbols,
        module.loaded_symbols,
        module.missing_symbols,
    ) {
        (Some(true), ..) => Some("corrupt"),
        (_, Some(true), _) => Some("loaded"),
        (_, _, Some(true)) => Some("missing"),
        _ => None,
    }
}

fn symbols(module: &Module) -> Markup {
    html! {
        @match symbols_word(module) {
            Some("loaded") => span.chip.good { "loaded" },
            Some(word) => span.chip.warn { (word) },
            None => span.faint { "not needed" },
        }
    }
}
