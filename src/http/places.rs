//! Limits of concurrent uploads.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::connections::Connections;
use crate::limits;

/// Limits concurrent uploads, which use disk space while they arrive and CPU time while they are unpacked.
pub(crate) struct Places {
    pub(super) coming_in: Arc<Semaphore>,
    pub(super) unpacked: Arc<Semaphore>,
}

impl Default for Places {
    fn default() -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        Self {
            coming_in: places(limits::UPLOADS_MAX),
            unpacked: places(limits::UPLOADS_UNPACKED_MAX),
        }
    }
}

impl Places {
    /// Waits for permission to receive an upload, and closes the slowest one if necessary.
    pub(super) async fn come_in(&self, connections: &Connections) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = self.coming_in.clone().try_acquire_owned() {
            return Some(place);
        }
        if !connections.close_slowest_upload() {
            return None;
        }
        let patience = Duration::from_secs(limits::UPLOAD_PLACE_SECONDS_MAX);
        let freed = timeout(patience, self.coming_in.clone().acquire_owned()).await;
        freed.ok()?.ok()
    }
}
