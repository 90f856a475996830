//! Bugs, and the signatures that they are about.
//!
//! ```text
//! bugs            (id, tracker)            -> BugRow
//! bug_signatures  (id, tracker, signature) -> by hand | polled     one bit each, or both
//! signature_bugs  (signature, id, tracker) -> ()                   the same, by signature
//! trackers        tracker                  -> ms of the last pass over it that succeeded
//! ```
//!
//! A bug has a row while it is about at least one signature. Signatures are texts and may belong to no crash:
//! a tracker can have a signature before we do, and a bug outlives its crashes.

use std::collections::{BTreeSet, HashMap};

use redb::{ReadTransaction, ReadableTable};

use super::batch::Batch;
use super::command::Command;
use super::error::StoreError;
use super::handle::Store;
use super::rows::{self, BugRow};
use super::tables::*;
use super::txn::Txn;
use crate::bugs::{Bug, BugKey, Standing};
use crate::clock::Timestamp;

/// The source of the statement that a bug is about a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A user of this server.
    Hand = 1,
    /// The tracker.
    Polled = 2,
}

/// A bug and a signature that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Association {
    pub bug: Bug,
    pub signature: String,
    pub by_hand: bool,
    pub polled: bool,
}

/// One change of bugs. Applying a change twice has the same effect as once.
#[derive(Clone, Debug)]
pub enum BugChange {
    /// A user states that the bug is about the signature.
    Attach { bug: Bug, signature: String },
    /// A user undoes this. The tracker's statement stays.
    Detach { key: BugKey, signature: String },
    /// The tracker states that the bug is about these signatures and no others. Statements by users stay.
    Polled {
        bug: Bug,
        signatures: BTreeSet<String>,
    },
    /// The tracker reports the current state of the bug. Ignored if the bug is not known.
    Stands { bug: Bug, at: Timestamp },
    /// A pass over the tracker has succeeded; it began at this time.
    PassEnded { tracker: String, began: Timestamp },
}

impl BugRow {
    fn new(bug: &Bug, updated_at: Option<Timestamp>) -> Self {
        let standing = bug.standing.clone();
        Self {
            url: bug.url.clone(),
            summary: standing.summary,
            status: standing.status,
            resolution: standing.resolution,
            is_open: standing.is_open,
            updated_at_ms: updated_at.map(Timestamp::ms),
        }
    }

    fn into_bug(self, id: &str, tracker: &str) -> Bug {
        Bug {
            key: BugKey {
                id: id.to_owned(),
                tracker: tracker.to_owned(),
            },
            url: self.url,
            standing: Standing {
                summary: self.summary,
                status: self.status,
                resolution: self.resolution,
                is_open: self.is_open,
            },
        }
    }
}

impl Store {
    /// Changes bugs, all in one transaction.
    ///
    /// # Errors
    /// The store cannot be written, or the row of one of the bugs is damaged.
    pub fn change_bugs(&self, changes: Vec<BugChange>) -> Result<(), StoreError> {
        self.ask(ChangeBugs(changes))
    }

    /// The bugs of each of these signatures, newest first. Signatures without bugs are left out.
    ///
    /// # Errors
    /// The store cannot be read. Damaged bugs are left out.
    pub fn bugs_of(
        &self,
        signatures: &[String],
    ) -> Result<HashMap<String, Vec<Association>>, StoreError> {
        self.read(|read| {
            let by_signature = read.open_table(SIGNATURE_BUGS)?;
            let mut found = HashMap::new();
            for signature in signatures {
                let mut associations = Vec::new();
                for entry in by_signature.range((signature.as_str(), "", "")..)? {
                    let key = entry?.0;
                    let (of, id, tracker) = key.value();
                    if of != signature {
                        break;
                    }
                    associations.extend(association(read, id, tracker, signature)?);
                }
                if !associations.is_empty() {
                    sort(&mut associations);
                    found.insert(signature.clone(), associations);
                }
            }
            Ok(found)
        })
    }

    /// The signatures of the bugs with these ids, in any tracker.
    ///
    /// # Errors
    /// The store cannot be read. Damaged bugs are left out.
    pub fn signatures_of(&self, ids: &[String]) -> Result<Vec<Association>, StoreError> {
        self.read(|read| {
            let by_bug = read.open_table(BUG_SIGNATURES)?;
            let mut found = Vec::new();
            for id in ids {
                for entry in by_bug.range((id.as_str(), "", "")..)? {
                    let key = entry?.0;
                    let (of, tracker, signature) = key.value();
                    if of != id {
                        break;
                    }
                    found.extend(association(read, id, tracker, signature)?);
                }
            }
            Ok(found)
        })
    }

    /// The ids of a tracker's bugs.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn bugs_in(&self, tracker: &str) -> Result<Vec<String>, StoreError> {
        self.read(|read| {
            let mut ids = Vec::new();
            for entry in read.open_table(BUGS)?.iter()? {
                let key = entry?.0;
                let (id, of) = key.value();
                if of == tracker {
                    ids.push(id.to_owned());
                }
            }
            Ok(ids)
        })
    }

    /// When the last successful pass over a tracker began.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn last_pass(&self, tracker: &str) -> Result<Option<Timestamp>, StoreError> {
        self.read(|read| {
            let began = read.open_table(TRACKERS)?.get(tracker)?;
            Ok(began.map(|ms| Timestamp::from_ms(ms.value())))
        })
    }
}

/// `None` if the bug's row is damaged, so that the other bugs are still shown.
fn association(
    read: &ReadTransaction,
    id: &str,
    tracker: &str,
    signature: &str,
) -> Result<Option<Association>, StoreError> {
    let sources = read
        .open_table(BUG_SIGNATURES)?
        .get((id, tracker, signature))?
        .map_or(0, |sources| sources.value());
    let bugs = read.open_table(BUGS)?;
    let row: BugRow = match bugs
        .get((id, tracker))?
        .map(|row| rows::decode(row.value()))
    {
        Some(Ok(row)) => row,
        Some(Err(error)) => {
            tracing::error!(id, tracker, %error, "skipped a damaged bug");
            return Ok(None);
        }
        None => return Ok(None),
    };
    Ok(Some(Association {
        bug: row.into_bug(id, tracker),
        signature: signature.to_owned(),
        by_hand: sources & Source::Hand as u8 != 0,
        polled: sources & Source::Polled as u8 != 0,
    }))
}

/// Sorts newest first, because trackers number their bugs in ascending order. Bugs of one tracker stay
/// together.
fn sort(associations: &mut [Association]) {
    associations.sort_by_cached_key(|association| {
        let BugKey { id, tracker } = association.bug.key.clone();
        let digits = id.len() - id.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let number: u64 = id[id.len() - digits..].parse().unwrap_or(0);
        (tracker, std::cmp::Reverse(number), id)
    });
}

/// All of the changes or none.
struct ChangeBugs(Vec<BugChange>);

impl Command for ChangeBugs {
    type Answer = ();

    fn apply(&self, txn: &mut Txn, _: &mut Batch) -> Result<(), StoreError> {
        txn.change_bugs(&self.0)
    }
}

impl Txn<'_> {
    fn change_bugs(&mut self, changes: &[BugChange]) -> Result<(), StoreError> {
        for change in changes {
            match change {
                BugChange::Attach { bug, signature } => {
                    self.associate(bug, signature, Source::Hand)?;
                }
                BugChange::Detach { key, signature } => {
                    self.dissociate(key, signature, Source::Hand)?;
                    self.forget_unused(key)?;
                }
                BugChange::Polled { bug, signatures } => {
                    for signature in self.polled_signatures(&bug.key)? {
                        if !signatures.contains(&signature) {
                            self.dissociate(&bug.key, &signature, Source::Polled)?;
                        }
                    }
                    for signature in signatures {
                        self.associate(bug, signature, Source::Polled)?;
                    }
                    self.forget_unused(&bug.key)?;
                }
                BugChange::Stands { bug, at } => self.stands(bug, *at)?,
                BugChange::PassEnded { tracker, began } => {
                    self.trackers.insert(tracker.as_str(), began.ms())?;
                }
            }
        }
        Ok(())
    }

    fn associate(&mut self, bug: &Bug, signature: &str, by: Source) -> Result<(), StoreError> {
        let (id, tracker) = (bug.key.id.as_str(), bug.key.tracker.as_str());
        let row = self.bugs.get((id, tracker))?;
        // A damaged row is replaced. The next pass updates it.
        if row.is_none_or(|row| rows::decode::<BugRow>(row.value()).is_err()) {
            let row = rows::encode(&BugRow::new(bug, None));
            self.bugs.insert((id, tracker), row.as_slice())?;
        }
        let key = (id, tracker, signature);
        let sources = self.bug_signatures.get(key)?.map_or(0, |s| s.value());
        self.bug_signatures.insert(key, sources | by as u8)?;
        self.signature_bugs.insert((signature, id, tracker), ())?;
        Ok(())
    }

    fn dissociate(&mut self, bug: &BugKey, signature: &str, by: Source) -> Result<(), StoreError> {
        let (id, tracker) = (bug.id.as_str(), bug.tracker.as_str());
        let key = (id, tracker, signature);
        let sources = self.bug_signatures.get(key)?.map_or(0, |s| s.value());
        match sources & !(by as u8) {
            0 => {
                self.bug_signatures.remove(key)?;
                self.signature_bugs.remove((signature, id, tracker))?;
            }
            left => drop(self.bug_signatures.insert(key, left)?),
        }
        Ok(())
    }

    /// The signatures of a bug, each with its sources.
    fn signatures_of(&self, bug: &BugKey) -> Result<Vec<(String, u8)>, StoreError> {
        let from = (bug.id.as_str(), bug.tracker.as_str(), "");
        let mut found = Vec::new();
        for entry in self.bug_signatures.range(from..)? {
            let (key, sources) = entry?;
            let (id, tracker, signature) = key.value();
            if (id, tracker) != (bug.id.as_str(), bug.tracker.as_str()) {
                break;
            }
            found.push((signature.to_owned(), sources.value()));
        }
        Ok(found)
    }

    fn polled_signatures(&self, bug: &BugKey) -> Result<Vec<String>, StoreError> {
        let all = self.signatures_of(bug)?.into_iter();
        let polled = all.filter(|(_, sources)| sources & Source::Polled as u8 != 0);
        Ok(polled.map(|(signature, _)| signature).collect())
    }

    /// Deletes the row of a bug that is not about any signature any more.
    fn forget_unused(&mut self, bug: &BugKey) -> Result<(), StoreError> {
        if self.signatures_of(bug)?.is_empty() {
            self.bugs.remove((bug.id.as_str(), bug.tracker.as_str()))?;
        }
        Ok(())
    }

    fn stands(&mut self, bug: &Bug, at: Timestamp) -> Result<(), StoreError> {
        let key = (bug.key.id.as_str(), bug.key.tracker.as_str());
        if self.bugs.get(key)?.is_some() {
            let row = rows::encode(&BugRow::new(bug, Some(at)));
            self.bugs.insert(key, row.as_slice())?;
        }
        Ok(())
    }
}
