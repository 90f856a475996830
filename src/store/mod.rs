//! The store: the record of every crash, and the only place where bytes become durable.
//!
//! `store.redb` holds all state. Payload bytes are in append-only segment files, which only this module
//! writes, reads and deletes. Together they are one store. A crash goes through these steps:
//!
//! 1. [`Store::accept`] returns when the crash is durable: the log of reports is synced. The writer stores it
//!    in redb soon after.
//! 2. The writer sends the crash to a worker through the [`JobSink`]. Only memory knows which crashes workers
//!    have.
//! 3. [`Store::finish`] or [`Store::fault`] hands in the worker's answer. It counts only if the attempt is
//!    still the current one.
//! 4. [`Store::changes`] lists the changed crashes for the indexer.
//!
//! Each read is one short transaction. No guard and no transaction leaves this module. The module never looks
//! into a dump and never answers a client.

mod accept;
pub(crate) mod accounts;
mod ahead;
mod asking;
mod audit;
mod backend;
mod batch;
mod budget;
pub mod bugs;
mod changes;
mod claim;
mod command;
mod contain;
pub mod counters;
mod crashes;
mod decisions;
mod delete;
mod directory;
mod discards;
pub mod disk;
mod error;
mod handle;
mod identity;
mod in_flight;
pub(crate) mod lacks;
mod log;
mod logged;
mod message;
mod names;
mod new_crash;
mod open_segments;
pub(crate) mod overlay;
pub(crate) mod passes;
pub(crate) mod payload;
mod prioritize;
mod reading;
mod repeat_table;
pub mod repeats;
pub mod reprocess;
mod results;
pub mod rows;
mod segment_head;
mod segments;
mod shared;
pub(crate) mod sightings;
pub mod signatures;
mod states;
mod status;
mod sweep;
pub mod symbols;
pub mod tables;
mod tally;
mod txn;
mod writer;

pub(crate) use audit::Audit;
pub use claim::JobSink;
pub use crashes::StoredCrash;
pub(crate) use crashes::StoredPart;
pub use directory::DirectoryLock;
pub use error::{OpenError, StoreError};
pub use handle::{Store, StoreOptions};
pub use new_crash::NewCrash;
pub(crate) use payload::PayloadReader;
pub use payload::{Payload, PayloadBuilder};
pub use prioritize::Prioritized;
pub use results::Finished;
pub use rows::{Lane, State};
pub use states::Job;
pub(crate) use status::StoreStatus;
