//! The unwinder's view of the symbols: one provider per dump, over the shared cache.
//!
//! For its dump, a provider stores which symbols a module has, so that this cannot change during a walk, and
//! the statistics for the JSON. A provider must not be shared by dumps: statistics are keyed by bare file
//! name, so it would report another dump's build of a DLL as this one's.
//!
//! The unwinder's trait is async because some implementations download symbols. Nothing here ever waits, so
//! the future of a walk is ready at its first poll.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use minidump::Module;
use minidump_unwind::{
    FileError, FileKind, FillSymbolError, FrameSymbolizer, FrameWalker, SymbolProvider, SymbolStats,
};
use serde::{Deserialize, Serialize};

use super::answers;
use super::cache::{Lookup, SymbolCache, Unmapped};
use super::frame::leaf;
use super::mode::Mode;
use crate::symbols::mapped::Mapped;
use parking_lot::Mutex;

/// Limit of symbols that one try of a walk asks for. The next try asks for the rest.
pub(super) const MAP_REQUESTS_MAX: usize = 64;

pub(super) struct Provider<'a> {
    cache: &'a SymbolCache,
    unmapped: Unmapped,
    pub(super) mode: Mode,
    /// Number of look-ups that are still answered.
    lookups_left: AtomicU64,
    /// A mutex because the trait requires `Sync`. It is never contended, and a lock costs 20 ns.
    session: Mutex<Session>,
}

#[derive(Default)]
pub(super) struct Session {
    /// By the module's base address. Loaded modules do not overlap.
    by_base: BTreeMap<u64, Option<Arc<Mapped>>>,
    /// Mapped files that were found, with the names under which they can be made again.
    mapped: Vec<(Arc<Mapped>, MapRequest)>,
    /// The module of the last look-up, and usually of the next: a frame is named and then unwound.
    last: Option<(u64, Option<Arc<Mapped>>)>,
    /// By the file name of the code file, because the JSON looks them up that way.
    pub(super) stats: HashMap<String, SymbolStats>,
    /// Symbols that must be mapped before the walk is useful; empty if it is useful.
    pub(super) map_requests: Vec<MapRequest>,
}

/// The symbols of a module, by their names in the folders. The names come from a dump, so code that makes a
/// path from them must check them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct MapRequest {
    pub(super) debug_file: String,
    pub(super) debug_id: String,
}

impl<'a> Provider<'a> {
    pub(super) fn new(
        cache: &'a SymbolCache,
        unmapped: Unmapped,
        lookups_max: u64,
        mode: Mode,
    ) -> Self {
        Self {
            cache,
            unmapped,
            mode,
            lookups_left: AtomicU64::new(lookups_max),
            session: Mutex::default(),
        }
    }

    /// The collected data, once the walk is done.
    pub(super) fn end(self) -> Session {
        let session = self.session.into_inner();
        let mut session = session;
        if self.unmapped == Unmapped::Request {
            let damaged = session.mapped.drain(..).filter(|(of, _)| of.is_damaged());
            let damaged: Vec<MapRequest> = damaged.map(|(_, request)| request).collect();
            let room = MAP_REQUESTS_MAX - session.map_requests.len();
            session.map_requests.extend(damaged.into_iter().take(room));
        }
        session
    }

    /// Whether this look-up exceeds the limit. Only a hostile stack needs so many.
    fn is_exhausted(&self) -> bool {
        let left = self.lookups_left.load(Ordering::Relaxed);
        self.lookups_left
            .store(left.saturating_sub(1), Ordering::Relaxed);
        left == 0
    }

    /// Names a frame. `Err` means that the module has no symbols at all. `Ok` without a name means that it
    /// has symbols, but this address is in no function.
    pub(super) fn name(
        &self,
        module: &dyn Module,
        frame: &mut dyn FrameSymbolizer,
    ) -> Result<(), FillSymbolError> {
        if self.is_exhausted() {
            return Ok(());
        }
        let symbols = self.symbols_of(module).ok_or(FillSymbolError {})?;
        answers::fill_symbol(&symbols, module, frame, self.mode);
        Ok(())
    }

    /// Whether the call at an address of a module may be one that has not returned. Any address may be if the
    /// module has no symbols.
    pub(super) fn may_return_to(&self, module: &dyn Module, address: u64) -> bool {
        if self.is_exhausted() {
            return false;
        }
        let symbols = self.symbols_of(module);
        symbols.is_none_or(|symbols| {
            let offset = address.checked_sub(module.base_address());
            offset.is_some_and(|offset| answers::may_return_to(&symbols, offset, self.mode))
        })
    }

    /// Finds the caller's registers with unwind rules.
    pub(super) fn unwind(&self, module: &dyn Module, walker: &mut dyn FrameWalker) -> Option<()> {
        if self.is_exhausted() {
            return None;
        }
        answers::walk_frame(&*self.symbols_of(module)?, module, walker, self.mode)
    }

    fn symbols_of(&self, module: &dyn Module) -> Option<Arc<Mapped>> {
        if !self.cache.can_look() {
            return None;
        }
        let base = module.base_address();
        let mut session = self.session.lock();
        match &session.last {
            Some((last, symbols)) if *last == base => return symbols.clone(),
            _ => {}
        }
        let symbols = match session.by_base.get(&base) {
            Some(known) => known.clone(),
            None => self.first_look(module, &mut session),
        };
        session.last = Some((base, symbols.clone()));
        symbols
    }

    fn first_look(&self, module: &dyn Module, session: &mut Session) -> Option<Arc<Mapped>> {
        let (lookup, request) = self.look_up(module);
        match (&lookup, request) {
            (Lookup::Unmapped, Some(request)) if session.map_requests.len() < MAP_REQUESTS_MAX => {
                session.map_requests.push(request);
            }
            (Lookup::Found(symbols), Some(request)) => {
                session.mapped.push((symbols.clone(), request))
            }
            _ => {}
        }
        let stats = SymbolStats {
            // A corrupt file counts as loaded: it was found, and the schema defines it that way.
            loaded_symbols: !matches!(lookup, Lookup::Missing),
            corrupt_symbols: matches!(lookup, Lookup::Corrupt),
            symbol_url: match &lookup {
                Lookup::Found(symbols) => symbols.url().map(str::to_owned),
                _ => None,
            },
            ..SymbolStats::default()
        };
        let code_file = module.code_file();
        session.stats.insert(leaf(&code_file).to_owned(), stats);
        let symbols = match lookup {
            Lookup::Found(symbols) => Some(symbols),
            Lookup::Corrupt | Lookup::Missing | Lookup::Unmapped => None,
        };
        session
            .by_base
            .insert(module.base_address(), symbols.clone());
        symbols
    }

    fn look_up(&self, module: &dyn Module) -> (Lookup, Option<MapRequest>) {
        let named = module.debug_file().zip(module.debug_identifier());
        let Some((debug_file, debug_id)) = named else {
            return self.look_up_by_code(module);
        };
        // Programs built with MinGW name no debug file at all. Their symbols have the program's name.
        let file = if debug_file.is_empty() {
            module.code_file()
        } else {
            debug_file
        };
        let debug_id = debug_id.breakpad().to_string();
        let lookup = self.cache.find(&file, &debug_id, self.unmapped);
        let request = MapRequest {
            debug_file: leaf(&file).to_owned(),
            debug_id,
        };
        (lookup, Some(request))
    }

    /// Looks up the symbols by the program's code id, if the dump has no record of the debug file.
    fn look_up_by_code(&self, module: &dyn Module) -> (Lookup, Option<MapRequest>) {
        let found = module.code_identifier().and_then(|code_id| {
            let file = leaf(&module.code_file()).to_owned();
            let debug_id = self.cache.debug_id_of(&file, code_id.as_str())?;
            Some((file, debug_id))
        });
        let Some((debug_file, debug_id)) = found else {
            return (Lookup::Missing, None);
        };
        let lookup = self.cache.find(&debug_file, &debug_id, self.unmapped);
        (
            lookup,
            Some(MapRequest {
                debug_file,
                debug_id,
            }),
        )
    }
}

#[async_trait]
impl SymbolProvider for Provider<'_> {
    /// On `Err`, the stack scanner accepts any address in the module.
    async fn fill_symbol(
        &self,
        module: &(dyn Module + Sync),
        frame: &mut (dyn FrameSymbolizer + Send),
    ) -> Result<(), FillSymbolError> {
        self.name(module, frame)
    }

    async fn walk_frame(
        &self,
        module: &(dyn Module + Sync),
        walker: &mut (dyn FrameWalker + Send),
    ) -> Option<()> {
        self.unwind(module, walker)
    }

    async fn get_file_path(
        &self,
        _module: &(dyn Module + Sync),
        _kind: FileKind,
    ) -> Result<PathBuf, FileError> {
        Err(FileError::NotFound)
    }

    fn stats(&self) -> HashMap<String, SymbolStats> {
        let session = self.session.lock();
        session.stats.clone()
    }
}

/// Runs a future that never waits. `None` means that it did wait, because nothing here would wake it.
pub(super) fn complete<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}
