//! The signature lists in force, and naming history by others.
//!
//! A revision of the lists is stored, then put in force, then history follows: a thread of its own
//! names every stored crash by what is kept of it ([`crate::store::signing`]) and gives those whose
//! signature changes a new one. A preview does the first half of that and shows what would change.
//! No dump is walked for either.
//!
//! The thread also looks after crashes that were finished before their inputs were kept, or under
//! lists that have been replaced meanwhile. It can be killed at any point: it goes on where its
//! progress was last written down, and what it does twice counts once.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};

use crate::crash::processed::ProcessedCrash;
use crate::crash::raw::RawCrash;
use crate::process;
use crate::signature::{
    Explanation, Generator, Input, KnownFrames, ListError, ListTexts, Lists, Ruleset, StoredFrame,
};
use crate::store::counters::NameId;
use crate::store::signing::{NewRevision, Progress, Resigned, Signed, SignedView};
use crate::store::{CrashRow, Payload, Store, StoreError};

/// Crashes between two times that progress is written down.
const BATCH: usize = 256;
/// Crashes of a preview that are read at once.
const PREVIEW_BATCH: usize = 10_000;
/// Between two looks for what was left behind.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Groups of a kind that a preview lists; it counts all.
const GROUPS_MAX: usize = 200;
/// Crashes that stand for a group.
const EXAMPLES_MAX: usize = 3;

/// The generator in force, and which revision of the lists it has.
#[derive(Clone)]
pub struct InForce {
    pub generator: Arc<Generator>,
    /// 0 stands for the built-in lists.
    pub revision: u64,
}

/// Names crashes: those that come by the lists in force, and history by its thread.
pub struct Naming {
    store: Arc<Store>,
    ruleset: Ruleset,
    in_force: RwLock<InForce>,
    wake: Mutex<Option<Sender<()>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Why a revision was not put in force.
#[derive(Debug)]
pub enum ReviseError {
    List(ListError),
    /// Somebody else changed the lists meanwhile.
    Outdated {
        in_force: u64,
    },
    Store(StoreError),
}

impl From<StoreError> for ReviseError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Naming {
    /// Takes up the newest revision of the store.
    pub fn open(store: Arc<Store>, ruleset: Ruleset) -> Result<Self, StoreError> {
        let in_force = match store.lists_in_force()? {
            None => InForce {
                generator: Arc::new(Generator::new(ruleset, Arc::new(Lists::builtin()))),
                revision: 0,
            },
            Some((revision, row)) => {
                let lists = Lists::new(row.texts).unwrap_or_else(|error| {
                    // They were checked when they were stored, by another version of this program.
                    tracing::error!(revision, %error, "stored signature lists cannot be used; the built-in ones are in force");
                    Lists::builtin()
                });
                InForce {
                    generator: Arc::new(Generator::new(ruleset, Arc::new(lists))),
                    revision,
                }
            }
        };
        Ok(Self {
            store,
            ruleset,
            in_force: RwLock::new(in_force),
            wake: Mutex::default(),
            thread: Mutex::default(),
        })
    }

    /// Starts the thread that names history.
    pub fn start(self: &Arc<Self>) -> io::Result<()> {
        let (wake, woken) = bounded::<()>(1);
        *self.wake.lock().unwrap_or_else(|e| e.into_inner()) = Some(wake);
        let naming = self.clone();
        let thread = std::thread::Builder::new()
            .name("naming".into())
            .spawn(move || {
                let mut kept_up_to = 0;
                loop {
                    match naming.catch_up(&woken, &mut kept_up_to) {
                        Ok(()) => {}
                        Err(Interrupted::Stopped) => return,
                        Err(Interrupted::Store(error)) => {
                            tracing::error!(%error, "naming crashes again failed; the next look goes on");
                        }
                    }
                    if let Err(RecvTimeoutError::Disconnected) = woken.recv_timeout(LOOK_EVERY) {
                        return;
                    }
                }
            })?;
        *self.thread.lock().unwrap_or_else(|e| e.into_inner()) = Some(thread);
        Ok(())
    }

    pub fn stop(&self) {
        self.wake.lock().unwrap_or_else(|e| e.into_inner()).take();
        let thread = self.thread.lock().unwrap_or_else(|e| e.into_inner()).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the naming thread panicked");
        }
    }

    /// By what crashes are named now.
    pub fn in_force(&self) -> InForce {
        self.in_force
            .read()
            .unwrap_or_else(|e| e.into_inner())
            .clone()
    }

    /// Checks lists, stores them as the newest revision and puts them in force. Returns its number.
    pub fn revise(&self, new: NewRevision) -> Result<u64, ReviseError> {
        let generator = self
            .generator(new.texts.clone())
            .map_err(ReviseError::List)?;
        let mut in_force = self.in_force.write().unwrap_or_else(|e| e.into_inner());
        let Some(revision) = self.store.revise(new)? else {
            return Err(ReviseError::Outdated {
                in_force: in_force.revision,
            });
        };
        *in_force = InForce {
            generator: Arc::new(generator),
            revision,
        };
        drop(in_force);
        if let Some(wake) = &*self.wake.lock().unwrap_or_else(|e| e.into_inner()) {
            // A full channel says the same.
            let _ = wake.try_send(());
        }
        Ok(revision)
    }

    fn generator(&self, texts: ListTexts) -> Result<Generator, ListError> {
        Ok(Generator::new(self.ruleset, Arc::new(Lists::new(texts)?)))
    }

    /// What would change if these lists were in force.
    pub fn preview(&self, texts: ListTexts) -> Result<Preview, ReviseError> {
        let generator = self.generator(texts).map_err(ReviseError::List)?;
        Ok(preview(&self.store, &generator)?)
    }

    /// Tells how a crash gets its signature under the lists in force.
    pub fn explain(&self, seq: u64, row: &CrashRow) -> Result<Option<Explanation>, StoreError> {
        let Some(input) = input_of(&self.store, seq, row)? else {
            return Ok(None);
        };
        let raw = self.store.raw(row).unwrap_or_default();
        let annotation = |key: &str| raw.annotation(key).map(str::to_owned);
        let generator = self.in_force().generator;
        Ok(Some(generator.explain(&input.crash_data(), &annotation)))
    }

    /// Everything that is to be named again, and what is not kept yet.
    fn catch_up(&self, woken: &Receiver<()>, kept_up_to: &mut u64) -> Result<(), Interrupted> {
        self.keep_inputs(woken, kept_up_to)?;
        while let Some((revision, row)) = self.store.resigns(1)?.pop() {
            let in_force = self.in_force();
            if row.ended_at_ms.is_some() || in_force.revision != revision {
                break;
            }
            self.resign_all(woken, &in_force, row.cursor)?;
        }
        self.resign_outdated(woken)
    }

    /// Writes down what named the crashes that were finished before that was kept.
    fn keep_inputs(&self, woken: &Receiver<()>, up_to: &mut u64) -> Result<(), Interrupted> {
        loop {
            let (seqs, last) = self.store.without_input(*up_to, BATCH)?;
            let Some(last) = last else { return Ok(()) };
            for seq in seqs {
                stop_asked(woken)?;
                let Some(row) = self.store.crash_at(seq)? else {
                    continue;
                };
                if row.processed.is_some() {
                    let input = rebuilt(&self.store, &row)?;
                    self.store.keep_input(seq, input)?;
                }
            }
            *up_to = last;
        }
    }

    /// Names all crashes above `cursor` by the lists of a revision.
    fn resign_all(
        &self,
        woken: &Receiver<()>,
        in_force: &InForce,
        mut cursor: u64,
    ) -> Result<(), Interrupted> {
        let begun = Instant::now();
        let mut known = KnownFrames::new(&in_force.generator);
        loop {
            stop_asked(woken)?;
            if self.in_force().revision != in_force.revision {
                // A newer revision begins from the start.
                return Ok(());
            }
            let batch = self.store.signed(|view| view.crashes(cursor, BATCH))?;
            let unreadable = self.resign_batch(&batch, in_force, &mut known)?;
            cursor = batch.last().map_or(cursor, |last| last.seq);
            let is_ended = batch.len() < BATCH;
            self.store.resign_progress(Progress {
                revision: in_force.revision,
                cursor,
                looked_at: batch.len() as u64,
                unreadable,
                is_ended,
                caught_up: Vec::new(),
            })?;
            if is_ended {
                let seconds = begun.elapsed().as_secs_f64();
                tracing::info!(
                    revision = in_force.revision,
                    seconds,
                    "every crash is named by the lists in force"
                );
                return Ok(());
            }
        }
    }

    /// Names the crashes again that were processed under lists of before.
    fn resign_outdated(&self, woken: &Receiver<()>) -> Result<(), Interrupted> {
        let in_force = self.in_force();
        let mut known = KnownFrames::new(&in_force.generator);
        loop {
            stop_asked(woken)?;
            let outdated = self.store.outdated(BATCH)?;
            if outdated.is_empty() || self.in_force().revision != in_force.revision {
                return Ok(());
            }
            let batch = self.store.signed(|view| {
                let mut batch = Vec::new();
                for seq in &outdated {
                    let found = view.crashes(seq - 1, 1)?.pop();
                    batch.extend(found.filter(|signed| signed.seq == *seq));
                }
                Ok(batch)
            })?;
            let unreadable = self.resign_batch(&batch, &in_force, &mut known)?;
            self.store.resign_progress(Progress {
                revision: in_force.revision,
                unreadable,
                caught_up: outdated,
                ..Progress::default()
            })?;
        }
    }

    /// Gives those of a batch a new signature that get one. Returns how many cannot be read.
    fn resign_batch(
        &self,
        batch: &[Signed],
        in_force: &InForce,
        known: &mut KnownFrames,
    ) -> Result<u64, StoreError> {
        let changed = self.store.signed(|view| {
            let mut bases = Bases::default();
            let mut changed = Vec::new();
            for signed in batch {
                let is_same = match bases.of(view, known, signed.input)? {
                    Some(base) if !base.is_split => {
                        base.signature == view.signature(signed.signature)?
                    }
                    // Its report has to be read anyway.
                    _ => false,
                };
                if !is_same {
                    changed.push(signed.seq);
                }
            }
            Ok(changed)
        })?;
        let mut unreadable = 0;
        for seq in changed {
            match self.resigned(seq, in_force) {
                Ok(Some(resigned)) => self.store.resign(resigned)?,
                Ok(None) => {}
                Err(StoreError::Damaged(why)) => {
                    tracing::error!(seq, why, "a crash cannot be named again");
                    unreadable += 1;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(unreadable)
    }

    /// The processed crash under its new signature; `None` where that is the one it has.
    fn resigned(&self, seq: u64, in_force: &InForce) -> Result<Option<Resigned>, StoreError> {
        let Some(row) = self.store.crash_at(seq)? else {
            return Ok(None);
        };
        let (Some(processed), Some(json)) = (&row.processed, self.store.processed(&row)?) else {
            return Ok(None);
        };
        let Some(input) = input_of(&self.store, seq, &row)? else {
            return Ok(None);
        };
        let raw = self.store.raw(&row).unwrap_or_default();
        let annotation = |key: &str| raw.annotation(key).map(str::to_owned);
        let signature = in_force
            .generator
            .generate_with(&input.crash_data(), &annotation);
        if signature.text == processed.signature || signature.text.is_empty() {
            return Ok(None);
        }
        let note = format!(
            "Signature: revision {} of the lists names this crash, which was `{}`",
            in_force.revision, processed.signature
        );
        let json = process::renamed(&json, &signature, &note).map_err(|error| {
            StoreError::Damaged(format!("processed crash of {}: {error}", row.id))
        })?;
        Ok(Some(Resigned {
            seq,
            read: processed.blob,
            processed: Payload::from_bytes(&json),
            signature: signature.text,
            revision: in_force.revision,
        }))
    }
}

enum Interrupted {
    Stopped,
    Store(StoreError),
}

impl From<StoreError> for Interrupted {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

fn stop_asked(woken: &Receiver<()>) -> Result<(), Interrupted> {
    match woken.try_recv() {
        Err(TryRecvError::Disconnected) => Err(Interrupted::Stopped),
        _ => Ok(()),
    }
}

/// What named a crash: as it is kept, or else as its report and its walk have it.
fn input_of(
    store: &Store,
    seq: u64,
    row: &CrashRow,
) -> Result<Option<Input<StoredFrame>>, StoreError> {
    match store.signature_input(seq) {
        Ok(Some(input)) => Ok(Some(input)),
        Ok(None) | Err(StoreError::Damaged(_)) => rebuilt(store, row),
        Err(error) => Err(error),
    }
}

/// What named a crash, from its report and its processed crash; `None` where these cannot be read.
fn rebuilt(store: &Store, row: &CrashRow) -> Result<Option<Input<StoredFrame>>, StoreError> {
    let read = || -> Result<Option<Input<StoredFrame>>, StoreError> {
        let Some(json) = store.processed(row)? else {
            return Ok(None);
        };
        let damaged = |e| StoreError::Damaged(format!("processed crash of {}: {e}", row.id));
        let processed = ProcessedCrash::parse(&json).map_err(damaged)?;
        let raw: RawCrash = store.raw(row)?;
        let walk = processed.walk.as_ref();
        Ok(Some(process::input(
            &raw,
            walk,
            &processed.fields,
            &row.product,
        )))
    };
    match read() {
        Err(StoreError::Damaged(why)) => {
            tracing::error!(crash_id = %row.id, why, "what named a crash cannot be read");
            Ok(None)
        }
        other => other,
    }
}

/// What inputs are called, each named once.
#[derive(Default)]
struct Bases(HashMap<u64, Base>);

/// What an input is called before it is split.
struct Base {
    signature: String,
    /// Whether the crashes are to be told apart by an annotation.
    is_split: bool,
}

impl Bases {
    /// `None` where the input is not kept.
    fn of(
        &mut self,
        view: &SignedView,
        known: &mut KnownFrames,
        input: u64,
    ) -> Result<Option<&Base>, StoreError> {
        if input == 0 {
            return Ok(None);
        }
        let base = match self.0.entry(input) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                let named = view.input(input).and_then(|kept| {
                    let signature = known.name(&kept, &mut |id| view.frame(id))?;
                    Ok((kept, signature))
                });
                let (kept, signature) = match named {
                    Err(StoreError::Damaged(why)) => {
                        tracing::error!(
                            input,
                            why,
                            "a signature's input cannot be read; its report is"
                        );
                        return Ok(None);
                    }
                    other => other?,
                };
                let is_split = known.generator().splits(&signature, &kept.product);
                unknown.insert(Base {
                    signature,
                    is_split,
                })
            }
        };
        Ok(Some(base))
    }
}

/// What lists would change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preview {
    /// Crashes that were named.
    pub crashes: u64,
    /// Those among them that would get another signature.
    pub changed: u64,
    /// Those of which it cannot be told, as their reports cannot be read.
    pub unreadable: u64,
    pub signatures_before: u64,
    pub signatures_after: u64,
    /// Signatures that several would be found under.
    pub merges: Groups,
    /// Signatures whose crashes would be found under several.
    pub splits: Groups,
    /// Signatures that would be called otherwise, with all their crashes and no others.
    pub renames: Groups,
}

/// Groups of a kind, those of the most crashes first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    pub count: u64,
    /// The first of them.
    pub shown: Vec<Group>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Into which others merge, or which is split or renamed.
    pub signature: String,
    pub crashes: u64,
    /// Where the crashes come from, or where they go. One of them may be `signature` itself.
    pub parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub signature: String,
    pub crashes: u64,
    /// Sequence numbers of some of the crashes.
    pub examples: Vec<u64>,
}

/// Crashes that have one signature and would get another, or the same.
#[derive(Default)]
struct Flow {
    crashes: u64,
    examples: Vec<u64>,
}

/// Signatures by numbers, in the order of their coming.
#[derive(Default)]
struct Texts {
    ids: HashMap<String, usize>,
    texts: Vec<String>,
}

impl Texts {
    fn id(&mut self, text: &str) -> usize {
        if let Some(id) = self.ids.get(text) {
            return *id;
        }
        self.texts.push(text.to_owned());
        self.ids.insert(text.to_owned(), self.texts.len() - 1);
        self.texts.len() - 1
    }
}

/// Names every stored crash by a generator, and compares with what it is called.
fn preview(store: &Store, generator: &Generator) -> Result<Preview, StoreError> {
    let mut preview = Preview::default();
    let mut texts = Texts::default();
    let mut flows: BTreeMap<(usize, usize), Flow> = BTreeMap::new();
    let mut to_read: Vec<(Signed, usize)> = Vec::new();
    store.signed(|view| {
        let mut known = KnownFrames::new(generator);
        let mut bases = Bases::default();
        let mut before: HashMap<NameId, usize> = HashMap::new();
        let mut after: HashMap<u64, Option<usize>> = HashMap::new();
        let mut cursor = 0;
        loop {
            let batch = view.crashes(cursor, PREVIEW_BATCH)?;
            for signed in &batch {
                let from = match before.get(&signed.signature) {
                    Some(from) => *from,
                    None => {
                        let id = texts.id(&view.signature(signed.signature)?);
                        *before.entry(signed.signature).or_insert(id)
                    }
                };
                let to = match after.get(&signed.input) {
                    Some(to) => *to,
                    None => {
                        let base = bases.of(view, &mut known, signed.input)?;
                        let base = base.filter(|base| !base.is_split);
                        let to = base.map(|base| texts.id(&base.signature));
                        *after.entry(signed.input).or_insert(to)
                    }
                };
                match to {
                    Some(to) => flows.entry((from, to)).or_default().add(signed.seq),
                    None => to_read.push((*signed, from)),
                }
            }
            match batch.last() {
                Some(last) => cursor = last.seq,
                None => return Ok(()),
            }
        }
    })?;
    for (signed, from) in to_read {
        match whole_name(store, generator, signed.seq)? {
            Some(signature) => {
                let to = texts.id(&signature);
                flows.entry((from, to)).or_default().add(signed.seq);
            }
            None => preview.unreadable += 1,
        }
    }
    preview.fill(&flows, &texts.texts);
    Ok(preview)
}

/// What a crash is called by its report.
fn whole_name(
    store: &Store,
    generator: &Generator,
    seq: u64,
) -> Result<Option<String>, StoreError> {
    let Some(row) = store.crash_at(seq)? else {
        return Ok(None);
    };
    let Some(input) = input_of(store, seq, &row)? else {
        return Ok(None);
    };
    let raw = store.raw(&row).unwrap_or_default();
    let annotation = |key: &str| raw.annotation(key).map(str::to_owned);
    let signature = generator.generate_with(&input.crash_data(), &annotation);
    Ok(Some(signature.text))
}

impl Flow {
    fn add(&mut self, seq: u64) {
        self.crashes += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(seq);
        }
    }
}

impl Preview {
    fn fill(&mut self, flows: &BTreeMap<(usize, usize), Flow>, texts: &[String]) {
        let mut out: BTreeMap<usize, Vec<(usize, &Flow)>> = BTreeMap::new();
        let mut into: BTreeMap<usize, Vec<(usize, &Flow)>> = BTreeMap::new();
        for ((from, to), flow) in flows {
            self.crashes += flow.crashes;
            if from != to {
                self.changed += flow.crashes;
            }
            out.entry(*from).or_default().push((*to, flow));
            into.entry(*to).or_default().push((*from, flow));
        }
        self.signatures_before = out.len() as u64;
        self.signatures_after = into.len() as u64;
        let merges = into.iter().filter(|(_, from)| from.len() > 1);
        self.merges = Groups::of(merges, texts);
        let splits = out.iter().filter(|(_, to)| to.len() > 1);
        self.splits = Groups::of(splits, texts);
        let renames = out
            .iter()
            .filter(|(from, to)| to.len() == 1 && to[0].0 != **from && into[&to[0].0].len() == 1);
        self.renames = Groups::of(renames, texts);
    }
}

impl Groups {
    fn of<'f>(
        groups: impl Iterator<Item = (&'f usize, &'f Vec<(usize, &'f Flow)>)>,
        texts: &[String],
    ) -> Groups {
        let mut all: Vec<Group> = groups
            .map(|(signature, parts)| {
                let mut parts: Vec<Part> = parts
                    .iter()
                    .map(|(part, flow)| Part {
                        signature: texts[*part].clone(),
                        crashes: flow.crashes,
                        examples: flow.examples.clone(),
                    })
                    .collect();
                parts.sort_by_key(|part| Reverse(part.crashes));
                Group {
                    signature: texts[*signature].clone(),
                    crashes: parts.iter().map(|part| part.crashes).sum(),
                    parts,
                }
            })
            .collect();
        all.sort_by_key(|group| Reverse(group.crashes));
        let count = all.len() as u64;
        all.truncate(GROUPS_MAX);
        Groups { count, shown: all }
    }
}
