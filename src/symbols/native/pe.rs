//! The code and the symbols of a Windows program: sections, the COFF symbol table, exports, and the functions
//! that `.pdata` lists.
//!
//! symbolic reads only the exports, and takes everything up to the next one for an export's function. Can go
//! when it reads the symbol table.

use std::borrow::Cow;
use std::io::{self, Write};

use symbolic_common::Arch;
use symbolic_debuginfo::pe::PeObject;

use super::arm64;
use super::code::{Code, SYMBOLS_MAX, Symbol, c_string};
use super::ranges::{Range, joined};

/// The flag of a section with code.
const MEM_EXECUTE: u32 = 0x2000_0000;
/// Bytes of a record of the symbol table.
const RECORD_BYTES: usize = 18;
/// Storage classes of symbols: seen by other files, only by its own.
const EXTERNAL: u8 = 2;
const STATIC: u8 = 3;
/// The type of a function. Compilers set no other bit.
const FUNCTION: u16 = 0x20;
/// The most significant bits of a version of `UNWIND_INFO`, and its flag for a range that continues another one.
const CHAINED: u8 = 4;
/// Limit of parents of a range. symbolic's writer of rules has the same one.
const CHAIN_MAX: usize = 128;

pub(super) fn code_of<'d>(pe: &PeObject<'d>) -> Code<'d> {
    let sections = Sections::of(pe);
    let mut symbols = sections.coff_symbols();
    let only_exports = symbols.is_empty();
    symbols.extend(pe.symbols().take(SYMBOLS_MAX).filter_map(|symbol| {
        Some(Symbol {
            address: symbol.address,
            // symbolic counts everything up to the next export.
            size: 0,
            rank: 0,
            name: symbol.name?,
        })
    }));
    let extents = match pe.arch() {
        Arch::Amd64 | Arch::Amd64h => sections.amd64_functions(pe),
        Arch::Arm64 | Arch::Arm64e => sections.arm64_functions(pe),
        _ => Vec::new(),
    };
    Code {
        ranges: sections.code(),
        symbols,
        only_exports,
        extents,
    }
}

/// Whether the file has code, and not only debug information that was separated from it.
pub(super) fn holds_code(pe: &PeObject<'_>) -> bool {
    let mut code = (pe.sections().iter()).filter(|s| s.characteristics & MEM_EXECUTE != 0);
    // A library of resources has no code at all.
    code.clone().next().is_none() || code.any(|section| section.size_of_raw_data > 0)
}

/// Writes the unwind rules of a program for ARM64. symbolic writes those of other CPUs.
///
/// # Errors
/// The output cannot be written.
pub(super) fn write_arm64(pe: &PeObject<'_>, code: &[Range], out: &mut Vec<u8>) -> io::Result<()> {
    let Some(exceptions) = pe.exception_data() else {
        return Ok(());
    };
    let sections = Sections::of(pe);
    let functions = exceptions.functions_arm64().take(SYMBOLS_MAX).flatten();
    let entries = functions.filter_map(|function| {
        let full = if function.is_packed() {
            None
        } else {
            Some(sections.from(function.unwind_data_rva().into())?)
        };
        Some(arm64::Entry {
            start: function.begin_address,
            packed: function.unwind_data,
            full,
        })
    });
    arm64::write(entries, code, out)
}

/// Writes the rules of leaf functions. Windows requires unwind data for every function that moves the stack
/// pointer or saves a register, so code without it still has the return address where the call put it.
///
/// # Errors
/// The output cannot be written.
pub(super) fn write_leaves(
    pe: &PeObject<'_>,
    code: &Code<'_>,
    out: &mut Vec<u8>,
) -> io::Result<()> {
    // Between functions, compilers fill up to an address that is a multiple of this.
    let (rule, alignment) = match pe.arch() {
        Arch::Amd64 | Arch::Amd64h => (".cfa: $rsp 8 + .ra: .cfa -8 + ^", 16),
        Arch::Arm64 | Arch::Arm64e => (".cfa: sp 0 + .ra: x30", 4),
        _ => return Ok(()),
    };
    // Without any unwind data, the program does not keep to the rules of Windows.
    if code.extents.is_empty() {
        return Ok(());
    }
    let known = joined(code.extents.clone());
    for &(start, end) in &code.ranges {
        let first = known.partition_point(|range| range.1 <= start);
        let within = known[first..].iter().take_while(|range| range.0 < end);
        let mut from = start;
        for &(next, after) in within.chain([&(end, end)]) {
            let function = from.next_multiple_of(alignment);
            // A size has 32 bits in a symbol file.
            if function < next && next - function <= u64::from(u32::MAX) {
                writeln!(
                    out,
                    "STACK CFI INIT {function:x} {:x} {rule}",
                    next - function
                )?;
            }
            from = from.max(after);
        }
    }
    Ok(())
}

/// Reads any bytes as a program with one section of code, for its symbol table and its chains of unwind data.
pub(super) fn read_any(bytes: &[u8]) -> usize {
    let sections = Sections {
        data: bytes,
        sections: vec![Section {
            address: 0,
            size: bytes.len() as u64,
            offset: 0,
            bytes: bytes.len(),
            is_code: true,
        }],
    };
    let parts = (0..bytes.len().min(64)).filter(|&at| sections.is_part(at as u32, 0));
    sections.coff_symbols().len() + parts.count()
}

/// One section: addresses, and where its bytes are.
struct Section {
    address: u64,
    /// In memory.
    size: u64,
    offset: usize,
    /// In the file.
    bytes: usize,
    is_code: bool,
}

struct Sections<'d> {
    data: &'d [u8],
    sections: Vec<Section>,
}

impl<'d> Sections<'d> {
    fn of(pe: &PeObject<'d>) -> Self {
        let sections = pe.sections().iter().map(|section| Section {
            address: section.virtual_address.into(),
            // Old linkers wrote no size in memory.
            size: match section.virtual_size {
                0 => section.size_of_raw_data.into(),
                size => size.into(),
            },
            offset: section.pointer_to_raw_data as usize,
            bytes: section.size_of_raw_data as usize,
            is_code: section.characteristics & MEM_EXECUTE != 0,
        });
        Self {
            data: pe.data(),
            sections: sections.collect(),
        }
    }

    fn code(&self) -> Vec<Range> {
        let code = self.sections.iter().filter(|section| section.is_code);
        joined(
            code.map(|s| (s.address, s.address + s.size))
                .filter(|r| r.0 < r.1)
                .collect(),
        )
    }

    /// `count` bytes at an address relative to the image.
    fn at(&self, address: u64, count: usize) -> Option<&'d [u8]> {
        self.from(address)?.get(..count)
    }

    /// The bytes from an address on, up to the end of its section.
    fn from(&self, address: u64) -> Option<&'d [u8]> {
        let section = self.sections.iter().find(|section| {
            (section.address..section.address.saturating_add(section.bytes as u64))
                .contains(&address)
        })?;
        let within = usize::try_from(address - section.address).ok()?;
        let end = section
            .offset
            .checked_add(section.bytes)?
            .min(self.data.len());
        self.data.get(section.offset.checked_add(within)?..end)
    }

    /// The functions in the COFF symbol table, which MinGW writes. MSVC writes none.
    fn coff_symbols(&self) -> Vec<Symbol<'d>> {
        self.coff_table().unwrap_or_default()
    }

    fn coff_table(&self) -> Option<Vec<Symbol<'d>>> {
        let header = usize::try_from(u32_at(self.data, 0x3c)?)
            .ok()?
            .checked_add(4)?;
        let from = u32_at(self.data, header.checked_add(8)?)? as usize;
        let count = (u32_at(self.data, header.checked_add(12)?)? as usize).min(SYMBOLS_MAX);
        if from == 0 {
            return None;
        }
        let table = self.data.get(from..)?;
        let (records, names) = match count.checked_mul(RECORD_BYTES) {
            Some(bytes) if bytes <= table.len() => table.split_at(bytes),
            _ => return None,
        };
        // The first four bytes of the names are their length.
        let length = names
            .first_chunk()
            .map_or(0, |bytes| u32::from_le_bytes(*bytes));
        let names = names.get(..length as usize).unwrap_or(names);
        // 32-bit programs have an underscore before each C name.
        let is_x86 = u16_at(self.data, header)? == 0x14c;
        let mut symbols = Vec::new();
        let mut records = records.chunks_exact(RECORD_BYTES);
        while let Some(record) = records.next() {
            let auxiliary = usize::from(record[17]);
            if let Some(symbol) = self.coff_symbol(record, names, is_x86) {
                symbols.push(symbol);
            }
            if auxiliary > 0 {
                records.nth(auxiliary - 1);
            }
        }
        Some(symbols)
    }

    fn coff_symbol(&self, record: &'d [u8], names: &'d [u8], is_x86: bool) -> Option<Symbol<'d>> {
        let number = u16_at(record, 12)?;
        let section = self.sections.get(usize::from(number).checked_sub(1)?)?;
        let value = u64::from(u32_at(record, 8)?);
        let (kind, class) = (u16_at(record, 14)?, record[16]);
        let is_name = matches!(class, EXTERNAL | STATIC);
        if !section.is_code || !is_name || value >= section.size {
            return None;
        }
        let name = match u32_at(record, 0)? {
            // The length of the names is no name.
            0 => {
                let at = u32_at(record, 4)? as usize;
                c_string(names.get(at..).filter(|_| at >= 4)?)
            }
            _ => c_string(&record[..8]),
        };
        // A section has a symbol with its own name, and so has each part of it that the linker put there. Archives
        // of MinGW have no other symbols of their static functions.
        let is_part = name.starts_with('.');
        let name = match name {
            Cow::Borrowed(name) if is_part => Cow::Borrowed(function_of_part(name)?),
            name if is_part => Cow::Owned(function_of_part(&name)?.to_owned()),
            name => name,
        };
        if name.is_empty() {
            return None;
        }
        // Names of sections have no underscore before them.
        let name = match (is_x86 && !is_part, name) {
            (true, Cow::Borrowed(name)) => Cow::Borrowed(name.strip_prefix('_').unwrap_or(name)),
            (_, name) => name,
        };
        Some(Symbol {
            address: section.address + value,
            size: 0,
            rank: u8::from(is_part) * 4
                + u8::from(kind != FUNCTION) * 2
                + u8::from(class != EXTERNAL),
            name,
        })
    }

    /// The functions of `.pdata`. A range that continues the one before it belongs to the same function.
    fn amd64_functions(&self, pe: &PeObject<'_>) -> Vec<Range> {
        let Some(exceptions) = pe.exception_data() else {
            return Vec::new();
        };
        let mut found: Vec<Range> = Vec::new();
        for function in exceptions.functions().take(SYMBOLS_MAX).flatten() {
            let (from, to) = (function.begin_address.into(), function.end_address.into());
            if from >= to {
                continue;
            }
            match found.last_mut() {
                Some(last)
                    if last.1 == from && self.is_part(function.unwind_info_address, last.0) =>
                {
                    last.1 = to;
                }
                _ => found.push((from, to)),
            }
        }
        found
    }

    /// Whether unwind data refers, over any number of steps, to the function at `start`.
    fn is_part(&self, mut unwind: u32, start: u64) -> bool {
        for _ in 0..CHAIN_MAX {
            let Some(parent) = self.parent(unwind) else {
                return false;
            };
            if u64::from(parent.0) == start {
                return true;
            }
            unwind = parent.1;
        }
        false
    }

    /// The start and the unwind data of the range that this unwind data continues.
    fn parent(&self, unwind: u32) -> Option<(u32, u32)> {
        let head = self.at(unwind.into(), 4)?;
        if (head[0] >> 3) & CHAINED == 0 {
            return None;
        }
        // Two bytes for each code, in pairs.
        let codes = usize::from(head[2]).next_multiple_of(2) * 2;
        let parent = self.at(u64::from(unwind) + 4 + codes as u64, 12)?;
        Some((u32_at(parent, 0)?, u32_at(parent, 8)?))
    }

    /// The functions of `.pdata` on ARM64: a start, and either packed unwind data or a reference to it.
    fn arm64_functions(&self, pe: &PeObject<'_>) -> Vec<Range> {
        let Some(exceptions) = pe.exception_data() else {
            return Vec::new();
        };
        let functions = exceptions.functions_arm64().take(SYMBOLS_MAX).flatten();
        let extents = functions.filter_map(|function| {
            let bytes = if function.is_packed() {
                function.function_length()
            } else {
                let head = self.at(function.unwind_data_rva().into(), 4)?;
                (u32_at(head, 0)? & 0x3_ffff) * 4
            };
            let from = u64::from(function.begin_address);
            (bytes > 0).then_some((from, from + u64::from(bytes)))
        });
        extents.collect()
    }
}

/// The function in a part of a section that has no other, such as `.text$_ZL4loadv` or `.text.unlikely._ZL4loadv`.
fn function_of_part(part: &str) -> Option<&str> {
    const GROUPS: [&str; 4] = ["unlikely.", "startup.", "hot.", "exit."];
    let name = match part.strip_prefix(".text.") {
        Some(rest) => GROUPS.iter().find_map(|group| rest.strip_prefix(group))?,
        None => part.strip_prefix(".text$")?,
    };
    // Other names are groups: `.text$mn` is all code of a file.
    name.starts_with("_Z").then_some(name)
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_le_bytes(*bytes))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with a header at 0x80, and a symbol table of these records and names at 0xc0.
    fn with_table(machine: u16, records: &[[u8; RECORD_BYTES]], names: &[u8]) -> Vec<u8> {
        let mut data = vec![0; 0xc0];
        data[0x3c] = 0x80;
        data[0x84..0x86].copy_from_slice(&machine.to_le_bytes());
        data[0x8c..0x90].copy_from_slice(&0xc0u32.to_le_bytes());
        data[0x90..0x94].copy_from_slice(&(records.len() as u32).to_le_bytes());
        data.extend(records.iter().flatten());
        data.extend((names.len() as u32 + 4).to_le_bytes());
        data.extend(names);
        data
    }

    fn record(
        name: &[u8; 8],
        value: u32,
        section: u16,
        kind: u16,
        class: u8,
        more: u8,
    ) -> [u8; 18] {
        let mut record = [0; RECORD_BYTES];
        record[..8].copy_from_slice(name);
        record[8..12].copy_from_slice(&value.to_le_bytes());
        record[12..14].copy_from_slice(&section.to_le_bytes());
        record[14..16].copy_from_slice(&kind.to_le_bytes());
        record[16] = class;
        record[17] = more;
        record
    }

    fn sections(data: &[u8]) -> Sections<'_> {
        let section = |address, is_code| Section {
            address,
            size: 0x100,
            offset: 0,
            bytes: 0,
            is_code,
        };
        Sections {
            data,
            sections: vec![section(0x1000, true), section(0x2000, false)],
        }
    }

    fn names(data: &[u8]) -> Vec<(u64, String)> {
        let symbols = sections(data).coff_symbols();
        symbols
            .into_iter()
            .map(|s| (s.address, s.name.into_owned()))
            .collect()
    }

    #[test]
    fn the_symbol_table_names_code_and_nothing_else() {
        let long = [0, 0, 0, 0, 4, 0, 0, 0];
        let records = [
            record(b".file\0\0\0", 0, 0xfffe, 0, 103, 1),
            record(b"shorts\0\0", 0x10, 1, FUNCTION, EXTERNAL, 0),
            record(b"\0\0\0\0\0\0\0\0", 0x10, 1, FUNCTION, EXTERNAL, 0),
            record(&long, 0x20, 1, FUNCTION, STATIC, 1),
            record(b"exactly8", 0x20, 1, FUNCTION, EXTERNAL, 0),
            record(b".text\0\0\0", 0x30, 1, 0, STATIC, 0),
            record(b".text$mn", 0x30, 1, 0, STATIC, 0),
            record(b".text$_Z", 0x60, 1, 0, STATIC, 0),
            record(b"data\0\0\0\0", 0x10, 2, 0, EXTERNAL, 0),
            record(b"label\0\0\0", 0x40, 1, 0, 6, 0),
            record(b"past\0\0\0\0", 0x100, 1, FUNCTION, EXTERNAL, 0),
            record(b"nowhere\0", 0x10, 9, FUNCTION, EXTERNAL, 0),
            record(b"asm\0\0\0\0\0", 0x50, 1, 0, EXTERNAL, 255),
        ];
        let data = with_table(0x8664, &records, b"_a_longer_name\0");
        // The record after one with a record of its own belongs to that one.
        let expected = [(0x1020, "_a_longer_name"), (0x1060, "_Z"), (0x1050, "asm")];
        let expected: Vec<_> = expected.map(|(at, name)| (at, name.to_owned())).into();
        assert_eq!(names(&data), expected);
        let x86 = with_table(0x14c, &records[3..4], b"_a_longer_name\0");
        assert_eq!(names(&x86), [(0x1020, "a_longer_name".to_owned())]);
    }

    #[test]
    fn parts_of_sections_are_named_by_their_function() {
        for (part, name) in [
            (".text$_ZL4loadv", Some("_ZL4loadv")),
            (".text.unlikely._ZL4loadv", Some("_ZL4loadv")),
            (".text.startup._GLOBAL__sub_I_x", None),
            (".text.unlikely", None),
            (".text.load", None),
            (".text$x", None),
            (".text", None),
            (".ctors.65535", None),
        ] {
            assert_eq!(function_of_part(part), name, "{part}");
        }
    }

    #[test]
    fn a_table_that_lies_names_nothing_and_never_panics() {
        let good = with_table(
            0x8664,
            &[record(
                &[0, 0, 0, 0, 4, 0, 0, 0],
                0,
                1,
                FUNCTION,
                EXTERNAL,
                0,
            )],
            b"name\0",
        );
        assert_eq!(names(&good).len(), 1);
        for end in 0..good.len() {
            names(&good[..end]);
        }
        for (at, value) in [
            (0x8c, u32::MAX),
            (0x90, u32::MAX),
            (0x3c, u32::MAX),
            (0x8c, 0),
        ] {
            let mut bad = good.clone();
            bad[at..at + 4].copy_from_slice(&value.to_le_bytes());
            assert!(names(&bad).is_empty(), "{at:x}");
        }
        // A name past the end of the names, and a length of the names past the end of the file.
        let mut bad = good.clone();
        bad[0xc4] = 0xff;
        assert!(names(&bad).is_empty());
        let mut bad = good.clone();
        bad[0xd2] = 0xff;
        assert_eq!(names(&bad).len(), 1);
    }

    #[test]
    fn chains_of_unwind_data_may_be_circles() {
        // A code-less UNWIND_INFO that continues the function at 0x10, whose data is the same again.
        let mut data = vec![CHAINED << 3 | 1, 0, 0, 0];
        data.extend([0x10, 0, 0, 0, 0x20, 0, 0, 0, 0, 0x10, 0, 0]);
        let sections = Sections {
            data: &data,
            sections: vec![Section {
                address: 0x1000,
                size: 0x10,
                offset: 0,
                bytes: 0x10,
                is_code: false,
            }],
        };
        assert!(sections.is_part(0x1000, 0x10));
        assert!(!sections.is_part(0x1000, 0x30));
        assert!(!sections.is_part(0x1004, 0x10));
        assert!(!sections.is_part(u32::MAX, 0x10));
    }
}
