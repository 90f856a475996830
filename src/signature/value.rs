//! A JSON value with the behaviour of Python: truth, `str()`, `int()`, `in`.
//!
//! Crash data comes from many clients and old versions: a line number may be a string, a size may be a
//! boolean. siggen leaves the meaning to Python, so we must give the same results. [`Value`] borrows its text
//! from the line from which it was read. A server fills it with `into()`.

use std::borrow::Cow;
use std::collections::HashMap;

use super::text;

/// One value of crash data. `Null` also represents an absent key.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Value<'a> {
    #[default]
    Null,
    Bool(bool),
    Int(i64),
    /// An integer outside the range of `i64`: its digits, with `-` if negative.
    BigInt(Cow<'a, str>),
    Float(f64),
    Text(Cow<'a, str>),
    List(Vec<Value<'a>>),
    /// Entries in reading order. If a key occurs twice, the last value counts, at the position of the first.
    Object(Vec<(Cow<'a, str>, Value<'a>)>),
}

/// Why a rule could not be applied: the text of the exception that Python would raise.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fault(pub(crate) Cow<'static, str>);

impl Fault {
    pub(super) fn new(text: impl Into<Cow<'static, str>>) -> Self {
        Fault(text.into())
    }
}

/// The result of Python's `int()`.
pub(super) struct Integer {
    /// Clamped to the range of `i64`.
    pub(crate) value: i64,
    pub(crate) digits: String,
}

/// Why Python's `int()` refuses a value.
pub(super) enum NotInteger {
    /// `TypeError`: not a number or a string at all.
    Type,
    /// `ValueError` or `OverflowError`.
    Value(Fault),
}

impl<'a> Value<'a> {
    /// Python's `bool()`: false for null, false, 0, "", [] and {}.
    pub(super) fn is_truthy(&self) -> bool {
        match self {
            Value::Null => false,
            Value::Bool(value) => *value,
            Value::Int(value) => *value != 0,
            Value::BigInt(_) => true,
            Value::Float(value) => *value != 0.0,
            Value::Text(text) => !text.is_empty(),
            Value::List(items) => !items.is_empty(),
            Value::Object(entries) => !entries.is_empty(),
        }
    }

    pub(super) fn is_text(&self, expected: &str) -> bool {
        matches!(self, Value::Text(text) if text == expected)
    }

    /// The text if there is one, `None` for a falsy value, otherwise the fault of using `attribute`.
    pub(super) fn text(&self, attribute: &str) -> Result<Option<&str>, Fault> {
        match self {
            Value::Text(text) if !text.is_empty() => Ok(Some(text)),
            value if value.is_truthy() => Err(value.no_attribute(attribute)),
            _ => Ok(None),
        }
    }

    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Value::Null => "NoneType",
            Value::Bool(_) => "bool",
            Value::Int(_) | Value::BigInt(_) => "int",
            Value::Float(_) => "float",
            Value::Text(_) => "str",
            Value::List(_) => "list",
            Value::Object(_) => "dict",
        }
    }

    pub(super) fn no_attribute(&self, attribute: &str) -> Fault {
        Fault::new(format!(
            "'{}' object has no attribute '{attribute}'",
            self.type_name()
        ))
    }

    pub(super) fn not_iterable(&self) -> Fault {
        Fault::new(format!("'{}' object is not iterable", self.type_name()))
    }

    /// The value of a key of an object.
    pub(super) fn get(&self, key: &str) -> Option<&Value<'a>> {
        let Value::Object(entries) = self else {
            return None;
        };
        entries
            .iter()
            .rev()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value)
    }

    /// The entries of an object, each key once. The time is linear in their number.
    pub(super) fn entries(&self) -> Vec<(&str, &Value<'a>)> {
        let Value::Object(entries) = self else {
            return Vec::new();
        };
        let mut places: HashMap<&str, usize> = HashMap::with_capacity(entries.len());
        let mut unique: Vec<(&str, &Value)> = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let place = *places.entry(key).or_insert(unique.len());
            match unique.get_mut(place) {
                Some(entry) => entry.1 = value,
                None => unique.push((key, value)),
            }
        }
        unique
    }

    /// Python's `needle in value`. A falsy value contains nothing.
    pub(super) fn holds(&self, needle: &str) -> Result<bool, Fault> {
        match self {
            Value::Text(text) => Ok(text.contains(needle)),
            Value::List(items) => Ok(items.iter().any(|item| item.is_text(needle))),
            Value::Object(entries) => Ok(entries.iter().any(|(key, _)| key == needle)),
            value if value.is_truthy() => {
                let name = value.type_name();
                Err(Fault::new(format!(
                    "argument of type '{name}' is not iterable"
                )))
            }
            _ => Ok(false),
        }
    }

    /// Python's `int()`.
    pub(super) fn int(&self) -> Result<Integer, NotInteger> {
        let integer = |digits: &str| {
            let limit = if digits.starts_with('-') {
                i64::MIN
            } else {
                i64::MAX
            };
            Integer {
                value: digits.parse().unwrap_or(limit),
                digits: digits.to_string(),
            }
        };
        match self {
            Value::Bool(value) => Ok(integer(if *value { "1" } else { "0" })),
            Value::Int(value) => Ok(Integer {
                value: *value,
                digits: value.to_string(),
            }),
            Value::BigInt(digits) => Ok(integer(digits)),
            Value::Float(value) if value.is_finite() => {
                // Adding zero turns a negative zero into zero.
                Ok(integer(&format!("{:.0}", value.trunc() + 0.0)))
            }
            Value::Float(value) if value.is_nan() => Err(NotInteger::Value(Fault::new(
                "cannot convert float NaN to integer",
            ))),
            Value::Float(_) => Err(NotInteger::Value(Fault::new(
                "cannot convert float infinity to integer",
            ))),
            Value::Text(text) => match text::parse_int(text, 10) {
                Some(read) => Ok(integer(&format!(
                    "{}{}",
                    if read.negative { "-" } else { "" },
                    read.digits
                ))),
                None => Err(NotInteger::Value(Fault::new(format!(
                    "invalid literal for int() with base 10: {}",
                    self.repr()
                )))),
            },
            Value::Null | Value::List(_) | Value::Object(_) => Err(NotInteger::Type),
        }
    }

    /// Python's `str()`.
    pub(super) fn str(&self) -> Cow<'_, str> {
        match self {
            Value::Text(text) => Cow::Borrowed(text),
            value => Cow::Owned(value.repr()),
        }
    }

    /// Python's `repr()`.
    pub(super) fn repr(&self) -> String {
        let mut out = String::new();
        self.write_repr(&mut out);
        out
    }

    // The JSON reader limits the depth, so recursion is limited.
    fn write_repr(&self, out: &mut String) {
        match self {
            Value::Null => out.push_str("None"),
            Value::Bool(true) => out.push_str("True"),
            Value::Bool(false) => out.push_str("False"),
            Value::Int(value) => out.push_str(&value.to_string()),
            Value::BigInt(digits) => out.push_str(digits),
            Value::Float(value) => out.push_str(&float_repr(*value)),
            Value::Text(text) => write_text_repr(text, out),
            Value::List(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push_str(", ");
                    }
                    item.write_repr(out);
                }
                out.push(']');
            }
            Value::Object(_) => {
                out.push('{');
                for (index, (key, value)) in self.entries().into_iter().enumerate() {
                    if index > 0 {
                        out.push_str(", ");
                    }
                    write_text_repr(key, out);
                    out.push_str(": ");
                    value.write_repr(out);
                }
                out.push('}');
            }
        }
    }
}

/// Python's `repr` of a float: the shortest digits, with an exponent below 1e-4 and from 1e16 on.
fn float_repr(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_string();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_string();
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    let plain = format!("{value}");
    if plain.contains('.') {
        plain
    } else {
        plain + ".0"
    }
}

fn write_text_repr(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c if is_printable(c) => out.push(c),
            c => {
                let code = u32::from(c);
                let escape = match code {
                    0..=0xff => format!("\\x{code:02x}"),
                    0x100..=0xffff => format!("\\u{code:04x}"),
                    _ => format!("\\U{code:08x}"),
                };
                out.push_str(&escape);
            }
        }
    }
    out.push(quote);
}

/// Python's `str.isprintable`, for the characters that occur. Controls, format characters and spaces other
/// than the plain one are not printable. Unassigned code points count as printable.
fn is_printable(c: char) -> bool {
    let is_format = matches!(c,
        '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{180e}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{e000}'..='\u{f8ff}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e0fff}' | '\u{f0000}'..='\u{10ffff}');
    c == ' ' || !(c.is_control() || text::is_space(c) || is_format)
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Value::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Value::Text(Cow::Owned(text))
    }
}

impl<'a> From<Cow<'a, str>> for Value<'a> {
    fn from(text: Cow<'a, str>) -> Self {
        Value::Text(text)
    }
}

impl From<i64> for Value<'_> {
    fn from(value: i64) -> Self {
        Value::Int(value)
    }
}

impl From<u32> for Value<'_> {
    fn from(value: u32) -> Self {
        Value::Int(value.into())
    }
}

impl From<u64> for Value<'_> {
    fn from(value: u64) -> Self {
        match i64::try_from(value) {
            Ok(value) => Value::Int(value),
            Err(_) => Value::BigInt(Cow::Owned(value.to_string())),
        }
    }
}

impl<'a, T: Into<Value<'a>>> From<Option<T>> for Value<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

impl<'a> From<&'a serde_json::Value> for Value<'a> {
    fn from(value: &'a serde_json::Value) -> Self {
        match value {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(value) => Value::Bool(*value),
            serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(value), _) => Value::Int(value),
                (None, Some(value)) => value.into(),
                (None, None) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            serde_json::Value::String(text) => text.as_str().into(),
            serde_json::Value::Array(items) => Value::List(items.iter().map(Into::into).collect()),
            serde_json::Value::Object(entries) => Value::Object(
                entries
                    .iter()
                    .map(|(key, value)| (key.as_str().into(), value.into()))
                    .collect(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_float_prints_as_in_python() {
        let check = |value: f64, expected: &str| assert_eq!(float_repr(value), expected);
        check(1.0, "1.0");
        check(-0.0, "-0.0");
        check(1e5, "100000.0");
        check(1e15, "1000000000000000.0");
        check(1e16, "1e+16");
        check(1.5e21, "1.5e+21");
        check(1e-4, "0.0001");
        check(1e-5, "1e-05");
        check(1e100, "1e+100");
        check(123456.789, "123456.789");
        check(f64::NEG_INFINITY, "-inf");
    }

    #[test]
    fn a_text_is_quoted_as_in_python() {
        let check = |text: &str, expected: &str| assert_eq!(Value::from(text).repr(), expected);
        check("a", "'a'");
        check("it's", "\"it's\"");
        check("it's \"x\"", "'it\\'s \"x\"'");
        check("\x00\x7f\u{a0}é\u{2028}", "'\\x00\\x7f\\xa0é\\u2028'");
    }

    #[test]
    fn of_equal_keys_the_last_counts_in_the_place_of_the_first() {
        let value = Value::Object(vec![
            ("a".into(), 1i64.into()),
            ("b".into(), 2i64.into()),
            ("a".into(), 3i64.into()),
        ]);
        assert_eq!(value.repr(), "{'a': 3, 'b': 2}");
        assert_eq!(value.get("a"), Some(&Value::Int(3)));
    }
}
