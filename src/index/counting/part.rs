//! Counts the documents of one segment, one block after the other.

use std::collections::HashMap;

use tantivy::SegmentReader;

use super::bucket::Key;
use super::counts::Counting;
use super::tally::Tally;
use super::values::Values;
use crate::index::bounds::Running;
use crate::index::columns::{FieldColumn, Pairs};
use crate::index::context::Context;
use crate::index::error::IndexError;
use crate::index::unique::KeyHash;

/// The facets of a level in one segment.
pub(crate) struct Part {
    /// The facets around those that are counted, outer ones first.
    above: Vec<Above>,
    pub(super) counted: Vec<Counted>,
    pairs: Pairs,
}

/// A facet whose listed values are known.
struct Above {
    pub(super) node: usize,
    /// Position of the facet around it, in the same list.
    parent: Option<usize>,
    pub(super) column: FieldColumn,
    values: Values,
    /// Positions of the listed values, by parent and value.
    places: HashMap<(u32, u64), u32, KeyHash>,
    /// For the current block: documents and the listed values that they have.
    found: Vec<(u32, u32)>,
}

pub(super) struct Counted {
    pub(super) node: usize,
    above: Option<usize>,
    pub(super) column: FieldColumn,
    values: Values,
    pub(super) tally: Tally,
}

impl Counting<'_> {
    /// Prepares the facets of a level for a segment.
    pub(crate) fn open(
        &self,
        level: usize,
        segment: &SegmentReader,
        context: Context,
    ) -> Result<Part, IndexError> {
        let mut part = Part {
            above: Vec::new(),
            counted: Vec::new(),
            pairs: Pairs::default(),
        };
        for (at, node) in self.nodes.iter().enumerate() {
            if node.level != level {
                continue;
            }
            let above = match node.parent {
                Some(parent) => Some(self.open_above(parent, segment, context, &mut part.above)?),
                None => None,
            };
            let column = context.column(segment, node.facet.field())?;
            let parents = node
                .parent
                .map_or(1, |parent| self.nodes[parent].listed.len());
            let tally = Tally::new(node, &column, parents);
            context.running.check_bytes(self.bytes() + tally.bytes())?;
            part.counted.push(Counted {
                node: at,
                above,
                values: Values::new(node.facet),
                column,
                tally,
            });
        }
        Ok(part)
    }

    /// Looks up the listed values of a facet, and of the facets around it, in a segment. Returns its position
    /// in `above`.
    fn open_above(
        &self,
        at: usize,
        segment: &SegmentReader,
        context: Context,
        above: &mut Vec<Above>,
    ) -> Result<usize, IndexError> {
        if let Some(known) = above.iter().position(|above| above.node == at) {
            return Ok(known);
        }
        let node = &self.nodes[at];
        let parent = match node.parent {
            Some(parent) => Some(self.open_above(parent, segment, context, above)?),
            None => None,
        };
        let column = context.column(segment, node.facet.field())?;
        let mut places = HashMap::with_capacity_and_hasher(node.listed.len(), KeyHash::default());
        for (place, bucket) in node.listed.iter().enumerate() {
            let value = match (&bucket.key, &column) {
                (Key::Number(number), _) => Some(*number),
                (Key::Text(text), FieldColumn::Text(column)) => column.ord_of(text)?,
                (Key::Text(_), _) => None,
            };
            if let Some(value) = value {
                places.insert((bucket.parent, value), place as u32);
            }
        }
        above.push(Above {
            node: at,
            parent,
            values: Values::new(node.facet),
            column,
            places,
            found: Vec::new(),
        });
        Ok(above.len() - 1)
    }
}

impl Part {
    /// Counts a block of documents.
    pub(crate) fn count(
        &mut self,
        docs: &[u32],
        counting: &mut Counting,
        running: &Running,
    ) -> Result<(), IndexError> {
        for at in 0..self.above.len() {
            let (outer, rest) = self.above.split_at_mut(at);
            let above = &mut rest[0];
            above.found.clear();
            let Some(column) = above.column.numbers() else {
                continue;
            };
            self.pairs.read(column, docs);
            let around = above.parent.map(|parent| &outer[parent].found[..]);
            let (values, places, found) = (&mut above.values, &above.places, &mut above.found);
            inside(around, &self.pairs, |doc, parent, value| {
                if let Some(place) = places.get(&(parent, values.of(value))) {
                    found.push((doc, *place));
                }
            });
        }
        let mut bytes = counting.bytes();
        for counted in &mut self.counted {
            let Some(column) = counted.column.numbers() else {
                continue;
            };
            self.pairs.read(column, docs);
            let (values, tally) = (&mut counted.values, &mut counted.tally);
            match (counted.above, &mut *tally, &*values) {
                // The most frequent cases, without indirection.
                (None, Tally::Entries(counts), Values::Same) => {
                    for ord in self.pairs.values() {
                        counts[*ord as usize] += 1;
                    }
                }
                (None, Tally::SeenEntries { seen, .. }, Values::Same) => {
                    for ord in self.pairs.values() {
                        seen.set(*ord as usize);
                    }
                }
                (above, tally, _) => {
                    let around = above.map(|above| &self.above[above].found[..]);
                    let node = &mut counting.nodes[counted.node];
                    match tally {
                        Tally::Numbers => inside(around, &self.pairs, |_, parent, value| {
                            node.add_number(parent, values.of(value));
                        }),
                        tally => inside(around, &self.pairs, |_, parent, value| {
                            tally.add(parent, value);
                        }),
                    }
                    node.end_run();
                }
            }
            bytes += counted.tally.bytes();
        }
        running.check_bytes(bytes)
    }
}

/// Calls `take` for each value inside the listed values of `around`, or for all values if there is no facet
/// around.
fn inside(around: Option<&[(u32, u32)]>, pairs: &Pairs, mut take: impl FnMut(u32, u32, u64)) {
    let Some(around) = around else {
        pairs.iter().for_each(|(doc, value)| take(doc, 0, value));
        return;
    };
    // Both ascend by document, and both may have a document several times.
    let mut from = 0;
    for (doc, value) in pairs.iter() {
        while around.get(from).is_some_and(|(other, _)| *other < doc) {
            from += 1;
        }
        let same = around[from..].iter().take_while(|(other, _)| *other == doc);
        same.for_each(|(_, parent)| take(doc, *parent, value));
    }
}
