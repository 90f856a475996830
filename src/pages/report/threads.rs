//! The stacks: the crashing thread, and the other threads.

use maud::{Markup, html};

use super::frames;
use crate::crash::walk::{Frame, Thread, Walk};
use crate::pages::{counted, shown};

/// Threads that a page shows in addition to the crashing one.
const THREADS_MAX: usize = 300;
/// Frames of all those threads together.
const OTHER_FRAMES_MAX: usize = 6_000;

pub(super) fn crashing_thread(walk: &Walk, anchor: &str) -> Markup {
    let Some((index, thread)) = walk.crashing_thread() else {
        return html! {
            section.panel {
                header { h2 { "No crashing thread" } }
                div.body { p { "The dump does not say which thread crashed. All threads are below." } }
            }
        };
    };
    let registers = thread
        .frames
        .first()
        .map(|frame| &frame.registers)
        .filter(|r| !r.is_empty());
    html! {
        section.panel id=(anchor) {
            header {
                h2 { "Crashing thread" }
                span.muted.small { (index) (thread_title(thread)) " · " (frames_text(thread)) }
            }
            @for note in &walk.partial { div.body.small { span.chip.warn { "partial" } " " (shown(note)) } }
            @if thread.frames.is_empty() {
                div.body { p { "The dump has no stack of this thread." } }
            }
            (code_made_at_run_time(walk, thread))
            (frames::frames(thread, true))
            @if let Some(registers) = registers {
                details {
                    summary { "Registers" }
                    dl.facts.registers {
                        @for (name, value) in registers { dt.mono { (name) } dd.mono { (shown(value.as_str().unwrap_or_default())) } }
                    }
                }
            }
        }
    }
}

/// Explains frames without a module, if the process has a runtime that makes code.
fn code_made_at_run_time(walk: &Walk, thread: &Thread) -> Markup {
    let frames = thread.frames_outside_modules();
    html! {
        @if frames > 0 && let Some(runtime) = walk.code_maker() {
            div.body.small {
                (counted(frames as u64, "frame", "frames")) " in no module: " (runtime)
                " makes code at run time (JIT), and such code has no symbols here."
            }
        }
    }
}

fn thread_title(thread: &Thread) -> Markup {
    html! {
        @if let Some(name) = thread.thread_name.as_deref().filter(|n| !n.is_empty()) { " · " (shown(name)) }
        @if let Some(error) = thread.last_error_value.as_deref().filter(|error| *error != NO_ERROR) { " · last error " (shown(error)) }
    }
}

/// The last error of a thread whose last call succeeded.
const NO_ERROR: &str = "ERROR_SUCCESS";

fn frames_text(thread: &Thread) -> String {
    let inlines: usize = thread.frames.iter().map(|frame| frame.inlines.len()).sum();
    let frames = counted(thread.frame_count, "frame", "frames");
    if inlines > 0 {
        format!("{frames}, {inlines} inlined")
    } else {
        frames
    }
}

pub(super) fn other_threads(walk: &Walk, anchor: &str) -> Markup {
    let crashing = walk.crashing_thread().map(|(index, _)| index);
    let others: Vec<(usize, &Thread)> = walk
        .threads
        .iter()
        .enumerate()
        .filter(|(index, _)| Some(*index) != crashing)
        .collect();
    let mut budget = OTHER_FRAMES_MAX;
    let within: Vec<bool> = others
        .iter()
        .map(|(_, thread)| {
            let fits = thread.frames.len() <= budget;
            budget = budget.saturating_sub(thread.frames.len());
            fits
        })
        .collect();
    html! {
        @if !others.is_empty() {
            section.panel id=(anchor) {
                header { h2 { "Other threads" } span.muted.small { (others.len()) } }
                @for ((index, thread), whole) in others.iter().zip(within).take(THREADS_MAX) {
                    details {
                        summary {
                            (index) (thread_title(thread)) ": "
                            span.mono { (shown(&thread.frames.first().map_or("no frames".into(), Frame::place))) }
                        }
                        @if whole {
                            (frames::frames(thread, false))
                        } @else {
                            p.muted.small { (frames_text(thread)) "; the API returns them" }
                        }
                    }
                }
                @if others.len() > THREADS_MAX {
                    div.body.small.muted { (others.len() - THREADS_MAX) " more threads; the API returns them" }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_code_made_at_run_time_are_explained_if_there_is_a_runtime() {
        let walk = |module: &str| -> Walk {
            let text = format!(
                r#"{{"modules": [{{"filename": "{module}"}}], "crash_info": {{"crashing_thread": 0}},
                    "threads": [{{"frames": [{{"offset": "0x00007f0012345678"}}]}}]}}"#
            );
            serde_json::from_str(&text).expect("a walk")
        };
        let managed = walk("libcoreclr.so");
        let text = code_made_at_run_time(&managed, &managed.threads[0]).into_string();
        assert!(
            text.contains("1 frame in no module: .NET makes code at run time (JIT)"),
            "{text}"
        );
        let native = walk("libc.so.6");
        assert_eq!(
            code_made_at_run_time(&native, &native.threads[0]).into_string(),
            ""
        );
        assert_eq!(
            code_made_at_run_time(&managed, &Thread::default()).into_string(),
            ""
        );
    }
}
