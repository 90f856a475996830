//! The name of a frame: its text, and what is known about it.

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;

use super::families::{Known, Owner};

/// Number of frames of a stack that are looked at, inlined calls included.
pub(crate) const FRAMES_MAX: usize = 40;

/// The language whose rules normalise a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Language {
    Cpp,
    Rust,
    Swift,
    /// Go, Objective-C: names are as their language writes them.
    Verbatim,
}

impl Language {
    pub(crate) const COUNT: usize = 4;
}

/// The result of matching a frame against the lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// The frames above this frame are left out.
    pub(crate) is_sentinel: bool,
    /// The frame never belongs to a signature.
    pub(crate) is_irrelevant: bool,
    /// A signature continues after this frame.
    pub(crate) is_prefix: bool,
    /// What the families know about it.
    pub(crate) known: Known,
}

/// The text of a frame, and what is known about it.
#[derive(Clone, Debug)]
pub(super) struct Name<'d> {
    pub(crate) text: NameText<'d>,
    /// Length of the part that is matched against the lists.
    pub(crate) listed_bytes: usize,
    /// The verdict of the lists, if it is known.
    pub(crate) verdict: Option<Verdict>,
    pub(crate) place: Place,
}

/// Where the code of a frame is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Whether a function or a source line is known, and not only a module or an address.
    pub(crate) is_code: bool,
    /// Whether a module is known.
    pub(crate) has_module: bool,
    pub(crate) owner: Owner,
    /// Whether a list says who owns the module.
    pub(crate) is_listed: bool,
    /// The file name of the module, if it is known who owns it.
    pub(crate) file: Option<Arc<str>>,
}

/// A text of this crash only, or one that many crashes share.
#[derive(Clone, Debug)]
pub(super) enum NameText<'d> {
    Own(Cow<'d, str>),
    Shared(Arc<str>),
}

impl Deref for NameText<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            NameText::Own(text) => text,
            NameText::Shared(text) => text,
        }
    }
}

impl<'d> Name<'d> {
    pub(crate) fn new(text: impl Into<Cow<'d, str>>) -> Self {
        let text = text.into();
        let listed_bytes = text.len();
        Name {
            text: NameText::Own(text),
            listed_bytes,
            verdict: None,
            place: Place::default(),
        }
    }

    /// The same name, of code at a place.
    pub(crate) fn at(self, place: Place) -> Self {
        Name { place, ..self }
    }

    /// The part that is matched against the lists.
    pub(crate) fn listed(&self) -> &str {
        &self.text[..self.listed_bytes]
    }

    /// Whether this is the name of a module and not of code, so that a repetition adds no information.
    pub(crate) fn is_module_like(&self) -> bool {
        let name = self.listed();
        let ends_with = |end: &str| {
            let from = name.len().checked_sub(end.len());
            from.and_then(|from| name.get(from..))
                .is_some_and(|s| s.eq_ignore_ascii_case(end))
        };
        !name.starts_with("(unloaded")
            && (ends_with(".dll")
                || ends_with(".so")
                || name == "XUL"
                || name == "<name omitted>"
                || name.starts_with("<unknown in"))
    }
}
