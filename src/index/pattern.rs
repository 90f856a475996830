//! Finds the entries of a dictionary that a condition on text matches.

use std::cmp::Ordering;

use memchr::memmem::Finder;
use regex::Regex;
use regex_syntax::hir::{Hir, HirKind};

use super::bounds::Running;
use super::columns::Bits;
use super::error::IndexError;
use super::schema::{cut, words};
use super::terms::TextColumn;
use crate::fields::version::VersionKey;
use crate::fields::{self, Kind};
use crate::limits;
use crate::query::{Compiled, Filter, Op, Operand, Query};

/// How an entry is compared.
pub(crate) enum Pattern {
    Whole(String),
    Words(Vec<String>),
    Contains(Box<Finder<'static>>),
    Starts(String),
    Ends(String),
    /// With a text that every match contains, if there is one.
    Regex(Regex, Option<Box<Finder<'static>>>),
    Version(Op, VersionKey),
    /// By the number that the text represents.
    Address(Op, u64),
}

/// The entries that a condition matches.
pub(crate) fn entries(
    column: &TextColumn,
    pattern: &Pattern,
    running: &Running,
) -> Result<Bits, IndexError> {
    running.check_bytes(Bits::bytes(column.len()))?;
    let mut found = Bits::new(column.len());
    match pattern {
        Pattern::Whole(text) => {
            if let Some(ord) = column.ord_of(text)? {
                found.set(ord as usize);
            }
            return Ok(found);
        }
        Pattern::Contains(part) => {
            column.each_with(part, running, |ord, _| found.set(ord as usize))?;
            return Ok(found);
        }
        Pattern::Regex(regex, Some(part)) => {
            column.each_with(part, running, |ord, text| {
                if regex.is_match(text) {
                    found.set(ord as usize);
                }
            })?;
            return Ok(found);
        }
        _ => {}
    }
    column.each(running, |ord, text| {
        let is_taken = match pattern {
            Pattern::Words(wanted) => {
                let known = words(text);
                wanted.iter().all(|word| known.contains(word))
            }
            Pattern::Starts(start) => text.starts_with(start),
            Pattern::Ends(end) => text.ends_with(end),
            Pattern::Regex(regex, _) => regex.is_match(text),
            Pattern::Version(op, bound) => holds(*op, VersionKey::new(text).cmp(bound)),
            Pattern::Address(op, bound) => {
                fields::address(text).is_some_and(|number| holds(*op, number.cmp(bound)))
            }
            Pattern::Whole(_) | Pattern::Contains(_) => false,
        };
        if is_taken {
            found.set(ord as usize);
        }
    })?;
    Ok(found)
}

fn holds(op: Op, order: Ordering) -> bool {
    match op {
        Op::Above => order.is_gt(),
        Op::AtLeast => order.is_ge(),
        Op::Below => order.is_lt(),
        Op::AtMost => order.is_le(),
        _ => order.is_eq(),
    }
}

/// The patterns with which the conditions of a query compare texts, in order; `None` for conditions on other
/// values.
///
/// # Errors
/// A pattern is too large.
pub(crate) fn patterns(query: &Query) -> Result<Vec<Option<Pattern>>, IndexError> {
    let patterns = query.filters.iter().map(|filter| match &filter.operand {
        Operand::Text(text) => pattern(filter, text).map(Some),
        _ => Ok(None),
    });
    patterns.collect()
}

fn pattern(filter: &Filter, text: &str) -> Result<Pattern, IndexError> {
    if let Some(compiled) = &filter.pattern {
        return Ok(regex(compiled));
    }
    let kind = filter.field.kind();
    let whole = || Pattern::Whole(cut(text, limits::INDEX_VALUE_BYTES_MAX).to_owned());
    Ok(match filter.op {
        // As in Socorro, a beta version without a number means all of its betas.
        Op::Has if kind == Kind::Version => {
            if text.ends_with('b') {
                Pattern::Starts(text.to_owned())
            } else {
                whole()
            }
        }
        Op::Has if kind == Kind::String => {
            let wanted = words(text);
            if wanted.is_empty() {
                whole()
            } else {
                Pattern::Words(wanted)
            }
        }
        Op::Contains => Pattern::Contains(Box::new(Finder::new(text).into_owned())),
        Op::Starts => Pattern::Starts(text.to_owned()),
        Op::Ends => Pattern::Ends(text.to_owned()),
        Op::Regex => return Err(IndexError::TooComplex),
        Op::Has | Op::Above | Op::AtLeast | Op::Below | Op::AtMost if kind == Kind::Address => {
            match fields::address(text) {
                Some(bound) => Pattern::Address(filter.op, bound),
                None => whole(),
            }
        }
        op if op.is_range() => Pattern::Version(op, VersionKey::new(text)),
        _ => whole(),
    })
}

fn regex(compiled: &Compiled) -> Pattern {
    let part = regex_syntax::parse(compiled.text()).ok();
    let part = part.and_then(|parsed| required(&parsed));
    let finder = part.map(|part| Box::new(Finder::new(&part).into_owned()));
    Pattern::Regex(compiled.regex().clone(), finder)
}

/// The longest text that every match contains, as far as it is easy to see. Searching for a text is ten times
/// faster than matching.
fn required(parsed: &Hir) -> Option<Vec<u8>> {
    match parsed.kind() {
        HirKind::Literal(literal) => Some(literal.0.to_vec()),
        HirKind::Capture(capture) => required(&capture.sub),
        HirKind::Repetition(repetition) if repetition.min > 0 => required(&repetition.sub),
        HirKind::Concat(parts) => parts.iter().filter_map(required).max_by_key(Vec::len),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_looked_for_by_a_text_that_it_requires() {
        fn check(pattern: &str, expected: Option<&str>) {
            let found = required(&regex_syntax::parse(pattern).unwrap());
            assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{pattern}");
        }
        check(".*Promise.*Run.*", Some("Promise"));
        check("(a(bc)+d)", Some("bc"));
        check("abc?", Some("ab"));
        check("(abc)?d", Some("d"));
        check("(abc|abd)e", Some("e"));
        check("abc|de", None);
        check("(?i)abc", None);
        check("[a-c]*", None);
    }
}
