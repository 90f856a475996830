//! A crash: the row from which everything else about it is found.

use serde::{Deserialize, Serialize};

use super::{Body, Row};
use crate::store::StoreError;

/// The state of a crash. The numbers are keys of the table `states`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    Queued = 0,
    Deferred = 1,
    Processing = 2,
    Processed = 3,
    Failed = 4,
}

impl State {
    pub const ALL: [State; 5] = [
        Self::Queued,
        Self::Deferred,
        Self::Processing,
        Self::Processed,
        Self::Failed,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Deferred => "deferred",
            Self::Processing => "processing",
            Self::Processed => "processed",
            Self::Failed => "failed",
        }
    }
}

/// The order in which waiting crashes are handed out. The numbers are in keys of the table `ready`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Lane {
    /// Somebody waits for it: reprocessing, promotion.
    Priority = 0,
    Normal = 1,
    /// The server died more than once while a worker had it: one at a time.
    Suspect = 2,
    /// It has a result already, and may get a better one.
    Reprocess = 3,
    /// It took a fast worker too long, and waits for a slow one.
    Slow = 4,
    /// It took a slow worker too long as well. Other slow crashes go first.
    Slowest = 5,
}

impl Lane {
    /// Those of crashes that do not take long, as far as is known.
    pub(crate) const QUICK: [Lane; 3] = [Self::Priority, Self::Normal, Self::Reprocess];
    pub const ALL: [Lane; 6] = [
        Self::Priority,
        Self::Normal,
        Self::Suspect,
        Self::Reprocess,
        Self::Slow,
        Self::Slowest,
    ];
}

/// The place of a payload in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRef {
    pub segment: u32,
    /// Of the record header, in bytes from the start of the segment.
    pub offset: u64,
    /// Of the record with its header.
    pub stored_bytes: u64,
    /// Of the payload when unpacked.
    pub(crate) raw_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PartKindRow {
    Dump,
    Attachment,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PartRow {
    pub(crate) name: String,
    pub(crate) kind: PartKindRow,
    pub(crate) file_name: Option<String>,
    pub(crate) content_type: Option<String>,
    pub(crate) bytes: u64,
    pub(crate) sha256: [u8; 32],
    pub(crate) blob: BlobRef,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProcessedRow {
    pub(crate) blob: BlobRef,
    pub(crate) signature: String,
    pub(crate) processed_at_ms: i64,
}

/// The keys under which the counters count a crash; names are numbers of the table `names`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CountedRow {
    pub(crate) product: u32,
    pub(crate) version: u32,
    pub(crate) build: u32,
    pub(crate) signature: u32,
    /// 0 Windows, 1 macOS, 2 Linux, 3 any other.
    pub(crate) system: u8,
    pub(crate) uptime_s: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CrashRow {
    pub(crate) id: u128,
    pub(crate) state: State,
    pub(crate) received_at_ms: i64,
    pub(crate) product: String,
    pub(crate) version: String,
    pub(crate) throttle_rule: String,
    pub(crate) raw: BlobRef,
    pub(crate) parts: Vec<PartRow>,
    pub(crate) processed: Option<ProcessedRow>,
    pub(crate) attempts: u32,
    pub(crate) faults: u8,
    pub(crate) server_deaths: u8,
    pub(crate) reason: Option<String>,
    pub(crate) lane: Lane,
    pub(crate) deferred_until_ms: Option<i64>,
    pub(crate) counted: Option<CountedRow>,
}

impl Row for CrashRow {
    const NAME: &'static str = "a crash";
    const VERSION: u8 = 2;

    fn read_older(version: u8, body: Body<'_>) -> Option<Result<Self, StoreError>> {
        (version == 1).then(|| body.read::<CrashRowV1>().map(Self::from))
    }
}

/// Before the counters.
#[derive(Serialize, Deserialize)]
pub(super) struct CrashRowV1 {
    pub(crate) id: u128,
    pub(crate) state: State,
    pub(crate) received_at_ms: i64,
    pub(crate) product: String,
    pub(crate) version: String,
    pub(crate) throttle_rule: String,
    pub(crate) raw: BlobRef,
    pub(crate) parts: Vec<PartRow>,
    pub(crate) processed: Option<ProcessedRow>,
    pub(crate) attempts: u32,
    pub(crate) faults: u8,
    pub(crate) server_deaths: u8,
    pub(crate) reason: Option<String>,
    pub(crate) lane: Lane,
    pub(crate) deferred_until_ms: Option<i64>,
}

impl From<CrashRowV1> for CrashRow {
    fn from(old: CrashRowV1) -> Self {
        Self {
            id: old.id,
            state: old.state,
            received_at_ms: old.received_at_ms,
            product: old.product,
            version: old.version,
            throttle_rule: old.throttle_rule,
            raw: old.raw,
            parts: old.parts,
            processed: old.processed,
            attempts: old.attempts,
            faults: old.faults,
            server_deaths: old.server_deaths,
            reason: old.reason,
            lane: old.lane,
            deferred_until_ms: old.deferred_until_ms,
            counted: None,
        }
    }
}
