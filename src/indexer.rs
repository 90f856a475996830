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
//! found as fast as ever, and a restart goes on where the last commit was. An error closes the
//! writer; after a pause everything begins again at 1.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{
    Receiver, RecvTimeoutError, Sender, TryRecvError, after, bounded, never, select,
};

use crate::index::{Document, Index, IndexError, Watermark, Writer};
use crate::metrics::Metrics;
use crate::store::{CrashRow, Store, StoreError};

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
    /// While the index is built from the store's rows, which is when searches find too little.
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
}

/// The running thread.
pub struct Indexer {
    stop: Mutex<Option<Sender<()>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<Store>,
    index: Arc<Index>,
    metrics: Arc<Metrics>,
    building: Mutex<Option<Building>>,
    error: Mutex<Option<String>>,
}

impl Indexer {
    pub fn start(store: Arc<Store>, index: Arc<Index>, metrics: Arc<Metrics>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            store,
            index,
            metrics,
            building: Mutex::default(),
            error: Mutex::default(),
        });
        let (stop, stopped) = bounded(0);
        let thread = std::thread::Builder::new().name("indexer".into()).spawn({
            let shared = shared.clone();
            move || shared.run(&stopped)
        })?;
        Ok(Self {
            stop: Mutex::new(Some(stop)),
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
            building: *lock(&self.shared.building),
            error: lock(&self.shared.error).clone(),
        }
    }

    /// Commits what is written and ends the thread.
    pub fn stop(&self) {
        drop(lock(&self.stop).take());
        if let Some(thread) = lock(&self.thread).take()
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

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

/// Why a writer was closed.
#[derive(Debug)]
enum Broken {
    Index(IndexError),
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
            Self::Index(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl Shared {
    fn run(&self, stopped: &Receiver<()>) {
        let mut pause = RETRY_PAUSE;
        loop {
            let began = Instant::now();
            let Err(broken) = self.work(stopped) else {
                return;
            };
            tracing::error!(error = %broken, "indexing pauses");
            *lock(&self.error) = Some(broken.to_string());
            if let Broken::Index(IndexError::Damaged(_)) = broken
                && let Err(error) = self.index.reset()
            {
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

    /// One life of a writer: until it is time to stop, or an error.
    fn work(&self, stopped: &Receiver<()>) -> Result<(), Broken> {
        let mut signal = self.store.change_signal();
        let mut feed = Feed::open(self)?;
        loop {
            let is_behind = feed.advance()?;
            if feed.commit_due() {
                feed.commit()?;
                *lock(&self.error) = None;
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
                recv(signal) -> told => if told.is_err() {
                    signal = never();
                },
                recv(timeout) -> _ => {}
            }
        }
    }

    fn set_building(&self, building: Option<Building>) {
        *lock(&self.building) = building;
    }
}

/// The writer, and how far it is ahead of its last commit.
struct Feed<'s> {
    shared: &'s Shared,
    writer: Writer,
    mark: Watermark,
    building: Building,
    committed_at: Instant,
    /// Something new waits for a commit.
    has_changes: bool,
    /// Something old does.
    has_rows: bool,
}

impl<'s> Feed<'s> {
    fn open(shared: &'s Shared) -> Result<Self, Broken> {
        let mut writer = Writer::open(&shared.index)?;
        let (last, first) = shared.store.change_range()?;
        let continued = shared.index.watermark().filter(|mark| {
            mark.change == last || first.is_some_and(|f| f <= mark.change + 1 && mark.change < last)
        });
        let mark = match continued {
            Some(mark) => mark,
            None => {
                tracing::info!(last_change = last, "the index is built from the store");
                writer.clear()?;
                let mark = Watermark {
                    change: last,
                    rebuilt_to: Some(0),
                };
                writer.commit(mark)?;
                mark
            }
        };
        let mut building = Building::default();
        if mark.rebuilt_to.is_some() {
            building.rows_total = shared.store.status()?.states.iter().map(|(_, n)| n).sum();
            shared.set_building(Some(building));
        }
        let committed_at = Instant::now();
        Ok(Self {
            shared,
            writer,
            mark,
            building,
            // Whatever comes first is committed at once.
            committed_at: committed_at
                .checked_sub(COMMIT_PAUSE)
                .unwrap_or(committed_at),
            has_changes: false,
            has_rows: false,
        })
    }

    /// Takes a batch of changes, and one of rows while building. Returns whether there is more.
    fn advance(&mut self) -> Result<bool, Broken> {
        let changes = self.shared.store.changes(self.mark.change, BATCH)?;
        // What was written before the last change of a crash need not be written now.
        let crashes: BTreeMap<u64, u64> = changes.iter().map(|c| (c.seq, c.change)).collect();
        for seq in crashes.into_keys() {
            self.write(seq, self.row(seq)?)?;
        }
        if let Some(last) = changes.last() {
            self.mark.change = last.change;
            self.has_changes = true;
        }
        let Some(done) = self.mark.rebuilt_to else {
            return Ok(changes.len() == BATCH);
        };
        let rows = self.shared.store.scan(done, BATCH)?;
        self.has_rows = true;
        self.building.rows += rows.len() as u64;
        self.mark.rebuilt_to = rows.last().map(|(seq, _)| *seq);
        for (seq, row) in rows {
            self.write(seq, Some(row))?;
        }
        self.shared
            .set_building(self.mark.rebuilt_to.map(|_| self.building));
        if self.mark.rebuilt_to.is_none() {
            // The end of building is news that should not be forgotten.
            self.has_changes = true;
            tracing::info!(rows = self.building.rows, "the index is built");
        }
        Ok(true)
    }

    fn row(&self, seq: u64) -> Result<Option<CrashRow>, Broken> {
        match self.shared.store.crash_at(seq) {
            Err(error @ StoreError::Damaged(_)) => {
                tracing::error!(seq, %error, "a crash is left out of the index");
                Ok(None)
            }
            other => Ok(other?),
        }
    }

    /// Makes the index say of a crash what the store says: nothing, before its first processing.
    fn write(&mut self, seq: u64, row: Option<CrashRow>) -> Result<(), Broken> {
        let document = match row {
            Some(row) => self.document(seq, &row)?,
            None => None,
        };
        match document {
            Some(document) => self.writer.put(&document)?,
            None => self.writer.delete(seq),
        }
        self.shared.metrics.indexed.add(1);
        Ok(())
    }

    fn document(&self, seq: u64, row: &CrashRow) -> Result<Option<Document>, Broken> {
        let store = &self.shared.store;
        let left_out = |why: &dyn std::fmt::Display| {
            tracing::error!(crash_id = %row.id, error = %why, "a crash is left out of the index");
        };
        let processed = match store.processed(row) {
            Ok(Some(processed)) => processed,
            Ok(None) => return Ok(None),
            Err(error @ StoreError::Damaged(_)) => {
                left_out(&error);
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let annotations = match store.raw(row) {
            Ok(raw) => raw.annotations,
            // The processed crash alone is still worth finding.
            Err(StoreError::Damaged(_)) => BTreeMap::new(),
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
        self.writer.commit(self.mark)?;
        self.committed_at = Instant::now();
        (self.has_changes, self.has_rows) = (false, false);
        match self.shared.store.indexed(self.mark.change) {
            // The feed is only kept longer than it need be.
            Err(StoreError::Stopping) => Ok(()),
            other => Ok(other?),
        }
    }

    /// Rows that were built are left to the next start: their commit may take too long.
    fn close(mut self) -> Result<(), Broken> {
        match self.has_changes && self.mark.rebuilt_to.is_none() {
            true => self.commit(),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    use serde_json::json;

    use crate::clock::{Clock, SystemClock, Timestamp};
    use crate::crash::id::{CrashId, Kept};
    use crate::crash::raw::RawCrash;
    use crate::query::Query;
    use crate::queue::{Jobs, Stop, queue};
    use crate::store::counters::Facts;
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
        fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) -> u128 {
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
    fn an_index_ahead_of_its_store_is_built_anew() {
        let dir = tempfile::tempdir().unwrap();
        let house = House::open(dir.path());
        house.accept(1);
        house.process("one");
        house.until("indexed", |h| h.total("signature", "=one") == 1);
        house.indexer.stop();
        let mut writer = Writer::open(&house.index).unwrap();
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
