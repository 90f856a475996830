//! Fetches missing symbols from other symbol servers, if the configuration names any.
//!
//! No walk waits for the network. A crash is walked with the symbols that exist. Then the fetcher requests
//! what the walk lacked and stores what it gets. [`crate::late_symbols`] then has the crash
//! reprocessed. The fetcher asks each server once for a module. If a server did not have it, the fetcher
//! asks again after some time.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Timestamp};
use crate::crash::lack::{Lack, What};
use crate::crash::processed::ProcessedCrash;
use crate::crash::symbols::Module;
use crate::metrics::Metrics;
use crate::outbound::{Bounds, Outbound, OutboundError};
use crate::periodic::{Left, PeriodicTask};
use crate::store::symbols::SymbolChange;
use crate::store::{Store, StoreError};
use crate::symbol_source::{SourceKind, SymbolSource, Wanted};
use crate::symbols::arrival::Receiver;
use crate::symbols::converter::Converter;
use crate::symbols::{self, Conflict, SymbolDirs, SymbolStore, symbol_file_name};

/// Pause between two rounds without a wake-up.
const ROUND_EVERY: Duration = Duration::from_secs(10);
/// Maximum number of requests per round, so that a round does not delay the stop of the server.
const ROUND_REQUESTS_MAX: usize = 8;

/// The parts of the server that the fetcher uses.
pub(crate) struct Parts {
    pub(crate) store: Arc<Store>,
    pub(crate) symbol_store: SymbolStore,
    pub(crate) dirs: SymbolDirs,
    pub(crate) converter: Converter,
    pub(crate) late_symbols: Arc<PeriodicTask>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
    /// Servers, in the order in which the fetcher asks them.
    pub(crate) sources: Vec<SymbolSource>,
    pub(crate) outbound: Bounds,
    pub(crate) unpacking: symbols::Bounds,
    /// How long a server that did not have a module is not asked for it again.
    pub(crate) miss_kept: Duration,
}

/// Starts the thread. Returns `None` if the configuration names no server. Then nothing here ever runs.
///
/// # Errors
/// The operating system cannot start the thread.
pub(crate) fn start(parts: Parts) -> io::Result<Option<PeriodicTask>> {
    let servers: Vec<Server> = parts
        .sources
        .iter()
        .filter(|source| source.kind != SourceKind::Folder)
        .map(|source| {
            let mut addresses = vec![source.at.as_str()];
            addresses.extend(source.allow.iter().map(String::as_str));
            Server {
                source: source.clone(),
                outbound: Outbound::to(&addresses, parts.outbound),
            }
        })
        .collect();
    if servers.is_empty() {
        return Ok(None);
    }
    // Servers that failed since the last pause.
    let mut down = HashSet::new();
    let task = PeriodicTask::start("symbol-fetcher", ROUND_EVERY, move |_| {
        let left = parts.round(&servers, &mut down).unwrap_or_else(|error| {
            tracing::error!(%error, "fetching symbols failed; will try again");
            Left::Nothing
        });
        if left == Left::Nothing {
            down.clear();
        }
        left
    })?;
    Ok(Some(task))
}

struct Server {
    source: SymbolSource,
    outbound: Outbound,
}

/// The answer of a server about a module.
enum Said {
    Has(File),
    HasNot,
    /// Nothing usable; the text says why.
    Nothing(String),
}

/// The result of asking a server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// No request was sent. Nothing returns this at present.
    Not,
    Helped,
    Missed,
    /// The server failed. It is not asked again in this round.
    Down,
}

impl Parts {
    fn round(&self, servers: &[Server], down: &mut HashSet<String>) -> Result<Left, StoreError> {
        let now = self.clock.now();
        let miss_kept = i64::try_from(self.miss_kept.as_millis()).unwrap_or(i64::MAX);
        let up_to = Timestamp::from_ms(now.ms().saturating_sub(miss_kept));
        self.store
            .change_symbols(vec![SymbolChange::ForgetMisses { up_to }])?;
        let mut requests = 0;
        for lack in self.store.lacks()? {
            if !self.is_to_be_fetched(&lack) {
                continue;
            }
            let mut wanted = None;
            for server in servers {
                let name = &server.source.name;
                if down.contains(name) || self.is_missed(name, &lack)? {
                    continue;
                }
                let wanted = match &wanted {
                    Some(wanted) => wanted,
                    None => wanted.insert(self.wanted(&lack)?),
                };
                let asked = self.ask(server, &lack, wanted)?;
                requests += usize::from(asked != Asked::Not);
                match asked {
                    Asked::Helped => break,
                    Asked::Down => drop(down.insert(name.clone())),
                    Asked::Not | Asked::Missed => {}
                }
            }
            if requests >= ROUND_REQUESTS_MAX {
                return Ok(Left::More);
            }
        }
        Ok(Left::Nothing)
    }

    fn is_missed(&self, source: &str, lack: &Lack) -> Result<bool, StoreError> {
        Ok(self.store.missed_at(source, &miss_key(lack))?.is_some())
    }

    fn is_to_be_fetched(&self, lack: &Lack) -> bool {
        let file = || {
            self.dirs
                .find_by_either_id(&lack.debug_file, &lack.debug_id)
        };
        let is_there = || file().is_some();
        match lack.what {
            What::Symbols => !is_there(),
            // Only symbols in the symbol store can be completed.
            What::Functions | What::Unwind => {
                let module = self.symbol_store.module(&lack.debug_id);
                module.is_some_and(|module| match lack.what {
                    What::Functions => !module.content().has_functions(),
                    _ => !module.content().has_unwind(),
                })
            }
        }
    }

    /// The data about a module that servers need. A crash that had the module supplies the name and id of
    /// its program.
    fn wanted(&self, lack: &Lack) -> Result<Wanted, StoreError> {
        if lack.is_of_program() {
            return Ok(Wanted {
                code_file: lack.debug_file.clone(),
                code_id: lack.debug_id.to_ascii_lowercase(),
                program: true,
                ..Wanted::default()
            });
        }
        let mut wanted = Wanted {
            debug_file: lack.debug_file.clone(),
            debug_id: lack.debug_id.to_ascii_uppercase(),
            program: lack.what == What::Unwind,
            ..Wanted::default()
        };
        let Some(row) = self.store.newest_lacking(lack)? else {
            return Ok(wanted);
        };
        let Some(json) = self.store.processed(&row)? else {
            return Ok(wanted);
        };
        let crash = ProcessedCrash::parse(&json).unwrap_or_default();
        let modules = crash.walk.iter().flat_map(|walk| &walk.modules);
        let found = modules
            .filter(|module| module.debug_id.as_deref() == Some(&lack.debug_id))
            .find_map(|module| Some((module.filename.clone()?, module.code_id.clone()?)));
        if let Some((file, id)) = found {
            wanted.code_file = file;
            wanted.code_id = id.to_ascii_lowercase();
        }
        Ok(wanted)
    }

    fn ask(&self, server: &Server, lack: &Lack, wanted: &Wanted) -> Result<Asked, StoreError> {
        let source = &server.source;
        let symbol_file = symbol_file_name(&wanted.debug_file);
        let mut said = Said::HasNot;
        for address in source.addresses(wanted, &symbol_file) {
            said = match self.get(server, &address) {
                Ok(said) => said,
                Err(OutboundError::TooLarge { bytes_max }) => {
                    tracing::warn!(source = source.name, lack = %lack, bytes_max, "symbols are larger than symbols.fetch_bytes_max");
                    Said::HasNot
                }
                Err(error) => Said::Nothing(error.to_string()),
            };
            if !matches!(said, Said::HasNot) {
                break;
            }
        }
        let (outcome, asked) = match said {
            Said::Has(file) => {
                if self.take(file, wanted, &symbol_file)? {
                    ("hit", Asked::Helped)
                } else {
                    ("refused", Asked::Missed)
                }
            }
            Said::HasNot => ("miss", Asked::Missed),
            Said::Nothing(why) => {
                tracing::warn!(source = source.name, lack = %lack, why, "a symbol server failed");
                ("failed", Asked::Down)
            }
        };
        self.metrics.symbols_fetched.add(outcome);
        if asked == Asked::Missed {
            self.store.change_symbols(vec![SymbolChange::Missed {
                source: source.name.clone(),
                debug_id: miss_key(lack),
                at: self.clock.now(),
            }])?;
        }
        Ok(asked)
    }

    fn get(&self, server: &Server, address: &str) -> Result<Said, OutboundError> {
        let mut file = self
            .symbol_store
            .incoming_file()
            .map_err(|error| OutboundError::Failed(error.to_string()))?;
        Ok(match server.outbound.get_into(address, &mut file)? {
            200 => Said::Has(file),
            404 | 410 => Said::HasNot,
            status => Said::Nothing(format!("it answered with status {status}")),
        })
    }

    fn take(&self, file: File, wanted: &Wanted, symbol_file: &str) -> Result<bool, StoreError> {
        let name = match (wanted.program, wanted.code_file.is_empty()) {
            (true, false) => &wanted.code_file,
            (false, _) if wanted.debug_file.is_empty() => symbol_file,
            _ => &wanted.debug_file,
        };
        let receiver = Receiver {
            symbol_store: &self.symbol_store,
            converter: &self.converter,
            bounds: self.unpacking,
            conflict: Conflict::KeepFirst,
            now_ms: self.clock.now().ms(),
        };
        let arrival = match receiver.take(file, name) {
            Ok(arrival) => arrival,
            Err(error) => {
                tracing::error!(%error, "fetched symbols could not be stored");
                return Ok(false);
            }
        };
        let mut changes = Vec::new();
        let mut is_wanted = false;
        for verdict in arrival.verdicts {
            match verdict.result {
                Ok(taken) if taken.is_sources() => {}
                Ok(taken) => {
                    let Module {
                        debug_id, code_id, ..
                    } = &taken.module;
                    is_wanted |= if wanted.debug_id.is_empty() {
                        code_id.eq_ignore_ascii_case(&wanted.code_id)
                    } else {
                        *debug_id == wanted.debug_id
                    };
                    changes.push(SymbolChange::Fetched(taken.module));
                }
                Err(error) => {
                    tracing::warn!(module = wanted.debug_file, %error, "fetched symbols were rejected");
                }
            }
        }
        self.store.change_symbols(changes)?;
        self.late_symbols.wake();
        Ok(is_wanted)
    }
}

/// The key of a miss. A miss is about a file, and a module may have two. The store keeps these keys, so they
/// stay as the first version spelled them: after a change, every server is asked again for all misses.
fn miss_key(lack: &Lack) -> String {
    let what = match lack.what {
        What::Symbols => "Symbols",
        What::Functions => "Functions",
        What::Unwind => "Unwind",
    };
    format!("{} {what}", lack.debug_id.to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_missed_has_a_key_that_stays() {
        let key = |what| {
            miss_key(&Lack {
                debug_file: "a.pdb".into(),
                debug_id: "ab1".into(),
                what,
            })
        };
        let keys = [What::Symbols, What::Functions, What::Unwind].map(key);
        assert_eq!(keys, ["AB1 Symbols", "AB1 Functions", "AB1 Unwind"]);
    }
}
