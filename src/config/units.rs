//! Values with a unit: sizes, durations, days.

use std::fmt;
use std::time::Duration;

use toml::de::DeValue;

use super::value::{Value, integer};

/// A number of bytes, written as a number or with a unit: `"100 MiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub(crate) u64);

const SIZE_UNITS: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) = SIZE_UNITS
            .into_iter()
            .find(|(_, n)| self.0 >= *n && self.0.is_multiple_of(*n))
            .unwrap_or(("B", 1));
        write!(f, "{} {unit}", self.0 / factor)
    }
}

impl Value for Size {
    const FORM: &'static str =
        "a size such as \"100 MiB\", \"512 KiB\" or a number of bytes, at least 1";

    fn read(value: &DeValue) -> Option<Self> {
        match value {
            DeValue::String(text) => quantity(text, &SIZE_UNITS).map(Size),
            DeValue::Integer(n) => integer(n).filter(|n| *n > 0).map(Size),
            _ => None,
        }
    }

    fn print(&self) -> String {
        format!("\"{self}\"")
    }
}

/// A length of time, written with a unit: `"60 s"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub(crate) Duration);

const SPAN_UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1)];

impl Value for Span {
    const FORM: &'static str = "a time such as \"60 s\", \"2 min\" or \"500 ms\", at least 1 ms";

    fn read(value: &DeValue) -> Option<Self> {
        quantity(value.as_str()?, &SPAN_UNITS).map(|ms| Span(Duration::from_millis(ms)))
    }

    fn print(&self) -> String {
        let ms = self.0.as_millis() as u64;
        let (unit, factor) = SPAN_UNITS
            .into_iter()
            .find(|(_, n)| ms >= *n && ms.is_multiple_of(*n))
            .unwrap_or(("ms", 1));
        format!("\"{} {unit}\"", ms / factor)
    }
}

/// A number of days, 1 or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Days(pub(crate) u32);

impl Value for Days {
    const FORM: &'static str = "a whole number of days, 1 to 36500";

    fn read(value: &DeValue) -> Option<Self> {
        u32::read(value)
            .filter(|days| (1..=36_500).contains(days))
            .map(Days)
    }

    fn print(&self) -> String {
        self.0.to_string()
    }
}

/// A number and a unit, such as `60 s`.
fn quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = units.iter().find(|(name, _)| *name == unit.trim())?.1;
    number
        .parse::<u64>()
        .ok()?
        .checked_mul(factor)
        .filter(|n| *n > 0)
}
