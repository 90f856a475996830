//! The open store: how other threads reach the writer and the committed data.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;
use redb::{ReadTransaction, ReadableDatabase};

use super::asking::WriterHandle;
use super::backend;
use super::claim::JobSink;
use super::command::Command;
use super::contain::contained;
use super::directory::{check_format, has_segments, no_lock};
use super::disk::Disk;
use super::error::{OpenError, StoreError};
use super::in_flight::Marks;
use super::log::{Log, LogMessage};
use super::message::Message;
use super::segments;
use super::shared::{DATABASE, Shared};
use super::writer::Writer;
use crate::clock::Clock;
use crate::vital::Vital;

/// Messages that can be queued for the writer. Senders block when the queue is full.
const MESSAGES_MAX: usize = 1_024;

#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Limit of redb's page cache, in bytes.
    pub cache_bytes: usize,
    /// A folder for large payloads while a report arrives.
    pub spill_dir: PathBuf,
}

/// An open store. Dropping it closes it.
pub struct Store {
    pub(super) shared: Arc<Shared>,
    writer: WriterHandle,
    pub(super) log: Sender<LogMessage>,
    /// Disconnected once the thread of the log has ended.
    pub(super) log_ended: Receiver<()>,
    pub(super) change_signal: Receiver<()>,
    writer_thread: Mutex<Option<JoinHandle<()>>>,
    log_thread: Mutex<Option<JoinHandle<()>>>,
    spill_dir: PathBuf,
    /// See [`Store::lock_accounts`].
    pub(super) accounts_lock: Mutex<()>,
}

impl Store {
    /// Opens the store on `disk` and creates one if there is none. If the server died, this counts against the
    /// crashes that workers had started. Jobs flow into `sink` at once.
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
                holder: format!("it holds the lock on {DATABASE}"),
            });
        }
        if file.is_empty()? && has_segments(&*disk)? {
            return Err(OpenError::Orphaned);
        }
        disk.sync_dir("")?;
        backend::clear_unmade(&*file, || has_segments(&*disk))?;
        let (marks, started) = Marks::take(&*disk)?;
        let (change_sender, change_signal) = bounded(1);
        let (messages, receiver) = bounded(MESSAGES_MAX);
        let life = backend::Life::default();
        let database = contained(|| backend::open(file.clone(), options.cache_bytes, &life))?;
        let shared = Shared::new(disk, file, clock, database, change_sender, marks);
        let shared = Arc::new(shared);
        let cache_bytes = options.cache_bytes;
        let writer = Writer::new(shared.clone(), life, &started, receiver, sink, cache_bytes);
        let (writer, replay) = writer.inspect_err(|error| {
            if let OpenError::Store(StoreError::Corrupt(_) | StoreError::Damaged(_)) = error {
                shared.database().mark_damaged();
            }
        })?;
        let next_seq = writer.next_seq()?;
        let (writer_thread, ended) = start("store-writer", &shared, move || writer.run())?;
        let writer = WriterHandle { messages, ended };
        let (log, reports) = bounded(MESSAGES_MAX);
        let thread = Log::new(shared.clone(), reports, writer.clone(), &replay, next_seq);
        let (log_thread, log_ended) = start("store-log", &shared, move || thread.run())?;
        Ok(Self {
            shared,
            writer,
            log,
            log_ended,
            change_signal,
            writer_thread: Mutex::new(Some(writer_thread)),
            log_thread: Mutex::new(Some(log_thread)),
            spill_dir: options.spill_dir,
            accounts_lock: Mutex::default(),
        })
    }

    /// The folder for large payloads while a report arrives.
    pub(crate) fn spill_dir(&self) -> &Path {
        &self.spill_dir
    }

    /// Stops handing out jobs. The senders of the [`JobSink`] are dropped.
    pub fn pause(&self) {
        self.shared.results.open();
        let _ = self.writer.send(Message::Pause);
    }

    /// Commits what waits and ends the threads. Crashes that workers have are handed out again after the next
    /// start. Later calls return `Stopping`.
    pub fn close(&self) {
        let _ = self.log.send(LogMessage::Close);
        if let Some(log) = self.log_thread.lock().take() {
            let _ = log.join();
        }
        self.shared.results.open();
        self.tell_discards();
        let _ = self.writer.send(Message::Close);
        let writer = self.writer_thread.lock().take();
        if let Some(writer) = writer {
            let _ = writer.join();
            // Readers may still hold the file, but no thread writes it any more.
            let _ = self.shared.file.unlock();
        }
    }

    /// Sends a command and does not wait. It becomes durable soon.
    pub(super) fn tell(&self, command: impl Command<Answer = ()>) -> Result<(), StoreError> {
        self.writer.tell(command)
    }

    /// Sends a command and waits until it is durable.
    pub(super) fn ask<C: Command>(&self, command: C) -> Result<C::Answer, StoreError> {
        self.writer.ask(command)
    }

    /// Sends commands together and waits until all are durable. The answers are in their order.
    pub(super) fn ask_all<C: Command>(
        &self,
        commands: impl Iterator<Item = C>,
    ) -> Result<Vec<C::Answer>, StoreError> {
        let begun: Vec<_> = commands
            .map(|command| self.writer.begin(command))
            .collect::<Result<_, _>>()?;
        begun
            .iter()
            .map(|answer| self.writer.awaited(answer))
            .collect()
    }

    /// Runs a read transaction. After an I/O error it has the writer check the database, because redb refuses
    /// all work after such an error until it is opened again.
    pub(super) fn read<T>(
        &self,
        work: impl FnOnce(&ReadTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let result = contained(|| work(&self.shared.database().begin_read()?));
        if let Err(error) = &result {
            self.shared.note(error);
        }
        if matches!(result, Err(StoreError::Unavailable(_))) && self.latched().is_none() {
            // If the channel is full, the writer is busy and will meet the error itself.
            let _ = self.writer.messages.try_send(Message::Check);
        }
        result
    }

    /// Why the store cannot be written now; `None` if it can.
    pub fn latched(&self) -> Option<String> {
        self.shared.unwritable()
    }
}

/// Starts a thread without which the store cannot work. The receiver is disconnected once it has ended.
fn start(
    name: &'static str,
    shared: &Arc<Shared>,
    run: impl FnOnce() + Send + 'static,
) -> std::io::Result<(JoinHandle<()>, Receiver<()>)> {
    let watched = shared.clone();
    let (ending, ended) = bounded::<()>(0);
    let thread = std::thread::Builder::new()
        .name(name.into())
        .spawn(move || {
            let _ending = ending;
            let vital = Vital::new(name);
            // Requests in progress must learn that the store accepts nothing more.
            match catch_unwind(AssertUnwindSafe(run)) {
                Ok(()) => vital.finish(),
                Err(_) => watched.latch(&StoreError::Unavailable(format!(
                    "the thread {name} panicked; the server stops"
                ))),
            }
        })?;
    Ok((thread, ended))
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}
