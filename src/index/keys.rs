//! Selects the annotations without a field that get their own columns.
//!
//! Each annotation costs columns in every segment of the index, so their number is limited. Clients choose
//! the keys, so someone may send reports to use up the limit. Half of the columns go to keys when they are
//! first seen, so a small site finds all its keys. The other columns go to keys that were seen in several
//! crashes. If none is left, a key replaces one that is seen far less often. A rebuilt index starts with the
//! most frequent keys. A search is told which of its keys are not indexed for every crash ([`Keys::lacks`]).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::query::{FieldRef, Query};

/// Columns that are given to keys when they are first seen.
const AT_FIRST_SIGHT: usize = limits::INDEX_ANNOTATION_KEYS_MAX / 2;
/// Number of crashes with a key before it gets one of the other columns.
const CRASHES_MIN: u64 = 3;
/// Limit of keys without a column that are counted.
const WAITING_MAX: usize = 1_000;
/// Limit of columns that one index ever creates.
const COLUMNS_EVER_MAX: usize = 2 * limits::INDEX_ANNOTATION_KEYS_MAX;
/// Limit of bytes of a key that gets a column.
const KEY_BYTES_MAX: usize = 200;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Keys {
    /// Number of crashes with each key that has a column.
    columns: BTreeMap<String, u64>,
    /// Keys for which the column of some crashes of this index was not written.
    partial: BTreeSet<String>,
    /// Number of crashes with each key that has no column.
    waiting: BTreeMap<String, u64>,
    /// Number of columns that this index has ever created.
    made: usize,
    /// Some keys were forgotten, because too many had no column.
    has_forgotten: bool,
}

impl Keys {
    /// For an index that was made before keys were counted: the keys of its columns.
    pub(crate) fn of_columns(columns: impl IntoIterator<Item = String>) -> Self {
        let columns: BTreeMap<String, u64> = columns.into_iter().map(|key| (key, 1)).collect();
        Self {
            made: columns.len(),
            // We do not know whether other keys were left out.
            has_forgotten: columns.len() >= limits::INDEX_ANNOTATION_KEYS_MAX,
            columns,
            ..Self::default()
        }
    }

    /// For an index that is rebuilt from all crashes: starts with the most frequent keys.
    pub(crate) fn for_rebuild(&self) -> Self {
        let mut ranked: Vec<(u64, &String)> = self
            .columns
            .iter()
            .chain(&self.waiting)
            .map(|(key, crashes)| (*crashes, key))
            .collect();
        ranked.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(b.1)));
        // Leaves room for keys that are first seen during the build.
        let kept = ranked.into_iter().take(AT_FIRST_SIGHT);
        let columns: BTreeMap<String, u64> = kept.map(|(_, key)| (key.clone(), 0)).collect();
        Self {
            made: columns.len(),
            columns,
            ..Self::default()
        }
    }

    /// Counts a crash that has the key. Returns whether its value is written.
    pub(crate) fn take(&mut self, key: &str) -> bool {
        if let Some(crashes) = self.columns.get_mut(key) {
            *crashes += 1;
            return true;
        }
        if key.len() > KEY_BYTES_MAX {
            self.has_forgotten = true;
            return false;
        }
        let waited = self.waiting.get(key).copied().unwrap_or(0);
        let crashes = waited + 1;
        let is_known_well = crashes >= CRASHES_MIN;
        let may_have_one = self.columns.len() < AT_FIRST_SIGHT
            || is_known_well && self.columns.len() < limits::INDEX_ANNOTATION_KEYS_MAX
            || is_known_well && self.make_room(crashes);
        if may_have_one && self.made < COLUMNS_EVER_MAX {
            self.waiting.remove(key);
            self.columns.insert(key.to_owned(), crashes);
            self.made += 1;
            // If keys were forgotten, this key may have been seen before, too.
            if waited > 0 || self.has_forgotten {
                self.partial.insert(key.to_owned());
            }
            return true;
        }
        if waited == 0 && self.waiting.len() >= WAITING_MAX {
            self.has_forgotten = true;
            let least = self.waiting.iter().min_by_key(|(_, crashes)| **crashes);
            match least.map(|(key, crashes)| (key.clone(), *crashes)) {
                Some((least, 1)) => self.waiting.remove(&least),
                _ => return false,
            };
        }
        self.waiting.insert(key.to_owned(), crashes);
        false
    }

    /// Takes the column of the least frequent key, if that is far less frequent than `crashes`.
    fn make_room(&mut self, crashes: u64) -> bool {
        if self.made >= COLUMNS_EVER_MAX {
            return false;
        }
        let least = self.columns.iter().min_by_key(|(_, seen)| **seen);
        let Some((key, seen)) = least.map(|(key, seen)| (key.clone(), *seen)) else {
            return false;
        };
        if seen.saturating_mul(2) >= crashes {
            return false;
        }
        self.columns.remove(&key);
        self.partial.insert(key.clone());
        self.waiting.insert(key, seen);
        true
    }

    /// The annotations in a query that are not indexed for every crash.
    pub(crate) fn lacks(&self, query: &Query) -> Vec<String> {
        let is_lacking = |key: &String| {
            self.partial.contains(key)
                || self.waiting.contains_key(key)
                || self.has_forgotten && !self.columns.contains_key(key)
        };
        let mut names: Vec<String> = query
            .fields()
            .into_iter()
            .filter(|field| match field {
                FieldRef::Known(_) => false,
                FieldRef::Annotation(key) => is_lacking(key),
            })
            .map(FieldRef::name)
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::fields::Catalogue;
    use limits::INDEX_ANNOTATION_KEYS_MAX as MAX;

    fn lacks(keys: &Keys, key: &str) -> bool {
        let params = [(format!("annotation.{key}"), "~x".to_owned())];
        let query = Query::parse(&Catalogue::builtin(), &params, Timestamp::from_ms(0), true)
            .expect("a query");
        !keys.lacks(&query).is_empty()
    }

    #[test]
    fn a_sender_of_many_keys_does_not_keep_a_real_one_out() {
        let mut keys = Keys::default();
        for round in 0..4 {
            for n in 0..5 * MAX {
                keys.take(&format!("junk{n}"));
            }
            assert!(
                keys.columns.len() <= MAX && keys.waiting.len() <= WAITING_MAX,
                "{round}"
            );
        }
        let written = (0..20).filter(|_| keys.take("real")).count();
        assert!(written >= 8, "{written}");
        assert!(
            lacks(&keys, "real"),
            "the first crashes are not indexed by it"
        );
        assert!(lacks(&keys, "never_seen"), "it is no longer known");
        assert!(keys.made <= COLUMNS_EVER_MAX);
        // A rebuilt index has all crashes.
        let mut anew = keys.for_rebuild();
        assert!(anew.take("real"));
        assert!(!lacks(&anew, "real"));
    }

    #[test]
    fn a_small_site_has_all_its_keys_at_first_sight() {
        let mut keys = Keys::default();
        for n in 0..AT_FIRST_SIGHT {
            assert!(keys.take(&format!("key{n}")));
        }
        assert!(!lacks(&keys, "key0") && !lacks(&keys, "never_seen"));
        assert!(!keys.take("one more"));
        assert!(lacks(&keys, "one more"));
    }
}
