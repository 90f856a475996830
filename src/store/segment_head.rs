//! The head of a segment file: whose it is, and where it continues the log of reports.
//!
//! ```text
//! head  "CKS2" | u8 stream | 3 bytes 0 | u32 number | u32 predecessor | u64 end of the predecessor
//!       | u64 life | i64 created ms | u128 store id | u64 xxh3 of the bytes before
//! ```
//!
//! Segments that earlier versions of the program created have no head.

use std::io;

use xxhash_rust::xxh3::xxh3_64;

use super::disk::DiskFile;
use super::rows::Stream;

/// Offset of the first record.
pub(crate) const HEAD_BYTES: u64 = 64;

const MAGIC: [u8; 4] = *b"CKS2";
const CHECKED: usize = HEAD_BYTES as usize - 8;

/// A place in the log of reports. Later places are greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    /// 0 before the first segment.
    pub(crate) segment: u32,
    pub(crate) offset: u64,
}

impl Position {
    /// For the table `meta`.
    pub(crate) fn to_number(self) -> u128 {
        u128::from(self.segment) << 64 | u128::from(self.offset)
    }

    pub(crate) fn from_number(number: u128) -> Self {
        Self {
            segment: (number >> 64) as u32,
            offset: number as u64,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHead {
    /// Id of the store that it belongs to.
    pub(crate) store: u128,
    /// Number of the server process that created it.
    pub(crate) life: u64,
    pub(crate) stream: Stream,
    pub(crate) number: u32,
    pub(crate) created_at_ms: i64,
    /// Where the log ended when this segment was created to continue it. Not used by other streams.
    pub(crate) continues: Position,
}

impl SegmentHead {
    pub(crate) fn to_bytes(&self) -> [u8; HEAD_BYTES as usize] {
        let mut bytes = [0; HEAD_BYTES as usize];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = self.stream as u8;
        bytes[8..12].copy_from_slice(&self.number.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.continues.segment.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.continues.offset.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.life.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.created_at_ms.to_le_bytes());
        bytes[40..56].copy_from_slice(&self.store.to_le_bytes());
        let check = xxh3_64(&bytes[..CHECKED]);
        bytes[CHECKED..].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// Reads the head of a segment file; `None` if the file has none.
    pub(crate) fn read(file: &dyn DiskFile) -> io::Result<Option<Self>> {
        let mut bytes = [0; HEAD_BYTES as usize];
        match file.read_at(0, &mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        }
        Ok(Self::from_bytes(&bytes))
    }

    /// Whether a kill interrupted the creation of this file: it has at most a head, and so no record.
    pub(crate) fn is_unfinished(file: &dyn DiskFile) -> io::Result<bool> {
        let len = file.len()?;
        if len > HEAD_BYTES {
            return Ok(false);
        }
        let mut start = [0; MAGIC.len()];
        let start = &mut start[..MAGIC.len().min(len as usize)];
        file.read_at(0, start)?;
        Ok(MAGIC.starts_with(start) || start.iter().all(|byte| *byte == 0))
    }

    fn from_bytes(bytes: &[u8; HEAD_BYTES as usize]) -> Option<Self> {
        let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        let short = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        if bytes[..4] != MAGIC || long(CHECKED) != xxh3_64(&bytes[..CHECKED]) {
            return None;
        }
        let stream = Stream::ALL.into_iter().find(|s| *s as u8 == bytes[4])?;
        Some(Self {
            store: u128::from(long(48)) << 64 | u128::from(long(40)),
            life: long(24),
            stream,
            number: short(8),
            created_at_ms: long(32) as i64,
            continues: Position {
                segment: short(12),
                offset: long(16),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_reads_as_written_and_a_damaged_one_does_not() {
        let head = SegmentHead {
            store: u128::MAX - 7,
            life: 3,
            stream: Stream::Log,
            number: 9,
            created_at_ms: -5,
            continues: Position {
                segment: 8,
                offset: 1 << 40,
            },
        };
        let bytes = head.to_bytes();
        assert_eq!(SegmentHead::from_bytes(&bytes), Some(head));
        for at in 0..bytes.len() {
            let mut damaged = bytes;
            damaged[at] ^= 0x10;
            assert_eq!(SegmentHead::from_bytes(&damaged), None, "byte {at}");
        }
    }

    #[test]
    fn positions_are_ordered_and_kept_as_numbers() {
        let at = |segment, offset| Position { segment, offset };
        assert!(at(1, 900) < at(2, 64) && at(2, 64) < at(2, 65));
        for position in [at(0, 0), at(7, u64::MAX), at(u32::MAX, 64)] {
            assert_eq!(Position::from_number(position.to_number()), position);
        }
    }
}
