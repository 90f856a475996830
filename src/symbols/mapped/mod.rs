//! Symbols in a form that is used in place: a file mapped into memory, and binary search (ADR 9).
//!
//! A Breakpad symbol file is text. Parsing it needs two bytes of heap for each of its bytes, and a second for
//! every 150 MB. The mapped form is the same content, sorted once. Opening it costs a system call, a look-up
//! costs half a microsecond, and all walkers share the pages that they touch.
//!
//! - `layout` draws the bytes; [`VERSION`] is their version.
//! - `text` parses one line of text, `convert` makes the mapped form of a whole text.
//! - `reader` looks things up ([`Mapped`]).
//! - `folder` stores the files and creates them ([`MappedDir`]).
//!
//! The text is the truth. A mapped file stores the length and modification time of its text ([`Stamp`]). It
//! is made again if these or its version differ, or if its checksum is wrong. Deleting the folder costs time,
//! never data.

mod convert;
mod folder;
mod layout;
mod reader;
pub(super) mod text;

use std::fs::Metadata;
use std::time::UNIX_EPOCH;

pub use convert::convert;
pub use folder::MappedDir;
pub use layout::VERSION;
pub(crate) use layout::{Cfi, Function, Public, Win};
pub use reader::{Check, Mapped};

/// Identifies one version of a symbol file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub bytes: u64,
    /// Nanoseconds since 1970; 0 if the system does not provide it.
    pub modified_ns: u64,
}

impl Stamp {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        let modified = metadata.modified().ok();
        let since = modified.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        Self {
            bytes: metadata.len(),
            modified_ns: since
                .and_then(|since| u64::try_from(since.as_nanos()).ok())
                .unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests;
