//! The rows of `store.redb`: one struct per table whose values have fields.
//!
//! These structs are the disk format. They hold plain data and no type of another module, so that a
//! change elsewhere cannot change what is on disk. The tables and their keys are in
//! [`super::tables`].
//!
//! A value is one byte of row version and then the struct in bincode's standard encoding. To change
//! a row: copy the struct under the name of its version (`CrashRowV2`), change the original, raise
//! [`Row::VERSION`], write `From` from the copy, read the copy in [`Row::read_older`], and add the
//! bytes of the new version to `golden.rs`. Golden bytes of any version must stay readable.
//!
//! Only [`encode`] and [`Body::read`] name bincode, which is no longer maintained.

mod account;
mod bug;
mod counter;
mod crash;
#[cfg(test)]
mod golden;
mod pass;
mod report;
mod reprocessing;
mod segment;
mod signature;
mod symbols;

pub(crate) use account::{KeyRow, SearchRow, SessionRow, UserRow};
pub(crate) use bug::BugRow;
pub(crate) use counter::{CounterRow, TallyRow};
pub(crate) use crash::{BlobRef, CountedRow, CrashRow, PartKindRow, PartRow, ProcessedRow};
pub use crash::{Lane, State};
pub(crate) use pass::PassRow;
pub(crate) use report::ReportRow;
pub(crate) use reprocessing::ReprocessingRow;
pub use segment::SegmentRow;
pub(crate) use segment::Stream;
pub(crate) use signature::{
    FrameRow, GroupRow, InlineRow, InputRow, LocationRow, ResignRow, RevisionRow,
};
pub(crate) use symbols::{
    ContentRow, CoverageRow, KindRow, ModuleRow, ReleaseRow, SymbolsRow, UploadRow,
};

use serde::{Serialize, de::DeserializeOwned};

use super::error::StoreError;

/// A struct as it is stored.
pub trait Row: Serialize + DeserializeOwned {
    /// For errors: "a crash".
    const NAME: &'static str;
    /// The first byte of each value that is written today.
    const VERSION: u8;

    /// Reads a value of an older version; `None` if there never was such a version.
    fn read_older(_version: u8, _body: Body<'_>) -> Option<Result<Self, StoreError>> {
        None
    }
}

/// A value of the program with the row that it is stored as. A row is stored as itself.
pub trait Stored: Sized {
    type Row: Row;

    fn to_row(&self) -> Self::Row;
    fn from_row(row: Self::Row) -> Self;
}

impl<R: Row + Clone> Stored for R {
    type Row = R;

    fn to_row(&self) -> R {
        self.clone()
    }

    fn from_row(row: R) -> R {
        row
    }
}

/// No row is larger, in bytes: annotations and dumps are in segments.
const ROW_BYTES_MAX: usize = 1 << 20;

/// A stored value behind its version byte.
pub struct Body<'a> {
    /// Of the row, for errors.
    name: &'static str,
    bytes: &'a [u8],
}

impl Body<'_> {
    /// # Errors
    /// [`StoreError::Damaged`] if the bytes are no such struct.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, StoreError> {
        let config = bincode::config::standard().with_limit::<ROW_BYTES_MAX>();
        bincode::serde::decode_from_slice(self.bytes, config)
            .map(|(value, _)| value)
            .map_err(|error| damaged(self.name, &error.to_string()))
    }
}

fn damaged(name: &str, why: &str) -> StoreError {
    StoreError::Damaged(format!("row of {name}: {why}"))
}

/// Reads a row that a command can do without; `None` if it cannot be read, which is logged. A command must not
/// fail after it has written something.
pub(crate) fn decode_or_skip<T: Stored>(bytes: &[u8]) -> Option<T> {
    decode(bytes)
        .inspect_err(|error| tracing::error!(%error, "skipped a damaged row"))
        .ok()
}

/// The bytes of a value: its version, then its fields.
pub fn encode<T: Stored>(value: &T) -> Vec<u8> {
    let mut bytes = vec![T::Row::VERSION];
    bincode::serde::encode_into_std_write(value.to_row(), &mut bytes, bincode::config::standard())
        .expect("bincode takes any plain data");
    bytes
}

/// Reads what [`encode`] wrote, in this version of the program or an earlier one.
///
/// # Errors
/// [`StoreError::Newer`] if a newer program wrote them, [`StoreError::Damaged`] if they are no such row.
pub fn decode<T: Stored>(bytes: &[u8]) -> Result<T, StoreError> {
    let name = T::Row::NAME;
    let Some((&version, bytes)) = bytes.split_first() else {
        return Err(damaged(name, "it is empty"));
    };
    let body = Body { name, bytes };
    let row = if version == T::Row::VERSION {
        body.read()?
    } else if let Some(older) = T::Row::read_older(version, body) {
        older?
    } else {
        let known = T::Row::VERSION;
        return Err(if version > known {
            StoreError::Newer(format!(
                "the row of {name} has version {version}, this program knows versions up to {known}"
            ))
        } else {
            damaged(name, &format!("version {version} is not known"))
        });
    };
    Ok(T::from_row(row))
}
