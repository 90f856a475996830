//! The modules that have symbols, and their use by crashes.
//!
//! ```text
//! symbols        debug id                 -> SymbolsRow
//! symbol_names   (debug file, debug id)   -> ()        the file in lower case
//! symbol_codes   (code id, debug id)      -> ()        the id in lower case
//! symbol_pins    (product, version)       -> ()        releases whose symbols are never deleted
//! symbol_misses  (source, debug id)       -> ms        the source did not have the module
//! ```
//!
//! The row of a module has a copy of its folder's `module.json`, so that lists and look-ups by other names
//! read no files. If the two differ, the folder is right. Only this table has the time when a module was last
//! used, and the releases that use it.

use redb::{ReadTransaction, ReadableTable};

use super::batch::Batch;
use super::command::Command;
use super::error::StoreError;
use super::handle::Store;
use super::rows::{
    self, ContentRow, CoverageRow, KindRow, ModuleRow, ReleaseRow, Stored, SymbolsRow, UploadRow,
};
use super::tables::*;
use super::txn::Txn;
use crate::clock::{DAY_MS, Timestamp};
use crate::crash::lack::{Lack, What};
use crate::crash::symbols::{Content, Coverage, Kind, Module, Upload};

/// Releases that are kept for a module.
const RELEASES_MAX: usize = 64;

/// A product and one of its versions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Release {
    pub product: String,
    pub version: String,
}

/// The row of a module that has symbols.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSymbols {
    pub module: Module,
    /// When a walk last used it, accurate to the day.
    pub used_at_ms: Option<i64>,
    /// Releases whose crashes used it, and releases for which it was uploaded.
    pub releases: Vec<Release>,
    /// Whether all of it came from symbol servers, so that nobody who uses this server builds the module.
    pub(crate) is_fetched: bool,
}

impl StoredSymbols {
    fn add_release(&mut self, release: &Release) -> bool {
        let is_new = !release.product.is_empty()
            && !self.releases.contains(release)
            && self.releases.len() < RELEASES_MAX;
        if is_new {
            self.releases.push(release.clone());
        }
        is_new
    }

    /// When it was last used or uploaded.
    pub(crate) fn touched_at_ms(&self) -> i64 {
        let added = self.module.uploads.iter().map(|upload| upload.added_at_ms);
        added.chain(self.used_at_ms).max().unwrap_or(0)
    }
}

/// One change of symbols. Applying a change twice has the same effect as once.
#[derive(Clone, Debug)]
pub enum SymbolChange {
    /// Stores the content of a module's folder.
    Put {
        module: Module,
        release: Option<Release>,
    },
    /// The same for a module that came from a symbol server.
    Fetched(Module),
    /// The module does not exist any more.
    Forget {
        debug_id: String,
    },
    Pin(Release),
    Unpin(Release),
    /// A source was asked for a module and did not have it.
    Missed {
        source: String,
        debug_id: String,
        at: Timestamp,
    },
    /// Deletes the misses up to this time, so that the sources are asked again.
    ForgetMisses {
        up_to: Timestamp,
    },
}

impl Store {
    /// Changes symbols, all in one transaction.
    ///
    /// # Errors
    /// The store cannot be written, or the row of one of the modules is damaged.
    pub fn change_symbols(&self, changes: Vec<SymbolChange>) -> Result<(), StoreError> {
        self.ask(ChangeSymbols(changes))
    }

    /// The module with this debug id, which must be in upper case.
    ///
    /// # Errors
    /// The store cannot be read, or the row of this module is damaged.
    pub fn symbols_of(&self, debug_id: &str) -> Result<Option<StoredSymbols>, StoreError> {
        self.read(|read| row(read, debug_id))
    }

    /// Whether somebody uploaded symbols for this debug id. Symbols from symbol servers do not count, and neither
    /// does a row that cannot be read.
    pub(crate) fn has_uploaded(&self, debug_id: &str) -> bool {
        let row = self.symbols_of(&debug_id.to_ascii_uppercase());
        matches!(row, Ok(Some(row)) if !row.is_fetched)
    }

    /// All modules with a debug file of this name, in any case.
    ///
    /// # Errors
    /// The store cannot be read, or the row of one of these modules is damaged.
    pub fn symbols_named(&self, debug_file: &str) -> Result<Vec<StoredSymbols>, StoreError> {
        let name = debug_file.to_lowercase();
        self.read(|read| rows_by(read, SYMBOL_NAMES, &name))
    }

    /// All modules whose program has this code id, which must be in lower case.
    ///
    /// # Errors
    /// The store cannot be read, or the row of one of these modules is damaged.
    pub fn symbols_by_code(&self, code_id: &str) -> Result<Vec<StoredSymbols>, StoreError> {
        self.read(|read| rows_by(read, SYMBOL_CODES, code_id))
    }

    /// Every module, by debug id.
    ///
    /// # Errors
    /// The store cannot be read, or the row of a module is damaged.
    pub fn all_symbols(&self) -> Result<Vec<StoredSymbols>, StoreError> {
        self.read(|read| {
            let mut rows = Vec::new();
            for entry in read.open_table(SYMBOLS)?.iter()? {
                rows.push(rows::decode(entry?.1.value())?);
            }
            Ok(rows)
        })
    }

    /// The releases whose symbols are never deleted.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn pinned_releases(&self) -> Result<Vec<Release>, StoreError> {
        self.read(|read| {
            let mut pins = Vec::new();
            for entry in read.open_table(SYMBOL_PINS)?.iter()? {
                let key = entry?.0;
                let (product, version) = key.value();
                pins.push(Release {
                    product: product.to_owned(),
                    version: version.to_owned(),
                });
            }
            Ok(pins)
        })
    }

    /// When a source was last asked for a module that it did not have.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn missed_at(&self, source: &str, debug_id: &str) -> Result<Option<Timestamp>, StoreError> {
        self.read(|read| {
            let at = read.open_table(SYMBOL_MISSES)?.get((source, debug_id))?;
            Ok(at.map(|at| Timestamp::from_ms(at.value())))
        })
    }
}

fn row(read: &ReadTransaction, debug_id: &str) -> Result<Option<StoredSymbols>, StoreError> {
    let found = read.open_table(SYMBOLS)?.get(debug_id)?;
    found.map(|row| rows::decode(row.value())).transpose()
}

fn rows_by(
    read: &ReadTransaction,
    table: redb::TableDefinition<(&str, &str), ()>,
    name: &str,
) -> Result<Vec<StoredSymbols>, StoreError> {
    let mut rows = Vec::new();
    for entry in read.open_table(table)?.range((name, "")..)? {
        let key = entry?.0;
        let (of, debug_id) = key.value();
        if of != name {
            break;
        }
        rows.extend(row(read, debug_id)?);
    }
    Ok(rows)
}

/// All of the changes or none.
struct ChangeSymbols(Vec<SymbolChange>);

impl Command for ChangeSymbols {
    type Answer = ();

    fn apply(&self, txn: &mut Txn, _: &mut Batch) -> Result<(), StoreError> {
        txn.change_symbols(&self.0)
    }
}

impl Txn<'_> {
    fn change_symbols(&mut self, changes: &[SymbolChange]) -> Result<(), StoreError> {
        for change in changes {
            match change {
                SymbolChange::Put { module, release } => {
                    self.put_symbols(module, release.as_ref(), false)?
                }
                SymbolChange::Fetched(module) => self.put_symbols(module, None, true)?,
                SymbolChange::Forget { debug_id } => self.forget_symbols(debug_id)?,
                SymbolChange::Pin(release) => {
                    let key = (release.product.as_str(), release.version.as_str());
                    self.symbol_pins.insert(key, ())?;
                }
                SymbolChange::Unpin(release) => {
                    let key = (release.product.as_str(), release.version.as_str());
                    self.symbol_pins.remove(key)?;
                }
                SymbolChange::Missed {
                    source,
                    debug_id,
                    at,
                } => {
                    let key = (source.as_str(), debug_id.as_str());
                    self.symbol_misses.insert(key, at.ms())?;
                }
                SymbolChange::ForgetMisses { up_to } => {
                    let up_to = up_to.ms();
                    self.symbol_misses.retain(|_, at| at > up_to)?;
                }
            }
        }
        Ok(())
    }

    /// A module. One with a damaged row is like an unknown one: the next pass of retention writes its row
    /// again.
    fn symbols_row(&self, debug_id: &str) -> Result<Option<StoredSymbols>, StoreError> {
        let found = self.symbols.get(debug_id)?;
        Ok(found.and_then(|row| rows::decode_or_skip(row.value())))
    }

    fn put_symbols(
        &mut self,
        module: &Module,
        release: Option<&Release>,
        is_fetched: bool,
    ) -> Result<(), StoreError> {
        let id = module.debug_id.as_str();
        let before = self.symbols_row(id)?;
        let mut row = StoredSymbols {
            module: module.clone(),
            used_at_ms: before.as_ref().and_then(|before| before.used_at_ms),
            releases: before.as_ref().map_or(Vec::new(), |b| b.releases.clone()),
            is_fetched: is_fetched && before.as_ref().is_none_or(|before| before.is_fetched),
        };
        if let Some(release) = release {
            row.add_release(release);
        }
        if let Some(before) = before {
            self.forget_names(&before.module)?;
        }
        self.symbol_names
            .insert((module.debug_file.to_lowercase().as_str(), id), ())?;
        if !module.code_id.is_empty() {
            self.symbol_codes
                .insert((module.code_id.as_str(), id), ())?;
        }
        self.symbols.insert(id, rows::encode(&row).as_slice())?;
        Ok(())
    }

    fn forget_symbols(&mut self, debug_id: &str) -> Result<(), StoreError> {
        if let Some(row) = self.symbols_row(debug_id)? {
            self.forget_names(&row.module)?;
        }
        self.symbols.remove(debug_id)?;
        Ok(())
    }

    fn forget_names(&mut self, module: &Module) -> Result<(), StoreError> {
        let id = module.debug_id.as_str();
        let name = module.debug_file.to_lowercase();
        self.symbol_names.remove((name.as_str(), id))?;
        self.symbol_codes.remove((module.code_id.as_str(), id))?;
        Ok(())
    }

    /// Stores that a crash's walk used these modules. Returns what their symbols lack.
    pub(super) fn use_symbols(
        &mut self,
        used: &[(String, String)],
        release: &Release,
        now: Timestamp,
    ) -> Result<Vec<Lack>, StoreError> {
        let mut lacks = Vec::new();
        for (debug_file, debug_id) in used {
            let debug_id = debug_id.to_ascii_uppercase();
            let Some(mut row) = self.symbols_row(&debug_id)? else {
                continue;
            };
            let content = row.module.content();
            for (what, is_there) in [
                (What::Functions, content.has_functions()),
                (What::Unwind, content.has_unwind()),
            ] {
                if !is_there {
                    lacks.push(Lack {
                        debug_file: debug_file.clone(),
                        debug_id: debug_id.clone(),
                        what,
                    });
                }
            }
            let is_first_today = row
                .used_at_ms
                .is_none_or(|at| at.div_euclid(DAY_MS) != now.ms().div_euclid(DAY_MS));
            if row.add_release(release) || is_first_today {
                row.used_at_ms = Some(now.ms());
                let row = rows::encode(&row);
                self.symbols.insert(debug_id.as_str(), row.as_slice())?;
            }
        }
        Ok(lacks)
    }
}

impl Stored for StoredSymbols {
    type Row = SymbolsRow;

    fn to_row(&self) -> SymbolsRow {
        let module = &self.module;
        let release = |release: &Release| ReleaseRow {
            product: release.product.clone(),
            version: release.version.clone(),
        };
        SymbolsRow {
            module: ModuleRow {
                debug_file: module.debug_file.clone(),
                debug_id: module.debug_id.clone(),
                os: module.os.clone(),
                arch: module.arch.clone(),
                code_file: module.code_file.clone(),
                code_id: module.code_id.clone(),
                uploads: module.uploads.iter().map(upload_row).collect(),
                symbols_from: module.symbols_from as u64,
                unwind_from: module.unwind_from as u64,
            },
            used_at_ms: self.used_at_ms,
            releases: self.releases.iter().map(release).collect(),
            is_fetched: self.is_fetched,
        }
    }

    fn from_row(row: SymbolsRow) -> Self {
        let module = row.module;
        let release = |release: ReleaseRow| Release {
            product: release.product,
            version: release.version,
        };
        // `Module::is_sound` detects an index beyond the uploads.
        let index = |index: u64| usize::try_from(index).unwrap_or(usize::MAX);
        Self {
            module: Module {
                debug_file: module.debug_file,
                debug_id: module.debug_id,
                os: module.os,
                arch: module.arch,
                code_file: module.code_file,
                code_id: module.code_id,
                uploads: module.uploads.into_iter().map(upload).collect(),
                symbols_from: index(module.symbols_from),
                unwind_from: index(module.unwind_from),
            },
            used_at_ms: row.used_at_ms,
            releases: row.releases.into_iter().map(release).collect(),
            is_fetched: row.is_fetched,
        }
    }
}

fn upload_row(upload: &Upload) -> UploadRow {
    let content = upload.content;
    UploadRow {
        kind: match upload.kind {
            Kind::Sym => KindRow::Sym,
            Kind::Elf => KindRow::Elf,
            Kind::Pdb => KindRow::Pdb,
            Kind::Pe => KindRow::Pe,
            Kind::MachO => KindRow::MachO,
            Kind::Split => KindRow::Split,
            Kind::Sources => KindRow::Sources,
        },
        content: ContentRow {
            functions: content.functions,
            lines: content.lines,
            inlines: content.inlines,
            publics: content.publics,
            cfi: content.cfi,
            win: content.win,
        },
        sha256: upload.sha256.clone(),
        name: upload.name.clone(),
        holds_code: upload.holds_code,
        bytes: upload.bytes,
        text_bytes: upload.text_bytes,
        stored_bytes: upload.stored_bytes,
        added_at_ms: upload.added_at_ms,
        conflict: upload.conflict,
        coverage: upload.coverage.map(|coverage| CoverageRow {
            code: coverage.code,
            named: coverage.named,
            lines: coverage.lines,
            unwind: coverage.unwind,
        }),
    }
}

fn upload(row: UploadRow) -> Upload {
    let content = row.content;
    Upload {
        kind: match row.kind {
            KindRow::Sym => Kind::Sym,
            KindRow::Elf => Kind::Elf,
            KindRow::Pdb => Kind::Pdb,
            KindRow::Pe => Kind::Pe,
            KindRow::MachO => Kind::MachO,
            KindRow::Split => Kind::Split,
            KindRow::Sources => Kind::Sources,
        },
        content: Content {
            functions: content.functions,
            lines: content.lines,
            inlines: content.inlines,
            publics: content.publics,
            cfi: content.cfi,
            win: content.win,
        },
        sha256: row.sha256,
        name: row.name,
        holds_code: row.holds_code,
        bytes: row.bytes,
        text_bytes: row.text_bytes,
        stored_bytes: row.stored_bytes,
        added_at_ms: row.added_at_ms,
        conflict: row.conflict,
        coverage: row.coverage.map(|coverage| Coverage {
            code: coverage.code,
            named: coverage.named,
            lines: coverage.lines,
            unwind: coverage.unwind,
        }),
    }
}
