//! Counts that outlive the crashes from which they were made.
//!
//! ```text
//! names        text -> id, and back           each text used in the keys below, once
//! counters     (product, day, version, build) -> CounterRow
//! decisions    (day, rule, outcome, product, version) -> reports
//! ```
//!
//! A crash is counted when its processing ends, under the day of its receipt, in the transaction that stores
//! the result. Its row keeps the keys under which it was counted. So reprocessing moves the count instead of
//! adding one. Deleting a crash does not change its count (ADR 7).

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata};

use super::batch::Batch;
use super::command::Command;
use super::crashes::StoredCrash;
use super::error::StoreError;
use super::handle::Store;
use super::rows::{self, CountedRow, CounterRow, Stored, TallyRow};
use super::tables::*;
use super::txn::Txn;
use crate::clock::Day;
use crate::crash::facts::{Facts, System};
use crate::limits;
use crate::throttle::Outcome;

/// The id of a text in `names`.
pub type NameId = u32;

/// Limit of products that are read for one list.
const PRODUCTS_READ_MAX: usize = 200_000;

/// The keys under which the counters count a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    product: NameId,
    version: NameId,
    build: NameId,
    signature: NameId,
    system: System,
    uptime_s: Option<u64>,
}

impl Counted {
    pub(super) fn row(self) -> CountedRow {
        CountedRow {
            product: self.product,
            version: self.version,
            build: self.build,
            signature: self.signature,
            system: self.system as u8,
            uptime_s: self.uptime_s,
        }
    }

    pub(super) fn of_row(row: CountedRow) -> Self {
        let system = System::ALL.get(usize::from(row.system));
        Self {
            product: row.product,
            version: row.version,
            build: row.build,
            signature: row.signature,
            system: system.copied().unwrap_or_default(),
            uptime_s: row.uptime_s,
        }
    }

    pub(super) fn signature(&self) -> NameId {
        self.signature
    }

    /// The key of the crash's sighting, if it was received on that day.
    pub(super) fn sighting(&self, day: Day) -> SightingKey {
        (
            self.signature,
            day.0,
            self.product,
            self.version,
            self.build,
        )
    }
}

/// A number of crashes, and how long their processes had run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub crashes: u64,
    /// The crashes whose uptime is known.
    pub with_uptime: u64,
    /// Sum of the known uptimes, in seconds.
    pub uptime_s: u64,
}

impl Tally {
    pub fn add(&mut self, other: Tally) {
        self.crashes = self.crashes.saturating_add(other.crashes);
        self.with_uptime = self.with_uptime.saturating_add(other.with_uptime);
        self.uptime_s = self.uptime_s.saturating_add(other.uptime_s);
    }

    fn remove(&mut self, other: Tally) {
        self.crashes = self.crashes.saturating_sub(other.crashes);
        self.with_uptime = self.with_uptime.saturating_sub(other.with_uptime);
        self.uptime_s = self.uptime_s.saturating_sub(other.uptime_s);
    }

    /// Mean time between failures: how long a process ran until it crashed, in seconds.
    pub fn mean_uptime_s(&self) -> Option<f64> {
        (self.with_uptime > 0).then(|| self.uptime_s as f64 / self.with_uptime as f64)
    }
}

/// The value of a row of `counters`: a tally for each of [`System::ALL`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tallies([Tally; System::ALL.len()]);

impl Stored for Tallies {
    type Row = CounterRow;

    fn to_row(&self) -> CounterRow {
        CounterRow(self.0.map(|tally| TallyRow {
            crashes: tally.crashes,
            with_uptime: tally.with_uptime,
            uptime_s: tally.uptime_s,
        }))
    }

    fn from_row(CounterRow(tallies): CounterRow) -> Self {
        Self(tallies.map(|row| Tally {
            crashes: row.crashes,
            with_uptime: row.with_uptime,
            uptime_s: row.uptime_s,
        }))
    }
}

impl Tallies {
    pub fn of(&self, system: System) -> Tally {
        self.0[system as usize]
    }

    /// The sum over all systems.
    pub fn total(&self) -> Tally {
        let mut total = Tally::default();
        self.0.iter().for_each(|tally| total.add(*tally));
        total
    }

    pub fn add(&mut self, other: &Tallies) {
        for (tally, other) in self.0.iter_mut().zip(other.0) {
            tally.add(other);
        }
    }
}

/// The key of a row of `counters`, without the product.
#[derive(Clone, Copy, Debug)]
pub struct CounterKey {
    pub day: Day,
    pub version: NameId,
    pub build: NameId,
}

/// The number of reports that a throttle rule decided about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    pub day: Day,
    pub rule: String,
    pub outcome: Outcome,
    pub product: String,
    pub version: String,
    pub reports: u64,
}

/// A report that was not stored.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Discard {
    pub day: Day,
    pub rule: String,
    pub outcome: Outcome,
    pub product: String,
    pub version: String,
}

/// Replaces the product and version of discarded reports beyond [`DISCARD_KEYS_MAX`].
pub const OTHERS: &str = "(others)";

/// Keys (rule, outcome, product and version) under which the discarded reports of one day are counted
/// separately. The client chooses product and version, and nothing else limits their number.
const DISCARD_KEYS_MAX: usize = 1_000;
/// Minimum time between two writes of discarded reports, because they must not cost a disk sync each.
const DISCARDS_EVERY: Duration = Duration::from_secs(1);

/// Discarded reports that are not stored yet. A kill loses those of the last second.
pub struct Discards {
    waiting: HashMap<Discard, u64>,
    told_at: Option<Instant>,
    day: Day,
    /// Keys of the current day that this process has seen.
    seen: HashSet<Discard>,
}

impl Default for Discards {
    fn default() -> Self {
        Self {
            waiting: HashMap::new(),
            told_at: None,
            day: Day(0),
            seen: HashSet::new(),
        }
    }
}

impl Discards {
    fn add(&mut self, mut discard: Discard) {
        if self.day != discard.day {
            self.day = discard.day;
            self.seen.clear();
        }
        if !self.seen.contains(&discard) {
            if self.seen.len() >= DISCARD_KEYS_MAX {
                discard.product = OTHERS.into();
                discard.version = OTHERS.into();
            }
            self.seen.insert(discard.clone());
        }
        *self.waiting.entry(discard).or_default() += 1;
    }

    fn take(&mut self) -> Vec<(Discard, u64)> {
        self.told_at = Some(Instant::now());
        self.waiting.drain().collect()
    }

    fn is_due(&self) -> bool {
        self.told_at
            .is_none_or(|told_at| told_at.elapsed() >= DISCARDS_EVERY)
    }
}

impl Store {
    /// Counts a report that is not stored. Does not wait for the disk.
    pub fn discarded(&self, discard: Discard) {
        let due = {
            let mut discards = self.shared.discards.lock();
            discards.add(discard);
            discards.is_due().then(|| discards.take())
        };
        if let Some(counts) = due {
            // A store that is closing accepts no more counts.
            let _ = self.tell(CountDiscards(counts));
        }
    }

    /// Sends the discarded reports since the last call to the writer.
    pub(super) fn tell_discards(&self) {
        let counts = self.shared.discards.lock().take();
        if !counts.is_empty() {
            let _ = self.tell(CountDiscards(counts));
        }
    }

    /// Makes all discards so far durable.
    fn settle_discards(&self) -> Result<(), StoreError> {
        if self.shared.discards.lock().waiting.is_empty() {
            return Ok(());
        }
        self.tell_discards();
        self.ask(Flush)
    }

    /// Reports of these days, by the rule that decided about them.
    pub fn decisions(&self, days: RangeInclusive<Day>) -> Result<Vec<Decided>, StoreError> {
        self.settle_discards()?;
        self.read(|read| {
            let mut names = Names::open(read)?;
            let from = (days.start().0, 0, 0, 0, 0);
            let to = (days.end().0, NameId::MAX, u8::MAX, NameId::MAX, NameId::MAX);
            let mut decided = Vec::new();
            for entry in read.open_table(DECISIONS)?.range(from..=to)? {
                let (key, reports) = entry?;
                let (day, rule, outcome, product, version) = key.value();
                let outcomes = Outcome::ALL.into_iter().map(|(_, outcome)| outcome);
                let Some(outcome) = outcomes.into_iter().find(|o| *o as u8 == outcome) else {
                    continue;
                };
                decided.push(Decided {
                    day: Day(day),
                    rule: names.text(rule)?,
                    outcome,
                    product: names.text(product)?,
                    version: names.text(version)?,
                    reports: reports.value(),
                });
            }
            Ok(decided)
        })
    }

    /// Sums the counters of a product over days, one sum for each key that `key` returns. Rows for which it
    /// returns `None` are left out.
    pub fn counters<K: Eq + Hash>(
        &self,
        product: &str,
        days: RangeInclusive<Day>,
        mut key: impl FnMut(&CounterKey) -> Option<K>,
    ) -> Result<HashMap<K, Tallies>, StoreError> {
        self.read(|read| {
            let mut sums: HashMap<K, Tallies> = HashMap::new();
            let Some(product) = name_id(read, product)? else {
                return Ok(sums);
            };
            let from = (product, days.start().0, 0, 0);
            let to = (product, days.end().0, NameId::MAX, NameId::MAX);
            for entry in read.open_table(COUNTERS)?.range(from..=to)? {
                let (found, row) = entry?;
                let (_, day, version, build) = found.value();
                let counts = CounterKey {
                    day: Day(day),
                    version,
                    build,
                };
                if let Some(key) = key(&counts) {
                    let row: Tallies = rows::decode(row.value())?;
                    sums.entry(key).or_default().add(&row);
                }
            }
            Ok(sums)
        })
    }

    /// Products that have ever been counted: the [`limits::PRODUCTS_MAX`] products with the most crashes,
    /// sorted by name, and the number of further products. Clients choose these names, so there may be any
    /// number of them.
    pub fn counted_products(&self) -> Result<(Vec<String>, u64), StoreError> {
        self.read(|read| {
            let totals = read.open_table(PRODUCT_TOTALS)?;
            let mut ranked: Vec<(u64, NameId)> = Vec::new();
            for entry in totals.iter()?.take(PRODUCTS_READ_MAX) {
                let (product, crashes) = entry?;
                ranked.push((crashes.value(), product.value()));
            }
            ranked.sort_by_key(|(crashes, product)| (std::cmp::Reverse(*crashes), *product));
            let left_out = totals.len()?.saturating_sub(limits::PRODUCTS_MAX as u64);
            let mut names = Names::open(read)?;
            let shown = ranked.into_iter().take(limits::PRODUCTS_MAX);
            let mut products: Vec<String> = shown
                .map(|(_, product)| names.text(product))
                .collect::<Result<_, _>>()?;
            products.sort();
            Ok((products, left_out))
        })
    }

    /// The texts of these ids, in the same order.
    pub fn names(&self, ids: &[NameId]) -> Result<Vec<String>, StoreError> {
        self.read(|read| {
            let mut names = Names::open(read)?;
            ids.iter().map(|id| names.text(*id)).collect()
        })
    }
}

pub(super) fn name_id(read: &ReadTransaction, text: &str) -> Result<Option<NameId>, StoreError> {
    Ok(read.open_table(NAMES)?.get(text)?.map(|id| id.value()))
}

/// Texts of names. Each is read once.
pub(super) struct Names {
    texts: redb::ReadOnlyTable<u32, &'static str>,
    known: HashMap<NameId, String>,
}

impl Names {
    pub(super) fn open(read: &ReadTransaction) -> Result<Self, StoreError> {
        Ok(Self {
            texts: read.open_table(NAME_TEXTS)?,
            known: HashMap::new(),
        })
    }

    pub(super) fn text(&mut self, id: NameId) -> Result<String, StoreError> {
        if let Some(text) = self.known.get(&id) {
            return Ok(text.clone());
        }
        let text = self.texts.get(id)?.map(|text| text.value().to_owned());
        let text =
            text.ok_or_else(|| StoreError::Damaged(format!("the text of name {id} is missing")))?;
        self.known.insert(id, text.clone());
        Ok(text)
    }
}

/// Counts reports that were discarded.
struct CountDiscards(Vec<(Discard, u64)>);

impl Command for CountDiscards {
    type Answer = ();

    fn apply(&self, txn: &mut Txn, _: &mut Batch) -> Result<(), StoreError> {
        for (discard, reports) in &self.0 {
            txn.decided(discard, *reports)?;
        }
        Ok(())
    }
}

/// Changes nothing: its answer says that everything sent before it is durable.
struct Flush;

impl Command for Flush {
    type Answer = ();

    fn apply(&self, _: &mut Txn, _: &mut Batch) -> Result<(), StoreError> {
        Ok(())
    }
}

impl Txn<'_> {
    /// The id of a text. A new text gets a new id.
    pub(super) fn name(&mut self, text: &str) -> Result<NameId, StoreError> {
        if let Some(id) = self.names.get(text)? {
            return Ok(id.value());
        }
        let id = u32::try_from(self.next(meta::NEXT_NAME)?)
            .map_err(|_| StoreError::Damaged("too many names (more than 2^32)".into()))?;
        self.names.insert(text, id)?;
        self.name_texts.insert(id, text)?;
        Ok(id)
    }

    /// Counts a crash whose processing has ended. Replaces its previous count.
    pub(super) fn count_crash(
        &mut self,
        seq: u64,
        row: &StoredCrash,
        signature: &str,
        facts: &Facts,
    ) -> Result<Counted, StoreError> {
        let counted = Counted {
            product: self.name(&row.product)?,
            version: self.name(&row.version)?,
            build: self.name(&facts.build)?,
            signature: self.name(signature)?,
            system: facts.system,
            uptime_s: facts.uptime_s,
        };
        if row.counted == Some(counted) {
            return Ok(counted);
        }
        if let Some(before) = row.counted {
            self.tally(row, before, Tally::remove)?;
            self.unsee(seq, row, before)?;
        }
        self.tally(row, counted, |tally, one| tally.add(one))?;
        self.see(seq, row, counted)?;
        Ok(counted)
    }

    /// Counts a crash under a new signature.
    pub(super) fn recount(
        &mut self,
        seq: u64,
        row: &StoredCrash,
        before: Counted,
        signature: NameId,
    ) -> Result<Counted, StoreError> {
        let counted = Counted {
            signature,
            ..before
        };
        if counted != before {
            self.unsee(seq, row, before)?;
            self.see(seq, row, counted)?;
        }
        Ok(counted)
    }

    fn tally(
        &mut self,
        row: &StoredCrash,
        counted: Counted,
        change: impl FnOnce(&mut Tally, Tally),
    ) -> Result<(), StoreError> {
        let key = (
            counted.product,
            row.received_at().day().0,
            counted.version,
            counted.build,
        );
        let found = self.counters.get(key)?.map(|row| rows::decode(row.value()));
        let mut counter: Tallies =
            found
                .unwrap_or(Ok(Tallies::default()))
                .unwrap_or_else(|error| {
                    // A crash is worth more than the sum that it is part of.
                    tracing::error!(%error, ?key, "a damaged counter restarts at zero");
                    Tallies::default()
                });
        let one = Tally {
            crashes: 1,
            with_uptime: counted.uptime_s.is_some().into(),
            uptime_s: counted.uptime_s.unwrap_or(0),
        };
        let before = counter.total().crashes;
        change(&mut counter.0[counted.system as usize], one);
        let by = counter.total().crashes as i64 - before as i64;
        self.total_product(counted.product, by)?;
        if counter.total().crashes == 0 {
            self.counters.remove(key)?;
        } else {
            let bytes = rows::encode(&counter);
            self.counters.insert(key, bytes.as_slice())?;
        }
        Ok(())
    }

    fn total_product(&mut self, product: NameId, by: i64) -> Result<(), StoreError> {
        let total = self.product_totals.get(product)?.map_or(0, |n| n.value());
        match total.saturating_add_signed(by) {
            0 => drop(self.product_totals.remove(product)?),
            n => drop(self.product_totals.insert(product, n)?),
        }
        Ok(())
    }

    /// Computes the sums per product in a store that was made before these sums existed.
    pub(super) fn fill_product_totals(&mut self) -> Result<(), StoreError> {
        if !self.product_totals.is_empty()? || self.counters.is_empty()? {
            return Ok(());
        }
        let mut totals: std::collections::HashMap<NameId, u64> = Default::default();
        for entry in self.counters.iter()? {
            let (key, row) = entry?;
            if let Ok(row) = rows::decode::<Tallies>(row.value()) {
                *totals.entry(key.value().0).or_default() += row.total().crashes;
            }
        }
        for (product, crashes) in totals {
            self.total_product(product, crashes as i64)?;
        }
        Ok(())
    }

    /// Counts reports that a rule decided about.
    pub(super) fn decided(&mut self, decided: &Discard, reports: u64) -> Result<(), StoreError> {
        let key = (
            decided.day.0,
            self.name(&decided.rule)?,
            decided.outcome as u8,
            self.name(&decided.product)?,
            self.name(&decided.version)?,
        );
        let before = self.decisions.get(key)?.map_or(0, |n| n.value());
        self.decisions.insert(key, before.saturating_add(reports))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_is_told_by_its_first_letters() {
        for (platform, expected) in [
            ("Windows NT", System::Windows),
            ("Mac OS X", System::Mac),
            ("macOS", System::Mac),
            ("Linux", System::Linux),
            ("Android", System::Other),
            ("é", System::Other),
            ("", System::Other),
        ] {
            assert_eq!(System::of(platform), expected, "{platform}");
        }
    }

    #[test]
    fn discarded_reports_of_too_many_names_are_counted_as_others() {
        let discard = |version: usize, day| Discard {
            day: Day(day),
            rule: "r".into(),
            outcome: Outcome::Reject,
            product: "P".into(),
            version: version.to_string(),
        };
        let mut discards = Discards::default();
        for version in 0..DISCARD_KEYS_MAX + 5 {
            discards.add(discard(version, 1));
            discards.add(discard(0, 1));
        }
        let counts: HashMap<Discard, u64> = discards.take().into_iter().collect();
        assert_eq!(counts.len(), DISCARD_KEYS_MAX + 1);
        assert_eq!(
            counts[&discard(0, 1)],
            DISCARD_KEYS_MAX as u64 + 6,
            "a known name is still counted separately"
        );
        let others = counts.iter().find(|(key, _)| key.version == OTHERS);
        assert_eq!(others.expect("the rest").1, &5);
        discards.add(discard(7_000, 2));
        assert_eq!(discards.take(), [(discard(7_000, 2), 1)], "a new day");
    }
}
