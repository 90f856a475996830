//! The log of reports. A report is durable, and its client gets its answer, as soon as the log is synced; the
//! database follows in larger batches (ADR 36).
//!
//! The log is a chain of segments. The head of each says where the one before it ended. A report is a run of
//! records: its annotations, its files, and a closing record that names them all (`record`). The thread
//! (`thread`) appends and answers. Reports that the database does not have yet are also in memory (`store/ahead.rs`),
//! where every read by id finds them. After a kill, the next start reads them from the log again (`replay`)
//! and stores them before it accepts anything.

mod record;
mod replay;
mod seal;
mod thread;

#[cfg(test)]
pub(crate) use record::{close, closed};
pub(crate) use replay::{Replay, replay};
pub(crate) use thread::{Log, LogMessage, Waiting};
