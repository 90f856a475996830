//! Remembers the names of functions, for code that computes many signatures in sequence: most frames of a
//! crash also occur in other crashes.
//!
//! The normalised name of a function, and the verdict of the lists about it, depend only on its text and its
//! language. The few functions that keep their line number are the exception. The number of entries is
//! limited; when it is reached, all are forgotten.

use std::collections::HashMap;

use super::name::{Language, Name, Place};
use parking_lot::Mutex;

/// Limit of functions that are kept. With [`FUNCTION_BYTES_MAX`] this is at most 80 MiB, and a tenth of that
/// with usual functions.
const FUNCTIONS_MAX: usize = 1 << 16;
/// Limit of bytes of a function that is kept. Longer ones are rare and seldom occur twice.
const FUNCTION_BYTES_MAX: usize = 500;

/// Limit of modules that are kept.
const MODULES_MAX: usize = 1 << 12;

/// Valid for one set of lists.
#[derive(Debug, Default)]
pub(super) struct Memo {
    /// By language and text.
    names: [Mutex<HashMap<Box<str>, Name<'static>>>; Language::COUNT],
    places: Mutex<HashMap<Box<str>, Place>>,
}

impl Memo {
    pub(crate) fn get(&self, function: &str, language: Language) -> Option<Name<'static>> {
        let known = self.names[language as usize].lock();
        known.get(function).cloned()
    }

    /// Keeps the name of a function, unless the function is too long. `shared` makes the form that is kept.
    pub(crate) fn keep<'d>(
        &self,
        function: &str,
        language: Language,
        name: Name<'d>,
        shared: impl FnOnce(Name<'d>) -> Name<'static>,
    ) -> Name<'d> {
        if function.len() > FUNCTION_BYTES_MAX {
            return name;
        }
        let name = shared(name);
        let mut known = self.names[language as usize].lock();
        if known.len() >= FUNCTIONS_MAX {
            known.clear();
        }
        known.insert(function.into(), name.clone());
        name
    }

    /// What is known about a module.
    pub(crate) fn place(&self, module: &str, find: impl FnOnce(&str) -> Place) -> Place {
        if let Some(known) = self.places.lock().get(module) {
            return known.clone();
        }
        let place = find(module);
        if module.len() <= FUNCTION_BYTES_MAX {
            let mut places = self.places.lock();
            if places.len() >= MODULES_MAX {
                places.clear();
            }
            places.insert(module.into(), place.clone());
        }
        place
    }
}
