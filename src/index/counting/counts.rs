//! The facets of a query, and their counts over all segments.

use std::collections::HashMap;

use super::bucket::Bucket;
use super::order::Interner;
use super::top::Top;
use crate::index::bounds::Running;
use crate::index::error::IndexError;
use crate::index::terms::TextColumn;
use crate::index::unique::{KeyHash, Unique, hash_number};
use crate::query::{Facet, FacetNode, Query};

/// Bytes of an entry in a hash map of counts, including free space of the map.
pub(super) const ENTRY_BYTES: usize = 48;

/// A facet of the query.
pub(crate) struct Node<'q> {
    pub(crate) facet: &'q Facet,
    pub(super) parent: Option<usize>,
    pub(super) level: usize,
    pub(crate) children: Vec<usize>,
    pub(super) counts: Counts,
    /// The listed values, sorted by parent and then as in the answer.
    pub(crate) listed: Vec<Bucket>,
    pub(super) listed_bytes: usize,
    /// One set per parent, if distinct values are counted.
    pub(crate) unique: Vec<Unique>,
    pub(super) unique_bytes: isize,
    /// A value that occurred several times in a row, not yet added to `counts`.
    run: Option<((u32, u64), u64)>,
}

/// Counts of a level while its segments are processed.
pub(super) enum Counts {
    /// Texts at the top level.
    Top(Top),
    /// By parent and value. The value of a text is its number in the interner.
    Inside(HashMap<(u32, u64), u64, KeyHash>),
}

/// The facets of one query.
pub(crate) struct Counting<'q> {
    pub(crate) nodes: Vec<Node<'q>>,
    pub(crate) top: Vec<usize>,
    pub(super) size: usize,
    pub(super) interner: Interner,
}

impl<'q> Counting<'q> {
    pub(crate) fn new(query: &'q Query) -> Self {
        let mut nodes = Vec::new();
        let top = match query.facets_size {
            0 => Vec::new(),
            _ => plant(&query.facets, None, 0, &mut nodes),
        };
        Self {
            nodes,
            top,
            size: query.facets_size,
            interner: Interner::default(),
        }
    }

    /// Number of levels of nested facets.
    pub(crate) fn levels(&self) -> usize {
        self.nodes
            .iter()
            .map(|node| node.level + 1)
            .max()
            .unwrap_or(0)
    }

    /// Memory of all counts and listed values.
    pub(crate) fn bytes(&self) -> usize {
        let nodes = self.nodes.iter().map(|node| {
            let counts = match &node.counts {
                Counts::Top(top) => top.bytes(),
                Counts::Inside(counts) => counts.capacity() * ENTRY_BYTES,
            };
            counts + node.listed_bytes + node.unique.len() * 64 + node.unique_bytes.max(0) as usize
        });
        nodes.sum::<usize>() + self.interner.bytes
    }
}

pub(super) fn unique(parents: usize) -> Vec<Unique> {
    (0..parents).map(|_| Unique::default()).collect()
}

/// Adds the facets to `nodes`, each after the facet around it. Returns the positions of `facets`.
fn plant<'q>(
    facets: &'q [FacetNode],
    parent: Option<usize>,
    level: usize,
    nodes: &mut Vec<Node<'q>>,
) -> Vec<usize> {
    let mut places = Vec::new();
    for FacetNode { facet, children } in facets {
        let at = nodes.len();
        let is_unique = matches!(facet, Facet::Cardinality(_));
        let is_text = facet.field().kind().is_text() && !facet.is_histogram();
        nodes.push(Node {
            facet,
            parent,
            level,
            children: Vec::new(),
            counts: if is_text && level == 0 && !is_unique {
                Counts::Top(Top::default())
            } else {
                Counts::Inside(HashMap::default())
            },
            listed: Vec::new(),
            listed_bytes: 0,
            unique: unique(usize::from(is_unique && level == 0)),
            unique_bytes: 0,
            run: None,
        });
        nodes[at].children = plant(children, Some(at), level + 1, nodes);
        places.push(at);
    }
    places
}

impl Node<'_> {
    pub(super) fn add_number(&mut self, parent: u32, value: u64) {
        if let Facet::Cardinality(_) = self.facet {
            self.unique_bytes += self.unique[parent as usize].insert(hash_number(value));
            return;
        }
        // Neighbouring documents are mostly in the same interval.
        match &mut self.run {
            Some((known, count)) if *known == (parent, value) => *count += 1,
            _ => {
                self.end_run();
                self.run = Some(((parent, value), 1));
            }
        }
    }

    pub(super) fn end_run(&mut self) {
        if let (Some((key, count)), Counts::Inside(counts)) = (self.run.take(), &mut self.counts) {
            *counts.entry(key).or_default() += count;
        }
    }

    /// Adds entries that occurred inside listed values.
    pub(super) fn add_unique(
        &mut self,
        column: &TextColumn,
        mut seen: Vec<(u64, u32)>,
        running: &Running,
    ) -> Result<(), IndexError> {
        seen.sort_unstable();
        let mut ords: Vec<u64> = seen.iter().map(|(ord, _)| *ord).collect();
        ords.dedup();
        let mut rest = seen.into_iter().peekable();
        column.each_hash_of(&ords, running, |ord, hash| {
            while let Some((_, parent)) = rest.next_if(|(at, _)| *at == ord) {
                self.unique_bytes += self.unique[parent as usize].insert(hash);
            }
            running.check_bytes(self.unique_bytes.max(0) as usize)
        })
    }
}

impl Facet {
    pub(super) fn is_histogram(&self) -> bool {
        matches!(self, Facet::DateHistogram(..) | Facet::Histogram(..))
    }
}
