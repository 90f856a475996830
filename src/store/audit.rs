//! The audit: is every crash in exactly the tables that its state requires, and are the counts right?
//!
//! It reads one snapshot, so it sees no half-done step. It writes nothing; the writer repairs what it finds.

use std::collections::{BTreeMap, BTreeSet};

use redb::{ReadTransaction, ReadableTable};

use super::batch::Batch;
use super::command::Command;
use super::crashes::StoredCrash;
use super::error::StoreError;
use super::handle::Store;
use super::rows::{self, Lane, State};
use super::tables::*;
use super::txn::Txn;

/// What an audit found and the writer repaired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    pub(crate) crashes: u64,
    /// Sequence numbers of crashes that are in the wrong table, in none or in several, or that cannot be
    /// found by their crash id.
    pub misplaced: Vec<u64>,
    /// Crashes whose rows cannot be read. They are not changed.
    pub(crate) damaged: Vec<u64>,
    /// States whose count was wrong.
    pub miscounted: Vec<State>,
}

impl Audit {
    pub fn is_clean(&self) -> bool {
        self.misplaced.is_empty() && self.miscounted.is_empty()
    }
}

impl Store {
    /// Checks that every crash is in exactly the tables that its state requires and that the counts are
    /// right. Repairs what is wrong. The store accepts reports meanwhile.
    ///
    /// # Errors
    /// The store cannot be read, or the repair cannot be written.
    pub fn audit(&self) -> Result<Audit, StoreError> {
        let (audit, counts) = self.read(examine)?;
        if !audit.is_clean() {
            let seqs = audit.misplaced.clone();
            self.ask(Repair { seqs, counts })?;
        }
        Ok(audit)
    }
}

/// Repairs what an audit found.
struct Repair {
    seqs: Vec<u64>,
    /// By how much the count of a state is wrong.
    counts: Vec<(State, i64)>,
}

impl Command for Repair {
    type Answer = ();

    fn apply(&self, txn: &mut Txn, _: &mut Batch) -> Result<(), StoreError> {
        for &seq in &self.seqs {
            match txn.put_in_place(seq) {
                // A damaged row does not say in which state the crash is.
                Err(StoreError::Damaged(_) | StoreError::Newer(_)) => {}
                other => other?,
            }
        }
        for &(state, by) in &self.counts {
            txn.count(state, by)?;
        }
        Ok(())
    }
}

impl Txn<'_> {
    /// Moves a crash to the table of its state. A crash that counts as processing, which only earlier versions
    /// stored, is queued again.
    fn put_in_place(&mut self, seq: u64) -> Result<(), StoreError> {
        for lane in Lane::ALL {
            self.ready.remove((lane as u8, seq))?;
        }
        self.working.remove(seq)?;
        if self.crashes.get(seq)?.is_none() {
            return Ok(());
        }
        let mut row = self.row(seq)?;
        if row.state == State::Processing {
            self.count(State::Processing, -1)?;
            self.count(State::Queued, 1)?;
            row.state = State::Queued;
            self.put(seq, &row)?;
        }
        self.ids.insert(row.id.bits(), seq)?;
        self.enter(seq, &row)
    }
}

/// Reads everything. Returns the findings, and the correction for each wrong count.
fn examine(read: &ReadTransaction) -> Result<(Audit, Vec<(State, i64)>), StoreError> {
    let mut audit = Audit::default();
    let mut misplaced = BTreeSet::new();
    // The entries of the state tables. Each crash removes its own; the entries that remain are wrong.
    let mut queued: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    for entry in read.open_table(READY)?.iter()? {
        let (lane, seq) = entry?.0.value();
        queued.entry(seq).or_default().push(lane);
    }
    let mut working = BTreeSet::new();
    for entry in read.open_table(WORKING)?.iter()? {
        working.insert(entry?.0.value());
    }
    let mut deferred = BTreeMap::new();
    for entry in read.open_table(DEFERRED)?.iter()? {
        let (until, seq) = entry?.0.value();
        deferred.insert(seq, until);
    }
    let ids = read.open_table(IDS)?;
    let mut counted = [0i64; State::ALL.len()];
    for entry in read.open_table(CRASHES)?.iter()? {
        let (seq, row) = entry?;
        let seq = seq.value();
        audit.crashes += 1;
        let places = (
            queued.remove(&seq),
            working.remove(&seq),
            deferred.remove(&seq),
        );
        let row: StoredCrash = match rows::decode(row.value()) {
            Ok(row) => row,
            Err(_) => {
                audit.damaged.push(seq);
                continue;
            }
        };
        counted[row.state as usize] += 1;
        let in_place = match (row.state, &places) {
            (State::Queued, (Some(lanes), false, None)) => lanes[..] == [row.lane as u8],
            (State::Deferred, (None, false, Some(until))) => Some(*until) == row.deferred_until_ms,
            (State::Processed | State::Failed, (None, false, None)) => true,
            _ => false,
        };
        if !in_place || ids.get(row.id.bits())?.map(|v| v.value()) != Some(seq) {
            misplaced.insert(seq);
        }
    }
    // Entries of crashes that do not exist.
    misplaced.extend(queued.keys().chain(working.iter()).chain(deferred.keys()));
    audit.misplaced = misplaced.into_iter().collect();
    let states = read.open_table(STATES)?;
    let mut off = Vec::new();
    for state in State::ALL {
        let stored = states.get(state as u8)?.map_or(0, |v| v.value()) as i64;
        let by = counted[state as usize] - stored;
        // A damaged crash is counted under a state that we cannot read.
        if by != 0 && audit.damaged.is_empty() {
            audit.miscounted.push(state);
            off.push((state, by));
        }
    }
    Ok((audit, off))
}
