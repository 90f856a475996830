//! Answers out of a mapped symbol file.
//!
//! Nothing in the file is trusted: each offset, length and string is checked when it is used, so a
//! file with wrong bytes gives wrong answers or none, and never a panic. That it has no wrong bytes
//! is what the checksum says, once.

use std::fs::File;
use std::io::{self, Cursor};
use std::marker::PhantomData;
use std::ops::Deref;

use xxhash_rust::xxh3::xxh3_64;

use super::Stamp;
use super::layout::*;
use crate::symbols::map::Map;

/// The symbols of one module.
pub struct Mapped {
    bytes: Bytes,
    header: Header,
    sections: [Section; SECTIONS],
}

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

/// Whether the checksum is to be looked at: it costs a read of the whole file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Check {
    Whole,
    /// For a file that has been checked since it was last changed.
    HeadOnly,
}

impl Mapped {
    /// Maps a file. An error of kind `InvalidData` is a file to be made again.
    pub fn open(file: &File, check: Check) -> io::Result<Self> {
        let map = Map::of(file)?;
        if check == Check::Whole {
            check_sum(&map)?;
        }
        map.expect_random_reads();
        Self::new(Bytes::Map(map))
    }

    /// Takes the mapped form of a file from memory.
    pub fn from_bytes(bytes: Vec<u8>) -> io::Result<Self> {
        check_sum(&bytes)?;
        Self::new(Bytes::Held(bytes))
    }

    /// Converts a text in memory, for those who have nowhere to keep the result.
    pub fn from_text(text: impl io::Read, stamp: Stamp) -> io::Result<Self> {
        let mut bytes = Cursor::new(Vec::new());
        super::convert(text, stamp, None, &mut bytes)?;
        Self::new(Bytes::Held(bytes.into_inner()))
    }

    fn new(bytes: Bytes) -> io::Result<Self> {
        let (header, sections) = head(&bytes)?;
        if header.bytes != bytes.len() as u64 {
            return Err(invalid(format!(
                "it is {} bytes, not {}",
                bytes.len(),
                header.bytes
            )));
        }
        Ok(Self {
            bytes,
            header,
            sections,
        })
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The text that this was made from.
    pub fn stamp(&self) -> Stamp {
        self.header.stamp()
    }

    /// Why the text makes no sense, if it does not; then nothing else is here.
    pub fn corrupt(&self) -> Option<&str> {
        match self.header.corrupt {
            NO_TEXT => None,
            reason => Some(self.string(reason).unwrap_or("no reason is given")),
        }
    }

    pub fn debug_id(&self) -> Option<&str> {
        self.string(self.header.debug_id)
    }

    /// Where the text says that it was downloaded from.
    pub fn url(&self) -> Option<&str> {
        self.string(self.header.url)
    }

    /// The text of a reference in a record.
    pub fn string(&self, reference: u32) -> Option<&str> {
        let mut bytes = self.section(Part::Strings).get(reference as usize..)?;
        let length = u32::take(&mut bytes)?;
        std::str::from_utf8(bytes.get(..length as usize)?).ok()
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

    /// The last function that begins at an address or before.
    pub fn function_before(&self, address: u64) -> Option<Function> {
        self.table(Part::Functions)
            .last_up_to(|function: &Function| function.address <= address)
    }

    /// The line of a function that covers an address; it belongs to the innermost inlined call.
    pub fn line(&self, function: &Function, address: u64) -> Option<Line> {
        self.table(Part::Lines)
            .slice(function.lines_first, function.lines_count)?
            .covering(address)
    }

    /// The inlined call that covers an address at a depth, from 0 for the outermost.
    pub fn inline(&self, function: &Function, depth: u32, address: u64) -> Option<Inline> {
        let inline: Inline = self
            .table(Part::Inlines)
            .slice(function.inlines_first, function.inlines_count)?
            .last_up_to(|inline: &Inline| (inline.depth, inline.address) <= (depth, address))?;
        // Not `covers`: one that ends with the last address is refused here, and taken there.
        let end = inline.address.checked_add(u64::from(inline.size))?;
        (inline.depth == depth && address < end).then_some(inline)
    }

    /// The last public symbol at an address or before.
    pub fn public(&self, address: u64) -> Option<Public> {
        self.table(Part::Publics)
            .last_up_to(|public: &Public| public.address <= address)
    }

    /// The unwind rules that cover an address.
    pub fn cfi(&self, address: u64) -> Option<Cfi> {
        self.table(Part::Cfi).covering(address)
    }

    /// What changes those rules up to an address, in order.
    pub fn deltas(&self, cfi: &Cfi, address: u64) -> impl Iterator<Item = Delta> {
        let table = self.table(Part::Deltas);
        let deltas = table.slice(cfi.deltas_first, cfi.deltas_count);
        let deltas = deltas.unwrap_or(Table::EMPTY);
        (0..deltas.len())
            .map_while(move |at| deltas.get(at))
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

    fn section(&self, part: Part) -> &[u8] {
        let Section { offset, bytes } = self.sections[part as usize];
        let begin = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = begin.saturating_add(usize::try_from(bytes).unwrap_or(usize::MAX));
        self.bytes.get(begin..end).unwrap_or_default()
    }

    fn table<T: Fixed>(&self, part: Part) -> Table<'_, T> {
        Table {
            bytes: self.section(part),
            record: PhantomData,
        }
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

/// Reads a file through and says from which text it was made, if it is whole and of this version.
/// Maps nothing, so a server can ask.
pub fn stamp_of(mut file: impl io::Read) -> io::Result<Stamp> {
    let mut start = vec![0; HEAD_BYTES];
    file.read_exact(&mut start)?;
    let (header, _) = head(&start)?;
    let mut sum = xxhash_rust::xxh3::Xxh3::new();
    sum.update(&start[CHECKED_FROM..]);
    let mut piece = vec![0; 1 << 16];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            count => sum.update(&piece[..count]),
        }
    }
    match sum.digest() == header.checksum {
        true => Ok(header.stamp()),
        false => Err(invalid("its checksum is wrong".into())),
    }
}

fn head(mut bytes: &[u8]) -> io::Result<(Header, [Section; SECTIONS])> {
    let short = || invalid(format!("it is shorter than its head ({HEAD_BYTES} bytes)"));
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

fn check_sum(bytes: &[u8]) -> io::Result<()> {
    let (header, _) = head(bytes)?;
    match xxh3_64(&bytes[CHECKED_FROM..]) == header.checksum {
        true => Ok(()),
        false => Err(invalid("its checksum is wrong".into())),
    }
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Records of one kind, one after the other.
struct Table<'a, T> {
    bytes: &'a [u8],
    record: PhantomData<T>,
}

impl<'a, T: Fixed> Table<'a, T> {
    const EMPTY: Self = Self {
        bytes: &[],
        record: PhantomData,
    };

    fn len(&self) -> usize {
        self.bytes.len() / T::BYTES
    }

    #[inline]
    fn get(&self, at: usize) -> Option<T> {
        T::take(&mut self.bytes.get(at.checked_mul(T::BYTES)?..)?)
    }

    fn slice(&self, first: u32, count: u32) -> Option<Table<'a, T>> {
        let begin = (first as usize).checked_mul(T::BYTES)?;
        let end = begin.checked_add((count as usize).checked_mul(T::BYTES)?)?;
        Some(Table {
            bytes: self.bytes.get(begin..end)?,
            record: PhantomData,
        })
    }

    /// The last record for which `is_before` holds; it holds for the first ones and no others.
    #[inline]
    fn last_up_to(&self, is_before: impl Fn(&T) -> bool) -> Option<T> {
        let (mut begin, mut end) = (0, self.len());
        while begin < end {
            let middle = begin + (end - begin) / 2;
            match is_before(&self.get(middle)?) {
                true => begin = middle + 1,
                false => end = middle,
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
