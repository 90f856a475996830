//! The store on a disk that loses power, fails and fills up.
//!
//! One rule always holds: acknowledged ⊆ stored ⊆ sent, byte for byte, with each crash in exactly one state.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crashkeep::clock::{ManualClock, Timestamp};
use crashkeep::crash::facts::Facts;
use crashkeep::crash::id::{CrashId, Kept};
use crashkeep::crash::raw::{Part, PartKind, RawCrash};
use crashkeep::queue::{Jobs, Stop, queue};
use crashkeep::store::disk::{Disk, DiskFile, OsDisk};
use crashkeep::store::{
    DirectoryLock, Finished, Job, JobSink, Lane, NewCrash, OpenError, Payload, PayloadBuilder,
    Prioritized, State, Store, StoreError, StoreOptions, StoredCrash,
};
use crashkeep::store::{rows, tables};
use redb::{Database, ReadableDatabase, ReadableTable};

use crate::server::PATIENCE;
use crate::sim_disk::{Change, Faults, Image, Kind, Random, SimDisk};

/// Variants of each single power cut: it keeps nothing, everything, or some of the unsynced data.
const CUTS_EACH: u64 = 3;
/// One in this many power cuts during a recovery is tested.
const DOUBLE_CUTS_ONE_IN: u64 = 61;
/// Cycles of filling and freeing the disk.
const FILL_CYCLES: usize = 30;
/// Capacity of each channel of the queue.
const PLACES: usize = 2;
const START: Timestamp = Timestamp::from_ms(1_795_338_764_123);
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    Sent(usize),
    Acked(usize),
    /// The test saw that the crash was finished with this result.
    Done(usize, u32),
    Prioritized(usize),
}

pub type Disks = SimDisk<Note>;

/// A report of a client.
struct Sent {
    id: CrashId,
    raw: RawCrash,
    files: Vec<(Part, Vec<u8>)>,
    deferred: bool,
}

fn sent(index: usize, sizes: &[usize], deferred: bool) -> Sent {
    let mut random = Random(index as u64 + 77);
    let kept = if deferred {
        Kept::Deferred
    } else {
        Kept::Accepted
    };
    let wide = u128::from(random.next()) << 64 | u128::from(random.next());
    let mut raw = RawCrash::default();
    let note = format!("crash {index}").repeat(1 + index % 40);
    raw.annotations.insert("Note".into(), note);
    raw.metadata.received_at_ms = START.ms();
    let files = sizes.iter().enumerate().map(|(at, &size)| {
        // One file in three compresses well, the others do not.
        let bytes = match at % 3 {
            1 => format!("{index} {at} ").into_bytes().repeat(size / 4 + 1)[..size].to_vec(),
            _ => random.bytes(size),
        };
        let payload = Payload::from_bytes(&bytes);
        let part = Part {
            name: format!("part_{at}"),
            kind: PartKind::Attachment,
            file_name: Some("../x.dmp".into()),
            content_type: None,
            bytes: bytes.len() as u64,
            sha256: payload.sha256(),
        };
        (part, bytes)
    });
    Sent {
        files: files.collect(),
        id: CrashId::new(wide, kept, START),
        raw,
        deferred,
    }
}

impl Sent {
    fn report(&self, spill_dir: &Path) -> NewCrash {
        let parts = self.files.iter().map(|(part, bytes)| {
            let mut payload = PayloadBuilder::spilling(spill_dir, 2 * 1024 * 1024);
            payload.write(bytes).unwrap();
            (part.clone(), payload.finish().unwrap())
        });
        NewCrash {
            id: self.id,
            received_at: START,
            product: "Vessel".into(),
            version: "1.0".into(),
            throttle_rule: "all".into(),
            deferred_days: self.deferred.then_some(7),
            raw: Payload::from_bytes(&serde_json::to_vec(&self.raw).unwrap()),
            digest: None,
            parts: parts.collect(),
        }
    }
}

fn result(index: usize, round: u32) -> Vec<u8> {
    format!("{{\"crash\":{index},\"round\":{round}}}")
        .repeat(200 + index)
        .into_bytes()
}

fn signature(index: usize, round: u32) -> String {
    format!("{index} | {round}")
}

/// A short script with every kind of step once, and with a change of segments in the middle.
fn short_script() -> Vec<Sent> {
    vec![
        sent(0, &[700, 9_000], false),
        sent(1, &[3_000], true),
        sent(2, &[40_000, 1], false),
        sent(3, &[], false),
        sent(4, &[513, 512, 511], false),
        // For the time after a fault.
        sent(5, &[5_000], false),
    ]
}

/// A running store, as clients and workers use it.
struct Server {
    disk: Disks,
    store: Store,
    jobs: Jobs,
    clock: Arc<ManualClock>,
    spill: tempfile::TempDir,
    /// Jobs that a worker has started.
    started: AtomicUsize,
    _stop: Stop,
}

impl Server {
    fn start(disk: &Disks) -> Result<Self, OpenError> {
        Self::with_places(disk, PLACES)
    }

    fn with_places(disk: &Disks, places: usize) -> Result<Self, OpenError> {
        Self::with(disk, places, 1 << 20)
    }

    fn with(disk: &Disks, places: usize, cache_bytes: usize) -> Result<Self, OpenError> {
        let spill = tempfile::tempdir().unwrap();
        let (lanes, jobs, stop) = queue(places, places);
        let clock = Arc::new(ManualClock::at(START));
        let options = StoreOptions {
            cache_bytes,
            spill_dir: spill.path().to_path_buf(),
        };
        let store = Store::open(
            Arc::new(disk.clone()),
            options,
            clock.clone(),
            Box::new(lanes),
        )?;
        Ok(Self {
            disk: disk.clone(),
            store,
            jobs,
            clock,
            spill,
            started: AtomicUsize::new(0),
            _stop: stop,
        })
    }

    fn accept(&self, crashes: &[Sent], index: usize) -> Result<(), StoreError> {
        self.disk.note(Note::Sent(index));
        let answer = self.store.accept(crashes[index].report(self.spill.path()));
        match &answer {
            Ok(_) => self.disk.note(Note::Acked(index)),
            Err(StoreError::Unavailable(_)) => {}
            Err(error) => panic!("an accept was answered with {error}"),
        }
        answer.map(|_| ())
    }

    fn request(&self, crashes: &[Sent], index: usize) -> Result<Prioritized, StoreError> {
        let answer = self.store.prioritize(crashes[index].id);
        if let Ok(Prioritized::Queued) = answer {
            self.disk.note(Note::Prioritized(index));
        }
        answer
    }

    /// The next job, if one arrives within `wait`. A worker has started it.
    fn job_within(&self, wait: Duration) -> Option<Job> {
        within(wait, || self.jobs.waiting() > 0).then(|| {
            let job = self.jobs.next().unwrap();
            let worker = self.started.fetch_add(1, Ordering::Relaxed);
            self.store.started(worker, &job);
            job
        })
    }

    fn job(&self) -> Job {
        self.job_within(PATIENCE).expect("a job")
    }

    fn no_job(&self) -> bool {
        self.job_within(Duration::from_millis(30)).is_none()
    }

    fn hand_in(&self, crashes: &[Sent], job: &Job, round: u32) -> usize {
        let index = crashes.iter().position(|c| c.id == job.id).unwrap();
        let finished = Finished {
            processed: Payload::from_bytes(&result(index, round)),
            signature: signature(index, round),
            processed_at: START,
            facts: Facts::default(),
            lacks: Vec::new(),
            used: Vec::new(),
            named: Default::default(),
            revision: 0,
            failure: (index % 4 == 1).then(|| "no dump".into()),
        };
        self.store.finish(job.clone(), finished).unwrap();
        index
    }

    fn finish(&self, crashes: &[Sent], job: &Job, round: u32) {
        let index = self.hand_in(crashes, job, round);
        let done = || {
            let row = self.row(job.id);
            row.processed
                .is_some_and(|p| p.signature == signature(index, round))
        };
        assert!(eventually(done), "{job:?}");
        self.disk.note(Note::Done(index, round));
    }

    fn row(&self, id: CrashId) -> StoredCrash {
        self.store.crash(id).unwrap().expect("a crash").1
    }

    fn state(&self, id: CrashId) -> State {
        self.row(id).state
    }
}

/// Waits for a condition that must become true. Returns false only if it never does.
fn eventually(holds: impl FnMut() -> bool) -> bool {
    within(PATIENCE, holds)
}

fn within(wait: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + wait;
    loop {
        if holds() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Runs the short script on a disk without faults.
fn run_short_script(disk: &Disks, crashes: &[Sent]) {
    let server = Server::start(disk).unwrap();
    server.accept(crashes, 0).unwrap();
    server.accept(crashes, 1).unwrap();
    let job = server.job();
    server.store.fault(job, "walker died".into()).unwrap();
    let job = server.job();
    assert_eq!((job.attempt, job.faults), (2, 1));
    server.finish(crashes, &job, 1);
    // A new day: every stream continues in a new segment.
    server.clock.set(Timestamp::from_ms(START.ms() + DAY_MS));
    server.accept(crashes, 2).unwrap();
    server.request(crashes, 1).unwrap();
    server.finish(crashes, &server.job(), 1);
    server.finish(crashes, &server.job(), 1);
    server.request(crashes, 0).unwrap();
    server.finish(crashes, &server.job(), 2);
    server.store.indexed(1).unwrap();
    server.accept(crashes, 3).unwrap();
    server.accept(crashes, 4).unwrap();
    // Both crashes are in flight when the server ends.
}

/// A longer random script with a spilled payload.
fn long_script(seed: u64) -> (Disks, Vec<Sent>) {
    let mut random = Random(seed);
    let mut crashes = Vec::new();
    for index in 0..24 {
        let mut sizes: Vec<usize> = (0..random.below(4))
            .map(|_| random.below(20_000) as usize)
            .collect();
        if index == 7 {
            sizes.push(2 * 1024 * 1024 + 70_000);
        }
        crashes.push(sent(index, &sizes, random.below(4) == 0));
    }
    let disk = Disks::empty();
    let server = Server::start(&disk).unwrap();
    std::thread::scope(|scope| {
        let (server, crashes) = (&server, &crashes);
        for client in 0..3 {
            scope.spawn(move || {
                for index in (client..crashes.len()).step_by(3) {
                    server.accept(crashes, index).unwrap();
                }
            });
        }
        scope.spawn(move || {
            let mut rounds = BTreeMap::new();
            for step in 0..30 {
                let Some(job) = server.job_within(Duration::from_millis(300)) else {
                    continue;
                };
                let round: &mut u32 = rounds.entry(job.seq).or_default();
                *round += 1;
                match random.below(5) {
                    0 => server.store.fault(job, "overran".into()).unwrap(),
                    1 => {
                        server.finish(crashes, &job, *round);
                        let index = crashes.iter().position(|c| c.id == job.id).unwrap();
                        server.request(crashes, index).unwrap();
                    }
                    _ => server.finish(crashes, &job, *round),
                }
                if step == 12 {
                    server.clock.set(Timestamp::from_ms(START.ms() + DAY_MS));
                }
            }
        });
    });
    drop(server);
    (disk, crashes)
}

/// The test's knowledge at one point of a history.
#[derive(Clone, Default)]
struct Known {
    sent: BTreeSet<usize>,
    acked: BTreeSet<usize>,
    requested: BTreeSet<usize>,
    done: BTreeMap<usize, u32>,
}

impl Known {
    fn learn(&mut self, note: &Note) {
        match *note {
            Note::Sent(index) => drop(self.sent.insert(index)),
            Note::Acked(index) => drop(self.acked.insert(index)),
            Note::Prioritized(index) => drop(self.requested.insert(index)),
            Note::Done(index, round) => drop(self.done.insert(index, round)),
        }
    }

    fn from(changes: &[Change<Note>]) -> Self {
        let mut known = Self::default();
        for change in changes {
            if let Change::Note(note) = change {
                known.learn(note);
            }
        }
        known
    }

    /// The check of a cut: what is known from the changes until it.
    fn checking(
        crashes: &[Sent],
    ) -> impl Fn(&[Change<Note>], &Disks) -> Result<(), String> + Sync + '_ {
        |until, disk| Self::from(until).check(disk, crashes)
    }

    /// Opens the store on a disk and compares it with what is known.
    fn check(&self, disk: &Disks, crashes: &[Sent]) -> Result<(), String> {
        let server = Server::with_places(disk, 0).map_err(|e| format!("does not open: {e}"))?;
        self.check_open(&server.store, crashes)?;
        drop(server);
        audit(&disk.image())
    }

    fn check_open(&self, store: &Store, crashes: &[Sent]) -> Result<(), String> {
        for &index in &self.acked {
            match store.crash(crashes[index].id) {
                Ok(Some(_)) => {}
                other => return Err(format!("acknowledged crash {index} is {other:?}")),
            }
        }
        let rows = store.scan(0, usize::MAX).map_err(|e| e.to_string())?;
        let mut states = BTreeMap::new();
        for (seq, row) in &rows {
            *states.entry(row.state.name()).or_insert(0) += 1;
            let index = crashes
                .iter()
                .position(|c| c.id == row.id)
                .filter(|index| self.sent.contains(index))
                .ok_or_else(|| format!("crash {seq} was never sent"))?;
            self.check_crash(store, row, &crashes[index], index)
                .map_err(|e| format!("crash {index}: {e}"))?;
        }
        let status = store.status().map_err(|e| e.to_string())?;
        for (state, count) in status.states {
            let seen = states.get(state.name()).copied().unwrap_or(0);
            if count != seen {
                return Err(format!("{count} crashes are {}, seen {seen}", state.name()));
            }
        }
        Ok(())
    }

    fn check_crash(
        &self,
        store: &Store,
        row: &StoredCrash,
        sent: &Sent,
        index: usize,
    ) -> Result<(), String> {
        if store.raw(row).map_err(|e| e.to_string())? != sent.raw {
            return Err("the raw crash is another".into());
        }
        if row.parts.len() != sent.files.len() {
            return Err("parts are missing".into());
        }
        for (stored, (part, bytes)) in row.parts.iter().zip(&sent.files) {
            let found = store.part(stored).and_then(|reader| reader.read_all());
            let found = found.map_err(|e| e.to_string())?;
            if stored.part != *part || found != *bytes {
                return Err(format!("{} is another", part.name));
            }
        }
        let processed = store.processed(row).map_err(|e| e.to_string())?;
        let known = self.done.get(&index).copied();
        match (processed, &row.processed) {
            (Some(bytes), Some(shown)) => {
                let round = (1..100).find(|round| shown.signature == signature(index, *round));
                match round {
                    Some(round) if bytes == result(index, round) && known <= Some(round) => {}
                    _ => return Err(format!("result {:?}, known {known:?}", shown.signature)),
                }
            }
            _ if known.is_some() => return Err(format!("the result of round {known:?} is lost")),
            _ => {}
        }
        let finished = matches!(row.state, State::Processed | State::Failed);
        match () {
            () if finished && row.processed.is_none() => Err("finished without a result".into()),
            () if row.state == State::Deferred && self.requested.contains(&index) => {
                Err("a request was forgotten".into())
            }
            () => Ok(()),
        }
    }
}

/// A file of a simulated disk, to read the database without the store.
#[derive(Debug)]
struct Behind(Arc<dyn DiskFile>);

impl redb::StorageBackend for Behind {
    fn len(&self) -> std::io::Result<u64> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.0.read_at(offset, out)
    }
    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.0.set_len(len)
    }
    fn sync_data(&self) -> std::io::Result<()> {
        self.0.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.0.write_at(offset, data)
    }
}

pub fn database_on(disk: &Disks) -> Database {
    let file = disk.open("store.redb").unwrap();
    Database::builder()
        .create_with_backend(Behind(file))
        .unwrap()
}

/// Checks the tables of a closed store against each other: each crash is in exactly one state, every payload
/// is inside its segment, and every count is right.
pub fn audit(image: &Image) -> Result<(), String> {
    let database = database_on(&Disks::of(image.clone()));
    let read = database.begin_read().map_err(|e| e.to_string())?;
    let mut places: BTreeMap<u64, Vec<(State, Option<Lane>)>> = BTreeMap::new();
    for entry in read.open_table(tables::READY).unwrap().iter().unwrap() {
        let (lane, seq) = entry.unwrap().0.value();
        let lane = Lane::ALL[usize::from(lane)];
        places
            .entry(seq)
            .or_default()
            .push((State::Queued, Some(lane)));
    }
    for entry in read.open_table(tables::WORKING).unwrap().iter().unwrap() {
        let seq = entry.unwrap().0.value();
        places
            .entry(seq)
            .or_default()
            .push((State::Processing, None));
    }
    for entry in read.open_table(tables::DEFERRED).unwrap().iter().unwrap() {
        let (_, seq) = entry.unwrap().0.value();
        places.entry(seq).or_default().push((State::Deferred, None));
    }
    let mut live: BTreeMap<u32, u64> = BTreeMap::new();
    let mut ends: BTreeMap<u32, u64> = BTreeMap::new();
    let ids = read.open_table(tables::IDS).unwrap();
    let mut crashes = 0;
    for entry in read.open_table(tables::CRASHES).unwrap().iter().unwrap() {
        let (seq, row) = entry.unwrap();
        let (seq, row): (u64, StoredCrash) = (
            seq.value(),
            rows::decode(row.value()).map_err(|e| e.to_string())?,
        );
        crashes += 1;
        let known = ids.get(row.id.bits()).unwrap().map(|v| v.value());
        if known != Some(seq) {
            return Err(format!("crash {seq} has the id of {known:?}"));
        }
        let expected = match row.state {
            State::Queued => vec![(State::Queued, Some(row.lane))],
            State::Processing | State::Deferred => vec![(row.state, None)],
            State::Processed | State::Failed => vec![],
        };
        let found = places.remove(&seq).unwrap_or_default();
        if found != expected {
            return Err(format!(
                "crash {seq} is {:?}, found in {found:?}",
                row.state
            ));
        }
        for blob in row.blobs() {
            *live.entry(blob.segment).or_default() += blob.stored_bytes;
            let end = ends.entry(blob.segment).or_default();
            *end = (*end).max(blob.offset + blob.stored_bytes);
        }
    }
    if let Some(nobody) = places.first_key_value() {
        return Err(format!("{nobody:?} waits and has no row"));
    }
    let count = ids.iter().unwrap().count();
    if count != crashes {
        return Err(format!("{count} ids of {crashes} crashes"));
    }
    for entry in read.open_table(tables::SEGMENTS).unwrap().iter().unwrap() {
        let (segment, row) = entry.unwrap();
        let segment = segment.value();
        let row: rows::SegmentRow = rows::decode(row.value()).unwrap();
        if row.dead {
            // Its file may have been deleted already.
            continue;
        }
        let path = format!("segments/{segment:08}.pack");
        let bytes = image.file(&path).map_or(0, |file| file.len() as u64);
        let end = ends.get(&segment).copied().unwrap_or(0);
        let needed = live.get(&segment).copied().unwrap_or(0);
        if row.live_bytes != needed || row.bytes < end || bytes < row.bytes {
            return Err(format!("{row:?} has {bytes}, needs {needed} up to {end}"));
        }
    }
    Ok(())
}

/// Cuts the power after every change of a history, and again during the recoveries. `check` opens the store
/// on a disk after a cut, and gets all changes before the cut. Returns the number of single and double cuts.
pub fn cut_everywhere(
    first: &Image,
    changes: &[Change<Note>],
    one_in: u64,
    check: impl Fn(&[Change<Note>], &Disks) -> Result<(), String> + Sync,
) -> Result<(u64, u64), String> {
    let (single, double) = (AtomicU64::new(0), AtomicU64::new(0));
    let cut_some = |turn: usize| -> Result<(), String> {
        let mut image = first.clone();
        for (at, change) in changes.iter().enumerate() {
            image.apply(change);
            let random = Random(at as u64).next();
            let is_note = matches!(change, Change::Note(_));
            if is_note || at % 2 != turn || !random.is_multiple_of(one_in) {
                continue;
            }
            let until = &changes[..=at];
            for seed in 0..CUTS_EACH {
                let disk = Disks::of(image.power_cut(3 * random.wrapping_shr(8) + seed));
                let place = format!("cut {seed} after change {at} ({})", kind_of(change));
                check(until, &disk).map_err(|e| format!("{place}: {e}"))?;
                single.fetch_add(1, Ordering::Relaxed);
                let (mut again, recovery) = disk.history();
                for (step, change) in recovery.iter().enumerate() {
                    again.apply(change);
                    let random = Random(random ^ (step as u64) << 32).next();
                    if !random.is_multiple_of(DOUBLE_CUTS_ONE_IN) {
                        continue;
                    }
                    let disk = Disks::of(again.power_cut(random >> 8));
                    check(until, &disk)
                        .map_err(|e| format!("{place}, again after change {step}: {e}"))?;
                    double.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let cut_some = &cut_some;
        let turns = [0, 1].map(|turn| scope.spawn(move || cut_some(turn)));
        let ends = turns.map(|t| t.join().unwrap_or(Err("a check panicked".into())));
        ends.into_iter().collect::<Result<(), _>>()
    })?;
    Ok((single.into_inner(), double.into_inner()))
}

fn kind_of(change: &Change<Note>) -> String {
    let text = format!("{change:?}");
    text.chars().take(60).collect()
}

#[test]
fn power_cuts_at_every_step_lose_nothing_that_was_answered_for() {
    let crashes = short_script();
    let disk = Disks::empty();
    run_short_script(&disk, &crashes);
    let (first, changes) = disk.history();
    let (single, double) = cut_everywhere(&first, &changes, 1, Known::checking(&crashes)).unwrap();
    eprintln!(
        "{} changes: {single} single cuts, {double} double",
        changes.len()
    );
    assert!(single > 300 && double > 300);
}

#[test]
fn power_cuts_of_a_busy_store_lose_nothing_that_was_answered_for() {
    for seed in 0..2 {
        let (disk, crashes) = long_script(seed);
        let (first, changes) = disk.history();
        let (single, double) =
            cut_everywhere(&first, &changes, 17, Known::checking(&crashes)).unwrap();
        eprintln!(
            "{} changes: {single} single cuts, {double} double",
            changes.len()
        );
    }
}

/// Set in the child process whose database loses its syncs.
const LYING: &str = "CRASHKEEP_TEST_LYING_SYNC";

#[test]
fn a_sync_that_lies_is_found_by_the_same_checks() {
    if std::env::var_os(LYING).is_some() {
        return lie("store.redb");
    }
    lie("segments/");
    // On a database that is damaged in this way redb may panic twice, which ends the process.
    let own = std::env::current_exe().expect("this program");
    let output = std::process::Command::new(own)
        .args([
            "--exact",
            "store::a_sync_that_lies_is_found_by_the_same_checks",
        ])
        .env(LYING, "1")
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    let has_ended = output.status.code() == Some(crashkeep::vital::EXIT_CODE);
    assert!(
        output.status.success() || has_ended && said.contains("salvage"),
        "{output:?}"
    );
}

fn lie(liar: &'static str) {
    let crashes = short_script();
    let disk = Disks::empty();
    disk.set_faults(Faults {
        lying_sync: Some(liar),
        ..Faults::default()
    });
    run_short_script(&disk, &crashes);
    let (first, changes) = disk.history();
    let found = cut_everywhere(&first, &changes, 1, Known::checking(&crashes));
    eprintln!("{liar}: {found:?}");
    assert!(found.is_err(), "{liar} lied and nothing was missed");
}

/// Runs a script on a disk with a fault, ends the fault, and expects that everything works again.
fn live_through(disk: &Disks, crashes: &[Sent], faults: Faults) -> Result<(), String> {
    let for_ever = faults.for_ever;
    disk.set_faults(faults);
    let (disk, server) = match Server::start(disk) {
        Ok(server) => (disk.clone(), server),
        // The store did not open. The unsynced data of a failed sync are lost when the machine restarts.
        Err(_) => {
            let disk = if for_ever {
                Disks::of(disk.image().power_cut(2))
            } else {
                disk.clone()
            };
            disk.heal();
            let server = Server::start(&disk).map_err(|e| format!("start: {e}"))?;
            (disk, server)
        }
    };
    for index in 0..5 {
        let _ = server.accept(crashes, index);
        let _ = server.store.newest(10);
        if index == 3 {
            let _ = server.request(crashes, 1);
        }
        if index % 2 == 0
            && let Some(job) = server.job_within(Duration::from_millis(10))
        {
            match index {
                2 => server.store.fault(job, "walker died".into()).unwrap(),
                _ => drop(server.hand_in(crashes, &job, job.attempt)),
            }
        }
    }
    disk.heal();
    if !eventually(|| server.accept(crashes, 5).is_ok()) {
        return Err(format!("takes nothing: {:?}", server.store.latched()));
    }
    // The log takes reports before the database can be written again.
    if !eventually(|| server.store.latched().is_none()) {
        return Err(format!("still latched: {:?}", server.store.latched()));
    }
    let ended = eventually(|| {
        while server.jobs.waiting() > 0 {
            let job = server.jobs.next().unwrap();
            server.hand_in(crashes, &job, job.attempt);
        }
        let open = |state| matches!(state, State::Queued | State::Processing);
        let status = server.store.status();
        let left = status.map(|status| status.states.iter().any(|(s, n)| open(*s) && *n > 0));
        left.is_ok_and(|left| !left) && !server.store.scan(0, 1).unwrap_or_default().is_empty()
    });
    if !ended {
        return Err(format!("unfinished: {:?}", server.store.status()));
    }
    let (_, changes) = disk.history();
    let known = Known::from(&changes);
    known.check_open(&server.store, crashes)?;
    // All of it is durable, also the data that were written again after a failed sync. This cut keeps no
    // unsynced data.
    let cut = Disks::of(disk.image().power_cut(1));
    known
        .check(&cut, crashes)
        .map_err(|e| format!("power cut afterwards: {e}"))?;
    drop(server);
    audit(&disk.image())
}

/// Lets every operation of the script fail in turn, on a disk with the initial content `image`.
fn fail_everywhere(image: &Image, for_ever: bool) {
    let crashes = short_script();
    let healthy = Disks::of(image.clone());
    live_through(&healthy, &crashes, Faults::default()).unwrap();
    let operations = healthy.operations();
    let (next, wrong) = (AtomicU64::new(1), std::sync::Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..if for_ever { 16 } else { 4 } {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at > operations {
                        return;
                    }
                    let disk = Disks::of(image.clone());
                    let faults = Faults {
                        fail_at: Some(at),
                        for_ever,
                        ..Faults::default()
                    };
                    if let Err(error) = live_through(&disk, &crashes, faults) {
                        wrong
                            .lock()
                            .unwrap()
                            .push(format!("operation {at}: {error}"));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    eprintln!("{operations} operations, for ever {for_ever}");
    assert!(
        wrong.is_empty(),
        "{} of {operations}: {wrong:#?}",
        wrong.len()
    );
    assert!(operations > 100);
}

/// A disk with crashes in flight, queued and deferred. A change of segments is due.
fn left_by_a_kill() -> Image {
    let crashes = short_script();
    let disk = Disks::empty();
    let server = Server::start(&disk).unwrap();
    for index in 0..4 {
        server.accept(&crashes, index).unwrap();
    }
    disk.kill().image()
}

#[test]
fn an_io_error_at_any_operation_is_lived_through() {
    fail_everywhere(&Image::default(), false);
    fail_everywhere(&left_by_a_kill(), false);
}

#[test]
fn io_errors_from_any_operation_on_are_lived_through_once_they_end() {
    fail_everywhere(&Image::default(), true);
    fail_everywhere(&left_by_a_kill(), true);
}

#[test]
fn a_segment_that_fills_up_within_a_batch_is_durable_like_the_one_after_it() {
    let crashes = [
        sent(0, &[130 << 20], false),
        sent(1, &[70_000], false),
        sent(2, &[100], false),
    ];
    let disk = Disks::empty();
    let server = Server::start(&disk).unwrap();
    for index in 0..crashes.len() {
        server.accept(&crashes, index).unwrap();
    }
    let cut = Disks::of(disk.image().power_cut(1));
    let (_, changes) = disk.history();
    Known::from(&changes).check(&cut, &crashes).unwrap();
    assert!(eventually(|| {
        let segment = |sent: &Sent| server.row(sent.id).parts[0].blob.segment;
        crashes.iter().map(segment).collect::<BTreeSet<_>>().len() == 2
    }));
}

#[test]
fn a_full_disk_refuses_reports_and_goes_on_when_there_is_room() {
    let crashes: Vec<Sent> = (0..1000)
        .map(|index| sent(index, &[3_000 * (index % 7)], false))
        .collect();
    let disk = Disks::empty();
    let server = Server::start(&disk).unwrap();
    let mut random = Random(3);
    let mut next = 0;
    for cycle in 0..FILL_CYCLES {
        server.accept(&crashes, next).unwrap();
        let readable = crashes[next].id;
        next += 1;
        let job = server.job();
        disk.set_faults(Faults {
            room_bytes: Some(disk.used_bytes() + random.below(60_000)),
            ..Faults::default()
        });
        let first_refused = loop {
            let taken = server.accept(&crashes, next);
            next += 1;
            match taken {
                Ok(()) => {}
                Err(StoreError::Unavailable(_)) => break next - 1,
                Err(error) => panic!("{error}"),
            }
        };
        // A worker's result arrives while the disk is full, and reads continue.
        let index = server.hand_in(&crashes, &job, job.attempt);
        let read = || matches!(server.store.crash(readable), Ok(Some(_)));
        assert!(eventually(read), "cycle {cycle}");
        let status = server.store.status();
        disk.heal();
        let taken = || server.accept(&crashes, first_refused).is_ok();
        assert!(eventually(taken), "{status:?}");
        let done = || server.row(job.id).processed.is_some();
        assert!(eventually(done), "cycle {cycle}");
        server.disk.note(Note::Done(index, job.attempt));
        assert_eq!(server.store.status().unwrap().latched, None);
        // The workers continue, too.
        while server.jobs.waiting() > 0 {
            let job = server.jobs.next().unwrap();
            server.finish(&crashes, &job, job.attempt);
        }
    }
    let known = Known::from(&disk.history().1);
    known.check_open(&server.store, &crashes).unwrap();
    // Refused reports use no disk space.
    let on_disk = || {
        let image = disk.image();
        let segments = image.files().filter(|path| path.ends_with(".pack"));
        segments
            .map(|path| image.file(path).unwrap().len())
            .sum::<usize>()
    };
    let known_bytes = || server.store.status().unwrap().segment_bytes;
    assert!(
        eventually(|| on_disk() as u64 == known_bytes()),
        "{} bytes on the disk, {} known",
        on_disk(),
        known_bytes()
    );
    drop(server);
    audit(&disk.image()).unwrap();
    eprintln!("{} crashes in {FILL_CYCLES} cycles", known.acked.len());
}

#[test]
fn reads_go_on_while_nothing_can_be_written() {
    let crashes = short_script();
    let disk = Disks::empty();
    // Without a page cache, which would hide the faults of the disk.
    let server = Server::with(&disk, PLACES, 0).unwrap();
    server.accept(&crashes, 0).unwrap();
    disk.set_faults(Faults {
        fail_at: Some(0),
        for_ever: true,
        only: &[Kind::Write, Kind::SetLen, Kind::Sync, Kind::Create],
        ..Faults::default()
    });
    assert!(server.accept(&crashes, 2).is_err());
    let read = || {
        let row = server.store.crash(crashes[0].id).ok()??.1;
        server.store.part(&row.parts[0]).ok()?.read_all().ok()
    };
    assert!(eventually(|| read().is_some()));
    let writes = disk.operations_of(Kind::Write);
    for _ in 0..300 {
        assert!(eventually(|| read().is_some()));
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(
        disk.operations_of(Kind::Write) > writes,
        "it stopped trying"
    );
    assert!(server.store.status().unwrap().latched.is_some());
    disk.heal();
    assert!(eventually(|| server.store.latched().is_none()));
    assert_eq!(server.state(crashes[0].id), State::Processing);
}

#[test]
fn one_failed_read_does_not_end_all_reading() {
    let crashes = short_script();
    let disk = Disks::empty();
    // Without a page cache, which would hide the faults of the disk.
    let server = Server::with(&disk, PLACES, 0).unwrap();
    server.accept(&crashes, 1).unwrap();
    // After the answer to this command only the database has the crash, and the writer is idle.
    server.store.sweep().unwrap();
    disk.set_faults(Faults {
        fail_at: Some(0),
        for_ever: true,
        only: &[Kind::Read],
        ..Faults::default()
    });
    let fails = || server.store.crash(crashes[1].id).is_err();
    assert!(eventually(fails));
    disk.heal();
    let again = || server.store.crash(crashes[1].id).is_ok();
    assert!(eventually(again));
}

#[test]
fn damage_that_the_status_itself_finds_does_not_block_it() {
    let crashes = short_script();
    let disk = Disks::empty();
    // Without a page cache, which would hide the damage.
    let server = Server::with(&disk, PLACES, 0).unwrap();
    server.accept(&crashes, 1).unwrap();
    server.store.sweep().unwrap();
    let file = disk.open("store.redb").unwrap();
    let header = 4096;
    let garbage = vec![0xff; (file.len().unwrap() - header) as usize];
    file.write_at(header, &garbage).unwrap();
    let (answer, answered) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| answer.send(server.store.status().map(drop)));
        let status = answered.recv_timeout(PATIENCE).expect("an answer");
        assert!(matches!(status, Err(StoreError::Corrupt(_))), "{status:?}");
    });
}

#[test]
fn what_is_answered_while_the_store_closes_is_kept() {
    let crashes: Vec<Sent> = (0..4000).map(|index| sent(index, &[50], false)).collect();
    let disk = Disks::empty();
    let server = Server::start(&disk).unwrap();
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed) as usize;
                    disk.note(Note::Sent(index));
                    let report = crashes[index].report(server.spill.path());
                    match server.store.accept(report) {
                        Ok(_) => disk.note(Note::Acked(index)),
                        Err(StoreError::Stopping) => return,
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
        assert!(eventually(|| next.load(Ordering::Relaxed) > 40));
        server.store.close();
    });
    drop(server);
    let known = Known::from(&disk.history().1);
    assert!(known.acked.len() > 30);
    known.check(&disk, &crashes).unwrap();
}

#[test]
fn a_writer_that_panics_ends_the_process_and_says_so() {
    /// Set in the child process, which must end.
    const ENDING: &str = "CRASHKEEP_TEST_WRITER";
    struct Panics;
    impl JobSink for Panics {
        fn free(&self, _: Lane) -> usize {
            1
        }
        fn send(&self, job: Job) {
            panic!("on purpose, with {job:?}");
        }
    }
    if std::env::var_os(ENDING).is_some() {
        let spill = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            cache_bytes: 1 << 20,
            spill_dir: spill.path().to_path_buf(),
        };
        let clock = Arc::new(ManualClock::at(START));
        let disk = Arc::new(Disks::empty());
        let store = Store::open(disk, options, clock, Box::new(Panics)).unwrap();
        let _ = store.accept(short_script()[0].report(spill.path()));
        eventually(|| false);
        unreachable!("the process ended with its writer");
    }
    let own = std::env::current_exe().expect("this program");
    let output = std::process::Command::new(own)
        .args([
            "--exact",
            "store::a_writer_that_panics_ends_the_process_and_says_so",
        ])
        .arg("--nocapture")
        .env(ENDING, "1")
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(crashkeep::vital::EXIT_CODE));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("store-writer ended unexpectedly"), "{said}");
}

#[test]
fn closing_during_an_outage_ends() {
    let crashes = short_script();
    let disk = Disks::empty();
    let server = Server::start(&disk).unwrap();
    server.accept(&crashes, 0).unwrap();
    let job = server.job();
    disk.set_faults(Faults {
        frozen: true,
        ..Faults::default()
    });
    assert!(server.accept(&crashes, 2).is_err());
    server.hand_in(&crashes, &job, 1);
    server.store.pause();
    // It returns, although the waiting data cannot be written.
    server.store.close();
    assert!(matches!(
        server.store.accept(crashes[3].report(server.spill.path())),
        Err(StoreError::Stopping)
    ));
}

#[test]
fn a_crash_in_flight_at_a_kill_is_queued_again_then_suspected_then_set_aside() {
    let crashes: Vec<Sent> = (0..3).map(|index| sent(index, &[100], false)).collect();
    let mut disk = Disks::empty();
    let mut server = Server::start(&disk).unwrap();
    server.accept(&crashes, 0).unwrap();
    server.accept(&crashes, 1).unwrap();
    for death in 1..=5u8 {
        let suspected = death > 2;
        let first = server.job();
        assert_eq!(first.attempt, u32::from(death));
        assert_eq!(
            (first.lane == Lane::Suspect, first.set_aside),
            (suspected, false)
        );
        if suspected {
            assert!(server.no_job(), "two suspects at once");
        } else {
            server.job();
        }
        // A crash that is not a suspect overtakes a suspect.
        if death == 4 {
            server.accept(&crashes, 2).unwrap();
            let harmless = server.job();
            assert_eq!((harmless.id, harmless.lane), (crashes[2].id, Lane::Normal));
            server.finish(&crashes, &harmless, 1);
        }
        disk = disk.kill();
        drop(server);
        server = Server::with_places(&disk, 0).unwrap();
        let row = server.row(first.id);
        assert_eq!((row.state, row.server_deaths), (State::Queued, death));
        // Clean stops do not count.
        drop(server);
        server = Server::start(&disk).unwrap();
        assert!(eventually(|| server.jobs.waiting() > 0));
        drop(server);
        server = Server::with_places(&disk, 0).unwrap();
        assert_eq!(server.row(first.id).server_deaths, death);
        drop(server);
        server = Server::start(&disk).unwrap();
    }
    let job = server.job();
    assert_eq!((job.lane, job.set_aside), (Lane::Suspect, true));
    server.finish(&crashes, &job, 9);
    let row = server.row(job.id);
    assert_eq!((row.server_deaths, row.lane), (0, Lane::Normal));
    // The answer alone releases the next suspect. No other command is needed.
    let other = server.job();
    assert_ne!(other.id, job.id);
    assert_eq!(other.lane, Lane::Suspect);
}

#[test]
fn a_crash_that_is_set_back_waits_for_those_who_have_time_without_a_fault() {
    let crashes: Vec<Sent> = (0..2).map(|index| sent(index, &[100], false)).collect();
    let disk = Disks::empty();
    let server = Server::start(&disk).unwrap();
    server.accept(&crashes, 0).unwrap();
    let job = server.job();
    server.store.set_back(job.clone()).unwrap();
    let again = server.jobs.next_slow().unwrap();
    assert_eq!((again.id, again.lane), (job.id, Lane::Slow));
    assert_eq!((again.attempt, again.faults), (2, 0));
    // The answer of the first attempt arrives too late to requeue the crash again.
    server.store.set_back(job).unwrap();
    server.store.set_back(again).unwrap();
    let again = server.jobs.next_slowest().unwrap();
    assert_eq!(
        (again.lane, again.attempt, again.faults),
        (Lane::Slowest, 3, 0)
    );
    server.finish(&crashes, &again, 1);
    let row = server.row(again.id);
    assert_eq!((row.state, row.lane), (State::Processed, Lane::Normal));
    assert!(server.no_job());
}

#[test]
fn workers_are_told_whether_more_wait_than_they_have_places_for() {
    let crashes: Vec<Sent> = (0..4).map(|index| sent(index, &[100], false)).collect();
    let disk = Disks::empty();
    let server = Server::with_places(&disk, 2).unwrap();
    server.accept(&crashes, 0).unwrap();
    let first = server.job();
    assert!(!server.jobs.is_behind());
    // Slow jobs have their own workers.
    server.store.set_back(first).unwrap();
    assert!(eventually(|| server.jobs.waiting() == 1));
    assert!(!server.jobs.is_behind());
    for index in 1..4 {
        server.accept(&crashes, index).unwrap();
    }
    assert!(eventually(|| server.jobs.is_behind()));
    for number in 0..3 {
        let job = server.jobs.next_quick().unwrap();
        server.finish(&crashes, &job, number);
    }
    assert!(eventually(|| !server.jobs.is_behind()));
}

#[test]
fn a_late_answer_of_a_suspect_does_not_let_a_second_one_out() {
    let crashes: Vec<Sent> = (0..2).map(|index| sent(index, &[100], false)).collect();
    let mut disk = Disks::empty();
    for death in 0..3 {
        let server = Server::start(&disk).unwrap();
        if death == 0 {
            server.accept(&crashes, 0).unwrap();
            server.accept(&crashes, 1).unwrap();
        }
        if death == 2 {
            let old = server.job();
            assert!(server.no_job());
            // The crash is requested again while a worker has it. That worker still has it.
            server.request(&crashes, 0).unwrap();
            assert!(server.no_job());
            // The worker's late answer does not count, but the worker is free again.
            server.hand_in(&crashes, &old, 1);
            let new = server.job();
            assert_eq!((new.id, new.attempt), (old.id, old.attempt + 1));
            assert_eq!(server.row(old.id).processed, None);
            // The same late answer again does not release another suspect.
            server.hand_in(&crashes, &old, 1);
            assert!(server.no_job(), "two suspects at once");
            return;
        }
        let _in_flight = (server.job(), server.job());
        disk = disk.kill();
    }
}

#[test]
fn a_clean_close_takes_back_without_a_death_and_late_answers_are_dropped() {
    let crashes = short_script();
    let disk = Disks::empty();
    let server = Server::start(&disk).unwrap();
    server.accept(&crashes, 0).unwrap();
    let old = server.job();
    drop(server);
    let server = Server::start(&disk).unwrap();
    let row = server.row(old.id);
    assert_eq!(
        (row.server_deaths, row.faults, row.lane),
        (0, 0, Lane::Normal)
    );
    // The stop changed nothing in the database, so the attempt has the same number in another life.
    let new = server.job();
    assert_eq!((new.attempt, new.life), (old.attempt, old.life + 1));
    server.hand_in(&crashes, &old, 1);
    server.store.fault(old, "late".into()).unwrap();
    server.finish(&crashes, &new, 2);
    assert_eq!(server.row(new.id).faults, 0);
}

#[test]
fn a_request_brings_a_crash_to_the_priority_lane_from_every_state() {
    let crashes = short_script();
    let disk = Disks::empty();
    let server = Server::start(&disk).unwrap();
    assert_eq!(
        server.store.prioritize(crashes[1].id).unwrap(),
        Prioritized::Unknown
    );
    server.accept(&crashes, 1).unwrap();
    assert_eq!(server.state(crashes[1].id), State::Deferred);
    assert!(server.no_job());

    server.request(&crashes, 1).unwrap();
    let job = server.job();
    assert_eq!((job.lane, job.faults), (Lane::Priority, 0));
    assert_eq!(server.row(job.id).deferred_until_ms, None);

    server.store.fault(job, "overran".into()).unwrap();
    let job = server.job();
    assert_eq!(
        (job.faults, server.row(job.id).reason),
        (1, Some("overran".into()))
    );

    // During the walk: the running walk no longer counts, and neither do its faults.
    server.request(&crashes, 1).unwrap();
    let again = server.job();
    assert_eq!((again.attempt, again.faults), (job.attempt + 1, 0));
    server.finish(&crashes, &again, 1);
    assert_eq!(server.state(job.id), State::Failed);

    server.request(&crashes, 1).unwrap();
    let third = server.job();
    assert_eq!(third.lane, Lane::Priority);
    server.finish(&crashes, &third, 2);
    assert_eq!(
        server.row(job.id).processed.unwrap().signature,
        signature(1, 2)
    );
    let changes = server.store.changes(0, 10).unwrap();
    // One receipt, one request, and two ends.
    assert_eq!(
        changes.iter().map(|c| c.change).collect::<Vec<_>>(),
        [1, 2, 3, 4]
    );
}

#[test]
fn a_flipped_bit_in_a_segment_damages_one_crash_alone() {
    let crashes: Vec<Sent> = (0..3).map(|index| sent(index, &[2_000], false)).collect();
    let disk = Disks::empty();
    let server = Server::with_places(&disk, 0).unwrap();
    for index in 0..3 {
        server.accept(&crashes, index).unwrap();
    }
    let blob = server.row(crashes[1].id).parts[0].blob;
    let path = format!("segments/{:08}.pack", blob.segment);
    drop(server);
    let image = disk.image();
    let whole = image.file(&path).unwrap().to_vec();
    // Head, length fields, body, and the end.
    let mut random = Random(9);
    let inside: Vec<u64> = (0..40).map(|_| random.below(blob.stored_bytes)).collect();
    for offset in (0..60).chain([blob.stored_bytes - 1]).chain(inside) {
        let mut bytes = whole.clone();
        bytes[(blob.offset + offset) as usize] ^= 1 << random.below(8);
        let mut image = image.clone();
        image.put(&path, &bytes);
        let server = Server::with_places(&Disks::of(image), 0).unwrap();
        for (index, sent) in crashes.iter().enumerate() {
            let row = server.row(sent.id);
            server.store.raw(&row).unwrap();
            let read = server.store.part(&row.parts[0]).and_then(|r| r.read_all());
            match index {
                1 => assert!(matches!(read, Err(StoreError::Damaged(_))), "at {offset}"),
                _ => assert_eq!(read.unwrap(), sent.files[0].1),
            }
        }
    }
    // Cut off in the middle: the store opens, and continues in another segment.
    let mut short = image.clone();
    short.put(&path, &whole[..(blob.offset + 100) as usize]);
    let server = Server::with_places(&Disks::of(short), 0).unwrap();
    let more = vec![sent(9, &[10], false)];
    server.accept(&more, 0).unwrap();
    let read = |id| {
        let row = server.row(id);
        server.store.part(&row.parts[0]).and_then(|r| r.read_all())
    };
    assert_eq!(read(more[0].id).unwrap(), more[0].files[0].1);
    assert_eq!(read(crashes[0].id).unwrap(), crashes[0].files[0].1);
    for index in [1, 2] {
        assert!(matches!(
            read(crashes[index].id),
            Err(StoreError::Damaged(_))
        ));
    }
}

#[test]
fn a_damaged_row_does_not_stop_the_others() {
    let crashes: Vec<Sent> = (0..4).map(|index| sent(index, &[100], false)).collect();
    let disk = Disks::empty();
    let server = Server::with_places(&disk, 0).unwrap();
    for index in 0..4 {
        server.accept(&crashes, index).unwrap();
    }
    let seq = server.store.crash(crashes[0].id).unwrap().unwrap().0;
    drop(server);
    let database = database_on(&disk);
    let write = database.begin_write().unwrap();
    let mut rows = write.open_table(tables::CRASHES).unwrap();
    rows.insert(seq, [1u8, 255, 255].as_slice()).unwrap();
    drop(rows);
    write.commit().unwrap();
    drop(database);

    let server = Server::with_places(&disk, 0).unwrap();
    let status = server.store.status().unwrap();
    assert_eq!(status.states[0], (State::Queued, 4));
    assert_eq!(server.store.newest(10).unwrap().len(), 3);
    assert_eq!(server.store.scan(0, 10).unwrap().len(), 3);
    drop(server);
    let server = Server::start(&disk).unwrap();
    for _ in 1..4 {
        let job = server.job();
        assert_ne!(job.id, crashes[0].id);
        server.finish(&crashes, &job, 1);
    }
    assert!(server.no_job());
    let damaged = |error| matches!(error, StoreError::Damaged(_));
    assert!(damaged(server.store.crash(crashes[0].id).unwrap_err()));
    assert!(damaged(server.request(&crashes, 0).unwrap_err()));
    let status = server.store.status().unwrap();
    assert_eq!(status.states[0], (State::Queued, 0));
    assert_eq!(status.latched, None);
}

#[test]
fn the_format_file_tells_whose_the_directory_is() {
    let disk = Disks::empty();
    drop(Server::start(&disk).unwrap());
    let image = disk.image();
    let with = |text: &[u8]| {
        let mut image = image.clone();
        image.put("FORMAT", text);
        Server::start(&Disks::of(image)).map(|_| ())
    };
    assert!(matches!(
        with(b"crashkeep 3\n"),
        Err(OpenError::Newer { known: 2, .. })
    ));
    for foreign in ["PG_VERSION 15", "crashkeep one", "crashkeep -1", "1"] {
        let found = with(foreign.as_bytes());
        assert!(matches!(found, Err(OpenError::Foreign { .. })), "{foreign}");
    }
    for unwritten in [&b""[..], &[0; 12], b"\n", b"crashk", b"crashkeep 1\n"] {
        with(unwritten).unwrap();
    }
}

#[test]
fn files_that_no_commit_knows_are_left_alone() {
    let disk = Disks::empty();
    drop(Server::start(&disk).unwrap());
    let mut image = disk.image();
    image.put("segments/README", b"mine");
    image.put(
        "segments/00000077.pack",
        b"left by a batch that was never answered for",
    );
    let disk = Disks::of(image);
    drop(Server::start(&disk).unwrap());
    let image = disk.image();
    assert!(image.file("segments/README").is_some());
    assert!(image.file("segments/00000077.pack").is_some());
}

/// Segment files on a disk that have no row in the database.
fn ownerless_segments(image: &Image) -> Vec<String> {
    let database = database_on(&Disks::of(image.clone()));
    let read = database.begin_read().unwrap();
    let rows = read.open_table(tables::SEGMENTS).unwrap();
    let known: BTreeSet<String> = rows
        .iter()
        .unwrap()
        .map(|entry| format!("segments/{:08}.pack", entry.unwrap().0.value()))
        .collect();
    let files = image.files().filter(|path| path.starts_with("segments/"));
    files
        .filter(|path| !known.contains(*path))
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_kill_or_power_cut_at_any_step_of_a_removal_leaves_no_file_behind() {
    let crashes = short_script();
    let later = Timestamp::from_ms(START.ms() + 2 * DAY_MS);
    let disk = Disks::empty();
    let server = Server::with_places(&disk, 0).unwrap();
    server.accept(&crashes, 1).unwrap();
    server.clock.set(later);
    let (seq, _) = server.store.crash(crashes[1].id).unwrap().unwrap();
    assert_eq!(
        server.store.delete(vec![seq], &[State::Deferred]).unwrap(),
        1
    );
    let before = disk.history().1.len();
    assert_eq!(server.store.sweep().unwrap(), 1);
    let (mut image, changes) = disk.history();
    let mut cuts = 0;
    for (at, change) in changes.iter().enumerate() {
        image.apply(change);
        if at < before {
            continue;
        }
        let seeds = (0..CUTS_EACH).map(|seed| image.power_cut(3 * at as u64 + seed));
        for left in seeds.chain([image.clone()]) {
            let disk = Disks::of(left);
            let server = Server::with_places(&disk, 0).unwrap();
            assert_eq!(
                ownerless_segments(&disk.image()),
                [""; 0],
                "after change {at} ({})",
                kind_of(change)
            );
            server.clock.set(later);
            server.store.sweep().unwrap();
            let files = disk.image();
            assert!(!files.files().any(|path| path.starts_with("segments/")));
            cuts += 1;
        }
    }
    assert!(cuts > 20, "{cuts}");
}

#[test]
fn a_damaged_database_is_told_as_damage_and_panics_nowhere() {
    let crashes = short_script();
    let disk = Disks::empty();
    run_short_script(&disk, &crashes);
    let image = disk.image();
    let good = image.file("store.redb").unwrap().to_vec();
    let written: Vec<usize> = (0..good.len()).filter(|at| good[*at] != 0).collect();
    let mut random = Random(5);
    let mut told = 0;
    let mut check = |bytes: &[u8], what: &str| {
        let mut damaged = image.clone();
        damaged.put("store.redb", bytes);
        let disk = Disks::of(damaged);
        let opened = std::panic::catch_unwind(|| {
            let server = Server::with_places(&disk, 0)?;
            // Every result of a read must be correct, too.
            for crash in &crashes {
                if let Ok(Some((_, row))) = server.store.crash(crash.id) {
                    let _ = server.store.raw(&row);
                }
            }
            let _ = server.store.status();
            let _ = server.store.audit();
            Ok::<(), OpenError>(())
        });
        match opened {
            Ok(Ok(())) => {}
            Ok(Err(OpenError::Store(StoreError::Unavailable(why)))) => {
                panic!("{what}: damage is told as what passes: {why}")
            }
            Ok(Err(error)) => {
                let text = error.to_string();
                let is_row = matches!(error, OpenError::Store(StoreError::Damaged(_)));
                assert!(
                    is_row || text.contains("salvage") || text.contains("copy"),
                    "{text}"
                );
                told += 1;
            }
            Err(_) => panic!("{what}: it panicked"),
        }
    };
    for turn in 0..120 {
        let mut bytes = good.clone();
        let flips = if turn % 4 == 3 { 20 } else { 1 };
        for _ in 0..flips {
            let at = written[random.below(written.len() as u64) as usize];
            bytes[at] ^= 1 << random.below(8);
        }
        check(&bytes, &format!("flips of turn {turn}"));
    }
    check(&good[..good.len() / 2], "half of it");
    check(&good[..good.len() - 4096], "a page less");
    check(&[&[0; 512][..], &good[512..]].concat(), "no header");
    assert!(told > 0);
}

#[test]
fn a_store_whose_file_was_taken_away_acknowledges_nothing_until_it_is_back() {
    let crashes = short_script();
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("data");
    let disk = OsDisk::new(&data).unwrap();
    let (lanes, _jobs, _stop) = queue(0, 0);
    let options = || StoreOptions {
        cache_bytes: 1 << 20,
        spill_dir: root.path().to_path_buf(),
    };
    let clock = Arc::new(ManualClock::at(START));
    let store = Store::open(Arc::new(disk), options(), clock.clone(), Box::new(lanes)).unwrap();
    let accept = |index: usize| store.accept(crashes[index].report(root.path()));
    accept(0).unwrap();
    // A second store is refused, even without the lock on the directory.
    let (lanes, _jobs, _stop) = queue(0, 0);
    let again = OsDisk::new(&data).unwrap();
    let second = Store::open(Arc::new(again), options(), clock, Box::new(lanes));
    assert!(matches!(second, Err(OpenError::InUse { .. })));
    accept(2).unwrap();
    let (path, away) = (data.join("store.redb"), root.path().join("away"));
    std::fs::rename(&path, &away).unwrap();
    std::fs::copy(&away, &path).unwrap();
    let refused = accept(3).unwrap_err().to_string();
    assert!(
        refused.contains("store.redb was removed or replaced"),
        "{refused}"
    );
    assert!(store.latched().is_some());
    std::fs::rename(&away, &path).unwrap();
    assert!(eventually(|| accept(3).is_ok()));
    assert!(store.crash(crashes[3].id).unwrap().is_some());
    // Missing segments get no more data, and are reported.
    assert!(eventually(|| store.scan(0, 10).unwrap().len() == 3));
    assert_eq!(store.status().unwrap().faults().count(), 0);
    for entry in std::fs::read_dir(data.join("segments")).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let faults: Vec<String> = store
        .status()
        .unwrap()
        .faults()
        .map(|(_, text)| text)
        .collect();
    assert!(
        faults.len() == 1 && faults[0].contains("missing"),
        "{faults:?}"
    );
    accept(4).unwrap();
    let (_, row) = store.crash(crashes[4].id).unwrap().unwrap();
    store.close();
    drop(store);
    let (lanes, _jobs, _stop) = queue(0, 0);
    let again = Arc::new(OsDisk::new(&data).unwrap());
    let clock = Arc::new(ManualClock::at(START));
    let store = Store::open(again, options(), clock, Box::new(lanes)).unwrap();
    assert_eq!(store.raw(&row).unwrap(), crashes[4].raw);
    // The complete folder is deleted.
    std::fs::remove_dir_all(data.join("segments")).unwrap();
    store.accept(crashes[5].report(root.path())).unwrap();
    assert!(store.status().unwrap().faults().count() > 0);
}

#[test]
fn the_directory_belongs_to_one_process() {
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("data");
    let first = DirectoryLock::take(&data).unwrap();
    match DirectoryLock::take(&data) {
        Err(OpenError::InUse { holder }) => {
            assert_eq!(holder, format!("pid {}", std::process::id()));
        }
        other => panic!("{other:?}"),
    }
    drop(first);
    DirectoryLock::take(&data).unwrap();
}
