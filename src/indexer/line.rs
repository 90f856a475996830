//! The writer of one index.

use std::sync::Arc;

use super::shared::Broken;
use crate::index::{Document, Index, IndexError, Side, Watermark, Writer};

/// The writer of one index, and how far its rows are.
pub(super) struct Line {
    pub(super) side: Side,
    pub(super) writer: Writer,
    /// As in the watermark.
    pub(super) rebuilt_to: Option<u64>,
}

impl Line {
    /// Opens the writer of an index with this mark. `is_fresh` means that the index does not contain the mark
    /// yet.
    pub(super) fn open(
        index: &Arc<Index>,
        side: Side,
        mark: Watermark,
        is_fresh: bool,
    ) -> Result<Self, IndexError> {
        let mut writer = Writer::open(index, side)?;
        if is_fresh {
            writer.commit(mark)?;
        }
        Ok(Self {
            side,
            writer,
            rebuilt_to: mark.rebuilt_to,
        })
    }

    /// Writes the document of a crash, or deletes it if there is none. `is_new` means that the index does
    /// not contain the crash yet.
    pub(super) fn write(
        &mut self,
        seq: u64,
        document: Option<&Document>,
        is_new: bool,
    ) -> Result<(), Broken> {
        let written = match document {
            Some(document) if is_new => self.writer.add(document),
            Some(document) => self.writer.put(document),
            None if is_new => Ok(()),
            None => {
                self.writer.delete(seq);
                Ok(())
            }
        };
        written.map_err(|error| self.broken(error))
    }

    pub(super) fn commit(&mut self, change: u64) -> Result<(), Broken> {
        let watermark = Watermark {
            change,
            rebuilt_to: self.rebuilt_to,
        };
        let committed = self.writer.commit(watermark);
        committed.map_err(|error| self.broken(error))
    }

    fn broken(&self, error: IndexError) -> Broken {
        match self.side {
            Side::Current => Broken::Index(error),
            Side::Next => Broken::Next(error),
        }
    }
}
