//! Functions, lines and unwind rules of Go programs whose DWARF was stripped (`-ldflags=-s -w`).
//!
//! Go's own runtime needs them to print a stack, so they are in every program, in the section `.gopclntab`. The
//! layout is that of Go 1.18 and later. symbolic does not read it. Can go when it does.
//!
//! ```text
//! header      magic, size of a pointer, number of functions, start of the code, and where the next ones are
//! names       texts that end with NUL           files    the same
//! units       for each unit, the files that its functions may be from
//! values      tables of address ranges with a value: distance of the stack pointer, file, line
//! functions   start and position of each, and then each: its name and its tables
//! ```

use std::io::{self, Write};

use symbolic_common::CpuFamily;

use super::code::{SYMBOLS_MAX, Symbol, c_string};
use super::ranges::{Range, containing};

/// The first bytes: Go 1.18 and 1.19, and 1.20 and later.
const MAGICS: [u32; 2] = [0xffff_fff0, 0xffff_fff1];
/// Steps in tables of values, for each byte of all tables. Functions share tables, so a small file may ask for
/// many steps.
const STEPS_PER_BYTE: usize = 64;

/// The tables of a program.
pub(super) struct Tables<'d> {
    data: &'d [u8],
    is_big: bool,
    /// Addresses in the tables of values are counted in instructions of this size.
    quantum: u64,
    names: usize,
    units: usize,
    files: usize,
    values: usize,
    functions: usize,
    /// Start, end, and position of each function.
    all: Vec<(u64, u64, usize)>,
}

/// A range of addresses with a value.
struct Step {
    range: Range,
    value: i64,
}

impl<'d> Tables<'d> {
    /// Reads the header and the list of functions. `base` is the load address, `code` has the ranges with code.
    pub(super) fn read(data: &'d [u8], is_big: bool, base: u64, code: &[Range]) -> Option<Self> {
        let head: &[u8; 8] = data.first_chunk()?;
        let word = |at: usize| number(data, at, 4, is_big);
        let is_known = MAGICS.iter().any(|magic| word(0) == Some((*magic).into()));
        let (quantum, pointer) = (head[6], usize::from(head[7]));
        if !is_known || !matches!(quantum, 1 | 2 | 4) || !matches!(pointer, 4 | 8) {
            return None;
        }
        let field = |index: usize| number(data, 8 + index * pointer, pointer, is_big);
        let place = |index: usize| usize::try_from(field(index)?).ok();
        let count = place(0)?.min(SYMBOLS_MAX);
        // A program that may be loaded anywhere has the address only after it was loaded.
        let start = match field(2)? {
            0 => code.first()?.0,
            start => start.checked_sub(base)?,
        };
        let mut tables = Self {
            data,
            is_big,
            quantum: quantum.into(),
            names: place(3)?,
            units: place(4)?,
            files: place(5)?,
            values: place(6)?,
            functions: place(7)?,
            all: Vec::new(),
        };
        let entry = |index: usize| {
            let at = tables.functions.checked_add(index.checked_mul(8)?)?;
            Some((word(at)?, word(at.checked_add(4)?)))
        };
        let mut all = Vec::new();
        for index in 0..count {
            let (Some((from, Some(at))), Some((to, _))) = (entry(index), entry(index + 1)) else {
                break;
            };
            let from = start.checked_add(from)?;
            let to = start.checked_add(to)?;
            if from < to && containing(code, from).is_some() {
                all.push((
                    from,
                    to,
                    tables.functions.checked_add(usize::try_from(at).ok()?)?,
                ));
            }
        }
        tables.all = all;
        (!tables.all.is_empty()).then_some(tables)
    }

    fn word(&self, at: usize) -> Option<u32> {
        number(self.data, at, 4, self.is_big).map(|word| word as u32)
    }

    /// A field of a function, which are words.
    fn field(&self, function: usize, index: usize) -> Option<usize> {
        self.word(function.checked_add(index * 4)?)
            .map(|word| word as usize)
    }

    pub(super) fn symbols(&self) -> Vec<Symbol<'d>> {
        let symbols = self.all.iter().filter_map(|&(from, to, at)| {
            let name = self.names.checked_add(self.field(at, 1)?)?;
            let name = c_string(self.data.get(name..)?);
            (!name.is_empty()).then_some(Symbol {
                address: from,
                size: to - from,
                rank: 3,
                name,
            })
        });
        symbols.collect()
    }

    /// The steps of a function's table of values, which is the field `index` of the function.
    fn steps(&self, function: (u64, u64, usize), index: usize, left: &mut usize) -> Vec<Step> {
        let mut steps = Vec::new();
        let (mut from, end, at) = function;
        let table = self.field(at, index).filter(|table| *table > 0);
        let table = table.and_then(|table| self.data.get(self.values.checked_add(table)?..));
        let mut bytes = table.unwrap_or_default().iter().copied();
        let mut value = -1i64;
        while *left > 0 && from < end {
            *left -= 1;
            let Some(change) = leb(&mut bytes) else {
                break;
            };
            if change == 0 && !steps.is_empty() {
                break;
            }
            // Zigzag: the lowest bit is the sign.
            let change = ((change >> 1) as i64) ^ -((change & 1) as i64);
            value = value.wrapping_add(change);
            let Some(distance) = leb(&mut bytes) else {
                break;
            };
            let to = from.saturating_add(u64::from(distance).saturating_mul(self.quantum));
            steps.push(Step {
                range: (from, to.min(end)),
                value,
            });
            from = to;
        }
        steps
    }

    fn budget(&self) -> usize {
        self.data.len().saturating_mul(STEPS_PER_BYTE)
    }

    /// Writes the unwind rules of functions that are not in `known`, which are sorted and disjoint.
    ///
    /// # Errors
    /// The output cannot be written.
    pub(super) fn write(
        &self,
        cpu: CpuFamily,
        known: &[Range],
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        let mut left = self.budget();
        for &function in &self.all {
            if containing(known, function.0).is_some() {
                continue;
            }
            let mut is_first = true;
            for Step { range, value } in self.steps(function, 4, &mut left) {
                let Some(rules) = rules(cpu, value) else {
                    break;
                };
                if is_first {
                    write!(
                        out,
                        "STACK CFI INIT {:x} {:x}",
                        range.0,
                        function.1 - range.0
                    )?;
                } else {
                    write!(out, "STACK CFI {:x}", range.0)?;
                }
                writeln!(out, " {rules}")?;
                is_first = false;
            }
        }
        Ok(())
    }

    /// Calls `each` with the lines of the function that starts at an address: range, line and file. `left` limits
    /// the work, see [`Self::lines_budget`].
    pub(super) fn lines(
        &self,
        start: u64,
        left: &mut usize,
        each: &mut dyn FnMut(Range, u64, &str),
    ) {
        let Ok(at) = self.all.binary_search_by_key(&start, |function| function.0) else {
            return;
        };
        let function = self.all[at];
        let files = self.steps(function, 5, left);
        let mut files = files.iter().peekable();
        let mut name = None;
        for Step { range, value } in self.steps(function, 6, left) {
            // Of several files in a range of one line, the first one.
            while let Some(file) = files.next_if(|file| file.range.0 <= range.0) {
                name = self.file(function.2, file.value);
            }
            if let (Some(name), Ok(line @ 1..)) = (&name, u64::try_from(value)) {
                each(range, line, name);
            }
        }
    }

    pub(super) fn lines_budget(&self) -> usize {
        self.budget()
    }

    fn file(&self, function: usize, number: i64) -> Option<std::borrow::Cow<'d, str>> {
        let number = usize::try_from(number).ok()?;
        let index = self.field(function, 8)?.checked_add(number)?;
        let at = self.units.checked_add(index.checked_mul(4)?)?;
        let name = self.files.checked_add(self.word(at)? as usize)?;
        Some(c_string(self.data.get(name..)?)).filter(|name| !name.is_empty())
    }
}

/// The rules where the stack pointer is this many bytes lower than at the start of the function.
fn rules(cpu: CpuFamily, distance: i64) -> Option<String> {
    if !(0..1 << 31).contains(&distance) {
        return None;
    }
    match cpu {
        CpuFamily::Amd64 if distance == 0 => Some(".cfa: $rsp 8 + .ra: .cfa -8 + ^".to_owned()),
        // The frame pointer is saved first.
        CpuFamily::Amd64 => Some(format!(
            ".cfa: $rsp {} + .ra: .cfa -8 + ^ $rbp: .cfa -16 + ^",
            distance + 8
        )),
        CpuFamily::Arm64 if distance == 0 => Some(".cfa: sp 0 + .ra: x30".to_owned()),
        // The return address is at the stack pointer, the frame pointer below it.
        CpuFamily::Arm64 => Some(format!(
            ".cfa: sp {distance} + .ra: .cfa -{distance} + ^ x29: .cfa -{} + ^",
            distance + 8
        )),
        _ => None,
    }
}

fn number(data: &[u8], at: usize, bytes: usize, is_big: bool) -> Option<u64> {
    let bytes = data.get(at..at.checked_add(bytes)?)?;
    let mut number = 0;
    for (index, byte) in bytes.iter().enumerate() {
        let place = if is_big {
            bytes.len() - 1 - index
        } else {
            index
        };
        number |= u64::from(*byte) << (8 * place);
    }
    Some(number)
}

fn leb(bytes: &mut impl Iterator<Item = u8>) -> Option<u32> {
    let mut number = 0u32;
    for shift in [0, 7, 14, 21, 28] {
        let byte = bytes.next()?;
        number |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Reads any bytes as the tables of a program.
pub(super) fn read_any(bytes: &[u8]) -> usize {
    let Some(tables) = Tables::read(bytes, false, 0, &[(0, u64::MAX)]) else {
        return 0;
    };
    let mut out = Vec::new();
    let mut left = tables.lines_budget();
    let written = tables.write(CpuFamily::Amd64, &[], &mut out);
    for symbol in tables.symbols() {
        tables.lines(symbol.address, &mut left, &mut |_, _, _| {});
    }
    written.map_or(0, |()| out.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two functions of 0x20 bytes at 0x1000: a leaf, and one with a frame of 24 bytes.
    fn table() -> Vec<u8> {
        let mut data = vec![0xf1, 0xff, 0xff, 0xff, 0, 0, 1, 8];
        let fields: [u64; 8] = [2, 1, 0x401000, 0x48, 0x68, 0x70, 0x80, 0xa0];
        data.extend(fields.iter().flat_map(|field| field.to_le_bytes()));
        data.extend(b"main.cold\0main.(*Store).load\0\0\0\0");
        data.extend([0, 0, 0, 0, 5, 0, 0, 0]);
        data.extend(b"a.go\0/src/b.go\0\0");
        data.truncate(0x80);
        // Distances 0; 0, then 24; line 7; lines 9 and 8; file 0; file 1.
        let tables: [&[u8]; 6] = [
            &[0],
            &[2, 32, 0],
            &[2, 4, 48, 28, 0],
            &[16, 32, 0],
            &[20, 16, 1, 16, 0],
            &[4, 32, 0],
        ];
        data.extend(tables.concat());
        data.resize(0xa0, 0);
        let list: [u32; 5] = [0, 20, 0x20, 64, 0x40];
        data.extend(list.iter().flat_map(|word| word.to_le_bytes()));
        // Start, name, arguments, deferred, distances, file, line, more, unit, start line, more.
        let functions: [[u32; 11]; 2] = [
            [0, 0, 0, 0, 1, 1, 9, 0, 0, 1, 0],
            [0x20, 10, 0, 0, 4, 17, 12, 0, 0, 1, 0],
        ];
        data.extend(
            functions
                .iter()
                .flatten()
                .flat_map(|word| word.to_le_bytes()),
        );
        data
    }

    const CODE: &[Range] = &[(0x1000, 0x2000)];

    #[test]
    fn the_runtimes_tables_have_names_lines_and_rules() {
        let data = table();
        let tables = Tables::read(&data, false, 0x400000, CODE).expect("tables");
        let symbols = tables.symbols();
        let names: Vec<_> = symbols
            .iter()
            .map(|s| (s.address, s.size, &*s.name))
            .collect();
        assert_eq!(
            names,
            [
                (0x1000, 0x20, "main.cold"),
                (0x1020, 0x20, "main.(*Store).load")
            ]
        );
        let mut out = Vec::new();
        tables
            .write(CpuFamily::Amd64, &[], &mut out)
            .expect("a vector");
        assert_eq!(
            String::from_utf8(out).expect("UTF-8"),
            "STACK CFI INIT 1000 20 .cfa: $rsp 8 + .ra: .cfa -8 + ^\n\
             STACK CFI INIT 1020 20 .cfa: $rsp 8 + .ra: .cfa -8 + ^\n\
             STACK CFI 1024 .cfa: $rsp 32 + .ra: .cfa -8 + ^ $rbp: .cfa -16 + ^\n"
        );
        let mut lines = Vec::new();
        for start in [0x1000, 0x1020, 0x1021] {
            tables.lines(start, &mut 100, &mut |range, line, file| {
                lines.push((range, line, file.to_owned()));
            });
        }
        let expected = [
            ((0x1000, 0x1020), 7, "a.go"),
            ((0x1020, 0x1030), 9, "/src/b.go"),
            ((0x1030, 0x1040), 8, "/src/b.go"),
        ];
        assert_eq!(
            lines,
            expected.map(|(range, line, file)| (range, line, file.to_owned()))
        );
        let mut out = Vec::new();
        tables
            .write(CpuFamily::Arm64, &[(0x1000, 0x1010)], &mut out)
            .expect("a vector");
        let text = String::from_utf8(out).expect("UTF-8");
        assert!(
            text.ends_with("STACK CFI 1024 .cfa: sp 24 + .ra: .cfa -24 + ^ x29: .cfa -32 + ^\n"),
            "{text}"
        );
    }

    #[test]
    fn tables_that_lie_never_panic() {
        let good = table();
        for end in 0..good.len() {
            read_any(&good[..end]);
        }
        let mut state = 9u64;
        for _ in 0..30_000 {
            let mut bytes = good.clone();
            for _ in 0..4 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let at = 8 + (state >> 40) as usize % (bytes.len() - 8);
                bytes[at] = (state >> 32) as u8;
            }
            read_any(&bytes);
        }
        assert!(Tables::read(&good, false, 0x500000, CODE).is_none());
        assert!(Tables::read(&good, true, 0, CODE).is_none());
    }
}
