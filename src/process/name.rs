//! Steps that classify the crash: its signature, and whether it is a hang.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::draft::Draft;
use crate::crash::raw::RawCrash;
use crate::crash::walk::{Frame, Location, Walk};
use crate::fields;
use crate::signature::{self, FRAMES_MAX, Input, StoredFrame, StoredInline};

pub(crate) fn name_crash(draft: &mut Draft) -> Result<(), String> {
    let raw = draft.input.raw;
    let is_own = draft.input.is_own;
    let input = input(
        raw,
        draft.walk.as_ref(),
        &draft.out,
        &draft.product(),
        is_own,
    );
    let annotation = |key: &str| raw.annotation(key).map(str::to_owned);
    let signature = draft
        .generator
        .generate_with(&input.crash_data(), &annotation);
    draft.set(fields::name::SIGNATURE, signature.text);
    draft.set_some(fields::name::PROTO_SIGNATURE, signature.proto);
    draft.notes.extend(signature.notes);
    draft.named = Some(input);
    Ok(())
}

/// The signature input of a crash. `out` is the part of the processed crash that exists so far. `is_own` is as
/// in [`super::Input`].
pub(crate) fn input(
    raw: &RawCrash,
    walk: Option<&Walk>,
    out: &Map<String, Value>,
    product: &str,
    is_own: &dyn Fn(&str) -> bool,
) -> Input<StoredFrame> {
    let text = |key: &str| raw.annotation(key).map(str::to_owned);
    let known = |key: &str| out.get(key).and_then(Value::as_str).map(str::to_owned);
    let others = out.get("additional_minidumps").and_then(Value::as_array);
    let mut input = Input {
        product: product.to_owned(),
        oom_allocation_size: out.get("oom_allocation_size").and_then(Value::as_i64),
        js_large_allocation_failure: text("JSLargeAllocationFailure"),
        abort_message: text("AbortMessage"),
        async_shutdown_timeout: text("AsyncShutdownTimeout"),
        ipc_channel_error: text("ipc_channel_error"),
        ipc_message_name: text("IPCMessageName"),
        has_browser_dump: others.is_some_and(|names| {
            let mut names = names.iter().filter_map(Value::as_str);
            names.any(signature::is_browser_dump)
        }),
        hang: text("Hang"),
        mdsw_status_string: known("mdsw_status_string"),
        java_stack_trace: known("java_stack_trace").map(|trace| signature::java_lines(&trace)),
        java_exception: text("JavaException"),
        ..Input::default()
    };
    if let Some(walk) = walk {
        add_stacks(&mut input, walk, is_own);
    }
    input
}

/// Recognises a hang by the client's annotations, or by the watchdog on the stack.
pub(crate) fn report_type(draft: &mut Draft) -> Result<(), String> {
    let raw = draft.input.raw;
    let said = ["ipc_channel_error", "AsyncShutdownTimeout", "Hang"]
        .iter()
        .any(|key| raw.annotation(key).is_some());
    let stack = draft
        .out
        .get(fields::name::PROTO_SIGNATURE)
        .and_then(Value::as_str);
    let watchdog = stack.is_some_and(|stack| stack.contains("RunWatchdog"));
    draft.set(
        fields::name::REPORT_TYPE,
        if said || watchdog { "hang" } else { "crash" },
    );
    Ok(())
}

/// Only the crashing thread and thread 0 can determine a signature.
fn add_stacks(input: &mut Input<StoredFrame>, walk: &Walk, is_own: &dyn Fn(&str) -> bool) {
    input.is_windows = walk.system_info.os.as_deref() == Some("Windows NT");
    input.reason = walk.crash_info.reason.clone();
    let crashing = walk.crash_info.crashing_thread;
    // If a dump names no crashing thread, its first thread is used.
    let index = crashing.unwrap_or(0);
    let locations: HashMap<&str, Location> = walk
        .modules
        .iter()
        .filter_map(|module| {
            let location = match module.location? {
                Location::System | Location::Other
                    if module.loaded_symbols == Some(true)
                        && module.debug_id.as_deref().is_some_and(is_own) =>
                {
                    Location::Program
                }
                location => location,
            };
            Some((module.filename.as_deref()?, location))
        })
        .collect();
    let stack = |index: usize| -> Option<Vec<StoredFrame>> {
        let frames = walk.threads.get(index)?.frames.iter();
        let stored = frames
            .take(FRAMES_MAX)
            .map(|frame| stored(frame, &locations).reduced(input.is_windows));
        Some(stored.collect())
    };
    let first = match index {
        0 => None,
        _ => Some(stack(0).unwrap_or_default()),
    };
    let crashing = stack(index).unwrap_or_default();
    let thread = walk.threads.get(index);
    input.last_error = thread.and_then(|thread| thread.last_error_value.clone());
    input.first = first;
    input.crashing = crashing;
}

fn stored(frame: &Frame, locations: &HashMap<&str, Location>) -> StoredFrame {
    // A function without a name is identified by its module and its start.
    let (function, module_offset) = match &frame.function_start {
        Some(start) if frame.is_unnamed() => (None, Some(start)),
        _ => (frame.function.clone(), frame.module_offset.as_ref()),
    };
    StoredFrame {
        function,
        module: frame.module.clone(),
        file: frame.file.clone(),
        line: frame.line.map(u64::from),
        module_offset: module_offset.cloned(),
        offset: frame.offset.clone(),
        inlines: frame
            .inlines
            .iter()
            .map(|inline| StoredInline {
                function: inline.function.clone(),
                file: inline.file.clone(),
                line: inline.line.map(u64::from),
            })
            .collect(),
        unloaded_module: frame
            .unloaded_modules
            .first()
            .map(|unloaded| unloaded.module.clone()),
        location: (frame.module.as_deref()).and_then(|module| locations.get(module).copied()),
    }
}
