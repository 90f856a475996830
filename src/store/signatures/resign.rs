//! Re-signing: stored crashes get the signatures that other lists give them.

use redb::{ReadableTable, ReadableTableMetadata};

use crate::clock::Timestamp;
use crate::store::batch::Batch;
use crate::store::command::Command;
use crate::store::crashes::StoredCrash;
use crate::store::error::StoreError;
use crate::store::handle::Store;
use crate::store::payload::Payload;
use crate::store::rows::{self, BlobRef, ResignRow, Stream};
use crate::store::segments::RecordKind;
use crate::store::tables::*;
use crate::store::txn::Txn;

/// A new signature for a crash.
#[derive(Debug)]
pub struct Resigned {
    pub seq: u64,
    /// The processed crash that was read. If the crash has another one by now, nothing changes.
    pub read: BlobRef,
    pub processed: Payload,
    pub signature: String,
    pub revision: u64,
}

/// The progress of a re-sign since the last report of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    pub(crate) revision: u64,
    pub(crate) cursor: u64,
    pub(crate) looked_at: u64,
    pub(crate) unreadable: u64,
    pub(crate) is_ended: bool,
    /// Crashes of `outdated` that are done.
    pub(crate) caught_up: Vec<u64>,
}

impl Store {
    /// Up to `limit` crashes that were signed with older lists than the active ones.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn outdated(&self, limit: usize) -> Result<Vec<u64>, StoreError> {
        self.read(|read| {
            let outdated = read.open_table(OUTDATED)?;
            let entries = outdated.iter()?.take(limit);
            entries.map(|entry| Ok(entry?.0.value())).collect()
        })
    }

    /// The newest re-signs.
    ///
    /// # Errors
    /// The store cannot be read, or the row of a re-sign is damaged.
    pub fn resigns(&self, limit: usize) -> Result<Vec<(u64, ResignRow)>, StoreError> {
        self.read(|read| {
            let resigns = read.open_table(RESIGNS)?;
            let mut found = Vec::new();
            for entry in resigns.iter()?.rev().take(limit) {
                let (revision, row) = entry?;
                found.push((revision.value(), rows::decode(row.value())?));
            }
            Ok(found)
        })
    }

    /// Gives a crash a new signature. It becomes durable soon, and before everything that is sent after it.
    ///
    /// # Errors
    /// [`StoreError::Stopping`] only.
    pub fn resign(&self, resigned: Resigned) -> Result<(), StoreError> {
        self.tell(Resign(Box::new(resigned)))
    }

    /// Notes by which rules crashes are signed. If other rules signed the crashes in the store, a re-sign with
    /// the active lists starts; it takes the place of the one that made these lists active. Returns whether it
    /// starts.
    ///
    /// # Errors
    /// The store cannot be written.
    pub(crate) fn sign_by(&self, rules: u128) -> Result<bool, StoreError> {
        self.ask(SignBy(rules))
    }

    /// Stores the progress of a re-sign. Returns when it is durable, and with it everything that was sent
    /// before.
    ///
    /// # Errors
    /// The store cannot be written.
    pub(crate) fn resign_progress(&self, progress: Progress) -> Result<(), StoreError> {
        self.ask(StoreProgress(progress))
    }
}

struct Resign(Box<Resigned>);

impl Command for Resign {
    type Answer = ();

    fn payload_bytes(&self) -> u64 {
        self.0.processed.packed_bytes
    }

    fn apply(&self, txn: &mut Txn, batch: &mut Batch) -> Result<(), StoreError> {
        let resigned = &self.0;
        let Some(row) = txn.can_resign(resigned)? else {
            return Ok(());
        };
        let progress = txn.resign_row(resigned.revision)?;
        let (stream, kind) = (Stream::Processed, RecordKind::Processed);
        let blob = batch.append(txn, stream, kind, resigned.seq, &resigned.processed)?;
        batch.release(resigned.read);
        txn.resign(resigned, row, blob)?;
        if let Some(mut progress) = progress {
            progress.changed += 1;
            let bytes = rows::encode(&progress);
            txn.resigns.insert(resigned.revision, bytes.as_slice())?;
        }
        Ok(())
    }
}

struct StoreProgress(Progress);

impl Command for StoreProgress {
    type Answer = ();

    fn apply(&self, txn: &mut Txn, batch: &mut Batch) -> Result<(), StoreError> {
        let progress = &self.0;
        for seq in &progress.caught_up {
            txn.outdated.remove(seq)?;
        }
        let Some(mut row) = txn.resign_row(progress.revision)? else {
            return Ok(());
        };
        if row.ended_at_ms.is_some() {
            return Ok(());
        }
        row.cursor = row.cursor.max(progress.cursor);
        row.looked_at += progress.looked_at;
        row.unreadable += progress.unreadable;
        if progress.is_ended {
            row.ended_at_ms = Some(batch.now.ms());
        }
        let bytes = rows::encode(&row);
        txn.resigns.insert(progress.revision, bytes.as_slice())?;
        Ok(())
    }
}

struct SignBy(u128);

impl Command for SignBy {
    type Answer = bool;

    fn apply(&self, txn: &mut Txn, batch: &mut Batch) -> Result<bool, StoreError> {
        let before = txn.meta.insert(meta::RULES, self.0)?;
        let is_same = before.is_some_and(|before| before.value() == self.0);
        let total = txn.signed.len()?;
        if is_same || total == 0 {
            return Ok(false);
        }
        let revision = txn.revision()?;
        let row = ResignRow::begun(batch.now, total);
        txn.resigns
            .insert(revision, rows::encode(&row).as_slice())?;
        Ok(true)
    }
}

impl ResignRow {
    /// A re-sign that begins, of this many crashes.
    pub(super) fn begun(now: Timestamp, total: u64) -> Self {
        ResignRow {
            begun_at_ms: now.ms(),
            ended_at_ms: None,
            superseded: false,
            cursor: 0,
            total,
            looked_at: 0,
            changed: 0,
            unreadable: 0,
        }
    }
}

impl Txn<'_> {
    pub(super) fn resign_row(&self, revision: u64) -> Result<Option<ResignRow>, StoreError> {
        let row = self.resigns.get(revision)?;
        row.map(|row| rows::decode(row.value())).transpose()
    }

    /// The row of the crash if the new signature still applies to its current processed crash and lists.
    fn can_resign(&self, resigned: &Resigned) -> Result<Option<StoredCrash>, StoreError> {
        if self.crashes.get(resigned.seq)?.is_none() {
            return Ok(None);
        }
        let row = self.row(resigned.seq)?;
        let processed = row.processed.as_ref();
        let is_same = processed.is_some_and(|p| p.blob == resigned.read);
        Ok((is_same && resigned.revision == self.revision()?).then_some(row))
    }

    /// Gives a crash its new signature. `blob` is the location of the processed crash with this signature.
    fn resign(
        &mut self,
        resigned: &Resigned,
        mut row: StoredCrash,
        blob: BlobRef,
    ) -> Result<(), StoreError> {
        let Some(processed) = &mut row.processed else {
            return Ok(());
        };
        processed.blob = blob;
        let before = std::mem::replace(&mut processed.signature, resigned.signature.clone());
        let from = self.name(&before)?;
        let to = self.name(&resigned.signature)?;
        row.counted = match row.counted {
            Some(counted) => Some(self.recount(resigned.seq, &row, counted, to)?),
            None => None,
        };
        self.put(resigned.seq, &row)?;
        let signed = self.signed.get(resigned.seq)?.map(|row| row.value());
        if let Some((input, ..)) = signed {
            self.signed
                .insert(resigned.seq, (input, to, resigned.revision))?;
        }
        self.moved(resigned.seq, row.received_at_ms, from, to)?;
        self.changed(resigned.seq)?;
        Ok(())
    }
}
