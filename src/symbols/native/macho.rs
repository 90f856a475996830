//! The code and the symbols of a Mach-O file, and the list of functions that Apple's linker writes.
//!
//! symbolic takes everything up to the next symbol for a symbol's function, although a stripped program still
//! has the list of all functions. Can go when symbolic reads that list.

use goblin::mach::MachO;
use goblin::mach::load_command::CommandVariant;
use symbolic_debuginfo::macho::MachObject;

use super::code::{Code, SYMBOLS_MAX, Symbol};
use super::ranges::{Range, containing, joined};

/// Flags of a section with instructions only, or with some.
const INSTRUCTIONS: u32 = 0x8000_0000 | 0x400;
/// The flag of a symbol that other files see, and the bits that only symbols for debuggers have.
const N_EXT: u8 = 0x01;
const N_STAB: u8 = 0xe0;

pub(super) fn code_of<'d>(object: &MachObject<'d>) -> Code<'d> {
    let symbols = object.symbols().take(SYMBOLS_MAX).filter_map(|symbol| {
        Some(Symbol {
            address: symbol.address,
            size: 0,
            rank: 0,
            name: symbol.name?,
        })
    });
    let mut code = Code {
        symbols: symbols.collect(),
        ..Code::default()
    };
    let Ok(file) = MachO::parse_lossy(object.data(), 0) else {
        return code;
    };
    let base = object.load_address();
    code.ranges = ranges(&file, base);
    code.extents = functions(&file, object.data(), &code.ranges);
    let mut locals = file.symbols().flatten().filter(|(name, symbol)| {
        let is_local = symbol.n_type & (N_EXT | N_STAB) == 0 && !name.is_empty();
        let address = symbol.n_value.checked_sub(base);
        is_local && address.is_some_and(|address| containing(&code.ranges, address).is_some())
    });
    // A stripped library has its exports only. In a small program, all functions may be exported.
    code.only_exports = locals.next().is_none() && code.symbols.len() < code.extents.len() / 10 * 9;
    code
}

fn ranges(file: &MachO<'_>, base: u64) -> Vec<Range> {
    let sections = file
        .segments
        .iter()
        .flat_map(|segment| segment.into_iter().flatten());
    let code = sections.filter(|(section, _)| section.flags & INSTRUCTIONS != 0);
    let ranges = code.filter_map(|(section, _)| {
        let from = section.addr.checked_sub(base)?;
        (section.size > 0).then_some((from, from.checked_add(section.size)?))
    });
    joined(ranges.collect())
}

/// The functions, each up to the next one. The list has the distances of their starts, from the start of the
/// module on.
fn functions(file: &MachO<'_>, data: &[u8], code: &[Range]) -> Vec<Range> {
    let list = file.load_commands.iter().find_map(|command| {
        let CommandVariant::FunctionStarts(list) = command.command else {
            return None;
        };
        data.get(list.dataoff as usize..)?
            .get(..list.datasize as usize)
    });
    let mut starts = starts(list.unwrap_or_default());
    starts.retain(|&start| containing(code, start).is_some());
    let ends = starts.iter().skip(1).copied().chain([u64::MAX]);
    let extents = starts.iter().zip(ends).filter_map(|(&from, next)| {
        let section = containing(code, from)?;
        Some((from, next.min(section.1)))
    });
    extents.collect()
}

/// Reads any bytes as a list of functions.
pub(super) fn read_any(bytes: &[u8]) -> usize {
    starts(bytes).len()
}

fn starts(list: &[u8]) -> Vec<u64> {
    let mut starts = Vec::new();
    let (mut at, mut distance, mut shift) = (0u64, 0u64, 0);
    for &byte in list {
        if shift > 63 || starts.len() == SYMBOLS_MAX {
            break;
        }
        distance |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 != 0 {
            continue;
        }
        // The list is padded with zeros.
        let Some(next) = at.checked_add(distance).filter(|_| distance > 0) else {
            break;
        };
        at = next;
        starts.push(at);
        (distance, shift) = (0, 0);
    }
    starts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_linkers_list_of_functions_is_read_up_to_its_padding() {
        assert_eq!(
            starts(&[0x80, 0x20, 0x10, 0x85, 0x01, 0, 0, 7]),
            [0x1000, 0x1010, 0x1095]
        );
        assert!(starts(&[]).is_empty());
        assert_eq!(starts(&[0x10, 0x80]), [0x10]);
        assert!(starts(&[0xff; 40]).is_empty());
        let overflow = [&[0xff; 9][..], &[0x01], &[0xff; 9], &[0x01]].concat();
        assert_eq!(starts(&overflow), [u64::MAX]);
    }
}
