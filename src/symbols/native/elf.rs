//! The code and the symbols of an ELF file.
//!
//! symbolic's list of symbols has only those of type FUNC, and gives a symbol without a size all addresses up
//! to the next symbol. It does not tell which sections hold code. Can go when it does.

use goblin::container::{Container, Ctx};
use goblin::elf::header::EM_ARM;
use goblin::elf::program_header::{PT_LOAD, ProgramHeader};
use goblin::elf::section_header::{
    SHF_ALLOC, SHF_EXECINSTR, SHT_DYNSYM, SHT_NOBITS, SHT_SYMTAB, SectionHeader,
};
use goblin::elf::sym::{STB_GLOBAL, STB_WEAK, STT_FUNC, STT_GNU_IFUNC, STT_NOTYPE, Sym};
use goblin::elf::{Elf, Symtab};
use symbolic_debuginfo::ObjectKind;
use symbolic_debuginfo::elf::ElfObject;

use super::code::{Code, SYMBOLS_MAX, Symbol, c_string};
use super::ranges::joined;

/// Section numbers from here on are not sections.
const SECTIONS_MAX: usize = 0xff00;

/// Reads the sections and symbols of `elf`. The extents are those of its unwind data and are not read here.
pub(super) fn code_of<'d>(elf: &ElfObject<'d>) -> Code<'d> {
    let Some(tables) = Tables::read(elf.data()) else {
        return Code::default();
    };
    let base = elf.load_address();
    let mut code = Code {
        ranges: tables.code(base),
        symbols: tables.symbols(SHT_SYMTAB, base),
        ..Code::default()
    };
    code.only_exports = code.symbols.is_empty();
    code.symbols.extend(tables.symbols(SHT_DYNSYM, base));
    if code.symbols.is_empty() {
        // Without section headers, only the dynamic segment tells where the symbols are.
        let symbols = elf.symbols().take(SYMBOLS_MAX).filter_map(|symbol| {
            Some(Symbol {
                address: symbol.address,
                size: symbol.size,
                rank: 0,
                name: symbol.name?,
            })
        });
        code.symbols = symbols.collect();
    }
    code
}

/// Whether the file has code, and not only debug information that was separated from it. symbolic takes every program
/// without an interpreter for debug information, also those that are linked statically.
pub(super) fn holds_code(elf: &ElfObject<'_>) -> bool {
    let Some(tables) = Tables::read(elf.data()) else {
        return elf.kind() != ObjectKind::Debug;
    };
    if tables.sections.is_empty() {
        return true;
    }
    let mut sections = tables.sections.iter();
    sections.any(|section| section.is_executable() && section.sh_type != SHT_NOBITS)
}

/// The symbols of the file `inner` that was packed into a program with the load address `base`.
pub(super) fn symbols_in(inner: &[u8], base: u64) -> Vec<Symbol<'_>> {
    let tables = Tables::read(inner);
    tables.map_or(Vec::new(), |tables| tables.symbols(SHT_SYMTAB, base))
}

/// The tables of contents of an ELF file.
struct Tables<'d> {
    data: &'d [u8],
    context: Ctx,
    machine: u16,
    sections: Vec<SectionHeader>,
    segments: Vec<ProgramHeader>,
}

impl<'d> Tables<'d> {
    fn read(data: &'d [u8]) -> Option<Self> {
        let header = Elf::parse_header(data).ok()?;
        let is_64 =
            header.e_ident[goblin::elf::header::EI_CLASS] == goblin::elf::header::ELFCLASS64;
        let container = if is_64 {
            Container::Big
        } else {
            Container::Little
        };
        let context = Ctx::new(container, header.endianness().ok()?);
        let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
        let (sections, segments) = (at(header.e_shoff), at(header.e_phoff));
        Some(Self {
            data,
            context,
            machine: header.e_machine,
            sections: SectionHeader::parse(data, sections, header.e_shnum.into(), context)
                .unwrap_or_default(),
            segments: ProgramHeader::parse(data, segments, header.e_phnum.into(), context)
                .unwrap_or_default(),
        })
    }

    /// The ranges with code. A debug file has the headers of the sections whose content is in the program.
    fn code(&self, base: u64) -> Vec<(u64, u64)> {
        let wanted = u64::from(SHF_ALLOC | SHF_EXECINSTR);
        let sections = self.sections.iter();
        let of_sections = sections
            .filter(|section| section.sh_flags & wanted == wanted)
            .map(|section| (section.sh_addr, section.sh_size));
        let mut found: Vec<(u64, u64)> = of_sections.collect();
        if found.is_empty() {
            let segments = self.segments.iter();
            let executable = segments.filter(|s| s.p_type == PT_LOAD && s.is_executable());
            found = executable.map(|s| (s.p_vaddr, s.p_memsz)).collect();
        }
        let relative = found.into_iter().filter_map(|(address, size)| {
            let from = address.checked_sub(base)?;
            (size > 0).then_some((from, from.checked_add(size)?))
        });
        joined(relative.collect())
    }

    fn symbols(&self, kind: u32, base: u64) -> Vec<Symbol<'d>> {
        let mut found = Vec::new();
        let tables = self.sections.iter().filter(|s| s.sh_type == kind);
        for table in tables {
            let Some((symbols, names)) = self.table(table) else {
                continue;
            };
            for symbol in symbols.iter() {
                if found.len() == SYMBOLS_MAX {
                    return found;
                }
                found.extend(self.symbol(&symbol, names, base));
            }
        }
        found
    }

    fn table(&self, table: &SectionHeader) -> Option<(Symtab<'d>, &'d [u8])> {
        let content = self.bytes(table)?;
        let count = (table.sh_size).checked_div(table.sh_entsize)?;
        let count = usize::try_from(count).ok()?;
        let symbols = Symtab::parse(content, 0, count, self.context).ok()?;
        let names = self.bytes(self.sections.get(usize::try_from(table.sh_link).ok()?)?)?;
        Some((symbols, names))
    }

    fn bytes(&self, section: &SectionHeader) -> Option<&'d [u8]> {
        if section.sh_type == SHT_NOBITS {
            return None;
        }
        let from = usize::try_from(section.sh_offset).ok()?;
        let size = usize::try_from(section.sh_size).ok()?;
        self.data.get(from..)?.get(..size)
    }

    fn symbol(&self, symbol: &Sym, names: &'d [u8], base: u64) -> Option<Symbol<'d>> {
        let kind = symbol.st_type();
        let is_function = matches!(kind, STT_FUNC | STT_GNU_IFUNC);
        // Assembler code often leaves out the type of its functions.
        if !is_function && kind != STT_NOTYPE {
            return None;
        }
        let section = self.sections.get(symbol.st_shndx);
        let in_code = (1..SECTIONS_MAX).contains(&symbol.st_shndx)
            && section.is_some_and(SectionHeader::is_executable);
        if !in_code {
            return None;
        }
        let name = c_string(names.get(symbol.st_name..)?);
        if name.is_empty() || (!is_function && is_mark(&name)) {
            return None;
        }
        let mut address = symbol.st_value;
        if self.machine == EM_ARM && is_function {
            // The lowest bit says that the function is Thumb code.
            address &= !1;
        }
        let by_kind = u8::from(!is_function) * 4;
        let by_binding = match symbol.st_bind() {
            STB_GLOBAL => 0,
            STB_WEAK => 1,
            _ => 2,
        };
        Some(Symbol {
            address: address.checked_sub(base)?,
            size: symbol.st_size,
            rank: by_kind + by_binding,
            name,
        })
    }
}

/// Marks of the assembler, which are no names: where code and data begin (`$x`, `$d.3`), and local labels.
fn is_mark(name: &str) -> bool {
    let of_code = name.strip_prefix('$').is_some_and(|mark| {
        let mut chars = mark.chars();
        matches!(chars.next(), Some('a' | 'd' | 't' | 'x'))
            && matches!(chars.next(), None | Some('.'))
    });
    of_code || name.starts_with(".L")
}
