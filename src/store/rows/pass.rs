//! A pass of retention.

use serde::{Deserialize, Serialize};

use super::Row;

/// A completed pass, with the settings that it went by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PassRow {
    pub(crate) at_ms: i64,
    pub(crate) processed_days: u32,
    pub(crate) failed_days: u32,
    pub(crate) symbols_unused_days: u32,
    pub(crate) symbols_days: u32,
}

impl Row for PassRow {
    const NAME: &'static str = "a pass of retention";
    const VERSION: u8 = 1;
}
