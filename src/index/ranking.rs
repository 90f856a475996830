//! Determines which of the matching documents come first.

use std::cmp::Ordering;

use tantivy::SegmentReader;
use tantivy::columnar::Column;

use super::columns::{FieldColumn, Pairs, texts};
use super::context::Context;
use super::error::IndexError;
use super::schema::SEQ;
use super::terms::TextColumn;
use crate::fields::Kind;
use crate::fields::version::VersionKey;
use crate::limits;
use crate::query::{FieldRef, Sort};

/// A candidate and its sort keys.
pub(crate) struct Ranked {
    keys: Vec<Option<SortKey>>,
    pub(crate) seq: u64,
    pub(crate) segment: usize,
    pub(crate) doc: u32,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum SortKey {
    Number(u64),
    Text(String),
    /// If versions differ only in separators, the text decides.
    Version(VersionKey, String),
}

impl Ranked {
    /// Memory that it uses.
    pub(crate) fn bytes(&self) -> usize {
        let key = |key: &Option<SortKey>| match key {
            // The parts of a version need as much memory again, and more.
            Some(SortKey::Version(_, text)) => 32 * text.len(),
            Some(SortKey::Text(text)) => text.len(),
            Some(SortKey::Number(_)) | None => 0,
        };
        let keys = self.keys.iter().map(key).sum::<usize>();
        keys + self.keys.capacity() * size_of::<Option<SortKey>>() + size_of::<Self>()
    }

    /// Crashes without a value come last in both directions. Equal crashes are sorted newest first.
    pub(crate) fn order(&self, other: &Self, sorts: &[Sort]) -> Ordering {
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

/// The source of the values of one sort field in a segment.
enum Keys {
    Missing,
    Numbers(Column<u64>),
    /// Dictionaries are sorted, so the numbers of entries compare like their texts.
    Texts(TextColumn),
    /// The rank of each entry as a version.
    Versions(TextColumn, Vec<u64>),
}

impl Keys {
    fn open(
        segment: &SegmentReader,
        context: Context,
        field: &FieldRef,
    ) -> Result<Self, IndexError> {
        Ok(match context.column(segment, field)? {
            FieldColumn::Missing => Self::Missing,
            FieldColumn::Number(column) => Self::Numbers(column),
            FieldColumn::Text(column) if field.kind() == Kind::Version => {
                let ranks = version_ranks(&column, context)?;
                Self::Versions(column, ranks)
            }
            FieldColumn::Text(column) => Self::Texts(column),
        })
    }

    fn column(&self) -> Option<&Column<u64>> {
        match self {
            Self::Missing => None,
            Self::Numbers(column) => Some(column),
            Self::Texts(column) | Self::Versions(column, _) => Some(column.ords()),
        }
    }

    /// A number that compares like the value among the documents of the segment, smallest first.
    fn local(&self, value: Option<u64>, is_descending: bool) -> u128 {
        let key = match (value, self) {
            (None, _) => return u128::MAX,
            (Some(ord), Self::Versions(_, ranks)) => ranks[ord as usize],
            (Some(value), _) => value,
        };
        u128::from(if is_descending { !key } else { key })
    }

    /// The values themselves, which compare across segments.
    fn global(&self, docs: &[u32], context: Context) -> Result<Vec<Option<SortKey>>, IndexError> {
        let values: Vec<Option<u64>> = match self.column() {
            Some(column) => docs.iter().map(|doc| column.first(*doc)).collect(),
            None => vec![None; docs.len()],
        };
        let (column, is_version) = match self {
            Self::Texts(column) => (column, false),
            Self::Versions(column, _) => (column, true),
            _ => {
                let numbers = values.into_iter().map(|value| value.map(SortKey::Number));
                return Ok(numbers.collect());
            }
        };
        let texts = texts(
            column,
            values.iter().flatten().copied().collect(),
            context.running,
        )?;
        let key = |ord: u64| {
            let text = texts.get(&ord).cloned().unwrap_or_default();
            if is_version {
                SortKey::Version(VersionKey::new(&text), text)
            } else {
                SortKey::Text(text)
            }
        };
        Ok(values.into_iter().map(|ord| ord.map(key)).collect())
    }
}

fn version_ranks(column: &TextColumn, context: Context) -> Result<Vec<u64>, IndexError> {
    let mut order = Vec::with_capacity(column.len());
    // A key of several words, each with its own text.
    context.running.check_bytes(column.len() * 200)?;
    column.each(context.running, |ord, text| {
        order.push((VersionKey::new(text), ord))
    })?;
    order.sort();
    let mut ranks = vec![0; order.len()];
    for (rank, (_, ord)) in order.into_iter().enumerate() {
        ranks[ord as usize] = rank as u64;
    }
    Ok(ranks)
}

/// The last element is the sequence number, newest first.
type Local = [u128; limits::SORTS_MAX + 1];

/// The first `limit` documents of a segment, while its blocks are processed.
pub(crate) struct Best<'q> {
    sorts: &'q [Sort],
    limit: usize,
    keys: Vec<Keys>,
    seqs: Column<u64>,
    found: Vec<(Local, u32)>,
    /// Documents that sort after this are not among the first.
    last: Option<Local>,
    /// The same for the first key, from other segments.
    bound: Option<u128>,
    pairs: Pairs,
    firsts: Vec<u128>,
}

impl<'q> Best<'q> {
    /// `bound` is the result of another segment's [`Best::bound`].
    pub(crate) fn open(
        segment: &SegmentReader,
        context: Context,
        sorts: &'q [Sort],
        limit: usize,
        bound: Option<u128>,
    ) -> Result<Self, IndexError> {
        let keys = sorts
            .iter()
            .map(|sort| Keys::open(segment, context, &sort.field));
        Ok(Self {
            sorts,
            limit,
            keys: keys.collect::<Result<_, _>>()?,
            seqs: segment.fast_fields().u64(SEQ)?,
            found: Vec::new(),
            last: None,
            bound,
            pairs: Pairs::default(),
            firsts: Vec::new(),
        })
    }

    pub(crate) fn take(&mut self, docs: &[u32]) {
        // The first key alone excludes nearly all documents.
        self.firsts.clear();
        self.firsts.resize(docs.len(), u128::MAX);
        let (keys, sort) = (&self.keys[0], &self.sorts[0]);
        if let Some(column) = keys.column() {
            self.pairs.read(column, docs);
            let mut at = 0;
            let mut done = None;
            for (doc, value) in self.pairs.iter() {
                if done == Some(doc) {
                    continue;
                }
                done = Some(doc);
                while docs[at] != doc {
                    at += 1;
                }
                self.firsts[at] = keys.local(Some(value), sort.is_descending);
            }
        }
        for (at, &doc) in docs.iter().enumerate() {
            let first = self.firsts[at];
            let last = self.last.map(|last| last[0]);
            if [last, self.bound]
                .into_iter()
                .flatten()
                .any(|last| first > last)
            {
                continue;
            }
            let mut local = [0; limits::SORTS_MAX + 1];
            local[0] = first;
            for (place, (keys, sort)) in self.keys.iter().zip(self.sorts).enumerate().skip(1) {
                let value = keys.column().and_then(|column| column.first(doc));
                local[place] = keys.local(value, sort.is_descending);
            }
            local[limits::SORTS_MAX] = u128::from(!self.seqs.first(doc).unwrap_or(0));
            if self.last.is_some_and(|last| local > last) {
                continue;
            }
            self.found.push((local, doc));
            // Twice the limit, so that thinning out is rare.
            if self.found.len() >= 2 * self.limit.max(256) {
                self.thin_out();
            }
        }
    }

    fn thin_out(&mut self) {
        if self.found.len() > self.limit {
            let (_, last, _) = self.found.select_nth_unstable(self.limit - 1);
            self.last = Some(last.0);
            self.found.truncate(self.limit);
        }
    }

    /// An upper bound of the first key for documents of any segment. Only for numbers, because they compare
    /// across segments and numbers of dictionary entries do not.
    pub(crate) fn bound(&mut self) -> Option<u128> {
        self.thin_out();
        let is_number = matches!(self.keys[0], Keys::Numbers(_));
        let last = if self.found.len() >= self.limit {
            self.found.iter().map(|(local, _)| local[0]).max()
        } else {
            None
        };
        [last.filter(|_| is_number), self.bound]
            .into_iter()
            .flatten()
            .min()
    }

    /// The candidates, unordered.
    pub(crate) fn finish(
        mut self,
        segment: usize,
        context: Context,
    ) -> Result<Vec<Ranked>, IndexError> {
        self.thin_out();
        let docs: Vec<u32> = self.found.iter().map(|(_, doc)| *doc).collect();
        let mut ranked: Vec<Ranked> = docs
            .iter()
            .map(|&doc| Ranked {
                keys: Vec::with_capacity(self.keys.len()),
                seq: self.seqs.first(doc).unwrap_or(0),
                segment,
                doc,
            })
            .collect();
        for keys in &self.keys {
            for (ranked, key) in ranked.iter_mut().zip(keys.global(&docs, context)?) {
                ranked.keys.push(key);
            }
        }
        Ok(ranked)
    }
}
