//! The raw crash: what a client posted, with its dialect mapped onto one vocabulary.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// Keys of annotations that the product itself reads, in the field's vocabulary.
pub mod key {
    pub const PRODUCT: &str = "ProductName";
    pub const VERSION: &str = "Version";
    pub const PROCESS_TYPE: &str = "ProcessType";
    pub const RELEASE_CHANNEL: &str = "ReleaseChannel";
    pub const BUILD_ID: &str = "BuildID";
}

/// The dump that every client sends under this name.
pub const MAIN_DUMP: &str = "upload_file_minidump";

/// Everything of a report but the bytes of its parts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RawCrash {
    /// Annotations by key, as sent and as mapped.
    pub annotations: BTreeMap<String, String>,
    pub metadata: Metadata,
}

impl RawCrash {
    /// An annotation's value, unless it is missing or blank.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations
            .get(key)
            .map(|v| v.trim())
            .filter(|v| !v.is_empty())
    }
}

/// What the collector adds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// Milliseconds since 1970, UTC.
    pub received_at_ms: i64,
    /// `json` where the annotations came in one JSON part, else `multipart`.
    pub payload: String,
    pub payload_compressed: bool,
    /// Bytes of the body after inflation.
    pub payload_bytes: u64,
    pub user_agent: Option<String>,
    /// What the collector noticed: oddities it repaired, parts it renamed.
    pub collector_notes: Vec<String>,
    /// Name of the throttle rule that decided.
    pub throttle_rule: String,
}

impl Metadata {
    pub fn received_at(&self) -> Timestamp {
        Timestamp::from_ms(self.received_at_ms)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PartKind {
    /// A minidump, by its name; its content may be anything.
    Dump,
    /// Any other file.
    Attachment,
}

/// A file of a report: its name and measure, not its bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Unique within the crash; for dumps the *dump name*.
    pub name: String,
    pub kind: PartKind,
    /// What the client called the file. Shown, never used as a path.
    pub file_name: Option<String>,
    /// What the client claimed. Never trusted.
    pub content_type: Option<String>,
    /// Bytes as they came.
    pub bytes: u64,
    pub sha256: [u8; 32],
}

impl Part {
    /// Lower-case hexadecimal of the SHA-256 of the bytes as they came.
    pub fn sha256_hex(&self) -> String {
        self.sha256.iter().map(|b| format!("{b:02x}")).collect()
    }
}
