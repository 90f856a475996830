//! How other threads reach the writer.

use crossbeam_channel::{Receiver, RecvError, Sender, bounded, select};

use super::command::{Asked, Command, Told};
use super::error::StoreError;
use super::message::Message;

/// Sends commands to the writer. Clones reach the same writer.
#[derive(Clone)]
pub(crate) struct WriterHandle {
    pub(crate) messages: Sender<Message>,
    /// Disconnected once the writer has ended.
    pub(crate) ended: Receiver<()>,
}

/// The way on which an answer comes.
pub(crate) type Answer<T> = Receiver<Result<T, StoreError>>;

impl WriterHandle {
    /// Sends a command and does not wait. It becomes durable soon.
    pub(crate) fn tell(&self, command: impl Command<Answer = ()>) -> Result<(), StoreError> {
        self.send(Message::Apply(Box::new(Told(command))))
    }

    /// Sends a command and waits until it is durable.
    pub(crate) fn ask<C: Command>(&self, command: C) -> Result<C::Answer, StoreError> {
        self.awaited(&self.begin(command)?)
    }

    /// Sends a command whose answer somebody waits for.
    pub(crate) fn begin<C: Command>(&self, command: C) -> Result<Answer<C::Answer>, StoreError> {
        let (reply, answer) = bounded(1);
        self.send(Message::Apply(Box::new(Asked::new(command, reply))))?;
        Ok(answer)
    }

    pub(crate) fn send(&self, message: Message) -> Result<(), StoreError> {
        self.messages
            .send(message)
            .map_err(|_| StoreError::Stopping)
    }

    /// Waits for an answer.
    pub(crate) fn awaited<T>(&self, answer: &Answer<T>) -> Result<T, StoreError> {
        answer_unless_ended(answer, &self.ended)
    }
}

/// Waits for an answer of a thread. `ended` is disconnected once the thread has ended.
pub(crate) fn answer_unless_ended<T>(
    answer: &Answer<T>,
    ended: &Receiver<()>,
) -> Result<T, StoreError> {
    // A message sent just as the thread ended stays in the channel, and its reply is never dropped.
    select! {
        recv(answer) -> answer => answer,
        recv(ended) -> _ => answer.try_recv().map_err(|_| RecvError),
    }
    .map_err(|_| StoreError::Stopping)?
}
