//! A segment returns exactly the payloads that were appended, however they were split into pieces before.

use std::fs::OpenOptions;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::*;
use crate::store::disk::{Disk, OsDisk};
use crate::store::rows::BlobRef;
use crate::store::segments::{self, Appender, Readers, RecordKind};

/// Small pseudo-random numbers, the same on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// Bytes that do or do not compress.
    fn bytes(&mut self, len: usize, packs: bool) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            let word = self.next() & if packs { 0x0303 } else { u64::MAX };
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}

fn packed(payload: &Payload) -> Vec<u8> {
    let mut all = Vec::new();
    let copied = payload.copy_to(|bytes| {
        all.extend_from_slice(bytes);
        Ok(())
    });
    copied.unwrap();
    all
}

/// A segment in a temporary folder.
struct Segment {
    root: tempfile::TempDir,
    appender: Appender,
    readers: Readers,
}

impl Segment {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(OsDisk::new(root.path()).unwrap());
        disk.create_dir(segments::DIR).unwrap();
        let file = disk.create(&segments::file_name(1)).unwrap();
        Self {
            root,
            appender: Appender::new(1, file, 0, 0),
            readers: Readers::new(disk),
        }
    }

    fn append(&mut self, payload: &Payload) -> BlobRef {
        let blob = self
            .appender
            .append(RecordKind::Part, 1, payload, None)
            .unwrap();
        assert_eq!(blob.offset + blob.stored_bytes, self.appender.bytes);
        self.appender.sync().unwrap();
        blob
    }

    fn read(&self, blob: BlobRef) -> Result<Vec<u8>, StoreError> {
        self.readers.read(blob)?.read_all()
    }
}

#[test]
fn any_size_in_pieces_of_any_size_comes_back_as_it_was() {
    let mut random = Random(0x5eed);
    let mut segment = Segment::new();
    let spill = tempfile::tempdir().unwrap();
    let edges = [
        0,
        1,
        CHUNK_BYTES - 1,
        CHUNK_BYTES,
        CHUNK_BYTES + 1,
        2 * CHUNK_BYTES,
    ];
    let sizes = edges
        .into_iter()
        .chain((0..14).map(|_| random.below(3 << 20)));
    let sizes: Vec<usize> = sizes.chain([3 << 20]).collect();
    let mut stored = Vec::new();
    for (at, size) in sizes.into_iter().enumerate() {
        let bytes = random.bytes(size, at % 2 == 0);
        let whole = Payload::from_bytes(&bytes);
        // The same bytes again, but written in pieces of any size and spilled at any size.
        let spill_at = random.below(1 << 20);
        let mut builder = PayloadBuilder::spilling(spill.path(), spill_at);
        let mut rest = &bytes[..];
        let piece_max = 1 + random.below(600_000);
        while !rest.is_empty() {
            let piece = (1 + random.below(piece_max)).min(rest.len());
            builder.write(&rest[..piece]).unwrap();
            rest = &rest[piece..];
            assert_eq!(builder.bytes(), (size - rest.len()) as u64);
        }
        let spilled = builder.finish().unwrap();
        assert!(
            packed(&whole) == packed(&spilled),
            "{size} bytes pack in two ways"
        );
        assert_eq!(
            spilled.memory_bytes() == 0,
            packed(&whole).len() > spill_at || size == 0
        );
        for payload in [&whole, &spilled] {
            assert_eq!(payload.bytes(), size as u64);
            assert_eq!(payload.sha256(), <[u8; 32]>::from(Sha256::digest(&bytes)));
            assert_eq!(payload.packed_bytes, packed(payload).len() as u64);
        }
        stored.push((segment.append(&whole), bytes.clone()));
        stored.push((segment.append(&spilled), bytes));
    }
    // Later appends have not changed the earlier records.
    for (blob, bytes) in &stored {
        assert!(segment.read(*blob).unwrap() == *bytes, "{blob:?}");
        assert_eq!(
            segment.readers.read(*blob).unwrap().bytes(),
            bytes.len() as u64
        );
    }
}

#[test]
fn what_does_not_pack_grows_by_its_chunk_headers_alone() {
    let bytes = Random(7).bytes(2 * CHUNK_BYTES + 5, false);
    let payload = Payload::from_bytes(&bytes);
    assert_eq!(
        payload.packed_bytes,
        (bytes.len() + 3 * CHUNK_HEADER) as u64
    );
    let zeros = Payload::from_bytes(&vec![0; 3 << 20]);
    assert!(zeros.packed_bytes < 20_000, "{}", zeros.packed_bytes);
}

#[test]
fn a_spilled_payload_can_be_copied_again() {
    let spill = tempfile::tempdir().unwrap();
    let mut builder = PayloadBuilder::spilling(spill.path(), 10);
    builder.write(&Random(1).bytes(3 << 20, false)).unwrap();
    let payload = builder.finish().unwrap();
    assert_eq!(payload.memory_bytes(), 0);
    assert!(packed(&payload) == packed(&payload));
    // The spilled file has no name, so nothing can be left behind.
    assert_eq!(spill.path().read_dir().unwrap().count(), 0);
}

#[test]
fn a_spill_folder_that_was_cleared_away_is_made_again() {
    let root = tempfile::tempdir().unwrap();
    let spill = root.path().join("incoming");
    let mut builder = PayloadBuilder::spilling(&spill, 10);
    builder.write(&Random(1).bytes(CHUNK_BYTES, false)).unwrap();
    assert_eq!(builder.finish().unwrap().bytes(), CHUNK_BYTES as u64);
    std::fs::write(root.path().join("file"), b"").unwrap();
    let mut builder = PayloadBuilder::spilling(&root.path().join("file/incoming"), 10);
    assert!(builder.write(&Random(1).bytes(CHUNK_BYTES, false)).is_err());
}

#[test]
fn a_record_that_its_row_does_not_fit_is_damage() {
    let mut segment = Segment::new();
    let bytes = Random(2).bytes(1000, false);
    let blob = segment.append(&Payload::from_bytes(&bytes));
    let wrong = [
        BlobRef { offset: 1, ..blob },
        BlobRef {
            offset: 1 << 40,
            ..blob
        },
        BlobRef {
            raw_bytes: 999,
            ..blob
        },
        BlobRef {
            stored_bytes: 900,
            ..blob
        },
        BlobRef { segment: 2, ..blob },
    ];
    for wrong in wrong {
        let found = segment.read(wrong);
        assert!(matches!(found, Err(StoreError::Damaged(_))), "{wrong:?}");
    }
    assert_eq!(segment.read(blob).unwrap(), bytes);
    let path = segment.root.path().join(segments::file_name(1));
    let file = OpenOptions::new().write(true).open(path).unwrap();
    for len in [blob.stored_bytes - 1, 60, 50, 10, 0] {
        file.set_len(len).unwrap();
        let found = segment.read(blob);
        assert!(matches!(found, Err(StoreError::Damaged(_))), "cut to {len}");
    }
}
