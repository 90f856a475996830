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
//! The ruleset `crashkeep` does a few things better; each difference has a name (`differences`). A
//! site may edit the lists and add rules of its own (`site`). What the rules read of a crash can be
//! kept and named anew at any time (`input`), and how a name came about can be told (`explain`).
//!
//! Nothing here reads a clock, a store or the network, and every step is linear in its input.

mod crash_data;
mod differences;
mod explain;
mod input;
mod java;
mod json;
mod lists;
mod memo;
mod native;
mod normalize;
mod pattern;
mod rules;
mod site;
mod text;
mod value;
#[cfg(test)]
mod vectors;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

pub use crash_data::{CrashData, Frame, Inline, Thread, UnloadedModule};
pub use differences::{DIFFERENCES, Difference};
pub use explain::{Explanation, FrameStep, RuleStep};
pub use input::{Input, KnownFrames, StoredFrame, StoredInline, is_browser_dump, java_lines};
pub use json::JsonError;
pub use lists::{FILES, FoundEntry, ListError, ListTexts, Lists};
pub use native::{FRAMES_MAX, Fate};
pub use site::SITE_RULES;
pub use value::{Fault, Value};

/// Which rules name a crash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ruleset {
    /// As siggen 2.2.20241029 does.
    Socorro,
    /// The same but for [`DIFFERENCES`].
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
    memo: Option<memo::Memo>,
}

impl Generator {
    pub fn new(ruleset: Ruleset, lists: Arc<Lists>) -> Generator {
        Generator {
            ruleset,
            lists,
            builtin: OnceLock::new(),
            memo: None,
        }
    }

    /// The same, which keeps the names of functions: for a thread that names many crashes.
    pub fn remembering(&self) -> Generator {
        Generator {
            memo: Some(memo::Memo::default()),
            ..Generator::new(self.ruleset, self.lists.clone())
        }
    }

    /// Names a crash. Never fails: what cannot be read is noted.
    pub fn generate(&self, data: &CrashData) -> Signature {
        self.generate_with(data, &|_| None)
    }

    /// The same for a crash whose annotations the site's rules may ask for.
    pub fn generate_with(
        &self,
        data: &CrashData,
        annotation: &dyn Fn(&str) -> Option<String>,
    ) -> Signature {
        self.run(&rules::RULES, data, annotation, &mut |_, _| ())
    }

    /// Whether the site splits this signature, for which a crash's annotations are needed.
    pub fn splits(&self, signature: &str, product: &str) -> bool {
        self.lists.site().splits(signature, product)
    }

    /// Splits a signature that [`KnownFrames::name`] gave.
    pub fn split(
        &self,
        signature: &str,
        product: &str,
        annotation: &dyn Fn(&str) -> Option<String>,
    ) -> Option<String> {
        let split = self.lists.site().split(signature, product, annotation)?;
        Some(split.signature)
    }

    /// Whether a signature may have been made by other lists than those in force.
    fn is_watchdog_apart(&self, signature: &Signature) -> bool {
        self.ruleset == Ruleset::Socorro
            && !self.lists.is_builtin()
            && signature.decided_by.contains(&rules::WATCHDOG)
    }

    /// Applies the rules in order; `told` sees the signature after each.
    fn run(
        &self,
        rules: &[rules::Rule],
        data: &CrashData,
        annotation: &dyn Fn(&str) -> Option<String>,
        told: &mut dyn FnMut(&'static str, &Signature),
    ) -> Signature {
        let mut signature = Signature::default();
        for rule in rules {
            let apply = AssertUnwindSafe(|| (rule.apply)(self, data, &mut signature));
            match catch_unwind(apply) {
                Ok(Ok(())) => {}
                Ok(Err(fault)) => {
                    signature.note(rule.name, &format!("Rule failed: {}", fault.0));
                }
                Err(_) => signature.note(rule.name, "Rule failed: by a fault of its own"),
            }
            told(rule.name, &signature);
        }
        self.apply_site(&mut signature, &data.product, annotation, told);
        signature
    }

    /// The site's rules, which come last.
    fn apply_site(
        &self,
        signature: &mut Signature,
        product: &str,
        annotation: &dyn Fn(&str) -> Option<String>,
        told: &mut dyn FnMut(&'static str, &Signature),
    ) {
        for applied in self
            .lists
            .site()
            .apply(&signature.text, product, annotation)
        {
            let place = format!(
                "{SITE_RULES}:{} makes it `{}`",
                applied.line, applied.signature
            );
            signature.set(applied.rule, applied.signature);
            signature.note(applied.rule, &place);
            told(applied.rule, signature);
        }
    }

    pub fn ruleset(&self) -> Ruleset {
        self.ruleset
    }

    pub fn lists(&self) -> &Arc<Lists> {
        &self.lists
    }

    fn scoped(&self, product: &str) -> lists::Scoped<'_> {
        let scoped = self.lists.scoped(self.ruleset, product);
        scoped.remembering(self.memo.as_ref())
    }

    /// The lists for a crash of the watchdog: siggen's own, whatever was asked for. Difference
    /// `watchdog-lists`: the same as for all others.
    fn watchdog_lists(&self, product: &str) -> lists::Scoped<'_> {
        if self.ruleset != Ruleset::Socorro || self.lists.is_builtin() {
            return self.scoped(product);
        }
        let builtin = self.builtin.get_or_init(Lists::builtin);
        builtin.scoped(self.ruleset, "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_that_panics_leaves_a_note_and_the_next_goes_on() {
        fn broken(_: &Generator, _: &CrashData, out: &mut Signature) -> Result<(), Fault> {
            out.set("Broken", "half".into());
            panic!("for the test")
        }
        let broken = rules::Rule {
            name: "Broken",
            apply: broken,
        };
        let generator = Generator::new(Ruleset::Crashkeep, Arc::new(Lists::builtin()));
        let [first, .., whitespace, _] = rules::RULES;
        let data = CrashData::parse(r#"{"threads":[{"frames":[{"function":"f"}]}]}"#).unwrap();
        let rules = [first, broken, whitespace];
        let signature = generator.run(&rules, &data, &|_| None, &mut |_, _| ());
        assert_eq!(signature.text, "half");
        assert_eq!(
            signature.notes,
            ["Broken: Rule failed: by a fault of its own"]
        );
    }
}
