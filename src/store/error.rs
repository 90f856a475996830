//! The errors of the store, by what the caller should do.

use std::io;

/// An error of a running store.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The disk failed. The store is read-only until it has reopened itself. Try again later.
    #[error("the store is temporarily unavailable: {0}")]
    Unavailable(String),
    /// Bytes on the disk are not the bytes that were written. Other crashes are not affected.
    #[error("stored data is damaged: {0}")]
    Damaged(String),
    /// A newer program wrote a row, in a version that this one does not know.
    #[error("a newer crashkeep wrote the data directory: {0}; use the version that wrote it")]
    Newer(String),
    /// The database itself is damaged. Trying again does not help.
    #[error(
        "store.redb is damaged: {0}; stop the server and restore the data directory from a backup, or keep it unchanged for `crashkeep salvage SRC DST`, which a later version will have"
    )]
    Corrupt(String),
    /// The store is closing.
    #[error("the store is closing")]
    Stopping,
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}

macro_rules! from_redb {
    ($($error:ty),+) => {$(
        impl From<$error> for StoreError {
            fn from(error: $error) -> Self {
                of_redb(error.into())
            }
        }
    )+};
}

/// Separates damage from temporary errors. The store creates all its tables when it opens, so a table that
/// is missing or has another type is damage, too.
fn of_redb(error: redb::Error) -> StoreError {
    use redb::Error::{
        Corrupted, Io, TableDoesNotExist, TableIsMultimap, TableTypeMismatch, TypeDefinitionChanged,
    };
    let text = error.to_string();
    match error {
        Corrupted(_)
        | TableDoesNotExist(_)
        | TableIsMultimap(_)
        | TableTypeMismatch { .. }
        | TypeDefinitionChanged { .. } => StoreError::Corrupt(text),
        // An undamaged file has no page after its end.
        Io(error)
            if matches!(
                error.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
            ) =>
        {
            StoreError::Corrupt(text)
        }
        _ => StoreError::Unavailable(text),
    }
}

impl From<redb::Error> for StoreError {
    fn from(error: redb::Error) -> Self {
        of_redb(error)
    }
}

from_redb!(
    redb::StorageError,
    redb::TableError,
    redb::TransactionError,
    redb::CommitError,
    redb::DatabaseError,
    redb::SetDurabilityError
);

/// The data directory cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error(
        "the data directory is open in another process ({holder}); stop that process, or use another directory with --data"
    )]
    InUse { holder: String },
    /// The file system has no locks, so we cannot know whether another process has it open.
    #[error(
        "the data directory cannot be locked ({why}): use a file system with file locks, such as a local disk, or start the lock service of the network file system"
    )]
    NoLock { why: String },
    /// A newer crashkeep wrote it.
    #[error(
        "a newer crashkeep wrote the data directory: it has layout {found}, this program knows layouts up to {known}; use the version that wrote it"
    )]
    Newer { found: u32, known: u32 },
    /// The database is an older copy than the segments beside it.
    #[error(
        "store.redb lacks {bytes} bytes of reports that segments/ has, more than the {max} that a kill can leave: it is older than segments/. Put back the store.redb that belongs to them, or keep both unchanged for `crashkeep salvage SRC DST`, which a later version will have"
    )]
    LogTooLong { bytes: u64, max: u64 },
    /// There are segments, but no database that says what is in them.
    #[error(
        "segments/ contains crash data, but store.redb is missing or empty: restore it from a backup, or move segments/ away to start with an empty store"
    )]
    Orphaned,
    /// The folder has a FORMAT file that is not ours.
    #[error(
        "the FORMAT file of the data directory contains {found:?} instead of the name and layout of crashkeep: use --data with an empty directory or a crashkeep data directory"
    )]
    Foreign { found: String },
    #[error("{}", unopened(.0))]
    Store(StoreError),
}

/// A row that cannot be read prevents opening the store just like a damaged page.
fn unopened(error: &StoreError) -> String {
    match error {
        StoreError::Unavailable(why) => format!("cannot be opened: {why}"),
        StoreError::Damaged(row) => StoreError::Corrupt(row.clone()).to_string(),
        error => error.to_string(),
    }
}

impl<E: Into<StoreError>> From<E> for OpenError {
    fn from(error: E) -> Self {
        Self::Store(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_and_what_passes_are_told_apart() {
        let corrupt = StoreError::from(redb::Error::Corrupted("page 3".into()));
        assert!(corrupt.to_string().contains("salvage"), "{corrupt}");
        let full = StoreError::from(redb::Error::Io(io::ErrorKind::StorageFull.into()));
        assert!(matches!(full, StoreError::Unavailable(_)));
        let no_lock = OpenError::NoLock {
            why: "No locks available".into(),
        };
        assert!(no_lock.to_string().contains("file locks"));
    }
}
