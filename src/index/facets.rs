//! The counts in the form of the answer.

use serde_json::{Value, json};
use tantivy::{u64_to_f64, u64_to_i64};

use super::columns::number_value;
use super::counting::{Bucket, Counting, Key};
use crate::clock::Timestamp;
use crate::fields::Kind;
use crate::query::Facet;

#[derive(Clone, Debug, PartialEq)]
pub enum FacetResult {
    /// Values by count, highest first. Equal counts are sorted by value, versions as versions. Intervals of a
    /// histogram are in their own order.
    Buckets(Vec<FacetBucket>),
    /// Number of distinct values.
    Cardinality(u64),
    /// Estimated number of distinct values, if there are too many for exact counting. At most 3 of 1,000 such
    /// estimates are off by more than `error`.
    Estimate { value: u64, error: u64 },
}

#[derive(Clone, Debug, PartialEq)]
pub struct FacetBucket {
    /// The value in the API's form: `"T"` and `"F"` for a bool.
    pub term: Value,
    pub count: u64,
    pub facets: Vec<(String, FacetResult)>,
}

impl FacetResult {
    /// The form of the API.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Cardinality(value) => json!({ "value": value }),
            Self::Estimate { value, error } => json!({ "value": value, "error": error }),
            Self::Buckets(buckets) => buckets.iter().map(FacetBucket::to_json).collect(),
        }
    }

    pub fn buckets(&self) -> &[FacetBucket] {
        match self {
            Self::Buckets(buckets) => buckets,
            Self::Cardinality(_) | Self::Estimate { .. } => &[],
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

/// The facets of a whole query, after all levels are counted.
pub fn results(counting: &Counting) -> Vec<(String, FacetResult)> {
    inside(counting, &counting.top, 0)
}

/// Some facets inside one listed value.
fn inside(counting: &Counting, places: &[usize], parent: u32) -> Vec<(String, FacetResult)> {
    let results = places.iter().map(|&at| {
        let node = &counting.nodes[at];
        let result = match node.facet {
            Facet::Cardinality(_) => match node.unique[parent as usize].count() {
                (value, 0) => FacetResult::Cardinality(value),
                (value, error) => FacetResult::Estimate { value, error },
            },
            _ => {
                let listed = &node.listed;
                let start = listed.partition_point(|bucket| bucket.parent < parent);
                let end = listed.partition_point(|bucket| bucket.parent <= parent);
                let bucket = |(place, bucket): (usize, &Bucket)| FacetBucket {
                    term: term(node.facet, &bucket.key),
                    count: bucket.count,
                    facets: inside(counting, &node.children, place as u32),
                };
                let buckets = listed.iter().enumerate().skip(start).take(end - start);
                FacetResult::Buckets(buckets.map(bucket).collect())
            }
        };
        (node.facet.label(), result)
    });
    results.collect()
}

fn term(facet: &Facet, key: &Key) -> Value {
    let number = match key {
        Key::Text(text) => return (&**text).into(),
        Key::Number(number) => *number,
    };
    match (facet, facet.field().kind()) {
        // Socorro writes the time zone of an interval as +00:00.
        (Facet::DateHistogram(..), _) => Timestamp::from_ms(u64_to_i64(number))
            .rfc3339()
            .replace('Z', "+00:00")
            .into(),
        (Facet::Histogram(_, width), Kind::Integer) if width.fract() == 0.0 => {
            Value::from(u64_to_f64(number) as i64)
        }
        (Facet::Histogram(..), _) => u64_to_f64(number).into(),
        (_, Kind::Bool) => Value::from(if number == 1 { "T" } else { "F" }),
        (_, kind) => number_value(kind, number),
    }
}
