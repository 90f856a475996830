//! The state of the store, for the status page and the health checks.

use redb::{ReadableTable, ReadableTableMetadata};

use super::crashes::readable;
use super::error::StoreError;
use super::handle::Store;
use super::rows::{self, Lane, SegmentRow, State};
use super::tables::*;
use crate::clock::Timestamp;

/// The state of the store, for the status page and the health checks.
#[derive(Clone, Debug)]
pub struct StoreStatus {
    /// Why the store cannot be written now; `None` if it can.
    pub latched: Option<String>,
    /// The first damage found in the database since the start.
    pub(crate) damage: Option<String>,
    /// Segments whose files are missing. Their payloads are lost.
    pub(crate) missing_segments: Vec<String>,
    /// Number of crashes in each state, in the order of [`State::ALL`].
    pub states: Vec<(State, u64)>,
    pub(crate) oldest_queued_at: Option<Timestamp>,
    pub(crate) segments: u64,
    /// Bytes of all segments.
    pub segment_bytes: u64,
    /// Bytes in the segments that a crash still needs.
    pub(crate) live_bytes: u64,
    pub(crate) database_bytes: u64,
    /// Changes that are not yet durable in the index.
    pub(crate) changes_waiting: u64,
}

impl StoreStatus {
    /// The faults of the store, each with a short name and a sentence.
    pub fn faults(&self) -> impl Iterator<Item = (&'static str, String)> {
        let missing = (!self.missing_segments.is_empty()).then(|| {
            let named = &self.missing_segments[..self.missing_segments.len().min(5)];
            format!(
                "{} of {} segment files are missing ({}{}): the dumps and annotations in them are lost unless you restore the files from a backup",
                self.missing_segments.len(),
                self.segments,
                named.join(", "),
                if named.len() < self.missing_segments.len() { ", ..." } else { "" },
            )
        });
        [
            ("store", self.latched.clone()),
            ("damage", self.damage.clone()),
            ("segments", missing),
        ]
        .into_iter()
        .filter_map(|(name, text)| Some((name, text?)))
    }
}

impl Store {
    /// The state of the store, for the status page and the health check.
    ///
    /// # Errors
    /// The store cannot be read. A store that cannot be written is not an error: see
    /// [`StoreStatus::latched`].
    pub fn status(&self) -> Result<StoreStatus, StoreError> {
        // An idle server writes nothing, so its writer would not notice that the file was replaced.
        let displaced = || self.shared.check_in_place().err().map(|e| e.to_string());
        let latched = self.latched().or_else(displaced);
        // The guard must not outlive this line: a read that finds damage takes the same lock.
        let damage = self.shared.damage.lock().clone();
        let missing_segments = self.missing_segments()?;
        // A report moves from memory to the database, so the database must be read after memory.
        let ahead = self.shared.ahead.states();
        self.read(|read| {
            let counts = read.open_table(STATES)?;
            let ready = read.open_table(READY)?;
            let crashes = read.open_table(CRASHES)?;
            let mut states = Vec::new();
            for state in State::ALL {
                states.push((state, counts.get(state as u8)?.map_or(0, |v| v.value())));
            }
            for &(seq, state) in &ahead {
                if crashes.get(seq)?.is_none() {
                    states[state as usize].1 += 1;
                }
            }
            // In the database, the crashes that workers have keep their states.
            self.shared.in_flight.correct(&mut states);
            let mut oldest_queued_at: Option<Timestamp> = None;
            // A crash in the lane of reprocessing already has a result.
            for lane in Lane::ALL
                .into_iter()
                .filter(|&lane| lane != Lane::Reprocess)
            {
                let lane = lane as u8;
                let Some(entry) = ready.range((lane, 0)..=(lane, u64::MAX))?.next() else {
                    continue;
                };
                let (_, seq) = entry?.0.value();
                let row = crashes.get(seq)?;
                if let Some(row) = row.and_then(|row| readable(seq, row.value())) {
                    let at = row.received_at();
                    oldest_queued_at = Some(oldest_queued_at.map_or(at, |oldest| oldest.min(at)));
                }
            }
            let (mut segments, mut segment_bytes, mut live_bytes) = (0, 0, 0);
            for entry in read.open_table(SEGMENTS)?.iter()? {
                let row: SegmentRow = rows::decode(entry?.1.value())?;
                if row.dead {
                    continue;
                }
                segments += 1;
                segment_bytes += row.bytes;
                live_bytes += row.live_bytes;
            }
            Ok(StoreStatus {
                latched,
                damage,
                missing_segments,
                states,
                oldest_queued_at,
                segments,
                segment_bytes,
                live_bytes,
                database_bytes: self.shared.file.len()?,
                changes_waiting: read.open_table(CHANGES)?.len()?,
            })
        })
    }
}
