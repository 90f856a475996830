//! The bytes of a dump before a reader sees them: access to the header and the directory, and the means to
//! change them.
//!
//! The minidump crates read everything that a dump requests, however much that is, and cannot be told to read
//! less. So excessive requests are removed from the dump's bytes ([`sanitize`](super::sanitize),
//! [`head`](super::head)). Every access is checked, because no offset in a dump can be trusted.

/// A directory entry: stream type, size, offset.
pub(super) const DIRECTORY_ENTRY_BYTES: usize = 12;
/// An entry of a thread list.
pub(super) const THREAD_BYTES: usize = 48;
const STREAM_COUNT_AT: usize = 8;
const DIRECTORY_AT: usize = 12;

/// Stream types, with the numbers of minidumpapiset.h and Breakpad.
pub(super) mod kind {
    pub(crate) const UNUSED: u32 = 0;
    pub(crate) const THREAD_LIST: u32 = 3;
    pub(crate) const MODULE_LIST: u32 = 4;
    pub(crate) const EXCEPTION: u32 = 6;
    pub(crate) const HANDLE_DATA: u32 = 12;
    pub(crate) const UNLOADED_MODULE_LIST: u32 = 14;
    pub(crate) const THREAD_NAMES: u32 = 24;
    /// A copy of `/proc/<pid>/maps`.
    pub(crate) const LINUX_MAPS: u32 = 0x4767_0009;
    pub(crate) const BREAKPAD_INFO: u32 = 0x4767_0001;
}

/// A dump that passed the preflight.
pub(super) struct Raw<'a> {
    bytes: &'a mut [u8],
    is_big_endian: bool,
}

/// A stream of the directory that is completely in the dump.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stream {
    /// Offset of its directory entry.
    pub(super) entry: usize,
    pub(super) at: usize,
    pub(super) bytes: usize,
}

/// Bytes before they were changed, with their offsets.
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
        Some(if self.is_big_endian {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        })
    }

    /// Changes a number. Does nothing past the end.
    pub(super) fn put(&mut self, at: usize, value: u32) {
        let bytes = if self.is_big_endian {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        };
        if let Some(place) = self.bytes.get_mut(at..at.saturating_add(4)) {
            place.copy_from_slice(&bytes);
        }
    }

    /// Moves bytes within the dump. Both ranges must be inside it.
    pub(super) fn shift(&mut self, from: usize, bytes: usize, to: usize) {
        self.bytes.copy_within(from..from + bytes, to);
    }

    pub(super) fn stream_count(&self) -> u32 {
        self.word(STREAM_COUNT_AT).unwrap_or(0)
    }

    pub(super) fn set_stream_count(&mut self, count: u32) {
        self.put(STREAM_COUNT_AT, count);
    }

    /// Offsets of the directory's entries, in order.
    pub(super) fn entries(&self) -> impl Iterator<Item = usize> + use<> {
        let directory = self.word(DIRECTORY_AT).unwrap_or(0) as usize;
        (0..self.stream_count() as usize)
            .map(move |index| directory + index * DIRECTORY_ENTRY_BYTES)
    }

    /// The stream of a type. Of several, the last one, as the reader does it.
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

    /// Saves a range before it is changed.
    pub(super) fn keep(&self, undo: &mut Undo, at: usize, bytes: usize) {
        let end = at.saturating_add(bytes).min(self.bytes.len());
        if let Some(range) = self.bytes.get(at..end) {
            undo.0.push((at, range.to_vec()));
        }
    }

    /// Restores the saved ranges in reverse order, because the ranges of a hostile dump may overlap.
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

/// A list: the number of entries, then the entries after 4 or 8 bytes.
pub(super) struct List {
    pub(super) count: usize,
    /// Offset of the first entry.
    pub(super) at: usize,
}

impl Stream {
    /// A list of fixed-size entries after a count, if its size matches. Writers may pad the count.
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
