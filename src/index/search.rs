//! Answers a query with hits and counts.

use std::cmp::Reverse;
use std::sync::Arc;

use serde_json::Value;
use tantivy::SegmentReader;

use super::bounds::{Running, SearchBounds};
use super::columns::Bits;
use super::context::Context;
use super::counting::Counting;
use super::coverage::Coverage;
use super::error::IndexError;
use super::facets::{self, Facets};
use super::filter::{Matching, blocks};
use super::folder::Opened;
use super::pattern::patterns;
use super::ranking::{Best, Ranked};
use super::{Index, Sides};
use crate::fields::name;
use crate::query::{FieldRef, Query, Sort};

/// One crash that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// Its sequence number in the store.
    pub seq: u64,
    /// A value for each column of the query, in order: null for none, a list for several.
    pub values: Vec<Value>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SearchResult {
    /// The columns of the query.
    pub(crate) columns: Vec<FieldRef>,
    pub hits: Vec<Hit>,
    /// Number of crashes that match. `hits` is the requested part of them.
    pub total: u64,
    pub facets: Facets,
    /// What may be missing because an index is still being built.
    pub coverage: Coverage,
    /// Annotations in the query that are not indexed for every crash.
    pub(crate) not_indexed: Vec<String>,
}

impl SearchResult {
    /// The value of a column in one of the hits; null if it has none or the column was not asked for.
    pub(crate) fn value<'h>(&self, hit: &'h Hit, field: &str) -> &'h Value {
        let column = self.columns.iter().position(|column| column.is(field));
        column.map_or(&Value::Null, |at| &hit.values[at])
    }
}

impl Index {
    /// Answers a query from the last commit. All numbers are exact, except
    /// [`FacetResult::Estimate`](super::FacetResult::Estimate), which contains its error.
    ///
    /// While an index is built for a new catalogue, the one before it answers if it knows the requested
    /// fields, and otherwise the new one answers. So each value that is shown is right, and
    /// [`SearchResult::coverage`] says what is missing.
    ///
    /// # Errors
    /// [`IndexError::TimedOut`] and [`IndexError::TooComplex`] at the limits of a search; the caller can
    /// narrow it. [`IndexError::Busy`] at the limit of all searches; the caller can try again.
    /// [`IndexError::Unbuilt`] if no index knows a field, not even one that is being built.
    pub fn search(&self, query: &Query) -> Result<SearchResult, IndexError> {
        self.search_within(query, &SearchBounds::default())
    }

    /// The same with the caller's limits.
    ///
    /// # Errors
    /// As for [`Self::search`].
    pub(crate) fn search_within(
        &self,
        query: &Query,
        bounds: &SearchBounds,
    ) -> Result<SearchResult, IndexError> {
        let running = &Running::begin(bounds, self.shared_bytes.clone());
        let (opened, coverage) = self.answering(query)?;
        let context = Context {
            catalogue: &self.folders.catalogue,
            layout: &opened.layout,
            dictionaries: &self.dictionaries,
            running,
        };
        let searcher = opened.reader.searcher();
        let segments = searcher.segment_readers();
        let default_sort = newest_first();
        let sorts = if query.sort.is_empty() {
            &default_sort
        } else {
            &query.sort
        };
        let patterns = patterns(query)?;
        let mut counting = Counting::new(query);
        let mut total = 0;
        let mut ranked = Vec::new();
        // The documents in each segment for which further levels of facets are counted.
        let mut found: Vec<Option<Bits>> = segments.iter().map(|_| None).collect();
        let mut found_bytes = 0;
        let results_end = query.results_offset + query.results_number;
        let mut bound = None;
        for at in newest_segments_first(segments, context)? {
            let segment = &segments[at];
            let matching = Matching::open(segment, context, query, &patterns)?;
            let mut part = counting.open(0, segment, context)?;
            let mut best = match query.results_number {
                0 => None,
                _ => Some(Best::open(segment, context, sorts, results_end, bound)?),
            };
            let max_doc = segment.max_doc() as usize;
            let mut again = (counting.levels() > 1).then(|| Bits::new(max_doc));
            found_bytes += again.as_ref().map_or(0, |_| Bits::bytes(max_doc));
            running.check_bytes(found_bytes)?;
            matching.each_block(running, |docs| {
                total += docs.len() as u64;
                if let Some(again) = &mut again {
                    docs.iter().for_each(|doc| again.set(*doc as usize));
                }
                if let Some(best) = &mut best {
                    best.take(docs);
                }
                part.count(docs, &mut counting, running)
            })?;
            counting.add(part, running)?;
            found[at] = again;
            if let Some(mut best) = best {
                bound = best.bound();
                ranked.extend(best.finish(at, context)?);
                ranked.sort_unstable_by(|a: &Ranked, b: &Ranked| a.order(b, sorts));
                ranked.truncate(results_end);
                let ranked_bytes: usize = ranked.iter().map(Ranked::bytes).sum();
                running.check_bytes(counting.bytes() + found_bytes + ranked_bytes)?;
            }
        }
        if counting.levels() > 0 {
            counting.keep(0, running)?;
        }
        for level in 1..counting.levels() {
            for (segment, docs) in segments.iter().zip(&found) {
                let mut part = counting.open(level, segment, context)?;
                let Some(docs) = docs else { continue };
                count_again(segment, docs, &mut part, &mut counting, running)?;
                counting.add(part, running)?;
            }
            counting.keep(level, running)?;
        }
        let page = ranked.into_iter().skip(query.results_offset);
        Ok(SearchResult {
            columns: query.columns.clone(),
            hits: hits(segments, &query.columns, page.collect(), context)?,
            total,
            facets: facets::results(&counting),
            coverage,
            not_indexed: opened
                .keys()
                .map_or_else(Vec::new, |keys| keys.lacks(query)),
        })
    }

    /// The index that answers a query, and how much of it.
    fn answering(&self, query: &Query) -> Result<(Arc<Opened>, Coverage), IndexError> {
        let Sides { current, next } = self.sides();
        let lacks = current.layout.lacks(query);
        // Determined before the search, so that later commits are not claimed.
        match (lacks.is_empty(), next) {
            (true, _) if !current.is_whole() => Ok((current, Coverage::SomeCrashes(lacks))),
            (true, _) => {
                let coverage = match current.layout.lacks_words(query) {
                    words if words.is_empty() => Coverage::Whole,
                    words => Coverage::SomeWords(words),
                };
                Ok((current, coverage))
            }
            // After a restart it may still have to read changes that the current index has.
            (false, Some(next)) if next.is_whole() && next.change() >= current.change() => {
                Ok((next, Coverage::Whole))
            }
            (false, Some(next)) => Ok((next, Coverage::SomeCrashes(lacks))),
            (false, None) => Err(IndexError::Unbuilt(lacks)),
        }
    }
}

/// Counts a further level of facets over documents that are known to match.
fn count_again(
    segment: &SegmentReader,
    docs: &Bits,
    part: &mut super::counting::Part,
    counting: &mut Counting,
    running: &Running,
) -> Result<(), IndexError> {
    let mut block: Vec<u32> = Vec::new();
    for range in blocks(segment.max_doc()) {
        running.check_time()?;
        block.clear();
        let range = range.start as usize..range.end as usize;
        block.extend(docs.within(range).map(|doc| doc as u32));
        if !block.is_empty() {
            part.count(&block, counting, running)?;
        }
    }
    Ok(())
}

/// The positions of the segments, sorted by their newest crash.
fn newest_segments_first(
    segments: &[SegmentReader],
    context: Context,
) -> Result<Vec<usize>, IndexError> {
    let field = FieldRef::of(name::DATE);
    let mut order = Vec::with_capacity(segments.len());
    for (at, segment) in segments.iter().enumerate() {
        let dates = context.column(segment, &field)?;
        let newest = dates.numbers().map(|column| column.max_value());
        order.push((Reverse(newest), at));
    }
    order.sort_unstable();
    Ok(order.into_iter().map(|(_, at)| at).collect())
}

fn newest_first() -> Vec<Sort> {
    vec![Sort {
        field: FieldRef::of(name::DATE),
        is_descending: true,
    }]
}

/// The results of one page, one segment at a time, so that each dictionary is read once.
fn hits(
    segments: &[SegmentReader],
    columns: &[FieldRef],
    page: Vec<Ranked>,
    context: Context,
) -> Result<Vec<Hit>, IndexError> {
    let mut hits: Vec<Hit> = page
        .iter()
        .map(|ranked| Hit {
            seq: ranked.seq,
            values: vec![Value::Null; columns.len()],
        })
        .collect();
    let mut bytes = 0;
    for (segment_at, segment) in segments.iter().enumerate() {
        let places: Vec<usize> = (0..page.len())
            .filter(|at| page[*at].segment == segment_at)
            .collect();
        if places.is_empty() {
            continue;
        }
        let docs: Vec<u32> = places.iter().map(|at| page[*at].doc).collect();
        for (column_at, field) in columns.iter().enumerate() {
            let column = context.column(segment, field)?;
            let values = column.values(field, &docs, context.running)?;
            for (at, value) in places.iter().zip(values) {
                bytes += size_of(&value);
                hits[*at].values[column_at] = value;
            }
            context.running.check_bytes(bytes)?;
        }
    }
    Ok(hits)
}

fn size_of(value: &Value) -> usize {
    let inner = match value {
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(size_of).sum(),
        _ => 0,
    };
    inner + std::mem::size_of::<Value>()
}
