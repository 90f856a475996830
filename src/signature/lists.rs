//! The signature lists: which frames never name a crash, which do not end its name, which start it.
//!
//! The lists are data. They change far more often than code does, and a site keeps its own: a
//! folder with the four files replaces the built-in ones (siggen's, MPL-2.0, beside this file).
//! A file is UTF-8 with one entry a line; white space around it goes, empty lines and those that
//! start with `#` are skipped. A list without entries matches nothing.
//!
//! The entries are regular expressions in **Python's** syntax, anchored at the start of the
//! normalised frame and free at its end; the sentinels are plain text and must be equal. Python
//! and the `regex` crate read a few things differently, so each entry is translated:
//!
//! | Python | here | why |
//! | --- | --- | --- |
//! | `\<`, `\>` | `<`, `>` | the crate reads word boundaries |
//! | `{` that starts no quantifier | `\{` | the crate reads a broken quantifier |
//! | `$`, `\Z` | `\n?\z`, `\z` | Python's `$` also matches before a final newline |
//! | `[`, `&`, `~` in a class | escaped | the crate reads nested sets and set operations |
//!
//! Look-around and back-references are not there; such an entry is an error like any other.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};

use regex::{Regex, RegexBuilder};

use super::text;

const IRRELEVANT: &str = "irrelevant_signature_re.txt";
const PREFIX: &str = "prefix_signature_re.txt";
const LINE_NUMBERS: &str = "signatures_with_line_numbers_re.txt";
const SENTINELS: &str = "signature_sentinels.txt";

/// The largest list file that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The most memory that one entry, compiled, may take.
const ENTRY_BYTES_MAX: usize = 1 << 20;
/// The most memory that one list, compiled, may take.
const LIST_BYTES_MAX: usize = 64 << 20;
/// The memory in which a list's matcher keeps what it learnt; more costs memory per thread.
const CACHE_BYTES_MAX: usize = 8 << 20;

/// The four lists, compiled.
#[derive(Debug)]
pub struct Lists {
    irrelevant: List,
    prefix: List,
    line_numbers: List,
    sentinels: HashSet<String>,
    is_builtin: bool,
}

/// Why lists could not be loaded: `<file>:<line>: <reason>`, or without a line.
#[derive(Debug, PartialEq)]
pub struct ListError {
    pub file: PathBuf,
    /// Counts from 1; none if the file as a whole is wrong.
    pub line: Option<usize>,
    pub reason: String,
}

impl fmt::Display for ListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.reason)
    }
}

impl std::error::Error for ListError {}

impl Lists {
    /// The lists that siggen 2.2.20241029 ships.
    pub fn builtin() -> Lists {
        let read = |name: &str| -> Result<String, ListError> {
            Ok(match name {
                IRRELEVANT => include_str!("lists/irrelevant_signature_re.txt"),
                PREFIX => include_str!("lists/prefix_signature_re.txt"),
                LINE_NUMBERS => include_str!("lists/signatures_with_line_numbers_re.txt"),
                _ => include_str!("lists/signature_sentinels.txt"),
            }
            .to_string())
        };
        match Lists::compile(Path::new("builtin"), Check::Joined, read) {
            Ok(lists) => Lists {
                is_builtin: true,
                ..lists
            },
            Err(error) => unreachable!("the built-in lists are tested to compile: {error}"),
        }
    }

    /// Loads the four files of a folder; all must be there.
    pub fn load(folder: &Path) -> Result<Lists, ListError> {
        Lists::compile(folder, Check::Each, |name| {
            let path = folder.join(name);
            read_file(&path).map_err(|reason| ListError {
                file: path,
                line: None,
                reason,
            })
        })
    }

    fn compile(
        folder: &Path,
        check: Check,
        read: impl Fn(&str) -> Result<String, ListError>,
    ) -> Result<Lists, ListError> {
        let list = |name: &str| List::compile(&folder.join(name), check, &read(name)?);
        let sentinels = read(SENTINELS)?;
        Ok(Lists {
            irrelevant: list(IRRELEVANT)?,
            prefix: list(PREFIX)?,
            line_numbers: list(LINE_NUMBERS)?,
            sentinels: entries(&sentinels)
                .map(|(_, entry)| entry.to_string())
                .collect(),
            is_builtin: false,
        })
    }

    pub(super) fn is_builtin(&self) -> bool {
        self.is_builtin
    }

    /// Whether the frame never belongs into a signature.
    pub(super) fn is_irrelevant(&self, frame: &str) -> bool {
        self.irrelevant.matches(frame)
    }

    /// Whether a signature goes on after the frame.
    pub(super) fn is_prefix(&self, frame: &str) -> bool {
        self.prefix.matches(frame)
    }

    /// Whether the frame is told apart by its line number.
    pub(super) fn has_line_number(&self, frame: &str) -> bool {
        self.line_numbers.matches(frame)
    }

    /// Whether everything above the frame is of no interest.
    pub(super) fn is_sentinel(&self, frame: &str) -> bool {
        self.sentinels.contains(frame)
    }
}

fn read_file(path: &Path) -> Result<String, String> {
    let bytes = std::fs::metadata(path)
        .map_err(|error| error.to_string())?
        .len();
    if bytes > FILE_BYTES_MAX {
        return Err(format!(
            "list is {bytes} bytes, larger than {FILE_BYTES_MAX}"
        ));
    }
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

/// The entries with their line numbers.
fn entries(file: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = file.split('\n').flat_map(|line| {
        // "\r\n" and a lone "\r" end a line too.
        line.strip_suffix('\r').unwrap_or(line).split('\r')
    });
    let numbered = lines
        .enumerate()
        .map(|(index, line)| (index + 1, text::strip(line)));
    numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// What must compile. Entries can be wrong alone and right when joined: `a(b` and `c)d`.
#[derive(Clone, Copy)]
enum Check {
    /// Each entry alone; costs as much time again.
    Each,
    /// Only the whole; for lists whose entries a test has checked.
    Joined,
}

/// One list of patterns, joined into one.
#[derive(Debug)]
struct List(Option<Regex>);

impl List {
    fn compile(file: &Path, check: Check, contents: &str) -> Result<List, ListError> {
        let mut joined = String::new();
        let error = |line, error: regex::Error| {
            // The crate draws a picture over many lines; its last one says what is wrong.
            let text = error.to_string();
            let reason = text
                .lines()
                .last()
                .unwrap_or(&text)
                .trim_start_matches("error: ");
            ListError {
                file: file.to_path_buf(),
                line,
                reason: reason.to_string(),
            }
        };
        for (line, entry) in entries(contents) {
            let pattern = translated(entry);
            if let Check::Each = check {
                RegexBuilder::new(&pattern)
                    .size_limit(ENTRY_BYTES_MAX)
                    .build()
                    .map_err(|reason| error(Some(line), reason))?;
            }
            joined.push_str(if joined.is_empty() { r"\A(?:" } else { "|" });
            joined.push_str(&pattern);
        }
        if joined.is_empty() {
            return Ok(List(None));
        }
        joined.push(')');
        let regex = RegexBuilder::new(&joined)
            .size_limit(LIST_BYTES_MAX)
            .dfa_size_limit(CACHE_BYTES_MAX)
            .build()
            .map_err(|reason| error(None, reason))?;
        Ok(List(Some(regex)))
    }

    fn matches(&self, frame: &str) -> bool {
        self.0.as_ref().is_some_and(|regex| regex.is_match(frame))
    }
}

/// A pattern in Python's syntax as one for the `regex` crate.
fn translated(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut chars = pattern.char_indices();
    let mut in_class = false;
    // Where a class begins, `]` stands for itself.
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
                // Python allows the lower bound to be left out.
                Some(bounds) if bounds.starts_with(',') => out.push_str("{0"),
                Some(_) => out.push('{'),
            },
            '$' => out.push_str(r"(?:\n?\z)"),
            _ => out.push(c),
        }
    }
    out
}

/// The bounds within the braces that the text starts with, if they make a quantifier.
fn quantifier(text: &str) -> Option<&str> {
    let (bounds, _) = text.strip_prefix('{')?.split_once('}')?;
    let (low, high) = bounds.split_once(',').unwrap_or((bounds, ""));
    let is_number = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    (is_number(low) && is_number(high)).then_some(bounds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(contents: &str) -> Result<List, ListError> {
        List::compile(Path::new("x.txt"), Check::Each, contents)
    }

    #[test]
    fn every_entry_of_the_builtin_lists_compiles() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/signature/lists");
        let lists = Lists::load(&folder).unwrap();
        assert!(lists.is_prefix("memcpy") && lists.is_irrelevant("RaiseException"));
        assert_eq!(lists.sentinels.len(), 20);
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
        assert_eq!(error.to_string(), "x.txt:4: unclosed group");
        // Alone each is wrong, joined they would pass.
        assert_eq!(list("a(b\nc)d").unwrap_err().line, Some(1));
        assert_eq!(list("a\r\n(?=b)").unwrap_err().line, Some(2));
    }

    #[test]
    fn a_list_without_entries_matches_nothing() {
        assert!(!list("# nothing\n").unwrap().matches(""));
    }

    #[test]
    fn a_folder_must_hold_all_four_files() {
        let folder = tempfile::tempdir().unwrap();
        for name in [IRRELEVANT, PREFIX, LINE_NUMBERS] {
            std::fs::write(folder.path().join(name), "ab\n").unwrap();
        }
        let error = Lists::load(folder.path()).unwrap_err();
        assert!(error.file.ends_with(SENTINELS) && error.line.is_none());
        std::fs::write(folder.path().join(SENTINELS), "s.e").unwrap();
        let lists = Lists::load(folder.path()).unwrap();
        assert!(lists.is_prefix("abc") && lists.is_sentinel("s.e") && !lists.is_sentinel("sxe"));
    }
}
