//! The states of a crash, and every step between them, inside one write transaction.
//!
//! ```text
//!             accept                    claim              finish
//!   (client) -------> queued (ready) --------> processing --------> processed | failed
//!            \           ^   ^   ^                |   |                   |
//!             \          |   |   `- fault, slow --'   |                   |
//!              \         |   `------- take back ------'                   |
//!               `-> deferred                                              |
//!                        `--- request (promotion, reprocessing) <---------'
//! ```
//!
//! A worker's answer counts only while its (seq, attempt) is in `working`. Execution is at-least-once,
//! effects are exactly-once.

use redb::{ReadableTable, Table, WriteTransaction};

use super::crashes::{StoredCrash, StoredResult};
use super::error::StoreError;
use super::rows::{self, BlobRef, Lane, State};
use super::symbols::Release;
use super::tables::*;
use super::writer::Finished;
use crate::clock::{DAY_MS, Timestamp};
use crate::crash::id::CrashId;
use crate::limits;

/// A crash that was handed to a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    pub seq: u64,
    pub id: CrashId,
    /// How often the crash was handed out, including this time. The worker's answer must contain it.
    pub attempt: u32,
    /// Faults counted before this attempt.
    pub faults: u8,
    pub lane: Lane,
    /// True if the server died too often while it processed this crash. The worker then finishes the crash
    /// without a walk.
    pub set_aside: bool,
}

/// The result of requesting a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requested {
    Unknown,
    /// The crash is queued: in the priority lane, or in the suspects' lane if it is a suspect.
    Queued,
}

/// All tables, open for writing.
pub struct Txn<'t> {
    pub meta: Table<'t, &'static str, u128>,
    pub ids: Table<'t, u128, u64>,
    pub crashes: Table<'t, u64, &'static [u8]>,
    pub ready: Table<'t, (u8, u64), ()>,
    pub working: Table<'t, u64, u32>,
    pub deferred: Table<'t, (i64, u64), ()>,
    pub changes: Table<'t, u64, u64>,
    pub segments: Table<'t, u32, &'static [u8]>,
    pub states: Table<'t, u8, u64>,
    pub names: Table<'t, &'static str, u32>,
    pub name_texts: Table<'t, u32, &'static str>,
    pub counters: Table<'t, (u32, u32, u32, u32), &'static [u8]>,
    pub sightings: Table<'t, SightingKey, (u64, i64, i64)>,
    pub seen: Table<'t, SeenKey, ()>,
    pub gone: Table<'t, SightingKey, (i64, i64)>,
    pub product_totals: Table<'t, u32, u64>,
    pub decisions: Table<'t, (u32, u32, u8, u32, u32), u64>,
    pub lacks: Table<'t, (u64, u32), ()>,
    pub lacking: Table<'t, (u32, u64), ()>,
    pub lack_totals: Table<'t, u32, u64>,
    pub lack_releases: Table<'t, (u32, u32, u32), u64>,
    pub mending: Table<'t, u64, u64>,
    pub in_mending: Table<'t, u64, u64>,
    pub mends: Table<'t, u64, &'static [u8]>,
    pub mend_signatures: Table<'t, (u64, u8, u32), u64>,
    pub bugs: Table<'t, (&'static str, &'static str), &'static [u8]>,
    pub bug_signatures: Table<'t, (&'static str, &'static str, &'static str), u8>,
    pub signature_bugs: Table<'t, (&'static str, &'static str, &'static str), ()>,
    pub trackers: Table<'t, &'static str, i64>,
    pub symbols: Table<'t, &'static str, &'static [u8]>,
    pub symbol_names: Table<'t, (&'static str, &'static str), ()>,
    pub symbol_codes: Table<'t, (&'static str, &'static str), ()>,
    pub symbol_pins: Table<'t, (&'static str, &'static str), ()>,
    pub symbol_misses: Table<'t, (&'static str, &'static str), i64>,
    pub signed: Table<'t, u64, (u64, u32, u64)>,
    pub inputs: Table<'t, u64, &'static [u8]>,
    pub input_uses: Table<'t, u64, u64>,
    pub input_ids: Table<'t, u128, u64>,
    pub frames: Table<'t, u32, &'static [u8]>,
    pub frame_ids: Table<'t, u128, u32>,
    pub list_revisions: Table<'t, u64, &'static [u8]>,
    pub resigns: Table<'t, u64, &'static [u8]>,
    pub outdated: Table<'t, u64, ()>,
    pub moves: Table<'t, (u32, u32), u64>,
    pub moved_from: Table<'t, (u32, u32), ()>,
    pub users: Table<'t, &'static str, &'static [u8]>,
    pub keys: Table<'t, u64, &'static [u8]>,
    pub key_hashes: Table<'t, &'static [u8; 32], u64>,
    pub sessions: Table<'t, &'static [u8; 32], &'static [u8]>,
    pub searches: Table<'t, u64, &'static [u8]>,
    pub passes: Table<'t, &'static str, &'static [u8]>,
    pub repeats: Table<'t, u128, (u64, i64)>,
    pub repeat_digests: Table<'t, u64, u128>,
}

impl<'t> Txn<'t> {
    /// Opens every table. Creates those that do not exist yet.
    pub fn open(txn: &'t WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self {
            meta: txn.open_table(META)?,
            ids: txn.open_table(IDS)?,
            crashes: txn.open_table(CRASHES)?,
            ready: txn.open_table(READY)?,
            working: txn.open_table(WORKING)?,
            deferred: txn.open_table(DEFERRED)?,
            changes: txn.open_table(CHANGES)?,
            segments: txn.open_table(SEGMENTS)?,
            states: txn.open_table(STATES)?,
            names: txn.open_table(NAMES)?,
            name_texts: txn.open_table(NAME_TEXTS)?,
            counters: txn.open_table(COUNTERS)?,
            sightings: txn.open_table(SIGHTINGS)?,
            seen: txn.open_table(SEEN)?,
            gone: txn.open_table(GONE)?,
            product_totals: txn.open_table(PRODUCT_TOTALS)?,
            decisions: txn.open_table(DECISIONS)?,
            lacks: txn.open_table(LACKS)?,
            lacking: txn.open_table(LACKING)?,
            lack_totals: txn.open_table(LACK_TOTALS)?,
            lack_releases: txn.open_table(LACK_RELEASES)?,
            mending: txn.open_table(MENDING)?,
            in_mending: txn.open_table(IN_MENDING)?,
            mends: txn.open_table(MENDS)?,
            mend_signatures: txn.open_table(MEND_SIGNATURES)?,
            bugs: txn.open_table(BUGS)?,
            bug_signatures: txn.open_table(BUG_SIGNATURES)?,
            signature_bugs: txn.open_table(SIGNATURE_BUGS)?,
            trackers: txn.open_table(TRACKERS)?,
            symbols: txn.open_table(SYMBOLS)?,
            symbol_names: txn.open_table(SYMBOL_NAMES)?,
            symbol_codes: txn.open_table(SYMBOL_CODES)?,
            symbol_pins: txn.open_table(SYMBOL_PINS)?,
            symbol_misses: txn.open_table(SYMBOL_MISSES)?,
            signed: txn.open_table(SIGNED)?,
            inputs: txn.open_table(INPUTS)?,
            input_uses: txn.open_table(INPUT_USES)?,
            input_ids: txn.open_table(INPUT_IDS)?,
            frames: txn.open_table(FRAMES)?,
            frame_ids: txn.open_table(FRAME_IDS)?,
            list_revisions: txn.open_table(LIST_REVISIONS)?,
            resigns: txn.open_table(RESIGNS)?,
            outdated: txn.open_table(OUTDATED)?,
            moves: txn.open_table(MOVES)?,
            moved_from: txn.open_table(MOVED_FROM)?,
            users: txn.open_table(USERS)?,
            keys: txn.open_table(KEYS)?,
            key_hashes: txn.open_table(KEY_HASHES)?,
            sessions: txn.open_table(SESSIONS)?,
            searches: txn.open_table(SEARCHES)?,
            passes: txn.open_table(PASSES)?,
            repeats: txn.open_table(REPEATS)?,
            repeat_digests: txn.open_table(REPEAT_DIGESTS)?,
        })
    }

    /// The next number of a counter in `meta`. The first is 1.
    pub fn next(&mut self, counter: &'static str) -> Result<u64, StoreError> {
        let number = self.meta.get(counter)?.map_or(1, |v| v.value());
        self.meta.insert(counter, number + 1)?;
        Ok(number as u64)
    }

    pub fn seq_of(&self, id: CrashId) -> Result<Option<u64>, StoreError> {
        Ok(self.ids.get(id.bits())?.map(|v| v.value()))
    }

    pub fn row(&self, seq: u64) -> Result<StoredCrash, StoreError> {
        let bytes = self
            .crashes
            .get(seq)?
            .ok_or_else(|| StoreError::Damaged(format!("crash {seq} has no row")))?;
        rows::decode(bytes.value())
    }

    pub(super) fn put(&mut self, seq: u64, row: &StoredCrash) -> Result<(), StoreError> {
        self.crashes.insert(seq, rows::encode(row).as_slice())?;
        Ok(())
    }

    fn count(&mut self, state: State, delta: i64) -> Result<(), StoreError> {
        let now = self.states.get(state as u8)?.map_or(0, |v| v.value());
        self.states
            .insert(state as u8, now.saturating_add_signed(delta))?;
        Ok(())
    }

    /// Removes the crash from the table of its state.
    fn leave(&mut self, seq: u64, row: &StoredCrash) -> Result<(), StoreError> {
        match row.state {
            State::Queued => drop(self.ready.remove((row.lane as u8, seq))?),
            State::Processing => drop(self.working.remove(seq)?),
            State::Deferred => {
                if let Some(until) = row.deferred_until_ms {
                    self.deferred.remove((until, seq))?;
                }
            }
            State::Processed | State::Failed => {}
        }
        Ok(())
    }

    /// Inserts the crash into the table of its state.
    fn enter(&mut self, seq: u64, row: &StoredCrash) -> Result<(), StoreError> {
        match row.state {
            State::Queued => drop(self.ready.insert((row.lane as u8, seq), ())?),
            State::Processing => drop(self.working.insert(seq, row.attempts)?),
            State::Deferred => {
                if let Some(until) = row.deferred_until_ms {
                    self.deferred.insert((until, seq), ())?;
                }
            }
            State::Processed | State::Failed => {}
        }
        Ok(())
    }

    /// Inserts a new crash whose payloads are already appended.
    pub fn insert(&mut self, seq: u64, row: &StoredCrash) -> Result<(), StoreError> {
        self.ids.insert(row.id.bits(), seq)?;
        self.enter(seq, row)?;
        self.count(row.state, 1)?;
        if row.state == State::Deferred {
            self.changed(seq)?;
        }
        self.put(seq, row)
    }

    /// Moves a crash between states. `change` edits the row; tables and counts follow it.
    fn transition(
        &mut self,
        seq: u64,
        mut row: StoredCrash,
        change: impl FnOnce(&mut StoredCrash),
    ) -> Result<StoredCrash, StoreError> {
        self.leave(seq, &row)?;
        self.count(row.state, -1)?;
        change(&mut row);
        self.enter(seq, &row)?;
        self.count(row.state, 1)?;
        self.put(seq, &row)?;
        Ok(row)
    }

    /// Hands out the oldest crash of a lane. A crash with a damaged row is removed from the queue, so that it
    /// does not block the others.
    pub fn claim(&mut self, lane: Lane) -> Result<Option<Job>, StoreError> {
        loop {
            let first = self
                .ready
                .range((lane as u8, 0)..=(lane as u8, u64::MAX))?
                .next();
            let Some(entry) = first.transpose()? else {
                return Ok(None);
            };
            let (_, seq) = entry.0.value();
            drop(entry);
            let row = match self.row(seq) {
                Err(error @ (StoreError::Damaged(_) | StoreError::Newer(_))) => {
                    tracing::error!(seq, %error, "a damaged crash leaves the queue");
                    self.ready.remove((lane as u8, seq))?;
                    self.count(State::Queued, -1)?;
                    continue;
                }
                other => other?,
            };
            return self.hand_out(seq, row, lane).map(Some);
        }
    }

    /// Moves a crash to `working` and returns its job.
    pub(super) fn hand_out(
        &mut self,
        seq: u64,
        row: StoredCrash,
        lane: Lane,
    ) -> Result<Job, StoreError> {
        let row = self.transition(seq, row, |row| {
            row.state = State::Processing;
            row.attempts = row.attempts.saturating_add(1);
            row.lane = lane;
        })?;
        Ok(Job {
            seq,
            id: row.id,
            attempt: row.attempts,
            faults: row.faults,
            lane,
            set_aside: row.server_deaths >= limits::SERVER_DEATHS_MAX,
        })
    }

    /// The row of a job; `None` if its answer comes too late to count.
    fn in_flight(&self, job: &Job) -> Result<Option<StoredCrash>, StoreError> {
        let current = self
            .working
            .get(job.seq)?
            .is_some_and(|v| v.value() == job.attempt);
        current.then(|| self.row(job.seq)).transpose()
    }

    /// Whether an answer for this job would still count.
    pub fn is_current(&self, job: &Job) -> Result<bool, StoreError> {
        Ok(self.in_flight(job)?.is_some())
    }

    /// Ends a job with its result, whose payload is at `blob`. Returns the payload that the new result
    /// replaces. The inner `None` means that there was no earlier result, the outer one that the answer came
    /// too late.
    pub fn finish(
        &mut self,
        job: &Job,
        finished: &Finished,
        blob: BlobRef,
    ) -> Result<Option<Option<BlobRef>>, StoreError> {
        let Some(row) = self.in_flight(job)? else {
            return Ok(None);
        };
        let processed = StoredResult {
            blob,
            signature: finished.signature.clone(),
            processed_at_ms: finished.processed_at.ms(),
        };
        let replaced = row.processed.as_ref().map(|p| p.blob);
        let counted = self.count_crash(job.seq, &row, &processed.signature, &finished.facts)?;
        let before = row.processed.as_ref().map(|p| p.signature.as_str());
        if let Some(before) = before {
            let before = self.name(before)?;
            self.moved(before, counted.signature())?;
        }
        self.sign(
            job.seq,
            &finished.named,
            counted.signature(),
            finished.revision,
        )?;
        let signatures = [before, Some(&*processed.signature)];
        let now = Timestamp::from_ms(processed.processed_at_ms);
        let release = Release {
            product: row.product.clone(),
            version: row.version.clone(),
        };
        let mut lacks = finished.lacks.clone();
        lacks.extend(self.use_symbols(&finished.used, &release, now)?);
        self.finish_lacking(job.seq, &release, signatures, &lacks, now)?;
        let failure = finished.failure.clone();
        self.transition(job.seq, row, |row| {
            row.state = if failure.is_some() {
                State::Failed
            } else {
                State::Processed
            };
            row.reason = failure;
            row.processed = Some(processed);
            row.counted = Some(counted);
            row.server_deaths = 0;
            row.lane = Lane::Normal;
        })?;
        self.changed(job.seq)?;
        Ok(Some(replaced))
    }

    /// Counts a fault and returns the crash to its lane.
    pub fn fault(&mut self, job: &Job, reason: &str) -> Result<(), StoreError> {
        let Some(row) = self.in_flight(job)? else {
            return Ok(());
        };
        self.transition(job.seq, row, |row| {
            row.state = State::Queued;
            row.faults = row.faults.saturating_add(1);
            row.reason = Some(reason.to_owned());
        })?;
        Ok(())
    }

    /// Moves the crash to the next slower lane (ADR 17). A suspect stays in the suspects' lane.
    pub fn set_back(&mut self, job: &Job) -> Result<(), StoreError> {
        let Some(row) = self.in_flight(job)? else {
            return Ok(());
        };
        self.transition(job.seq, row, |row| {
            row.state = State::Queued;
            row.lane = match row.lane {
                Lane::Suspect => Lane::Suspect,
                Lane::Slow | Lane::Slowest => Lane::Slowest,
                Lane::Priority | Lane::Normal | Lane::Mend => Lane::Slow,
            };
        })?;
        Ok(())
    }

    /// Requests a crash: promotes a deferred one, moves a queued one forward, reprocesses a finished one, and
    /// restarts one that is being processed.
    pub fn request(&mut self, id: CrashId) -> Result<Requested, StoreError> {
        let Some(seq) = self.seq_of(id)? else {
            return Ok(Requested::Unknown);
        };
        let row = self.row(seq)?;
        if row.state == State::Deferred {
            // The index has it as a deferred crash.
            self.changed(seq)?;
        }
        self.transition(seq, row, |row| {
            row.state = State::Queued;
            // A suspect stays a suspect: a request does not make it harmless.
            if row.lane != Lane::Suspect {
                row.lane = Lane::Priority;
            }
            row.faults = 0;
            row.deferred_until_ms = None;
        })?;
        Ok(Requested::Queued)
    }

    /// Deletes a crash if it is still in one of `states`. Returns its row, whose payloads are now dead;
    /// `None` if the crash does not exist or is in another state.
    pub fn delete(
        &mut self,
        seq: u64,
        states: &[State],
        now: Timestamp,
    ) -> Result<Option<StoredCrash>, StoreError> {
        if self.crashes.get(seq)?.is_none() {
            return Ok(None);
        }
        let row = self.row(seq)?;
        if !states.contains(&row.state) {
            return Ok(None);
        }
        self.leave(seq, &row)?;
        self.count(row.state, -1)?;
        self.crashes.remove(seq)?;
        self.ids.remove(row.id.bits())?;
        self.forget_repeat(seq)?;
        let release = Release {
            product: row.product.clone(),
            version: row.version.clone(),
        };
        self.delete_lacking(seq, &release, now)?;
        self.unsign(seq)?;
        self.outlive(seq, &row)?;
        self.changed(seq)?;
        Ok(Some(row))
    }

    /// Moves a crash to the table of its state. A crash that counts as processing although no worker has it
    /// is queued again.
    pub fn heal(&mut self, seq: u64, handed_out: bool) -> Result<(), StoreError> {
        for lane in Lane::ALL {
            self.ready.remove((lane as u8, seq))?;
        }
        if !handed_out {
            self.working.remove(seq)?;
        }
        if self.crashes.get(seq)?.is_none() {
            return Ok(());
        }
        let mut row = self.row(seq)?;
        if row.state == State::Processing && !handed_out {
            self.count(State::Processing, -1)?;
            self.count(State::Queued, 1)?;
            row.state = State::Queued;
            self.put(seq, &row)?;
        }
        self.ids.insert(row.id.bits(), seq)?;
        self.enter(seq, &row)
    }

    /// Corrects the counts of states by the differences that an audit found.
    pub fn correct_counts(&mut self, off: &[(State, i64)]) -> Result<(), StoreError> {
        off.iter()
            .try_for_each(|(state, by)| self.count(*state, *by))
    }

    /// Returns the crashes in flight to the queue, except those (seq and attempt) for which `keep` returns
    /// true. If `died`, the server did not stop in order, so its death counts against each of them. Returns
    /// their number.
    pub fn take_back(
        &mut self,
        died: bool,
        keep: impl Fn(u64, u32) -> bool,
    ) -> Result<usize, StoreError> {
        let mut in_flight = Vec::new();
        for entry in self.working.iter()? {
            let (seq, attempt) = entry?;
            if !keep(seq.value(), attempt.value()) {
                in_flight.push(seq.value());
            }
        }
        for &seq in &in_flight {
            let row = match self.row(seq) {
                Err(error @ (StoreError::Damaged(_) | StoreError::Newer(_))) => {
                    tracing::error!(seq, %error, "a damaged crash is no longer in flight");
                    self.working.remove(seq)?;
                    self.count(State::Processing, -1)?;
                    continue;
                }
                other => other?,
            };
            self.transition(seq, row, |row| {
                row.state = State::Queued;
                if died {
                    row.server_deaths = row.server_deaths.saturating_add(1);
                    if row.server_deaths >= limits::SERVER_DEATHS_SUSPECT {
                        row.lane = Lane::Suspect;
                    }
                }
            })?;
        }
        Ok(in_flight.len())
    }

    /// Adds a change for the indexer.
    pub(super) fn changed(&mut self, seq: u64) -> Result<(), StoreError> {
        let change = self.next(meta::NEXT_CHANGE)?;
        self.changes.insert(change, seq)?;
        Ok(())
    }

    /// Deletes the changes that are durable in the index.
    pub fn forget_changes(&mut self, up_to: u64) -> Result<(), StoreError> {
        self.changes.retain_in(..=up_to, |_, _| false)?;
        Ok(())
    }

    /// The time in ms at which a deferred crash expires, `keep_days` after its receipt.
    pub fn deferred_until(received_at: Timestamp, keep_days: u32) -> i64 {
        received_at
            .ms()
            .saturating_add(i64::from(keep_days) * DAY_MS)
    }
}
