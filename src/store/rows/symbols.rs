//! A module that has symbols.

use serde::{Deserialize, Serialize};

use super::Row;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KindRow {
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
pub struct ContentRow {
    pub functions: u64,
    pub lines: u64,
    pub inlines: u64,
    pub publics: u64,
    pub cfi: u64,
    pub win: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadRow {
    pub sha256: String,
    pub kind: KindRow,
    pub name: String,
    pub holds_code: bool,
    pub bytes: u64,
    pub text_bytes: u64,
    pub stored_bytes: u64,
    pub added_at_ms: i64,
    pub content: ContentRow,
    pub conflict: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleRow {
    pub debug_file: String,
    pub debug_id: String,
    pub os: String,
    pub arch: String,
    pub code_file: String,
    pub code_id: String,
    pub uploads: Vec<UploadRow>,
    /// Indices of uploads.
    pub symbols_from: u64,
    pub unwind_from: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRow {
    pub product: String,
    pub version: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SymbolsRow {
    pub module: ModuleRow,
    /// The day on which a walk last used it.
    pub used_at_ms: Option<i64>,
    pub releases: Vec<ReleaseRow>,
}

impl Row for SymbolsRow {
    const NAME: &'static str = "a module's symbols";
    const VERSION: u8 = 1;
}
