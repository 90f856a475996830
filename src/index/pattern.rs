//! Which entries of a dictionary a condition on text takes.

use memchr::memmem::Finder;
use regex::Regex;

use super::bounds::Running;
use super::columns::Bits;
use super::error::IndexError;
use super::schema::{cut, words};
use super::terms::TextColumn;
use crate::fields::Kind;
use crate::fields::version::VersionKey;
use crate::limits;
use crate::query::{self, Filter, Op, Operand, Query};

/// How an entry is compared.
pub enum Pattern {
    Whole(String),
    Words(Vec<String>),
    Contains(Box<Finder<'static>>),
    Starts(String),
    Ends(String),
    Regex(Regex),
    Version(Op, VersionKey),
}

/// The entries that a condition takes.
pub fn entries(
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
            column.each_with(part, running, |ord| found.set(ord as usize))?;
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
            Pattern::Regex(regex) => regex.is_match(text),
            Pattern::Version(op, bound) => {
                let order = VersionKey::new(text).cmp(bound);
                match op {
                    Op::Above => order.is_gt(),
                    Op::AtLeast => order.is_ge(),
                    Op::Below => order.is_lt(),
                    Op::AtMost => order.is_le(),
                    _ => order.is_eq(),
                }
            }
            Pattern::Whole(_) | Pattern::Contains(_) => false,
        };
        if is_taken {
            found.set(ord as usize);
        }
    })?;
    Ok(found)
}

/// What each condition of a query compares texts with, in their order; `None` for conditions on
/// other values.
///
/// # Errors
/// A pattern is too large.
pub fn patterns(query: &Query) -> Result<Vec<Option<Pattern>>, IndexError> {
    let patterns = query.filters.iter().map(|filter| match &filter.operand {
        Operand::Text(text) => pattern(filter, text).map(Some),
        _ => Ok(None),
    });
    patterns.collect()
}

fn pattern(filter: &Filter, text: &str) -> Result<Pattern, IndexError> {
    let kind = filter.field.kind();
    let has_wildcards = text.contains(['*', '?']);
    let whole = || Pattern::Whole(cut(text, limits::INDEX_VALUE_BYTES_MAX).to_owned());
    Ok(match filter.op {
        // Socorro: the version of a beta without its number means all of them.
        Op::Has if kind == Kind::Version => match text.ends_with('b') {
            true => Pattern::Starts(text.to_owned()),
            false => whole(),
        },
        Op::Has if kind == Kind::String => {
            let wanted = words(text);
            match wanted.is_empty() {
                true => whole(),
                false => Pattern::Words(wanted),
            }
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
        _ => whole(),
    })
}
