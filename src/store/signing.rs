//! The inputs from which signatures were computed, the lists that were used, and re-signing (ADR 15).
//!
//! ```text
//! signed          seq           -> (input, signature, revision)   input 0: too large to be kept
//! inputs          input         -> InputRow, with the numbers of its frames
//! input_uses      input         -> crashes that have it
//! input_ids       hash          -> input
//! frames          frame         -> FrameRow
//! frame_ids       hash          -> frame
//! list_revisions  revision      -> RevisionRow revision 0 means the built-in lists and has no row
//! resigns         revision      -> ResignRow
//! outdated        seq           -> ()             signed with older lists than those in force
//! moves           (from, to)    -> crashes        old and new signature of crashes
//! moved_from      (to, from)    -> ()
//! ```
//!
//! An input is everything that the rules read of a crash, so equal crashes share one input, and programs
//! share frames. A hash only finds a candidate. The bytes are then compared, because names come from uploads.
//!
//! A revision starts its re-sign in the transaction that stores it. The re-sign goes through `signed` in
//! order. New signatures and the position of the re-sign become durable in the order in which they were sent,
//! and a crash counts as changed only when its signature changes. So after a kill some crashes are looked at
//! twice, but none is counted twice or skipped. A crash that was processed with older lists in the meantime
//! waits in `outdated`.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use redb::{ReadOnlyTable, ReadTransaction, ReadableTable};
use xxhash_rust::xxh3::xxh3_128;

use super::Store;
use super::counters::{NameId, Names};
use super::crashes::StoredCrash;
use super::error::StoreError;
use super::payload::Payload;
use super::pending::Txn;
pub use super::rows::ResignRow;
use super::rows::{self, BlobRef, FrameRow, InlineRow, InputRow, RevisionRow, Stored};
use super::tables::*;
use super::writer::Command;
use crate::clock::Timestamp;
use crate::limits;
use crate::signature::{Input, ListTexts, StoredFrame, StoredInline};

/// Lists that were put in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    pub texts: ListTexts,
    pub author: String,
    pub at_ms: i64,
    pub comment: String,
    /// The earlier revision that this one restores.
    pub restores: Option<u64>,
}

/// Lists to put in force.
#[derive(Clone, Debug)]
pub struct NewRevision {
    pub texts: ListTexts,
    pub author: String,
    pub comment: String,
    pub restores: Option<u64>,
    /// The revision that the author saw. If another one is in force, nothing changes.
    pub based_on: u64,
}

/// A new signature for a crash.
#[derive(Debug)]
pub struct Resigned {
    pub seq: u64,
    /// The processed crash that was read. If the crash has another one by now, nothing changes.
    pub read: BlobRef,
    pub processed: Payload,
    pub signature: String,
    pub revision: u64,
}

/// The progress of a re-sign since the last report of it.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    pub revision: u64,
    pub cursor: u64,
    pub looked_at: u64,
    pub unreadable: u64,
    pub is_ended: bool,
    /// Crashes of `outdated` that are done.
    pub caught_up: Vec<u64>,
}

/// A crash and its signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signed {
    pub seq: u64,
    /// 0 if it is too large to be kept.
    pub input: u64,
    pub signature: NameId,
}

/// Signatures, each with a number of crashes: those that the crashes of one signature have now, or had
/// before.
pub type Moves = Vec<(String, u64)>;

/// Number of revisions that are kept.
const REVISIONS_MAX: u64 = 1_000;
/// Limit of steps from an old signature to the current ones.
const MOVES_DEPTH_MAX: usize = 32;
/// Limit of signatures that are found on the way.
const MOVES_MAX: usize = 200;

/// A view of the signatures of all crashes, in one snapshot.
pub struct SignedView {
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
    pub fn crashes(&self, after: u64, limit: usize) -> Result<Vec<Signed>, StoreError> {
        let mut found = Vec::new();
        for entry in self.signed.range(after + 1..)?.take(limit) {
            let (seq, row) = entry?;
            let (input, signature, _) = row.value();
            found.push(Signed {
                seq: seq.value(),
                input,
                signature,
            });
        }
        Ok(found)
    }

    /// The input of a signature.
    pub fn input(&self, id: u64) -> Result<Input<u32>, StoreError> {
        match self.inputs.get(id)? {
            Some(bytes) => rows::decode(bytes.value()),
            None => Err(StoreError::Damaged(format!(
                "signature input {id} is missing"
            ))),
        }
    }

    pub fn frame(&self, id: u32) -> Result<StoredFrame, StoreError> {
        match self.frames.get(id)? {
            Some(bytes) => rows::decode(bytes.value()),
            None => Err(StoreError::Damaged(format!("frame {id} is missing"))),
        }
    }

    pub fn signature(&mut self, id: NameId) -> Result<String, StoreError> {
        self.names.text(id)
    }
}

impl Store {
    /// Calls `look` with a view of the signatures of all crashes, in one snapshot.
    pub fn signed<T>(
        &self,
        look: impl FnOnce(&mut SignedView) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.read(|read| look(&mut SignedView::open(read)?))
    }

    /// The signature input of a crash; `None` if it was not kept.
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
    pub fn without_input(
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

    /// Up to `limit` crashes that were signed with older lists than those in force.
    pub fn outdated(&self, limit: usize) -> Result<Vec<u64>, StoreError> {
        self.read(|read| {
            let outdated = read.open_table(OUTDATED)?;
            let entries = outdated.iter()?.take(limit);
            entries.map(|entry| Ok(entry?.0.value())).collect()
        })
    }

    /// The lists in force; `None` for the built-in ones.
    pub fn lists_in_force(&self) -> Result<Option<(u64, Revision)>, StoreError> {
        Ok(self.list_revisions(1)?.pop())
    }

    /// The newest revisions.
    pub fn list_revisions(&self, limit: usize) -> Result<Vec<(u64, Revision)>, StoreError> {
        self.read(|read| {
            let revisions = read.open_table(LIST_REVISIONS)?;
            let mut found = Vec::new();
            for entry in revisions.iter()?.rev().take(limit) {
                let (revision, row) = entry?;
                found.push((revision.value(), rows::decode(row.value())?));
            }
            Ok(found)
        })
    }

    pub fn list_revision(&self, revision: u64) -> Result<Option<Revision>, StoreError> {
        self.read(|read| {
            let revisions = read.open_table(LIST_REVISIONS)?;
            let row = revisions.get(revision)?;
            row.map(|row| rows::decode(row.value())).transpose()
        })
    }

    /// The newest re-signs.
    pub fn resigns(&self, limit: usize) -> Result<Vec<(u64, ResignRow)>, StoreError> {
        self.read(|read| {
            let resigns = read.open_table(RESIGNS)?;
            let mut found = Vec::new();
            for entry in resigns.iter()?.rev().take(limit) {
                let (revision, row) = entry?;
                found.push((revision.value(), rows::decode(row.value())?));
            }
            Ok(found)
        })
    }

    /// Stores lists as the newest revision and starts a re-sign with them. Returns `None` if another revision
    /// is in force than the one that the author saw.
    pub fn revise(&self, new: NewRevision) -> Result<Option<u64>, StoreError> {
        self.ask(|reply| Command::Revise {
            new: Box::new(new),
            reply,
        })
    }

    /// Gives a crash a new signature. It becomes durable soon, and before everything that is sent after it.
    pub fn resign(&self, resigned: Resigned) -> Result<(), StoreError> {
        self.tell(Command::Resign(Box::new(resigned)))
    }

    /// Stores the signature input of a crash that was processed before inputs were kept.
    pub fn keep_input(
        &self,
        seq: u64,
        input: Option<Input<StoredFrame>>,
    ) -> Result<(), StoreError> {
        self.tell(Command::KeepInput {
            seq,
            input: input.map(Box::new),
        })
    }

    /// Stores the progress of a re-sign. Returns when it is durable, and with it everything that was sent
    /// before.
    pub fn resign_progress(&self, progress: Progress) -> Result<(), StoreError> {
        self.ask(|reply| Command::ResignProgress {
            progress: Box::new(progress),
            reply,
        })
    }

    /// Deletes the frames that no input uses any more. Returns their number.
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
        self.ask(|reply| Command::ForgetFrames {
            unused,
            newest,
            reply,
        })
    }

    /// The current signatures of crashes that once had this one, most crashes first.
    pub fn moved_to(&self, signature: &str) -> Result<Moves, StoreError> {
        self.read(|read| {
            let moves = read.open_table(MOVES)?;
            let next = |id: NameId| {
                let range = moves.range((id, 0)..=(id, NameId::MAX))?;
                range
                    .map(|entry| {
                        let (key, crashes) = entry?;
                        Ok((key.value().1, crashes.value()))
                    })
                    .collect()
            };
            ways(read, signature, next)
        })
    }

    /// The signatures that crashes had before they had this one, most crashes first.
    pub fn moved_from(&self, signature: &str) -> Result<Moves, StoreError> {
        self.read(|read| {
            let moves = read.open_table(MOVES)?;
            let moved_from = read.open_table(MOVED_FROM)?;
            let next = |id: NameId| {
                let range = moved_from.range((id, 0)..=(id, NameId::MAX))?;
                range
                    .map(|entry| {
                        let (to, from) = entry?.0.value();
                        let crashes = moves.get((from, to))?.map_or(0, |n| n.value());
                        Ok((from, crashes))
                    })
                    .collect()
            };
            ways(read, signature, next)
        })
    }
}

/// Follows moves from a signature, step by step, through each other signature once.
fn ways(
    read: &ReadTransaction,
    signature: &str,
    next: impl Fn(NameId) -> Result<Vec<(NameId, u64)>, StoreError>,
) -> Result<Moves, StoreError> {
    let Some(start) = read.open_table(NAMES)?.get(signature)?.map(|id| id.value()) else {
        return Ok(Vec::new());
    };
    let mut seen = HashSet::from([start]);
    let mut found: BTreeMap<NameId, u64> = BTreeMap::new();
    let mut at = vec![start];
    for _ in 0..MOVES_DEPTH_MAX {
        let mut onwards = Vec::new();
        for id in at {
            for (id, crashes) in next(id)? {
                if seen.len() <= MOVES_MAX && seen.insert(id) {
                    onwards.push(id);
                }
                if id != start && seen.contains(&id) {
                    *found.entry(id).or_default() += crashes;
                }
            }
        }
        if onwards.is_empty() {
            break;
        }
        at = onwards;
    }
    let mut names = Names::open(read)?;
    let mut moves = Vec::new();
    for (id, crashes) in found {
        moves.push((names.text(id)?, crashes));
    }
    moves.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    Ok(moves)
}

impl Txn<'_> {
    /// The revision of the lists in force.
    fn revision(&self) -> Result<u64, StoreError> {
        Ok(self
            .list_revisions
            .last()?
            .map_or(0, |(revision, _)| revision.value()))
    }

    /// Stores the signature of a crash and its input. Replaces the previous ones.
    pub(super) fn sign(
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
            .map_err(|_| StoreError::Damaged("there are more than 2^32 frames".into()))?;
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
    pub(super) fn unsign(&mut self, seq: u64) -> Result<(), StoreError> {
        let row = self.signed.remove(seq)?.map(|row| row.value());
        if let Some((input, ..)) = row {
            self.release(input)?;
        }
        self.outdated.remove(seq)?;
        Ok(())
    }

    /// Deletes those of the `unused` frames that no input uses; returns their number. The caller found
    /// `unused` in an earlier transaction, in which `newest` was the newest input. Newer inputs are checked
    /// here.
    pub(super) fn forget_frames(
        &mut self,
        unused: &BTreeSet<u32>,
        newest: u64,
    ) -> Result<u64, StoreError> {
        let mut unused = unused.clone();
        for entry in self.inputs.range(newest + 1..)? {
            let input: Input<u32> = rows::decode(entry?.1.value())?;
            for id in input.crashing.iter().chain(input.first.iter().flatten()) {
                unused.remove(id);
            }
        }
        let mut forgotten = 0;
        for id in unused {
            let hash = self.frames.remove(id)?.map(|row| xxh3_128(row.value()));
            let Some(hash) = hash else { continue };
            forgotten += 1;
            if self
                .frame_ids
                .get(hash)?
                .is_some_and(|known| known.value() == id)
            {
                self.frame_ids.remove(hash)?;
            }
        }
        Ok(forgotten)
    }

    /// Counts that a crash has a new signature.
    pub(super) fn moved(&mut self, from: NameId, to: NameId) -> Result<(), StoreError> {
        if from == to {
            return Ok(());
        }
        // A crash that moves back cancels its earlier move.
        let back = self.moves.get((to, from))?.map_or(0, |n| n.value());
        if back > 1 {
            self.moves.insert((to, from), back - 1)?;
        } else if back == 1 {
            self.moves.remove((to, from))?;
            self.moved_from.remove((from, to))?;
        }
        let crashes = self.moves.get((from, to))?.map_or(0, |n| n.value());
        self.moves.insert((from, to), crashes + 1)?;
        self.moved_from.insert((to, from), ())?;
        Ok(())
    }

    pub(super) fn revise(
        &mut self,
        new: &NewRevision,
        now: Timestamp,
    ) -> Result<Option<u64>, StoreError> {
        use redb::ReadableTableMetadata;
        let latest = self.revision()?;
        if latest != new.based_on {
            return Ok(None);
        }
        if let Some(mut row) = self.resign_row(latest)?
            && row.ended_at_ms.is_none()
        {
            row.ended_at_ms = Some(now.ms());
            row.superseded = true;
            self.resigns.insert(latest, rows::encode(&row).as_slice())?;
        }
        let revision = latest + 1;
        let row = Revision {
            texts: new.texts.clone(),
            author: new.author.clone(),
            at_ms: now.ms(),
            comment: new.comment.clone(),
            restores: new.restores,
        };
        self.list_revisions
            .insert(revision, rows::encode(&row).as_slice())?;
        let resign = ResignRow {
            begun_at_ms: now.ms(),
            ended_at_ms: None,
            superseded: false,
            cursor: 0,
            total: self.signed.len()?,
            looked_at: 0,
            changed: 0,
            unreadable: 0,
        };
        self.resigns
            .insert(revision, rows::encode(&resign).as_slice())?;
        let oldest = revision.saturating_sub(REVISIONS_MAX);
        self.list_revisions.retain_in(..=oldest, |_, _| false)?;
        self.resigns.retain_in(..=oldest, |_, _| false)?;
        Ok(Some(revision))
    }

    fn resign_row(&self, revision: u64) -> Result<Option<ResignRow>, StoreError> {
        let row = self.resigns.get(revision)?;
        row.map(|row| rows::decode(row.value())).transpose()
    }

    /// The row of the crash if the new signature still applies to its current processed crash and lists.
    pub(super) fn can_resign(
        &self,
        resigned: &Resigned,
    ) -> Result<Option<StoredCrash>, StoreError> {
        if self.crashes.get(resigned.seq)?.is_none() {
            return Ok(None);
        }
        let row = self.row(resigned.seq)?;
        let processed = row.processed.as_ref();
        let is_same = processed.is_some_and(|p| p.blob == resigned.read);
        Ok((is_same && resigned.revision == self.revision()?).then_some(row))
    }

    /// Gives a crash its new signature. `blob` is the location of the processed crash with this signature.
    pub(super) fn resign(
        &mut self,
        resigned: &Resigned,
        mut row: StoredCrash,
        blob: BlobRef,
    ) -> Result<(), StoreError> {
        let Some(processed) = &mut row.processed else {
            return Ok(());
        };
        processed.blob = blob;
        let before = std::mem::replace(&mut processed.signature, resigned.signature.clone());
        let from = self.name(&before)?;
        let to = self.name(&resigned.signature)?;
        row.counted = match row.counted {
            Some(counted) => Some(self.recount(resigned.seq, &row, counted, to)?),
            None => None,
        };
        self.put(resigned.seq, &row)?;
        let signed = self.signed.get(resigned.seq)?.map(|row| row.value());
        if let Some((input, ..)) = signed {
            self.signed
                .insert(resigned.seq, (input, to, resigned.revision))?;
        }
        self.moved(from, to)?;
        self.changed(resigned.seq)?;
        if let Some(mut resign) = self.resign_row(resigned.revision)? {
            resign.changed += 1;
            let bytes = rows::encode(&resign);
            self.resigns.insert(resigned.revision, bytes.as_slice())?;
        }
        Ok(())
    }

    /// Stores the signature input of a crash, unless processing has stored one since.
    pub(super) fn keep_input(
        &mut self,
        seq: u64,
        input: Option<&Input<StoredFrame>>,
    ) -> Result<(), StoreError> {
        if self.signed.get(seq)?.is_some() || self.crashes.get(seq)?.is_none() {
            return Ok(());
        }
        let Some(signature) = self.row(seq)?.processed.map(|p| p.signature) else {
            return Ok(());
        };
        let signature = self.name(&signature)?;
        match input {
            // It is not known with which lists it was signed.
            Some(input) => self.sign(seq, input, signature, 0),
            None => {
                self.signed.insert(seq, (0, signature, 0))?;
                Ok(())
            }
        }
    }

    pub(super) fn resign_progress(
        &mut self,
        progress: &Progress,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for seq in &progress.caught_up {
            self.outdated.remove(seq)?;
        }
        let Some(mut row) = self.resign_row(progress.revision)? else {
            return Ok(());
        };
        if row.ended_at_ms.is_some() {
            return Ok(());
        }
        row.cursor = row.cursor.max(progress.cursor);
        row.looked_at += progress.looked_at;
        row.unreadable += progress.unreadable;
        if progress.is_ended {
            row.ended_at_ms = Some(now.ms());
        }
        let bytes = rows::encode(&row);
        self.resigns.insert(progress.revision, bytes.as_slice())?;
        Ok(())
    }
}

impl Stored for Revision {
    type Row = RevisionRow;

    fn to_row(&self) -> RevisionRow {
        RevisionRow {
            texts: self.texts.0.clone(),
            author: self.author.clone(),
            at_ms: self.at_ms,
            comment: self.comment.clone(),
            restores: self.restores,
        }
    }

    fn from_row(row: RevisionRow) -> Self {
        Self {
            texts: ListTexts(row.texts),
            author: row.author,
            at_ms: row.at_ms,
            comment: row.comment,
            restores: row.restores,
        }
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
        }
    }
}
