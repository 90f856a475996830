//! Names of functions that were made before, for those who name many crashes one after the other: most
//! frames of most crashes are frames of others, too.
//!
//! What a function is normalised to and what the lists say of it hang on its text and its language alone,
//! but for the few that have their line number. What is kept is bounded and forgotten as a whole.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::lists::Scoped;
use super::native::Name;
use super::normalize::Language;

/// Functions that are kept. With [`FUNCTION_BYTES_MAX`] that is at most 80 MiB, and with functions as
/// they are a tenth.
const FUNCTIONS_MAX: usize = 1 << 16;
/// Bytes of a function that is kept: longer ones are rare, and seldom the same.
const FUNCTION_BYTES_MAX: usize = 500;

/// By language and text. For one set of lists.
#[derive(Debug, Default)]
pub(super) struct Memo([Mutex<HashMap<Box<str>, Name<'static>>>; 2]);

impl Memo {
    pub fn get(&self, function: &str, language: Language) -> Option<Name<'static>> {
        let known = self.0[language as usize]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        known.get(function).cloned()
    }

    /// Keeps the name of a function, if there is to be room for it.
    pub fn keep<'d>(
        &self,
        function: &str,
        language: Language,
        name: Name<'d>,
        lists: &Scoped,
    ) -> Name<'d> {
        if function.len() > FUNCTION_BYTES_MAX {
            return name;
        }
        let name = name.shared(lists);
        let mut known = self.0[language as usize]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if known.len() >= FUNCTIONS_MAX {
            known.clear();
        }
        known.insert(function.into(), name.clone());
        name
    }
}
