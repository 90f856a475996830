//! Reads JSON as Python's `json` module does, without copying text that needs no unescaping.
//!
//! Not serde's reader, as it differs where signatures can see it: Python takes `NaN`, `Infinity`
//! and integers of any size, and a lone surrogate escape (here U+FFFD, which is what is left of
//! it once printed). Raw control characters in strings are errors in both.

use std::borrow::Cow;

use super::value::Value;

/// The deepest nesting of lists and objects that is read; Python's own limit is about as high.
const DEPTH_MAX: usize = 500;
/// The longest integer, in digits; Python's limit since 3.11.
const INT_DIGITS_MAX: usize = 4300;

/// The bytes that end a run of plain text within a string.
const ENDS_PLAIN: [bool; 256] = {
    let mut ends = [false; 256];
    let mut control = 0;
    while control < 0x20 {
        ends[control] = true;
        control += 1;
    }
    ends[b'"' as usize] = true;
    ends[b'\\' as usize] = true;
    ends
};

/// Why a text is not JSON.
#[derive(Clone, Debug, PartialEq)]
pub enum JsonError {
    /// It breaks the grammar at this byte.
    Syntax { at: usize },
    /// It nests deeper than this reader goes.
    Depth,
}

impl std::fmt::Display for JsonError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            JsonError::Syntax { at } => write!(f, "not JSON at byte {at}"),
            JsonError::Depth => write!(f, "JSON nests deeper than {DEPTH_MAX} levels"),
        }
    }
}

impl std::error::Error for JsonError {}

impl<'a> Value<'a> {
    /// Reads one JSON text; white space around it is allowed.
    pub fn parse(text: &'a str) -> Result<Value<'a>, JsonError> {
        let mut reader = Reader {
            text,
            bytes: text.as_bytes(),
            at: 0,
        };
        let value = reader.value(0)?;
        reader.skip_space();
        if reader.at < text.len() {
            Err(reader.wrong())
        } else {
            Ok(value)
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
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

    fn value(&mut self, depth: usize) -> Result<Value<'a>, JsonError> {
        self.skip_space();
        match self.peek() {
            Some(b'"') => Ok(Value::Text(self.string()?)),
            Some(b'{') => self.object(depth + 1),
            Some(b'[') => self.list(depth + 1),
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

    fn object(&mut self, depth: usize) -> Result<Value<'a>, JsonError> {
        if depth > DEPTH_MAX {
            return Err(JsonError::Depth);
        }
        self.at += 1;
        self.skip_space();
        let mut entries = Vec::new();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Object(entries));
        }
        loop {
            self.skip_space();
            if self.peek() != Some(b'"') {
                return Err(self.wrong());
            }
            let key = self.string()?;
            self.skip_space();
            self.expect(b':')?;
            entries.push((key, self.value(depth)?));
            self.skip_space();
            if self.peek() == Some(b'}') {
                self.at += 1;
                return Ok(Value::Object(entries));
            }
            self.expect(b',')?;
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value<'a>, JsonError> {
        if depth > DEPTH_MAX {
            return Err(JsonError::Depth);
        }
        self.at += 1;
        self.skip_space();
        let mut items = Vec::new();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::List(items));
        }
        loop {
            items.push(self.value(depth)?);
            self.skip_space();
            if self.peek() == Some(b']') {
                self.at += 1;
                return Ok(Value::List(items));
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
            let rest = &self.bytes[start..];
            let Some(end) = rest.iter().position(|&b| ENDS_PLAIN[usize::from(b)]) else {
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
    fn nesting_stops_at_the_limit() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(Value::parse(&nested(DEPTH_MAX)).is_ok());
        assert_eq!(Value::parse(&nested(DEPTH_MAX + 1)), Err(JsonError::Depth));
        assert_eq!(Value::parse(&"[".repeat(1_000_000)), Err(JsonError::Depth));
    }
}
