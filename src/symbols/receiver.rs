//! Where the files of an arrival go, and the verdict about each.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};

use super::check::Refused;
use super::converter::Converter;
use super::native::{Found, Head};
use super::skeleton::SkeletonKind;
use super::symbol_store::{Conflict, Native, Placed, SymbolStore, Taken};
use super::unpack::Bounds;

/// Limit of characters in a client's file name.
const NAME_CHARS_MAX: usize = 300;
/// Limit of bytes of a head, which the converter writes before each text.
const HEAD_BYTES_MAX: u64 = 32 << 20;

/// The result for one file.
#[derive(Debug)]
pub struct Verdict {
    /// The client's name of the file.
    pub(crate) name: String,
    pub result: Result<Taken, Refused>,
}

impl Verdict {
    pub(super) fn new(name: &str, result: Result<Taken, Refused>) -> Self {
        Self {
            name: name.chars().take(NAME_CHARS_MAX).collect(),
            result,
        }
    }

    /// A word for the result.
    pub(crate) fn outcome(&self) -> &'static str {
        match &self.result {
            Ok(taken) => match taken.placed {
                Placed::New => "stored",
                Placed::Same => "same",
                Placed::Completed => "completed",
                Placed::Kept => "kept",
                Placed::Beside => "kept_beside",
                Placed::Replaced => "replaced",
            },
            Err(Refused::Bad(_)) => "refused",
            Err(Refused::Storage(_)) => "failed",
        }
    }
}

pub(super) fn refused(why: impl Into<String>) -> Refused {
    Refused::Bad(why.into())
}

/// Stores the files of an arrival. The fields say where and how.
pub struct Receiver<'a> {
    pub symbol_store: &'a SymbolStore,
    pub converter: &'a Converter,
    pub bounds: Bounds,
    pub conflict: Conflict,
    pub now_ms: i64,
}

impl Receiver<'_> {
    /// Passes each text that a converter wrote to `each`, and returns what else the converter found. `native`
    /// returns, for a head, the file from which the text was made.
    pub(super) fn take_texts(
        &self,
        texts: File,
        mut native: impl FnMut(&mut Head) -> io::Result<Native>,
        mut each: impl FnMut(&mut dyn BufRead, Native, Vec<String>),
    ) -> Result<Others, Refused> {
        let mut texts = BufReader::with_capacity(256 * 1024, texts);
        texts.rewind().map_err(Refused::Storage)?;
        let mut others = Others::default();
        loop {
            let mut line = Vec::new();
            (&mut texts)
                .take(HEAD_BYTES_MAX)
                .read_until(b'\n', &mut line)
                .map_err(Refused::Storage)?;
            if line.is_empty() {
                return Ok(others);
            }
            let found: Found = serde_json::from_slice(&line)
                .map_err(|e| refused(format!("the conversion failed: {e}")))?;
            match found {
                Found::Part(kind, ids) => others.parts = Some((kind, ids)),
                Found::Refused(why) => others.refused.push(why),
                Found::Program(mut head) => {
                    let native = native(&mut head).map_err(Refused::Storage)?;
                    let mut text = UntilHead::new(&mut texts);
                    each(&mut text, native, head.notes);
                    text.skip_rest().map_err(Refused::Storage)?;
                }
            }
        }
    }
}

/// The results of a converter that have no text.
#[derive(Default)]
pub(super) struct Others {
    /// The file is useless without a program that has one of these ids.
    pub(super) parts: Option<(SkeletonKind, Vec<u64>)>,
    /// Why some of several programs were refused.
    pub(super) refused: Vec<String>,
}

/// The lines up to the next head in a converter's output.
pub(super) struct UntilHead<R> {
    input: R,
    /// True at the start of a line.
    at_start: bool,
    ended: bool,
}

impl<R: BufRead> UntilHead<R> {
    pub(super) fn new(input: R) -> Self {
        Self {
            input,
            at_start: true,
            ended: false,
        }
    }

    fn skip_rest(&mut self) -> io::Result<()> {
        loop {
            let count = self.fill_buf()?.len();
            if count == 0 {
                return Ok(());
            }
            self.consume(count);
        }
    }
}

impl<R: BufRead> Read for UntilHead<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let line = self.fill_buf()?;
        let count = line.len().min(buffer.len());
        buffer[..count].copy_from_slice(&line[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for UntilHead<R> {
    /// At most one line, so that a head is never returned as part of a text.
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let buffer = self.input.fill_buf()?;
        self.ended |= self.at_start && buffer.first() == Some(&b'{');
        if self.ended {
            return Ok(&[]);
        }
        let end = memchr::memchr(b'\n', buffer).map_or(buffer.len(), |end| end + 1);
        Ok(&buffer[..end])
    }

    fn consume(&mut self, count: usize) {
        if count == 0 {
            return;
        }
        if let Ok(buffer) = self.input.fill_buf() {
            self.at_start = buffer.get(count - 1) == Some(&b'\n');
        }
        self.input.consume(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_converters_output_is_taken_apart_at_its_heads() {
        let output = b"{head}\nMODULE a\nx {y}\n{next}\nMODULE b\n";
        let mut input = BufReader::with_capacity(4, &output[..]);
        let mut parts = Vec::new();
        loop {
            let mut head = String::new();
            if input.read_line(&mut head).expect("readable") == 0 {
                break;
            }
            let mut text = String::new();
            let mut until = UntilHead::new(&mut input);
            until.read_to_string(&mut text).expect("readable");
            until.skip_rest().expect("readable");
            parts.push((head, text));
        }
        let expected = [
            ("{head}\n", "MODULE a\nx {y}\n"),
            ("{next}\n", "MODULE b\n"),
        ];
        assert_eq!(parts, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    }
}
