//! The tables of `store.redb`.
//!
//! ```text
//! meta        name                 -> number     counters of the store, its own id
//! ids         crash id             -> seq
//! crashes     seq                  -> CrashRow
//! ready       (lane, seq)          -> ()         waits for a worker; lanes in the order of Lane
//! working     seq                  -> attempt    empty; earlier versions stored here what workers had
//! deferred    (kept until ms, seq) -> ()
//! changes     change               -> seq        not yet durable in the index
//! segments    segment              -> SegmentRow
//! states      state                -> crashes in it
//! ```
//!
//! These modules describe the other tables: [`super::counters`] and [`super::sightings`] (counts),
//! [`super::bugs`], [`super::lacks`] and [`super::reprocess`] (late symbols), [`super::symbols`], [`super::signatures`] (signatures),
//! [`super::repeats`] (reports that a client sends again), [`super::accounts`] and [`super::passes`]
//! (retention).
//!
//! A crash is in exactly one of `ready` (queued) and `deferred`, or in none of them (processed, failed). Sequence numbers ascend in the order of receipt. They are the keys of all tables,
//! because random keys would cost pages. Values with fields are the structs of [`super::rows`].

use redb::TableDefinition;

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
/// The id of a text in `names`.
pub(crate) type NameId = u32;
/// Signature, day, product, version, build.
pub(crate) type SightingKey = (u32, u32, u32, u32, u32);
pub const SIGHTINGS: TableDefinition<SightingKey, (u64, i64, i64)> =
    TableDefinition::new("sightings");
/// A sighting, time of receipt in ms, seq.
pub(crate) type SeenKey = (u32, u32, u32, u32, u32, i64, u64);
pub const SEEN: TableDefinition<SeenKey, ()> = TableDefinition::new("seen");
pub const GONE: TableDefinition<SightingKey, (i64, i64)> = TableDefinition::new("gone");
pub(crate) const PRODUCT_TOTALS: TableDefinition<u32, u64> = TableDefinition::new("product_totals");
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
pub(crate) const LACK_TOTALS: TableDefinition<u32, u64> = TableDefinition::new("lack_totals");
pub(crate) const LACK_RELEASES: TableDefinition<(u32, u32, u32), u64> =
    TableDefinition::new("lack_releases");
pub const REPROCESS_WAITING: TableDefinition<u64, u64> = TableDefinition::new("mending");
pub const REPROCESS_WORKING: TableDefinition<u64, u64> = TableDefinition::new("in_mending");
pub const REPROCESSINGS: TableDefinition<u64, &[u8]> = TableDefinition::new("mends");
pub const SYMBOLS: TableDefinition<&str, &[u8]> = TableDefinition::new("symbols");
pub const SYMBOL_NAMES: TableDefinition<(&str, &str), ()> = TableDefinition::new("symbol_names");
pub const SYMBOL_CODES: TableDefinition<(&str, &str), ()> = TableDefinition::new("symbol_codes");
pub const SYMBOL_PINS: TableDefinition<(&str, &str), ()> = TableDefinition::new("symbol_pins");
pub const SYMBOL_MISSES: TableDefinition<(&str, &str), i64> = TableDefinition::new("symbol_misses");

pub const REPROCESSING_SIGNATURES: TableDefinition<(u64, u8, u32), u64> =
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

/// Number of a group.
pub(crate) type GroupId = u64;
pub(crate) const GROUPS: TableDefinition<GroupId, &[u8]> = TableDefinition::new("groups");
pub(crate) const GROUP_IDS: TableDefinition<NameId, GroupId> = TableDefinition::new("group_ids");
pub(crate) const GROUP_HOMES: TableDefinition<NameId, GroupId> =
    TableDefinition::new("group_homes");
pub(crate) const GROUP_MEMBERS: TableDefinition<(GroupId, GroupId), ()> =
    TableDefinition::new("group_members");
pub(crate) const GROUP_NAMES: TableDefinition<(GroupId, NameId), ()> =
    TableDefinition::new("group_names");
pub(crate) const UNSETTLED: TableDefinition<u64, (NameId, i64)> = TableDefinition::new("unsettled");
pub(crate) const UNGROUPED: TableDefinition<NameId, ()> = TableDefinition::new("ungrouped");

pub const USERS: TableDefinition<&str, &[u8]> = TableDefinition::new("users");
pub const KEYS: TableDefinition<u64, &[u8]> = TableDefinition::new("keys");
pub const KEY_HASHES: TableDefinition<&[u8; 32], u64> = TableDefinition::new("key_hashes");
pub(crate) const SESSIONS: TableDefinition<&[u8; 32], &[u8]> = TableDefinition::new("sessions");
pub(crate) const PASSES: TableDefinition<&str, &[u8]> = TableDefinition::new("passes");
pub const SEARCHES: TableDefinition<u64, &[u8]> = TableDefinition::new("searches");

pub(crate) const REPEATS: TableDefinition<u128, (u64, i64)> = TableDefinition::new("repeats");
pub(crate) const REPEAT_DIGESTS: TableDefinition<u64, u128> =
    TableDefinition::new("repeat_digests");

/// Names in `meta`.
pub(crate) mod meta {
    /// Random, created once. It shows whether an index or a segment belongs to this store.
    pub(crate) const STORE_ID: &str = "store_id";
    /// Random, created once. The key of the hashes in the log.
    pub(crate) const SECRET: &str = "secret";
    /// Up to where the database has the log: [`super::super::segment_head::Position`].
    pub(crate) const LOG: &str = "log";
    /// Number of the next server process.
    pub(crate) const NEXT_LIFE: &str = "next_life";
    pub(crate) const NEXT_SEQ: &str = "next_seq";
    pub(crate) const NEXT_CHANGE: &str = "next_change";
    pub(crate) const NEXT_SEGMENT: &str = "next_segment";
    pub(crate) const NEXT_NAME: &str = "next_name";
    pub(crate) const NEXT_REPROCESSING: &str = "next_mend";
    pub(crate) const NEXT_INPUT: &str = "next_input";
    pub(crate) const NEXT_FRAME: &str = "next_frame";
    pub(crate) const NEXT_GROUP: &str = "next_group";
    pub(crate) const NEXT_KEY: &str = "next_key";
    pub(crate) const NEXT_SEARCH: &str = "next_search";
    /// The rules that signed the crashes: [`crate::signature::rules_version`].
    pub(crate) const RULES: &str = "signature_rules";
}
