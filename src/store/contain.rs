//! Panics of the database become errors.
//!
//! redb trusts the pages of its file. On some damaged pages it panics instead of returning an error. Such a
//! panic must not end a thread, and must not end the start of a server without an explanation. redb may panic
//! again while the first panic unwinds, when it drops a transaction. Rust then ends the process in any case,
//! so we print the explanation before it ends.

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::panic::{self, AssertUnwindSafe, Location, PanicHookInfo};
use std::sync::Once;

use super::error::StoreError;
use crate::vital;

thread_local! {
    /// Whether this thread is inside [`contained`].
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    /// The text of redb's panic inside [`contained`], if there was one.
    static FOUND: RefCell<Option<String>> = const { RefCell::new(None) };
}

static HOOK: Once = Once::new();

/// Runs work on the database. A panic of redb becomes an error that reports the damage. Any other panic
/// continues to unwind.
///
/// # Errors
/// The error of `work`, or [`StoreError::Corrupt`] if redb panicked.
pub(crate) fn contained<T>(work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    HOOK.call_once(keep_quiet);
    // Destructors that run while a panic unwinds may call this function, too.
    let outer = (INSIDE.replace(true), FOUND.take());
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    INSIDE.set(outer.0);
    match (result, FOUND.replace(outer.1)) {
        (Ok(result), _) => result,
        (Err(_), Some(found)) => Err(damage(&found)),
        (Err(panic), None) => panic::resume_unwind(panic),
    }
}

fn damage(found: &str) -> StoreError {
    StoreError::Corrupt(format!("redb found {found}"))
}

/// Prevents the panic hook from printing the panics that [`contained`] turns into errors.
fn keep_quiet() {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !INSIDE.get() {
            return hook(info);
        }
        match FOUND.take() {
            Some(found) => end_process(&damage(&found)),
            None if info.location().is_some_and(is_of_database) => {
                FOUND.set(Some(text(info)));
            }
            None => hook(info),
        }
    }));
}

/// Whether a panic comes from redb, or from the standard library that redb calls. Our own files have paths
/// relative to the crate.
fn is_of_database(location: &Location) -> bool {
    let file = location.file();
    file.contains("/redb-") || file.starts_with("/rustc/") || file.contains("/library/")
}

fn text(info: &PanicHookInfo) -> String {
    info.payload_as_str()
        .unwrap_or("what it cannot read")
        .to_owned()
}

/// Prints the error and ends the process when it cannot be saved. A print macro would panic if standard error
/// is closed.
fn end_process(error: &StoreError) -> ! {
    let _ = writeln!(std::io::stderr(), "crashkeep: {error}");
    std::process::exit(vital::EXIT_CODE)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_panic_of_our_own_goes_on() {
        let own = panic::catch_unwind(|| contained::<()>(|| panic!("ours")));
        assert!(own.is_err());
        assert!(contained(|| Ok(1)).is_ok());
    }

    /// Set in the child process that must end.
    const ENDING: &str = "CRASHKEEP_TEST_CONTAIN";

    /// Panics inside the standard library, as redb may do.
    fn panic_below() {
        let zero = std::hint::black_box(Duration::ZERO);
        std::hint::black_box(zero - Duration::from_secs(1));
    }

    struct PanicsAgain;

    impl Drop for PanicsAgain {
        fn drop(&mut self) {
            panic_below();
        }
    }

    #[test]
    fn a_panic_below_is_damage_also_while_another_is_found() {
        let both = contained::<()>(|| {
            let inner = contained::<()>(|| {
                panic_below();
                Ok(())
            });
            assert!(matches!(inner, Err(StoreError::Corrupt(_))));
            panic_below();
            Ok(())
        });
        assert!(matches!(both, Err(StoreError::Corrupt(_))));
    }

    #[test]
    fn a_second_panic_ends_the_process_with_the_way_out() {
        if std::env::var_os(ENDING).is_some() {
            let _ = contained::<()>(|| {
                let _again = PanicsAgain;
                panic_below();
                Ok(())
            });
            unreachable!("the process ended");
        }
        let own = std::env::current_exe().expect("this program");
        let name = "store::contain::tests::a_second_panic_ends_the_process_with_the_way_out";
        let output = std::process::Command::new(own)
            .args(["--exact", name, "--nocapture"])
            .env(ENDING, "1")
            .output()
            .expect("it runs");
        assert_eq!(output.status.code(), Some(vital::EXIT_CODE));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("salvage"), "{said}");
    }
}
