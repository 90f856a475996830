//! Signatures whose stacks are alike: probably the same bug under another name, for example after a function
//! was renamed.

use std::collections::HashMap;

use crate::signature::{Generator, KnownFrames};
use crate::store::counters::NameId;
use crate::store::signatures::SignedView;
use crate::store::{Store, StoreError};

/// Newest crashes that are looked at.
const CRASHES_MAX: usize = 20_000;
/// Signatures that are compared.
const SIGNATURES_MAX: usize = 4_000;
/// Stacks of the signature itself that are compared. Its crashes may come in several ways.
const OWN_STACKS_MAX: usize = 3;
/// Less alike stacks are not shown.
const LIKENESS_MIN: f64 = 0.3;
/// How much less each frame says than the one that it called.
const FALLOFF: f64 = 0.1;

/// A signature whose stacks are like those of another.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Alike {
    pub(crate) signature: String,
    /// The weight of the functions that both stacks have, as a share of all their functions: 0 to 1.
    pub(crate) likeness: f64,
    /// Among the newest crashes.
    pub(crate) crashes: u64,
}

/// Signatures like this one, the most alike first, at most `limit`. Compares one stack of each signature among
/// the newest crashes. Empty if the signature has none among them.
pub(super) fn alike(
    store: &Store,
    generator: &Generator,
    signature: &str,
    limit: usize,
) -> Result<Vec<Alike>, StoreError> {
    store.signed(|view| {
        let mut groups: HashMap<NameId, Group> = HashMap::new();
        for crash in view.newest(CRASHES_MAX)? {
            if groups.len() == SIGNATURES_MAX && !groups.contains_key(&crash.signature) {
                continue;
            }
            let group = groups.entry(crash.signature).or_default();
            group.crashes += 1;
            let is_new = crash.input != 0 && !group.inputs.contains(&crash.input);
            if is_new && group.inputs.len() < OWN_STACKS_MAX {
                group.inputs.push(crash.input);
            }
        }
        let mut stacks = Stacks::new(generator);
        let mut own = None;
        let mut others: Vec<(Stack, String, u64)> = Vec::new();
        for (id, group) in groups {
            let text = view.signature(id)?;
            if text == signature {
                let mut of_own = Vec::new();
                for input in group.inputs {
                    of_own.push(stacks.of(view, input)?);
                }
                own = Some(of_own);
            } else if let Some(input) = group.inputs.first() {
                others.push((stacks.of(view, *input)?, text, group.crashes));
            }
        }
        let own = own.unwrap_or_default();
        let mut found: Vec<Alike> = others
            .into_iter()
            .map(|(stack, signature, crashes)| {
                let likeness = own
                    .iter()
                    .map(|own| likeness(own, &stack))
                    .fold(0.0, f64::max);
                Alike {
                    signature,
                    likeness,
                    crashes,
                }
            })
            .filter(|alike| alike.likeness >= LIKENESS_MIN)
            .collect();
        found.sort_by(|a, b| {
            let by_likeness = b.likeness.total_cmp(&a.likeness);
            by_likeness.then_with(|| a.signature.cmp(&b.signature))
        });
        found.truncate(limit);
        Ok(found)
    })
}

/// The crashes of one signature.
#[derive(Default)]
struct Group {
    crashes: u64,
    /// The first few different inputs.
    inputs: Vec<u64>,
}

/// The functions of a stack, and their weights.
type Stack = HashMap<String, f64>;

struct Stacks<'g>(KnownFrames<'g>);

impl<'g> Stacks<'g> {
    fn new(generator: &'g Generator) -> Self {
        Self(KnownFrames::new(generator))
    }

    /// The stack of an input; empty if it is damaged.
    fn of(&mut self, view: &SignedView, input: u64) -> Result<Stack, StoreError> {
        let read = |stacks: &mut KnownFrames| {
            let input = view.input(input)?;
            stacks.stack(&input, &mut |id| view.frame(id))
        };
        let functions = match read(&mut self.0) {
            Ok(functions) => functions,
            Err(StoreError::Damaged(_) | StoreError::Newer(_)) => Vec::new(),
            Err(error) => return Err(error),
        };
        let mut stack = Stack::new();
        for (at, (function, weight)) in functions.into_iter().enumerate() {
            let weight = weight / (1.0 + FALLOFF * at as f64);
            let known = stack.entry(function).or_default();
            *known = known.max(weight);
        }
        Ok(stack)
    }
}

fn likeness(a: &Stack, b: &Stack) -> f64 {
    let mut shared = 0.0;
    let mut all = 0.0;
    for (function, weight) in a {
        let other = b.get(function).copied().unwrap_or_default();
        shared += weight.min(other);
        all += weight.max(other);
    }
    let only_b = b.iter().filter(|(function, _)| !a.contains_key(*function));
    all += only_b.map(|(_, weight)| weight).sum::<f64>();
    if all > 0.0 { shared / all } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_are_alike_by_the_weight_of_what_they_share() {
        let stack = |functions: &[(&str, f64)]| -> Stack {
            functions
                .iter()
                .map(|(f, weight)| ((*f).to_owned(), *weight))
                .collect()
        };
        let a = stack(&[("open", 1.0), ("load", 1.0), ("read", 0.3)]);
        assert!((likeness(&a, &a) - 1.0).abs() < 1e-9);
        let renamed = stack(&[("open2", 1.0), ("load", 1.0), ("read", 0.3)]);
        assert!((likeness(&a, &renamed) - 1.3 / 3.3).abs() < 1e-9);
        assert_eq!(likeness(&a, &stack(&[("x", 1.0)])), 0.0);
        assert_eq!(likeness(&stack(&[]), &stack(&[])), 0.0);
    }
}
