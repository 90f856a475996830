//! The tables of `store.redb`, and the rows in them.
//!
//! ```text
//! meta        name                 -> number     counters of the store, its own id
//! ids         crash id             -> seq
//! crashes     seq                  -> CrashRow
//! ready       (lane, seq)          -> ()         waits for a worker; lanes in the order of Lane
//! working     seq                  -> attempt    handed to a worker in this life of the server
//! deferred    (kept until ms, seq) -> ()
//! changes     change               -> seq        what the indexer has not taken over yet
//! segments    segment              -> SegmentRow
//! states      state                -> crashes in it
//! ```
//!
//! A crash is in exactly one of `ready` (queued), `working` (processing), `deferred`, or in none
//! of them (processed, failed). Sequence numbers ascend with the order of receipt and are the
//! keys everywhere, since random keys would cost pages. Values are bincode behind one byte of
//! row version; a version that this program does not know is damage, never a guess.

use redb::TableDefinition;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::error::StoreError;
use crate::clock::Timestamp;
use crate::crash::id::CrashId;
use crate::crash::raw::Part;

pub const META: TableDefinition<&str, u128> = TableDefinition::new("meta");
pub const IDS: TableDefinition<u128, u64> = TableDefinition::new("ids");
pub const CRASHES: TableDefinition<u64, &[u8]> = TableDefinition::new("crashes");
pub const READY: TableDefinition<(u8, u64), ()> = TableDefinition::new("ready");
pub const WORKING: TableDefinition<u64, u32> = TableDefinition::new("working");
pub const DEFERRED: TableDefinition<(i64, u64), ()> = TableDefinition::new("deferred");
pub const CHANGES: TableDefinition<u64, u64> = TableDefinition::new("changes");
pub const SEGMENTS: TableDefinition<u32, &[u8]> = TableDefinition::new("segments");
pub const STATES: TableDefinition<u8, u64> = TableDefinition::new("states");

/// Names in `meta`.
pub mod meta {
    /// Random, made once: tells an index or a segment of another store from ours.
    pub const STORE_ID: &str = "store_id";
    pub const NEXT_SEQ: &str = "next_seq";
    pub const NEXT_CHANGE: &str = "next_change";
    pub const NEXT_SEGMENT: &str = "next_segment";
}

/// Version byte of every row. 1: the first.
const ROW_VERSION: u8 = 1;
/// No row is larger: annotations and payloads live in segments.
const ROW_BYTES_MAX: usize = 1 << 20;

/// In which of its lives a crash is.
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

/// The order in which waiting crashes are handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Lane {
    /// Somebody waits for it: reprocessing, promotion.
    Priority = 0,
    Normal = 1,
    /// Was in flight when the server died, more than once: one at a time.
    Suspect = 2,
}

/// Where a payload lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRef {
    pub segment: u32,
    /// Of the record header, in bytes from the start of the segment.
    pub offset: u64,
    /// Of the record with its header.
    pub stored_bytes: u64,
    /// Of the payload when unpacked.
    pub raw_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartRow {
    pub part: Part,
    pub blob: BlobRef,
}

/// The result of processing, as far as lists and states need it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessedRow {
    pub blob: BlobRef,
    pub signature: String,
    pub processed_at_ms: i64,
}

/// One crash: the record from which everything else about it is found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CrashRow {
    pub id: CrashId,
    pub state: State,
    pub received_at_ms: i64,
    /// From the annotations, cut to `limits::NAME_CHARS_MAX`; empty where the client named none.
    pub product: String,
    pub version: String,
    pub throttle_rule: String,
    pub raw: BlobRef,
    pub parts: Vec<PartRow>,
    pub processed: Option<ProcessedRow>,
    /// Times that it was handed to a worker.
    pub attempts: u32,
    /// Times that its walker died or overran on it, since it was last asked for.
    pub faults: u8,
    /// Times that the server died while it was in flight, since it was last finished.
    pub server_deaths: u8,
    /// Why it failed, or why the last attempt did.
    pub reason: Option<String>,
    pub lane: Lane,
    /// Key in `deferred` while it is there.
    pub deferred_until_ms: Option<i64>,
}

impl CrashRow {
    pub fn received_at(&self) -> Timestamp {
        Timestamp::from_ms(self.received_at_ms)
    }

    /// Every payload that belongs to the crash.
    pub fn blobs(&self) -> impl Iterator<Item = BlobRef> + '_ {
        std::iter::once(self.raw)
            .chain(self.parts.iter().map(|p| p.blob))
            .chain(self.processed.iter().map(|p| p.blob))
    }
}

/// Payloads that are deleted together live together, so that whole files can be unlinked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stream {
    /// Annotations, dumps and attachments.
    Raw = 0,
    /// Processed crashes.
    Processed = 1,
    /// Raw crashes that were deferred: most of them go within days.
    Deferred = 2,
}

impl Stream {
    pub const ALL: [Stream; 3] = [Self::Raw, Self::Processed, Self::Deferred];

    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Processed => "processed",
            Self::Deferred => "deferred",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SegmentRow {
    pub stream: Stream,
    /// Bytes that committed rows may point into; what lies behind is not ours.
    pub bytes: u64,
    /// Bytes of records that a row still points at.
    pub live_bytes: u64,
    pub created_at_ms: i64,
    /// Takes no more records.
    pub sealed: bool,
}

/// A row as bytes: version, then bincode.
pub fn encode(row: &impl Serialize) -> Vec<u8> {
    let mut bytes = vec![ROW_VERSION];
    bincode::serde::encode_into_std_write(row, &mut bytes, bincode::config::standard())
        .expect("rows are plain data, which bincode takes");
    bytes
}

/// Reads what [`encode`] wrote. `what` names the row in the error.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, StoreError> {
    let damaged = |why: String| StoreError::Damaged(format!("row of {what}: {why}"));
    match bytes.split_first() {
        Some((&ROW_VERSION, body)) => {
            let config = bincode::config::standard().with_limit::<ROW_BYTES_MAX>();
            bincode::serde::decode_from_slice(body, config)
                .map(|(row, _)| row)
                .map_err(|e| damaged(e.to_string()))
        }
        Some((version, _)) => Err(damaged(format!(
            "version {version}, known is {ROW_VERSION}"
        ))),
        None => Err(damaged("empty".into())),
    }
}
