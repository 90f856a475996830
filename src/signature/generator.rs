//! What computes signatures: a ruleset, lists, and the names that it remembers.

use std::sync::{Arc, OnceLock};

use xxhash_rust::xxh3::Xxh3;

use super::crash_data::CrashData;
use super::families::{Owner, Role};
use super::lists::{ListTexts, Lists, Scoped};
use super::memo::Memo;
use super::name::Name;
use super::ruleset::Ruleset;
use super::{native, rules};
use crate::crash::walk::Location;

/// Raise it whenever the same lists give a crash another signature than before.
const RULES_VERSION: u8 = 2;

/// Identifies what signs crashes, apart from the lists that a site changed: the ruleset, this code, and the
/// built-in lists. If it differs from what signed the crashes of a store, they are signed again.
pub fn rules_version(ruleset: Ruleset) -> u128 {
    let mut hash = Xxh3::new();
    hash.update(ruleset.to_string().as_bytes());
    // The ruleset `socorro` is a fixed release of siggen.
    if ruleset == Ruleset::Crashkeep {
        hash.update(&[RULES_VERSION]);
        hash.update(ListTexts::builtin().export().as_bytes());
    }
    hash.digest128()
}

/// What lists say about functions and modules.
#[derive(Debug)]
pub struct CodeOf<'a>(Scoped<'a>);

impl CodeOf<'_> {
    /// Whether a function delivers signals or exceptions.
    pub fn is_dispatch(&self, function: &str) -> bool {
        self.0.verdict(function).known.role == Some(Role::Dispatch)
    }

    /// Whose module this is, by the lists and then by its location. `None` if neither says so.
    pub fn owner(&self, module: &str, location: Option<Location>) -> Option<Owner> {
        let place = self.0.place(module, location, false);
        let is_known =
            place.is_listed || place.owner != Owner::Program || location == Some(Location::Program);
        is_known.then_some(place.owner)
    }
}

/// Computes signatures. Threads can share it, because the lists are compiled once.
#[derive(Debug)]
pub struct Generator {
    pub(super) ruleset: Ruleset,
    pub(super) lists: Arc<Lists>,
    /// Compiled on first use, if `lists` are not the built-in ones.
    builtin: OnceLock<Lists>,
    memo: Option<Memo>,
}

impl Generator {
    pub fn new(ruleset: Ruleset, lists: Arc<Lists>) -> Generator {
        Generator {
            ruleset,
            lists,
            builtin: OnceLock::new(),
            memo: None,
        }
    }

    /// The same, but it remembers the names of functions. For a thread that computes many signatures.
    pub fn remembering(&self) -> Generator {
        Generator {
            memo: Some(Memo::default()),
            ..Generator::new(self.ruleset, self.lists.clone())
        }
    }

    pub fn ruleset(&self) -> Ruleset {
        self.ruleset
    }

    pub fn lists(&self) -> &Arc<Lists> {
        &self.lists
    }

    /// What the functions of the crashing stack say to people: `Rust panic: unwrap of None`.
    pub fn sentence(&self, data: &CrashData) -> Option<&str> {
        let lists = self.scoped(&data.product);
        let thread = data.thread(rules::crashing_thread(data).1);
        let system = native::System::new(&data.os, &data.reason);
        let names = native::names(thread, system.is_windows, &lists).ok()?;
        lists.sentence(names.iter().map(Name::listed))
    }

    /// What the lists say about the code of a product.
    pub fn code_of(&self, product: &str) -> CodeOf<'_> {
        CodeOf(self.scoped(product))
    }

    pub(super) fn scoped(&self, product: &str) -> Scoped<'_> {
        let scoped = self.lists.scoped(self.ruleset, product);
        scoped.remembering(self.memo.as_ref())
    }

    /// The lists for a crash of the watchdog. siggen always uses its built-in lists here, even if other lists
    /// were requested. Difference `watchdog-lists`: the same lists as for all other crashes.
    pub(super) fn watchdog_lists(&self, product: &str) -> Scoped<'_> {
        if self.ruleset != Ruleset::Socorro || self.lists.is_builtin() {
            return self.scoped(product);
        }
        let builtin = self.builtin.get_or_init(Lists::builtin);
        builtin.scoped(self.ruleset, "")
    }
}

#[cfg(test)]
mod tests {
    use super::super::crash_data::{Frame, Thread};
    use super::super::value::Value;
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
            let mut deep = vec!["f"; crate::signature::FRAMES_MAX];
            deep.push("__assert_fail");
            assert_eq!(said(&deep), None);
        }
    }
}
