//! A report in the log.

use serde::{Deserialize, Serialize};

use super::{CrashRow, Row};

/// A report as the closing record in the log has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ReportRow {
    pub(crate) seq: u64,
    /// Its payloads are the records before the closing record.
    pub(crate) crash: CrashRow,
    /// By which the same report is recognised if a client sends it again.
    pub(crate) digest: Option<u128>,
}

impl Row for ReportRow {
    const NAME: &'static str = "a report";
    const VERSION: u8 = 1;
}
