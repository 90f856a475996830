//! Groups: what stays the same when the signature of a bug's crashes changes.
//!
//! ```text
//! groups         group         -> GroupRow
//! group_ids      signature     -> group     the group that has this signature
//! group_homes    signature     -> group     the last group that the signature lost
//! group_members  (into, group) -> ()        groups that are part of another one
//! group_names    (group, signature) -> ()   signatures that the group has left
//! unsettled      seq           -> (signature, ms of receipt)
//! ungrouped      signature     -> ()        new, while moves are unsettled
//! ```
//!
//! A signature gets a group with its first crash. When crashes get other signatures, `unsettled` keeps the
//! signature that they had. When all of them are done, [`settle`](super::settle) decides which signature each
//! group has now. A group has one signature, and a signature has at most one group. A number is never used
//! again, so a link to a group always leads somewhere.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use redb::{ReadableTable, ReadableTableMetadata};

use super::settle::{Flows, Groups, Weight};
use crate::clock::Timestamp;
use crate::store::batch::Batch;
use crate::store::command::Command;
use crate::store::error::StoreError;
use crate::store::handle::Store;
use crate::store::names::Names;
use crate::store::rows::{self, GroupRow};
use crate::store::sightings::days_of;
use crate::store::tables::*;
use crate::store::txn::Txn;

/// Days whose crashes decide first which part of a group keeps its id.
const RECENT_DAYS: u32 = 30;
/// Limit of groups on the way to the one that a group is part of now. Only damaged rows reach it.
const STEPS_MAX: usize = 10_000;

/// A group and its current signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) id: GroupId,
    pub(crate) signature: String,
    /// The group from which its first crashes came.
    pub(crate) origin: Option<GroupId>,
    /// Groups that became part of it.
    pub(crate) members: Vec<GroupId>,
}

impl GroupRow {
    /// A group with this signature that is part of no other.
    pub(super) fn new(name: NameId, origin: Option<GroupId>, now_ms: i64) -> Self {
        GroupRow {
            name,
            merged_into: None,
            origin,
            began_ms: now_ms,
            first_ms: None,
        }
    }
}

impl Store {
    /// The group with this id, or the one that it became part of. `None` if there never was such a group.
    ///
    /// # Errors
    /// The store cannot be read, or the row of a group is damaged.
    pub(crate) fn group(&self, id: GroupId) -> Result<Option<Group>, StoreError> {
        self.read(|read| {
            let groups = match read.open_table(GROUPS) {
                // An older store that is opened only for reading does not have this table.
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
                table => table?,
            };
            let mut id = id;
            for _ in 0..STEPS_MAX {
                let Some(row) = groups.get(id)? else {
                    return Ok(None);
                };
                let row: GroupRow = rows::decode(row.value())?;
                if let Some(into) = row.merged_into {
                    id = into;
                    continue;
                }
                let members = read.open_table(GROUP_MEMBERS)?;
                let members = members.range((id, 0)..=(id, GroupId::MAX))?;
                return Ok(Some(Group {
                    id,
                    signature: Names::open(read)?.text(row.name)?,
                    origin: row.origin,
                    members: members
                        .map(|entry| Ok(entry?.0.value().1))
                        .collect::<Result<_, StoreError>>()?,
                }));
            }
            Err(StoreError::Damaged(format!("group {id} leads to itself")))
        })
    }

    /// The group of a signature. `None` if it has no crash, or if it is so new that no group is decided yet.
    ///
    /// # Errors
    /// The store cannot be read, or the row of a group is damaged.
    pub(crate) fn group_of(&self, signature: &str) -> Result<Option<Group>, StoreError> {
        let id = self.read(|read| {
            let ids = match read.open_table(GROUP_IDS) {
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
                table => table?,
            };
            match read.open_table(NAMES)?.get(signature)? {
                Some(name) => Ok(ids.get(name.value())?.map(|id| id.value())),
                None => Ok(None),
            }
        })?;
        id.map_or(Ok(None), |id| self.group(id))
    }

    /// For each of these signatures, the signatures that its group had before. Signatures without such are left
    /// out.
    ///
    /// # Errors
    /// The store cannot be read, or the row of a group is damaged.
    pub(crate) fn former_signatures(
        &self,
        signatures: &[String],
    ) -> Result<HashMap<String, Vec<String>>, StoreError> {
        self.read(|read| {
            let group_names = match read.open_table(GROUP_NAMES) {
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(HashMap::new()),
                table => table?,
            };
            let ids = read.open_table(GROUP_IDS)?;
            let groups = read.open_table(GROUPS)?;
            let members = read.open_table(GROUP_MEMBERS)?;
            let names = read.open_table(NAMES)?;
            let mut texts = Names::open(read)?;
            let mut found = HashMap::new();
            for signature in signatures {
                let Some(name) = names.get(signature.as_str())?.map(|name| name.value()) else {
                    continue;
                };
                let Some(id) = ids.get(name)?.map(|id| id.value()) else {
                    continue;
                };
                let mut former = BTreeSet::new();
                let mut parts = vec![id];
                while let Some(part) = parts.pop() {
                    for entry in group_names.range((part, 0)..=(part, NameId::MAX))? {
                        former.insert(entry?.0.value().1);
                    }
                    if parts.len() < STEPS_MAX {
                        for entry in members.range((part, 0)..=(part, GroupId::MAX))? {
                            parts.push(entry?.0.value().1);
                        }
                    }
                }
                former.remove(&name);
                let mut kept = Vec::new();
                for name in former {
                    // A signature that has another group now shares the past only if it split off.
                    let is_part = match ids.get(name)? {
                        None => true,
                        Some(other) => match groups.get(other.value())? {
                            Some(row) => rows::decode::<GroupRow>(row.value())?.origin == Some(id),
                            None => false,
                        },
                    };
                    if is_part {
                        kept.push(texts.text(name)?);
                    }
                }
                if !kept.is_empty() {
                    found.insert(signature.clone(), kept);
                }
            }
            Ok(found)
        })
    }

    /// Whether crashes got other signatures since groups were settled.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn is_unsettled(&self) -> Result<bool, StoreError> {
        self.read(|read| match read.open_table(UNSETTLED) {
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(false),
            table => Ok(!table?.is_empty()?),
        })
    }

    /// Decides which signature each group has after the moves so far. Returns the number of groups that
    /// changed.
    ///
    /// # Errors
    /// The store cannot be written, or the row of a group is damaged.
    pub(crate) fn settle_groups(&self) -> Result<u64, StoreError> {
        self.ask(SettleGroups)
    }
}

struct SettleGroups;

impl Command for SettleGroups {
    type Answer = u64;

    fn apply(&self, txn: &mut Txn, batch: &mut Batch) -> Result<u64, StoreError> {
        txn.settle_groups(batch.now)
    }
}

impl Txn<'_> {
    /// Gives a signature with a new crash a group, if it has none.
    pub(in crate::store) fn found_group(
        &mut self,
        name: NameId,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        if self.group_ids.get(name)?.is_some() {
            return Ok(());
        }
        if !self.unsettled.is_empty()? {
            // Perhaps a group comes with crashes that moved here.
            self.ungrouped.insert(name, ())?;
            return Ok(());
        }
        let home = self.group_homes.get(name)?.map(|home| home.value());
        // A damaged row must not fail the crash that is stored with this.
        let home = home.and_then(|home| Some((home, self.group_row(home).ok()?)));
        match home {
            // The group was merged into another. Now there are crashes with its signature again.
            Some((id, row)) if row.merged_into.is_some() => {
                let merged_into = row.merged_into;
                let row = GroupRow {
                    name,
                    merged_into: None,
                    ..row
                };
                self.put_group(id, &row, merged_into)?;
                self.group_ids.insert(name, id)?;
            }
            home => {
                let origin = home.map(|(id, _)| id);
                self.new_group(name, origin, at)?;
            }
        }
        Ok(())
    }

    fn new_group(
        &mut self,
        name: NameId,
        origin: Option<GroupId>,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let id = self.next(meta::NEXT_GROUP)?;
        self.put_group(id, &GroupRow::new(name, origin, at.ms()), None)?;
        self.group_ids.insert(name, id)?;
        Ok(())
    }

    fn group_row(&self, id: GroupId) -> Result<GroupRow, StoreError> {
        let row = self.groups.get(id)?;
        let row = row.ok_or_else(|| StoreError::Damaged(format!("group {id} has no row")))?;
        rows::decode(row.value())
    }

    /// Stores a group. `before` is the group that it was part of.
    fn put_group(
        &mut self,
        id: GroupId,
        row: &GroupRow,
        before: Option<GroupId>,
    ) -> Result<(), StoreError> {
        if before != row.merged_into {
            if let Some(before) = before {
                self.group_members.remove((before, id))?;
            }
            if let Some(into) = row.merged_into {
                self.group_members.insert((into, id), ())?;
            }
        }
        self.groups.insert(id, rows::encode(row).as_slice())?;
        Ok(())
    }

    /// Keeps the signature that a crash had when groups were settled last.
    pub(super) fn unsettle(
        &mut self,
        seq: u64,
        received_at_ms: i64,
        from: NameId,
        to: NameId,
    ) -> Result<(), StoreError> {
        let before = self.unsettled.get(seq)?.map(|entry| entry.value());
        match before {
            None => drop(self.unsettled.insert(seq, (from, received_at_ms))?),
            // It returned.
            Some((before, _)) if before == to => drop(self.unsettled.remove(seq)?),
            Some(_) => {}
        }
        Ok(())
    }

    fn settle_groups(&mut self, now: Timestamp) -> Result<u64, StoreError> {
        let recent = now.day().back(RECENT_DAYS);
        let flows = self.flows(recent.start().ms())?;
        let mut groups = self.groups_of(&flows, recent.0)?;
        let mut next_id = self
            .meta
            .get(meta::NEXT_GROUP)?
            .map_or(1, |v| v.value() as u64);
        let before: BTreeMap<GroupId, GroupRow> = groups.rows.clone();
        groups.settle(
            &flows,
            || {
                next_id += 1;
                next_id - 1
            },
            now.ms(),
        );
        self.meta.insert(meta::NEXT_GROUP, u128::from(next_id))?;
        for (id, from) in std::mem::take(&mut groups.carried) {
            self.group_names.insert((id, from), ())?;
            if let Some(first_ms) = self.first_ms(from)?
                && let Some(row) = groups.rows.get_mut(&id)
            {
                row.first_ms = Some(row.first_ms.map_or(first_ms, |known| known.min(first_ms)));
                groups.changed_groups.insert(id);
            }
        }
        for id in &groups.changed_groups {
            let was_in = before.get(id).and_then(|row| row.merged_into);
            self.put_group(*id, &groups.rows[id], was_in)?;
        }
        for name in &groups.changed_names {
            match groups.ids.get(name) {
                Some(id) => drop(self.group_ids.insert(name, id)?),
                None => drop(self.group_ids.remove(name)?),
            }
            if let Some(home) = groups.homes.get(name) {
                self.group_homes.insert(name, home)?;
            }
        }
        self.unsettled.retain(|_, _| false)?;
        let ungrouped = self.ungrouped.iter()?;
        let ungrouped: Vec<NameId> = ungrouped
            .map(|entry| Ok(entry?.0.value()))
            .collect::<Result<_, StoreError>>()?;
        for name in ungrouped {
            self.ungrouped.remove(name)?;
            self.found_group(name, now)?;
        }
        Ok(groups.changed_groups.len() as u64)
    }

    /// The moves of crashes since groups were settled.
    fn flows(&self, recent_from_ms: i64) -> Result<Flows, StoreError> {
        let mut flows = Flows::new();
        for entry in self.unsettled.iter()? {
            let (seq, value) = entry?;
            let (from, received_at_ms) = value.value();
            let Some(signed) = self.signed.get(seq.value())? else {
                continue;
            };
            let (_, to, _) = signed.value();
            if from != to {
                let recent = u64::from(received_at_ms >= recent_from_ms);
                let weight = Weight { recent, all: 1 };
                flows.entry((from, to)).or_default().add(weight);
            }
        }
        Ok(flows)
    }

    /// The groups that flows are about, and the crashes that stayed.
    fn groups_of(&self, flows: &Flows, recent_day: u32) -> Result<Groups, StoreError> {
        let names: BTreeSet<NameId> = flows.keys().flat_map(|(from, to)| [*from, *to]).collect();
        let mut groups = Groups::default();
        let mut inflows: BTreeMap<NameId, Weight> = BTreeMap::new();
        for ((_, to), weight) in flows {
            inflows.entry(*to).or_default().add(*weight);
        }
        let mut wanted = Vec::new();
        for name in &names {
            if let Some(id) = self.group_ids.get(name)? {
                groups.ids.insert(*name, id.value());
                wanted.push(id.value());
            }
            if let Some(home) = self.group_homes.get(name)? {
                groups.homes.insert(*name, home.value());
                wanted.push(home.value());
            }
            let inflow = inflows.get(name).copied().unwrap_or_default();
            if let Some(own) = self.own_crashes(*name, inflow, recent_day)? {
                groups.own.insert(*name, own);
            }
        }
        while let Some(id) = wanted.pop() {
            if groups.rows.contains_key(&id) {
                continue;
            }
            let row = self.group_row(id)?;
            wanted.extend(row.merged_into);
            groups.rows.insert(id, row);
            for member in self.group_members.range((id, 0)..=(id, GroupId::MAX))? {
                wanted.push(member?.0.value().1);
            }
        }
        Ok(groups)
    }

    /// The crashes of a signature without those that moved to it; `None` if none of them is stored.
    fn own_crashes(
        &self,
        name: NameId,
        inflow: Weight,
        recent_day: u32,
    ) -> Result<Option<Weight>, StoreError> {
        let moved = usize::try_from(inflow.all).unwrap_or(usize::MAX);
        const MAX: u32 = u32::MAX;
        let first = (name, 0, 0, 0, 0, i64::MIN, 0);
        let last = (name, MAX, MAX, MAX, MAX, i64::MAX, u64::MAX);
        let stored = self.seen.range(first..=last)?;
        if stored.take(moved.saturating_add(1)).count() <= moved {
            return Ok(None);
        }
        let mut all = Weight::default();
        for entry in self.sightings.range(days_of(name))? {
            let (key, value) = entry?;
            let (crashes, ..) = value.value();
            let recent = if key.value().1 >= recent_day {
                crashes
            } else {
                0
            };
            all.add(Weight {
                recent,
                all: crashes,
            });
        }
        Ok(Some(all.without(inflow)))
    }

    /// Receipt of the first crash that is counted for a signature.
    fn first_ms(&self, name: NameId) -> Result<Option<i64>, StoreError> {
        let mut first: Option<i64> = None;
        for entry in self.sightings.range(days_of(name))? {
            let (_, at, _) = entry?.1.value();
            first = Some(first.map_or(at, |known| known.min(at)));
        }
        Ok(first)
    }

    /// Gives each signature a group in a store that was made before groups existed, in the order in which the
    /// signatures were first seen.
    pub(in crate::store) fn fill_groups(&mut self) -> Result<(), StoreError> {
        if !self.groups.is_empty()? || self.sightings.is_empty()? {
            return Ok(());
        }
        let mut first: BTreeMap<NameId, i64> = BTreeMap::new();
        for entry in self.sightings.iter()? {
            let (key, value) = entry?;
            let (_, at, _) = value.value();
            let known = first.entry(key.value().0).or_insert(at);
            *known = at.min(*known);
        }
        let mut in_order: Vec<(i64, NameId)> = first.into_iter().map(|(n, at)| (at, n)).collect();
        in_order.sort_unstable();
        for (at, name) in in_order {
            self.new_group(name, None, Timestamp::from_ms(at))?;
        }
        Ok(())
    }
}
