//! The content of a dump apart from its stacks: the crashing instruction and the memory that it accessed,
//! the state of the process, messages of the system. Only what exists is shown. Most dumps contain about
//! half of it.

use maud::{Markup, html};
use serde_json::Value;

use crate::crash::walk::{CrashInfo, PossibleBitFlip, Walk};
use crate::pages::{counted, shown, shown_whole};

/// Handles that a page lists. The API returns all of them.
const HANDLES_MAX: usize = 1_000;
/// macOS crash-info records that a page shows.
const MAC_RECORDS_MAX: usize = 50;

/// Why the crash happened, as derived from the instruction and the registers.
pub(crate) fn analysis(walk: &Walk) -> Markup {
    let info = &walk.crash_info;
    let accesses = info.memory_accesses.as_deref().unwrap_or_default();
    let has_some = info.instruction.is_some()
        || !accesses.is_empty()
        || info.adjusted_address.is_some()
        || !info.possible_bit_flips.is_empty()
        || !info.crash_inconsistencies.is_empty()
        || info.assertion.is_some();
    html! {
        @if has_some {
            section.panel id="analysis" {
                header { h2 { "Crash analysis" } }
                div.body {
                    dl.facts {
                        @if let Some(assertion) = &info.assertion { dt { "Assertion" } dd { (shown(assertion)) } }
                        @if let Some(instruction) = &info.instruction { dt { "Instruction" } dd { code { (shown(instruction)) } } }
                        (addresses(info))
                        @if info.memory_accesses.as_ref().is_some_and(Vec::is_empty) {
                            dt { "Memory" } dd { "not accessed by the instruction" }
                        }
                        @for access in accesses {
                            dt { "Memory" }
                            dd {
                                (match access.access_type.as_deref() {
                                    Some("read") => "reads ",
                                    Some("write") => "writes ",
                                    Some("readwrite") => "reads and writes ",
                                    _ => "accesses ",
                                })
                                @if let Some(size) = access.size { (counted(size, "byte", "bytes")) " at " }
                                code { (access.address.as_deref().unwrap_or("an unknown address")) }
                                @if access.is_likely_guard_page == Some(true) { " " span.chip.warn { "likely a guard page" } }
                            }
                        }
                        @if let Some(update) = &info.instruction_pointer_update && let Some(address) = &update.address {
                            dt { "Jump" }
                            dd {
                                "to " code { (address) }
                                @if update.is_likely_guard_page == Some(true) { " " span.chip.warn { "likely a guard page" } }
                            }
                        }
                        @for inconsistency in &info.crash_inconsistencies {
                            dt { "Inconsistent" } dd { (shown(&inconsistency.replace('_', " "))) }
                        }
                        @for flip in &info.possible_bit_flips { dt { "Bit flip?" } dd { (bit_flip(flip)) } }
                    }
                    @if !info.possible_bit_flips.is_empty() {
                        p.small.muted { "With one bit flipped, the address would be valid. The cause may be faulty memory and not a bug." }
                    }
                }
            }
        }
    }
}

fn addresses(info: &CrashInfo) -> Markup {
    html! {
        @if let Some(adjusted) = &info.adjusted_address {
            dt { "Address" }
            dd {
                @match (adjusted.kind.as_str(), &adjusted.address, &adjusted.offset) {
                    ("null-pointer", _, Some(offset)) if offset.trim_start_matches(['0', 'x']).is_empty() => "a null pointer",
                    ("null-pointer", _, Some(offset)) => { "a null pointer, with offset " code { (offset) } },
                    ("non-canonical", Some(address), _) => { "originally " code { (address) } ", a non-canonical address" },
                    (kind, address, offset) => {
                        (shown(kind)) " " code { (address.as_deref().or(offset.as_deref()).unwrap_or_default()) }
                    },
                }
            }
        }
    }
}

fn bit_flip(flip: &PossibleBitFlip) -> Markup {
    let details = flip.details.as_ref().and_then(Value::as_object);
    let signs: Vec<String> = details
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| match value {
            Value::Bool(true) => Some(name.replace('_', " ")),
            Value::Number(number) if number.as_u64() != Some(0) => {
                Some(format!("{}: {number}", name.replace('_', " ")))
            }
            _ => None,
        })
        .collect();
    html! {
        code { (flip.address.as_deref().unwrap_or("unknown")) }
        @if let Some(register) = &flip.source_register { " from " code { (shown(register)) } }
        @if let Some(confidence) = flip.confidence { ", " (format!("{:.0} %", confidence * 100.0)) " confidence" }
        @if !signs.is_empty() { span.muted { " (" (signs.join(", ")) ")" } }
    }
}

/// Errors that the writer of the dump recorded. The list may exist and be empty.
fn soft_errors(walk: &Walk) -> Option<&Value> {
    let errors = walk.soft_errors.as_ref()?;
    let is_empty = match errors {
        Value::Array(errors) => errors.is_empty(),
        Value::Object(errors) => errors.is_empty(),
        other => other.is_null(),
    };
    (!is_empty).then_some(errors)
}

/// Messages of the system and of the dump writer, and the open handles of the process.
pub(crate) fn process(walk: &Walk) -> Markup {
    let limits = list_of(walk.proc_limits.as_ref(), "limits");
    let handles = walk.handles.as_ref().and_then(Value::as_array);
    let mac = list_of(walk.mac_crash_info.as_ref(), "records");
    let facts = facts(walk);
    let has_some = !facts.is_empty()
        || !limits.is_empty()
        || handles.is_some_and(|handles| !handles.is_empty())
        || !mac.is_empty()
        || soft_errors(walk).is_some();
    html! {
        @if has_some {
            section.panel id="process" {
                header { h2 { "Process and system" } }
                @if !facts.is_empty() {
                    div.body { dl.facts { @for (name, value) in facts { dt { (name) } dd { (shown(&value)) } } } }
                }
                @for (index, record) in mac.iter().take(MAC_RECORDS_MAX).enumerate() {
                    details open[index == 0] {
                        summary { "macOS crash info" @if let Some(module) = record["module"].as_str() { " of " span.mono { (shown(module)) } } }
                        (pairs(record))
                    }
                }
                @if let Some(errors) = soft_errors(walk) {
                    details {
                        summary { "Errors while the client wrote the dump" }
                        div.body.small { pre { (shown_whole(&serde_json::to_string_pretty(errors).unwrap_or_default())) } }
                    }
                }
                @if !limits.is_empty() {
                    details {
                        summary { "Process limits: " (limits.len()) }
                        (table(&limits, &[("name", "Limit"), ("soft", "Soft"), ("hard", "Hard"), ("unit", "Unit")]))
                    }
                }
                @if let Some(handles) = handles.filter(|handles| !handles.is_empty()) {
                    details {
                        summary { "Handles: " (handles.len()) }
                        @let listed: Vec<&Value> = handles.iter().take(HANDLES_MAX).collect();
                        (table(&listed, &[("handle", "Handle"), ("type_name", "Type"), ("object_name", "Name")]))
                        @if handles.len() > HANDLES_MAX { p.muted.small { (handles.len() - HANDLES_MAX) " more handles are in the API" } }
                    }
                }
            }
        }
    }
}

fn facts(walk: &Walk) -> Vec<(&'static str, String)> {
    let release = walk.lsb_release.clone().unwrap_or_default();
    let distribution = [
        release.description,
        release.id,
        release.release,
        release.codename,
    ];
    let mut texts: Vec<String> = Vec::new();
    for text in distribution
        .into_iter()
        .flatten()
        .filter(|text| !text.is_empty())
    {
        // Usually the description contains this text already.
        if !texts.iter().any(|known| known.contains(&text)) {
            texts.push(text);
        }
    }
    let uptime = walk.process_uptime.map(|seconds| {
        crate::pages::span_text(
            i64::try_from(seconds)
                .unwrap_or(i64::MAX)
                .saturating_mul(1000),
        )
    });
    [
        ("Process uptime", uptime),
        (
            "Distribution",
            (!texts.is_empty()).then(|| texts.join(", ")),
        ),
        (
            "Memory maps",
            walk.linux_memory_map_count.map(|count| count.to_string()),
        ),
        ("Microcode", walk.system_info.cpu_microcode_version.clone()),
        (
            "Boot arguments",
            walk.mac_boot_args.clone().filter(|args| !args.is_empty()),
        ),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect()
}

fn list_of<'a>(value: Option<&'a Value>, key: &str) -> Vec<&'a Value> {
    let list = value.and_then(|value| value[key].as_array());
    list.into_iter().flatten().collect()
}

/// The members of an object, one per row.
fn pairs(object: &Value) -> Markup {
    let members = object.as_object().into_iter().flatten();
    html! {
        div.scroll { table.pairs { tbody {
            @for (key, value) in members.filter(|(_, value)| !value.is_null()) {
                tr { th scope="row" { (shown(&key.replace('_', " "))) } td { span.value { (shown_whole(&text(value))) } } }
            }
        } } }
    }
}

fn table(rows: &[&Value], columns: &[(&str, &str)]) -> Markup {
    html! {
        div.scroll { table {
            thead { tr { @for (_, title) in columns { th { (title) } } } }
            tbody {
                @for row in rows {
                    tr { @for (key, _) in columns { td.mono { (shown(&text(&row[*key]))) } } }
                }
            }
        } }
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_errors_of_the_writer_have_no_heading() {
        let walk = |errors: &str| -> Walk {
            serde_json::from_str(&format!("{{\"soft_errors\": {errors}}}")).expect("a walk")
        };
        let heading = "Errors while the client wrote the dump";
        for empty in ["[]", "null", "{}"] {
            let markup = process(&walk(empty)).into_string();
            assert!(!markup.contains(heading), "{empty}: {markup}");
        }
        let markup = process(&walk("[{\"why\": 1}]")).into_string();
        assert!(markup.contains(heading), "{markup}");
    }
}
