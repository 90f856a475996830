//! The inputs of signatures: everything that the rules read of a crash.

use std::collections::BTreeSet;

use redb::{AccessGuard, ReadOnlyTable, ReadTransaction, ReadableTable};
use xxhash_rust::xxh3::xxh3_128;

use crate::crash::walk::Location;
use crate::limits;
use crate::signature::{Input, StoredFrame, StoredInline};
use crate::store::batch::Batch;
use crate::store::command::Command;
use crate::store::error::StoreError;
use crate::store::handle::Store;
use crate::store::names::Names;
use crate::store::rows::{self, FrameRow, InlineRow, InputRow, LocationRow, Stored};
use crate::store::tables::*;
use crate::store::txn::Txn;

/// A crash and its signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Signed {
    pub(crate) seq: u64,
    /// 0 if it is too large to be kept.
    pub(crate) input: u64,
    pub(crate) signature: NameId,
}

impl Signed {
    fn of((seq, row): (AccessGuard<u64>, AccessGuard<(u64, u32, u64)>)) -> Self {
        let (input, signature, _) = row.value();
        Signed {
            seq: seq.value(),
            input,
            signature,
        }
    }
}

/// A view of the signatures of all crashes, in one snapshot.
pub(crate) struct SignedView {
    signed: ReadOnlyTable<u64, (u64, u32, u64)>,
    inputs: ReadOnlyTable<u64, &'static [u8]>,
    frames: ReadOnlyTable<u32, &'static [u8]>,
    names: Names,
}

impl SignedView {
    fn open(read: &ReadTransaction) -> Result<Self, StoreError> {
        Ok(Self {
            signed: read.open_table(SIGNED)?,
            inputs: read.open_table(INPUTS)?,
            frames: read.open_table(FRAMES)?,
            names: Names::open(read)?,
        })
    }

    /// Up to `limit` crashes above `after`, ascending.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn crashes(&self, after: u64, limit: usize) -> Result<Vec<Signed>, StoreError> {
        let entries = self.signed.range(after + 1..)?.take(limit);
        entries.map(|entry| Ok(Signed::of(entry?))).collect()
    }

    /// Up to `limit` crashes, newest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn newest(&self, limit: usize) -> Result<Vec<Signed>, StoreError> {
        let entries = self.signed.iter()?.rev().take(limit);
        entries.map(|entry| Ok(Signed::of(entry?))).collect()
    }

    /// The input with this id.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::Newer`] if only this input cannot be read; the report and its
    /// walk contain the same data. Any other error means that the store cannot be read.
    pub(crate) fn input(&self, id: u64) -> Result<Input<u32>, StoreError> {
        match self.inputs.get(id)? {
            Some(bytes) => rows::decode(bytes.value()),
            None => Err(StoreError::Damaged(format!(
                "signature input {id} is missing"
            ))),
        }
    }

    /// The frame with this id.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::Newer`] if only this frame cannot be read. Any other error
    /// means that the store cannot be read.
    pub(crate) fn frame(&self, id: u32) -> Result<StoredFrame, StoreError> {
        match self.frames.get(id)? {
            Some(bytes) => rows::decode(bytes.value()),
            None => Err(StoreError::Damaged(format!("frame {id} is missing"))),
        }
    }

    /// The text of a signature.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if the id has no text. Any other error means that the store cannot be read.
    pub(crate) fn signature(&mut self, id: NameId) -> Result<String, StoreError> {
        self.names.text(id)
    }
}

impl Store {
    /// Calls `look` with a view of the signatures of all crashes, in one snapshot.
    ///
    /// # Errors
    /// The error of `look`, or the store cannot be read.
    pub(crate) fn signed<T>(
        &self,
        look: impl FnOnce(&mut SignedView) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.read(|read| look(&mut SignedView::open(read)?))
    }

    /// The signature input of a crash; `None` if it was not kept.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::Newer`] if only this input cannot be read; the report and its
    /// walk contain the same data. Any other error means that the store cannot be read.
    pub fn signature_input(&self, seq: u64) -> Result<Option<Input<StoredFrame>>, StoreError> {
        self.signed(|view| {
            let row = view.signed.get(seq)?.map(|row| row.value());
            let Some((input, ..)) = row.filter(|(input, ..)| *input != 0) else {
                return Ok(None);
            };
            view.input(input)?.map(|id| view.frame(*id)).map(Some)
        })
    }

    /// Looks at up to `limit` crashes above `after`. Returns those that have no row in `signed`, and the last
    /// crash that it looked at.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn without_input(
        &self,
        after: u64,
        limit: usize,
    ) -> Result<(Vec<u64>, Option<u64>), StoreError> {
        self.read(|read| {
            let crashes = read.open_table(CRASHES)?;
            let signed = read.open_table(SIGNED)?;
            let (mut found, mut last) = (Vec::new(), None);
            for entry in crashes.range(after + 1..)?.take(limit) {
                let seq = entry?.0.value();
                last = Some(seq);
                if signed.get(seq)?.is_none() {
                    found.push(seq);
                }
            }
            Ok((found, last))
        })
    }

    /// Stores the signature input of a crash that was processed before inputs were kept.
    ///
    /// # Errors
    /// [`StoreError::Stopping`] only.
    pub(crate) fn keep_input(
        &self,
        seq: u64,
        input: Option<Input<StoredFrame>>,
    ) -> Result<(), StoreError> {
        self.tell(KeepInput {
            seq,
            input: input.map(Box::new),
        })
    }

    /// Deletes the frames that no input uses any more. Returns their number.
    ///
    /// # Errors
    /// The store cannot be read or written, or an input is damaged. Nothing is deleted in the second case,
    /// because the frames that this input uses are not known.
    pub fn forget_frames(&self) -> Result<u64, StoreError> {
        let (unused, newest) = self.read(|read| {
            let mut unused = BTreeSet::new();
            for entry in read.open_table(FRAMES)?.iter()? {
                unused.insert(entry?.0.value());
            }
            let mut newest = 0;
            for entry in read.open_table(INPUTS)?.iter()? {
                let (id, input) = entry?;
                newest = id.value();
                let input: Input<u32> = rows::decode(input.value())?;
                for id in input.crashing.iter().chain(input.first.iter().flatten()) {
                    unused.remove(id);
                }
            }
            Ok((unused, newest))
        })?;
        if unused.is_empty() {
            return Ok(0);
        }
        self.ask(ForgetFrames { unused, newest })
    }
}

/// Stores the signature input of a crash, unless processing has stored one since.
struct KeepInput {
    seq: u64,
    input: Option<Box<Input<StoredFrame>>>,
}

impl Command for KeepInput {
    type Answer = ();

    fn apply(&self, txn: &mut Txn, _: &mut Batch) -> Result<(), StoreError> {
        let seq = self.seq;
        if txn.signed.get(seq)?.is_some() || txn.crashes.get(seq)?.is_none() {
            return Ok(());
        }
        let Some(signature) = txn.row(seq)?.processed.map(|p| p.signature) else {
            return Ok(());
        };
        let signature = txn.name(&signature)?;
        match &self.input {
            // It is not known with which lists it was signed.
            Some(input) => txn.sign(seq, input, signature, 0),
            None => {
                txn.signed.insert(seq, (0, signature, 0))?;
                Ok(())
            }
        }
    }
}

/// Deletes those of the `unused` frames that no input uses. Answers with their number. The caller found
/// `unused` in an earlier transaction, in which `newest` was the newest input. Newer inputs are checked here.
struct ForgetFrames {
    unused: BTreeSet<u32>,
    newest: u64,
}

impl Command for ForgetFrames {
    type Answer = u64;

    fn apply(&self, txn: &mut Txn, _: &mut Batch) -> Result<u64, StoreError> {
        let mut unused = self.unused.clone();
        for entry in txn.inputs.range(self.newest + 1..)? {
            let input: Input<u32> = rows::decode(entry?.1.value())?;
            for id in input.crashing.iter().chain(input.first.iter().flatten()) {
                unused.remove(id);
            }
        }
        let mut forgotten = 0;
        for id in unused {
            let hash = txn.frames.remove(id)?.map(|row| xxh3_128(row.value()));
            let Some(hash) = hash else { continue };
            forgotten += 1;
            if txn
                .frame_ids
                .get(hash)?
                .is_some_and(|known| known.value() == id)
            {
                txn.frame_ids.remove(hash)?;
            }
        }
        Ok(forgotten)
    }
}

impl Txn<'_> {
    /// Stores the signature of a crash and its input. Replaces the previous ones.
    pub(in crate::store) fn sign(
        &mut self,
        seq: u64,
        input: &Input<StoredFrame>,
        signature: NameId,
        revision: u64,
    ) -> Result<(), StoreError> {
        let id = self.intern(input)?;
        let before = self.signed.insert(seq, (id, signature, revision))?;
        let before = before.map(|row| row.value());
        if let Some((input, ..)) = before {
            self.release(input)?;
        }
        if revision < self.revision()? {
            drop(self.outdated.insert(seq, ())?)
        } else {
            drop(self.outdated.remove(seq)?)
        }
        Ok(())
    }

    /// The number of an input, with one more crash that uses it; 0 if it is too large.
    fn intern(&mut self, input: &Input<StoredFrame>) -> Result<u64, StoreError> {
        let input = input.map(|frame| self.frame(frame))?;
        let bytes = rows::encode(&input);
        if bytes.len() > limits::SIGNATURE_INPUT_BYTES_MAX {
            return Ok(0);
        }
        let hash = xxh3_128(&bytes);
        let known = self.input_ids.get(hash)?.map(|id| id.value());
        if let Some(id) = known {
            let is_same = self.inputs.get(id)?.is_some_and(|row| row.value() == bytes);
            if is_same {
                let uses = self.input_uses.get(id)?.map_or(0, |n| n.value());
                self.input_uses.insert(id, uses + 1)?;
                return Ok(id);
            }
        }
        let id = self.next(meta::NEXT_INPUT)?;
        self.inputs.insert(id, bytes.as_slice())?;
        self.input_uses.insert(id, 1)?;
        if known.is_none() {
            self.input_ids.insert(hash, id)?;
        }
        Ok(id)
    }

    fn frame(&mut self, frame: &StoredFrame) -> Result<u32, StoreError> {
        let bytes = rows::encode(frame);
        let hash = xxh3_128(&bytes);
        let known = self.frame_ids.get(hash)?.map(|id| id.value());
        if let Some(id) = known
            && self.frames.get(id)?.is_some_and(|row| row.value() == bytes)
        {
            return Ok(id);
        }
        let id = u32::try_from(self.next(meta::NEXT_FRAME)?)
            .map_err(|_| StoreError::Damaged("too many frames (more than 2^32)".into()))?;
        self.frames.insert(id, bytes.as_slice())?;
        if known.is_none() {
            self.frame_ids.insert(hash, id)?;
        }
        Ok(id)
    }

    /// One crash fewer uses the input.
    fn release(&mut self, id: u64) -> Result<(), StoreError> {
        let uses = self.input_uses.get(id)?.map_or(0, |n| n.value());
        if uses > 1 {
            self.input_uses.insert(id, uses - 1)?;
            return Ok(());
        }
        self.input_uses.remove(id)?;
        let hash = self.inputs.remove(id)?.map(|row| xxh3_128(row.value()));
        if let Some(hash) = hash
            && self
                .input_ids
                .get(hash)?
                .is_some_and(|known| known.value() == id)
        {
            self.input_ids.remove(hash)?;
        }
        Ok(())
    }

    /// Removes the signature of a deleted crash.
    pub(in crate::store) fn unsign(&mut self, seq: u64) -> Result<(), StoreError> {
        let row = self.signed.remove(seq)?.map(|row| row.value());
        if let Some((input, ..)) = row {
            self.release(input)?;
        }
        self.outdated.remove(seq)?;
        Ok(())
    }
}

impl Stored for Input<u32> {
    type Row = InputRow;

    fn to_row(&self) -> InputRow {
        InputRow {
            product: self.product.clone(),
            crashing: self.crashing.clone(),
            first: self.first.clone(),
            is_windows: self.is_windows,
            last_error: self.last_error.clone(),
            reason: self.reason.clone(),
            oom_allocation_size: self.oom_allocation_size,
            js_large_allocation_failure: self.js_large_allocation_failure.clone(),
            abort_message: self.abort_message.clone(),
            async_shutdown_timeout: self.async_shutdown_timeout.clone(),
            ipc_channel_error: self.ipc_channel_error.clone(),
            ipc_message_name: self.ipc_message_name.clone(),
            has_browser_dump: self.has_browser_dump,
            hang: self.hang.clone(),
            mdsw_status_string: self.mdsw_status_string.clone(),
            java_stack_trace: self.java_stack_trace.clone(),
            java_exception: self.java_exception.clone(),
        }
    }

    fn from_row(row: InputRow) -> Self {
        Self {
            product: row.product,
            crashing: row.crashing,
            first: row.first,
            is_windows: row.is_windows,
            last_error: row.last_error,
            reason: row.reason,
            oom_allocation_size: row.oom_allocation_size,
            js_large_allocation_failure: row.js_large_allocation_failure,
            abort_message: row.abort_message,
            async_shutdown_timeout: row.async_shutdown_timeout,
            ipc_channel_error: row.ipc_channel_error,
            ipc_message_name: row.ipc_message_name,
            has_browser_dump: row.has_browser_dump,
            hang: row.hang,
            mdsw_status_string: row.mdsw_status_string,
            java_stack_trace: row.java_stack_trace,
            java_exception: row.java_exception,
        }
    }
}

impl Stored for StoredFrame {
    type Row = FrameRow;

    fn to_row(&self) -> FrameRow {
        let inline = |inline: &StoredInline| InlineRow {
            function: inline.function.clone(),
            file: inline.file.clone(),
            line: inline.line,
        };
        FrameRow {
            function: self.function.clone(),
            module: self.module.clone(),
            file: self.file.clone(),
            line: self.line,
            module_offset: self.module_offset.clone(),
            offset: self.offset.clone(),
            inlines: self.inlines.iter().map(inline).collect(),
            unloaded_module: self.unloaded_module.clone(),
            location: self.location.map(|location| match location {
                Location::Program => LocationRow::Program,
                Location::System => LocationRow::System,
                Location::Driver => LocationRow::Driver,
                Location::Other => LocationRow::Other,
            }),
        }
    }

    fn from_row(row: FrameRow) -> Self {
        let inline = |inline: InlineRow| StoredInline {
            function: inline.function,
            file: inline.file,
            line: inline.line,
        };
        Self {
            function: row.function,
            module: row.module,
            file: row.file,
            line: row.line,
            module_offset: row.module_offset,
            offset: row.offset,
            inlines: row.inlines.into_iter().map(inline).collect(),
            unloaded_module: row.unloaded_module,
            location: row.location.map(|location| match location {
                LocationRow::Program => Location::Program,
                LocationRow::System => Location::System,
                LocationRow::Driver => Location::Driver,
                LocationRow::Other => Location::Other,
            }),
        }
    }
}
