//! When each signature was seen, and in which releases and builds. Sightings outlive the crashes (ADR 7).
//!
//! ```text
//! sightings    (signature, day, product, version, build)          -> (crashes, first ms, last ms)
//! seen         (the same, received ms, seq)                       -> ()
//! gone         (signature, day, product, version, build)          -> (first ms, last ms)
//! ```
//!
//! Reprocessing and new lists can move the first crash of a signature to another signature. Then the next
//! crash becomes the first. `seen` has the candidates among the stored crashes. `gone` has the times of
//! deleted crashes, which never move again.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata};

use super::crashes::StoredCrash;
use super::error::StoreError;
use super::handle::Store;
use super::names::{Names, name_id};
use super::rows::{self, GroupRow};
use super::tables::*;
use super::tally::Counted;
use super::txn::Txn;
use crate::clock::{Day, Timestamp};

/// The crashes of a signature on one day, of one build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    pub day: Day,
    pub product: String,
    pub version: String,
    pub build: String,
    pub crashes: u64,
    /// Receipt of the first and of the last of them.
    pub first_at: Timestamp,
    pub last_at: Timestamp,
}

impl Store {
    /// The sightings of a signature, by day.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn sightings(&self, signature: &str) -> Result<Vec<Sighting>, StoreError> {
        self.read(|read| {
            let Some(id) = name_id(read, signature)? else {
                return Ok(Vec::new());
            };
            let mut names = Names::open(read)?;
            let mut found = Vec::new();
            for entry in read.open_table(SIGHTINGS)?.range(days_of(id))? {
                let (key, value) = entry?;
                let (_, day, product, version, build) = key.value();
                let (crashes, first, last) = value.value();
                found.push(Sighting {
                    day: Day(day),
                    product: names.text(product)?,
                    version: names.text(version)?,
                    build: names.text(build)?,
                    crashes,
                    first_at: Timestamp::from_ms(first),
                    last_at: Timestamp::from_ms(last),
                });
            }
            Ok(found)
        })
    }

    /// When each of these signatures was first counted. Signatures that were never counted are left out.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn first_seen(
        &self,
        signatures: &[String],
    ) -> Result<HashMap<String, Timestamp>, StoreError> {
        self.read(|read| {
            let names = read.open_table(NAMES)?;
            let sightings = read.open_table(SIGHTINGS)?;
            let mut found = HashMap::new();
            for signature in signatures {
                let Some(id) = names.get(signature.as_str())?.map(|id| id.value()) else {
                    continue;
                };
                let mut day = None;
                let mut first_ms = i64::MAX;
                for entry in sightings.range(days_of(id))? {
                    let (key, value) = entry?;
                    if day.is_some_and(|day| day != key.value().1) {
                        break;
                    }
                    day = Some(key.value().1);
                    first_ms = first_ms.min(value.value().1);
                }
                if let Some(earlier) = group_first_ms(read, id)? {
                    first_ms = first_ms.min(earlier);
                }
                if first_ms != i64::MAX {
                    found.insert(signature.clone(), Timestamp::from_ms(first_ms));
                }
            }
            Ok(found)
        })
    }
}

/// The first crash that the group of a signature had under its earlier signatures.
fn group_first_ms(read: &ReadTransaction, signature: NameId) -> Result<Option<i64>, StoreError> {
    let ids = match read.open_table(GROUP_IDS) {
        // An older store that is opened only for reading does not have this table.
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        table => table?,
    };
    let Some(id) = ids.get(signature)? else {
        return Ok(None);
    };
    let groups = read.open_table(GROUPS)?;
    let row = groups.get(id.value())?;
    let row = row
        .map(|row| rows::decode::<GroupRow>(row.value()))
        .transpose()?;
    Ok(row.and_then(|row| row.first_ms))
}

/// The range of the keys of all sightings of a signature.
pub(super) fn days_of(signature: NameId) -> RangeInclusive<SightingKey> {
    const MAX: u32 = u32::MAX;
    (signature, 0, 0, 0, 0)..=(signature, MAX, MAX, MAX, MAX)
}

/// The sighting of a crash that was counted as `counted`.
fn key_of(row: &StoredCrash, counted: Counted) -> SightingKey {
    counted.sighting(row.received_at().day())
}

fn seen_key((a, b, c, d, e): SightingKey, at_ms: i64, seq: u64) -> SeenKey {
    (a, b, c, d, e, at_ms, seq)
}

impl Txn<'_> {
    pub(super) fn see(
        &mut self,
        seq: u64,
        row: &StoredCrash,
        counted: Counted,
    ) -> Result<(), StoreError> {
        let (key, at) = (key_of(row, counted), row.received_at_ms);
        self.seen.insert(seen_key(key, at, seq), ())?;
        let before = self.sightings.get(key)?.map(|found| found.value());
        let (crashes, first, last) = before.unwrap_or((0, at, at));
        let now = (crashes.saturating_add(1), first.min(at), last.max(at));
        self.sightings.insert(key, now)?;
        Ok(())
    }

    pub(super) fn unsee(
        &mut self,
        seq: u64,
        row: &StoredCrash,
        counted: Counted,
    ) -> Result<(), StoreError> {
        let (key, at) = (key_of(row, counted), row.received_at_ms);
        self.seen.remove(seen_key(key, at, seq))?;
        let before = self.sightings.get(key)?.map(|found| found.value());
        match before {
            Some((crashes, first, last)) if crashes > 1 => {
                let (first, last) = if at == first || at == last {
                    self.bounds(key)?.unwrap_or((first, last))
                } else {
                    (first, last)
                };
                self.sightings.insert(key, (crashes - 1, first, last))?;
            }
            _ => drop(self.sightings.remove(key)?),
        }
        Ok(())
    }

    /// Receipt of the first and the last crash of a sighting, stored or deleted.
    fn bounds(&self, key: SightingKey) -> Result<Option<(i64, i64)>, StoreError> {
        let all = seen_key(key, i64::MIN, 0)..=seen_key(key, i64::MAX, u64::MAX);
        let mut seen = self.seen.range(all)?;
        let first = seen.next().transpose()?.map(|(key, _)| key.value().5);
        let last = seen.next_back().transpose()?.map(|(key, _)| key.value().5);
        let stored = first.map(|first| (first, last.unwrap_or(first)));
        let gone = self.gone.get(key)?.map(|gone| gone.value());
        Ok(match (stored, gone) {
            (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
            (one, other) => one.or(other),
        })
    }

    /// Keeps the sighting of a crash that is deleted.
    pub(super) fn outlive(&mut self, seq: u64, row: &StoredCrash) -> Result<(), StoreError> {
        let Some(counted) = row.counted else {
            return Ok(());
        };
        let (key, at) = (key_of(row, counted), row.received_at_ms);
        self.seen.remove(seen_key(key, at, seq))?;
        let gone = self.gone.get(key)?.map(|gone| gone.value());
        let (first, last) = gone.unwrap_or((at, at));
        self.gone.insert(key, (first.min(at), last.max(at)))?;
        Ok(())
    }

    /// Fills `seen` in a store that was made before this table existed. Of crashes deleted before that, only
    /// the first and last time of each sighting are known.
    pub(super) fn fill_seen(&mut self) -> Result<(), StoreError> {
        if !self.seen.is_empty()? || self.sightings.is_empty()? || !self.gone.is_empty()? {
            return Ok(());
        }
        let mut stored: HashMap<SightingKey, u64> = HashMap::new();
        for entry in self.crashes.iter()? {
            let (seq, row) = entry?;
            let Ok(row) = rows::decode::<StoredCrash>(row.value()) else {
                continue;
            };
            if let Some(counted) = row.counted {
                let key = key_of(&row, counted);
                *stored.entry(key).or_default() += 1;
                let seen = seen_key(key, row.received_at_ms, seq.value());
                self.seen.insert(seen, ())?;
            }
        }
        for entry in self.sightings.iter()? {
            let (key, value) = entry?;
            let (crashes, first, last) = value.value();
            if stored.get(&key.value()).is_none_or(|n| *n < crashes) {
                self.gone.insert(key.value(), (first, last))?;
            }
        }
        Ok(())
    }
}
