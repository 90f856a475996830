//! The counts in the form of the answer.

use std::ops::Deref;

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
    pub(crate) term: Value,
    pub count: u64,
    pub(crate) facets: Facets,
}

/// The facets of a search, or of one value, with their labels in the order of the query.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facets(Vec<(String, FacetResult)>);

impl Facets {
    /// The values of a field that were counted.
    pub(crate) fn terms(&self, field: &str) -> &[FacetBucket] {
        self.labelled(field).map_or(&[], FacetResult::buckets)
    }

    /// The intervals of a field that were counted.
    pub(crate) fn histogram(&self, field: &str) -> &[FacetBucket] {
        self.labelled(&format!("histogram_{field}"))
            .map_or(&[], FacetResult::buckets)
    }

    /// The number of crashes with this value of a field.
    pub(crate) fn count_of(&self, field: &str, value: &str) -> u64 {
        let mut terms = self.terms(field).iter();
        terms
            .find(|bucket| bucket.term.as_str() == Some(value))
            .map_or(0, |bucket| bucket.count)
    }

    /// The number of distinct values of a field; 0 if it was not counted.
    pub(crate) fn distinct(&self, field: &str) -> u64 {
        match self.labelled(&format!("cardinality_{field}")) {
            Some(FacetResult::Cardinality(count)) => *count,
            Some(FacetResult::Estimate { value, .. }) => *value,
            _ => 0,
        }
    }

    fn labelled(&self, label: &str) -> Option<&FacetResult> {
        let found = self.0.iter().find(|(found, _)| found == label);
        found.map(|(_, facet)| facet)
    }
}

impl Deref for Facets {
    type Target = [(String, FacetResult)];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<'a> IntoIterator for &'a Facets {
    type Item = &'a (String, FacetResult);
    type IntoIter = std::slice::Iter<'a, (String, FacetResult)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl FromIterator<(String, FacetResult)> for Facets {
    fn from_iter<I: IntoIterator<Item = (String, FacetResult)>>(facets: I) -> Self {
        Self(facets.into_iter().collect())
    }
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

    pub(crate) fn buckets(&self) -> &[FacetBucket] {
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
pub(crate) fn results(counting: &Counting) -> Facets {
    inside(counting, &counting.top, 0)
}

/// Some facets inside one listed value.
fn inside(counting: &Counting, places: &[usize], parent: u32) -> Facets {
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
