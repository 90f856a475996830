//! Acceptance of a report: from here on no kill and no power cut loses it.

use super::batch::Batch;
use super::command::Command;
use super::crashes::{StoredCrash, StoredPart};
use super::discards::Discard;
use super::error::StoreError;
use super::handle::Store;
use super::payload::Payload;
use super::rows::{Lane, State, Stream};
use super::segments::RecordKind;
use super::tables::meta;
use super::txn::Txn;
use crate::clock::{DAY_MS, Timestamp};
use crate::crash::id::CrashId;
use crate::crash::raw::Part;
use crate::throttle::Outcome;

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

impl Store {
    /// Makes a crash durable. After `Ok`, no kill and no power cut loses it. Returns its id, or the id of the
    /// stored crash if the client has sent the same report before.
    ///
    /// # Errors
    /// Nothing may be acknowledged. [`StoreError::Unavailable`] is temporary: the client should send the
    /// report again later.
    pub fn accept(&self, crash: NewCrash) -> Result<CrashId, StoreError> {
        self.ask(Accept(Box::new(crash)))
    }
}

struct Accept(Box<NewCrash>);

impl Command for Accept {
    type Answer = CrashId;

    fn payload_bytes(&self) -> u64 {
        let parts = self.0.parts.iter().map(|(_, payload)| payload.packed_bytes);
        self.0.raw.packed_bytes + parts.sum::<u64>()
    }

    fn apply(&self, txn: &mut Txn, batch: &mut Batch) -> Result<CrashId, StoreError> {
        let crash = &self.0;
        // The batch may have reached the disk before the store was reopened, although it was not answered.
        if txn.seq_of(crash.id)?.is_some() {
            return Ok(crash.id);
        }
        if let Some(digest) = crash.digest
            && let Some(known) = txn.repeated(digest, crash.received_at)?
        {
            return Ok(known);
        }
        let deferred_until_ms = crash
            .deferred_days
            .map(|days| deferred_until(crash.received_at, days));
        let (state, stream) = match deferred_until_ms {
            Some(_) => (State::Deferred, Stream::Deferred),
            None => (State::Queued, Stream::Raw),
        };
        let seq = txn.next(meta::NEXT_SEQ)?;
        let raw = batch.append(txn, stream, RecordKind::Raw, seq, &crash.raw)?;
        let mut parts = Vec::with_capacity(crash.parts.len());
        for (part, payload) in &crash.parts {
            let blob = batch.append(txn, stream, RecordKind::Part, seq, payload)?;
            parts.push(StoredPart {
                part: part.clone(),
                blob,
            });
        }
        let row = StoredCrash {
            id: crash.id,
            state,
            received_at_ms: crash.received_at.ms(),
            product: crash.product.clone(),
            version: crash.version.clone(),
            throttle_rule: crash.throttle_rule.clone(),
            raw,
            parts,
            processed: None,
            attempts: 0,
            faults: 0,
            server_deaths: 0,
            reason: None,
            lane: Lane::Normal,
            deferred_until_ms,
            counted: None,
        };
        let decided = Discard {
            day: crash.received_at.day(),
            rule: row.throttle_rule.clone(),
            outcome: match state {
                State::Deferred => Outcome::Defer,
                _ => Outcome::Accept,
            },
            product: row.product.clone(),
            version: row.version.clone(),
        };
        txn.decided(&decided, 1)?;
        txn.insert(seq, &row)?;
        if let Some(digest) = crash.digest {
            txn.remember(digest, seq, crash.received_at)?;
        }
        Ok(crash.id)
    }
}

/// The time in ms at which a deferred crash expires, `keep_days` after its receipt.
fn deferred_until(received_at: Timestamp, keep_days: u32) -> i64 {
    received_at
        .ms()
        .saturating_add(i64::from(keep_days) * DAY_MS)
}

impl Txn<'_> {
    /// Inserts a new crash whose payloads are already appended.
    fn insert(&mut self, seq: u64, row: &StoredCrash) -> Result<(), StoreError> {
        self.ids.insert(row.id.bits(), seq)?;
        self.enter(seq, row)?;
        self.count(row.state, 1)?;
        if row.state == State::Deferred {
            self.changed(seq)?;
        }
        self.put(seq, row)
    }
}
