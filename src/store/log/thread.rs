//! The thread that appends reports to the log, makes them durable and answers. It never waits for the
//! database, except at the bound of `ahead` and after an error.
//!
//! After an error, nothing behind the last synced report may ever count, because clients were told that it is
//! not stored. So the end of the log is sealed in the database before the next answer, and the log continues
//! in a new segment.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use redb::ReadableDatabase;

use super::record;
use super::replay::Replay;
use super::seal::SealLog;
use crate::clock::Timestamp;
use crate::crash::id::CrashId;
use crate::store::ahead::Logged;
use crate::store::asking::WriterHandle;
use crate::store::contain::contained;
use crate::store::crashes::{StoredCrash, StoredPart};
use crate::store::error::StoreError;
use crate::store::message::Message;
use crate::store::new_crash::NewCrash;
use crate::store::repeat_table::known_repeat;
use crate::store::rows::{BlobRef, Lane, State, Stream};
use crate::store::segment_head::{HEAD_BYTES, Position, SegmentHead};
use crate::store::segments::{self, Appender, RecordKind};
use crate::store::shared::Shared;
use crate::store::tables::IDS;

/// Reports that share one sync.
const BATCH_REPORTS_MAX: usize = 256;
const BATCH_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Time between two attempts to repair the log after an error.
const RETRY_EVERY: Duration = Duration::from_millis(250);
/// At the bound, the log looks this often whether the database failed.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A report and the way back to its client.
pub(crate) struct Waiting {
    pub(crate) crash: Box<NewCrash>,
    pub(crate) reply: Sender<Result<CrashId, StoreError>>,
}

pub(crate) enum LogMessage {
    Report(Waiting),
    /// Seal the segment that is in use if it is old, so that it can be deleted one day.
    SealOld(Sender<Result<(), StoreError>>),
    Close,
}

/// The state of the thread.
pub(crate) struct Log {
    shared: Arc<Shared>,
    messages: Receiver<LogMessage>,
    writer: WriterHandle,
    appender: Option<Appender>,
    /// The end of the last durable report.
    end: Position,
    /// Whether something may be on the disk behind `end`, although no client has an answer for it.
    is_torn: bool,
    /// Whether the last batch was refused because of an error.
    has_failed: bool,
    next_seq: u64,
}

impl Log {
    /// Continues the log where `replay` ended.
    pub(crate) fn new(
        shared: Arc<Shared>,
        messages: Receiver<LogMessage>,
        writer: WriterHandle,
        replay: &Replay,
        next_seq: u64,
    ) -> Self {
        let open = replay.open.as_ref();
        let appender = open.map(|(head, file)| {
            Appender::new(
                head.number,
                file.clone(),
                replay.end.offset,
                head.created_at_ms,
            )
        });
        Self {
            shared,
            messages,
            writer,
            appender,
            end: replay.end,
            is_torn: false,
            has_failed: false,
            next_seq,
        }
    }

    /// Runs until [`LogMessage::Close`], or until all senders of messages are dropped.
    pub(crate) fn run(mut self) {
        loop {
            let first = if self.has_failed {
                self.messages.recv_timeout(RETRY_EVERY)
            } else {
                (self.messages.recv()).map_err(|_| RecvTimeoutError::Disconnected)
            };
            let mut batch = Vec::new();
            let mut others = Vec::new();
            match first {
                Ok(LogMessage::Report(report)) => {
                    batch.push(report);
                    self.gather(&mut batch, &mut others);
                }
                Ok(other) => others.push(other),
                // Clients that are refused may stay away, so the log repairs itself without them.
                Err(RecvTimeoutError::Timeout) => self.recover(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if !batch.is_empty() {
                self.take(batch);
            }
            for message in others {
                match message {
                    LogMessage::Report(report) => self.take(vec![report]),
                    LogMessage::SealOld(reply) => drop(reply.send(self.seal_old())),
                    LogMessage::Close => return,
                }
            }
        }
    }

    /// Adds the waiting reports to the first one, up to the next message of another kind.
    fn gather(&self, batch: &mut Vec<Waiting>, others: &mut Vec<LogMessage>) {
        let mut bytes = batch.iter().map(Waiting::bytes).sum::<u64>();
        while batch.len() < BATCH_REPORTS_MAX && bytes < BATCH_BYTES_MAX {
            match self.messages.try_recv() {
                Ok(LogMessage::Report(report)) => {
                    bytes += report.bytes();
                    batch.push(report);
                }
                Ok(other) => {
                    others.push(other);
                    return;
                }
                Err(_) => return,
            }
        }
    }

    /// Makes a batch of reports durable and answers their clients.
    fn take(&mut self, batch: Vec<Waiting>) {
        if let Err(error) = self.room() {
            return batch.iter().for_each(|waiting| waiting.refuse(&error));
        }
        let kept = self.repair().and_then(|()| self.append(&batch));
        let kept = kept.or_else(|first| {
            if !self.is_torn {
                return Err(first);
            }
            tracing::error!(error = %first, "the log of reports could not be written; it continues in a new segment");
            self.repair()?;
            self.append(&batch)
        });
        self.has_failed = kept.is_err();
        match kept {
            Ok(ids) => {
                self.works();
                for (waiting, id) in batch.iter().zip(ids) {
                    // A client that has gone does not wait for its answer.
                    let _ = waiting.reply.send(Ok(id));
                }
            }
            Err(error) => {
                self.shared.log_fails(&error);
                batch.iter().for_each(|waiting| waiting.refuse(&error));
            }
        }
    }

    /// Tries whether the log can be written again.
    fn recover(&mut self) {
        let in_place = self.shared.check_in_place();
        if in_place.and_then(|()| self.repair()).is_ok() {
            self.has_failed = false;
            self.works();
        }
    }

    fn works(&self) {
        if self.shared.log_works() {
            tracing::info!("the log of reports can be written again");
        }
    }

    /// Waits until the log may take more reports.
    fn room(&self) -> Result<(), StoreError> {
        while !self.shared.ahead.has_room() {
            if let Some(why) = self.shared.latched.lock().clone() {
                return Err(StoreError::Unavailable(why));
            }
            if self.writer.ended.try_recv() == Err(TryRecvError::Disconnected) {
                return Err(StoreError::Stopping);
            }
            self.shared.ahead.wait(LOOK_EVERY);
        }
        Ok(())
    }

    /// Appends reports and syncs them. Returns the id of each, which is that of an earlier crash for a report
    /// that was sent again.
    fn append(&mut self, batch: &[Waiting]) -> Result<Vec<CrashId>, StoreError> {
        // Another process may be writing the file that has this name now.
        self.shared.check_in_place()?;
        let stored = self.stored(batch)?;
        let (mut ids, mut logged) = (Vec::with_capacity(batch.len()), Vec::<Logged>::new());
        self.is_torn = true;
        for (waiting, stored) in batch.iter().zip(stored) {
            let crash = &*waiting.crash;
            let is_same = |other: &&Logged| {
                other.crash.id == crash.id || other.digest.is_some() && other.digest == crash.digest
            };
            let known = stored.or_else(|| logged.iter().find(is_same).map(|other| other.crash.id));
            ids.push(known.unwrap_or(crash.id));
            if known.is_none() {
                logged.push(self.append_one(crash)?);
            }
        }
        if let Some(appender) = &mut self.appender {
            appender.sync()?;
            appender.check_in_place()?;
        }
        self.shared.check_in_place()?;
        self.is_torn = false;
        if let Some(last) = logged.last() {
            self.end = last.end;
            self.next_seq = last.seq + 1;
        }
        if let Some(is_urgent) = self.shared.ahead.add(logged) {
            // If the channel is full, the writer commits soon anyway.
            let _ = self.writer.messages.try_send(Message::Logged { is_urgent });
        }
        Ok(ids)
    }

    /// For each report the id of the crash that it already is, if any.
    fn stored(&self, batch: &[Waiting]) -> Result<Vec<Option<CrashId>>, StoreError> {
        let ahead = |crash: &NewCrash| {
            let of_id = self.shared.ahead.crash(crash.id).map(|_| crash.id);
            of_id.or_else(|| {
                let known = self.shared.ahead.repeated(crash.digest?, crash.received_at);
                known.map(|known| known.id)
            })
        };
        // A report moves from memory to the database, so the database must be read after memory.
        let in_memory: Vec<_> = batch.iter().map(|waiting| ahead(&waiting.crash)).collect();
        contained(|| {
            let read = self.shared.database().begin_read()?;
            let ids = read.open_table(IDS)?;
            let mut stored = Vec::with_capacity(batch.len());
            for (waiting, known) in batch.iter().zip(in_memory) {
                let crash = &*waiting.crash;
                stored.push(match (known, crash.digest) {
                    (Some(known), _) => Some(known),
                    _ if ids.get(crash.id.bits())?.is_some() => Some(crash.id),
                    (None, Some(digest)) => known_repeat(&read, digest, crash.received_at)?,
                    (None, None) => None,
                });
            }
            Ok(stored)
        })
    }

    fn append_one(&mut self, crash: &NewCrash) -> Result<Logged, StoreError> {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.make_room_in_segment()?;
        let appender = self.appender.as_mut().expect("it was just created");
        let mut hash = self.shared.identity().secret.hash();
        let raw = appender.append(RecordKind::Raw, seq, &crash.raw, Some(&mut hash))?;
        let mut parts = Vec::with_capacity(crash.parts.len());
        for (part, payload) in &crash.parts {
            let blob = appender.append(RecordKind::Part, seq, payload, Some(&mut hash))?;
            let part = part.clone();
            parts.push(StoredPart { part, blob });
        }
        let mut logged = Logged {
            seq,
            crash: new_row(crash, raw, parts),
            digest: crash.digest,
            end: Position::default(),
            segment_created_at_ms: appender.created_at_ms,
        };
        appender.append_closing(seq, &record::close(&logged.row(), hash))?;
        logged.end = Position {
            segment: appender.segment,
            offset: appender.bytes,
        };
        Ok(logged)
    }

    /// Starts a new segment if the current one is full, or if there is none.
    fn make_room_in_segment(&mut self) -> Result<(), StoreError> {
        let now = self.shared.clock.now();
        if let Some(full) = self.appender.take_if(|appender| appender.is_full(now)) {
            let mut full = full;
            full.sync()?;
            full.check_in_place()?;
            self.end = Position {
                segment: full.segment,
                offset: full.bytes,
            };
        }
        if self.appender.is_none() {
            self.appender = Some(self.create(now)?);
        }
        Ok(())
    }

    fn create(&mut self, now: Timestamp) -> Result<Appender, StoreError> {
        let disk = self.shared.disk.clone();
        let (number, file) = self.shared.numbers.create(&*disk)?;
        let identity = self.shared.identity();
        let head = SegmentHead {
            store: identity.store,
            life: identity.life,
            stream: Stream::Log,
            number,
            created_at_ms: now.ms(),
            continues: self.end,
        };
        // From here on the chain has this segment, even if it gets no report.
        self.end = Position {
            segment: number,
            offset: HEAD_BYTES,
        };
        disk.sync_dir(segments::DIR)?;
        Ok(Appender::create(&head, file))
    }

    /// After an error: seals the log at its end, so that it can continue in a new segment.
    fn repair(&mut self) -> Result<(), StoreError> {
        if !self.is_torn {
            return Ok(());
        }
        self.appender = None;
        self.writer.ask(SealLog { end: self.end })?;
        if let Err(error) = self.cut() {
            tracing::warn!(%error, "the rest of a failed batch stays on the disk");
        }
        self.is_torn = false;
        Ok(())
    }

    /// Removes the bytes behind the end of the log. This only saves disk space.
    fn cut(&self) -> io::Result<()> {
        let Position { segment, offset } = self.end;
        let name = segments::file_name(segment);
        if segment == 0 {
            return Ok(());
        }
        if offset <= HEAD_BYTES {
            return match self.shared.disk.remove(&name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        let file = self.shared.disk.open(&name)?;
        if file.len()? > offset {
            file.set_len(offset)?;
        }
        Ok(())
    }

    fn seal_old(&mut self) -> Result<(), StoreError> {
        let now = self.shared.clock.now();
        if self.appender.as_ref().is_some_and(|a| a.is_old(now)) {
            self.appender = None;
            self.writer.ask(SealLog { end: self.end })?;
        }
        Ok(())
    }
}

impl Waiting {
    fn refuse(&self, error: &StoreError) {
        // A client that has gone does not wait for its answer.
        let _ = self.reply.send(Err(error.clone()));
    }

    fn bytes(&self) -> u64 {
        let parts = self.crash.parts.iter();
        let parts = parts.map(|(_, payload)| payload.packed_bytes);
        self.crash.raw.packed_bytes + parts.sum::<u64>()
    }
}

/// The row of a new crash.
fn new_row(crash: &NewCrash, raw: BlobRef, parts: Vec<StoredPart>) -> StoredCrash {
    let deferred_until_ms = crash.deferred_until_ms();
    StoredCrash {
        id: crash.id,
        state: match deferred_until_ms {
            Some(_) => State::Deferred,
            None => State::Queued,
        },
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
    }
}
