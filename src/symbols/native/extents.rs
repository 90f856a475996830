//! Functions of code that has no debug information, with honest extents.
//!
//! A symbol names the addresses from its own to the end of its function, and no others. Debuggers that let a
//! symbol name everything up to the next symbol call half of a stripped library by the name of a neighbour.
//! The end is the symbol's size, else what the unwind data says, else the next symbol or the end of the
//! section. A function that is only known from unwind data gets the name `<unknown in MODULE>`.

use super::code::{Code, Symbol};
use super::ranges::{Range, containing};

/// A function that debug information does not describe.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plain {
    pub(super) address: u64,
    pub(super) size: u64,
    /// Index of its symbol; `None` if only its extent is known.
    pub(super) symbol: Option<usize>,
}

/// Sorts the symbols of `code`, and keeps the best one for each address. Removes those that name no code.
pub(super) fn settle(code: &mut Code<'_>) {
    let ranges = &code.ranges;
    (code.symbols).retain(|symbol| ranges.is_empty() || containing(ranges, symbol.address).is_some());
    code.symbols
        .sort_by(|a, b| (a.address, a.size == 0, a.rank).cmp(&(b.address, b.size == 0, b.rank)));
    code.symbols.dedup_by_key(|symbol| symbol.address);
    code.extents.retain(|range| range.0 < range.1);
    code.extents
        .sort_unstable_by_key(|range| (range.0, std::cmp::Reverse(range.1)));
    code.extents.dedup_by_key(|range| range.0);
}

/// The functions of `code` outside of `known`, which has the extents of functions with debug information,
/// sorted. `code` must be settled. The result is sorted and disjoint, and disjoint from `known` as far as
/// that is disjoint.
pub(super) fn plain_functions(code: &Code<'_>, known: &[Range]) -> Vec<Plain> {
    let named = named(code, known);
    let mut all = Vec::with_capacity(named.len());
    // A sweep over extents, with everything that has a name cut out of them.
    let mut taken = Merged::new(&named, known);
    let mut end = 0;
    for &(from, to) in &code.extents {
        let (mut from, to) = (from.max(end), to.min(section_end(code, from)));
        while from < to {
            let next = taken.next_from(from);
            if next.0 > from {
                all.push(Plain {
                    address: from,
                    size: next.0.min(to) - from,
                    symbol: None,
                });
            }
            from = next.1.max(next.0.min(to));
            end = end.max(from.min(to));
        }
        end = end.max(to);
    }
    all.extend(named);
    all.sort_unstable_by_key(|plain| plain.address);
    all
}

/// The symbols that are not inside a known function, with their extents.
fn named(code: &Code<'_>, known: &[Range]) -> Vec<Plain> {
    let mut named = Vec::new();
    let mut known = known.iter().copied().peekable();
    let mut extents = code.extents.iter().copied().peekable();
    // The ends of the last known function and of the last extent that start at or before the symbol.
    let (mut known_end, mut extent) = (0, (0, 0));
    // The end of the last function that a sized symbol named. A symbol without a size in it is a label.
    let mut sized_end = 0;
    for (at, symbol) in code.symbols.iter().enumerate() {
        let from = symbol.address;
        while let Some(range) = known.next_if(|range| range.0 <= from) {
            known_end = known_end.max(range.1);
        }
        while let Some(range) = extents.next_if(|range| range.0 <= from) {
            extent = range;
        }
        if from < known_end || (symbol.size == 0 && from < sized_end) {
            continue;
        }
        let limit = known.peek().map_or(u64::MAX, |range| range.0);
        let limit = limit.min(section_end(code, from));
        let end = match symbol.size {
            0 => {
                let in_extent = from < extent.1;
                let next_extent = extents.peek().map_or(u64::MAX, |range| range.0);
                let unsized_end = next_start(&code.symbols, at);
                let by_extent = if in_extent { extent.1 } else { next_extent };
                unsized_end.min(by_extent)
            }
            size => from.saturating_add(size).min(next_sized(&code.symbols, at)),
        };
        let end = end.min(limit);
        // Nothing says where the last symbol of a file without sections ends.
        if end == u64::MAX || end <= from {
            continue;
        }
        if symbol.size > 0 {
            sized_end = end;
        }
        named.push(Plain {
            address: from,
            size: end - from,
            symbol: Some(at),
        });
    }
    named
}

fn section_end(code: &Code<'_>, address: u64) -> u64 {
    if code.ranges.is_empty() {
        return u64::MAX;
    }
    containing(&code.ranges, address).map_or(address, |range| range.1)
}

fn next_start(symbols: &[Symbol<'_>], at: usize) -> u64 {
    symbols.get(at + 1).map_or(u64::MAX, |next| next.address)
}

/// The next symbol that has a size. Symbols without one may be labels within the function. Each label is
/// passed once by the symbol before it: a symbol after the labels starts at the next sized one.
fn next_sized(symbols: &[Symbol<'_>], at: usize) -> u64 {
    let end = symbols[at].address.saturating_add(symbols[at].size);
    let later = symbols[at + 1..].iter();
    later
        .take_while(|next| next.address < end)
        .find(|next| next.size > 0)
        .map_or(u64::MAX, |next| next.address)
}

/// Walks over two sorted lists of functions as over one.
struct Merged<'a> {
    named: &'a [Plain],
    known: &'a [Range],
}

impl<'a> Merged<'a> {
    fn new(named: &'a [Plain], known: &'a [Range]) -> Self {
        Self { named, known }
    }

    /// The first function that ends after `from`. Its start is at least `from` or it covers `from`. Must be
    /// called with addresses that do not decrease.
    fn next_from(&mut self, from: u64) -> Range {
        while let Some((first, rest)) = self.named.split_first()
            && first.address + first.size <= from
        {
            self.named = rest;
        }
        while let Some((first, rest)) = self.known.split_first()
            && first.1 <= from
        {
            self.known = rest;
        }
        let named = self.named.first().map(|f| (f.address, f.address + f.size));
        let known = self.known.first().copied();
        let next = [named, known].into_iter().flatten().min();
        next.unwrap_or((u64::MAX, u64::MAX))
    }
}
