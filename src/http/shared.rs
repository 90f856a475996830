//! What all requests share.

use std::sync::Arc;

use super::budget::Budget;
use super::connections::Connections;
use super::listener::Tls;
use super::places::Places;
use crate::app::App;

pub(super) struct Shared {
    pub(super) app: Arc<App>,
    pub(super) connections: Arc<Connections>,
    /// The certificate, if one is configured.
    pub(super) tls: Option<Arc<Tls>>,
    /// Memory that all incoming reports use together.
    pub(super) intake: Budget,
    pub(super) uploads: Places,
}
