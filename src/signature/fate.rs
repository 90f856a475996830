//! What becomes of a frame on the way to a signature.

use super::step::Step;

/// What happened to a frame when the stack was processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing is known that could name it.
    Nameless,
    /// It is above a sentinel.
    AboveSentinel,
    /// It is in the irrelevant list.
    Irrelevant,
    /// It is only a module name, the same as that of the frame added before it.
    Repeated,
    /// It is part of the signature. The prefix list says that another frame follows.
    Prefix,
    /// It is part of the signature and ends it.
    Last,
    /// The signature was complete before it.
    NotReached,
    /// No other frame could name the crash, so this one was used.
    Fallback,
    /// It ran after the crash: it is above the dispatch of a signal or an exception.
    AboveDispatch,
    /// It reports the failure: it is above the outermost frame of the failure's machinery.
    AboveMachinery,
    /// It is machinery of a failure, or a crash handler.
    Machinery,
    /// Every program calls it.
    Generic,
    /// It has no name, and its module is a library's.
    NamelessLibrary,
    /// Its module is a library's.
    Library,
    /// It is part of the signature as the first function of a library.
    LibraryKept,
    /// Its module is a driver's, or another program added it.
    Driver,
    /// Its module is part of the signature as the first driver or foreign module.
    DriverKept,
    /// It is part of the signature, as one of the functions of a recursion.
    Cycle,
    /// It repeats functions of a recursion.
    Repetition,
}

impl Fate {
    /// The step of the ruleset `crashkeep` that decided about the frame.
    pub(crate) fn step(self) -> Option<&'static str> {
        let step = match self {
            Fate::AboveDispatch => Step::Dispatch,
            Fate::AboveMachinery | Fate::Machinery => Step::Machinery,
            Fate::Generic => Step::Generic,
            Fate::NamelessLibrary | Fate::Library | Fate::LibraryKept => Step::Library,
            Fate::Driver | Fate::DriverKept => Step::Driver,
            Fate::Cycle | Fate::Repetition => Step::Recursion,
            Fate::Nameless
            | Fate::AboveSentinel
            | Fate::Irrelevant
            | Fate::Repeated
            | Fate::Prefix
            | Fate::Last
            | Fate::NotReached
            | Fate::Fallback => return None,
        };
        Some(step.name())
    }
}
