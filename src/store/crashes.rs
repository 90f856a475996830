//! A crash as the store represents it, and its conversion to and from a row.

use super::rows::{
    self, BlobRef, CrashRow, Lane, PartKindRow, PartRow, ProcessedRow, State, Stored,
};
use super::tally::Counted;
use crate::clock::Timestamp;
use crate::crash::id::CrashId;
use crate::crash::raw::{Part, PartKind};

/// A file of a report, and where its bytes are.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredPart {
    pub part: Part,
    pub blob: BlobRef,
}

/// The part of a result that lists and state changes need.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredResult {
    pub blob: BlobRef,
    pub signature: String,
    pub(crate) processed_at_ms: i64,
}

/// One crash. Everything else about the crash is found from this record.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredCrash {
    pub id: CrashId,
    pub state: State,
    pub received_at_ms: i64,
    /// From the annotations, truncated to `limits::NAME_CHARS_MAX`; empty if the client sent none.
    pub(crate) product: String,
    pub(crate) version: String,
    pub(crate) throttle_rule: String,
    pub(crate) raw: BlobRef,
    pub parts: Vec<StoredPart>,
    pub processed: Option<StoredResult>,
    /// How often a worker took the crash.
    pub attempts: u32,
    /// How often its walker died or exceeded a limit since a user last requested the crash.
    pub faults: u8,
    /// How often the server died while a worker had the crash, since processing last finished.
    pub server_deaths: u8,
    /// Why it failed, or why the last attempt failed.
    pub reason: Option<String>,
    pub lane: Lane,
    /// Time part of its key in `deferred`, while it is deferred.
    pub deferred_until_ms: Option<i64>,
    /// The keys under which the counters count it, once it is processed.
    pub(crate) counted: Option<Counted>,
}

impl StoredCrash {
    pub fn received_at(&self) -> Timestamp {
        Timestamp::from_ms(self.received_at_ms)
    }

    /// The locations of all its payloads.
    pub fn blobs(&self) -> impl Iterator<Item = BlobRef> + '_ {
        std::iter::once(self.raw)
            .chain(self.parts.iter().map(|p| p.blob))
            .chain(self.processed.iter().map(|p| p.blob))
    }
}

/// The row of a crash for a list. A damaged row is left out so that the others are still shown.
pub(super) fn readable(seq: u64, row: &[u8]) -> Option<StoredCrash> {
    rows::decode(row)
        .inspect_err(|error| tracing::error!(seq, %error, "skipped a damaged crash in a list"))
        .ok()
}

impl Stored for StoredCrash {
    type Row = CrashRow;

    fn to_row(&self) -> CrashRow {
        CrashRow {
            id: self.id.bits(),
            state: self.state,
            received_at_ms: self.received_at_ms,
            product: self.product.clone(),
            version: self.version.clone(),
            throttle_rule: self.throttle_rule.clone(),
            raw: self.raw,
            parts: self.parts.iter().map(part_row).collect(),
            processed: self.processed.as_ref().map(|result| ProcessedRow {
                blob: result.blob,
                signature: result.signature.clone(),
                processed_at_ms: result.processed_at_ms,
            }),
            attempts: self.attempts,
            faults: self.faults,
            server_deaths: self.server_deaths,
            reason: self.reason.clone(),
            lane: self.lane,
            deferred_until_ms: self.deferred_until_ms,
            counted: self.counted.map(Counted::row),
        }
    }

    fn from_row(row: CrashRow) -> Self {
        Self {
            id: CrashId::from_bits(row.id),
            state: row.state,
            received_at_ms: row.received_at_ms,
            product: row.product,
            version: row.version,
            throttle_rule: row.throttle_rule,
            raw: row.raw,
            parts: row.parts.into_iter().map(part).collect(),
            processed: row.processed.map(|result| StoredResult {
                blob: result.blob,
                signature: result.signature,
                processed_at_ms: result.processed_at_ms,
            }),
            attempts: row.attempts,
            faults: row.faults,
            server_deaths: row.server_deaths,
            reason: row.reason,
            lane: row.lane,
            deferred_until_ms: row.deferred_until_ms,
            counted: row.counted.map(Counted::of_row),
        }
    }
}

fn part_row(StoredPart { part, blob }: &StoredPart) -> PartRow {
    PartRow {
        name: part.name.clone(),
        kind: match part.kind {
            PartKind::Dump => PartKindRow::Dump,
            PartKind::Attachment => PartKindRow::Attachment,
        },
        file_name: part.file_name.clone(),
        content_type: part.content_type.clone(),
        bytes: part.bytes,
        sha256: part.sha256,
        blob: *blob,
    }
}

fn part(row: PartRow) -> StoredPart {
    StoredPart {
        part: Part {
            name: row.name,
            kind: match row.kind {
                PartKindRow::Dump => PartKind::Dump,
                PartKindRow::Attachment => PartKind::Attachment,
            },
            file_name: row.file_name,
            content_type: row.content_type,
            bytes: row.bytes,
            sha256: row.sha256,
        },
        blob: row.blob,
    }
}
