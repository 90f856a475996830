//! Looks up symbols in a mapped symbol file.
//!
//! Nothing in the file is trusted. Each offset, length and string is checked when it is used, so a file with
//! wrong bytes gives wrong answers or none, and never a panic. Checksums detect wrong bytes: that of the head
//! when the file is opened, and that of each piece when it is first read. A damaged piece gives no answers,
//! and [`Mapped::is_damaged`] then tells the caller that the file must be made again.

use std::fs::File;
use std::io::{self, Cursor, Read as _};
use std::marker::PhantomData;
use std::ops::{Deref, Range};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::Stamp;
use super::convert::Summed;
use super::layout::*;
use crate::symbols::map::Map;

/// The symbols of one module.
pub struct Mapped {
    bytes: Bytes,
    header: Header,
    sections: [Section; SECTIONS],
    /// [`UNSEEN`], [`GOOD`] or [`BAD`].
    pieces: Box<[AtomicU8]>,
    is_damaged: AtomicBool,
}

const UNSEEN: u8 = 0;
const GOOD: u8 = 1;
const BAD: u8 = 2;

enum Bytes {
    Map(Map),
    Held(Vec<u8>),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Map(map) => map,
            Self::Held(bytes) => bytes,
        }
    }
}

/// Which checksums are checked when a file is opened.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// All of them, which reads the whole file.
    Whole,
    /// That of the head. Each piece is checked when it is first read. Call [`Mapped::is_damaged`] at the end.
    Pieces,
}

impl Mapped {
    /// Maps a file.
    ///
    /// # Errors
    /// An error of kind `InvalidData` means that the file must be made again.
    pub fn open(file: &File, check: Check) -> io::Result<Self> {
        let map = Map::of(file)?;
        if check == Check::Pieces {
            map.expect_random_reads();
        }
        let mapped = Self::new(Bytes::Map(map), UNSEEN)?;
        mapped.check(check)?;
        if let Bytes::Map(map) = &mapped.bytes {
            map.expect_random_reads();
        }
        Ok(mapped)
    }

    /// Uses the bytes of a mapped file that are already in memory, and checks all checksums.
    ///
    /// # Errors
    /// An error of kind `InvalidData` means that the bytes must be made again.
    #[cfg(test)]
    pub(crate) fn from_bytes(bytes: Vec<u8>) -> io::Result<Self> {
        let mapped = Self::new(Bytes::Held(bytes), UNSEEN)?;
        mapped.check(Check::Whole)?;
        Ok(mapped)
    }

    /// The same without checking checksums, for bytes that the caller has just made.
    ///
    /// # Errors
    /// An error of kind `InvalidData` means that the bytes are not a mapped file of this version, or are not
    /// complete.
    pub fn trusted(bytes: Vec<u8>) -> io::Result<Self> {
        Self::new(Bytes::Held(bytes), GOOD)
    }

    /// Converts a text in memory, for callers that cannot store the result.
    ///
    /// # Errors
    /// The text cannot be read. A corrupt text is not an error.
    pub fn from_text(text: impl io::Read, stamp: Stamp) -> io::Result<Self> {
        let mut bytes = Cursor::new(Vec::new());
        super::convert(text, stamp, None, &mut bytes)?;
        Self::trusted(bytes.into_inner())
    }

    fn new(bytes: Bytes, seen: u8) -> io::Result<Self> {
        let (header, sections) = head(&bytes)?;
        if header.bytes != bytes.len() as u64 {
            return Err(invalid(format!(
                "it has {} bytes instead of {}",
                bytes.len(),
                header.bytes
            )));
        }
        let pieces = bytes.len().saturating_sub(HEAD_BYTES).div_ceil(PIECE_BYTES);
        Ok(Self {
            bytes,
            header,
            sections,
            pieces: (0..pieces).map(|_| AtomicU8::new(seen)).collect(),
            is_damaged: AtomicBool::new(false),
        })
    }

    fn check(&self, check: Check) -> io::Result<()> {
        let sums = sums_of(&self.sections, self.header.bytes)?;
        let mut sum = Xxh3::new();
        sum.update(&self.bytes[CHECKED_FROM..HEAD_BYTES]);
        sum.update(&self.bytes[sums.clone()]);
        let is_whole = sum.digest() == self.header.checksum
            && (check == Check::Pieces || self.read(HEAD_BYTES, sums.start).is_some());
        if is_whole { Ok(()) } else { Err(wrong_sum()) }
    }

    /// Whether a piece that was read had a wrong checksum.
    pub(crate) fn is_damaged(&self) -> bool {
        self.is_damaged.load(Ordering::Relaxed)
    }

    /// Bytes of the file, if all pieces that they touch have the right checksum.
    #[inline]
    fn read(&self, begin: usize, end: usize) -> Option<&[u8]> {
        let bytes = self.bytes.get(begin..end)?;
        let first = begin.checked_sub(HEAD_BYTES)? / PIECE_BYTES;
        let last = end.checked_sub(HEAD_BYTES + 1)? / PIECE_BYTES;
        // Most reads are within one piece that was read before.
        let is_whole = if first == last {
            let piece = self.pieces.get(first)?;
            piece.load(Ordering::Relaxed) == GOOD || self.is_whole(first)
        } else {
            self.are_whole(first, last)
        };
        is_whole.then_some(bytes)
    }

    #[cold]
    fn are_whole(&self, first: usize, last: usize) -> bool {
        last < self.pieces.len() && (first..=last).all(|piece| self.is_whole(piece))
    }

    #[cold]
    fn is_whole(&self, piece: usize) -> bool {
        match self.pieces[piece].load(Ordering::Relaxed) {
            GOOD => return true,
            BAD => return false,
            _ => {}
        }
        let is_whole = self.sum_of(piece).is_some_and(|(sum, is)| sum == is);
        let seen = if is_whole { GOOD } else { BAD };
        // Two threads that check the same piece get the same result.
        self.pieces[piece].store(seen, Ordering::Relaxed);
        if !is_whole {
            self.is_damaged.store(true, Ordering::Relaxed);
        }
        is_whole
    }

    /// The expected and the actual checksum of a piece.
    fn sum_of(&self, piece: usize) -> Option<(u64, u64)> {
        let sums = sums_of(&self.sections, self.header.bytes).ok()?;
        let begin = HEAD_BYTES + piece * PIECE_BYTES;
        let bytes = self
            .bytes
            .get(begin..(begin + PIECE_BYTES).min(sums.start))?;
        let mut sum = self.bytes[sums].get(piece * u64::BYTES..)?;
        Some((u64::take(&mut sum)?, xxh3_64(bytes)))
    }

    /// Length in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Identifies the text from which this was made.
    pub fn stamp(&self) -> Stamp {
        self.header.stamp()
    }

    /// Why the text is corrupt, if it is. Then the file contains nothing else.
    pub fn corrupt(&self) -> Option<&str> {
        match self.header.corrupt {
            NO_TEXT => None,
            reason => Some(self.string(reason).unwrap_or("unknown reason")),
        }
    }

    pub fn debug_id(&self) -> Option<&str> {
        self.string(self.header.debug_id)
    }

    /// The URL from which the text says that it was downloaded.
    pub fn url(&self) -> Option<&str> {
        self.string(self.header.url)
    }

    /// The text of a reference in a record.
    pub fn string(&self, reference: u32) -> Option<&str> {
        let strings = self.section(Part::Strings);
        let at = strings.start.checked_add(reference as usize)?;
        let text = at.checked_add(u32::BYTES)?;
        let length = u32::take(&mut self.read(at, text)?)? as usize;
        let end = text.checked_add(length)?;
        if length == 0 || end > strings.end {
            return (end <= strings.end).then_some("");
        }
        std::str::from_utf8(self.read(text, end)?).ok()
    }

    /// The name of a source file.
    pub fn file(&self, id: u32) -> Option<&str> {
        self.named(Part::Files, id)
    }

    /// The name of an inlined function.
    pub fn origin(&self, id: u32) -> Option<&str> {
        self.named(Part::Origins, id)
    }

    fn named(&self, part: Part, id: u32) -> Option<&str> {
        let table: Table<Named> = self.table(part);
        let named = table.last_up_to(|named| named.id <= id)?;
        self.string(named.name).filter(|_| named.id == id)
    }

    /// The function that covers an address.
    pub fn function(&self, address: u64) -> Option<Function> {
        self.table(Part::Functions).covering(address)
    }

    /// The last function that starts at an address or before it.
    pub fn function_before(&self, address: u64) -> Option<Function> {
        self.table(Part::Functions)
            .last_up_to(|function: &Function| function.address <= address)
    }

    /// The line of a function that covers an address. It belongs to the innermost inlined call.
    pub fn line(&self, function: &Function, address: u64) -> Option<Line> {
        self.table(Part::Lines)
            .slice(function.lines_first, function.lines_count)?
            .covering(address)
    }

    /// The inlined call that covers an address at a depth; 0 is the outermost.
    pub fn inline(&self, function: &Function, depth: u32, address: u64) -> Option<Inline> {
        let inline: Inline = self
            .table(Part::Inlines)
            .slice(function.inlines_first, function.inlines_count)?
            .last_up_to(|inline: &Inline| (inline.depth, inline.address) <= (depth, address))?;
        // Not `covers`: a call that ends with the last address of the address space is refused here but
        // accepted by `covers`.
        let end = inline.address.checked_add(u64::from(inline.size))?;
        (inline.depth == depth && address < end).then_some(inline)
    }

    /// The last public symbol at an address or before it.
    pub fn public(&self, address: u64) -> Option<Public> {
        self.table(Part::Publics)
            .last_up_to(|public: &Public| public.address <= address)
    }

    /// The unwind rules that cover an address.
    pub fn cfi(&self, address: u64) -> Option<Cfi> {
        self.table(Part::Cfi).covering(address)
    }

    /// The last range of unwind rules that starts at an address or before it.
    pub(crate) fn cfi_before(&self, address: u64) -> Option<Cfi> {
        self.table(Part::Cfi)
            .last_up_to(|cfi: &Cfi| cfi.address <= address)
    }

    /// Whether a function, a public symbol or unwind rules start after an address.
    pub(crate) fn has_code_after(&self, address: u64) -> bool {
        let functions = self.table(Part::Functions).last();
        let cfi = self.table(Part::Cfi).last();
        let publics = self.table(Part::Publics).last();
        functions.is_some_and(|last: Function| last.address > address)
            || cfi.is_some_and(|last: Cfi| last.address > address)
            || publics.is_some_and(|last: Public| last.address > address)
    }

    /// The changes of those rules up to an address, in order.
    pub fn deltas(&self, cfi: &Cfi, address: u64) -> impl Iterator<Item = Delta> {
        let table = self.table(Part::Deltas);
        let deltas = table.slice(cfi.deltas_first, cfi.deltas_count);
        deltas
            .into_iter()
            .flat_map(|deltas| (0..deltas.count).map_while(move |at| deltas.get(at)))
            .take_while(move |delta: &Delta| delta.address <= address)
    }

    /// The STACK WIN of type 4 that covers an address.
    pub fn framedata(&self, address: u64) -> Option<Win> {
        self.table(Part::FrameData).covering(address)
    }

    /// The STACK WIN of type 0 that covers an address.
    pub fn fpo(&self, address: u64) -> Option<Win> {
        self.table(Part::Fpo).covering(address)
    }

    /// The range of a section, limited to the file.
    fn section(&self, part: Part) -> Range<usize> {
        range_of(&self.sections[part as usize], self.bytes.len())
    }

    fn table<T: Fixed>(&self, part: Part) -> Table<'_, T> {
        let Range { start, end } = self.section(part);
        Table {
            mapped: self,
            begin: start,
            count: (end - start) / T::BYTES,
            record: PhantomData,
        }
    }
}

fn range_of(section: &Section, file_bytes: usize) -> Range<usize> {
    let begin = usize::try_from(section.offset).unwrap_or(usize::MAX);
    let end = begin.saturating_add(usize::try_from(section.bytes).unwrap_or(usize::MAX));
    if end <= file_bytes { begin..end } else { 0..0 }
}

/// The range of the checksums, one for each piece. They are the end of the file.
fn sums_of(sections: &[Section; SECTIONS], file_bytes: u64) -> io::Result<Range<usize>> {
    let file_bytes = usize::try_from(file_bytes).unwrap_or(usize::MAX);
    let sums = range_of(&sections[Part::Sums as usize], file_bytes);
    let pieces = sums.start.checked_sub(HEAD_BYTES);
    let pieces = pieces.map(|bytes| bytes.div_ceil(PIECE_BYTES));
    if sums.end == file_bytes && pieces == Some(sums.len() / u64::BYTES) {
        Ok(sums)
    } else {
        Err(invalid("its checksums are in the wrong place".into()))
    }
}

impl Header {
    fn stamp(&self) -> Stamp {
        Stamp {
            bytes: self.text_bytes,
            modified_ns: self.text_modified_ns,
        }
    }
}

/// Reads a whole file and returns the stamp of the text from which it was made. Maps nothing, so a server can
/// use it.
///
/// # Errors
/// The file is not whole or has another version, and must be made again.
pub(crate) fn stamp_of(mut file: impl io::Read) -> io::Result<Stamp> {
    let mut start = vec![0; HEAD_BYTES];
    file.read_exact(&mut start)?;
    let (header, sections) = head(&start)?;
    let sums = sums_of(&sections, header.bytes)?;
    let mut summed = Summed::new(io::sink());
    let content = (sums.start - HEAD_BYTES) as u64;
    if io::copy(&mut file.by_ref().take(content), &mut summed)? != content {
        return Err(invalid("it is incomplete".into()));
    }
    let mut stated = Vec::new();
    file.read_to_end(&mut stated)?;
    let mut sum = Xxh3::new();
    sum.update(&start[CHECKED_FROM..]);
    sum.update(&stated);
    if sum.digest() == header.checksum && stated == summed.end() {
        Ok(header.stamp())
    } else {
        Err(wrong_sum())
    }
}

fn head(mut bytes: &[u8]) -> io::Result<(Header, [Section; SECTIONS])> {
    let short = || {
        invalid(format!(
            "it is shorter than its header ({HEAD_BYTES} bytes)"
        ))
    };
    let header = Header::take(&mut bytes).ok_or_else(short)?;
    if (header.magic, header.version) != (MAGIC, VERSION) {
        return Err(invalid(format!(
            "it begins with {:#x} and version {}, not {MAGIC:#x} and {VERSION}",
            header.magic, header.version
        )));
    }
    let mut sections = [Section {
        offset: 0,
        bytes: 0,
    }; SECTIONS];
    for section in &mut sections {
        *section = Section::take(&mut bytes).ok_or_else(short)?;
    }
    Ok((header, sections))
}

fn wrong_sum() -> io::Error {
    invalid("a checksum is wrong".into())
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Records of one kind, one after the other.
struct Table<'a, T> {
    mapped: &'a Mapped,
    /// Offset of the first record.
    begin: usize,
    count: usize,
    record: PhantomData<T>,
}

impl<'a, T: Fixed> Table<'a, T> {
    #[inline]
    fn get(&self, at: usize) -> Option<T> {
        if at >= self.count {
            return None;
        }
        // No overflow: all records are inside the file.
        let begin = self.begin + at * T::BYTES;
        T::take(&mut self.mapped.read(begin, begin + T::BYTES)?)
    }

    fn last(&self) -> Option<T> {
        self.get(self.count.checked_sub(1)?)
    }

    fn slice(&self, first: u32, count: u32) -> Option<Table<'a, T>> {
        let (first, count) = (first as usize, count as usize);
        if first.checked_add(count)? > self.count {
            return None;
        }
        Some(Table {
            begin: self.begin + first * T::BYTES,
            count,
            ..*self
        })
    }

    /// The last record for which `is_before` is true. It must be true for the first records and false for all
    /// others.
    #[inline]
    fn last_up_to(&self, is_before: impl Fn(&T) -> bool) -> Option<T> {
        let (mut begin, mut end) = (0, self.count);
        while begin < end {
            let middle = begin + (end - begin) / 2;
            if is_before(&self.get(middle)?) {
                begin = middle + 1
            } else {
                end = middle
            }
        }
        self.get(begin.checked_sub(1)?)
    }
}

impl<T: Fixed + Covers> Table<'_, T> {
    fn covering(&self, address: u64) -> Option<T> {
        self.last_up_to(|record| record.first() <= address)
            .filter(|record| record.covers(address))
    }
}
