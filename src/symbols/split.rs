//! Split DWARF: a program whose units have their functions in separate files, `.dwo`, or in a package of
//! those, `.dwp` (ADR 21).
//!
//! The program keeps a skeleton of such a unit: addresses, lines, and the id of the other half. symbolic
//! reads only whole units, so this module joins the halves. It writes the needed parts of a unit (functions
//! and inlined calls with their names and ranges) as plain DWARF ([`Plain`]) that refers to the program's own
//! lines. symbolic reads this like any other unit. Types, variables and their locations, which are most of a
//! unit, are skipped.
//!
//! Halves are matched by their ids only, never by file names. Both forms are read: DWARF 5, and the older GNU
//! form (`-gdwarf-4`).
//!
//! The same is done for debug files that the tool dwz made smaller: entries that several files of a package have
//! are in one common file, to which `.gnu_debugaltlink` refers by its build id. Without it, inlined functions
//! have no names.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use gimli::{
    AttributeValue, DwarfPackageSections, DwarfSections, EndianSlice, RunTimeEndian, Section,
    SectionId, constants,
};
use symbolic_debuginfo::SymbolMap;
use symbolic_debuginfo::dwarf::{Dwarf as HasSections, DwarfDebugSession, DwarfSection};
use symbolic_debuginfo::elf::ElfObject;

use super::skeleton::{Skeleton, SkeletonKind, leaf_of};

/// Limit of skeletons in one program. A browser has some ten thousand.
const SKELETONS_MAX: usize = 200_000;
/// Bytes of plain DWARF that are read at a time, so that memory does not grow with the program.
const PLAIN_BYTES_MAX: usize = 64 << 20;
/// Limit of references from a function to its name: a call refers to its function, and the function to its
/// declaration.
const REFERENCES_MAX: usize = 16;

type Slice<'a> = EndianSlice<'a, RunTimeEndian>;
type Dwarf<'a> = gimli::Dwarf<Slice<'a>>;
type Unit<'a> = gimli::Unit<Slice<'a>>;
type Entry<'a> = gimli::DebuggingInformationEntry<Slice<'a>>;
type Bytes<'d> = Cow<'d, [u8]>;
/// A unit with the sections that it refers to.
type Half<'u, 'a> = Result<(&'u Dwarf<'a>, Unit<'a>), gimli::Error>;

/// Limit of parsed units of other files and places that are kept for references to them.
const UNITS_KEPT_MAX: usize = 1024;

/// Whether a file contains the other halves of units: a `.dwo` or a `.dwp`.
pub(super) fn is_part(elf: &ElfObject<'_>) -> bool {
    elf.has_section("debug_info.dwo") || elf.has_section("debug_cu_index") || is_common(elf)
}

/// Whether a file has the common entries of several debug files. It is no program: it has neither code nor
/// addresses, and all its units are parts of others.
pub(super) fn is_common(elf: &ElfObject<'_>) -> bool {
    if elf.kind() != symbolic_debuginfo::ObjectKind::Relocatable
        || !elf.has_section("debug_info")
        || elf.code_id().is_none()
    {
        return false;
    }
    let sections = sections_of(elf);
    let dwarf = borrowed(&sections, endian_of(elf));
    let first = dwarf.units().next().ok().flatten();
    let unit = first.and_then(|header| dwarf.unit(header).ok());
    unit.is_some_and(|unit| {
        let mut entries = unit.entries();
        let root = entries.next_dfs().ok().flatten();
        root.is_some_and(|root| root.tag() == constants::DW_TAG_partial_unit)
    })
}

/// The link of a debug file to a common file.
struct Link<'d> {
    name: String,
    build_id: Bytes<'d>,
}

fn link_of<'d>(elf: &ElfObject<'d>) -> Option<Link<'d>> {
    let content = section(elf, ".gnu_debugaltlink");
    let end = memchr::memchr(0, &content)?;
    let name = String::from_utf8_lossy(&content[..end]).into_owned();
    let build_id = match content {
        Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[end + 1..]),
        Cow::Owned(bytes) => Cow::Owned(bytes[end + 1..].to_vec()),
    };
    (!build_id.is_empty()).then_some(Link { name, build_id })
}

/// The first bytes of a build id as a number, by which files are matched first.
fn id_of_build(build_id: &[u8]) -> u64 {
    let mut first = [0; 8];
    for (to, from) in first.iter_mut().zip(build_id) {
        *to = *from;
    }
    u64::from_be_bytes(first)
}

/// The ids of the units in a `.dwo` or `.dwp`, in the order of the file.
pub(super) fn ids_of(part: &ElfObject<'_>) -> Result<Vec<u64>, gimli::Error> {
    let mut ids = Vec::new();
    let mut unread = None;
    if is_common(part) {
        let id = part.code_id().and_then(|id| bytes_of(id.as_str()));
        return Ok(id.iter().map(|id| id_of_build(id)).collect());
    }
    Part::load(part)?.each_unit(&Dwarf::default(), &mut |half| match half {
        Ok((_, unit)) => ids.extend(unit.dwo_id.map(|id| id.0)),
        Err(error) => unread = Some(error),
    });
    match unread {
        Some(error) if ids.is_empty() => Err(error),
        _ => Ok(ids),
    }
}

/// The skeletons of a program, in the order of their units.
pub(super) fn skeletons_of(elf: &ElfObject<'_>) -> Vec<Skeleton> {
    let mut found = Vec::new();
    if let Some(link) = link_of(elf) {
        found.push(Skeleton {
            id: id_of_build(&link.build_id),
            name: leaf_of(&link.name),
            kind: SkeletonKind::Common,
        });
    }
    // Halves refer to addresses by index into this section. Ordinary programs of gcc and rustc do not have
    // it, and decompressing and searching their sections a second time is not free.
    if !elf.has_section("debug_addr") {
        return found;
    }
    let sections = sections_of(elf);
    let dwarf = borrowed(&sections, endian_of(elf));
    let mut headers = dwarf.units();
    // Units that cannot be read are reported when functions are read.
    while let (Ok(Some(header)), true) = (headers.next(), found.len() < SKELETONS_MAX) {
        if let Ok(unit) = dwarf.unit(header)
            && let Some(id) = unit.dwo_id
        {
            let name = unit.dwo_name().ok().flatten();
            let name = name.and_then(|name| dwarf.attr_string(&unit, name).ok());
            let name = name.map(|name| String::from_utf8_lossy(name.slice()).into_owned());
            found.push(Skeleton {
                id: id.0,
                name: leaf_of(&name.unwrap_or_default()),
                kind: SkeletonKind::Half,
            });
        }
    }
    found
}

/// The bytes of a number in hex.
fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    let pairs = hex.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

/// The one of `parts` that has the common entries of `elf`.
pub(super) fn common_of<'p, 'd>(
    elf: &ElfObject<'_>,
    parts: &'p [ElfObject<'d>],
) -> Option<&'p ElfObject<'d>> {
    let link = link_of(elf)?;
    let is_meant = |part: &&ElfObject<'_>| {
        let id = part.code_id().and_then(|id| bytes_of(id.as_str()));
        id.is_some_and(|id| id == *link.build_id) && is_common(part)
    };
    parts.iter().find(is_meant)
}

/// Reads the functions of `elf`, whose names may be in `common`. Calls `read` for the functions of some units at a
/// time.
pub(super) fn join_common(
    elf: &ElfObject<'_>,
    common: &ElfObject<'_>,
    symbols: &SymbolMap<'_>,
    read: &mut dyn FnMut(&DwarfDebugSession<'_>),
) -> Joined {
    let (sections, common_sections) = (sections_of(elf), sections_of(common));
    let endian = endian_of(elf);
    let program = sections.borrow_with_sup(Some(&common_sections), |bytes| {
        EndianSlice::new(bytes, endian)
    });
    let mut joined = Joined::default();
    joined
        .ids
        .extend(link_of(elf).map(|link| id_of_build(&link.build_id)));
    let others = Others {
        own: Units::of(&program),
        common: program.sup().map(Units::of),
    };
    let mut joining = Joining {
        elf,
        symbols,
        program: &program,
        plain: Plain::new(endian),
        read,
    };
    let mut headers = program.units();
    while let Some(header) = headers.next().transpose() {
        let added = header
            .and_then(|header| program.unit(header))
            .and_then(|unit| joining.plain.add(&program, &unit, &unit, Some(&others)));
        if let Err(error) = added {
            joined.fail(&error);
        }
        if joining.plain.info.len() >= PLAIN_BYTES_MAX {
            joining.flush(&mut joined);
        }
    }
    joining.flush(&mut joined);
    joined
}

/// Passes plain units on as a whole.
struct Joining<'j, 'a> {
    elf: &'j ElfObject<'j>,
    symbols: &'j SymbolMap<'j>,
    program: &'j Dwarf<'a>,
    plain: Plain,
    read: &'j mut dyn FnMut(&DwarfDebugSession<'_>),
}

impl Joining<'_, '_> {
    fn flush(&mut self, joined: &mut Joined) {
        if self.plain.info.is_empty() {
            return;
        }
        let source = Source {
            plain: &self.plain,
            program: self.program,
        };
        let load_address = self.elf.load_address().cast_signed();
        let symbols = self.symbols.clone();
        match DwarfDebugSession::parse(&source, symbols, load_address, self.elf.kind()) {
            Ok(session) => (self.read)(&session),
            Err(error) => joined.fail(&error),
        }
        self.plain = Plain::new(self.plain.endian);
    }
}

/// Units to which entries of other units refer.
struct Others<'a> {
    own: Units<'a>,
    common: Option<Units<'a>>,
}

/// The units of one file, found by the position of an entry.
struct Units<'a> {
    dwarf: &'a Dwarf<'a>,
    /// The units by position.
    headers: Vec<(usize, gimli::UnitHeader<Slice<'a>>)>,
    /// By the index of the header.
    parsed: RefCell<HashMap<usize, Option<Rc<Unit<'a>>>>>,
}

impl<'a> Units<'a> {
    fn of(dwarf: &'a Dwarf<'a>) -> Self {
        let mut headers = Vec::new();
        let mut all = dwarf.units();
        while let Ok(Some(header)) = all.next() {
            if let Some(at) = header.debug_info_offset() {
                headers.push((at.0, header));
            }
        }
        Self {
            dwarf,
            headers,
            parsed: RefCell::default(),
        }
    }

    /// The unit of the entry at a position, and the entry's position within it.
    fn find(&self, at: gimli::DebugInfoOffset) -> Option<(Rc<Unit<'a>>, gimli::UnitOffset)> {
        let after = self.headers.partition_point(|(start, _)| *start <= at.0);
        let index = after.checked_sub(1)?;
        let (_, header) = &self.headers[index];
        let offset = at.to_unit_offset(header)?;
        let mut parsed = self.parsed.borrow_mut();
        if parsed.len() >= UNITS_KEPT_MAX && !parsed.contains_key(&index) {
            parsed.clear();
        }
        let unit = parsed
            .entry(index)
            .or_insert_with(|| self.dwarf.unit(*header).ok().map(Rc::new));
        Some((unit.clone()?, offset))
    }
}

/// The files in `bytes`, with their names. `bytes` is one file, or a tar of several.
pub(super) fn parts_in(bytes: &[u8]) -> Result<Vec<(String, &[u8])>, String> {
    if bytes.starts_with(b"\x7fELF") || bytes.starts_with(b"MZ") {
        return Ok(vec![(String::new(), bytes)]);
    }
    let unreadable = |error: std::io::Error| format!("the parts cannot be read: {error}");
    let mut archive = tar::Archive::new(std::io::Cursor::new(bytes));
    let mut parts = Vec::new();
    for entry in archive.entries_with_seek().map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let from = usize::try_from(entry.raw_file_position()).unwrap_or(usize::MAX);
        let size = usize::try_from(entry.size()).unwrap_or(usize::MAX);
        let part = bytes.get(from..).and_then(|rest| rest.get(..size));
        parts.push((name, part.ok_or("the parts are incomplete")?));
    }
    Ok(parts)
}

/// The result of joining a program and the other halves of its units.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Joined {
    /// Ids of the units that were joined.
    pub(super) ids: Vec<u64>,
    /// Number of halves that could not be read, and the reason for the last one.
    pub(super) unread: usize,
    pub(super) why: String,
}

impl Joined {
    fn fail(&mut self, error: &dyn std::error::Error) {
        self.unread += 1;
        self.why = error.to_string();
    }
}

/// Joins `elf` with the halves in `parts`. Calls `read` for the functions of some units at a time.
pub(super) fn join(
    elf: &ElfObject<'_>,
    symbols: &SymbolMap<'_>,
    parts: &[ElfObject<'_>],
    read: &mut dyn FnMut(&DwarfDebugSession<'_>),
) -> Joined {
    let sections = sections_of(elf);
    let endian = endian_of(elf);
    let program = borrowed(&sections, endian);
    let mut waiting = HashMap::new();
    let mut headers = program.units();
    while let Ok(Some(header)) = headers.next() {
        if let Ok(unit) = program.unit(header)
            && let Some(id) = unit.dwo_id
        {
            waiting.insert(id.0, unit);
        }
    }
    let mut joined = Joined::default();
    let mut joining = Joining {
        elf,
        symbols,
        program: &program,
        plain: Plain::new(endian),
        read,
    };
    for part in parts {
        let part = match Part::load(part) {
            Ok(part) => part,
            Err(error) => {
                joined.fail(&error);
                continue;
            }
        };
        part.each_unit(&program, &mut |half| {
            let added = half.and_then(|(dwarf, mut unit)| {
                let skeleton = unit.dwo_id.and_then(|id| waiting.remove(&id.0));
                let Some(skeleton) = skeleton else {
                    return Ok(None);
                };
                unit.copy_relocated_attributes(&skeleton);
                joining.plain.add(dwarf, &unit, &skeleton, None)?;
                Ok(unit.dwo_id)
            });
            match added {
                Ok(id) => joined.ids.extend(id.map(|id| id.0)),
                Err(error) => joined.fail(&error),
            }
            if joining.plain.info.len() >= PLAIN_BYTES_MAX {
                joining.flush(&mut joined);
            }
        });
    }
    joining.flush(&mut joined);
    joined
}

fn endian_of(elf: &ElfObject<'_>) -> RunTimeEndian {
    HasSections::endianity(elf)
}

/// A section, decompressed if necessary; empty if it does not exist.
fn section<'d>(elf: &ElfObject<'d>, name: &str) -> Bytes<'d> {
    let section = HasSections::section(elf, name.trim_start_matches('.'));
    section.map(|section| section.data).unwrap_or_default()
}

fn sections_of<'d>(elf: &ElfObject<'d>) -> DwarfSections<Bytes<'d>> {
    let load = |id: SectionId| Ok::<_, std::convert::Infallible>(section(elf, id.name()));
    match DwarfSections::load(load) {
        Ok(sections) => sections,
        Err(never) => match never {},
    }
}

fn borrowed<'a>(sections: &'a DwarfSections<Bytes<'_>>, endian: RunTimeEndian) -> Dwarf<'a> {
    sections.borrow(|bytes| EndianSlice::new(bytes, endian))
}

/// The sections of a `.dwo` or `.dwp`.
struct Part<'d> {
    content: Content<'d>,
    endian: RunTimeEndian,
}

enum Content<'d> {
    Package(DwarfPackageSections<Bytes<'d>>),
    Single(DwarfSections<Bytes<'d>>),
}

impl<'d> Part<'d> {
    fn load(elf: &ElfObject<'d>) -> Result<Self, gimli::Error> {
        let load = |id: SectionId| -> Result<Bytes<'d>, gimli::Error> {
            // A section that a half does not have is in the program.
            Ok(id
                .dwo_name()
                .map(|name| section(elf, name))
                .unwrap_or_default())
        };
        let content = if elf.has_section("debug_cu_index") {
            Content::Package(DwarfPackageSections::load(load)?)
        } else {
            Content::Single(DwarfSections::load(load)?)
        };
        let endian = endian_of(elf);
        Ok(Self { content, endian })
    }

    /// Calls `each` with every unit and the sections that it refers to. Sections that stay in the program are
    /// taken from `program`. If a unit cannot be read, the others are still read, as far as their positions
    /// are known.
    fn each_unit<'a>(&'a self, program: &Dwarf<'a>, each: &mut dyn FnMut(Half<'_, 'a>)) {
        let slice = |bytes: &'a Bytes<'d>| EndianSlice::new(bytes, self.endian);
        match &self.content {
            Content::Single(sections) => {
                let mut dwarf = sections.borrow(slice);
                dwarf.make_dwo(program);
                each_of(&dwarf, each);
            }
            Content::Package(sections) => {
                let package = match sections.borrow(slice, EndianSlice::new(&[], self.endian)) {
                    Ok(package) => package,
                    Err(error) => return each(Err(error)),
                };
                for row in 1..=package.cu_index.unit_count() {
                    match package.cu_sections(row, program) {
                        Ok(dwarf) => each_of(&dwarf, each),
                        Err(error) => each(Err(error)),
                    }
                }
            }
        }
    }
}

fn each_of<'a>(dwarf: &Dwarf<'a>, each: &mut dyn FnMut(Half<'_, 'a>)) {
    let mut headers = dwarf.units();
    while let Some(header) = headers.next().transpose() {
        let unit = header.and_then(|header| dwarf.unit(header));
        each(unit.map(|unit| (dwarf, unit)));
    }
}

/// Units of plain DWARF that contain only functions and inlined calls.
///
/// ```text
/// debug_info     a unit, and within it functions in the nesting of the halves
/// debug_abbrev   one table for all units, see `SHAPES`
/// debug_ranges   the ranges of functions that have several
/// ```
///
/// The format is DWARF 4 with 64-bit offsets. It is sufficient for this purpose: names are stored in place,
/// and addresses are complete. gimli's own conversion is not used: it rewrites everything, also types,
/// variables and lines, and reserves memory for each entry first (ADR 21).
struct Plain {
    endian: RunTimeEndian,
    info: Vec<u8>,
    abbrev: Vec<u8>,
    ranges: Vec<u8>,
}

/// The abbreviation of a unit. Those of functions follow it.
const UNIT: u64 = 1;
/// Added for an inlined call.
const INLINED: u64 = 1;
/// Added for a linkage name.
const MANGLED: u64 = 2;
/// Added if there are several ranges.
const SCATTERED: u64 = 4;
/// Added for an entry without code. It only separates the entries below it from those above.
const BARE: u64 = 8;
const SHAPES: u64 = 16;

/// Bytes of a length with 64-bit offsets.
const LENGTH_BYTES: u8 = 8;

impl Plain {
    fn new(endian: RunTimeEndian) -> Self {
        let mut plain = Self {
            endian,
            info: Vec::new(),
            abbrev: Vec::new(),
            ranges: Vec::new(),
        };
        plain.describe(
            UNIT,
            constants::DW_TAG_compile_unit,
            &[
                (constants::DW_AT_language, constants::DW_FORM_data2),
                (constants::DW_AT_name, constants::DW_FORM_string),
                (constants::DW_AT_comp_dir, constants::DW_FORM_string),
                // symbolic takes units without ranges for units that the linker dropped.
                (constants::DW_AT_ranges, constants::DW_FORM_sec_offset),
                (constants::DW_AT_stmt_list, constants::DW_FORM_sec_offset),
            ],
        );
        for shape in 0..SHAPES {
            let is = |bit| shape & bit != 0;
            let mut attributes = Vec::new();
            if !is(BARE) {
                attributes.push(if is(MANGLED) {
                    (constants::DW_AT_linkage_name, constants::DW_FORM_string)
                } else {
                    (constants::DW_AT_name, constants::DW_FORM_string)
                });
                if is(SCATTERED) {
                    attributes.push((constants::DW_AT_ranges, constants::DW_FORM_sec_offset))
                } else {
                    attributes.extend([
                        (constants::DW_AT_low_pc, constants::DW_FORM_addr),
                        (constants::DW_AT_high_pc, constants::DW_FORM_udata),
                    ])
                }
                if is(INLINED) {
                    attributes.extend([
                        (constants::DW_AT_call_file, constants::DW_FORM_udata),
                        (constants::DW_AT_call_line, constants::DW_FORM_udata),
                    ]);
                }
            }
            let tag = if is(INLINED) {
                constants::DW_TAG_inlined_subroutine
            } else {
                constants::DW_TAG_subprogram
            };
            plain.describe(UNIT + 1 + shape, tag, &attributes);
        }
        plain.abbrev.push(0);
        plain
    }

    fn describe(
        &mut self,
        code: u64,
        tag: gimli::DwTag,
        attributes: &[(gimli::DwAt, gimli::DwForm)],
    ) {
        push_leb(&mut self.abbrev, code);
        push_leb(&mut self.abbrev, u64::from(tag.0));
        self.abbrev.push(constants::DW_CHILDREN_yes.0);
        for (name, form) in attributes {
            push_leb(&mut self.abbrev, u64::from(name.0));
            push_leb(&mut self.abbrev, u64::from(form.0));
        }
        self.abbrev.extend([0, 0]);
    }

    /// Adds the needed parts of a unit. Adds nothing if a part of it cannot be read.
    fn add<'a>(
        &mut self,
        dwarf: &Dwarf<'a>,
        unit: &Unit<'a>,
        skeleton: &Unit<'_>,
        others: Option<&Others<'a>>,
    ) -> Result<(), gimli::Error> {
        let before = (self.info.len(), self.ranges.len());
        let result = self.try_add(dwarf, unit, skeleton, others);
        if result.is_err() {
            self.info.truncate(before.0);
            self.ranges.truncate(before.1);
        }
        result
    }

    fn try_add<'a>(
        &mut self,
        dwarf: &Dwarf<'a>,
        unit: &Unit<'a>,
        skeleton: &Unit<'_>,
        others: Option<&Others<'a>>,
    ) -> Result<(), gimli::Error> {
        let address_bytes = skeleton.encoding().address_size;
        let start = self.begin_unit(address_bytes);
        let mut entries = unit.entries_raw(None)?;
        let mut entry = Entry::null();
        if !entries.read_entry(&mut entry)? {
            return Err(gimli::Error::MissingUnitDie);
        }
        self.push_unit(&entry, unit, skeleton);
        // Depths of the functions that contain the current entry.
        let mut open: Vec<isize> = Vec::new();
        while !entries.is_empty() {
            if !entries.read_entry(&mut entry)? {
                continue;
            }
            while open.last().is_some_and(|&depth| depth >= entry.depth()) {
                open.pop();
                self.info.push(0);
            }
            if self.push_function(dwarf, unit, &entry, address_bytes, others)? {
                open.push(entry.depth());
            }
        }
        // Ends the functions that are still open, and the unit.
        self.info.extend(std::iter::repeat_n(0, open.len() + 1));
        self.fill_length(start);
        Ok(())
    }

    /// Adds the header of a unit and returns its position.
    fn begin_unit(&mut self, address_bytes: u8) -> usize {
        let start = self.info.len();
        self.push_number(u64::from(u32::MAX), 4);
        self.push_number(0, LENGTH_BYTES);
        self.push_number(4, 2);
        self.push_number(0, 8);
        self.info.push(address_bytes);
        start
    }

    /// Writes the length of the unit at `start`, which is complete now.
    fn fill_length(&mut self, start: usize) {
        // It follows the mark for 64-bit offsets.
        let from = start + 4;
        let to = from + usize::from(LENGTH_BYTES);
        let length = (self.info.len() - to) as u64;
        let mut bytes = Vec::new();
        push_number(&mut bytes, self.endian, length, LENGTH_BYTES);
        self.info[from..to].copy_from_slice(&bytes);
    }

    /// Adds the entry of the unit itself.
    fn push_unit(&mut self, entry: &Entry<'_>, unit: &Unit<'_>, skeleton: &Unit<'_>) {
        let language = match entry.attr_value(constants::DW_AT_language) {
            Some(AttributeValue::Language(language)) => language.0,
            _ => 0,
        };
        push_leb(&mut self.info, UNIT);
        self.push_number(u64::from(language), 2);
        self.push_text(unit.name.as_ref().map(|name| name.slice()));
        let folder = skeleton.comp_dir.as_ref().map(|folder| folder.slice());
        self.push_text(folder.or(unit.comp_dir.as_ref().map(|folder| folder.slice())));
        self.push_number(0, 8);
        let lines = skeleton.line_program.as_ref();
        // If there are no lines, an offset after the end of all lines.
        let lines = lines.map_or(u64::MAX, |lines| lines.header().offset().0 as u64);
        self.push_number(lines, 8);
    }

    /// Adds a function or an inlined call, without its end. Returns false if the entry is something else, or
    /// has neither code nor entries below it.
    fn push_function<'a>(
        &mut self,
        dwarf: &Dwarf<'a>,
        unit: &Unit<'a>,
        entry: &Entry<'a>,
        address_bytes: u8,
        others: Option<&Others<'a>>,
    ) -> Result<bool, gimli::Error> {
        let inlined = match entry.tag() {
            constants::DW_TAG_subprogram => 0,
            constants::DW_TAG_inlined_subroutine => INLINED,
            _ => return Ok(false),
        };
        let ranges = ranges_of(dwarf, unit, entry)?;
        if ranges.is_empty() {
            if entry.has_children() {
                push_leb(&mut self.info, UNIT + 1 + (inlined | BARE));
            }
            return Ok(entry.has_children());
        }
        let (name, mangled) = name_of(dwarf, unit, entry, others);
        let scattered = if ranges.len() > 1 { SCATTERED } else { 0 };
        push_leb(&mut self.info, UNIT + 1 + (inlined | mangled | scattered));
        self.push_text(name);
        self.push_ranges(&ranges, address_bytes);
        if inlined != 0 {
            self.push_call(entry);
        }
        Ok(true)
    }

    fn push_ranges(&mut self, ranges: &[(u64, u64)], address_bytes: u8) {
        if let [(from, to)] = *ranges {
            self.push_number(from, address_bytes);
            push_leb(&mut self.info, to - from);
            return;
        }
        self.push_number(self.ranges.len() as u64, 8);
        for &(from, to) in ranges.iter().chain([&(0, 0)]) {
            push_number(&mut self.ranges, self.endian, from, address_bytes);
            push_number(&mut self.ranges, self.endian, to, address_bytes);
        }
    }

    /// Adds file and line of an inlined call.
    fn push_call(&mut self, entry: &Entry<'_>) {
        let file = match entry.attr_value(constants::DW_AT_call_file) {
            Some(AttributeValue::FileIndex(file)) => file,
            // No file has this number.
            _ => u64::MAX,
        };
        push_leb(&mut self.info, file);
        let line = entry.attr_value(constants::DW_AT_call_line);
        let line = line.and_then(|line| line.udata_value());
        push_leb(&mut self.info, line.unwrap_or(0));
    }

    fn push_number(&mut self, number: u64, bytes: u8) {
        push_number(&mut self.info, self.endian, number, bytes);
    }

    fn push_text(&mut self, text: Option<&[u8]>) {
        let text = text.unwrap_or_default();
        let end = memchr::memchr(0, text).unwrap_or(text.len());
        self.info.extend(&text[..end]);
        self.info.push(0);
    }
}

fn push_number(to: &mut Vec<u8>, endian: RunTimeEndian, number: u64, bytes: u8) {
    let bytes = usize::from(bytes);
    match endian {
        RunTimeEndian::Little => to.extend(&number.to_le_bytes()[..bytes]),
        RunTimeEndian::Big => to.extend(&number.to_be_bytes()[8 - bytes..]),
    }
}

fn push_leb(to: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        to.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    to.push(number.to_le_bytes()[0]);
}

/// The addresses of a function or inlined call. Functions that the linker dropped are left out; it leaves
/// their addresses at 0 or at the end of the address space.
fn ranges_of<'a>(
    dwarf: &Dwarf<'a>,
    unit: &Unit<'a>,
    entry: &Entry<'a>,
) -> Result<Vec<(u64, u64)>, gimli::Error> {
    let mut found = Vec::new();
    let top = u64::MAX >> (64 - 8 * u32::from(unit.encoding().address_size).clamp(1, 8));
    let mut push = |from: u64, to: u64| {
        if from > 0 && from < to && from < top - 1 {
            found.push((from, to));
        }
    };
    if let Some(ranges) = entry.attr_value(constants::DW_AT_ranges)
        && let Some(mut ranges) = dwarf.attr_ranges(unit, ranges)?
    {
        while let Some(range) = ranges.next()? {
            push(range.begin, range.end);
        }
        return Ok(found);
    }
    let address = |value| match value {
        Some(value) => dwarf.attr_address(unit, value),
        None => Ok(None),
    };
    if let Some(from) = address(entry.attr_value(constants::DW_AT_low_pc))? {
        match entry.attr_value(constants::DW_AT_high_pc) {
            Some(AttributeValue::Udata(size)) => push(from, from.saturating_add(size)),
            to => push(from, address(to)?.unwrap_or(0)),
        }
    }
    Ok(found)
}

/// The name of a function, its own or that of the entry that it refers to, and [`MANGLED`] if it is a linkage
/// name. Entries of other units are in `others`; without it, they are not found.
fn name_of<'a>(
    dwarf: &Dwarf<'a>,
    unit: &Unit<'a>,
    entry: &Entry<'a>,
    others: Option<&Others<'a>>,
) -> (Option<&'a [u8]>, u64) {
    let references = [
        constants::DW_AT_abstract_origin,
        constants::DW_AT_specification,
    ];
    let target_of = |entry: &Entry<'a>| references.iter().find_map(|name| entry.attr_value(*name));
    if let Some(name) = own_name(dwarf, unit, entry) {
        return name;
    }
    let mut target = target_of(entry);
    // The unit and the file of the last entry, if it is another one.
    let mut place: Option<(Rc<Unit<'a>>, &Units<'a>)> = None;
    for _ in 0..REFERENCES_MAX {
        let own = others.map(|others| &others.own);
        let common = others.and_then(|others| others.common.as_ref());
        let (found, offset) = match target {
            Some(AttributeValue::UnitRef(offset)) => (None, offset),
            // Compilers do not write references to other units of a half. dwz does.
            Some(AttributeValue::DebugInfoRef(at)) => {
                let Some(units) = place.as_ref().map(|place| place.1).or(own) else {
                    break;
                };
                let Some((unit, offset)) = units.find(at) else {
                    break;
                };
                (Some((unit, units)), offset)
            }
            Some(AttributeValue::DebugInfoRefSup(at)) => {
                let Some((units, (unit, offset))) =
                    common.and_then(|units| Some((units, units.find(at)?)))
                else {
                    break;
                };
                (Some((unit, units)), offset)
            }
            _ => break,
        };
        place = found.or(place);
        let (dwarf, unit) = match &place {
            Some((unit, units)) => (units.dwarf, &**unit),
            None => (dwarf, unit),
        };
        let Ok(entry) = unit.entry(offset) else {
            break;
        };
        if let Some(name) = own_name(dwarf, unit, &entry) {
            return name;
        }
        target = target_of(&entry);
    }
    (None, 0)
}

fn own_name<'a>(
    dwarf: &Dwarf<'a>,
    unit: &Unit<'a>,
    entry: &Entry<'a>,
) -> Option<(Option<&'a [u8]>, u64)> {
    let text = |value| {
        let text = dwarf.attr_string(unit, value).ok();
        text.map(|text| text.slice())
    };
    let mangled = [
        constants::DW_AT_linkage_name,
        constants::DW_AT_MIPS_linkage_name,
    ];
    let mangled = mangled.iter().find_map(|name| entry.attr_value(*name));
    match mangled {
        Some(value) => Some((text(value), MANGLED)),
        None => entry
            .attr_value(constants::DW_AT_name)
            .map(|value| (text(value), 0)),
    }
}

/// Plain units, and the lines of the program to which they belong.
struct Source<'a> {
    plain: &'a Plain,
    program: &'a Dwarf<'a>,
}

impl<'a> HasSections<'a> for Source<'a> {
    fn endianity(&self) -> RunTimeEndian {
        self.plain.endian
    }

    fn raw_section(&self, name: &str) -> Option<DwarfSection<'a>> {
        let (plain, program) = (self.plain, self.program);
        let data: &'a [u8] = match name {
            "debug_info" => &plain.info,
            "debug_abbrev" => &plain.abbrev,
            "debug_ranges" => &plain.ranges,
            "debug_line" => program.debug_line.reader().slice(),
            "debug_line_str" => program.debug_line_str.reader().slice(),
            "debug_str" => program.debug_str.reader().slice(),
            _ => return None,
        };
        Some(DwarfSection {
            address: 0,
            offset: 0,
            align: 1,
            data: Cow::Borrowed(data),
        })
    }
}
