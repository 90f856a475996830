//! What the counters count: crashes by system, and how long their processes had run.

use super::rows::{CountedRow, CounterRow, Stored, TallyRow};
use super::tables::{NameId, SightingKey};
use crate::clock::Day;
use crate::crash::facts::System;

/// The keys under which the counters count a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(super) product: NameId,
    pub(super) version: NameId,
    pub(super) build: NameId,
    pub(super) signature: NameId,
    pub(super) system: System,
    pub(super) uptime_s: Option<u64>,
}

impl Counted {
    pub(super) fn row(self) -> CountedRow {
        CountedRow {
            product: self.product,
            version: self.version,
            build: self.build,
            signature: self.signature,
            system: self.system as u8,
            uptime_s: self.uptime_s,
        }
    }

    pub(super) fn of_row(row: CountedRow) -> Self {
        let system = System::ALL.get(usize::from(row.system));
        Self {
            product: row.product,
            version: row.version,
            build: row.build,
            signature: row.signature,
            system: system.copied().unwrap_or_default(),
            uptime_s: row.uptime_s,
        }
    }

    pub(super) fn signature(&self) -> NameId {
        self.signature
    }

    /// The key of the crash's sighting, if it was received on that day.
    pub(super) fn sighting(&self, day: Day) -> SightingKey {
        (
            self.signature,
            day.0,
            self.product,
            self.version,
            self.build,
        )
    }
}

/// A number of crashes, and how long their processes had run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub crashes: u64,
    /// The crashes whose uptime is known.
    pub with_uptime: u64,
    /// Sum of the known uptimes, in seconds.
    pub uptime_s: u64,
}

impl Tally {
    pub fn add(&mut self, other: Tally) {
        self.crashes = self.crashes.saturating_add(other.crashes);
        self.with_uptime = self.with_uptime.saturating_add(other.with_uptime);
        self.uptime_s = self.uptime_s.saturating_add(other.uptime_s);
    }

    pub(super) fn remove(&mut self, other: Tally) {
        self.crashes = self.crashes.saturating_sub(other.crashes);
        self.with_uptime = self.with_uptime.saturating_sub(other.with_uptime);
        self.uptime_s = self.uptime_s.saturating_sub(other.uptime_s);
    }

    /// Mean time between failures: how long a process ran until it crashed, in seconds.
    pub(crate) fn mean_uptime_s(&self) -> Option<f64> {
        (self.with_uptime > 0).then(|| self.uptime_s as f64 / self.with_uptime as f64)
    }
}

/// The value of a row of `counters`: a tally for each of [`System::ALL`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tallies(pub(super) [Tally; System::ALL.len()]);

impl Stored for Tallies {
    type Row = CounterRow;

    fn to_row(&self) -> CounterRow {
        CounterRow(self.0.map(|tally| TallyRow {
            crashes: tally.crashes,
            with_uptime: tally.with_uptime,
            uptime_s: tally.uptime_s,
        }))
    }

    fn from_row(CounterRow(tallies): CounterRow) -> Self {
        Self(tallies.map(|row| Tally {
            crashes: row.crashes,
            with_uptime: row.with_uptime,
            uptime_s: row.uptime_s,
        }))
    }
}

impl Tallies {
    pub fn of(&self, system: System) -> Tally {
        self.0[system as usize]
    }

    /// The sum over all systems.
    pub fn total(&self) -> Tally {
        let mut total = Tally::default();
        self.0.iter().for_each(|tally| total.add(*tally));
        total
    }

    pub(crate) fn add(&mut self, other: &Tallies) {
        for (tally, other) in self.0.iter_mut().zip(other.0) {
            tally.add(other);
        }
    }
}
