//! What one search may take, and all together: time and memory.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::error::IndexError;
use crate::limits;

/// The bounds of one search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SearchBounds {
    pub time_max: Duration,
    /// Memory for what is counted, ranked and answered.
    pub bytes_max: usize,
}

impl Default for SearchBounds {
    fn default() -> Self {
        Self {
            time_max: Duration::from_secs(limits::SEARCH_SECONDS_MAX),
            bytes_max: limits::SEARCH_BYTES_MAX,
        }
    }
}

/// What the searches that run may still take together.
#[derive(Debug)]
pub struct SharedBytes(AtomicUsize);

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

/// The same while a search runs: it is asked every few thousand documents or entries.
#[derive(Debug)]
pub struct Running {
    ends_at: Instant,
    bytes_max: usize,
    shared: Arc<SharedBytes>,
    /// Of the shared bytes; they are given back when the search ends.
    taken: Cell<usize>,
}

impl Running {
    pub fn begin(bounds: &SearchBounds, shared: Arc<SharedBytes>) -> Self {
        Self {
            ends_at: Instant::now() + bounds.time_max,
            bytes_max: bounds.bytes_max,
            shared,
            taken: Cell::new(0),
        }
    }

    /// # Errors
    /// [`IndexError::TimedOut`]
    pub fn check_time(&self) -> Result<(), IndexError> {
        match Instant::now() >= self.ends_at {
            true => Err(IndexError::TimedOut),
            false => Ok(()),
        }
    }

    /// Whether so many bytes may be held at once. What is above
    /// [`limits::SEARCH_BYTES_FREE`] is taken from what all searches share, so that small ones go
    /// on beside some that take all there is.
    ///
    /// # Errors
    /// [`IndexError::TooComplex`] at the search's own bound, [`IndexError::Busy`] at that of all.
    pub fn check_bytes(&self, bytes: usize) -> Result<(), IndexError> {
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
            // What a search has, it need not take again.
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
