//! The step that explains the crash reason in words.
//!
//! The walk explains what is in the exception record. Runtimes that end with an ordinary `abort` or trap tell
//! the rest by the functions on the stack: a panic of Rust, `std::terminate`, a sanitizer.

use super::draft::Draft;
use crate::crash::walk::{Frame, Thread};
use crate::fields::name;

/// A runtime calls `abort` within this many frames.
const FRAMES_MAX: usize = 40;
/// Limit of the text, in characters. Only names of types make it long.
const TEXT_CHARS_MAX: usize = 500;

/// How the name of a function is compared.
enum Match {
    Is(&'static str),
    Starts(&'static str),
    /// For functions that have a path in front of their name and may have a hash after it.
    Has(&'static str),
}

use Match::{Has, Is, Starts};

/// What a function on the stack says. The first entry that matches a frame counts, and inner frames come
/// first. So details come before the general case.
const FUNCTIONS: [(Match, &str); 59] = [
    (Starts("__asan"), "AddressSanitizer found an error"),
    (Starts("__hwasan"), "HWAddressSanitizer found an error"),
    (Starts("__tsan"), "ThreadSanitizer found an error"),
    (Starts("__msan"), "MemorySanitizer found an error"),
    (Starts("__lsan"), "LeakSanitizer found an error"),
    (
        Starts("__ubsan_handle_add_overflow"),
        "UndefinedBehaviorSanitizer: an addition overflowed",
    ),
    (
        Starts("__ubsan_handle_sub_overflow"),
        "UndefinedBehaviorSanitizer: a subtraction overflowed",
    ),
    (
        Starts("__ubsan_handle_mul_overflow"),
        "UndefinedBehaviorSanitizer: a multiplication overflowed",
    ),
    (
        Starts("__ubsan_handle_divrem_overflow"),
        "UndefinedBehaviorSanitizer: a division overflowed or was by zero",
    ),
    (
        Starts("__ubsan_handle_out_of_bounds"),
        "UndefinedBehaviorSanitizer: an array index is out of bounds",
    ),
    (
        Starts("__ubsan_handle_shift_out_of_bounds"),
        "UndefinedBehaviorSanitizer: a shift is too large or of a negative value",
    ),
    (
        Starts("__ubsan_handle_type_mismatch"),
        "UndefinedBehaviorSanitizer: a pointer is null, misaligned or to an object of the wrong type",
    ),
    (
        Starts("__ubsan_handle_builtin_unreachable"),
        "UndefinedBehaviorSanitizer: unreachable code was reached",
    ),
    (
        Starts("__ubsan"),
        "UndefinedBehaviorSanitizer found an error",
    ),
    (
        Has("panicking::panic_bounds_check"),
        "Rust panic: an index is out of bounds",
    ),
    (
        Has("slice::index::slice_"),
        "Rust panic: a range is out of bounds",
    ),
    (Has("option::unwrap_failed"), "Rust panic: unwrap of None"),
    (Has("option::expect_failed"), "Rust panic: expect of None"),
    (Has("result::unwrap_failed"), "Rust panic: unwrap of an Err"),
    (
        Has("panicking::assert_failed"),
        "Rust panic: an assertion failed",
    ),
    (
        Has("panicking::panic_const::panic_const_div_by_zero"),
        "Rust panic: a division by zero",
    ),
    (
        Has("panicking::panic_const::panic_const_"),
        "Rust panic: an arithmetic operation overflowed",
    ),
    (
        Has("panicking::panic_cannot_unwind"),
        "Rust panic in a function that must not unwind",
    ),
    (
        Has("panicking::panic_in_cleanup"),
        "Rust panic while another panic unwound",
    ),
    (
        Has("cell::panic_already_borrowed"),
        "Rust panic: a RefCell is already borrowed",
    ),
    (
        Has("cell::panic_already_mutably_borrowed"),
        "Rust panic: a RefCell is already borrowed",
    ),
    (
        Has("panicking::panic_misaligned_pointer_dereference"),
        "Rust panic: a pointer is misaligned",
    ),
    (
        Has("panicking::panic_null_pointer_dereference"),
        "Rust panic: a pointer is null",
    ),
    (Has("alloc::handle_alloc_error"), "Rust: out of memory"),
    (Has("alloc::rust_oom"), "Rust: out of memory"),
    (
        Has("raw_vec::capacity_overflow"),
        "Rust panic: a collection is too large",
    ),
    (
        Has("__cxa_pure_virtual"),
        "a pure virtual function was called",
    ),
    (Is("_purecall"), "a pure virtual function was called"),
    (
        Has("__stack_chk_fail"),
        "a buffer on the stack was overrun (stack protector)",
    ),
    (
        Has("__chk_fail"),
        "a buffer would have been overrun (fortify)",
    ),
    (
        Has("__fortify_fail"),
        "a buffer was or would have been overrun (fortify)",
    ),
    (
        Is("malloc_printerr"),
        "malloc found that the heap is damaged, or memory was freed twice",
    ),
    (Is("__assert_fail"), "an assertion failed"),
    (Is("__assert_rtn"), "an assertion failed"),
    (Is("__assert2"), "an assertion failed"),
    (Is("_wassert"), "an assertion failed"),
    (
        Starts("FDebug::CheckVerifyFailed"),
        "an assertion (check) failed (Unreal Engine)",
    ),
    (
        Starts("FDebug::AssertFailed"),
        "an assertion (check) failed (Unreal Engine)",
    ),
    (
        Starts("FDebug::EnsureFailed"),
        "an ensure failed; the program may have gone on (Unreal Engine)",
    ),
    (
        Starts("v8::internal::V8::FatalProcessOutOfMemory"),
        "JavaScript is out of memory (V8)",
    ),
    (
        Starts("node::OOMErrorHandler"),
        "JavaScript is out of memory (V8)",
    ),
    (
        Starts("base::TerminateBecauseOutOfMemory"),
        "out of memory (Chromium)",
    ),
    (
        Starts("base::internal::OnNoMemory"),
        "out of memory (Chromium)",
    ),
    (
        Has("partition_alloc::internal::OnNoMemory"),
        "out of memory (Chromium)",
    ),
    (Is("runtime.fatalpanic"), "a Go panic was not recovered"),
    (Is("runtime.throw"), "a fatal error of the Go runtime"),
    (Is("runtime.fatal"), "a fatal error of the Go runtime"),
    (Is("runtime.fatalthrow"), "a fatal error of the Go runtime"),
    (
        Is("runtime.sigpanic"),
        "the Go runtime turned a signal into a panic",
    ),
    (
        Has("_assertionFailure("),
        "a Swift assertion or precondition failed",
    ),
    (
        Is("objc_exception_throw"),
        "an Objective-C exception was thrown",
    ),
    (Has("rust_begin_unwind"), "Rust panic"),
    (Has("panicking::panic"), "Rust panic"),
    (Has("panicking::rust_panic"), "Rust panic"),
];

/// `std::terminate` and what calls it. A throw below it on the stack says why.
const TERMINATES: [Match; 5] = [
    Is("std::terminate()"),
    Is("std::terminate"),
    Has("__cxxabiv1::__terminate"),
    Has("__verbose_terminate_handler"),
    Is("__std_terminate"),
];
const THROWS: [Match; 3] = [
    Is("__cxa_throw"),
    Is("_CxxThrowException"),
    Is("__cxa_rethrow"),
];

impl Match {
    fn matches(&self, function: &str) -> bool {
        match self {
            Is(name) => function == *name,
            Starts(name) => function.starts_with(name),
            Has(name) => function.contains(name),
        }
    }
}

pub fn reason_text(draft: &mut Draft) -> Result<(), String> {
    let Some(walk) = &draft.walk else {
        return Ok(());
    };
    let of_stack = walk
        .crashing_thread()
        .and_then(|(_, thread)| of_stack(thread));
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

/// What the functions of a stack say.
fn of_stack(thread: &Thread) -> Option<&'static str> {
    let frames = || thread.frames.iter().take(FRAMES_MAX).flat_map(functions);
    let is_one_of =
        |names: &[Match]| frames().any(|function| names.iter().any(|name| name.matches(function)));
    let said = frames().find_map(|function| {
        let entry = FUNCTIONS.iter().find(|(name, _)| name.matches(function))?;
        Some(entry.1)
    });
    // A panic is named by its innermost function, which is often the general one.
    let said = match said {
        Some("Rust panic") => frames()
            .filter_map(|function| FUNCTIONS.iter().find(|(name, _)| name.matches(function)))
            .map(|(_, text)| *text)
            .find(|text| text.starts_with("Rust") && *text != "Rust panic")
            .or(said),
        said => said,
    };
    said.or_else(|| {
        is_one_of(&TERMINATES).then(|| {
            if is_one_of(&THROWS) {
                "std::terminate was called: a C++ exception was not caught"
            } else {
                "std::terminate was called"
            }
        })
    })
}

/// The functions of a frame, from the innermost outwards.
fn functions(frame: &Frame) -> impl Iterator<Item = &str> {
    let inlines = frame.inlines.iter().map(|inline| &inline.function);
    inlines
        .chain([&frame.function])
        .flatten()
        .map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(functions: &[&str]) -> Option<&'static str> {
        let frame = |function: &&str| Frame {
            function: Some((*function).to_owned()),
            ..Frame::default()
        };
        of_stack(&Thread {
            frames: functions.iter().map(frame).collect(),
            ..Thread::default()
        })
    }

    #[test]
    fn a_runtime_is_recognised_by_its_functions() {
        for (functions, text) in [
            (
                &[
                    "raise",
                    "abort",
                    "std::sys::abort_internal",
                    "std::panicking::rust_panic_with_hook",
                    "rust_begin_unwind",
                    "core::panicking::panic_fmt",
                    "core::panicking::panic_bounds_check",
                    "app::main",
                ][..],
                Some("Rust panic: an index is out of bounds"),
            ),
            (
                &[
                    "std::panicking::rust_panic_with_hook",
                    "core::panicking::panic_fmt",
                    "app::main",
                ],
                Some("Rust panic"),
            ),
            (
                &[
                    "raise",
                    "abort",
                    "__gnu_cxx::__verbose_terminate_handler()",
                    "__cxxabiv1::__terminate(void (*)())",
                    "std::terminate()",
                    "__cxa_throw",
                    "main",
                ],
                Some("std::terminate was called: a C++ exception was not caught"),
            ),
            (
                &["abort", "std::terminate()", "app::noexcept_function()"],
                Some("std::terminate was called"),
            ),
            (
                &[
                    "raise",
                    "abort",
                    "__assert_fail_base",
                    "__assert_fail",
                    "main",
                ],
                Some("an assertion failed"),
            ),
            (
                &[
                    "runtime.raise",
                    "runtime.dieFromSignal",
                    "runtime.fatalpanic",
                    "runtime.gopanic",
                    "main.main",
                ],
                Some("a Go panic was not recovered"),
            ),
            (&["abort", "app::report", "main"], None),
            (&[], None),
        ] {
            assert_eq!(said(functions), text, "{functions:?}");
        }
        // A function far from the innermost frame did not call abort.
        let mut deep = vec!["f"; FRAMES_MAX];
        deep.push("__assert_fail");
        assert_eq!(said(&deep), None);
    }
}
