//! Ranges of addresses.

/// A range of addresses; the end is exclusive.
pub(super) type Range = (u64, u64);

/// Ranges sorted, and those that overlap or touch joined.
pub(super) fn joined(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_unstable();
    let mut joined: Vec<Range> = Vec::with_capacity(ranges.len());
    for (from, to) in ranges {
        match joined.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => joined.push((from, to)),
        }
    }
    joined
}

/// The one of sorted, disjoint ranges that has this address.
pub(super) fn containing(ranges: &[Range], address: u64) -> Option<Range> {
    let after = ranges.partition_point(|range| range.0 <= address);
    let range = ranges[after.checked_sub(1)?];
    (address < range.1).then_some(range)
}

/// The number of addresses that are in both of two lists of sorted, disjoint ranges.
pub(super) fn overlap(a: &[Range], b: &[Range]) -> u64 {
    let (mut at, mut bt, mut sum) = (0, 0, 0u64);
    while let (Some(x), Some(y)) = (a.get(at), b.get(bt)) {
        let (from, to) = (x.0.max(y.0), x.1.min(y.1));
        sum = sum.saturating_add(to.saturating_sub(from));
        if x.1 < y.1 { at += 1 } else { bt += 1 }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_are_one() {
        assert_eq!(
            joined(vec![(5, 7), (1, 3), (3, 4), (6, 9)]),
            [(1, 4), (5, 9)]
        );
        assert_eq!(joined(Vec::new()), []);
    }

    #[test]
    fn addresses_and_overlaps_are_found() {
        let ranges = [(1, 4), (6, 9)];
        assert_eq!(containing(&ranges, 0), None);
        assert_eq!(containing(&ranges, 3), Some((1, 4)));
        assert_eq!(containing(&ranges, 4), None);
        assert_eq!(containing(&ranges, 8), Some((6, 9)));
        assert_eq!(overlap(&ranges, &[(0, 2), (3, 7), (8, 20)]), 4);
        assert_eq!(overlap(&ranges, &[]), 0);
        assert_eq!(overlap(&[(0, u64::MAX)], &[(0, u64::MAX)]), u64::MAX);
    }
}
