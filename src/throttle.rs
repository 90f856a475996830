//! The throttle: an ordered list of rules that decides what happens to a report.
//!
//! The first rule whose condition holds, and whose random draw is within its percentage, decides. If no rule
//! decides, the rule [`DEFAULT_RULE`] accepts the report. This module is pure: the random draw is an
//! argument.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Name of the rule that accepts the reports that no other rule decides.
pub(crate) const DEFAULT_RULE: &str = "accept_everything";

/// The decision of a rule. The store contains the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Stored and processed.
    Accept = 0,
    /// Stored for some days, and processed only on request.
    Defer = 1,
    /// Not stored. The client is told.
    Reject = 2,
    /// Not stored. The client gets the answer for a stored report.
    FakeAccept = 3,
}

impl Outcome {
    /// In the order of the numbers.
    pub(crate) const ALL: [(&'static str, Outcome); 4] = [
        ("accept", Self::Accept),
        ("defer", Self::Defer),
        ("reject", Self::Reject),
        ("fake-accept", Self::FakeAccept),
    ];

    pub fn name(self) -> &'static str {
        name(self, &Self::ALL)
    }
}

/// How a rule compares an annotation with its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Is,
    IsNot,
    StartsWith,
    EndsWith,
    Contains,
    Exists,
    Missing,
    Always,
}

impl Op {
    pub(crate) const ALL: [(&'static str, Op); 8] = [
        ("is", Self::Is),
        ("is-not", Self::IsNot),
        ("starts-with", Self::StartsWith),
        ("ends-with", Self::EndsWith),
        ("contains", Self::Contains),
        ("exists", Self::Exists),
        ("missing", Self::Missing),
        ("always", Self::Always),
    ];

    fn holds(self, annotation: Option<&str>, value: &str) -> bool {
        match (self, annotation) {
            (Self::Always, _) => true,
            (Self::Missing, found) => found.is_none(),
            (Self::Exists, found) => found.is_some(),
            (Self::IsNot, found) => found != Some(value),
            (_, None) => false,
            (Self::Is, Some(found)) => found == value,
            (Self::StartsWith, Some(found)) => found.starts_with(value),
            (Self::EndsWith, Some(found)) => found.ends_with(value),
            (Self::Contains, Some(found)) => found.contains(value),
        }
    }
}

/// An unknown word where a fixed set is accepted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown word {found:?}; accepted: {}", known.join(", "))]
pub struct UnknownWord {
    pub(crate) found: String,
    pub(crate) known: Vec<&'static str>,
}

fn word<T: Copy>(text: &str, all: &[(&'static str, T)]) -> Result<T, UnknownWord> {
    all.iter()
        .find(|(name, _)| *name == text)
        .map(|(_, value)| *value)
        .ok_or_else(|| UnknownWord {
            found: text.to_owned(),
            known: all.iter().map(|(name, _)| *name).collect(),
        })
}

impl FromStr for Op {
    type Err = UnknownWord;
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        word(text, &Self::ALL)
    }
}

impl FromStr for Outcome {
    type Err = UnknownWord;
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        word(text, &Self::ALL)
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name(*self, &Self::ALL))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name(*self, &Self::ALL))
    }
}

fn name<T: Copy + PartialEq>(value: T, all: &[(&'static str, T)]) -> &'static str {
    all.iter()
        .find(|(_, v)| *v == value)
        .map_or("", |(name, _)| name)
}

#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// `[a-z0-9_]+`, because it is part of answers and metrics.
    pub(crate) name: String,
    /// The standard key of an annotation.
    pub(crate) field: String,
    pub(crate) op: Op,
    pub(crate) value: String,
    /// Percentage of the matching reports that the rule decides, 0 to 100.
    pub(crate) percent: f64,
    pub(crate) outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) rule: String,
    pub(crate) outcome: Outcome,
}

/// Decides about a report. `draw` returns a new random number in [0, 100) for each rule that needs one.
pub(crate) fn decide(
    rules: &[Rule],
    annotations: &BTreeMap<String, String>,
    mut draw: impl FnMut() -> f64,
) -> Decision {
    let decided = rules.iter().find(|rule| {
        rule.op.holds(
            annotations.get(&rule.field).map(String::as_str),
            &rule.value,
        ) && (rule.percent >= 100.0 || draw() < rule.percent)
    });
    match decided {
        Some(rule) => Decision {
            rule: rule.name.clone(),
            outcome: rule.outcome,
        },
        None => Decision {
            rule: DEFAULT_RULE.into(),
            outcome: Outcome::Accept,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str, op: Op, value: &str, percent: f64, outcome: Outcome) -> Rule {
        Rule {
            name: name.into(),
            field: "ReleaseChannel".into(),
            op,
            value: value.into(),
            percent,
            outcome,
        }
    }

    fn check(rules: &[Rule], channel: Option<&str>, draw: f64, expected: (&str, Outcome)) {
        let annotations = channel
            .map(|c| ("ReleaseChannel".to_owned(), c.to_owned()))
            .into_iter()
            .collect();
        let decision = decide(rules, &annotations, || draw);
        assert_eq!(
            (decision.rule.as_str(), decision.outcome),
            expected,
            "{channel:?} at {draw}"
        );
    }

    #[test]
    fn the_first_rule_that_holds_and_draws_decides() {
        let rules = [
            rule("nightly", Op::StartsWith, "nightly", 100.0, Outcome::Accept),
            rule("sampled", Op::Is, "release", 10.0, Outcome::Accept),
            rule("rest", Op::Is, "release", 100.0, Outcome::Defer),
            rule("unnamed", Op::Missing, "", 100.0, Outcome::Reject),
        ];
        check(
            &rules,
            Some("nightly-x"),
            99.0,
            ("nightly", Outcome::Accept),
        );
        check(&rules, Some("release"), 9.9, ("sampled", Outcome::Accept));
        check(&rules, Some("release"), 10.0, ("rest", Outcome::Defer));
        check(&rules, None, 0.0, ("unnamed", Outcome::Reject));
        check(&rules, Some("beta"), 0.0, (DEFAULT_RULE, Outcome::Accept));
    }

    #[test]
    fn a_rule_of_no_percent_never_decides() {
        let never = [rule("never", Op::Always, "", 0.0, Outcome::Reject)];
        check(&never, Some("x"), 0.0, (DEFAULT_RULE, Outcome::Accept));
    }
}
