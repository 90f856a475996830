//! A set of crashes that are reprocessed for one reason.

use serde::{Deserialize, Serialize};

use super::{Body, Row};
use crate::store::StoreError;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReprocessingRow {
    /// Symbols that came, each as a `Lack` is written.
    pub(crate) modules: Vec<String>,
    pub(crate) begun_at_ms: i64,
    pub(crate) ended_at_ms: Option<i64>,
    /// Crashes that lacked one of the modules.
    pub(crate) affected: u64,
    pub(crate) done: u64,
    /// Crashes that lack less than before. If somebody asked for it: crashes with another signature
    /// than before.
    pub(crate) improved: u64,
    /// The search whose crashes somebody asked for; `modules` is empty then.
    pub(crate) asked: Option<String>,
}

impl Row for ReprocessingRow {
    const NAME: &'static str = "a reprocessing";
    const VERSION: u8 = 2;

    fn read_older(version: u8, body: Body<'_>) -> Option<Result<Self, StoreError>> {
        (version == 1).then(|| body.read::<ReprocessingRowV1>().map(Self::from))
    }
}

/// Before anybody could ask for it by a search.
#[derive(Serialize, Deserialize)]
pub(super) struct ReprocessingRowV1 {
    pub(crate) modules: Vec<String>,
    pub(crate) begun_at_ms: i64,
    pub(crate) ended_at_ms: Option<i64>,
    pub(crate) affected: u64,
    pub(crate) done: u64,
    pub(crate) improved: u64,
}

impl From<ReprocessingRowV1> for ReprocessingRow {
    fn from(old: ReprocessingRowV1) -> Self {
        Self {
            modules: old.modules,
            begun_at_ms: old.begun_at_ms,
            ended_at_ms: old.ended_at_ms,
            affected: old.affected,
            done: old.done,
            improved: old.improved,
            asked: None,
        }
    }
}
