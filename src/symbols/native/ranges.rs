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
    fn the_range_of_an_address_is_found() {
        let ranges = [(1, 4), (6, 9)];
        assert_eq!(containing(&ranges, 0), None);
        assert_eq!(containing(&ranges, 3), Some((1, 4)));
        assert_eq!(containing(&ranges, 4), None);
        assert_eq!(containing(&ranges, 8), Some((6, 9)));
    }
}
