//! All crashes that a search finds, in pages, without a limit on their number.

use std::collections::HashSet;
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::fields::name;
use crate::index::{Hit, Index, IndexError, SearchResult};
use crate::limits;
use crate::query::{FieldRef, Op, Operand, Query};

/// Crashes per page.
const PAGE: usize = 5_000;

/// Iterates over the hits of a search, newest first. Each page searches for crashes that are not newer than
/// the last crash of the previous page. So only one page is in memory, and crashes that are added or deleted
/// meanwhile do not shift the pages. If the search has its own order, it ends at the last result that a
/// client can page to.
pub struct Everything {
    index: Arc<Index>,
    query: Query,
    /// Position in a hit of the date, which the caller did not request.
    date_at: usize,
    /// Crashes with the date of the last hit that were already returned.
    given: HashSet<u64>,
    has_order: bool,
    is_done: bool,
    /// Annotations in the search that are not indexed for every crash. Set with the first page.
    pub(crate) not_indexed: Vec<String>,
}

impl Everything {
    pub fn new(index: Arc<Index>, mut query: Query) -> Self {
        let date = FieldRef::of(name::DATE);
        let date_at = query.columns.len();
        query.columns.push(date);
        query.facets.clear();
        query.results_offset = 0;
        let has_order = !query.sort.is_empty();
        query.results_number = if has_order {
            limits::RESULTS_END_MAX
        } else {
            PAGE
        };
        Self {
            index,
            query,
            date_at,
            given: HashSet::new(),
            has_order,
            is_done: false,
            not_indexed: Vec::new(),
        }
    }

    /// The next hits. Their values are in the order of the query's columns. Empty at the end.
    ///
    /// # Errors
    /// [`IndexError::Unbuilt`] if an index is being built and some crashes would be missing until then.
    pub fn next_page(&mut self) -> Result<Vec<Hit>, IndexError> {
        while !self.is_done {
            let SearchResult {
                mut hits,
                coverage,
                not_indexed,
                ..
            } = self.index.search(&self.query)?;
            self.not_indexed = not_indexed;
            // A file or a job cannot show that it is incomplete.
            if !coverage.is_whole() {
                return Err(IndexError::Unbuilt(coverage.fields().to_vec()));
            }
            if self.has_order || hits.len() < self.query.results_number {
                self.is_done = true;
            }
            let last = hits.last().and_then(|hit| self.date_of(hit));
            match last {
                Some(last) if !self.is_done => {
                    hits.retain(|hit| !self.given.contains(&hit.seq));
                    self.go_on_from(last, &hits);
                }
                _ => hits.retain(|hit| !self.given.contains(&hit.seq)),
            }
            for hit in &mut hits {
                hit.values.truncate(self.date_at);
            }
            if !hits.is_empty() {
                return Ok(hits);
            }
        }
        Ok(Vec::new())
    }

    fn date_of(&self, hit: &Hit) -> Option<Timestamp> {
        Timestamp::parse_rfc3339(hit.values.get(self.date_at)?.as_str()?)
    }

    /// Lowers the upper bound of the date to `last`.
    fn go_on_from(&mut self, last: Timestamp, fresh: &[Hit]) {
        let mut has_moved = false;
        for filter in &mut self.query.filters {
            let is_bound = filter.field.name() == name::DATE
                && !filter.is_negated
                && matches!(filter.op, Op::Below | Op::AtMost);
            if is_bound {
                has_moved |= filter.operand != Operand::Date(last);
                filter.op = Op::AtMost;
                filter.operand = Operand::Date(last);
            }
        }
        if has_moved {
            self.given.clear();
            self.query.results_offset = 0;
        } else {
            // More crashes than fit into one page have the same millisecond. Continue with the next ones.
            self.query.results_offset += PAGE;
        }
        let at_last = fresh.iter().filter(|hit| self.date_of(hit) == Some(last));
        let at_last: Vec<u64> = at_last.map(|hit| hit.seq).collect();
        self.given.extend(at_last);
    }
}
