//! A query's conditions on one segment, evaluated on one block of documents at a time.
//!
//! A condition on text is evaluated once for each entry of the column's dictionary, which has far fewer
//! entries than there are documents. Then a document needs only a look-up. Words of the full text give the
//! set of their documents, and only these documents are checked further.

use std::ops::{Range, RangeInclusive};

use tantivy::columnar::{Column, ColumnIndex};
use tantivy::{SegmentReader, f64_to_u64, i64_to_u64};

use super::bounds::Running;
use super::columns::{Bits, FieldColumn, Pairs};
use super::context::Context;
use super::error::IndexError;
use super::pattern::{Pattern, entries};
use super::schema::words;
use super::words::{all_words, full_text};
use crate::fields::{self, DEFERRED, name};
use crate::query::{FieldRef, Filter, Op, Operand, Query};

/// Documents that are processed together. A multiple of 64.
const BLOCK: u32 = 4_096;

/// The conditions, prepared for one segment.
pub(crate) struct Matching<'s> {
    segment: &'s SegmentReader,
    /// No document matches.
    is_empty: bool,
    /// Set if the date must be checked, because not every document is in the range.
    dates: Option<(Column<u64>, RangeInclusive<u64>)>,
    /// The documents that have the words, if the query has words.
    words: Option<Bits>,
    clauses: Vec<Clause>,
}

impl<'s> Matching<'s> {
    pub(crate) fn open(
        segment: &'s SegmentReader,
        context: Context,
        query: &Query,
        patterns: &[Option<Pattern>],
    ) -> Result<Self, IndexError> {
        let mut matching = Self {
            segment,
            is_empty: false,
            dates: None,
            words: None,
            clauses: Vec::new(),
        };
        let mut alternatives: Vec<(&FieldRef, Vec<Test>)> = Vec::new();
        let mut dates = 0..=u64::MAX;
        // The dates first: if no document is in their range, nothing else has to be opened.
        for filter in query.filters.iter().filter(|filter| is_date_range(filter)) {
            let range = number_range(filter).unwrap_or(NOTHING);
            dates = *dates.start().max(range.start())..=*dates.end().min(range.end());
        }
        matching.narrow_dates(context, dates)?;
        if matching.is_empty {
            return Ok(matching);
        }
        if !query.with_deferred {
            matching.leave_out_deferred(context)?;
        }
        for (filter, pattern) in query.filters.iter().zip(patterns) {
            if is_date_range(filter) {
                continue;
            }
            let test = test(segment, context, filter, pattern.as_ref())?;
            if filter.is_negated || filter.op.is_range() {
                matching.add(Clause {
                    tests: vec![test],
                    is_negated: filter.is_negated,
                });
                continue;
            }
            match alternatives
                .iter_mut()
                .find(|(field, _)| **field == filter.field)
            {
                Some((_, tests)) => add_alternative(tests, test),
                None => alternatives.push((&filter.field, vec![test])),
            }
        }
        for (_, tests) in alternatives {
            matching.add(Clause {
                tests,
                is_negated: false,
            });
        }
        if let Some(text) = &query.text
            && !matching.is_empty
        {
            for (is_negated, found) in full_text(segment, context, text, query.may_see_protected)? {
                matching.add(Clause {
                    tests: vec![Test::Documents(found)],
                    is_negated,
                });
            }
        }
        Ok(matching)
    }

    /// Excludes deferred crashes. Costs nothing in a segment that has none.
    fn leave_out_deferred(&mut self, context: Context) -> Result<(), IndexError> {
        let state = FieldRef::of(name::STATE);
        if let FieldColumn::Text(column) = context.column(self.segment, &state)? {
            let deferred = Pattern::Whole(DEFERRED.to_owned());
            let found = entries(&column, &deferred, context.running)?;
            self.add(Clause {
                tests: vec![Test::Entries(column.ords().clone(), found)],
                is_negated: true,
            });
        }
        Ok(())
    }

    fn narrow_dates(
        &mut self,
        context: Context,
        range: RangeInclusive<u64>,
    ) -> Result<(), IndexError> {
        let date = FieldRef::of(name::DATE);
        let FieldColumn::Number(column) = context.column(self.segment, &date)? else {
            self.is_empty = true;
            return Ok(());
        };
        let (min, max) = (column.min_value(), column.max_value());
        // tantivy moves a bound outside the column's values to the nearest value. So a range without any
        // value would find that value.
        self.is_empty = range.is_empty() || *range.start() > max || *range.end() < min;
        let is_all = *range.start() <= min
            && max <= *range.end()
            && matches!(column.index, ColumnIndex::Full);
        self.dates = (!is_all).then(|| {
            let range = *range.start().max(&min)..=*range.end().min(&max);
            (column, range)
        });
        Ok(())
    }

    fn add(&mut self, clause: Clause) {
        let Clause { tests, is_negated } = &clause;
        let is_never = tests.iter().all(|test| match test {
            Test::Never => true,
            Test::Entries(_, set) | Test::Documents(set) => set.is_empty(),
            _ => false,
        });
        if is_never {
            // A negated condition of this kind matches all documents.
            self.is_empty |= !is_negated;
            return;
        }
        match (&tests[..], is_negated) {
            ([Test::Documents(set)], false) => match &mut self.words {
                Some(words) => words.keep(set),
                words => *words = clause.tests.into_iter().find_map(Test::documents),
            },
            _ => self.clauses.push(clause),
        }
    }

    /// Calls `take` with the documents that match, one block after the other, ascending within each block.
    pub(crate) fn each_block(
        &self,
        running: &Running,
        mut take: impl FnMut(&[u32]) -> Result<(), IndexError>,
    ) -> Result<(), IndexError> {
        if self.is_empty {
            return Ok(());
        }
        let mut docs = Vec::with_capacity(BLOCK as usize);
        let mut marks = Vec::with_capacity(BLOCK as usize);
        let mut pairs = Pairs::default();
        for range in blocks(self.segment.max_doc()) {
            running.check_time()?;
            docs.clear();
            match (&self.words, &self.dates) {
                (Some(words), dates) => {
                    let range = range.start as usize..range.end as usize;
                    docs.extend(words.within(range).map(|doc| doc as u32));
                    if let Some((column, dates)) = dates {
                        let test = |number| dates.contains(&number);
                        retain(&mut docs, &mut marks, false, |docs, marks| {
                            pairs.read(column, docs);
                            mark(docs, &pairs, marks, test);
                        });
                    }
                }
                (None, None) => docs.extend(range),
                (None, Some((column, dates))) => {
                    column.get_docids_for_value_range(dates.clone(), range, &mut docs);
                }
            }
            if let Some(alive) = self.segment.alive_bitset() {
                docs.retain(|doc| alive.is_alive(*doc));
            }
            for clause in &self.clauses {
                if docs.is_empty() {
                    break;
                }
                retain(&mut docs, &mut marks, clause.is_negated, |docs, marks| {
                    for test in &clause.tests {
                        test.mark(docs, &mut pairs, marks);
                    }
                });
            }
            if !docs.is_empty() {
                take(&docs)?;
            }
        }
        Ok(())
    }
}

/// A segment's document numbers in blocks, the last block first. It has the newest crashes, so a search for
/// the newest ones can skip most of the others.
pub(crate) fn blocks(max_doc: u32) -> impl Iterator<Item = Range<u32>> {
    let start = (0..max_doc).step_by(BLOCK as usize).rev();
    start.map(move |start| start..max_doc.min(start + BLOCK))
}

fn is_date_range(filter: &Filter) -> bool {
    filter.is_on(name::DATE) && matches!(filter.operand, Operand::Date(_)) && !filter.is_negated
}

/// Removes the documents that `test` does not mark, or if negated, those that it marks.
fn retain(
    docs: &mut Vec<u32>,
    marks: &mut Vec<bool>,
    is_negated: bool,
    test: impl FnOnce(&[u32], &mut [bool]),
) {
    marks.clear();
    marks.resize(docs.len(), false);
    test(docs, marks);
    let mut marks = marks.iter();
    docs.retain(|_| marks.next() != Some(&is_negated));
}

/// Marks the documents that have at least one value for which `test` is true.
fn mark(docs: &[u32], pairs: &Pairs, marks: &mut [bool], test: impl Fn(u64) -> bool) {
    if pairs.is_one_each() {
        for (mark, number) in marks.iter_mut().zip(pairs.values()) {
            *mark |= test(*number);
        }
        return;
    }
    let mut at = 0;
    for (doc, number) in pairs.iter() {
        while docs[at] != doc {
            at += 1;
        }
        marks[at] |= test(number);
    }
}

/// True if one of the tests is true. If negated, true if none is.
struct Clause {
    tests: Vec<Test>,
    is_negated: bool,
}

/// Adds a test to alternatives. Sets of the same kind are merged, so a document is checked once however many
/// values the query has.
fn add_alternative(tests: &mut Vec<Test>, test: Test) {
    let known = tests.iter_mut().find_map(|known| match (known, &test) {
        (Test::Entries(_, set), Test::Entries(_, more))
        | (Test::Documents(set), Test::Documents(more)) => Some((set, more)),
        _ => None,
    });
    match known {
        Some((set, more)) => set.add(more),
        None => tests.push(test),
    }
}

enum Test {
    Never,
    Always,
    Missing(ColumnIndex),
    Entries(Column<u64>, Bits),
    Documents(Bits),
    Number(Column<u64>, RangeInclusive<u64>),
}

impl Test {
    fn documents(self) -> Option<Bits> {
        match self {
            Self::Documents(set) => Some(set),
            _ => None,
        }
    }

    fn mark(&self, docs: &[u32], pairs: &mut Pairs, marks: &mut [bool]) {
        match self {
            Self::Never => {}
            Self::Always => marks.fill(true),
            Self::Missing(index) => {
                for (mark, doc) in marks.iter_mut().zip(docs) {
                    *mark |= !index.has_value(*doc);
                }
            }
            Self::Documents(set) => {
                for (mark, doc) in marks.iter_mut().zip(docs) {
                    *mark |= set.has(*doc as usize);
                }
            }
            Self::Entries(column, set) => {
                pairs.read(column, docs);
                mark(docs, pairs, marks, |ord| set.has(ord as usize));
            }
            Self::Number(column, range) => {
                pairs.read(column, docs);
                mark(docs, pairs, marks, |number| range.contains(&number));
            }
        }
    }
}

/// An empty range. With these ends it stays empty when it is narrowed.
#[allow(clippy::reversed_empty_ranges, reason = "it is meant to be empty")]
const NOTHING: RangeInclusive<u64> = u64::MAX..=0;

/// The values of a numeric column that a condition accepts, as numbers of the column.
fn number_range(filter: &Filter) -> Option<RangeInclusive<u64>> {
    let bound = match filter.operand {
        Operand::Integer(number) => i64_to_u64(number),
        Operand::Date(moment) => i64_to_u64(moment.ms()),
        // Both zeros are one value.
        Operand::Float(number) => f64_to_u64(number + 0.0),
        Operand::Bool(value) => u64::from(value),
        Operand::None => 1,
        Operand::Text(_) => return None,
    };
    Some(match filter.op {
        Op::Above => bound.checked_add(1).map_or(NOTHING, |n| n..=u64::MAX),
        Op::AtLeast => bound..=u64::MAX,
        Op::Below => bound.checked_sub(1).map_or(NOTHING, |n| 0..=n),
        Op::AtMost => 0..=bound,
        _ => bound..=bound,
    })
}

fn test(
    segment: &SegmentReader,
    context: Context,
    filter: &Filter,
    pattern: Option<&Pattern>,
) -> Result<Test, IndexError> {
    let column = context.column(segment, &filter.field)?;
    if filter.op == Op::Null {
        return Ok(match column.numbers() {
            Some(numbers) => Test::Missing(numbers.index.clone()),
            None => Test::Always,
        });
    }
    Ok(match (column, &filter.operand, pattern) {
        (FieldColumn::Text(column), Operand::Text(text), Some(pattern)) => {
            if let (Op::Has, fields::Kind::String, FieldRef::Known(field)) =
                (filter.op, filter.field.kind(), &filter.field)
                && let Some(slot) = context.layout.slots(field).and_then(|slots| slots.words)
            {
                let terms = words(text);
                if !terms.is_empty() {
                    let mut found = Bits::new(segment.max_doc() as usize);
                    all_words(segment, slot, &terms, context.running, &mut found)?;
                    return Ok(Test::Documents(found));
                }
            }
            let entries = entries(&column, pattern, context.running)?;
            Test::Entries(column.ords().clone(), entries)
        }
        (FieldColumn::Number(column), ..) => match number_range(filter) {
            Some(range) => Test::Number(column, range),
            None => Test::Never,
        },
        _ => Test::Never,
    })
}
