//! Removal of segments that no crash needs, and the search for segments whose files are missing.
//!
//! A segment is removed in three steps, each durable before the next: its row is marked as dead, its file is
//! deleted, its row is deleted. After a kill the mark remains, and the next sweep or start continues.

use std::collections::HashSet;
use std::io;

use crossbeam_channel::bounded;
use redb::ReadableTable;

use super::asking::answer_unless_ended;
use super::batch::Batch;
use super::command::Command;
use super::error::StoreError;
use super::handle::Store;
use super::log::LogMessage;
use super::rows::{self, SegmentRow};
use super::segments;
use super::tables::SEGMENTS;
use super::txn::Txn;

/// Marks sealed segments without needed bytes as dead, and answers with all that are marked.
struct MarkDead;

impl Command for MarkDead {
    type Answer = Vec<u32>;

    fn apply(&self, txn: &mut Txn, batch: &mut Batch) -> Result<Vec<u32>, StoreError> {
        batch.segments.seal_old(txn, batch.now)?;
        let mut dead = Vec::new();
        for (segment, row) in txn.segment_rows()? {
            let live = row.live_bytes as i64 + batch.live_change(segment);
            if row.sealed && live <= 0 {
                txn.edit_segment(segment, |row| row.dead = true)?;
                dead.push(segment);
            }
        }
        Ok(dead)
    }
}

/// Deletes the rows of dead segments whose files are gone.
struct ForgetSegments(Vec<u32>);

impl Command for ForgetSegments {
    type Answer = ();

    fn apply(&self, txn: &mut Txn, _: &mut Batch) -> Result<(), StoreError> {
        for segment in &self.0 {
            txn.segments.remove(segment)?;
        }
        Ok(())
    }
}

impl Store {
    /// Deletes the files of segments that no crash needs. Returns how many it deleted.
    ///
    /// # Errors
    /// The store or the disk cannot be written. The next sweep continues.
    pub fn sweep(&self) -> Result<u64, StoreError> {
        let (reply, answer) = bounded(1);
        let seal = LogMessage::SealOld(reply);
        self.log.send(seal).map_err(|_| StoreError::Stopping)?;
        answer_unless_ended(&answer, &self.log_ended)?;
        let dead = self.ask(MarkDead)?;
        let gone = self.shared.readers.remove(&dead)?;
        let removed = gone.len() as u64;
        if removed > 0 {
            self.ask(ForgetSegments(gone))?;
        }
        Ok(removed)
    }

    /// Names of the segments that have a row but no file.
    pub(super) fn missing_segments(&self) -> Result<Vec<String>, StoreError> {
        let known = || {
            self.read(|read| {
                let mut known = Vec::new();
                for entry in read.open_table(SEGMENTS)?.iter()? {
                    let (segment, row) = entry?;
                    let row: SegmentRow = rows::decode(row.value())?;
                    if !row.dead {
                        known.push(segment.value());
                    }
                }
                Ok(known)
            })
        };
        let rows = known()?;
        let present: HashSet<u32> = match self.shared.disk.list(segments::DIR) {
            Ok(names) => names
                .iter()
                .filter_map(|name| segments::number_in(name))
                .collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => HashSet::new(),
            Err(error) => return Err(error.into()),
        };
        let mut missing: Vec<u32> = rows.into_iter().filter(|n| !present.contains(n)).collect();
        if !missing.is_empty() {
            // Retention may have removed some segments since we read the rows.
            let still: HashSet<u32> = known()?.into_iter().collect();
            missing.retain(|segment| still.contains(segment));
        }
        Ok(missing.into_iter().map(segments::file_name).collect())
    }
}
