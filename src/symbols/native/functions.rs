//! Functions of debug information as the records of a symbol file.

use std::collections::HashMap;

use symbolic_common::{Name, join_path};
use symbolic_debuginfo::{FileInfo, Function, LineInfo};

use super::names::{one_line, readable};
use super::ranges::{Range, joined};

/// Limit of the nesting of inlined calls.
pub(super) const INLINE_DEPTH_MAX: u32 = 256;
/// Number of files that are compared before a path is assembled.
const RECENT_MAX: usize = 8;

/// A FUNC record and the records below it.
pub(super) struct Body {
    pub(super) address: u64,
    pub(super) size: u64,
    pub(super) name: String,
    pub(super) lines: Vec<Line>,
    pub(super) inlines: Vec<Inline>,
}

impl Body {
    pub(super) fn range(&self) -> Range {
        (self.address, self.address.saturating_add(self.size))
    }

    /// Adds the records. The formatter of the standard library takes several times as long for numbers, and a large
    /// program has ten million lines.
    pub(super) fn write(&self, text: &mut Vec<u8>) {
        text.extend_from_slice(b"FUNC");
        push_numbers(text, 16, &[self.address, self.size]);
        text.extend_from_slice(b" 0 ");
        text.extend_from_slice(self.name.as_bytes());
        text.push(b'\n');
        for inline in &self.inlines {
            let (file, origin) = (inline.call_file as u64, inline.origin as u64);
            text.extend_from_slice(b"INLINE");
            push_numbers(
                text,
                10,
                &[inline.depth.into(), inline.call_line, file, origin],
            );
            push_numbers(text, 16, &[inline.address, inline.size]);
            text.push(b'\n');
        }
        for line in &self.lines {
            push_number(text, 16, line.address);
            push_numbers(text, 16, &[line.size]);
            push_numbers(text, 10, &[line.line, line.file as u64]);
            text.push(b'\n');
        }
    }
}

/// Adds a space and a number for each.
fn push_numbers(text: &mut Vec<u8>, radix: u64, numbers: &[u64]) {
    for &number in numbers {
        text.push(b' ');
        push_number(text, radix, number);
    }
}

fn push_number(text: &mut Vec<u8>, radix: u64, mut number: u64) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = DIGITS[(number % radix) as usize];
        number /= radix;
        if number == 0 {
            break;
        }
    }
    text.extend_from_slice(&digits[at..]);
}

#[derive(Default)]
pub(super) struct Line {
    pub(super) address: u64,
    pub(super) size: u64,
    pub(super) line: u64,
    pub(super) file: usize,
}

pub(super) struct Inline {
    pub(super) depth: u32,
    pub(super) address: u64,
    pub(super) size: u64,
    pub(super) call_line: u64,
    pub(super) call_file: usize,
    pub(super) origin: usize,
}

/// Texts that records refer to by number.
#[derive(Default)]
pub(super) struct Names {
    pub(super) files: Numbered,
    pub(super) origins: Numbered,
}

#[derive(Default)]
pub(super) struct Numbered {
    numbers: HashMap<String, usize>,
    pub(super) texts: Vec<String>,
}

impl Numbered {
    pub(super) fn number(&mut self, text: String) -> usize {
        if let Some(&number) = self.numbers.get(&text) {
            return number;
        }
        self.texts.push(text.clone());
        self.numbers.insert(text, self.texts.len() - 1);
        self.texts.len() - 1
    }
}

/// Converts the functions of one debug session.
///
/// Each of millions of lines has a file, and each inlined call a name, but there are few different ones. So paths
/// are assembled and names are demangled once.
pub(super) struct Functions<'f, 'n> {
    names: &'n mut Names,
    /// The files of the last lines, with their folders and numbers.
    recent: Vec<(&'f [u8], FileInfo<'f>, usize)>,
    /// The one of `recent` to replace next.
    oldest: usize,
    /// The names of inlined functions as debug information has them.
    origins: HashMap<Name<'f>, usize>,
}

impl<'f, 'n> Functions<'f, 'n> {
    pub(super) fn new(names: &'n mut Names) -> Self {
        Self {
            names,
            recent: Vec::with_capacity(RECENT_MAX),
            oldest: 0,
            origins: HashMap::new(),
        }
    }

    /// The records of a function; `None` if it has no code.
    pub(super) fn body(&mut self, function: &Function<'f>) -> Option<Body> {
        if function.size == 0 {
            return None;
        }
        let mut body = Body {
            address: function.address,
            size: function.size,
            name: readable(&function.name),
            lines: Vec::new(),
            inlines: Vec::new(),
        };
        self.flatten(function, 0, &mut body);
        Some(body)
    }

    /// Adds the lines and inlined calls of `function` to `body`. Returns the ranges that have lines, sorted and
    /// disjoint, if `function` is inlined.
    ///
    /// symbolic gives each function the lines of its whole range. Where a call is inlined, that is the line of
    /// the call. A symbol file needs the line of the inlined code there, and the call in a separate record. In a
    /// PDB an inlined function may cover more addresses than it has lines for; the rest belongs to its caller.
    fn flatten(&mut self, function: &Function<'f>, depth: u32, body: &mut Body) -> Vec<Range> {
        let end = function.end_address();
        let folder = function.compilation_dir;
        let mut inlined: Vec<Range> = Vec::new();
        if depth < INLINE_DEPTH_MAX {
            for inlinee in &function.inlinees {
                // Inserted before the inlined calls within it. Nothing is inserted if it has no lines.
                let at = body.inlines.len();
                let covered = self.flatten(inlinee, depth + 1, body);
                if covered.is_empty() {
                    continue;
                }
                let lines = &function.lines;
                let after = lines.partition_point(|line| line.address <= inlinee.address);
                let call = after.checked_sub(1).map(|at| &lines[at]);
                let call_line = call.map_or(0, |call| call.line);
                let call_file = call.map_or(0, |call| self.file(folder, &call.file));
                let origin = self.origin(&inlinee.name);
                let records = covered.iter().map(|&(from, to)| Inline {
                    depth,
                    address: from,
                    size: to - from,
                    call_line,
                    call_file,
                    origin,
                });
                body.inlines.splice(at..at, records);
                inlined.extend(covered);
            }
        }
        inlined.sort_unstable();
        let before = body.lines.len();
        for (at, line) in function.lines.iter().enumerate() {
            let next = function.lines.get(at + 1).map_or(end, |next| next.address);
            let line_end = match line.size {
                Some(size) => line.address.saturating_add(size),
                None => next,
            };
            let mut from = line.address;
            let first = inlined.partition_point(|range| range.1 <= from);
            for &(start, stop) in inlined[first..]
                .iter()
                .take_while(|range| range.0 < line_end)
            {
                if from < start {
                    self.push_line(body, (from, start), line, folder);
                }
                from = from.max(stop);
            }
            if from < line_end {
                self.push_line(body, (from, line_end), line, folder);
            }
        }
        if depth == 0 {
            return Vec::new();
        }
        let own = body.lines[before..].iter();
        inlined.extend(own.map(|line| (line.address, line.address + line.size)));
        joined(inlined)
    }

    fn push_line(
        &mut self,
        body: &mut Body,
        (from, to): Range,
        line: &LineInfo<'f>,
        folder: &'f [u8],
    ) {
        if u32::try_from(line.line).is_ok() {
            body.lines.push(Line {
                address: from,
                size: to - from,
                line: line.line,
                file: self.file(folder, &line.file),
            });
        }
    }

    /// The number of a file of a unit that was compiled in `folder`.
    fn file(&mut self, folder: &'f [u8], file: &FileInfo<'f>) -> usize {
        let is_same =
            |(of, known, _): &&(&[u8], FileInfo<'_>, usize)| known == file && *of == folder;
        if let Some((_, _, number)) = self.recent.iter().find(is_same) {
            return *number;
        }
        let path = join_path(&String::from_utf8_lossy(folder), &file.path_str());
        let number = self.names.files.number(one_line(&path).into_owned());
        let entry = (folder, file.clone(), number);
        if self.recent.len() < RECENT_MAX {
            self.recent.push(entry);
        } else {
            self.recent[self.oldest] = entry;
            self.oldest = (self.oldest + 1) % RECENT_MAX;
        }
        number
    }

    fn origin(&mut self, name: &Name<'f>) -> usize {
        if let Some(&number) = self.origins.get(name) {
            return number;
        }
        let number = self.names.origins.number(readable(name));
        self.origins.insert(name.clone(), number);
        number
    }
}

/// Sorts lines, joins neighbours that are the same line, and cuts those that begin within another one.
pub(super) fn without_overlaps(lines: &mut Vec<Line>) {
    lines.sort_by_key(|line| line.address);
    lines.dedup_by(|next, line| {
        let end = line.address + line.size;
        let is_same = (next.line, next.file) == (line.line, line.file);
        if is_same && next.address <= end {
            line.size = line.size.max(next.address + next.size - line.address);
            return true;
        }
        line.size = line.size.min(next.address - line.address);
        // Of two lines for an address, the later one.
        let is_empty = line.size == 0;
        if is_empty {
            *line = std::mem::take(next);
        }
        is_empty
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_written_as_the_standard_library_would() {
        for number in [0, 1, 9, 10, 15, 16, 0xdead_beef, u64::MAX] {
            let mut text = Vec::new();
            push_number(&mut text, 16, number);
            push_numbers(&mut text, 10, &[number]);
            assert_eq!(String::from_utf8(text), Ok(format!("{number:x} {number}")));
        }
    }
}
