//! The step that explains the crash reason in words.
//!
//! The walk explains what is in the exception record. Runtimes that end with an ordinary `abort` or trap tell
//! the rest by the functions on the stack: a panic of Rust, `std::terminate`, a sanitizer. The families of
//! signature lists know these functions.

use super::draft::Draft;
use crate::fields::name;

/// Limit of the text, in characters. Only names of types make it long.
const TEXT_CHARS_MAX: usize = 500;

pub(crate) fn reason_text(draft: &mut Draft) -> Result<(), String> {
    let Some(walk) = &draft.walk else {
        return Ok(());
    };
    let named = draft.named.as_ref();
    let of_stack = named.and_then(|input| draft.generator.sentence(&input.crash_data()));
    let of_record = walk.crash_info.reason_text.as_deref();
    let text = match (of_record, of_stack) {
        (Some(record), Some(stack)) if !is_general(record) => Some(format!("{record}; {stack}")),
        (_, Some(stack)) => Some(stack.to_owned()),
        (record, None) => record.map(str::to_owned),
    };
    let text = text.map(|text| text.chars().take(TEXT_CHARS_MAX).collect::<String>());
    draft.set_some(name::REASON_TEXT, text);
    Ok(())
}

/// Whether a text says no more than that the program stopped itself.
fn is_general(text: &str) -> bool {
    [
        "the program aborted itself",
        "the program stopped itself",
        "a trap",
        "a breakpoint",
    ]
    .iter()
    .any(|start| text.starts_with(start))
}
