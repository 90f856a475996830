//! Panics of the database become errors.
//!
//! redb trusts the pages of its file: on some that are damaged it panics instead of answering an
//! error. Such a panic must end neither the start of a server without an explanation nor a thread.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe, Location};
use std::sync::Once;

use super::error::StoreError;

thread_local! {
    /// Whether this thread is inside of [`contained`].
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    /// Whether the last panic inside came from the database.
    static OF_DATABASE: Cell<bool> = const { Cell::new(false) };
}

static HOOK: Once = Once::new();

/// Runs work on the database. A panic of redb is the damage that it found; any other goes on.
pub fn contained<T>(work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    HOOK.call_once(keep_quiet);
    let outer = INSIDE.replace(true);
    OF_DATABASE.set(false);
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    INSIDE.set(outer);
    match result {
        Ok(result) => result,
        Err(panic) if OF_DATABASE.replace(false) => {
            Err(StoreError::Corrupt(format!("redb found {}", text(&*panic))))
        }
        Err(panic) => panic::resume_unwind(panic),
    }
}

/// Has the panics that [`contained`] turns into errors print nothing by themselves.
fn keep_quiet() {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if INSIDE.get() && info.location().is_some_and(is_of_database) {
            OF_DATABASE.set(true);
        } else {
            hook(info);
        }
    }));
}

/// Whether a panic came from redb, or from the standard library below it. Our own files have
/// paths relative to the crate.
fn is_of_database(location: &Location) -> bool {
    let file = location.file();
    file.contains("/redb-") || file.starts_with("/rustc/") || file.contains("/library/")
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("what it cannot read").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_our_own_goes_on() {
        let own = panic::catch_unwind(|| contained::<()>(|| panic!("ours")));
        assert!(own.is_err());
        assert!(contained(|| Ok(1)).is_ok());
    }
}
