//! A report on its way into the store.

use super::payload::Payload;
use crate::clock::{DAY_MS, Timestamp};
use crate::crash::id::CrashId;
use crate::crash::raw::Part;

/// A new report to store.
#[derive(Debug)]
pub struct NewCrash {
    pub id: CrashId,
    pub received_at: Timestamp,
    pub product: String,
    pub version: String,
    pub throttle_rule: String,
    /// For how many days the report is kept without being processed, if the throttle deferred it.
    pub deferred_days: Option<u32>,
    /// [`crate::crash::raw::RawCrash`] as JSON.
    pub raw: Payload,
    pub parts: Vec<(Part, Payload)>,
    /// Digest of everything that makes another report the same as this one; see [`super::repeats`].
    pub digest: Option<u128>,
}

impl NewCrash {
    /// The time in ms at which it expires if it was deferred.
    pub(super) fn deferred_until_ms(&self) -> Option<i64> {
        let days = i64::from(self.deferred_days?);
        Some(self.received_at.ms().saturating_add(days * DAY_MS))
    }
}
