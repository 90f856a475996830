//! The feed of changed crashes, from which the index follows the store.

use crossbeam_channel::Receiver;
use redb::ReadableTable;

use super::batch::Batch;
use super::command::Command;
use super::error::StoreError;
use super::handle::Store;
use super::tables::*;
use super::txn::Txn;

/// A change of a crash, for the indexer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub change: u64,
    pub(crate) seq: u64,
}

impl Store {
    /// Up to `limit` changes above `after`, ascending. A crash appears once for each of its changes.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn changes(&self, after: u64, limit: usize) -> Result<Vec<Change>, StoreError> {
        self.read(|read| {
            let changes = read.open_table(CHANGES)?;
            let mut found = Vec::new();
            for entry in changes.range(after + 1..)?.take(limit) {
                let (change, seq) = entry?;
                found.push(Change {
                    change: change.value(),
                    seq: seq.value(),
                });
            }
            Ok(found)
        })
    }

    /// The number of the newest change, and of the oldest change that is still in the feed, if any.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn change_range(&self) -> Result<(u64, Option<u64>), StoreError> {
        self.read(|read| {
            let last = read
                .open_table(META)?
                .get(meta::NEXT_CHANGE)?
                .map_or(0, |n| n.value() as u64 - 1);
            let first = read
                .open_table(CHANGES)?
                .first()?
                .map(|(change, _)| change.value());
            Ok((last, first))
        })
    }

    /// Receives a message whenever there may be new changes.
    pub(crate) fn change_signal(&self) -> Receiver<()> {
        self.change_signal.clone()
    }

    /// Tells the store that the index is durable up to this change. The store may forget the changes before
    /// it.
    ///
    /// # Errors
    /// [`StoreError::Stopping`] only.
    pub fn indexed(&self, up_to: u64) -> Result<(), StoreError> {
        self.tell(Indexed { up_to })
    }
}

struct Indexed {
    up_to: u64,
}

impl Command for Indexed {
    type Answer = ();

    fn apply(&self, txn: &mut Txn, _: &mut Batch) -> Result<(), StoreError> {
        txn.changes.retain_in(..=self.up_to, |_, _| false)?;
        Ok(())
    }
}

impl Txn<'_> {
    /// Adds a change for the indexer.
    pub(super) fn changed(&mut self, seq: u64) -> Result<(), StoreError> {
        let change = self.next(meta::NEXT_CHANGE)?;
        self.changes.insert(change, seq)?;
        Ok(())
    }

    /// The number of the newest change; 0 if there was none.
    pub(super) fn last_change(&self) -> Result<u64, StoreError> {
        let next = self.meta.get(meta::NEXT_CHANGE)?;
        Ok(next.map_or(0, |next| next.value() as u64 - 1))
    }
}
