//! Why a dump has no walk: the error in the dump, as a word of the field and as a sentence.

use std::borrow::Cow;

use minidump_processor::ProcessError;
use serde::{Deserialize, Serialize};

/// A dump that cannot be walked. Trying the same bytes again gives the same result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{sentence} ({status})")]
pub struct WalkError {
    /// One CamelCase word, the same as Socorro's `mdsw_status_string`: `EmptyMinidump`, `MissingHeader`,
    /// `HeaderMismatch`, `VersionMismatch`, `MissingDirectory`, `MissingThreadList`, `MissingSystemInfo`. We
    /// add `BadPacking`, `OutputTooLarge` and `Panic`, and `UnknownError` for anything else.
    pub status: Cow<'static, str>,
    /// For a user: lower case, no full stop, with the value and the limit if there is one.
    pub(crate) sentence: String,
}

impl WalkError {
    pub(super) fn new(status: &'static str, sentence: impl Into<String>) -> Self {
        Self {
            status: Cow::Borrowed(status),
            sentence: sentence.into(),
        }
    }

    /// A walk that panicked. This is our bug, and affects only this dump.
    pub(super) fn panic(message: &str) -> Self {
        Self::new("Panic", format!("panic: {message}"))
    }
}

impl From<minidump::Error> for WalkError {
    /// An error that the preflight does not check keeps the reader's own text.
    fn from(error: minidump::Error) -> Self {
        Self::new(error.name(), format!("the dump cannot be read: {error}"))
    }
}

impl From<ProcessError> for WalkError {
    fn from(error: ProcessError) -> Self {
        match error {
            ProcessError::MinidumpReadError(error) => error.into(),
            ProcessError::MissingThreadList => Self::new(
                error.name(),
                "the dump has no readable list of threads (cut off or damaged?)",
            ),
            ProcessError::MissingSystemInfo => Self::new(
                error.name(),
                "the dump does not say which system and CPU it is from (cut off or damaged?)",
            ),
            ProcessError::UnknownError => Self::new(error.name(), "the dump cannot be walked"),
        }
    }
}
