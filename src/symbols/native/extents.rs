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
    (code.symbols)
        .retain(|symbol| ranges.is_empty() || containing(ranges, symbol.address).is_some());
    code.symbols
        .sort_by_key(|symbol| (symbol.address, symbol.size == 0, symbol.rank));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn symbol(address: u64, size: u64, name: &'static str) -> Symbol<'static> {
        Symbol {
            address,
            size,
            rank: 0,
            name: name.into(),
        }
    }

    /// The functions as text: address, end and name, `?` for none.
    fn found(
        ranges: &[Range],
        symbols: &[Symbol<'static>],
        extents: &[Range],
        known: &[Range],
    ) -> Vec<String> {
        let mut code = Code {
            ranges: ranges.to_vec(),
            symbols: symbols.to_vec(),
            extents: extents.to_vec(),
            ..Code::default()
        };
        settle(&mut code);
        let plain = plain_functions(&code, known);
        for pair in plain.windows(2) {
            assert!(
                pair[0].address + pair[0].size <= pair[1].address,
                "{plain:?}"
            );
        }
        let shown = plain.iter().map(|function| {
            let name = function.symbol.map_or("?", |at| &code.symbols[at].name);
            let end = function.address + function.size;
            format!("{:x}-{end:x} {name}", function.address)
        });
        shown.collect()
    }

    const TEXT: Range = (0x100, 0x200);

    #[test]
    fn a_symbol_names_its_own_addresses_only() {
        // An exported function, two that are known from unwind data, and the gap between them.
        let exports = [symbol(0x110, 0x10, "abort")];
        let extents = [(0x110, 0x120), (0x120, 0x130), (0x140, 0x150)];
        assert_eq!(
            found(&[TEXT], &exports, &extents, &[]),
            ["110-120 abort", "120-130 ?", "140-150 ?"]
        );
        // Without a size, the end is that of its extent, or the next thing that is known.
        let unsized_symbols = [
            symbol(0x110, 0, "a"),
            symbol(0x160, 0, "b"),
            symbol(0x170, 0, "c"),
        ];
        assert_eq!(
            found(&[TEXT], &unsized_symbols, &extents, &[]),
            [
                "110-120 a",
                "120-130 ?",
                "140-150 ?",
                "160-170 b",
                "170-200 c"
            ]
        );
    }

    #[test]
    fn functions_with_debug_information_come_first() {
        let symbols = [
            symbol(0x100, 0x80, "wide"),
            symbol(0x118, 0, "label"),
            symbol(0x150, 4, "f"),
        ];
        let known = [(0x110, 0x120), (0x150, 0x160)];
        assert_eq!(
            found(&[TEXT], &symbols, &[(0x100, 0x170)], &known),
            ["100-110 wide", "120-150 ?", "160-170 ?"]
        );
    }

    #[test]
    fn of_several_names_for_an_address_the_best_one_is_used() {
        let local = Symbol {
            rank: 2,
            ..symbol(0x110, 8, "local")
        };
        let label = Symbol {
            rank: 0,
            ..symbol(0x110, 0, "label")
        };
        let symbols = [
            local,
            label,
            symbol(0x110, 8, "global"),
            symbol(0x114, 0, "inside"),
        ];
        assert_eq!(found(&[TEXT], &symbols, &[], &[]), ["110-118 global"]);
    }

    #[test]
    fn data_holds_no_code_and_sizes_may_lie() {
        let symbols = [
            symbol(0x50, 8, "before"),
            symbol(0x1f0, 0x1000, "past the end"),
            symbol(0x200, 8, "_fini"),
            symbol(0x300, u64::MAX, "overflow"),
            symbol(0x380, u64::MAX, "more"),
            symbol(u64::MAX, u64::MAX, "top"),
        ];
        let extents = [(0x1f8, u64::MAX), (0x1f8, 0x1f0), (0, 0), (0x3f0, 0x3f8)];
        assert_eq!(
            found(&[TEXT, (0x300, 0x400)], &symbols, &extents, &[]),
            ["1f0-200 past the end", "300-380 overflow", "380-400 more"]
        );
        assert!(found(&[], &[symbol(0x10, 0, "endless")], &[], &[]).is_empty());
        assert_eq!(found(&[], &[symbol(0x10, 4, "f")], &[], &[]), ["10-14 f"]);
    }

    #[test]
    fn extents_may_overlap_and_nest() {
        let extents = [
            (0x100, 0x180),
            (0x110, 0x120),
            (0x170, 0x190),
            (0x100, 0x104),
        ];
        assert_eq!(
            found(&[TEXT], &[], &extents, &[]),
            ["100-180 ?", "180-190 ?"]
        );
        let known = [(0x108, 0x130), (0x110, 0x118)];
        assert_eq!(
            found(&[TEXT], &[], &extents, &known),
            ["100-108 ?", "130-180 ?", "180-190 ?"]
        );
    }

    #[test]
    fn any_numbers_give_functions_that_do_not_overlap() {
        let mut state = 7u64;
        let mut next = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % below
        };
        for _ in 0..2_000 {
            let symbols: Vec<_> = (0..next(8))
                .map(|_| symbol(next(0x120) + 0xf0, next(4) * next(0x40), "s"))
                .collect();
            let extents: Vec<_> = (0..next(8))
                .map(|_| (next(0x120) + 0xf0, next(0x120) + 0xf0))
                .collect();
            found(&[TEXT, (0x208, 0x220)], &symbols, &extents, &[]);
        }
    }
}
