//! Signatures ranked by their number of crashes, compared with the equal period before. Source: Socorro's
//! top crashers. Ranks count from 1.

use std::collections::HashMap;

use crate::fields::name;
use crate::index::{FacetBucket, SearchResult};
use crate::pages::text_of;

/// Systems with their own column: usual name, and name in the field `platform`.
pub(crate) const SYSTEMS: [(&str, &str); 3] = [
    ("Windows", "Windows NT"),
    ("macOS", "Mac OS X"),
    ("Linux", "Linux"),
];
/// Smaller changes of rank are noise.
const MOVE_MIN: i64 = 5;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) rank: usize,
    pub(crate) movement: Movement,
    pub(crate) signature: String,
    pub(crate) count: u64,
    /// Percentage of all crashes.
    pub(crate) share: f64,
    /// Difference in percentage points to the period before; `None` if that period has no crash.
    pub(crate) difference: Option<f64>,
    /// Counts in the order of [`SYSTEMS`], then all others.
    pub(crate) systems: [u64; 4],
    /// Number of distinct installation times.
    pub(crate) installs: u64,
    pub(crate) startup_crashes: u64,
    /// Crashes within the first minute.
    pub(crate) early_crashes: u64,
    pub(crate) gc_crashes: u64,
    /// The verdict of more than half of the crashes, and of how many.
    pub(crate) verdict: Option<(String, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Movement {
    /// The signature had no crash in the period before.
    New,
    /// Number of ranks gained; negative if lost.
    By(i64),
}

impl Movement {
    fn of(rank: usize, previous: Option<usize>) -> Self {
        previous.map_or(Self::New, |previous| {
            Self::By(previous as i64 - rank as i64)
        })
    }

    /// True if the change is large enough to be shown.
    pub(crate) fn is_notable(self) -> bool {
        match self {
            Self::New => true,
            Self::By(places) => places.abs() >= MOVE_MIN,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartUp {
    Never,
    Some,
    All,
}

impl Row {
    pub(crate) fn start_up(&self) -> StartUp {
        match self.startup_crashes {
            0 => StartUp::Never,
            n if n < self.count => StartUp::Some,
            _ => StartUp::All,
        }
    }

    /// True if more than half of the crashes were in the first minute.
    pub(crate) fn is_soon_after_start(&self) -> bool {
        self.early_crashes * 2 > self.count
    }
}

/// Ranks the signatures of a period. `before` has the signatures of the equal period before, `early` those
/// of crashes in the first minute.
pub(crate) fn rank(now: &SearchResult, before: &SearchResult, early: &[FacetBucket]) -> Vec<Row> {
    let signatures = |result: &SearchResult| -> Vec<(String, u64)> {
        result
            .facets
            .terms(name::SIGNATURE)
            .iter()
            .map(|bucket| (text_of(&bucket.term), bucket.count))
            .collect()
    };
    let previous: HashMap<String, (usize, u64)> = signatures(before)
        .into_iter()
        .enumerate()
        .map(|(at, (signature, count))| (signature, (at + 1, count)))
        .collect();
    let early: HashMap<String, u64> = early
        .iter()
        .map(|bucket| (text_of(&bucket.term), bucket.count))
        .collect();
    now.facets
        .terms(name::SIGNATURE)
        .iter()
        .enumerate()
        .map(|(at, bucket)| {
            let signature = text_of(&bucket.term);
            let known = previous.get(&signature);
            let share = share(bucket.count, now.total);
            let was = share_before(known.map(|(_, count)| *count), before.total);
            let named =
                SYSTEMS.map(|(_, platform)| bucket.facets.count_of(name::PLATFORM, platform));
            let [windows, mac, linux] = named;
            let others = bucket.count.saturating_sub(named.iter().sum());
            Row {
                rank: at + 1,
                movement: Movement::of(at + 1, known.map(|(rank, _)| *rank)),
                count: bucket.count,
                share,
                difference: was.map(|was| share - was),
                systems: [windows, mac, linux, others],
                installs: bucket.facets.distinct(name::INSTALLATION),
                startup_crashes: bucket.facets.count_of(name::STARTUP_CRASH, "T"),
                early_crashes: early.get(&signature).copied().unwrap_or(0),
                gc_crashes: bucket.facets.count_of(name::IS_GARBAGE_COLLECTING, "T"),
                verdict: common_verdict(bucket),
                signature,
            }
        })
        .collect()
}

fn common_verdict(bucket: &FacetBucket) -> Option<(String, u64)> {
    let most = bucket.facets.terms(name::VERDICT).first()?;
    (most.count * 2 > bucket.count).then(|| (text_of(&most.term), most.count))
}

/// Percentage; 0 if `whole` is 0.
pub(crate) fn share(part: u64, whole: u64) -> f64 {
    match whole {
        0 => 0.0,
        _ => part as f64 * 100.0 / whole as f64,
    }
}

fn share_before(count: Option<u64>, total: u64) -> Option<f64> {
    (total > 0).then(|| share(count.unwrap_or(0), total))
}

/// `14.2 %`
pub(crate) fn share_text(share: f64) -> String {
    format!("{share:.1}\u{a0}%")
}

/// `+2.10`, `−0.40`, `0.00`
pub(crate) fn difference_text(points: f64) -> String {
    let text = format!("{:.2}", points.abs());
    match points {
        _ if text == "0.00" => text,
        points if points > 0.0 => format!("+{text}"),
        _ => format!("−{text}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::index::{FacetResult, Facets};

    fn bucket(term: &str, count: u64, facets: Facets) -> FacetBucket {
        FacetBucket {
            term: json!(term),
            count,
            facets,
        }
    }

    fn period(total: u64, signatures: &[(&str, u64)]) -> SearchResult {
        let buckets = signatures
            .iter()
            .map(|(s, n)| bucket(s, *n, Facets::default()));
        SearchResult {
            coverage: Default::default(),
            not_indexed: Vec::new(),
            columns: Vec::new(),
            hits: Vec::new(),
            total,
            facets: Facets::from_iter([(
                name::SIGNATURE.into(),
                FacetResult::Buckets(buckets.collect()),
            )]),
        }
    }

    fn row(count: u64, startup_crashes: u64, early_crashes: u64) -> Row {
        let now = period(count, &[("a", count)]);
        Row {
            startup_crashes,
            early_crashes,
            ..rank(&now, &period(0, &[]), &[]).remove(0)
        }
    }

    #[test]
    fn a_signature_is_compared_with_its_place_in_the_period_before() {
        let now = period(200, &[("new", 50), ("up", 40), ("same", 20), ("down", 10)]);
        let before: Vec<(String, u64)> = (1..=8)
            .map(|n| {
                let name = match n {
                    1 => "down".to_owned(),
                    3 => "same".to_owned(),
                    8 => "up".to_owned(),
                    n => format!("gone {n}"),
                };
                (name, 20 - n)
            })
            .collect();
        let before: Vec<(&str, u64)> = before.iter().map(|(s, n)| (s.as_str(), *n)).collect();
        let rows = rank(&now, &period(100, &before), &[]);
        let found: Vec<_> = rows
            .iter()
            .map(|row| {
                let points = row.difference.map(difference_text).unwrap_or_default();
                let share = share_text(row.share);
                (
                    row.rank,
                    row.signature.as_str(),
                    row.movement,
                    share,
                    points,
                )
            })
            .collect();
        let text = str::to_owned;
        assert_eq!(
            found,
            [
                (1, "new", Movement::New, text("25.0\u{a0}%"), text("+25.00")),
                (2, "up", Movement::By(6), text("20.0\u{a0}%"), text("+8.00")),
                (
                    3,
                    "same",
                    Movement::By(0),
                    text("10.0\u{a0}%"),
                    text("−7.00")
                ),
                (
                    4,
                    "down",
                    Movement::By(-3),
                    text("5.0\u{a0}%"),
                    text("−14.00")
                ),
            ]
        );
    }

    #[test]
    fn without_a_period_before_there_is_no_difference() {
        let rows = rank(&period(4, &[("a", 4)]), &period(0, &[]), &[]);
        assert_eq!(
            (rows[0].movement, rows[0].difference),
            (Movement::New, None)
        );
    }

    #[test]
    fn moves_count_from_five_places() {
        fn check(rank: usize, previous: Option<usize>, movement: Movement, is_notable: bool) {
            let found = Movement::of(rank, previous);
            assert_eq!((found, found.is_notable()), (movement, is_notable));
        }
        check(1, None, Movement::New, true);
        check(1, Some(1), Movement::By(0), false);
        check(1, Some(5), Movement::By(4), false);
        check(1, Some(6), Movement::By(5), true);
        check(7, Some(3), Movement::By(-4), false);
        check(8, Some(3), Movement::By(-5), true);
    }

    #[test]
    fn start_up_is_all_some_or_none() {
        fn check(count: u64, startup: u64, expected: StartUp) {
            assert_eq!(row(count, startup, 0).start_up(), expected, "{startup}");
        }
        check(4, 0, StartUp::Never);
        check(4, 1, StartUp::Some);
        check(4, 3, StartUp::Some);
        check(4, 4, StartUp::All);
    }

    #[test]
    fn soon_after_start_is_more_than_half() {
        fn check(count: u64, early: u64, expected: bool) {
            let row = row(count, 0, early);
            assert_eq!(row.is_soon_after_start(), expected, "{early} of {count}");
        }
        check(4, 0, false);
        check(4, 2, false);
        check(4, 3, true);
        check(1, 1, true);
    }

    #[test]
    fn counts_inside_a_signature_are_told_apart() {
        let facet = |label: &str, values: &[(&str, u64)]| {
            let buckets = values.iter().map(|(v, n)| bucket(v, *n, Facets::default()));
            (label.to_owned(), FacetResult::Buckets(buckets.collect()))
        };
        let inside = Facets::from_iter([
            facet(
                name::PLATFORM,
                &[("Linux", 5), ("Windows NT", 2), ("Android", 1)],
            ),
            facet(name::STARTUP_CRASH, &[("F", 6), ("T", 3)]),
            facet(name::IS_GARBAGE_COLLECTING, &[("T", 1)]),
            (
                "cardinality_installation".into(),
                FacetResult::Cardinality(7),
            ),
        ]);
        let signatures = FacetResult::Buckets(vec![bucket("a", 10, inside)]);
        let now = SearchResult {
            facets: Facets::from_iter([(name::SIGNATURE.into(), signatures)]),
            ..period(20, &[])
        };
        let early = [
            bucket("a", 4, Facets::default()),
            bucket("b", 9, Facets::default()),
        ];
        let row = rank(&now, &period(0, &[]), &early).remove(0);
        assert_eq!(
            row.systems,
            [2, 0, 5, 3],
            "a crash without a system is another"
        );
        assert_eq!(
            (
                row.installs,
                row.startup_crashes,
                row.early_crashes,
                row.gc_crashes
            ),
            (7, 3, 4, 1)
        );
    }

    #[test]
    fn shares_and_differences_read_well() {
        fn check(part: u64, whole: u64, expected: &str) {
            assert_eq!(share_text(share(part, whole)), expected);
        }
        check(0, 0, "0.0\u{a0}%");
        check(1, 3, "33.3\u{a0}%");
        check(8_417, 9_240, "91.1\u{a0}%");
        let texts = [2.1, -0.4, 0.004, -0.004].map(difference_text);
        assert_eq!(texts, ["+2.10", "−0.40", "0.00", "0.00"]);
    }
}
