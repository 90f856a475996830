//! Parses one line of a Breakpad symbol file, exactly as breakpad-symbols 0.27 does.
//!
//! We accept and refuse the same lines, because a dump must not walk differently here and in
//! `minidump-stackwalk`. So fields are separated by one or more spaces or tabs, but nothing may follow a
//! number at the end of a line. A 32-bit number has at most 8 hex digits. Words after the last field are part
//! of it. A line may end with any number of carriage returns, but must not contain any elsewhere.

use super::layout::{Inline, Line, Public, Win};

/// A record of one line, or the first line of a longer record.
pub(in crate::symbols) enum Record<'a> {
    Module {
        debug_id: &'a str,
    },
    Url(&'a str),
    /// A known record that a walk does not use.
    Nothing,
    File(u32, &'a str),
    Origin(u32, &'a str),
    Public(Public, &'a str),
    Function {
        address: u64,
        size: u32,
        parameter_size: u32,
        name: &'a str,
    },
    FrameData(Win, &'a str),
    Fpo(Win, &'a str),
    CfiInit {
        address: u64,
        size: u32,
        rules: &'a str,
    },
}

/// A line below a FUNC.
pub(in crate::symbols) enum BelowFunction<'a> {
    Line(Line),
    Origin(u32, &'a str),
    /// An INLINE. Its ranges were passed to the callback.
    Inlines,
}

/// Parses a line without its line end. Returns `None` if it is not a record.
pub(in crate::symbols) fn record(line: &[u8]) -> Option<Record<'_>> {
    let fields = Fields(line);
    match line.first()? {
        b'I' if line.starts_with(b"INLINE_ORIGIN") => {
            let (id, name) = numbered(fields, b"INLINE_ORIGIN")?;
            Some(Record::Origin(id, name))
        }
        b'I' => info(fields),
        b'F' if line.starts_with(b"FILE") => {
            let (id, name) = numbered(fields, b"FILE")?;
            Some(Record::File(id, name))
        }
        b'F' => function(fields),
        b'P' => public(fields),
        b'S' if line.starts_with(b"STACK WIN") => stack_win(fields),
        b'S' => cfi_init(fields),
        b'M' => module(fields),
        _ => None,
    }
}

/// Parses a line below a FUNC; `None` ends the function. Ranges of an INLINE go to `inline`.
pub(in crate::symbols) fn below_function<'a>(
    line: &'a [u8],
    mut inline: impl FnMut(Inline),
) -> Option<BelowFunction<'a>> {
    let mut fields = Fields(line);
    if line.starts_with(b"INLINE_ORIGIN ") {
        let (id, name) = numbered(fields, b"INLINE_ORIGIN")?;
        return Some(BelowFunction::Origin(id, name));
    }
    if line.starts_with(b"INLINE ") {
        fields.tag(b"INLINE")?;
        let [depth, call_line, call_file, origin] = [
            fields.spaced(Fields::decimal)?,
            fields.spaced(Fields::decimal)?,
            fields.spaced(Fields::decimal)?,
            fields.spaced(Fields::decimal)?,
        ];
        loop {
            inline(Inline {
                depth,
                address: fields.spaced(Fields::hex64)?,
                size: fields.spaced(Fields::hex32)?,
                call_file,
                call_line,
                origin,
            });
            if fields.0.is_empty() {
                return Some(BelowFunction::Inlines);
            }
        }
    }
    let address = fields.hex64()?;
    let size = fields.spaced(Fields::hex32)?;
    let line = fields.spaced(Fields::decimal)?;
    let file = fields.spaced(Fields::decimal)?;
    fields.0.is_empty().then_some(BelowFunction::Line(Line {
        address,
        size,
        line,
        file,
    }))
}

/// Parses a STACK CFI below its INIT: address and rules; `None` ends the INIT.
pub(in crate::symbols) fn below_cfi(line: &[u8]) -> Option<(u64, &str)> {
    let mut fields = Fields(line);
    fields.tag(b"STACK CFI")?;
    Some((fields.spaced(Fields::hex64)?, fields.rest()?))
}

fn numbered<'a>(mut fields: Fields<'a>, tag: &[u8]) -> Option<(u32, &'a str)> {
    fields.tag(tag)?;
    Some((fields.spaced(Fields::decimal)?, fields.rest()?))
}

fn info(fields: Fields<'_>) -> Option<Record<'_>> {
    let mut url = fields;
    if url.tag(b"INFO URL").is_some() && url.space().is_some() {
        return url.text().map(Record::Url);
    }
    let mut info = fields;
    info.tag(b"INFO")?;
    info.space()?;
    // Any bytes are accepted, in any encoding, because nothing reads them.
    (!info.0.contains(&b'\r')).then_some(Record::Nothing)
}

fn module(mut fields: Fields<'_>) -> Option<Record<'_>> {
    fields.tag(b"MODULE")?;
    fields.spaced(Fields::word)?;
    fields.spaced(Fields::word)?;
    fields.space()?;
    let digits = fields.0.iter().take_while(|b| b.is_ascii_hexdigit());
    let debug_id = std::str::from_utf8(fields.take(digits.count())).ok()?;
    fields.rest()?;
    (!debug_id.is_empty()).then_some(Record::Module { debug_id })
}

fn public(mut fields: Fields<'_>) -> Option<Record<'_>> {
    fields.tag(b"PUBLIC")?;
    fields.skip_multiple();
    let address = fields.spaced(Fields::hex64)?;
    let parameter_size = fields.spaced(Fields::hex32)?;
    let public = Public {
        address,
        parameter_size,
        name: 0,
    };
    Some(Record::Public(public, fields.rest()?))
}

fn function(mut fields: Fields<'_>) -> Option<Record<'_>> {
    fields.tag(b"FUNC")?;
    fields.skip_multiple();
    Some(Record::Function {
        address: fields.spaced(Fields::hex64)?,
        size: fields.spaced(Fields::hex32)?,
        parameter_size: fields.spaced(Fields::hex32)?,
        name: fields.rest()?,
    })
}

fn cfi_init(mut fields: Fields<'_>) -> Option<Record<'_>> {
    fields.tag(b"STACK CFI INIT")?;
    Some(Record::CfiInit {
        address: fields.spaced(Fields::hex64)?,
        size: fields.spaced(Fields::hex32)?,
        rules: fields.rest()?,
    })
}

fn stack_win(mut fields: Fields<'_>) -> Option<Record<'_>> {
    fields.tag(b"STACK WIN")?;
    fields.space()?;
    let kind = *fields.take(1).first().filter(|b| b.is_ascii_hexdigit())?;
    let info = Win {
        address: fields.spaced(Fields::hex64)?,
        size: fields.spaced(Fields::hex32)?,
        prologue_size: fields.spaced(Fields::hex32)?,
        epilogue_size: fields.spaced(Fields::hex32)?,
        parameter_size: fields.spaced(Fields::hex32)?,
        saved_register_size: fields.spaced(Fields::hex32)?,
        local_size: fields.spaced(Fields::hex32)?,
        max_stack_size: fields.spaced(Fields::hex32)?,
        program: 0,
    };
    fields.space()?;
    let has_program = *fields.take(1).first().filter(|b| b.is_ascii_digit())?;
    let program = fields.rest()?;
    // In some files, a record claims to have a program although its type has none, or the opposite. We cannot
    // know which of the two is wrong, so the record is not used.
    Some(match (kind, has_program == b'1') {
        (b'4', true) => Record::FrameData(info, program),
        (b'0', false) => Record::Fpo(info, program),
        _ => Record::Nothing,
    })
}

/// The rest of a line.
#[derive(Clone, Copy)]
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn tag(&mut self, tag: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(tag)?;
        Some(())
    }

    /// One or more spaces or tabs.
    #[inline]
    fn space(&mut self) -> Option<()> {
        let spaces = self.0.iter().take_while(|b| matches!(b, b' ' | b'\t'));
        let count = spaces.count();
        self.take(count);
        (count > 0).then_some(())
    }

    /// Spaces, then a field.
    #[inline]
    fn spaced<T>(&mut self, field: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        self.space()?;
        field(self)
    }

    /// Skips the `m` of records that represent several symbols folded into one. The following space is left
    /// for the next field.
    fn skip_multiple(&mut self) {
        let mut ahead = *self;
        let has_mark = ahead.space().is_some() && ahead.tag(b"m").is_some();
        if has_mark && matches!(ahead.0.first(), Some(b' ' | b'\t')) {
            *self = ahead;
        }
    }

    #[inline]
    fn hex64(&mut self) -> Option<u64> {
        self.hex(16)
    }

    #[inline]
    fn hex32(&mut self) -> Option<u32> {
        self.hex(8).map(|value| value as u32)
    }

    #[inline]
    fn hex(&mut self, digits_max: usize) -> Option<u64> {
        let mut value = 0;
        let mut digits = 0;
        for byte in self.0.iter().take(digits_max) {
            let digit = HEX[usize::from(*byte)];
            if digit == NO_DIGIT {
                break;
            }
            value = value << 4 | u64::from(digit);
            digits += 1;
        }
        self.take(digits);
        (digits > 0).then_some(value)
    }

    #[inline]
    fn decimal(&mut self) -> Option<u32> {
        let mut value = 0;
        let mut digits = 0;
        for byte in self.0.iter().take(10).take_while(|b| b.is_ascii_digit()) {
            value = value * 10 + u64::from(byte - b'0');
            digits += 1;
        }
        self.take(digits);
        u32::try_from(value).ok().filter(|_| digits > 0)
    }

    fn word(&mut self) -> Option<&'a str> {
        let count = self.0.iter().take_while(|b| **b != b' ').count();
        std::str::from_utf8(self.take(count)).ok()
    }

    /// Spaces, then the rest of the line.
    fn rest(&mut self) -> Option<&'a str> {
        self.space()?;
        self.text()
    }

    fn text(&mut self) -> Option<&'a str> {
        let text = self.take(self.0.len());
        if memchr::memchr(b'\r', text).is_some() {
            return None;
        }
        std::str::from_utf8(text).ok()
    }
}

const NO_DIGIT: u8 = 0xff;

/// The value of a byte as a hex digit.
const HEX: [u8; 256] = {
    let mut table = [NO_DIGIT; 256];
    let mut digit = 0;
    while digit < 16 {
        table[b"0123456789abcdef"[digit] as usize] = digit as u8;
        table[b"0123456789ABCDEF"[digit] as usize] = digit as u8;
        digit += 1;
    }
    table
};
