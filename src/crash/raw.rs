//! The raw crash: what a client posted, with its own names mapped to the usual ones.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// Keys of annotations that the server itself reads, in the field's vocabulary.
pub(crate) mod key {
    pub(crate) const PRODUCT: &str = "ProductName";
    pub(crate) const VERSION: &str = "Version";
    pub(crate) const PROCESS_TYPE: &str = "ProcessType";
    pub(crate) const RELEASE_CHANNEL: &str = "ReleaseChannel";
    pub(crate) const BUILD_ID: &str = "BuildID";
}

/// The name under which every client sends its dump.
pub(crate) const MAIN_DUMP: &str = "upload_file_minidump";

/// Everything in a report except the bytes of its parts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RawCrash {
    /// Annotations by key, as sent and as mapped.
    pub annotations: BTreeMap<String, String>,
    pub metadata: Metadata,
}

impl RawCrash {
    /// An annotation's value, unless it is missing or blank.
    pub(crate) fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations
            .get(key)
            .map(|v| v.trim())
            .filter(|v| !v.is_empty())
    }
}

/// Data that the collector adds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// Milliseconds since 1970, UTC.
    pub received_at_ms: i64,
    /// `json` if the annotations came in one JSON part, otherwise `multipart`.
    pub(crate) payload: String,
    pub(crate) payload_compressed: bool,
    /// Bytes of the body after decompression.
    pub(crate) payload_bytes: u64,
    pub user_agent: Option<String>,
    /// Irregularities that the collector noticed: what it repaired, parts that it renamed.
    pub collector_notes: Vec<String>,
    /// Name of the throttle rule that decided.
    pub throttle_rule: String,
    /// Set if the installation crashes in a loop: the seconds within which its last crashes arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) crash_loop_s: Option<u64>,
}

impl Metadata {
    pub(crate) fn received_at(&self) -> Timestamp {
        Timestamp::from_ms(self.received_at_ms)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PartKind {
    /// A minidump by its name. Its content may be anything.
    Dump,
    /// Any other file.
    Attachment,
}

/// A file of a report: its name, size and hash, not its bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Unique within the crash. For dumps, the *dump name*.
    pub name: String,
    pub kind: PartKind,
    /// The client's name of the file. Shown, but never used as a path.
    pub file_name: Option<String>,
    /// The client's claim. Never trusted.
    pub content_type: Option<String>,
    /// Bytes as received.
    pub bytes: u64,
    pub sha256: [u8; 32],
}

impl Part {
    /// SHA-256 of the bytes as received, in lower-case hexadecimal.
    pub(crate) fn sha256_hex(&self) -> String {
        self.sha256.iter().map(|b| format!("{b:02x}")).collect()
    }
}
