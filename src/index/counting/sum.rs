//! Adds up the counts of segments, and selects the values that are listed.

use std::collections::HashMap;

use super::bucket::Bucket;
use super::counts::{Counting, Counts, ENTRY_BYTES, unique};
use super::order::Order;
use super::part::Part;
use super::tally::Tally;
use crate::index::bounds::Running;
use crate::index::columns::FieldColumn;
use crate::index::error::IndexError;
use crate::index::terms::TextColumn;
use crate::query::Facet;

impl Counting<'_> {
    /// Adds the counts of a segment.
    pub(crate) fn add(&mut self, part: Part, running: &Running) -> Result<(), IndexError> {
        for counted in part.counted {
            let node = &mut self.nodes[counted.node];
            match (counted.tally, counted.column) {
                (Tally::Entries(counts), FieldColumn::Text(column)) => {
                    if let Counts::Top(top) = &mut node.counts {
                        top.add(column, counts);
                    }
                }
                (Tally::Cells { width, counts }, FieldColumn::Text(column)) => {
                    let cells = counts.iter().enumerate().filter(|(_, count)| **count > 0);
                    let found = cells
                        .map(|(at, count)| ((at % width) as u64, (at / width) as u32, *count))
                        .collect();
                    self.add_texts(counted.node, &column, found, running)?;
                }
                (Tally::Sparse(counts), FieldColumn::Text(column)) => {
                    let found = counts
                        .into_iter()
                        .map(|((parent, ord), count)| (ord, parent, count))
                        .collect();
                    self.add_texts(counted.node, &column, found, running)?;
                }
                (Tally::SeenEntries { width, seen }, FieldColumn::Text(column)) => {
                    let seen = seen
                        .iter()
                        .map(|at| ((at % width) as u64, (at / width) as u32));
                    node.add_unique(&column, seen.collect(), running)?;
                }
                (Tally::Seen(seen), FieldColumn::Text(column)) => {
                    let seen = seen.into_iter().map(|(parent, ord)| (ord, parent));
                    node.add_unique(&column, seen.collect(), running)?;
                }
                _ => {}
            }
            running.check_bytes(self.bytes())?;
        }
        Ok(())
    }

    /// Adds counts of entries inside listed values.
    fn add_texts(
        &mut self,
        at: usize,
        column: &TextColumn,
        mut found: Vec<(u64, u32, u32)>,
        running: &Running,
    ) -> Result<(), IndexError> {
        found.sort_unstable();
        let held = self.bytes() + found.len() * 16;
        running.check_bytes(held)?;
        let Counts::Inside(all) = &mut self.nodes[at].counts else {
            return Ok(());
        };
        let mut ords: Vec<u64> = found.iter().map(|(ord, ..)| *ord).collect();
        ords.dedup();
        let mut rest = found.into_iter().peekable();
        let interner = &mut self.interner;
        let before = interner.bytes;
        column.each_of(&ords, running, |ord, text| {
            let key = interner.key(text);
            while let Some((_, parent, count)) = rest.next_if(|(at, ..)| *at == ord) {
                *all.entry((parent, key)).or_default() += u64::from(count);
            }
            running.check_bytes(held + interner.bytes - before + all.len() * ENTRY_BYTES)
        })
    }

    /// Selects the values of a level that are listed.
    pub(crate) fn keep(&mut self, level: usize, running: &Running) -> Result<(), IndexError> {
        for at in 0..self.nodes.len() {
            if self.nodes[at].level != level {
                continue;
            }
            let held = self.bytes();
            let node = &mut self.nodes[at];
            let kind = node.facet.field().kind();
            let counts = std::mem::replace(&mut node.counts, Counts::Inside(HashMap::default()));
            node.listed = match counts {
                Counts::Top(top) => top.finish(kind, self.size, held, running)?,
                Counts::Inside(counts) => {
                    running.check_bytes(held + counts.len() * 40)?;
                    let is_histogram = node.facet.is_histogram();
                    let found = counts.into_iter().collect();
                    let order = Order {
                        kind,
                        texts: kind.is_text().then_some(&self.interner),
                        is_histogram,
                        size: self.size,
                    };
                    order.listed(found, running)?
                }
            };
            node.listed_bytes = node.listed.iter().map(Bucket::bytes).sum();
            // Prepare the sets in which the values inside them are counted.
            let parents = self.nodes[at].listed.len();
            for child in self.nodes[at].children.clone() {
                if let Facet::Cardinality(_) = self.nodes[child].facet {
                    self.nodes[child].unique = unique(parents);
                }
            }
            running.check_bytes(self.bytes())?;
        }
        Ok(())
    }
}
