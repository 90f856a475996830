//! Reports that were not stored, until the writer counts them.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::clock::Day;
use crate::throttle::Outcome;

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
pub(crate) struct Discards {
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
    pub(super) fn add(&mut self, mut discard: Discard) {
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

    pub(super) fn take(&mut self) -> Vec<(Discard, u64)> {
        self.told_at = Some(Instant::now());
        self.waiting.drain().collect()
    }

    pub(super) fn is_due(&self) -> bool {
        self.told_at
            .is_none_or(|told_at| told_at.elapsed() >= DISCARDS_EVERY)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
