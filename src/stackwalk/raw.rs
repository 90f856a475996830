//! The bytes of a dump before a reader sees them: header, directory, and the means to change both.
//!
//! The minidump crates read what a dump says, however much that is, and offer no way to ask for
//! less. What a dump may not ask for is taken out of its bytes instead ([`tame`](super::tame),
//! [`head`](super::head)). Every access is checked: no offset in here can be trusted.

/// A directory entry: stream type, size, offset.
pub(super) const DIRECTORY_ENTRY_BYTES: usize = 12;
/// An entry of a thread list.
pub(super) const THREAD_BYTES: usize = 48;
const STREAM_COUNT_AT: usize = 8;
const DIRECTORY_AT: usize = 12;

/// Stream types, as minidumpapiset.h and Breakpad number them.
pub(super) mod kind {
    pub const UNUSED: u32 = 0;
    pub const THREAD_LIST: u32 = 3;
    pub const MODULE_LIST: u32 = 4;
    pub const EXCEPTION: u32 = 6;
    pub const HANDLE_DATA: u32 = 12;
    pub const UNLOADED_MODULE_LIST: u32 = 14;
    pub const THREAD_NAMES: u32 = 24;
    pub const BREAKPAD_INFO: u32 = 0x4767_0001;
}

/// A dump that passed the preflight.
pub(super) struct Raw<'a> {
    bytes: &'a mut [u8],
    is_big_endian: bool,
}

/// A stream of the directory whose bytes are all there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stream {
    /// Where its directory entry lies.
    pub(super) entry: usize,
    pub(super) at: usize,
    pub(super) bytes: usize,
}

/// What some bytes were before they were changed.
pub(super) struct Undo(Vec<(usize, Vec<u8>)>);

impl<'a> Raw<'a> {
    pub(super) fn new(bytes: &'a mut [u8]) -> Self {
        let is_big_endian = bytes.starts_with(b"PMDM");
        Self {
            bytes,
            is_big_endian,
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes
    }

    pub(super) fn is_big_endian(&self) -> bool {
        self.is_big_endian
    }

    /// The number at an offset, or `None` past the end.
    pub(super) fn word(&self, at: usize) -> Option<u32> {
        let bytes = self.bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(match self.is_big_endian {
            false => u32::from_le_bytes(bytes),
            true => u32::from_be_bytes(bytes),
        })
    }

    /// Changes a number; past the end nothing happens.
    pub(super) fn put(&mut self, at: usize, value: u32) {
        let bytes = match self.is_big_endian {
            false => value.to_le_bytes(),
            true => value.to_be_bytes(),
        };
        if let Some(place) = self.bytes.get_mut(at..at.saturating_add(4)) {
            place.copy_from_slice(&bytes);
        }
    }

    /// Moves bytes within the dump; both ranges must lie in it.
    pub(super) fn shift(&mut self, from: usize, bytes: usize, to: usize) {
        self.bytes.copy_within(from..from + bytes, to);
    }

    pub(super) fn stream_count(&self) -> u32 {
        self.word(STREAM_COUNT_AT).unwrap_or(0)
    }

    pub(super) fn set_stream_count(&mut self, count: u32) {
        self.put(STREAM_COUNT_AT, count);
    }

    /// Where the directory's entries lie, in order.
    pub(super) fn entries(&self) -> impl Iterator<Item = usize> + use<> {
        let directory = self.word(DIRECTORY_AT).unwrap_or(0) as usize;
        (0..self.stream_count() as usize)
            .map(move |index| directory + index * DIRECTORY_ENTRY_BYTES)
    }

    /// The stream of a type; of several the last, as the reader has it.
    pub(super) fn stream(&self, kind: u32) -> Option<Stream> {
        let entry = self
            .entries()
            .filter(|entry| self.word(*entry) == Some(kind))
            .last()?;
        let (bytes, at) = (
            self.word(entry + 4)? as usize,
            self.word(entry + 8)? as usize,
        );
        let is_whole = at.checked_add(bytes)? <= self.bytes.len();
        is_whole.then_some(Stream { entry, at, bytes })
    }

    pub(super) fn resize(&mut self, stream: &Stream, bytes: usize) {
        self.put(stream.entry + 4, bytes as u32);
    }

    /// Remembers a range that is about to be changed.
    pub(super) fn keep(&self, undo: &mut Undo, at: usize, bytes: usize) {
        let end = at.saturating_add(bytes).min(self.bytes.len());
        if let Some(range) = self.bytes.get(at..end) {
            undo.0.push((at, range.to_vec()));
        }
    }

    /// Puts back what was kept, the last first: ranges of a hostile dump may overlap.
    pub(super) fn undo(&mut self, undo: Undo) {
        for (at, bytes) in undo.0.into_iter().rev() {
            self.bytes[at..at + bytes.len()].copy_from_slice(&bytes);
        }
    }
}

impl Undo {
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }
}

/// How a list begins: its number of entries, then the entries after 4 or 8 bytes.
pub(super) struct List {
    pub(super) count: usize,
    /// Where the first entry lies.
    pub(super) at: usize,
}

impl Stream {
    /// A list of fixed entries behind a count, if its size fits; writers may pad the count.
    pub(super) fn list(&self, raw: &Raw, entry_bytes: usize) -> Option<List> {
        let count = raw.word(self.at)? as usize;
        let padding = self
            .bytes
            .checked_sub(4 + count.checked_mul(entry_bytes)?)?;
        matches!(padding, 0 | 4).then_some(List {
            count,
            at: self.at + 4 + padding,
        })
    }
}
