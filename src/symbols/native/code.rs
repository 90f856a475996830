//! What a file says about its code without debug information: where code is, which symbols name it, and which
//! ranges the unwind data treats as one function.

use std::borrow::Cow;

use super::ranges::Range;

/// Limit of symbols, and of extents, of one file. The largest browsers have some million.
pub(super) const SYMBOLS_MAX: usize = 20_000_000;

/// The code of a file. All addresses are relative to the start of the module.
#[derive(Default)]
pub(super) struct Code<'d> {
    /// The ranges that hold code, sorted and disjoint. Empty if the file does not say it.
    pub(super) ranges: Vec<Range>,
    pub(super) symbols: Vec<Symbol<'d>>,
    /// True if the symbols are only the exported ones, so that most functions have none.
    pub(super) only_exports: bool,
    /// What the unwind data or the linker's list of functions treats as one function each.
    pub(super) extents: Vec<Range>,
}

/// A name for an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Symbol<'d> {
    pub(super) address: u64,
    /// 0 if unknown.
    pub(super) size: u64,
    /// Of several names for an address, the one with the lowest rank is used.
    pub(super) rank: u8,
    pub(super) name: Cow<'d, str>,
}

/// The text up to a NUL, or up to the end.
pub(super) fn c_string(bytes: &[u8]) -> Cow<'_, str> {
    let end = memchr::memchr(0, bytes).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end])
}
