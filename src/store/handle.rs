//! The open store: how other threads reach the writer and the committed data.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, RecvError, Sender, bounded, select};
use parking_lot::{Mutex, RwLock};
use redb::{ReadTransaction, ReadableDatabase};

use super::backend;
use super::claim::JobSink;
use super::command::{Asked, Command, Told};
use super::contain::contained;
use super::directory::{check_format, has_segments, no_lock};
use super::disk::Disk;
use super::error::{OpenError, StoreError};
use super::segments;
use super::shared::{DATABASE, Shared};
use super::writer::{Message, Writer};
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
    messages: Sender<Message>,
    /// Disconnected once the writer has ended.
    ended: Receiver<()>,
    pub(super) change_signal: Receiver<()>,
    writer: Mutex<Option<JoinHandle<()>>>,
    spill_dir: PathBuf,
    /// See [`Store::lock_accounts`].
    pub(super) accounts_lock: Mutex<()>,
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
                holder: format!("it holds the lock on {DATABASE}"),
            });
        }
        if file.is_empty()? && has_segments(&*disk)? {
            return Err(OpenError::Orphaned);
        }
        disk.sync_dir("")?;
        backend::clear_unmade(&*file, || has_segments(&*disk))?;
        let (change_sender, change_signal) = bounded(1);
        let (messages, receiver) = bounded(MESSAGES_MAX);
        let life = backend::Life::default();
        let database = contained(|| backend::open(file.clone(), options.cache_bytes, &life))?;
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
            messages,
            ended,
            change_signal,
            writer: Mutex::new(Some(writer)),
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
        let _ = self.messages.send(Message::Pause);
    }

    /// Returns the crashes in flight to the queue and ends the writer. Later calls return `Stopping`.
    pub fn close(&self) {
        self.tell_discards();
        let _ = self.messages.send(Message::Close);
        let writer = self.writer.lock().take();
        if let Some(writer) = writer {
            let _ = writer.join();
            // Readers may still hold the file, but no thread writes it any more.
            let _ = self.shared.file.unlock();
        }
    }

    /// Sends a command and does not wait. It becomes durable soon.
    pub(super) fn tell(&self, command: impl Command<Answer = ()>) -> Result<(), StoreError> {
        self.send(Message::Apply(Box::new(Told(command))))
    }

    /// Sends a command and waits until it is durable.
    pub(super) fn ask<C: Command>(&self, command: C) -> Result<C::Answer, StoreError> {
        self.awaited_answer(&self.begin(command)?)
    }

    /// Sends commands together and waits until all are durable. The answers are in their order.
    pub(super) fn ask_all<C: Command>(
        &self,
        commands: impl Iterator<Item = C>,
    ) -> Result<Vec<C::Answer>, StoreError> {
        let begun: Vec<_> = commands
            .map(|command| self.begin(command))
            .collect::<Result<_, _>>()?;
        begun
            .iter()
            .map(|answer| self.awaited_answer(answer))
            .collect()
    }

    fn begin<C: Command>(
        &self,
        command: C,
    ) -> Result<Receiver<Result<C::Answer, StoreError>>, StoreError> {
        let (reply, answer) = bounded(1);
        self.send(Message::Apply(Box::new(Asked::new(command, reply))))?;
        Ok(answer)
    }

    fn send(&self, message: Message) -> Result<(), StoreError> {
        self.messages
            .send(message)
            .map_err(|_| StoreError::Stopping)
    }

    /// Waits for the writer's answer to a command.
    fn awaited_answer<T>(&self, answer: &Receiver<Result<T, StoreError>>) -> Result<T, StoreError> {
        // A command sent just as the writer ended stays in the channel, and its reply is never dropped.
        select! {
            recv(answer) -> answer => answer,
            recv(self.ended) -> _ => answer.try_recv().map_err(|_| RecvError),
        }
        .map_err(|_| StoreError::Stopping)?
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
            let _ = self.messages.try_send(Message::Check);
        }
        result
    }

    /// Why the store cannot be written now; `None` if it can.
    pub fn latched(&self) -> Option<String> {
        self.shared.latched.lock().clone()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}
