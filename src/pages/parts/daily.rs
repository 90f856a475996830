//! Crashes per day, stacked by the values of a field.

use std::collections::HashMap;

use super::chart::{SERIES_MAX, Stack};
use super::scope::{Scope, moment};
use super::split::{Split, split};
use crate::app::App;
use crate::clock::{DAY_MS, Timestamp};
use crate::fields::version::VersionKey;
use crate::fields::{self, Field, Kind, name};
use crate::index::SearchResult;
use crate::pages::{day_text, shown, text_of};
use crate::query::{Facet, Interval};
use crate::web::{Request, WebError};

/// Number of days in a chart.
pub(crate) const CHART_DAYS: i64 = 14;

/// If a range has more days than this, one bar is one week.
const BARS_MAX: i64 = 62;

/// The range of dates of a chart.
#[derive(Clone, Copy)]
pub(crate) struct Range {
    pub(crate) from: Timestamp,
    /// The last millisecond of the range.
    pub(crate) to: Timestamp,
}

impl Range {
    /// A range of whole days. The last one is today.
    pub(crate) fn days(days: i64, now: Timestamp) -> Self {
        let first = Timestamp::from_ms(now.ms() - (days - 1) * DAY_MS);
        Self {
            from: Interval::Day.floor(first),
            to: now,
        }
    }

    pub(crate) fn interval(self) -> (Interval, i64) {
        if self.to.ms_since(self.from) > BARS_MAX * DAY_MS {
            (Interval::Week, 7 * DAY_MS)
        } else {
            (Interval::Day, DAY_MS)
        }
    }

    /// The start of each bar.
    pub(crate) fn starts(self) -> impl Iterator<Item = Timestamp> {
        let (interval, length_ms) = self.interval();
        let first = interval.floor(self.from).ms();
        (0..)
            .map(move |n| Timestamp::from_ms(first + n * length_ms))
            .take_while(move |start| *start <= self.to)
    }

    /// The name of each bar, and the crashes in it.
    pub(crate) fn bars(self, scope: &Scope) -> Vec<(String, Scope)> {
        let length_ms = self.interval().1;
        let bar = |start: Timestamp| {
            let end = Timestamp::from_ms(start.ms() + length_ms);
            (day_text(start, self.to), scope.between(start, end))
        };
        self.starts().map(bar).collect()
    }

    /// The unit of a bar, for a sentence.
    pub(crate) fn each(self) -> &'static str {
        match self.interval().0 {
            Interval::Week => "week",
            _ => "day",
        }
    }

    /// The unit of a bar, for a table heading.
    pub(crate) fn bar(self) -> &'static str {
        match self.interval().0 {
            Interval::Week => "Week of",
            _ => "Day",
        }
    }
}

/// Counts the crashes of a scope by day and value of the field.
pub(crate) fn chart(
    app: &App,
    request: &Request,
    scope: &Scope,
    range: Range,
    field: &'static str,
) -> Result<Stack, WebError> {
    let end = Timestamp::from_ms(range.to.ms().saturating_add(1));
    let over_time = Facet::over_time(range.interval().0);
    let query = scope
        .between(range.from, end)
        .query(app, request)?
        .count(Facet::terms(field))
        .count_within(over_time, Facet::terms(field));
    let found = app.index.search(&query)?;
    Ok(stack(&found, scope, range, field))
}

fn stack(found: &SearchResult, scope: &Scope, range: Range, field_name: &'static str) -> Stack {
    let intervals = found.facets.histogram(name::DATE).iter();
    let by_start: HashMap<Timestamp, _> = intervals
        .filter_map(|bucket| Some((moment(bucket)?, bucket)))
        .collect();
    let starts: Vec<Timestamp> = range.starts().collect();
    let field = fields::builtin(field_name);
    let values = most(found, &field);
    split(Split {
        title: format!(
            "Crashes per {} by {}",
            range.each(),
            field.title.to_lowercase()
        ),
        bar: range.bar(),
        bars: range.bars(scope),
        field: field_name,
        values: values.iter().map(|value| (&**value, &**value)).collect(),
        count: |bar: usize, value: &str| {
            let bucket = by_start.get(&starts[bar]);
            bucket.map_or(0, |bucket| bucket.facets.count_of(field_name, value))
        },
        total: |bar: usize| by_start.get(&starts[bar]).map_or(0, |bucket| bucket.count),
    })
}

/// The values that get their own series: the newest versions first, other values by count.
fn most(found: &SearchResult, field: &Field) -> Vec<String> {
    let values = found.facets.terms(&field.name).iter();
    let mut values: Vec<String> = values
        .take(SERIES_MAX - 1)
        .map(|bucket| text_of(&bucket.term))
        .filter(|value| !shown(value).is_empty())
        .collect();
    if field.kind == Kind::Version {
        values.sort_by_cached_key(|version| std::cmp::Reverse(VersionKey::new(version)));
    }
    values
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::index::{FacetBucket, FacetResult, Facets};

    fn at(text: &str) -> Timestamp {
        Timestamp::parse_rfc3339(text).expect("a moment")
    }

    #[test]
    fn versions_stack_from_the_newest_and_the_rest_is_other() {
        let values = |values: &[(&str, u64)]| {
            let buckets = values.iter().map(|(value, count)| FacetBucket {
                term: json!(value),
                count: *count,
                facets: Facets::default(),
            });
            (
                name::VERSION.to_owned(),
                FacetResult::Buckets(buckets.collect()),
            )
        };
        let day = |day: &str, count, versions: &[(&str, u64)]| FacetBucket {
            term: json!(format!("{day}T00:00:00+00:00")),
            count,
            facets: [values(versions)].into_iter().collect(),
        };
        let days = vec![
            day("2026-11-20", 9, &[("9.0", 4), ("10.0", 3), ("1.0", 1)]),
            day("2026-11-22", 20, &[("10.0", 12), ("3.0", 5), ("2.0", 2)]),
        ];
        let found = SearchResult {
            coverage: Default::default(),
            not_indexed: Vec::new(),
            columns: Vec::new(),
            hits: Vec::new(),
            total: 29,
            facets: Facets::from_iter([
                values(&[("10.0", 15), ("3.0", 5), ("9.0", 4), ("2.0", 2), ("1.0", 1)]),
                ("histogram_date".into(), FacetResult::Buckets(days)),
            ]),
        };
        let range = Range::days(3, at("2026-11-22T09:12:44Z"));
        let stack = stack(&found, &Scope::default(), range, name::VERSION);
        let bars: Vec<&str> = stack.bars.iter().map(|bar| bar.label.as_str()).collect();
        assert_eq!(bars, ["20 Nov", "21 Nov", "22 Nov"]);
        let series: Vec<(&str, Vec<u64>)> = stack
            .series
            .iter()
            .map(|s| (s.name.as_str(), s.values.iter().map(|v| v.0).collect()))
            .collect();
        assert_eq!(
            series,
            [
                ("10.0", vec![3, 0, 12]),
                ("9.0", vec![4, 0, 0]),
                ("3.0", vec![0, 0, 5]),
                ("2.0", vec![0, 0, 2]),
                ("other", vec![2, 0, 1]),
            ]
        );
        assert!(
            stack.series[4].values[0]
                .1
                .ends_with("&version=%2110.0&version=%219.0&version=%213.0&version=%212.0")
        );
    }

    #[test]
    fn long_ranges_are_drawn_by_week() {
        let range = Range::days(100, at("2026-11-22T09:12:44Z"));
        let starts: Vec<Timestamp> = range.starts().collect();
        assert_eq!(starts.len(), 15);
        assert_eq!(starts[0], at("2026-08-10T00:00:00Z"));
        assert_eq!(Range::days(62, range.to).starts().count(), 62);
    }
}
