//! Converts the text of a symbol file to its mapped form, in one pass and with limited memory.
//!
//! Lines, inlined calls, CFI deltas and strings go to spools, which spill to temporary files. Only what must
//! be sorted over the whole file stays in memory, up to [`HELD_BYTES_MAX`].
//!
//! A corrupt text becomes a mapped file that contains only the reason. So a text that is known to be corrupt
//! is not read again on every walk.

use std::collections::HashMap;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use tempfile::SpooledTempFile;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::Stamp;
use super::layout::*;
use super::text::{self, BelowFunction, Record};

/// Limit of bytes of a line. Longer lines are skipped: no symbol needs them. (breakpad-symbols skips lines
/// from 80 to 160 KiB on, depending on where in its buffer the line is.)
const LINE_BYTES_MAX: usize = 160 << 10;
const BUFFER_BYTES: usize = 1 << 20;
/// Limit of heap for data that is sorted at the end: about ten million functions.
const HELD_BYTES_MAX: usize = 512 << 20;
/// Number of strings that are stored only once. Further strings are written each time they occur.
const SHARED_STRINGS_MAX: usize = 1 << 20;
/// Bytes of a spool that stay in memory, if it may spill.
const SPOOL_BYTES: usize = 16 << 20;

/// Why a text cannot be converted.
enum Refusal {
    Io(io::Error),
    /// The text is corrupt: a reason for the user.
    Corrupt(String),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Converts `text` and writes the mapped form to `out`, from its start. Spools spill into `spill_dir`, or
/// stay in memory without it.
///
/// # Errors
/// Only errors of reading, spilling and writing. A corrupt text is not an error.
pub fn convert(
    text: impl Read,
    stamp: Stamp,
    spill_dir: Option<&Path>,
    mut out: impl Write + Seek,
) -> io::Result<()> {
    let mut converter = Converter::new(spill_dir);
    match converter.read(text) {
        Ok(()) => converter.write(stamp, NO_TEXT, &mut out),
        Err(Refusal::Io(error)) => Err(error),
        Err(Refusal::Corrupt(reason)) => {
            let mut empty = Converter::new(None);
            let reason = empty.strings.add(&reason)?;
            empty.write(stamp, reason, &mut out)
        }
    }
}

/// The record whose following lines are being read.
enum Open {
    Nothing,
    Function(Function),
    Cfi(Cfi),
}

struct Converter {
    open: Open,
    /// Lines read so far.
    line_number: u64,
    debug_id: u32,
    url: u32,
    strings: Strings,
    files: HashMap<u32, u32>,
    origins: HashMap<u32, u32>,
    functions: Vec<Function>,
    publics: Vec<Public>,
    cfi: Vec<Cfi>,
    framedata: Vec<Win>,
    fpo: Vec<Win>,
    /// Data of the open record. `delta_text` has the rules of its deltas.
    open_lines: Vec<Line>,
    open_inlines: Vec<Inline>,
    open_deltas: Vec<(u64, std::ops::Range<usize>)>,
    delta_text: String,
    lines: Spool,
    inlines: Spool,
    deltas: Spool,
}

impl Converter {
    fn new(spill_dir: Option<&Path>) -> Self {
        Self {
            open: Open::Nothing,
            line_number: 0,
            debug_id: NO_TEXT,
            url: NO_TEXT,
            strings: Strings::new(spill_dir),
            files: HashMap::new(),
            origins: HashMap::new(),
            functions: vec![],
            publics: vec![],
            cfi: vec![],
            framedata: vec![],
            fpo: vec![],
            open_lines: vec![],
            open_inlines: vec![],
            open_deltas: vec![],
            delta_text: String::new(),
            lines: Spool::new(spill_dir),
            inlines: Spool::new(spill_dir),
            deltas: Spool::new(spill_dir),
        }
    }

    fn read(&mut self, mut text: impl Read) -> Result<(), Refusal> {
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut filled = 0;
        let mut total = 0;
        let mut is_skipping = false;
        loop {
            let count = match text.read(&mut buffer[filled..]) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            if count == 0 {
                break;
            }
            total += count as u64;
            if u32::try_from(total).is_err() {
                let reason = "it is larger than 4 GiB; remove records that stack walks do not need";
                return Err(Refusal::Corrupt(reason.into()));
            }
            // Only new bytes are searched for line ends, so a long line is not searched twice.
            let mut begin = 0;
            let mut from = filled;
            filled += count;
            while let Some(length) = memchr::memchr(b'\n', &buffer[from..filled]) {
                let end = from + length;
                if is_skipping || end - begin > LINE_BYTES_MAX {
                    is_skipping = false;
                } else {
                    self.line(&buffer[begin..end])?;
                }
                self.line_number += 1;
                begin = end + 1;
                from = begin;
            }
            if is_skipping || filled - begin > LINE_BYTES_MAX {
                is_skipping = true;
                begin = filled;
            }
            buffer.copy_within(begin..filled, 0);
            filled -= begin;
        }
        match (total, filled) {
            (0, _) => Err(Refusal::Corrupt("it is empty".into())),
            (_, 0) => self.close(),
            _ => Err(Refusal::Corrupt(format!(
                "line {} has no line end: the file is incomplete",
                self.line_number + 1
            ))),
        }
    }

    fn line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let end = line
            .iter()
            .rposition(|b| *b != b'\r')
            .map_or(0, |at| at + 1);
        let line = &line[..end];
        let is_taken = match self.open {
            Open::Nothing => false,
            Open::Function(_) => self.below_function(line)?,
            Open::Cfi(_) => self.below_cfi(line)?,
        };
        if is_taken {
            return Ok(());
        }
        self.close()?;
        if line.is_empty() {
            return Ok(());
        }
        match text::record(line) {
            Some(record) => self.record(record),
            None => Err(Refusal::Corrupt(format!(
                "line {} is invalid",
                self.line_number + 1
            ))),
        }
    }

    fn below_function(&mut self, line: &[u8]) -> Result<bool, Refusal> {
        let inlines = &mut self.open_inlines;
        match text::below_function(line, |inline| inlines.push(inline)) {
            Some(BelowFunction::Line(line)) => self.open_lines.push(line),
            Some(BelowFunction::Origin(id, name)) => {
                self.origins.insert(id, self.strings.add(name)?);
            }
            Some(BelowFunction::Inlines) => {}
            None => return Ok(false),
        }
        self.check_held()?;
        Ok(true)
    }

    fn below_cfi(&mut self, line: &[u8]) -> Result<bool, Refusal> {
        let Some((address, rules)) = text::below_cfi(line) else {
            return Ok(false);
        };
        let begin = self.delta_text.len();
        self.delta_text.push_str(rules);
        self.open_deltas
            .push((address, begin..self.delta_text.len()));
        self.check_held()?;
        Ok(true)
    }

    fn record(&mut self, record: Record<'_>) -> Result<(), Refusal> {
        match record {
            Record::Module { .. } if self.line_number != 0 => {
                let reason = format!("line {} is a second MODULE record", self.line_number + 1);
                return Err(Refusal::Corrupt(reason));
            }
            Record::Module { debug_id } => self.debug_id = self.strings.add(debug_id)?,
            Record::Url(url) => self.url = self.strings.add(url)?,
            Record::Nothing => {}
            Record::File(id, name) => {
                self.files.insert(id, self.strings.add(name)?);
            }
            Record::Origin(id, name) => {
                self.origins.insert(id, self.strings.add(name)?);
            }
            Record::Public(public, name) => {
                let name = self.strings.add(name)?;
                self.publics.push(Public { name, ..public });
            }
            Record::Function {
                address,
                size,
                parameter_size,
                name,
            } => {
                self.open = Open::Function(Function {
                    address,
                    size,
                    parameter_size,
                    name: self.strings.add(name)?,
                    lines_first: 0,
                    lines_count: 0,
                    inlines_first: 0,
                    inlines_count: 0,
                });
            }
            Record::FrameData(win, program) => {
                let program = self.strings.add(program)?;
                push_win(&mut self.framedata, Win { program, ..win });
            }
            Record::Fpo(win, program) => {
                let program = self.strings.add(program)?;
                push_win(&mut self.fpo, Win { program, ..win });
            }
            Record::CfiInit {
                address,
                size,
                rules,
            } => {
                self.open = Open::Cfi(Cfi {
                    address,
                    size,
                    rules: self.strings.add(rules)?,
                    deltas_first: 0,
                    deltas_count: 0,
                });
            }
        }
        self.check_held()
    }

    /// Stores the open record after its last line.
    fn close(&mut self) -> Result<(), Refusal> {
        match std::mem::replace(&mut self.open, Open::Nothing) {
            Open::Nothing => {}
            Open::Function(function) => self.close_function(function)?,
            Open::Cfi(cfi) => self.close_cfi(cfi)?,
        }
        Ok(())
    }

    fn close_function(&mut self, mut function: Function) -> io::Result<()> {
        if function.last().is_some() {
            without_overlaps(&mut self.open_lines);
            // In the order of look-ups: by depth, then by address.
            self.open_inlines.sort_unstable();
            (function.lines_first, function.lines_count) = self.lines.add_all(&self.open_lines)?;
            (function.inlines_first, function.inlines_count) =
                self.inlines.add_all(&self.open_inlines)?;
            self.functions.push(function);
        }
        self.open_lines.clear();
        self.open_inlines.clear();
        Ok(())
    }

    fn close_cfi(&mut self, mut cfi: Cfi) -> io::Result<()> {
        if cfi.last().is_some() {
            let text = &self.delta_text;
            self.open_deltas.sort_by(|(a, a_text), (b, b_text)| {
                (a, &text[a_text.clone()]).cmp(&(b, &text[b_text.clone()]))
            });
            let mut deltas = Vec::with_capacity(self.open_deltas.len());
            for (address, rules) in &self.open_deltas {
                deltas.push(Delta {
                    address: *address,
                    rules: self.strings.add(&text[rules.clone()])?,
                });
            }
            (cfi.deltas_first, cfi.deltas_count) = self.deltas.add_all(&deltas)?;
            self.cfi.push(cfi);
        }
        self.open_deltas.clear();
        self.delta_text.clear();
        Ok(())
    }

    fn check_held(&self) -> Result<(), Refusal> {
        let ids = self.files.len() + self.origins.len();
        let held = size_of_val(self.functions.as_slice())
            + size_of_val(self.publics.as_slice())
            + size_of_val(self.cfi.as_slice())
            + size_of_val(self.framedata.as_slice())
            + size_of_val(self.fpo.as_slice())
            + size_of_val(self.open_lines.as_slice())
            + size_of_val(self.open_inlines.as_slice())
            + size_of_val(self.open_deltas.as_slice())
            + self.delta_text.len()
            + ids * 2 * size_of::<Named>();
        if held > HELD_BYTES_MAX {
            return Err(Refusal::Corrupt(format!(
                "its records need more than {} MiB to sort; remove records that stack walks do not need",
                HELD_BYTES_MAX >> 20
            )));
        }
        Ok(())
    }

    fn write(
        mut self,
        stamp: Stamp,
        corrupt: u32,
        out: &mut (impl Write + Seek),
    ) -> io::Result<()> {
        let publics = self.strings.last_of_each_address(self.publics)?;
        without_overlaps(&mut self.functions);
        without_overlaps(&mut self.cfi);
        without_overlaps(&mut self.framedata);
        without_overlaps(&mut self.fpo);
        // In the order of `Part`.
        let mut contents = [
            Content::Spooled(self.strings.spool),
            Content::bytes_of(&by_id(self.files)),
            Content::bytes_of(&by_id(self.origins)),
            Content::bytes_of(&self.functions),
            Content::Spooled(self.lines),
            Content::Spooled(self.inlines),
            Content::bytes_of(&publics),
            Content::bytes_of(&self.cfi),
            Content::Spooled(self.deltas),
            Content::bytes_of(&self.framedata),
            Content::bytes_of(&self.fpo),
        ];
        let mut offset = HEAD_BYTES as u64;
        let mut sections = Vec::with_capacity(SECTIONS * Section::BYTES);
        for content in &contents {
            let bytes = content.len();
            Section { offset, bytes }.write(&mut sections);
            offset += bytes;
        }
        let pieces = (offset as usize - HEAD_BYTES).div_ceil(PIECE_BYTES);
        let bytes = (pieces * u64::BYTES) as u64;
        Section { offset, bytes }.write(&mut sections);
        offset += bytes;
        let mut head = Vec::with_capacity(HEAD_BYTES);
        Header {
            magic: MAGIC,
            checksum: 0,
            version: VERSION,
            corrupt,
            bytes: offset,
            text_bytes: stamp.bytes,
            text_modified_ns: stamp.modified_ns,
            debug_id: self.debug_id,
            url: self.url,
        }
        .write(&mut head);
        head.extend(sections);
        out.write_all(&head)?;
        let mut summed = Summed::new(&mut *out);
        for content in &mut contents {
            content.copy_to(&mut summed)?;
        }
        let sums = summed.end();
        out.write_all(&sums)?;
        let mut sum = Xxh3::new();
        sum.update(&head[CHECKED_FROM..]);
        sum.update(&sums);
        out.seek(SeekFrom::Start((CHECKED_FROM - u64::BYTES) as u64))?;
        out.write_all(&sum.digest().to_le_bytes())?;
        out.flush()
    }
}

/// PDBs have many overlapping records. Often each record starts at the right address but ends with its
/// function. Then the start of the next record is the real end of the previous one. A record is dropped if it
/// starts before the previous one, or at the same address without being identical. (Both rules are those of
/// breakpad-symbols, and so is the order: that of the file, not of addresses.)
fn push_win(records: &mut Vec<Win>, win: Win) {
    let Some(end) = win.last() else { return };
    if let Some(last) = records.last_mut() {
        let meets = last.address <= end && last.last().is_some_and(|last| win.address <= last);
        if meets && win.address > last.address {
            last.size = (win.address - last.address) as u32;
        } else if meets && (last.address, last.size) != (win.address, win.size) {
            return;
        }
    }
    records.push(win);
}

/// Sorts by range. Drops records that cover nothing, and records that start inside an earlier one.
fn without_overlaps<T: Covers>(records: &mut Vec<T>) {
    records.retain(|record| record.last().is_some());
    records.sort_by_key(|record| (record.first(), record.last()));
    let mut end = None;
    records.retain(|record| {
        let is_free = end.is_none_or(|end| end < Some(record.first()));
        if is_free {
            end = Some(record.last());
        }
        is_free
    });
}

fn by_id(names: HashMap<u32, u32>) -> Vec<Named> {
    let mut names: Vec<_> = names
        .into_iter()
        .map(|(id, name)| Named { id, name })
        .collect();
    names.sort_unstable();
    names
}

/// The bytes of a section while it is written.
struct Spool {
    file: SpooledTempFile,
    /// Bytes not yet written to the file, because a write of 20 bytes should not be a system call.
    pending: Vec<u8>,
    bytes: u64,
}

impl Spool {
    fn new(spill_dir: Option<&Path>) -> Self {
        let file = match spill_dir {
            Some(dir) => tempfile::spooled_tempfile_in(SPOOL_BYTES, dir),
            None => SpooledTempFile::new(usize::MAX),
        };
        Self {
            file,
            pending: vec![],
            bytes: 0,
        }
    }

    /// Returns the number of the first record and the number of records.
    fn add_all<T: Fixed>(&mut self, records: &[T]) -> io::Result<(u32, u32)> {
        let first = self.bytes / T::BYTES as u64;
        for record in records {
            record.write(&mut self.pending);
            self.settle(1 << 16)?;
        }
        self.bytes += (records.len() * T::BYTES) as u64;
        // This fits: a record is longer than its shortest line, and a text has at most 4 GiB.
        Ok((fits(first)?, fits(records.len() as u64)?))
    }

    /// Writes the pending bytes if there are at least `bytes_min`.
    fn settle(&mut self, bytes_min: usize) -> io::Result<()> {
        if self.pending.len() >= bytes_min {
            self.file.write_all(&self.pending)?;
            self.pending.clear();
        }
        Ok(())
    }
}

fn fits(number: u64) -> io::Result<u32> {
    u32::try_from(number).map_err(|_| io::Error::other(format!("too many records: {number}")))
}

/// The section of strings while it grows.
struct Strings {
    spool: Spool,
    /// Keyed by 128 bits of hash. Whoever constructs a collision gets a wrong name in their own file only.
    known: HashMap<u128, u32>,
}

impl Strings {
    fn new(spill_dir: Option<&Path>) -> Self {
        Self {
            spool: Spool::new(spill_dir),
            known: HashMap::new(),
        }
    }

    fn add(&mut self, text: &str) -> io::Result<u32> {
        let hash = xxh3_128(text.as_bytes());
        if let Some(known) = self.known.get(&hash) {
            return Ok(*known);
        }
        let at = fits(self.spool.bytes)?;
        fits(text.len() as u64)?.write(&mut self.spool.pending);
        self.spool.pending.extend_from_slice(text.as_bytes());
        self.spool.bytes += (u32::BYTES + text.len()) as u64;
        self.spool.settle(1 << 16)?;
        if self.known.len() < SHARED_STRINGS_MAX {
            self.known.insert(hash, at);
        }
        Ok(at)
    }

    /// If several symbols have the same address, a look-up finds the last one by name. So only that one
    /// stays.
    fn last_of_each_address(&mut self, mut publics: Vec<Public>) -> io::Result<Vec<Public>> {
        publics.sort_by_key(|public| public.address);
        let mut kept: Vec<Public> = Vec::with_capacity(publics.len());
        for public in publics {
            match kept.last_mut() {
                Some(last) if last.address == public.address => {
                    let mut key = |public: &Public| {
                        Ok::<_, io::Error>((self.read(public.name)?, public.parameter_size))
                    };
                    if key(&public)? > key(last)? {
                        *last = public;
                    }
                }
                _ => kept.push(public),
            }
        }
        self.spool.file.seek(SeekFrom::End(0))?;
        Ok(kept)
    }

    fn read(&mut self, at: u32) -> io::Result<Vec<u8>> {
        let file = &mut self.spool.file;
        if !self.spool.pending.is_empty() {
            file.seek(SeekFrom::End(0))?;
            file.write_all(&self.spool.pending)?;
            self.spool.pending.clear();
        }
        file.seek(SeekFrom::Start(u64::from(at)))?;
        let mut length = [0; u32::BYTES];
        file.read_exact(&mut length)?;
        let mut text = vec![0; u32::from_le_bytes(length) as usize];
        file.read_exact(&mut text)?;
        Ok(text)
    }
}

/// The content of a section for the file.
enum Content {
    Spooled(Spool),
    Bytes(Vec<u8>),
}

impl Content {
    fn bytes_of<T: Fixed>(records: &[T]) -> Self {
        let mut bytes = Vec::with_capacity(records.len() * T::BYTES);
        records.iter().for_each(|record| record.write(&mut bytes));
        Self::Bytes(bytes)
    }

    fn len(&self) -> u64 {
        match self {
            Self::Spooled(spool) => spool.bytes,
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }

    fn copy_to(&mut self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Bytes(bytes) => out.write_all(bytes),
            Self::Spooled(spool) => {
                spool.settle(1)?;
                spool.file.rewind()?;
                let mut piece = vec![0; 1 << 16];
                loop {
                    let count = spool.file.read(&mut piece)?;
                    if count == 0 {
                        return Ok(());
                    }
                    out.write_all(&piece[..count])?;
                }
            }
        }
    }
}

/// Computes a checksum for each piece of the bytes that pass through.
pub(super) struct Summed<W> {
    out: W,
    sum: Xxh3,
    /// Bytes of the current piece so far.
    filled: usize,
    sums: Vec<u8>,
}

impl<W: Write> Summed<W> {
    pub(super) fn new(out: W) -> Self {
        Self {
            out,
            sum: Xxh3::new(),
            filled: 0,
            sums: Vec::new(),
        }
    }

    /// Returns the section of checksums.
    pub(super) fn end(mut self) -> Vec<u8> {
        if self.filled > 0 {
            self.sum.digest().write(&mut self.sums);
        }
        self.sums
    }
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = &bytes[..bytes.len().min(PIECE_BYTES - self.filled)];
        self.out.write_all(piece)?;
        self.sum.update(piece);
        self.filled += piece.len();
        if self.filled == PIECE_BYTES {
            self.sum.digest().write(&mut self.sums);
            self.sum.reset();
            self.filled = 0;
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
