//! Reads the reports that the log has and the database does not, at the start.
//!
//! Replay goes from record to record and stops at the first that is not whole. It never searches for one. It
//! follows the chain of segments, from the place that the database has reached. Other segments are left alone.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use super::record;
use crate::store::ahead::Logged;
use crate::store::disk::{Disk, DiskFile};
use crate::store::error::OpenError;
use crate::store::identity::Secret;
use crate::store::rows::{BlobRef, CrashRow, Stream};
use crate::store::segment_head::{HEAD_BYTES, Position, SegmentHead};
use crate::store::segments::{self, RecordHeader, RecordKind};

/// A log that is this many bytes ahead of the database was not left by a kill: the database is an older copy.
const REPLAY_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Bytes of a payload that are read at once.
const READ_BYTES: usize = 1024 * 1024;

/// What the log has beyond the database.
#[derive(Default)]
pub(crate) struct Replay {
    pub(crate) reports: Vec<Logged>,
    /// The end of the last whole report.
    pub(crate) end: Position,
    /// The segment of `end`, if its file ends there, so that it can be continued.
    pub(crate) open: Option<(SegmentHead, Arc<dyn DiskFile>)>,
    /// The segments that are a part of the chain.
    pub(crate) segments: Vec<u32>,
}

/// Reads the log from `from` on. `sealed_at` is the end of the segment of `from`, if nothing behind that end
/// counts. What is returned is durable.
///
/// # Errors
/// The disk cannot be read, or the log is further ahead than a kill leaves it.
pub(crate) fn replay(
    disk: &dyn Disk,
    store: u128,
    secret: &Secret,
    from: Position,
    sealed_at: Option<u64>,
) -> Result<Replay, OpenError> {
    let mut next = successors(disk, store, from)?;
    let mut found = Replay {
        end: from,
        ..Replay::default()
    };
    let mut at = from;
    let mut file = match from.segment {
        0 => None,
        segment => existing(disk, segment)?,
    };
    let mut read_bytes = 0;
    loop {
        let successor = next.remove(&at.segment);
        if let Some((head, file)) = &file {
            let length = file.len()?;
            let sealed_at = sealed_at.filter(|_| at.segment == from.segment);
            let continued_at = successor.as_ref().map(|(head, _)| head.continues.offset);
            let limit = sealed_at.or(continued_at).unwrap_or(length).min(length);
            read_bytes += limit.saturating_sub(at.offset);
            if read_bytes > REPLAY_BYTES_MAX {
                return Err(OpenError::LogTooLong {
                    bytes: read_bytes,
                    max: REPLAY_BYTES_MAX,
                });
            }
            let before = found.reports.len();
            let mut reader = Reader {
                file: &**file,
                head,
                at: at.offset,
                limit,
            };
            while let Some(report) = reader.report(secret)? {
                found.reports.push(report);
            }
            at.offset = reader.at;
            if continued_at.is_some_and(|continued_at| at.offset < continued_at) {
                let name = segments::file_name(at.segment);
                tracing::error!(
                    segment = name,
                    at.offset,
                    ?continued_at,
                    "reports in the log are damaged; those between these offsets are lost"
                );
            }
            if found.reports.len() > before {
                // The bytes may be only in memory so far.
                file.sync_data()?;
            }
            found.open =
                (length == at.offset && sealed_at.is_none()).then(|| (head.clone(), file.clone()));
        }
        found.end = at;
        let Some((head, its_file)) = successor else {
            return Ok(found);
        };
        found.segments.push(head.number);
        at = Position {
            segment: head.number,
            offset: HEAD_BYTES,
        };
        file = Some((head, its_file));
    }
}

type Opened = (SegmentHead, Arc<dyn DiskFile>);

/// The segments of the log after `from`, by the number of the segment that each continues.
fn successors(
    disk: &dyn Disk,
    store: u128,
    from: Position,
) -> Result<HashMap<u32, Opened>, OpenError> {
    let mut found: HashMap<u32, Opened> = HashMap::new();
    for name in disk.list(segments::DIR)? {
        let Some(number) = segments::number_in(&name).filter(|number| *number > from.segment)
        else {
            continue;
        };
        let Some((head, file)) = existing(disk, number)? else {
            continue;
        };
        let is_ours = head.store == store && head.number == number && head.stream == Stream::Log;
        if is_ours && head.continues.segment < number {
            found.insert(head.continues.segment, (head, file));
        }
    }
    Ok(found)
}

/// The head and the file of a segment; `None` if it does not exist or has no head.
fn existing(disk: &dyn Disk, segment: u32) -> Result<Option<Opened>, OpenError> {
    let file = match disk.open(&segments::file_name(segment)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    Ok(SegmentHead::read(&*file)?.map(|head| (head, file)))
}

/// Reads reports from a segment.
struct Reader<'f> {
    file: &'f dyn DiskFile,
    head: &'f SegmentHead,
    /// Where the next report starts.
    at: u64,
    /// Bytes behind this do not count.
    limit: u64,
}

impl Reader<'_> {
    /// The next report; `None` if the next records are no whole report.
    fn report(&mut self, secret: &Secret) -> Result<Option<Logged>, OpenError> {
        let mut hash = secret.hash();
        let mut payloads = Vec::new();
        let mut at = self.at;
        while let Some((header, bytes)) = self.header(at)? {
            let body = at + RecordHeader::BYTES;
            if header.kind == RecordKind::Report as u8 {
                if header.packed_bytes > record::CLOSING_BYTES_MAX {
                    return Ok(None);
                }
                let mut closing = vec![0; header.packed_bytes as usize];
                self.file.read_at(body, &mut closing)?;
                let Some(row) = record::closed(&closing, hash) else {
                    return Ok(None);
                };
                if row.seq != header.seq || named(&row.crash) != payloads {
                    return Ok(None);
                }
                self.at = body + header.packed_bytes;
                let end = Position {
                    segment: self.head.number,
                    offset: self.at,
                };
                return Ok(Some(Logged::of_row(row, end, self.head.created_at_ms)));
            }
            hash.update(&bytes);
            if self.hash_of(body, header.packed_bytes, &mut hash)? != header.packed_hash {
                return Ok(None);
            }
            payloads.push(BlobRef {
                segment: self.head.number,
                offset: at,
                stored_bytes: RecordHeader::BYTES + header.packed_bytes,
                raw_bytes: header.raw_bytes,
            });
            at = body + header.packed_bytes;
        }
        Ok(None)
    }

    /// The header of a record that ends before the limit.
    #[allow(clippy::type_complexity, reason = "a header in both its forms")]
    fn header(
        &self,
        at: u64,
    ) -> io::Result<Option<(RecordHeader, [u8; RecordHeader::BYTES as usize])>> {
        if at + RecordHeader::BYTES > self.limit {
            return Ok(None);
        }
        let mut bytes = [0; RecordHeader::BYTES as usize];
        self.file.read_at(at, &mut bytes)?;
        let room = self.limit - at - RecordHeader::BYTES;
        let header = RecordHeader::from_bytes(&bytes).filter(|h| h.packed_bytes <= room);
        Ok(header.map(|header| (header, bytes)))
    }

    /// The hash in the header of a record, computed from its body. `keyed` sees the body as well.
    fn hash_of(&self, mut at: u64, bytes: u64, keyed: &mut Xxh3) -> io::Result<u64> {
        let mut hash = Xxh3::new();
        let mut left = bytes;
        let mut buffer = vec![0; READ_BYTES.min(usize::try_from(left).unwrap_or(READ_BYTES))];
        while left > 0 {
            let n = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
            self.file.read_at(at, &mut buffer[..n])?;
            hash.update(&buffer[..n]);
            keyed.update(&buffer[..n]);
            at += n as u64;
            left -= n as u64;
        }
        Ok(hash.digest())
    }
}

/// The payloads that a row names, in the order in which the log has them.
fn named(row: &CrashRow) -> Vec<BlobRef> {
    std::iter::once(row.raw)
        .chain(row.parts.iter().map(|part| part.blob))
        .collect()
}
