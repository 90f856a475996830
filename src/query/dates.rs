//! Times and calendar intervals in queries.

use time::{Date, Duration, Month, OffsetDateTime, Time};

use crate::clock::Timestamp;

/// Reads `YYYY-MM-DD`, with an optional time (after `T` or a space; seconds and fractions are optional) and
/// an optional time zone. Without a time zone it is UTC.
pub(crate) fn parse_moment(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    let day = text.get(..10)?;
    let rest = &text[10..];
    if rest.is_empty() {
        return Timestamp::parse_rfc3339(&format!("{day}T00:00:00Z"));
    }
    let clock = rest.strip_prefix(['T', 't', ' '])?;
    // A `+` that was not escaped in the URL arrives as a space.
    let (clock, zone) = match clock.rfind(['Z', 'z', '+', '-', ' ']) {
        Some(at) => clock.split_at(at),
        None => (clock, "Z"),
    };
    let zone = match zone.len() {
        1 => "Z".to_owned(),
        // +0100
        5 => format!("{}:{}", zone.get(..3)?, zone.get(3..)?),
        _ => zone.to_owned(),
    };
    let seconds = if clock.len() == 5 { ":00" } else { "" };
    let zone = zone.replace(' ', "+");
    Timestamp::parse_rfc3339(&format!("{day}T{clock}{seconds}{zone}"))
}

/// A calendar interval of a histogram, in UTC. Weeks start on Monday.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interval {
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
}

impl Interval {
    pub(crate) const ALL: [Interval; 7] = [
        Self::Minute,
        Self::Hour,
        Self::Day,
        Self::Week,
        Self::Month,
        Self::Quarter,
        Self::Year,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Quarter => "quarter",
            Self::Year => "year",
        }
    }

    pub(crate) fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|i| i.name() == name)
    }

    /// The start of the interval that contains the moment.
    pub fn floor(self, moment: Timestamp) -> Timestamp {
        let ms = match self {
            Self::Minute => return floor_to(moment, 60_000),
            Self::Hour => return floor_to(moment, 3_600_000),
            Self::Day => return floor_to(moment, 86_400_000),
            Self::Week => {
                let date = moment.utc().date();
                let back = i64::from(date.weekday().number_days_from_monday());
                start_of(date.checked_sub(Duration::days(back)).unwrap_or(date))
            }
            Self::Month => first_of(moment, |month| month),
            Self::Quarter => first_of(moment, |month| (month - 1) / 3 * 3 + 1),
            Self::Year => first_of(moment, |_| 1),
        };
        Timestamp::from_ms(ms)
    }
}

fn floor_to(moment: Timestamp, step_ms: i64) -> Timestamp {
    Timestamp::from_ms(moment.ms().div_euclid(step_ms) * step_ms)
}

fn first_of(moment: Timestamp, month: impl Fn(u8) -> u8) -> i64 {
    let date = moment.utc().date();
    let month = Month::try_from(month(u8::from(date.month()))).unwrap_or(Month::January);
    start_of(Date::from_calendar_date(date.year(), month, 1).unwrap_or(date))
}

fn start_of(date: Date) -> i64 {
    OffsetDateTime::new_utc(date, Time::MIDNIGHT).unix_timestamp() * 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_in_the_forms_that_people_and_programs_write() {
        fn check(text: &str, expected: Option<&str>) {
            let found = parse_moment(text).map(Timestamp::rfc3339);
            assert_eq!(found.as_deref(), expected, "{text}");
        }
        check("2026-11-22", Some("2026-11-22T00:00:00Z"));
        check("2026-11-22T09:12", Some("2026-11-22T09:12:00Z"));
        check("2026-11-22 09:12:44", Some("2026-11-22T09:12:44Z"));
        check(
            "2026-11-22T09:12:44.123456",
            Some("2026-11-22T09:12:44.123Z"),
        );
        check("2026-11-22T09:12:44Z", Some("2026-11-22T09:12:44Z"));
        check("2026-11-22T09:12:44+01:00", Some("2026-11-22T08:12:44Z"));
        check("2026-11-22T09:12:44 01:00", Some("2026-11-22T08:12:44Z"));
        check("2026-11-22T09:12:44-0100", Some("2026-11-22T10:12:44Z"));
        for bad in [
            "",
            "yesterday",
            "2026-13-01",
            "2026-11-22T25:00",
            "2026-11-2é22",
            "20261122",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn intervals_begin_where_the_calendar_says() {
        let moment = parse_moment("2026-11-22T09:12:44").unwrap();
        let starts = Interval::ALL.map(|i| i.floor(moment).to_string());
        assert_eq!(
            starts,
            [
                "2026-11-22 09:12:00 UTC",
                "2026-11-22 09:00:00 UTC",
                "2026-11-22 00:00:00 UTC",
                "2026-11-16 00:00:00 UTC",
                "2026-11-01 00:00:00 UTC",
                "2026-10-01 00:00:00 UTC",
                "2026-01-01 00:00:00 UTC",
            ]
        );
    }
}
