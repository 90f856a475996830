//! What is stored with each commit: the progress of the index, and what it knows.

use serde::{Deserialize, Serialize};

use super::keys::Keys;
use super::known::Known;

/// The progress of the index. It is committed together with the documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermark {
    /// Every change of the store up to this one is in the index.
    pub change: u64,
    /// While the index is built from the store's rows: rows up to this sequence number are done.
    pub rebuilt_to: Option<u64>,
}

/// The payload of a commit.
#[derive(Serialize, Deserialize)]
pub(super) struct Payload {
    pub(super) store: String,
    #[serde(flatten)]
    pub(super) watermark: Watermark,
    pub(super) known: Known,
    /// Missing in an index of an earlier version.
    #[serde(default)]
    pub(super) keys: Option<Keys>,
}

/// The content of a commit's payload.
pub(super) struct Said {
    pub(crate) watermark: Watermark,
    pub(crate) known: Known,
    pub(crate) keys: Option<Keys>,
}

/// Reads a commit's payload; `None` if it belongs to another store or is not ours.
pub(super) fn read_payload(text: &str, store_id: u128) -> Option<Said> {
    let payload: Payload = serde_json::from_str(text).ok()?;
    let is_ours = payload.store == format!("{store_id:032x}");
    is_ours.then_some(Said {
        watermark: payload.watermark,
        known: payload.known,
        keys: payload.keys,
    })
}
