//! Columns of one segment, by field, read one block of documents at a time.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;
use tantivy::columnar::{Column, ColumnIndex, ColumnType};
use tantivy::{SegmentReader, u64_to_f64, u64_to_i64};

use super::bounds::Running;
use super::error::IndexError;
use super::schema::ANNOTATION;
use super::terms::{Dictionaries, TextColumn};
use crate::clock::Timestamp;
use crate::fields::Kind;
use crate::query::FieldRef;

/// Values of one field for each document of a segment. Only text may have several values per document.
pub(crate) enum FieldColumn {
    /// No document has a value.
    Missing,
    Text(TextColumn),
    /// A column of any other kind, as numbers that compare like the values.
    Number(Column<u64>),
}

impl FieldColumn {
    pub(crate) fn open(
        segment: &SegmentReader,
        field: &FieldRef,
        dictionaries: &Arc<Dictionaries>,
    ) -> Result<Self, IndexError> {
        let name = match field {
            FieldRef::Known(field) => field.name.to_string(),
            FieldRef::Annotation(key) => {
                let key = key.replace('\\', "\\\\").replace('.', "\\.");
                format!("{ANNOTATION}.{key}")
            }
        };
        let columns = segment.fast_fields();
        let numbers = |kind| columns.u64_lenient_for_type(Some(&[kind]), &name);
        let column = match field.kind() {
            Kind::String | Kind::Enum | Kind::Version | Kind::Address => {
                return Ok(columns.str(&name)?.map_or(Self::Missing, |column| {
                    let id = segment.segment_id();
                    Self::Text(TextColumn::new(column, id, name, dictionaries))
                }));
            }
            Kind::Integer | Kind::Date => numbers(ColumnType::I64)?,
            Kind::Float => numbers(ColumnType::F64)?,
            Kind::Bool => numbers(ColumnType::Bool)?,
        };
        Ok(column.map_or(Self::Missing, |(column, _)| Self::Number(column)))
    }

    /// Numbers of values, or of entries of the dictionary.
    pub(crate) fn numbers(&self) -> Option<&Column<u64>> {
        match self {
            Self::Missing => None,
            Self::Text(column) => Some(column.ords()),
            Self::Number(column) => Some(column),
        }
    }

    /// The values of some documents in the API's form, in the order of `docs`: null for none, a list for
    /// several.
    pub(crate) fn values(
        &self,
        field: &FieldRef,
        docs: &[u32],
        running: &Running,
    ) -> Result<Vec<Value>, IndexError> {
        let is_split = matches!(field, FieldRef::Known(known) if known.flags.split);
        Ok(match self {
            Self::Missing => vec![Value::Null; docs.len()],
            Self::Number(column) => each(docs, |doc| {
                Some(number_value(field.kind(), column.first(doc)?))
            }),
            Self::Text(column) => {
                let ords = docs
                    .iter()
                    .flat_map(|doc| column.ords().values_for_doc(*doc));
                let texts = texts(column, ords.collect(), running)?;
                let text = |ord| texts.get(&ord).cloned().unwrap_or_default();
                each(docs, |doc| {
                    let ords = column.ords().values_for_doc(doc);
                    let mut values: Vec<String> = ords.map(text).collect();
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

/// A value of a column of numbers in the API's form.
pub(crate) fn number_value(kind: Kind, number: u64) -> Value {
    match kind {
        Kind::Date => Timestamp::from_ms(u64_to_i64(number)).rfc3339().into(),
        Kind::Float => u64_to_f64(number).into(),
        Kind::Bool => (number == 1).into(),
        _ => u64_to_i64(number).into(),
    }
}

/// The texts of some entries of a column's dictionary.
pub(crate) fn texts(
    column: &TextColumn,
    mut ords: Vec<u64>,
    running: &Running,
) -> Result<HashMap<u64, String>, IndexError> {
    ords.sort_unstable();
    ords.dedup();
    let mut found = HashMap::with_capacity(ords.len());
    column.each_of(&ords, running, |ord, text| {
        found.insert(ord, text.to_owned());
        Ok(())
    })?;
    Ok(found)
}

/// The values of some documents, each with its document. Read together, in the order of the documents.
#[derive(Default)]
pub(crate) struct Pairs {
    is_one_each: bool,
    docs: Vec<u32>,
    rows: Vec<u32>,
    values: Vec<u64>,
}

impl Pairs {
    /// Reads the values of `docs`, which must ascend.
    pub(crate) fn read(&mut self, column: &Column<u64>, docs: &[u32]) {
        self.docs.clear();
        self.rows.clear();
        self.is_one_each = matches!(column.index, ColumnIndex::Full);
        self.values.resize(docs.len(), 0);
        if let (ColumnIndex::Full, Some(&first), Some(&last)) =
            (&column.index, docs.first(), docs.last())
        {
            self.docs.extend_from_slice(docs);
            if (last - first) as usize + 1 == docs.len() {
                column.values.get_range(first.into(), &mut self.values)
            } else {
                column.values.get_vals(docs, &mut self.values)
            }
            return;
        }
        column.row_ids_for_docs(docs, &mut self.docs, &mut self.rows);
        self.values.resize(self.rows.len(), 0);
        column.values.get_vals(&self.rows, &mut self.values);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.docs.iter().copied().zip(self.values.iter().copied())
    }

    /// Whether each document has exactly one value.
    pub(crate) fn is_one_each(&self) -> bool {
        self.is_one_each
    }

    /// The values without their documents.
    pub(crate) fn values(&self) -> &[u64] {
        &self.values
    }
}

/// A set of small numbers.
pub(crate) struct Bits(Vec<u64>);

impl Bits {
    /// An empty set for numbers below `len`.
    pub(crate) fn new(len: usize) -> Self {
        Self(vec![0; len.div_ceil(64)])
    }

    /// Bytes of a set for numbers below `len`.
    pub(crate) fn bytes(len: usize) -> usize {
        len / 8 + 8
    }

    pub(crate) fn memory(&self) -> usize {
        8 * self.0.len()
    }

    pub(crate) fn set(&mut self, at: usize) {
        self.0[at / 64] |= 1 << (at % 64);
    }

    pub(crate) fn has(&self, at: usize) -> bool {
        self.0
            .get(at / 64)
            .is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// Adds the numbers of the other set, which must have the same length.
    pub(crate) fn add(&mut self, other: &Self) {
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            *word |= more;
        }
    }

    /// Removes the numbers that are not in the other set, which must have the same length.
    pub(crate) fn keep(&mut self, other: &Self) {
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            *word &= more;
        }
    }

    /// The numbers, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.within(0..self.0.len() * 64)
    }

    /// The numbers in a range that starts at a multiple of 64, ascending.
    pub(crate) fn within(&self, range: std::ops::Range<usize>) -> impl Iterator<Item = usize> + '_ {
        let words = range.start / 64..range.end.div_ceil(64).min(self.0.len());
        let first = words.start;
        self.0[words]
            .iter()
            .enumerate()
            .flat_map(move |(at, word)| {
                let mut rest = *word;
                std::iter::from_fn(move || {
                    let bit = rest.trailing_zeros() as usize;
                    rest &= rest.checked_sub(1)?;
                    Some((first + at) * 64 + bit)
                })
            })
    }
}
