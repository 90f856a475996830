//! Turns the bytes of a dump into threads, frames and names. Only this module uses the minidump crates.
//!
//! A walk, within one process:
//!
//! 1. `unpack` decompresses the dump, if its client compressed or wrapped it.
//! 2. `preflight` refuses data that is not a minidump, with a sentence that its sender understands.
//! 3. `tame` removes data from it that would multiply when it is read.
//! 4. `head` has the processor of the minidump crates report what crashed, and on which machine.
//! 5. `threads` unwinds one thread after the other, those of x86-64 with `amd64`. `provider` and `answers`
//!    look up symbols in the shared [`SymbolCache`].
//! 6. `json` writes each thread as soon as it is unwound, in the schema of `minidump-stackwalk --json` 0.27.
//!
//! A walk waits for nothing but the disk, so one poll runs the processor's future to its end.
//!
//! A dump comes from outside and may be hostile: 19 KB can request 200,000 frames and 1.5 GB. No thread
//! survives running out of memory, so a server walks in a child process. [`Walker`] is the parent's side
//! (`sandbox`), [`serve`] is the child's (`walker`, with the limits of `confine` and in the `jail`), and
//! `wire` defines the frames between them. A child that dies or exceeds a limit is a [`WalkerFault`] of that
//! dump, and the next walk starts a new child. A dump that is merely bad is a [`WalkError`].
//!
//! Walkers write no files. If a walker needs a symbol file that has no mapped form, it answers with the name
//! of that file instead of a walk. The parent maps the file and sends the dump again (`sandbox`).
//!
//! This module never opens a connection and never stores a dump.

mod amd64;
mod answers;
mod cache;
mod cfi;
mod confine;
mod error;
mod faults;
mod frame;
mod head;
mod jail;
mod json;
mod name;
mod preflight;
mod provider;
mod raw;
mod sandbox;
mod tame;
mod threads;
mod unpack;
mod walker;
mod watch;
mod wire;

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use minidump::{Minidump, MinidumpHandleDataStream};

pub use cache::{Lookup, MAP_BYTES_MAX, MAPS_MAX, SymbolCache, Unmapped};
pub use confine::confine_converter;
pub use error::WalkError;
pub use name::{Inlined, Named, Namer, Names, Question, serve_names};
pub use sandbox::{Overrun, WalkReply, Walker, WalkerFault, WalkerOptions, WalkerStop};
pub use walker::{WalkerSettings, self_test, serve};

use crate::symbols::Bounds;
use frame::Reach;
use provider::Provider;
use raw::Raw;
use threads::Threads;

/// Limits of what a walk may use and produce. If a walk reaches a limit, it is not refused: its field
/// `partial` says what is missing (ADR 16).
#[derive(Debug, Clone, Copy)]
pub struct WalkLimits {
    /// Bytes of JSON. Frames may use half of it.
    pub json_bytes_max: u64,
    /// Total number of frames in all threads. Each thread has at least one.
    pub frames_max: usize,
    /// Frames kept per thread: half of them from each end of the stack.
    pub kept_frames_max: usize,
    /// Number of symbol look-ups. After that, look-ups find nothing.
    pub lookups_max: u64,
}

impl WalkLimits {
    /// For a user who requests the complete walk of one dump.
    pub const NONE: Self = Self {
        json_bytes_max: u64::MAX,
        frames_max: usize::MAX,
        kept_frames_max: usize::MAX,
        lookups_max: u64::MAX,
    };

    /// For walks that are stored. No real crash that we know comes near the limits for frames and look-ups: a
    /// stack of 8 MB that overflowed has some ten thousand frames. Such a stack loses its middle.
    pub fn stored(json_bytes_max: u64) -> Self {
        Self {
            json_bytes_max,
            frames_max: 40_000,
            kept_frames_max: 500,
            lookups_max: 500_000,
        }
    }
}

/// Walks a dump and returns the JSON, UTF-8 without a final newline.
///
/// It may exhaust memory or take minutes on a hostile dump. Use a [`Walker`] for bytes from outside.
///
/// # Errors
/// The dump cannot be walked. Trying again gives the same error.
pub fn walk(dump: &[u8], symbols: &SymbolCache, limits: &WalkLimits) -> Result<Vec<u8>, WalkError> {
    let bounds = Bounds {
        inflated_bytes_max: PERSONS_DUMP_BYTES_MAX,
        ratio_max: u64::MAX,
        free_bytes: PERSONS_DUMP_BYTES_MAX,
        entries_max: 1,
    };
    let mut dump = unpack::unwrap(dump.to_vec(), bounds)?;
    match attempt(&mut dump, symbols, limits, Unmapped::Held)? {
        Attempt::Walked(json) => Ok(json),
        Attempt::Wished(_) => unreachable!("what is held is not wished for"),
    }
}

/// Limit of the size of a decompressed dump in `walk`. No complete dump is larger.
const PERSONS_DUMP_BYTES_MAX: u64 = 4 << 30;

/// The result of one try to walk a dump.
#[derive(Debug, PartialEq, Eq)]
enum Attempt {
    Walked(Vec<u8>),
    /// Stacks need symbol files that are not mapped. Never empty.
    Wished(Vec<wire::Wish>),
}

/// One try. It uses the dump's bytes as scratch space, so they are changed afterwards.
fn attempt(
    dump: &mut [u8],
    symbols: &SymbolCache,
    limits: &WalkLimits,
    unmapped: Unmapped,
) -> Result<Attempt, WalkError> {
    preflight::check(dump)?;
    let mut raw = Raw::new(dump);
    let notes = tame::tame(&mut raw);
    let provider = Provider::new(symbols, unmapped, limits.lookups_max);
    let state = head::read(&mut raw, &provider)?;
    let minidump = Minidump::read(raw.bytes())?;
    let system = state.system_info.clone();
    let threads = Threads::read(&minidump, &system)?;
    let crashing = threads.crashing();
    let json_bytes_max = limits.json_bytes_max;
    let mut answer = json::Answer::begin(state, threads.count(), crashing, json_bytes_max, notes)?;
    let mut frames_left = limits.frames_max;
    let mut walk = |index: usize| {
        let reach = Reach {
            frames_max: frames_left.max(1),
            kept_max: limits.kept_frames_max,
        };
        let stack = threads.walk(index, reach, &provider);
        frames_left = frames_left.saturating_sub(stack.count);
        stack
    };
    // The crashing thread goes first, so that the other threads cannot use up the limits before it.
    if let Some(index) = crashing {
        answer.crashing_thread(index, &walk(index));
    }
    answer.open_threads();
    for index in 0..threads.count() {
        if !answer.repeat_crashing_thread(index) {
            answer.thread(index, &walk(index));
        }
    }
    let session = provider.end();
    if !session.wishes.is_empty() {
        return Ok(Attempt::Wished(session.wishes));
    }
    let handles = minidump.get_stream::<MinidumpHandleDataStream>().ok();
    answer
        .end(
            &threads.modules,
            &threads.unloaded_modules,
            handles.as_ref(),
            &session.stats,
        )
        .map(Attempt::Walked)
}

/// Runs a future that never waits. `None` means that it did wait, because nothing here would wake it.
fn complete<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

#[cfg(test)]
mod exactness;
#[cfg(test)]
mod tests;
