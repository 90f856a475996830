//! From the store's changes to the index, on a thread of its own.
//!
//! 1. At the start the watermark of the last commit is held against the store's feed of changes.
//!    Where the feed does not continue it, the index is built from the store's rows.
//! 2. Changes are read in batches, each crash is written as the store has it now, and the index
//!    is committed: at once after a rest, else not more often than [`COMMIT_PAUSE`].
//! 3. Only then the store may forget the changes. So a kill at any point makes work be done twice
//!    and never be left out.
//!
//! Building goes on beside the feed, a batch of rows between two looks at it: new crashes are
//! found as fast as ever, and a restart goes on where the last commit was. On demand, and where the
//! index was made for another catalogue, a whole index is built anew beside the one that answers,
//! which takes in what changes meanwhile, too; when it is built, it takes the other's place
//! ([`Indexer::rebuild`], or [`rebuild`] without a server).
//! An error closes the writers; after a pause everything begins again at 1.

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

/// Changes or rows between two looks at the clock and at the stop signal.
const BATCH: usize = 200;
/// Between two commits while changes flow.
const COMMIT_PAUSE: Duration = Duration::from_millis(500);
/// Between two commits while only old rows are being written.
const BUILD_COMMIT_PAUSE: Duration = Duration::from_secs(10);
/// After an error, doubled with each that follows.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(30);

/// How far the index is behind, for the status page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexerStatus {
    /// Crashes that a search can find.
    pub documents: u64,
    /// The last change that is committed.
    pub change: u64,
    /// Changes of the store behind it.
    pub changes_waiting: u64,
    /// While an index is built from the store's rows.
    pub building: Option<Building>,
    /// Why it does not go on just now.
    pub error: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Building {
    /// Rows done, since the server started.
    pub rows: u64,
    /// Rows of the store when it began.
    pub rows_total: u64,
    /// Searches are answered from another one, which is whole. Else they find too little.
    pub is_beside: bool,
}

/// The running thread.
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
    /// Somebody wants the index built anew.
    is_asked: AtomicBool,
}

/// How one life of the writers ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Stopped,
    /// Others are to be opened.
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

    /// What is being built just now.
    pub fn building(&self) -> Option<Building> {
        *self.shared.building.lock()
    }

    /// Has the index built anew beside itself. Searches go on; where one is being built already,
    /// nothing changes.
    pub fn rebuild(&self) {
        self.shared.is_asked.store(true, Ordering::SeqCst);
        // A full channel has told it already.
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

/// Why a writer was closed.
#[derive(Debug)]
enum Broken {
    Index(IndexError),
    /// Of the index that is built beside.
    Next(IndexError),
    Store(StoreError),
}

impl From<IndexError> for Broken {
    fn from(error: IndexError) -> Self {
        Self::Index(error)
    }
}

impl From<StoreError> for Broken {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Index(error) | Self::Next(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
        }
    }
}

/// Builds the index anew beside itself and puts it in place, for a store that no server has open.
/// A kill leaves the old one, and the next server goes on. `tell` is called now and then.
///
/// # Errors
/// The store cannot be read, or the index not be written.
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

    /// One life of the writers: until it is time to stop, or for others, or an error.
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
                recv(woken) -> told => match told.is_ok() && !feed.is_building() {
                    true => {
                        feed.close()?;
                        return Ok(End::Again);
                    }
                    // What is being built is as new as can be.
                    false => self.is_asked.store(false, Ordering::SeqCst),
                },
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

    /// Whether the feed of changes goes on behind this mark.
    fn continues(&self, mark: Watermark) -> Result<bool, Broken> {
        let (last, first) = self.store.change_range()?;
        let has_next = first.is_some_and(|first| first <= mark.change + 1);
        Ok(mark.change == last || has_next && mark.change < last)
    }
}

/// An index that is written, and how far its rows are.
struct Line {
    side: Side,
    writer: Writer,
    /// As in its watermark.
    rebuilt_to: Option<u64>,
}

/// The writers, and how far they are ahead of their last commit.
struct Feed<'s> {
    shared: &'s Shared,
    /// The current index, and one that is built beside it.
    lines: Vec<Line>,
    /// The last change that all have.
    change: u64,
    building: Building,
    /// Crashes that changed since building began, which have been written as they are by now.
    /// `None` where it began in another life.
    written: Option<HashSet<u64>>,
    committed_at: Instant,
    /// Something new waits for a commit.
    has_changes: bool,
    /// Something old does.
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
            // Of a store without a crash it is whole at once.
            rebuilt_to: (rows_total > 0).then_some(0),
        };
        let mut is_fresh = false;
        let mark = match index.watermark() {
            Some(mark) if shared.continues(mark)? => mark,
            mark => {
                tracing::info!(last_change = last, "the index is built from the store");
                // Without a mark there is nothing in it.
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
            // One that is built in place is as new as can be.
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
            // Whatever comes first is committed at once.
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

    /// Takes a batch of changes, and one of rows while building. Returns whether there is more.
    fn advance(&mut self) -> Result<bool, Broken> {
        let changes = self.shared.store.changes(self.change, BATCH)?;
        // What was written before the last change of a crash need not be written now.
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
            // The end of building is news that should not be forgotten.
            self.has_changes = true;
            self.written = None;
            tracing::info!(rows = self.building.rows, "the index is built");
        }
        // One beside is only of use once it is in place.
        let is_shown = self.building.is_beside || self.is_building();
        self.shared.set_building(is_shown.then_some(self.building));
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

    /// Makes every index say of a crash what the store says: nothing, before its first processing.
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

    /// Writes a row to the index that is built.
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
            // The processed crash alone is still worth finding.
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

    /// A report that was not processed, by what its client said.
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

    /// Until the next commit; `None` where there is nothing to commit.
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
        // One that no rows are written to has nothing that is new. The current one comes last, so
        // that the other lacks nothing that it has, and comes even where the other fails.
        let due = |line: &&mut Line| has_changes || line.rebuilt_to.is_some();
        let lines = self.lines.iter_mut().rev().filter(due);
        let outcomes: Vec<Result<(), Broken>> = lines.map(|line| line.commit(change)).collect();
        outcomes.into_iter().collect::<Result<(), Broken>>()?;
        self.committed_at = Instant::now();
        (self.has_changes, self.has_rows) = (false, false);
        match self.shared.store.indexed(self.change) {
            // The feed is only kept longer than it need be.
            Err(StoreError::Stopping) => Ok(()),
            other => Ok(other?),
        }
    }

    /// Puts the index that was built beside in place, where there is one. Everything is committed.
    fn finish(self) -> Result<(), Broken> {
        let shared = self.shared;
        if self.lines.len() < 2 {
            return Ok(());
        }
        // Two writers are closed by this, whatever they were merging.
        drop(self);
        shared.index.swap()?;
        shared.set_building(None);
        tracing::info!("the index that was built is in place");
        Ok(())
    }

    /// Rows that were built are left to the next start: their commit may take too long. So the
    /// feed is kept for them, and what changed comes to the current index alone.
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
    /// Makes the index say this of a crash, which it does not have yet if it `is_new`.
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

    struct House {
        store: Arc<Store>,
        index: Arc<Index>,
        indexer: Indexer,
        jobs: Jobs,
        _stop: Stop,
    }

    impl House {
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

        /// Waits until a condition holds; milliseconds that it took.
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
        let house = House::open(dir.path());
        let id = house.accept(1);
        house.process("first");
        let took = house.until("found", |h| h.total("signature", "=first") == 1);
        assert!(took < 2_000, "{took} ms");
        assert_eq!(house.total("annotation.guid", "g1"), 1);
        house.store.request(id).unwrap();
        house.process("second");
        house.until("found anew", |h| h.total("signature", "=second") == 1);
        assert_eq!(house.total("signature", "=first"), 0);
        house.until("caught up", |h| h.indexer.status().changes_waiting == 0);
        house.until("forgotten", |h| {
            h.store.status().unwrap().changes_waiting == 0
        });
        house.close();
    }

    #[test]
    fn a_deleted_index_is_built_from_the_store_and_new_crashes_are_found_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let house = House::open(dir.path());
        for number in 0..450 {
            house.accept(number);
            house.process("old");
        }
        house.until("all indexed", |h| h.total("signature", "=old") == 450);
        house.accept(450);
        house.close();
        std::fs::remove_dir_all(dir.path().join("index")).unwrap();

        let house = House::open(dir.path());
        house.process("new");
        house.until("the new one", |h| h.total("signature", "=new") == 1);
        house.until("built", |h| h.indexer.status().building.is_none());
        house.until("the old ones", |h| h.total("signature", "=old") == 450);
        assert_eq!(
            house.index.watermark().and_then(|mark| mark.rebuilt_to),
            None
        );
        assert_eq!(house.indexer.status().documents, 451);
        house.close();
    }

    #[test]
    fn a_restart_goes_on_where_the_index_was() {
        let dir = tempfile::tempdir().unwrap();
        let house = House::open(dir.path());
        house.accept(1);
        house.process("one");
        house.until("indexed", |h| h.total("signature", "=one") == 1);
        house.indexer.stop();
        house.accept(2);
        house.process("two");
        house.until("stored", |h| h.store.change_range().unwrap().0 == 2);
        house.close();

        let house = House::open(dir.path());
        assert_eq!(
            house.total("signature", "=one"),
            1,
            "nothing is thrown away"
        );
        house.until("caught up", |h| h.total("signature", "=two") == 1);
        assert_eq!(house.indexer.status().building, None);
        house.close();
    }

    #[test]
    fn an_index_is_built_beside_the_one_that_answers() {
        let dir = tempfile::tempdir().unwrap();
        let house = House::open(dir.path());
        for number in 0..650 {
            house.accept(number);
            house.process("old");
        }
        house.until("all indexed", |h| h.total("signature", "=old") == 650);
        // What no feed would bring: only a build from the store's rows finds it out.
        house.indexer.stop();
        let mut writer = Writer::open(&house.index, Side::Current).unwrap();
        (1..=50).for_each(|seq| writer.delete(seq));
        writer.commit(house.index.watermark().unwrap()).unwrap();
        drop(writer);
        let metrics = Arc::new(Metrics::default());
        let indexer = Indexer::start(house.store.clone(), house.index.clone(), metrics).unwrap();
        let house = House { indexer, ..house };
        assert_eq!(house.total("signature", "=old"), 600);
        house.indexer.rebuild();
        house.accept(650);
        house.process("new");
        let mut was_beside = false;
        house.until("the whole", |h| {
            was_beside |= h.indexer.building().is_some_and(|b| b.is_beside);
            let found = h.total("signature", "=old");
            assert!(
                found >= 600,
                "{found}: the old one answers until the new one is whole"
            );
            found == 650
        });
        house.until("the new one", |h| h.total("signature", "=new") == 1);
        house.until("in place", |h| h.indexer.building().is_none());
        assert!(was_beside);
        assert_eq!(house.indexer.status().documents, 651);
        // It goes on being fed.
        house.accept(651);
        house.process("newer");
        house.until("the newer one", |h| h.total("signature", "=newer") == 1);
        house.close();
        let left = std::fs::read_dir(dir.path().join("index")).unwrap().count();
        assert_eq!(
            left, 2,
            "a folder, and which: nothing of the old one is left"
        );
    }

    #[test]
    fn a_build_beside_goes_on_after_a_kill() {
        let dir = tempfile::tempdir().unwrap();
        let house = House::open(dir.path());
        for number in 0..300 {
            house.accept(number);
            house.process("old");
        }
        house.until("all indexed", |h| h.total("signature", "=old") == 300);
        house.indexer.stop();
        let change = house.index.watermark().unwrap().change;
        // Half of it was committed when the server died.
        house.index.begin_next().unwrap();
        let mut writer = Writer::open(&house.index, Side::Next).unwrap();
        writer
            .commit(Watermark {
                change,
                rebuilt_to: Some(100),
            })
            .unwrap();
        drop(writer);
        house.accept(300);
        house.process("new");
        house.until("stored", |h| h.store.change_range().unwrap().0 > change);
        house.close();

        let house = House::open(dir.path());
        // The first hundred are missing in it, so this shows that it was taken up, not begun anew.
        house.until("in place", |h| h.total("signature", "=old") == 200);
        house.until("the new one", |h| h.total("signature", "=new") == 1);
        house.until("done", |h| h.indexer.building().is_none());
        house.close();
    }

    #[test]
    fn a_rebuild_without_a_server_puts_a_whole_index_in_place() {
        let dir = tempfile::tempdir().unwrap();
        let house = House::open(dir.path());
        for number in 0..300 {
            house.accept(number);
            house.process("old");
        }
        house.until("all indexed", |h| h.total("signature", "=old") == 300);
        house.indexer.stop();
        house.accept(300);
        house.process("new");
        house.until("stored", |h| h.store.change_range().unwrap().0 > 300);
        let built = rebuild(&house.store, &house.index, |_| {}).unwrap();
        assert_eq!((built.rows, built.rows_total), (301, 301));
        assert_eq!(house.total("signature", "=old"), 300);
        assert_eq!(house.total("signature", "=new"), 1);
        // Where there is nothing beside which it could be built.
        house.index.reset().unwrap();
        let built = rebuild(&house.store, &house.index, |_| {}).unwrap();
        assert_eq!(built.rows, 301);
        assert_eq!(house.total("signature", "=old"), 300);
        house.close();
    }

    #[test]
    fn an_index_ahead_of_its_store_is_built_anew() {
        let dir = tempfile::tempdir().unwrap();
        let house = House::open(dir.path());
        house.accept(1);
        house.process("one");
        house.until("indexed", |h| h.total("signature", "=one") == 1);
        house.indexer.stop();
        let mut writer = Writer::open(&house.index, Side::Current).unwrap();
        writer.delete(1);
        writer
            .commit(Watermark {
                change: 99,
                rebuilt_to: None,
            })
            .unwrap();
        drop(writer);
        house.close();

        let house = House::open(dir.path());
        house.until("built", |h| h.total("signature", "=one") == 1);
        house.close();
    }
}
