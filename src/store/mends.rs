//! History is done again behind everything new: crashes that lacked symbols which came late, and
//! crashes that somebody asked for by a search.
//!
//! ```text
//! lacks            (seq, lack)              -> ()     what a walk asked for in vain
//! lacking          (lack, seq)              -> ()     the same, the other way round
//! mending          newest seq first         -> mend   processed crashes that are to be done again
//! in_mending       seq                      -> mend   those that a worker has
//! mends            mend                     -> MendRow
//! mend_signatures  (mend, side, signature)  -> crashes
//! ```
//!
//! A crash that waits here keeps its state and its old result; it is handed out when nothing else
//! waits. A mend counts every crash once, whatever becomes of it, and so always ends.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::fmt;

use redb::{ReadTransaction, ReadableTable};
use serde::{Deserialize, Serialize};

use super::Store;
use super::counters::{NameId, Names};
use super::error::StoreError;
use super::pending::{Job, Txn};
use super::symbols::Release;
use super::tables::{self, *};
use super::writer::Command;
use crate::clock::Timestamp;

/// What a mend was asked for and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MendRow {
    /// What came, each as [`Lack`] is written.
    pub modules: Vec<String>,
    pub begun_at_ms: i64,
    pub ended_at_ms: Option<i64>,
    /// Crashes that lacked one of the modules.
    pub affected: u64,
    pub done: u64,
    /// Crashes that lack less than before; of those asked for by a search, crashes with another
    /// signature than before.
    pub improved: u64,
    /// The search that somebody asked for; `modules` is empty then.
    pub asked: Option<String>,
}

impl Row for MendRow {
    const NAME: &'static str = "a mend";
    const VERSION: u8 = 2;

    /// The first version had no `asked`, which is bincode's last.
    fn upgrade(version: u8, body: &[u8]) -> Option<Vec<u8>> {
        (version == 1).then(|| [body, &[0]].concat())
    }
}

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

/// A mend as pages show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mend {
    pub id: u64,
    pub row: MendRow,
    /// Distinct signatures of the improved crashes.
    pub signatures_before: u64,
    pub signatures_after: u64,
}

/// What a walk asked for in vain. Written `<debug file>/<debug id>`, and what it is behind a blank
/// where there are other symbols of the module.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lack {
    pub debug_file: String,
    pub debug_id: String,
    pub what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum What {
    /// Anything at all.
    Symbols,
    /// Only what is exported has names.
    Functions,
    /// Frames are found by guessing.
    Unwind,
}

impl What {
    const ENDINGS: [(What, &'static str); 2] =
        [(What::Functions, " functions"), (What::Unwind, " unwind")];
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ending = What::ENDINGS.iter().find(|(what, _)| *what == self.what);
        let ending = ending.map_or("", |(_, ending)| ending);
        write!(f, "{}/{}{ending}", self.debug_file, self.debug_id)
    }
}

impl Lack {
    /// Reads what `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        let (what, module) = What::ENDINGS
            .iter()
            .find_map(|(what, ending)| Some((*what, text.strip_suffix(ending)?)))
            .unwrap_or((What::Symbols, text));
        let (file, id) = module.rsplit_once('/')?;
        Some(Self {
            debug_file: file.to_owned(),
            debug_id: id.to_owned(),
            what,
        })
    }
}

const BEFORE: u8 = 0;
const AFTER: u8 = 1;
/// Mends that are remembered.
const MENDS_MAX: u64 = 1_000;

impl Store {
    /// Has every crash that lacked one of these processed again, the newest first. Returns how many
    /// there are; without any, no mend is made.
    pub fn mend(&self, lacks: Vec<Lack>) -> Result<u64, StoreError> {
        self.ask(|reply| Command::Mend { lacks, reply })
    }

    /// Has these crashes processed again behind everything else, the newest first, as somebody
    /// `asked`; more of them go `into` a mend that an earlier call has begun. Gives the mend, or
    /// none where all of them wait already.
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

    /// A mend, unless it is forgotten.
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

    /// Everything that some crash lacks.
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

    /// The crash that came last of those that lack this.
    pub fn newest_lacking(&self, lack: &Lack) -> Result<Option<CrashRow>, StoreError> {
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

    /// What most crashes lack, with how many do; of a product and version where these are given.
    pub fn lacking(
        &self,
        product: Option<&str>,
        version: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Lacking>, StoreError> {
        self.read(|read| {
            let crashes = read.open_table(CRASHES)?;
            // A crash lacks many things, so its row is read once.
            let mut releases: Vec<Release> = Vec::new();
            let mut numbers: HashMap<Release, usize> = HashMap::new();
            let mut release_of: HashMap<u64, Option<usize>> = HashMap::new();
            let mut find = |seq: u64| -> Result<Option<usize>, StoreError> {
                if let Some(known) = release_of.get(&seq) {
                    return Ok(*known);
                }
                let row = crashes
                    .get(seq)?
                    .map(|row| tables::decode::<CrashRow>(row.value()));
                let number = match row {
                    // Nothing is counted of a crash that cannot be read.
                    None | Some(Err(_)) => None,
                    Some(Ok(row)) => {
                        let fits = product.is_none_or(|product| product == row.product)
                            && version.is_none_or(|version| version == row.version);
                        let release = Release {
                            product: row.product,
                            version: row.version,
                        };
                        fits.then(|| {
                            *numbers.entry(release.clone()).or_insert_with(|| {
                                releases.push(release);
                                releases.len() - 1
                            })
                        })
                    }
                };
                release_of.insert(seq, number);
                Ok(number)
            };
            let mut counts: Vec<(NameId, HashMap<usize, u64>)> = Vec::new();
            for entry in read.open_table(LACKING)?.iter()? {
                let (lack, seq) = entry?.0.value();
                let Some(release) = find(seq)? else { continue };
                if counts.last().is_none_or(|(last, _)| *last != lack) {
                    counts.push((lack, HashMap::new()));
                }
                if let Some((_, of)) = counts.last_mut() {
                    *of.entry(release).or_default() += 1;
                }
            }
            let total = |of: &HashMap<usize, u64>| of.values().sum::<u64>();
            counts.sort_by_key(|(lack, of)| (Reverse(total(of)), *lack));
            let mut names = Names::open(read)?;
            let mut lacking = Vec::new();
            for (lack, of) in counts.into_iter().take(limit) {
                let Some(lack) = Lack::parse(&names.text(lack)?) else {
                    continue;
                };
                let crashes = total(&of);
                let named = of.into_iter().map(|(at, n)| (releases[at].clone(), n));
                let mut releases: Vec<(Release, u64)> = named.collect();
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

/// A mend's row with what is counted beside it.
fn mend(read: &ReadTransaction, id: u64, row: &[u8]) -> Result<Mend, StoreError> {
    let signatures = read.open_table(MEND_SIGNATURES)?;
    let distinct = |side: u8| -> Result<u64, StoreError> {
        let range = signatures.range((id, side, 0)..=(id, side, NameId::MAX))?;
        Ok(range.count() as u64)
    };
    Ok(Mend {
        id,
        row: tables::decode(row)?,
        signatures_before: distinct(BEFORE)?,
        signatures_after: distinct(AFTER)?,
    })
}

/// What crashes lack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lacking {
    pub lack: Lack,
    pub crashes: u64,
    /// Whose crashes, the most first.
    pub releases: Vec<(Release, u64)>,
}

/// Newest first.
fn order(seq: u64) -> u64 {
    u64::MAX - seq
}

impl Txn<'_> {
    /// Finds the crashes that lack one of these and lets them wait to be done again.
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

    /// Lets these crashes wait to be done again.
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

    /// Puts crashes into a mend that goes on or has ended, or into a new one that begins as `row`.
    fn enlarge_mend(
        &mut self,
        affected: BTreeSet<u64>,
        into: Option<u64>,
        row: MendRow,
    ) -> Result<Option<(u64, MendRow)>, StoreError> {
        // What waits in an earlier mend, or is being done, will find what came since too.
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
            Some(mend) => self.mends.get(mend)?.map(|row| tables::decode(row.value())),
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
        self.mends.insert(mend, tables::encode(&row).as_slice())?;
        self.forget_mends(mend.saturating_sub(MENDS_MAX))?;
        Ok(Some((mend, row)))
    }

    fn is_finished(&self, seq: u64) -> Result<bool, StoreError> {
        match self.row(seq) {
            Ok(row) => Ok(matches!(row.state, State::Processed | State::Failed)),
            Err(StoreError::Damaged(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn forget_mends(&mut self, up_to: u64) -> Result<(), StoreError> {
        self.mends.retain_in(..=up_to, |_, _| false)?;
        let last = (up_to, u8::MAX, NameId::MAX);
        self.mend_signatures.retain_in(..=last, |_, _| false)?;
        Ok(())
    }

    /// Hands out the newest crash that is to be mended.
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
            // Somebody asked for it since, and it will find the symbols by itself.
            self.count_mended(mend, None, now)?;
        }
    }

    /// Writes down what a finished crash lacks, and what it means for a mend that it is part of.
    pub(super) fn finish_lacking(
        &mut self,
        seq: u64,
        signatures: [Option<&str>; 2],
        lacks: &[Lack],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let before = self.forget_lacks(seq)?;
        for lack in lacks {
            let module = self.name(&lack.to_string())?;
            self.lacks.insert((seq, module), ())?;
            self.lacking.insert((module, seq), ())?;
        }
        let Some(mend) = self.in_mending.remove(seq)?.map(|mend| mend.value()) else {
            return Ok(());
        };
        let lacks_less = (lacks.len() as u64) < before;
        self.count_mended(mend, Some((lacks_less, signatures)), now)
    }

    /// A deleted crash lacks nothing and is part of no mend.
    pub(super) fn delete_lacking(&mut self, seq: u64, now: Timestamp) -> Result<(), StoreError> {
        self.forget_lacks(seq)?;
        let waiting = self.mending.remove(order(seq))?.map(|mend| mend.value());
        let working = self.in_mending.remove(seq)?.map(|mend| mend.value());
        for mend in waiting.into_iter().chain(working) {
            self.count_mended(mend, None, now)?;
        }
        Ok(())
    }

    /// Returns how many there were.
    fn forget_lacks(&mut self, seq: u64) -> Result<u64, StoreError> {
        let mut modules = Vec::new();
        for entry in self.lacks.range((seq, 0)..=(seq, NameId::MAX))? {
            modules.push(entry?.0.value().1);
        }
        for &module in &modules {
            self.lacks.remove((seq, module))?;
            self.lacking.remove((module, seq))?;
        }
        Ok(modules.len() as u64)
    }

    /// One crash of a mend is done, unless it is gone with whether it lacks less, and its
    /// signatures before and after.
    fn count_mended(
        &mut self,
        mend: u64,
        outcome: Option<(bool, [Option<&str>; 2])>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let found = self.mends.get(mend)?.map(|row| tables::decode(row.value()));
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
        self.mends.insert(mend, tables::encode(&row).as_slice())?;
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

    #[test]
    fn a_lack_reads_as_it_is_written() {
        for what in [What::Symbols, What::Functions, What::Unwind] {
            let lack = Lack {
                debug_file: "a b/c.pdb".into(),
                debug_id: "AB1".into(),
                what,
            };
            assert_eq!(Lack::parse(&lack.to_string()), Some(lack));
        }
        assert_eq!(Lack::parse("nothing"), None);
    }
}
