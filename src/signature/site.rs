//! A site's own rules, in addition to the lists that siggen has. One rule per line, each for all products or
//! for one.
//!
//! ```text
//! irrelevant  [@PRODUCT] PATTERN        one more entry of that list
//! prefix      [@PRODUCT] PATTERN
//! line-number [@PRODUCT] PATTERN
//! sentinel    [@PRODUCT] FRAME
//! program     [@PRODUCT] MODULE         the file name of a module of the program
//! library     [@PRODUCT] MODULE         that of a module which is not the program's
//! driver      [@PRODUCT] MODULE         that of a driver
//! foreign     [@PRODUCT] MODULE         that of a module which another program loads into this one
//! off         [@PRODUCT] STEP or FILE   a step of the ruleset `crashkeep`, or a file of its families
//! rename      [@PRODUCT] SIGNATURE => NAME
//! merge       [@PRODUCT] SIGNATURE => SIGNATURE
//! split       [@PRODUCT] SIGNATURE by ANNOTATION
//! ```
//!
//! A product name with spaces is quoted: `@"Lynx Reader"`. The signature of a rule may end in `*`, which
//! matches any end. These rules run after siggen's thirteen rules: first at most one `rename`, then `merge`
//! repeatedly until none matches, then at most one `split`, which appends the annotation's value to the
//! signature. If several rules match, the first one in the file applies.

use std::collections::{BTreeMap, HashSet};

use super::computed::SIGNATURE_CHARS_MAX;
use regex::bytes::RegexSet;

use super::families::{self, Owner};
use super::list_file::{Entry, IRRELEVANT, LINE_NUMBERS, ListError, PREFIX, SENTINELS, entries};
use super::pattern::{self, Check, Patterns, Quad, Syntax};
use super::step;
use super::text;

pub const SITE_RULES: &str = "site_rules.txt";

/// Limit of site rules of one kind, so that a look-up is short.
const RULES_MAX: usize = 5_000;
/// Limit of merges in a sequence.
const MERGES_MAX: usize = 16;
/// Limit of characters of an annotation's value in a signature.
const VALUE_CHARS_MAX: usize = 60;

/// The lists that site rules can add to: the word in a rule, and the list's file.
const LISTS: [(&str, &str); 4] = [
    ("irrelevant", IRRELEVANT),
    ("prefix", PREFIX),
    ("line-number", LINE_NUMBERS),
    ("sentinel", SENTINELS),
];

/// The owners of modules that site rules can set: the word in a rule, and the owner.
pub(crate) const OWNERS: [(&str, Owner); 4] = [
    ("program", Owner::Program),
    ("library", Owner::Library),
    ("driver", Owner::Driver),
    ("foreign", Owner::Foreign),
];
const OFF: &str = "off";

#[derive(Debug, Default)]
pub(super) struct SiteRules {
    /// By product; `""` is for products without their own entries. Empty if no rule applies to frames.
    frames: BTreeMap<String, SiteFrames>,
    additions: Vec<Addition>,
    switches: Vec<Switch>,
    renames: Vec<Change>,
    merges: Vec<Change>,
    splits: Vec<Change>,
}

/// What the site's rules say about the frames of one product.
#[derive(Debug)]
pub(super) struct SiteFrames {
    /// Additions to siggen's lists.
    pub(crate) quad: Quad,
    /// One pattern for each of [`OWNERS`].
    owners: RegexSet,
    /// Steps and families that are switched off.
    off: HashSet<String>,
}

impl SiteFrames {
    /// Whose module this is; `None` if no rule says so.
    pub(crate) fn owner(&self, module: &str) -> Option<Owner> {
        let first = self.owners.matches(module.as_bytes()).iter().next();
        first.map(|at| OWNERS[at].1)
    }

    pub(crate) fn is_off(&self, name: &str) -> bool {
        self.off.contains(name)
    }
}

/// A step or a family that is switched off.
#[derive(Debug)]
struct Switch {
    product: Option<String>,
    name: String,
}

/// An additional entry of a list.
#[derive(Debug)]
struct Addition {
    product: Option<String>,
    /// The file of the list, or the word of one of [`OWNERS`].
    file: &'static str,
    line: usize,
    column: usize,
    text: String,
}

/// A rule that changes a signature.
#[derive(Debug)]
struct Change {
    product: Option<String>,
    line: usize,
    signature: String,
    /// Whether `signature` is only the start of the signatures that it matches.
    is_start: bool,
    /// The new signature, or the annotation.
    to: String,
}

impl Change {
    fn holds(&self, signature: &str, product: &str) -> bool {
        is_for(&self.product, product)
            && if self.is_start {
                signature.starts_with(&self.signature)
            } else {
                signature == self.signature
            }
    }
}

fn is_for(rule: &Option<String>, product: &str) -> bool {
    rule.as_deref().is_none_or(|rule| rule == product)
}

/// A site rule that changed a signature.
pub(super) struct Applied {
    pub(crate) rule: &'static str,
    /// The rule's line.
    pub(crate) line: usize,
    pub(crate) signature: String,
}

impl SiteRules {
    pub(crate) fn compile(file: &str) -> Result<SiteRules, ListError> {
        let mut rules = SiteRules::default();
        let mut count = 0;
        for entry in entries(file) {
            rules.add(entry)?;
            count += 1;
            if count > RULES_MAX {
                return Err(wrong(
                    entry,
                    0,
                    format!("there are more than {RULES_MAX} site rules"),
                ));
            }
        }
        rules.refuse_circles()?;
        let additions = rules.additions.iter().map(|a| a.product.as_deref());
        let switches = rules.switches.iter().map(|s| s.product.as_deref());
        let products: HashSet<Option<&str>> = additions.chain(switches).collect();
        let mut frames = BTreeMap::new();
        if !products.is_empty() {
            for product in products.into_iter().flatten().chain([""]) {
                frames.insert(product.to_string(), rules.frames_of(product)?);
            }
        }
        rules.frames = frames;
        Ok(rules)
    }

    fn add(&mut self, entry: Entry) -> Result<(), ListError> {
        let (kind, rest) = split_word(entry.text);
        let (product, rest) = product(entry, rest)?;
        if rest.is_empty() {
            return Err(wrong(
                entry,
                entry.text.len(),
                "the rule has no pattern or signature",
            ));
        }
        let column = entry.column + entry.text[..offset_in(entry.text, rest)].chars().count();
        if kind == OFF {
            if !step::STEPS.iter().any(|step| step.name == rest)
                && !families::BUILTIN.iter().any(|(file, _)| *file == rest)
            {
                let steps = step::STEPS.map(|step| step.name).join(", ");
                let reason = format!(
                    "unknown step or family {rest:?}; accepted: {steps}, or the file of a family"
                );
                return Err(wrong(entry, offset_in(entry.text, rest), reason));
            }
            let name = rest.to_string();
            self.switches.push(Switch { product, name });
            return Ok(());
        }
        let list = LISTS.into_iter().find(|(word, _)| *word == kind);
        let owner = OWNERS.into_iter().find(|(word, _)| *word == kind);
        if let Some(file) = list.map(|(_, file)| file).or(owner.map(|(word, _)| word)) {
            let addition = Addition {
                product,
                file,
                line: entry.line,
                column,
                text: rest.to_string(),
            };
            if file != SENTINELS {
                pattern::alone(SITE_RULES, addition.entry(), addition.syntax())?;
            }
            self.additions.push(addition);
            return Ok(());
        }
        let (list, separator) = match kind {
            "rename" => (&mut self.renames, " => "),
            "merge" => (&mut self.merges, " => "),
            "split" => (&mut self.splits, " by "),
            _ => {
                let words = LISTS.map(|(word, _)| word).join(", ");
                let owners = OWNERS.map(|(word, _)| word).join(", ");
                let reason = format!(
                    "unknown rule {kind:?}; accepted: {words}, {owners}, off, rename, merge, split"
                );
                return Err(wrong(entry, 0, reason));
            }
        };
        // A signature may contain the separator, but the text after it cannot.
        let Some((from, to)) = rest.rsplit_once(separator) else {
            let reason = format!(
                "a {kind} needs `{}` between its two sides",
                separator.trim()
            );
            return Err(wrong(entry, offset_in(entry.text, rest), reason));
        };
        let (from, to) = (text::strip(from), text::strip(to));
        let at_to = offset_in(entry.text, to);
        if from.is_empty() || to.is_empty() {
            return Err(wrong(
                entry,
                offset_in(entry.text, rest),
                "the left or the right side is empty",
            ));
        }
        if text::is_longer_than(to, SIGNATURE_CHARS_MAX) {
            let reason = format!("a signature has at most {SIGNATURE_CHARS_MAX} characters");
            return Err(wrong(entry, at_to, reason));
        }
        if kind == "split"
            && (to.contains(text::is_space) || text::is_longer_than(to, VALUE_CHARS_MAX))
        {
            let reason = format!(
                "the name of an annotation is one word of at most {VALUE_CHARS_MAX} characters"
            );
            return Err(wrong(entry, at_to, reason));
        }
        if kind != "split" && to.ends_with('*') {
            return Err(wrong(
                entry,
                at_to,
                "`*` is only allowed at the end of the left side",
            ));
        }
        let is_start = from.ends_with('*');
        list.push(Change {
            product,
            line: entry.line,
            signature: from.strip_suffix('*').unwrap_or(from).to_string(),
            is_start,
            to: to.to_string(),
        });
        Ok(())
    }

    /// Refuses merges that form a circle, because they would never end.
    fn refuse_circles(&self) -> Result<(), ListError> {
        for merge in &self.merges {
            let product = merge.product.as_deref().unwrap_or_default();
            let mut at = merge.to.as_str();
            for steps in 0.. {
                let next = self.merges.iter().find(|next| next.holds(at, product));
                let Some(next) = next.filter(|next| next.to != at) else {
                    break;
                };
                if steps == MERGES_MAX {
                    let reason =
                        format!("the merges form a circle or a chain of more than {MERGES_MAX}");
                    return Err(ListError {
                        line: Some(merge.line),
                        column: Some(1),
                        ..ListError::of_file(SITE_RULES, reason)
                    });
                }
                at = &next.to;
            }
        }
        Ok(())
    }

    fn frames_of(&self, product: &str) -> Result<SiteFrames, ListError> {
        let of = |file: &'static str| {
            let additions = self.additions.iter();
            additions.filter(move |a| a.file == file && is_for(&a.product, product))
        };
        let list = |file: &'static str| {
            Patterns::compile(SITE_RULES, Check::Joined, of(file).map(Addition::entry))
        };
        let owners = OWNERS.map(|(word, _)| {
            let patterns: Vec<&str> = of(word).map(|a| a.text.as_str()).collect();
            pattern::whole(&patterns)
        });
        let switches = self.switches.iter().filter(|s| is_for(&s.product, product));
        Ok(SiteFrames {
            quad: Quad {
                irrelevant: list(IRRELEVANT)?,
                prefix: list(PREFIX)?,
                line_numbers: list(LINE_NUMBERS)?,
                sentinels: of(SENTINELS).map(|a| a.text.clone()).collect(),
            },
            owners: pattern::set(SITE_RULES, &owners, Syntax::Module)?,
            off: switches.map(|s| s.name.clone()).collect(),
        })
    }

    /// The product, or `""` if no rule is for its frames alone.
    pub(crate) fn scope<'p>(&self, product: &'p str) -> &'p str {
        if self.frames.contains_key(product) {
            product
        } else {
            ""
        }
    }

    /// What the site's rules say about the frames of a product; `None` if nothing.
    pub(crate) fn frames(&self, product: &str) -> Option<&SiteFrames> {
        self.frames.get(self.scope(product))
    }

    /// The products with rules for their frames; `""` stands for all others.
    pub(crate) fn products(&self) -> impl Iterator<Item = (&str, &SiteFrames)> {
        let products = self.frames.iter();
        products.map(|(product, frames)| (product.as_str(), frames))
    }

    /// The line of the first rule that adds to `file` and matches. For modules, `file` is the word of the
    /// rule.
    pub(crate) fn entry_for(&self, file: &str, frames: &SiteFrames, frame: &str) -> Option<usize> {
        let mut known = self.frames.iter();
        let (product, _) = known.find(|(_, known)| std::ptr::eq(*known, frames))?;
        let matches = |a: &&Addition| match file {
            SENTINELS => a.text == frame,
            _ => pattern::alone(SITE_RULES, a.entry(), a.syntax())
                .is_ok_and(|regex| regex.is_match(frame.as_bytes())),
        };
        let mut additions = self.additions.iter();
        let found = additions
            .by_ref()
            .filter(|a| a.file == file && is_for(&a.product, product))
            .find(matches);
        found.map(|a| a.line)
    }

    /// Whether a signature is split. The other rules must already be applied.
    pub(crate) fn splits(&self, signature: &str, product: &str) -> bool {
        self.splits
            .iter()
            .any(|split| split.holds(signature, product))
    }

    /// Splits a signature. The other rules must already be applied.
    pub(crate) fn split(
        &self,
        signature: &str,
        product: &str,
        annotation: &dyn Fn(&str) -> Option<String>,
    ) -> Option<Applied> {
        let split = self
            .splits
            .iter()
            .find(|split| split.holds(signature, product))?;
        let value = annotation(&split.to)?;
        let value = text::one_line(text::first_chars(text::strip(&value), VALUE_CHARS_MAX));
        if value.is_empty() {
            return None;
        }
        // The value distinguishes the groups, so the signature is truncated and not the value.
        let end = format!(" | {}={value}", split.to);
        let room = SIGNATURE_CHARS_MAX.saturating_sub(end.chars().count());
        Some(Applied {
            rule: "SiteSplit",
            line: split.line,
            signature: format!("{}{end}", text::first_chars(signature, room)),
        })
    }

    /// The changes of a signature, one step each.
    pub(crate) fn apply(
        &self,
        signature: &str,
        product: &str,
        annotation: &dyn Fn(&str) -> Option<String>,
    ) -> Vec<Applied> {
        let mut applied = Vec::new();
        let signature = self.changed(signature, product, &mut applied);
        applied.extend(self.split(&signature, product, annotation));
        applied
    }

    fn changed(&self, signature: &str, product: &str, applied: &mut Vec<Applied>) -> String {
        let mut signature = signature.to_string();
        let mut take = |rule, change: &Change, signature: &mut String| {
            *signature = change.to.clone();
            applied.push(Applied {
                rule,
                line: change.line,
                signature: change.to.clone(),
            });
        };
        if let Some(rename) = self.renames.iter().find(|r| r.holds(&signature, product)) {
            take("SiteRename", rename, &mut signature);
        }
        for _ in 0..=MERGES_MAX {
            match self
                .merges
                .iter()
                .find(|merge| merge.holds(&signature, product))
            {
                Some(merge) if merge.to != signature => take("SiteMerge", merge, &mut signature),
                _ => break,
            }
        }
        signature
    }
}

impl Addition {
    fn entry(&self) -> Entry<'_> {
        Entry {
            line: self.line,
            column: self.column,
            text: &self.text,
        }
    }

    fn syntax(&self) -> Syntax {
        if OWNERS.iter().any(|(word, _)| *word == self.file) {
            Syntax::Module
        } else {
            Syntax::FrameStart
        }
    }
}

fn wrong(entry: Entry, at: usize, reason: impl Into<String>) -> ListError {
    ListError {
        line: Some(entry.line),
        column: Some(entry.column + entry.text[..at].chars().count()),
        ..ListError::of_file(SITE_RULES, reason)
    }
}

/// Offset of a part within its text.
fn offset_in(whole: &str, part: &str) -> usize {
    (part.as_ptr() as usize)
        .saturating_sub(whole.as_ptr() as usize)
        .min(whole.len())
}

fn split_word(line: &str) -> (&str, &str) {
    match line.split_once(text::is_space) {
        Some((word, rest)) => (word, text::strip(rest)),
        None => (line, &line[line.len()..]),
    }
}

/// Parses `@PRODUCT` or `@"PRODUCT"` at the start.
fn product<'l>(entry: Entry<'l>, rest: &'l str) -> Result<(Option<String>, &'l str), ListError> {
    let Some(scope) = rest.strip_prefix('@') else {
        return Ok((None, rest));
    };
    let (product, rest) = match scope.strip_prefix('"') {
        Some(quoted) => match quoted.split_once('"') {
            Some((product, rest)) => (product, text::strip(rest)),
            None => {
                return Err(wrong(
                    entry,
                    offset_in(entry.text, rest),
                    "the quotation mark after the product is missing",
                ));
            }
        },
        None => split_word(scope),
    };
    if product.is_empty() {
        return Err(wrong(
            entry,
            offset_in(entry.text, scope),
            "the product after `@` is missing",
        ));
    }
    Ok((Some(product.to_string()), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(rules: &str, signature: &str, product: &str) -> String {
        let rules = SiteRules::compile(rules).expect(rules);
        let annotation = |key: &str| (key == "Mode").then(|| " night\nly ".to_string());
        let applied = rules.apply(signature, product, &annotation);
        applied
            .last()
            .map_or(signature.to_string(), |a| a.signature.clone())
    }

    #[test]
    fn signatures_are_renamed_merged_and_split() {
        let check = |rules: &str, signature: &str, expected: &str| {
            assert_eq!(named(rules, signature, "Lynx"), expected, "{rules}");
        };
        check("rename a => b", "a", "b");
        check("rename a => b", "ab", "ab");
        check("rename a => b\nrename b => c", "a", "b");
        check(
            "rename a => b\nmerge b => c\nmerge c => d | e",
            "a",
            "d | e",
        );
        check("merge foo.dll@* => foo.dll", "foo.dll@0x12", "foo.dll");
        check("merge * => all", "all", "all");
        check("merge a => b => c", "a => b", "c");
        check("split a by Mode", "a", "a | Mode=night ly");
        check("split a by Other", "a", "a");
        check("rename @Lynx a => b", "a", "b");
        check("rename @\"Lynx Reader\" a => b", "a", "a");
        let long = "x".repeat(255);
        assert_eq!(named("split x* by Mode", &long, "").chars().count(), 255);
    }

    #[test]
    fn additions_to_the_lists_hold_for_all_or_for_one_product() {
        let rules =
            SiteRules::compile("prefix every\nirrelevant @Lynx one\nsentinel two").expect("good");
        let quad = |product: &str| &rules.frames(product).expect("additions").quad;
        assert!(quad("Lynx").prefix.matches("everything") && quad("").prefix.matches("every"));
        assert!(quad("Lynx").irrelevant.matches("one") && !quad("Other").irrelevant.matches("one"));
        assert!(quad("Other").sentinels.contains("two"));
        assert!(
            SiteRules::compile("rename a => b")
                .expect("good")
                .frames("")
                .is_none()
        );
    }

    #[test]
    fn modules_get_an_owner_and_steps_are_switched_off() {
        let rules = SiteRules::compile(
            "program game-.*\\.dll\nlibrary @Lynx .*\\.plugin\noff @Lynx generic\noff families/go.txt",
        )
        .expect("good");
        let frames = |product: &str| rules.frames(product).expect("rules");
        assert_eq!(frames("").owner("Game-Core.DLL"), Some(Owner::Program));
        assert_eq!(frames("").owner("x.plugin"), None);
        assert_eq!(frames("Lynx").owner("x.plugin"), Some(Owner::Library));
        assert!(frames("Lynx").is_off("generic") && !frames("").is_off("generic"));
        assert!(frames("").is_off("families/go.txt"));
    }

    #[test]
    fn a_rule_that_cannot_be_used_is_refused_with_its_place() {
        let check = |rules: &str, expected: &str| {
            let error = SiteRules::compile(rules).expect_err(rules).to_string();
            assert!(error.contains(expected), "{rules}: {error}");
        };
        check(
            "# c\n  foo a => b",
            "site_rules.txt:2:3: unknown rule \"foo\"",
        );
        check("rename a b", ":1:8: a rename needs `=>`");
        check("rename a =>  ", "needs `=>`");
        check("prefix @Lynx a(b", ":1:15: unclosed group");
        check("prefix @Lynx", ":1:13: the rule has no pattern");
        check(
            "off all",
            ":1:5: unknown step or family \"all\"; accepted: dispatch",
        );
        check("program a(b", ":1:10: unclosed group");
        check(
            "prefix @\"Lynx a",
            "the quotation mark after the product is missing",
        );
        check("merge a => b*", ":1:12: `*` is only allowed");
        check(
            "rename a => b\nmerge a => b\nmerge b => a",
            ":2:1: the merges form a circle or a chain of more than 16",
        );
        check(&format!("merge a => {}", "x".repeat(256)), "at most 255");
        check(&"prefix a\n".repeat(RULES_MAX + 1), "more than 5000");
    }
}
