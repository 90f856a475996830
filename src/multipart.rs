//! Reads `multipart/form-data` as it arrives, piece by piece, and passes its parts on.
//!
//! This is a push parser. Whatever the size of the body, it holds at most one part head ([`HEAD_BYTES_MAX`])
//! or the tail of a piece that might begin a delimiter. It does no I/O and knows nothing about crashes.
//! Source: RFC 2046 section 5.1, RFC 7578, and what crash clients really send.

use std::fmt;

use memchr::memmem::Finder;

/// Maximum bytes of the head of one part.
pub(crate) const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Maximum characters of a boundary. RFC 2046 allows 70.
pub(crate) const BOUNDARY_CHARS_MAX: usize = 200;

/// The name, file name and content type in the head of a part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartHead {
    pub(crate) name: Option<String>,
    pub(crate) file_name: Option<String>,
    pub(crate) content_type: Option<String>,
}

/// Receives the parts of a body, one after the other.
pub trait PartSink {
    type Error;

    /// Begins a part.
    ///
    /// # Errors
    /// The part is refused. The caller must stop reading the body.
    fn begin(&mut self, head: PartHead) -> Result<(), Self::Error>;

    /// A piece of the part's body, in order.
    ///
    /// # Errors
    /// The part is refused, or the piece cannot be stored. The caller must stop reading the body.
    fn data(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;

    /// Ends the part.
    ///
    /// # Errors
    /// The part is refused, or it cannot be stored. The caller must stop reading the body.
    fn end(&mut self) -> Result<(), Self::Error>;
}

#[derive(Debug, PartialEq, Eq)]
pub enum MultipartError<E> {
    HeadTooLarge,
    /// The body ended before its closing boundary.
    Unfinished,
    /// A boundary is followed by something other than a line end or `--`.
    BadDelimiter,
    Sink(E),
}

impl<E: fmt::Display> fmt::Display for MultipartError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HeadTooLarge => write!(
                f,
                "the headers of a part are larger than {HEAD_BYTES_MAX} bytes"
            ),
            Self::Unfinished => f.write_str("the body ends before its closing boundary"),
            Self::BadDelimiter => f.write_str("a boundary is not followed by a line end"),
            Self::Sink(error) => error.fmt(f),
        }
    }
}

/// The boundary in a `Content-Type` header, for both kinds of multipart that clients use.
///
/// # Errors
/// [`BadContentType::Wrong`] for any other type, [`BadContentType::NoBoundary`] if the boundary is missing,
/// empty or too long.
pub(crate) fn boundary(content_type: &str) -> Result<String, BadContentType> {
    // Some clients write a comma instead of a semicolon.
    let (kind, parameters) = content_type
        .split_once([';', ','])
        .unwrap_or((content_type, ""));
    let kind = kind.trim();
    if !kind.eq_ignore_ascii_case("multipart/form-data")
        && !kind.eq_ignore_ascii_case("multipart/mixed")
    {
        return Err(BadContentType::Wrong);
    }
    parameter(parameters, "boundary")
        .filter(|b| !b.is_empty() && b.chars().count() <= BOUNDARY_CHARS_MAX)
        .ok_or(BadContentType::NoBoundary)
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BadContentType {
    Wrong,
    NoBoundary,
}

enum State {
    /// Before the first boundary.
    Preamble,
    /// Right after a boundary: `--`, or the end of its line.
    Delimiter,
    Head,
    Body,
    /// After the closing boundary. All further bytes are ignored.
    Epilogue,
}

/// The boundary on the first line of a body whose head is lost: `--boundary`, CR, LF. `None` if the bytes
/// begin differently or do not contain a complete line.
pub(crate) fn leading_boundary(body: &[u8]) -> Option<&str> {
    let line = &body[..memchr::memmem::find(body, b"\r\n")?];
    let boundary = std::str::from_utf8(line.strip_prefix(b"--")?).ok()?;
    let is_boundary = !boundary.is_empty()
        && boundary.len() <= BOUNDARY_CHARS_MAX
        && boundary.bytes().all(|b| (0x20..0x7f).contains(&b));
    is_boundary.then_some(boundary)
}

pub struct Multipart {
    state: State,
    /// CRLF, two dashes, boundary.
    delimiter: Finder<'static>,
    /// The same without the single quotes around the boundary, until the first boundary was seen.
    unquoted: Option<Finder<'static>>,
    head_end: Finder<'static>,
    buffer: Vec<u8>,
}

fn delimiter(boundary: &str) -> Finder<'static> {
    Finder::new(format!("\r\n--{boundary}").as_bytes()).into_owned()
}

impl Multipart {
    /// A boundary may have single quotes around it. By the RFC they belong to it, but some clients use them
    /// as quotation marks. The body shows which is the case.
    pub fn new(boundary: &str) -> Self {
        let unquoted = boundary
            .strip_prefix('\'')
            .and_then(|rest| rest.strip_suffix('\''))
            .filter(|rest| !rest.is_empty());
        Self {
            state: State::Preamble,
            delimiter: delimiter(boundary),
            unquoted: unquoted.map(delimiter),
            head_end: Finder::new(b"\r\n\r\n").into_owned(),
            // The first boundary has no line end before it if it is at the start of the body.
            buffer: b"\r\n".to_vec(),
        }
    }

    /// Takes the next piece of the body.
    ///
    /// # Errors
    /// After an error the body cannot be read further.
    pub fn feed<S: PartSink>(
        &mut self,
        piece: &[u8],
        sink: &mut S,
    ) -> Result<(), MultipartError<S::Error>> {
        if matches!(self.state, State::Epilogue) {
            return Ok(());
        }
        self.buffer.extend_from_slice(piece);
        let mut at = 0;
        while let Some(used) = self.step(at, sink)? {
            at += used;
        }
        self.buffer.drain(..at);
        Ok(())
    }

    /// True if the closing boundary has arrived.
    pub(crate) fn is_complete(&self) -> bool {
        matches!(self.state, State::Epilogue)
    }

    /// Call this at the end of the body.
    ///
    /// # Errors
    /// [`MultipartError::Unfinished`] if the body ended before its closing boundary.
    pub fn finish<E>(self) -> Result<(), MultipartError<E>> {
        match self.state {
            State::Epilogue => Ok(()),
            _ => Err(MultipartError::Unfinished),
        }
    }

    /// Uses some bytes of the buffer from `at` on. `None` if it needs more bytes first.
    fn step<S: PartSink>(
        &mut self,
        at: usize,
        sink: &mut S,
    ) -> Result<Option<usize>, MultipartError<S::Error>> {
        let rest = &self.buffer[at..];
        if let (State::Preamble, Some(unquoted)) = (&self.state, &self.unquoted) {
            match (self.delimiter.find(rest), unquoted.find(rest)) {
                (None, None) => {}
                (Some(quoted), plain) if plain.is_none_or(|plain| quoted < plain) => {
                    self.unquoted = None;
                }
                _ => self.delimiter = self.unquoted.take().expect("it was found"),
            }
        }
        match self.state {
            State::Preamble | State::Body => {
                let in_part = matches!(self.state, State::Body);
                let found = self.delimiter.find(rest);
                // Bytes that could begin a delimiter wait for the next piece.
                let content = found.unwrap_or_else(|| {
                    rest.len().saturating_sub(self.delimiter.needle().len() - 1)
                });
                if in_part && content > 0 {
                    sink.data(&rest[..content]).map_err(MultipartError::Sink)?;
                }
                if found.is_some() {
                    if in_part {
                        sink.end().map_err(MultipartError::Sink)?;
                    }
                    self.state = State::Delimiter;
                    return Ok(Some(content + self.delimiter.needle().len()));
                }
                Ok((content > 0).then_some(content))
            }
            State::Delimiter => {
                if rest.starts_with(b"--") {
                    self.state = State::Epilogue;
                    return Ok(Some(rest.len()));
                }
                let padding = rest
                    .iter()
                    .take_while(|b| matches!(b, b' ' | b'\t'))
                    .count();
                match &rest[padding..] {
                    [b'\r', b'\n', ..] => {
                        // The line end stays in the buffer: a part without headers has only the empty line.
                        self.state = State::Head;
                        Ok(Some(padding))
                    }
                    [] | [b'\r'] | [b'-'] if padding <= HEAD_BYTES_MAX => Ok(None),
                    _ => Err(MultipartError::BadDelimiter),
                }
            }
            State::Head => match self.head_end.find(rest) {
                Some(end) if end <= HEAD_BYTES_MAX => {
                    let head = parse_head(&rest[..end]);
                    sink.begin(head).map_err(MultipartError::Sink)?;
                    self.state = State::Body;
                    Ok(Some(end + self.head_end.needle().len()))
                }
                None if rest.len() <= HEAD_BYTES_MAX + 4 => Ok(None),
                _ => Err(MultipartError::HeadTooLarge),
            },
            State::Epilogue => Ok(None),
        }
    }
}

/// Reads header lines and ignores those that it cannot read. A part without a name is still a part.
fn parse_head(bytes: &[u8]) -> PartHead {
    let mut head = PartHead::default();
    for line in String::from_utf8_lossy(bytes).split("\r\n") {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim();
        if name.trim().eq_ignore_ascii_case("content-disposition") {
            let parameters = value.split_once(';').map_or("", |(_, p)| p);
            head.name = parameter(parameters, "name").map(|n| percent_decode_some(&n));
            head.file_name = parameter(parameters, "filename*")
                .and_then(|text| decode_extended(&text))
                .or_else(|| parameter(parameters, "filename").map(|n| percent_decode_some(&n)));
        } else if name.trim().eq_ignore_ascii_case("content-type") && !value.is_empty() {
            head.content_type = Some(value.to_owned());
        }
    }
    head
}

/// The value of the first parameter of this name in `a=b; c="d"`.
fn parameter(parameters: &str, wanted: &str) -> Option<String> {
    let mut rest = parameters;
    loop {
        rest = rest.trim_start_matches([';', ' ', '\t']);
        let (name, after) = rest.split_once('=')?;
        let (value, after) = value(after.trim_start());
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = after;
    }
}

/// Returns a token or quoted string, and the text after it. A backslash escapes only a quote or another
/// backslash, because clients send Windows paths in file names unescaped.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(';').unwrap_or(text.len());
        return (text[..end].trim().to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match (c, chars.peek()) {
            ('"', _) => {
                let after = &quoted[at + 1..];
                return (value, &after[after.find(';').unwrap_or(after.len())..]);
            }
            ('\\', Some(&(_, next @ ('"' | '\\')))) => {
                value.push(next);
                chars.next();
            }
            _ => value.push(c),
        }
    }
    (value, "")
}

/// Undoes the encoding of names by browsers and Crashpad, which encode only CR, LF, quote and percent.
fn percent_decode_some(text: &str) -> String {
    let mut text = text.to_owned();
    for (code, plain) in [("%0D", "\r"), ("%0A", "\n"), ("%22", "\""), ("%25", "%")] {
        if text.contains('%') {
            text = text.replace(code, plain);
        }
    }
    text
}

/// Decodes a value as in RFC 5987: `UTF-8''na%C3%AFve`.
fn decode_extended(text: &str) -> Option<String> {
    let (charset, rest) = text.split_once('\'')?;
    let (_, encoded) = rest.split_once('\'')?;
    charset.eq_ignore_ascii_case("utf-8").then(|| {
        percent_encoding::percent_decode_str(encoded)
            .decode_utf8_lossy()
            .into_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default, Debug, PartialEq, Clone)]
    struct Parts(Vec<(PartHead, Vec<u8>, bool)>);

    impl PartSink for Parts {
        type Error = std::convert::Infallible;
        fn begin(&mut self, head: PartHead) -> Result<(), Self::Error> {
            self.0.push((head, Vec::new(), false));
            Ok(())
        }
        fn data(&mut self, bytes: &[u8]) -> Result<(), Self::Error> {
            self.0
                .last_mut()
                .expect("a part has begun")
                .1
                .extend_from_slice(bytes);
            Ok(())
        }
        fn end(&mut self) -> Result<(), Self::Error> {
            self.0.last_mut().expect("a part has begun").2 = true;
            Ok(())
        }
    }

    type Outcome = Result<Parts, MultipartError<std::convert::Infallible>>;

    fn parse(body: &[u8], step: usize) -> Outcome {
        let mut parser = Multipart::new("xyz");
        let mut parts = Parts::default();
        for piece in body.chunks(step.max(1)) {
            parser.feed(piece, &mut parts)?;
        }
        parser.finish().map(|()| parts)
    }

    /// Parses in pieces of every size and checks that the size makes no difference.
    fn check(body: &str) -> Outcome {
        let whole = parse(body.as_bytes(), body.len());
        for step in 1..=body.len().min(80) {
            assert_eq!(parse(body.as_bytes(), step), whole, "in pieces of {step}");
        }
        whole
    }

    fn named(name: &str) -> PartHead {
        PartHead {
            name: Some(name.into()),
            ..PartHead::default()
        }
    }

    #[test]
    fn parts_come_out_whole_in_pieces_of_any_size() {
        let body = "preamble\r\n--xyz\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\none\r\n\r\ntwo\r\n--xy\r\n\
                    --xyz  \r\ncontent-disposition: form-data; filename=\"f.dmp\"; name=b\r\nContent-Type: text/x\r\n\r\n\
                    \r\n--xyz\r\nContent-Disposition: form-data; name=\"c\"\r\n\r\n\r\n--xyz--\r\nepilogue";
        let parts = check(body).expect("a good body");
        let b = PartHead {
            name: Some("b".into()),
            file_name: Some("f.dmp".into()),
            content_type: Some("text/x".into()),
        };
        assert_eq!(
            parts.0,
            [
                (named("a"), b"one\r\n\r\ntwo\r\n--xy".to_vec(), true),
                (b, b"".to_vec(), true),
                (named("c"), b"".to_vec(), true),
            ]
        );
    }

    #[test]
    fn a_body_without_its_closing_boundary_is_unfinished() {
        let open = "--xyz\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\none\r\n";
        assert_eq!(check(open), Err(MultipartError::Unfinished));
        assert_eq!(check(""), Err(MultipartError::Unfinished));
        assert_eq!(check("no boundary at all"), Err(MultipartError::Unfinished));
    }

    #[test]
    fn an_empty_form_is_no_error() {
        assert_eq!(check("--xyz--\r\n"), Ok(Parts::default()));
    }

    #[test]
    fn a_head_has_a_bound() {
        let body = format!("--xyz\r\nX: {}\r\n\r\n", "y".repeat(HEAD_BYTES_MAX));
        assert_eq!(
            parse(body.as_bytes(), 1000),
            Err(MultipartError::HeadTooLarge)
        );
        assert_eq!(check("--xyzabc\r\n\r\n"), Err(MultipartError::BadDelimiter));
    }

    #[test]
    fn names_are_read_as_clients_write_them() {
        let head = |line: &str| {
            parse_head(format!("\r\nContent-Disposition: form-data; {line}").as_bytes())
        };
        assert_eq!(head("name=\"a\\\"b\"").name.as_deref(), Some("a\"b"));
        assert_eq!(head("name=\"a%22b%25\"").name.as_deref(), Some("a\"b%"));
        assert_eq!(
            head("filename=\"C:\\temp\\x.dmp\"").file_name.as_deref(),
            Some("C:\\temp\\x.dmp")
        );
        assert_eq!(head("filename=\"a;b\"; name=c").name.as_deref(), Some("c"));
        assert_eq!(
            head("filename*=UTF-8''na%C3%AFve").file_name.as_deref(),
            Some("naïve")
        );
        assert_eq!(head("name").name, None);
        assert_eq!(parse_head(b"\r\nnonsense").name, None);
    }

    #[test]
    fn the_boundary_is_found_in_the_content_type() {
        let check = |text: &str| boundary(text);
        assert_eq!(check("multipart/form-data; boundary=abc"), Ok("abc".into()));
        assert_eq!(
            check("Multipart/Mixed;charset=x; Boundary=\"a b\""),
            Ok("a b".into())
        );
        assert_eq!(
            check("multipart/form-data"),
            Err(BadContentType::NoBoundary)
        );
        assert_eq!(
            check("multipart/form-data; boundary="),
            Err(BadContentType::NoBoundary)
        );
        assert_eq!(
            check("application/octet-stream"),
            Err(BadContentType::Wrong)
        );
        assert_eq!(check("multipart/form-data, boundary=abc"), Ok("abc".into()));
    }

    #[test]
    fn single_quotes_around_a_boundary_count_or_not_as_the_body_shows() {
        let body = |boundary: &str| {
            format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\none\r\n--{boundary}--\r\n"
            )
        };
        for used in ["xyz", "'xyz'"] {
            let body = body(used);
            for step in 1..=body.len() {
                let mut parser = Multipart::new("'xyz'");
                let mut parts = Parts::default();
                for piece in body.as_bytes().chunks(step) {
                    parser.feed(piece, &mut parts).expect("a good body");
                }
                parser.finish::<()>().expect("whole");
                assert_eq!(
                    parts.0,
                    [(named("a"), b"one".to_vec(), true)],
                    "{used} {step}"
                );
            }
        }
    }

    #[test]
    fn a_body_without_its_head_names_its_boundary_itself() {
        assert_eq!(leading_boundary(b"--a b\r\nContent"), Some("a b"));
        for body in [&b"--\r\n"[..], b"--abc", b"abc\r\n", b"--a\0\r\n", b""] {
            assert_eq!(leading_boundary(body), None);
        }
    }
}
