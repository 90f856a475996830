//! Deletion of crashes.

use redb::ReadableTable;

use super::batch::Batch;
use super::command::Command;
use super::crashes::StoredCrash;
use super::error::StoreError;
use super::handle::Store;
use super::rows::State;
use super::symbols::Release;
use super::tables::DEFERRED;
use super::txn::Txn;
use crate::clock::Timestamp;

impl Store {
    /// Deletes those of the crashes that are still in one of `states`. Returns how many it deleted.
    ///
    /// # Errors
    /// The store cannot be written. Nothing is deleted.
    pub fn delete(&self, seqs: Vec<u64>, states: &'static [State]) -> Result<u64, StoreError> {
        self.ask(Delete { seqs, states })
    }

    /// Up to `limit` deferred crashes that expire at `now` or before.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn overdue(&self, now: Timestamp, limit: usize) -> Result<Vec<u64>, StoreError> {
        self.read(|read| {
            let deferred = read.open_table(DEFERRED)?;
            let mut seqs = Vec::new();
            for entry in deferred.range(..=(now.ms(), u64::MAX))?.take(limit) {
                seqs.push(entry?.0.value().1);
            }
            Ok(seqs)
        })
    }
}

struct Delete {
    seqs: Vec<u64>,
    states: &'static [State],
}

impl Command for Delete {
    type Answer = u64;

    fn apply(&self, txn: &mut Txn, batch: &mut Batch) -> Result<u64, StoreError> {
        let mut deleted = 0;
        for &seq in &self.seqs {
            let row = match txn.delete(seq, self.states, batch.now) {
                // A damaged row does not say what else to delete.
                Err(StoreError::Damaged(_) | StoreError::Newer(_)) => continue,
                other => other?,
            };
            if let Some(row) = row {
                deleted += 1;
                batch.in_flight.remove(&seq);
                row.blobs().for_each(|blob| batch.release(blob));
            }
        }
        Ok(deleted)
    }
}

impl Txn<'_> {
    /// Deletes a crash if it is still in one of `states`. Returns its row, whose payloads are now dead;
    /// `None` if the crash does not exist or is in another state.
    fn delete(
        &mut self,
        seq: u64,
        states: &[State],
        now: Timestamp,
    ) -> Result<Option<StoredCrash>, StoreError> {
        if self.crashes.get(seq)?.is_none() {
            return Ok(None);
        }
        let row = self.row(seq)?;
        if !states.contains(&row.state) {
            return Ok(None);
        }
        self.leave(seq, &row)?;
        self.count(row.state, -1)?;
        self.crashes.remove(seq)?;
        self.ids.remove(row.id.bits())?;
        self.forget_repeat(seq)?;
        let release = Release {
            product: row.product.clone(),
            version: row.version.clone(),
        };
        self.delete_lacking(seq, &release, now)?;
        self.unsign(seq)?;
        self.unsettled.remove(seq)?;
        self.outlive(seq, &row)?;
        self.changed(seq)?;
        Ok(Some(row))
    }
}
