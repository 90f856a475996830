//! Unwind rules of 32-bit ARM: `.ARM.exidx` and `.ARM.extab` as STACK CFI records.
//!
//! Compilers write these tables instead of `.eh_frame`. For each function they have a short program that restores
//! the caller's registers, for any address after the prologue. symbolic does not read them. Can go when it does.

use std::fmt::Write as _;
use std::io::{self, Write};

use symbolic_debuginfo::dwarf::Dwarf;
use symbolic_debuginfo::elf::ElfObject;

use super::code::SYMBOLS_MAX;
use super::ranges::{Range, containing};

/// The word of a function that cannot be unwound.
const CANTUNWIND: u32 = 1;
/// Limit of bytes of one function's program. Its length has one byte, which counts words.
const PROGRAM_BYTES_MAX: usize = 3 + 255 * 4;
/// Limit of the distance, in bytes, by which a program may move the stack pointer.
const DISTANCE_MAX: i64 = 1 << 31;

const NAMES: [&str; 16] = [
    "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "sp", "lr",
    "pc",
];
const SP: usize = 13;
const PC: usize = 15;

/// Writes the rules of the functions that are not in `known`, which are sorted and disjoint ranges with better
/// rules. Returns the ranges of all functions in the table. Linkers join neighbours with the same program, so a
/// range may be of several functions.
///
/// # Errors
/// The output cannot be written.
pub(super) fn read(
    elf: &ElfObject<'_>,
    code: &[Range],
    known: &[Range],
    out: &mut Vec<u8>,
) -> io::Result<Vec<Range>> {
    let (Some(index), table) = (elf.section("ARM.exidx"), elf.section("ARM.extab")) else {
        return Ok(Vec::new());
    };
    let tables = Tables {
        is_big: elf.endianity() == gimli::RunTimeEndian::Big,
        extab_address: table.as_ref().map_or(0, |table| table.address),
        extab: table.as_ref().map_or(&[], |table| &table.data),
    };
    tables.write(
        &index.data,
        index.address,
        elf.load_address(),
        code,
        known,
        out,
    )
}

/// Reads any bytes as a table at the start of the code.
pub(super) fn read_any(bytes: &[u8]) -> usize {
    let (index, extab) = bytes.split_at(bytes.len() / 2);
    let tables = Tables {
        is_big: bytes.len() % 2 == 1,
        extab,
        extab_address: index.len() as u64,
    };
    let mut out = Vec::new();
    let extents = tables.write(index, 0, 0, &[(0, u64::MAX)], &[], &mut out);
    extents.map_or(0, |extents| extents.len()) + out.len()
}

struct Tables<'a> {
    is_big: bool,
    extab: &'a [u8],
    extab_address: u64,
}

impl Tables<'_> {
    fn write(
        &self,
        index: &[u8],
        index_address: u64,
        base: u64,
        code: &[Range],
        known: &[Range],
        out: &mut Vec<u8>,
    ) -> io::Result<Vec<Range>> {
        let mut entries = Vec::new();
        for (at, entry) in index.chunks_exact(8).enumerate().take(SYMBOLS_MAX) {
            let address = index_address.wrapping_add(at as u64 * 8);
            let [Some(start), Some(data)] = [self.word(entry, 0), self.word(entry, 4)] else {
                break;
            };
            let start = (relative(address, start) & !1).wrapping_sub(base) & 0xffff_ffff;
            if containing(code, start).is_some() {
                entries.push((start, address + 4, data));
            }
        }
        entries.sort_unstable();
        entries.dedup_by_key(|entry| entry.0);
        let ends = entries
            .iter()
            .skip(1)
            .map(|entry| entry.0)
            .chain([u64::MAX]);
        let mut extents = Vec::with_capacity(entries.len());
        let mut program = Vec::new();
        for (&(from, address, data), next) in entries.iter().zip(ends) {
            let section = containing(code, from).map_or(from, |section| section.1);
            let to = next.min(section);
            extents.push((from, to));
            let after = known.partition_point(|range| range.0 <= from);
            let better = known.get(after).map_or(u64::MAX, |range| range.0);
            if containing(known, from).is_some() || data == CANTUNWIND {
                continue;
            }
            program.clear();
            if self.program(address, data, &mut program).is_some()
                && let Some(rules) = rules(&program)
            {
                writeln!(
                    out,
                    "STACK CFI INIT {from:x} {:x} {rules}",
                    to.min(better) - from
                )?;
            }
        }
        Ok(extents)
    }

    fn word(&self, bytes: &[u8], at: usize) -> Option<u32> {
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(if self.is_big {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        })
    }

    /// Reads the program of a function. `data` is the second word of its entry, and `address` the place of that
    /// word. `None` if there is no program that we can read.
    fn program(&self, address: u64, data: u32, program: &mut Vec<u8>) -> Option<()> {
        if data & 0x8000_0000 != 0 {
            // A program of three bytes in the entry itself.
            program.extend(&data.to_be_bytes()[1..]);
            return (data >> 24 == 0x80).then_some(());
        }
        let target = relative(address, data).wrapping_sub(self.extab_address) & 0xffff_ffff;
        let mut at = usize::try_from(target).ok()?;
        let mut first = self.word(self.extab, at)?;
        let is_generic = first & 0x8000_0000 == 0;
        if is_generic {
            // A routine of a language, and after it the same as for the first two routines of the standard.
            at = at.checked_add(4)?;
            first = self.word(self.extab, at)?;
        }
        let bytes = first.to_be_bytes();
        let words = match (is_generic, bytes[0]) {
            (true, words) => {
                program.extend(&bytes[1..]);
                words
            }
            (false, 0x80) => {
                program.extend(&bytes[1..]);
                0
            }
            (false, 0x81 | 0x82) => {
                program.extend(&bytes[2..]);
                bytes[1]
            }
            _ => return None,
        };
        for word in 1..=usize::from(words) {
            let word = self.word(self.extab, at.checked_add(word * 4)?)?;
            program.extend(word.to_be_bytes());
        }
        (program.len() <= PROGRAM_BYTES_MAX).then_some(())
    }
}

/// The address that a word refers to: 31 bits, signed, from the word's own place on.
fn relative(place: u64, word: u32) -> u64 {
    let distance = i64::from((word << 1).cast_signed() >> 1);
    place.wrapping_add_signed(distance) & 0xffff_ffff
}

/// The rules that have the effect of a program; `None` if it refuses to unwind, or is not one.
fn rules(program: &[u8]) -> Option<String> {
    let mut frame = Frame {
        base: SP,
        distance: 0,
        saved: [None; 16],
    };
    let mut bytes = program.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            0x00..=0x3f => frame.skip(i64::from(byte) * 4 + 4)?,
            0x40..=0x7f => frame.skip(-(i64::from(byte & 0x3f) * 4 + 4))?,
            0x80..=0x8f => {
                let mask = u16::from_be_bytes([byte & 0x0f, bytes.next()?]);
                if mask == 0 {
                    return None;
                }
                frame.pop(
                    (0..12)
                        .filter(|bit| mask & (1 << bit) != 0)
                        .map(|bit| bit + 4),
                )?;
            }
            0x9d | 0x9f => return None,
            0x90..=0x9f => {
                frame.base = usize::from(byte & 0x0f);
                frame.distance = 0;
            }
            0xa0..=0xaf => {
                let last = usize::from(byte & 0x07) + 4;
                frame.pop(4..=last)?;
                if byte & 0x08 != 0 {
                    frame.pop([14])?;
                }
            }
            0xb0 => break,
            0xb1 => {
                let mask = bytes.next()?;
                if mask == 0 || mask > 0x0f {
                    return None;
                }
                frame.pop((0..4).filter(|bit| mask & (1 << bit) != 0))?;
            }
            0xb2 => {
                let mut value = 0i64;
                let mut shift = 0;
                loop {
                    let byte = bytes.next()?;
                    if shift > 28 {
                        return None;
                    }
                    value |= i64::from(byte & 0x7f) << shift;
                    shift += 7;
                    if byte & 0x80 == 0 {
                        break;
                    }
                }
                frame.skip(0x204 + value * 4)?;
            }
            // The code that authenticates the return address.
            0xb4 => frame.skip(4)?,
            // Registers of the floating-point unit: a count in the byte or in the next one. The older form of
            // saving them needs a word more.
            0xb3 => frame.skip(i64::from(bytes.next()? & 0x0f) * 8 + 12)?,
            0xb8..=0xbf => frame.skip(i64::from(byte & 0x07) * 8 + 12)?,
            0xc6 | 0xc8 | 0xc9 => frame.skip(i64::from(bytes.next()? & 0x0f) * 8 + 8)?,
            0xc7 => frame.skip(i64::from((bytes.next()? & 0x0f).count_ones()) * 4)?,
            0xc0..=0xc5 | 0xd0..=0xd7 => frame.skip(i64::from(byte & 0x07) * 8 + 8)?,
            _ => return None,
        }
    }
    Some(frame.rules())
}

/// The caller's registers, as far as a program was followed.
struct Frame {
    /// The register from which the stack pointer is computed, and the distance from its value.
    base: usize,
    distance: i64,
    /// Where registers are saved: the register and the distance from it.
    saved: [Option<(usize, i64)>; 16],
}

impl Frame {
    fn skip(&mut self, bytes: i64) -> Option<()> {
        self.distance += bytes;
        (self.distance.abs() < DISTANCE_MAX).then_some(())
    }

    fn pop(&mut self, registers: impl IntoIterator<Item = usize>) -> Option<()> {
        for register in registers {
            *self.saved.get_mut(register)? = Some((self.base, self.distance));
            self.skip(4)?;
        }
        Some(())
    }

    fn rules(&self) -> String {
        let place = |(base, distance): (usize, i64)| {
            if base == self.base {
                format!(".cfa {} + ^", distance - self.distance)
            } else {
                format!("{} {distance} + ^", NAMES[base])
            }
        };
        let mut rules = match self.saved[SP] {
            Some(saved) => format!(".cfa: {} {} + ^", NAMES[saved.0], saved.1),
            None => format!(".cfa: {} {} +", NAMES[self.base], self.distance),
        };
        let ra = self.saved[PC].or(self.saved[14]);
        let ra = ra.map_or_else(|| "lr".to_owned(), place);
        // Writing to a text does not fail.
        let _ = write!(rules, " .ra: {ra}");
        for (register, saved) in self.saved.iter().enumerate().take(SP) {
            if let Some(saved) = saved {
                let _ = write!(rules, " {}: {}", NAMES[register], place(*saved));
            }
        }
        rules
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_compilers_become_rules() {
        for (program, expected) in [
            (&[0xb0, 0xb0, 0xb0][..], ".cfa: sp 0 + .ra: lr"),
            (
                &[0x01, 0xa8, 0xb0],
                ".cfa: sp 16 + .ra: .cfa -4 + ^ r4: .cfa -8 + ^",
            ),
            (&[0x80, 0x08, 0xb0], ".cfa: sp 4 + .ra: lr r7: .cfa -4 + ^"),
            (
                &[0x9b, 0x40, 0x84, 0x80, 0xb0],
                ".cfa: r11 4 + .ra: .cfa -4 + ^ r11: .cfa -8 + ^",
            ),
            (
                &[0xb2, 0x81, 0x01, 0xd1, 0x88, 0x00],
                ".cfa: sp 1052 + .ra: .cfa -4 + ^",
            ),
        ] {
            assert_eq!(rules(program).as_deref(), Some(expected), "{program:x?}");
        }
    }

    #[test]
    fn programs_that_make_no_sense_are_no_rules() {
        for program in [
            &[0x80, 0x00][..],
            &[0x80],
            &[0x9d],
            &[0x9f],
            &[0xb1, 0x00],
            &[0xb1, 0x10],
            &[0xb2, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            &[0xb2, 0x80],
            &[0xb5],
            &[0xff],
        ] {
            assert_eq!(rules(program), None, "{program:x?}");
        }
        let far = [0xb2, 0xff, 0xff, 0xff, 0xff, 0x7f].repeat(4);
        assert_eq!(rules(&far), None);
        for first in 0..=u8::MAX {
            for second in 0..=u8::MAX {
                let _ = rules(&[first, second, first, second]);
            }
        }
    }

    /// A table at 0x2000 for code at 0x1000..0x1100, and the rules that are written for it.
    fn written(entries: &[(u32, u32)], extab: &[u8], known: &[Range]) -> String {
        let words = entries.iter().enumerate().flat_map(|(at, &(start, data))| {
            let place = 0x2000 + at as u32 * 8;
            let first = start.wrapping_sub(place) & 0x7fff_ffff;
            [first.to_le_bytes(), data.to_le_bytes()].concat()
        });
        let index: Vec<u8> = words.collect();
        let tables = Tables {
            is_big: false,
            extab,
            extab_address: 0x3000,
        };
        let mut out = Vec::new();
        let code = [(0x1000, 0x1100)];
        tables
            .write(&index, 0x2000, 0, &code, known, &mut out)
            .expect("a vector");
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn a_table_that_lies_writes_only_what_is_in_the_code() {
        let plain = 0x80b0_b0b0;
        // Unsorted, twice the same, outside of the code, without a program.
        let entries = [
            (0x1080, plain),
            (0x1000, CANTUNWIND),
            (0x1040, plain),
            (0x1040, plain),
            (0x5000, plain),
            (0, plain),
        ];
        assert_eq!(
            written(&entries, &[], &[]),
            "STACK CFI INIT 1040 40 .cfa: sp 0 + .ra: lr\nSTACK CFI INIT 1080 80 .cfa: sp 0 + .ra: lr\n"
        );
        // Better rules of another section are not repeated.
        assert_eq!(
            written(&entries, &[], &[(0x1040, 0x1050), (0x1090, 0x10a0)]),
            "STACK CFI INIT 1080 10 .cfa: sp 0 + .ra: lr\n"
        );
        // References into nothing.
        for extab in [&[][..], &[0; 3], &[0; 4], &[0xff; 4], &[0, 0, 1, 0x81]] {
            assert_eq!(written(&[(0x1000, 0x0ffc)], extab, &[]), "");
        }
        let long = [0, 0, 0xff, 0x81];
        assert_eq!(written(&[(0x1000, 0x0ffc)], &long, &[]), "");
        let good = [0xb0, 0xb0, 0x00, 0x81];
        assert_eq!(
            written(&[(0x1000, 0x0ffc)], &good, &[]),
            "STACK CFI INIT 1000 100 .cfa: sp 0 + .ra: lr\n"
        );
    }
}
