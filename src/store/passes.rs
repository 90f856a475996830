//! The last pass of retention: when it ran, and with which settings.
//!
//! ```text
//! passes      "last"               -> PassRow
//! ```

use super::batch::Batch;
use super::command::Command;
use super::error::StoreError;
use super::handle::Store;
pub(crate) use super::rows::PassRow;
use super::rows::{self};
use super::tables::{self, PASSES};
use super::txn::Txn;
use crate::clock::Timestamp;

const LAST: &str = "last";

impl Store {
    /// The last pass that succeeded; `None` if none is stored yet.
    ///
    /// # Errors
    /// The store cannot be read, or the row of the pass is damaged.
    pub(crate) fn last_retention(&self) -> Result<Option<PassRow>, StoreError> {
        self.read(|read| {
            let table = match read.open_table(PASSES) {
                // An older store that is opened only for reading does not have this table.
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
                table => table?,
            };
            let row = table.get(LAST)?;
            row.map(|row| rows::decode(row.value())).transpose()
        })
    }

    /// Stores that a pass succeeded.
    ///
    /// # Errors
    /// The store cannot be written. The next pass then compares with the pass before this one.
    pub(crate) fn retained(&self, pass: PassRow) -> Result<(), StoreError> {
        self.ask(Retained(pass))
    }

    /// Number of deferred crashes that expire after `after` and not later than `up_to`.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn deferred_between(
        &self,
        after: Option<Timestamp>,
        up_to: Timestamp,
    ) -> Result<u64, StoreError> {
        self.read(|read| {
            let deferred = read.open_table(tables::DEFERRED)?;
            let from = after.map_or((i64::MIN, 0), |after| (after.ms().saturating_add(1), 0));
            if from > (up_to.ms(), u64::MAX) {
                return Ok(0);
            }
            let mut count = 0;
            for entry in deferred.range(from..=(up_to.ms(), u64::MAX))? {
                entry?;
                count += 1;
            }
            Ok(count)
        })
    }
}

struct Retained(PassRow);

impl Command for Retained {
    type Answer = ();

    fn apply(&self, txn: &mut Txn, _: &mut Batch) -> Result<(), StoreError> {
        txn.passes.insert(LAST, rows::encode(&self.0).as_slice())?;
        Ok(())
    }
}
