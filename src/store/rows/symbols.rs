//! A module that has symbols.

use serde::{Deserialize, Serialize};

use super::{Body, Row};
use crate::store::error::StoreError;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum KindRow {
    Sym,
    Elf,
    Pdb,
    Pe,
    MachO,
    Split,
    Sources,
}

/// Records of a symbol file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ContentRow {
    pub(crate) functions: u64,
    pub(crate) lines: u64,
    pub(crate) inlines: u64,
    pub(crate) publics: u64,
    pub(crate) cfi: u64,
    pub(crate) win: u64,
}

/// Bytes of code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CoverageRow {
    pub(crate) code: u64,
    pub(crate) named: u64,
    pub(crate) lines: u64,
    pub(crate) unwind: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UploadRow {
    pub(crate) sha256: String,
    pub(crate) kind: KindRow,
    pub(crate) name: String,
    pub(crate) holds_code: bool,
    pub(crate) bytes: u64,
    pub(crate) text_bytes: u64,
    pub(crate) stored_bytes: u64,
    pub(crate) added_at_ms: i64,
    pub(crate) content: ContentRow,
    pub(crate) conflict: bool,
    pub(crate) coverage: Option<CoverageRow>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ModuleRow {
    pub(crate) debug_file: String,
    pub(crate) debug_id: String,
    pub(crate) os: String,
    pub(crate) arch: String,
    pub(crate) code_file: String,
    pub(crate) code_id: String,
    pub(crate) uploads: Vec<UploadRow>,
    /// Indices of uploads.
    pub(crate) symbols_from: u64,
    pub(crate) unwind_from: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReleaseRow {
    pub(crate) product: String,
    pub(crate) version: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SymbolsRow {
    pub(crate) module: ModuleRow,
    /// The day on which a walk last used it.
    pub(crate) used_at_ms: Option<i64>,
    pub(crate) releases: Vec<ReleaseRow>,
    /// Whether all of it came from symbol servers.
    pub(crate) is_fetched: bool,
}

impl Row for SymbolsRow {
    const NAME: &'static str = "a module's symbols";
    const VERSION: u8 = 3;

    fn read_older(version: u8, body: Body<'_>) -> Option<Result<Self, StoreError>> {
        match version {
            1 => Some(body.read::<SymbolsRowV1>().map(Self::from)),
            2 => Some(body.read::<SymbolsRowV2>().map(Self::from)),
            _ => None,
        }
    }
}

/// Before it was stored who sent the symbols.
#[derive(Deserialize)]
struct SymbolsRowV2 {
    module: ModuleRow,
    used_at_ms: Option<i64>,
    releases: Vec<ReleaseRow>,
}

impl From<SymbolsRowV2> for SymbolsRow {
    fn from(row: SymbolsRowV2) -> Self {
        Self {
            module: row.module,
            used_at_ms: row.used_at_ms,
            releases: row.releases,
            is_fetched: false,
        }
    }
}

/// Before the coverage of uploads.
#[derive(Serialize, Deserialize)]
pub(super) struct SymbolsRowV1 {
    pub(crate) module: ModuleRowV1,
    pub(crate) used_at_ms: Option<i64>,
    pub(crate) releases: Vec<ReleaseRow>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ModuleRowV1 {
    pub(crate) debug_file: String,
    pub(crate) debug_id: String,
    pub(crate) os: String,
    pub(crate) arch: String,
    pub(crate) code_file: String,
    pub(crate) code_id: String,
    pub(crate) uploads: Vec<UploadRowV1>,
    pub(crate) symbols_from: u64,
    pub(crate) unwind_from: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct UploadRowV1 {
    pub(crate) sha256: String,
    pub(crate) kind: KindRow,
    pub(crate) name: String,
    pub(crate) holds_code: bool,
    pub(crate) bytes: u64,
    pub(crate) text_bytes: u64,
    pub(crate) stored_bytes: u64,
    pub(crate) added_at_ms: i64,
    pub(crate) content: ContentRow,
    pub(crate) conflict: bool,
}

impl From<SymbolsRowV1> for SymbolsRow {
    fn from(row: SymbolsRowV1) -> Self {
        let module = row.module;
        Self {
            module: ModuleRow {
                debug_file: module.debug_file,
                debug_id: module.debug_id,
                os: module.os,
                arch: module.arch,
                code_file: module.code_file,
                code_id: module.code_id,
                uploads: module.uploads.into_iter().map(UploadRow::from).collect(),
                symbols_from: module.symbols_from,
                unwind_from: module.unwind_from,
            },
            used_at_ms: row.used_at_ms,
            releases: row.releases,
            is_fetched: false,
        }
    }
}

impl From<UploadRowV1> for UploadRow {
    fn from(row: UploadRowV1) -> Self {
        Self {
            sha256: row.sha256,
            kind: row.kind,
            name: row.name,
            holds_code: row.holds_code,
            bytes: row.bytes,
            text_bytes: row.text_bytes,
            stored_bytes: row.stored_bytes,
            added_at_ms: row.added_at_ms,
            content: row.content,
            conflict: row.conflict,
            coverage: None,
        }
    }
}
