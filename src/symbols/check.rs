//! Reads the text of a Breakpad symbol file line by line, repairs it, and determines its module.
//!
//! The unwinder's parser rejects a whole file because of one line that it cannot read, or because the last
//! line has no line end. So we store only text that this parser reads to the end: line ends become LF, a byte
//! order mark is removed, the last line gets a line end, and lines that are not records are left out. Each
//! repair is a note. A file is refused if repairs do not help: without a `MODULE` line, with a name or an id
//! that cannot be a place, or with more bad lines than good ones.
//!
//! The converter to the mapped form uses the same definition of a record. Memory is one line.

use std::io::{self, BufRead, Read, Write};

use sha2::{Digest, Sha256};

use super::dirs;
use super::mapped::text::{self, BelowFunction, Record};
use crate::crash::symbols::Content;

/// Limit of bytes of one line. The unwinder's parser skips lines of 80 KiB and more.
pub(crate) const LINE_BYTES_MAX: usize = 64 * 1024;
/// Limit of bytes of a debug file's name. With the suffixes that we append it is still a valid file name on
/// every system.
pub(crate) const NAME_BYTES_MAX: usize = 200;
/// Limit of hex digits of a program's id. A build id may be any kind of hash.
const CODE_ID_DIGITS_MAX: usize = 128;
/// Number of bad lines that are reported one by one. The others are only counted.
const LINES_NAMED_MAX: usize = 5;

/// The line of our converter that says: functions without lines have names because they are exported. They are
/// counted as exported symbols, so that the functions of the debug file are used when it arrives.
pub(super) const EXPORTS_LINE: &str = "INFO NAMES exports";
/// The beginning of the name of a function of which only the extent is known. dump_syms writes the same.
pub(super) const UNKNOWN_FUNCTION: &str = "<unknown in ";

/// The module of a symbol file, from its `MODULE` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModuleLine {
    pub(crate) os: String,
    pub(crate) arch: String,
    /// In upper case.
    pub(crate) debug_id: String,
    pub(crate) debug_file: String,
}

/// A file that can be stored.
#[derive(Debug)]
pub struct Checked {
    pub(crate) module: ModuleLine,
    /// Length of the repaired text.
    pub(crate) bytes: u64,
    pub(crate) sha256: [u8; 32],
    pub(crate) content: Content,
    /// Id of the program in lower case, and its name; empty without `INFO CODE_ID`.
    pub(crate) code_id: String,
    pub(crate) code_file: String,
    /// What was repaired.
    pub notes: Vec<String>,
}

/// Why a file was not stored.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The file is wrong: the reason, and the line if there is one.
    #[error("{0}")]
    Bad(String),
    /// The file could not be stored, whatever it contains.
    #[error("the file cannot be stored: {0}")]
    Storage(#[source] io::Error),
}

fn bad(why: impl Into<String>) -> Refused {
    Refused::Bad(why.into())
}

/// Copies the text of a symbol file from `input` to `output` and repairs it.
///
/// # Errors
/// [`Refused::Bad`] if the file cannot be repaired, [`Refused::Storage`] if writing fails.
pub fn check(input: &mut impl BufRead, output: &mut impl Write) -> Result<Checked, Refused> {
    let mut lines = Lines::new(input);
    let mut text = Text {
        output,
        bytes: 0,
        hash: Sha256::new(),
    };
    let Some(first) = lines.next()? else {
        return Err(bad("the file is empty"));
    };
    let module = module_line(first).map_err(|why| bad(format!("line 1: {why}")))?;
    let id = &module.debug_id;
    let first = format!(
        "MODULE {} {} {id} {}",
        module.os, module.arch, module.debug_file
    );
    text.write_line(first.as_bytes())?;
    let mut within = Within::Nothing;
    let mut content = Content::default();
    let mut only_exports = false;
    let mut code = None;
    let mut good = 1u64;
    let mut left_out = Vec::new();
    let mut left_out_count = 0u64;
    while let Some(line) = lines.next()? {
        match record(line, within, &mut content) {
            Some(next) => {
                within = next;
                code = code.or_else(|| code_of(line));
                only_exports |= line == EXPORTS_LINE.as_bytes();
                good += 1;
                text.write_line(line)?;
            }
            None => {
                // Otherwise the lines after a bad record would become part of the record before it.
                if line.starts_with(b"FUNC") || line.starts_with(b"STACK CFI INIT") {
                    within = Within::Nothing;
                }
                left_out_count += 1;
                if left_out.len() < LINES_NAMED_MAX {
                    left_out.push(lines.number.to_string());
                }
            }
        }
    }
    let mut notes = lines.notes();
    if left_out_count > 0 {
        let first = left_out.join(", ");
        if left_out_count > good {
            return Err(bad(format!(
                "line {first}: not a symbol file record; {left_out_count} lines are invalid, and only {good} are valid"
            )));
        }
        let more = if left_out_count as usize > left_out.len() {
            " and others"
        } else {
            ""
        };
        notes.push(format!(
            "{left_out_count} invalid lines were ignored: line {first}{more}"
        ));
    }
    if only_exports {
        content.publics += std::mem::take(&mut content.functions);
    }
    let (code_id, code_file) = code.unwrap_or_default();
    Ok(Checked {
        module,
        bytes: text.bytes,
        sha256: text.hash.finalize().into(),
        content,
        code_id,
        code_file,
        notes,
    })
}

/// Id and name of the program, from `INFO CODE_ID <id> [<file>]`.
fn code_of(line: &[u8]) -> Option<(String, String)> {
    let rest = line.strip_prefix(b"INFO CODE_ID ")?;
    let mut words = std::str::from_utf8(rest).ok()?.trim().splitn(2, ' ');
    let id = words.next()?;
    let is_id = (1..=CODE_ID_DIGITS_MAX).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let file = debug_file(words.next().unwrap_or_default().trim()).unwrap_or_default();
    is_id.then(|| (id.to_ascii_lowercase(), file))
}

struct Text<'a, W> {
    output: &'a mut W,
    bytes: u64,
    hash: Sha256,
}

impl<W: Write> Text<'_, W> {
    fn write_line(&mut self, line: &[u8]) -> Result<(), Refused> {
        for piece in [line, b"\n"] {
            self.hash.update(piece);
            self.output.write_all(piece).map_err(Refused::Storage)?;
            self.bytes += piece.len() as u64;
        }
        Ok(())
    }
}

/// The lines of a text without line ends.
struct Lines<'a, R> {
    input: &'a mut R,
    line: Vec<u8>,
    /// Number of the line that was read last, counted from 1.
    number: u64,
    byte_order_mark: bool,
    carriage_returns: bool,
    /// The last line had no line end.
    unended: bool,
    not_utf8: u64,
}

impl<'a, R: BufRead> Lines<'a, R> {
    fn new(input: &'a mut R) -> Self {
        Self {
            input,
            line: Vec::new(),
            number: 0,
            byte_order_mark: false,
            carriage_returns: false,
            unended: false,
            not_utf8: 0,
        }
    }

    fn next(&mut self) -> Result<Option<&[u8]>, Refused> {
        self.line.clear();
        let limit = LINE_BYTES_MAX as u64 + 1;
        let unreadable = |number: u64, error: io::Error| bad(format!("line {number}: {error}"));
        let number = self.number + 1;
        let read = self
            .input
            .by_ref()
            .take(limit)
            .read_until(b'\n', &mut self.line)
            .map_err(|error| unreadable(number, error))?;
        if read == 0 {
            return Ok(None);
        }
        self.number = number;
        if self.line.last() == Some(&b'\n') {
            self.line.pop();
        } else if read as u64 == limit {
            self.skip_line()
                .map_err(|error| unreadable(number, error))?;
            // No record starts with this byte, so the line is left out as a bad line.
            self.line.clear();
            self.line.push(b'?');
        } else {
            self.unended = true;
        }
        if number == 1 && self.line.starts_with(b"\xef\xbb\xbf") {
            self.line.drain(..3);
            self.byte_order_mark = true;
        }
        while self.line.last() == Some(&b'\r') {
            self.line.pop();
            self.carriage_returns = true;
        }
        if let Err(_not_utf8) = std::str::from_utf8(&self.line) {
            self.line = String::from_utf8_lossy(&self.line)
                .into_owned()
                .into_bytes();
            self.not_utf8 += 1;
        }
        Ok(Some(&self.line))
    }

    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let buffer = self.input.fill_buf()?;
            let end = memchr::memchr(b'\n', buffer);
            let used = end.map_or(buffer.len(), |end| end + 1);
            self.input.consume(used);
            if end.is_some() || used == 0 {
                return Ok(());
            }
        }
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.byte_order_mark {
            notes.push("a byte order mark was removed".to_owned());
        }
        if self.carriage_returns {
            notes.push("carriage returns at line ends were removed".to_owned());
        }
        if self.unended {
            notes.push("a missing line end was added to the last line".to_owned());
        }
        if self.not_utf8 > 0 {
            notes.push(format!(
                "{} lines were not UTF-8; invalid bytes were replaced by \u{fffd}",
                self.not_utf8
            ));
        }
        notes
    }
}

fn module_line(line: &[u8]) -> Result<ModuleLine, String> {
    const FORM: &str = "MODULE <os> <cpu> <debug id> <debug file>";
    let text = std::str::from_utf8(line).unwrap_or_default();
    let rest = text
        .strip_prefix("MODULE ")
        .ok_or_else(|| format!("the file does not begin with {FORM}"))?;
    let mut words = rest.trim_start().splitn(4, ' ').map(str::trim);
    let mut word = || words.next().filter(|word| !word.is_empty());
    let (Some(os), Some(arch), Some(id), Some(name)) = (word(), word(), word(), word()) else {
        return Err(format!("the line does not have the form {FORM}"));
    };
    Ok(ModuleLine {
        os: os.to_owned(),
        arch: arch.to_owned(),
        debug_id: debug_id(id)?,
        debug_file: debug_file(name)?,
    })
}

/// A debug id in its stored form, upper case.
///
/// # Errors
/// A sentence for the sender.
pub(crate) fn debug_id(id: &str) -> Result<String, String> {
    let shown: String = id.chars().take(60).collect();
    if dirs::checked_id(id).is_none() {
        return Err(format!(
            "debug id {shown:?} is not 33 to 40 hexadecimal digits (32 and an age)"
        ));
    }
    if id[..32].bytes().all(|digit| digit == b'0') {
        return Err(format!(
            "debug id {shown:?} is all zeros and identifies no build"
        ));
    }
    Ok(id.to_ascii_uppercase())
}

/// A debug file's name, if it can be the name of a folder.
fn debug_file(name: &str) -> Result<String, String> {
    let shown: String = name.chars().take(60).collect();
    if dirs::checked_leaf(name) != Some(name) || name.chars().any(char::is_control) {
        return Err(format!(
            "debug file {shown:?} is not a plain file name; it must not contain / or \\ or control characters"
        ));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(format!(
            "debug file {shown:?}... is longer than {NAME_BYTES_MAX} bytes"
        ));
    }
    Ok(name.to_owned())
}

/// The record to which the next lines may belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Within {
    Nothing,
    Function,
    Cfi,
}

/// The record that is open after a line, or `None` if the line is not a record here. Counts the record in
/// `content`.
fn record(line: &[u8], within: Within, content: &mut Content) -> Option<Within> {
    let continues = match within {
        Within::Function => match text::below_function(line, |_| {}) {
            Some(BelowFunction::Line(_)) => {
                content.lines += 1;
                true
            }
            Some(BelowFunction::Inlines) => {
                content.inlines += 1;
                true
            }
            Some(BelowFunction::Origin(..)) => true,
            None => false,
        },
        Within::Cfi => text::below_cfi(line).is_some(),
        Within::Nothing => false,
    };
    if continues {
        return Some(within);
    }
    if line.is_empty() {
        return Some(Within::Nothing);
    }
    let (counted, next) = match text::record(line)? {
        // Only the MODULE record of the first line counts.
        Record::Module { .. } => return None,
        Record::Function { name, .. } if name.starts_with(UNKNOWN_FUNCTION) => {
            return Some(Within::Function);
        }
        Record::Function { .. } => (&mut content.functions, Within::Function),
        Record::CfiInit { .. } => (&mut content.cfi, Within::Cfi),
        Record::Public(..) => (&mut content.publics, Within::Nothing),
        Record::FrameData(..) | Record::Fpo(..) => (&mut content.win, Within::Nothing),
        Record::Url(_) | Record::Nothing | Record::File(..) | Record::Origin(..) => {
            return Some(Within::Nothing);
        }
    };
    *counted += 1;
    Some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULE: &str = "MODULE Linux x86_64 5a9832e5287241c1838ed98914e9b7ff1 app\n";

    fn checked(text: &[u8]) -> Result<(Checked, String), String> {
        let mut output = Vec::new();
        check(&mut &*text, &mut output)
            .map(|checked| (checked, String::from_utf8(output).expect("UTF-8")))
            .map_err(|refused| refused.to_string())
    }

    #[test]
    fn the_module_line_says_whose_symbols_they_are() {
        let (checked, text) = checked(MODULE.as_bytes()).expect("good");
        assert_eq!(checked.module.debug_file, "app");
        assert_eq!(checked.module.debug_id, "5A9832E5287241C1838ED98914E9B7FF1");
        assert_eq!(
            text,
            "MODULE Linux x86_64 5A9832E5287241C1838ED98914E9B7FF1 app\n"
        );
        assert_eq!(checked.bytes, text.len() as u64);
        assert_eq!(checked.notes, [""; 0]);
    }

    #[test]
    fn repairs_are_noted() {
        let body = "FUNC 10 10 0 f\n10 4 1 0\nPUBLIC 20 0 g\n";
        let whole = MODULE
            .to_uppercase()
            .replace("LINUX X86_64", "Linux x86_64");
        let plain = format!("{}{body}", whole.replace("APP", "app"));
        let crlf = plain.replace('\n', "\r\n");
        let marked = format!("\u{feff}{plain}");
        for (text, note) in [
            (
                crlf.as_bytes(),
                "carriage returns at line ends were removed",
            ),
            (marked.as_bytes(), "a byte order mark was removed"),
            (
                plain.trim_end().as_bytes(),
                "a missing line end was added to the last line",
            ),
        ] {
            let (checked, repaired) = checked(text).expect("repaired");
            assert_eq!(repaired, plain);
            assert_eq!(checked.notes, [note]);
        }
        let latin = [plain.as_bytes(), b"PUBLIC 30 0 caf\xe9\n"].concat();
        let (_, repaired) = checked(&latin).expect("repaired");
        assert!(repaired.ends_with("PUBLIC 30 0 caf\u{fffd}\n"));
    }

    #[test]
    fn functions_without_names_and_exports_are_not_counted_as_functions() {
        let records = "FUNC 10 4 0 f\nFUNC 20 4 0 <unknown in app>\nPUBLIC 30 0 g\n";
        let counts = |text: &str| {
            let (checked, _) = checked(text.as_bytes()).expect("good");
            (checked.content.functions, checked.content.publics)
        };
        assert_eq!(counts(&format!("{MODULE}{records}")), (1, 1));
        assert_eq!(
            counts(&format!("{MODULE}{EXPORTS_LINE}\n{records}")),
            (0, 2)
        );
    }

    #[test]
    fn a_bad_line_is_left_out_with_what_belongs_to_it() {
        let text = format!(
            "{MODULE}FUNC 10 10 0 f\n10 4 1 0\nFUNC xyz 1 0 bad\n99 4 1 0\n\nPUBLIC 20 0 g\nFILE 0 a\n"
        );
        let (checked, repaired) = checked(text.as_bytes()).expect("repaired");
        assert!(!repaired.contains("bad") && !repaired.contains("99 4 1 0"));
        assert!(repaired.contains("10 4 1 0\n\nPUBLIC 20 0 g\n"));
        assert_eq!(checked.notes, ["2 invalid lines were ignored: line 4, 5"]);
        let long = format!("{MODULE}FILE 0 {}\nPUBLIC 20 0 g\n", "x".repeat(200_000));
        let (_, repaired) = super::tests::checked(long.as_bytes()).expect("repaired");
        assert!(repaired.len() < 100 && repaired.ends_with("app\nPUBLIC 20 0 g\n"));
    }

    #[test]
    fn what_is_hopeless_is_refused_with_its_line() {
        let junk = format!("{MODULE}a\nb\nc\n");
        for (text, why) in [
            ("", "the file is empty"),
            (
                "FUNC 10 10 0 f\n",
                "line 1: the file does not begin with MODULE",
            ),
            (
                "MODULE Linux\n",
                "line 1: the line does not have the form MODULE",
            ),
            (
                "MODULE a b 12AB c\n",
                "line 1: debug id \"12AB\" is not 33 to 40",
            ),
            (
                "MODULE a b 000000000000000000000000000000000 c\n",
                "all zeros",
            ),
            (
                "MODULE a b 5A9832E5287241C1838ED98914E9B7FF1 ../../etc/passwd\n",
                "not a plain file name",
            ),
            (
                "MODULE a b 5A9832E5287241C1838ED98914E9B7FF1 ..\n",
                "not a plain file name",
            ),
            (&junk, "line 2, 3, 4: not a symbol file record"),
        ] {
            let error = checked(text.as_bytes()).expect_err(text);
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn records_are_told_as_the_unwinder_tells_them() {
        use Within::*;
        for (line, within, next) in [
            ("", Function, Some(Nothing)),
            ("INFO CODE_ID 1", Nothing, Some(Nothing)),
            ("INFO", Nothing, None),
            ("FILE 1 a b", Function, Some(Nothing)),
            ("FILE 99999999999 a", Nothing, None),
            ("INLINE_ORIGIN 1 f", Function, Some(Function)),
            ("INLINE 0 1 2 3 10 4 20 4", Function, Some(Function)),
            ("INLINE 0 1 2 3 10 4 20", Function, None),
            ("INLINE 0 1 2 3 10 4", Nothing, None),
            ("FUNC m 10 4 0 f", Cfi, Some(Function)),
            ("FUNC 10 4 0", Nothing, None),
            ("10 4 7 0", Function, Some(Function)),
            ("10 4 7 0 ", Function, None),
            ("10 4 -7 0", Function, None),
            ("PUBLIC m 10 0 f", Nothing, Some(Nothing)),
            ("STACK CFI INIT 10 4 .cfa: $rsp 8 +", Nothing, Some(Cfi)),
            ("STACK CFI 11 .cfa: $rsp 16 +", Cfi, Some(Cfi)),
            ("STACK CFI 11 .cfa: $rsp 16 +", Function, None),
            (
                "STACK WIN 4 10 4 1 0 0 0 0 0 1 $eip",
                Nothing,
                Some(Nothing),
            ),
            ("STACK WIN 4 10 4 1 0 0 0 0 0", Nothing, None),
            ("MODULE a b c d", Nothing, None),
        ] {
            assert_eq!(
                record(line.as_bytes(), within, &mut Content::default()),
                next,
                "{line} in {within:?}"
            );
        }
    }
}
