//! One list of regular expressions in **Python's** syntax, as one matcher.
//!
//! An entry must match at the start of a text, and may end anywhere. Python and the `regex` crate interpret a
//! few things differently, so each entry is translated:
//!
//! | Python | here | why |
//! | --- | --- | --- |
//! | `\<`, `\>` | `<`, `>` | the crate reads word boundaries |
//! | `{` that starts no quantifier | `\{` | the crate reads a broken quantifier |
//! | `$`, `\Z` | `\n?\z`, `\z` | Python's `$` also matches before a final newline |
//! | `[`, `&`, `~` in a class | escaped | the crate reads nested sets and set operations |
//!
//! Look-around and back-references are not supported; such an entry is an error. The time of a match depends
//! only on the length of the text and the size of the pattern, and the size is limited. So no entry can make
//! a crash expensive.

use std::collections::HashSet;

use regex::bytes::{self, RegexSet, RegexSetBuilder};
use regex::{Regex, RegexBuilder};

use super::list_file::{Entry, ListError};

/// Limit of memory for one compiled entry.
const ENTRY_BYTES_MAX: usize = 256 << 10;
/// Limit of memory for one compiled list.
const LIST_BYTES_MAX: usize = 64 << 20;
/// Memory for the lazy automaton of a list's matcher. Each thread needs this memory.
const CACHE_BYTES_MAX: usize = 8 << 20;

/// What is compiled as a check. Entries can be wrong alone and right when joined: `a(b` and `c)d`.
#[derive(Clone, Copy)]
pub(super) enum Check {
    /// Also each entry alone, which doubles the time.
    Each,
    /// Only the joined list. For lists whose entries are checked by a test.
    Joined,
}

/// One list of patterns, joined into one.
#[derive(Debug, Default)]
pub(super) struct Patterns(Option<Regex>);

impl Patterns {
    pub(crate) fn compile<'l>(
        file: &str,
        check: Check,
        entries: impl Iterator<Item = Entry<'l>>,
    ) -> Result<Patterns, ListError> {
        let mut joined = String::new();
        for entry in entries {
            let (pattern, _) = translated(entry.text);
            if let Check::Each = check {
                alone(file, entry, Syntax::FrameStart)?;
            }
            joined.push_str(if joined.is_empty() { r"\A(?:" } else { "|" });
            joined.push_str(&pattern);
        }
        if joined.is_empty() {
            return Ok(Patterns(None));
        }
        joined.push(')');
        let regex = RegexBuilder::new(&joined)
            .size_limit(LIST_BYTES_MAX)
            .dfa_size_limit(CACHE_BYTES_MAX)
            .build()
            .map_err(|_| too_large(file))?;
        Ok(Patterns(Some(regex)))
    }

    pub(crate) fn matches(&self, frame: &str) -> bool {
        self.0.as_ref().is_some_and(|regex| regex.is_match(frame))
    }
}

/// siggen's four lists, which a frame is matched against.
#[derive(Debug, Default)]
pub(super) struct Quad {
    pub(crate) irrelevant: Patterns,
    pub(crate) prefix: Patterns,
    pub(crate) line_numbers: Patterns,
    pub(crate) sentinels: HashSet<String>,
}

/// What an entry is matched against, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    /// The start of a frame, as in siggen's lists.
    FrameStart,
    /// A whole frame. Classes such as `\w` are ASCII only, because names of code are, and Unicode's classes
    /// make large automata.
    Frame,
    /// The whole file name of a module, in any case. Classes are ASCII only.
    Module,
}

/// Patterns of [`Syntax::Frame`] or [`Syntax::Module`] as one for [`set`]. Without patterns, it matches nothing.
pub(super) fn whole(patterns: &[&str]) -> String {
    if patterns.is_empty() {
        return r"[^\x00-\xff]".to_string();
    }
    let patterns: Vec<String> = patterns.iter().map(|p| translated(p).0).collect();
    format!(r"\A(?:{})\z", patterns.join("|"))
}

/// A matcher that says which of several patterns match.
pub(super) fn set(file: &str, patterns: &[String], syntax: Syntax) -> Result<RegexSet, ListError> {
    RegexSetBuilder::new(patterns)
        .unicode(false)
        .case_insensitive(syntax == Syntax::Module)
        .size_limit(LIST_BYTES_MAX)
        .dfa_size_limit(CACHE_BYTES_MAX)
        .build()
        .map_err(|_| too_large(file))
}

fn too_large(file: &str) -> ListError {
    let mib = LIST_BYTES_MAX >> 20;
    let reason =
        format!("its entries are larger than {mib} MiB when compiled; remove some entries");
    ListError::of_file(file, reason)
}

/// Compiles one entry alone, to find out what is wrong with it and where.
pub(super) fn alone(file: &str, entry: Entry, syntax: Syntax) -> Result<bytes::Regex, ListError> {
    let (pattern, origins) = translated(entry.text);
    let error = |offset: usize, reason: String| ListError {
        file: file.to_string(),
        line: Some(entry.line),
        column: Some(entry.column + entry.text[..offset].chars().count()),
        reason,
    };
    let origin = |at: usize| origins.get(at).copied().unwrap_or(entry.text.len());
    if let Err(wrong) = regex_syntax::Parser::new().parse(&pattern) {
        return Err(match wrong {
            regex_syntax::Error::Parse(e) => {
                error(origin(e.span().start.offset), e.kind().to_string())
            }
            regex_syntax::Error::Translate(e) => {
                error(origin(e.span().start.offset), e.kind().to_string())
            }
            other => error(0, other.to_string()),
        });
    }
    let end = if syntax == Syntax::FrameStart {
        ""
    } else {
        r"\z"
    };
    bytes::RegexBuilder::new(&format!(r"\A(?:{pattern}){end}"))
        .unicode(syntax == Syntax::FrameStart)
        .case_insensitive(syntax == Syntax::Module)
        .size_limit(ENTRY_BYTES_MAX)
        .build()
        .map_err(|_| {
            let kib = ENTRY_BYTES_MAX >> 10;
            error(
                0,
                format!("the entry is larger than {kib} KiB when compiled; use fewer or smaller repetitions"),
            )
        })
}

/// Translates a pattern from Python's syntax to that of the `regex` crate. Also returns, for each byte of the
/// result, the byte of the pattern from which it comes.
pub(super) fn translated(pattern: &str) -> (String, Vec<usize>) {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut origins = Vec::with_capacity(pattern.len() + 8);
    let mut chars = pattern.char_indices();
    let mut in_class = false;
    // At the start of a class, `]` is a literal.
    let mut class_start = 0;
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some((_, c @ ('<' | '>'))) => out.push(c),
                Some((_, 'Z')) if !in_class => out.push_str(r"\z"),
                Some((_, c)) => out.extend(['\\', c]),
                None => out.push('\\'),
            },
            ']' if in_class && at > class_start => {
                in_class = false;
                out.push(c);
            }
            '[' | '&' | '~' if in_class => out.extend(['\\', c]),
            _ if in_class => out.push(c),
            '[' => {
                in_class = true;
                class_start = at + 1 + usize::from(pattern[at + 1..].starts_with('^'));
                out.push(c);
                if class_start > at + 1 {
                    chars.next();
                    out.push('^');
                }
            }
            '{' => match quantifier(&pattern[at..]) {
                Some("") | None => out.push_str(r"\{"),
                // Python allows the lower bound to be omitted.
                Some(bounds) if bounds.starts_with(',') => out.push_str("{0"),
                Some(_) => out.push('{'),
            },
            '$' => out.push_str(r"(?:\n?\z)"),
            _ => out.push(c),
        }
        origins.resize(out.len(), at);
    }
    (out, origins)
}

/// The bounds within the braces at the start of the text, if they form a quantifier.
fn quantifier(text: &str) -> Option<&str> {
    let (bounds, _) = text.strip_prefix('{')?.split_once('}')?;
    let (low, high) = bounds.split_once(',').unwrap_or((bounds, ""));
    let is_number = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    (is_number(low) && is_number(high)).then_some(bounds)
}

#[cfg(test)]
mod tests {
    use super::super::list_file::entries;
    use super::*;

    fn list(contents: &str) -> Result<Patterns, ListError> {
        Patterns::compile("x.txt", Check::Each, entries(contents))
    }

    #[test]
    fn an_entry_keeps_the_meaning_it_has_in_python() {
        let check = |entry: &str, frame: &str, expected: bool| {
            assert_eq!(
                list(entry).unwrap().matches(frame),
                expected,
                "{entry} on {frame:?}"
            );
        };
        check(r"\<name omitted\>", "<name omitted>", true);
        check("{virtual override thunk}", "{virtual override thunk}", true);
        check("log::{{closure}}", "log::{{closure}}::x", true);
        check("a{2}b", "aab", true);
        check("a{,2}b", "ab", true);
        check("a{,}b", "aaab", true);
        check("a{}", "a{}", true);
        check("a{x}", "a{x}", true);
        check("send", "sendFoo", true);
        check("end", "send", false);
        check("a$", "a", true);
        check("a$", "a\n", true);
        check("a$", "a\n\n", false);
        check("a$", "ab", false);
        check(r"a\$", "a$", true);
        check(r"a\Z", "a\n", false);
        check("a.b", "a\nb", false);
        check("[[:alpha:]", "[", true);
        check("[a&&b]", "&", true);
        check("[]x]y", "]y", true);
        check("[^]$]", "$", false);
        check("x|y", "yes", true);
    }

    #[test]
    fn an_entry_that_does_not_compile_is_named_by_file_line_and_reason() {
        let error = list("# comment\n\nfine\n(unclosed\n").unwrap_err();
        assert_eq!(error.to_string(), "x.txt:4:1: unclosed group");
        let column = |entry: &str| list(entry).expect_err(entry).column;
        // Counted in characters of the entry, not of its translation.
        assert_eq!(column("  é{x}[b-a]"), Some(8));
        assert_eq!(column("$$(?=b)"), Some(3));
        assert_eq!(column(r"ab\1"), Some(3));
        // Each is wrong alone; joined they would compile.
        assert_eq!(list("a(b\nc)d").unwrap_err().line, Some(1));
        assert_eq!(list("a\r\n(?=b)").unwrap_err().line, Some(2));
    }

    #[test]
    fn a_list_without_entries_matches_nothing() {
        assert!(!list("# nothing\n").unwrap().matches(""));
    }

    #[test]
    fn an_entry_that_would_be_expensive_is_refused_where_it_stands() {
        let check = |entry: &str| {
            let error = list(&format!("fine\n  {entry}\n")).expect_err(entry);
            assert_eq!((error.line, error.column), (Some(2), Some(3)), "{error}");
            assert!(error.reason.contains("KiB"), "{error}");
        };
        check("((a{1,100}){1,100}){1,100}");
        check(r"(?:\w{1,50}){50}");
        // Patterns that take other engines exponential time cost the same as any other entry.
        let slow_elsewhere = list("(a+)+$\n(a|a)*b\n").expect("compiles");
        assert!(!slow_elsewhere.matches(&format!("{}!", "a".repeat(50_000))));
    }
}
