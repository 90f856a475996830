//! Recent reports. A report that a client sends again is acknowledged but not stored again.
//!
//! ```text
//! repeats         digest -> (seq, received ms)   of reports with a dump, the newest
//! repeat_digests  seq    -> digest
//! ```
//!
//! Crash clients send a report again if they did not get an answer. Two reports with the same digest count as
//! the same report; the code that computes the digest decides what it covers. A digest is written in the
//! transaction of its crash and deleted with the crash.

use super::crashes::StoredCrash;
use super::error::StoreError;
use super::handle::Store;
use super::repeat_table::seq_within;
use super::rows;
use super::segments;
use super::tables::*;
use crate::clock::Timestamp;
use crate::crash::id::CrashId;

/// The result of looking up a report's digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// No such report arrived within the last day.
    New,
    /// The crash of the earlier report. All its bytes are stored.
    Stored(CrashId),
    /// Such a report arrived, but somebody removed the files with its bytes. The new report must be stored.
    Lost,
}

impl Store {
    /// Whether a report with this digest arrived within the last day.
    ///
    /// # Errors
    /// Also fails if `store.redb` was replaced while the server runs. Nothing may be acknowledged then.
    pub fn repeated(&self, digest: u128, now: Timestamp) -> Result<Repeat, StoreError> {
        let ahead = self.shared.ahead.repeated(digest, now);
        let row = self.read(|read| {
            let found = read.open_table(REPEATS)?.get(digest)?;
            let Some(seq) = found.and_then(|found| seq_within(found.value(), now)) else {
                return Ok(None);
            };
            let row = read.open_table(CRASHES)?.get(seq)?;
            let row = row.map(|row| rows::decode::<StoredCrash>(row.value()));
            row.transpose()
        })?;
        let Some(row) = ahead.or(row) else {
            return Ok(Repeat::New);
        };
        self.shared.check_in_place()?;
        let parts = row.parts.iter().map(|part| &part.blob);
        for blob in std::iter::once(&row.raw).chain(parts) {
            match self.shared.disk.open(&segments::file_name(blob.segment)) {
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    return Ok(Repeat::Lost);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Repeat::Stored(row.id))
    }
}
