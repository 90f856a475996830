//! What signatures are made from, and the lists that make them.

use serde::{Deserialize, Serialize};

use super::{Body, Row};
use crate::store::error::StoreError;

/// The fields of a crash that its signature is made from; frames are numbers of the table `frames`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputRow {
    pub(crate) product: String,
    pub(crate) crashing: Vec<u32>,
    pub(crate) first: Option<Vec<u32>>,
    pub(crate) is_windows: bool,
    pub(crate) last_error: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) oom_allocation_size: Option<i64>,
    pub(crate) js_large_allocation_failure: Option<String>,
    pub(crate) abort_message: Option<String>,
    pub(crate) async_shutdown_timeout: Option<String>,
    pub(crate) ipc_channel_error: Option<String>,
    pub(crate) ipc_message_name: Option<String>,
    pub(crate) has_browser_dump: bool,
    pub(crate) hang: Option<String>,
    pub(crate) mdsw_status_string: Option<String>,
    pub(crate) java_stack_trace: Option<String>,
    pub(crate) java_exception: Option<String>,
}

impl Row for InputRow {
    const NAME: &'static str = "a signature's input";
    const VERSION: u8 = 1;
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InlineRow {
    pub(crate) function: Option<String>,
    pub(crate) file: Option<String>,
    pub(crate) line: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameRow {
    pub(crate) function: Option<String>,
    pub(crate) module: Option<String>,
    pub(crate) file: Option<String>,
    pub(crate) line: Option<u64>,
    pub(crate) module_offset: Option<String>,
    pub(crate) offset: Option<String>,
    pub(crate) inlines: Vec<InlineRow>,
    pub(crate) unloaded_module: Option<Option<String>>,
    pub(crate) location: Option<LocationRow>,
}

/// Whose folder the module of a frame is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum LocationRow {
    Program,
    System,
    Driver,
    Other,
}

/// Version 1 had no location.
#[derive(Deserialize)]
struct FrameRowV1 {
    function: Option<String>,
    module: Option<String>,
    file: Option<String>,
    line: Option<u64>,
    module_offset: Option<String>,
    offset: Option<String>,
    inlines: Vec<InlineRow>,
    unloaded_module: Option<Option<String>>,
}

impl From<FrameRowV1> for FrameRow {
    fn from(old: FrameRowV1) -> Self {
        FrameRow {
            function: old.function,
            module: old.module,
            file: old.file,
            line: old.line,
            module_offset: old.module_offset,
            offset: old.offset,
            inlines: old.inlines,
            unloaded_module: old.unloaded_module,
            location: None,
        }
    }
}

impl Row for FrameRow {
    const NAME: &'static str = "a frame";
    const VERSION: u8 = 2;

    fn read_older(version: u8, body: Body<'_>) -> Option<Result<Self, StoreError>> {
        (version == 1).then(|| body.read::<FrameRowV1>().map(Self::from))
    }
}

/// What stays the same when signatures change. Signatures are numbers of the table `names`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GroupRow {
    /// Its signature. Of a group that is part of another one: the signature at which it became that.
    pub(crate) name: u32,
    /// The group that it is part of.
    pub(crate) merged_into: Option<u64>,
    /// The group from which its first crashes came.
    pub(crate) origin: Option<u64>,
    pub(crate) began_ms: i64,
    /// The first crash under signatures that the group has left.
    pub(crate) first_ms: Option<i64>,
}

impl Row for GroupRow {
    const NAME: &'static str = "a group";
    const VERSION: u8 = 1;
}

/// A revision of the signature lists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevisionRow {
    /// The files of the lists and their texts. Files that are as they were built in may be left out.
    pub(crate) lists: Vec<(String, String)>,
    pub(crate) author: String,
    pub(crate) at_ms: i64,
    pub(crate) comment: String,
    /// The revision whose lists these are again.
    pub(crate) restores: Option<u64>,
}

/// Version 1 had five lists, in this order.
#[derive(Deserialize)]
struct RevisionRowV1 {
    texts: [String; 5],
    author: String,
    at_ms: i64,
    comment: String,
    restores: Option<u64>,
}

const FILES_V1: [&str; 5] = [
    "irrelevant_signature_re.txt",
    "prefix_signature_re.txt",
    "signature_sentinels.txt",
    "signatures_with_line_numbers_re.txt",
    "site_rules.txt",
];

impl From<RevisionRowV1> for RevisionRow {
    fn from(old: RevisionRowV1) -> Self {
        let files = FILES_V1.into_iter().map(str::to_owned);
        RevisionRow {
            lists: files.zip(old.texts).collect(),
            author: old.author,
            at_ms: old.at_ms,
            comment: old.comment,
            restores: old.restores,
        }
    }
}

impl Row for RevisionRow {
    const NAME: &'static str = "a revision of the lists";
    const VERSION: u8 = 2;

    fn read_older(version: u8, body: Body<'_>) -> Option<Result<Self, StoreError>> {
        (version == 1).then(|| body.read::<RevisionRowV1>().map(Self::from))
    }
}

/// How far crashes got a new signature after a revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResignRow {
    pub begun_at_ms: i64,
    pub ended_at_ms: Option<i64>,
    /// Whether a newer revision took over before the end.
    pub superseded: bool,
    /// The last crash that was looked at.
    pub(crate) cursor: u64,
    /// Crashes that had a signature when it began.
    pub total: u64,
    pub looked_at: u64,
    /// Crashes whose signature changed.
    pub changed: u64,
    /// Crashes whose payloads cannot be read.
    pub unreadable: u64,
}

impl Row for ResignRow {
    const NAME: &'static str = "a re-sign";
    const VERSION: u8 = 1;
}
