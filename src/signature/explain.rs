//! Explains a signature: what happened to each frame, and how each rule changed the text.

use super::crash_data::CrashData;
use super::families::Owner;
use super::list_file::{IRRELEVANT, PREFIX, SENTINELS};
use super::lists::FoundEntry;
use super::{Fate, Generator, Signature, native, rules};

/// One frame of the thread from which the signature was made, inlined calls included.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FrameStep {
    /// The name that the rules use.
    pub(crate) name: String,
    pub(crate) fate: Fate,
    /// The list entries that match it: as a sentinel, as irrelevant, as a prefix, by its role, by its module.
    pub(crate) entries: Vec<FoundEntry>,
}

/// A module on the stack, and whose code it is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ModuleStep {
    /// File name.
    pub(crate) module: String,
    pub(crate) owner: Owner,
    /// The list entry that says so. Without one it is the folder of the module that decided, or nothing is
    /// known and it counts as the program's.
    pub(crate) entry: Option<FoundEntry>,
}

/// A rule that changed the signature.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RuleStep {
    pub(crate) rule: &'static str,
    pub(crate) before: String,
    pub(crate) after: String,
}

/// A signature and all steps that led to it.
#[derive(Clone, Debug)]
pub struct Explanation {
    pub signature: Signature,
    /// Whether the frames are those of thread 0, because the crashing thread is the watchdog.
    pub(crate) is_of_first_thread: bool,
    /// Callee first. Empty if the signature comes from a Java stack.
    pub(crate) frames: Vec<FrameStep>,
    /// The modules of the frames, each once. Empty in the ruleset `socorro`, which does not look at modules.
    pub(crate) modules: Vec<ModuleStep>,
    /// In the order in which they ran.
    pub(crate) rules: Vec<RuleStep>,
}

impl Generator {
    /// Computes a signature as [`Generator::generate_with`] does, and explains it.
    pub fn explain(
        &self,
        data: &CrashData,
        annotation: &dyn Fn(&str) -> Option<String>,
    ) -> Explanation {
        let mut steps: Vec<RuleStep> = Vec::new();
        let mut before = String::new();
        let signature = self.run(&rules::RULES, data, annotation, &mut |rule, signature| {
            if signature.text != before {
                steps.push(RuleStep {
                    rule,
                    before: std::mem::replace(&mut before, signature.text.clone()),
                    after: signature.text.clone(),
                });
            }
        });
        let is_of_first_thread = signature.decided_by.contains(&rules::WATCHDOG);
        let is_java = data.java_stack_trace.is_truthy() || data.java_exception.is_truthy();
        let (frames, modules) = if is_java {
            Default::default()
        } else {
            self.frame_steps(data, is_of_first_thread)
        };
        Explanation {
            signature,
            is_of_first_thread,
            frames,
            modules,
            rules: steps,
        }
    }

    fn frame_steps(
        &self,
        data: &CrashData,
        is_of_first_thread: bool,
    ) -> (Vec<FrameStep>, Vec<ModuleStep>) {
        let (index, lists) = if is_of_first_thread {
            (0, self.watchdog_lists(&data.product))
        } else {
            (rules::crashing_thread(data).1, self.scoped(&data.product))
        };
        let thread = data.thread(index);
        let system = native::System::new(&data.os, &data.reason);
        let mut fates = Vec::new();
        let Ok(names) = native::names(thread, system.is_windows, &lists) else {
            return Default::default();
        };
        if native::stack(thread, system, &lists, Some(&mut fates)).is_err() {
            return Default::default();
        }
        let mut modules: Vec<ModuleStep> = Vec::new();
        for place in names.iter().map(|name| &name.place) {
            let Some(module) = place.file.as_deref() else {
                continue;
            };
            if !modules.iter().any(|known| known.module == module) {
                let entry = || lists.owner_entry_for(place.owner, module);
                modules.push(ModuleStep {
                    module: module.to_owned(),
                    owner: place.owner,
                    entry: place.is_listed.then(entry).flatten(),
                });
            }
        }
        let steps = names.iter().zip(fates).map(|(name, fate)| {
            let verdict = lists.verdict(name.listed());
            let held = [
                (verdict.is_sentinel, SENTINELS),
                (verdict.is_irrelevant, IRRELEVANT),
                (verdict.is_prefix, PREFIX),
            ];
            let files = held.into_iter().filter(|(holds, _)| *holds);
            let siggen = files.filter_map(|(_, file)| lists.entry_for(file, name.listed()));
            let role = verdict.known.role.filter(|_| name.place.is_code);
            let of_role = role.and_then(|role| lists.role_entry_for(role, name.listed()));
            let of_module = || lists.owner_entry_for(name.place.owner, name.place.file.as_deref()?);
            let is_by_module = matches!(
                fate,
                Fate::NamelessLibrary
                    | Fate::Library
                    | Fate::LibraryKept
                    | Fate::Driver
                    | Fate::DriverKept
            );
            let of_module = is_by_module.then(of_module).flatten();
            FrameStep {
                name: name.text.to_string(),
                fate,
                entries: siggen.chain(of_role).chain(of_module).collect(),
            }
        });
        (steps.collect(), modules)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{ListTexts, Lists, Ruleset};
    use super::*;

    #[test]
    fn each_frame_and_each_rule_is_told() {
        let mut texts = ListTexts::builtin();
        texts.0[4] = "merge hang: ui | purecall | main => main".into();
        let lists = Arc::new(Lists::new(texts).unwrap());
        let generator = Generator::new(Ruleset::Crashkeep, lists);
        let crash = r#"{"hang":"ui","threads":[{"frames":[{"function":"before"},{"function":"_purecall"},
            {"function":""},{"function":"memcpy"},{"function":"main"},{"function":"start"}]}]}"#;
        let told = generator.explain(&CrashData::parse(crash).unwrap(), &|_| None);
        let fates: Vec<_> = told
            .frames
            .iter()
            .map(|f| (f.name.as_str(), f.fate))
            .collect();
        let expected = [
            ("before", Fate::AboveSentinel),
            ("_purecall", Fate::Machinery),
            ("", Fate::Nameless),
            ("memcpy", Fate::Generic),
            ("main", Fate::Last),
            ("start", Fate::NotReached),
        ];
        assert_eq!(fates, expected);
        let sentinel = &told.frames[1].entries[0];
        assert_eq!(
            (sentinel.file, sentinel.text.as_str()),
            (SENTINELS, "_purecall")
        );
        let [prefix, generic] = &told.frames[3].entries[..] else {
            panic!("{:?}", told.frames[3].entries)
        };
        assert!(prefix.file == PREFIX && prefix.line > 1, "{prefix:?}");
        assert!(generic.file == "families/libc.txt", "{generic:?}");
        let rules: Vec<_> = told
            .rules
            .iter()
            .map(|r| (r.rule, r.after.as_str()))
            .collect();
        let expected = [
            ("SignatureGenerationRule", "purecall | main"),
            ("HungProcess", "hang: ui | purecall | main"),
            ("SiteMerge", "main"),
        ];
        assert_eq!(rules, expected);
        assert_eq!(told.signature.text, "main");
    }
}
