//! A segment file.

use serde::{Deserialize, Serialize};

use super::{Body, Row};
use crate::store::StoreError;

/// What a segment holds. Payloads that are deleted together are in one segment, so that whole files
/// can be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stream {
    /// Annotations, dumps and attachments of reports that the log does not have: of earlier versions of the
    /// program.
    Raw = 0,
    /// Processed crashes.
    Processed = 1,
    /// The same of deferred reports: most of them are deleted within days.
    Deferred = 2,
    /// The log of reports.
    Log = 3,
}

impl Stream {
    pub(crate) const ALL: [Stream; 4] = [Self::Raw, Self::Processed, Self::Deferred, Self::Log];
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SegmentRow {
    pub(crate) stream: Stream,
    /// Bytes that committed rows may point into. Bytes after them are not acknowledged.
    pub bytes: u64,
    /// Bytes of records that a row points at.
    pub live_bytes: u64,
    pub(crate) created_at_ms: i64,
    /// Takes no more records.
    pub(crate) sealed: bool,
    /// No row points into it: its file is being removed, and then this row.
    pub dead: bool,
}

impl Row for SegmentRow {
    const NAME: &'static str = "a segment";
    const VERSION: u8 = 2;

    fn read_older(version: u8, body: Body<'_>) -> Option<Result<Self, StoreError>> {
        (version == 1).then(|| body.read::<SegmentRowV1>().map(Self::from))
    }
}

/// Before a removal could be finished after a kill.
#[derive(Serialize, Deserialize)]
pub(super) struct SegmentRowV1 {
    pub(crate) stream: Stream,
    pub bytes: u64,
    pub live_bytes: u64,
    pub(crate) created_at_ms: i64,
    pub(crate) sealed: bool,
}

impl From<SegmentRowV1> for SegmentRow {
    fn from(old: SegmentRowV1) -> Self {
        Self {
            stream: old.stream,
            bytes: old.bytes,
            live_bytes: old.live_bytes,
            created_at_ms: old.created_at_ms,
            sealed: old.sealed,
            dead: false,
        }
    }
}
