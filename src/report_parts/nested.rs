//! The text parts of a report that arrived inside a part of another report.

use std::io::{self, Write};

use flate2::write::MultiGzDecoder;

use crate::limits;
use crate::multipart::{BOUNDARY_CHARS_MAX, Multipart, PartHead, PartSink, leading_boundary};

/// The texts of a multipart body that was sent as a dump, gzipped or not. Old Electron versions on Linux do
/// this.
pub(super) enum Nested {
    /// The first bytes, too few to recognise the format.
    Start(Vec<u8>),
    Plain(Box<NestedBody>),
    Gzip(Box<MultiGzDecoder<NestedBody>>),
}

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

impl Default for Nested {
    fn default() -> Self {
        Self::Start(Vec::new())
    }
}

impl Nested {
    /// Returns false if this is not a multipart body.
    pub(super) fn take(&mut self, piece: &[u8]) -> bool {
        if let Self::Start(start) = self {
            start.extend_from_slice(piece);
            if start.len() < GZIP_MAGIC.len() {
                return true;
            }
            let start = std::mem::take(start);
            *self = if start.starts_with(&GZIP_MAGIC) {
                Self::Gzip(Box::new(MultiGzDecoder::new(NestedBody::default())))
            } else {
                Self::Plain(Box::default())
            };
            return self.write(&start);
        }
        self.write(piece)
    }

    fn write(&mut self, piece: &[u8]) -> bool {
        match self {
            Self::Start(_) => true,
            Self::Plain(body) => body.take(piece),
            Self::Gzip(decoder) => decoder.write_all(piece).is_ok(),
        }
    }

    /// The keys and values; `None` if this was not a multipart body.
    pub(super) fn finish(self) -> Option<Vec<(String, String)>> {
        let body = match self {
            Self::Start(_) => return None,
            Self::Plain(body) => *body,
            Self::Gzip(mut decoder) => {
                decoder.try_finish().ok()?;
                std::mem::take(decoder.get_mut())
            }
        };
        body.parser.map(|_| body.texts.whole)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            Self::Start(_) => 0,
            Self::Plain(body) => body.texts.bytes,
            Self::Gzip(decoder) => GZIP_MEMORY_BYTES + decoder.get_ref().texts.bytes,
        }
    }
}

/// Memory of a decompressor: its window, its tables, and the output that it has not passed on.
const GZIP_MEMORY_BYTES: usize = 80 << 10;

#[derive(Default)]
pub(super) struct NestedBody {
    /// The first line, until it is complete.
    start: Vec<u8>,
    parser: Option<Multipart>,
    texts: Texts,
    bytes: u64,
}

impl NestedBody {
    /// Returns false if this is not a multipart body.
    fn take(&mut self, piece: &[u8]) -> bool {
        if let Some(parser) = &mut self.parser {
            return parser.feed(piece, &mut self.texts).is_ok();
        }
        let room = (BOUNDARY_CHARS_MAX + 4).saturating_sub(self.start.len());
        let (start, rest) = piece.split_at(room.min(piece.len()));
        self.start.extend_from_slice(start);
        let begins_well = b"--".starts_with(&self.start[..self.start.len().min(2)]);
        if let Some(boundary) = leading_boundary(&self.start) {
            let mut parser = Multipart::new(boundary);
            let is_good = parser
                .feed(&std::mem::take(&mut self.start), &mut self.texts)
                .is_ok()
                && parser.feed(rest, &mut self.texts).is_ok();
            self.parser = Some(parser);
            return is_good;
        }
        begins_well && rest.is_empty()
    }
}

/// Receives the output of the decompressor.
impl Write for NestedBody {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.bytes += piece.len() as u64;
        if self.bytes <= limits::NESTED_BYTES_MAX && self.take(piece) {
            Ok(piece.len())
        } else {
            Err(io::ErrorKind::InvalidData.into())
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Stores texts within the limits of annotations, and ignores files.
#[derive(Default)]
struct Texts {
    current: Option<(String, Vec<u8>)>,
    whole: Vec<(String, String)>,
    bytes: usize,
}

impl PartSink for Texts {
    type Error = std::convert::Infallible;

    fn begin(&mut self, head: PartHead) -> Result<(), Self::Error> {
        let is_text = head.file_name.is_none() && self.whole.len() < limits::ANNOTATIONS_MAX;
        self.current = head.name.filter(|_| is_text).map(|key| (key, Vec::new()));
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), Self::Error> {
        if let Some((_, value)) = &mut self.current {
            value.extend_from_slice(bytes);
            self.bytes += bytes.len();
            if value.len() > limits::ANNOTATION_BYTES_MAX
                || self.bytes > limits::ANNOTATIONS_BYTES_MAX
            {
                self.current = None;
            }
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Self::Error> {
        if let Some((key, value)) = self.current.take()
            && let Ok(value) = String::from_utf8(value)
        {
            self.whole.push((key, value));
        }
        Ok(())
    }
}
