//! The only thread that writes.
//!
//! It takes a message and all other messages that wait (up to [`BATCH_MESSAGES_MAX`] or
//! [`BATCH_BYTES_MAX`]), and applies their commands in one transaction. Then it syncs the segments that it
//! appended to, commits redb, and only then answers. So all commands of a batch share the cost of the syncs.
//!
//! After an I/O error no command of the batch has been answered, although all of it may be on the disk. The
//! writer drops the database handle and opens a new one in place. It seals the segments at the end of their
//! last commit and returns jobs to the queue that were claimed but never handed out. Then it tries the batch
//! once more. If that fails too, clients get an error, results of workers are kept for later, reads return
//! what is committed, and the thread tries again every [`REOPEN_EVERY`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use redb::ReadableTable;

use super::backend::{self, Life};
use super::batch::Batch;
use super::claim::{Free, HandedOut, JobSink};
use super::command::Queued;
use super::contain::contained;
use super::error::StoreError;
use super::open_segments::OpenSegments;
use super::rows::Lane;
use super::shared::{DATABASE, Shared};
use super::tables::meta;
use super::txn::Txn;

const BATCH_MESSAGES_MAX: usize = 256;
const BATCH_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How long a result waits for other commands. Syncs are most of the cost of a transaction. If uploads come
/// one by one, a transaction for a single result would delay the next upload.
const LINGER: Duration = Duration::from_millis(1);
/// Time between two attempts to reopen the store after an I/O error.
const REOPEN_EVERY: Duration = Duration::from_millis(250);

pub(crate) enum Message {
    Apply(Box<dyn Queued>),
    /// A reader met an error: check whether the database must be opened again.
    Check,
    /// Hand out no more jobs.
    Pause,
    /// Return the crashes in flight to the queue, and end.
    Close,
}

impl Message {
    fn payload_bytes(&self) -> u64 {
        match self {
            Self::Apply(command) => command.payload_bytes(),
            Self::Check | Self::Pause | Self::Close => 0,
        }
    }

    /// Whether the batch should be applied at once.
    fn is_urgent(&self) -> bool {
        match self {
            Self::Apply(command) => command.is_awaited(),
            Self::Check | Self::Pause | Self::Close => true,
        }
    }

    /// Seq and attempt of the job that a worker gives back.
    fn returns_job(&self) -> Option<(u64, u32)> {
        match self {
            Self::Apply(command) => command.returns_job(),
            Self::Check | Self::Pause | Self::Close => None,
        }
    }

    fn is_stopping(&self) -> bool {
        matches!(self, Self::Pause | Self::Close)
    }
}

pub(crate) struct Writer {
    shared: Arc<Shared>,
    messages: Receiver<Message>,
    sink: Option<Box<dyn JobSink>>,
    life: Life,
    segments: OpenSegments,
    /// The attempt of every crash that a worker has and has not answered.
    handed_out: HashMap<u64, u32>,
    /// Seq and attempt of the suspect in flight, if any.
    suspect: Option<(u64, u32)>,
    /// To what extent the current database handle can be used.
    handle: Handle,
    cache_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handle {
    /// The handle and the writer's own state agree.
    Good,
    /// Opened after an I/O error: the next transaction cleans up first.
    Fresh,
    /// Usable only for reading, if at all.
    Broken,
}

impl Writer {
    /// Starts with a freshly opened database. Returns the crashes to the queue that were in flight, and
    /// continues the segments at the end of their last commit.
    pub(crate) fn new(
        shared: Arc<Shared>,
        life: Life,
        messages: Receiver<Message>,
        sink: Box<dyn JobSink>,
        cache_bytes: usize,
    ) -> Result<Self, StoreError> {
        let segments = OpenSegments::new(shared.disk.clone());
        let mut writer = Self {
            shared,
            messages,
            sink: Some(sink),
            life,
            segments,
            handed_out: HashMap::new(),
            suspect: None,
            handle: Handle::Good,
            cache_bytes,
        };
        writer.resume_segments()?;
        let taken_back = writer.in_transaction(|txn, _| {
            if txn.meta.get(meta::STORE_ID)?.is_none() {
                txn.meta
                    .insert(meta::STORE_ID, uuid::Uuid::new_v4().as_u128())?;
            }
            txn.fill_seen()?;
            txn.fill_groups()?;
            txn.fill_lack_counts()?;
            txn.fill_product_totals()?;
            txn.take_back(true, |_, _| false)
        })?;
        if taken_back > 0 {
            tracing::warn!(
                crashes = taken_back,
                "requeued crashes that were being processed when the server died"
            );
        }
        Ok(writer)
    }

    /// Removes dead segments whose removal was interrupted, and continues those that were in use.
    fn resume_segments(&mut self) -> Result<(), StoreError> {
        let rows = self.in_transaction(|txn, _| txn.segment_rows())?;
        let (dead, rows): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(_, row)| row.dead);
        let dead: Vec<u32> = dead.into_iter().map(|(segment, _)| segment).collect();
        match self.shared.readers.remove(&dead) {
            Ok(gone) if gone.is_empty() => {}
            Ok(gone) => self.in_transaction(|txn, _| {
                for segment in gone {
                    txn.segments.remove(segment)?;
                }
                Ok(())
            })?,
            Err(error) => {
                tracing::warn!(%error, "unused segments remain; the next sweep removes them");
            }
        }
        let unusable = self.segments.resume(&rows)?;
        if !unusable.is_empty() {
            self.in_transaction(|txn, _| {
                unusable
                    .iter()
                    .try_for_each(|segment| txn.seal_segment(*segment))
            })?;
        }
        Ok(())
    }

    /// Runs until [`Message::Close`], or until all senders of messages are dropped.
    pub(crate) fn run(mut self) {
        // Work that was queued when the server started is handed out before the first command.
        let mut batch = Vec::new();
        loop {
            match self.carry_out(&mut batch) {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => {
                    self.refuse(&mut batch, &error);
                    if batch.iter().any(|m| matches!(m, Message::Close)) {
                        let lost = batch.len() - 1;
                        tracing::error!(%error, results = lost, "the store was closed while it was not writable; crashes in progress will be processed again");
                        return;
                    }
                    self.sit_out(&mut batch, &error);
                    continue;
                }
            }
            let Ok(first) = self.messages.recv() else {
                return;
            };
            self.gather(first, &mut batch);
        }
    }

    /// Adds the waiting messages to the first message of a batch. Also waits a moment for more while no
    /// caller waits for an answer.
    fn gather(&self, first: Message, batch: &mut Vec<Message>) {
        let until = Instant::now() + LINGER;
        let mut bytes = first.payload_bytes();
        let mut is_urgent = first.is_urgent();
        batch.push(first);
        while batch.len() < BATCH_MESSAGES_MAX && bytes < BATCH_BYTES_MAX {
            let next = if is_urgent {
                self.messages.try_recv().ok()
            } else {
                self.messages.recv_deadline(until).ok()
            };
            let Some(next) = next else {
                return;
            };
            bytes += next.payload_bytes();
            is_urgent |= next.is_urgent();
            batch.push(next);
        }
    }

    /// Applies a batch. If it fails, reopens the store and tries once more, unless the store was just
    /// reopened. After success the batch is empty and every caller has an answer. Returns true if the store
    /// was closed.
    fn carry_out(&mut self, batch: &mut Vec<Message>) -> Result<bool, StoreError> {
        let result = match self.handle {
            Handle::Broken => self.reopen().and_then(|()| self.apply(batch)),
            Handle::Good | Handle::Fresh => self.apply(batch).or_else(|first| {
                self.shared.latch(&first);
                tracing::error!(error = %first, "the store could not be written; reopening it");
                self.reopen().and_then(|()| self.apply(batch))
            }),
        };
        if let Err(error) = &result {
            self.handle = Handle::Broken;
            self.shared.latch(error);
        }
        let handed = result?;
        self.handle = Handle::Good;
        if self.shared.unlatch() {
            tracing::info!("the store is writable again");
        }
        let mut closing = false;
        for message in batch.drain(..) {
            match message {
                Message::Apply(command) => command.answer(),
                Message::Check => {}
                Message::Pause => self.sink = None,
                Message::Close => closing = true,
            }
        }
        if let Some(sink) = &self.sink {
            for job in handed.jobs {
                sink.send(job);
            }
            sink.is_behind(handed.is_behind);
        }
        Ok(closing)
    }

    fn apply(&mut self, messages: &mut [Message]) -> Result<HandedOut, StoreError> {
        let changed_before = self.shared.last_change();
        let returned: Vec<(u64, u32)> = messages.iter().filter_map(Message::returns_job).collect();
        // A worker's answer for the suspect allows the next suspect in the same batch. This is also true for
        // an answer that comes too late to count, because that worker is free again.
        let suspect = self.suspect.filter(|job| !returned.contains(job));
        let is_stopping = messages.iter().any(Message::is_stopping);
        let free = self
            .sink
            .as_ref()
            .filter(|_| !is_stopping)
            .map(|sink| Free {
                places: Lane::ALL.map(|lane| sink.free(lane)),
                suspect: suspect.is_none(),
            });
        let must_tidy = self.handle != Handle::Good;
        let handed_out = std::mem::take(&mut self.handed_out);
        let applied = self.in_transaction(|txn, batch| {
            if must_tidy {
                txn.take_back(false, |seq, attempt| handed_out.get(&seq) == Some(&attempt))?;
                batch.segments.tidy(txn)?;
            }
            batch.handed_out = handed_out.keys().copied().collect();
            for message in messages {
                match message {
                    Message::Apply(command) => command.apply(txn, batch)?,
                    Message::Close => drop(txn.take_back(false, |_, _| false)?),
                    Message::Check | Message::Pause => {}
                }
            }
            let handed = match free {
                Some(free) => free.claim(txn, batch.now)?,
                None => HandedOut::default(),
            };
            Ok((handed, txn.last_change()?))
        });
        self.handed_out = handed_out;
        let (handed, last_change) = applied?;
        for (seq, attempt) in returned {
            if self.handed_out.get(&seq) == Some(&attempt) {
                self.handed_out.remove(&seq);
            }
        }
        self.suspect = suspect;
        for job in &handed.jobs {
            self.handed_out.insert(job.seq, job.attempt);
            if job.lane == Lane::Suspect {
                self.suspect = Some((job.seq, job.attempt));
            }
        }
        if last_change != changed_before {
            self.shared.tell_change(last_change);
        }
        Ok(handed)
    }

    /// Runs one durable transaction: segments are synced before redb is committed. Fails if the files that it
    /// wrote are no longer the files that the next start would open.
    fn in_transaction<R>(
        &mut self,
        work: impl FnOnce(&mut Txn, &mut Batch) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        self.shared.check_in_place()?;
        let result = contained(|| self.commit(work))?;
        self.shared.check_in_place()?;
        Ok(result)
    }

    fn commit<R>(
        &mut self,
        work: impl FnOnce(&mut Txn, &mut Batch) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        let database = self.shared.database();
        let mut write = database.begin_write()?;
        write.set_durability(redb::Durability::Immediate)?;
        // Uploads can attack redb's checksums, so we commit in two phases. Quick repair: opening the database
        // after a kill must not take minutes.
        write.set_two_phase_commit(true);
        write.set_quick_repair(true);
        let result = {
            let mut txn = Txn::open(&write)?;
            let mut batch = Batch::new(self.shared.clock.now(), &mut self.segments);
            let result = work(&mut txn, &mut batch)?;
            batch.end(&mut txn)?;
            result
        };
        write.commit()?;
        Ok(result)
    }

    /// Opens the database again after an I/O error.
    fn reopen(&mut self) -> Result<(), StoreError> {
        self.life.end();
        self.segments.abandon();
        self.shared.check_in_place()?;
        let file = self.shared.disk.open(DATABASE)?;
        self.life = Life::default();
        let database = contained(|| backend::open(file, self.cache_bytes, &self.life))?;
        self.shared.replace_database(database);
        self.handle = Handle::Fresh;
        Ok(())
    }

    /// Opens the committed data for readers while the disk does not accept writes.
    fn reopen_for_reading(&mut self) -> Result<(), StoreError> {
        self.life.end();
        let file = match self.shared.check_in_place() {
            Ok(()) => self.shared.disk.open(DATABASE)?,
            // Another file may have this name by now.
            Err(_) => self.shared.file.clone(),
        };
        self.life = Life::default();
        let database = contained(|| backend::open_for_reading(file, self.cache_bytes, &self.life))?;
        self.shared.replace_database(database);
        Ok(())
    }

    /// Tells callers that their commands failed. Commands without a waiting caller stay in the batch.
    fn refuse(&mut self, batch: &mut Vec<Message>, error: &StoreError) {
        let messages = std::mem::take(batch);
        for message in messages {
            match message {
                Message::Apply(command) => {
                    batch.extend(command.refuse(error).map(Message::Apply));
                }
                Message::Check => {}
                // Workers must be able to end even if the disk does not work.
                Message::Pause => self.sink = None,
                Message::Close => batch.push(Message::Close),
            }
        }
    }

    /// Waits before the next attempt and answers clients with the error meanwhile. Ends early if the store is
    /// to be closed.
    fn sit_out(&mut self, batch: &mut Vec<Message>, error: &StoreError) {
        let until = Instant::now() + REOPEN_EVERY;
        if let Err(error) = self.reopen_for_reading() {
            tracing::error!(%error, "the store cannot be read either");
        }
        // Clients that retry at once could keep the channel full. They must not prevent the store from trying
        // again.
        while Instant::now() < until {
            let closing = match self.messages.recv_deadline(until) {
                Ok(message) => {
                    let closing = matches!(message, Message::Close);
                    let mut one = vec![message];
                    self.refuse(&mut one, error);
                    batch.append(&mut one);
                    closing
                }
                Err(RecvTimeoutError::Disconnected) => {
                    batch.push(Message::Close);
                    true
                }
                Err(RecvTimeoutError::Timeout) => return,
            };
            if closing {
                return;
            }
        }
    }
}
