//! The only thread that writes the database.
//!
//! It takes a message and all other messages that wait (up to [`BATCH_MESSAGES_MAX`] or
//! [`BATCH_BYTES_MAX`]), and applies their commands in one transaction. Then it syncs the segments that it
//! appended to, commits redb, and only then answers. So all commands of a batch share the cost of the syncs.
//! A command that somebody waits for is committed at once. The others share a commit every [`COMMIT_EVERY`].
//!
//! After a commit the writer hands out jobs to workers. This writes nothing (`in_flight`).
//!
//! After an I/O error no command of the batch has been answered, although all of it may be on the disk. The
//! writer drops the database handle and opens a new one in place. It seals the segments at the end of their
//! last commit. Then it tries the batch once more. If that fails too, clients get an error, results of workers
//! are kept for later, reads return what is committed, and the thread tries again every [`REOPEN_EVERY`].

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use redb::{ReadableDatabase, ReadableTable};

use super::backend::{self, Life};
use super::batch::Batch;
use super::claim::{Claim, Claimed, JobSink, Unclaimable, Unqueue};
use super::command::Told;
use super::contain::contained;
use super::error::{OpenError, StoreError};
use super::identity::{Identity, Secret};
use super::in_flight::{Attempt, Started};
use super::log::{Replay, replay};
use super::message::Message;
use super::open_segments::OpenSegments;
use super::rows::{self, Lane, SegmentRow};
use super::segment_head::Position;
use super::shared::{DATABASE, Shared};
use super::tables::{META, SEGMENTS, meta};
use super::txn::Txn;

const BATCH_MESSAGES_MAX: usize = 1_024;
const BATCH_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Time from one commit to the next while no caller waits. Each commit costs syncs and rewrites pages that
/// many commands share, so few large commits cost much less than many small ones. A kill repeats at most the
/// walks of this time.
const COMMIT_EVERY: Duration = Duration::from_millis(100);
/// Time between two attempts to reopen the store after an I/O error.
const REOPEN_EVERY: Duration = Duration::from_millis(250);

pub(crate) struct Writer {
    shared: Arc<Shared>,
    messages: Receiver<Message>,
    sink: Option<Box<dyn JobSink>>,
    handle_life: Life,
    segments: OpenSegments,
    /// Number of this server process.
    life: u64,
    /// When the last batch was committed; `None` before the first.
    committed_at: Option<Instant>,
    /// The crashes in queues that cannot be handed out. Commands of this writer remove them from the queues.
    unclaimable: HashSet<Unclaimable>,
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
    /// Starts with a freshly opened database. Stores the reports that only the log has. If the server died,
    /// counts this against the crashes that workers had `started`. Continues the segments at the end of their
    /// last commit.
    pub(crate) fn new(
        shared: Arc<Shared>,
        handle_life: Life,
        started: &[Started],
        messages: Receiver<Message>,
        sink: Box<dyn JobSink>,
        cache_bytes: usize,
    ) -> Result<(Self, Replay), OpenError> {
        let segments = OpenSegments::new(shared.clone());
        let mut writer = Self {
            shared,
            messages,
            sink: Some(sink),
            handle_life,
            segments,
            life: 0,
            committed_at: None,
            unclaimable: HashSet::new(),
            suspect: None,
            handle: Handle::Good,
            cache_bytes,
        };
        writer.begin_life()?;
        let replay = writer.replay()?;
        writer.resume_segments(&replay)?;
        let last_life = writer.life - 1;
        let died = writer.in_transaction(|txn, batch| {
            txn.store_logged(replay.reports.iter(), batch)?;
            txn.seal_log_before(replay.end.segment)?;
            txn.log_reached(replay.end)?;
            if replay.open.is_none() {
                txn.seal_segment(replay.end.segment)?;
            }
            txn.fill_seen()?;
            txn.fill_groups()?;
            txn.fill_lack_counts()?;
            txn.fill_product_totals()?;
            let started = started.iter().filter(|started| started.life == last_life);
            Ok(txn.empty_working()? + txn.count_death(started)?)
        })?;
        if died > 0 {
            tracing::warn!(
                crashes = died,
                "requeued crashes that were being processed when the server died"
            );
        }
        writer.shared.marks.clear()?;
        Ok((writer, replay))
    }

    /// Numbers this server process, and creates what makes the store different from others.
    fn begin_life(&mut self) -> Result<(), StoreError> {
        let identity = self.in_transaction(|txn, _| {
            let mut number = |name| -> Result<u128, StoreError> {
                if let Some(number) = txn.meta.get(name)?.map(|n| n.value()) {
                    return Ok(number);
                }
                let number = uuid::Uuid::new_v4().as_u128();
                txn.meta.insert(name, number)?;
                Ok(number)
            };
            Ok(Identity {
                store: number(meta::STORE_ID)?,
                secret: Secret::new(number(meta::SECRET)?),
                life: txn.next(meta::NEXT_LIFE)?,
            })
        })?;
        self.life = identity.life;
        self.shared.set_identity(identity);
        Ok(())
    }

    /// Reads the reports that only the log has.
    fn replay(&self) -> Result<Replay, OpenError> {
        let (from, sealed_at) = contained(|| {
            let read = self.shared.database().begin_read()?;
            let from = read.open_table(META)?.get(meta::LOG)?;
            let from = Position::from_number(from.map_or(0, |n| n.value()));
            let row = read.open_table(SEGMENTS)?.get(from.segment)?;
            let row = row.map(|row| rows::decode::<SegmentRow>(row.value()));
            let row = row.transpose()?;
            Ok((from, row.filter(|row| row.sealed).map(|row| row.bytes)))
        })?;
        let identity = self.shared.identity();
        let (disk, secret) = (&*self.shared.disk, &identity.secret);
        let replay = replay(disk, identity.store, secret, from, sealed_at)?;
        if !replay.reports.is_empty() {
            tracing::info!(
                reports = replay.reports.len(),
                "stored reports that the log had and the database did not"
            );
        }
        Ok(replay)
    }

    /// The sequence number of the next report.
    pub(crate) fn next_seq(&self) -> Result<u64, StoreError> {
        contained(|| {
            let read = self.shared.database().begin_read()?;
            let next = read.open_table(META)?.get(meta::NEXT_SEQ)?;
            Ok(next.map_or(1, |n| n.value() as u64))
        })
    }

    /// Removes dead segments whose removal was interrupted, and continues those that were in use.
    fn resume_segments(&mut self, replay: &Replay) -> Result<(), StoreError> {
        let rows = self.in_transaction(|txn, _| {
            let next = txn.meta.get(meta::NEXT_SEGMENT)?;
            Ok((txn.segment_rows()?, next.map_or(1, |n| n.value() as u32)))
        });
        let (rows, next) = rows?;
        let highest = rows.iter().map(|(segment, _)| *segment).max();
        let highest = highest.max(replay.segments.iter().copied().max());
        let after = highest.map_or(1, |highest| highest + 1);
        self.shared.numbers.start_at(next.max(after));
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
        let unusable = self.segments.resume(&rows, &replay.segments)?;
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
                Ok(true) => {
                    self.forget_marks();
                    return;
                }
                Ok(false) if !batch.is_empty() => continue,
                Ok(false) => {}
                Err(error) => {
                    self.refuse(&mut batch, &error);
                    if batch.iter().any(|m| matches!(m, Message::Close)) {
                        let lost = batch.len() - 1;
                        tracing::error!(%error, results = lost, "the store was closed while it was not writable; crashes in progress will be processed again");
                        self.forget_marks();
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

    /// Removes the marks of the workers, because the server ends in order.
    fn forget_marks(&self) {
        if let Err(error) = self.shared.marks.clear() {
            tracing::warn!(%error, "the marks of crashes in progress remain; the next start counts this stop as a death of the server");
        }
    }

    /// Adds the waiting messages to the first message of a batch. Also waits for more until the next commit is
    /// due, while no caller waits for an answer.
    fn gather(&self, first: Message, batch: &mut Vec<Message>) {
        let until = self
            .committed_at
            .map_or_else(Instant::now, |at| at + COMMIT_EVERY);
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
        result?;
        self.handle = Handle::Good;
        self.committed_at = Some(Instant::now());
        if self.shared.unlatch() {
            tracing::info!("the store is writable again");
        }
        let mut closing = false;
        for message in batch.drain(..) {
            match message {
                Message::Apply(command) => command.answer(),
                Message::Logged { .. } | Message::Check => {}
                Message::Pause => self.sink = None,
                Message::Close => closing = true,
            }
        }
        if !closing {
            self.hand_out(batch);
        }
        Ok(closing)
    }

    /// Fills the channels of the workers. A command that removes crashes from the queues that cannot be handed
    /// out goes to the next batch.
    fn hand_out(&mut self, next: &mut Vec<Message>) {
        let Some(sink) = &self.sink else { return };
        let database = self.shared.database();
        let mut in_flight = self.shared.in_flight.attempts();
        let known = self.unclaimable.len();
        let claim = Claim {
            life: self.life,
            places: Lane::ALL.map(|lane| sink.free(lane)),
            suspect: self.suspect.is_none(),
            in_flight: &in_flight,
            unclaimable: &mut self.unclaimable,
        };
        let jobs = match contained(|| claim.jobs(&database.begin_read()?)) {
            Ok(jobs) => jobs,
            Err(error) => {
                // The next commit meets the same error and reopens the database.
                self.shared.note(&error);
                tracing::error!(%error, "no crashes can be handed out to workers");
                return;
            }
        };
        if self.unclaimable.len() > known {
            let crashes = self.unclaimable.iter().copied().collect();
            next.push(Message::Apply(Box::new(Told(Unqueue(crashes)))));
        }
        for Claimed { job, state } in &jobs {
            let (number, state) = (job.attempt, *state);
            in_flight.insert(job.seq, Attempt { number, state });
            if job.lane == Lane::Suspect {
                self.suspect = Some((job.seq, job.attempt));
            }
        }
        self.shared.in_flight.replace(in_flight);
        for claimed in jobs {
            sink.send(claimed.job);
        }
    }

    fn apply(&mut self, messages: &mut [Message]) -> Result<(), StoreError> {
        let changed_before = self.shared.last_change();
        let must_tidy = self.handle != Handle::Good;
        let (life, shared) = (self.life, self.shared.clone());
        let logged = shared.ahead.reports();
        let (last_change, in_flight) = self.in_transaction(|txn, batch| {
            if must_tidy {
                batch.segments.tidy(txn)?;
            }
            batch.life = life;
            batch.in_flight = shared.in_flight.attempts();
            txn.store_logged(logged.iter().map(|report| &**report), batch)?;
            for message in messages.iter_mut() {
                if let Message::Apply(command) = message {
                    command.apply(txn, batch)?;
                }
            }
            Ok((txn.last_change()?, std::mem::take(&mut batch.in_flight)))
        })?;
        self.shared.ahead.remove(&logged);
        self.shared.in_flight.replace(in_flight);
        // A worker's answer for the suspect allows the next suspect. This is also true for an answer that comes
        // too late to count, because that worker is free again.
        let answered = |job| {
            messages
                .iter()
                .any(|message| message.returns_job() == Some(job))
        };
        self.suspect = self.suspect.filter(|suspect| !answered(*suspect));
        self.unclaimable.clear();
        if last_change != changed_before {
            self.shared.tell_change(last_change);
        }
        Ok(())
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
        self.handle_life.end();
        self.segments.abandon();
        self.shared.check_in_place()?;
        let file = self.shared.disk.open(DATABASE)?;
        self.handle_life = Life::default();
        let database = contained(|| backend::open(file, self.cache_bytes, &self.handle_life))?;
        self.shared.replace_database(database);
        self.handle = Handle::Fresh;
        Ok(())
    }

    /// Opens the committed data for readers while the disk does not accept writes.
    fn reopen_for_reading(&mut self) -> Result<(), StoreError> {
        self.handle_life.end();
        let file = match self.shared.check_in_place() {
            Ok(()) => self.shared.disk.open(DATABASE)?,
            // Another file may have this name by now.
            Err(_) => self.shared.file.clone(),
        };
        self.handle_life = Life::default();
        let database =
            contained(|| backend::open_for_reading(file, self.cache_bytes, &self.handle_life))?;
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
                Message::Logged { .. } | Message::Check => {}
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
