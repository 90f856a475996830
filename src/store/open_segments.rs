//! The segments that the writer appends to: at most one per stream. It opens new ones, seals old ones, and
//! puts them in order after a kill or an I/O error.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use redb::ReadableTable;

use super::disk::Disk;
use super::error::StoreError;
use super::rows::{self, SegmentRow, Stream};
use super::segment_head::{HEAD_BYTES, Position, SegmentHead};
use super::segments::{self, Appender};
use super::shared::Shared;
use super::tables::meta;
use super::txn::Txn;
use crate::clock::Timestamp;

pub(crate) struct OpenSegments {
    shared: Arc<Shared>,
    appenders: [Option<Appender>; Stream::ALL.len()],
    /// Segments created by this process, committed or not.
    created: HashSet<u32>,
}

impl OpenSegments {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            appenders: Default::default(),
            created: HashSet::new(),
        }
    }

    /// Continues the segments that were in use when the server last stopped. Returns those that must be
    /// sealed because they can take no more records. `log` are the segments of the log without a row.
    ///
    /// Bytes that no commit covers stay on the disk (ADR 5). After a kill they were never acknowledged. But
    /// if somebody restored an older database beside newer segments, they are all that remains of
    /// acknowledged crashes. Such a segment takes no more records, and the number of such a file is not used
    /// again.
    pub(crate) fn resume(
        &mut self,
        rows: &[(u32, SegmentRow)],
        log: &[u32],
    ) -> io::Result<Vec<u32>> {
        let disk = &self.shared.disk;
        let unknown = unknown_segments(&**disk, rows)?;
        for number in unknown.into_iter().filter(|number| !log.contains(number)) {
            let name = segments::file_name(number);
            let file = disk.open(&name)?;
            if SegmentHead::is_unfinished(&*file)? {
                disk.remove(&name)?;
                continue;
            }
            let bytes = file.len()?;
            tracing::warn!(
                segment = name,
                bytes,
                "no crash refers to this segment file; it is not changed"
            );
        }
        let mut unusable = Vec::new();
        for (segment, row) in rows.iter().filter(|(_, row)| !row.sealed) {
            match row.stream {
                Stream::Log => continue,
                Stream::Processed => {}
                // Only earlier versions of the program appended to these.
                Stream::Raw | Stream::Deferred => {
                    unusable.push(*segment);
                    continue;
                }
            }
            let name = segments::file_name(*segment);
            let usable = disk.open(&name).and_then(|file| match file.len()? {
                len if len < row.bytes => Err(io::ErrorKind::UnexpectedEof.into()),
                len => Ok((file, len)),
            });
            match usable {
                Ok((file, len)) if len == row.bytes => {
                    let appender = Appender::new(*segment, file, row.bytes, row.created_at_ms);
                    self.appenders[row.stream as usize] = Some(appender);
                    continue;
                }
                Ok((_, len)) => {
                    let bytes = len - row.bytes;
                    tracing::warn!(
                        segment = name,
                        bytes,
                        "the end of a segment belongs to no commit; nothing more is written to it"
                    );
                }
                Err(error) => {
                    tracing::error!(segment = name, %error, "a segment is shorter than its commits or missing; nothing more is written to it");
                }
            }
            unusable.push(*segment);
        }
        Ok(unusable)
    }

    /// Never append again to a file whose sync has failed: bytes written after the last commit may or may
    /// not be on the disk.
    pub(crate) fn abandon(&mut self) {
        self.appenders = Default::default();
    }

    /// Seals every segment at the end of its last commit, and cuts off the bytes after it.
    pub(crate) fn tidy(&mut self, txn: &mut Txn) -> Result<(), StoreError> {
        let rows = txn.segment_rows()?;
        // The log has a thread of its own, which seals it.
        let is_ours = |row: &SegmentRow| !row.sealed && row.stream != Stream::Log;
        let unsealed = || rows.iter().filter(|(_, row)| is_ours(row));
        for (segment, _) in unsealed() {
            txn.seal_segment(*segment)?;
        }
        let cut = unsealed().map(|(segment, row)| {
            let file = self.shared.disk.open(&segments::file_name(*segment))?;
            if file.len()? > row.bytes {
                file.set_len(row.bytes)
            } else {
                Ok(())
            }
        });
        // A failure here wastes only disk space, so it is logged and otherwise ignored.
        let failed = unknown_segments(&*self.shared.disk, &rows)?;
        let failed = failed
            .into_iter()
            .filter(|number| self.created.contains(number));
        let removed = failed.map(|number| self.shared.disk.remove(&segments::file_name(number)));
        for error in cut.chain(removed).filter_map(Result::err) {
            tracing::warn!(%error, "the rest of a failed batch stays on the disk");
        }
        Ok(())
    }

    /// The segment that takes the next record of a stream.
    pub(crate) fn appender(
        &mut self,
        txn: &mut Txn,
        stream: Stream,
        now: Timestamp,
    ) -> Result<&mut Appender, StoreError> {
        let at = stream as usize;
        if let Some(full) = self.appenders[at].take_if(|appender| appender.is_full(now)) {
            seal(full, txn)?;
        }
        if self.appenders[at].is_none() {
            self.appenders[at] = Some(self.create(txn, stream, now)?);
        }
        Ok(self.appenders[at].as_mut().expect("it was just created"))
    }

    fn create(
        &mut self,
        txn: &mut Txn,
        stream: Stream,
        now: Timestamp,
    ) -> Result<Appender, StoreError> {
        let disk = self.shared.disk.clone();
        let (segment, file) = self.shared.numbers.create(&*disk)?;
        self.created.insert(segment);
        disk.sync_dir(segments::DIR)?;
        let identity = self.shared.identity();
        let head = SegmentHead {
            store: identity.store,
            life: identity.life,
            stream,
            number: segment,
            created_at_ms: now.ms(),
            continues: Position::default(),
        };
        let row = SegmentRow {
            stream,
            bytes: HEAD_BYTES,
            live_bytes: 0,
            created_at_ms: now.ms(),
            sealed: false,
            dead: false,
        };
        txn.put_segment(segment, &row)?;
        Ok(Appender::create(&head, file))
    }

    /// Seals the segments that are too old to take more records.
    pub(crate) fn seal_old(&mut self, txn: &mut Txn, now: Timestamp) -> Result<(), StoreError> {
        for slot in &mut self.appenders {
            if let Some(old) = slot.take_if(|appender| appender.is_old(now)) {
                seal(old, txn)?;
            }
        }
        Ok(())
    }

    /// Stores which number the next segment has.
    pub(crate) fn keep_numbers(&self, txn: &mut Txn) -> Result<(), StoreError> {
        let next = u128::from(self.shared.numbers.next());
        let known = txn.meta.get(meta::NEXT_SEGMENT)?.map(|n| n.value());
        if known.is_none_or(|known| known < next) {
            txn.meta.insert(meta::NEXT_SEGMENT, next)?;
        }
        Ok(())
    }

    /// Syncs what was appended, then stores the new length of each segment.
    pub(crate) fn sync(&mut self, txn: &mut Txn) -> Result<(), StoreError> {
        for appender in self.appenders.iter_mut().flatten() {
            appender.sync()?;
            appender.check_in_place()?;
            txn.edit_segment(appender.segment, |row| row.bytes = appender.bytes)?;
        }
        Ok(())
    }
}

fn seal(mut appender: Appender, txn: &mut Txn) -> Result<(), StoreError> {
    appender.sync()?;
    txn.edit_segment(appender.segment, |row| {
        row.bytes = appender.bytes;
        row.sealed = true;
    })
}

/// Numbers of segment files without a row. A file with any other name is not ours.
fn unknown_segments(disk: &dyn Disk, rows: &[(u32, SegmentRow)]) -> io::Result<Vec<u32>> {
    let names = match disk.list(segments::DIR) {
        // Somebody has removed the folder. The next segment creates it again.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        names => names?,
    };
    let numbers = names.iter().filter_map(|name| segments::number_in(name));
    Ok(numbers
        .filter(|number| !rows.iter().any(|(segment, _)| segment == number))
        .collect())
}

impl Txn<'_> {
    pub(super) fn segment_rows(&self) -> Result<Vec<(u32, SegmentRow)>, StoreError> {
        let mut rows = Vec::new();
        for entry in self.segments.iter()? {
            let (number, row) = entry?;
            rows.push((number.value(), rows::decode(row.value())?));
        }
        Ok(rows)
    }

    pub(super) fn put_segment(&mut self, segment: u32, row: &SegmentRow) -> Result<(), StoreError> {
        self.segments
            .insert(segment, rows::encode(row).as_slice())?;
        Ok(())
    }

    /// Rewrites a segment's row if `change` alters it.
    pub(super) fn edit_segment(
        &mut self,
        segment: u32,
        change: impl FnOnce(&mut SegmentRow),
    ) -> Result<(), StoreError> {
        let found = self
            .segments
            .get(segment)?
            .map(|row| rows::decode(row.value()));
        let Some(before) = found.transpose()? else {
            return Ok(());
        };
        let before: SegmentRow = before;
        let mut after = before.clone();
        change(&mut after);
        if after == before {
            Ok(())
        } else {
            self.put_segment(segment, &after)
        }
    }

    pub(super) fn seal_segment(&mut self, segment: u32) -> Result<(), StoreError> {
        self.edit_segment(segment, |row| row.sealed = true)
    }
}
