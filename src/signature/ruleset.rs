//! Which rules compute a signature: those of siggen, or ours.

use std::fmt;
use std::str::FromStr;

/// The rules that compute signatures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ruleset {
    /// Exactly the results of siggen 2.2.20241029.
    Socorro,
    /// The same, except for the differences that `differences.rs` lists.
    #[default]
    Crashkeep,
}

/// A name that is not the name of a ruleset.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("unknown ruleset `{0}`; accepted: socorro, crashkeep")]
pub struct UnknownRuleset(String);

impl FromStr for Ruleset {
    type Err = UnknownRuleset;

    fn from_str(name: &str) -> Result<Self, UnknownRuleset> {
        match name {
            "socorro" => Ok(Ruleset::Socorro),
            "crashkeep" => Ok(Ruleset::Crashkeep),
            _ => Err(UnknownRuleset(name.to_string())),
        }
    }
}

impl fmt::Display for Ruleset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ruleset::Socorro => "socorro",
            Ruleset::Crashkeep => "crashkeep",
        })
    }
}
