//! Limits of time and memory, for each search and for all searches together.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::error::IndexError;
use crate::limits;

/// The limits of one search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SearchBounds {
    pub(crate) time_max: Duration,
    /// Memory for what is counted, sorted and returned.
    pub(crate) bytes_max: usize,
}

impl Default for SearchBounds {
    fn default() -> Self {
        Self {
            time_max: Duration::from_secs(limits::SEARCH_SECONDS_MAX),
            bytes_max: limits::SEARCH_BYTES_MAX,
        }
    }
}

/// The memory that all running searches may still use together.
#[derive(Debug)]
pub(crate) struct SharedBytes(AtomicUsize);

impl Default for SharedBytes {
    fn default() -> Self {
        Self(AtomicUsize::new(limits::SEARCHES_BYTES_MAX))
    }
}

impl SharedBytes {
    fn take(&self, bytes: usize) -> bool {
        let less = |left: usize| left.checked_sub(bytes);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// The limits while a search runs. They are checked every few thousand documents or entries.
#[derive(Debug)]
pub(crate) struct Running {
    ends_at: Instant,
    bytes_max: usize,
    shared: Arc<SharedBytes>,
    /// Bytes taken from the shared ones. They are given back when the search ends.
    taken: Cell<usize>,
}

impl Running {
    pub(crate) fn begin(bounds: &SearchBounds, shared: Arc<SharedBytes>) -> Self {
        Self {
            ends_at: Instant::now() + bounds.time_max,
            bytes_max: bounds.bytes_max,
            shared,
            taken: Cell::new(0),
        }
    }

    /// # Errors
    /// [`IndexError::TimedOut`]
    pub(crate) fn check_time(&self) -> Result<(), IndexError> {
        if Instant::now() >= self.ends_at {
            Err(IndexError::TimedOut)
        } else {
            Ok(())
        }
    }

    /// Checks whether the search may use this many bytes at once. The bytes above
    /// [`limits::SEARCH_BYTES_FREE`] are taken from a budget that all searches share. So small searches can
    /// run beside some that use up the whole budget.
    ///
    /// # Errors
    /// [`IndexError::TooComplex`] at the search's own limit, [`IndexError::Busy`] at the shared limit.
    pub(crate) fn check_bytes(&self, bytes: usize) -> Result<(), IndexError> {
        if bytes > self.bytes_max {
            return Err(IndexError::TooComplex);
        }
        let wanted = bytes.saturating_sub(limits::SEARCH_BYTES_FREE);
        let more = wanted.saturating_sub(self.taken.get());
        if more > 0 {
            if !self.shared.take(more) {
                return Err(IndexError::Busy);
            }
            self.taken.set(wanted);
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.give_back(self.taken.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{SEARCH_BYTES_FREE, SEARCH_BYTES_MAX, SEARCHES_BYTES_MAX};

    #[test]
    fn all_searches_together_are_bounded_and_small_ones_go_on() {
        let shared = Arc::new(SharedBytes::default());
        let begin = || Running::begin(&SearchBounds::default(), shared.clone());
        let each = SEARCH_BYTES_MAX - SEARCH_BYTES_FREE;
        let large: Vec<Running> = (0..SEARCHES_BYTES_MAX / each).map(|_| begin()).collect();
        for search in &large {
            search.check_bytes(SEARCH_BYTES_MAX).unwrap();
            // The search has these bytes already and does not take them again.
            search.check_bytes(SEARCH_BYTES_MAX - 1).unwrap();
        }
        let left = SEARCHES_BYTES_MAX % each;
        let one_more = begin();
        one_more.check_bytes(SEARCH_BYTES_FREE + left).unwrap();
        let small = begin();
        small.check_bytes(SEARCH_BYTES_FREE).unwrap();
        let refused = small.check_bytes(SEARCH_BYTES_FREE + 1);
        assert!(matches!(refused, Err(IndexError::Busy)), "{refused:?}");
        let refused = small.check_bytes(SEARCH_BYTES_MAX + 1);
        assert!(
            matches!(refused, Err(IndexError::TooComplex)),
            "{refused:?}"
        );
        drop(large);
        small.check_bytes(SEARCH_BYTES_MAX).unwrap();
        drop((one_more, small));
        assert_eq!(shared.0.load(Ordering::Relaxed), SEARCHES_BYTES_MAX);
    }
}
