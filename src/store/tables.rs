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
//! The tables of counts are described in [`super::counters`] and [`super::sightings`], those of bugs in [`super::bugs`],
//! those of late symbols in [`super::mends`], those of symbols in [`super::symbols`], those of signatures in
//! [`super::signing`], those of reports that come again in [`super::repeats`], those of accounts in [`super::accounts`],
//! that of retention in [`super::passes`].
//!
//! A crash is in exactly one of `ready` (queued), `working` (processing), `deferred`, or in none
//! of them (processed, failed). Sequence numbers ascend with the order of receipt and are the
//! keys everywhere, since random keys would cost pages. Values are bincode behind one byte of
//! row version; a version that this program does not know is damage, never a guess.

use redb::TableDefinition;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::counters::Counted;
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
pub const NAMES: TableDefinition<&str, u32> = TableDefinition::new("names");
pub const NAME_TEXTS: TableDefinition<u32, &str> = TableDefinition::new("name_texts");
pub const COUNTERS: TableDefinition<(u32, u32, u32, u32), &[u8]> = TableDefinition::new("counters");
/// Signature, day, product, version, build.
pub type SightingKey = (u32, u32, u32, u32, u32);
pub const SIGHTINGS: TableDefinition<SightingKey, (u64, i64, i64)> =
    TableDefinition::new("sightings");
/// A sighting, time of receipt in ms, seq.
pub type SeenKey = (u32, u32, u32, u32, u32, i64, u64);
pub const SEEN: TableDefinition<SeenKey, ()> = TableDefinition::new("seen");
pub const GONE: TableDefinition<SightingKey, (i64, i64)> = TableDefinition::new("gone");
pub const PRODUCT_TOTALS: TableDefinition<u32, u64> = TableDefinition::new("product_totals");
pub const DECISIONS: TableDefinition<(u32, u32, u8, u32, u32), u64> =
    TableDefinition::new("decisions");
pub const BUGS: TableDefinition<(&str, &str), &[u8]> = TableDefinition::new("bugs");
pub const BUG_SIGNATURES: TableDefinition<(&str, &str, &str), u8> =
    TableDefinition::new("bug_signatures");
pub const SIGNATURE_BUGS: TableDefinition<(&str, &str, &str), ()> =
    TableDefinition::new("signature_bugs");
pub const TRACKERS: TableDefinition<&str, i64> = TableDefinition::new("trackers");

pub const LACKS: TableDefinition<(u64, u32), ()> = TableDefinition::new("lacks");
pub const LACKING: TableDefinition<(u32, u64), ()> = TableDefinition::new("lacking");
pub const LACK_TOTALS: TableDefinition<u32, u64> = TableDefinition::new("lack_totals");
pub const LACK_RELEASES: TableDefinition<(u32, u32, u32), u64> =
    TableDefinition::new("lack_releases");
pub const MENDING: TableDefinition<u64, u64> = TableDefinition::new("mending");
pub const IN_MENDING: TableDefinition<u64, u64> = TableDefinition::new("in_mending");
pub const MENDS: TableDefinition<u64, &[u8]> = TableDefinition::new("mends");
pub const SYMBOLS: TableDefinition<&str, &[u8]> = TableDefinition::new("symbols");
pub const SYMBOL_NAMES: TableDefinition<(&str, &str), ()> = TableDefinition::new("symbol_names");
pub const SYMBOL_CODES: TableDefinition<(&str, &str), ()> = TableDefinition::new("symbol_codes");
pub const SYMBOL_PINS: TableDefinition<(&str, &str), ()> = TableDefinition::new("symbol_pins");
pub const SYMBOL_MISSES: TableDefinition<(&str, &str), i64> = TableDefinition::new("symbol_misses");

pub const MEND_SIGNATURES: TableDefinition<(u64, u8, u32), u64> =
    TableDefinition::new("mend_signatures");

pub const SIGNED: TableDefinition<u64, (u64, u32, u64)> = TableDefinition::new("signed");
pub const INPUTS: TableDefinition<u64, &[u8]> = TableDefinition::new("inputs");
pub const INPUT_USES: TableDefinition<u64, u64> = TableDefinition::new("input_uses");
pub const INPUT_IDS: TableDefinition<u128, u64> = TableDefinition::new("input_ids");
pub const FRAMES: TableDefinition<u32, &[u8]> = TableDefinition::new("frames");
pub const FRAME_IDS: TableDefinition<u128, u32> = TableDefinition::new("frame_ids");
pub const LIST_REVISIONS: TableDefinition<u64, &[u8]> = TableDefinition::new("list_revisions");
pub const RESIGNS: TableDefinition<u64, &[u8]> = TableDefinition::new("resigns");
pub const OUTDATED: TableDefinition<u64, ()> = TableDefinition::new("outdated");
pub const MOVES: TableDefinition<(u32, u32), u64> = TableDefinition::new("moves");
pub const MOVED_FROM: TableDefinition<(u32, u32), ()> = TableDefinition::new("moved_from");

pub const USERS: TableDefinition<&str, &[u8]> = TableDefinition::new("users");
pub const KEYS: TableDefinition<u64, &[u8]> = TableDefinition::new("keys");
pub const KEY_HASHES: TableDefinition<&[u8; 32], u64> = TableDefinition::new("key_hashes");
pub const SESSIONS: TableDefinition<&[u8; 32], &[u8]> = TableDefinition::new("sessions");
pub const PASSES: TableDefinition<&str, &[u8]> = TableDefinition::new("passes");
pub const SEARCHES: TableDefinition<u64, &[u8]> = TableDefinition::new("searches");

pub const REPEATS: TableDefinition<u128, (u64, i64)> = TableDefinition::new("repeats");
pub const REPEAT_DIGESTS: TableDefinition<u64, u128> = TableDefinition::new("repeat_digests");

/// Names in `meta`.
pub mod meta {
    /// Random, made once: tells an index or a segment of another store from ours.
    pub const STORE_ID: &str = "store_id";
    pub const NEXT_SEQ: &str = "next_seq";
    pub const NEXT_CHANGE: &str = "next_change";
    pub const NEXT_SEGMENT: &str = "next_segment";
    pub const NEXT_NAME: &str = "next_name";
    pub const NEXT_MEND: &str = "next_mend";
    pub const NEXT_INPUT: &str = "next_input";
    pub const NEXT_FRAME: &str = "next_frame";
    pub const NEXT_KEY: &str = "next_key";
    pub const NEXT_SEARCH: &str = "next_search";
}

/// A kind of row: what stands before its bincode, and how older ones are read.
pub trait Row: Serialize + DeserializeOwned {
    /// For errors: "a crash".
    const NAME: &'static str;
    /// Its first byte, as written today.
    const VERSION: u8;

    /// The bytes of an older version in today's layout.
    fn upgrade(_version: u8, _body: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

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
    /// Has a result already, and may get a better one.
    Mend = 3,
    /// Takes a walker longer than most do: it waits for those who have time.
    Slow = 4,
    /// Was not done in the time of slow ones either: they need not wait for it.
    Slowest = 5,
}

impl Lane {
    /// Those of crashes that do not take long, as far as is known.
    pub const QUICK: [Lane; 3] = [Self::Priority, Self::Normal, Self::Mend];
    pub const ALL: [Lane; 6] = [
        Self::Priority,
        Self::Normal,
        Self::Suspect,
        Self::Mend,
        Self::Slow,
        Self::Slowest,
    ];
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
    /// As what it stands in the counters, once it has been processed.
    pub counted: Option<Counted>,
}

impl Row for CrashRow {
    const NAME: &'static str = "a crash";
    /// 2: `counted` at the end.
    const VERSION: u8 = 2;

    fn upgrade(version: u8, body: &[u8]) -> Option<Vec<u8>> {
        const NONE: u8 = 0;
        (version == 1).then(|| [body, &[NONE]].concat())
    }
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
    /// Holds nothing that a row points at: its file is being removed, and then this row.
    pub dead: bool,
}

impl Row for SegmentRow {
    const NAME: &'static str = "a segment";
    /// 2: `dead` at the end.
    const VERSION: u8 = 2;

    fn upgrade(version: u8, body: &[u8]) -> Option<Vec<u8>> {
        const FALSE: u8 = 0;
        (version == 1).then(|| [body, &[FALSE]].concat())
    }
}

/// A row as bytes: version, then bincode.
pub fn encode<T: Row>(row: &T) -> Vec<u8> {
    let mut bytes = vec![T::VERSION];
    bincode::serde::encode_into_std_write(row, &mut bytes, bincode::config::standard())
        .expect("rows are plain data, which bincode takes");
    bytes
}

/// Reads what [`encode`] wrote, now or earlier.
pub fn decode<T: Row>(bytes: &[u8]) -> Result<T, StoreError> {
    let damaged = |why: String| StoreError::Damaged(format!("row of {}: {why}", T::NAME));
    let body = |body: &[u8]| {
        let config = bincode::config::standard().with_limit::<ROW_BYTES_MAX>();
        bincode::serde::decode_from_slice(body, config)
            .map(|(row, _)| row)
            .map_err(|e| damaged(e.to_string()))
    };
    match bytes.split_first() {
        Some((&version, bytes)) if version == T::VERSION => body(bytes),
        Some((&version, bytes)) => match T::upgrade(version, bytes) {
            Some(bytes) => body(&bytes),
            None => Err(damaged(format!(
                "version {version}, known is {}",
                T::VERSION
            ))),
        },
        None => Err(damaged("empty".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_before_the_counters_reads_as_not_counted() {
        let blob = BlobRef {
            segment: 1,
            offset: 2,
            stored_bytes: 3,
            raw_bytes: 4,
        };
        let row = CrashRow {
            id: "5c3f1b52-9a0e-4d1f-8a77-2f10c0261122"
                .parse()
                .expect("an id"),
            state: State::Queued,
            received_at_ms: 5,
            product: "P".into(),
            version: "1".into(),
            throttle_rule: "r".into(),
            raw: blob,
            parts: Vec::new(),
            processed: None,
            attempts: 0,
            faults: 0,
            server_deaths: 0,
            reason: None,
            lane: Lane::Normal,
            deferred_until_ms: Some(6),
            counted: None,
        };
        let mut bytes = encode(&row);
        assert_eq!(decode::<CrashRow>(&bytes).expect("today's"), row);
        bytes[0] = 1;
        bytes.pop();
        assert_eq!(decode::<CrashRow>(&bytes).expect("yesterday's"), row);
        bytes[0] = 3;
        let error = decode::<CrashRow>(&bytes).expect_err("tomorrow's");
        assert!(
            error.to_string().contains("version 3, known is 2"),
            "{error}"
        );
    }
}
