//! Dictionaries of text columns, kept unpacked in memory.
//!
//! The dictionary of a column has each text of a segment once, sorted and packed. It must be unpacked to
//! search it (for a part of a text, a pattern, or the texts of many entries). Segments never change, so
//! unpacked dictionaries are kept, the most recently used ones up to [`KEPT_BYTES_MAX`].

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use memchr::memmem::Finder;
use tantivy::columnar::{Column, StrColumn};
use tantivy::index::SegmentId;

use super::bounds::Running;
use super::error::IndexError;
use super::unique::hash_text;
use parking_lot::Mutex;

/// Limit of bytes of all dictionaries that are kept.
const KEPT_BYTES_MAX: usize = 64 << 20;
/// Limit of dictionaries that are kept or known to be too large.
const KEPT_MAX: usize = 4_096;
/// Limit of bytes of a dictionary that is kept. Larger ones have texts that rarely repeat, and are read
/// packed each time.
const ONE_BYTES_MAX: usize = 16 << 20;
/// Number of entries between two checks of the time limit.
const STRIDE: u64 = 1_024;

/// All texts of a dictionary, in its order.
pub(crate) struct Terms {
    bytes: Vec<u8>,
    /// The end of each text.
    ends: Vec<u32>,
    /// The texts' hashes, computed on first use.
    hashes: OnceLock<Vec<u64>>,
}

impl Terms {
    fn hash(&self, ord: usize) -> u64 {
        let all = || (0..self.ends.len()).map(|ord| hash_text(self.get(ord)));
        self.hashes.get_or_init(|| all().collect())[ord]
    }

    fn get(&self, ord: usize) -> &[u8] {
        let start = if ord == 0 { 0 } else { self.ends[ord - 1] };
        &self.bytes[start as usize..self.ends[ord] as usize]
    }

    fn find(&self, text: &[u8]) -> Option<u64> {
        let (mut low, mut high) = (0, self.ends.len());
        while low < high {
            let middle = (low + high) / 2;
            match self.get(middle).cmp(text) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(middle as u64),
            }
        }
        None
    }

    /// Includes the hashes, which may be computed at any time.
    fn memory(&self) -> usize {
        let hashes = size_of::<u64>() * self.ends.len();
        self.bytes.capacity() + size_of::<u32>() * self.ends.capacity() + hashes
    }
}

/// The dictionaries that are kept, by segment and column.
#[derive(Default)]
pub(crate) struct Dictionaries(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    bytes: usize,
    /// Incremented with each use.
    now: u64,
    by_column: HashMap<(SegmentId, String), Entry>,
}

struct Entry {
    used_at: u64,
    /// `None`: it is too large to be kept.
    terms: Option<Arc<Terms>>,
}

impl Kept {
    fn get(&mut self, key: &(SegmentId, String)) -> Option<Option<Arc<Terms>>> {
        self.now += 1;
        let entry = self.by_column.get_mut(key)?;
        entry.used_at = self.now;
        Some(entry.terms.clone())
    }

    fn put(&mut self, key: (SegmentId, String), terms: Option<Arc<Terms>>) {
        self.bytes += terms.as_ref().map_or(0, |terms| terms.memory());
        let used_at = self.now;
        let old = self.by_column.insert(key, Entry { used_at, terms });
        self.bytes -= old.and_then(|old| old.terms).map_or(0, |t| t.memory());
        while self.bytes > KEPT_BYTES_MAX || self.by_column.len() > KEPT_MAX {
            let oldest = self.by_column.iter().min_by_key(|(_, e)| e.used_at);
            let Some(key) = oldest.map(|(key, _)| key.clone()) else {
                return;
            };
            let gone = self.by_column.remove(&key).and_then(|entry| entry.terms);
            self.bytes -= gone.map_or(0, |terms| terms.memory());
        }
    }
}

/// A column of texts: for each document the numbers of its entries, and the dictionary.
#[derive(Clone)]
pub(crate) struct TextColumn {
    column: StrColumn,
    key: (SegmentId, String),
    dictionaries: Arc<Dictionaries>,
}

impl TextColumn {
    pub(crate) fn new(
        column: StrColumn,
        segment: SegmentId,
        name: String,
        dictionaries: &Arc<Dictionaries>,
    ) -> Self {
        Self {
            column,
            key: (segment, name),
            dictionaries: dictionaries.clone(),
        }
    }

    pub(crate) fn ords(&self) -> &Column<u64> {
        self.column.ords()
    }

    /// Number of entries in the dictionary.
    pub(crate) fn len(&self) -> usize {
        self.column.num_terms()
    }

    /// The entry of a text.
    pub(crate) fn ord_of(&self, text: &str) -> Result<Option<u64>, IndexError> {
        match self.known() {
            Some(Some(terms)) => Ok(terms.find(text.as_bytes())),
            _ => Ok(self.column.dictionary().term_ord(text)?),
        }
    }

    /// Calls `take` with the texts of some entries. `ords` must ascend and have no duplicates.
    pub(crate) fn each_of(
        &self,
        ords: &[u64],
        running: &Running,
        mut take: impl FnMut(u64, &str) -> Result<(), IndexError>,
    ) -> Result<(), IndexError> {
        let mut take = |ord, text: &[u8]| take(ord, &String::from_utf8_lossy(text));
        match self.terms_for(ords, running)? {
            Some(terms) => ords
                .iter()
                .try_for_each(|ord| take(*ord, terms.get(*ord as usize))),
            None => self.read_some(ords, running, take),
        }
    }

    /// The same with the hashes of the texts, for callers that only need to distinguish them.
    pub(crate) fn each_hash_of(
        &self,
        ords: &[u64],
        running: &Running,
        mut take: impl FnMut(u64, u64) -> Result<(), IndexError>,
    ) -> Result<(), IndexError> {
        match self.terms_for(ords, running)? {
            Some(terms) => ords
                .iter()
                .try_for_each(|ord| take(*ord, terms.hash(*ord as usize))),
            None => self.read_some(ords, running, |ord, text| take(ord, hash_text(text))),
        }
    }

    /// The unpacked dictionary, if it is the faster way to this many entries. For many entries it is
    /// unpacked, because it will probably be used again.
    fn terms_for(&self, ords: &[u64], running: &Running) -> Result<Option<Arc<Terms>>, IndexError> {
        if ords.len() * 8 > self.len() {
            self.terms(running)
        } else {
            Ok(self.known().flatten())
        }
    }

    /// Reads some entries of the packed dictionary.
    fn read_some(
        &self,
        ords: &[u64],
        running: &Running,
        mut take: impl FnMut(u64, &[u8]) -> Result<(), IndexError>,
    ) -> Result<(), IndexError> {
        let mut at = 0;
        let mut outcome = Ok(());
        // The callback cannot stop the loop, so it is called for some entries at a time.
        for some in ords.chunks(STRIDE as usize) {
            running.check_time()?;
            let dictionary = self.column.dictionary();
            let is_complete = dictionary.sorted_ords_to_term_cb(some, |term| {
                if outcome.is_ok() {
                    outcome = take(ords[at], term);
                }
                at += 1;
            })?;
            std::mem::replace(&mut outcome, Ok(()))?;
            if !is_complete {
                return Err(IndexError::Damaged("a dictionary lacks an entry".into()));
            }
        }
        Ok(())
    }

    /// Calls `take` with each entry and its text, in order.
    pub(crate) fn each(
        &self,
        running: &Running,
        mut take: impl FnMut(u64, &str),
    ) -> Result<(), IndexError> {
        if let Some(terms) = self.terms(running)? {
            for ord in 0..terms.ends.len() {
                if (ord as u64).is_multiple_of(STRIDE) {
                    running.check_time()?;
                }
                take(ord as u64, &String::from_utf8_lossy(terms.get(ord)));
            }
            return Ok(());
        }
        self.read(running, |ord, term| {
            take(ord, &String::from_utf8_lossy(term));
            true
        })
    }

    /// Calls `take` with each entry whose text contains `part`.
    pub(crate) fn each_with(
        &self,
        part: &Finder,
        running: &Running,
        mut take: impl FnMut(u64, &str),
    ) -> Result<(), IndexError> {
        let Some(terms) = self.terms(running)? else {
            return self.read(running, |ord, term| {
                if part.find(term).is_some() {
                    take(ord, &String::from_utf8_lossy(term));
                }
                true
            });
        };
        let len = part.needle().len();
        let (mut at, mut ord, mut found_count) = (0, 0, 0_u64);
        while let Some(found) = part.find(&terms.bytes[at..]) {
            found_count += 1;
            if found_count.is_multiple_of(STRIDE) {
                running.check_time()?;
            }
            let found = at + found;
            ord += terms.ends[ord..].partition_point(|end| *end as usize <= found);
            let Some(&end) = terms.ends.get(ord) else {
                break;
            };
            // A match that extends into the next text is not a match.
            if found + len <= end as usize {
                take(ord as u64, &String::from_utf8_lossy(terms.get(ord)));
                at = end as usize;
            } else {
                at = found + 1
            }
        }
        Ok(())
    }

    fn known(&self) -> Option<Option<Arc<Terms>>> {
        let mut kept = self.dictionaries.0.lock();
        kept.get(&self.key)
    }

    /// The unpacked dictionary; `None` if it is too large.
    fn terms(&self, running: &Running) -> Result<Option<Arc<Terms>>, IndexError> {
        if let Some(known) = self.known() {
            return Ok(known);
        }
        let mut terms = Some(Terms {
            bytes: Vec::new(),
            ends: Vec::with_capacity(self.len().min(ONE_BYTES_MAX / 4)),
            hashes: OnceLock::new(),
        });
        self.read(running, |_, term| {
            if let Some(known) = &mut terms {
                known.bytes.extend_from_slice(term);
                known.ends.push(known.bytes.len() as u32);
                if known.bytes.len() + 4 * known.ends.len() > ONE_BYTES_MAX {
                    terms = None;
                }
            }
            terms.is_some()
        })?;
        let terms = terms.map(|mut terms| {
            terms.bytes.shrink_to_fit();
            terms.ends.shrink_to_fit();
            Arc::new(terms)
        });
        let mut kept = self.dictionaries.0.lock();
        kept.put(self.key.clone(), terms.clone());
        Ok(terms)
    }

    /// Reads the packed dictionary until `take` returns false.
    fn read(
        &self,
        running: &Running,
        mut take: impl FnMut(u64, &[u8]) -> bool,
    ) -> Result<(), IndexError> {
        let mut stream = self.column.dictionary().stream()?;
        while stream.advance() {
            if stream.term_ord().is_multiple_of(STRIDE) {
                running.check_time()?;
            }
            if !take(stream.term_ord(), stream.key()) {
                break;
            }
        }
        Ok(())
    }
}
