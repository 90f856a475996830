//! Single crashes, lists of crashes, and the bytes of a crash.

use redb::{ReadableTable, ReadableTableMetadata};

use super::crashes::{StoredCrash, StoredPart, readable};
use super::error::StoreError;
use super::handle::Store;
use super::payload::PayloadReader;
use super::rows::{self, State};
use super::tables::*;
use crate::crash::id::CrashId;
use crate::crash::raw::RawCrash;

impl Store {
    /// A crash by its id, with its sequence number.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::Newer`] if only this crash cannot be read. Other crashes are
    /// not affected. Any other error means that the store cannot be read.
    pub fn crash(&self, id: CrashId) -> Result<Option<(u64, StoredCrash)>, StoreError> {
        // A report moves from memory to the database, so the database must be read after memory.
        if let Some(ahead) = self.shared.ahead.crash(id) {
            return Ok(Some(ahead));
        }
        self.read(|read| {
            let Some(seq) = read.open_table(IDS)?.get(id.bits())?.map(|v| v.value()) else {
                return Ok(None);
            };
            let crashes = read.open_table(CRASHES)?;
            let row = crashes
                .get(seq)?
                .map(|row| rows::decode(row.value()))
                .transpose()?;
            Ok(row.map(|row| (seq, self.shared.in_flight.shown(seq, row))))
        })
    }

    /// A crash by its sequence number.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::Newer`] if only this crash cannot be read. Other crashes are
    /// not affected. Any other error means that the store cannot be read.
    pub(crate) fn crash_at(&self, seq: u64) -> Result<Option<StoredCrash>, StoreError> {
        if let Some(ahead) = self.shared.ahead.crash_at(seq) {
            return Ok(Some(ahead));
        }
        self.read(|read| {
            let crashes = read.open_table(CRASHES)?;
            let row = crashes
                .get(seq)?
                .map(|row| rows::decode(row.value()))
                .transpose()?;
            Ok(row.map(|row| self.shared.in_flight.shown(seq, row)))
        })
    }

    /// The newest crashes by receipt, newest first. Crashes with damaged rows are left out.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn newest(&self, limit: usize) -> Result<Vec<StoredCrash>, StoreError> {
        self.read(|read| {
            let crashes = read.open_table(CRASHES)?;
            let mut rows = Vec::with_capacity(limit.min(1_000));
            for entry in crashes.iter()?.rev() {
                if rows.len() == limit {
                    break;
                }
                let (seq, row) = entry?;
                rows.extend(self.listed(seq.value(), row.value()));
            }
            Ok(rows)
        })
    }

    /// The next `limit` crashes with sequence numbers above `after`, ascending. There are fewer only at the
    /// end of the table. Crashes with damaged rows are left out.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn scan(&self, after: u64, limit: usize) -> Result<Vec<(u64, StoredCrash)>, StoreError> {
        self.read(|read| {
            let crashes = read.open_table(CRASHES)?;
            let mut rows = Vec::new();
            for entry in crashes.range(after + 1..)? {
                if rows.len() == limit {
                    break;
                }
                let (seq, row) = entry?;
                let seq = seq.value();
                rows.extend(self.listed(seq, row.value()).map(|row| (seq, row)));
            }
            Ok(rows)
        })
    }

    /// The row of a crash for a list. A damaged row is left out so that the others are still shown.
    fn listed(&self, seq: u64, row: &[u8]) -> Option<StoredCrash> {
        readable(seq, row).map(|row| self.shared.in_flight.shown(seq, row))
    }

    /// The store's own id, created once.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if the id is missing. Any other error means that the store cannot be read.
    pub fn id(&self) -> Result<u128, StoreError> {
        self.read(|read| {
            let id = read
                .open_table(META)?
                .get(meta::STORE_ID)?
                .map(|n| n.value());
            id.ok_or_else(|| StoreError::Damaged("the store has no id".into()))
        })
    }

    /// The annotations and metadata of a crash.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if this crash's bytes are damaged. Other crashes are not affected.
    pub fn raw(&self, row: &StoredCrash) -> Result<RawCrash, StoreError> {
        let json = self.shared.readers.read(row.raw)?.read_all()?;
        serde_json::from_slice(&json)
            .map_err(|e| StoreError::Damaged(format!("raw crash of {}: {e}", row.id)))
    }

    /// The processed crash, as the JSON that was handed in; `None` before it was first processed.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if this crash's bytes are damaged. Other crashes are not affected.
    pub fn processed(&self, row: &StoredCrash) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(processed) = &row.processed else {
            return Ok(None);
        };
        Ok(Some(self.shared.readers.read(processed.blob)?.read_all()?))
    }

    /// The bytes of a dump or attachment, exactly as received.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if the file with the bytes is missing or is damaged at their start. Other
    /// crashes are not affected. [`StoreError::Unavailable`] if the disk failed.
    pub fn part(&self, part: &StoredPart) -> Result<PayloadReader, StoreError> {
        self.shared.readers.read(part.blob)
    }

    /// Crashes that are queued or being processed, and the total number of them. Crashes that workers have
    /// come first. The result leaves out the first `skip` crashes and crashes with damaged rows, and has at
    /// most `limit`.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn awaited(
        &self,
        skip: usize,
        limit: usize,
    ) -> Result<(Vec<StoredCrash>, u64), StoreError> {
        self.read(|read| {
            let in_flight = self.shared.in_flight.attempts();
            let ready = read.open_table(READY)?;
            let crashes = read.open_table(CRASHES)?;
            let mut working: Vec<u64> = in_flight.keys().copied().collect();
            working.sort_unstable();
            // A crash that is reprocessed is in no queue.
            let unqueued = in_flight.values().filter(|a| a.state != State::Queued);
            let total = ready.len()? + unqueued.count() as u64;
            let ready = ready.iter()?.map(|entry| Ok(entry?.0.value().1));
            let ready = ready.filter(|seq: &Result<u64, StoreError>| {
                !seq.as_ref().is_ok_and(|seq| in_flight.contains_key(seq))
            });
            let working = working.into_iter().map(Ok);
            let seqs: Vec<u64> = working
                .chain(ready)
                .skip(skip)
                .take(limit)
                .collect::<Result<_, StoreError>>()?;
            let mut rows = Vec::new();
            for seq in seqs {
                if let Some(row) = crashes.get(seq)? {
                    rows.extend(self.listed(seq, row.value()));
                }
            }
            Ok((rows, total))
        })
    }
}
