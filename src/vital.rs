//! Threads and tasks that the server needs. If one of them ends unexpectedly, the process ends too. Then a
//! supervisor restarts it, and clients that are refused meanwhile send their reports later.

use std::io::Write;

/// Exit code of the process if such a thread ended (EX_SOFTWARE of sysexits.h).
pub const EXIT_CODE: i32 = 70;

/// A guard that such a thread holds. Dropping it ends the process, unless [`Vital::finish`] was called.
pub(crate) struct Vital {
    name: &'static str,
    is_finished: bool,
    /// A task is also dropped when its runtime ends, which is not a fault. For a task only a panic counts.
    is_task: bool,
}

impl Vital {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            is_finished: false,
            is_task: false,
        }
    }

    /// The same guard for an asynchronous task.
    pub(crate) fn task(name: &'static str) -> Self {
        Self {
            name,
            is_finished: false,
            is_task: true,
        }
    }

    /// Call this when the thread ends as requested.
    pub(crate) fn finish(mut self) {
        self.is_finished = true;
    }
}

impl Drop for Vital {
    fn drop(&mut self) {
        let is_cancelled = self.is_task && !std::thread::panicking();
        if self.is_finished || is_cancelled {
            return;
        }
        tracing::error!(
            thread = self.name,
            "a thread ended unexpectedly; stopping the server"
        );
        // The log itself may be broken.
        let text = format!(
            "crashkeep: thread {} ended unexpectedly; the server stops so that it can be restarted\n",
            self.name
        );
        let _ = std::io::stderr().write_all(text.as_bytes());
        std::process::exit(EXIT_CODE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Set in the child process, which must end.
    const ENDING: &str = "CRASHKEEP_TEST_VITAL";

    #[test]
    fn a_vital_thread_that_panics_ends_the_process_and_says_so() {
        if std::env::var_os(ENDING).is_some() {
            let thread = std::thread::spawn(|| {
                let _vital = Vital::new("heart");
                panic!("as it were");
            });
            let _ = thread.join();
            unreachable!("the process ended with its thread");
        }
        Vital::new("finished").finish();
        drop(Vital::task("cancelled"));
        let own = std::env::current_exe().expect("this program");
        let name = "vital::tests::a_vital_thread_that_panics_ends_the_process_and_says_so";
        let output = std::process::Command::new(own)
            .args(["--exact", name, "--nocapture"])
            .env(ENDING, "1")
            .output()
            .expect("it runs");
        assert_eq!(output.status.code(), Some(EXIT_CODE));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("thread heart ended unexpectedly"), "{said}");
    }
}
