//! The active signature lists, and re-signing of history with them (ADR 15).
//!
//! A revision of the lists is stored and activated, then history follows. A thread computes the
//! signature of every stored crash from its stored input ([`crate::store::signatures`]), and stores the new
//! signature if it has changed. A preview does only the first half and shows what would change. Neither of
//! them walks a dump.
//!
//! The thread also handles crashes that were processed before inputs were kept, or with lists that have been
//! replaced in the meantime. It can be killed at any point. It continues from its last stored progress, and a
//! crash that it handles twice counts once.

mod alike;
mod history;
mod inputs;
mod preview;

use std::sync::Arc;

use crate::periodic::PeriodicTask;
use crate::signature::{Explanation, Generator, ListError, ListTexts, Lists, Ruleset};
use crate::store::signatures::NewRevision;
use crate::store::{Store, StoreError, StoredCrash};
use parking_lot::{Mutex, RwLock};

pub(crate) use alike::Alike;
pub(crate) use preview::{Group, Groups, Preview};

use inputs::input_of;

/// The active generator, and the revision of its lists.
#[derive(Clone)]
pub(crate) struct ActiveLists {
    pub(crate) generator: Arc<Generator>,
    /// 0 means the built-in lists.
    pub(crate) revision: u64,
}

/// The active lists, and the thread that re-signs history with them.
pub struct Naming {
    store: Arc<Store>,
    ruleset: Ruleset,
    active: RwLock<ActiveLists>,
    task: Mutex<Option<PeriodicTask>>,
}

/// Why a revision was not activated.
#[derive(Debug)]
pub enum ReviseError {
    List(ListError),
    /// Another user has changed the lists in the meantime.
    Outdated {
        active: u64,
    },
    Store(StoreError),
}

impl From<StoreError> for ReviseError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// What signs crashes. It remembers functions, because most of a crash's functions were in other crashes.
fn generator(ruleset: Ruleset, lists: Lists) -> Generator {
    Generator::new(ruleset, Arc::new(lists)).remembering()
}

impl Naming {
    /// Activates the newest revision in the store.
    ///
    /// # Errors
    /// The store cannot be read, or the row of the newest revision is damaged. Lists that this version cannot
    /// compile are not an error: the built-in lists are used instead.
    pub fn open(store: Arc<Store>, ruleset: Ruleset) -> Result<Self, StoreError> {
        let active = match store.active_lists()? {
            None => ActiveLists {
                generator: Arc::new(generator(ruleset, Lists::builtin())),
                revision: 0,
            },
            Some((revision, row)) => {
                let lists = Lists::new(row.texts).unwrap_or_else(|error| {
                    // Another version of this program checked them when they were stored.
                    tracing::error!(revision, %error, "the stored signature lists are invalid; using the built-in lists");
                    Lists::builtin()
                });
                ActiveLists {
                    generator: Arc::new(generator(ruleset, lists)),
                    revision,
                }
            }
        };
        Ok(Self {
            store,
            ruleset,
            active: RwLock::new(active),
            task: Mutex::default(),
        })
    }

    pub fn stop(&self) {
        let task = self.task.lock().take();
        if let Some(task) = task {
            task.stop();
        }
    }

    /// The generator with which crashes are signed now.
    pub(crate) fn active(&self) -> ActiveLists {
        self.active.read().clone()
    }

    /// Checks lists, stores them as the newest revision and activates them. Returns its number.
    ///
    /// # Errors
    /// See [`ReviseError`]. With [`ReviseError::Outdated`], the user must look at the newer lists first.
    pub fn revise(&self, new: NewRevision) -> Result<u64, ReviseError> {
        let generator = self
            .generator(new.texts.clone())
            .map_err(ReviseError::List)?;
        let mut active = self.active.write();
        let Some(revision) = self.store.revise(new)? else {
            return Err(ReviseError::Outdated {
                active: active.revision,
            });
        };
        *active = ActiveLists {
            generator: Arc::new(generator),
            revision,
        };
        drop(active);
        if let Some(task) = &*self.task.lock() {
            task.wake();
        }
        Ok(revision)
    }

    fn generator(&self, texts: ListTexts) -> Result<Generator, ListError> {
        Ok(generator(self.ruleset, Lists::new(texts)?))
    }

    /// What would change if these lists were active.
    ///
    /// # Errors
    /// [`ReviseError::List`] if the lists are invalid, [`ReviseError::Store`] if the store cannot be read.
    pub fn preview(&self, texts: ListTexts) -> Result<Preview, ReviseError> {
        let lists = Lists::new(texts).map_err(ReviseError::List)?;
        // A preview names each frame once, so this generator has nothing to remember.
        let generator = Generator::new(self.ruleset, Arc::new(lists));
        Ok(preview::preview(&self.store, &generator)?)
    }

    /// Signatures whose stacks are like those of this one, the most alike first, at most `limit`. Looks at the
    /// newest crashes only.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn alike(&self, signature: &str, limit: usize) -> Result<Vec<Alike>, StoreError> {
        alike::alike(&self.store, &self.active().generator, signature, limit)
    }

    /// Explains the signature of a crash under the active lists; `None` if the crash is not processed yet.
    ///
    /// # Errors
    /// The store cannot be read. [`StoreError::Damaged`] if the result of this crash cannot be read.
    pub(crate) fn explain(
        &self,
        seq: u64,
        row: &StoredCrash,
    ) -> Result<Option<Explanation>, StoreError> {
        let Some(input) = input_of(&self.store, seq, row)? else {
            return match row.processed {
                Some(_) => Err(StoreError::Damaged(format!(
                    "the result of crash {}",
                    row.id
                ))),
                None => Ok(None),
            };
        };
        let raw = self.store.raw(row).unwrap_or_default();
        let annotation = |key: &str| raw.annotation(key).map(str::to_owned);
        let generator = self.active().generator;
        Ok(Some(generator.explain(&input.crash_data(), &annotation)))
    }
}
