//! Crashes by day, version, build and operating system.

use serde::{Deserialize, Serialize};

use super::Row;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TallyRow {
    pub(crate) crashes: u64,
    pub(crate) with_uptime: u64,
    pub(crate) uptime_s: u64,
}

/// A tally for Windows, macOS, Linux and any other system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterRow(pub(crate) [TallyRow; 4]);

impl Row for CounterRow {
    const NAME: &'static str = "a counter";
    const VERSION: u8 = 1;
}
