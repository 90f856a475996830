//! Commands: what the other threads ask of the writer.
//!
//! Each command is a type in the file of its family: [`Command`] says what it changes and what it answers.
//! The writer applies whatever arrives, in batches, and knows no command by name.

use crossbeam_channel::Sender;

use super::batch::Batch;
use super::error::StoreError;
use super::txn::Txn;

/// One change of the store. It shares its transaction with other commands.
pub(crate) trait Command: Send + 'static {
    type Answer: Send;

    /// Applies the command. After an I/O error it may be applied once more, although the first attempt may
    /// have reached the disk.
    ///
    /// # Errors
    /// With [`StoreError::Damaged`] and [`StoreError::Newer`] only this command fails, so it must read its
    /// rows before it writes anything. Any other error fails the whole batch.
    fn apply(&self, txn: &mut Txn, batch: &mut Batch) -> Result<Self::Answer, StoreError>;

    /// Bytes that the command appends to segments.
    fn payload_bytes(&self) -> u64 {
        0
    }

    /// Seq and attempt of the job that a worker gives back with this command.
    fn returns_job(&self) -> Option<(u64, u32)> {
        None
    }
}

/// A command on its way to the writer, with the way back to its caller.
pub(crate) trait Queued: Send {
    /// Applies the command and keeps its answer.
    fn apply(&mut self, txn: &mut Txn, batch: &mut Batch) -> Result<(), StoreError>;
    /// Sends the kept answer, because the batch is durable now.
    fn answer(self: Box<Self>);
    /// Tells the caller that the store cannot be written. Returns the command if no caller waits for an
    /// answer; it must then be applied later.
    fn refuse(self: Box<Self>, error: &StoreError) -> Option<Box<dyn Queued>>;
    /// Whether a caller waits, so that the batch should be applied at once.
    fn is_awaited(&self) -> bool;
    /// See [`Command::payload_bytes`].
    fn payload_bytes(&self) -> u64;
    /// See [`Command::returns_job`].
    fn returns_job(&self) -> Option<(u64, u32)>;
}

/// A command whose caller waits for the answer.
pub(crate) struct Asked<C: Command> {
    command: C,
    answer: Option<Result<C::Answer, StoreError>>,
    reply: Sender<Result<C::Answer, StoreError>>,
}

impl<C: Command> Asked<C> {
    pub(crate) fn new(command: C, reply: Sender<Result<C::Answer, StoreError>>) -> Self {
        Self {
            command,
            answer: None,
            reply,
        }
    }
}

impl<C: Command> Queued for Asked<C> {
    fn apply(&mut self, txn: &mut Txn, batch: &mut Batch) -> Result<(), StoreError> {
        self.answer = Some(applied_alone(&self.command, txn, batch)?);
        Ok(())
    }

    fn answer(self: Box<Self>) {
        if let Some(answer) = self.answer {
            // A caller that has gone does not wait for its answer.
            let _ = self.reply.send(answer);
        }
    }

    fn refuse(self: Box<Self>, error: &StoreError) -> Option<Box<dyn Queued>> {
        let _ = self.reply.send(Err(error.clone()));
        None
    }

    fn is_awaited(&self) -> bool {
        true
    }

    fn payload_bytes(&self) -> u64 {
        self.command.payload_bytes()
    }

    fn returns_job(&self) -> Option<(u64, u32)> {
        self.command.returns_job()
    }
}

/// A command without a waiting caller. It is kept while the store cannot be written.
pub(crate) struct Told<C>(pub(crate) C);

impl<C: Command<Answer = ()>> Queued for Told<C> {
    fn apply(&mut self, txn: &mut Txn, batch: &mut Batch) -> Result<(), StoreError> {
        // Nobody waits for this error, and the log has it.
        let _ = applied_alone(&self.0, txn, batch)?;
        Ok(())
    }

    fn answer(self: Box<Self>) {}

    fn refuse(self: Box<Self>, _: &StoreError) -> Option<Box<dyn Queued>> {
        Some(self)
    }

    fn is_awaited(&self) -> bool {
        false
    }

    fn payload_bytes(&self) -> u64 {
        self.0.payload_bytes()
    }

    fn returns_job(&self) -> Option<(u64, u32)> {
        self.0.returns_job()
    }
}

/// Applies a command. The inner error fails only this command, the outer one its whole batch.
fn applied_alone<C: Command>(
    command: &C,
    txn: &mut Txn,
    batch: &mut Batch,
) -> Result<Result<C::Answer, StoreError>, StoreError> {
    match command.apply(txn, batch) {
        // A damaged row affects only one crash.
        Err(error @ (StoreError::Damaged(_) | StoreError::Newer(_))) => {
            tracing::error!(%error, "a command failed");
            Ok(Err(error))
        }
        other => other.map(Ok),
    }
}
