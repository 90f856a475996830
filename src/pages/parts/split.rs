//! Bars of crashes split by the values of a field. Each part has a link to the search that counts it.

use super::chart::{Bar, Series, Stack};
use super::scope::Scope;
use crate::fields;

pub(crate) struct Split<'a, Count, Total> {
    pub(crate) title: String,
    /// The unit of a bar, for the table.
    pub(crate) bar: &'static str,
    /// The name of each bar, and the crashes in it.
    pub(crate) bars: Vec<(String, Scope)>,
    /// The name of a built-in field.
    pub(crate) field: &'static str,
    /// Values with their own series: as shown, and as in the field.
    pub(crate) values: Vec<(&'a str, &'a str)>,
    /// The number of crashes in a bar with this value.
    pub(crate) count: Count,
    /// The number of all crashes in a bar.
    pub(crate) total: Total,
}

/// Crashes with none of the values form the last series.
pub(crate) fn split<Count, Total>(from: Split<Count, Total>) -> Stack
where
    Count: Fn(usize, &str) -> u64,
    Total: Fn(usize) -> u64,
{
    let field = from.field;
    let mut series: Vec<Series> = Vec::new();
    for (shown, value) in &from.values {
        let bars = from.bars.iter().enumerate();
        let values = bars.map(|(bar, (_, scope))| {
            // The value is one of those that a condition on the field permits, so the condition can be
            // replaced.
            let scope = scope.without(field).with(field, value);
            ((from.count)(bar, value), scope.search())
        });
        series.push(Series {
            name: (*shown).to_owned(),
            values: values.collect(),
        });
    }
    let others: Vec<(u64, String)> = from
        .bars
        .iter()
        .enumerate()
        .map(|(bar, (_, scope))| {
            let named: u64 = series.iter().map(|series| series.values[bar].0).sum();
            let scope = from.values.iter().fold(scope.clone(), |scope, (_, value)| {
                scope.except(field, value)
            });
            ((from.total)(bar).saturating_sub(named), scope.search())
        })
        .collect();
    if series.is_empty() || others.iter().any(|(count, _)| *count > 0) {
        series.push(Series {
            name: if series.is_empty() {
                format!("no {}", fields::builtin(field).title.to_lowercase())
            } else {
                "other".into()
            },
            values: others,
        });
    }
    Stack {
        title: from.title,
        unit: "crashes".into(),
        bar: from.bar,
        bars: from
            .bars
            .into_iter()
            .map(|(label, scope)| Bar {
                tick: label.clone(),
                label,
                href: scope.search(),
            })
            .collect(),
        series,
    }
}
