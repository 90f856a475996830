//! The segments that the writer appends to: at most one per stream. It opens new ones, seals old ones, and
//! puts them in order after a kill or an I/O error.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use redb::ReadableTable;

use super::disk::Disk;
use super::error::StoreError;
use super::rows::{self, SegmentRow, Stream};
use super::segments::{self, Appender};
use super::tables::meta;
use super::txn::Txn;
use crate::clock::Timestamp;

pub(crate) struct OpenSegments {
    disk: Arc<dyn Disk>,
    appenders: [Option<Appender>; Stream::ALL.len()],
    /// Segments created by this process, committed or not.
    created: HashSet<u32>,
}

impl OpenSegments {
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Self {
        Self {
            disk,
            appenders: Default::default(),
            created: HashSet::new(),
        }
    }

    /// Continues the segments that were in use when the server last stopped. Returns those that must be
    /// sealed because they can take no more records.
    ///
    /// Bytes that no commit covers stay on the disk (ADR 5). After a kill they were never acknowledged. But
    /// if somebody restored an older database beside newer segments, they are all that remains of
    /// acknowledged crashes. Such a segment takes no more records, and the number of such a file is not used
    /// again.
    pub(crate) fn resume(&mut self, rows: &[(u32, SegmentRow)]) -> io::Result<Vec<u32>> {
        for number in unknown_segments(&*self.disk, rows)? {
            let name = segments::file_name(number);
            let bytes = self.disk.open(&name)?.len()?;
            tracing::warn!(
                segment = name,
                bytes,
                "no crash refers to this segment file; it is not changed"
            );
        }
        let mut unusable = Vec::new();
        for (segment, row) in rows.iter().filter(|(_, row)| !row.sealed) {
            let name = segments::file_name(*segment);
            let usable = self.disk.open(&name).and_then(|file| match file.len()? {
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
        let unsealed = || rows.iter().filter(|(_, row)| !row.sealed);
        for (segment, _) in unsealed() {
            txn.seal_segment(*segment)?;
        }
        let cut = unsealed().map(|(segment, row)| {
            let file = self.disk.open(&segments::file_name(*segment))?;
            if file.len()? > row.bytes {
                file.set_len(row.bytes)
            } else {
                Ok(())
            }
        });
        // A failure here wastes only disk space, so it is logged and otherwise ignored.
        let failed = unknown_segments(&*self.disk, &rows)?;
        let failed = failed
            .into_iter()
            .filter(|number| self.created.contains(number));
        let removed = failed.map(|number| self.disk.remove(&segments::file_name(number)));
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
        let is_full = |appender: &Appender| {
            appender.bytes >= segments::SEGMENT_BYTES_MAX || is_old(appender, now)
        };
        if let Some(full) = self.appenders[at].take_if(|appender| is_full(appender)) {
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
        let (segment, file) = loop {
            let segment = txn.next(meta::NEXT_SEGMENT)? as u32;
            match self.disk.create(&segments::file_name(segment)) {
                // A file of an earlier process: never overwrite it.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                // Somebody has removed the folder.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    self.disk.create_dir(segments::DIR)?;
                }
                made => break (segment, made?),
            }
        };
        self.created.insert(segment);
        self.disk.sync_dir(segments::DIR)?;
        let row = SegmentRow {
            stream,
            bytes: 0,
            live_bytes: 0,
            created_at_ms: now.ms(),
            sealed: false,
            dead: false,
        };
        txn.put_segment(segment, &row)?;
        Ok(Appender::new(segment, file, 0, now.ms()))
    }

    /// Seals the segments that are too old to take more records.
    pub(crate) fn seal_old(&mut self, txn: &mut Txn, now: Timestamp) -> Result<(), StoreError> {
        for slot in &mut self.appenders {
            if let Some(old) = slot.take_if(|appender| is_old(appender, now)) {
                seal(old, txn)?;
            }
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

fn is_old(appender: &Appender, now: Timestamp) -> bool {
    now.ms() - appender.created_at_ms >= segments::SEGMENT_AGE_MAX_MS
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

    fn put_segment(&mut self, segment: u32, row: &SegmentRow) -> Result<(), StoreError> {
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
