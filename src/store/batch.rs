//! What the commands of one transaction share: the time, the segments that they append to, and how much of
//! each segment is still needed.

use std::collections::HashMap;

use super::error::StoreError;
use super::in_flight::Attempts;
use super::open_segments::OpenSegments;
use super::payload::Payload;
use super::rows::{BlobRef, Stream};
use super::segments::RecordKind;
use super::txn::Txn;
use crate::clock::Timestamp;

pub(crate) struct Batch<'w> {
    pub(crate) now: Timestamp,
    /// Number of this server process.
    pub(crate) life: u64,
    /// The crashes that workers have.
    pub(crate) in_flight: Attempts,
    pub(crate) segments: &'w mut OpenSegments,
    /// Change of the bytes that crashes need, by segment.
    live: HashMap<u32, i64>,
}

impl<'w> Batch<'w> {
    pub(crate) fn new(now: Timestamp, segments: &'w mut OpenSegments) -> Self {
        Self {
            now,
            life: 0,
            in_flight: Attempts::new(),
            segments,
            live: HashMap::new(),
        }
    }

    /// Appends a payload. It is durable once the transaction is.
    pub(crate) fn append(
        &mut self,
        txn: &mut Txn,
        stream: Stream,
        kind: RecordKind,
        seq: u64,
        payload: &Payload,
    ) -> Result<BlobRef, StoreError> {
        let appender = self.segments.appender(txn, stream, self.now)?;
        let blob = appender.append(kind, seq, payload, None)?;
        self.keep(blob);
        Ok(blob)
    }

    /// Counts a payload as needed.
    pub(crate) fn keep(&mut self, blob: BlobRef) {
        *self.live.entry(blob.segment).or_default() += blob.stored_bytes as i64;
    }

    /// Counts a payload as no longer needed.
    pub(crate) fn release(&mut self, blob: BlobRef) {
        *self.live.entry(blob.segment).or_default() -= blob.stored_bytes as i64;
    }

    /// By how many bytes this transaction changes what crashes need of a segment.
    pub(crate) fn live_change(&self, segment: u32) -> i64 {
        self.live.get(&segment).copied().unwrap_or(0)
    }

    /// Syncs what was appended, then stores the length and the needed bytes of each segment.
    pub(crate) fn end(self, txn: &mut Txn) -> Result<(), StoreError> {
        self.segments.sync(txn)?;
        self.segments.keep_numbers(txn)?;
        for (segment, delta) in self.live {
            txn.edit_segment(segment, |row| {
                row.live_bytes = row.live_bytes.saturating_add_signed(delta);
            })?;
        }
        Ok(())
    }
}
