//! Re-signs history: computes the signature of every stored crash with the active lists, and stores it if
//! it has changed (ADR 15). Then groups follow their crashes.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError};

use super::inputs::{Bases, input_of, rebuilt};
use super::{ActiveLists, Naming};
use crate::periodic::{Left, PeriodicTask};
use crate::process;
use crate::signature::{KnownFrames, rules_version};
use crate::store::signatures::{Progress, Resigned, Signed};
use crate::store::{Payload, StoreError};

/// Time between two checks for crashes that still have to be handled.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Longest time for which groups wait for the end of a reprocessing.
const UNSETTLED_MAX: Duration = Duration::from_secs(600);
/// Number of crashes after which progress is stored.
const BATCH: usize = 256;

impl Naming {
    /// Starts the thread that re-signs history.
    ///
    /// # Errors
    /// The operating system cannot start the thread.
    pub fn start(self: &Arc<Self>) -> io::Result<()> {
        let naming = self.clone();
        let mut kept_up_to = 0;
        let mut is_noted = false;
        let mut unsettled_since = None;
        let task = PeriodicTask::start("naming", LOOK_EVERY, move |woken| {
            let caught_up = naming.catch_up(woken, &mut kept_up_to, &mut is_noted);
            let settled = caught_up.and_then(|()| Ok(naming.settle(&mut unsettled_since)?));
            match settled {
                Ok(()) => {}
                Err(Interrupted::Stopped) => return Left::Ended,
                Err(Interrupted::Store(error)) => {
                    tracing::error!(%error, "updating signatures failed; will try again");
                }
            }
            Left::Nothing
        })?;
        *self.task.lock() = Some(task);
        Ok(())
    }

    /// Stores missing inputs, and re-signs everything that has to be re-signed.
    fn catch_up(
        &self,
        woken: &Receiver<()>,
        kept_up_to: &mut u64,
        is_noted: &mut bool,
    ) -> Result<(), Interrupted> {
        self.keep_inputs(woken, kept_up_to)?;
        if !*is_noted {
            // After an upgrade, or with another ruleset.
            if self.store.sign_by(rules_version(self.ruleset))? {
                tracing::info!("other rules signed the crashes; signing them again");
            }
            *is_noted = true;
        }
        while let Some((revision, row)) = self.store.resigns(1)?.pop() {
            let active = self.active();
            if row.ended_at_ms.is_some() || active.revision != revision {
                break;
            }
            self.resign_all(woken, &active, row.cursor)?;
        }
        self.resign_outdated(woken)
    }

    /// Settles the groups of crashes that got other signatures. Waits until reprocessing is done, so that all
    /// crashes of a group move together, but not for long.
    fn settle(&self, unsettled_since: &mut Option<Instant>) -> Result<(), StoreError> {
        if !self.store.is_unsettled()? {
            *unsettled_since = None;
            return Ok(());
        }
        let since = *unsettled_since.get_or_insert_with(Instant::now);
        if self.store.is_reprocessing()? && since.elapsed() < UNSETTLED_MAX {
            return Ok(());
        }
        self.store.settle_groups()?;
        *unsettled_since = None;
        Ok(())
    }

    /// Stores the signature inputs of crashes that were processed before inputs were kept.
    fn keep_inputs(&self, woken: &Receiver<()>, up_to: &mut u64) -> Result<(), Interrupted> {
        loop {
            let (seqs, last) = self.store.without_input(*up_to, BATCH)?;
            let Some(last) = last else { return Ok(()) };
            for seq in seqs {
                stop_asked(woken)?;
                let Some(row) = self.store.crash_at(seq)? else {
                    continue;
                };
                if row.processed.is_some() {
                    let input = rebuilt(&self.store, &row)?;
                    self.store.keep_input(seq, input)?;
                }
            }
            *up_to = last;
        }
    }

    /// Re-signs all crashes above `cursor` with the lists of a revision.
    fn resign_all(
        &self,
        woken: &Receiver<()>,
        active: &ActiveLists,
        mut cursor: u64,
    ) -> Result<(), Interrupted> {
        let begun = Instant::now();
        let mut known = KnownFrames::new(&active.generator);
        loop {
            stop_asked(woken)?;
            if self.active().revision != active.revision {
                // A newer revision starts again from the first crash.
                return Ok(());
            }
            let batch = self.store.signed(|view| view.crashes(cursor, BATCH))?;
            let unreadable = self.resign_batch(&batch, active, &mut known)?;
            cursor = batch.last().map_or(cursor, |last| last.seq);
            let is_ended = batch.len() < BATCH;
            self.store.resign_progress(Progress {
                revision: active.revision,
                cursor,
                looked_at: batch.len() as u64,
                unreadable,
                is_ended,
                caught_up: Vec::new(),
            })?;
            if is_ended {
                let seconds = begun.elapsed().as_secs_f64();
                tracing::info!(
                    revision = active.revision,
                    seconds,
                    "all crashes have signatures from the active lists"
                );
                return Ok(());
            }
        }
    }

    /// Re-signs the crashes that were processed with older lists.
    fn resign_outdated(&self, woken: &Receiver<()>) -> Result<(), Interrupted> {
        let active = self.active();
        let mut known = KnownFrames::new(&active.generator);
        loop {
            stop_asked(woken)?;
            let outdated = self.store.outdated(BATCH)?;
            if outdated.is_empty() || self.active().revision != active.revision {
                return Ok(());
            }
            let batch = self.store.signed(|view| {
                let mut batch = Vec::new();
                for seq in &outdated {
                    let found = view.crashes(seq - 1, 1)?.pop();
                    batch.extend(found.filter(|signed| signed.seq == *seq));
                }
                Ok(batch)
            })?;
            let unreadable = self.resign_batch(&batch, &active, &mut known)?;
            self.store.resign_progress(Progress {
                revision: active.revision,
                unreadable,
                caught_up: outdated,
                ..Progress::default()
            })?;
        }
    }

    /// Stores the new signature of each crash in the batch whose signature changes. Returns how many cannot
    /// be read.
    fn resign_batch(
        &self,
        batch: &[Signed],
        active: &ActiveLists,
        known: &mut KnownFrames,
    ) -> Result<u64, StoreError> {
        let changed = self.store.signed(|view| {
            let mut bases = Bases::default();
            let mut changed = Vec::new();
            for signed in batch {
                let is_same = match bases.of(view, known, signed.input)? {
                    Some(base) if !base.is_split => {
                        base.signature == view.signature(signed.signature)?
                    }
                    // Its report has to be read in any case.
                    _ => false,
                };
                if !is_same {
                    changed.push(signed.seq);
                }
            }
            Ok(changed)
        })?;
        let mut unreadable = 0;
        for seq in changed {
            match self.resigned(seq, active) {
                Ok(Some(resigned)) => self.store.resign(resigned)?,
                Ok(None) => {}
                Err(StoreError::Damaged(why) | StoreError::Newer(why)) => {
                    tracing::error!(seq, why, "the signature of a crash cannot be updated");
                    unreadable += 1;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(unreadable)
    }

    /// The processed crash with its new signature; `None` if the signature does not change.
    fn resigned(&self, seq: u64, active: &ActiveLists) -> Result<Option<Resigned>, StoreError> {
        let Some(row) = self.store.crash_at(seq)? else {
            return Ok(None);
        };
        let (Some(processed), Some(json)) = (&row.processed, self.store.processed(&row)?) else {
            return Ok(None);
        };
        let Some(input) = input_of(&self.store, seq, &row)? else {
            return Ok(None);
        };
        let raw = self.store.raw(&row).unwrap_or_default();
        let annotation = |key: &str| raw.annotation(key).map(str::to_owned);
        let signature = active
            .generator
            .generate_with(&input.crash_data(), &annotation);
        if signature.text == processed.signature || signature.text.is_empty() {
            return Ok(None);
        }
        let note = format!(
            "Signature: changed by list revision {}; it was `{}`",
            active.revision, processed.signature
        );
        let json = process::renamed(&json, &signature, &note).map_err(|error| {
            StoreError::Damaged(format!("processed crash of {}: {error}", row.id))
        })?;
        Ok(Some(Resigned {
            seq,
            read: processed.blob,
            processed: Payload::from_bytes(&json),
            signature: signature.text,
            revision: active.revision,
        }))
    }
}

/// Why re-signing stops.
enum Interrupted {
    Stopped,
    Store(StoreError),
}

impl From<StoreError> for Interrupted {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

fn stop_asked(woken: &Receiver<()>) -> Result<(), Interrupted> {
    match woken.try_recv() {
        Err(TryRecvError::Disconnected) => Err(Interrupted::Stopped),
        _ => Ok(()),
    }
}
