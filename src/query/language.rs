//! The language of the search box: conditions and words in one line.
//!
//! ```text
//! product:Firefox version:>=121 signature~alloc -os:Linux "exact phrase" word
//! ```
//!
//! A condition is a field's name, then either `:` and a value in the form of a parameter, or one of the
//! operators `~ = ^ $ @ > >= < <=` and its operand. Text in quotes may contain blanks, and in quotes a
//! backslash escapes the next character. `-` or `!` before a condition negates it. Everything else is words
//! and phrases of the full text; with `-` before them they must not occur. The language is another notation
//! for the same parameters: a line becomes conditions and the remaining text.

use super::{FieldRef, Op, QueryError};
use crate::fields::Catalogue;

/// Short names that users type.
pub(crate) const ALIASES: [(&str, &str); 10] = [
    ("arch", "cpu_arch"),
    ("channel", "release_channel"),
    ("comment", "user_comments"),
    ("function", "proto_signature"),
    ("id", "uuid"),
    ("module", "modules_in_stack"),
    ("os", "platform"),
    ("process", "process_type"),
    ("rule", "throttle_rule"),
    ("sig", "signature"),
];

/// A parsed line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    /// Conditions as parameters: a field's name, and the value with its operator.
    pub(crate) conditions: Vec<(String, String)>,
    /// Words and phrases, as they were typed.
    pub(crate) text: String,
}

/// Parses a line. `sees_protected` determines which names a hint may contain.
///
/// # Errors
/// A part of the line looks like a condition, and its field is almost the name of a known one.
pub(crate) fn read(
    catalogue: &Catalogue,
    line: &str,
    sees_protected: bool,
) -> Result<Line, QueryError> {
    let mut read = Line::default();
    for token in tokens(line) {
        match condition(catalogue, token, sees_protected)? {
            Some(condition) => read.conditions.push(condition),
            None => {
                if !read.text.is_empty() {
                    read.text.push(' ');
                }
                read.text.push_str(token);
            }
        }
    }
    Ok(read)
}

/// A part of the remaining text: words that must occur in this order, or must not occur.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) is_negated: bool,
    pub(crate) text: String,
}

/// The parts of a text. A quoted part, or one without a blank, belongs together: `foo::bar` is a phrase. With
/// `-` before it, it must not occur.
pub(crate) fn parts(text: &str) -> impl Iterator<Item = Part> {
    tokens(text).map(|token| {
        let negated = token.strip_prefix('-');
        Part {
            is_negated: negated.is_some(),
            text: negated.unwrap_or(token).replace('"', " "),
        }
    })
}

/// Writes a parameter of a search as a condition of the line. The reverse of [`read`].
pub(crate) fn write(name: &str, value: &str) -> String {
    let (not, value) = match value.strip_prefix('!') {
        Some(rest) => ("-", rest),
        None => ("", value),
    };
    let is_plain = |c: char| !c.is_whitespace() && c != '"' && c != '\\';
    if !value.is_empty() && value.chars().all(is_plain) {
        format!("{not}{name}:{value}")
    } else {
        let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
        format!("{not}{name}:\"{quoted}\"")
    }
}

/// Parts separated by blanks. Blanks in quotes do not separate.
fn tokens(line: &str) -> impl Iterator<Item = &str> {
    let mut rest = line;
    std::iter::from_fn(move || {
        rest = rest.trim_start();
        if rest.is_empty() {
            return None;
        }
        let (mut is_quoted, mut is_escaped) = (false, false);
        let end = rest.char_indices().find(|(_, c)| {
            let ends = !is_quoted && c.is_whitespace();
            match c {
                _ if is_escaped => is_escaped = false,
                '\\' if is_quoted => is_escaped = true,
                '"' => is_quoted = !is_quoted,
                _ => {}
            }
            ends
        });
        let (token, tail) = rest.split_at(end.map_or(rest.len(), |(at, _)| at));
        rest = tail;
        Some(token)
    })
}

fn condition(
    catalogue: &Catalogue,
    token: &str,
    sees_protected: bool,
) -> Result<Option<(String, String)>, QueryError> {
    let (is_negated, rest) = match token.strip_prefix(['-', '!']) {
        Some(rest) => (true, rest),
        None => (false, token),
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
    let (name, tail) = rest.split_at(end);
    let value = match tail.strip_prefix(':') {
        // `std::vec` is a name in a program, not a condition.
        Some(value) if value.starts_with(':') => return Ok(None),
        Some(value) => value,
        None if Op::starts(tail) => tail,
        None => return Ok(None),
    };
    if name.is_empty() || value.is_empty() {
        return Ok(None);
    }
    let alias = ALIASES.iter().find(|(short, _)| *short == name);
    let name = alias.map_or(name, |(_, name)| *name);
    if FieldRef::find(catalogue, name).is_none() {
        // A word may contain a colon, but a name that is almost a field's name is a typing error.
        return match catalogue.nearest(name, sees_protected) {
            Some(_) if tail.starts_with(':') => {
                let error = QueryError::unknown_field(catalogue, "q", name, sees_protected);
                Err(error)
            }
            _ => Ok(None),
        };
    }
    let not = if is_negated { "!" } else { "" };
    Ok(Some((name.to_owned(), format!("{not}{}", unquoted(value)))))
}

/// A value without the quotes around all or part of it.
fn unquoted(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let (mut is_quoted, mut chars) = (false, value.chars());
    while let Some(c) = chars.next() {
        match c {
            '"' => is_quoted = !is_quoted,
            '\\' if is_quoted => text.extend(chars.next()),
            _ => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_and_words_are_told_apart() {
        fn check(line: &str, conditions: &[(&str, &str)], text: &str) {
            let read =
                read(&Catalogue::builtin(), line, true).unwrap_or_else(|e| panic!("{line}: {e}"));
            let found: Vec<(&str, &str)> = read
                .conditions
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            assert_eq!(
                (found.as_slice(), read.text.as_str()),
                (conditions, text),
                "{line}"
            );
        }
        check(
            "product:Fx version:>=121 signature~alloc \"exact phrase\" -os:Linux",
            &[
                ("product", "Fx"),
                ("version", ">=121"),
                ("signature", "~alloc"),
                ("platform", "!Linux"),
            ],
            "\"exact phrase\"",
        );
        check(
            "reason:\"SIGSEGV / SEGV_MAPERR\"",
            &[("reason", "SIGSEGV / SEGV_MAPERR")],
            "",
        );
        check(
            "signature=\"a \\\"b\\\" \\\\ c\"",
            &[("signature", "=a \"b\" \\ c")],
            "",
        );
        check(
            "uptime<60 !url:__null__",
            &[("uptime", "<60"), ("url", "!__null__")],
            "",
        );
        check(
            "std::vec version::x foo:bar http://x/",
            &[],
            "std::vec version::x foo:bar http://x/",
        );
        check("annotation.My.Thing:7", &[("annotation.My.Thing", "7")], "");
        check(
            "a-b product: :x \"product:Fx\" -",
            &[],
            "a-b product: :x \"product:Fx\" -",
        );
        check("\"open quote", &[], "\"open quote");
        check("", &[], "");
    }

    #[test]
    fn a_slip_in_a_name_is_told() {
        let error = read(&Catalogue::builtin(), "prodct:Firefox", true).expect_err("a slip");
        assert_eq!(error.message, "Unknown field 'prodct'");
        assert_eq!(error.nearest.as_deref(), Some("product"));
    }

    #[test]
    fn what_is_written_reads_back() {
        for (name, value) in [
            ("product", "Firefox"),
            ("product", "!My App"),
            ("signature", "=a | b(\"x\") \\ y"),
            ("signature", "!~ "),
            ("uptime", ">=5"),
            ("date", "<2026-11-02T01:02:03Z"),
            ("version", "!__null__"),
        ] {
            let line = write(name, value);
            let expected = [(name.to_owned(), value.to_owned())];
            assert_eq!(
                read(&Catalogue::builtin(), &line, true).map(|line| line.conditions),
                Ok(expected.to_vec()),
                "{line}"
            );
        }
    }
}
