//! What computes signatures: a ruleset, lists, and the names that it remembers.

use std::sync::{Arc, OnceLock};

use xxhash_rust::xxh3::Xxh3;

use super::families::{Owner, Role};
use super::lists::{ListTexts, Lists, Scoped};
use super::memo::Memo;
use super::ruleset::Ruleset;
use crate::crash::walk::Location;

/// Raise it whenever the same lists give a crash another signature than before.
const RULES_VERSION: u8 = 2;

/// Identifies what signs crashes, apart from the lists that a site changed: the ruleset, this code, and the
/// built-in lists. If it differs from what signed the crashes of a store, they are signed again.
pub(crate) fn rules_version(ruleset: Ruleset) -> u128 {
    let mut hash = Xxh3::new();
    hash.update(ruleset.to_string().as_bytes());
    // The ruleset `socorro` is a fixed release of siggen.
    if ruleset == Ruleset::Crashkeep {
        hash.update(&[RULES_VERSION]);
        hash.update(ListTexts::builtin().export().as_bytes());
    }
    hash.digest128()
}

/// What lists say about functions and modules.
#[derive(Debug)]
pub(crate) struct CodeOf<'a>(Scoped<'a>);

impl CodeOf<'_> {
    /// Whether a function delivers signals or exceptions.
    pub(crate) fn is_dispatch(&self, function: &str) -> bool {
        self.0.verdict(function).known.role == Some(Role::Dispatch)
    }

    /// Whose module this is, by the lists and then by its location. `None` if neither says so.
    pub(crate) fn owner(&self, module: &str, location: Option<Location>) -> Option<Owner> {
        let place = self.0.place(module, location, false);
        let is_known =
            place.is_listed || place.owner != Owner::Program || location == Some(Location::Program);
        is_known.then_some(place.owner)
    }
}

/// Computes signatures. Threads can share it, because the lists are compiled once.
#[derive(Debug)]
pub struct Generator {
    pub(super) ruleset: Ruleset,
    pub(super) lists: Arc<Lists>,
    /// Compiled on first use, if `lists` are not the built-in ones.
    builtin: OnceLock<Lists>,
    memo: Option<Memo>,
}

impl Generator {
    pub fn new(ruleset: Ruleset, lists: Arc<Lists>) -> Generator {
        Generator {
            ruleset,
            lists,
            builtin: OnceLock::new(),
            memo: None,
        }
    }

    /// The same, but it remembers the names of functions. For a thread that computes many signatures.
    pub(crate) fn remembering(&self) -> Generator {
        Generator {
            memo: Some(Memo::default()),
            ..Generator::new(self.ruleset, self.lists.clone())
        }
    }

    pub(crate) fn ruleset(&self) -> Ruleset {
        self.ruleset
    }

    pub(crate) fn lists(&self) -> &Arc<Lists> {
        &self.lists
    }

    /// What the lists say about the code of a product.
    pub(crate) fn code_of(&self, product: &str) -> CodeOf<'_> {
        CodeOf(self.scoped(product))
    }

    pub(super) fn scoped(&self, product: &str) -> Scoped<'_> {
        let scoped = self.lists.scoped(self.ruleset, product);
        scoped.remembering(self.memo.as_ref())
    }

    /// The lists for a crash of the watchdog. siggen always uses its built-in lists here, even if other lists
    /// were requested. Difference `watchdog-lists`: the same lists as for all other crashes.
    pub(super) fn watchdog_lists(&self, product: &str) -> Scoped<'_> {
        if self.ruleset != Ruleset::Socorro || self.lists.is_builtin() {
            return self.scoped(product);
        }
        let builtin = self.builtin.get_or_init(Lists::builtin);
        builtin.scoped(self.ruleset, "")
    }
}
