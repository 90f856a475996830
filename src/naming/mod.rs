//! The signature lists in force, and re-signing of history with them (ADR 15).
//!
//! A revision of the lists is stored, then put in force, then history follows. A thread computes the
//! signature of every stored crash from its stored input ([`crate::store::signatures`]), and stores the new
//! signature if it has changed. A preview does only the first half and shows what would change. Neither of
//! them walks a dump.
//!
//! The thread also handles crashes that were processed before inputs were kept, or with lists that have been
//! replaced in the meantime. It can be killed at any point. It continues from its last stored progress, and a
//! crash that it handles twice counts once.

mod history;
mod preview;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::crash::processed::ProcessedCrash;
use crate::crash::raw::RawCrash;
use crate::periodic::{Left, PeriodicTask};
use crate::process;
use crate::signature::{
    Explanation, Generator, Input, KnownFrames, ListError, ListTexts, Lists, Ruleset, StoredFrame,
};
use crate::store::signatures::{NewRevision, SignedView};
use crate::store::{Store, StoreError, StoredCrash};
use parking_lot::{Mutex, RwLock};

pub use preview::{Group, Groups, Part, Preview};

use history::Interrupted;

/// Time between two checks for crashes that still have to be handled.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The generator in force, and the revision of its lists.
#[derive(Clone)]
pub struct InForce {
    pub generator: Arc<Generator>,
    /// 0 means the built-in lists.
    pub revision: u64,
}

/// The lists in force, and the thread that re-signs history with them.
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
    /// Another user has changed the lists in the meantime.
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
    /// Puts the newest revision of the store in force.
    pub fn open(store: Arc<Store>, ruleset: Ruleset) -> Result<Self, StoreError> {
        let in_force = match store.lists_in_force()? {
            None => InForce {
                generator: Arc::new(Generator::new(ruleset, Arc::new(Lists::builtin()))),
                revision: 0,
            },
            Some((revision, row)) => {
                let lists = Lists::new(row.texts).unwrap_or_else(|error| {
                    // Another version of this program checked them when they were stored.
                    tracing::error!(revision, %error, "the stored signature lists are invalid; using the built-in lists");
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

    /// Starts the thread that re-signs history.
    pub fn start(self: &Arc<Self>) -> io::Result<()> {
        let naming = self.clone();
        let mut kept_up_to = 0;
        let task = PeriodicTask::start("naming", LOOK_EVERY, move |woken| {
            match naming.catch_up(woken, &mut kept_up_to) {
                Ok(()) => {}
                Err(Interrupted::Stopped) => return Left::Ended,
                Err(Interrupted::Store(error)) => {
                    tracing::error!(%error, "updating signatures failed; will try again");
                }
            }
            Left::Nothing
        })?;
        *self.task.lock() = Some(task);
        Ok(())
    }

    pub fn stop(&self) {
        let task = self.task.lock().take();
        if let Some(task) = task {
            task.stop();
        }
    }

    /// The generator with which crashes are signed now.
    pub fn in_force(&self) -> InForce {
        self.in_force.read().clone()
    }

    /// Checks lists, stores them as the newest revision and puts them in force. Returns its number.
    ///
    /// # Errors
    /// See [`ReviseError`]. With [`ReviseError::Outdated`], the user must look at the newer lists first.
    pub fn revise(&self, new: NewRevision) -> Result<u64, ReviseError> {
        let generator = self
            .generator(new.texts.clone())
            .map_err(ReviseError::List)?;
        let mut in_force = self.in_force.write();
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
        if let Some(task) = &*self.task.lock() {
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

    /// Explains the signature of a crash under the lists in force; `None` if the crash cannot be read.
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

/// The signature input of a crash, as stored. If it is not stored, from its report and its walk.
fn input_of(
    store: &Store,
    seq: u64,
    row: &StoredCrash,
) -> Result<Option<Input<StoredFrame>>, StoreError> {
    match store.signature_input(seq) {
        Ok(Some(input)) => Ok(Some(input)),
        Ok(None) | Err(StoreError::Damaged(_) | StoreError::Newer(_)) => rebuilt(store, row),
        Err(error) => Err(error),
    }
}

/// The signature input of a crash, from its report and its processed crash; `None` if they cannot be read.
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
        Err(StoreError::Damaged(why) | StoreError::Newer(why)) => {
            tracing::error!(crash_id = %row.id, why, "the signature input of a crash cannot be read");
            Ok(None)
        }
        other => other,
    }
}

/// The signatures of inputs. Each is computed once.
#[derive(Default)]
struct Bases(HashMap<u64, Base>);

/// The signature of an input before it is split.
struct Base {
    signature: String,
    /// Whether an annotation splits the crashes further.
    is_split: bool,
}

impl Bases {
    /// `None` if the input was not kept or cannot be read.
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
                    Err(StoreError::Damaged(why) | StoreError::Newer(why)) => {
                        tracing::error!(
                            input,
                            why,
                            "a signature input cannot be read; reading the report instead"
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
