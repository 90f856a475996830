//! Feeds the store's changes to the index, on its own thread.
//!
//! 1. At the start the indexer compares the watermark of the last commit with the store's feed of changes.
//!    If the feed does not continue from the watermark, it builds the index from the store's rows.
//! 2. It reads changes in batches, writes the current state of each changed crash, and commits the index: at
//!    once after an idle time, otherwise at most once per [`COMMIT_PAUSE`].
//! 3. Only after the commit may the store forget the changes. So a kill at any point repeats work and never
//!    skips it.
//!
//! A build does not stop the feed: the indexer alternates between a batch of changes and a batch of rows. So
//! new crashes can be found as fast as usual, and a restart continues from the last commit. On request, and
//! if the index was made for another catalogue, the indexer builds a complete index beside the current one.
//! The next index also receives the changes that arrive meanwhile. When it is complete, it replaces the
//! current one ([`Indexer::rebuild`], or [`rebuild`] without a server).
//! An error closes the writers. After a pause the indexer starts again at step 1.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{
    Receiver, RecvTimeoutError, Sender, TryRecvError, after, bounded, never, select,
};

use crate::index::{Document, Index, IndexError, Side, Watermark, Writer};
use crate::metrics::Metrics;
use crate::process;
use crate::store::{State, Store, StoreError, StoredCrash};
use crate::vital::Vital;
use parking_lot::Mutex;

/// Changes or rows between two checks of the clock and of the stop signal.
const BATCH: usize = 200;
/// Pause between two commits while changes arrive.
const COMMIT_PAUSE: Duration = Duration::from_millis(500);
/// Pause between two commits while only old rows are written.
const BUILD_COMMIT_PAUSE: Duration = Duration::from_secs(10);
/// Pause after an error. Each further error doubles it.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(30);

/// How far the index is behind the store, for the status page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexerStatus {
    /// Crashes that a search can find.
    pub documents: u64,
    /// The last committed change.
    pub change: u64,
    /// Number of the store's changes after that one.
    pub changes_waiting: u64,
    /// Set while an index is built from the store's rows.
    pub building: Option<Building>,
    /// Why the indexer pauses; `None` if it does not.
    pub error: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Building {
    /// Rows written since the server started.
    pub rows: u64,
    /// Rows in the store when the build began.
    pub rows_total: u64,
    /// True if another, complete index answers searches. If false, searches find too little.
    pub is_beside: bool,
}

/// The indexer thread.
pub struct Indexer {
    stop: Mutex<Option<Sender<()>>>,
    wake: Sender<()>,
    thread: Mutex<Option<JoinHandle<()>>>,
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<Store>,
    index: Arc<Index>,
    metrics: Arc<Metrics>,
    building: Mutex<Option<Building>>,
    error: Mutex<Option<String>>,
    /// True if a rebuild was requested.
    is_asked: AtomicBool,
}

/// How one run of [`Shared::work`] ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Stopped,
    /// New writers must be opened.
    Again,
}

impl Indexer {
    pub fn start(store: Arc<Store>, index: Arc<Index>, metrics: Arc<Metrics>) -> io::Result<Self> {
        let shared = Arc::new(Shared::new(store, index, metrics));
        let (stop, stopped) = bounded(0);
        let (wake, woken) = bounded(1);
        let thread = std::thread::Builder::new().name("indexer".into()).spawn({
            let shared = shared.clone();
            move || {
                let vital = Vital::new("indexer");
                shared.run(&stopped, &woken);
                vital.finish();
            }
        })?;
        Ok(Self {
            stop: Mutex::new(Some(stop)),
            wake,
            thread: Mutex::new(Some(thread)),
            shared,
        })
    }

    pub fn status(&self) -> IndexerStatus {
        let index = self.shared.index.status();
        let change = index.watermark.map_or(0, |mark| mark.change);
        let last = self
            .shared
            .store
            .change_range()
            .map_or(change, |(last, _)| last);
        IndexerStatus {
            documents: index.documents,
            change,
            changes_waiting: last.saturating_sub(change),
            building: self.building(),
            error: self.shared.error.lock().clone(),
        }
    }

    /// The build in progress, if any.
    pub fn building(&self) -> Option<Building> {
        *self.shared.building.lock()
    }

    /// Requests a new index, which is built beside the current one. Searches continue. If a build is already
    /// in progress, nothing changes.
    pub fn rebuild(&self) {
        self.shared.is_asked.store(true, Ordering::SeqCst);
        // If the channel is full, the thread has a signal that it has not read yet.
        let _ = self.wake.try_send(());
    }

    /// Commits what is written and ends the thread.
    pub fn stop(&self) {
        drop(self.stop.lock().take());
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the indexer panicked");
        }
    }
}

impl Drop for Indexer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The error that closed a writer.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Index(#[from] IndexError),
    /// An error of the next index, which is built beside the current one.
    #[error("{0}")]
    Next(#[source] IndexError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Builds a new index beside the current one and puts it in place, for a store that no server has open.
/// After a kill the old index remains, and the next server continues the build. `tell` is called from time
/// to time.
///
/// # Errors
/// The store cannot be read, or the index cannot be written. The old index remains.
pub fn rebuild(
    store: &Arc<Store>,
    index: &Arc<Index>,
    mut tell: impl FnMut(Building),
) -> Result<Building, String> {
    let shared = Shared::new(store.clone(), index.clone(), Arc::default());
    shared.is_asked.store(true, Ordering::SeqCst);
    let mut build = || -> Result<Building, Broken> {
        let mut feed = Feed::open(&shared)?;
        while feed.advance()? || feed.is_building() {
            if feed.commit_due() {
                feed.commit()?;
                tell(feed.building);
            }
        }
        feed.commit()?;
        let building = feed.building;
        feed.finish()?;
        Ok(building)
    };
    build().map_err(|broken| broken.to_string())
}

impl Shared {
    fn new(store: Arc<Store>, index: Arc<Index>, metrics: Arc<Metrics>) -> Self {
        Self {
            store,
            index,
            metrics,
            building: Mutex::default(),
            error: Mutex::default(),
            is_asked: AtomicBool::new(false),
        }
    }

    fn run(&self, stopped: &Receiver<()>, woken: &Receiver<()>) {
        let mut pause = RETRY_PAUSE;
        loop {
            let began = Instant::now();
            let broken = match self.work(stopped, woken) {
                Ok(End::Stopped) => return,
                Ok(End::Again) => continue,
                Err(broken) => broken,
            };
            tracing::error!(error = %broken, "indexing pauses");
            *self.error.lock() = Some(broken.to_string());
            let removed = match broken {
                Broken::Index(IndexError::Damaged(_)) => self.index.reset(),
                Broken::Next(IndexError::Damaged(_)) => self.index.drop_next(),
                _ => Ok(()),
            };
            if let Err(error) = removed {
                tracing::error!(%error, "the damaged index cannot be removed");
            }
            if began.elapsed() > RETRY_PAUSE_MAX {
                pause = RETRY_PAUSE;
            }
            match stopped.recv_timeout(pause) {
                Err(RecvTimeoutError::Timeout) => pause = (pause * 2).min(RETRY_PAUSE_MAX),
                _ => return,
            }
        }
    }

    /// Runs one set of writers until the thread must stop, new writers are needed, or an error occurs.
    fn work(&self, stopped: &Receiver<()>, woken: &Receiver<()>) -> Result<End, Broken> {
        let mut signal = self.store.change_signal();
        let mut feed = Feed::open(self)?;
        loop {
            let is_behind = feed.advance()?;
            if feed.commit_due() {
                feed.commit()?;
                *self.error.lock() = None;
            }
            if feed.lines.len() > 1 && !feed.is_building() && !is_behind {
                feed.commit()?;
                feed.finish()?;
                return Ok(End::Again);
            }
            let timeout = match feed.commit_in() {
                Some(wait) => after(wait),
                None => never(),
            };
            if is_behind {
                match stopped.try_recv() {
                    Err(TryRecvError::Empty) => continue,
                    _ => return feed.close(),
                }
            }
            select! {
                recv(stopped) -> _ => return feed.close(),
                recv(woken) -> told => {
                    if told.is_ok() && !feed.is_building() {
                        feed.close()?;
                        return Ok(End::Again);
                    }
                    // The build in progress includes all changes, so the request needs no other one.
                    self.is_asked.store(false, Ordering::SeqCst);
                }
                recv(signal) -> told => if told.is_err() {
                    signal = never();
                },
                recv(timeout) -> _ => {}
            }
        }
    }

    fn set_building(&self, building: Option<Building>) {
        *self.building.lock() = building;
    }

    /// True if the feed of changes continues after this mark.
    fn continues(&self, mark: Watermark) -> Result<bool, Broken> {
        let (last, first) = self.store.change_range()?;
        let has_next = first.is_some_and(|first| first <= mark.change + 1);
        Ok(mark.change == last || has_next && mark.change < last)
    }
}

/// The writer of one index, and how far its rows are.
struct Line {
    side: Side,
    writer: Writer,
    /// As in the watermark.
    rebuilt_to: Option<u64>,
}

/// The writers, and what they have not committed yet.
struct Feed<'s> {
    shared: &'s Shared,
    /// The current index, and the next one if it is being built.
    lines: Vec<Line>,
    /// The last change that all indexes have.
    change: u64,
    building: Building,
    /// Crashes that changed since the build began. Their current state is already written. `None` if an
    /// earlier run began the build.
    written: Option<HashSet<u64>>,
    committed_at: Instant,
    /// True if changes wait for a commit.
    has_changes: bool,
    /// True if rows wait for a commit.
    has_rows: bool,
}

impl<'s> Feed<'s> {
    fn open(shared: &'s Shared) -> Result<Self, Broken> {
        let index = &shared.index;
        let (last, _) = shared.store.change_range()?;
        let states = shared.store.status()?.states;
        let rows_total: u64 = states.iter().map(|(_, crashes)| crashes).sum();
        let fresh = Watermark {
            change: last,
            // The index of a store without crashes is complete at once.
            rebuilt_to: (rows_total > 0).then_some(0),
        };
        let mut is_fresh = false;
        let mark = match index.watermark() {
            Some(mark) if shared.continues(mark)? => mark,
            mark => {
                tracing::info!(last_change = last, "the index is built from the store");
                // An index without a mark is empty.
                if mark.is_some() {
                    index.reset()?;
                }
                is_fresh = true;
                fresh
            }
        };
        let mut writer = Writer::open(index, Side::Current)?;
        if is_fresh {
            writer.commit(fresh)?;
        }
        let mut change = mark.change;
        let mut lines = vec![Line {
            side: Side::Current,
            writer,
            rebuilt_to: mark.rebuilt_to,
        }];
        let is_asked = shared.is_asked.swap(false, Ordering::SeqCst);
        let next = match index.next_watermark() {
            Some(next) if mark.rebuilt_to.is_none() && shared.continues(next)? => Some(next),
            // An index that is being built in place is already up to date.
            _ if mark.rebuilt_to.is_some() || !is_asked && index.is_up_to_date() => {
                index.drop_next()?;
                None
            }
            _ => {
                let unbuilt = index.unbuilt();
                let unbuilt: Vec<&str> = unbuilt.iter().map(|field| field.name).collect();
                tracing::info!(
                    last_change = last,
                    is_up_to_date = index.is_up_to_date(),
                    fields_unbuilt = unbuilt.join(", "),
                    "the index is built anew beside itself"
                );
                index.begin_next()?;
                is_fresh = true;
                Some(fresh)
            }
        };
        if let Some(next) = next {
            let mut writer = Writer::open(index, Side::Next).map_err(Broken::Next)?;
            if is_fresh {
                writer.commit(next).map_err(Broken::Next)?;
            }
            change = change.min(next.change);
            lines.push(Line {
                side: Side::Next,
                writer,
                rebuilt_to: next.rebuilt_to,
            });
        }
        let mut building = Building {
            is_beside: lines.len() > 1,
            ..Building::default()
        };
        if lines.iter().any(|line| line.rebuilt_to.is_some()) {
            building.rows_total = rows_total;
            shared.set_building(Some(building));
        } else {
            shared.set_building(None);
        }
        let committed_at = Instant::now();
        Ok(Self {
            shared,
            lines,
            change,
            building,
            written: is_fresh.then(HashSet::new),
            // So that the first change is committed at once.
            committed_at: committed_at
                .checked_sub(COMMIT_PAUSE)
                .unwrap_or(committed_at),
            has_changes: false,
            has_rows: false,
        })
    }

    fn is_building(&self) -> bool {
        self.lines.iter().any(|line| line.rebuilt_to.is_some())
    }

    /// Writes a batch of changes, and a batch of rows while building. Returns true if there is more.
    fn advance(&mut self) -> Result<bool, Broken> {
        let changes = self.shared.store.changes(self.change, BATCH)?;
        // Only the last change of a crash needs to be written.
        let crashes: BTreeMap<u64, u64> = changes.iter().map(|c| (c.seq, c.change)).collect();
        for seq in crashes.into_keys() {
            self.write_change(seq)?;
        }
        if let Some(last) = changes.last() {
            self.change = last.change;
            self.has_changes = true;
        }
        let building = self.lines.iter().enumerate();
        let building = building.filter_map(|(at, line)| Some((at, line.rebuilt_to?)));
        let Some((at, done)) = { building }.next() else {
            return Ok(changes.len() == BATCH);
        };
        let rows = self.shared.store.scan(done, BATCH)?;
        self.has_rows = true;
        self.building.rows += rows.len() as u64;
        self.lines[at].rebuilt_to = rows.last().map(|(seq, _)| *seq);
        for (seq, row) in rows {
            self.write_row(at, seq, &row)?;
        }
        if self.lines[at].rebuilt_to.is_none() {
            // The end of the build must be committed.
            self.has_changes = true;
            self.written = None;
            tracing::info!(rows = self.building.rows, "the index is built");
        }
        self.shared.set_building(Some(self.building));
        Ok(true)
    }

    fn row(&self, seq: u64) -> Result<Option<StoredCrash>, Broken> {
        match self.shared.store.crash_at(seq) {
            Err(error @ (StoreError::Damaged(_) | StoreError::Newer(_))) => {
                tracing::error!(seq, %error, "a crash is left out of the index");
                Ok(None)
            }
            other => Ok(other?),
        }
    }

    /// Makes all indexes agree with the store about a crash. An unprocessed crash has no document.
    fn write_change(&mut self, seq: u64) -> Result<(), Broken> {
        let document = match self.row(seq)? {
            Some(row) => self.document(seq, &row)?,
            None => None,
        };
        for line in &mut self.lines {
            line.write(seq, document.as_ref(), false)?;
        }
        if self.is_building()
            && let Some(written) = &mut self.written
        {
            written.insert(seq);
        }
        self.shared.metrics.indexed.add(1);
        Ok(())
    }

    /// Writes a row to the index that is being built.
    fn write_row(&mut self, at: usize, seq: u64, row: &StoredCrash) -> Result<(), Broken> {
        let is_new = match &self.written {
            Some(written) if written.contains(&seq) => return Ok(()),
            written => written.is_some(),
        };
        let document = self.document(seq, row)?;
        self.lines[at].write(seq, document.as_ref(), is_new)?;
        self.shared.metrics.indexed.add(1);
        Ok(())
    }

    fn document(&self, seq: u64, row: &StoredCrash) -> Result<Option<Document>, Broken> {
        let store = &self.shared.store;
        let left_out = |why: &dyn std::fmt::Display| {
            tracing::error!(crash_id = %row.id, error = %why, "a crash is left out of the index");
        };
        let processed = match store.processed(row) {
            Ok(Some(processed)) => processed,
            Ok(None) if row.state == State::Deferred => return Ok(self.deferred(seq, row)?),
            Ok(None) => return Ok(None),
            Err(error @ (StoreError::Damaged(_) | StoreError::Newer(_))) => {
                left_out(&error);
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let annotations = match store.raw(row) {
            Ok(raw) => raw.annotations,
            // It is still useful to find the processed crash alone.
            Err(StoreError::Damaged(_) | StoreError::Newer(_)) => BTreeMap::new(),
            Err(error) => return Err(error.into()),
        };
        match Document::new(seq, row.id, row.received_at(), &processed, &annotations) {
            Ok(document) => Ok(Some(document)),
            Err(error) => {
                left_out(&error);
                Ok(None)
            }
        }
    }

    /// The document of a report that was not processed, from what its client sent.
    fn deferred(&self, seq: u64, row: &StoredCrash) -> Result<Option<Document>, StoreError> {
        let raw = match self.shared.store.raw(row) {
            Err(error @ (StoreError::Damaged(_) | StoreError::Newer(_))) => {
                tracing::error!(crash_id = %row.id, %error, "a crash is left out of the index");
                return Ok(None);
            }
            raw => raw?,
        };
        let known = process::unprocessed(&raw, &row.throttle_rule);
        Ok(Document::new(seq, row.id, row.received_at(), &known, &raw.annotations).ok())
    }

    fn commit_pause(&self) -> Option<Duration> {
        match (self.has_changes, self.has_rows) {
            (true, _) => Some(COMMIT_PAUSE),
            (false, true) => Some(BUILD_COMMIT_PAUSE),
            (false, false) => None,
        }
    }

    /// Time until the next commit; `None` if there is nothing to commit.
    fn commit_in(&self) -> Option<Duration> {
        Some(
            self.commit_pause()?
                .saturating_sub(self.committed_at.elapsed()),
        )
    }

    fn commit_due(&self) -> bool {
        self.commit_in().is_some_and(|wait| wait.is_zero())
    }

    fn commit(&mut self) -> Result<(), Broken> {
        let (change, has_changes) = (self.change, self.has_changes);
        // An index whose rows are complete has nothing new unless changes arrived. The current index is
        // committed last, so that the next one has everything that it has. It is committed even if the
        // commit of the next one fails.
        let due = |line: &&mut Line| has_changes || line.rebuilt_to.is_some();
        let lines = self.lines.iter_mut().rev().filter(due);
        let outcomes: Vec<Result<(), Broken>> = lines.map(|line| line.commit(change)).collect();
        outcomes.into_iter().collect::<Result<(), Broken>>()?;
        self.committed_at = Instant::now();
        (self.has_changes, self.has_rows) = (false, false);
        // Searches see the end of a build only now. A next index is useful once it is in place.
        if !self.is_building() && !self.building.is_beside {
            self.shared.set_building(None);
        }
        match self.shared.store.indexed(self.change) {
            // The store only keeps the changes longer than necessary.
            Err(StoreError::Stopping) => Ok(()),
            other => Ok(other?),
        }
    }

    /// Puts the next index in place, if there is one. Everything must be committed.
    fn finish(self) -> Result<(), Broken> {
        let shared = self.shared;
        if self.lines.len() < 2 {
            return Ok(());
        }
        // This closes two writers and cancels their merges.
        drop(self);
        shared.index.swap()?;
        shared.set_building(None);
        tracing::info!("the index that was built is in place");
        Ok(())
    }

    /// Ends the feed. Rows of a build in progress are not committed, because that may take too long; the
    /// next start writes them again. For that build the store keeps the changes, and only the current index
    /// commits them.
    fn close(mut self) -> Result<End, Broken> {
        let is_beside = self.lines.len() > 1;
        if self.has_changes && self.lines[0].rebuilt_to.is_none() {
            if is_beside {
                self.lines[0].commit(self.change)?
            } else {
                self.commit()?
            }
        }
        Ok(End::Stopped)
    }
}

impl Line {
    /// Writes the document of a crash, or deletes it if there is none. `is_new` means that the index does
    /// not contain the crash yet.
    fn write(&mut self, seq: u64, document: Option<&Document>, is_new: bool) -> Result<(), Broken> {
        let written = match document {
            Some(document) if is_new => self.writer.add(document),
            Some(document) => self.writer.put(document),
            None if is_new => Ok(()),
            None => {
                self.writer.delete(seq);
                Ok(())
            }
        };
        written.map_err(|error| self.broken(error))
    }

    fn commit(&mut self, change: u64) -> Result<(), Broken> {
        let watermark = Watermark {
            change,
            rebuilt_to: self.rebuilt_to,
        };
        let committed = self.writer.commit(watermark);
        committed.map_err(|error| self.broken(error))
    }

    fn broken(&self, error: IndexError) -> Broken {
        match self.side {
            Side::Current => Broken::Index(error),
            Side::Next => Broken::Next(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    use serde_json::json;

    use crate::clock::{Clock, SystemClock, Timestamp};
    use crate::crash::facts::Facts;
    use crate::crash::id::{CrashId, Kept};
    use crate::crash::raw::RawCrash;
    use crate::query::Query;
    use crate::queue::{Jobs, Stop, queue};
    use crate::store::disk::OsDisk;
    use crate::store::{Finished, NewCrash, Payload, StoreOptions};

    struct TestServer {
        store: Arc<Store>,
        index: Arc<Index>,
        indexer: Indexer,
        jobs: Jobs,
        _stop: Stop,
    }

    impl TestServer {
        fn open(dir: &Path) -> Self {
            let (lanes, jobs, stop) = queue(1_000);
            let disk = Arc::new(OsDisk::new(dir).unwrap());
            let options = StoreOptions {
                cache_bytes: 1 << 20,
                spill_dir: dir.to_path_buf(),
            };
            let store = Store::open(disk, options, Arc::new(SystemClock), Box::new(lanes)).unwrap();
            let store = Arc::new(store);
            let index = Index::open(&dir.join("index"), store.id().unwrap()).unwrap();
            let index = Arc::new(index);
            let indexer =
                Indexer::start(store.clone(), index.clone(), Arc::new(Metrics::default())).unwrap();
            Self {
                store,
                index,
                indexer,
                jobs,
                _stop: stop,
            }
        }

        fn accept(&self, number: u128) -> CrashId {
            let received_at = SystemClock.now();
            // The day takes the last digits.
            let id = CrashId::new(number << 64, Kept::Accepted, received_at);
            let mut raw = RawCrash::default();
            raw.annotations.insert("guid".into(), format!("g{number}"));
            let crash = NewCrash {
                id,
                received_at,
                product: "P".into(),
                version: "1".into(),
                throttle_rule: "default".into(),
                deferred_days: None,
                raw: Payload::from_bytes(&serde_json::to_vec(&raw).unwrap()),
                digest: None,
                parts: Vec::new(),
            };
            self.store.accept(crash).unwrap();
            id
        }

        fn process(&self, signature: &str) {
            let job = self.jobs.next().unwrap();
            let processed = json!({ "signature": signature, "product": "P", "json_dump": {} });
            let finished = Finished {
                processed: Payload::from_bytes(processed.to_string().as_bytes()),
                signature: signature.into(),
                processed_at: SystemClock.now(),
                facts: Facts::default(),
                lacks: Vec::new(),
                used: Vec::new(),
                named: Default::default(),
                revision: 0,
                failure: None,
            };
            self.store.finish(job, finished).unwrap();
        }

        fn total(&self, field: &str, value: &str) -> u64 {
            let now = Timestamp::from_ms(SystemClock.now().ms() + 60_000);
            let params = [(field.to_owned(), value.to_owned())];
            let query = Query::parse(&params, now, true).unwrap();
            self.index.search(&query).unwrap().total
        }

        /// Waits until a condition is true. Returns the milliseconds that it took.
        fn until(&self, what: &str, mut condition: impl FnMut(&Self) -> bool) -> u128 {
            let began = Instant::now();
            while !condition(self) {
                assert!(
                    began.elapsed() < Duration::from_secs(20),
                    "{what}: {:?}",
                    self.indexer.status()
                );
                std::thread::sleep(Duration::from_millis(5));
            }
            began.elapsed().as_millis()
        }

        fn close(self) {
            let began = Instant::now();
            self.indexer.stop();
            assert!(
                began.elapsed() < Duration::from_secs(1),
                "{:?}",
                began.elapsed()
            );
            self.store.close();
        }
    }

    #[test]
    fn a_crash_is_found_soon_after_it_is_processed_and_under_its_newest_signature() {
        let dir = tempfile::tempdir().unwrap();
        let test = TestServer::open(dir.path());
        let id = test.accept(1);
        test.process("first");
        let took = test.until("found", |h| h.total("signature", "=first") == 1);
        assert!(took < 2_000, "{took} ms");
        assert_eq!(test.total("annotation.guid", "g1"), 1);
        test.store.prioritize(id).unwrap();
        test.process("second");
        test.until("found anew", |h| h.total("signature", "=second") == 1);
        assert_eq!(test.total("signature", "=first"), 0);
        test.until("caught up", |h| h.indexer.status().changes_waiting == 0);
        test.until("forgotten", |h| {
            h.store.status().unwrap().changes_waiting == 0
        });
        test.close();
    }

    #[test]
    fn a_deleted_index_is_built_from_the_store_and_new_crashes_are_found_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let test = TestServer::open(dir.path());
        for number in 0..450 {
            test.accept(number);
            test.process("old");
        }
        test.until("all indexed", |h| h.total("signature", "=old") == 450);
        test.accept(450);
        test.close();
        std::fs::remove_dir_all(dir.path().join("index")).unwrap();

        let test = TestServer::open(dir.path());
        test.process("new");
        test.until("the new one", |h| h.total("signature", "=new") == 1);
        test.until("built", |h| h.indexer.status().building.is_none());
        test.until("the old ones", |h| h.total("signature", "=old") == 450);
        assert_eq!(
            test.index.watermark().and_then(|mark| mark.rebuilt_to),
            None
        );
        assert_eq!(test.indexer.status().documents, 451);
        test.close();
    }

    #[test]
    fn a_restart_goes_on_where_the_index_was() {
        let dir = tempfile::tempdir().unwrap();
        let test = TestServer::open(dir.path());
        test.accept(1);
        test.process("one");
        test.until("indexed", |h| h.total("signature", "=one") == 1);
        test.indexer.stop();
        test.accept(2);
        test.process("two");
        test.until("stored", |h| h.store.change_range().unwrap().0 == 2);
        test.close();

        let test = TestServer::open(dir.path());
        assert_eq!(test.total("signature", "=one"), 1, "nothing is thrown away");
        test.until("caught up", |h| h.total("signature", "=two") == 1);
        assert_eq!(test.indexer.status().building, None);
        test.close();
    }

    #[test]
    fn an_index_is_built_beside_the_one_that_answers() {
        let dir = tempfile::tempdir().unwrap();
        let test = TestServer::open(dir.path());
        for number in 0..650 {
            test.accept(number);
            test.process("old");
        }
        test.until("all indexed", |h| h.total("signature", "=old") == 650);
        // Damage that no change repairs. Only a build from the store's rows does.
        test.indexer.stop();
        let mut writer = Writer::open(&test.index, Side::Current).unwrap();
        (1..=50).for_each(|seq| writer.delete(seq));
        writer.commit(test.index.watermark().unwrap()).unwrap();
        drop(writer);
        let metrics = Arc::new(Metrics::default());
        let indexer = Indexer::start(test.store.clone(), test.index.clone(), metrics).unwrap();
        let test = TestServer { indexer, ..test };
        assert_eq!(test.total("signature", "=old"), 600);
        test.indexer.rebuild();
        test.accept(650);
        test.process("new");
        let mut was_beside = false;
        test.until("the whole", |h| {
            was_beside |= h.indexer.building().is_some_and(|b| b.is_beside);
            let found = h.total("signature", "=old");
            assert!(
                found >= 600,
                "{found}: the old one answers until the new one is whole"
            );
            found == 650
        });
        test.until("the new one", |h| h.total("signature", "=new") == 1);
        test.until("in place", |h| h.indexer.building().is_none());
        assert!(was_beside);
        assert_eq!(test.indexer.status().documents, 651);
        // The new index receives changes.
        test.accept(651);
        test.process("newer");
        test.until("the newer one", |h| h.total("signature", "=newer") == 1);
        test.close();
        let left = std::fs::read_dir(dir.path().join("index")).unwrap().count();
        assert_eq!(
            left, 2,
            "a folder, and which: nothing of the old one is left"
        );
    }

    #[test]
    fn a_build_beside_goes_on_after_a_kill() {
        let dir = tempfile::tempdir().unwrap();
        let test = TestServer::open(dir.path());
        for number in 0..300 {
            test.accept(number);
            test.process("old");
        }
        test.until("all indexed", |h| h.total("signature", "=old") == 300);
        test.indexer.stop();
        let change = test.index.watermark().unwrap().change;
        // Half of it was committed when the server died.
        test.index.begin_next().unwrap();
        let mut writer = Writer::open(&test.index, Side::Next).unwrap();
        writer
            .commit(Watermark {
                change,
                rebuilt_to: Some(100),
            })
            .unwrap();
        drop(writer);
        test.accept(300);
        test.process("new");
        test.until("stored", |h| h.store.change_range().unwrap().0 > change);
        test.close();

        let test = TestServer::open(dir.path());
        // The first hundred are missing in the next index. So this shows that the server continued the build
        // and did not start again.
        test.until("in place", |h| h.total("signature", "=old") == 200);
        test.until("the new one", |h| h.total("signature", "=new") == 1);
        test.until("done", |h| h.indexer.building().is_none());
        test.close();
    }

    #[test]
    fn a_rebuild_without_a_server_puts_a_whole_index_in_place() {
        let dir = tempfile::tempdir().unwrap();
        let test = TestServer::open(dir.path());
        for number in 0..300 {
            test.accept(number);
            test.process("old");
        }
        test.until("all indexed", |h| h.total("signature", "=old") == 300);
        test.indexer.stop();
        test.accept(300);
        test.process("new");
        test.until("stored", |h| h.store.change_range().unwrap().0 > 300);
        let built = rebuild(&test.store, &test.index, |_| {}).unwrap();
        assert_eq!((built.rows, built.rows_total), (301, 301));
        assert_eq!(test.total("signature", "=old"), 300);
        assert_eq!(test.total("signature", "=new"), 1);
        // The same when there is no current index.
        test.index.reset().unwrap();
        let built = rebuild(&test.store, &test.index, |_| {}).unwrap();
        assert_eq!(built.rows, 301);
        assert_eq!(test.total("signature", "=old"), 300);
        test.close();
    }

    #[test]
    fn an_index_ahead_of_its_store_is_built_anew() {
        let dir = tempfile::tempdir().unwrap();
        let test = TestServer::open(dir.path());
        test.accept(1);
        test.process("one");
        test.until("indexed", |h| h.total("signature", "=one") == 1);
        test.indexer.stop();
        let mut writer = Writer::open(&test.index, Side::Current).unwrap();
        writer.delete(1);
        writer
            .commit(Watermark {
                change: 99,
                rebuilt_to: None,
            })
            .unwrap();
        drop(writer);
        test.close();

        let test = TestServer::open(dir.path());
        test.until("built", |h| h.total("signature", "=one") == 1);
        test.close();
    }
}
