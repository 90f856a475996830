//! Signatures: the text that groups crashes of one cause.
//!
//! A [`Generator`] computes a [`Signature`] from [`CrashData`], which has the stacks and a few annotations.
//! Thirteen named rules run in order over one text that is empty at first (`rules`). The first rule makes it
//! from the crashing thread. Each frame is normalised (`normalize`), and the lists decide which frames are
//! left out, which frames are followed by another one, and which frame starts the signature (`lists`,
//! `native`). Java crashes have their own code (`java`). The other rules add the kind of crash in front (out
//! of memory, hang, abort) and tidy up. If a rule fails, this is noted and the rule is skipped, so every
//! crash gets a signature.
//!
//! Signatures are compared over years and with Socorro's. So this module must give the same results as siggen
//! 2.2.20241029; the vectors in `tests/fixtures/signatures` check this. siggen is written in Python. `value`,
//! `json` and `text` reproduce how Python treats odd values and odd characters.
//!
//! The ruleset `crashkeep` fits everybody's code. It knows what the code of common languages, systems and
//! libraries is to a crash (`families`), and finds the code to name it by (`select`), written the same way for
//! every compiler (`spelling`). It also fixes single faults; each such difference has a name (`differences`).
//! A site may edit the lists and add its own rules (`site`). The data that the rules read of a crash can be stored, and
//! its signature computed again at any time (`input`). `explain` shows how a signature was computed.
//!
//! Nothing here reads a clock, a store or the network. The time of every step is linear in its input.

mod computed;
mod crash_data;
#[cfg(test)]
mod differences;
mod explain;
mod families;
mod fate;
mod generator;
mod input;
mod java;
mod json;
mod list_file;
mod lists;
mod memo;
mod name;
mod native;
mod normalize;
mod pattern;
mod rules;
mod ruleset;
mod select;
mod sentence;
mod site;
mod spelling;
mod step;
mod text;
mod value;
#[cfg(test)]
mod vectors;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub(crate) use computed::Signature;
pub use crash_data::CrashData;
#[cfg(test)]
pub(crate) use crash_data::{Frame, Thread};
pub(crate) use explain::{Explanation, FrameStep, ModuleStep, RuleStep};
pub(crate) use families::Owner;
pub(crate) use fate::Fate;
pub use generator::Generator;
pub(crate) use generator::rules_version;
pub use input::{Input, StoredFrame};
pub(crate) use input::{KnownFrames, StoredInline, is_browser_dump, java_lines};
pub(crate) use json::JsonError;
pub(crate) use list_file::ListError;
pub use lists::{FILES, ListTexts, Lists};
pub(crate) use lists::{FIRST_FAMILY, FoundEntry};
pub(crate) use name::FRAMES_MAX;
pub use ruleset::Ruleset;
pub(crate) use site::OWNERS;
pub use site::SITE_RULES;
pub(crate) use step::STEPS;

impl Generator {
    /// Computes the signature of a crash. Never fails: data that cannot be read is noted.
    pub fn generate(&self, data: &CrashData) -> Signature {
        self.generate_with(data, &|_| None)
    }

    /// The same for a crash whose annotations are available to the site's rules.
    pub(crate) fn generate_with(
        &self,
        data: &CrashData,
        annotation: &dyn Fn(&str) -> Option<String>,
    ) -> Signature {
        self.run(&rules::RULES, data, annotation, &mut |_, _| ())
    }

    /// Whether the site splits this signature. If so, the crash's annotations are needed.
    pub(crate) fn splits(&self, signature: &str, product: &str) -> bool {
        self.lists.site().splits(signature, product)
    }

    /// Whether the signature may have been computed with other lists than the active ones.
    fn is_watchdog_apart(&self, signature: &Signature) -> bool {
        self.ruleset == Ruleset::Socorro
            && !self.lists.is_builtin()
            && signature.decided_by.contains(&rules::WATCHDOG)
    }

    /// Applies the rules in order. Calls `told` with the signature after each of them.
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
                Err(_) => signature.note(rule.name, "Rule failed: internal error"),
            }
            told(rule.name, &signature);
        }
        self.apply_site(&mut signature, &data.product, annotation, told);
        signature
    }

    /// Applies the site's rules, which come last.
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
                "{SITE_RULES}:{} changed it to `{}`",
                applied.line, applied.signature
            );
            signature.set(applied.rule, applied.signature);
            signature.note(applied.rule, &place);
            told(applied.rule, signature);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::value::Fault;
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
        assert_eq!(signature.notes, ["Broken: Rule failed: internal error"]);
    }
}
