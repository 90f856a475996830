//! The parts of a running server that all handlers share.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::access::commands::CommandKey;
use crate::access::local_key::LocalKey;
use crate::access::pace::Pace;
use crate::bugzilla::Poller;
use crate::clock::Clock;
use crate::crash_loops::CrashLoops;
use crate::fields::Catalogue;
use crate::index::Index;
use crate::indexer::Indexer;
use crate::metrics::Metrics;
use crate::naming::Naming;
use crate::periodic::PeriodicTask;
use crate::reload::ActiveConfig;
use crate::retention::Retention;
use crate::stackwalk::Namer;
use crate::store::Store;
use crate::symbols::converter::Converter;
use crate::symbols::{SymbolDirs, SymbolStore};
use crate::web::Request;
use crate::workers::Pool;
use parking_lot::Mutex;

/// Everything that a handler may use.
pub struct App {
    pub(crate) config: Arc<ActiveConfig>,
    /// True if the server must not change anything.
    pub(crate) read_only: bool,
    /// The built-in fields and those of the site, as of the start.
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) store: Arc<Store>,
    pub(crate) index: Arc<Index>,
    pub(crate) indexer: Arc<Indexer>,
    pub(crate) retention: Arc<Retention>,
    /// `None` if the server is read-only.
    pub(crate) late_symbols: Option<Arc<PeriodicTask>>,
    /// `None` if the configuration names no symbol servers.
    pub(crate) symbol_fetcher: Option<PeriodicTask>,
    pub(crate) naming: Arc<Naming>,
    /// `None` if no bug tracker is configured, or if the server is read-only.
    pub(crate) bugzilla: Option<Poller>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) symbols: SymbolStore,
    /// The symbol store and all other folders of symbols.
    pub(crate) symbol_dirs: SymbolDirs,
    pub(crate) converter: Converter,
    /// The results of files that were uploaded in chunks, by the hash of the file.
    pub(crate) assembled: Remembered,
    /// Looks up single addresses in symbol files.
    pub(crate) namer: Namer,
    /// The last crashes of each installation.
    pub(crate) crash_loops: CrashLoops,
    /// Counts requests per caller.
    pub(crate) pace: Pace,
    /// The key that makes its holder an admin while no account exists.
    pub(crate) local_key: LocalKey,
    /// The key with which commands on this machine authenticate.
    pub(crate) command_key: CommandKey,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Draws 122 random bits, for ids and for the throttle. Secrets do not come from here: `access` makes them,
    /// and nothing can replace their randomness.
    pub(crate) random: fn() -> u128,
}

impl App {
    /// The URL under which a client reaches this server, without a trailing slash.
    pub(crate) fn address(&self, request: &Request) -> String {
        let config = self.config.get();
        let public = config.http.public_url.as_str();
        let scheme = if request.arrival.is_tls {
            "https"
        } else {
            "http"
        };
        match (public, request.host()) {
            ("", Some(host)) => format!("{scheme}://{host}"),
            _ => public.to_owned(),
        }
    }
}

/// The most recent answers to requests that clients repeat.
#[derive(Default)]
pub(crate) struct Remembered(Mutex<VecDeque<(String, serde_json::Value)>>);

impl Remembered {
    const MAX: usize = 1_024;

    pub(crate) fn get(&self, key: &str) -> Option<serde_json::Value> {
        let known = self.0.lock();
        let found = known.iter().find(|(known, _)| known == key);
        found.map(|(_, answer)| answer.clone())
    }

    pub(crate) fn put(&self, key: String, answer: serde_json::Value) {
        let mut known = self.0.lock();
        known.push_back((key, answer));
        if known.len() > Self::MAX {
            known.pop_front();
        }
    }
}
