//! Builds a complete index without a server.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::feed::Feed;
use super::shared::{Broken, Shared};
use super::status::Building;
use crate::index::Index;
use crate::store::Store;

/// Builds a new index beside the current one and puts it in place, for a store that no server has open.
/// After a kill the old index remains, and the next server continues the build. `tell` is called from time
/// to time.
///
/// # Errors
/// The store cannot be read, or the index cannot be written. The old index remains.
pub fn rebuild(
    store: &Arc<Store>,
    index: &Arc<Index>,
    mut tell: impl FnMut(Building),
) -> Result<Building, String> {
    let shared = Shared::new(store.clone(), index.clone(), Arc::default());
    shared.is_asked.store(true, Ordering::SeqCst);
    let mut build = || -> Result<Building, Broken> {
        let mut feed = Feed::open(&shared)?;
        while feed.advance()? || feed.is_building() {
            if feed.commit_due() {
                feed.commit()?;
                tell(feed.building);
            }
        }
        feed.commit()?;
        let building = feed.building;
        feed.finish()?;
        Ok(building)
    };
    build().map_err(|broken| broken.to_string())
}
