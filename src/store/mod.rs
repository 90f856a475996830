//! The store: the record of every crash, and the only place where bytes become durable.
//!
//! `store.redb` holds all state. Payload bytes are in append-only segment files, which only this module
//! writes, reads and deletes. Together they are one store. A crash goes through these steps:
//!
//! 1. [`Store::accept`] returns when the crash is durable: payloads are synced, then redb is committed.
//! 2. The writer sends the crash to a worker through the [`JobSink`], in a batch that it commits anyway.
//! 3. [`Store::finish`] or [`Store::fault`] hands in the worker's answer. It counts only if the attempt is
//!    still the current one.
//! 4. [`Store::changes`] lists the changed crashes for the indexer.
//!
//! Each read is one short transaction. No guard and no transaction leaves this module. The module never looks
//! into a dump and never answers a client.

pub mod accounts;
mod audit;
mod backend;
pub mod bugs;
mod contain;
pub mod counters;
mod crashes;
pub mod disk;
mod error;
pub mod mends;
pub mod overlay;
pub mod passes;
pub mod payload;
mod pending;
pub mod repeats;
pub mod rows;
mod segments;
pub mod sightings;
pub mod signing;
pub mod symbols;
pub mod tables;
mod writer;

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, RecvError, Sender, bounded, select};
use redb::{ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata};

use crate::clock::{Clock, Timestamp};
use crate::crash::id::CrashId;
use crate::crash::raw::RawCrash;
use crate::vital::Vital;
use counters::Discards;
use disk::{Disk, DiskFile};
use parking_lot::{Mutex, RwLock};
use rows::*;
use tables::*;
use writer::{Command, Writer};

pub use audit::Audit;
pub use crashes::{StoredCrash, StoredPart, StoredResult};
pub use error::{OpenError, StoreError};
pub use payload::{Payload, PayloadBuilder, PayloadReader};
pub use pending::{Job, Requested};
pub use rows::{Lane, State};
pub use writer::{Finished, NewCrash};

const DATABASE: &str = "store.redb";
const FORMAT: &str = "FORMAT";
/// Version of the layout of the data directory. 1: the first.
const LAYOUT: u32 = 1;
/// Commands that can be queued for the writer. Senders block when the queue is full.
const COMMANDS_MAX: usize = 1_024;

/// Where the writer sends jobs. Only the writer sends, so the room can only grow between `room` and `send`.
pub trait JobSink: Send {
    /// Number of jobs of a lane that can be sent now without blocking.
    fn room(&self, lane: Lane) -> usize;
    fn send(&self, job: Job);
    /// Called after each batch with true if at least one lane of the fast workers is full.
    fn is_behind(&self, is_behind: bool);
}

/// A lock on the data directory, so that only this process uses it.
#[derive(Debug)]
pub struct DirectoryLock(#[allow(dead_code, reason = "the lock is the open file")] File);

impl DirectoryLock {
    /// Takes the lock in `root/lock`. The pid in the file is only information for people. The operating
    /// system releases the lock when the process ends.
    ///
    /// # Errors
    /// [`OpenError::InUse`] if another process has the lock, [`OpenError::NoLock`] if the file system has no
    /// locks.
    pub fn take(root: &Path) -> Result<Self, OpenError> {
        disk::make_private_dir(root)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(root.join("lock"))?;
        if !disk::try_lock(&file).map_err(no_lock)? {
            let mut holder = String::new();
            file.read_to_string(&mut holder)?;
            let holder = holder.trim();
            return Err(OpenError::InUse {
                holder: if holder.is_empty() {
                    "pid unknown".into()
                } else {
                    format!("pid {holder}")
                },
            });
        }
        file.seek(SeekFrom::Start(0))?;
        file.set_len(0)?;
        write!(file, "{}", std::process::id())?;
        Ok(Self(file))
    }
}

#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Limit of redb's page cache, in bytes.
    pub cache_bytes: usize,
    /// A folder for large payloads while a report arrives.
    pub spill_dir: PathBuf,
}

/// The state that the writer thread and readers share.
struct Shared {
    disk: Arc<dyn Disk>,
    /// The database file, which we keep locked.
    file: Arc<dyn DiskFile>,
    /// The first damage found in the database, if any.
    damage: Mutex<Option<String>>,
    clock: Arc<dyn Clock>,
    database: RwLock<Arc<backend::Open>>,
    readers: segments::Readers,
    /// Why the store cannot be written now; `None` if it can.
    latched: Mutex<Option<String>>,
    last_change: AtomicU64,
    change_signal: Sender<()>,
    discards: Mutex<Discards>,
}

impl Shared {
    fn database(&self) -> Arc<backend::Open> {
        self.database.read().clone()
    }

    fn replace_database(&self, database: backend::Open) {
        *self.database.write() = Arc::new(database);
    }

    /// Fails if `store.redb` is no longer the file that we have open and locked. Another process may be
    /// writing the file that has this name now.
    fn check_in_place(&self) -> Result<(), StoreError> {
        if self.file.is_in_place()? {
            Ok(())
        } else {
            Err(StoreError::Unavailable(format!(
                "{DATABASE} was removed or replaced while the server runs, so nothing is acknowledged; put the file back or restart the server, and stop it before you change its data directory"
            )))
        }
    }

    /// Stores the first damage for the status page and the health check.
    fn note(&self, error: &StoreError) {
        if let StoreError::Corrupt(_) = error {
            self.database().mark_damaged();
            let mut damage = self.damage.lock();
            damage.get_or_insert_with(|| error.to_string());
        }
    }

    fn latch(&self, error: &StoreError) {
        self.note(error);
        *self.latched.lock() = Some(error.to_string());
    }

    /// Returns true if it was latched.
    fn unlatch(&self) -> bool {
        let mut latched = self.latched.lock();
        latched.take().is_some()
    }

    fn last_change(&self) -> u64 {
        self.last_change.load(Ordering::Acquire)
    }

    fn tell_change(&self, change: u64) {
        self.last_change.store(change, Ordering::Release);
        // A full channel means that the indexer has a signal that it has not read yet.
        let _ = self.change_signal.try_send(());
    }
}

/// A change of a crash, for the indexer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub change: u64,
    pub seq: u64,
}

/// The state of the store, for the status page and the health checks.
#[derive(Clone, Debug)]
pub struct StoreStatus {
    /// Why the store cannot be written now; `None` if it can.
    pub latched: Option<String>,
    /// The first damage found in the database since the start.
    pub damage: Option<String>,
    /// Segments whose files are missing. Their payloads are lost.
    pub missing_segments: Vec<String>,
    /// Number of crashes in each state, in the order of [`State::ALL`].
    pub states: Vec<(State, u64)>,
    pub oldest_queued_at: Option<Timestamp>,
    pub segments: u64,
    /// Bytes of all segments.
    pub segment_bytes: u64,
    /// Bytes in the segments that a crash still needs.
    pub live_bytes: u64,
    pub database_bytes: u64,
    /// Number of the newest change.
    pub last_change: u64,
    /// Changes that are not yet durable in the index.
    pub changes_waiting: u64,
}

impl StoreStatus {
    /// The faults of the store, each with a short name and a sentence.
    pub fn faults(&self) -> impl Iterator<Item = (&'static str, String)> {
        let missing = (!self.missing_segments.is_empty()).then(|| {
            let named = &self.missing_segments[..self.missing_segments.len().min(5)];
            format!(
                "{} of {} segment files are missing ({}{}): the dumps and annotations in them are lost, unless you put the files back from a copy",
                self.missing_segments.len(),
                self.segments,
                named.join(", "),
                if named.len() < self.missing_segments.len() { ", ..." } else { "" },
            )
        });
        [
            ("store", self.latched.clone()),
            ("damage", self.damage.clone()),
            ("segments", missing),
        ]
        .into_iter()
        .filter_map(|(name, text)| Some((name, text?)))
    }
}

/// An open store. Dropping it closes it.
pub struct Store {
    shared: Arc<Shared>,
    commands: Sender<Command>,
    /// Disconnected once the writer has ended.
    ended: Receiver<()>,
    change_signal: Receiver<()>,
    writer: Mutex<Option<JoinHandle<()>>>,
    spill_dir: PathBuf,
    /// See [`Store::lock_accounts`].
    accounts_lock: Mutex<()>,
}

impl Store {
    /// Opens the store on `disk` and creates one if there is none. Returns the crashes to the queue that were
    /// in flight when the server last stopped or died. Jobs flow into `sink` at once.
    ///
    /// # Errors
    /// See [`OpenError`], which says what an operator must change first.
    pub fn open(
        disk: Arc<dyn Disk>,
        options: StoreOptions,
        clock: Arc<dyn Clock>,
        sink: Box<dyn JobSink>,
    ) -> Result<Self, OpenError> {
        disk.create_dir(segments::DIR)?;
        check_format(&*disk)?;
        let file = match disk.open(DATABASE) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                if has_segments(&*disk)? {
                    return Err(OpenError::Orphaned);
                } else {
                    disk.create(DATABASE)?
                }
            }
            other => other?,
        };
        // The lock on the directory alone is lost if somebody deletes the lock file.
        if !file.try_lock().map_err(no_lock)? {
            return Err(OpenError::InUse {
                holder: format!("it has {DATABASE} locked"),
            });
        }
        if file.is_empty()? && has_segments(&*disk)? {
            return Err(OpenError::Orphaned);
        }
        disk.sync_dir("")?;
        backend::clear_unmade(&*file, || has_segments(&*disk))?;
        let (change_sender, change_signal) = bounded(1);
        let (commands, receiver) = bounded(COMMANDS_MAX);
        let life = backend::Life::default();
        let database =
            contain::contained(|| backend::open(file.clone(), options.cache_bytes, &life))?;
        let shared = Arc::new(Shared {
            readers: segments::Readers::new(disk.clone()),
            disk,
            file,
            damage: Mutex::new(None),
            clock,
            database: RwLock::new(Arc::new(database)),
            latched: Mutex::new(None),
            last_change: AtomicU64::new(0),
            change_signal: change_sender,
            discards: Mutex::default(),
        });
        let writer = Writer::new(shared.clone(), life, receiver, sink, options.cache_bytes);
        let writer = writer.inspect_err(|error| {
            if matches!(error, StoreError::Corrupt(_) | StoreError::Damaged(_)) {
                shared.database().mark_damaged();
            }
        })?;
        let watched = shared.clone();
        let (ending, ended) = bounded::<()>(0);
        let writer = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || {
                let _ending = ending;
                let vital = Vital::new("store-writer");
                // Requests in progress must learn that the store accepts nothing more.
                match catch_unwind(AssertUnwindSafe(|| writer.run())) {
                    Ok(()) => vital.finish(),
                    Err(_) => watched.latch(&StoreError::Unavailable(
                        "the store's writer panicked; the server stops".into(),
                    )),
                }
            })?;
        Ok(Self {
            shared,
            commands,
            ended,
            change_signal,
            writer: Mutex::new(Some(writer)),
            spill_dir: options.spill_dir,
            accounts_lock: Mutex::default(),
        })
    }

    /// The folder for large payloads while a report arrives.
    pub fn spill_dir(&self) -> &Path {
        &self.spill_dir
    }

    /// Makes a crash durable. After `Ok`, no kill and no power cut loses it. Returns its id, or the id of the
    /// stored crash if the client has sent the same report before.
    ///
    /// # Errors
    /// Nothing may be acknowledged. [`StoreError::Unavailable`] is temporary: the client should send the
    /// report again later.
    pub fn accept(&self, crash: NewCrash) -> Result<CrashId, StoreError> {
        self.ask(|reply| Command::Accept {
            crash: Box::new(crash),
            reply,
        })
    }

    /// Moves a crash to the priority lane. Promotes a deferred crash and reprocesses a finished one.
    pub fn request(&self, id: CrashId) -> Result<Requested, StoreError> {
        self.ask(|reply| Command::Request { id, reply })
    }

    /// Does the same for many crashes, in as few transactions as possible. The answers are in the order of
    /// `ids`.
    pub fn request_all(&self, ids: &[CrashId]) -> Result<Vec<Requested>, StoreError> {
        let mut answers = Vec::with_capacity(ids.len());
        for &id in ids {
            let (reply, answer) = bounded(1);
            self.tell(Command::Request { id, reply })?;
            answers.push(answer);
        }
        answers
            .into_iter()
            .map(|answer| self.answered(&answer))
            .collect()
    }

    /// Hands in a worker's result. It becomes durable soon. The result is dropped if the attempt is no longer
    /// the current one.
    ///
    /// # Errors
    /// [`StoreError::Stopping`] only. If the disk fails, the writer keeps the result and tries again.
    pub fn finish(&self, job: Job, finished: Finished) -> Result<(), StoreError> {
        self.tell(Command::Finish {
            job,
            finished: Box::new(finished),
        })
    }

    /// Counts a walker's death or exceeded limit as a fault of the crash, and requeues the crash.
    pub fn fault(&self, job: Job, reason: String) -> Result<(), StoreError> {
        self.tell(Command::Fault { job, reason })
    }

    /// Moves a crash that takes long to the next slower lane (ADR 17).
    pub fn set_back(&self, job: Job) -> Result<(), StoreError> {
        self.tell(Command::SetBack { job })
    }

    /// Tells the store that the index is durable up to this change. The store may forget the changes before
    /// it.
    pub fn indexed(&self, up_to: u64) -> Result<(), StoreError> {
        self.tell(Command::Indexed { up_to })
    }

    /// Deletes those of the crashes that are still in one of `states`. Returns how many it deleted.
    pub fn delete(&self, seqs: Vec<u64>, states: &'static [State]) -> Result<u64, StoreError> {
        self.ask(|reply| Command::Delete {
            seqs,
            states,
            reply,
        })
    }

    /// Deletes the files of segments that no crash needs. Returns how many it deleted.
    pub fn sweep(&self) -> Result<u64, StoreError> {
        self.ask(|reply| Command::Sweep { reply })
    }

    /// Checks that every crash is in exactly the tables that its state requires and that the counts are
    /// right. Repairs what is wrong. The store accepts reports meanwhile.
    pub fn audit(&self) -> Result<Audit, StoreError> {
        let (audit, counts) = self.read(audit::examine)?;
        if !audit.is_clean() {
            let seqs = audit.misplaced.clone();
            self.ask(|reply| Command::Heal {
                seqs,
                counts,
                reply,
            })?;
        }
        Ok(audit)
    }

    /// Up to `limit` deferred crashes that expire at `now` or before.
    pub fn overdue(&self, now: Timestamp, limit: usize) -> Result<Vec<u64>, StoreError> {
        self.read(|read| {
            let deferred = read.open_table(DEFERRED)?;
            let mut seqs = Vec::new();
            for entry in deferred.range(..=(now.ms(), u64::MAX))?.take(limit) {
                seqs.push(entry?.0.value().1);
            }
            Ok(seqs)
        })
    }

    /// Crashes that are queued or being processed, and the total number of them. Crashes that workers have
    /// come first. The result leaves out the first `skip` crashes and has at most `limit`.
    pub fn awaited(
        &self,
        skip: usize,
        limit: usize,
    ) -> Result<(Vec<StoredCrash>, u64), StoreError> {
        self.read(|read| {
            let (working, ready) = (read.open_table(WORKING)?, read.open_table(READY)?);
            let total = working.len()? + ready.len()?;
            let working = working.iter()?.map(|entry| Ok(entry?.0.value()));
            let ready = ready.iter()?.map(|entry| Ok(entry?.0.value().1));
            let seqs: Vec<u64> = working
                .chain(ready)
                .skip(skip)
                .take(limit)
                .collect::<Result<_, StoreError>>()?;
            let crashes = read.open_table(CRASHES)?;
            let mut rows = Vec::new();
            for seq in seqs {
                if let Some(row) = crashes.get(seq)? {
                    rows.extend(readable(seq, row.value()));
                }
            }
            Ok((rows, total))
        })
    }

    /// Stops handing out jobs. The senders of the [`JobSink`] are dropped.
    pub fn pause(&self) {
        let _ = self.tell(Command::Pause);
    }

    /// Returns the crashes in flight to the queue and ends the writer. Later calls return `Stopping`.
    pub fn close(&self) {
        self.tell_discards();
        let _ = self.tell(Command::Close);
        let writer = self.writer.lock().take();
        if let Some(writer) = writer {
            let _ = writer.join();
            // Readers may still hold the file, but no thread writes it any more.
            let _ = self.shared.file.unlock();
        }
    }

    fn tell(&self, command: Command) -> Result<(), StoreError> {
        self.commands
            .send(command)
            .map_err(|_| StoreError::Stopping)
    }

    fn ask<T>(&self, command: impl FnOnce(writer::Reply<T>) -> Command) -> Result<T, StoreError> {
        let (reply, answer) = bounded(1);
        self.tell(command(reply))?;
        self.answered(&answer)
    }

    /// Waits for the writer's answer to a command.
    fn answered<T>(&self, answer: &Receiver<Result<T, StoreError>>) -> Result<T, StoreError> {
        // A command sent just as the writer ended stays in the channel, and its reply is never dropped.
        select! {
            recv(answer) -> answer => answer,
            recv(self.ended) -> _ => answer.try_recv().map_err(|_| RecvError),
        }
        .map_err(|_| StoreError::Stopping)?
    }

    /// Runs a read transaction. After an I/O error it has the writer check the database, because redb refuses
    /// all work after such an error until it is opened again.
    fn read<T>(
        &self,
        work: impl FnOnce(&ReadTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let result = contain::contained(|| work(&self.shared.database().begin_read()?));
        if let Err(error) = &result {
            self.shared.note(error);
        }
        if matches!(result, Err(StoreError::Unavailable(_))) && self.latched().is_none() {
            // If the channel is full, the writer is busy and will meet the error itself.
            let _ = self.commands.try_send(Command::Check);
        }
        result
    }

    /// Why the store cannot be written now; `None` if it can.
    pub fn latched(&self) -> Option<String> {
        let latched = self.shared.latched.lock();
        latched.clone()
    }

    /// Receives a message whenever there may be new changes.
    pub fn change_signal(&self) -> Receiver<()> {
        self.change_signal.clone()
    }

    /// A crash by its id, with its sequence number.
    pub fn crash(&self, id: CrashId) -> Result<Option<(u64, StoredCrash)>, StoreError> {
        self.read(|read| {
            let Some(seq) = read.open_table(IDS)?.get(id.bits())?.map(|v| v.value()) else {
                return Ok(None);
            };
            let crashes = read.open_table(CRASHES)?;
            let row = crashes
                .get(seq)?
                .map(|row| rows::decode(row.value()))
                .transpose()?;
            Ok(row.map(|row| (seq, row)))
        })
    }

    /// A crash by its sequence number.
    pub fn crash_at(&self, seq: u64) -> Result<Option<StoredCrash>, StoreError> {
        self.read(|read| {
            let crashes = read.open_table(CRASHES)?;
            crashes
                .get(seq)?
                .map(|row| rows::decode(row.value()))
                .transpose()
        })
    }

    /// The newest crashes by receipt, newest first.
    pub fn newest(&self, limit: usize) -> Result<Vec<StoredCrash>, StoreError> {
        self.read(|read| {
            let crashes = read.open_table(CRASHES)?;
            let mut rows = Vec::with_capacity(limit.min(1_000));
            for entry in crashes.iter()?.rev() {
                if rows.len() == limit {
                    break;
                }
                let (seq, row) = entry?;
                rows.extend(readable(seq.value(), row.value()));
            }
            Ok(rows)
        })
    }

    /// The next `limit` crashes with sequence numbers above `after`, ascending. There are fewer only at the
    /// end of the table. Crashes with damaged rows are left out.
    pub fn scan(&self, after: u64, limit: usize) -> Result<Vec<(u64, StoredCrash)>, StoreError> {
        self.read(|read| {
            let crashes = read.open_table(CRASHES)?;
            let mut rows = Vec::new();
            for entry in crashes.range(after + 1..)? {
                if rows.len() == limit {
                    break;
                }
                let (seq, row) = entry?;
                rows.extend(readable(seq.value(), row.value()).map(|row| (seq.value(), row)));
            }
            Ok(rows)
        })
    }

    /// Up to `limit` changes above `after`, ascending. A crash appears once for each of its changes.
    pub fn changes(&self, after: u64, limit: usize) -> Result<Vec<Change>, StoreError> {
        self.read(|read| {
            let changes = read.open_table(CHANGES)?;
            let mut found = Vec::new();
            for entry in changes.range(after + 1..)?.take(limit) {
                let (change, seq) = entry?;
                found.push(Change {
                    change: change.value(),
                    seq: seq.value(),
                });
            }
            Ok(found)
        })
    }

    /// The number of the newest change, and of the oldest change that is still in the feed, if any.
    pub fn change_range(&self) -> Result<(u64, Option<u64>), StoreError> {
        self.read(|read| {
            let last = read
                .open_table(META)?
                .get(meta::NEXT_CHANGE)?
                .map_or(0, |n| n.value() as u64 - 1);
            let first = read
                .open_table(CHANGES)?
                .first()?
                .map(|(change, _)| change.value());
            Ok((last, first))
        })
    }

    /// The store's own id, created once.
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
    pub fn part(&self, part: &StoredPart) -> Result<PayloadReader, StoreError> {
        self.shared.readers.read(part.blob)
    }

    /// Names of the segments that have a row but no file.
    fn missing_segments(&self) -> Result<Vec<String>, StoreError> {
        let known = || {
            self.read(|read| {
                let mut known = Vec::new();
                for entry in read.open_table(SEGMENTS)?.iter()? {
                    let (segment, row) = entry?;
                    let row: SegmentRow = rows::decode(row.value())?;
                    if !row.dead {
                        known.push(segment.value());
                    }
                }
                Ok(known)
            })
        };
        let rows = known()?;
        let there: HashSet<u32> = match self.shared.disk.list(segments::DIR) {
            Ok(names) => names
                .iter()
                .filter_map(|name| segments::number_in(name))
                .collect(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => HashSet::new(),
            Err(error) => return Err(error.into()),
        };
        let mut missing: Vec<u32> = rows.into_iter().filter(|n| !there.contains(n)).collect();
        if !missing.is_empty() {
            // Retention may have removed some segments since we read the rows.
            let still: HashSet<u32> = known()?.into_iter().collect();
            missing.retain(|segment| still.contains(segment));
        }
        Ok(missing.into_iter().map(segments::file_name).collect())
    }

    pub fn status(&self) -> Result<StoreStatus, StoreError> {
        // An idle server writes nothing, so its writer would not notice that the file was replaced.
        let displaced = || self.shared.check_in_place().err().map(|e| e.to_string());
        let latched = self.latched().or_else(displaced);
        let damage = self.shared.damage.lock();
        let damage = damage.clone();
        let missing_segments = self.missing_segments()?;
        self.read(|read| {
            let counts = read.open_table(STATES)?;
            let mut states = Vec::new();
            for state in State::ALL {
                states.push((state, counts.get(state as u8)?.map_or(0, |v| v.value())));
            }
            let ready = read.open_table(READY)?;
            let crashes = read.open_table(CRASHES)?;
            let mut oldest_queued_at: Option<Timestamp> = None;
            // A crash in the mend lane already has a result.
            for lane in Lane::ALL.into_iter().filter(|&lane| lane != Lane::Mend) {
                let lane = lane as u8;
                let Some(entry) = ready.range((lane, 0)..=(lane, u64::MAX))?.next() else {
                    continue;
                };
                let (_, seq) = entry?.0.value();
                let row = crashes.get(seq)?;
                if let Some(row) = row.and_then(|row| readable(seq, row.value())) {
                    let at = row.received_at();
                    oldest_queued_at = Some(oldest_queued_at.map_or(at, |oldest| oldest.min(at)));
                }
            }
            let (mut segments, mut segment_bytes, mut live_bytes) = (0, 0, 0);
            for entry in read.open_table(SEGMENTS)?.iter()? {
                let row: SegmentRow = rows::decode(entry?.1.value())?;
                if row.dead {
                    continue;
                }
                segments += 1;
                segment_bytes += row.bytes;
                live_bytes += row.live_bytes;
            }
            let last_change = read
                .open_table(META)?
                .get(meta::NEXT_CHANGE)?
                .map_or(0, |n| n.value() as u64 - 1);
            Ok(StoreStatus {
                latched,
                damage,
                missing_segments,
                states,
                oldest_queued_at,
                segments,
                segment_bytes,
                live_bytes,
                database_bytes: self.shared.file.len()?,
                last_change,
                changes_waiting: read.open_table(CHANGES)?.len()?,
            })
        })
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

/// The row of a crash for a list. A damaged row is left out so that the others are still shown.
fn readable(seq: u64, row: &[u8]) -> Option<StoredCrash> {
    rows::decode(row)
        .inspect_err(|error| tracing::error!(seq, %error, "a crash is left out of a list"))
        .ok()
}

/// A file system may have no locks, or run out of them (ENOLCK).
fn no_lock(error: std::io::Error) -> OpenError {
    OpenError::NoLock {
        why: error.to_string(),
    }
}

/// Whether a payload may ever have been stored.
fn has_segments(disk: &dyn Disk) -> std::io::Result<bool> {
    let names = disk.list(segments::DIR)?;
    Ok(names.iter().any(|name| segments::number_in(name).is_some()))
}

/// Writes FORMAT in a new directory. Refuses a directory that is not ours.
fn check_format(disk: &dyn Disk) -> Result<(), OpenError> {
    let ours = format!("crashkeep {LAYOUT}\n");
    let file = match disk.open(FORMAT) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let file = disk.create(FORMAT)?;
            file.write_at(0, ours.as_bytes())?;
            file.sync_data()?;
            return Ok(());
        }
        other => other?,
    };
    let mut bytes = vec![0; usize::try_from(file.len()?.min(100)).unwrap_or(0)];
    file.read_at(0, &mut bytes)?;
    let found = String::from_utf8_lossy(&bytes)
        .trim_matches(|c: char| c.is_whitespace() || c == '\0')
        .to_owned();
    match found.strip_prefix("crashkeep ").map(str::parse::<u32>) {
        Some(Ok(layout)) if layout == LAYOUT => Ok(()),
        Some(Ok(layout)) if layout > LAYOUT => Err(OpenError::Newer {
            found: layout,
            known: LAYOUT,
        }),
        // A kill interrupted the writing of FORMAT: the file is empty, has only the first part of the text,
        // or has only zeros.
        _ if ours.starts_with(&found) => {
            file.write_at(0, ours.as_bytes())?;
            Ok(file.sync_data()?)
        }
        _ => Err(OpenError::Foreign { found }),
    }
}
