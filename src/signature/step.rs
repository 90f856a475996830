//! The steps of the ruleset `crashkeep`. Each has a name, so that a site can switch it off.

/// A part of this ruleset that a site can switch off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Dispatch,
    Machinery,
    Message,
    Generic,
    Library,
    Driver,
    Recursion,
    Spelling,
}

/// The name of a step, and what it does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StepText {
    pub(crate) name: &'static str,
    /// In a sentence.
    pub(crate) what: &'static str,
}

/// All steps, in the order of [`Step`].
pub(crate) const STEPS: [StepText; 8] = [
    StepText {
        name: "dispatch",
        what: "frames above the last dispatch of a signal or an exception are left out: they ran after the crash",
    },
    StepText {
        name: "machinery",
        what: "frames that abort, assert, panic, throw or handle a crash are left out; the kind of the failure is put in front",
    },
    StepText {
        name: "message",
        what: "the stable part of what a failure says is put behind its kind",
    },
    StepText {
        name: "generic",
        what: "code that every program calls, such as containers, locks and event loops, is left out",
    },
    StepText {
        name: "library",
        what: "code of system libraries does not end a signature: the first function of a library is kept in front of the program's, and frames without a name are left out",
    },
    StepText {
        name: "driver",
        what: "a frame in a driver, or in a module that another program added, is named by its module, because its exports name other code",
    },
    StepText {
        name: "recursion",
        what: "a stack that repeats a few functions up to its end is named by these functions",
    },
    StepText {
        name: "spelling",
        what: "names are written the same way for every compiler: demangled, without suffixes such as .cold, and without numbers of lambdas and closures",
    },
];

impl Step {
    pub(crate) fn name(self) -> &'static str {
        STEPS[self as usize].name
    }
}
