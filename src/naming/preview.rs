//! Previews changed lists: computes the signature of every stored crash with them, and compares it with the
//! current one.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use super::inputs::{Bases, input_of};
use crate::signature::{Generator, KnownFrames};
use crate::store::counters::NameId;
use crate::store::signatures::Signed;
use crate::store::{Store, StoreError};

/// Number of crashes that are read at once.
const BATCH: usize = 10_000;
/// Limit of groups of each kind that are listed. All are counted.
const GROUPS_MAX: usize = 200;
/// Number of example crashes for a group.
const EXAMPLES_MAX: usize = 3;

/// What the lists would change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preview {
    /// Number of crashes that were examined.
    pub crashes: u64,
    /// Crashes that would get another signature.
    pub changed: u64,
    /// Crashes whose new signature is unknown, because their reports cannot be read.
    pub(crate) unreadable: u64,
    pub(crate) signatures_before: u64,
    pub(crate) signatures_after: u64,
    /// Signatures into which several signatures would be merged.
    pub(crate) merges: Groups,
    /// Signatures whose crashes would be split over several signatures.
    pub(crate) splits: Groups,
    /// Signatures that would be renamed, with all their crashes and no others.
    pub(crate) renames: Groups,
}

/// Groups of one kind, those with the most crashes first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Groups {
    pub(crate) count: u64,
    /// The first of the groups.
    pub(crate) shown: Vec<Group>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    /// The signature into which others are merged, or which is split or renamed.
    pub(crate) signature: String,
    pub(crate) crashes: u64,
    /// The signatures from which the crashes come, or to which they go. One of them may be `signature`
    /// itself.
    pub(crate) parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) signature: String,
    pub(crate) crashes: u64,
    /// Sequence numbers of some of the crashes.
    pub(crate) examples: Vec<u64>,
}

/// Crashes that have one signature and would get another, or keep it.
#[derive(Default)]
struct Flow {
    crashes: u64,
    examples: Vec<u64>,
}

/// Signatures by number, in the order in which they were first seen.
#[derive(Default)]
struct Texts {
    ids: HashMap<String, usize>,
    texts: Vec<String>,
}

impl Texts {
    fn id(&mut self, text: &str) -> usize {
        if let Some(id) = self.ids.get(text) {
            return *id;
        }
        self.texts.push(text.to_owned());
        self.ids.insert(text.to_owned(), self.texts.len() - 1);
        self.texts.len() - 1
    }
}

/// Computes the signature of every stored crash with a generator, and compares it with the current one.
pub(super) fn preview(store: &Store, generator: &Generator) -> Result<Preview, StoreError> {
    let mut preview = Preview::default();
    let mut texts = Texts::default();
    let mut flows: BTreeMap<(usize, usize), Flow> = BTreeMap::new();
    let mut to_read: Vec<(Signed, usize)> = Vec::new();
    store.signed(|view| {
        let mut known = KnownFrames::new(generator);
        let mut bases = Bases::default();
        let mut before: HashMap<NameId, usize> = HashMap::new();
        let mut after: HashMap<u64, Option<usize>> = HashMap::new();
        let mut cursor = 0;
        loop {
            let batch = view.crashes(cursor, BATCH)?;
            for signed in &batch {
                let from = match before.get(&signed.signature) {
                    Some(from) => *from,
                    None => {
                        let id = texts.id(&view.signature(signed.signature)?);
                        *before.entry(signed.signature).or_insert(id)
                    }
                };
                let to = match after.get(&signed.input) {
                    Some(to) => *to,
                    None => {
                        let base = bases.of(view, &mut known, signed.input)?;
                        let base = base.filter(|base| !base.is_split);
                        let to = base.map(|base| texts.id(&base.signature));
                        *after.entry(signed.input).or_insert(to)
                    }
                };
                match to {
                    Some(to) => flows.entry((from, to)).or_default().add(signed.seq),
                    None => to_read.push((*signed, from)),
                }
            }
            match batch.last() {
                Some(last) => cursor = last.seq,
                None => return Ok(()),
            }
        }
    })?;
    for (signed, from) in to_read {
        match whole_name(store, generator, signed.seq)? {
            Some(signature) => {
                let to = texts.id(&signature);
                flows.entry((from, to)).or_default().add(signed.seq);
            }
            None => preview.unreadable += 1,
        }
    }
    preview.fill(&flows, &texts.texts);
    Ok(preview)
}

/// The signature of a crash, computed from its report.
fn whole_name(
    store: &Store,
    generator: &Generator,
    seq: u64,
) -> Result<Option<String>, StoreError> {
    let Some(row) = store.crash_at(seq)? else {
        return Ok(None);
    };
    let Some(input) = input_of(store, seq, &row)? else {
        return Ok(None);
    };
    let raw = store.raw(&row).unwrap_or_default();
    let annotation = |key: &str| raw.annotation(key).map(str::to_owned);
    let signature = generator.generate_with(&input.crash_data(), &annotation);
    Ok(Some(signature.text))
}

impl Flow {
    fn add(&mut self, seq: u64) {
        self.crashes += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(seq);
        }
    }
}

impl Preview {
    fn fill(&mut self, flows: &BTreeMap<(usize, usize), Flow>, texts: &[String]) {
        let mut out: BTreeMap<usize, Vec<(usize, &Flow)>> = BTreeMap::new();
        let mut into: BTreeMap<usize, Vec<(usize, &Flow)>> = BTreeMap::new();
        for ((from, to), flow) in flows {
            self.crashes += flow.crashes;
            if from != to {
                self.changed += flow.crashes;
            }
            out.entry(*from).or_default().push((*to, flow));
            into.entry(*to).or_default().push((*from, flow));
        }
        self.signatures_before = out.len() as u64;
        self.signatures_after = into.len() as u64;
        let merges = into.iter().filter(|(_, from)| from.len() > 1);
        self.merges = Groups::of(merges, texts);
        let splits = out.iter().filter(|(_, to)| to.len() > 1);
        self.splits = Groups::of(splits, texts);
        let renames = out
            .iter()
            .filter(|(from, to)| to.len() == 1 && to[0].0 != **from && into[&to[0].0].len() == 1);
        self.renames = Groups::of(renames, texts);
    }
}

impl Groups {
    fn of<'f>(
        groups: impl Iterator<Item = (&'f usize, &'f Vec<(usize, &'f Flow)>)>,
        texts: &[String],
    ) -> Groups {
        let mut all: Vec<Group> = groups
            .map(|(signature, parts)| {
                let mut parts: Vec<Part> = parts
                    .iter()
                    .map(|(part, flow)| Part {
                        signature: texts[*part].clone(),
                        crashes: flow.crashes,
                        examples: flow.examples.clone(),
                    })
                    .collect();
                parts.sort_by_key(|part| Reverse(part.crashes));
                Group {
                    signature: texts[*signature].clone(),
                    crashes: parts.iter().map(|part| part.crashes).sum(),
                    parts,
                }
            })
            .collect();
        all.sort_by_key(|group| Reverse(group.crashes));
        let count = all.len() as u64;
        all.truncate(GROUPS_MAX);
        Groups { count, shown: all }
    }
}
