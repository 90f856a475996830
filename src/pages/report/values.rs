//! The annotations as received, and all fields of the processed crash.

use maud::{Markup, html};

use super::view::View;
use crate::crash::processed::ProcessedCrash;
use crate::pages::{shown, shown_whole};

/// Characters of long texts on one page, for annotations and for fields each.
const LONG_TEXTS_CHARS_MAX: usize = 400_000;

pub(super) fn annotations(view: &View) -> Markup {
    let raw = &view.raw;
    let mut budget = LONG_TEXTS_CHARS_MAX;
    html! {
        section.panel id="annotations" {
            header {
                h2 { "Annotations" }
                span.muted.small { (raw.annotations.len()) @if view.sees_protected { " as received" } @else { " public" } }
            }
            @if raw.annotations.is_empty() { div.body.muted { "The report has no annotations." } } @else {
                div.scroll {
                    table.pairs {
                        tbody {
                            @for (key, value) in &raw.annotations {
                                tr { th scope="row" { (shown(key)) } td { (long_text(value, &mut budget)) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

pub(super) fn all_fields(view: &View, processed: &ProcessedCrash) -> Markup {
    let mut budget = LONG_TEXTS_CHARS_MAX;
    html! {
        section.panel id="fields" {
            details {
                summary { "All fields of the processed crash" }
                div.scroll {
                    table.pairs {
                        tbody {
                            @for field in view.catalogue.all() {
                                @if let Some(value) = processed.text(&field.key) {
                                    tr { th scope="row" title=(field.description) { (field.title) div.faint.mono { (field.name) } } td { (long_text(&value, &mut budget)) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A text of any length. A long text is collapsed behind its first characters. A very long one is truncated,
/// also if `budget`, the remaining characters for texts on this page, is used up.
fn long_text(text: &str, budget: &mut usize) -> Markup {
    const FOLDED: usize = 300;
    const WHOLE: usize = 20_000;
    let Some((fold, _)) = text.char_indices().nth(FOLDED) else {
        return html! { span.value { (shown_whole(text)) } };
    };
    let whole = text
        .char_indices()
        .nth(WHOLE.min(*budget))
        .map_or(text.len(), |(cut, _)| cut);
    *budget = budget.saturating_sub(whole);
    html! {
        details.long {
            summary { span.value { (shown_whole(&text[..fold])) "…" } }
            span.value { (shown_whole(&text[..whole])) }
            @if whole < text.len() { p.muted { "… truncated; the raw and processed JSON contain all of it" } }
        }
    }
}
