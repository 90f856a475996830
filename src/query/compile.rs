//! Regular expressions of a search, compiled once and within one budget.
//!
//! A short pattern can be large when it is compiled: `\\w{16}` needs most of a MiB and ten milliseconds, and
//! a request has room for a thousand of them. So all patterns of one search share a budget of bytes, and
//! equal patterns are compiled once.

use std::sync::Arc;

use regex::{Regex, RegexBuilder};

use super::op::Op;
use crate::limits;

/// Size limits that are tried for a pattern, in bytes. It is charged with the first one that is large enough.
const TIERS: [usize; 4] = [16 << 10, 64 << 10, 256 << 10, limits::REGEX_BYTES_MAX];
/// Memory for each pattern's lazy automaton while it matches.
const CACHE_BYTES: usize = 256 << 10;

/// A regular expression that must match the whole value.
#[derive(Clone, Debug)]
pub(crate) struct Compiled {
    regex: Arc<Regex>,
    /// The pattern before it was extended to match the whole value.
    text: Arc<str>,
}

impl Compiled {
    pub(crate) fn regex(&self) -> &Regex {
        &self.regex
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

impl PartialEq for Compiled {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// What the patterns of one search may use together.
pub(crate) struct Budget {
    bytes_left: usize,
    known: Vec<Compiled>,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            bytes_left: limits::REGEXES_BYTES_MAX,
            known: Vec::new(),
        }
    }
}

impl Budget {
    /// Compiles the pattern of a condition, if it has one.
    ///
    /// # Errors
    /// Why the pattern cannot be used.
    pub(crate) fn compile(&mut self, op: Op, text: &str) -> Result<Option<Compiled>, String> {
        let Some(text) = pattern_text(op, text) else {
            return Ok(None);
        };
        if let Some(known) = self.known.iter().find(|known| known.text() == text) {
            return Ok(Some(known.clone()));
        }
        if self.known.len() >= limits::REGEXES_MAX {
            return Err(format!(
                "a search can have at most {} different regular expressions",
                limits::REGEXES_MAX
            ));
        }
        let (regex, bytes) = self.build(&text)?;
        self.bytes_left -= bytes;
        let compiled = Compiled {
            regex: Arc::new(regex),
            text: text.into(),
        };
        self.known.push(compiled.clone());
        Ok(Some(compiled))
    }

    /// Compiles a pattern. Also returns the bytes that it is charged with.
    fn build(&self, text: &str) -> Result<(Regex, usize), String> {
        for bytes in TIERS.into_iter().filter(|bytes| *bytes <= self.bytes_left) {
            match build(text, bytes) {
                Ok(regex) => return Ok((regex, bytes)),
                Err(regex::Error::CompiledTooBig(_)) => {}
                Err(other) => {
                    // The last line is the reason. The lines before it show the position.
                    let text = other.to_string();
                    return Err(text.lines().last().unwrap_or_default().trim().to_owned());
                }
            }
        }
        Err(if self.bytes_left >= limits::REGEX_BYTES_MAX {
            format!(
                "the compiled expression is larger than {} bytes",
                limits::REGEX_BYTES_MAX
            )
        } else {
            format!(
                "the compiled expressions of this search are together larger than {} bytes",
                limits::REGEXES_BYTES_MAX
            )
        })
    }
}

fn build(text: &str, bytes: usize) -> Result<Regex, regex::Error> {
    RegexBuilder::new(&format!("^(?:{text})$"))
        .dot_matches_new_line(true)
        .size_limit(bytes)
        .dfa_size_limit(CACHE_BYTES)
        .build()
}

/// The pattern with which a condition compares; `None` if it compares plain text.
fn pattern_text(op: Op, text: &str) -> Option<String> {
    let has_wildcards = text.contains(['*', '?']);
    match op {
        Op::Regex => Some(text.to_owned()),
        Op::Contains | Op::Starts | Op::Ends if has_wildcards => {
            let start = if op == Op::Starts { "" } else { ".*" };
            let end = if op == Op::Ends { "" } else { ".*" };
            let middle = regex::escape(text).replace("\\*", ".*").replace("\\?", ".");
            Some(format!("{start}{middle}{end}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_one_search_share_a_budget_and_equal_ones_are_compiled_once() {
        let mut budget = Budget::default();
        for _ in 0..1_000 {
            budget
                .compile(Op::Regex, "\\w{10}")
                .expect("one is in the budget");
        }
        assert_eq!(budget.known.len(), 1);
        let refused =
            (11..500).find_map(|n| budget.compile(Op::Regex, &format!("\\w{{{n}}}")).err());
        let refused = refused.expect("the budget ends");
        assert!(refused.contains("are together larger"), "{refused}");
        assert!(budget.known.len() < 20);
        let mut budget = Budget::default();
        let refused = (0..500).find_map(|n| budget.compile(Op::Contains, &format!("a*{n}")).err());
        assert!(refused.expect("the number ends").contains("at most 100"));
    }

    #[test]
    fn what_is_wrong_with_a_pattern_is_told() {
        let mut budget = Budget::default();
        let error = budget.compile(Op::Regex, "a(").expect_err("not closed");
        assert!(error.contains("unclosed group"), "{error}");
        let error = budget
            .compile(Op::Regex, "\\w{1000}")
            .expect_err("too large");
        assert!(
            error.contains("the compiled expression is larger"),
            "{error}"
        );
        assert_eq!(budget.compile(Op::Contains, "plain"), Ok(None));
    }
}
