//! A bug of a tracker.

use serde::{Deserialize, Serialize};

use super::Row;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BugRow {
    pub url: String,
    pub summary: String,
    pub status: String,
    pub resolution: String,
    pub is_open: Option<bool>,
    /// When the tracker was last asked; `None` before the first time.
    pub updated_at_ms: Option<i64>,
}

impl Row for BugRow {
    const NAME: &'static str = "a bug";
    const VERSION: u8 = 1;
}
