//! Converts a program or its debug file (ELF, Mach-O, PE, PDB) to the text of a symbol file, with symbolic.
//!
//! One file may contain several programs (a fat Mach-O). For each, the output has a line of JSON ([`Found`])
//! and then its text; no line of a symbol file starts with a brace. A file with other halves of a program's
//! units ([`split`]), or a debug file without an id (`debug_link`), gives only one such line. Later the program is
//! read again together with it.
//!
//! A hostile file can make conversion expensive: sections that inflate without end, inlined calls nested
//! without end. The constants here limit what we know of. For everything else, the conversion runs in a
//! separate process ([`super::converter`], ADR 13).

mod arm64;
mod code;
mod elf;
mod exidx;
mod extents;
mod frames;
mod functions;
mod go;
mod lines;
mod macho;
mod mini;
mod names;
mod pe;
mod ranges;

use std::collections::HashSet;
use std::io::{self, Write};

use gimli::RunTimeEndian;
use serde::{Deserialize, Serialize};
use symbolic_cfi::AsciiCfiWriter;
use symbolic_common::{Arch, CpuFamily, Language, Name, NameMangling};
use symbolic_debuginfo::dwarf::{Dwarf, DwarfDebugSession};
use symbolic_debuginfo::elf::ElfObject;
use symbolic_debuginfo::{
    Archive, FileFormat, Function, Object, ObjectKind, ParseObjectOptions, SymbolMap,
};

use self::code::{Code, Symbol};
use self::functions::{Body, Functions, INLINE_DEPTH_MAX, Line, Names, without_overlaps};
use self::lines::Piece;
use self::names::{one_line, readable, readable_symbol};
use self::ranges::{Range, joined};
use super::check::{EXPORTS_LINE, UNKNOWN_FUNCTION};
use super::dirs::{checked_leaf, debug_id_of_code};
use super::skeleton::{Skeleton, SkeletonKind};
use super::{debug_link, split};
use crate::crash::symbols::{Coverage, Kind};

/// Limit of bytes of one section after decompression.
const SECTION_BYTES_MAX: usize = 2 << 30;
/// Bytes of records that are passed on at once.
const WRITTEN_BYTES: usize = 64 << 10;
/// Bytes of functions without lines for which line tables are searched in any program.
const WITHOUT_LINES_MAX: u64 = 64 << 10;
/// Limit of chained unwind information on Windows.
const UNWIND_CHAIN_MAX: usize = 128;

/// The result for one object in a file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Found {
    /// A program or its debug file; its text follows.
    Program(Head),
    /// Debug information of other files, by its ids. No text follows.
    Part(SkeletonKind, Vec<u64>),
    /// Why one of several programs was refused. No text follows.
    Refused(String),
}

/// The data before a text.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub(crate) kind: Kind,
    pub(crate) holds_code: bool,
    pub(crate) notes: Vec<String>,
    pub(crate) coverage: Coverage,
    /// The units whose functions are in another file and not in the text.
    pub(crate) skeletons: Vec<Skeleton>,
}

/// The other files with debug information of a program.
pub enum OtherFiles<'d> {
    /// They may arrive later, or before a file that is useless without its program.
    Unknown,
    /// There are none. A debug file whose program is missing is read for its own id, if it has one.
    Missing,
    /// Other halves of units (a `.dwo` or `.dwp`, or a tar of them) or a debug file.
    Known(&'d [u8]),
}

fn options() -> ParseObjectOptions {
    let mut options = ParseObjectOptions::default();
    options.max_decompressed_section_size = Some(SECTION_BYTES_MAX);
    options.max_inline_depth = Some(INLINE_DEPTH_MAX);
    options
}

/// Writes the symbols of every program in `bytes`. `name` is the sender's name of the file.
///
/// # Errors
/// A sentence for the sender.
pub fn convert(
    bytes: &[u8],
    others: OtherFiles<'_>,
    name: &str,
    out: &mut impl Write,
) -> Result<(), String> {
    let archive = Archive::parse_with_opts(bytes, options())
        .map_err(|e| format!("it cannot be read: {}", chain(&e)))?;
    let parts = match others {
        OtherFiles::Known(parts) => Some(split::parts_in(parts)?),
        OtherFiles::Unknown | OtherFiles::Missing => None,
    };
    let mut taken = 0;
    let mut refused = Vec::new();
    for object in archive.objects() {
        let object = match object {
            Ok(object) => object,
            Err(error) => {
                refused.push(format!("it cannot be read: {}", chain(&error)));
                continue;
            }
        };
        let is_single = matches!(others, OtherFiles::Missing);
        if let Some(kind) = part_kind(&object)
            && !(kind == SkeletonKind::Linked && is_single)
        {
            return tell(out, &Found::Part(kind, part_ids(&object, kind)?));
        }
        let parts = parts.as_deref();
        let debug_file = parts.and_then(|parts| linked(&object, parts));
        let read = facts_of(&object, name).map(|facts| match (&debug_file, parts) {
            (Some(debug_file), _) => Program::read_linked(debug_file, facts),
            (None, Some(parts)) => Program::read(&object, facts, Some(&Halves::read(parts))),
            (None, None) => Program::read(&object, facts, None),
        });
        match read {
            Ok(program) => {
                program
                    .write(out)
                    .map_err(|e| format!("its symbols cannot be written: {e}"))?;
                taken += 1;
            }
            Err(why) => refused.push(why),
        }
    }
    if taken == 0 {
        return Err(refused
            .pop()
            .unwrap_or_else(|| "it contains no program".to_owned()));
    }
    for why in refused {
        let why = format!("one of the programs in it was ignored: {why}");
        tell(out, &Found::Refused(why))?;
    }
    Ok(())
}

/// What a file is that is useless without another one; `None` if it is a program or has an id.
fn part_kind(object: &Object<'_>) -> Option<SkeletonKind> {
    match object {
        Object::Elf(elf) if split::is_common(elf) => Some(SkeletonKind::Common),
        Object::Elf(elf) if split::is_part(elf) => Some(SkeletonKind::Half),
        object if debug_link::is_debug_file(object) && !holds_code(object) => {
            Some(SkeletonKind::Linked)
        }
        _ => None,
    }
}

fn part_ids(object: &Object<'_>, kind: SkeletonKind) -> Result<Vec<u64>, String> {
    let ids = match (object, kind) {
        (Object::Elf(elf), SkeletonKind::Common | SkeletonKind::Half) => {
            split::ids_of(elf).map_err(|e| format!("it cannot be read: {e}"))?
        }
        _ => vec![debug_link::id_of(object.data())],
    };
    if ids.is_empty() {
        return Err("it is split debug information without a unit (the dwp tool of binutils drops those of DWARF 5); make it with llvm-dwp, or send the .dwo files".into());
    }
    Ok(ids)
}

/// The debug file to which only this program's link refers, if it is among the other files.
fn linked<'d>(program: &Object<'_>, parts: &[(String, &'d [u8])]) -> Option<Object<'d>> {
    let id = debug_link::skeleton_of(program)?.id;
    let mut meant = parts.iter().filter(|part| debug_link::id_of(part.1) == id);
    let debug_file = Object::parse_with_opts(meant.next()?.1, options()).ok()?;
    let is_sound = debug_file.arch() == program.arch()
        && debug_file.file_format() == program.file_format()
        && debug_link::is_debug_file(&debug_file);
    is_sound.then_some(debug_file)
}

/// Writes a line that is not followed by a text.
fn tell(out: &mut impl Write, found: &Found) -> Result<(), String> {
    serde_json::to_writer(&mut *out, found)
        .map_err(io::Error::from)
        .and_then(|()| writeln!(out))
        .map_err(|e| format!("the result cannot be written: {e}"))
}

/// The other halves of units that could be read.
struct Halves<'d> {
    parts: Vec<ElfObject<'d>>,
    notes: Vec<String>,
}

impl<'d> Halves<'d> {
    fn read(parts: &[(String, &'d [u8])]) -> Self {
        let mut halves = Self {
            parts: Vec::new(),
            notes: Vec::new(),
        };
        for (name, bytes) in parts {
            match ElfObject::parse_with_opts(bytes, options()) {
                Ok(part) => halves.parts.push(part),
                Err(error) => halves
                    .notes
                    .push(format!("{name} cannot be read: {}", chain(&error))),
            }
        }
        halves
    }
}

/// Reads any bytes as each of the tables that only programs of some kinds have. For fuzzing: in a whole program, a
/// fuzzer rarely gets as far as these tables.
pub fn read_tables(bytes: &[u8]) -> usize {
    go::read_any(bytes)
        + exidx::read_any(bytes)
        + arm64::read_any(bytes)
        + macho::read_any(bytes)
        + pe::read_any(bytes)
}

/// The identity of a program in a file, as far as it is known without reading its symbols.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) debug_file: String,
    pub(crate) debug_id: String,
    pub(crate) kind: Kind,
    pub(crate) holds_code: bool,
}

/// The programs in `bytes`; `None` if the format is not one of ours. Only for trusted files, because it reads
/// them in this process.
pub(crate) fn identify(bytes: &[u8], name: &str) -> Option<Vec<Result<Identity, String>>> {
    let archive = Archive::parse(bytes).ok()?;
    let mut found = Vec::new();
    for object in archive.objects() {
        let object = object.ok()?;
        if part_kind(&object).is_some() {
            continue;
        }
        found.push(facts_of(&object, name).map(|facts| Identity {
            debug_file: facts.debug_file,
            debug_id: facts.debug_id,
            kind: facts.kind,
            holds_code: facts.holds_code,
        }));
    }
    Some(found)
}

/// The identity and type of a program.
struct Facts {
    kind: Kind,
    os: &'static str,
    holds_code: bool,
    debug_id: String,
    debug_file: String,
    code_id: String,
    code_file: String,
}

fn facts_of(object: &Object<'_>, name: &str) -> Result<Facts, String> {
    let (kind, os) = match object.file_format() {
        FileFormat::Elf => (Kind::Elf, "Linux"),
        FileFormat::MachO => (Kind::MachO, "mac"),
        FileFormat::Pe => (Kind::Pe, "windows"),
        FileFormat::Pdb => (Kind::Pdb, "windows"),
        other => return Err(format!("the format {other} is not supported")),
    };
    let code_id = object.code_id().map(|id| id.as_str().to_ascii_lowercase());
    let code_id = code_id.unwrap_or_default();
    let (code_file, debug_file) = file_names(object, kind, name);
    let own_id = object.debug_id();
    let debug_id = match object {
        _ if !own_id.is_nil() => Some(own_id.breakpad().to_string()),
        Object::Pe(_) => debug_id_of_code(&code_id, &code_file),
        _ => None,
    };
    let Some(debug_id) = debug_id else {
        return Err(
            "it has no id (build id, UUID or PDB signature), so crashes cannot refer to it; build it with an id, for example with -Wl,--build-id".into(),
        );
    };
    Ok(Facts {
        kind,
        os,
        holds_code: holds_code(object),
        debug_id,
        debug_file,
        code_id,
        code_file,
    })
}

/// Whether a file has code. A debug file has the section headers of the code, but no code.
fn holds_code(object: &Object<'_>) -> bool {
    match object {
        Object::Pe(pe) => pe::holds_code(pe),
        Object::Elf(elf) => elf::holds_code(elf),
        Object::Pdb(_) => false,
        object => object.kind() != ObjectKind::Debug,
    }
}

/// The text of an error with all its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Number of units of debug information that could not be read, and the reason for the last one.
#[derive(Default)]
struct Unread {
    units: usize,
    why: String,
}

/// A program while it is converted.
struct Program<'o, 'd> {
    head: Head,
    facts: Facts,
    names: Names,
    functions: Vec<Body>,
    publics: Vec<(u64, String)>,
    /// True if functions without debug information have names only if they are exported.
    only_exports: bool,
    /// STACK records.
    unwind: Vec<u8>,
    /// The tables of a Go program's runtime, if there is no debug information.
    go: Option<go::Tables<'d>>,
    /// The language of functions that only a symbol table names.
    language: Language,
    object: &'o Object<'d>,
}

impl<'o, 'd> Program<'o, 'd> {
    /// Reads the debug file of a program, which has no id.
    fn read_linked(debug_file: &'o Object<'d>, facts: Facts) -> Self {
        let mut program = Self::read(debug_file, facts, None);
        program.head.kind = Kind::Split;
        program.head.holds_code = false;
        // Other files are joined with programs only.
        program.head.skeletons.clear();
        program
    }

    fn read(object: &'o Object<'d>, facts: Facts, halves: Option<&Halves<'_>>) -> Self {
        let mut skeletons = Vec::new();
        if let Object::Elf(elf) = object {
            skeletons = split::skeletons_of(elf);
        }
        skeletons.extend(debug_link::skeleton_of(object));
        let mut program = Self {
            head: Head {
                kind: facts.kind,
                holds_code: facts.holds_code,
                notes: Vec::new(),
                coverage: Coverage::default(),
                skeletons,
            },
            facts,
            names: Names::default(),
            functions: Vec::new(),
            publics: Vec::new(),
            only_exports: false,
            unwind: Vec::new(),
            go: None,
            language: Language::Unknown,
            object,
        };
        let mut unread = Unread::default();
        let common = match (object, halves) {
            (Object::Elf(elf), Some(halves)) => split::common_of(elf, &halves.parts),
            _ => None,
        };
        if common.is_none() {
            program.read_functions(&mut unread);
        }
        if let (Object::Elf(elf), Some(halves)) = (object, halves) {
            program.head.kind = Kind::Split;
            program.head.holds_code = false;
            program.read_halves(elf, &object.symbol_map(), halves, &mut unread);
        }
        program.settle_functions(&unread);
        let code = program.read_code();
        let ranges = code.ranges.clone();
        program.add_plain(code);
        program.add_lines();
        program.head.coverage = program.coverage(&ranges);
        let has_lines = program.functions.iter().any(|f| !f.lines.is_empty());
        if unread.units == 0
            && object.has_debug_info()
            && !has_lines
            && program.head.skeletons.is_empty()
        {
            let note = "its debug information has no functions";
            program.head.notes.push(note.to_owned());
        }
        program
    }

    fn read_functions(&mut self, unread: &mut Unread) {
        if !self.object.has_debug_info() {
            return;
        }
        match self.object.debug_session() {
            Ok(session) => self.add_all(session.functions(), unread),
            Err(error) => {
                let why = format!("the debug information was ignored: {}", chain(&error));
                self.head.notes.push(why);
            }
        }
    }

    /// Reads the functions of units whose other halves are present.
    fn read_halves(
        &mut self,
        elf: &ElfObject<'_>,
        symbols: &SymbolMap<'_>,
        halves: &Halves<'_>,
        unread: &mut Unread,
    ) {
        self.head.notes.extend(halves.notes.iter().cloned());
        let mut read = |session: &DwarfDebugSession<'_>| {
            self.add_all(session.functions(), unread);
        };
        let joined = match split::common_of(elf, &halves.parts) {
            Some(common) => split::join_common(elf, common, symbols, &mut read),
            None => split::join(elf, symbols, &halves.parts, &mut read),
        };
        unread.units += joined.unread;
        if joined.unread > 0 {
            unread.why = joined.why;
        }
        let found: HashSet<u64> = joined.ids.into_iter().collect();
        (self.head.skeletons).retain(|skeleton| !found.contains(&skeleton.id));
    }

    /// If a unit cannot be read, only its own functions are lost.
    fn add_all<'f, E: std::error::Error>(
        &mut self,
        functions: impl Iterator<Item = Result<Function<'f>, E>>,
        unread: &mut Unread,
    ) {
        let mut converted = Functions::new(&mut self.names);
        for function in functions {
            match function {
                Ok(function) => self.functions.extend(converted.body(&function)),
                Err(error) => {
                    unread.units += 1;
                    unread.why = chain(&error);
                }
            }
        }
    }

    fn settle_functions(&mut self, unread: &Unread) {
        let Unread { units, why } = unread;
        if *units > 0 {
            let note = format!("{units} units of debug information were ignored: {why}");
            self.head.notes.push(note);
        }
        // The linker leaves functions that it dropped at address 0.
        if self.facts.kind == Kind::Elf {
            self.functions.retain(|function| function.address > 0);
        }
        // The linker may fold identical functions: keep the one with the most lines.
        self.functions
            .sort_by_key(|f| (f.address, std::cmp::Reverse(f.lines.len())));
        self.functions.dedup_by_key(|function| function.address);
    }

    /// Reads what the file says about its code without debug information, and its unwind rules.
    fn read_code(&mut self) -> Code<'d> {
        let object = self.object;
        let mut code = match object {
            Object::Elf(elf) => {
                let mut code = elf::code_of(elf);
                match mini::symbols(elf) {
                    Ok(symbols) => {
                        code.only_exports &= symbols.is_empty();
                        code.symbols.extend(symbols);
                    }
                    Err(why) => self.head.notes.push(why),
                }
                code
            }
            Object::Pe(pe) => pe::code_of(pe),
            Object::MachO(macho) => macho::code_of(macho),
            other => Code {
                symbols: symbols_of(&other.symbol_map()),
                ..Code::default()
            },
        };
        self.read_go(&mut code);
        let failed = match self.read_unwind(&mut code) {
            Ok(why) => why,
            Err(error) => Some(error.to_string()),
        };
        if let Some(why) = failed {
            let note = format!("some unwind information was ignored: {why}");
            self.head.notes.push(note);
        }
        if self.unwind.last().is_some_and(|&last| last != b'\n') {
            self.unwind.push(b'\n');
        }
        code
    }

    /// Reads the tables of a Go program.
    fn read_go(&mut self, code: &mut Code<'d>) {
        const SECTIONS: [&str; 2] = ["gopclntab", "data.rel.ro.gopclntab"];
        let mut found = SECTIONS.iter().filter_map(|name| match self.object {
            Object::Elf(elf) => elf.section(name),
            Object::MachO(macho) => macho.section(name),
            _ => None,
        });
        let Some(section) = found.next() else {
            return;
        };
        self.language = Language::Go;
        // A compressed section is not in memory when the program runs, so the runtime has none.
        let std::borrow::Cow::Borrowed(data) = section.data else {
            return;
        };
        if !self.functions.is_empty() {
            return;
        }
        let is_big =
            matches!(self.object, Object::Elf(elf) if elf.endianity() == RunTimeEndian::Big);
        let base = self.object.load_address();
        self.go = go::Tables::read(data, is_big, base, &code.ranges);
        if let Some(go) = &self.go {
            code.symbols.extend(go.symbols());
            code.only_exports = false;
        }
    }

    /// Returns why some unwind rules were ignored.
    fn read_unwind(&mut self, code: &mut Code<'d>) -> io::Result<Option<String>> {
        let out = &mut self.unwind;
        if let Object::Elf(elf) = self.object
            && let Some(frames) = frames::read(elf, &code.ranges, out)
        {
            let frames = frames?;
            code.extents = frames.extents;
            if elf.arch().cpu_family() == CpuFamily::Arm32 {
                let known = joined(code.extents.clone());
                let more = exidx::read(elf, &code.ranges, &known, out)?;
                code.extents.extend(more);
            }
            if let Some(go) = &self.go {
                let known = joined(code.extents.clone());
                go.write(elf.arch().cpu_family(), &known, out)?;
            }
            return Ok(frames.why);
        }
        if let Object::Pe(pe) = self.object
            && self.object.arch().cpu_family() == CpuFamily::Arm64
        {
            pe::write_arm64(pe, &code.ranges, out)?;
            pe::write_leaves(pe, code, out)?;
            return Ok(None);
        }
        let written = AsciiCfiWriter::new(&mut *out)
            .max_unwind_chain_len(Some(UNWIND_CHAIN_MAX))
            .process(self.object);
        if let Object::Pe(pe) = self.object {
            pe::write_leaves(pe, code, out)?;
        }
        Ok(written.err().map(|error| chain(&error)))
    }

    /// Adds the functions that debug information does not describe.
    fn add_plain(&mut self, mut code: Code<'d>) {
        extents::settle(&mut code);
        let known: Vec<Range> = self.functions.iter().map(Body::range).collect();
        // Nothing says where functions end: a PDB lists all functions, and 32-bit Windows has no unwind data.
        if code.ranges.is_empty()
            || (self.facts.kind == Kind::Pe && code.extents.is_empty() && code.only_exports)
        {
            return self.add_publics(&code, &known);
        }
        let plain = extents::plain_functions(&code, &known);
        let unknown = format!("{UNKNOWN_FUNCTION}{}>", self.facts.debug_file);
        // The functions of a program whose units are in other files are better there.
        let is_poor = code.only_exports || !self.head.skeletons.is_empty();
        self.only_exports = is_poor && self.functions.is_empty();
        self.functions.reserve(plain.len());
        for function in plain {
            let name = match function.symbol {
                Some(at) => {
                    let symbol = &*code.symbols[at].name;
                    readable(&Name::new(symbol, NameMangling::Unknown, self.language))
                }
                None => unknown.clone(),
            };
            self.functions.push(Body {
                address: function.address,
                // A size has 32 bits in a symbol file.
                size: function.size.min(u32::MAX.into()),
                name,
                lines: Vec::new(),
                inlines: Vec::new(),
            });
        }
        self.functions.sort_by_key(|function| function.address);
    }

    /// Adds the lines of functions that only the symbol table names, if they are more than the few of the C runtime.
    fn add_lines(&mut self) {
        let bare = |function: &Body| function.lines.is_empty();
        let (mut without, mut all) = (0u64, 0u64);
        for function in &self.functions {
            all = all.saturating_add(function.size);
            // Stubs of the linker have no names and no lines.
            if bare(function) && !function.name.starts_with(UNKNOWN_FUNCTION) {
                without = without.saturating_add(function.size);
            }
        }
        let is_worth_it = without > WITHOUT_LINES_MAX || without > all / 20;
        if self.go.is_some() {
            return self.add_go_lines();
        }
        if !self.object.has_debug_info() || !is_worth_it {
            return;
        }
        let wanted: Vec<usize> = (0..self.functions.len())
            .filter(|&at| bare(&self.functions[at]))
            .collect();
        let ranges: Vec<Range> = wanted
            .iter()
            .map(|&at| self.functions[at].range())
            .collect();
        let (functions, files) = (&mut self.functions, &mut self.names.files);
        let mut last_file = (String::new(), None);
        let mut each = |piece: Piece<'_>| {
            let after = ranges.partition_point(|range| range.0 <= piece.range.0);
            let (Some(at), Ok(_)) = (after.checked_sub(1), u32::try_from(piece.line)) else {
                return;
            };
            let file = match last_file {
                (ref name, Some(number)) if name == piece.file => number,
                _ => {
                    let number = files.number(piece.file.to_owned());
                    last_file = (piece.file.to_owned(), Some(number));
                    number
                }
            };
            functions[wanted[at]].lines.push(Line {
                address: piece.range.0,
                size: piece.range.1 - piece.range.0,
                line: piece.line,
                file,
            });
        };
        let read = match self.object {
            Object::Elf(elf) => lines::read(elf, elf.load_address(), &ranges, &mut each),
            Object::MachO(macho) => lines::read(macho, macho.load_address(), &ranges, &mut each),
            Object::Pe(pe) => lines::read(pe, pe.load_address(), &ranges, &mut each),
            _ => Ok(()),
        };
        if let Err(why) = read {
            let note = format!("some line tables were ignored: {why}");
            self.head.notes.push(note);
        }
        for at in wanted {
            without_overlaps(&mut self.functions[at].lines);
        }
    }

    fn add_go_lines(&mut self) {
        let Some(go) = &self.go else {
            return;
        };
        let mut left = go.lines_budget();
        let files = &mut self.names.files;
        for function in &mut self.functions {
            let (address, lines) = (function.address, &mut function.lines);
            go.lines(address, &mut left, &mut |range, line, file| {
                lines.push(Line {
                    address: range.0,
                    size: range.1 - range.0,
                    line,
                    file: files.number(one_line(file).into_owned()),
                });
            });
            without_overlaps(lines);
        }
    }

    /// Adds symbols that are not inside a function, if their extents are not known.
    fn add_publics(&mut self, code: &Code<'d>, known: &[Range]) {
        for symbol in &code.symbols {
            let after = known.partition_point(|range| range.0 <= symbol.address);
            let covering = after.checked_sub(1).map(|at| known[at]);
            if covering.is_none_or(|range| range.1 <= symbol.address) {
                let name = readable_symbol(&symbol.name);
                self.publics.push((symbol.address, name));
            }
        }
    }

    fn coverage(&self, code: &[Range]) -> Coverage {
        let mut coverage = Coverage {
            code: code.iter().map(|range| range.1 - range.0).sum(),
            ..Coverage::default()
        };
        for function in &self.functions {
            if !function.name.starts_with(UNKNOWN_FUNCTION) {
                coverage.named = coverage.named.saturating_add(function.size);
            }
            let lines = function.lines.iter().map(|line| line.size);
            coverage.lines = lines.fold(coverage.lines, u64::saturating_add);
        }
        const INIT: &[u8] = b"STACK CFI INIT ";
        let rules = memchr::memmem::find_iter(&self.unwind, INIT);
        let sizes = rules.filter_map(|at| {
            let size = self.unwind[at + INIT.len()..]
                .split(|&byte| byte == b' ')
                .nth(1)?;
            u64::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()
        });
        coverage.unwind = sizes.fold(0, u64::saturating_add);
        coverage
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let notes = self.head.notes.clone();
        let head = Head {
            notes,
            skeletons: self.head.skeletons.clone(),
            ..self.head
        };
        serde_json::to_writer(&mut *out, &Found::Program(head))?;
        let Facts {
            os,
            debug_id,
            debug_file,
            code_id,
            code_file,
            ..
        } = &self.facts;
        let arch = arch_name(self.object.arch());
        writeln!(out, "\nMODULE {os} {arch} {debug_id} {debug_file}")?;
        if !code_id.is_empty() {
            writeln!(out, "INFO CODE_ID {code_id} {code_file}")?;
        }
        writeln!(
            out,
            "INFO GENERATOR crashkeep {}",
            env!("CARGO_PKG_VERSION")
        )?;
        if self.only_exports {
            writeln!(out, "{EXPORTS_LINE}")?;
        }
        for (number, file) in self.names.files.texts.iter().enumerate() {
            writeln!(out, "FILE {number} {file}")?;
        }
        for (number, origin) in self.names.origins.texts.iter().enumerate() {
            writeln!(out, "INLINE_ORIGIN {number} {origin}")?;
        }
        let mut text = Vec::new();
        for function in &self.functions {
            function.write(&mut text);
            if text.len() > WRITTEN_BYTES {
                out.write_all(&text)?;
                text.clear();
            }
        }
        out.write_all(&text)?;
        for (address, name) in &self.publics {
            writeln!(out, "PUBLIC {address:x} 0 {name}")?;
        }
        out.write_all(&self.unwind)
    }
}

fn symbols_of<'d>(map: &SymbolMap<'d>) -> Vec<Symbol<'d>> {
    let symbols = map.iter().filter_map(|symbol| {
        Some(Symbol {
            address: symbol.address,
            size: 0,
            rank: 0,
            name: symbol.name.clone()?,
        })
    });
    symbols.collect()
}

/// Names of the program and of its debug file, as a dump would give them.
fn file_names(object: &Object<'_>, kind: Kind, name: &str) -> (String, String) {
    let leaf = checked_leaf(name).unwrap_or("unknown");
    if kind == Kind::Pdb {
        return (String::new(), leaf.to_owned());
    }
    // A companion has its program's name. A file of a build-id folder has its id as name.
    let stem = [".debug", ".dbg", ".dSYM"]
        .iter()
        .find_map(|ending| leaf.strip_suffix(ending))
        .filter(|stem| !stem.is_empty())
        .unwrap_or(leaf);
    let is_id = stem.bytes().all(|byte| byte.is_ascii_hexdigit());
    match object {
        Object::Pe(pe) => {
            let pdb = pe.debug_file_name();
            let pdb = pdb.as_deref().and_then(checked_leaf).unwrap_or(stem);
            (stem.to_owned(), one_line(pdb).into_owned())
        }
        Object::Elf(elf) if is_id || stem == "body" => {
            let name = elf.name().and_then(checked_leaf).unwrap_or(stem);
            (name.to_owned(), name.to_owned())
        }
        _ => (stem.to_owned(), stem.to_owned()),
    }
}

/// The name that Breakpad uses.
fn arch_name(arch: Arch) -> &'static str {
    match arch.cpu_family() {
        CpuFamily::Amd64 => "x86_64",
        CpuFamily::Intel32 => "x86",
        CpuFamily::Arm64 | CpuFamily::Arm64_32 => "arm64",
        CpuFamily::Arm32 => "arm",
        _ => arch.name(),
    }
}
