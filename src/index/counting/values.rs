//! What is counted for a number of a column: the number, or the interval of a histogram.

use tantivy::{f64_to_u64, i64_to_u64, u64_to_f64, u64_to_i64};

use crate::clock::{DAY_MS, Timestamp};
use crate::fields::Kind;
use crate::query::{Facet, Interval};

/// Converts a column's number to the number that is counted.
pub(super) enum Values {
    Same,
    Float,
    Intervals {
        interval: Interval,
        /// A day, in days since 1970, and the start of its interval.
        last: Option<(i64, u64)>,
    },
    Widths(Kind, f64),
}

impl Values {
    pub(super) fn new(facet: &Facet) -> Self {
        match facet {
            Facet::DateHistogram(_, interval) => Self::Intervals {
                interval: *interval,
                last: None,
            },
            Facet::Histogram(field, width) => Self::Widths(field.kind(), *width),
            _ if facet.field().kind() == Kind::Float => Self::Float,
            _ => Self::Same,
        }
    }

    pub(super) fn of(&mut self, number: u64) -> u64 {
        match self {
            Self::Same => number,
            // Both zeros are one value.
            Self::Float => f64_to_u64(u64_to_f64(number) + 0.0),
            Self::Intervals { interval, last } => {
                let ms = u64_to_i64(number);
                let floor = |ms| i64_to_u64(interval.floor(Timestamp::from_ms(ms)).ms());
                // Calendar computations are slow, and neighbouring documents are mostly from the same day.
                match interval {
                    Interval::Minute | Interval::Hour => floor(ms),
                    _ => {
                        let day = ms.div_euclid(DAY_MS);
                        match last {
                            Some((known, start)) if *known == day => *start,
                            last => last.insert((day, floor(ms))).1,
                        }
                    }
                }
            }
            Self::Widths(kind, width) => {
                let value = match kind {
                    Kind::Float => u64_to_f64(number),
                    _ => u64_to_i64(number) as f64,
                };
                f64_to_u64((value / *width).floor() * *width + 0.0)
            }
        }
    }
}
