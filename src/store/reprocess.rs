//! Reprocessing of many crashes for one cause: symbols that arrived late, or the request of a user (ADR 11).
//!
//! ```text
//! mending          newest seq first             -> reprocessing   crashes that wait
//! in_mending       seq                          -> reprocessing   crashes that are queued for it again
//! mends            reprocessing                 -> ReprocessingRow
//! mend_signatures  (reprocessing, side, signature) -> crashes
//! ```
//!
//! The tables keep the names that they were created with. A crash in `mending` keeps its state and its old
//! result. It is handed out when nothing else waits. A reprocessing counts every crash once, whether it
//! succeeds, fails or is deleted, so every reprocessing ends.

use std::collections::BTreeSet;

use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata};

use super::batch::Batch;
use super::claim::order;
use super::command::Command;
use super::error::StoreError;
use super::handle::Store;
use super::rows::{self, ReprocessingRow, State};
use super::symbols::Release;
use super::tables::*;
use super::txn::Txn;
use crate::clock::Timestamp;
use crate::crash::lack::Lack;

/// Why crashes are reprocessed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Symbols arrived that they lacked, each as a [`Lack`] is written.
    Symbols { modules: Vec<String> },
    /// A user requested it: who, and for the crashes of which search.
    Request { request: String },
}

impl Cause {
    /// The modules whose symbols arrived.
    pub fn modules(&self) -> &[String] {
        match self {
            Self::Symbols { modules } => modules,
            Self::Request { .. } => &[],
        }
    }
}

/// The progress of a reprocessing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reprocessing {
    pub id: u64,
    pub cause: Cause,
    pub(crate) begun_at_ms: i64,
    /// `None` while it is running.
    pub ended_at_ms: Option<i64>,
    pub crashes: u64,
    pub done: u64,
    /// Crashes that lack less than before. After a request: crashes whose signature changed.
    pub improved: u64,
    /// Distinct signatures of the improved crashes, before and after.
    pub signatures_before: u64,
    pub signatures_after: u64,
}

impl Reprocessing {
    pub fn is_running(&self) -> bool {
        self.ended_at_ms.is_none()
    }
}

const BEFORE: u8 = 0;
const AFTER: u8 = 1;
/// Number of reprocessings that are kept.
const REPROCESSINGS_MAX: u64 = 1_000;

impl Store {
    /// Reprocesses every crash that lacked one of these, newest first. Returns the number of crashes. If
    /// there are none, no reprocessing is created.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn reprocess_lacking(&self, lacks: Vec<Lack>) -> Result<u64, StoreError> {
        self.ask(ReprocessLacking { lacks })
    }

    /// Reprocesses these crashes after all other work, newest first. `request` says who requested what. With
    /// `into`, the crashes are added to a reprocessing that an earlier call created. Returns the
    /// reprocessing; `None` if all the crashes wait already.
    ///
    /// # Errors
    /// The store cannot be written.
    pub(crate) fn reprocess(
        &self,
        seqs: Vec<u64>,
        request: &str,
        into: Option<u64>,
    ) -> Result<Option<u64>, StoreError> {
        let request = request.to_owned();
        self.ask(ReprocessThese {
            seqs,
            request,
            into,
        })
    }

    /// A reprocessing; `None` if it is no longer kept.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn reprocessing(&self, id: u64) -> Result<Option<Reprocessing>, StoreError> {
        self.read(|read| {
            let row = read.open_table(REPROCESSINGS)?.get(id)?;
            row.map(|row| progress(read, id, row.value())).transpose()
        })
    }

    /// Whether crashes wait to be reprocessed, or are being reprocessed.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn is_reprocessing(&self) -> Result<bool, StoreError> {
        self.read(|read| {
            let waiting = read.open_table(REPROCESS_WAITING)?;
            let working = read.open_table(REPROCESS_WORKING)?;
            Ok(!waiting.is_empty()? || !working.is_empty()?)
        })
    }

    /// The newest reprocessings.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn reprocessings(&self, limit: usize) -> Result<Vec<Reprocessing>, StoreError> {
        self.read(|read| {
            let mut found = Vec::new();
            for entry in read.open_table(REPROCESSINGS)?.iter()?.rev().take(limit) {
                let (id, row) = entry?;
                found.push(progress(read, id.value(), row.value())?);
            }
            Ok(found)
        })
    }
}

fn progress(read: &ReadTransaction, id: u64, row: &[u8]) -> Result<Reprocessing, StoreError> {
    let signatures = read.open_table(REPROCESSING_SIGNATURES)?;
    let distinct = |side: u8| -> Result<u64, StoreError> {
        let range = signatures.range((id, side, 0)..=(id, side, NameId::MAX))?;
        Ok(range.count() as u64)
    };
    let row: ReprocessingRow = rows::decode(row)?;
    Ok(Reprocessing {
        id,
        cause: match row.asked {
            Some(request) => Cause::Request { request },
            None => Cause::Symbols {
                modules: row.modules,
            },
        },
        begun_at_ms: row.begun_at_ms,
        ended_at_ms: row.ended_at_ms,
        crashes: row.affected,
        done: row.done,
        improved: row.improved,
        signatures_before: distinct(BEFORE)?,
        signatures_after: distinct(AFTER)?,
    })
}

struct ReprocessLacking {
    lacks: Vec<Lack>,
}

impl Command for ReprocessLacking {
    type Answer = u64;

    fn apply(&self, txn: &mut Txn, batch: &mut Batch) -> Result<u64, StoreError> {
        let crashes = txn.crashes_lacking(&self.lacks)?;
        let mut row = new_row(batch.now);
        row.modules = self.lacks.iter().map(Lack::to_string).collect();
        let begun = txn.add_to_reprocessing(crashes, None, row)?;
        Ok(begun.map_or(0, |(_, row)| row.affected))
    }
}

struct ReprocessThese {
    seqs: Vec<u64>,
    request: String,
    into: Option<u64>,
}

impl Command for ReprocessThese {
    type Answer = Option<u64>;

    fn apply(&self, txn: &mut Txn, batch: &mut Batch) -> Result<Option<u64>, StoreError> {
        let crashes = self.seqs.iter().copied().collect();
        let mut row = new_row(batch.now);
        row.asked = Some(self.request.clone());
        let added = txn.add_to_reprocessing(crashes, self.into, row)?;
        Ok(added.map_or(self.into, |(id, _)| Some(id)))
    }
}

fn new_row(now: Timestamp) -> ReprocessingRow {
    ReprocessingRow {
        modules: Vec::new(),
        begun_at_ms: now.ms(),
        ended_at_ms: None,
        affected: 0,
        done: 0,
        improved: 0,
        asked: None,
    }
}

/// The effect of reprocessing on one crash.
struct Effect<'a> {
    lacks_less: bool,
    /// Signatures before and after.
    signatures: [Option<&'a str>; 2],
}

impl Txn<'_> {
    /// Adds crashes to an existing reprocessing (running or ended), or to a new one that starts as `row`.
    fn add_to_reprocessing(
        &mut self,
        crashes: BTreeSet<u64>,
        into: Option<u64>,
        row: ReprocessingRow,
    ) -> Result<Option<(u64, ReprocessingRow)>, StoreError> {
        // A crash that waits already, or is being processed, will use the new symbols too.
        let mut fresh = Vec::new();
        for seq in crashes {
            if self.reprocess_waiting.get(order(seq))?.is_none() && self.is_finished(seq)? {
                fresh.push(seq);
            }
        }
        if fresh.is_empty() {
            return Ok(None);
        }
        let known = match into {
            Some(id) => self
                .reprocessings
                .get(id)?
                .map(|row| rows::decode(row.value())),
            None => None,
        };
        let known: Option<ReprocessingRow> = known.transpose()?;
        let (id, mut row) = match (into, known) {
            (Some(id), Some(known)) => (id, known),
            _ => (self.next(meta::NEXT_REPROCESSING)?, row),
        };
        for &seq in &fresh {
            self.reprocess_waiting.insert(order(seq), id)?;
        }
        row.affected += fresh.len() as u64;
        row.ended_at_ms = None;
        self.reprocessings
            .insert(id, rows::encode(&row).as_slice())?;
        self.forget_reprocessings(id.saturating_sub(REPROCESSINGS_MAX))?;
        Ok(Some((id, row)))
    }

    fn is_finished(&self, seq: u64) -> Result<bool, StoreError> {
        match self.row(seq) {
            Ok(row) => Ok(matches!(row.state, State::Processed | State::Failed)),
            Err(StoreError::Damaged(_) | StoreError::Newer(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn forget_reprocessings(&mut self, up_to: u64) -> Result<(), StoreError> {
        self.reprocessings.retain_in(..=up_to, |_, _| false)?;
        let last = (up_to, u8::MAX, NameId::MAX);
        self.reprocessing_signatures
            .retain_in(..=last, |_, _| false)?;
        Ok(())
    }

    /// Moves a crash that waits for reprocessing to the crashes that are being reprocessed, because it will
    /// be in a queue now.
    pub(super) fn begin_reprocessing(&mut self, seq: u64) -> Result<(), StoreError> {
        let waiting = self.reprocess_waiting.remove(order(seq))?;
        if let Some(id) = waiting.map(|id| id.value()) {
            self.reprocess_working.insert(seq, id)?;
        }
        Ok(())
    }

    /// Counts a crash that waits for reprocessing as done, because it is queued anyway or cannot be read.
    pub(super) fn skip_reprocessing(&mut self, seq: u64, now: Timestamp) -> Result<(), StoreError> {
        let waiting = self.reprocess_waiting.remove(order(seq))?;
        match waiting.map(|id| id.value()) {
            Some(id) => self.count_reprocessed(id, None, now),
            None => Ok(()),
        }
    }

    /// Stores what a processed crash lacks, and counts the crash in its reprocessing, if any. `signatures`
    /// are those before and after.
    pub(super) fn finish_lacking(
        &mut self,
        seq: u64,
        release: &Release,
        signatures: [Option<&str>; 2],
        lacks: &[Lack],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let before = self.replace_lacks(seq, release, lacks)?;
        self.begin_reprocessing(seq)?;
        let Some(id) = self.reprocess_working.remove(seq)?.map(|id| id.value()) else {
            return Ok(());
        };
        let weight = |lacks: &[Lack]| lacks.iter().map(|lack| lack.what.weight()).sum::<u64>();
        let effect = Effect {
            lacks_less: weight(lacks) < weight(&before),
            signatures,
        };
        self.count_reprocessed(id, Some(effect), now)
    }

    /// Removes a deleted crash from the lacks and from its reprocessing.
    pub(super) fn delete_lacking(
        &mut self,
        seq: u64,
        release: &Release,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.forget_lacks(seq, release)?;
        let waiting = self.reprocess_waiting.remove(order(seq))?;
        let waiting = waiting.map(|id| id.value());
        let working = self.reprocess_working.remove(seq)?.map(|id| id.value());
        for id in waiting.into_iter().chain(working) {
            self.count_reprocessed(id, None, now)?;
        }
        Ok(())
    }

    /// Counts one crash of a reprocessing as done. `effect` is `None` if the crash was not reprocessed.
    fn count_reprocessed(
        &mut self,
        id: u64,
        effect: Option<Effect>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let found = self.reprocessings.get(id)?;
        let found = found.and_then(|row| rows::decode_or_skip(row.value()));
        let Some(mut row): Option<ReprocessingRow> = found else {
            return Ok(());
        };
        row.done += 1;
        let is_improved = |effect: &Effect| match row.asked {
            Some(_) => effect.signatures[0] != effect.signatures[1],
            None => effect.lacks_less,
        };
        if let Some(effect) = effect.filter(is_improved) {
            row.improved += 1;
            for (side, signature) in [BEFORE, AFTER].into_iter().zip(effect.signatures) {
                if let Some(signature) = signature {
                    let key = (id, side, self.name(signature)?);
                    let crashes = self.reprocessing_signatures.get(key)?;
                    let crashes = crashes.map_or(0, |n| n.value());
                    self.reprocessing_signatures.insert(key, crashes + 1)?;
                }
            }
        }
        if row.done >= row.affected {
            row.ended_at_ms = Some(now.ms().max(row.begun_at_ms));
        }
        self.reprocessings
            .insert(id, rows::encode(&row).as_slice())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_crash_is_first() {
        assert!(order(7) < order(6));
        assert_eq!(order(order(42)), 42);
    }
}
