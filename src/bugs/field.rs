//! The crash-signature field of a Bugzilla: a sequence of signatures as `[@ signature]`.

use std::collections::BTreeSet;

use crate::limits;

/// The signatures in the text of a field. Each begins after `[@` and ends before the last `]` that precedes
/// the next one, because signatures can contain brackets: `[@ f<T[4]>::g ]`. An empty signature, or one
/// without `]`, is ignored. Source: Socorro's `find_signatures`.
pub fn signatures(text: &str) -> BTreeSet<String> {
    text.split("[@")
        .skip(1)
        .filter_map(|piece| piece.rfind(']').map(|end| piece[..end].trim()))
        // A longer text matches no crash, because no rule creates such a signature.
        .filter(|found| !found.is_empty() && found.len() <= limits::BUG_SIGNATURE_BYTES_MAX)
        .take(limits::BUG_SIGNATURES_MAX)
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let expected: BTreeSet<String> = expected.iter().map(|s| s.to_string()).collect();
        assert_eq!(signatures(text), expected, "{text:?}");
    }

    #[test]
    fn signatures_stand_between_their_brackets() {
        check("", &[]);
        check("no signature at all ]", &[]);
        check("[@ a::b]", &["a::b"]);
        check("[@a::b]", &["a::b"]);
        check("[@ a | b ]\r\n[@ c]  [@ a | b]", &["a | b", "c"]);
        check("see [@ a] and [@ b], but not [c]", &["a", "b], but not [c"]);
    }

    #[test]
    fn brackets_inside_a_signature_are_its_own() {
        check("[@ f<T[4]>::g ]", &["f<T[4]>::g"]);
        check("[@ a[0]]\n[@ operator[] ]", &["a[0]", "operator[]"]);
        check("[@ [b] ]", &["[b]"]);
    }

    #[test]
    fn what_is_not_closed_or_empty_is_none() {
        check("[@ a", &[]);
        check("[@ a [@ b]", &["b"]);
        check("[@ ] [@] [@", &[]);
        check(&format!("[@ {}]", "x".repeat(5_000)), &[]);
    }

    #[test]
    fn a_field_that_is_written_is_read_back() {
        // Tests many texts from the characters that matter. They are the same in each run.
        let mut seed = 1u64;
        let mut next = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        for _ in 0..5_000 {
            let mut text = || -> String {
                let letters = ['[', ']', '@', ' ', 'a', '|', '\n', 'ü'];
                let length = next(12);
                (0..length).map(|_| letters[next(8) as usize]).collect()
            };
            let any = text();
            for found in signatures(&any) {
                assert!(any.contains(&found) && found == found.trim(), "{any:?}");
                assert!(!found.is_empty() && !found.contains("[@"), "{any:?}");
            }
            let written: BTreeSet<String> = (0..3)
                .map(|_| text().replace("[@", "").trim().to_owned())
                // A bracket at the end would join with the @ of the field's syntax.
                .filter(|s| !s.is_empty() && !s.contains("[@"))
                .collect();
            let field: String = written.iter().map(|s| format!("[@ {s} ]\n")).collect();
            assert_eq!(signatures(&field), written, "{field:?}");
        }
    }
}
