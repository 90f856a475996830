//! Decides which signature each group has after crashes got other signatures.
//!
//! All moves since the last time are looked at together, so their order does not matter:
//!
//! - **A group whose crashes have several signatures now** keeps its id with the part that has most crashes of
//!   the last 30 days, then of all time. The other parts get new ids that name their origin. A part that joined
//!   another group is no candidate.
//! - **Groups whose crashes have one signature now** become one: the oldest id stays, the others lead to it.
//! - **Crashes that return** to a signature without a group give it back the group that it had.

use std::collections::{BTreeMap, BTreeSet};

use crate::store::rows::GroupRow;
use crate::store::tables::{GroupId, NameId};

/// A number of crashes, for the choice of the part that keeps an id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Weight {
    /// Of the last 30 days.
    pub(crate) recent: u64,
    pub(crate) all: u64,
}

impl Weight {
    pub(crate) fn add(&mut self, other: Weight) {
        self.recent = self.recent.saturating_add(other.recent);
        self.all = self.all.saturating_add(other.all);
    }

    /// What remains without `other`.
    pub(crate) fn without(self, other: Weight) -> Weight {
        Weight {
            recent: self.recent.saturating_sub(other.recent),
            all: self.all.saturating_sub(other.all),
        }
    }
}

/// The crashes that moved from one signature to another since the groups were settled.
pub(crate) type Flows = BTreeMap<(NameId, NameId), Weight>;

/// The groups of some signatures. A change is noted, so that only what changed is written.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    /// The group of a signature.
    pub(crate) ids: BTreeMap<NameId, GroupId>,
    /// The last group that a signature lost.
    pub(crate) homes: BTreeMap<NameId, GroupId>,
    pub(crate) rows: BTreeMap<GroupId, GroupRow>,
    /// The crashes of a signature that did not move to it, if it has any.
    pub(crate) own: BTreeMap<NameId, Weight>,
    pub(crate) changed_names: BTreeSet<NameId>,
    pub(crate) changed_groups: BTreeSet<GroupId>,
    /// Groups that left a signature, and this signature.
    pub(crate) carried: Vec<(GroupId, NameId)>,
}

type Members = BTreeMap<GroupId, BTreeSet<GroupId>>;

/// What one round decides. Ids are given at its end, because each decision sees the groups as they were.
#[derive(Default)]
struct Decisions {
    /// The groups that were part of another one before, by that one.
    members: Members,
    /// Groups that have this signature now.
    claims: BTreeMap<NameId, BTreeSet<GroupId>>,
    /// Signatures that need a group, and the origin of their crashes.
    needy: BTreeMap<NameId, Option<GroupId>>,
    /// Signatures that lost their group.
    losers: BTreeMap<NameId, GroupId>,
    /// Groups that are no longer part of another one.
    freed: BTreeSet<GroupId>,
    /// Groups that are part of another one from now on.
    rehoused: Vec<(GroupId, GroupId)>,
}

impl Groups {
    /// The group that `id` is part of now, or itself.
    pub(crate) fn resolve(&self, mut id: GroupId) -> GroupId {
        // The oldest id of each merge stays, and a row leads to an older one, except after a split. The count
        // is a bound for damaged rows.
        for _ in 0..self.rows.len() {
            match self.rows.get(&id).and_then(|row| row.merged_into) {
                Some(into) => id = into,
                None => break,
            }
        }
        id
    }

    /// The groups that are part of another one, by that one.
    fn members(&self) -> Members {
        let mut members = Members::new();
        for (id, row) in &self.rows {
            if let Some(into) = row.merged_into {
                members.entry(into).or_default().insert(*id);
            }
        }
        members
    }

    fn name_of(&self, id: GroupId) -> Option<NameId> {
        Some(self.rows.get(&self.resolve(id))?.name)
    }

    fn has_own(&self, name: NameId) -> bool {
        self.own.contains_key(&name)
    }

    /// Gives every signature of `flows` its group. `next` makes the row of a new group.
    pub(crate) fn settle(&mut self, flows: &Flows, mut next: impl FnMut() -> GroupId, now_ms: i64) {
        let mut decisions = Decisions {
            members: self.members(),
            ..Decisions::default()
        };
        let sources: BTreeSet<NameId> = flows.keys().map(|(from, _)| *from).collect();
        for source in &sources {
            let targets: Vec<(NameId, Weight)> = flows
                .range((*source, 0)..=(*source, NameId::MAX))
                .map(|((_, to), weight)| (*to, *weight))
                .collect();
            match self.ids.get(source) {
                Some(id) => self.leave(*source, *id, &targets, &sources, &mut decisions),
                None => {
                    for (target, _) in targets {
                        decisions.needy.entry(target).or_insert(None);
                    }
                }
            }
        }
        for (_, target) in flows.keys() {
            // A signature that nothing left keeps its group.
            if !sources.contains(target)
                && let Some(id) = self.ids.get(target)
            {
                decisions.claims.entry(*target).or_default().insert(*id);
            }
        }
        self.apply(decisions, &mut next, now_ms);
    }

    /// Decides where the group of `source` goes.
    fn leave(
        &self,
        source: NameId,
        id: GroupId,
        targets: &[(NameId, Weight)],
        sources: &BTreeSet<NameId>,
        decisions: &mut Decisions,
    ) {
        let is_vacant = |target: &NameId| {
            !self.ids.contains_key(target) || (sources.contains(target) && !self.has_own(*target))
        };
        let back = self.returning(source, targets.iter().filter(|(name, _)| is_vacant(name)));
        for (home, target) in &back {
            decisions.claims.entry(*target).or_default().insert(*home);
            decisions.freed.insert(*home);
        }
        let is_back = |target: &NameId| back.values().any(|name| name == target);
        if back.contains_key(&id) {
            self.give_back(source, id, decisions);
            for (target, _) in targets.iter().filter(|(target, _)| !is_back(target)) {
                decisions.needy.entry(*target).or_insert(Some(id));
            }
            return;
        }
        let own = self.own.get(&source).map(|weight| (source, *weight));
        let is_new = |target: &NameId| is_vacant(target) && !is_back(target);
        let new = targets.iter().copied().filter(|(target, _)| is_new(target));
        let parts: Vec<(NameId, Weight)> = own.into_iter().chain(new).collect();
        // Of equal parts the first: the one that stayed, then the one whose name is older.
        let heaviest = |parts: &[(NameId, Weight)]| {
            let first = parts.iter().rev().max_by_key(|(_, weight)| *weight);
            first.map(|(name, _)| *name)
        };
        let Some(winner) = heaviest(&parts).or_else(|| heaviest(targets)) else {
            return;
        };
        decisions.claims.entry(winner).or_default().insert(id);
        if winner != source {
            decisions.losers.insert(source, id);
        }
        for (part, _) in parts.iter().filter(|(part, _)| *part != winner) {
            decisions.needy.entry(*part).or_insert(Some(id));
        }
    }

    /// The groups that some of `targets` had before their crashes went to `source`. If several had one, the
    /// target with most crashes gets it.
    fn returning<'t>(
        &self,
        source: NameId,
        targets: impl Iterator<Item = &'t (NameId, Weight)>,
    ) -> BTreeMap<GroupId, NameId> {
        let mut found: BTreeMap<GroupId, (NameId, Weight)> = BTreeMap::new();
        for (target, weight) in targets {
            let home = self.homes.get(target).copied();
            let Some(home) = home.filter(|home| self.name_of(*home) == Some(source)) else {
                continue;
            };
            let best = found.entry(home).or_insert((*target, *weight));
            if *weight > best.1 {
                *best = (*target, *weight);
            }
        }
        found
            .into_iter()
            .map(|(home, (name, _))| (home, name))
            .collect()
    }

    /// A signature whose group returned to the signature that it came from takes back what it had before.
    fn give_back(&self, source: NameId, id: GroupId, decisions: &mut Decisions) {
        let is_here = |member: &&GroupId| {
            let row = self.rows.get(*member);
            row.is_some_and(|row| row.name == source) && !decisions.freed.contains(*member)
        };
        let members = decisions.members.get(&id).into_iter().flatten();
        let members: BTreeSet<GroupId> = members.filter(is_here).copied().collect();
        let home = self
            .homes
            .get(&source)
            .filter(|home| members.contains(home));
        match home.or(members.first()) {
            Some(stays) => {
                decisions.claims.entry(source).or_default().insert(*stays);
                decisions.freed.insert(*stays);
                let others = members.iter().filter(|member| *member != stays);
                decisions
                    .rehoused
                    .extend(others.map(|member| (*member, *stays)));
            }
            None if self.has_own(source) => {
                decisions.needy.entry(source).or_insert(Some(id));
            }
            None => {}
        }
        decisions.losers.insert(source, id);
    }

    fn apply(&mut self, decisions: Decisions, next: &mut impl FnMut() -> GroupId, now_ms: i64) {
        let Decisions {
            members: _,
            claims,
            needy,
            losers,
            freed,
            rehoused,
        } = decisions;
        for (name, id) in losers {
            self.ids.remove(&name);
            self.homes.insert(name, id);
            self.changed_names.insert(name);
            self.carried.push((id, name));
        }
        for (id, into) in rehoused {
            self.change(id, |row| row.merged_into = Some(into));
        }
        for id in freed {
            self.change(id, |row| row.merged_into = None);
        }
        for (name, ids) in &claims {
            let Some(oldest) = ids.first().copied() else {
                continue;
            };
            if let Some(before) = self.ids.insert(*name, oldest)
                && before != oldest
            {
                self.homes.insert(*name, before);
            }
            self.changed_names.insert(*name);
            self.change(oldest, |row| {
                row.name = *name;
                row.merged_into = None;
            });
            for id in ids.iter().skip(1) {
                self.change(*id, |row| {
                    row.name = *name;
                    row.merged_into = Some(oldest);
                });
            }
        }
        for (name, origin) in needy {
            if self.ids.contains_key(&name) {
                continue;
            }
            let id = next();
            self.rows.insert(id, GroupRow::new(name, origin, now_ms));
            self.ids.insert(name, id);
            self.changed_names.insert(name);
            self.changed_groups.insert(id);
        }
    }

    fn change(&mut self, id: GroupId, change: impl FnOnce(&mut GroupRow)) {
        if let Some(row) = self.rows.get_mut(&id) {
            change(row);
            self.changed_groups.insert(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Crashes with their signatures, and the groups of these.
    #[derive(Default)]
    struct World {
        crashes: Vec<NameId>,
        groups: Groups,
        next: GroupId,
    }

    impl World {
        /// This many crashes of each signature; the groups are 1, 2, ... in this order.
        fn of(counts: &[(NameId, usize)]) -> World {
            let mut world = World::default();
            for (name, count) in counts {
                world.crashes.extend(std::iter::repeat_n(*name, *count));
                world.next += 1;
                let row = GroupRow::new(*name, None, 0);
                world.groups.rows.insert(world.next, row);
                world.groups.ids.insert(*name, world.next);
            }
            world
        }

        /// Gives crashes other signatures.
        fn change(&mut self, rename: impl Fn(usize, NameId) -> NameId) {
            let one = Weight { recent: 1, all: 1 };
            let mut flows = Flows::new();
            self.groups.own.clear();
            for (at, name) in self.crashes.iter_mut().enumerate() {
                let to = rename(at, *name);
                if to == *name {
                    self.groups.own.entry(*name).or_default().add(one);
                } else {
                    flows.entry((*name, to)).or_default().add(one);
                }
                *name = to;
            }
            let next = &mut self.next;
            self.groups.settle(
                &flows,
                || {
                    *next += 1;
                    *next
                },
                0,
            );
        }

        fn id(&self, name: NameId) -> Option<GroupId> {
            self.groups.ids.get(&name).copied()
        }

        /// The signature to which the address of a group leads.
        fn leads_to(&self, id: GroupId) -> NameId {
            self.groups.name_of(id).expect("a group")
        }
    }

    const A: NameId = 10;
    const B: NameId = 20;
    const C: NameId = 30;

    #[test]
    fn a_new_name_for_all_crashes_keeps_the_group_and_undo_restores_it() {
        let mut world = World::of(&[(A, 5)]);
        world.change(|_, _| B);
        assert_eq!((world.id(A), world.id(B)), (None, Some(1)));
        world.change(|_, _| A);
        assert_eq!((world.id(A), world.id(B)), (Some(1), None));
    }

    #[test]
    fn the_oldest_of_merged_groups_stays_and_undo_parts_them() {
        for (first, second) in [(A, B), (B, A)] {
            let mut world = World::of(&[(first, 5), (second, 3)]);
            let (a, b) = (world.id(A), world.id(B));
            world.change(|_, name| if name == A { B } else { name });
            assert_eq!((world.id(A), world.id(B)), (None, Some(1)));
            assert_eq!((world.leads_to(1), world.leads_to(2)), (B, B));
            let from_a = |at: usize| if first == A { at < 5 } else { at >= 5 };
            world.change(|at, name| if from_a(at) { A } else { name });
            assert_eq!((world.id(A), world.id(B)), (a, b));
        }
    }

    #[test]
    fn the_larger_part_keeps_the_group_and_the_other_names_its_origin() {
        for (moved, stays, parts) in [(6, B, A), (4, A, B)] {
            let mut world = World::of(&[(A, 10)]);
            world.change(|at, _| if at < moved { B } else { A });
            assert_eq!((world.id(stays), world.id(parts)), (Some(1), Some(2)));
            assert_eq!(world.groups.rows[&2].origin, Some(1));
            world.change(|_, _| A);
            assert_eq!((world.id(A), world.leads_to(2)), (Some(1), A));
        }
    }

    #[test]
    fn recent_crashes_decide_before_old_ones() {
        let mut groups = World::of(&[(A, 1)]).groups;
        let old = Weight {
            recent: 1,
            all: 100,
        };
        let new = Weight { recent: 2, all: 2 };
        groups.own.insert(A, old);
        groups.settle(&Flows::from([((A, B), new)]), || 2, 0);
        assert_eq!((groups.ids[&B], groups.ids[&A]), (1, 2));
    }

    #[test]
    fn a_part_that_joins_another_group_leaves_the_id_behind() {
        let mut world = World::of(&[(A, 10), (B, 1)]);
        world.change(|at, name| if at < 9 { B } else { name });
        assert_eq!((world.id(A), world.id(B)), (Some(1), Some(2)));
    }

    #[test]
    fn names_that_change_places_take_their_groups_along() {
        let mut world = World::of(&[(A, 2), (B, 3)]);
        let swap = |_: usize, name| if name == A { B } else { A };
        world.change(swap);
        assert_eq!((world.id(A), world.id(B)), (Some(2), Some(1)));
        world.change(swap);
        assert_eq!((world.id(A), world.id(B)), (Some(1), Some(2)));
        let mut world = World::of(&[(A, 2), (B, 3)]);
        world.change(|_, name| if name == A { B } else { C });
        assert_eq!((world.id(B), world.id(C)), (Some(1), Some(2)));
    }

    #[test]
    fn of_three_merged_groups_each_returns_alone() {
        let merged = || {
            let mut world = World::of(&[(A, 2), (B, 2)]);
            world.change(|_, _| C);
            assert_eq!((world.id(C), world.leads_to(2)), (Some(1), C));
            world
        };
        let mut world = merged();
        world.change(|at, name| if at < 2 { A } else { name });
        assert_eq!((world.id(A), world.id(C)), (Some(1), Some(2)));
        let mut world = merged();
        world.change(|at, name| if at >= 2 { B } else { name });
        assert_eq!((world.id(B), world.id(C)), (Some(2), Some(1)));
    }

    fn check(world: &World) {
        let used: BTreeSet<NameId> = world.crashes.iter().copied().collect();
        let ids: Vec<GroupId> = used
            .iter()
            .map(|name| world.id(*name).expect("a group"))
            .collect();
        let distinct: BTreeSet<GroupId> = ids.iter().copied().collect();
        assert_eq!(ids.len(), distinct.len(), "two signatures have one group");
        for name in &used {
            let id = world.groups.ids[name];
            assert_eq!(world.leads_to(id), *name, "group {id} of {name}");
            assert_eq!(world.groups.rows[&id].merged_into, None);
        }
        for id in 1..=world.next {
            let end = world.groups.resolve(id);
            assert_eq!(
                world.groups.rows[&end].merged_into, None,
                "{id} leads in a circle"
            );
        }
    }

    /// Numbers below a bound, always the same.
    fn numbers() -> impl FnMut(u32) -> u32 {
        let mut state = 7u64;
        move |below| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as u32 % below
        }
    }

    fn some_world(next: &mut impl FnMut(u32) -> u32) -> World {
        let counts: Vec<(NameId, usize)> = (0..1 + next(5))
            .map(|n| (n, 1 + next(4) as usize))
            .collect();
        World::of(&counts)
    }

    #[test]
    fn any_changes_leave_every_signature_with_one_group() {
        let mut next = numbers();
        for _ in 0..3_000 {
            let mut world = some_world(&mut next);
            for _ in 0..5 {
                let to: Vec<NameId> = world
                    .crashes
                    .iter()
                    .map(|name| if next(2) == 0 { *name } else { next(6) })
                    .collect();
                world.change(|at, _| to[at]);
                check(&world);
            }
        }
    }

    #[test]
    fn undoing_new_names_restores_all_groups() {
        let mut next = numbers();
        for _ in 0..3_000 {
            let mut world = some_world(&mut next);
            let (crashes, ids) = (world.crashes.clone(), world.groups.ids.clone());
            let names: Vec<NameId> = (0..8).map(|_| next(8)).collect();
            world.change(|_, name| names[name as usize]);
            check(&world);
            let between = world.groups.ids.clone();
            world.change(|at, _| crashes[at]);
            check(&world);
            assert_eq!(world.groups.ids, ids, "{names:?} {between:?}");
        }
    }
}
