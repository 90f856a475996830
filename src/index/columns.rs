//! Columns of one segment, by field.

use std::collections::HashMap;

use serde_json::Value;
use tantivy::SegmentReader;
use tantivy::columnar::{Column, StrColumn};

use super::error::IndexError;
use super::schema::ANNOTATION;
use crate::clock::Timestamp;
use crate::fields::Kind;
use crate::query::FieldRef;

/// Values of one field for each document of a segment. Only text may have several a document.
pub enum FieldColumn {
    /// No document has a value.
    Missing,
    Text(StrColumn),
    Integer(Column<i64>),
    Float(Column<f64>),
    Bool(Column<bool>),
}

impl FieldColumn {
    pub fn open(segment: &SegmentReader, field: &FieldRef) -> Result<Self, IndexError> {
        let name = match field {
            FieldRef::Known(field) => field.name.to_owned(),
            FieldRef::Annotation(key) => {
                let key = key.replace('\\', "\\\\").replace('.', "\\.");
                format!("{ANNOTATION}.{key}")
            }
        };
        let columns = segment.fast_fields();
        let column = match field.kind() {
            Kind::String | Kind::Enum | Kind::Version => columns.str(&name)?.map(Self::Text),
            Kind::Integer | Kind::Date => columns.column_opt(&name)?.map(Self::Integer),
            Kind::Float => columns.column_opt(&name)?.map(Self::Float),
            Kind::Bool => columns.column_opt(&name)?.map(Self::Bool),
        };
        Ok(column.unwrap_or(Self::Missing))
    }

    pub fn has_value(&self, doc: u32) -> bool {
        match self {
            Self::Missing => false,
            Self::Text(column) => column.ords().first(doc).is_some(),
            Self::Integer(column) => column.first(doc).is_some(),
            Self::Float(column) => column.first(doc).is_some(),
            Self::Bool(column) => column.first(doc).is_some(),
        }
    }

    /// The values of some documents as the API gives them, in the order of `docs`: null for none,
    /// a list for several.
    pub fn values(&self, field: &FieldRef, docs: &[u32]) -> Result<Vec<Value>, IndexError> {
        let is_split = matches!(field, FieldRef::Known(known) if known.flags.split);
        Ok(match self {
            Self::Missing => vec![Value::Null; docs.len()],
            Self::Integer(column) => each(docs, |doc| {
                column
                    .first(doc)
                    .map(|number| number_value(field.kind(), number))
            }),
            Self::Float(column) => each(docs, |doc| column.first(doc).map(Value::from)),
            Self::Bool(column) => each(docs, |doc| column.first(doc).map(Value::from)),
            Self::Text(column) => {
                let ords = docs.iter().flat_map(|doc| column.term_ords(*doc)).collect();
                let texts = texts(column, ords)?;
                let text = |ord| texts.get(&ord).cloned().unwrap_or_default();
                each(docs, |doc| {
                    let mut values: Vec<String> = column.term_ords(doc).map(text).collect();
                    match values.len() {
                        0 | 1 => values.pop().map(Value::from),
                        _ if is_split => Some(values.join(";").into()),
                        _ => Some(values.into()),
                    }
                })
            }
        })
    }
}

fn each(docs: &[u32], value: impl Fn(u32) -> Option<Value>) -> Vec<Value> {
    docs.iter()
        .map(|doc| value(*doc).unwrap_or(Value::Null))
        .collect()
}

/// An integer as the API gives it.
pub fn number_value(kind: Kind, number: i64) -> Value {
    match kind {
        Kind::Date => Timestamp::from_ms(number).rfc3339().into(),
        _ => number.into(),
    }
}

/// The texts of some entries of a column's dictionary.
pub fn texts(column: &StrColumn, mut ords: Vec<u64>) -> Result<HashMap<u64, String>, IndexError> {
    ords.sort_unstable();
    ords.dedup();
    let mut found = Vec::with_capacity(ords.len());
    let is_complete = column.dictionary().sorted_ords_to_term_cb(&ords, |term| {
        found.push(String::from_utf8_lossy(term).into_owned());
    })?;
    match is_complete {
        true => Ok(ords.into_iter().zip(found).collect()),
        false => Err(IndexError::Damaged("a dictionary lacks an entry".into())),
    }
}

/// A set of small numbers.
pub struct Bits(Vec<u64>);

impl Bits {
    /// Room for numbers below `len`.
    pub fn new(len: usize) -> Self {
        Self(vec![0; len.div_ceil(64)])
    }

    pub fn set(&mut self, at: usize) {
        self.0[at / 64] |= 1 << (at % 64);
    }

    pub fn has(&self, at: usize) -> bool {
        self.0
            .get(at / 64)
            .is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    /// Takes over what the other set, of the same length, has.
    pub fn add(&mut self, other: &Self) {
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            *word |= more;
        }
    }

    /// Ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(word_at, word)| {
            (0..64)
                .filter(move |bit| word >> bit & 1 == 1)
                .map(move |bit| word_at * 64 + bit)
        })
    }
}
