//! The end of the log after an error, or when its segment is old.

use crate::store::batch::Batch;
use crate::store::command::Command;
use crate::store::error::StoreError;
use crate::store::segment_head::{HEAD_BYTES, Position};
use crate::store::txn::Txn;

/// Seals the log at `end`: nothing behind it counts.
pub(crate) struct SealLog {
    pub(crate) end: Position,
}

impl Command for SealLog {
    type Answer = ();

    fn apply(&self, txn: &mut Txn, _: &mut Batch) -> Result<(), StoreError> {
        txn.log_reached(self.end)?;
        txn.seal_log_before(self.end.segment)?;
        if self.end.offset > HEAD_BYTES {
            txn.edit_segment(self.end.segment, |row| {
                row.bytes = self.end.offset;
                row.sealed = true;
            })?;
        }
        Ok(())
    }
}
