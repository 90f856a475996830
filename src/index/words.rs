//! Words and phrases: the only conditions that use the inverted index.

use tantivy::query::{BooleanQuery, EnableScoring, Occur, PhraseQuery, TermQuery};
use tantivy::schema::{Field as Slot, IndexRecordOption};
use tantivy::{DocSet, SegmentReader, TERMINATED, Term};

use super::bounds::Running;
use super::columns::Bits;
use super::context::Context;
use super::error::IndexError;
use super::schema::words;
use crate::limits;
use crate::query::language;

/// Number of documents between two checks of the time limit.
const STRIDE: usize = 4_096;

/// For each word or "phrase" of a full-text search: the documents in which some field has it, and whether it
/// is negated.
pub(crate) fn full_text(
    segment: &SegmentReader,
    context: Context,
    text: &str,
    may_see_protected: bool,
) -> Result<Vec<(bool, Bits)>, IndexError> {
    let mut slots: Vec<Slot> = context
        .catalogue
        .all()
        .iter()
        .filter(|field| may_see_protected || !field.is_protected())
        .filter_map(|field| context.layout.slots(field)?.words)
        .collect();
    if may_see_protected {
        slots.push(context.layout.annotation_words);
    }
    let clauses = text_clauses(text);
    if clauses.len() > limits::TEXT_CLAUSES_MAX {
        return Err(IndexError::TooComplex);
    }
    context
        .running
        .check_bytes(Bits::bytes(segment.max_doc() as usize) * clauses.len())?;
    let mut found = Vec::with_capacity(clauses.len());
    for (is_negated, terms) in clauses {
        let mut docs = Bits::new(segment.max_doc() as usize);
        for slot in &slots {
            phrase(segment, *slot, &terms, context.running, &mut docs)?;
        }
        found.push((is_negated, docs));
    }
    Ok(found)
}

/// The words of each part of a search text, and whether the part is negated.
fn text_clauses(text: &str) -> Vec<(bool, Vec<String>)> {
    language::parts(text)
        .map(|part| (part.is_negated, words(&part.text)))
        .filter(|(_, terms)| !terms.is_empty())
        .collect()
}

fn phrase(
    segment: &SegmentReader,
    slot: Slot,
    terms: &[String],
    running: &Running,
    found: &mut Bits,
) -> Result<(), IndexError> {
    if terms.len() < 2 {
        return all_words(segment, slot, terms, running, found);
    }
    let terms = terms
        .iter()
        .map(|word| Term::from_field_text(slot, word))
        .collect();
    mark(segment, &PhraseQuery::new(terms), running, found)
}

/// Adds the documents in which this field has all words.
pub(crate) fn all_words(
    segment: &SegmentReader,
    slot: Slot,
    terms: &[String],
    running: &Running,
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
    mark(
        segment,
        &BooleanQuery::new(clauses.collect()),
        running,
        found,
    )
}

fn mark(
    segment: &SegmentReader,
    query: &dyn tantivy::query::Query,
    running: &Running,
    found: &mut Bits,
) -> Result<(), IndexError> {
    let weight = query.weight(EnableScoring::disabled_from_schema(segment.schema()))?;
    let mut docs = weight.scorer(segment, 1.0)?;
    let mut doc = docs.doc();
    let mut seen: usize = 0;
    while doc != TERMINATED {
        found.set(doc as usize);
        doc = docs.advance();
        seen += 1;
        if seen.is_multiple_of(STRIDE) {
            running.check_time()?;
        }
    }
    Ok(())
}
