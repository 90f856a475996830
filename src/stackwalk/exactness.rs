//! Compares mapped symbols with breakpad-symbols: what each reports for a frame, address by address.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use breakpad_symbols::{SimpleModule, SymbolFile};
use minidump_unwind::{FrameSymbolizer, FrameWalker};

use super::answers;
use super::mode::Mode;
use super::tests::{SYMBOLS, fixtures};
use crate::symbols::mapped::{Mapped, Stamp};

/// Random addresses for each symbol file.
const ADDRESSES: usize = 100_000;

/// All data that symbols report for a frame.
#[derive(Debug, Default, PartialEq)]
struct Frame {
    instruction: u64,
    function: Option<(String, u64, u32)>,
    source: Option<(String, u32, u64)>,
    inlines: Vec<(String, Option<String>, Option<u32>)>,
}

impl FrameSymbolizer for Frame {
    fn get_instruction(&self) -> u64 {
        self.instruction
    }

    fn set_function(&mut self, name: &str, base: u64, parameter_size: u32) {
        self.function = Some((name.to_owned(), base, parameter_size));
    }

    fn set_source_file(&mut self, file: &str, line: u32, base: u64) {
        self.source = Some((file.to_owned(), line, base));
    }

    fn add_inline_frame(&mut self, name: &str, file: Option<&str>, line: Option<u32>) {
        let inline = (name.to_owned(), file.map(str::to_owned), line);
        self.inlines.push(inline);
    }
}

/// A callee whose registers and memory are computed from their names and addresses. So two different rules
/// give two different callers.
#[derive(Debug, Default, PartialEq)]
struct Walk {
    instruction: u64,
    grand_callee_parameter_size: u32,
    cfa: Option<u64>,
    ra: Option<u64>,
    registers: BTreeMap<String, Option<u64>>,
    rules_start: Vec<Option<u64>>,
}

impl FrameWalker for Walk {
    fn get_instruction(&self) -> u64 {
        self.instruction
    }

    fn has_grand_callee(&self) -> bool {
        self.grand_callee_parameter_size > 0
    }

    fn get_grand_callee_parameter_size(&self) -> u32 {
        self.grand_callee_parameter_size
    }

    fn get_register_at_address(&self, address: u64) -> Option<u64> {
        Some(address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 7)
    }

    fn get_callee_register(&self, name: &str) -> Option<u64> {
        let sum = name.bytes().fold(17, |sum, b| sum * 31 + u64::from(b));
        Some(sum % 0x7fff_0000)
    }

    fn set_caller_register(&mut self, name: &str, value: u64) -> Option<()> {
        self.registers.insert(name.to_owned(), Some(value));
        Some(())
    }

    fn clear_caller_register(&mut self, name: &str) {
        self.registers.insert(name.to_owned(), None);
    }

    fn set_cfa(&mut self, value: u64) -> Option<()> {
        self.cfa = Some(value);
        Some(())
    }

    fn set_ra(&mut self, value: u64) -> Option<()> {
        self.ra = Some(value);
        Some(())
    }

    fn set_cfi_rules_start_address(&mut self, address: Option<u64>) {
        self.rules_start.push(address);
    }
}

fn symbol_files(below: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(below).unwrap() {
        let path = entry.unwrap().path();
        match path.extension() {
            _ if path.is_dir() => symbol_files(&path, found),
            Some(extension) if extension == "sym" => found.push(path),
            _ => {}
        }
    }
    found.sort();
}

fn mapped(text: &[u8]) -> Mapped {
    let stamp = Stamp {
        bytes: text.len() as u64,
        modified_ns: 0,
    };
    Mapped::from_text(text, stamp).unwrap()
}

/// Compares at `count` addresses: random ones, and all addresses in the file and their neighbours.
fn check(name: &str, text: &[u8], count: usize) {
    let theirs = SymbolFile::from_bytes(text);
    let ours = mapped(text);
    let theirs = match (theirs, ours.corrupt()) {
        (Ok(theirs), None) => theirs,
        (Err(_), Some(_)) => return,
        (theirs, ours) => panic!("{name}: theirs {:?}, ours {ours:?}", theirs.err()),
    };
    let functions = theirs.functions.ranges_values();
    let ranges = functions.map(|(range, _)| (range.start, range.end));
    let cfi = theirs.cfi_stack_info.ranges_values();
    let ranges = ranges.chain(cfi.map(|(range, _)| (range.start, range.end)));
    let publics = theirs.publics.iter().map(|p| (p.address, p.address));
    let ranges: Vec<_> = ranges.chain(publics).collect();
    let end = ranges.iter().map(|(_, end)| *end).max().unwrap_or(0);
    let end = end.saturating_add(0x1000);
    let base = 0x40_0000;
    let module = SimpleModule {
        base_address: Some(base),
        ..SimpleModule::default()
    };
    let mut seed: u64 = 0x0bad_5eed_0bad_5eed;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for n in 0..count {
        let address = match (n % 4, ranges.as_slice()) {
            (0, [_, ..]) => {
                let (start, end) = ranges[random() as usize % ranges.len()];
                [start.wrapping_sub(1), start, end, end.wrapping_add(1)][random() as usize % 4]
            }
            _ => random() % end,
        };
        let instruction = base.wrapping_add(address);
        let frame = || Frame {
            instruction,
            ..Frame::default()
        };
        let (mut a, mut b) = (frame(), frame());
        answers::fill_symbol(&ours, &module, &mut a, Mode::Compat);
        theirs.fill_symbol(&module, &mut b);
        assert_eq!(a, b, "{name} at {address:x}");
        let walk = || Walk {
            instruction,
            grand_callee_parameter_size: (n % 3) as u32 * 4,
            ..Walk::default()
        };
        let (mut a, mut b) = (walk(), walk());
        let is_walked = answers::walk_frame(&ours, &module, &mut a, Mode::Compat);
        assert_eq!(is_walked, theirs.walk_frame(&module, &mut b), "{name}");
        assert_eq!(a, b, "{name} at {address:x}");
    }
}

#[test]
fn every_symbol_file_answers_as_breakpad_symbols_does() {
    let mut files = vec![];
    symbol_files(SYMBOLS.path(), &mut files);
    assert_eq!(files.len(), 19, "the corpus changed");
    for path in files {
        check(
            &path.display().to_string(),
            &fs::read(&path).unwrap(),
            ADDRESSES,
        );
    }
}

#[test]
fn broken_symbol_files_are_taken_and_refused_as_breakpad_symbols_does() {
    let mut files = vec![];
    symbol_files(&fixtures().join("broken/symbols"), &mut files);
    assert_eq!(files.len(), 13, "the corpus changed");
    for path in files {
        check(
            &path.display().to_string(),
            &fs::read(&path).unwrap(),
            10_000,
        );
    }
}

/// Lines of real files are cut, swapped, doubled and mixed. Both implementations must accept or refuse the
/// same files and find the same data. The files include overlaps, second definitions and misplaced records.
#[test]
fn mixed_up_symbol_files_answer_as_breakpad_symbols_does() {
    let mut files = vec![];
    symbol_files(SYMBOLS.path(), &mut files);
    let mut seed: u64 = 0x1234_5678_9abc_def1;
    let mut random = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed as usize % below
    };
    let odd = [
        "FUNC 1000 0 0 empty",
        "FUNC m 1000 20 4 folded",
        "FUNC 1000 20 0 ",
        "FUNC 1008 20 0 inside",
        "1000 10 5 1",
        "1004 4 6 1",
        "1000 0 5 1",
        "ffffffffffffffff 2 1 1",
        "1000 10 5 1 ",
        "INLINE 0 1 1 1 1000 10",
        "INLINE 0 2 1 2 1000 10",
        "INLINE 1 3 1 2 1000 8 1008 4",
        "INLINE 0 1 1 1 1000 10 ",
        "INLINE_ORIGIN 1 first",
        "INLINE_ORIGIN 1 second",
        "INLINE_ORIGIN\t2 tabs",
        "FILE 1 one.c",
        "FILE 1 two.c",
        "FILE 4294967296 big",
        "PUBLIC 1000 0 a",
        "PUBLIC 1000 0 b",
        "PUBLIC m 1010 4 c",
        "PUBLIC  1010\t4  d",
        "",
        "\r",
        "INFO x",
        "INFO URL u",
        "INFO",
        "STACK CFI INIT 1000 20 .cfa: $rsp 8 + .ra: .cfa 8 - ^",
        "STACK CFI 1004 .cfa: $rsp 16 +",
        "STACK CFI 1002 $rbx: .cfa 16 - ^",
        "STACK CFI INIT 1008 40 .cfa: sp 8 + .ra: lr",
        "STACK CFI INIT 1000 0 .cfa: 1 .ra: 2",
        "STACK WIN 4 1000 20 1 0 8 0 4 0 1 $eip .raSearch ^ =",
        "STACK WIN 4 1008 18 1 0 4 0 4 0 1 $eip $esp ^ = $ebx 4 =",
        "STACK WIN 0 1000 20 1 0 c 0 4 0 0 1",
        "STACK WIN 0 1010 40 1 0 c 0 4 0 0 0",
        "STACK WIN 4 1000 20 1 0 8 0 4 0 0 1",
        "STACK WIN 0 1000 20 1 0 8 4 4 0 1 x",
        "STACK WIN 3 1000 20 1 0 8 0 4 0 0 1",
        "MODULE Linux x86_64 0 again",
        "FUNC 1000 123456789 0 x",
        "line\u{e9}",
        "FUNC 1020 8 0 caf\u{e9}",
    ];
    let mut taken = 0;
    for round in 0..3_000 {
        let real = fs::read_to_string(&files[round % 7]).unwrap_or_default();
        let real: Vec<_> = real.lines().skip(1 + random(200)).take(5).collect();
        let mut text = String::from("MODULE Linux x86_64 0 app\n");
        for _ in 0..random(14) {
            match random(5) {
                0 if !real.is_empty() => text += real[random(real.len())],
                _ => text += odd[random(odd.len())],
            }
            text += ["\n", "\n", "\r\n"][random(3)];
        }
        taken += usize::from(SymbolFile::from_bytes(text.as_bytes()).is_ok());
        check(&text, text.as_bytes(), 200);
    }
    assert!(taken > 200, "{taken} of them make sense");
}
