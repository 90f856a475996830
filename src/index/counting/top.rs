//! Finds the most frequent texts over several dictionaries, without reading all of them.
//!
//! Each segment has counted its own entries. Add up the counts of the first `n` entries of each segment: the
//! n-th sum is a lower bound for the count of the n-th text. A text among the first `n` has, in at least one
//! segment, this count divided by the number of segments. So only entries above this share have to be read as
//! texts, and with skewed counts they are few. The result is exact, ties included.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::bucket::{Bucket, Key, version};
use crate::fields::Kind;
use crate::fields::version::VersionKey;
use crate::index::bounds::Running;
use crate::index::error::IndexError;
use crate::index::terms::TextColumn;

/// Bytes that a text needs in addition to its length while counts are added up.
const TEXT_BYTES: usize = 80;
/// Looking up a text in a dictionary costs as much as reading this many entries.
const LOOK_UP: usize = 8;

/// Counts of the entries of each segment's dictionary.
#[derive(Default)]
pub(crate) struct Top {
    segments: Vec<(TextColumn, Vec<u32>)>,
}

/// Counts by text, within the limits.
struct Sums<'r> {
    counts: HashMap<Box<str>, u64>,
    bytes: usize,
    held: usize,
    running: &'r Running,
}

impl Sums<'_> {
    fn clear(&mut self) {
        self.counts.clear();
        self.bytes = 0;
    }

    fn add(&mut self, text: &str, count: u64) -> Result<(), IndexError> {
        match self.counts.get_mut(text) {
            Some(known) => *known += count,
            None => {
                self.counts.insert(text.into(), count);
                self.bytes += text.len() + TEXT_BYTES;
                self.running.check_bytes(self.held + self.bytes)?;
            }
        }
        Ok(())
    }
}

impl Top {
    pub(crate) fn add(&mut self, column: TextColumn, counts: Vec<u32>) {
        if counts.iter().any(|count| *count > 0) {
            self.segments.push((column, counts));
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.segments
            .iter()
            .map(|(_, counts)| 4 * counts.len())
            .sum()
    }

    /// The first `size` texts by count. Equal counts are sorted by text, or as versions. The search already
    /// uses `held` bytes.
    pub(crate) fn finish(
        &self,
        kind: Kind,
        size: usize,
        held: usize,
        running: &Running,
    ) -> Result<Vec<Bucket>, IndexError> {
        let sums = self.candidates(size, held, running)?;
        let entry = |(text, count): (Box<str>, u64)| (Reverse(count), version(kind, &text), text);
        let mut found: Vec<(Reverse<u64>, Option<VersionKey>, Box<str>)> =
            sums.into_iter().map(entry).collect();
        if found.len() > size {
            found.select_nth_unstable(size);
            found.truncate(size);
        }
        found.sort_unstable();
        let bucket = |(Reverse(count), _, text)| Bucket {
            parent: 0,
            key: Key::Text(text),
            count,
        };
        Ok(found.into_iter().map(bucket).collect())
    }

    /// Texts that may be among the first, with their counts over all segments.
    fn candidates(
        &self,
        size: usize,
        held: usize,
        running: &Running,
    ) -> Result<HashMap<Box<str>, u64>, IndexError> {
        let mut sums = Sums {
            counts: HashMap::new(),
            bytes: 0,
            held,
            running,
        };
        for (column, counts) in &self.segments {
            running.check_time()?;
            let mut found = entries(counts, 1);
            running.check_bytes(held + found.len() * 16)?;
            if found.len() > size {
                found.select_nth_unstable_by(size, |a, b| b.0.cmp(&a.0));
                found.truncate(size);
            }
            self.add_texts(column, found, &mut sums)?;
        }
        let mut least: Vec<u64> = sums.counts.values().copied().collect();
        let threshold = if least.len() >= size {
            *least.select_nth_unstable_by(size - 1, |a, b| b.cmp(a)).1
        } else {
            1
        };
        let share = threshold.div_ceil(self.segments.len().max(1) as u64).max(1);
        let share = u32::try_from(share).unwrap_or(u32::MAX);
        sums.clear();
        self.add_all(share, &mut sums)?;
        let entries = self.segments.iter().flat_map(|(_, counts)| counts);
        let entries = entries.filter(|count| **count > 0).count();
        if sums.counts.len() * self.segments.len() * LOOK_UP > entries {
            sums.clear();
            self.add_all(1, &mut sums)?;
            return Ok(sums.counts);
        }
        for (text, count) in &mut sums.counts {
            *count = 0;
            for (column, counts) in &self.segments {
                if let Some(ord) = column.ord_of(text)? {
                    *count += u64::from(counts[ord as usize]);
                }
            }
        }
        Ok(sums.counts)
    }

    /// Adds every entry with a count of at least `least`.
    fn add_all(&self, least: u32, sums: &mut Sums) -> Result<(), IndexError> {
        for (column, counts) in &self.segments {
            sums.running.check_time()?;
            let found = entries(counts, least);
            let held = sums.held + sums.bytes + found.len() * 16;
            sums.running.check_bytes(held)?;
            self.add_texts(column, found, sums)?;
        }
        Ok(())
    }

    fn add_texts(
        &self,
        column: &TextColumn,
        mut found: Vec<(u32, u64)>,
        sums: &mut Sums,
    ) -> Result<(), IndexError> {
        found.sort_unstable_by_key(|(_, ord)| *ord);
        let ords: Vec<u64> = found.iter().map(|(_, ord)| *ord).collect();
        let mut counts = found.into_iter();
        column.each_of(&ords, sums.running, |_, text| {
            let (count, _) = counts.next().unwrap_or_default();
            sums.add(text, count.into())
        })
    }
}

/// The entries with a count of at least `least`, as (count, entry).
fn entries(counts: &[u32], least: u32) -> Vec<(u32, u64)> {
    let counts = counts.iter().copied().zip(0..);
    counts.filter(|(count, _)| *count >= least).collect()
}
