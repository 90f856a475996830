//! The counts of one facet in one segment.

use std::collections::{HashMap, HashSet};

use super::counts::{ENTRY_BYTES, Node};
use crate::index::columns::{Bits, FieldColumn};
use crate::index::unique::KeyHash;
use crate::query::Facet;

/// Limit of cells (listed values times entries) up to which a table is a plain array.
const CELLS_MAX: usize = 1 << 20;

/// The counts of one segment.
pub(super) enum Tally {
    Nothing,
    /// By entry.
    Entries(Vec<u32>),
    /// By parent and entry, `width` entries per parent.
    Cells {
        width: usize,
        counts: Vec<u32>,
    },
    /// By parent and entry.
    Sparse(HashMap<(u32, u64), u32, KeyHash>),
    SeenEntries {
        width: usize,
        seen: Bits,
    },
    Seen(HashSet<(u32, u64), KeyHash>),
    /// Numbers have the same meaning in all segments, so they are added to the facet directly.
    Numbers,
}

impl Tally {
    pub(super) fn new(node: &Node, column: &FieldColumn, parents: usize) -> Self {
        let is_unique = matches!(node.facet, Facet::Cardinality(_));
        match column {
            _ if parents == 0 => Self::Nothing,
            FieldColumn::Missing => Self::Nothing,
            FieldColumn::Number(_) => Self::Numbers,
            FieldColumn::Text(column) => {
                let width = column.len();
                let cells = width.saturating_mul(parents);
                match (is_unique, node.parent) {
                    (true, parent) if parent.is_none() || cells <= 8 * CELLS_MAX => {
                        Self::SeenEntries {
                            width,
                            seen: Bits::new(cells),
                        }
                    }
                    (true, _) => Self::Seen(HashSet::default()),
                    (false, None) => Self::Entries(vec![0; width]),
                    (false, Some(_)) if cells <= CELLS_MAX => Self::Cells {
                        width,
                        counts: vec![0; cells],
                    },
                    (false, Some(_)) => Self::Sparse(HashMap::default()),
                }
            }
        }
    }

    pub(super) fn add(&mut self, parent: u32, value: u64) {
        match self {
            Self::Nothing | Self::Numbers => {}
            Self::Entries(counts) => counts[value as usize] += 1,
            Self::Cells { width, counts } => {
                counts[parent as usize * *width + value as usize] += 1;
            }
            Self::Sparse(counts) => *counts.entry((parent, value)).or_default() += 1,
            Self::SeenEntries { width, seen } => {
                seen.set(parent as usize * *width + value as usize)
            }
            Self::Seen(seen) => {
                seen.insert((parent, value));
            }
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Nothing | Self::Numbers => 0,
            Self::Entries(counts) | Self::Cells { counts, .. } => 4 * counts.len(),
            Self::Sparse(counts) => counts.capacity() * ENTRY_BYTES,
            Self::SeenEntries { seen, .. } => seen.memory(),
            Self::Seen(seen) => seen.capacity() * ENTRY_BYTES,
        }
    }
}
