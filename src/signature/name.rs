//! The name of a frame: its text, and what is known about it.

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;

/// The language whose rules normalise a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Language {
    Cpp,
    Rust,
}

/// The result of matching a frame against the lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// The frames above this frame are left out.
    pub is_sentinel: bool,
    /// The frame never belongs to a signature.
    pub is_irrelevant: bool,
    /// A signature continues after this frame.
    pub is_prefix: bool,
}

/// The text of a frame, and what is known about it.
#[derive(Clone, Debug)]
pub(super) struct Name<'d> {
    pub text: NameText<'d>,
    /// Length of the part that is matched against the lists.
    pub listed_bytes: usize,
    /// The verdict of the lists, if it is known.
    pub verdict: Option<Verdict>,
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
    pub fn new(text: impl Into<Cow<'d, str>>) -> Self {
        let text = text.into();
        let listed_bytes = text.len();
        Name {
            text: NameText::Own(text),
            listed_bytes,
            verdict: None,
        }
    }

    /// The part that is matched against the lists.
    pub fn listed(&self) -> &str {
        &self.text[..self.listed_bytes]
    }

    /// Whether this is the name of a module and not of code, so that a repetition adds no information.
    pub fn is_module_like(&self) -> bool {
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
