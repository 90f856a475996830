//! The main facts about the crash.

use maud::{Markup, html};

use super::view::View;
use crate::crash::processed::ProcessedCrash;
use crate::pages::{counted, shown, span_text};

/// The facts that readers look for first, in the order of the catalogue.
const FACTS: [&str; 18] = [
    "date_processed",
    "uptime",
    "process_type",
    "os_pretty_version",
    "os_version",
    "cpu_arch",
    "cpu_info",
    "cpu_count",
    "release_channel",
    "build",
    "install_age",
    "last_crash",
    "last_error_value",
    "moz_crash_reason",
    "abort_message",
    "crashing_thread_name",
    "thread_count",
    "throttle_rule",
];

pub(super) fn facts(view: &View, processed: &ProcessedCrash) -> Markup {
    let rows = view
        .catalogue
        .all()
        .iter()
        .filter(|f| FACTS.contains(&&*f.key))
        .filter_map(|field| {
            let value = processed.text(&field.key)?;
            let value = match (
                &*field.key,
                processed.fields.get(&*field.key).and_then(|v| v.as_i64()),
            ) {
                ("uptime" | "install_age" | "last_crash", Some(seconds)) => {
                    span_text(seconds.saturating_mul(1000))
                }
                ("date_processed", _) => view.row.received_at().to_string(),
                _ => value,
            };
            Some((field, value))
        });
    let others = processed.walk.as_ref().map_or(0, |w| {
        w.modules
            .iter()
            .filter(|m| m.missing_symbols == Some(true))
            .count()
    });
    html! {
        section.panel {
            header { h2 { "Facts" } }
            div.body {
                dl.facts {
                    @for (field, value) in rows { dt title=(field.description) { (field.title) } dd { (shown(&value)) } }
                    @if let Some(pid) = processed.walk.as_ref().and_then(|w| w.pid) { dt { "Process id" } dd { (pid) } }
                    @if others > 0 {
                        dt { "Symbols" }
                        dd { span.chip.warn { (counted(others as u64, "module", "modules")) " in stacks without symbols" } }
                    }
                }
            }
        }
    }
}
