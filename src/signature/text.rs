//! Text as Python treats it: white space, decimal digits, `int()`.
//!
//! siggen is written in Python, and a signature is a grouping key, so one more or one less space would make a
//! different group. Rust differs in corner cases (`char::is_whitespace` lacks U+001C..U+001F), so the
//! relevant functions are written out here.

use std::borrow::Cow;

/// Limit of digits that Python's `int()` accepts in base 10.
const INT_DIGITS_MAX: usize = 4300;

/// The zeros of Unicode 14's decimal digits. Each is followed by its digits one to nine.
const DECIMAL_ZEROS: [u32; 66] = [
    0x30, 0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66,
    0xde6, 0xe50, 0xed0, 0xf20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90,
    0x1b50, 0x1bb0, 0x1c40, 0x1c50, 0xa620, 0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10,
    0x104a0, 0x10d30, 0x11066, 0x110f0, 0x11136, 0x111d0, 0x112f0, 0x11450, 0x114d0, 0x11650,
    0x116c0, 0x11730, 0x118e0, 0x11950, 0x11c50, 0x11d50, 0x11da0, 0x16a60, 0x16ac0, 0x16b50,
    0x1d7ce, 0x1d7d8, 0x1d7e2, 0x1d7ec, 0x1d7f6, 0x1e140, 0x1e2f0, 0x1e950, 0x1fbf0,
];

/// Whether Python's `str.isspace` is true for the character.
pub(super) fn is_space(c: char) -> bool {
    matches!(c,
        '\t'..='\r' | '\x1c'..=' ' | '\u{85}' | '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}'
        | '\u{2028}' | '\u{2029}' | '\u{202f}' | '\u{205f}' | '\u{3000}')
}

/// Python's `str.strip()`.
pub(super) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// Python's `str.splitlines()`: it knows more line ends than Rust's `lines`, and removes all of them.
pub(super) fn split_lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some(at) = rest.find(is_line_end) else {
            return Some(std::mem::take(&mut rest));
        };
        let (line, tail) = rest.split_at(at);
        let end = if tail.starts_with("\r\n") {
            2
        } else {
            tail.chars().next().map_or(0, char::len_utf8)
        };
        rest = &tail[end..];
        Some(line)
    })
}

fn is_line_end(c: char) -> bool {
    matches!(c, '\n'..='\r' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// The first `count` characters (not bytes).
pub(super) fn first_chars(text: &str, count: usize) -> &str {
    match text.char_indices().nth(count) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}

/// The start of a text, at most `bytes_max` bytes.
pub(super) fn first_bytes(text: &str, bytes_max: usize) -> &str {
    if text.len() > bytes_max {
        &text[..text.floor_char_boundary(bytes_max)]
    } else {
        text
    }
}

/// The text with every run of white space replaced by one space.
pub(super) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if !is_space(c) {
            line.push(c);
        } else if !line.ends_with(' ') {
            line.push(' ');
        }
    }
    line
}

/// Whether the text has more than `count` characters.
pub(super) fn is_longer_than(text: &str, count: usize) -> bool {
    text.len() > count && first_chars(text, count).len() < text.len()
}

/// The value of a decimal digit of any script, as in Python's `\d`.
pub(super) fn decimal_digit(c: char) -> Option<u32> {
    if c.is_ascii() {
        return c.to_digit(10);
    }
    let after = DECIMAL_ZEROS.partition_point(|&zero| zero <= u32::from(c));
    let value = u32::from(c) - DECIMAL_ZEROS[after.checked_sub(1)?];
    (value < 10).then_some(value)
}

/// The result of Python's `int(text, radix)`.
#[derive(Debug, PartialEq)]
pub(super) struct Digits {
    pub(crate) negative: bool,
    /// Lower-case digits without leading zeros, never empty.
    pub(crate) digits: String,
}

/// Python's `int(text, radix)` for radix 10 and 16: white space around, one sign, `0x` before base 16, single
/// underscores between digits, digits of any script. `None` is its `ValueError`.
pub(super) fn parse_int(text: &str, radix: u32) -> Option<Digits> {
    let text: Cow<str> = if text.is_ascii() {
        Cow::Borrowed(text)
    } else {
        // Unusual spaces and digits only occur in a text with non-ASCII characters.
        let ascii = |c: char| match c {
            c if c < '\x7f' => c,
            c if is_space(c) => ' ',
            c => decimal_digit(c)
                .and_then(|d| char::from_digit(d, 10))
                .unwrap_or('?'),
        };
        Cow::Owned(text.chars().map(ascii).collect())
    };
    let text = text.trim_matches(|c| matches!(c, '\t'..='\r' | ' '));
    let (negative, text) = match text.strip_prefix(['+', '-']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    let prefixed = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let body = match prefixed {
        Some(rest) if radix == 16 => rest.strip_prefix('_').unwrap_or(rest),
        _ => text,
    };
    let mut digits = String::with_capacity(body.len());
    let mut after_digit = false;
    let mut count = 0;
    for c in body.chars() {
        if c == '_' && after_digit {
            after_digit = false;
            continue;
        }
        let digit = c.to_digit(radix)?;
        after_digit = true;
        count += 1;
        if digit != 0 || !digits.is_empty() {
            digits.push(c.to_ascii_lowercase());
        }
    }
    if !after_digit || (radix == 10 && count > INT_DIGITS_MAX) {
        return None;
    }
    if digits.is_empty() {
        digits.push('0');
    }
    Some(Digits {
        negative: negative && digits != "0",
        digits,
    })
}

/// An address as `0x` and lower-case hex without leading zeros, if the text is an address.
pub(super) fn plain_hex(text: &str) -> Option<String> {
    let Digits { negative, digits } = parse_int(text, 16)?;
    Some(format!("{}0x{digits}", if negative { "-" } else { "" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_int_is_read_as_python_reads_it() {
        let check = |text: &str, radix, expected: Option<&str>| {
            let read = parse_int(text, radix)
                .map(|d| format!("{}{}", if d.negative { "-" } else { "" }, d.digits));
            assert_eq!(read.as_deref(), expected, "{text:?}");
        };
        check("\u{2003}1\u{ff12}", 10, Some("12"));
        check("\u{85}5", 10, Some("5"));
        check("5\u{85}0", 10, None);
        check("\x1c5", 10, None);
        check("1__0", 10, None);
        check("1_0", 10, Some("10"));
        check("00_7", 10, Some("7"));
        check("-0", 10, Some("0"));
        check("+-1", 10, None);
        check("", 10, None);
        check("0x10", 10, None);
        check("0x_1", 16, Some("1"));
        check("0_x1", 16, None);
        check("_1", 16, None);
        check("1_", 16, None);
        check("0x", 16, None);
        check("- 1", 16, None);
        check("0x 1", 16, None);
        check("0b1", 16, Some("b1"));
        check(" -0XABC\n", 16, Some("-abc"));
        check(&"1".repeat(4300), 10, Some(&"1".repeat(4300)));
        check(&"1".repeat(4301), 10, None);
    }

    #[test]
    fn lines_end_where_python_ends_them() {
        let check = |text: &str, expected: &[&str]| {
            assert_eq!(split_lines(text).collect::<Vec<_>>(), expected, "{text:?}");
        };
        check("", &[]);
        check("\n", &[""]);
        check("a\r\nb\rc\n", &["a", "b", "c"]);
        check("a\x1cb\u{85}c\u{2028}\x0bd", &["a", "b", "c", "", "d"]);
        check("a\x1fb", &["a\x1fb"]);
    }

    #[test]
    fn length_counts_characters() {
        assert!(!is_longer_than("éé", 2));
        assert!(is_longer_than("ééx", 2));
        assert_eq!(first_chars("éab", 2), "éa");
    }
}
