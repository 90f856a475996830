//! The progress of the indexer.

/// How far the index is behind the store, for the status page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct IndexerStatus {
    /// Crashes that a search can find.
    pub(crate) documents: u64,
    /// The last committed change.
    pub(crate) change: u64,
    /// Number of the store's changes after that one.
    pub(crate) changes_waiting: u64,
    /// Set while an index is built from the store's rows.
    pub(crate) building: Option<Building>,
    /// Why the indexer pauses; `None` if it does not.
    pub(crate) error: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Building {
    /// Rows written since the server started.
    pub rows: u64,
    /// Rows in the store when the build began.
    pub(crate) rows_total: u64,
    /// True if another, complete index answers searches. If false, searches find too little.
    pub(crate) is_beside: bool,
}
