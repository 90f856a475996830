//! A bug of a tracker.

use serde::{Deserialize, Serialize};

use super::Row;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BugRow {
    pub(crate) url: String,
    pub(crate) summary: String,
    pub(crate) status: String,
    pub(crate) resolution: String,
    pub(crate) is_open: Option<bool>,
    /// When the tracker was last asked; `None` before the first time.
    pub(crate) updated_at_ms: Option<i64>,
}

impl Row for BugRow {
    const NAME: &'static str = "a bug";
    const VERSION: u8 = 1;
}
