//! The stack of a thread.

use maud::{Markup, html};

use crate::crash::walk::{Frame, Inline, Thread};
use crate::pages::shown;

/// Frames of one thread on a page. This includes all stored frames of a long stack.
const FRAMES_MAX: usize = 501;

/// Modules of operating systems and language runtimes. Their frames are shown in a fainter style.
const SYSTEM_MODULES: [&str; 22] = [
    "libc.so",
    "libc-",
    "libpthread",
    "ld-linux",
    "ld-2",
    "libgcc_s",
    "libstdc++",
    "libglib-",
    "libgobject-",
    "linux-gate",
    "ntdll.dll",
    "kernel32.dll",
    "kernelbase.dll",
    "user32.dll",
    "ucrtbase",
    "vcruntime",
    "msvcr",
    "libsystem_",
    "libdyld",
    "corefoundation",
    "appkit",
    "libobjc",
];
/// Functions of language runtimes, in whatever module they were compiled into.
const SYSTEM_FUNCTIONS: [&str; 8] = [
    "std::", "core::", "alloc::", "__libc_", "__rust_", "<alloc::", "<core::", "<std::",
];

fn is_system(module: Option<&str>, function: Option<&str>) -> bool {
    let module = module.unwrap_or_default().to_ascii_lowercase();
    SYSTEM_MODULES.iter().any(|name| module.starts_with(name))
        || function.is_some_and(|f| SYSTEM_FUNCTIONS.iter().any(|name| f.starts_with(name)))
}

/// The frames of a thread, innermost first. Inlined calls are above the frame that contains them. `crashed`
/// highlights the innermost frame.
pub(crate) fn frames(thread: &Thread, crashed: bool) -> Markup {
    let more = thread.frames.len().saturating_sub(FRAMES_MAX);
    html! {
        ol.stack {
            @for (at, frame) in thread.frames.iter().take(FRAMES_MAX).enumerate() {
                @let hot = crashed && at == 0;
                @for inline in &frame.inlines { (inlined(frame, inline, hot)) }
                @match &frame.truncated {
                    Some(gap) => li.sys { span.n { "…" } span.fn { (shown(gap.msg.as_deref().unwrap_or("frames left out"))) } },
                    None => (physical(frame, hot)),
                }
            }
            @if more > 0 {
                li.sys { span.n { "…" } span.fn { (more) " more frames; the API returns all of them" } }
            }
        }
    }
}

fn inlined(frame: &Frame, inline: &Inline, hot: bool) -> Markup {
    let function = inline.function.as_deref();
    let class = classes(
        is_system(frame.module.as_deref(), function),
        false,
        hot,
        true,
    );
    html! {
        li class=(class) {
            span.n title="inlined into the frame below" {}
            span.fn { (shown(function.unwrap_or("unknown function"))) }
            span.mod { (shown(frame.module.as_deref().unwrap_or_default())) span.trust { "inline" } }
            (source(inline.file.as_deref(), inline.line))
        }
    }
}

fn physical(frame: &Frame, hot: bool) -> Markup {
    let (module, function) = (frame.module.as_deref(), frame.function.as_deref());
    let class = classes(is_system(module, function), function.is_none(), hot, false);
    html! {
        li class=(class) {
            span.n { (frame.frame) }
            span.fn { (shown(&frame.place())) }
            span.mod { (shown(module.unwrap_or_default())) span.trust title=(trust(&frame.trust)) { (frame.trust) } }
            @if frame.unloaded_modules.len() > 1 {
                span.src { "or in " (unloaded(frame)) }
            }
            @if function.is_some() {
                (source(frame.file.as_deref(), frame.line))
            } @else if frame.missing_symbols == Some(true) && frame.module.is_some() {
                span.src { "no symbols for this module: " a href="/symbols/" { "how to fix" } }
            }
        }
    }
}

/// Unloaded modules, except the first, that were once at the address of a frame.
fn unloaded(frame: &Frame) -> Markup {
    html! {
        @for (index, module) in frame.unloaded_modules.iter().skip(1).enumerate() {
            @if index > 0 { ", " }
            "(unloaded " (shown(module.module.as_deref().unwrap_or("unknown"))) ")"
        }
    }
}

fn source(file: Option<&str>, line: Option<u32>) -> Markup {
    html! {
        @if let Some(file) = file.filter(|f| !f.is_empty()) {
            span.src title=(shown(file)) {
                (shown(file)) @if let Some(line) = line { ":" (line) }
            }
        }
    }
}

fn classes(system: bool, nosym: bool, hot: bool, inline: bool) -> String {
    let marks = [
        ("crash", hot),
        ("inline", inline),
        ("nosym", nosym),
        ("sys", system && !nosym),
    ];
    marks
        .iter()
        .filter(|(_, on)| *on)
        .map(|(name, _)| *name)
        .collect::<Vec<_>>()
        .join(" ")
}

/// The explanation of a trust word.
fn trust(word: &str) -> &'static str {
    match word {
        "context" => "from the CPU registers: certain",
        "cfi" => "found by unwind information: reliable",
        "frame_pointer" => "found by following frame pointers: fairly reliable",
        "cfi_scan" => "found by scanning the stack, confirmed by unwind information",
        "scan" => "found by scanning the stack: a guess",
        "prewalked" => "given by the client",
        _ => "unknown method",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_frames_stand_back_and_ours_do_not() {
        assert!(is_system(Some("libc.so.6"), Some("abort")));
        assert!(is_system(
            Some("acmed"),
            Some("core::ops::function::FnOnce::call_once")
        ));
        assert!(!is_system(
            Some("acmed"),
            Some("acmed::render::decode_tile")
        ));
        assert!(!is_system(None, None));
    }
}
