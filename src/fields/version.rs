//! The order of version texts.

/// A version that sorts as users expect: `99.0a1 < 99.0b2 < 99.0b10 < 99.0 < 99.0esr < 99.0.1`.
///
/// Digits compare as numbers. A word for a pre-release sorts before the end of the text, any other word after
/// it. Texts that differ only in separators compare equal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VersionKey(Vec<Part>);

// The order of the variants is the order of versions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Before(String),
    End,
    Word(String),
    Number(u128),
}

/// Words for pre-releases.
const BEFORE: [&str; 10] = [
    "a", "alpha", "b", "beta", "canary", "dev", "nightly", "pre", "preview", "rc",
];

impl VersionKey {
    pub fn new(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let digits = first.is_ascii_digit();
            let end = rest
                .find(|c: char| c.is_ascii_digit() != digits || !c.is_alphanumeric())
                .unwrap_or(rest.len());
            if end == 0 {
                rest = &rest[first.len_utf8()..];
                continue;
            }
            let (part, tail) = rest.split_at(end);
            rest = tail;
            if digits {
                parts.push(Part::Number(part.parse().unwrap_or(u128::MAX)));
                continue;
            }
            let word = part.to_lowercase();
            parts.push(if BEFORE.contains(&word.as_str()) {
                Part::Before(word)
            } else {
                Part::Word(word)
            });
        }
        parts.push(Part::End);
        Self(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_sort_as_people_mean_them() {
        let sorted = [
            "",
            "9.5",
            "99.0a1",
            "99.0b2",
            "99.0b10",
            "99.0rc1",
            "99.0",
            "99.0esr",
            "99.0.1",
            "99.1",
            "100.0",
            "120.0.6099.109",
        ];
        for pair in sorted.windows(2) {
            assert!(
                VersionKey::new(pair[0]) < VersionKey::new(pair[1]),
                "{} < {}",
                pair[0],
                pair[1]
            );
        }
        assert_eq!(VersionKey::new("1.0-2"), VersionKey::new("1.0.2"));
    }
}
