//! What all handlers share: the parts of a running server.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::access::commands::CommandKey;
use crate::access::local_key::LocalKey;
use crate::access::pace::Pace;
use crate::bugzilla::Poller;
use crate::clock::Clock;
use crate::index::Index;
use crate::indexer::Indexer;
use crate::metrics::Metrics;
use crate::naming::Naming;
use crate::periodic::PeriodicTask;
use crate::reload::InForce;
use crate::retention::Retention;
use crate::stackwalk::Namer;
use crate::store::Store;
use crate::symbols::converter::Converter;
use crate::symbols::{Shelf, SymbolDirs};
use crate::web::Request;
use crate::workers::Pool;
use parking_lot::Mutex;

/// Everything that a handler may use.
pub struct App {
    pub config: Arc<InForce>,
    /// Nothing may be changed.
    pub read_only: bool,
    pub store: Arc<Store>,
    pub index: Arc<Index>,
    pub indexer: Arc<Indexer>,
    pub retention: Arc<Retention>,
    /// `None` where nothing may be changed.
    pub late_symbols: Option<Arc<PeriodicTask>>,
    /// Where the configuration names symbol servers.
    pub symbol_fetcher: Option<PeriodicTask>,
    pub naming: Arc<Naming>,
    /// Where a tracker is set, and may be asked.
    pub bugzilla: Option<Poller>,
    pub pool: Arc<Pool>,
    pub symbols: Shelf,
    /// The shelf and all other folders of symbols.
    pub symbol_dirs: SymbolDirs,
    pub converter: Converter,
    /// What became of files that came in chunks, by their hash.
    pub assembled: Remembered,
    /// Looks single addresses up in them.
    pub namer: Namer,
    /// Counts requests by caller.
    pub pace: Pace,
    /// What makes somebody an admin while there is no account.
    pub local_key: LocalKey,
    /// What commands on this machine show.
    pub command_key: CommandKey,
    pub metrics: Arc<Metrics>,
    pub clock: Arc<dyn Clock>,
}

impl App {
    /// The address under which a client reaches this server, without a slash at its end.
    pub fn address(&self, request: &Request) -> String {
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

/// The last answers to questions that clients ask more than once.
#[derive(Default)]
pub struct Remembered(Mutex<VecDeque<(String, serde_json::Value)>>);

impl Remembered {
    const MAX: usize = 1_024;

    pub fn get(&self, key: &str) -> Option<serde_json::Value> {
        let known = self.0.lock();
        let found = known.iter().find(|(known, _)| known == key);
        found.map(|(_, answer)| answer.clone())
    }

    pub fn put(&self, key: String, answer: serde_json::Value) {
        let mut known = self.0.lock();
        known.push_back((key, answer));
        if known.len() > Self::MAX {
            known.pop_front();
        }
    }
}
