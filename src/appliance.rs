//! The composition root. It opens, starts and stops every part, in a fixed order.
//!
//! The server stops in the order in which a crash passes through it. First it accepts no new requests, then
//! it starts no new jobs. Workers finish their jobs, the indexer takes over the results, and the store
//! closes last. Each step has a time limit. The next start is clean even if no step completed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::access::commands::{Announcement, CommandKey};
use crate::access::local_key::LocalKey;
use crate::access::pace::Pace;
use crate::addresses::Listen;
use crate::app::{App, Remembered};
use crate::bugzilla::{Poller, Tracker};
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, ConfigError};
use crate::crash_loops::CrashLoops;
use crate::fields::Catalogue;
use crate::http::Server;
use crate::index::Index;
use crate::indexer::{self, Building, Indexer};
use crate::late_symbols;
use crate::limits;
use crate::metrics::Metrics;
use crate::naming::Naming;
use crate::outbound::{Bounds, Outbound};
use crate::periodic::PeriodicTask;
use crate::queue::{self, Lanes};
use crate::reload::ActiveConfig;
use crate::retention::{self, Keep, Pass, Plan, Retention, SymbolPlaces};
use crate::signature::Ruleset;
use crate::stackwalk::{Namer, WalkerOptions};
use crate::store::disk::{Disk, OsDisk, make_private, make_private_dir};
use crate::store::overlay::OverlayDisk;
use crate::store::{DirectoryLock, State, Store, StoreOptions, StoreStatus};
use crate::symbol_fetcher;
use crate::symbol_source::SymbolSource;
use crate::symbols::converter::Converter;
use crate::symbols::mapped::MappedDir;
use crate::symbols::{SymbolDirs, SymbolStore};
use crate::upload;
use crate::workers::{Pool, PoolParts};

/// How long requests in progress may continue when the server stops.
const REQUEST_GRACE: Duration = Duration::from_secs(20);
/// How long walks in progress may continue when the server stops.
const WALK_GRACE: Duration = Duration::from_secs(10);
/// Address space of a walker, not counting symbols.
const WALKER_ADDRESS_BYTES: u64 = 1 << 30;
/// Heap of a walker, not counting symbols and the dump. Several times the most that any dump has needed so
/// far.
const WALKER_HEAP_BYTES: u64 = 256 << 20;
/// A walk may use 1/4 of its deadline as CPU time.
const WALK_CPU_PART: u64 = 4;
/// Address space in a walker for the symbols of one dump, in addition to the files that it keeps open.
/// Mapped files use no memory, so this limit need not be tight.
const WALKER_MAP_BYTES: u64 = 16 << 30;

/// A running server.
pub struct Appliance {
    server: Server,
    app: Arc<App>,
    /// Tells commands on this machine where the server listens.
    announcement: Option<Announcement>,
    _ground: Ground,
}

/// Settings that are not part of the configuration: the data directory, and the program that walks dumps.
#[derive(Clone, Debug)]
pub struct Place {
    pub data: PathBuf,
    /// Our own binary. Workers run it as walkers.
    pub program: PathBuf,
    /// Show the existing data and change nothing: no uploads, no workers, no writes below `data`. Needs no
    /// lock, so it works on read-only media and as a different user.
    pub read_only: bool,
}

impl Appliance {
    /// Opens everything in `place` and listens.
    ///
    /// # Errors
    /// The message says which part cannot be opened and why. The operator must fix the cause.
    pub fn start(config: Config, place: &Place) -> anyhow::Result<Self> {
        Self::start_at(config, place, Arc::new(SystemClock))
    }

    /// Does the same with the given clock.
    ///
    /// # Errors
    /// As for [`Self::start`].
    pub fn start_at(config: Config, place: &Place, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let ground = Ground::prepare(place)
            .with_context(|| format!("data directory {}", place.data.display()))?;
        let workers = if place.read_only {
            0
        } else {
            worker_count(&config)
        };
        let (lanes, jobs, stop) = queue::queue(queue::PLACES, workers);
        let store = open_store(&config, &place.data, &ground, clock.clone(), lanes)?;
        let base = Base::new(&config, place, &ground, Arc::new(store), clock);
        let index = Index::open(&ground.index_dir, base.store.id()?, base.catalogue.clone());
        let index = Arc::new(index.context("the search index")?);
        let indexer = Indexer::start(base.store.clone(), index.clone(), base.metrics.clone())?;
        let active_config = Arc::new(ActiveConfig::new(config.clone()));
        let retention = base.retention(active_config.clone())?;
        let bugzilla = base.bugzilla()?;
        let naming = base.naming()?;
        let pool = Pool::start(workers, base.pool_parts(naming.clone()), jobs, stop)?;
        let local_key = base.local_key().context("the local key")?;
        let converter = converter(&config, place.program.clone());
        let late_symbols = base.late_symbols()?;
        let symbol_fetcher = match &late_symbols {
            None => None,
            Some(late_symbols) => base.symbol_fetcher(late_symbols.clone(), converter.clone())?,
        };
        let app = Arc::new(App {
            config: active_config,
            read_only: place.read_only,
            namer: base.namer(),
            catalogue: base.catalogue,
            store: base.store,
            index,
            indexer: Arc::new(indexer),
            retention: Arc::new(retention),
            late_symbols,
            symbol_fetcher,
            naming,
            bugzilla,
            pool: Arc::new(pool),
            crash_loops: CrashLoops::default(),
            pace: Pace::default(),
            local_key,
            command_key: CommandKey::new(),
            symbols: base.symbols,
            symbol_dirs: base.symbol_dirs,
            converter,
            assembled: Remembered::default(),
            metrics: base.metrics,
            clock: base.clock,
            random: || uuid::Uuid::new_v4().as_u128(),
        });
        let server = Server::start(app.clone())?;
        let announcement = announce(place, &server, &app)
            .context("the file that tells commands where the server listens")?;
        Ok(Self {
            server,
            app,
            announcement,
            _ground: ground,
        })
    }

    /// The address on which the server listens, with the port that the system chose.
    pub fn address(&self) -> &Listen {
        &self.server.bound
    }

    /// The same address as a URL, without a trailing slash.
    pub(crate) fn url(&self) -> &str {
        &self.server.url
    }

    /// The key that makes its holder an admin while no account exists.
    pub fn local_key(&self) -> Option<String> {
        self.app.local_key.secret()
    }

    pub(crate) fn config(&self) -> Arc<Config> {
        self.app.config.get()
    }

    /// Activates another configuration if it is valid.
    pub(crate) fn reload(&self, read: Result<Config, ConfigError>) {
        self.app.config.replace(read, self.app.clock.now());
        self.server.reload_certificate();
    }

    /// Waits until every stored crash is processed and indexed, or until `patience` is over.
    pub fn wait_idle(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let busy = || {
            let waiting = |status: StoreStatus| {
                let waits = |state: State| matches!(state, State::Queued | State::Processing);
                status
                    .states
                    .iter()
                    .any(|(state, n)| waits(*state) && *n > 0)
            };
            self.app.store.status().is_ok_and(waiting)
                || self.app.indexer.status().changes_waiting > 0
        };
        while busy() && Instant::now() < until {
            // No signal says when the last crash is done. Polling is cheap.
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends the requests, walks and writes in progress, and closes the store.
    pub fn stop(self) {
        drop(self.announcement);
        self.server.stop(REQUEST_GRACE);
        self.app.store.pause();
        self.app.pool.stop(WALK_GRACE);
        self.app.retention.stop();
        if let Some(late_symbols) = &self.app.late_symbols {
            late_symbols.stop();
        }
        if let Some(symbol_fetcher) = &self.app.symbol_fetcher {
            symbol_fetcher.stop();
        }
        self.app.naming.stop();
        if let Some(bugzilla) = &self.app.bugzilla {
            bugzilla.stop();
        }
        self.app.indexer.stop();
        self.app.store.close();
    }
}

/// What the parts of a server have in common, and how each of them starts.
struct Base<'a> {
    config: &'a Config,
    place: &'a Place,
    catalogue: Arc<Catalogue>,
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    symbols: SymbolStore,
    symbol_dirs: SymbolDirs,
    mapped: Arc<MappedDir>,
}

impl<'a> Base<'a> {
    fn new(
        config: &'a Config,
        place: &'a Place,
        ground: &Ground,
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            config,
            place,
            catalogue: Arc::new(catalogue(config)),
            store,
            clock,
            metrics: Arc::default(),
            symbols: SymbolStore::new(symbol_dir(&place.data), ground.spill_dir.clone()),
            symbol_dirs: SymbolDirs::new(symbol_folders(config, &place.data)),
            mapped: Arc::new(mapped_dir(&place.data)),
        }
    }

    fn retention(&self, active_config: Arc<ActiveConfig>) -> anyhow::Result<Retention> {
        if self.place.read_only {
            return Ok(Retention::idle());
        }
        let places = SymbolPlaces {
            symbol_store: self.symbols.clone(),
            dirs: self.symbol_dirs.clone(),
            mapped: self.mapped.clone(),
        };
        let keep = move || keep(&active_config.get());
        let started = Retention::start(self.store.clone(), places, keep, self.clock.clone());
        Ok(started?)
    }

    fn bugzilla(&self) -> anyhow::Result<Option<Poller>> {
        let settings = &self.config.bugzilla;
        let url = settings.url.0.as_str();
        if url.is_empty() || self.place.read_only {
            return Ok(None);
        }
        let tracker = Tracker {
            store: self.store.clone(),
            outbound: Outbound::to(&[url], Bounds::default()),
            url: url.to_owned(),
        };
        let (clock, metrics) = (self.clock.clone(), self.metrics.clone());
        let poller = Poller::start(tracker, settings.every.0, clock, metrics)?;
        Ok(Some(poller))
    }

    fn naming(&self) -> anyhow::Result<Arc<Naming>> {
        let ruleset: Ruleset = self.config.signature.ruleset.0.parse()?;
        let naming = Naming::open(self.store.clone(), ruleset);
        let naming = Arc::new(naming.context("the signature lists")?);
        if !self.place.read_only {
            naming.start()?;
        }
        Ok(naming)
    }

    fn pool_parts(&self, naming: Arc<Naming>) -> PoolParts {
        PoolParts {
            store: self.store.clone(),
            catalogue: self.catalogue.clone(),
            naming,
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
            walker: walker_options(self.config, self.place, self.mapped.clone()),
        }
    }

    /// The key for a server that has no account yet and that listens only on its own machine.
    fn local_key(&self) -> anyhow::Result<LocalKey> {
        let data = &self.place.data;
        let is_wanted = !self.store.has_users()? && self.config.http.listen.value.is_local();
        Ok(match (is_wanted, self.place.read_only) {
            (true, false) => LocalKey::open(data)?,
            (true, true) => LocalKey::in_memory(),
            (false, false) => LocalKey::none(data)?,
            (false, true) => LocalKey::default(),
        })
    }

    fn late_symbols(&self) -> anyhow::Result<Option<Arc<PeriodicTask>>> {
        if self.place.read_only {
            return Ok(None);
        }
        let places = late_symbols::Places {
            symbol_store: self.symbols.clone(),
            dirs: self.symbol_dirs.clone(),
        };
        let started = late_symbols::start(self.store.clone(), places)?;
        Ok(Some(Arc::new(started)))
    }

    fn symbol_fetcher(
        &self,
        late_symbols: Arc<PeriodicTask>,
        converter: Converter,
    ) -> anyhow::Result<Option<PeriodicTask>> {
        let started = symbol_fetcher::start(symbol_fetcher::Parts {
            store: self.store.clone(),
            symbol_store: self.symbols.clone(),
            dirs: self.symbol_dirs.clone(),
            converter,
            late_symbols,
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
            sources: self.config.symbol_source.value.clone(),
            outbound: upload::fetch_bounds(self.config),
            unpacking: upload::bounds(self.config),
            miss_kept: self.config.symbols.miss_kept.0,
        })?;
        Ok(started)
    }

    fn namer(&self) -> Namer {
        Namer {
            program: self.place.program.clone(),
            symbols: symbol_folders(self.config, &self.place.data),
            mapped: (!self.place.read_only).then(|| self.mapped.clone()),
        }
    }
}

/// Tells commands on this machine where the server listens.
fn announce(place: &Place, server: &Server, app: &App) -> std::io::Result<Option<Announcement>> {
    match server.control {
        Some(address) if !place.read_only => {
            Announcement::write(&place.data, address, &app.command_key).map(Some)
        }
        _ => Ok(None),
    }
}

fn open_store(
    config: &Config,
    data: &Path,
    ground: &Ground,
    clock: Arc<dyn Clock>,
    lanes: Lanes,
) -> anyhow::Result<Store> {
    let options = StoreOptions {
        cache_bytes: config.store.cache_bytes.0 as usize,
        spill_dir: ground.spill_dir.clone(),
    };
    Store::open(ground.disk.clone(), options, clock, Box::new(lanes))
        .with_context(|| format!("the store in {}", data.display()))
}

/// The fields of a server with this configuration.
fn catalogue(config: &Config) -> Catalogue {
    Catalogue::new(&config.fields, &config.installations.told_by.0)
}

fn worker_count(config: &Config) -> usize {
    match config.workers.count.value {
        0 => std::thread::available_parallelism().map_or(1, |n| n.get()),
        n => n as usize,
    }
}

/// Rebuilds the search index of a data directory that no server has open.
///
/// # Errors
/// The data directory is in use, or it cannot be read or written.
pub(crate) fn reindex(
    config: &Config,
    data: &Path,
    tell: impl FnMut(Building),
) -> anyhow::Result<Building> {
    let StoreAlone { store, ground } = store_alone(config, data)?;
    let store = Arc::new(store);
    let catalogue = Arc::new(catalogue(config));
    let index =
        Index::open(&ground.index_dir, store.id()?, catalogue).context("the search index")?;
    let built = indexer::rebuild(&store, &Arc::new(index), tell);
    store.close();
    built.map_err(|error| anyhow::anyhow!("the search index: {error}"))
}

/// The retention periods of the configuration.
fn keep(config: &Config) -> Keep {
    let settings = &config.retention;
    Keep {
        processed_days: settings.processed_days.0,
        failed_days: settings.failed_days.0,
        symbols_unused_days: *settings.symbols_unused_days,
        symbols_days: *settings.symbols_days,
    }
}

/// Runs one pass of retention over a data directory that no server has open. Without `confirm` it only
/// returns what it would do.
///
/// # Errors
/// The data directory is in use, or it cannot be read or written.
pub(crate) fn retain(
    config: &Config,
    data: &Path,
    confirm: bool,
) -> anyhow::Result<(Plan, Option<Pass>)> {
    let StoreAlone { store, .. } = store_alone(config, data)?;
    let places = SymbolPlaces {
        symbol_store: symbol_store(data)?,
        dirs: SymbolDirs::new(symbol_folders(config, data)),
        mapped: Arc::new(mapped_dir(data)),
    };
    let (keep, now) = (keep(config), SystemClock.now());
    let plan = retention::plan(&store, &places, &keep, now, true)?;
    let done = if confirm {
        retention::guarded_pass(&store, &places, &keep, now, true, Some(plan))?.ok()
    } else {
        None
    };
    store.close();
    Ok((plan, done))
}

/// The base of all other parts: the folders that they write to, and the lock on them.
struct Ground {
    disk: Arc<dyn Disk>,
    index_dir: PathBuf,
    spill_dir: PathBuf,
    _lock: Option<DirectoryLock>,
    /// The folder where a read-only server stores what it derives.
    _temporary: Option<tempfile::TempDir>,
}

impl Ground {
    fn prepare(place: &Place) -> anyhow::Result<Self> {
        let data = &place.data;
        if place.read_only {
            let temporary = tempfile::tempdir()?;
            return Ok(Self {
                disk: Arc::new(OverlayDisk::new(data)),
                index_dir: temporary.path().join("index"),
                spill_dir: temporary.path().to_path_buf(),
                _lock: None,
                _temporary: Some(temporary),
            });
        }
        let lock = DirectoryLock::take(data)?;
        let spill_dir = incoming_dir(data);
        make_private_dir(&spill_dir)?;
        sweep(&spill_dir)?;
        make_private_dir(&symbol_dir(data))?;
        for folder in ["index", "segments", "incoming", "symbols", "symbols-mapped"] {
            make_private(&data.join(folder));
        }
        Ok(Self {
            disk: Arc::new(OsDisk::new(data)?),
            index_dir: data.join("index"),
            spill_dir,
            _lock: Some(lock),
            _temporary: None,
        })
    }
}

/// Removes reports that the previous server had not finished receiving.
fn sweep(spill_dir: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(spill_dir)? {
        let path = entry?.path();
        if path.is_file() {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// The folder of symbols, in the layout of a Breakpad symbol server.
fn symbol_dir(data: &Path) -> PathBuf {
    data.join("symbols")
}

/// The folder of temporary files, until they are stored.
fn incoming_dir(data: &Path) -> PathBuf {
    data.join("incoming")
}

/// The store of a data directory that no server has open.
pub(crate) struct StoreAlone {
    pub(crate) store: Store,
    ground: Ground,
}

/// Opens only the store: no workers, no index, no listener.
///
/// # Errors
/// The data directory is in use, or the store cannot be opened.
pub(crate) fn store_alone(config: &Config, data: &Path) -> anyhow::Result<StoreAlone> {
    let ground = Ground::prepare(&Place {
        data: data.to_path_buf(),
        program: PathBuf::new(),
        read_only: false,
    })
    .with_context(|| format!("data directory {}", data.display()))?;
    // A queue without capacity receives no jobs.
    let (lanes, _jobs, _stop) = queue::queue(0, 0);
    let store = open_store(config, data, &ground, Arc::new(SystemClock), lanes)?;
    Ok(StoreAlone { store, ground })
}

/// The symbol store of a data directory, without a server. A server may run at the same time.
///
/// # Errors
/// The folders for symbols and for incoming files cannot be created.
pub(crate) fn symbol_store(data: &Path) -> std::io::Result<SymbolStore> {
    make_private_dir(&symbol_dir(data))?;
    make_private_dir(&incoming_dir(data))?;
    Ok(symbol_store_to_read(data))
}

/// The same for read access: creates no folder.
pub(crate) fn symbol_store_to_read(data: &Path) -> SymbolStore {
    SymbolStore::new(symbol_dir(data), incoming_dir(data))
}

/// All folders with symbols, our own first.
fn symbol_folders(config: &Config, data: &Path) -> Vec<PathBuf> {
    let others = config.symbol_source.iter().filter_map(SymbolSource::folder);
    std::iter::once(symbol_dir(data)).chain(others).collect()
}

/// The mapped symbol files that walkers use.
fn mapped_dir(data: &Path) -> MappedDir {
    MappedDir::new(data.join("symbols-mapped"), incoming_dir(data))
}

/// The converter of programs and debug files into symbols. It runs `program`.
pub(crate) fn converter(config: &Config, program: PathBuf) -> Converter {
    Converter {
        memory_bytes: config.symbols.convert_bytes_max.0,
        deadline: config.symbols.convert_deadline.0,
        text_bytes_max: config.symbols.inflated_bytes_max.0,
        ..Converter::new(program)
    }
}

fn walker_options(config: &Config, place: &Place, mapped: Arc<MappedDir>) -> WalkerOptions {
    // Walkers keep symbols open as mappings, or on the heap if they cannot be mapped.
    let symbols = config.symbols.map_bytes.0;
    let deadline = config.workers.walk_deadline.0;
    // A report cannot contain a larger dump. A compressed dump is in memory twice while it is unpacked.
    let dump = config.http.inflated_bytes_max.0;
    let heap_bytes = WALKER_HEAP_BYTES + 2 * dump + symbols;
    WalkerOptions {
        symbols: symbol_folders(config, &place.data),
        mapped: Some(mapped),
        heap_bytes,
        address_bytes: WALKER_ADDRESS_BYTES + heap_bytes + symbols + WALKER_MAP_BYTES,
        cpu_seconds: deadline.as_secs().div_ceil(WALK_CPU_PART),
        deadline,
        output_bytes_max: limits::WALK_BYTES_MAX as u64,
        unpacked_bytes_max: dump,
        ratio_max: u64::from(*config.http.ratio_max),
        map_bytes_max: symbols,
        maps_max: u64::from(*config.symbols.maps_max),
        ..WalkerOptions::new(place.program.clone())
    }
}
