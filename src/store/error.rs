//! What can go wrong in the store, by what the caller should do.

use std::fmt;
use std::io;

/// An error of a running store.
#[derive(Debug, Clone)]
pub enum StoreError {
    /// The disk refused; the store is read-only until it has reopened itself. Try again later.
    Unavailable(String),
    /// Bytes on the disk are not those that were written. Other crashes are not touched by it.
    Damaged(String),
    /// The store is being closed.
    Stopping,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(why) => {
                write!(f, "the store cannot be written or read just now: {why}")
            }
            Self::Damaged(where_) => write!(f, "stored data is damaged: {where_}"),
            Self::Stopping => f.write_str("the store is being closed"),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}

macro_rules! from_redb {
    ($($error:ty),+) => {$(
        impl From<$error> for StoreError {
            fn from(error: $error) -> Self {
                Self::Unavailable(error.to_string())
            }
        }
    )+};
}

from_redb!(
    redb::Error,
    redb::StorageError,
    redb::TableError,
    redb::TransactionError,
    redb::CommitError,
    redb::DatabaseError,
    redb::SetDurabilityError
);

/// The data directory cannot be opened.
#[derive(Debug)]
pub enum OpenError {
    /// Another process has it open.
    InUse {
        holder: String,
    },
    /// A newer crashkeep wrote it.
    Newer {
        found: String,
        known: u32,
    },
    /// There are segments, but no database that says what is in them.
    Orphaned,
    /// The folder holds something that is no store.
    Foreign {
        found: String,
    },
    Store(StoreError),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse { holder } => write!(
                f,
                "the data directory is open in another process ({holder}); stop that one, or name another directory with --data"
            ),
            Self::Newer { found, known } => write!(
                f,
                "the data directory has layout {found:?}, this program knows up to {known}: use the newer program that wrote it"
            ),
            Self::Foreign { found } => write!(
                f,
                "the data directory's FORMAT file reads {found:?}, not \"crashkeep 1\": name an empty directory or a crashkeep one with --data"
            ),
            Self::Orphaned => f.write_str(
                "segments/ holds the bytes of crashes, but store.redb, which says what they are, is missing or empty: put it back from a copy, or move segments/ away to begin anew",
            ),
            Self::Store(StoreError::Unavailable(why)) => write!(f, "cannot be opened: {why}"),
            Self::Store(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for OpenError {}

impl<E: Into<StoreError>> From<E> for OpenError {
    fn from(error: E) -> Self {
        Self::Store(error.into())
    }
}
