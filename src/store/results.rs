//! The answers of workers. An answer counts only if the attempt is still the current one.

use super::batch::Batch;
use super::budget::Share;
use super::command::Command;
use super::crashes::{StoredCrash, StoredResult};
use super::error::StoreError;
use super::handle::Store;
use super::in_flight::Started;
use super::payload::Payload;
use super::rows::{BlobRef, Lane, State, Stream};
use super::segments::RecordKind;
use super::states::Job;
use super::symbols::Release;
use super::txn::Txn;
use crate::clock::Timestamp;
use crate::crash::facts::Facts;
use crate::crash::lack::Lack;
use crate::signature::{Input, StoredFrame};

/// A worker's result.
#[derive(Debug)]
pub struct Finished {
    /// The processed crash, JSON.
    pub processed: Payload,
    pub signature: String,
    pub processed_at: Timestamp,
    pub facts: Facts,
    /// Modules for which the walk needed symbols and found none.
    pub lacks: Vec<Lack>,
    /// Debug file and debug id of the modules whose symbols the walk used.
    pub used: Vec<(String, String)>,
    /// The input from which the signature was computed.
    pub named: Input<StoredFrame>,
    /// The revision of the lists with which it was computed.
    pub revision: u64,
    /// Why the crash counts as failed; `None` for a processed one.
    pub failure: Option<String>,
}

impl Store {
    /// Marks a crash as started by a worker. `worker` counts from 0. If the server dies before [`Store::ended`],
    /// its death counts against this crash.
    pub fn started(&self, worker: usize, job: &Job) {
        let started = Started {
            seq: job.seq,
            life: job.life,
            attempt: job.attempt,
        };
        self.shared.marks.set(worker, Some(started));
    }

    /// Removes the mark of a worker, because it has handed in its result.
    pub fn ended(&self, worker: usize) {
        self.shared.marks.set(worker, None);
    }

    /// Stores a worker's result. It becomes durable soon. Waits while too many results wait already. The result is dropped if the attempt is no longer
    /// the current one.
    ///
    /// # Errors
    /// [`StoreError::Stopping`] only. If the disk fails, the writer keeps the result and tries again.
    pub fn finish(&self, job: Job, finished: Finished) -> Result<(), StoreError> {
        let share = self.shared.results.take(finished.processed.packed_bytes);
        self.tell(Finish {
            _share: share,
            job,
            finished: Box::new(finished),
        })
    }

    /// Counts a walker's death or exceeded limit as a fault of the crash, and requeues the crash.
    ///
    /// # Errors
    /// [`StoreError::Stopping`] only.
    pub fn fault(&self, job: Job, reason: String) -> Result<(), StoreError> {
        self.tell(Fault { job, reason })
    }

    /// Moves a crash that takes long to the next slower lane (ADR 17).
    ///
    /// # Errors
    /// [`StoreError::Stopping`] only.
    pub fn set_back(&self, job: Job) -> Result<(), StoreError> {
        self.tell(SetBack { job })
    }
}

struct Finish {
    _share: Share,
    job: Job,
    finished: Box<Finished>,
}

impl Command for Finish {
    type Answer = ();

    fn payload_bytes(&self) -> u64 {
        self.finished.processed.packed_bytes
    }

    fn returns_job(&self) -> Option<(u64, u32)> {
        Some((self.job.seq, self.job.attempt))
    }

    fn apply(&self, txn: &mut Txn, batch: &mut Batch) -> Result<(), StoreError> {
        let (job, finished) = (&self.job, &*self.finished);
        let Some(row) = txn.end_attempt(job, batch)? else {
            return Ok(());
        };
        let (stream, kind) = (Stream::Processed, RecordKind::Processed);
        let blob = batch.append(txn, stream, kind, job.seq, &finished.processed)?;
        if let Some(replaced) = txn.finish(job, row, finished, blob)? {
            batch.release(replaced);
        }
        Ok(())
    }
}

struct Fault {
    job: Job,
    reason: String,
}

impl Command for Fault {
    type Answer = ();

    fn returns_job(&self) -> Option<(u64, u32)> {
        Some((self.job.seq, self.job.attempt))
    }

    fn apply(&self, txn: &mut Txn, batch: &mut Batch) -> Result<(), StoreError> {
        let Some(row) = txn.end_attempt(&self.job, batch)? else {
            return Ok(());
        };
        txn.begin_reprocessing(self.job.seq)?;
        txn.transition(self.job.seq, row, |row| {
            row.state = State::Queued;
            row.lane = self.job.lane;
            row.faults = row.faults.saturating_add(1);
            row.reason = Some(self.reason.clone());
        })?;
        Ok(())
    }
}

struct SetBack {
    job: Job,
}

impl Command for SetBack {
    type Answer = ();

    fn returns_job(&self) -> Option<(u64, u32)> {
        Some((self.job.seq, self.job.attempt))
    }

    fn apply(&self, txn: &mut Txn, batch: &mut Batch) -> Result<(), StoreError> {
        let Some(row) = txn.end_attempt(&self.job, batch)? else {
            return Ok(());
        };
        txn.begin_reprocessing(self.job.seq)?;
        txn.transition(self.job.seq, row, |row| {
            row.state = State::Queued;
            row.lane = match self.job.lane {
                // A suspect may have killed the server, so it stays with the suspects.
                Lane::Suspect => Lane::Suspect,
                Lane::Slow | Lane::Slowest => Lane::Slowest,
                Lane::Priority | Lane::Normal | Lane::Reprocess => Lane::Slow,
            };
        })?;
        Ok(())
    }
}

impl Txn<'_> {
    /// Ends a job with its result, whose payload is at `blob`. Returns the payload that the new result
    /// replaces.
    fn finish(
        &mut self,
        job: &Job,
        row: StoredCrash,
        finished: &Finished,
        blob: BlobRef,
    ) -> Result<Option<BlobRef>, StoreError> {
        let processed = StoredResult {
            blob,
            signature: finished.signature.clone(),
            processed_at_ms: finished.processed_at.ms(),
        };
        let replaced = row.processed.as_ref().map(|p| p.blob);
        let counted = self.count_crash(job.seq, &row, &processed.signature, &finished.facts)?;
        let before = row.processed.as_ref().map(|p| p.signature.as_str());
        match before {
            Some(before) => {
                let before = self.name(before)?;
                self.moved(job.seq, row.received_at_ms, before, counted.signature())?;
            }
            None => self.found_group(counted.signature(), row.received_at())?,
        }
        self.sign(
            job.seq,
            &finished.named,
            counted.signature(),
            finished.revision,
        )?;
        let signatures = [before, Some(&*processed.signature)];
        let now = Timestamp::from_ms(processed.processed_at_ms);
        let release = Release {
            product: row.product.clone(),
            version: row.version.clone(),
        };
        let mut lacks = finished.lacks.clone();
        lacks.extend(self.use_symbols(&finished.used, &release, now)?);
        self.finish_lacking(job.seq, &release, signatures, &lacks, now)?;
        let failure = finished.failure.clone();
        self.transition(job.seq, row, |row| {
            row.state = if failure.is_some() {
                State::Failed
            } else {
                State::Processed
            };
            row.reason = failure;
            row.processed = Some(processed);
            row.counted = Some(counted);
            row.server_deaths = 0;
            row.lane = Lane::Normal;
        })?;
        self.changed(job.seq)?;
        Ok(replaced)
    }
}
