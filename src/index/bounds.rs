//! What one search may take: time and memory.

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

/// The same while a search runs: it is asked every few thousand documents or entries.
#[derive(Debug)]
pub struct Running {
    ends_at: Instant,
    bytes_max: usize,
}

impl Running {
    pub fn begin(bounds: &SearchBounds) -> Self {
        Self {
            ends_at: Instant::now() + bounds.time_max,
            bytes_max: bounds.bytes_max,
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

    /// Whether so many bytes may be held at once.
    ///
    /// # Errors
    /// [`IndexError::TooComplex`]
    pub fn check_bytes(&self, bytes: usize) -> Result<(), IndexError> {
        match bytes > self.bytes_max {
            true => Err(IndexError::TooComplex),
            false => Ok(()),
        }
    }
}
