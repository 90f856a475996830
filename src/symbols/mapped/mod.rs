//! Symbols in a form that is used where it lies: a file in memory by a mapping, and binary search.
//!
//! A Breakpad symbol file is text, and parsing it costs two bytes of heap for each of its own and
//! a second for every 150 MB. This is the same content sorted once: opening costs a system call,
//! a look-up half a microsecond, and all walkers share the pages that they touch.
//!
//! - `layout` draws the bytes; [`VERSION`] is their version.
//! - `text` takes one line of text apart, `convert` makes the mapped form of a whole text.
//! - `reader` answers questions ([`Mapped`]).
//! - `folder` is where the files lie and how they come there ([`MappedDir`]).
//!
//! The text stays the truth. A mapped file carries the length and time of change of the text that
//! it was made from ([`Stamp`]); it is made again where these differ, its version is another, or
//! its checksum is wrong. Deleting the folder costs time, never data.

mod convert;
mod folder;
mod layout;
mod reader;
pub(super) mod text;

use std::fs::Metadata;
use std::time::UNIX_EPOCH;

pub use convert::convert;
pub use folder::MappedDir;
pub use layout::{Cfi, Delta, Function, Inline, Line, Public, VERSION, Win};
pub use reader::{Check, Mapped};

/// Tells one content of a symbol file from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub bytes: u64,
    /// Nanoseconds since 1970; 0 where the system does not tell.
    pub modified_ns: u64,
}

impl Stamp {
    pub fn of(metadata: &Metadata) -> Self {
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
