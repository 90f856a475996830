//! Steps that say what the crash is: its signature, and whether it is a hang.

use serde_json::{Value, json};

use super::Draft;
use crate::crash::walk::{Frame, Walk};
use crate::fields;
use crate::signature::{self, CrashData};

pub fn name_crash(draft: &mut Draft) -> Result<(), String> {
    let raw = draft.input.raw;
    let walk = draft.walk.take();
    let exception = raw
        .annotation("JavaException")
        .and_then(|text| signature::Value::parse(text).ok());
    let others = draft
        .out
        .get("additional_minidumps")
        .cloned()
        .unwrap_or(json!([]));
    let status = draft
        .out
        .get("mdsw_status_string")
        .cloned()
        .unwrap_or(Value::Null);
    let java_stack = draft
        .out
        .get("java_stack_trace")
        .cloned()
        .unwrap_or(Value::Null);
    let size = draft.int("oom_allocation_size");
    let mut data = walk.as_ref().map(crash_data).unwrap_or_default();
    data.oom_allocation_size = size.into();
    data.js_large_allocation_failure = raw.annotation("JSLargeAllocationFailure").into();
    data.abort_message = raw.annotation("AbortMessage").into();
    data.async_shutdown_timeout = raw.annotation("AsyncShutdownTimeout").into();
    data.ipc_channel_error = raw.annotation("ipc_channel_error").into();
    data.ipc_message_name = raw.annotation("IPCMessageName").into();
    data.hang = raw.annotation("Hang").into();
    data.java_stack_trace = (&java_stack).into();
    data.java_exception = exception.unwrap_or_default();
    data.additional_minidumps = (&others).into();
    data.mdsw_status_string = (&status).into();
    let signature = draft.generator.generate(&data);
    drop(data);
    draft.set(fields::name::SIGNATURE, signature.text);
    draft.set_some(fields::name::PROTO_SIGNATURE, signature.proto);
    draft.notes.extend(signature.notes);
    draft.walk = walk;
    Ok(())
}

/// A hang is told by what the client says of it, or by the watchdog on its stack.
pub fn report_type(draft: &mut Draft) -> Result<(), String> {
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

/// The part of a walk that signatures read. Only the crashing thread and thread 0 can name a
/// crash; the others stay empty in their places.
fn crash_data(walk: &Walk) -> CrashData<'_> {
    let crashing = walk.crash_info.crashing_thread;
    let threads = walk
        .threads
        .iter()
        .enumerate()
        .map(|(index, thread)| signature::Thread {
            frames: match index == 0 || Some(index) == crashing {
                true => thread
                    .frames
                    .iter()
                    .take(signature::FRAMES_MAX)
                    .map(frame_data)
                    .collect(),
                false => Vec::new(),
            },
            last_error_value: thread.last_error_value.as_deref().into(),
            ..signature::Thread::default()
        });
    CrashData {
        crashing_thread: crashing.map(|index| index as u64).into(),
        threads: threads.collect(),
        os: walk.system_info.os.as_deref().into(),
        reason: walk.crash_info.reason.as_deref().into(),
        ..CrashData::default()
    }
}

fn frame_data(frame: &Frame) -> signature::Frame<'_> {
    signature::Frame {
        function: frame.function.as_deref().into(),
        module: frame.module.as_deref().into(),
        file: frame.file.as_deref().into(),
        line: frame.line.into(),
        module_offset: frame.module_offset.as_deref().into(),
        offset: frame.offset.as_deref().into(),
        inlines: frame
            .inlines
            .iter()
            .map(|inline| signature::Inline {
                function: inline.function.as_deref().into(),
                file: inline.file.as_deref().into(),
                line: inline.line.into(),
                ..signature::Inline::default()
            })
            .collect(),
        unloaded_modules: frame
            .unloaded_modules
            .iter()
            .map(|unloaded| signature::UnloadedModule {
                module: unloaded.module.as_deref().into(),
                ..signature::UnloadedModule::default()
            })
            .collect(),
        ..signature::Frame::default()
    }
}
