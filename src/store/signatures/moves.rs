//! Where crashes moved when their signatures changed, so that old names lead to the current ones.

use std::collections::{BTreeMap, HashSet};

use redb::{ReadTransaction, ReadableTable};

use crate::store::error::StoreError;
use crate::store::handle::Store;
use crate::store::names::Names;
use crate::store::tables::*;
use crate::store::txn::Txn;

/// Signatures, each with a number of crashes: those that the crashes of one signature have now, or had
/// before.
pub(crate) type Moves = Vec<(String, u64)>;

/// Limit of steps from an old signature to the current ones.
const MOVES_DEPTH_MAX: usize = 32;
/// Limit of signatures that are found on the way.
const MOVES_MAX: usize = 200;

impl Store {
    /// The current signatures of crashes that once had this one, most crashes first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn moved_to(&self, signature: &str) -> Result<Moves, StoreError> {
        self.read(|read| {
            let moves = read.open_table(MOVES)?;
            let next = |id: NameId| {
                let range = moves.range((id, 0)..=(id, NameId::MAX))?;
                range
                    .map(|entry| {
                        let (key, crashes) = entry?;
                        Ok((key.value().1, crashes.value()))
                    })
                    .collect()
            };
            ways(read, signature, next)
        })
    }

    /// The signatures that crashes had before they had this one, most crashes first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn moved_from(&self, signature: &str) -> Result<Moves, StoreError> {
        self.read(|read| {
            let moves = read.open_table(MOVES)?;
            let moved_from = read.open_table(MOVED_FROM)?;
            let next = |id: NameId| {
                let range = moved_from.range((id, 0)..=(id, NameId::MAX))?;
                range
                    .map(|entry| {
                        let (to, from) = entry?.0.value();
                        let crashes = moves.get((from, to))?.map_or(0, |n| n.value());
                        Ok((from, crashes))
                    })
                    .collect()
            };
            ways(read, signature, next)
        })
    }
}

/// Follows moves from a signature, step by step, through each other signature once.
fn ways(
    read: &ReadTransaction,
    signature: &str,
    next: impl Fn(NameId) -> Result<Vec<(NameId, u64)>, StoreError>,
) -> Result<Moves, StoreError> {
    let Some(start) = read.open_table(NAMES)?.get(signature)?.map(|id| id.value()) else {
        return Ok(Vec::new());
    };
    let mut seen = HashSet::from([start]);
    let mut found: BTreeMap<NameId, u64> = BTreeMap::new();
    let mut at = vec![start];
    for _ in 0..MOVES_DEPTH_MAX {
        let mut onwards = Vec::new();
        for id in at {
            for (id, crashes) in next(id)? {
                if seen.len() <= MOVES_MAX && seen.insert(id) {
                    onwards.push(id);
                }
                if id != start && seen.contains(&id) {
                    *found.entry(id).or_default() += crashes;
                }
            }
        }
        if onwards.is_empty() {
            break;
        }
        at = onwards;
    }
    let mut names = Names::open(read)?;
    let mut moves = Vec::new();
    for (id, crashes) in found {
        moves.push((names.text(id)?, crashes));
    }
    moves.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    Ok(moves)
}

impl Txn<'_> {
    /// Notes that a crash has a new signature.
    pub(in crate::store) fn moved(
        &mut self,
        seq: u64,
        received_at_ms: i64,
        from: NameId,
        to: NameId,
    ) -> Result<(), StoreError> {
        if from == to {
            return Ok(());
        }
        self.unsettle(seq, received_at_ms, from, to)?;
        // A crash that moves back cancels its earlier move.
        let back = self.moves.get((to, from))?.map_or(0, |n| n.value());
        if back > 1 {
            self.moves.insert((to, from), back - 1)?;
        } else if back == 1 {
            self.moves.remove((to, from))?;
            self.moved_from.remove((from, to))?;
        }
        let crashes = self.moves.get((from, to))?.map_or(0, |n| n.value());
        self.moves.insert((from, to), crashes + 1)?;
        self.moved_from.insert((to, from), ())?;
        Ok(())
    }
}
