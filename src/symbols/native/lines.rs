//! Lines of functions that have no entry in the debug information.
//!
//! With line tables only (clang's `-gmlt`, rustc's `line-tables-only`) and in assembler code, units have a line
//! program but no functions. The symbol table names them. symbolic reads lines only below functions. Can go when
//! it reads them alone.

use std::collections::HashMap;

use gimli::{DwarfSections, EndianSlice, RunTimeEndian, SectionId};
use symbolic_common::join_path;
use symbolic_debuginfo::dwarf::Dwarf as HasSections;

use super::names::one_line;
use super::ranges::{Range, containing};

type Slice<'a> = EndianSlice<'a, RunTimeEndian>;
type Dwarf<'a> = gimli::Dwarf<Slice<'a>>;
type Unit<'a> = gimli::Unit<Slice<'a>>;

/// A range of addresses within one function, and its line.
pub(super) struct Piece<'a> {
    pub(super) range: Range,
    pub(super) line: u64,
    pub(super) file: &'a str,
}

/// Calls `each` with the lines of the functions in `wanted`, which are sorted and disjoint. Addresses are relative
/// to `base`.
///
/// # Errors
/// Why some units could not be read. The others were.
pub(super) fn read<'d>(
    file: &impl HasSections<'d>,
    base: u64,
    wanted: &[Range],
    each: &mut dyn FnMut(Piece<'_>),
) -> Result<(), String> {
    let load = |id: SectionId| {
        let name = id.name().trim_start_matches('.');
        let is_needed = !matches!(id, SectionId::DebugLoc | SectionId::DebugLocLists);
        let section = is_needed.then(|| file.section(name)).flatten();
        Ok::<_, std::convert::Infallible>(section.map(|s| s.data).unwrap_or_default())
    };
    let sections = match DwarfSections::load(load) {
        Ok(sections) => sections,
        Err(never) => match never {},
    };
    let endian = file.endianity();
    let dwarf = sections.borrow(|bytes| EndianSlice::new(bytes, endian));
    let mut unread = None;
    let mut headers = dwarf.units();
    loop {
        let header = match headers.next() {
            Ok(Some(header)) => header,
            Ok(None) => break,
            Err(error) => {
                unread = Some(error);
                break;
            }
        };
        let read = dwarf.unit(header).and_then(|unit| {
            if is_wanted(&dwarf, &unit, base, wanted)? {
                rows(&dwarf, &unit, base, wanted, each)?;
            }
            Ok(())
        });
        unread = read.err().or(unread);
    }
    match unread {
        Some(error) => Err(error.to_string()),
        None => Ok(()),
    }
}

/// Whether a unit has code in one of the functions.
fn is_wanted(
    dwarf: &Dwarf<'_>,
    unit: &Unit<'_>,
    base: u64,
    wanted: &[Range],
) -> Result<bool, gimli::Error> {
    let mut ranges = dwarf.unit_ranges(unit)?;
    while let Some(range) = ranges.next()? {
        let (from, to) = (
            range.begin.saturating_sub(base),
            range.end.saturating_sub(base),
        );
        let first = wanted.partition_point(|wanted| wanted.1 <= from);
        if wanted.get(first).is_some_and(|wanted| wanted.0 < to) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn rows(
    dwarf: &Dwarf<'_>,
    unit: &Unit<'_>,
    base: u64,
    wanted: &[Range],
    each: &mut dyn FnMut(Piece<'_>),
) -> Result<(), gimli::Error> {
    let Some(program) = unit.line_program.clone() else {
        return Ok(());
    };
    let mut files = HashMap::new();
    let mut rows = program.rows();
    let mut last: Option<Row> = None;
    while let Some((header, row)) = rows.next_row()? {
        let next = row.address().checked_sub(base);
        if let (Some(last), Some(to)) = (&last, next)
            && let Some(function) = containing(wanted, last.address)
            && last.address < to
        {
            // A file is named many times. Its path is assembled once.
            let path = files
                .entry(last.file)
                .or_insert_with(|| path(dwarf, unit, header, last.file).unwrap_or_default());
            each(Piece {
                range: (last.address, to.min(function.1)),
                line: last.line,
                file: path,
            });
        }
        last = match (row.line(), next) {
            (Some(line), Some(address)) if !row.end_sequence() => Some(Row {
                address,
                line: line.get(),
                file: row.file_index(),
            }),
            _ => None,
        };
    }
    Ok(())
}

struct Row {
    address: u64,
    line: u64,
    file: u64,
}

fn path(
    dwarf: &Dwarf<'_>,
    unit: &Unit<'_>,
    header: &gimli::LineProgramHeader<Slice<'_>>,
    index: u64,
) -> Option<String> {
    let file = header.file(index)?;
    let text = |value| {
        let text = dwarf.attr_string(unit, value).ok()?;
        Some(String::from_utf8_lossy(text.slice()).into_owned())
    };
    let name = text(file.path_name())?;
    let folder = file.directory(header).and_then(text).unwrap_or_default();
    let unit_folder = unit.comp_dir.map(|folder| folder.to_string_lossy());
    let folder = join_path(&unit_folder.unwrap_or_default(), &folder);
    Some(one_line(&join_path(&folder, &name)).into_owned())
}
