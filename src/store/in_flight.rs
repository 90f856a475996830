//! The crashes that workers have.
//!
//! Only memory knows them: a claim writes nothing. In the database such a crash is still queued, or finished
//! if it is reprocessed. So a kill returns all of them to the queue. Readers see them as being processed.
//!
//! A crash that kills the server must not kill it at every start. So a worker marks its crash in a small
//! file before it walks, and removes the mark when it has handed in the result. The next start counts the
//! death of the server against the marked crashes only. The file is not synced, because it must survive the
//! death of the process and not a power cut.
//!
//! ```text
//! started  one slot of 32 bytes per worker: u64 seq | u64 life | u32 attempt | 4 bytes 0 | u64 xxh3 of the 24 before
//! ```

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64;

use super::crashes::StoredCrash;
use super::disk::{Disk, DiskFile};
use super::rows::State;

const FILE: &str = "started";
const SLOT_BYTES: usize = 32;
/// Limit of slots that are read.
const SLOTS_MAX: usize = 4_096;

/// An attempt of a worker to process a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) number: u32,
    /// The state of the crash in the database.
    pub(crate) state: State,
}

/// The attempt that is current, by sequence number.
pub(crate) type Attempts = HashMap<u64, Attempt>;

/// The crashes that workers have. Only the writer changes it.
#[derive(Debug, Default)]
pub(crate) struct InFlight(Mutex<Attempts>);

impl InFlight {
    pub(crate) fn replace(&self, attempts: Attempts) {
        *self.0.lock() = attempts;
    }

    pub(crate) fn attempts(&self) -> Attempts {
        self.0.lock().clone()
    }

    /// Shows a crash that a worker has as being processed.
    pub(crate) fn shown(&self, seq: u64, mut row: StoredCrash) -> StoredCrash {
        if let Some(attempt) = self.0.lock().get(&seq) {
            row.state = State::Processing;
            row.attempts = attempt.number;
        }
        row
    }

    /// Corrects the number of crashes in each state in the database, in the order of [`State::ALL`].
    pub(crate) fn correct(&self, counts: &mut [(State, u64)]) {
        for attempt in self.0.lock().values() {
            let count = &mut counts[attempt.state as usize].1;
            *count = count.saturating_sub(1);
            counts[State::Processing as usize].1 += 1;
        }
    }
}

/// A crash that a worker had begun to process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Started {
    pub(crate) seq: u64,
    pub(crate) life: u64,
    pub(crate) attempt: u32,
}

impl Started {
    fn to_slot(self) -> [u8; SLOT_BYTES] {
        let mut slot = [0; SLOT_BYTES];
        slot[..8].copy_from_slice(&self.seq.to_le_bytes());
        slot[8..16].copy_from_slice(&self.life.to_le_bytes());
        slot[16..20].copy_from_slice(&self.attempt.to_le_bytes());
        let check = xxh3_64(&slot[..24]);
        slot[24..].copy_from_slice(&check.to_le_bytes());
        slot
    }

    /// `None` for an empty slot, and for one that was not written completely.
    fn from_slot(slot: &[u8; SLOT_BYTES]) -> Option<Self> {
        let word =
            |at: usize| u64::from_le_bytes(slot[at..at + 8].try_into().expect("eight bytes"));
        (word(24) == xxh3_64(&slot[..24])).then(|| Self {
            seq: word(0),
            life: word(8),
            attempt: u32::from_le_bytes(slot[16..20].try_into().expect("four bytes")),
        })
    }
}

/// The file in which workers mark what they have started.
pub(crate) struct Marks(Arc<dyn DiskFile>);

impl Marks {
    /// Opens the file and empties it. Also returns the marks that were in it.
    pub(crate) fn take(disk: &dyn Disk) -> io::Result<(Self, Vec<Started>)> {
        let file = match disk.open(FILE) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => disk.create(FILE)?,
            other => other?,
        };
        let len = usize::try_from(file.len()?).unwrap_or(usize::MAX);
        let mut bytes = vec![0; len.min(SLOTS_MAX * SLOT_BYTES)];
        file.read_at(0, &mut bytes)?;
        let (slots, _) = bytes.as_chunks::<SLOT_BYTES>();
        let marks = slots.iter().filter_map(Started::from_slot).collect();
        Ok((Self(file), marks))
    }

    /// Removes all marks.
    pub(crate) fn clear(&self) -> io::Result<()> {
        self.0.set_len(0)
    }

    /// Marks a crash as started by a worker, or removes the mark. `worker` counts from 0.
    pub(crate) fn set(&self, worker: usize, started: Option<Started>) {
        let bytes = started.map_or([0; SLOT_BYTES], Started::to_slot);
        let at = worker * SLOT_BYTES;
        if let Err(error) = self.0.write_at(at as u64, &bytes) {
            tracing::warn!(%error, "a worker cannot mark the crash that it processes; if that crash kills the server, it is not counted");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_reads_as_written_and_a_torn_one_does_not() {
        let started = Started {
            seq: 7,
            life: 3,
            attempt: 2,
        };
        let mut slot = started.to_slot();
        assert_eq!(Started::from_slot(&slot), Some(started));
        slot[0] ^= 1;
        assert_eq!(Started::from_slot(&slot), None);
        assert_eq!(Started::from_slot(&[0; SLOT_BYTES]), None);
    }
}
