//! What the functions of a stack tell people about the crash.

use super::name::Name;
use super::{CrashData, Generator, native, rules};

impl Generator {
    /// What the functions of the crashing stack say to people: `Rust panic: unwrap of None`.
    pub(crate) fn sentence(&self, data: &CrashData) -> Option<&str> {
        let lists = self.scoped(&data.product);
        let thread = data.thread(rules::crashing_thread(data).1);
        let system = native::System::new(&data.os, &data.reason);
        let names = native::names(thread, system.is_windows, &lists).ok()?;
        lists.sentence(names.iter().map(Name::listed))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::value::Value;
    use super::super::{Frame, Lists, Ruleset, Thread};
    use super::*;

    #[test]
    fn a_runtime_is_recognised_by_its_functions() {
        for ruleset in [Ruleset::Crashkeep, Ruleset::Socorro] {
            let generator = Generator::new(ruleset, Arc::new(Lists::builtin()));
            let said = |functions: &[&'static str]| {
                let frame = |function: &&'static str| Frame {
                    function: (*function).into(),
                    ..Frame::default()
                };
                let data = CrashData {
                    crashing_thread: Value::Int(0),
                    threads: vec![Thread {
                        frames: functions.iter().map(frame).collect(),
                        ..Thread::default()
                    }],
                    ..CrashData::default()
                };
                generator.sentence(&data).map(str::to_owned)
            };
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
                assert_eq!(said(functions).as_deref(), text, "{functions:?}");
            }
            // A function far from the innermost frame did not call abort.
            let mut deep = vec!["f"; super::super::FRAMES_MAX];
            deep.push("__assert_fail");
            assert_eq!(said(&deep), None);
        }
    }
}
