//! What the indexer thread and its owner share, and the errors that interrupt indexing.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::status::Building;
use crate::index::{Index, IndexError, Watermark};
use crate::metrics::Metrics;
use crate::store::{Store, StoreError};
use parking_lot::Mutex;

pub(super) struct Shared {
    pub(super) store: Arc<Store>,
    pub(super) index: Arc<Index>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) building: Mutex<Option<Building>>,
    pub(super) error: Mutex<Option<String>>,
    /// True if a rebuild was requested.
    pub(super) is_asked: AtomicBool,
}

/// The error that closed a writer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error(transparent)]
    Index(#[from] IndexError),
    /// An error of the next index, which is built beside the current one.
    #[error("{0}")]
    Next(#[source] IndexError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Shared {
    pub(super) fn new(store: Arc<Store>, index: Arc<Index>, metrics: Arc<Metrics>) -> Self {
        Self {
            store,
            index,
            metrics,
            building: Mutex::default(),
            error: Mutex::default(),
            is_asked: AtomicBool::new(false),
        }
    }

    pub(super) fn set_building(&self, building: Option<Building>) {
        *self.building.lock() = building;
    }

    /// True if the feed of changes continues after this mark.
    pub(super) fn continues(&self, mark: Watermark) -> Result<bool, Broken> {
        let (last, first) = self.store.change_range()?;
        let has_next = first.is_some_and(|first| first <= mark.change + 1);
        Ok(mark.change == last || has_next && mark.change < last)
    }
}
