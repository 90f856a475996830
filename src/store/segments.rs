//! Segment files: append-only logs of payloads, `segments/NNNNNNNN.pack`.
//!
//! One thread appends to a segment: the log's thread to segments of the log, the writer to others. Any thread
//! reads. A record is found only through a row, and a row is used only after the bytes that it points at are
//! synced. Bytes after the last synced record were never acknowledged. After an I/O error they are cut off; at
//! the start of the server they stay (ADR 5). In both cases the segment takes no more records.
//!
//! ```text
//! segment  head (`segment_head`) | records
//! record   "CKP1" | u8 kind | 3 bytes 0 | u64 seq | u64 raw bytes | u64 packed bytes
//!          | u64 xxh3 of the packed bytes | u64 xxh3 of the header before it | packed bytes
//! ```
//!
//! Record starts are deliberately not aligned: appending whole pages costs the kernel more.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::disk::{Disk, DiskFile};
use super::error::StoreError;
use super::payload::{Payload, PayloadReader};
use super::rows::BlobRef;
use super::segment_head::{HEAD_BYTES, SegmentHead};
use crate::clock::Timestamp;
use parking_lot::Mutex;

pub(crate) const DIR: &str = "segments";
/// A segment of this size takes no more records.
pub(crate) const SEGMENT_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// A segment of this age takes no more records. So a segment spans a limited time, and retention can delete
/// it.
pub(crate) const SEGMENT_AGE_MAX_MS: i64 = crate::clock::DAY_MS;

const MAGIC: [u8; 4] = *b"CKP1";
/// Small records are collected until they have this size, so that a batch of them is one write.
const WRITE_BYTES: usize = 256 * 1024;
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
    /// The end of a report in the log: its row.
    Report = 4,
}

/// The header of a record.
pub(crate) struct RecordHeader {
    pub(crate) kind: u8,
    pub(crate) seq: u64,
    pub(crate) raw_bytes: u64,
    pub(crate) packed_bytes: u64,
    pub(crate) packed_hash: u64,
}

impl RecordHeader {
    pub(crate) const BYTES: u64 = 48;

    fn to_bytes(&self) -> [u8; Self::BYTES as usize] {
        let mut bytes = [0; Self::BYTES as usize];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = self.kind;
        bytes[8..16].copy_from_slice(&self.seq.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.raw_bytes.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.packed_bytes.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.packed_hash.to_le_bytes());
        let check = xxh3_64(&bytes[..40]);
        bytes[40..].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// Reads a header; `None` if no record starts with these bytes.
    pub(crate) fn from_bytes(bytes: &[u8; Self::BYTES as usize]) -> Option<Self> {
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        (bytes[..4] == MAGIC && word(40) == xxh3_64(&bytes[..40])).then(|| Self {
            kind: bytes[4],
            seq: word(8),
            raw_bytes: word(16),
            packed_bytes: word(24),
            packed_hash: word(32),
        })
    }
}

pub(crate) fn file_name(segment: u32) -> String {
    format!("{DIR}/{segment:08}.pack")
}

/// The number in a segment's file name.
pub(crate) fn number_in(name: &str) -> Option<u32> {
    name.strip_suffix(".pack")?.parse().ok()
}

/// Gives each new segment its number.
#[derive(Debug, Default)]
pub(crate) struct SegmentNumbers(AtomicU32);

impl SegmentNumbers {
    /// Uses no number below `next` any more.
    pub(crate) fn start_at(&self, next: u32) {
        self.0.fetch_max(next, Ordering::Relaxed);
    }

    /// The number that the next segment will have.
    pub(crate) fn next(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Creates the file of a new segment. Its name is not durable yet.
    pub(crate) fn create(&self, disk: &dyn Disk) -> io::Result<(u32, Arc<dyn DiskFile>)> {
        loop {
            let segment = self.0.fetch_add(1, Ordering::Relaxed);
            match disk.create(&file_name(segment)) {
                // A file of an earlier process: never overwrite it.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                // Somebody has removed the folder.
                Err(error) if error.kind() == io::ErrorKind::NotFound => disk.create_dir(DIR)?,
                created => return Ok((segment, created?)),
            }
        }
    }
}

/// A segment to which records are appended.
#[derive(Debug)]
pub(crate) struct Appender {
    pub(crate) segment: u32,
    file: Arc<dyn DiskFile>,
    /// Offset of the next record.
    pub(crate) bytes: u64,
    /// The last of these bytes, which are not written yet.
    unwritten: Vec<u8>,
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
            unwritten: Vec::new(),
            created_at_ms,
            dirty: false,
            unchecked: false,
        }
    }

    /// Starts a segment in a new file.
    pub(crate) fn create(head: &SegmentHead, file: Arc<dyn DiskFile>) -> Self {
        let mut appender = Self::new(head.number, file, HEAD_BYTES, head.created_at_ms);
        appender.unwritten.extend_from_slice(&head.to_bytes());
        appender.dirty = true;
        appender.unchecked = true;
        appender
    }

    /// Appends a payload as a record. `hash` sees all bytes of the record.
    pub(crate) fn append(
        &mut self,
        kind: RecordKind,
        seq: u64,
        payload: &Payload,
        mut hash: Option<&mut Xxh3>,
    ) -> io::Result<BlobRef> {
        let header = RecordHeader {
            kind: kind as u8,
            seq,
            raw_bytes: payload.raw_bytes,
            packed_bytes: payload.packed_bytes,
            packed_hash: payload.packed_hash,
        };
        let start = self.bytes;
        let mut append = |bytes: &[u8]| {
            if let Some(hash) = &mut hash {
                hash.update(bytes);
            }
            self.write(bytes)
        };
        append(&header.to_bytes())?;
        payload.copy_to(append)?;
        Ok(BlobRef {
            segment: self.segment,
            offset: start,
            stored_bytes: self.bytes - start,
            raw_bytes: payload.raw_bytes,
        })
    }

    /// Appends a record that closes a report.
    pub(crate) fn append_closing(&mut self, seq: u64, body: &[u8]) -> io::Result<()> {
        let header = RecordHeader {
            kind: RecordKind::Report as u8,
            seq,
            raw_bytes: body.len() as u64,
            packed_bytes: body.len() as u64,
            packed_hash: xxh3_64(body),
        };
        self.write(&header.to_bytes())?;
        self.write(body)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.dirty = true;
        self.unchecked = true;
        if self.unwritten.len() + bytes.len() > WRITE_BYTES {
            self.flush()?;
        }
        if bytes.len() >= WRITE_BYTES {
            self.file.write_at(self.bytes, bytes)?;
        } else {
            self.unwritten.extend_from_slice(bytes);
        }
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.unwritten.is_empty() {
            let at = self.bytes - self.unwritten.len() as u64;
            self.file.write_at(at, &self.unwritten)?;
            self.unwritten.clear();
        }
        Ok(())
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

    /// Whether it takes no more records.
    pub(crate) fn is_full(&self, now: Timestamp) -> bool {
        self.bytes >= SEGMENT_BYTES_MAX || self.is_old(now)
    }

    pub(crate) fn is_old(&self, now: Timestamp) -> bool {
        now.ms() - self.created_at_ms >= SEGMENT_AGE_MAX_MS
    }

    /// Makes everything appended so far durable.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        if self.dirty {
            self.flush()?;
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
        let mut header = [0; RecordHeader::BYTES as usize];
        file.read_at(blob.offset, &mut header)
            .map_err(|e| match e.kind() {
                io::ErrorKind::UnexpectedEof => damaged("the file ends before it"),
                _ => StoreError::Unavailable(format!("{name}: {e}")),
            })?;
        let Some(header) = RecordHeader::from_bytes(&header) else {
            return Err(damaged("no record starts here"));
        };
        if header.packed_bytes + RecordHeader::BYTES != blob.stored_bytes
            || header.raw_bytes != blob.raw_bytes
        {
            return Err(damaged("the record does not match its row"));
        }
        Ok(PayloadReader {
            file,
            offset: blob.offset + RecordHeader::BYTES,
            end: blob.offset + blob.stored_bytes,
            hash: Xxh3::new(),
            expected_hash: header.packed_hash,
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
