//! Limits the memory of the results that wait for the next commit.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

/// Bytes of results that may wait. A larger result waits alone.
const BYTES_MAX: u64 = 64 * 1024 * 1024;

#[derive(Debug, Default)]
struct State {
    used: u64,
    is_open: bool,
}

/// The bytes of the results that wait. Workers wait while there are too many.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    state: Mutex<State>,
    freed: Condvar,
}

/// A part of a budget. Dropping it gives the bytes back.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Budget {
    /// Waits until there is room for a result of this size.
    pub(crate) fn take(self: &Arc<Self>, bytes: u64) -> Share {
        let mut state = self.state.lock();
        while !state.is_open && state.used > 0 && state.used + bytes > BYTES_MAX {
            self.freed.wait(&mut state);
        }
        state.used += bytes;
        Share {
            budget: self.clone(),
            bytes,
        }
    }

    /// Lets everybody in. Workers must be able to end even if nothing can be written.
    pub(crate) fn open(&self) {
        self.state.lock().is_open = true;
        self.freed.notify_all();
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.state.lock().used -= self.bytes;
        self.budget.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_result_waits_for_room_and_a_large_one_for_all_of_it() {
        let budget = Arc::new(Budget::default());
        let first = budget.take(BYTES_MAX + 1);
        let (entered, news) = mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _share = budget.take(1);
                entered.send(()).unwrap();
            });
            assert!(news.recv_timeout(Duration::from_millis(50)).is_err());
            drop(first);
            news.recv().unwrap();
        });
        let _full = budget.take(BYTES_MAX);
        budget.open();
        drop(budget.take(BYTES_MAX));
    }
}
