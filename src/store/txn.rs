//! One write transaction with every table open.

use redb::{ReadableTable, Table, WriteTransaction};

use super::crashes::StoredCrash;
use super::error::StoreError;
use super::rows;
use super::tables::*;
use crate::crash::id::CrashId;

/// All tables, open for writing.
pub(crate) struct Txn<'t> {
    pub(crate) meta: Table<'t, &'static str, u128>,
    pub(crate) ids: Table<'t, u128, u64>,
    pub(crate) crashes: Table<'t, u64, &'static [u8]>,
    pub(crate) ready: Table<'t, (u8, u64), ()>,
    pub(crate) working: Table<'t, u64, u32>,
    pub(crate) deferred: Table<'t, (i64, u64), ()>,
    pub(crate) changes: Table<'t, u64, u64>,
    pub(crate) segments: Table<'t, u32, &'static [u8]>,
    pub(crate) states: Table<'t, u8, u64>,
    pub(crate) names: Table<'t, &'static str, u32>,
    pub(crate) name_texts: Table<'t, u32, &'static str>,
    pub(crate) counters: Table<'t, (u32, u32, u32, u32), &'static [u8]>,
    pub(crate) sightings: Table<'t, SightingKey, (u64, i64, i64)>,
    pub(crate) seen: Table<'t, SeenKey, ()>,
    pub(crate) gone: Table<'t, SightingKey, (i64, i64)>,
    pub(crate) product_totals: Table<'t, u32, u64>,
    pub(crate) decisions: Table<'t, (u32, u32, u8, u32, u32), u64>,
    pub(crate) lacks: Table<'t, (u64, u32), ()>,
    pub(crate) lacking: Table<'t, (u32, u64), ()>,
    pub(crate) lack_totals: Table<'t, u32, u64>,
    pub(crate) lack_releases: Table<'t, (u32, u32, u32), u64>,
    pub(crate) reprocess_waiting: Table<'t, u64, u64>,
    pub(crate) reprocess_working: Table<'t, u64, u64>,
    pub(crate) reprocessings: Table<'t, u64, &'static [u8]>,
    pub(crate) reprocessing_signatures: Table<'t, (u64, u8, u32), u64>,
    pub(crate) bugs: Table<'t, (&'static str, &'static str), &'static [u8]>,
    pub(crate) bug_signatures: Table<'t, (&'static str, &'static str, &'static str), u8>,
    pub(crate) signature_bugs: Table<'t, (&'static str, &'static str, &'static str), ()>,
    pub(crate) trackers: Table<'t, &'static str, i64>,
    pub(crate) symbols: Table<'t, &'static str, &'static [u8]>,
    pub(crate) symbol_names: Table<'t, (&'static str, &'static str), ()>,
    pub(crate) symbol_codes: Table<'t, (&'static str, &'static str), ()>,
    pub(crate) symbol_pins: Table<'t, (&'static str, &'static str), ()>,
    pub(crate) symbol_misses: Table<'t, (&'static str, &'static str), i64>,
    pub(crate) signed: Table<'t, u64, (u64, u32, u64)>,
    pub(crate) inputs: Table<'t, u64, &'static [u8]>,
    pub(crate) input_uses: Table<'t, u64, u64>,
    pub(crate) input_ids: Table<'t, u128, u64>,
    pub(crate) frames: Table<'t, u32, &'static [u8]>,
    pub(crate) frame_ids: Table<'t, u128, u32>,
    pub(crate) list_revisions: Table<'t, u64, &'static [u8]>,
    pub(crate) resigns: Table<'t, u64, &'static [u8]>,
    pub(crate) outdated: Table<'t, u64, ()>,
    pub(crate) moves: Table<'t, (u32, u32), u64>,
    pub(crate) moved_from: Table<'t, (u32, u32), ()>,
    pub(crate) groups: Table<'t, u64, &'static [u8]>,
    pub(crate) group_ids: Table<'t, u32, u64>,
    pub(crate) group_homes: Table<'t, u32, u64>,
    pub(crate) group_members: Table<'t, (u64, u64), ()>,
    pub(crate) group_names: Table<'t, (u64, u32), ()>,
    pub(crate) unsettled: Table<'t, u64, (u32, i64)>,
    pub(crate) ungrouped: Table<'t, u32, ()>,
    pub(crate) users: Table<'t, &'static str, &'static [u8]>,
    pub(crate) keys: Table<'t, u64, &'static [u8]>,
    pub(crate) key_hashes: Table<'t, &'static [u8; 32], u64>,
    pub(crate) sessions: Table<'t, &'static [u8; 32], &'static [u8]>,
    pub(crate) searches: Table<'t, u64, &'static [u8]>,
    pub(crate) passes: Table<'t, &'static str, &'static [u8]>,
    pub(crate) repeats: Table<'t, u128, (u64, i64)>,
    pub(crate) repeat_digests: Table<'t, u64, u128>,
}

impl<'t> Txn<'t> {
    /// Opens every table. Creates those that do not exist yet.
    pub(crate) fn open(txn: &'t WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self {
            meta: txn.open_table(META)?,
            ids: txn.open_table(IDS)?,
            crashes: txn.open_table(CRASHES)?,
            ready: txn.open_table(READY)?,
            working: txn.open_table(WORKING)?,
            deferred: txn.open_table(DEFERRED)?,
            changes: txn.open_table(CHANGES)?,
            segments: txn.open_table(SEGMENTS)?,
            states: txn.open_table(STATES)?,
            names: txn.open_table(NAMES)?,
            name_texts: txn.open_table(NAME_TEXTS)?,
            counters: txn.open_table(COUNTERS)?,
            sightings: txn.open_table(SIGHTINGS)?,
            seen: txn.open_table(SEEN)?,
            gone: txn.open_table(GONE)?,
            product_totals: txn.open_table(PRODUCT_TOTALS)?,
            decisions: txn.open_table(DECISIONS)?,
            lacks: txn.open_table(LACKS)?,
            lacking: txn.open_table(LACKING)?,
            lack_totals: txn.open_table(LACK_TOTALS)?,
            lack_releases: txn.open_table(LACK_RELEASES)?,
            reprocess_waiting: txn.open_table(REPROCESS_WAITING)?,
            reprocess_working: txn.open_table(REPROCESS_WORKING)?,
            reprocessings: txn.open_table(REPROCESSINGS)?,
            reprocessing_signatures: txn.open_table(REPROCESSING_SIGNATURES)?,
            bugs: txn.open_table(BUGS)?,
            bug_signatures: txn.open_table(BUG_SIGNATURES)?,
            signature_bugs: txn.open_table(SIGNATURE_BUGS)?,
            trackers: txn.open_table(TRACKERS)?,
            symbols: txn.open_table(SYMBOLS)?,
            symbol_names: txn.open_table(SYMBOL_NAMES)?,
            symbol_codes: txn.open_table(SYMBOL_CODES)?,
            symbol_pins: txn.open_table(SYMBOL_PINS)?,
            symbol_misses: txn.open_table(SYMBOL_MISSES)?,
            signed: txn.open_table(SIGNED)?,
            inputs: txn.open_table(INPUTS)?,
            input_uses: txn.open_table(INPUT_USES)?,
            input_ids: txn.open_table(INPUT_IDS)?,
            frames: txn.open_table(FRAMES)?,
            frame_ids: txn.open_table(FRAME_IDS)?,
            list_revisions: txn.open_table(LIST_REVISIONS)?,
            resigns: txn.open_table(RESIGNS)?,
            outdated: txn.open_table(OUTDATED)?,
            moves: txn.open_table(MOVES)?,
            moved_from: txn.open_table(MOVED_FROM)?,
            groups: txn.open_table(GROUPS)?,
            group_ids: txn.open_table(GROUP_IDS)?,
            group_homes: txn.open_table(GROUP_HOMES)?,
            group_members: txn.open_table(GROUP_MEMBERS)?,
            group_names: txn.open_table(GROUP_NAMES)?,
            unsettled: txn.open_table(UNSETTLED)?,
            ungrouped: txn.open_table(UNGROUPED)?,
            users: txn.open_table(USERS)?,
            keys: txn.open_table(KEYS)?,
            key_hashes: txn.open_table(KEY_HASHES)?,
            sessions: txn.open_table(SESSIONS)?,
            searches: txn.open_table(SEARCHES)?,
            passes: txn.open_table(PASSES)?,
            repeats: txn.open_table(REPEATS)?,
            repeat_digests: txn.open_table(REPEAT_DIGESTS)?,
        })
    }

    /// The next number of a counter in `meta`. The first is 1.
    pub(crate) fn next(&mut self, counter: &'static str) -> Result<u64, StoreError> {
        let number = self.meta.get(counter)?.map_or(1, |v| v.value());
        self.meta.insert(counter, number + 1)?;
        Ok(number as u64)
    }

    pub(crate) fn seq_of(&self, id: CrashId) -> Result<Option<u64>, StoreError> {
        Ok(self.ids.get(id.bits())?.map(|v| v.value()))
    }

    pub(crate) fn row(&self, seq: u64) -> Result<StoredCrash, StoreError> {
        let bytes = self
            .crashes
            .get(seq)?
            .ok_or_else(|| StoreError::Damaged(format!("crash {seq} has no row")))?;
        rows::decode(bytes.value())
    }

    pub(super) fn put(&mut self, seq: u64, row: &StoredCrash) -> Result<(), StoreError> {
        self.crashes.insert(seq, rows::encode(row).as_slice())?;
        Ok(())
    }
}
