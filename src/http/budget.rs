//! The memory that incoming reports use together.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::ingest::Refusal;
use crate::limits;
use crate::store::StoreError;

/// The memory that all incoming reports may use together. A report that would exceed it is refused. A report
/// that arrives slowly uses almost none and affects no other.
#[derive(Default)]
pub(crate) struct Budget(AtomicUsize);

/// A report's share of the budget. Dropping it returns the share.
pub(super) struct Share<'a> {
    pub(super) budget: &'a Budget,
    pub(super) bytes: usize,
}

impl Share<'_> {
    /// Changes the share to this many bytes.
    pub(super) fn set(&mut self, bytes: usize) -> Result<(), Refusal> {
        let used = match bytes.checked_sub(self.bytes) {
            Some(more) => self.budget.0.fetch_add(more, Ordering::Relaxed) + more,
            None => self
                .budget
                .0
                .fetch_sub(self.bytes - bytes, Ordering::Relaxed),
        };
        self.bytes = bytes;
        if used > limits::INTAKE_MEMORY_BYTES_MAX {
            Err(Refusal::Store(StoreError::Unavailable(format!(
                "incoming reports use more than {} bytes of memory",
                limits::INTAKE_MEMORY_BYTES_MAX
            ))))
        } else {
            Ok(())
        }
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.budget.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
