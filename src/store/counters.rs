//! Counts that outlive the crashes from which they were made.
//!
//! ```text
//! counters        (product, day, version, build) -> CounterRow
//! product_totals  product                        -> crashes
//! ```
//!
//! A crash is counted when its processing ends, under the day of its receipt, in the transaction that stores
//! the result. Its row keeps the keys under which it was counted. So reprocessing moves the count instead of
//! adding one. Deleting a crash does not change its count (ADR 7).

use std::collections::HashMap;
use std::hash::Hash;
use std::ops::RangeInclusive;

use redb::{ReadableTable, ReadableTableMetadata};

use super::crashes::StoredCrash;
pub(crate) use super::decisions::Decided;
pub use super::discards::{Discard, OTHERS};
use super::error::StoreError;
use super::handle::Store;
pub(crate) use super::names::NameId;
use super::names::{Names, name_id};
use super::rows;
use super::tables::*;
pub(crate) use super::tally::Counted;
pub use super::tally::{Tallies, Tally};
use super::txn::Txn;
use crate::clock::Day;
use crate::crash::facts::Facts;
use crate::limits;

/// Limit of products that are read for one list.
const PRODUCTS_READ_MAX: usize = 200_000;

/// The key of a row of `counters`, without the product.
#[derive(Clone, Copy, Debug)]
pub struct CounterKey {
    pub day: Day,
    pub version: NameId,
    pub build: NameId,
}

impl Store {
    /// Sums the counters of a product over days, one sum for each key that `key` returns. Rows for which it
    /// returns `None` are left out.
    ///
    /// # Errors
    /// The store cannot be read, or a counter of these days is damaged.
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
    ///
    /// # Errors
    /// The store cannot be read, or the name of a product is missing in it.
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
}

impl Txn<'_> {
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
}
