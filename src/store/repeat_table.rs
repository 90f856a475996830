//! The tables of recent reports; see [`super::repeats`].

use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata};

use super::crashes::StoredCrash;
use super::error::StoreError;
use super::rows;
use super::tables::*;
use super::txn::Txn;
use crate::clock::{DAY_MS, Timestamp};
use crate::crash::id::CrashId;

/// How long a repeated report counts as the same report.
pub(crate) const REPEAT_MS_MAX: i64 = DAY_MS;
/// Number of reports that are remembered.
pub(crate) const REPEATS_MAX: u64 = 1_000_000;
/// Limit of reports that are forgotten each time a new one arrives.
const FORGOTTEN_AT_ONCE_MAX: usize = 16;

pub(super) fn seq_within((seq, at_ms): (u64, i64), now: Timestamp) -> Option<u64> {
    is_recent(at_ms, now).then_some(seq)
}

/// Whether a report of this time may still be sent again.
pub(super) fn is_recent(at_ms: i64, now: Timestamp) -> bool {
    now.ms().saturating_sub(at_ms).saturating_abs() < REPEAT_MS_MAX
}

/// The id of the crash that a report with this digest made, if it is recent.
pub(super) fn known_repeat(
    read: &ReadTransaction,
    digest: u128,
    now: Timestamp,
) -> Result<Option<CrashId>, StoreError> {
    let found = read.open_table(REPEATS)?.get(digest)?;
    let Some(seq) = found.and_then(|found| seq_within(found.value(), now)) else {
        return Ok(None);
    };
    let row = read.open_table(CRASHES)?.get(seq)?;
    let row = row.map(|row| rows::decode::<StoredCrash>(row.value()));
    Ok(row.transpose()?.map(|row| row.id))
}

impl Txn<'_> {
    /// Remembers a report, and forgets some of the reports that are too old or too many.
    pub(super) fn remember(
        &mut self,
        digest: u128,
        seq: u64,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.remember_up_to(REPEATS_MAX, digest, seq, now)
    }

    fn remember_up_to(
        &mut self,
        repeats_max: u64,
        digest: u128,
        seq: u64,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.repeats.insert(digest, (seq, now.ms()))?;
        self.repeat_digests.insert(seq, digest)?;
        for _ in 0..FORGOTTEN_AT_ONCE_MAX {
            let first = self.repeat_digests.first()?;
            let Some((first, of)) = first.map(|(seq, of)| (seq.value(), of.value())) else {
                break;
            };
            let known = self.repeats.get(of)?.map(|known| known.value());
            let is_in_time = known.is_some_and(|known| seq_within(known, now).is_some());
            if is_in_time && self.repeat_digests.len()? <= repeats_max {
                break;
            }
            self.forget_repeat(first)?;
        }
        Ok(())
    }

    /// Forgets the report of a deleted crash. The same report counts as new after this.
    pub(super) fn forget_repeat(&mut self, seq: u64) -> Result<(), StoreError> {
        let digest = self.repeat_digests.remove(seq)?.map(|of| of.value());
        let Some(digest) = digest else {
            return Ok(());
        };
        // A newer crash may have the same digest.
        let known = self.repeats.get(digest)?.map(|known| known.value().0);
        if known == Some(seq) {
            self.repeats.remove(digest)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_remembered_and_the_oldest_forgotten() {
        let folder = tempfile::tempdir().expect("a folder");
        let database = redb::Database::create(folder.path().join("db")).expect("a database");
        let write = database.begin_write().expect("a transaction");
        {
            let mut txn = Txn::open(&write).expect("tables");
            let now = Timestamp::from_ms(0);
            for seq in 0..100 {
                txn.remember_up_to(10, u128::from(seq) + 1_000, seq, now)
                    .expect("remembered");
            }
            let left: Vec<u64> = txn
                .repeat_digests
                .iter()
                .expect("rows")
                .map(|row| row.expect("a row").0.value())
                .collect();
            assert_eq!(left, (90..100).collect::<Vec<u64>>());
            assert_eq!(txn.repeats.len().expect("rows"), 10);
            // A day later all of them are too old, even if they are few.
            let later = Timestamp::from_ms(REPEAT_MS_MAX);
            txn.remember_up_to(100, 1, 100, later).expect("remembered");
            assert_eq!(txn.repeat_digests.len().expect("rows"), 1);
        }
        write.abort().expect("aborted");
    }
}
