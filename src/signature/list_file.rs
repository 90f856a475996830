//! The files of the lists: their names, their entries, and errors about them.

use super::text;

pub(crate) const IRRELEVANT: &str = "irrelevant_signature_re.txt";
pub(crate) const PREFIX: &str = "prefix_signature_re.txt";
pub(crate) const LINE_NUMBERS: &str = "signatures_with_line_numbers_re.txt";
pub(crate) const SENTINELS: &str = "signature_sentinels.txt";

/// An entry and its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry<'l> {
    /// Counts from 1.
    pub(crate) line: usize,
    /// Column in the line where it starts, in characters from 1.
    pub(crate) column: usize,
    pub(crate) text: &'l str,
}

/// The entries of a file.
pub(super) fn entries(file: &str) -> impl Iterator<Item = Entry<'_>> {
    let lines = file.split('\n').flat_map(|line| {
        // "\r\n" and a single "\r" end a line, too.
        line.strip_suffix('\r').unwrap_or(line).split('\r')
    });
    let entries = lines.enumerate().map(|(index, line)| {
        let text = text::strip(line);
        let indent = line.len() - line.trim_start_matches(text::is_space).len();
        Entry {
            line: index + 1,
            column: line[..indent].chars().count() + 1,
            text,
        }
    });
    entries.filter(|entry| !entry.text.is_empty() && !entry.text.starts_with('#'))
}

/// Why lists cannot be used. Shown as `<file>:<line>:<column>: <reason>`, or without a position.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{file}{}: {reason}", position(*line, *column))]
pub struct ListError {
    pub(crate) file: String,
    /// Counts from 1; `None` if the whole file is wrong.
    pub line: Option<usize>,
    /// In characters, counts from 1.
    pub(crate) column: Option<usize>,
    pub reason: String,
}

/// `:<line>:<column>`, as far as they are known.
fn position(line: Option<usize>, column: Option<usize>) -> String {
    let numbers = [line, column].into_iter().flatten();
    numbers.map(|number| format!(":{number}")).collect()
}

impl ListError {
    pub(super) fn of_file(file: &str, reason: impl Into<String>) -> ListError {
        ListError {
            file: file.to_string(),
            line: None,
            column: None,
            reason: reason.into(),
        }
    }
}
