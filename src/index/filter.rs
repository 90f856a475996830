//! A query's conditions on one segment.
//!
//! Conditions on text are decided once for each entry of the column's dictionary, of which there
//! are far fewer than documents; then a document is a look-up.

use std::ops::RangeInclusive;

use memchr::memmem::Finder;
use regex::Regex;
use tantivy::columnar::{Column, StrColumn};
use tantivy::query::{BooleanQuery, EnableScoring, Occur, PhraseQuery, TermQuery};
use tantivy::schema::{Field as Slot, IndexRecordOption};
use tantivy::{DocSet, SegmentReader, TERMINATED, Term};

use super::columns::{Bits, FieldColumn};
use super::error::IndexError;
use super::schema::{Layout, cut, words};
use crate::fields::version::VersionKey;
use crate::fields::{self, name};
use crate::limits;
use crate::query::{self, FieldRef, Filter, Op, Operand, Query};

/// The documents of a segment that match, ascending.
pub fn matching(
    segment: &SegmentReader,
    layout: &Layout,
    query: &Query,
) -> Result<Vec<u32>, IndexError> {
    let mut clauses = Vec::new();
    let mut alternatives: Vec<(&FieldRef, Vec<Test>)> = Vec::new();
    let mut dates = i64::MIN..=i64::MAX;
    for filter in &query.filters {
        if let (FieldRef::Known(field), Some(range), false) =
            (&filter.field, integer_range(filter), filter.is_negated)
            && field.name == name::DATE
        {
            dates = *dates.start().max(range.start())..=*dates.end().min(range.end());
            continue;
        }
        let test = test(segment, layout, filter)?;
        if filter.is_negated || filter.op.is_range() {
            clauses.push(Clause {
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
    clauses.extend(alternatives.into_iter().map(|(_, tests)| Clause {
        tests,
        is_negated: false,
    }));
    if let Some(text) = &query.text {
        for tests in full_text(segment, layout, text, query.may_see_protected)? {
            clauses.push(Clause {
                tests,
                is_negated: false,
            });
        }
    }
    let mut docs = Vec::new();
    let date = FieldRef::find(name::DATE).expect("the catalogue has a date");
    if let FieldColumn::Integer(column) = FieldColumn::open(segment, &date)?
        && !dates.is_empty()
        // tantivy moves a bound outside of the column's values onto the nearest of them, so a range
        // beside all values would find that one.
        && *dates.start() <= column.max_value()
        && *dates.end() >= column.min_value()
    {
        column.get_docids_for_value_range(dates, 0..segment.max_doc(), &mut docs);
    }
    if let Some(alive) = segment.alive_bitset() {
        docs.retain(|doc| alive.is_alive(*doc));
    }
    for clause in &clauses {
        docs.retain(|doc| clause.tests.iter().any(|test| test.holds(*doc)) != clause.is_negated);
    }
    Ok(docs)
}

/// One of the tests holds, or none does where it is negated.
struct Clause {
    tests: Vec<Test>,
    is_negated: bool,
}

/// Sets of entries of the same field become one, so that a document is looked at once however many
/// values are asked for.
fn add_alternative(tests: &mut Vec<Test>, test: Test) {
    let known = tests.iter_mut().find_map(|known| match known {
        Test::Entries(_, set) => Some(set),
        _ => None,
    });
    match (known, test) {
        (Some(set), Test::Entries(_, more)) => set.add(&more),
        (_, test) => tests.push(test),
    }
}

enum Test {
    Never,
    Missing(FieldColumn),
    Entries(StrColumn, Bits),
    Documents(Bits),
    Integer(Column<i64>, RangeInclusive<i64>),
    Float(Column<f64>, Op, f64),
    Bool(Column<bool>, bool),
}

impl Test {
    fn holds(&self, doc: u32) -> bool {
        match self {
            Self::Never => false,
            Self::Missing(column) => !column.has_value(doc),
            Self::Entries(column, set) => column.term_ords(doc).any(|ord| set.has(ord as usize)),
            Self::Documents(set) => set.has(doc as usize),
            Self::Integer(column, range) => column.first(doc).is_some_and(|n| range.contains(&n)),
            Self::Float(column, op, bound) => column
                .first(doc)
                .is_some_and(|n| compares(*op, n.partial_cmp(bound))),
            Self::Bool(column, wanted) => column.first(doc) == Some(*wanted),
        }
    }
}

fn compares(op: Op, order: Option<std::cmp::Ordering>) -> bool {
    order.is_some_and(|order| match op {
        Op::Above => order.is_gt(),
        Op::AtLeast => order.is_ge(),
        Op::Below => order.is_lt(),
        Op::AtMost => order.is_le(),
        _ => order.is_eq(),
    })
}

/// The whole numbers, or moments in milliseconds, that a condition takes.
fn integer_range(filter: &Filter) -> Option<RangeInclusive<i64>> {
    let bound = match filter.operand {
        Operand::Integer(number) => number,
        Operand::Date(moment) => moment.ms(),
        _ => return None,
    };
    // An empty range, written so that it stays one when it is narrowed.
    #[allow(clippy::reversed_empty_ranges, reason = "it is meant to be empty")]
    let nothing = i64::MAX..=i64::MIN;
    Some(match filter.op {
        Op::Above => bound.checked_add(1).map_or(nothing, |n| n..=i64::MAX),
        Op::AtLeast => bound..=i64::MAX,
        Op::Below => bound.checked_sub(1).map_or(nothing, |n| i64::MIN..=n),
        Op::AtMost => i64::MIN..=bound,
        _ => bound..=bound,
    })
}

fn test(segment: &SegmentReader, layout: &Layout, filter: &Filter) -> Result<Test, IndexError> {
    let column = FieldColumn::open(segment, &filter.field)?;
    if filter.op == Op::Null {
        return Ok(Test::Missing(column));
    }
    Ok(match (column, &filter.operand) {
        (FieldColumn::Text(column), Operand::Text(text)) => {
            if let (Op::Has, fields::Kind::String, FieldRef::Known(field)) =
                (filter.op, filter.field.kind(), &filter.field)
                && let Some(slot) = layout.fields[field.name].words
            {
                let terms = words(text);
                if !terms.is_empty() {
                    let mut found = Bits::new(segment.max_doc() as usize);
                    all_words(segment, slot, &terms, &mut found)?;
                    return Ok(Test::Documents(found));
                }
            }
            let entries = entries(&column, filter, text)?;
            Test::Entries(column, entries)
        }
        (FieldColumn::Integer(column), _) => match integer_range(filter) {
            Some(range) => Test::Integer(column, range),
            None => Test::Never,
        },
        (FieldColumn::Float(column), Operand::Float(bound)) => {
            Test::Float(column, filter.op, *bound)
        }
        (FieldColumn::Bool(column), Operand::Bool(wanted)) => Test::Bool(column, *wanted),
        (FieldColumn::Bool(column), Operand::None) => Test::Bool(column, true),
        _ => Test::Never,
    })
}

/// How an entry of a dictionary is compared.
enum Pattern {
    Words(Vec<String>),
    Contains(Box<Finder<'static>>),
    Starts(String),
    Ends(String),
    Regex(Regex),
    Version(Op, VersionKey),
}

impl Pattern {
    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Words(wanted) => {
                let found = words(text);
                wanted.iter().all(|word| found.contains(word))
            }
            Self::Contains(finder) => finder.find(text.as_bytes()).is_some(),
            Self::Starts(start) => text.starts_with(start),
            Self::Ends(end) => text.ends_with(end),
            Self::Regex(regex) => regex.is_match(text),
            Self::Version(op, bound) => compares(*op, Some(VersionKey::new(text).cmp(bound))),
        }
    }
}

/// The entries of a dictionary that a condition takes.
fn entries(column: &StrColumn, filter: &Filter, text: &str) -> Result<Bits, IndexError> {
    let mut found = Bits::new(column.num_terms());
    let Some(pattern) = pattern(filter, text)? else {
        let whole = cut(text, limits::INDEX_VALUE_BYTES_MAX);
        if let Some(ord) = column.dictionary().term_ord(whole)? {
            found.set(ord as usize);
        }
        return Ok(found);
    };
    let mut stream = column.dictionary().stream()?;
    while stream.advance() {
        if std::str::from_utf8(stream.key()).is_ok_and(|key| pattern.matches(key)) {
            found.set(stream.term_ord() as usize);
        }
    }
    Ok(found)
}

/// `None` where the whole text must be equal.
fn pattern(filter: &Filter, text: &str) -> Result<Option<Pattern>, IndexError> {
    let kind = filter.field.kind();
    let has_wildcards = text.contains(['*', '?']);
    Ok(Some(match filter.op {
        // Socorro: the version of a beta without its number means all of them.
        Op::Has if kind == fields::Kind::Version => match text.ends_with('b') {
            true => Pattern::Starts(text.to_owned()),
            false => return Ok(None),
        },
        Op::Has if kind == fields::Kind::String => {
            let wanted = words(text);
            if wanted.is_empty() {
                return Ok(None);
            }
            Pattern::Words(wanted)
        }
        Op::Contains | Op::Starts | Op::Ends if has_wildcards => {
            let start = if filter.op == Op::Starts { "" } else { ".*" };
            let end = if filter.op == Op::Ends { "" } else { ".*" };
            let middle = regex::escape(text).replace("\\*", ".*").replace("\\?", ".");
            let regex = query::regex(&format!("{start}{middle}{end}"));
            Pattern::Regex(regex.ok_or(IndexError::TooComplex)?)
        }
        Op::Contains => Pattern::Contains(Box::new(Finder::new(text).into_owned())),
        Op::Starts => Pattern::Starts(text.to_owned()),
        Op::Ends => Pattern::Ends(text.to_owned()),
        Op::Regex => Pattern::Regex(query::regex(text).ok_or(IndexError::TooComplex)?),
        op if op.is_range() => Pattern::Version(op, VersionKey::new(text)),
        _ => return Ok(None),
    }))
}

/// For each word or "phrase" of a full-text search the test that some field has it.
fn full_text(
    segment: &SegmentReader,
    layout: &Layout,
    text: &str,
    may_see_protected: bool,
) -> Result<Vec<Vec<Test>>, IndexError> {
    let mut slots: Vec<Slot> = fields::all()
        .iter()
        .filter(|field| may_see_protected || !field.is_protected())
        .filter_map(|field| layout.fields[field.name].words)
        .collect();
    if may_see_protected {
        slots.push(layout.annotation_words);
    }
    let mut clauses = Vec::new();
    for terms in text_clauses(text) {
        let mut found = Bits::new(segment.max_doc() as usize);
        for slot in &slots {
            phrase(segment, *slot, &terms, &mut found)?;
        }
        clauses.push(vec![Test::Documents(found)]);
        if clauses.len() > limits::TEXT_CLAUSES_MAX {
            return Err(IndexError::TooComplex);
        }
    }
    Ok(clauses)
}

/// The words of each part of a search text. What a quoted part or one without a space holds must
/// stand in this order: `foo::bar` is a phrase.
fn text_clauses(text: &str) -> Vec<Vec<String>> {
    let mut clauses = Vec::new();
    for (at, part) in text.split('"').enumerate() {
        if at % 2 == 1 {
            clauses.push(words(part));
        } else {
            clauses.extend(part.split_whitespace().map(words));
        }
    }
    clauses.retain(|terms| !terms.is_empty());
    clauses
}

fn phrase(
    segment: &SegmentReader,
    slot: Slot,
    terms: &[String],
    found: &mut Bits,
) -> Result<(), IndexError> {
    if terms.len() < 2 {
        return all_words(segment, slot, terms, found);
    }
    let terms = terms
        .iter()
        .map(|word| Term::from_field_text(slot, word))
        .collect();
    mark(segment, &PhraseQuery::new(terms), found)
}

fn all_words(
    segment: &SegmentReader,
    slot: Slot,
    terms: &[String],
    found: &mut Bits,
) -> Result<(), IndexError> {
    let clauses = terms.iter().map(|word| {
        let term = Term::from_field_text(slot, word);
        let query = TermQuery::new(term, IndexRecordOption::Basic);
        (
            Occur::Must,
            Box::new(query) as Box<dyn tantivy::query::Query>,
        )
    });
    mark(segment, &BooleanQuery::new(clauses.collect()), found)
}

fn mark(
    segment: &SegmentReader,
    query: &dyn tantivy::query::Query,
    found: &mut Bits,
) -> Result<(), IndexError> {
    let weight = query.weight(EnableScoring::disabled_from_schema(segment.schema()))?;
    let mut docs = weight.scorer(segment, 1.0)?;
    let mut doc = docs.doc();
    while doc != TERMINATED {
        found.set(doc as usize);
        doc = docs.advance();
    }
    Ok(())
}
