//! The unwinder's view of the symbols: one provider a dump, over the shared cache.
//!
//! Kept per dump: which symbols a module has (so that it cannot change in the middle of a walk),
//! and the statistics that end up in the JSON. A provider shared by dumps would report another
//! dump's build of a DLL as this one's, for statistics are keyed by bare file name.
//!
//! The unwinder's trait is async for those who fetch symbols over a network. Nothing here ever
//! waits, so the future of a walk is ready at its first poll.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use minidump::Module;
use minidump_unwind::{
    FileError, FileKind, FillSymbolError, FrameSymbolizer, FrameWalker, SymbolProvider, SymbolStats,
};

use super::cache::{Lookup, ModuleSymbols, SymbolCache};

pub(super) struct Provider<'a> {
    cache: &'a SymbolCache,
    /// A mutex because the trait wants `Sync`; never contended, and a lock costs 20 ns.
    session: Mutex<Session>,
}

#[derive(Default)]
struct Session {
    /// By the module's base address: loaded modules do not overlap.
    by_base: HashMap<u64, Option<Arc<dyn ModuleSymbols>>>,
    /// By the leaf of the code file, as the JSON looks them up.
    stats: HashMap<String, SymbolStats>,
}

impl<'a> Provider<'a> {
    pub(super) fn new(cache: &'a SymbolCache) -> Self {
        Self {
            cache,
            session: Mutex::default(),
        }
    }

    fn symbols_of(&self, module: &dyn Module) -> Option<Arc<dyn ModuleSymbols>> {
        if !self.cache.can_look() {
            return None;
        }
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = session.by_base.get(&module.base_address()) {
            return known.clone();
        }
        let lookup = self.look_up(module);
        let stats = SymbolStats {
            // A corrupt file counts as loaded: it was there, and that is what the schema says.
            loaded_symbols: !matches!(lookup, Lookup::Missing),
            corrupt_symbols: matches!(lookup, Lookup::Corrupt),
            ..SymbolStats::default()
        };
        let code_file = module.code_file();
        session.stats.insert(leaf(&code_file).to_owned(), stats);
        let symbols = match lookup {
            Lookup::Found(symbols) => Some(symbols),
            Lookup::Corrupt | Lookup::Missing => None,
        };
        session
            .by_base
            .insert(module.base_address(), symbols.clone());
        symbols
    }

    fn look_up(&self, module: &dyn Module) -> Lookup {
        let (Some(debug_file), Some(debug_id)) = (module.debug_file(), module.debug_identifier())
        else {
            return Lookup::Missing;
        };
        // Programs built by MinGW name no debug file at all; their symbols go by the program.
        let file = match debug_file.is_empty() {
            true => module.code_file(),
            false => debug_file,
        };
        self.cache.find(&file, &debug_id.breakpad().to_string())
    }
}

fn leaf(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

#[async_trait]
impl SymbolProvider for Provider<'_> {
    /// `Err` means that the module has no symbols at all, so the stack scanner takes any address
    /// in it; `Ok` without a name means that it has, and this address is in no function.
    async fn fill_symbol(
        &self,
        module: &(dyn Module + Sync),
        frame: &mut (dyn FrameSymbolizer + Send),
    ) -> Result<(), FillSymbolError> {
        let symbols = self.symbols_of(module).ok_or(FillSymbolError {})?;
        symbols.fill_symbol(module, frame);
        Ok(())
    }

    async fn walk_frame(
        &self,
        module: &(dyn Module + Sync),
        walker: &mut (dyn FrameWalker + Send),
    ) -> Option<()> {
        self.symbols_of(module)?.walk_frame(module, walker)
    }

    async fn get_file_path(
        &self,
        _module: &(dyn Module + Sync),
        _kind: FileKind,
    ) -> Result<PathBuf, FileError> {
        Err(FileError::NotFound)
    }

    fn stats(&self) -> HashMap<String, SymbolStats> {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        session.stats.clone()
    }
}
