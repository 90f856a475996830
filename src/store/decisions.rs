//! How many reports each throttle rule accepted, deferred and discarded.
//!
//! ```text
//! decisions    (day, rule, outcome, product, version) -> reports
//! ```

use std::ops::RangeInclusive;

use redb::ReadableTable;

use super::batch::Batch;
use super::command::Command;
use super::discards::Discard;
use super::error::StoreError;
use super::handle::Store;
use super::names::Names;
use super::tables::*;
use super::txn::Txn;
use crate::clock::Day;
use crate::throttle::Outcome;

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
        if self.shared.discards.lock().is_empty() {
            return Ok(());
        }
        self.tell_discards();
        self.ask(Flush)
    }

    /// Reports of these days, by the rule that decided about them.
    ///
    /// # Errors
    /// The store cannot be read. Also fails while the store cannot be written if counts of discarded reports
    /// are still in memory, because they are stored first.
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
