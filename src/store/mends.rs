//! Mends: a mend reprocesses many crashes, either those that lacked symbols when they were processed, or
//! those that a user selected with a search (ADR 11).
//!
//! ```text
//! lacks            (seq, lack)              -> ()     what a walk needed and did not find
//! lacking          (lack, seq)              -> ()     the same, by lack
//! lack_totals      lack                     -> crashes
//! lack_releases    (lack, product, version) -> crashes
//! mending          newest seq first         -> mend   processed crashes that wait to be reprocessed
//! in_mending       seq                      -> mend   crashes of a mend that a worker has
//! mends            mend                     -> MendRow
//! mend_signatures  (mend, side, signature)  -> crashes
//! ```
//!
//! A crash in `mending` keeps its state and its old result. It is handed out when nothing else waits. A mend
//! counts every crash once, whether it succeeds, fails or is deleted, so every mend ends.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata};

use super::Store;
use super::counters::{NameId, Names};
use super::crashes::StoredCrash;
use super::error::StoreError;
use super::pending::{Job, Txn};
pub use super::rows::MendRow;
use super::rows::{self, Lane, State};
use super::symbols::Release;
use super::tables::*;
use super::writer::Command;
use crate::clock::Timestamp;
use crate::crash::lack::Lack;

impl MendRow {
    fn new(now: Timestamp) -> Self {
        Self {
            modules: Vec::new(),
            begun_at_ms: now.ms(),
            ended_at_ms: None,
            affected: 0,
            done: 0,
            improved: 0,
            asked: None,
        }
    }
}

/// A mend, as pages show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mend {
    pub id: u64,
    pub row: MendRow,
    /// Distinct signatures of the improved crashes.
    pub signatures_before: u64,
    pub signatures_after: u64,
}

/// Limit of counts that are read for one list of lacks. Clients choose the names of modules and products, so
/// there may be any number of them.
const LACKS_READ_MAX: usize = 200_000;
/// Limit of releases that are read for one lack.
const LACK_RELEASES_READ_MAX: usize = 1_000;

const BEFORE: u8 = 0;
const AFTER: u8 = 1;
/// Number of mends that are kept.
const MENDS_MAX: u64 = 1_000;

impl Store {
    /// Reprocesses every crash that lacked one of these, newest first. Returns the number of crashes. If
    /// there are none, no mend is created.
    pub fn mend(&self, lacks: Vec<Lack>) -> Result<u64, StoreError> {
        self.ask(|reply| Command::Mend { lacks, reply })
    }

    /// Reprocesses these crashes after all other work, newest first. `asked` describes the request. With
    /// `into`, the crashes are added to a mend that an earlier call created. Returns the mend; `None` if all
    /// the crashes wait already.
    pub fn redo(
        &self,
        seqs: Vec<u64>,
        asked: &str,
        into: Option<u64>,
    ) -> Result<Option<u64>, StoreError> {
        let asked = asked.to_owned();
        self.ask(|reply| Command::Redo {
            seqs,
            asked,
            into,
            reply,
        })
    }

    /// A mend; `None` if it is no longer kept.
    pub fn mend_of(&self, id: u64) -> Result<Option<Mend>, StoreError> {
        self.read(|read| {
            let row = read.open_table(MENDS)?.get(id)?;
            row.map(|row| mend(read, id, row.value())).transpose()
        })
    }

    /// The newest mends.
    pub fn mends(&self, limit: usize) -> Result<Vec<Mend>, StoreError> {
        self.read(|read| {
            let mut mends = Vec::new();
            for entry in read.open_table(MENDS)?.iter()?.rev().take(limit) {
                let (id, row) = entry?;
                mends.push(mend(read, id.value(), row.value())?);
            }
            Ok(mends)
        })
    }

    /// All lacks of all crashes.
    pub fn lacks(&self) -> Result<Vec<Lack>, StoreError> {
        self.read(|read| {
            let lacking = read.open_table(LACKING)?;
            let mut names = Names::open(read)?;
            let mut lacks = Vec::new();
            let mut from = Some(0);
            while let Some(least) = from {
                let Some(entry) = lacking.range((least, 0)..)?.next() else {
                    break;
                };
                let (module, _) = entry?.0.value();
                lacks.extend(Lack::parse(&names.text(module)?));
                from = module.checked_add(1);
            }
            Ok(lacks)
        })
    }

    /// The newest crash that has this lack.
    pub fn newest_lacking(&self, lack: &Lack) -> Result<Option<StoredCrash>, StoreError> {
        let seq = self.read(|read| {
            let names = read.open_table(NAMES)?;
            let Some(id) = names.get(lack.to_string().as_str())?.map(|id| id.value()) else {
                return Ok(None);
            };
            let lacking = read.open_table(LACKING)?;
            let last = lacking.range((id, 0)..=(id, u64::MAX))?.next_back();
            let last = last.transpose()?;
            Ok(last.map(|(key, _)| key.value().1))
        })?;
        match seq {
            Some(seq) => self.crash_at(seq),
            None => Ok(None),
        }
    }

    /// The most frequent lacks with their numbers of crashes, of one product and version if given.
    pub fn lacking(
        &self,
        product: Option<&str>,
        version: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Lacking>, StoreError> {
        self.read(|read| {
            let counts = read.open_table(LACK_RELEASES)?;
            let mut names = Names::open(read)?;
            let mut ranked: Vec<(u64, NameId)> = Vec::new();
            if product.is_none() && version.is_none() {
                let totals = read.open_table(LACK_TOTALS)?;
                for entry in totals.iter()?.take(LACKS_READ_MAX) {
                    let (lack, crashes) = entry?;
                    ranked.push((crashes.value(), lack.value()));
                }
            } else {
                let ids = read.open_table(NAMES)?;
                let id = |text: Option<&str>| -> Result<Option<Option<NameId>>, StoreError> {
                    let Some(text) = text else {
                        return Ok(None);
                    };
                    Ok(Some(ids.get(text)?.map(|id| id.value())))
                };
                let (product, version) = (id(product)?, id(version)?);
                for entry in counts.iter()?.take(LACKS_READ_MAX) {
                    let (key, crashes) = entry?;
                    let (lack, of_product, of_version) = key.value();
                    if product.is_some_and(|id| id != Some(of_product))
                        || version.is_some_and(|id| id != Some(of_version))
                    {
                        continue;
                    }
                    match ranked.last_mut() {
                        Some((sum, last)) if *last == lack => *sum += crashes.value(),
                        _ => ranked.push((crashes.value(), lack)),
                    }
                }
            }
            ranked.sort_by_key(|(crashes, lack)| (Reverse(*crashes), *lack));
            let mut lacking = Vec::new();
            for (crashes, id) in ranked.into_iter().take(limit) {
                let Some(lack) = Lack::parse(&names.text(id)?) else {
                    continue;
                };
                let mut releases = Vec::new();
                let all = counts.range((id, 0, 0)..=(id, NameId::MAX, NameId::MAX))?;
                for entry in all.take(LACK_RELEASES_READ_MAX) {
                    let (key, n) = entry?;
                    let (_, of_product, of_version) = key.value();
                    let release = Release {
                        product: names.text(of_product)?,
                        version: names.text(of_version)?,
                    };
                    let fits = product.is_none_or(|product| product == release.product)
                        && version.is_none_or(|version| version == release.version);
                    if fits {
                        releases.push((release, n.value()));
                    }
                }
                releases.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
                lacking.push(Lacking {
                    lack,
                    crashes,
                    releases,
                });
            }
            Ok(lacking)
        })
    }
}

/// A mend's row with its numbers of signatures.
fn mend(read: &ReadTransaction, id: u64, row: &[u8]) -> Result<Mend, StoreError> {
    let signatures = read.open_table(MEND_SIGNATURES)?;
    let distinct = |side: u8| -> Result<u64, StoreError> {
        let range = signatures.range((id, side, 0)..=(id, side, NameId::MAX))?;
        Ok(range.count() as u64)
    };
    Ok(Mend {
        id,
        row: rows::decode(row)?,
        signatures_before: distinct(BEFORE)?,
        signatures_after: distinct(AFTER)?,
    })
}

/// A lack and the crashes that have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lacking {
    pub lack: Lack,
    pub crashes: u64,
    /// The releases of these crashes, most crashes first.
    pub releases: Vec<(Release, u64)>,
}

/// A key that sorts the newest crash first.
fn order(seq: u64) -> u64 {
    u64::MAX - seq
}

impl Txn<'_> {
    /// Finds the crashes that have one of these lacks and marks them for reprocessing.
    pub(super) fn mend(&mut self, lacks: &[Lack], now: Timestamp) -> Result<u64, StoreError> {
        let mut affected = BTreeSet::new();
        for lack in lacks {
            let Some(id) = self
                .names
                .get(lack.to_string().as_str())?
                .map(|id| id.value())
            else {
                continue;
            };
            for entry in self.lacking.range((id, 0)..=(id, u64::MAX))? {
                let (_, seq) = entry?.0.value();
                affected.insert(seq);
            }
        }
        let modules = lacks.iter().map(Lack::to_string).collect();
        let row = MendRow {
            modules,
            ..MendRow::new(now)
        };
        let begun = self.enlarge_mend(affected, None, row)?;
        Ok(begun.map_or(0, |(_, row)| row.affected))
    }

    /// Marks these crashes for reprocessing.
    pub(super) fn redo(
        &mut self,
        seqs: &[u64],
        asked: &str,
        into: Option<u64>,
        now: Timestamp,
    ) -> Result<Option<u64>, StoreError> {
        let affected = seqs.iter().copied().collect();
        let row = MendRow {
            asked: Some(asked.to_owned()),
            ..MendRow::new(now)
        };
        let enlarged = self.enlarge_mend(affected, into, row)?;
        Ok(enlarged.map_or(into, |(mend, _)| Some(mend)))
    }

    /// Adds crashes to an existing mend (running or ended), or to a new one that starts as `row`.
    fn enlarge_mend(
        &mut self,
        affected: BTreeSet<u64>,
        into: Option<u64>,
        row: MendRow,
    ) -> Result<Option<(u64, MendRow)>, StoreError> {
        // A crash that waits in an earlier mend, or is being processed, will use the new symbols too.
        let mut fresh = Vec::new();
        for seq in affected {
            if self.mending.get(order(seq))?.is_none() && self.is_finished(seq)? {
                fresh.push(seq);
            }
        }
        if fresh.is_empty() {
            return Ok(None);
        }
        let known = match into {
            Some(mend) => self.mends.get(mend)?.map(|row| rows::decode(row.value())),
            None => None,
        };
        let known: Option<MendRow> = known.transpose()?;
        let (mend, mut row) = match (into, known) {
            (Some(mend), Some(known)) => (mend, known),
            _ => (self.next(meta::NEXT_MEND)?, row),
        };
        for &seq in &fresh {
            self.mending.insert(order(seq), mend)?;
        }
        row.affected += fresh.len() as u64;
        row.ended_at_ms = None;
        self.mends.insert(mend, rows::encode(&row).as_slice())?;
        self.forget_mends(mend.saturating_sub(MENDS_MAX))?;
        Ok(Some((mend, row)))
    }

    fn is_finished(&self, seq: u64) -> Result<bool, StoreError> {
        match self.row(seq) {
            Ok(row) => Ok(matches!(row.state, State::Processed | State::Failed)),
            Err(StoreError::Damaged(_) | StoreError::Newer(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn forget_mends(&mut self, up_to: u64) -> Result<(), StoreError> {
        self.mends.retain_in(..=up_to, |_, _| false)?;
        let last = (up_to, u8::MAX, NameId::MAX);
        self.mend_signatures.retain_in(..=last, |_, _| false)?;
        Ok(())
    }

    /// Hands out the newest crash that waits in a mend.
    pub(super) fn claim_mend(&mut self, now: Timestamp) -> Result<Option<Job>, StoreError> {
        loop {
            let first = self.mending.pop_first()?;
            let Some((key, mend)) = first.map(|(key, mend)| (key.value(), mend.value())) else {
                return Ok(None);
            };
            let seq = order(key);
            if self.is_finished(seq)? {
                self.in_mending.insert(seq, mend)?;
                let row = self.row(seq)?;
                return self.hand_out(seq, row, Lane::Mend).map(Some);
            }
            // The crash was requested since, and that processing uses the new symbols.
            self.count_mended(mend, None, now)?;
        }
    }

    /// Stores what a processed crash lacks, and counts the crash in its mend, if any.
    pub(super) fn finish_lacking(
        &mut self,
        seq: u64,
        release: &Release,
        signatures: [Option<&str>; 2],
        lacks: &[Lack],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let before = self.forget_lacks(seq, release)?;
        for lack in lacks {
            let module = self.name(&lack.to_string())?;
            if self.lacks.insert((seq, module), ())?.is_none() {
                self.count_lack(module, release, 1)?;
            }
            self.lacking.insert((module, seq), ())?;
        }
        let Some(mend) = self.in_mending.remove(seq)?.map(|mend| mend.value()) else {
            return Ok(());
        };
        let mut weight_before = 0;
        for module in before {
            let text = self.name_texts.get(module)?;
            let lack = text.and_then(|text| Lack::parse(text.value()));
            weight_before += lack.map_or(0, |lack| lack.what.weight());
        }
        let weight: u64 = lacks.iter().map(|lack| lack.what.weight()).sum();
        let lacks_less = weight < weight_before;
        self.count_mended(mend, Some((lacks_less, signatures)), now)
    }

    /// Removes a deleted crash from the lacks and from its mend.
    pub(super) fn delete_lacking(
        &mut self,
        seq: u64,
        release: &Release,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.forget_lacks(seq, release)?;
        let waiting = self.mending.remove(order(seq))?.map(|mend| mend.value());
        let working = self.in_mending.remove(seq)?.map(|mend| mend.value());
        for mend in waiting.into_iter().chain(working) {
            self.count_mended(mend, None, now)?;
        }
        Ok(())
    }

    /// Returns the removed lacks.
    fn forget_lacks(&mut self, seq: u64, release: &Release) -> Result<Vec<NameId>, StoreError> {
        let mut modules = Vec::new();
        for entry in self.lacks.range((seq, 0)..=(seq, NameId::MAX))? {
            modules.push(entry?.0.value().1);
        }
        for &module in &modules {
            self.lacks.remove((seq, module))?;
            self.lacking.remove((module, seq))?;
            self.count_lack(module, release, -1)?;
        }
        Ok(modules)
    }

    fn count_lack(&mut self, lack: NameId, release: &Release, by: i64) -> Result<(), StoreError> {
        let (product, version) = (self.name(&release.product)?, self.name(&release.version)?);
        let key = (lack, product, version);
        let total = self.lack_totals.get(lack)?.map_or(0, |n| n.value());
        match total.saturating_add_signed(by) {
            0 => drop(self.lack_totals.remove(lack)?),
            n => drop(self.lack_totals.insert(lack, n)?),
        }
        let of_release = self.lack_releases.get(key)?.map_or(0, |n| n.value());
        match of_release.saturating_add_signed(by) {
            0 => drop(self.lack_releases.remove(key)?),
            n => drop(self.lack_releases.insert(key, n)?),
        }
        Ok(())
    }

    /// Counts the lacks in a store that was made before these counts existed.
    pub(super) fn fill_lack_counts(&mut self) -> Result<(), StoreError> {
        if !self.lack_totals.is_empty()? || self.lacking.is_empty()? {
            return Ok(());
        }
        let mut counts: HashMap<(NameId, Release), u64> = HashMap::new();
        let mut last: Option<(u64, Release)> = None;
        for entry in self.lacks.iter()? {
            let (seq, lack) = entry?.0.value();
            if last.as_ref().is_none_or(|(known, _)| *known != seq) {
                last = match self.row(seq) {
                    Ok(row) => Some((
                        seq,
                        Release {
                            product: row.product,
                            version: row.version,
                        },
                    )),
                    // A crash whose row cannot be read is not counted.
                    Err(StoreError::Damaged(_) | StoreError::Newer(_)) => None,
                    Err(error) => return Err(error),
                };
            }
            if let Some((_, release)) = &last {
                *counts.entry((lack, release.clone())).or_default() += 1;
            }
        }
        for ((lack, release), crashes) in counts {
            self.count_lack(lack, &release, crashes as i64)?;
        }
        Ok(())
    }

    /// Counts one crash of a mend as done. `outcome` is `None` if the crash was not mended; otherwise it says
    /// whether the crash lacks less than before, and has the signatures before and after.
    fn count_mended(
        &mut self,
        mend: u64,
        outcome: Option<(bool, [Option<&str>; 2])>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let found = self.mends.get(mend)?.map(|row| rows::decode(row.value()));
        let Some(mut row) = found.transpose()?.map(|row: MendRow| row) else {
            return Ok(());
        };
        row.done += 1;
        let improved = outcome.filter(|(lacks_less, [before, after])| match row.asked {
            Some(_) => before != after,
            None => *lacks_less,
        });
        if let Some((_, signatures)) = improved {
            row.improved += 1;
            for (side, signature) in [BEFORE, AFTER].into_iter().zip(signatures) {
                if let Some(signature) = signature {
                    let key = (mend, side, self.name(signature)?);
                    let crashes = self.mend_signatures.get(key)?.map_or(0, |n| n.value());
                    self.mend_signatures.insert(key, crashes + 1)?;
                }
            }
        }
        if row.done >= row.affected {
            row.ended_at_ms = Some(now.ms().max(row.begun_at_ms));
        }
        self.mends.insert(mend, rows::encode(&row).as_slice())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_stands_first() {
        assert!(order(7) < order(6));
        assert_eq!(order(order(42)), 42);
    }
}
