//! Time as an argument: no module below the composition root asks the operating system for the time.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A point in time in UTC, in milliseconds since 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp(pub(crate) i64);

impl Timestamp {
    pub const fn from_ms(ms: i64) -> Self {
        Self(ms)
    }

    pub const fn ms(self) -> i64 {
        self.0
    }

    /// Milliseconds from `earlier` to `self`; 0 if the clock was set back in between.
    pub fn ms_since(self, earlier: Timestamp) -> i64 {
        self.0.saturating_sub(earlier.0).max(0)
    }

    pub fn day(self) -> Day {
        Day(u32::try_from(self.0.div_euclid(DAY_MS)).unwrap_or(0))
    }

    /// The calendar form. A time outside the years -9999 to 9999 is returned as 1970.
    pub(crate) fn utc(self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    /// `2026-11-22T09:12:44.123Z`, the form of the API.
    pub fn rfc3339(self) -> String {
        self.utc().format(&Rfc3339).unwrap_or_default()
    }

    /// Reads what [`Timestamp::rfc3339`] writes. Accepts any UTC offset.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        i64::try_from(moment.unix_timestamp_nanos() / 1_000_000)
            .ok()
            .map(Self)
    }
}

/// A day in UTC, as the number of days since 1970-01-01. Earlier days count as 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub u32);

pub const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

impl Day {
    /// The day in the form `2026-11-22`.
    pub fn text(self) -> String {
        self.start().rfc3339().chars().take(10).collect()
    }

    pub(crate) fn start(self) -> Timestamp {
        Timestamp(i64::from(self.0) * DAY_MS)
    }

    /// The day that is this many days earlier, but not before day 0.
    pub(crate) fn back(self, days: u32) -> Self {
        Self(self.0.saturating_sub(days))
    }
}

impl fmt::Display for Timestamp {
    /// `2026-11-22 09:12:44 UTC`, the form on pages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = self.utc();
        write!(
            f,
            "{:04}-{:02}-{:02} {:02}:{:02}:{:02} UTC",
            t.year(),
            u8::from(t.month()),
            t.day(),
            t.hour(),
            t.minute(),
            t.second()
        )
    }
}

/// The source of the current time.
pub trait Clock: Send + Sync {
    fn now(&self) -> Timestamp;
}

/// The operating system's clock.
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let ns = OffsetDateTime::now_utc().unix_timestamp_nanos();
        Timestamp(i64::try_from(ns / 1_000_000).unwrap_or(0))
    }
}

/// A clock that changes only when a test sets it.
pub struct ManualClock(AtomicI64);

impl ManualClock {
    pub fn at(now: Timestamp) -> Self {
        Self(AtomicI64::new(now.0))
    }

    pub fn set(&self, now: Timestamp) {
        self.0.store(now.0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_prints_for_people_and_for_programs() {
        let t = Timestamp::from_ms(1_795_338_764_123);
        assert_eq!(t.to_string(), "2026-11-22 09:12:44 UTC");
        assert_eq!(t.rfc3339(), "2026-11-22T09:12:44.123Z");
        assert_eq!(Timestamp::parse_rfc3339(&t.rfc3339()), Some(t));
    }

    #[test]
    fn a_clock_set_back_never_gives_a_negative_age() {
        assert_eq!(Timestamp(5).ms_since(Timestamp(9)), 0);
    }

    #[test]
    fn a_day_holds_its_first_moment_and_not_the_next_one_s() {
        let day = Timestamp::from_ms(1_795_338_764_123).day();
        assert_eq!(day.start().rfc3339(), "2026-11-22T00:00:00Z");
        assert_eq!(Timestamp(day.start().ms() - 1).day(), day.back(1));
        assert_eq!((Timestamp(-5).day(), Day(3).back(9)), (Day(0), Day(0)));
    }

    #[test]
    fn moments_outside_the_calendar_do_not_panic() {
        assert_eq!(Timestamp(i64::MAX).utc(), OffsetDateTime::UNIX_EPOCH);
    }
}
