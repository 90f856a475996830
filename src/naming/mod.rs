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

mod history;
mod preview;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use crate::crash::processed::ProcessedCrash;
use crate::crash::raw::RawCrash;
use crate::periodic::{Left, PeriodicTask};
use crate::process;
use crate::signature::{
    Explanation, Generator, Input, KnownFrames, ListError, ListTexts, Lists, Ruleset, StoredFrame,
};
use crate::store::signing::{NewRevision, SignedView};
use crate::store::{Store, StoreError, StoredCrash};

pub use preview::{Group, Groups, Part, Preview};

use history::Interrupted;

/// Between two looks for what was left behind.
const LOOK_EVERY: Duration = Duration::from_secs(10);

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
    task: Mutex<Option<PeriodicTask>>,
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
            task: Mutex::default(),
        })
    }

    /// Starts the thread that names history.
    pub fn start(self: &Arc<Self>) -> io::Result<()> {
        let naming = self.clone();
        let mut kept_up_to = 0;
        let task = PeriodicTask::start("naming", LOOK_EVERY, move |woken| {
            match naming.catch_up(woken, &mut kept_up_to) {
                Ok(()) => {}
                Err(Interrupted::Stopped) => return Left::Ended,
                Err(Interrupted::Store(error)) => {
                    tracing::error!(%error, "naming crashes again failed; the next look goes on");
                }
            }
            Left::Nothing
        })?;
        *self.task.lock().unwrap_or_else(|e| e.into_inner()) = Some(task);
        Ok(())
    }

    pub fn stop(&self) {
        let task = self.task.lock().unwrap_or_else(|e| e.into_inner()).take();
        if let Some(task) = task {
            task.stop();
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
        if let Some(task) = &*self.task.lock().unwrap_or_else(|e| e.into_inner()) {
            task.wake();
        }
        Ok(revision)
    }

    fn generator(&self, texts: ListTexts) -> Result<Generator, ListError> {
        Ok(Generator::new(self.ruleset, Arc::new(Lists::new(texts)?)))
    }

    /// What would change if these lists were in force.
    pub fn preview(&self, texts: ListTexts) -> Result<Preview, ReviseError> {
        let generator = self.generator(texts).map_err(ReviseError::List)?;
        Ok(preview::preview(&self.store, &generator)?)
    }

    /// Tells how a crash gets its signature under the lists in force.
    pub fn explain(&self, seq: u64, row: &StoredCrash) -> Result<Option<Explanation>, StoreError> {
        let Some(input) = input_of(&self.store, seq, row)? else {
            return Ok(None);
        };
        let raw = self.store.raw(row).unwrap_or_default();
        let annotation = |key: &str| raw.annotation(key).map(str::to_owned);
        let generator = self.in_force().generator;
        Ok(Some(generator.explain(&input.crash_data(), &annotation)))
    }
}

/// What named a crash: as it is kept, or else as its report and its walk have it.
fn input_of(
    store: &Store,
    seq: u64,
    row: &StoredCrash,
) -> Result<Option<Input<StoredFrame>>, StoreError> {
    match store.signature_input(seq) {
        Ok(Some(input)) => Ok(Some(input)),
        Ok(None) | Err(StoreError::Damaged(_)) => rebuilt(store, row),
        Err(error) => Err(error),
    }
}

/// What named a crash, from its report and its processed crash; `None` where these cannot be read.
fn rebuilt(store: &Store, row: &StoredCrash) -> Result<Option<Input<StoredFrame>>, StoreError> {
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
