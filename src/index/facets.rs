//! Counting by value, exactly, to any depth.
//!
//! Values are counted by a 64-bit key: numbers are their own, and a text gets a number in an
//! interner that is shared by all segments, once for each segment and entry of its dictionary.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use serde_json::{Value, json};
use tantivy::SegmentReader;
use tantivy::columnar::Column;
use xxhash_rust::xxh3::xxh3_64;

use super::columns::{Bits, FieldColumn, number_value};
use super::error::IndexError;
use crate::clock::Timestamp;
use crate::fields::Kind;
use crate::limits;
use crate::query::{Facet, FacetNode, Query};

#[derive(Clone, Debug, PartialEq)]
pub enum FacetResult {
    /// Values by count, most first, equals by value; intervals of a histogram in their order.
    Buckets(Vec<FacetBucket>),
    /// Distinct values.
    Cardinality(u64),
}

#[derive(Clone, Debug, PartialEq)]
pub struct FacetBucket {
    /// The value as the API gives it: `"T"` and `"F"` for a bool.
    pub term: Value,
    pub count: u64,
    pub facets: Vec<(String, FacetResult)>,
}

impl FacetResult {
    /// The form of the API.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Cardinality(value) => json!({ "value": value }),
            Self::Buckets(buckets) => buckets.iter().map(FacetBucket::to_json).collect(),
        }
    }

    pub fn buckets(&self) -> &[FacetBucket] {
        match self {
            Self::Buckets(buckets) => buckets,
            Self::Cardinality(_) => &[],
        }
    }
}

impl FacetBucket {
    fn to_json(&self) -> Value {
        let mut bucket = json!({ "term": self.term, "count": self.count });
        if !self.facets.is_empty() {
            bucket["facets"] = self
                .facets
                .iter()
                .map(|(label, facet)| (label.clone(), facet.to_json()))
                .collect();
        }
        bucket
    }
}

/// Keys are numbers that are spread already or nearly; multiplying is enough of a hash.
#[derive(Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 ^= xxh3_64(bytes);
    }

    fn write_u64(&mut self, key: u64) {
        let spread = (key ^ key >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = spread ^ spread >> 29;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

type KeyHash = BuildHasherDefault<KeyHasher>;

/// A facet of the query, its place in the lists that follow the tree, and those inside it.
struct Node<'q> {
    at: usize,
    facet: &'q Facet,
    children: Vec<Node<'q>>,
}

enum Counts {
    Values(HashMap<u64, Bucket, KeyHash>),
    Unique(HashSet<u64, KeyHash>),
}

struct Bucket {
    count: u64,
    children: Vec<Counts>,
}

/// Counts of the facets of one query, while segments go by. More than `values_max` distinct values,
/// over all facets and each value inside another one counted by itself, are an error.
pub struct Counting<'q> {
    nodes: Vec<Node<'q>>,
    nodes_len: usize,
    counts: Vec<Counts>,
    interner: Interner,
    /// Values that may still be counted.
    left: usize,
}

impl<'q> Counting<'q> {
    pub fn new(query: &'q Query, values_max: usize) -> Self {
        let mut nodes_len = 0;
        let nodes = match query.facets_size {
            0 => Vec::new(),
            _ => nodes(&query.facets, &mut nodes_len),
        };
        Self {
            counts: empty_counts(&nodes),
            nodes,
            nodes_len,
            interner: Interner::default(),
            left: values_max,
        }
    }

    /// Adds the documents of a segment.
    pub fn count(&mut self, segment: &SegmentReader, docs: &[u32]) -> Result<(), IndexError> {
        let mut keys: Vec<Keys> = Vec::with_capacity(self.nodes_len);
        open_keys(&self.nodes, segment, docs, &mut self.interner, &mut keys)?;
        for &doc in docs {
            add(&self.nodes, &keys, &mut self.counts, doc, &mut self.left)?;
        }
        Ok(())
    }

    /// The result, the first `size` values of each facet.
    pub fn finish(self, size: usize) -> Result<Vec<(String, FacetResult)>, IndexError> {
        results(&self.nodes, self.counts, &self.interner, size)
    }
}

fn nodes<'q>(facets: &'q [FacetNode], len: &mut usize) -> Vec<Node<'q>> {
    let mut made = Vec::new();
    for node in facets {
        let at = *len;
        *len += 1;
        let children = nodes(&node.children, len);
        made.push(Node {
            at,
            facet: &node.facet,
            children,
        });
    }
    made
}

fn empty_counts(nodes: &[Node]) -> Vec<Counts> {
    nodes
        .iter()
        .map(|node| match node.facet {
            Facet::Cardinality(_) => Counts::Unique(HashSet::default()),
            _ => Counts::Values(HashMap::default()),
        })
        .collect()
}

fn add(
    nodes: &[Node],
    keys: &[Keys],
    counts: &mut [Counts],
    doc: u32,
    left: &mut usize,
) -> Result<(), IndexError> {
    let mut outcome = Ok(());
    for (node, counts) in nodes.iter().zip(counts) {
        keys[node.at].each(doc, &mut |key| match counts {
            Counts::Unique(set) => {
                if set.insert(key) {
                    outcome = std::mem::replace(&mut outcome, Ok(())).and(spend(left));
                }
            }
            Counts::Values(buckets) => {
                let bucket = match buckets.entry(key) {
                    Entry::Occupied(entry) => entry.into_mut(),
                    Entry::Vacant(entry) => {
                        outcome = std::mem::replace(&mut outcome, Ok(())).and(spend(left));
                        entry.insert(Bucket {
                            count: 0,
                            children: empty_counts(&node.children),
                        })
                    }
                };
                bucket.count += 1;
                if !node.children.is_empty() {
                    let inner = add(&node.children, keys, &mut bucket.children, doc, left);
                    outcome = std::mem::replace(&mut outcome, Ok(())).and(inner);
                }
            }
        });
    }
    outcome
}

fn spend(left: &mut usize) -> Result<(), IndexError> {
    *left = left.checked_sub(1).ok_or(IndexError::TooComplex)?;
    Ok(())
}

#[derive(Default)]
struct Interner {
    keys: HashMap<Box<str>, u64>,
    texts: Vec<Box<str>>,
}

impl Interner {
    fn key(&mut self, text: &str) -> Result<u64, IndexError> {
        if let Some(key) = self.keys.get(text) {
            return Ok(*key);
        }
        if self.texts.len() >= limits::FACET_BUCKETS_MAX {
            return Err(IndexError::TooComplex);
        }
        let key = self.texts.len() as u64;
        self.keys.insert(text.into(), key);
        self.texts.push(text.into());
        Ok(key)
    }
}

/// The keys of a facet's values, by document of one segment.
enum Keys {
    Missing,
    /// A key for each entry of the dictionary that some document has.
    Text(Column<u64>, HashMap<u64, u64, KeyHash>),
    Number(Box<dyn Fn(u32) -> Option<u64>>),
}

impl Keys {
    fn each(&self, doc: u32, take: &mut dyn FnMut(u64)) {
        match self {
            Self::Missing => {}
            Self::Text(ords, keys) => {
                for ord in ords.values_for_doc(doc) {
                    take(keys.get(&ord).copied().unwrap_or(u64::MAX));
                }
            }
            Self::Number(number) => {
                if let Some(key) = number(doc) {
                    take(key);
                }
            }
        }
    }
}

fn open_keys(
    nodes: &[Node],
    segment: &SegmentReader,
    docs: &[u32],
    interner: &mut Interner,
    keys: &mut Vec<Keys>,
) -> Result<(), IndexError> {
    for node in nodes {
        // Nodes are numbered in the order of this walk.
        debug_assert_eq!(keys.len(), node.at);
        keys.push(node_keys(node.facet, segment, docs, interner)?);
        open_keys(&node.children, segment, docs, interner, keys)?;
    }
    Ok(())
}

fn node_keys(
    facet: &Facet,
    segment: &SegmentReader,
    docs: &[u32],
    interner: &mut Interner,
) -> Result<Keys, IndexError> {
    let number: Box<dyn Fn(u32) -> Option<u64>> = match FieldColumn::open(segment, facet.field())? {
        FieldColumn::Missing => return Ok(Keys::Missing),
        FieldColumn::Text(column) => {
            let mut used = Bits::new(column.num_terms());
            for &doc in docs {
                column.term_ords(doc).for_each(|ord| used.set(ord as usize));
            }
            let ords: Vec<u64> = used.iter().map(|ord| ord as u64).collect();
            let mut keys = HashMap::with_capacity_and_hasher(ords.len(), KeyHash::default());
            let mut outcome = Ok(());
            let mut at = 0;
            column.dictionary().sorted_ords_to_term_cb(&ords, |term| {
                let key = match facet {
                    Facet::Cardinality(_) => Ok(xxh3_64(term)),
                    _ => interner.key(&String::from_utf8_lossy(term)),
                };
                match key {
                    Ok(key) => drop(keys.insert(ords[at], key)),
                    Err(error) => outcome = Err(error),
                }
                at += 1;
            })?;
            outcome?;
            return Ok(Keys::Text(column.ords().clone(), keys));
        }
        FieldColumn::Integer(column) => match *facet {
            Facet::DateHistogram(_, interval) => Box::new(move |doc| {
                let moment = Timestamp::from_ms(column.first(doc)?);
                Some(interval.floor(moment).ms() as u64)
            }),
            Facet::Histogram(_, width) => Box::new(move |doc| {
                let number = column.first(doc)? as f64;
                Some(((number / width).floor() * width).to_bits())
            }),
            _ => Box::new(move |doc| column.first(doc).map(|number| number as u64)),
        },
        FieldColumn::Float(column) => match *facet {
            Facet::Histogram(_, width) => {
                Box::new(move |doc| Some(((column.first(doc)? / width).floor() * width).to_bits()))
            }
            // Both zeros are one value.
            _ => Box::new(move |doc| column.first(doc).map(|number| (number + 0.0).to_bits())),
        },
        FieldColumn::Bool(column) => Box::new(move |doc| column.first(doc).map(u64::from)),
    };
    Ok(Keys::Number(number))
}

fn results(
    nodes: &[Node],
    counts: Vec<Counts>,
    interner: &Interner,
    size: usize,
) -> Result<Vec<(String, FacetResult)>, IndexError> {
    let mut found = Vec::with_capacity(nodes.len());
    for (node, counts) in nodes.iter().zip(counts) {
        let result = match counts {
            Counts::Unique(set) => FacetResult::Cardinality(set.len() as u64),
            Counts::Values(buckets) => {
                FacetResult::Buckets(ordered(node, buckets, interner, size)?)
            }
        };
        found.push((node.facet.label(), result));
    }
    Ok(found)
}

fn ordered(
    node: &Node,
    buckets: HashMap<u64, Bucket, KeyHash>,
    interner: &Interner,
    size: usize,
) -> Result<Vec<FacetBucket>, IndexError> {
    let facet = node.facet;
    let mut buckets: Vec<(u64, Bucket)> = buckets.into_iter().collect();
    let text = |key: u64| interner.texts.get(key as usize).map_or("", |text| &**text);
    let by_term = |a: u64, b: u64| match (facet, facet.field().kind()) {
        (Facet::Histogram(..), _) | (_, Kind::Float) => {
            f64::from_bits(a).total_cmp(&f64::from_bits(b))
        }
        (_, Kind::Integer | Kind::Date | Kind::Bool) => (a as i64).cmp(&(b as i64)),
        (_, Kind::String | Kind::Enum | Kind::Version) => text(a).cmp(text(b)),
    };
    if matches!(facet, Facet::DateHistogram(..) | Facet::Histogram(..)) {
        if buckets.len() > limits::FACETS_SIZE_MAX {
            return Err(IndexError::TooComplex);
        }
        buckets.sort_unstable_by(|a, b| by_term(a.0, b.0));
    } else {
        buckets.sort_unstable_by(|a, b| b.1.count.cmp(&a.1.count).then(by_term(a.0, b.0)));
        buckets.truncate(size);
    }
    let term = |key: u64| match (facet, facet.field().kind()) {
        // Socorro writes the zone of an interval as +00:00.
        (Facet::DateHistogram(..), _) => Timestamp::from_ms(key as i64)
            .rfc3339()
            .replace('Z', "+00:00")
            .into(),
        (Facet::Histogram(_, width), Kind::Integer) if width.fract() == 0.0 => {
            Value::from(f64::from_bits(key) as i64)
        }
        (Facet::Histogram(..), _) | (_, Kind::Float) => f64::from_bits(key).into(),
        (_, Kind::Bool) => Value::from(if key == 1 { "T" } else { "F" }),
        (_, kind @ (Kind::Integer | Kind::Date)) => number_value(kind, key as i64),
        (_, Kind::String | Kind::Enum | Kind::Version) => text(key).into(),
    };
    buckets
        .into_iter()
        .map(|(key, bucket)| {
            Ok(FacetBucket {
                term: term(key),
                count: bucket.count,
                facets: results(&node.children, bucket.children, interner, size)?,
            })
        })
        .collect()
}
