//! Segment files: append-only logs of payloads, `segments/NNNNNNNN.pack`.
//!
//! Only the writer thread appends; any thread reads. A record is found only through a row of redb, and a row
//! is committed only after the bytes that it points at are synced. Bytes after the committed length of a
//! segment were never acknowledged. After an I/O error the writer cuts them off; at the start of the server
//! they stay (ADR 5). In both cases the segment takes no more records.
//!
//! ```text
//! record  "CKP1" | u8 kind | 3 bytes 0 | u64 seq | u64 raw bytes | u64 packed bytes
//!         | u64 xxh3 of the packed bytes | u64 xxh3 of the header before it | packed bytes
//! ```
//!
//! Record starts are deliberately not aligned: appending whole pages costs the kernel more.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::disk::{Disk, DiskFile};
use super::error::StoreError;
use super::payload::{Payload, PayloadReader};
use super::rows::BlobRef;
use parking_lot::Mutex;

pub(crate) const DIR: &str = "segments";
/// A segment of this size takes no more records.
pub(crate) const SEGMENT_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// A segment of this age takes no more records. So a segment spans a limited time, and retention can delete
/// it.
pub(crate) const SEGMENT_AGE_MAX_MS: i64 = crate::clock::DAY_MS;

const MAGIC: [u8; 4] = *b"CKP1";
const HEADER_BYTES: usize = 48;
/// Limit of files kept open for reading.
const READERS_MAX: usize = 128;

/// What a record contains. Only tools that read a segment without its rows need this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordKind {
    /// Annotations and metadata, JSON.
    Raw = 1,
    Part = 2,
    /// A processed crash, JSON.
    Processed = 3,
}

pub(crate) fn file_name(segment: u32) -> String {
    format!("{DIR}/{segment:08}.pack")
}

/// The number in a segment's file name.
pub(crate) fn number_in(name: &str) -> Option<u32> {
    name.strip_suffix(".pack")?.parse().ok()
}

/// A segment to which records are appended.
#[derive(Debug)]
pub(crate) struct Appender {
    pub(crate) segment: u32,
    file: Arc<dyn DiskFile>,
    /// Offset of the next record.
    pub(crate) bytes: u64,
    pub(crate) created_at_ms: i64,
    dirty: bool,
    /// Whether records were appended since the last [`Appender::check_in_place`].
    unchecked: bool,
}

impl Appender {
    pub(crate) fn new(
        segment: u32,
        file: Arc<dyn DiskFile>,
        bytes: u64,
        created_at_ms: i64,
    ) -> Self {
        Self {
            segment,
            file,
            bytes,
            created_at_ms,
            dirty: false,
            unchecked: false,
        }
    }

    pub(crate) fn append(
        &mut self,
        kind: RecordKind,
        seq: u64,
        payload: &Payload,
    ) -> io::Result<BlobRef> {
        let mut header = [0u8; HEADER_BYTES];
        header[..4].copy_from_slice(&MAGIC);
        header[4] = kind as u8;
        header[8..16].copy_from_slice(&seq.to_le_bytes());
        header[16..24].copy_from_slice(&payload.raw_bytes.to_le_bytes());
        header[24..32].copy_from_slice(&payload.packed_bytes.to_le_bytes());
        header[32..40].copy_from_slice(&payload.packed_hash.to_le_bytes());
        let check = xxh3_64(&header[..40]);
        header[40..].copy_from_slice(&check.to_le_bytes());

        let start = self.bytes;
        self.dirty = true;
        self.unchecked = true;
        self.file.write_at(start, &header)?;
        let mut at = start + HEADER_BYTES as u64;
        payload.copy_to(|bytes| {
            self.file.write_at(at, bytes)?;
            at += bytes.len() as u64;
            Ok(())
        })?;
        self.bytes = at;
        Ok(BlobRef {
            segment: self.segment,
            offset: start,
            stored_bytes: at - start,
            raw_bytes: payload.raw_bytes,
        })
    }

    /// Fails if records were appended to a file that no longer has its name, because nobody would find these
    /// records again.
    pub(crate) fn check_in_place(&mut self) -> Result<(), StoreError> {
        if self.unchecked && !self.file.is_in_place()? {
            let name = file_name(self.segment);
            return Err(StoreError::Unavailable(format!(
                "{name} was removed or replaced while the server was running"
            )));
        }
        self.unchecked = false;
        Ok(())
    }

    /// Makes everything appended so far durable.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        if self.dirty {
            self.file.sync_data()?;
            self.dirty = false;
        }
        Ok(())
    }
}

/// Reads payloads and keeps a limited number of files open.
#[derive(Debug)]
pub(crate) struct Readers {
    disk: Arc<dyn Disk>,
    open: Mutex<HashMap<u32, Arc<dyn DiskFile>>>,
}

impl Readers {
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Self {
        Self {
            disk,
            open: Mutex::new(HashMap::new()),
        }
    }

    /// Returns a reader of one payload. The record's header is checked here, its body while it is read.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if the file is missing or its bytes do not match; other records are not
    /// affected. [`StoreError::Unavailable`] if the disk failed.
    pub(crate) fn read(&self, blob: BlobRef) -> Result<PayloadReader, StoreError> {
        let name = file_name(blob.segment);
        let file = self.file(blob.segment, &name)?;
        let damaged =
            |what: &str| StoreError::Damaged(format!("{name} at {}: {what}", blob.offset));
        let mut header = [0; HEADER_BYTES];
        file.read_at(blob.offset, &mut header)
            .map_err(|e| match e.kind() {
                io::ErrorKind::UnexpectedEof => damaged("the file ends before it"),
                _ => StoreError::Unavailable(format!("{name}: {e}")),
            })?;
        let word = |at: usize| {
            u64::from_le_bytes(
                header[at..at + 8]
                    .try_into()
                    .expect("eight bytes of a fixed header"),
            )
        };
        if header[..4] != MAGIC || word(40) != xxh3_64(&header[..40]) {
            return Err(damaged("no record starts here"));
        }
        if word(24) + HEADER_BYTES as u64 != blob.stored_bytes || word(16) != blob.raw_bytes {
            return Err(damaged("the record does not match its row"));
        }
        Ok(PayloadReader {
            file,
            offset: blob.offset + HEADER_BYTES as u64,
            end: blob.offset + blob.stored_bytes,
            hash: Xxh3::new(),
            expected_hash: word(32),
            raw_bytes: blob.raw_bytes,
            place: name,
            done: false,
        })
    }

    /// Deletes the files of segments. Returns the segments whose files are gone for good.
    ///
    /// # Errors
    /// The folder cannot be synced. The files may come back after a power cut.
    pub(crate) fn remove(&self, segments: &[u32]) -> io::Result<Vec<u32>> {
        let mut gone = Vec::with_capacity(segments.len());
        for &segment in segments {
            // As long as the file is open, the system does not free its space.
            self.open.lock().remove(&segment);
            match self.disk.remove(&file_name(segment)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(segment, %error, "a segment that is not needed cannot be removed");
                }
                _ => gone.push(segment),
            }
        }
        if !gone.is_empty() {
            self.disk.sync_dir(DIR)?;
        }
        Ok(gone)
    }

    fn file(&self, segment: u32, name: &str) -> Result<Arc<dyn DiskFile>, StoreError> {
        let mut open = self.open.lock();
        if let Some(file) = open.get(&segment) {
            return Ok(file.clone());
        }
        let file = self.disk.open(name).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => StoreError::Damaged(format!("{name} is missing")),
            _ => StoreError::Unavailable(format!("{name}: {e}")),
        })?;
        if open.len() >= READERS_MAX {
            open.clear();
        }
        open.insert(segment, file.clone());
        Ok(file)
    }
}
