//! The crash id: our own id, and the only name of a crash that is visible outside.
//!
//! It is a UUID v4 whose last seven characters are overwritten: one throttle digit (0 accepted, 1 deferred)
//! and the UTC date of receipt as YYMMDD. Source: the Mozilla collector protocol.
//!
//! ```text
//! de1bb258-cbbf-4589-a673-34f800160918
//!                              ^^^^^^^  0 = accepted, on 2016-09-18
//! ```

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// The throttle's decision about a crash that was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kept {
    Accepted,
    Deferred,
}

/// 128 bits, printed as a lower-case UUID. Parsed with and without the prefix `bp-`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CrashId(u128);

impl CrashId {
    /// `random` provides the first 25 digits, except the version and variant bits, which are those of UUID
    /// v4.
    pub fn new(random: u128, kept: Kept, received_at: Timestamp) -> Self {
        let day = received_at.utc();
        let decimal = [
            (day.year().rem_euclid(100) / 10) as u128,
            (day.year().rem_euclid(100) % 10) as u128,
            u128::from(u8::from(day.month()) / 10),
            u128::from(u8::from(day.month()) % 10),
            u128::from(day.day() / 10),
            u128::from(day.day() % 10),
        ];
        let digit = match kept {
            Kept::Accepted => 0,
            Kept::Deferred => 1,
        };
        let tail = decimal.iter().fold(digit, |bits, d| bits << 4 | d);
        let uuid = uuid::Builder::from_random_bytes(random.to_be_bytes())
            .into_uuid()
            .as_u128();
        Self(uuid >> 28 << 28 | tail)
    }

    pub fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    pub fn bits(self) -> u128 {
        self.0
    }
}

impl fmt::Display for CrashId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_u128(self.0).hyphenated().fmt(f)
    }
}

impl fmt::Debug for CrashId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a crash id.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a crash id: expected 36 characters like 5c3f1b52-9a0e-4d1f-8a77-2f10c0261122")]
pub struct BadCrashId;

impl FromStr for CrashId {
    type Err = BadCrashId;

    fn from_str(text: &str) -> Result<Self, BadCrashId> {
        let text = text.trim();
        let text = text.strip_prefix("bp-").unwrap_or(text);
        // Clients of Sentry write ids without hyphens. No client uses the other forms of the uuid crate.
        let has_hyphens = text.len() == 36;
        let digits_from = text.len().wrapping_sub(6);
        let shape_ok = matches!(text.len(), 32 | 36)
            && text.bytes().enumerate().all(|(at, b)| match at {
                8 | 13 | 18 | 23 if has_hyphens => b == b'-',
                at if at >= digits_from => b.is_ascii_digit(),
                _ => b.is_ascii_hexdigit(),
            });
        if !shape_ok {
            return Err(BadCrashId);
        }
        uuid::Uuid::parse_str(text)
            .map(|u| Self(u.as_u128()))
            .map_err(|_| BadCrashId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_ends_in_the_throttle_digit_and_the_day() {
        let day = Timestamp::from_ms(1_795_338_764_123);
        assert!(
            CrashId::new(u128::MAX, Kept::Accepted, day)
                .to_string()
                .ends_with("0261122")
        );
        assert!(
            CrashId::new(0, Kept::Deferred, day)
                .to_string()
                .ends_with("1261122")
        );
        assert_eq!(
            &CrashId::new(0, Kept::Accepted, day).to_string()[14..15],
            "4"
        );
    }

    #[test]
    fn an_id_is_read_with_and_without_its_prefix() {
        let id = CrashId::new(7, Kept::Accepted, Timestamp::from_ms(0));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(format!("bp-{id}").parse(), Ok(id));
        assert_eq!(id.to_string().to_uppercase().parse(), Ok(id));
        assert_eq!(id.to_string().replace('-', "").parse(), Ok(id));
    }

    #[test]
    fn other_texts_are_no_ids() {
        for text in [
            "",
            "bp-",
            "de1bb258cbbf4589a67334f8001609ff",
            "de1bb258-cbbf4589a67334f800160918",
            "de1bb258-cbbf-4589-a673-34f80016091x",
            "de1bb258-cbbf-4589-a673-34f8001609ff",
            "{de1bb258-cbbf-4589-a673-34f800160918}",
            "../../../../../../../../etc/passwd00",
        ] {
            assert_eq!(text.parse::<CrashId>(), Err(BadCrashId), "{text}");
        }
    }
}
