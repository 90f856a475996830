//! Signatures: the text by which crashes of one cause are grouped.
//!
//! A [`Generator`] turns [`CrashData`] - the stacks and a few annotations - into a [`Signature`].
//! Thirteen named rules run in order over one text that starts empty (`rules`). The first makes
//! it from the crashing thread: each frame is normalised (`normalize`), the lists say which
//! frames are irrelevant, which go on and which start the name (`lists`, `native`); Java crashes
//! have their own ways (`java`). The others put in front what kind of crash it is - out of memory,
//! hang, abort - and tidy up. A rule that fails is noted and skipped, so every crash gets a name.
//!
//! Signatures are compared across years and with Socorro's, so parity with siggen 2.2.20241029
//! is the contract, measured by the vectors in `tests/fixtures/signatures`. siggen is Python; how
//! that sees odd values and odd characters lives in `value`, `json` and `text`.
//!
//! Nothing here reads a clock, a store or the network, and every step is linear in its input.

mod crash_data;
mod java;
mod json;
mod lists;
mod native;
mod normalize;
mod rules;
mod text;
mod value;
#[cfg(test)]
mod vectors;

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

pub use crash_data::{CrashData, Frame, Inline, Thread, UnloadedModule};
pub use json::JsonError;
pub use lists::{ListError, Lists};
pub use value::{Fault, Value};

/// Which rules name a crash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ruleset {
    /// As siggen 2.2.20241029 does.
    Socorro,
    /// The same, but a frame of which only the module is known reads `module@0xOFFSET`.
    #[default]
    Crashkeep,
}

/// A name that is no ruleset.
#[derive(Debug, PartialEq)]
pub struct UnknownRuleset(String);

impl fmt::Display for UnknownRuleset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no ruleset `{}`: use socorro or crashkeep", self.0)
    }
}

impl std::error::Error for UnknownRuleset {}

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

/// What a crash is called, and how that came about.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Signature {
    /// One line of at most 255 characters; empty if nothing is known at all.
    pub text: String,
    /// All frames of the named thread that were looked at, callee first, joined by ` | `; none if
    /// it has none. Not shortened.
    pub proto: Option<String>,
    /// Remarks, each as `<rule>: <text>`. They may quote annotations.
    pub notes: Vec<String>,
    /// The rules that set the text, in order; the watchdog's runs the first once more.
    pub decided_by: Vec<&'static str>,
}

impl Signature {
    fn set(&mut self, rule: &'static str, text: String) {
        self.text = text;
        self.decided_by.push(rule);
    }

    fn note(&mut self, rule: &str, text: &str) {
        self.notes.push(format!("{rule}: {text}"));
    }
}

/// Makes signatures. Cheap to share between threads, as the lists are compiled once.
#[derive(Debug)]
pub struct Generator {
    ruleset: Ruleset,
    lists: Arc<Lists>,
    /// Compiled when first asked for, if `lists` are others.
    builtin: OnceLock<Lists>,
}

impl Generator {
    pub fn new(ruleset: Ruleset, lists: Arc<Lists>) -> Generator {
        Generator {
            ruleset,
            lists,
            builtin: OnceLock::new(),
        }
    }

    /// Names a crash. Never fails: what cannot be read is noted.
    pub fn generate(&self, data: &CrashData) -> Signature {
        let mut signature = Signature::default();
        for rule in &rules::RULES {
            if let Err(fault) = (rule.apply)(self, data, &mut signature) {
                signature.note(rule.name, &format!("Rule failed: {}", fault.0));
            }
        }
        signature
    }

    pub fn ruleset(&self) -> Ruleset {
        self.ruleset
    }

    fn lists(&self) -> &Lists {
        &self.lists
    }

    fn builtin_lists(&self) -> &Lists {
        if self.lists.is_builtin() {
            return &self.lists;
        }
        self.builtin.get_or_init(Lists::builtin)
    }
}
