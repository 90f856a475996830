//! Brings every request head of a connection into one form that no reader can misunderstand.
//!
//! hyper refuses some heads that real clients send, with an empty 400. It accepts others that a proxy in
//! front of us may read differently (request smuggling). [`Heads`] processes the bytes before hyper does. It
//! follows the framing of each request, so it sees every head of a connection:
//!
//! - Characters that a URL must not contain (`<`, `>`, `"`, `|`, `^`, `{}`, non-ASCII) are percent-encoded
//!   in the request target, as browsers do. curl and scripts send them unencoded.
//! - Stock Crashpad on Linux sends `POST ... HTTP/1.0` with `Transfer-Encoding: chunked`, which HTTP/1.0
//!   does not have. Such a head becomes HTTP/1.1 with `Connection: close`.
//! - An ambiguous head is refused: `Content-Length` together with `Transfer-Encoding`, two of either, a
//!   coding other than `chunked`, a space before a colon, folded lines, bare CR or LF, and control
//!   characters. To refuse, [`Heads`] passes on a request of our own, which [`refusal`] recognises. After
//!   that the connection reads nothing more.
//!
//! No I/O and no hyper types, so that a fuzz target can drive it.

use crate::limits::HEAD_BYTES_MAX;

/// The header of our own requests that carry a refusal: status and text. A client's head must not contain
/// it.
pub const REFUSED_HEADER: &str = "crashkeep-refused";

/// Maximum bytes of the line before a chunk. Clients send a size of at most 16 digits.
const CHUNK_LINE_BYTES_MAX: usize = 256;
/// Maximum bytes of the lines after the last chunk.
const TRAILER_BYTES_MAX: usize = 8 * 1024;

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    /// A body of known length: remaining bytes.
    Body(u64),
    ChunkLine,
    /// Remaining bytes of the chunk.
    Chunk(u64),
    /// The line end after a chunk.
    ChunkEnd,
    /// Lines after the last chunk: their bytes so far.
    Trailer(usize),
    /// Refused or broken: all further bytes are ignored.
    Over,
}

/// Why a head is refused.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    status: u16,
    why: String,
}

fn refuse<T>(status: u16, why: impl Into<String>) -> Result<T, Refusal> {
    let why = why.into();
    Err(Refusal { status, why })
}

/// Follows the requests of one connection.
#[derive(Debug)]
pub struct Heads {
    state: State,
    /// An incomplete head, or an incomplete line between chunks.
    held: Vec<u8>,
    /// Bytes of `held` that were already searched for its end.
    searched: usize,
}

impl Default for Heads {
    fn default() -> Self {
        Self {
            state: State::Head,
            held: Vec::new(),
            searched: 0,
        }
    }
}

impl Heads {
    /// Takes the next bytes of a connection and appends to `out` the bytes for the server.
    pub fn take(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while !bytes.is_empty() && self.state != State::Over {
            bytes = match self.state {
                State::Head => self.take_head(bytes, out),
                State::Body(left) => {
                    let (body, rest) = split(bytes, left);
                    out.extend_from_slice(body);
                    self.passed(body.len());
                    rest
                }
                State::Chunk(left) => {
                    let (chunk, rest) = split(bytes, left);
                    out.extend_from_slice(chunk);
                    let left = left - chunk.len() as u64;
                    self.state = match left {
                        0 => State::ChunkEnd,
                        _ => State::Chunk(left),
                    };
                    rest
                }
                State::ChunkLine | State::ChunkEnd | State::Trailer(_) => {
                    self.take_line(bytes, out)
                }
                State::Over => &[],
            };
        }
    }

    /// Remaining bytes of the body. They need not go through [`Self::take`], because their content does not
    /// matter.
    pub(crate) fn body_left(&self) -> Option<u64> {
        match self.state {
            State::Body(left) => Some(left),
            _ => None,
        }
    }

    /// Tells `Heads` that this many bytes of the body were transferred.
    pub(crate) fn passed(&mut self, bytes: usize) {
        if let State::Body(left) = self.state {
            self.state = match left.saturating_sub(bytes as u64) {
                0 => State::Head,
                left => State::Body(left),
            };
        }
    }

    /// True if all further bytes of the connection are ignored.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    fn take_head<'a>(&mut self, mut bytes: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        // Old clients send a line end after a body. It is not part of the next head.
        loop {
            match (self.held.as_slice(), bytes.first()) {
                (b"", Some(b'\r')) => self.held.push(b'\r'),
                (b"\r", Some(b'\n')) => self.held.clear(),
                _ => break,
            }
            bytes = &bytes[1..];
        }
        let before = self.held.len();
        let room = HEAD_BYTES_MAX.saturating_sub(before);
        self.held.extend_from_slice(&bytes[..room.min(bytes.len())]);
        let from = self.searched.saturating_sub(3);
        let end = memchr::memmem::find(&self.held[from..], b"\r\n\r\n");
        let Some(end) = end.map(|at| from + at + 4) else {
            // Bytes that cannot become a head are refused at once, because the sender may be waiting for an
            // answer.
            let bad = bad_start(&self.held, from.saturating_sub(1));
            if let Some(refusal) = bad {
                self.refuse(&refusal, out);
            } else if self.held.len() >= HEAD_BYTES_MAX {
                let why = format!("the request head is larger than {HEAD_BYTES_MAX} bytes");
                self.refuse(&Refusal { status: 431, why }, out);
            }
            self.searched = self.held.len();
            return &[];
        };
        let next = match bad_start(&self.held[..end], 0) {
            Some(refusal) => Err(refusal),
            None => normalise(&self.held[..end], out),
        };
        match next {
            Ok(next) => self.state = next,
            Err(refusal) => self.refuse(&refusal, out),
        }
        self.held.clear();
        self.searched = 0;
        &bytes[end - before..]
    }

    /// Reads a line between the chunks of a body. A malformed line ends the connection. The server then sees
    /// a body that ends too early.
    fn take_line<'a>(&mut self, bytes: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let end = memchr::memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1);
        let (line, rest) = bytes.split_at(end);
        self.held.extend_from_slice(line);
        let bound = match self.state {
            State::Trailer(before) => TRAILER_BYTES_MAX.saturating_sub(before),
            _ => CHUNK_LINE_BYTES_MAX,
        };
        let is_whole = self.held.ends_with(b"\n");
        if self.held.len() <= bound && !is_whole {
            return rest;
        }
        let text = self.held.strip_suffix(b"\r\n");
        let text = text.filter(|text| self.held.len() <= bound && !text.iter().any(is_control));
        self.state = match (self.state, text) {
            (State::ChunkLine, Some(text)) => match chunk_bytes(text) {
                Some(0) => State::Trailer(0),
                Some(bytes) => State::Chunk(bytes),
                None => State::Over,
            },
            (State::ChunkEnd, Some(b"")) => State::ChunkLine,
            (State::Trailer(_), Some(b"")) => State::Head,
            (State::Trailer(before), Some(text)) if is_header(text) => {
                State::Trailer(before + self.held.len())
            }
            _ => State::Over,
        };
        if self.state != State::Over {
            out.extend_from_slice(&self.held);
        }
        self.held.clear();
        rest
    }

    fn refuse(&mut self, refusal: &Refusal, out: &mut Vec<u8>) {
        self.state = State::Over;
        let Refusal { status, why } = refusal;
        let request = format!(
            "GET / HTTP/1.1\r\nHost: refused\r\nConnection: close\r\n{REFUSED_HEADER}: {status} {why}\r\n\r\n"
        );
        out.extend_from_slice(request.as_bytes());
    }
}

/// The status and text of a refusal, from the value of [`REFUSED_HEADER`].
pub(crate) fn refusal(value: &str) -> (u16, &str) {
    let (status, why) = value.split_once(' ').unwrap_or(("400", value));
    (status.parse().unwrap_or(400), why)
}

fn split(bytes: &[u8], at: u64) -> (&[u8], &[u8]) {
    bytes.split_at(bytes.len().min(usize::try_from(at).unwrap_or(usize::MAX)))
}

fn is_control(byte: &u8) -> bool {
    (*byte < 0x20 && *byte != b'\t') || *byte == 0x7f
}

fn is_token(text: &[u8]) -> bool {
    let is_token_byte = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    !text.is_empty() && text.iter().all(is_token_byte)
}

/// True if a line is `name: value`, without a space before the colon.
fn is_header(line: &[u8]) -> bool {
    let colon = memchr::memchr(b':', line);
    colon.is_some_and(|at| is_token(&line[..at]))
}

/// The size of the chunk in its first line.
fn chunk_bytes(line: &[u8]) -> Option<u64> {
    let digits = line.iter().position(|b| *b == b';').unwrap_or(line.len());
    let digits = line[..digits].trim_ascii_end();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// The error in the beginning of a head, if any. Checks the bytes from `from` on.
fn bad_start(held: &[u8], from: usize) -> Option<Refusal> {
    let bad = |why: &str| {
        Some(Refusal {
            status: 400,
            why: why.to_owned(),
        })
    };
    match held {
        [0x16, ..] => return bad("this port speaks HTTP, not TLS; use http://"),
        // This is half of a line end before a head.
        [b'\r'] => return None,
        [first, ..] if !is_token(&[*first]) => {
            return bad("the request does not begin with a method");
        }
        _ => {}
    }
    let bare = (from..held.len()).any(|at| match held[at] {
        b'\n' => at == 0 || held[at - 1] != b'\r',
        b'\r' => held.get(at + 1).is_some_and(|next| *next != b'\n'),
        _ => false,
    });
    if bare { bad(BARE) } else { None }
}

const BARE: &str = "the request head has a bare CR or LF; lines must end with CR LF";

/// Appends a head in the normal form and returns the state after it. The appended lines contain no bare CR
/// or LF.
fn normalise(head: &[u8], out: &mut Vec<u8>) -> Result<State, Refusal> {
    let mut lines = Vec::new();
    let mut rest = &head[..head.len() - 2];
    while let Some(end) = memchr::memmem::find(rest, b"\r\n") {
        lines.push(&rest[..end]);
        rest = &rest[end + 2..];
    }
    if lines.iter().any(|line| line.iter().any(is_control)) {
        return refuse(400, "the request head has a control character");
    }
    let Some((request_line, headers)) = lines.split_first() else {
        return refuse(400, "the request line is missing");
    };
    let (method, target, version) = request_parts(request_line)?;
    let mut length = None;
    let mut is_chunked = false;
    for line in headers {
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            return refuse(
                400,
                "a header is folded over two lines; send it on one line",
            );
        }
        if !is_header(line) {
            return refuse(
                400,
                "a header does not have the form \"name: value\" without a space before the colon",
            );
        }
        let colon = memchr::memchr(b':', line).unwrap_or(line.len());
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            let digits = std::str::from_utf8(value).unwrap_or_default();
            let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            let bytes: Option<u64> = digits.parse().ok().filter(|_| is_number);
            if bytes.is_none() {
                return refuse(400, "Content-Length is not a number of bytes");
            }
            if length.is_some() {
                return refuse(400, "the request has two Content-Length headers");
            }
            length = bytes;
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if is_chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return refuse(400, "Transfer-Encoding must be chunked, and sent only once");
            }
            is_chunked = true;
        } else if name.eq_ignore_ascii_case(REFUSED_HEADER.as_bytes()) {
            return refuse(
                400,
                "the request has a header that is reserved for this server",
            );
        }
    }
    if is_chunked && length.is_some() {
        return refuse(
            400,
            "the request has both Content-Length and Transfer-Encoding",
        );
    }
    let is_crashpad = is_chunked && version == b"HTTP/1.0";
    out.extend_from_slice(method);
    out.push(b' ');
    out.extend_from_slice(&target);
    out.push(b' ');
    out.extend_from_slice(if is_crashpad { b"HTTP/1.1" } else { version });
    out.extend_from_slice(b"\r\n");
    for line in headers {
        out.extend_from_slice(line);
        out.extend_from_slice(b"\r\n");
    }
    if is_crashpad {
        // Such a client reads until the connection is closed.
        out.extend_from_slice(b"Connection: close\r\n");
    }
    out.extend_from_slice(b"\r\n");
    Ok(match (is_chunked, length) {
        (true, _) => State::ChunkLine,
        (false, Some(bytes @ 1..)) => State::Body(bytes),
        (false, _) => State::Head,
    })
}

type RequestParts<'a> = (&'a [u8], Vec<u8>, &'a [u8]);

fn request_parts(line: &[u8]) -> Result<RequestParts<'_>, Refusal> {
    let first = memchr::memchr(b' ', line);
    let last = memchr::memrchr(b' ', line);
    let (Some(first), Some(last)) = (first, last) else {
        return refuse(400, "the request line is not \"METHOD target HTTP/1.1\"");
    };
    let (method, version) = (&line[..first], &line[last + 1..]);
    if !version.starts_with(b"HTTP/") || first == last || !is_token(method) {
        return refuse(400, "the request line is not \"METHOD target HTTP/1.1\"");
    }
    if version != b"HTTP/1.1" && version != b"HTTP/1.0" {
        return refuse(505, "only HTTP/1.1 and HTTP/1.0 are supported");
    }
    let target = encoded(&line[first + 1..last])?;
    if hyper::Uri::try_from(target.as_slice()).is_err() {
        return refuse(400, "the request target is not a path or a URL");
    }
    Ok((method, target, version))
}

/// The request target with all characters percent-encoded that a URL must not contain.
fn encoded(target: &[u8]) -> Result<Vec<u8>, Refusal> {
    let mut encoded = Vec::with_capacity(target.len());
    for byte in target {
        match byte {
            b' ' | b'\t' => {
                return refuse(400, "the request target has a space; write it as %20");
            }
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | 0x80.. => {
                encoded.extend_from_slice(format!("%{byte:02X}").as_bytes());
            }
            _ => encoded.push(*byte),
        }
    }
    Ok(encoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes for the server. Checks that they do not depend on how the input is cut.
    fn taken(bytes: &[u8]) -> String {
        let whole = {
            let mut out = Vec::new();
            Heads::default().take(bytes, &mut out);
            out
        };
        for step in [1, 2, 3, 7] {
            let (mut heads, mut out) = (Heads::default(), Vec::new());
            for piece in bytes.chunks(step) {
                heads.take(piece, &mut out);
            }
            assert_eq!(
                String::from_utf8_lossy(&out),
                String::from_utf8_lossy(&whole),
                "in pieces of {step}"
            );
        }
        String::from_utf8_lossy(&whole).into_owned()
    }

    fn check_refused(bytes: &[u8], status: u16, part: &str) {
        let read = taken(bytes);
        let value = read
            .lines()
            .find_map(|line| line.strip_prefix("crashkeep-refused: "))
            .unwrap_or_else(|| panic!("not refused: {read}"));
        let (found, why) = refusal(value);
        assert_eq!(found, status, "{why}");
        assert!(why.contains(part), "{why}");
    }

    #[test]
    fn a_chunked_head_of_http_1_0_becomes_http_1_1_and_closes() {
        assert_eq!(
            taken(
                b"POST /submit HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
            ),
            "POST /submit HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n1\r\nx\r\n0\r\n\r\n"
        );
        let plain = "POST /submit HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(taken(plain.as_bytes()), plain);
    }

    #[test]
    fn every_target_of_a_connection_is_percent_encoded() {
        let first = "POST /a HTTP/1.1\r\nContent-Length: 14\r\n\r\nGET /<> HTTP/1";
        let second = "POST /b HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n5;x=y\r\n/<>\r\n\r\n0\r\nA: b\r\n\r\n";
        let third = "\r\nGET /s?q=>\"|^`{}\\\u{e9}%3e#[] HTTP/1.1\r\n\r\n";
        let read = taken([first, second, third].concat().as_bytes());
        let expected = "GET /s?q=%3E%22%7C%5E%60%7B%7D%5C%C3%A9%3e#[] HTTP/1.1\r\n\r\n";
        assert_eq!(read, [first, second, expected].concat());
    }

    #[test]
    fn ambiguous_framing_is_refused() {
        let head = |lines: &str| format!("POST /submit HTTP/1.1\r\nHost: h\r\n{lines}\r\n\r\nbody");
        for (lines, part) in [
            ("Content-Length: 4\r\nTransfer-Encoding: chunked", "both"),
            ("Transfer-Encoding: chunked\r\nContent-Length: 4", "both"),
            ("Content-Length: 4\r\nContent-Length: 5", "two"),
            ("Content-Length: 4\r\ncontent-length: 4", "two"),
            ("Content-Length: 4, 4", "number"),
            ("Content-Length: +4", "number"),
            ("Content-Length: 0x4", "number"),
            ("Content-Length:", "number"),
            ("Content-Length: 99999999999999999999", "number"),
            (
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                "once",
            ),
            ("Transfer-Encoding: chunked, identity", "must be chunked"),
            ("Transfer-Encoding: identity", "must be chunked"),
            ("Transfer-Encoding: xchunked", "must be chunked"),
            ("Transfer-Encoding : chunked", "colon"),
            ("Transfer-Encoding\t: chunked", "colon"),
            ("Content-Length: 4\r\n Transfer-Encoding: chunked", "folded"),
            ("X: a\r\n\tb", "folded"),
            ("X: a\nTransfer-Encoding: chunked", "CR or LF"),
            ("X: a\rTransfer-Encoding: chunked", "CR or LF"),
            ("X: a\0b", "control"),
            ("X: a\u{b}b", "control"),
            (": empty", "colon"),
            ("no colon", "colon"),
            ("crashkeep-refused: 200 fine", "reserved for this server"),
        ] {
            check_refused(head(lines).as_bytes(), 400, part);
        }
    }

    #[test]
    fn what_is_no_request_is_refused_with_a_text() {
        check_refused(b"GET /a b HTTP/1.1\r\n\r\n", 400, "%20");
        check_refused(b"GET / HTTP/2.0\r\n\r\n", 505, "HTTP/1.1");
        check_refused(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "HTTP/1.1");
        check_refused(b"GET / \r\n\r\n", 400, "request line");
        check_refused(b"GET\r\n\r\n", 400, "request line");
        check_refused(b"GET /\n", 400, "CR or LF");
        check_refused(b"GET http:// HTTP/1.1\r\n\r\n", 400, "target");
        check_refused(b"\x16\x03\x01\x02\x00\x01", 400, "TLS");
        check_refused(b"\x00\x00", 400, "method");
        check_refused(&[b'x'; HEAD_BYTES_MAX + 1], 431, "larger");
    }

    #[test]
    fn nothing_after_a_refusal_or_a_broken_chunk_is_read() {
        let smuggled = "GET /smuggled HTTP/1.1\r\n\r\n";
        let bad = "POST / HTTP/1.1\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert!(!taken(format!("{bad}{smuggled}").as_bytes()).contains("smuggled"));
        let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        for body in [
            "0x1\r\na\r\n0\r\n\r\n",
            "1 1\r\na\r\n0\r\n\r\n",
            "1\na\r\n0\r\n\r\n",
            "1\r\nab\r\n0\r\n\r\n",
            "1\r\na\n0\r\n\r\n",
            "0\r\nno colon\r\n\r\n",
            "\r\n",
            "11111111111111111\r\n",
            "-1\r\n",
        ] {
            let read = taken(format!("{head}{body}{smuggled}").as_bytes());
            assert!(!read.contains("smuggled"), "{body:?}: {read}");
        }
    }
}
