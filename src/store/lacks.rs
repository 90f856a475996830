//! What the walks of stored crashes needed and did not find: symbols, functions, unwind rules.
//!
//! ```text
//! lacks            (seq, lack)              -> ()     what the walk of a crash lacked
//! lacking          (lack, seq)              -> ()     the same, by lack
//! lack_totals      lack                     -> crashes
//! lack_releases    (lack, product, version) -> crashes
//! ```

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use redb::{ReadableTable, ReadableTableMetadata};

use super::crashes::StoredCrash;
use super::error::StoreError;
use super::handle::Store;
use super::names::Names;
use super::symbols::Release;
use super::tables::*;
use super::txn::Txn;
use crate::crash::lack::Lack;

/// A lack and the crashes that have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lacking {
    pub lack: Lack,
    pub crashes: u64,
    /// The releases of these crashes, most crashes first.
    pub releases: Vec<(Release, u64)>,
}

/// Limit of counts that are read for one list of lacks. Clients choose the names of modules and products, so
/// there may be any number of them.
const LACKS_READ_MAX: usize = 200_000;
/// Limit of releases that are read for one lack.
const LACK_RELEASES_READ_MAX: usize = 1_000;

impl Store {
    /// All lacks of all crashes.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn lacks(&self) -> Result<Vec<Lack>, StoreError> {
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
    ///
    /// # Errors
    /// The store cannot be read, or that crash is damaged.
    pub(crate) fn newest_lacking(&self, lack: &Lack) -> Result<Option<StoredCrash>, StoreError> {
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
    ///
    /// # Errors
    /// The store cannot be read.
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

impl Txn<'_> {
    /// Stores what the walk of a crash lacked. Returns what an earlier walk of it lacked.
    pub(super) fn replace_lacks(
        &mut self,
        seq: u64,
        release: &Release,
        lacks: &[Lack],
    ) -> Result<Vec<Lack>, StoreError> {
        let mut before = Vec::new();
        for module in self.forget_lacks(seq, release)? {
            let text = self.name_texts.get(module)?;
            before.extend(text.and_then(|text| Lack::parse(text.value())));
        }
        for lack in lacks {
            let module = self.name(&lack.to_string())?;
            if self.lacks.insert((seq, module), ())?.is_none() {
                self.count_lack(module, release, 1)?;
            }
            self.lacking.insert((module, seq), ())?;
        }
        Ok(before)
    }

    /// The crashes that lack one of these.
    pub(super) fn crashes_lacking(&self, lacks: &[Lack]) -> Result<BTreeSet<u64>, StoreError> {
        let mut crashes = BTreeSet::new();
        for lack in lacks {
            let lack = lack.to_string();
            let Some(id) = self.names.get(lack.as_str())?.map(|id| id.value()) else {
                continue;
            };
            for entry in self.lacking.range((id, 0)..=(id, u64::MAX))? {
                crashes.insert(entry?.0.value().1);
            }
        }
        Ok(crashes)
    }

    /// Returns the removed lacks.
    pub(super) fn forget_lacks(
        &mut self,
        seq: u64,
        release: &Release,
    ) -> Result<Vec<NameId>, StoreError> {
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
}
