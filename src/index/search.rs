//! From a query to hits and counts.

use std::cmp::Ordering;

use serde_json::Value;
use tantivy::columnar::{Column, StrColumn};
use tantivy::{SegmentReader, f64_to_u64, i64_to_u64};

use super::Index;
use super::columns::{FieldColumn, texts};
use super::error::IndexError;
use super::facets::{Counting, FacetResult};
use super::filter;
use super::schema::SEQ;
use crate::fields::version::VersionKey;
use crate::fields::{Kind, name};
use crate::limits;
use crate::query::{FieldRef, Query, Sort};

/// One crash that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// Its sequence number in the store.
    pub seq: u64,
    /// A value for each column of the query, in its order: null for none, a list for several.
    pub values: Vec<Value>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SearchResult {
    pub hits: Vec<Hit>,
    /// Crashes that match, of which `hits` is the part that was asked for.
    pub total: u64,
    /// By the facet's label, in the order of the query.
    pub facets: Vec<(String, FacetResult)>,
}

impl Index {
    /// Answers a query from what the last commit made searchable. All numbers are exact.
    ///
    /// # Errors
    /// [`IndexError::TooComplex`] where the facets have more distinct values than the bound.
    pub fn search(&self, query: &Query) -> Result<SearchResult, IndexError> {
        let searcher = self.opened().reader.searcher();
        let default_sort = newest_first();
        let sorts = match query.sort.is_empty() {
            true => &default_sort,
            false => &query.sort,
        };
        let mut counting = Counting::new(query, limits::FACET_BUCKETS_MAX);
        let mut total = 0;
        let mut ranked = Vec::new();
        let results_end = query.results_offset + query.results_number;
        for (at, segment) in searcher.segment_readers().iter().enumerate() {
            let docs = filter::matching(segment, &self.layout, query)?;
            total += docs.len() as u64;
            counting.count(segment, &docs)?;
            if query.results_number > 0 {
                ranked.extend(rank(segment, at, &docs, sorts, results_end)?);
            }
        }
        ranked.sort_unstable_by(|a: &Ranked, b: &Ranked| a.order(b, sorts));
        let page = ranked
            .into_iter()
            .skip(query.results_offset)
            .take(query.results_number);
        Ok(SearchResult {
            hits: hits(searcher.segment_readers(), &query.columns, page.collect())?,
            total,
            facets: counting.finish(query.facets_size)?,
        })
    }
}

fn newest_first() -> Vec<Sort> {
    let field = FieldRef::find(name::DATE).expect("the catalogue has a date");
    vec![Sort {
        field,
        is_descending: true,
    }]
}

/// A candidate with what it is sorted by.
struct Ranked {
    keys: Vec<Option<SortKey>>,
    seq: u64,
    segment: usize,
    doc: u32,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum SortKey {
    Number(u64),
    Text(String),
    /// The text decides where versions differ only in separators.
    Version(VersionKey, String),
}

impl Ranked {
    /// Crashes without a value come last in either direction; equals newest first.
    fn order(&self, other: &Self, sorts: &[Sort]) -> Ordering {
        for (at, sort) in sorts.iter().enumerate() {
            let order = match (&self.keys[at], &other.keys[at]) {
                (Some(a), Some(b)) if sort.is_descending => b.cmp(a),
                (Some(a), Some(b)) => a.cmp(b),
                (a, b) => b.is_some().cmp(&a.is_some()),
            };
            if order.is_ne() {
                return order;
            }
        }
        other.seq.cmp(&self.seq)
    }
}

/// Where the values of one sort field come from, within a segment.
enum Keys {
    Missing,
    Numbers(Box<dyn Fn(u32) -> Option<u64>>),
    /// Dictionaries are sorted, so that an entry's place compares as its text.
    Texts(StrColumn),
    /// The rank of each entry as a version.
    Versions(StrColumn, Vec<u64>),
}

impl Keys {
    fn open(segment: &SegmentReader, field: &FieldRef) -> Result<Self, IndexError> {
        Ok(match FieldColumn::open(segment, field)? {
            FieldColumn::Missing => Self::Missing,
            FieldColumn::Integer(c) => Self::Numbers(Box::new(move |d| c.first(d).map(i64_to_u64))),
            FieldColumn::Float(c) => Self::Numbers(Box::new(move |d| c.first(d).map(f64_to_u64))),
            FieldColumn::Bool(c) => Self::Numbers(Box::new(move |d| c.first(d).map(u64::from))),
            FieldColumn::Text(c) if field.kind() == Kind::Version => {
                let ranks = version_ranks(&c)?;
                Self::Versions(c, ranks)
            }
            FieldColumn::Text(c) => Self::Texts(c),
        })
    }

    /// Compares as the value does among the documents of the segment.
    fn local(&self, doc: u32) -> Option<u64> {
        match self {
            Self::Missing => None,
            Self::Numbers(number) => number(doc),
            Self::Texts(column) => column.ords().first(doc),
            Self::Versions(column, ranks) => {
                column.ords().first(doc).map(|ord| ranks[ord as usize])
            }
        }
    }

    /// The values themselves, which compare across segments.
    fn global(&self, docs: &[u32]) -> Result<Vec<Option<SortKey>>, IndexError> {
        let (column, is_version) = match self {
            Self::Texts(column) => (column, false),
            Self::Versions(column, _) => (column, true),
            _ => {
                return Ok(docs
                    .iter()
                    .map(|d| self.local(*d).map(SortKey::Number))
                    .collect());
            }
        };
        let ords: Vec<Option<u64>> = docs.iter().map(|doc| column.ords().first(*doc)).collect();
        let texts = texts(column, ords.iter().flatten().copied().collect())?;
        let key = |ord: u64| {
            let text = texts.get(&ord).cloned().unwrap_or_default();
            match is_version {
                true => SortKey::Version(VersionKey::new(&text), text),
                false => SortKey::Text(text),
            }
        };
        Ok(ords.into_iter().map(|ord| ord.map(key)).collect())
    }
}

fn version_ranks(column: &StrColumn) -> Result<Vec<u64>, IndexError> {
    let mut order = Vec::with_capacity(column.num_terms());
    let mut stream = column.dictionary().stream()?;
    while stream.advance() {
        let text = String::from_utf8_lossy(stream.key());
        order.push((VersionKey::new(&text), stream.term_ord()));
    }
    order.sort();
    let mut ranks = vec![0; order.len()];
    for (rank, (_, ord)) in order.into_iter().enumerate() {
        ranks[ord as usize] = rank as u64;
    }
    Ok(ranks)
}

/// The first `limit` documents of a segment in the order of `sorts`, unordered.
fn rank(
    segment: &SegmentReader,
    at: usize,
    docs: &[u32],
    sorts: &[Sort],
    limit: usize,
) -> Result<Vec<Ranked>, IndexError> {
    let keys = sorts
        .iter()
        .map(|sort| Keys::open(segment, &sort.field))
        .collect::<Result<Vec<_>, _>>()?;
    let seqs: Column<u64> = segment.fast_fields().u64(SEQ)?;
    // The last place is the sequence number, newest first.
    type Local = [u64; limits::SORTS_MAX + 1];
    let local = |doc: u32| -> Local {
        let mut local = [0; limits::SORTS_MAX + 1];
        for (place, (keys, sort)) in keys.iter().zip(sorts).enumerate() {
            local[place] = match (keys.local(doc), sort.is_descending) {
                (None, _) => u64::MAX,
                (Some(key), false) => key,
                (Some(key), true) => u64::MAX - 1 - key.min(u64::MAX - 1),
            };
        }
        local[limits::SORTS_MAX] = !seqs.first(doc).unwrap_or(0);
        local
    };
    let mut best: Vec<(Local, u32)> = Vec::new();
    for &doc in docs {
        best.push((local(doc), doc));
        // Twice the room, so that thinning out is rare.
        if best.len() >= 2 * limit.max(512) {
            best.select_nth_unstable(limit);
            best.truncate(limit);
        }
    }
    best.sort_unstable();
    best.truncate(limit);
    let docs: Vec<u32> = best.into_iter().map(|(_, doc)| doc).collect();
    let mut ranked: Vec<Ranked> = docs
        .iter()
        .map(|&doc| Ranked {
            keys: Vec::with_capacity(sorts.len()),
            seq: seqs.first(doc).unwrap_or(0),
            segment: at,
            doc,
        })
        .collect();
    for keys in &keys {
        for (ranked, key) in ranked.iter_mut().zip(keys.global(&docs)?) {
            ranked.keys.push(key);
        }
    }
    Ok(ranked)
}

/// The results of one page, a segment at a time, so that each dictionary is read once.
fn hits(
    segments: &[SegmentReader],
    columns: &[FieldRef],
    page: Vec<Ranked>,
) -> Result<Vec<Hit>, IndexError> {
    let mut hits: Vec<Hit> = page
        .iter()
        .map(|ranked| Hit {
            seq: ranked.seq,
            values: vec![Value::Null; columns.len()],
        })
        .collect();
    for (segment_at, segment) in segments.iter().enumerate() {
        let places: Vec<usize> = (0..page.len())
            .filter(|at| page[*at].segment == segment_at)
            .collect();
        if places.is_empty() {
            continue;
        }
        let docs: Vec<u32> = places.iter().map(|at| page[*at].doc).collect();
        for (column_at, field) in columns.iter().enumerate() {
            let values = FieldColumn::open(segment, field)?.values(field, &docs)?;
            for (at, value) in places.iter().zip(values) {
                hits[*at].values[column_at] = value;
            }
        }
    }
    Ok(hits)
}
