//! Stores the reports of the log in the database.

use redb::ReadableTable;

use super::accept::decided;
use super::ahead::Logged;
use super::batch::Batch;
use super::error::StoreError;
use super::rows::{SegmentRow, State, Stream};
use super::segment_head::Position;
use super::tables::meta;
use super::txn::Txn;
use crate::clock::Timestamp;

impl Txn<'_> {
    /// Stores reports of the log, in its order. A report that is stored already is left out.
    pub(crate) fn store_logged<'r>(
        &mut self,
        reports: impl Iterator<Item = &'r Logged>,
        batch: &mut Batch,
    ) -> Result<(), StoreError> {
        let mut last: Option<&Logged> = None;
        for report in reports {
            if last.is_none_or(|last| last.end.segment != report.end.segment) {
                self.logged_up_to(last)?;
                self.begin_log_segment(report)?;
            }
            if self.seq_of(report.crash.id)?.is_none() {
                self.store_one(report, batch)?;
            }
            last = Some(report);
        }
        self.logged_up_to(last)?;
        if let Some(last) = last {
            self.log_reached(last.end)?;
            let next = u128::from(last.seq) + 1;
            let known = self.meta.get(meta::NEXT_SEQ)?.map_or(1, |n| n.value());
            self.meta.insert(meta::NEXT_SEQ, known.max(next))?;
        }
        Ok(())
    }

    fn store_one(&mut self, report: &Logged, batch: &mut Batch) -> Result<(), StoreError> {
        let (seq, row) = (report.seq, &report.crash);
        row.blobs().for_each(|blob| batch.keep(blob));
        self.decided(&decided(row), 1)?;
        self.ids.insert(row.id.bits(), seq)?;
        self.enter(seq, row)?;
        self.count(row.state, 1)?;
        if row.state == State::Deferred {
            self.changed(seq)?;
        }
        self.put(seq, row)?;
        if let Some(digest) = report.digest {
            self.remember(digest, seq, Timestamp::from_ms(row.received_at_ms))?;
        }
        Ok(())
    }

    /// Stores the length of the segment whose last report this is.
    fn logged_up_to(&mut self, last: Option<&Logged>) -> Result<(), StoreError> {
        match last.map(|last| last.end) {
            Some(end) => self.edit_segment(end.segment, |row| row.bytes = end.offset),
            None => Ok(()),
        }
    }

    /// Adds the row of the report's segment, if it is new. The segment before it is complete then.
    fn begin_log_segment(&mut self, report: &Logged) -> Result<(), StoreError> {
        let segment = report.end.segment;
        if self.segments.get(segment)?.is_some() {
            return Ok(());
        }
        self.seal_log_before(segment)?;
        let row = SegmentRow {
            stream: Stream::Log,
            bytes: report.end.offset,
            live_bytes: 0,
            created_at_ms: report.segment_created_at_ms,
            sealed: false,
            dead: false,
        };
        self.put_segment(segment, &row)
    }

    /// Seals the segments of the log before this one.
    pub(crate) fn seal_log_before(&mut self, segment: u32) -> Result<(), StoreError> {
        for (number, row) in self.segment_rows()? {
            if number < segment && row.stream == Stream::Log && !row.sealed {
                self.seal_segment(number)?;
            }
        }
        Ok(())
    }

    /// Up to where the database has the log.
    pub(crate) fn log_position(&self) -> Result<Position, StoreError> {
        let number = self.meta.get(meta::LOG)?.map_or(0, |n| n.value());
        Ok(Position::from_number(number))
    }

    pub(crate) fn log_reached(&mut self, end: Position) -> Result<(), StoreError> {
        if end > self.log_position()? {
            self.meta.insert(meta::LOG, end.to_number())?;
        }
        Ok(())
    }
}
