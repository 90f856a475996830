//! Unwind rules of an ELF file: DWARF's call frame information as STACK CFI records.
//!
//! This replaces symbolic's `AsciiCfiWriter` for ELF files of the CPUs that walks know. Three things are
//! different:
//!
//! - Instructions of AArch64 for signed return addresses are read. Without them, the rows after the first
//!   `DW_CFA_AARCH64_negate_ra_state` are lost.
//! - A register that is restored (`DW_CFA_restore`) gets a rule that says so. Otherwise its last rule stays in
//!   force, and an epilogue reads it from a stack that is gone.
//! - A return address that is undefined ends the stack: `.ra: .undef`.
//!
//! It also returns the extent of each function, so that the section is read once. Can go when symbolic does all
//! of that.

use std::collections::HashSet;
use std::io::{self, Write};

use gimli::{
    BaseAddresses, CfaRule, CieOrFde, DebugFrame, EhFrame, Encoding, EndianSlice, Format,
    FrameDescriptionEntry, Operation, Register, RegisterRule, RunTimeEndian, UnwindContext,
    UnwindExpression, UnwindSection, Vendor,
};
use symbolic_common::CpuFamily;
use symbolic_debuginfo::dwarf::Dwarf;
use symbolic_debuginfo::elf::ElfObject;

use super::code::SYMBOLS_MAX;
use super::ranges::{Range, containing};

/// Limit of operations in one expression. Those of compilers have a handful.
const OPERATIONS_MAX: usize = 32;

type Slice<'a> = EndianSlice<'a, RunTimeEndian>;
type Rule = RegisterRule<usize>;

/// The registers of a CPU in DWARF's order, by the names of Breakpad. Only those that a walk restores.
const X86: &[&str] = &[
    "$eax", "$ecx", "$edx", "$ebx", "$esp", "$ebp", "$esi", "$edi", "$eip",
];
const AMD64: &[&str] = &[
    "$rax", "$rdx", "$rcx", "$rbx", "$rsi", "$rdi", "$rbp", "$rsp", "$r8", "$r9", "$r10", "$r11",
    "$r12", "$r13", "$r14", "$r15", "$rip",
];
const ARM: &[&str] = &[
    "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "sp", "lr",
    "pc",
];
const ARM64: &[&str] = &[
    "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14",
    "x15", "x16", "x17", "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27",
    "x28", "x29", "x30", "sp",
];

/// The names of a CPU's registers; `None` if symbolic writes the rules of this CPU.
fn registers(cpu: CpuFamily) -> Option<&'static [&'static str]> {
    Some(match cpu {
        CpuFamily::Intel32 => X86,
        CpuFamily::Amd64 => AMD64,
        CpuFamily::Arm32 => ARM,
        CpuFamily::Arm64 | CpuFamily::Arm64_32 => ARM64,
        _ => return None,
    })
}

/// What the unwind sections of a file say.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// The functions, in the order of the sections.
    pub(super) extents: Vec<Range>,
    /// Why some of them have no rules.
    pub(super) why: Option<String>,
}

/// Writes the rules of `elf` as text. `code` has the ranges with code; rules for other addresses are left out,
/// because linkers leave the entries of functions that they removed. `None` if symbolic must do it.
pub(super) fn read(
    elf: &ElfObject<'_>,
    code: &[Range],
    out: &mut Vec<u8>,
) -> Option<io::Result<Frames>> {
    let names = registers(elf.arch().cpu_family())?;
    Some(read_known(elf, names, code, out))
}

fn read_known(
    elf: &ElfObject<'_>,
    names: &'static [&'static str],
    code: &[Range],
    out: &mut Vec<u8>,
) -> io::Result<Frames> {
    let endian = elf.endianity();
    let cpu = elf.arch().cpu_family();
    let address_size = cpu.pointer_size().unwrap_or(8) as u8;
    let vendor = match cpu {
        CpuFamily::Arm64 | CpuFamily::Arm64_32 => Vendor::AArch64,
        _ => Vendor::Default,
    };
    let mut reader = Reader {
        names,
        base: elf.load_address(),
        code,
        encoding: Encoding {
            address_size,
            format: Format::Dwarf32,
            version: 4,
        },
        seen: HashSet::new(),
        frames: Frames::default(),
        line: Vec::new(),
        out,
    };
    if let Some(section) = elf.section("debug_frame") {
        let mut frame = DebugFrame::new(&section.data, endian);
        frame.set_address_size(address_size);
        frame.set_vendor(vendor);
        reader.read(&frame, section.address)?;
        // A function may be in both sections.
        reader.seen = reader.frames.extents.iter().map(|range| range.0).collect();
    }
    if let Some(section) = elf.section("eh_frame") {
        let mut frame = EhFrame::new(&section.data, endian);
        frame.set_address_size(address_size);
        frame.set_vendor(vendor);
        reader.read(&frame, section.address)?;
    }
    Ok(reader.frames)
}

struct Reader<'a> {
    names: &'static [&'static str],
    /// The load address of the module, from which addresses in the text are counted.
    base: u64,
    code: &'a [Range],
    encoding: Encoding,
    /// Functions that already have rules, if there is more than one section.
    seen: HashSet<u64>,
    frames: Frames,
    /// The records of one function.
    line: Vec<u8>,
    out: &'a mut Vec<u8>,
}

impl Reader<'_> {
    fn read<'d, U>(&mut self, section: &U, address: u64) -> io::Result<()>
    where
        U: UnwindSection<Slice<'d>>,
        U::Offset: Copy,
    {
        let bases = BaseAddresses::default().set_eh_frame(address);
        let mut context = UnwindContext::new();
        let mut entries = section.entries(&bases);
        loop {
            let entry = match entries.next() {
                Ok(Some(entry)) => entry,
                Ok(None) => return Ok(()),
                Err(error) => {
                    self.fail(error);
                    return Ok(());
                }
            };
            let CieOrFde::Fde(partial) = entry else {
                continue;
            };
            match partial.parse(U::cie_from_offset) {
                Ok(fde) => self.function(section, &bases, &mut context, &fde)?,
                Err(error) => self.fail(error),
            }
            if self.frames.extents.len() >= SYMBOLS_MAX {
                let why = format!("it has unwind rules for more than {SYMBOLS_MAX} functions");
                self.frames.why = Some(why);
                return Ok(());
            }
        }
    }

    fn fail(&mut self, error: gimli::Error) {
        self.frames.why = Some(error.to_string());
    }

    fn function<'d, U: UnwindSection<Slice<'d>>>(
        &mut self,
        section: &U,
        bases: &BaseAddresses,
        context: &mut UnwindContext<usize>,
        fde: &FrameDescriptionEntry<Slice<'d>>,
    ) -> io::Result<()> {
        let (first, length) = (fde.initial_address(), fde.len());
        let Some(from) = first.checked_sub(self.base) else {
            return Ok(());
        };
        let is_code = self.code.is_empty() || containing(self.code, from).is_some();
        // A size has 32 bits in a symbol file.
        let fits =
            (1..=u64::from(u32::MAX)).contains(&length) && from.checked_add(length).is_some();
        if !fits || !is_code {
            return Ok(());
        }
        if self.seen.contains(&from) {
            return Ok(());
        }
        self.frames.extents.push((from, from + length));
        let ra = fde.cie().return_address_register();
        let mut rows = match fde.rows(section, bases, context) {
            Ok(rows) => rows,
            Err(error) => {
                self.fail(error);
                return Ok(());
            }
        };
        self.line.clear();
        let mut known: Vec<(Register, Rule)> = Vec::new();
        let mut cfa: Option<CfaRule<usize>> = None;
        let mut end = from;
        loop {
            let row = match rows.next_row() {
                Ok(Some(row)) => row,
                Ok(None) => break,
                Err(error) => {
                    // The rows before it are good.
                    self.frames.why = Some(error.to_string());
                    break;
                }
            };
            let Some(at) = row.start_address().checked_sub(self.base) else {
                break;
            };
            if row.end_address() <= row.start_address() {
                continue;
            }
            end = end.max(row.end_address().saturating_sub(self.base));
            let is_first = cfa.is_none();
            let before = self.line.len();
            if !is_first {
                write!(self.line, "STACK CFI {at:x}")?;
            }
            let start = self.line.len();
            if cfa.as_ref() != Some(row.cfa()) {
                let rule = self.cfa_rule(row.cfa(), section);
                write!(self.line, " .cfa: {}", rule.as_deref().unwrap_or(".undef"))?;
                cfa = Some(row.cfa().clone());
            }
            for (register, rule) in row.registers() {
                match known.iter_mut().find(|(known, _)| known == register) {
                    Some((_, known)) if known == rule => continue,
                    Some((_, known)) => *known = rule.clone(),
                    None => known.push((*register, rule.clone())),
                }
                self.register(*register, rule, ra, section)?;
            }
            let mut index = 0;
            while let Some(&(register, _)) = known.get(index) {
                if row.register(register).is_some() {
                    index += 1;
                } else {
                    known.swap_remove(index);
                    self.restored(register, ra)?;
                }
            }
            if is_first && row.register(ra).is_none() {
                self.restored(ra, ra)?;
            }
            if self.line.len() == start {
                self.line.truncate(before);
            } else {
                self.line.push(b'\n');
            }
        }
        if end > from && cfa.is_some() {
            write!(self.out, "STACK CFI INIT {from:x} {:x}", end - from)?;
            self.out.write_all(&self.line)?;
        }
        Ok(())
    }

    /// A register that has its own value again. A return address that is in a register is in it at first.
    fn restored(&mut self, register: Register, ra: Register) -> io::Result<()> {
        let Some(name) = self.name(register) else {
            return Ok(());
        };
        if register != ra {
            return write!(self.line, " {name}: {name}");
        }
        // On x86, the return address is always on the stack. Without a rule for it, the rules are not usable.
        if name.starts_with('$') {
            return Ok(());
        }
        write!(self.line, " .ra: {name}")
    }

    fn register<'d, U: UnwindSection<Slice<'d>>>(
        &mut self,
        register: Register,
        rule: &Rule,
        ra: Register,
        section: &U,
    ) -> io::Result<()> {
        let Some(name) = self.name(register) else {
            return Ok(());
        };
        let shown = if register == ra { ".ra" } else { name };
        match rule {
            RegisterRule::Offset(offset) => write!(self.line, " {shown}: .cfa {offset} + ^"),
            RegisterRule::ValOffset(offset) => write!(self.line, " {shown}: .cfa {offset} +"),
            RegisterRule::SameValue => write!(self.line, " {shown}: {name}"),
            RegisterRule::Register(other) if self.name(*other).is_some() => {
                let other = self.name(*other).unwrap_or_default();
                write!(self.line, " {shown}: {other}")
            }
            RegisterRule::Expression(expression) => {
                let rule = self.expression(expression, section, ".cfa");
                match rule {
                    Some(address) => write!(self.line, " {shown}: {address} ^"),
                    None => self.unknown(shown),
                }
            }
            RegisterRule::ValExpression(expression) => {
                let rule = self.expression(expression, section, ".cfa");
                match rule {
                    Some(value) => write!(self.line, " {shown}: {value}"),
                    None => self.unknown(shown),
                }
            }
            RegisterRule::Undefined => write!(self.line, " {shown}: .undef"),
            _ => self.unknown(shown),
        }
    }

    /// A rule that cannot be written. The value is unknown, but an unknown return address must not look like
    /// the end of the stack.
    fn unknown(&mut self, shown: &str) -> io::Result<()> {
        match shown {
            ".ra" => write!(self.line, " .cfa: .undef"),
            shown => write!(self.line, " {shown}: .undef"),
        }
    }

    fn name(&self, register: Register) -> Option<&'static str> {
        self.names.get(usize::from(register.0)).copied()
    }

    fn cfa_rule<'d, U: UnwindSection<Slice<'d>>>(
        &self,
        rule: &CfaRule<usize>,
        section: &U,
    ) -> Option<String> {
        match rule {
            CfaRule::RegisterAndOffset { register, offset } => {
                Some(format!("{} {offset} +", self.name(*register)?))
            }
            CfaRule::Expression(expression) => self.expression(expression, section, ""),
        }
    }

    /// An expression in the postfix notation of symbol files; `None` if that cannot express it. `first` is on
    /// the stack before the first operation, if it is not empty.
    fn expression<'d, U: UnwindSection<Slice<'d>>>(
        &self,
        expression: &UnwindExpression<usize>,
        section: &U,
        first: &str,
    ) -> Option<String> {
        let mut operations = expression.get(section).ok()?.operations(self.encoding);
        // The expressions of the values on the stack. The last one is the result; others may be left.
        let mut stack: Vec<String> = Vec::new();
        if !first.is_empty() {
            stack.push(first.to_owned());
        }
        let mut count = 0;
        while let Some(operation) = operations.next().ok()? {
            count += 1;
            if count > OPERATIONS_MAX {
                return None;
            }
            let value = match operation {
                Operation::RegisterOffset {
                    register, offset, ..
                } => format!("{} {offset} +", self.name(register)?),
                Operation::UnsignedConstant { value } => i64::try_from(value).ok()?.to_string(),
                Operation::SignedConstant { value } => value.to_string(),
                Operation::PlusConstant { value } => {
                    format!("{} {} +", stack.pop()?, i64::try_from(value).ok()?)
                }
                Operation::Deref { size, space, .. }
                    if size == self.encoding.address_size && !space =>
                {
                    format!("{} ^", stack.pop()?)
                }
                Operation::Plus | Operation::Minus | Operation::Mul => {
                    let word = match operation {
                        Operation::Plus => "+",
                        Operation::Minus => "-",
                        _ => "*",
                    };
                    let (right, left) = (stack.pop()?, stack.pop()?);
                    format!("{left} {right} {word}")
                }
                Operation::Nop => continue,
                _ => return None,
            };
            stack.push(value);
        }
        stack.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A `.debug_frame` with one CIE and one FDE of 0x40 bytes at 0x1000.
    fn section(ra: u8, cie: &[u8], fde: &[u8]) -> Vec<u8> {
        let entry = |content: Vec<u8>| {
            let mut content = content;
            while content.len() % 8 != 4 {
                content.push(0);
            }
            [&(content.len() as u32).to_le_bytes()[..], &content].concat()
        };
        // Version 4, no augmentation, addresses of 8 bytes, factors of 1 and -8.
        let head = [&u32::MAX.to_le_bytes()[..], &[4, 0, 8, 0, 1, 0x78, ra], cie].concat();
        let place = [0x1000u64.to_le_bytes(), 0x40u64.to_le_bytes()].concat();
        let function = [&0u32.to_le_bytes()[..], &place, fde].concat();
        [entry(head), entry(function)].concat()
    }

    fn read(names: &'static [&'static str], vendor: Vendor, bytes: &[u8]) -> (String, Frames) {
        let mut out = Vec::new();
        let mut reader = Reader {
            names,
            base: 0,
            code: &[(0x1000, 0x2000)],
            encoding: Encoding {
                address_size: 8,
                format: Format::Dwarf32,
                version: 4,
            },
            seen: HashSet::new(),
            frames: Frames::default(),
            line: Vec::new(),
            out: &mut out,
        };
        let mut frame = DebugFrame::new(bytes, RunTimeEndian::Little);
        frame.set_address_size(8);
        frame.set_vendor(vendor);
        reader.read(&frame, 0).expect("a vector");
        let frames = reader.frames;
        (String::from_utf8(out).expect("UTF-8"), frames)
    }

    #[test]
    fn signed_return_addresses_and_epilogues_of_arm64_are_followed() {
        // x29 and x30 are saved 16 bytes lower, the address is signed before and checked after.
        let fde = [
            0x41, 0x2d, 0x41, 0x0e, 16, 0x9d, 2, 0x9e, 1, 0x48, 0xdd, 0xde, 0x0e, 0, 0x44, 0x2d,
        ];
        let (text, frames) = read(ARM64, Vendor::AArch64, &section(30, &[0x0c, 31, 0], &fde));
        assert_eq!(
            text,
            "STACK CFI INIT 1000 40 .cfa: sp 0 + .ra: x30\n\
             STACK CFI 1002 .cfa: sp 16 + x29: .cfa -16 + ^ .ra: .cfa -8 + ^\n\
             STACK CFI 100a .cfa: sp 0 + x29: x29 .ra: x30\n"
        );
        assert_eq!((frames.extents, frames.why), (vec![(0x1000, 0x1040)], None));
    }

    #[test]
    fn the_end_of_the_stack_and_expressions_are_written() {
        let (text, _) = read(
            AMD64,
            Vendor::Default,
            &section(16, &[0x0c, 7, 8], &[0x07, 16]),
        );
        assert_eq!(text, "STACK CFI INIT 1000 40 .cfa: $rsp 8 + .ra: .undef\n");
        // The frame of a signal: all registers are in a structure on the stack.
        let fde = [
            0x0f, 4, 0x77, 0xa0, 1, 0x06, 0x10, 16, 2, 0x77, 40, 0x10, 3, 3, 0x77, 8, 0x06,
        ];
        let (text, _) = read(AMD64, Vendor::Default, &section(16, &[], &fde));
        assert_eq!(
            text,
            "STACK CFI INIT 1000 40 .cfa: $rsp 160 + ^ .ra: $rsp 40 + ^ $rbx: $rsp 8 + ^ ^\n"
        );
    }

    #[test]
    fn rules_that_cannot_be_written_never_look_like_the_end_of_the_stack() {
        // An address of the return address with a logical operation.
        let fde = [0x10, 16, 3, 0x38, 0x1a, 0x06];
        let (text, _) = read(AMD64, Vendor::Default, &section(16, &[0x0c, 7, 8], &fde));
        assert_eq!(text, "STACK CFI INIT 1000 40 .cfa: $rsp 8 + .cfa: .undef\n");
        // No rule for the return address: not usable, but not the end either.
        let (text, _) = read(AMD64, Vendor::Default, &section(16, &[0x0c, 7, 8], &[]));
        assert_eq!(text, "STACK CFI INIT 1000 40 .cfa: $rsp 8 +\n");
    }

    #[test]
    fn rows_before_an_unknown_instruction_are_kept() {
        let fde = [0x44, 0x0e, 16, 0x44, 0x3f];
        let (text, frames) = read(
            AMD64,
            Vendor::Default,
            &section(16, &[0x0c, 7, 8, 0x90, 1], &fde),
        );
        assert_eq!(
            text,
            "STACK CFI INIT 1000 8 .cfa: $rsp 8 + .ra: .cfa -8 + ^\nSTACK CFI 1004 .cfa: $rsp 16 +\n"
        );
        assert!(frames.why.is_some());
    }

    #[test]
    fn sections_that_lie_never_panic() {
        let good = section(
            16,
            &[0x0c, 7, 8, 0x90, 1],
            &[0x44, 0x0e, 16, 0x10, 3, 3, 0x77, 8, 6],
        );
        for end in 0..good.len() {
            read(AMD64, Vendor::Default, &good[..end]);
        }
        let mut state = 3u64;
        for _ in 0..20_000 {
            let mut bytes = good.clone();
            for _ in 0..3 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let at = (state >> 40) as usize % bytes.len();
                bytes[at] = (state >> 32) as u8;
            }
            read(ARM64, Vendor::AArch64, &bytes);
        }
    }
}
