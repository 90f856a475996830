//! Payloads: the bytes of dumps, attachments, raw and processed crashes, in the form in which segments store
//! them.
//!
//! A payload is split into chunks of up to 256 KiB. The thread that supplies the payload compresses each
//! chunk with lz4, so the writer thread only copies. A large payload spills into an unnamed file, so memory
//! does not grow with the size of a report.
//!
//! ```text
//! chunk   u32 bytes when unpacked | u32 bytes that follow, top bit set if they are stored plain | bytes
//! ```

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::Xxh3;

use super::disk::DiskFile;
use super::error::StoreError;

/// Bytes of a payload that are compressed together.
pub(crate) const CHUNK_BYTES: usize = 256 * 1024;
/// Bytes of a spilled payload that are copied at once.
const COPY_BYTES: usize = 1024 * 1024;
const CHUNK_HEADER: usize = 8;
const PLAIN: u32 = 1 << 31;

/// A packed payload that is not in the store yet.
#[derive(Debug)]
pub struct Payload {
    pub(super) raw_bytes: u64,
    pub(super) packed_bytes: u64,
    pub(super) packed_hash: u64,
    sha256: [u8; 32],
    body: Body,
}

#[derive(Debug)]
enum Body {
    Memory(Vec<u8>),
    File(File),
}

impl Payload {
    /// Packs bytes that are already in memory.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut builder = PayloadBuilder::in_memory();
        for chunk in bytes.chunks(CHUNK_BYTES) {
            builder.pack(chunk).expect("memory takes every chunk");
        }
        builder.finish().expect("memory takes the last chunk")
    }

    /// Bytes before packing.
    pub(crate) fn bytes(&self) -> u64 {
        self.raw_bytes
    }

    /// Bytes that it uses in memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        match &self.body {
            Body::Memory(bytes) => bytes.len(),
            Body::File(_) => 0,
        }
    }

    /// SHA-256 of the bytes before packing.
    pub fn sha256(&self) -> [u8; 32] {
        self.sha256
    }

    /// Passes the packed bytes to `sink` in order. Can be called more than once.
    pub(super) fn copy_to(&self, mut sink: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        match &self.body {
            Body::Memory(bytes) => sink(bytes),
            Body::File(file) => {
                let mut file: &File = file;
                file.seek(SeekFrom::Start(0))?;
                let mut buffer = vec![0; COPY_BYTES];
                let mut left = self.packed_bytes;
                while left > 0 {
                    let n = buffer
                        .len()
                        .min(usize::try_from(left).unwrap_or(usize::MAX));
                    file.read_exact(&mut buffer[..n])?;
                    sink(&buffer[..n])?;
                    left -= n as u64;
                }
                Ok(())
            }
        }
    }
}

/// Builds a payload from pieces of any size.
pub struct PayloadBuilder {
    /// The folder to which the payload spills when its packed form exceeds this number of bytes; `None` keeps
    /// all of it in memory.
    spill: Option<(PathBuf, usize)>,
    pending: Vec<u8>,
    raw_bytes: u64,
    packed_bytes: u64,
    packed_hash: Xxh3,
    sha256: Sha256,
    body: Body,
}

impl PayloadBuilder {
    /// A payload that spills to an unnamed file below `dir` when it exceeds `memory_bytes_max`.
    pub fn spilling(dir: &Path, memory_bytes_max: usize) -> Self {
        Self {
            spill: Some((dir.to_path_buf(), memory_bytes_max)),
            ..Self::in_memory()
        }
    }

    fn in_memory() -> Self {
        Self {
            spill: None,
            pending: Vec::new(),
            raw_bytes: 0,
            packed_bytes: 0,
            packed_hash: Xxh3::new(),
            sha256: Sha256::new(),
            body: Body::Memory(Vec::new()),
        }
    }

    /// Bytes that it uses in memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        let kept = match &self.body {
            Body::Memory(bytes) => bytes.len(),
            Body::File(_) => 0,
        };
        kept + self.pending.len()
    }

    /// Bytes written so far, before packing.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> u64 {
        self.raw_bytes + self.pending.len() as u64
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// The spill file cannot be created or written, for example because the disk is full. The payload is then
    /// useless.
    pub fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = CHUNK_BYTES - self.pending.len();
            let (head, tail) = bytes.split_at(room.min(bytes.len()));
            self.pending.extend_from_slice(head);
            bytes = tail;
            if self.pending.len() == CHUNK_BYTES {
                let full = std::mem::take(&mut self.pending);
                self.pack(&full)?;
                self.pending = full;
                self.pending.clear();
            }
        }
        Ok(())
    }

    /// Packs the last bytes and returns the payload.
    ///
    /// # Errors
    /// The spill file cannot be created or written, for example because the disk is full.
    pub fn finish(mut self) -> io::Result<Payload> {
        let last = std::mem::take(&mut self.pending);
        if !last.is_empty() {
            self.pack(&last)?;
        }
        Ok(Payload {
            raw_bytes: self.raw_bytes,
            packed_bytes: self.packed_bytes,
            packed_hash: self.packed_hash.digest(),
            sha256: self.sha256.finalize().into(),
            body: self.body,
        })
    }

    fn pack(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.sha256.update(chunk);
        let mut packed =
            vec![0; CHUNK_HEADER + lz4_flex::block::get_maximum_output_size(chunk.len())];
        let squeezed = lz4_flex::block::compress_into(chunk, &mut packed[CHUNK_HEADER..])
            .ok()
            .filter(|n| *n < chunk.len());
        let flag = match squeezed {
            Some(n) => {
                packed.truncate(CHUNK_HEADER + n);
                0
            }
            None => {
                packed.truncate(CHUNK_HEADER);
                packed.extend_from_slice(chunk);
                PLAIN
            }
        };
        let stored = (packed.len() - CHUNK_HEADER) as u32 | flag;
        packed[..4].copy_from_slice(&(chunk.len() as u32).to_le_bytes());
        packed[4..CHUNK_HEADER].copy_from_slice(&stored.to_le_bytes());
        self.raw_bytes += chunk.len() as u64;
        self.packed_bytes += packed.len() as u64;
        self.packed_hash.update(&packed);
        self.keep(&packed)
    }

    fn keep(&mut self, packed: &[u8]) -> io::Result<()> {
        if let (Body::Memory(bytes), Some((dir, memory_bytes_max))) = (&self.body, &self.spill)
            && bytes.len() + packed.len() > *memory_bytes_max
        {
            let mut file = match tempfile::tempfile_in(dir) {
                // Somebody has removed the folder.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    super::disk::make_private_dir(dir)?;
                    tempfile::tempfile_in(dir)?
                }
                other => other?,
            };
            file.write_all(bytes)?;
            self.body = Body::File(file);
        }
        match &mut self.body {
            Body::Memory(bytes) => bytes.extend_from_slice(packed),
            Body::File(file) => file.write_all(packed)?,
        }
        Ok(())
    }
}

/// Unpacks a stored payload chunk by chunk. Its items are the original bytes. The last item is an error if
/// the checksum of the whole does not match.
pub struct PayloadReader {
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) offset: u64,
    pub(super) end: u64,
    pub(super) hash: Xxh3,
    pub(super) expected_hash: u64,
    pub(super) raw_bytes: u64,
    pub(super) place: String,
    pub(super) done: bool,
}

impl PayloadReader {
    /// Bytes of the whole payload when unpacked.
    pub(crate) fn bytes(&self) -> u64 {
        self.raw_bytes
    }

    /// The whole payload in memory. Its size is limited only by what the caller accepted before.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if the bytes are not the bytes that were written.
    pub fn read_all(self) -> Result<Vec<u8>, StoreError> {
        let mut all = Vec::with_capacity(usize::try_from(self.raw_bytes).unwrap_or(0));
        for chunk in self {
            all.extend_from_slice(&chunk?);
        }
        Ok(all)
    }

    fn damaged(&self, what: &str) -> StoreError {
        StoreError::Damaged(format!("{} at {}: {what}", self.place, self.offset))
    }

    fn fill(&self, offset: u64, out: &mut [u8]) -> Result<(), StoreError> {
        self.file.read_at(offset, out).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged("the file ends within the payload"),
            _ => StoreError::Unavailable(format!("{}: {e}", self.place)),
        })
    }

    fn next_chunk(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        if self.offset == self.end {
            return if self.hash.digest() == self.expected_hash {
                Ok(None)
            } else {
                Err(self.damaged("payload checksum mismatch"))
            };
        }
        let mut header = [0; CHUNK_HEADER];
        if self.end - self.offset < CHUNK_HEADER as u64 {
            return Err(self.damaged("incomplete chunk header"));
        }
        self.fill(self.offset, &mut header)?;
        let raw = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let stored = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
        let (plain, stored) = (stored & PLAIN != 0, (stored & !PLAIN) as usize);
        if raw > CHUNK_BYTES || stored as u64 > self.end - self.offset - CHUNK_HEADER as u64 {
            return Err(self.damaged("chunk is longer than its payload"));
        }
        let mut bytes = vec![0; stored];
        self.fill(self.offset + CHUNK_HEADER as u64, &mut bytes)?;
        self.hash.update(&header);
        self.hash.update(&bytes);
        self.offset += (CHUNK_HEADER + stored) as u64;
        if plain {
            return Ok(Some(bytes));
        }
        let mut unpacked = vec![0; raw];
        match lz4_flex::block::decompress_into(&bytes, &mut unpacked) {
            Ok(n) if n == raw => Ok(Some(unpacked)),
            _ => Err(self.damaged("chunk cannot be decompressed")),
        }
    }
}

impl Iterator for PayloadReader {
    type Item = Result<Vec<u8>, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let item = self.next_chunk().transpose();
        self.done = !matches!(item, Some(Ok(_)));
        item
    }
}

#[cfg(test)]
mod tests;
