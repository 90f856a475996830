//! Reads JSON as Python's `json` module does. Text that needs no unescaping is not copied.
//!
//! serde's reader differs from Python in cases that affect signatures. Python accepts `NaN`, `Infinity`,
//! integers of any size, and a lone surrogate escape (here it becomes U+FFFD, as it would be printed). Raw
//! control characters in strings are errors in both.

use std::borrow::Cow;

use super::value::Value;

/// Limit of nested lists and objects. Python's own limit is about as high.
const DEPTH_MAX: usize = 500;
/// Limit of digits of an integer, the same as Python's since 3.11.
const INT_DIGITS_MAX: usize = 4300;

/// The number of bytes before the next quote, backslash or control character. `None` if there is none. Works
/// on eight bytes at a time.
fn plain_bytes(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES * 0x80;
    // Sets the highest bit of each byte that is 0. No byte before the first such byte gets this bit.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let (words, rest) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let controls = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        let ends = controls
            | zeros(word ^ (ONES * u64::from(b'"')))
            | zeros(word ^ (ONES * u64::from(b'\\')));
        if ends != 0 {
            return Some(at * 8 + ends.trailing_zeros() as usize / 8);
        }
    }
    let ends = |byte: &u8| matches!(byte, b'"' | b'\\' | ..0x20);
    Some(words.len() * 8 + rest.iter().position(ends)?)
}

/// Why a text is not JSON.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum JsonError {
    /// A syntax error at this byte.
    #[error("not JSON at byte {at}")]
    Syntax { at: usize },
    /// It is nested too deeply.
    #[error("JSON nests deeper than {DEPTH_MAX} levels")]
    Depth,
}

impl<'a> Value<'a> {
    /// Reads one JSON text. White space around it is allowed.
    ///
    /// # Errors
    /// [`JsonError::Syntax`] with the byte at which the text is not JSON, [`JsonError::Depth`] if it is
    /// nested too deeply.
    pub(crate) fn parse(text: &'a str) -> Result<Value<'a>, JsonError> {
        read(text, |source| source.value())
    }
}

/// Reads one JSON text into the type that `take` returns.
pub(super) fn read<'a, T>(
    text: &'a str,
    take: impl FnOnce(Source<'_, 'a>) -> Result<T, JsonError>,
) -> Result<T, JsonError> {
    let mut reader = Reader {
        text,
        bytes: text.as_bytes(),
        at: 0,
        depth: 0,
    };
    let taken = take(Source::Text(&mut reader))?;
    reader.skip_space();
    if reader.at < text.len() {
        Err(reader.wrong())
    } else {
        Ok(taken)
    }
}

/// A parsed value, or one that is still text. Code that knows the expected form reads it directly, without a
/// tree of values.
pub(super) enum Source<'r, 'a> {
    Read(Value<'a>),
    Text(&'r mut Reader<'a>),
}

/// The shape of a value, for iterating over it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Object,
    List,
    Other,
}

impl<'a> Source<'_, 'a> {
    pub(crate) fn shape(&mut self) -> Shape {
        match self {
            Source::Read(Value::Object(_)) => Shape::Object,
            Source::Read(Value::List(_)) => Shape::List,
            Source::Read(_) => Shape::Other,
            Source::Text(reader) => {
                reader.skip_space();
                match reader.peek() {
                    Some(b'{') => Shape::Object,
                    Some(b'[') => Shape::List,
                    _ => Shape::Other,
                }
            }
        }
    }

    pub(crate) fn value(self) -> Result<Value<'a>, JsonError> {
        match self {
            Source::Read(value) => Ok(value),
            Source::Text(reader) => reader.value(),
        }
    }

    /// Iterates over an object in reading order. Calls `each` with every key and its complete value.
    pub(crate) fn entries(
        self,
        mut each: impl FnMut(&str, Source<'_, 'a>) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        match self {
            Source::Text(reader) => reader.object(|reader, key| each(&key, Source::Text(reader))),
            Source::Read(Value::Object(entries)) => entries
                .into_iter()
                .try_for_each(|(key, value)| each(&key, Source::Read(value))),
            Source::Read(_) => Ok(()),
        }
    }

    /// Iterates over a list. `fill` fills a new item.
    pub(crate) fn items<T: Default>(
        self,
        mut fill: impl FnMut(&mut T, Source<'_, 'a>) -> Result<(), JsonError>,
    ) -> Result<Vec<T>, JsonError> {
        let mut items = Vec::new();
        let mut each = |source: Source<'_, 'a>| {
            // Filled in place, because a frame is too large to be moved.
            items.push(T::default());
            items.last_mut().map_or(Ok(()), |item| fill(item, source))
        };
        match self {
            Source::Text(reader) => reader.list(|reader| each(Source::Text(reader)))?,
            Source::Read(Value::List(list)) => list
                .into_iter()
                .try_for_each(|item| each(Source::Read(item)))?,
            Source::Read(_) => {}
        }
        Ok(items)
    }
}

pub(super) struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    /// Number of lists and objects that are open.
    depth: usize,
}

impl<'a> Reader<'a> {
    fn wrong(&self) -> JsonError {
        JsonError::Syntax { at: self.at }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), JsonError> {
        if self.peek() != Some(byte) {
            return Err(self.wrong());
        }
        self.at += 1;
        Ok(())
    }

    fn word(&mut self, word: &str, value: Value<'a>) -> Result<Value<'a>, JsonError> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err(self.wrong());
        }
        self.at += word.len();
        Ok(value)
    }

    fn value(&mut self) -> Result<Value<'a>, JsonError> {
        self.skip_space();
        match self.peek() {
            Some(b'"') => Ok(Value::Text(self.string()?)),
            Some(b'{') => {
                let mut entries = Vec::new();
                self.object(|reader, key| {
                    entries.push((key, reader.value()?));
                    Ok(())
                })?;
                Ok(Value::Object(entries))
            }
            Some(b'[') => {
                let mut items = Vec::new();
                self.list(|reader| {
                    items.push(reader.value()?);
                    Ok(())
                })?;
                Ok(Value::List(items))
            }
            Some(b'n') => self.word("null", Value::Null),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'N') => self.word("NaN", Value::Float(f64::NAN)),
            Some(b'I') => self.word("Infinity", Value::Float(f64::INFINITY)),
            Some(b'-') if self.bytes.get(self.at + 1) == Some(&b'I') => {
                self.word("-Infinity", Value::Float(f64::NEG_INFINITY))
            }
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(self.wrong()),
        }
    }

    /// Skips the opening bracket.
    fn open(&mut self) -> Result<(), JsonError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(JsonError::Depth);
        }
        self.at += 1;
        self.skip_space();
        Ok(())
    }

    /// Skips the closing bracket, if it is next.
    fn close(&mut self, bracket: u8) -> bool {
        let is_closed = self.peek() == Some(bracket);
        if is_closed {
            self.at += 1;
            self.depth -= 1;
        }
        is_closed
    }

    /// Reads the next object. `each` is called at the value of a key, and reads it.
    fn object(
        &mut self,
        mut each: impl FnMut(&mut Self, Cow<'a, str>) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        self.open()?;
        if self.close(b'}') {
            return Ok(());
        }
        loop {
            self.skip_space();
            if self.peek() != Some(b'"') {
                return Err(self.wrong());
            }
            let key = self.string()?;
            self.skip_space();
            self.expect(b':')?;
            each(self, key)?;
            self.skip_space();
            if self.close(b'}') {
                return Ok(());
            }
            self.expect(b',')?;
        }
    }

    /// Reads the next list. `each` is called at an item, and reads it.
    fn list(
        &mut self,
        mut each: impl FnMut(&mut Self) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        self.open()?;
        if self.close(b']') {
            return Ok(());
        }
        loop {
            each(self)?;
            self.skip_space();
            if self.close(b']') {
                return Ok(());
            }
            self.expect(b',')?;
        }
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        self.at - start
    }

    fn number(&mut self) -> Result<Value<'a>, JsonError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let leading_zero = self.peek() == Some(b'0');
        let count = self.digits();
        if count == 0 || (leading_zero && count > 1) {
            return Err(self.wrong());
        }
        let is_float = self.fraction() | self.exponent();
        let text = &self.text[start..self.at];
        if is_float {
            return text.parse().map(Value::Float).map_err(|_| self.wrong());
        }
        match text.parse() {
            Ok(value) => Ok(Value::Int(value)),
            Err(_) if count > INT_DIGITS_MAX => Err(self.wrong()),
            Err(_) => Ok(Value::BigInt(Cow::Borrowed(text))),
        }
    }

    fn fraction(&mut self) -> bool {
        let start = self.at;
        if self.peek() == Some(b'.') {
            self.at += 1;
            if self.digits() > 0 {
                return true;
            }
        }
        self.at = start;
        false
    }

    fn exponent(&mut self) -> bool {
        let start = self.at;
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            if self.digits() > 0 {
                return true;
            }
        }
        self.at = start;
        false
    }

    fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        self.at += 1;
        let mut owned = String::new();
        loop {
            let start = self.at;
            let Some(end) = plain_bytes(&self.bytes[start..]) else {
                self.at = self.bytes.len();
                return Err(self.wrong());
            };
            let plain = &self.text[start..start + end];
            self.at = start + end;
            match self.bytes[self.at] {
                b'"' => {
                    self.at += 1;
                    if owned.is_empty() {
                        return Ok(Cow::Borrowed(plain));
                    }
                    owned.push_str(plain);
                    return Ok(Cow::Owned(owned));
                }
                b'\\' => {
                    owned.push_str(plain);
                    self.at += 1;
                    owned.push(self.escape()?);
                }
                _ => return Err(self.wrong()),
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let byte = self.peek().ok_or_else(|| self.wrong())?;
        self.at += 1;
        Ok(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\x08',
            b'f' => '\x0c',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode_escape(),
            _ => return Err(self.wrong()),
        })
    }

    fn unicode_escape(&mut self) -> Result<char, JsonError> {
        let first = self.hex4()?;
        if (0xd800..0xdc00).contains(&first) && self.bytes[self.at..].starts_with(b"\\u") {
            let start = self.at;
            self.at += 2;
            let second = self.hex4()?;
            if (0xdc00..0xe000).contains(&second) {
                let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = start;
        }
        Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex4(&mut self) -> Result<u32, JsonError> {
        let digits = self
            .bytes
            .get(self.at..self.at + 4)
            .ok_or_else(|| self.wrong())?;
        let mut code = 0;
        for &byte in digits {
            let digit = char::from(byte).to_digit(16).ok_or_else(|| self.wrong())?;
            code = code * 16 + digit;
        }
        self.at += 4;
        Ok(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_read_as_python_reads_it() {
        let check = |text: &str, expected: Option<&str>| {
            let read = Value::parse(text).ok().map(|value| value.repr());
            assert_eq!(read.as_deref(), expected, "{text:?}");
        };
        check(
            " {\"a\" : [1, -0, 2.50, 1E5, true, null]} ",
            Some("{'a': [1, 0, 2.5, 100000.0, True, None]}"),
        );
        check("[NaN,Infinity,-Infinity]", Some("[nan, inf, -inf]"));
        check("12345678901234567890123", Some("12345678901234567890123"));
        check("{\"p\":1,\"p\":2}", Some("{'p': 2}"));
        check(r#""\u00e9\ud83d\ude00\n""#, Some("'é😀\\n'"));
        check(r#""\ud83dx\udc00""#, Some("'\u{fffd}x\u{fffd}'"));
        check("{'p':1}", None);
        check("{\"p\":1,}", None);
        check("[1,2", None);
        check("01", None);
        check("-", None);
        check("1.", None);
        check(" ", None);
        check("\u{feff}{}", None);
        check("\"a\nb\"", None);
        check("{} x", None);
        check("nul", None);
        check(r#""\u12""#, None);
    }

    #[test]
    fn plain_text_ends_at_the_first_byte_that_is_none() {
        let plain = |byte: &u8| !matches!(byte, b'"' | b'\\' | ..0x20);
        for length in 0..20 {
            for at in 0..length {
                for byte in 0..=255_u8 {
                    let mut bytes = vec![b'a'; length];
                    bytes[at] = byte;
                    // Later bytes must not affect the result for earlier ones by a carry.
                    bytes.extend([0x20, 0x80, 0x1f, b'"']);
                    let expected = bytes.iter().position(|b| !plain(b));
                    assert_eq!(plain_bytes(&bytes), expected, "{bytes:?}");
                }
            }
        }
        assert_eq!(plain_bytes(b"no end at all"), None);
    }

    #[test]
    fn nesting_stops_at_the_limit() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(Value::parse(&nested(DEPTH_MAX)).is_ok());
        assert_eq!(Value::parse(&nested(DEPTH_MAX + 1)), Err(JsonError::Depth));
        assert_eq!(Value::parse(&"[".repeat(1_000_000)), Err(JsonError::Depth));
    }
}
