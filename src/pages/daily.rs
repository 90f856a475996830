//! Crashes per day, stacked by the values of a field.

use std::collections::HashMap;

use super::chart::{Bar, SERIES_MAX, Series, Stack};
use super::scope::{Scope, buckets, count_of, moment};
use super::{day_text, shown, text_of};
use crate::clock::{DAY_MS, Timestamp};
use crate::fields::version::VersionKey;
use crate::fields::{self, Field, Kind, name};
use crate::index::SearchResult;
use crate::limits;
use crate::query::Interval;
use crate::web::{App, Request, WebError};

/// Days of the chart.
pub const CHART_DAYS: i64 = 14;

/// With more days than these a bar is a week.
const BARS_MAX: i64 = 62;

/// The days of a chart.
#[derive(Clone, Copy)]
pub struct Range {
    pub from: Timestamp,
    /// The last moment of it.
    pub to: Timestamp,
}

impl Range {
    /// Whole days, the last of which is today.
    pub fn days(days: i64, now: Timestamp) -> Self {
        let first = Timestamp::from_ms(now.ms() - (days - 1) * DAY_MS);
        Self {
            from: Interval::Day.floor(first),
            to: now,
        }
    }

    fn interval(self) -> (Interval, i64) {
        match self.to.ms_since(self.from) > BARS_MAX * DAY_MS {
            true => (Interval::Week, 7 * DAY_MS),
            false => (Interval::Day, DAY_MS),
        }
    }

    fn starts(self) -> impl Iterator<Item = Timestamp> {
        let (interval, length_ms) = self.interval();
        let first = interval.floor(self.from).ms();
        (0..)
            .map(move |n| Timestamp::from_ms(first + n * length_ms))
            .take_while(move |start| *start <= self.to)
    }
}

/// Counts the crashes of a scope by day and value of the field.
pub fn chart(
    app: &App,
    request: &Request,
    scope: &Scope,
    range: Range,
    field: &str,
) -> Result<Stack, WebError> {
    let field = fields::by_name(field).expect("a field of the catalogue");
    let histogram = format!("_histogram.{}", name::DATE);
    let interval = format!("_histogram_interval.{}", name::DATE);
    let size = limits::FACETS_SIZE_MAX.to_string();
    let end = Timestamp::from_ms(range.to.ms().saturating_add(1));
    let found = scope.between(range.from, end).ask(
        app,
        request,
        &[
            ("_facets", field.name),
            (&histogram, field.name),
            (&interval, range.interval().0.name()),
            ("_facets_size", &size),
        ],
    )?;
    Ok(stack(&found, scope, range, field))
}

fn stack(found: &SearchResult, scope: &Scope, range: Range, field: &Field) -> Stack {
    let (interval, length_ms) = range.interval();
    let label = format!("histogram_{}", name::DATE);
    let by_start: HashMap<Timestamp, _> = buckets(&found.facets, &label)
        .iter()
        .filter_map(|bucket| Some((moment(bucket)?, bucket)))
        .collect();
    let starts: Vec<Timestamp> = range.starts().collect();
    let in_bar =
        |start: Timestamp| scope.between(start, Timestamp::from_ms(start.ms() + length_ms));
    let shown_values = most(found, field);
    let mut series: Vec<Series> = shown_values
        .iter()
        .map(|value| Series {
            name: value.clone(),
            values: starts
                .iter()
                .map(|start| {
                    let bar = by_start.get(start);
                    let count = bar.map_or(0, |bar| count_of(&bar.facets, field.name, value));
                    // It is one of those that a condition on the field allows.
                    let scope = in_bar(*start).without(field.name);
                    (count, scope.with(field.name, value).search())
                })
                .collect(),
        })
        .collect();
    let others: Vec<(u64, String)> = starts
        .iter()
        .enumerate()
        .map(|(at, start)| {
            let all = by_start.get(start).map_or(0, |bar| bar.count);
            let named: u64 = series.iter().map(|series| series.values[at].0).sum();
            let scope = shown_values.iter().fold(in_bar(*start), |scope, value| {
                let is = super::scope::exactly(field.name, value);
                scope.when(field.name, format!("!{is}"))
            });
            (all.saturating_sub(named), scope.search())
        })
        .collect();
    if series.is_empty() || others.iter().any(|(count, _)| *count > 0) {
        series.push(Series {
            name: match series.is_empty() {
                true => format!("no {}", field.title.to_lowercase()),
                false => "other".into(),
            },
            values: others,
        });
    }
    let bar = match interval {
        Interval::Week => "Week from",
        _ => "Day",
    };
    let each = if interval == Interval::Week {
        "week"
    } else {
        "day"
    };
    Stack {
        title: format!("Crashes per {each} by {}", field.title.to_lowercase()),
        unit: "crashes".into(),
        bar,
        bars: starts
            .iter()
            .map(|start| Bar {
                label: day_text(*start, range.to),
                href: in_bar(*start).search(),
            })
            .collect(),
        series,
    }
}

/// The values that get a series of their own: the newest versions first, other values by count.
fn most(found: &SearchResult, field: &Field) -> Vec<String> {
    let values = buckets(&found.facets, field.name).iter();
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
    use crate::index::{FacetBucket, FacetResult};

    fn at(text: &str) -> Timestamp {
        Timestamp::parse_rfc3339(text).expect("a moment")
    }

    #[test]
    fn versions_stack_from_the_newest_and_the_rest_is_other() {
        let values = |values: &[(&str, u64)]| {
            let buckets = values.iter().map(|(value, count)| FacetBucket {
                term: json!(value),
                count: *count,
                facets: Vec::new(),
            });
            (
                name::VERSION.to_owned(),
                FacetResult::Buckets(buckets.collect()),
            )
        };
        let day = |day: &str, count, versions: &[(&str, u64)]| FacetBucket {
            term: json!(format!("{day}T00:00:00+00:00")),
            count,
            facets: vec![values(versions)],
        };
        let days = vec![
            day("2026-11-20", 9, &[("9.0", 4), ("10.0", 3), ("1.0", 1)]),
            day("2026-11-22", 20, &[("10.0", 12), ("3.0", 5), ("2.0", 2)]),
        ];
        let found = SearchResult {
            hits: Vec::new(),
            total: 29,
            facets: vec![
                values(&[("10.0", 15), ("3.0", 5), ("9.0", 4), ("2.0", 2), ("1.0", 1)]),
                ("histogram_date".into(), FacetResult::Buckets(days)),
            ],
        };
        let range = Range::days(3, at("2026-11-22T09:12:44Z"));
        let field = fields::by_name(name::VERSION).expect("a field");
        let stack = stack(&found, &Scope::default(), range, field);
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
