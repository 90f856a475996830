//! The only thread that writes.
//!
//! It takes a command and all other commands that wait (up to [`BATCH_COMMANDS_MAX`] or [`BATCH_BYTES_MAX`]),
//! and applies them in one transaction. Then it syncs the segments that it appended to, commits redb, and
//! only then answers. So all commands of a batch share the cost of the syncs.
//!
//! After an I/O error no command of the batch has been answered, although all of it may be on the disk. The
//! writer drops the database handle and opens a new one in place. It seals the segments at the end of their
//! last commit and returns jobs to the queue that were claimed but never handed out. Then it tries the batch
//! once more. If that fails too, clients get an error, results of workers are kept for later, reads return
//! what is committed, and the thread tries again every [`REOPEN_EVERY`].

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::accounts::AccountChange;
use super::backend::{self, Life};
use super::bugs::BugChange;
use super::contain::contained;
use super::counters::Discard;
use super::crashes::{StoredCrash, StoredPart};
use super::disk::Disk;
use super::error::StoreError;
use super::passes::PassRow;
use super::payload::Payload;
use super::pending::{Job, Requested, Txn};
use super::rows::{self, BlobRef, Lane, SegmentRow, State, Stream};
use super::segments::{self, Appender, RecordKind};
use super::signing::{NewRevision, Progress, Resigned};
use super::symbols::SymbolChange;
use super::tables::*;
use super::{JobSink, Shared};
use crate::clock::Timestamp;
use crate::crash::facts::Facts;
use crate::crash::id::CrashId;
use crate::crash::lack::Lack;
use crate::crash::raw::Part;
use crate::signature::{Input, StoredFrame};
use crate::throttle::Outcome;

const BATCH_COMMANDS_MAX: usize = 256;
const BATCH_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How long a result waits for other commands. Syncs are most of the cost of a transaction. If uploads come
/// one by one, a transaction for a single result would delay the next upload.
const LINGER: Duration = Duration::from_millis(1);
/// Time between two attempts to reopen the store after an I/O error.
const REOPEN_EVERY: Duration = Duration::from_millis(250);

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

pub type Reply<T> = Sender<Result<T, StoreError>>;

pub enum Command {
    Accept {
        crash: Box<NewCrash>,
        reply: Reply<CrashId>,
    },
    Request {
        id: CrashId,
        reply: Reply<Requested>,
    },
    Finish {
        job: Job,
        finished: Box<Finished>,
    },
    Fault {
        job: Job,
        reason: String,
    },
    /// Move the job's crash to a slower lane.
    SetBack {
        job: Job,
    },
    /// Delete these crashes if they are still in one of the states.
    Delete {
        seqs: Vec<u64>,
        states: &'static [State],
        reply: Reply<u64>,
    },
    /// Remove the files of segments that no crash needs.
    Sweep {
        reply: Reply<u64>,
    },
    /// Repair what an audit found.
    Heal {
        seqs: Vec<u64>,
        counts: Vec<(State, i64)>,
        reply: Reply<()>,
    },
    /// Store that a pass of retention succeeded.
    Retained {
        pass: PassRow,
        reply: Reply<()>,
    },
    /// Change bugs. All of the changes or none.
    Bugs {
        changes: Vec<BugChange>,
        reply: Reply<()>,
    },
    /// Change accounts. All of the changes or none.
    Accounts {
        changes: Vec<AccountChange>,
        reply: Reply<u64>,
    },
    /// Change symbols. All of the changes or none.
    Symbols {
        changes: Vec<SymbolChange>,
        reply: Reply<()>,
    },
    /// Reprocess these crashes.
    Redo {
        seqs: Vec<u64>,
        asked: String,
        into: Option<u64>,
        reply: Reply<Option<u64>>,
    },
    /// Reprocess the crashes that lacked these.
    Mend {
        lacks: Vec<Lack>,
        reply: Reply<u64>,
    },
    /// Put lists in force and start to re-sign with them.
    Revise {
        new: Box<NewRevision>,
        reply: Reply<Option<u64>>,
    },
    /// Give a crash a new signature.
    Resign(Box<Resigned>),
    /// Store the signature input of a crash that was processed before inputs were kept.
    KeepInput {
        seq: u64,
        input: Option<Box<Input<StoredFrame>>>,
    },
    /// Store the progress of a re-sign.
    ResignProgress {
        progress: Box<Progress>,
        reply: Reply<()>,
    },
    /// Delete frames that no input used when `newest` was the newest input.
    ForgetFrames {
        unused: BTreeSet<u32>,
        newest: u64,
        reply: Reply<u64>,
    },
    /// Count reports that were discarded.
    Discards(Vec<(Discard, u64)>),
    /// Answer once everything that was sent before is durable.
    Flush {
        reply: Reply<()>,
    },
    /// The index is durable up to this change.
    Indexed {
        up_to: u64,
    },
    /// A reader met an error: check whether the database must be opened again.
    Check,
    /// Hand out no more jobs.
    Pause,
    /// Return the crashes in flight to the queue, and end.
    Close,
}

impl Command {
    fn bytes(&self) -> u64 {
        match self {
            Self::Accept { crash, .. } => {
                crash.raw.packed_bytes
                    + crash
                        .parts
                        .iter()
                        .map(|(_, payload)| payload.packed_bytes)
                        .sum::<u64>()
            }
            Self::Finish { finished, .. } => finished.processed.packed_bytes,
            Self::Resign(resigned) => resigned.processed.packed_bytes,
            _ => 0,
        }
    }

    /// Whether no caller waits for this command, so that the batch can wait a moment for more commands.
    fn may_wait(&self) -> bool {
        matches!(
            self,
            Self::Finish { .. }
                | Self::Discards(_)
                | Self::Indexed { .. }
                | Self::Resign(_)
                | Self::KeepInput { .. }
        )
    }

    /// Tells the caller that its command failed. Returns the command if no caller waits for an answer; it
    /// must then be carried out later.
    fn refuse(self, error: &StoreError) -> Option<Command> {
        match self {
            Self::Accept { reply, .. } => drop(reply.send(Err(error.clone()))),
            Self::Request { reply, .. } => drop(reply.send(Err(error.clone()))),
            Self::Delete { reply, .. } => drop(reply.send(Err(error.clone()))),
            Self::Sweep { reply } => drop(reply.send(Err(error.clone()))),
            Self::Heal { reply, .. } => drop(reply.send(Err(error.clone()))),
            Self::Retained { reply, .. } => drop(reply.send(Err(error.clone()))),
            Self::Bugs { reply, .. } => drop(reply.send(Err(error.clone()))),
            Self::Symbols { reply, .. } => drop(reply.send(Err(error.clone()))),
            Self::Accounts { reply, .. } => drop(reply.send(Err(error.clone()))),
            Self::Mend { reply, .. } => drop(reply.send(Err(error.clone()))),
            Self::Redo { reply, .. } => drop(reply.send(Err(error.clone()))),
            Self::Flush { reply } => drop(reply.send(Err(error.clone()))),
            Self::Revise { reply, .. } => drop(reply.send(Err(error.clone()))),
            Self::ResignProgress { reply, .. } => drop(reply.send(Err(error.clone()))),
            Self::ForgetFrames { reply, .. } => drop(reply.send(Err(error.clone()))),
            owed => return Some(owed),
        }
        None
    }
}

/// The answer to a command, sent when the batch is durable.
enum Answer {
    None,
    Accepted(CrashId),
    Requested(Requested),
    Deleted(u64),
    /// Number of crashes that will be reprocessed.
    Mending(u64),
    /// The mend; `None` if all the crashes wait already.
    Redoing(Option<u64>),
    /// The id of the new key.
    Added(u64),
    Revised(Option<u64>),
    /// Segments whose rows are marked as dead.
    Swept(Vec<u32>),
    /// Only this command failed. The others of its batch can be carried out.
    Refused(StoreError),
}

pub struct Writer {
    shared: Arc<Shared>,
    commands: Receiver<Command>,
    sink: Option<Box<dyn JobSink>>,
    life: Life,
    appenders: [Option<Appender>; Stream::ALL.len()],
    /// The attempt of every crash that a worker has and has not answered.
    handed_out: HashMap<u64, u32>,
    /// Seq and attempt of the suspect in flight, if any.
    suspect: Option<(u64, u32)>,
    /// Segments created by this process, committed or not.
    created: HashSet<u32>,
    /// To what extent the current database handle can be used.
    handle: Handle,
    cache_bytes: usize,
    disk: Arc<dyn Disk>,
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
    pub fn new(
        shared: Arc<Shared>,
        life: Life,
        commands: Receiver<Command>,
        sink: Box<dyn JobSink>,
        cache_bytes: usize,
    ) -> Result<Self, StoreError> {
        let disk = shared.disk.clone();
        let mut writer = Self {
            shared,
            commands,
            sink: Some(sink),
            life,
            appenders: Default::default(),
            handed_out: HashMap::new(),
            suspect: None,
            created: HashSet::new(),
            handle: Handle::Good,
            cache_bytes,
            disk,
        };
        writer.resume_segments()?;
        let taken_back = writer.in_transaction(|txn, _| {
            if txn.meta_number(meta::STORE_ID)?.is_none() {
                txn.meta
                    .insert(meta::STORE_ID, uuid::Uuid::new_v4().as_u128())?;
            }
            txn.fill_seen()?;
            txn.fill_lack_counts()?;
            txn.fill_product_totals()?;
            txn.take_back(true, |_, _| false)
        })?;
        if taken_back > 0 {
            tracing::warn!(
                crashes = taken_back,
                "took back crashes that were in flight when the server died"
            );
        }
        Ok(writer)
    }

    /// Runs until [`Command::Close`], or until all senders of commands are dropped.
    pub fn run(mut self) {
        // Work that was queued when the server started is handed out before the first command.
        let mut batch = Vec::new();
        loop {
            match self.carry_out(&mut batch) {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => {
                    self.refuse(&mut batch, &error);
                    if batch.iter().any(|c| matches!(c, Command::Close)) {
                        let lost = batch.len() - 1;
                        tracing::error!(%error, results = lost, "the store was closed while it could not be written; crashes in flight will be walked again");
                        return;
                    }
                    self.sit_out(&mut batch, &error);
                    continue;
                }
            }
            let Ok(first) = self.commands.recv() else {
                return;
            };
            self.gather(first, &mut batch);
        }
    }

    /// Adds the waiting commands to the first command of a batch. Also waits a moment for more while no
    /// caller waits for an answer.
    fn gather(&self, first: Command, batch: &mut Vec<Command>) {
        let until = Instant::now() + LINGER;
        let mut bytes = first.bytes();
        let mut may_wait = first.may_wait();
        batch.push(first);
        while batch.len() < BATCH_COMMANDS_MAX && bytes < BATCH_BYTES_MAX {
            let next = if may_wait {
                self.commands.recv_deadline(until).ok()
            } else {
                self.commands.try_recv().ok()
            };
            let Some(next) = next else {
                return;
            };
            bytes += next.bytes();
            may_wait &= next.may_wait();
            batch.push(next);
        }
    }

    /// Applies a batch. If it fails, reopens the store and tries once more, unless the store was just
    /// reopened. After success the batch is empty and every caller has an answer. Returns true if the store
    /// was closed.
    fn carry_out(&mut self, batch: &mut Vec<Command>) -> Result<bool, StoreError> {
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
        let (answers, handed) = result?;
        self.handle = Handle::Good;
        if self.shared.unlatch() {
            tracing::info!("the store can be written again");
        }
        let mut closing = false;
        for (command, answer) in batch.drain(..).zip(answers) {
            // A client that has disconnected does not wait for its answer, so errors of `send` are ignored.
            match (command, answer) {
                (command, Answer::Refused(error)) => {
                    tracing::error!(%error, "a command could not be carried out");
                    command.refuse(&error);
                }
                (Command::Accept { reply, .. }, Answer::Accepted(id)) => drop(reply.send(Ok(id))),
                (Command::Request { reply, .. }, Answer::Requested(r)) => drop(reply.send(Ok(r))),
                (Command::Delete { reply, .. }, Answer::Deleted(n))
                | (Command::ForgetFrames { reply, .. }, Answer::Deleted(n))
                | (Command::Accounts { reply, .. }, Answer::Added(n))
                | (Command::Mend { reply, .. }, Answer::Mending(n)) => drop(reply.send(Ok(n))),
                (
                    Command::Heal { reply, .. }
                    | Command::Retained { reply, .. }
                    | Command::Bugs { reply, .. }
                    | Command::Symbols { reply, .. }
                    | Command::Flush { reply }
                    | Command::ResignProgress { reply, .. },
                    _,
                ) => drop(reply.send(Ok(()))),
                (Command::Sweep { reply }, Answer::Swept(dead)) => {
                    let removed = self.remove_segments(&dead);
                    if let Err(error) = &removed {
                        tracing::warn!(%error, "dead segments are left; the next sweep removes them");
                    }
                    drop(reply.send(removed));
                }
                (Command::Redo { reply, .. }, Answer::Redoing(mend)) => {
                    drop(reply.send(Ok(mend)));
                }
                (Command::Revise { reply, .. }, Answer::Revised(revision)) => {
                    drop(reply.send(Ok(revision)));
                }
                (Command::Pause, _) => self.sink = None,
                (Command::Close, _) => closing = true,
                _ => {}
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

    fn apply(&mut self, batch: &[Command]) -> Result<(Vec<Answer>, HandedOut), StoreError> {
        let changed_before = self.shared.last_change();
        // A worker's answer for the suspect allows the next suspect in the same batch. This is also true for
        // an answer that comes too late to count, because that worker is free again.
        let suspect = self
            .suspect
            .filter(|suspect| !batch.iter().any(|c| c.answers() == Some(*suspect)));
        let tidy = self.handle != Handle::Good;
        let handed_out = std::mem::take(&mut self.handed_out);
        let applied = self.in_transaction(|txn, records| {
            if tidy {
                txn.take_back(false, |seq, attempt| handed_out.get(&seq) == Some(&attempt))?;
                records.tidy(txn)?;
            }
            records.handed_out = handed_out.keys().copied().collect();
            let mut answers = Vec::with_capacity(batch.len());
            for command in batch {
                let answer = match records.apply(txn, command) {
                    // A damaged row affects only one crash. Each command reads its rows before it writes
                    // anything, so the transaction contains no half of it.
                    Err(error @ (StoreError::Damaged(_) | StoreError::Newer(_))) => {
                        Answer::Refused(error)
                    }
                    other => other?,
                };
                answers.push(answer);
            }
            let stopping = batch
                .iter()
                .any(|c| matches!(c, Command::Pause | Command::Close));
            records.suspect = suspect.is_some();
            let handed = if stopping {
                HandedOut::default()
            } else {
                records.claim(txn)?
            };
            let last_change = txn
                .meta_number(meta::NEXT_CHANGE)?
                .map_or(0, |n| n as u64 - 1);
            Ok((answers, handed, last_change))
        });
        self.handed_out = handed_out;
        let (answers, handed, last_change) = applied?;
        for (seq, attempt) in batch.iter().filter_map(Command::answers) {
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
        Ok((answers, handed))
    }

    /// Runs one durable transaction: segments are synced before redb is committed. Fails if the files that it
    /// wrote are no longer the files that the next start would open.
    fn in_transaction<R>(
        &mut self,
        work: impl FnOnce(&mut Txn, &mut Records) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        self.shared.check_in_place()?;
        let result = contained(|| self.commit(work))?;
        self.shared.check_in_place()?;
        Ok(result)
    }

    fn commit<R>(
        &mut self,
        work: impl FnOnce(&mut Txn, &mut Records) -> Result<R, StoreError>,
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
            let room = |lane| self.sink.as_ref().map_or(0, |sink| sink.room(lane));
            let mut records = Records {
                disk: &self.disk,
                appenders: &mut self.appenders,
                live: HashMap::new(),
                now: self.shared.clock.now(),
                room: Lane::ALL.map(room),
                suspect: self.suspect.is_some(),
                handed_out: HashSet::new(),
                created: &mut self.created,
            };
            let result = work(&mut txn, &mut records)?;
            records.close(&mut txn)?;
            result
        };
        write.commit()?;
        Ok(result)
    }

    /// Opens the database again after an I/O error.
    fn reopen(&mut self) -> Result<(), StoreError> {
        self.life.end();
        // Bytes written after the last commit may or may not be on the disk. Never append again to a file
        // whose sync has failed.
        self.appenders = Default::default();
        self.shared.check_in_place()?;
        let file = self.disk.open(super::DATABASE)?;
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
            Ok(()) => self.disk.open(super::DATABASE)?,
            // Another file may have this name by now.
            Err(_) => self.shared.file.clone(),
        };
        self.life = Life::default();
        let database = contained(|| backend::open_for_reading(file, self.cache_bytes, &self.life))?;
        self.shared.replace_database(database);
        Ok(())
    }

    /// Tells callers that their commands failed. Commands without a caller stay in the batch.
    fn refuse(&mut self, batch: &mut Vec<Command>, error: &StoreError) {
        let commands = std::mem::take(batch);
        for command in commands {
            match command.refuse(error) {
                // Workers must be able to end even if the disk does not work.
                Some(Command::Pause) => self.sink = None,
                Some(Command::Indexed { up_to }) => {
                    batch.retain(|c| !matches!(c, Command::Indexed { up_to: u } if *u <= up_to));
                    batch.push(Command::Indexed { up_to });
                }
                Some(Command::Check) | None => {}
                Some(owed) => batch.push(owed),
            }
        }
    }

    /// Waits before the next attempt and answers clients with the error meanwhile. Ends early if the store is
    /// to be closed.
    fn sit_out(&mut self, batch: &mut Vec<Command>, error: &StoreError) {
        let until = Instant::now() + REOPEN_EVERY;
        if let Err(error) = self.reopen_for_reading() {
            tracing::error!(%error, "the store cannot be read either");
        }
        // Clients that retry at once could keep the channel full. They must not prevent the store from trying
        // again.
        while Instant::now() < until {
            let closing = match self.commands.recv_deadline(until) {
                Ok(command) => {
                    let closing = matches!(command, Command::Close);
                    let mut one = vec![command];
                    self.refuse(&mut one, error);
                    batch.append(&mut one);
                    closing
                }
                Err(RecvTimeoutError::Disconnected) => {
                    batch.push(Command::Close);
                    true
                }
                Err(RecvTimeoutError::Timeout) => return,
            };
            if closing {
                return;
            }
        }
    }

    /// Removes the files of segments that are marked as dead, then their rows. After a kill or an error the
    /// mark remains, and the next sweep or start removes the segment. Returns how many files are gone.
    fn remove_segments(&mut self, dead: &[u32]) -> Result<u64, StoreError> {
        let mut gone = Vec::with_capacity(dead.len());
        for &segment in dead {
            self.shared.readers.forget(segment);
            match self.disk.remove(&segments::file_name(segment)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(segment, %error, "a dead segment could not be removed");
                }
                _ => gone.push(segment),
            }
        }
        if gone.is_empty() {
            return Ok(0);
        }
        // A power cut must not bring back a file whose row is deleted.
        self.disk.sync_dir(segments::DIR)?;
        self.in_transaction(|txn, _| {
            for &segment in &gone {
                txn.segments.remove(segment)?;
            }
            Ok(())
        })?;
        Ok(gone.len() as u64)
    }

    /// Continues the segments that were in use, and finishes the removal of dead ones.
    ///
    /// Bytes that no commit covers stay on the disk (ADR 5). After a kill they were never acknowledged. But
    /// if somebody restored an older database beside newer segments, they are all that remains of
    /// acknowledged crashes. Such a segment takes no more records, and the number of such a file is not used
    /// again.
    fn resume_segments(&mut self) -> Result<(), StoreError> {
        let rows = self.in_transaction(|txn, _| txn.segment_rows())?;
        let (dead, rows): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(_, row)| row.dead);
        let dead: Vec<u32> = dead.into_iter().map(|(segment, _)| segment).collect();
        if let Err(error) = self.remove_segments(&dead) {
            tracing::warn!(%error, "dead segments are left; the next sweep removes them");
        }
        for number in unknown_segments(&*self.disk, &rows)? {
            let name = segments::file_name(number);
            let bytes = self.disk.open(&name)?.len()?;
            tracing::warn!(
                segment = name,
                bytes,
                "no crash points into this segment; it is left alone"
            );
        }
        for (segment, row) in rows.into_iter().filter(|(_, row)| !row.sealed) {
            let name = segments::file_name(segment);
            let usable = self.disk.open(&name).and_then(|file| match file.len()? {
                len if len < row.bytes => Err(io::ErrorKind::UnexpectedEof.into()),
                len => Ok((file, len)),
            });
            match usable {
                Ok((file, len)) if len == row.bytes => {
                    let appender = Appender::new(segment, file, row.bytes, row.created_at_ms);
                    self.appenders[row.stream as usize] = Some(appender);
                }
                Ok((_, len)) => {
                    let bytes = len - row.bytes;
                    tracing::warn!(
                        segment = name,
                        bytes,
                        "the end of a segment belongs to no commit; it takes no more records"
                    );
                    self.in_transaction(|txn, _| txn.seal_segment(segment))?;
                }
                Err(error) => {
                    tracing::error!(segment = name, %error, "a segment is shorter than its commits or missing; it takes no more records");
                    self.in_transaction(|txn, _| txn.seal_segment(segment))?;
                }
            }
        }
        Ok(())
    }
}

/// Numbers of segment files without a row. A file with any other name is not ours.
fn unknown_segments(disk: &dyn Disk, rows: &[(u32, SegmentRow)]) -> io::Result<Vec<u32>> {
    let names = match disk.list(segments::DIR) {
        // Somebody has removed the folder. The next segment creates it again.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        names => names?,
    };
    let numbers = names.iter().filter_map(|name| segments::number_in(name));
    Ok(numbers
        .filter(|number| !rows.iter().any(|(segment, _)| segment == number))
        .collect())
}

impl Command {
    /// Seq and attempt of the job, if the command is a worker's answer.
    fn answers(&self) -> Option<(u64, u32)> {
        match self {
            Self::Finish { job, .. } | Self::Fault { job, .. } | Self::SetBack { job } => {
                Some((job.seq, job.attempt))
            }
            _ => None,
        }
    }
}

/// The jobs that a batch hands out to workers.
#[derive(Default)]
struct HandedOut {
    jobs: Vec<Job>,
    /// See [`JobSink::is_behind`].
    is_behind: bool,
}

/// The segments of a transaction, and the room for the jobs that it may hand out.
struct Records<'w> {
    disk: &'w Arc<dyn Disk>,
    appenders: &'w mut [Option<Appender>; Stream::ALL.len()],
    /// Change of live bytes, by segment.
    live: HashMap<u32, i64>,
    now: Timestamp,
    /// Number of jobs that the channel of each lane can take.
    room: [usize; Lane::ALL.len()],
    /// Whether a suspect is in flight.
    suspect: bool,
    /// Crashes that workers have.
    handed_out: HashSet<u64>,
    /// Segments created by this process, committed or not.
    created: &'w mut HashSet<u32>,
}

impl Records<'_> {
    fn apply(&mut self, txn: &mut Txn, command: &Command) -> Result<Answer, StoreError> {
        match command {
            Command::Accept { crash, .. } => {
                return Ok(Answer::Accepted(self.accept(txn, crash)?));
            }
            Command::Request { id, .. } => return Ok(Answer::Requested(txn.request(*id)?)),
            Command::Finish { job, finished } => self.finish(txn, job, finished)?,
            Command::Delete { seqs, states, .. } => {
                return Ok(Answer::Deleted(self.delete(txn, seqs, states)?));
            }
            Command::Sweep { .. } => return Ok(Answer::Swept(self.sweep(txn)?)),
            Command::Heal { seqs, counts, .. } => {
                for &seq in seqs {
                    match txn.heal(seq, self.handed_out.contains(&seq)) {
                        // A damaged row does not say in which state the crash is.
                        Err(StoreError::Damaged(_) | StoreError::Newer(_)) => {}
                        other => other?,
                    }
                }
                txn.correct_counts(counts)?;
            }
            Command::Fault { job, reason } => txn.fault(job, reason)?,
            Command::SetBack { job } => txn.set_back(job)?,
            Command::Indexed { up_to } => txn.forget_changes(*up_to)?,
            Command::Retained { pass, .. } => txn.retained(pass)?,
            Command::Bugs { changes, .. } => txn.change_bugs(changes)?,
            Command::Symbols { changes, .. } => txn.change_symbols(changes)?,
            Command::Accounts { changes, .. } => {
                return Ok(Answer::Added(txn.change_accounts(changes)?));
            }
            Command::Mend { lacks, .. } => {
                return Ok(Answer::Mending(txn.mend(lacks, self.now)?));
            }
            Command::Redo {
                seqs, asked, into, ..
            } => {
                return Ok(Answer::Redoing(txn.redo(seqs, asked, *into, self.now)?));
            }
            Command::Revise { new, .. } => {
                return Ok(Answer::Revised(txn.revise(new, self.now)?));
            }
            Command::Resign(resigned) => self.resign(txn, resigned)?,
            Command::ForgetFrames { unused, newest, .. } => {
                return Ok(Answer::Deleted(txn.forget_frames(unused, *newest)?));
            }
            Command::KeepInput { seq, input } => txn.keep_input(*seq, input.as_deref())?,
            Command::ResignProgress { progress, .. } => txn.resign_progress(progress, self.now)?,
            Command::Discards(counts) => {
                for (discard, reports) in counts {
                    txn.decided(discard, *reports)?;
                }
            }
            Command::Check | Command::Flush { .. } | Command::Pause => {}
            Command::Close => drop(txn.take_back(false, |_, _| false)?),
        }
        Ok(Answer::None)
    }

    fn accept(&mut self, txn: &mut Txn, crash: &NewCrash) -> Result<CrashId, StoreError> {
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
            .map(|days| Txn::deferred_until(crash.received_at, days));
        let (state, stream) = match deferred_until_ms {
            Some(_) => (State::Deferred, Stream::Deferred),
            None => (State::Queued, Stream::Raw),
        };
        let seq = txn.next(meta::NEXT_SEQ)?;
        let raw = self.append(txn, stream, RecordKind::Raw, seq, &crash.raw)?;
        let mut parts = Vec::with_capacity(crash.parts.len());
        for (part, payload) in &crash.parts {
            let blob = self.append(txn, stream, RecordKind::Part, seq, payload)?;
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

    fn delete(&mut self, txn: &mut Txn, seqs: &[u64], states: &[State]) -> Result<u64, StoreError> {
        let mut deleted = 0;
        for &seq in seqs {
            let row = match txn.delete(seq, states, self.now) {
                // A damaged row does not say what else to delete.
                Err(StoreError::Damaged(_) | StoreError::Newer(_)) => continue,
                other => other?,
            };
            if let Some(row) = row {
                deleted += 1;
                for blob in row.blobs() {
                    *self.live.entry(blob.segment).or_default() -= blob.stored_bytes as i64;
                }
            }
        }
        Ok(deleted)
    }

    /// Seals segments that are too old to take more records, and marks segments without live bytes as dead.
    /// Once this is committed, their files can be deleted, and after the files their rows.
    fn sweep(&mut self, txn: &mut Txn) -> Result<Vec<u32>, StoreError> {
        for slot in self.appenders.iter_mut() {
            let old = slot.as_ref().is_some_and(|appender| {
                self.now.ms() - appender.created_at_ms >= segments::SEGMENT_AGE_MAX_MS
            });
            if old && let Some(mut appender) = slot.take() {
                appender.sync()?;
                txn.set_segment_bytes(appender.segment, appender.bytes)?;
                txn.seal_segment(appender.segment)?;
            }
        }
        let mut dead = Vec::new();
        for (segment, row) in txn.segment_rows()? {
            let live = row.live_bytes as i64 + self.live.get(&segment).copied().unwrap_or(0);
            if row.sealed && live <= 0 {
                txn.edit_segment(segment, |row| row.dead = true)?;
                dead.push(segment);
            }
        }
        Ok(dead)
    }

    fn finish(&mut self, txn: &mut Txn, job: &Job, finished: &Finished) -> Result<(), StoreError> {
        if !txn.is_current(job)? {
            return Ok(());
        }
        let blob = self.append(
            txn,
            Stream::Processed,
            RecordKind::Processed,
            job.seq,
            &finished.processed,
        )?;
        if let Some(Some(replaced)) = txn.finish(job, finished, blob)? {
            *self.live.entry(replaced.segment).or_default() -= replaced.stored_bytes as i64;
        }
        Ok(())
    }

    fn resign(&mut self, txn: &mut Txn, resigned: &Resigned) -> Result<(), StoreError> {
        let Some(row) = txn.can_resign(resigned)? else {
            return Ok(());
        };
        let blob = self.append(
            txn,
            Stream::Processed,
            RecordKind::Processed,
            resigned.seq,
            &resigned.processed,
        )?;
        *self.live.entry(resigned.read.segment).or_default() -= resigned.read.stored_bytes as i64;
        txn.resign(resigned, row, blob)
    }

    fn append(
        &mut self,
        txn: &mut Txn,
        stream: Stream,
        kind: RecordKind,
        seq: u64,
        payload: &Payload,
    ) -> Result<BlobRef, StoreError> {
        let slot = &mut self.appenders[stream as usize];
        let full = slot.as_ref().is_some_and(|appender| {
            appender.bytes >= segments::SEGMENT_BYTES_MAX
                || self.now.ms() - appender.created_at_ms >= segments::SEGMENT_AGE_MAX_MS
        });
        if full && let Some(mut old) = slot.take() {
            old.sync()?;
            txn.set_segment_bytes(old.segment, old.bytes)?;
            txn.seal_segment(old.segment)?;
        }
        let appender = match slot {
            Some(appender) => appender,
            None => {
                let (segment, file) = loop {
                    let segment = txn.next(meta::NEXT_SEGMENT)? as u32;
                    match self.disk.create(&segments::file_name(segment)) {
                        // A file of an earlier process: never overwrite it.
                        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                        // Somebody has removed the folder.
                        Err(e) if e.kind() == io::ErrorKind::NotFound => {
                            self.disk.create_dir(segments::DIR)?;
                        }
                        made => break (segment, made?),
                    }
                };
                self.created.insert(segment);
                self.disk.sync_dir(segments::DIR)?;
                txn.put_segment(
                    segment,
                    &SegmentRow {
                        stream,
                        bytes: 0,
                        live_bytes: 0,
                        created_at_ms: self.now.ms(),
                        sealed: false,
                        dead: false,
                    },
                )?;
                slot.insert(Appender::new(segment, file, 0, self.now.ms()))
            }
        };
        let blob = appender.append(kind, seq, payload)?;
        *self.live.entry(blob.segment).or_default() += blob.stored_bytes as i64;
        Ok(blob)
    }

    /// Fills the workers' channels from the lanes, priority first.
    fn claim(&mut self, txn: &mut Txn) -> Result<HandedOut, StoreError> {
        let mut jobs = Vec::new();
        for lane in Lane::QUICK.into_iter().chain([Lane::Slow]) {
            self.claim_lane(txn, lane, &mut jobs)?;
        }
        // A suspect uses a place of the slowest lane, because it may take as long.
        let slowest = Lane::Slowest as usize;
        if !self.suspect
            && self.room[slowest] > 0
            && let Some(job) = txn.claim(Lane::Suspect)?
        {
            self.room[slowest] -= 1;
            jobs.push(job);
        }
        self.claim_lane(txn, Lane::Slowest, &mut jobs)?;
        let room = &mut self.room[Lane::Mend as usize];
        while *room > 0 {
            let Some(job) = txn.claim_mend(self.now)? else {
                break;
            };
            *room -= 1;
            jobs.push(job);
        }
        let is_full = |lane: &Lane| self.room[*lane as usize] == 0;
        let is_behind = Lane::QUICK.iter().any(is_full);
        Ok(HandedOut { jobs, is_behind })
    }

    fn claim_lane(
        &mut self,
        txn: &mut Txn,
        lane: Lane,
        jobs: &mut Vec<Job>,
    ) -> Result<(), StoreError> {
        let room = &mut self.room[lane as usize];
        while *room > 0 {
            let Some(job) = txn.claim(lane)? else { break };
            *room -= 1;
            jobs.push(job);
        }
        Ok(())
    }

    /// Seals every segment at the end of its last commit, and cuts off the bytes after it.
    fn tidy(&mut self, txn: &mut Txn) -> Result<(), StoreError> {
        let rows = txn.segment_rows()?;
        txn.seal_segments()?;
        let unsealed = rows.iter().filter(|(_, row)| !row.sealed);
        let cut = unsealed.map(|(segment, row)| {
            let file = self.disk.open(&segments::file_name(*segment))?;
            if file.len()? > row.bytes {
                file.set_len(row.bytes)
            } else {
                Ok(())
            }
        });
        // A failure here wastes only disk space, so it is logged and otherwise ignored.
        let failed = unknown_segments(&**self.disk, &rows)?;
        let failed = failed
            .into_iter()
            .filter(|number| self.created.contains(number));
        let removed = failed.map(|number| self.disk.remove(&segments::file_name(number)));
        for error in cut.chain(removed).filter_map(Result::err) {
            tracing::warn!(%error, "the rest of a failed batch stays on the disk");
        }
        Ok(())
    }

    /// Syncs what was appended, then stores the new length of each segment.
    fn close(self, txn: &mut Txn) -> Result<(), StoreError> {
        for appender in self.appenders.iter_mut().flatten() {
            appender.sync()?;
            appender.check_in_place()?;
            txn.set_segment_bytes(appender.segment, appender.bytes)?;
        }
        for (segment, delta) in self.live {
            txn.add_live_bytes(segment, delta)?;
        }
        Ok(())
    }
}

impl Txn<'_> {
    fn meta_number(&self, name: &'static str) -> Result<Option<u128>, StoreError> {
        use redb::ReadableTable;
        Ok(self.meta.get(name)?.map(|v| v.value()))
    }

    fn segment_rows(&self) -> Result<Vec<(u32, SegmentRow)>, StoreError> {
        use redb::ReadableTable;
        let mut rows = Vec::new();
        for entry in self.segments.iter()? {
            let (number, row) = entry?;
            rows.push((number.value(), rows::decode(row.value())?));
        }
        Ok(rows)
    }

    fn put_segment(&mut self, segment: u32, row: &SegmentRow) -> Result<(), StoreError> {
        self.segments
            .insert(segment, rows::encode(row).as_slice())?;
        Ok(())
    }

    /// Rewrites a segment's row if `change` alters it.
    fn edit_segment(
        &mut self,
        segment: u32,
        change: impl FnOnce(&mut SegmentRow),
    ) -> Result<(), StoreError> {
        use redb::ReadableTable;
        let found = self
            .segments
            .get(segment)?
            .map(|row| rows::decode(row.value()));
        let Some(before) = found.transpose()? else {
            return Ok(());
        };
        let before: SegmentRow = before;
        let mut after = before.clone();
        change(&mut after);
        if after == before {
            Ok(())
        } else {
            self.put_segment(segment, &after)
        }
    }

    fn set_segment_bytes(&mut self, segment: u32, bytes: u64) -> Result<(), StoreError> {
        self.edit_segment(segment, |row| row.bytes = bytes)
    }

    fn add_live_bytes(&mut self, segment: u32, delta: i64) -> Result<(), StoreError> {
        self.edit_segment(segment, |row| {
            row.live_bytes = row.live_bytes.saturating_add_signed(delta)
        })
    }

    fn seal_segment(&mut self, segment: u32) -> Result<(), StoreError> {
        self.edit_segment(segment, |row| row.sealed = true)
    }

    fn seal_segments(&mut self) -> Result<(), StoreError> {
        for (segment, row) in self.segment_rows()? {
            if !row.sealed {
                self.seal_segment(segment)?;
            }
        }
        Ok(())
    }
}
