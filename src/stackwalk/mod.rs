//! From the bytes of a dump to threads, frames and names: landlord of the minidump crates.
//!
//! A walk, here in one process:
//!
//! 1. `unpack` takes the dump out of what its client packed it in.
//! 2. `preflight` refuses what is no minidump, in a sentence its sender understands.
//! 3. `tame` takes out of it what would multiply when it is read.
//! 4. `head` has the processor of the minidump crates say what crashed, and on which machine.
//! 5. `threads` unwinds one thread after the other, those of x86-64 by `amd64`; `provider` and
//!    `answers` tell about symbols out of the shared [`SymbolCache`].
//! 6. `json` writes each thread as it comes, in the schema of `minidump-stackwalk --json` 0.27.
//!
//! No walk waits for anything but the disk, so the processor's future is driven by one poll.
//!
//! A dump comes from outside and may be made to hurt: 19 KB can ask for 200,000 frames and 1.5 GB.
//! No thread survives running out of memory, so a server walks in a child process: [`Walker`] is
//! the parent's side (`sandbox`), [`serve`] the child's (`walker`, under the limits of `confine` and in the `jail`),
//! and `wire` the frames between them. A child that dies or overruns is a [`WalkerFault`] of that
//! dump and is replaced at the next walk; a dump that is merely bad is a [`WalkError`].
//!
//! Walkers write no files. One that comes by a symbol file without a mapped form answers with its
//! name instead of a walk; the parent maps the file and asks again (`sandbox`).
//!
//! This room never opens a connection or keeps a dump.

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

/// What a walk may take and produce. Past a bound the walk is not refused: it says in `partial` what
/// it lacks.
#[derive(Debug, Clone, Copy)]
pub struct WalkLimits {
    /// Bytes of JSON; half of it for frames.
    pub json_bytes_max: u64,
    /// Frames that are followed, of all threads; each thread has at least one.
    pub frames_max: usize,
    /// Frames of one thread that are kept: half of them at either end.
    pub kept_frames_max: usize,
    /// Questions to the symbols; past them the symbols know nothing.
    pub lookups_max: u64,
}

impl WalkLimits {
    /// For a person who asked for one dump and wants all of it.
    pub const NONE: Self = Self {
        json_bytes_max: u64::MAX,
        frames_max: usize::MAX,
        kept_frames_max: usize::MAX,
        lookups_max: u64::MAX,
    };

    /// For walks that are stored. No dump of a real crash that we know comes near these bounds: a stack
    /// of 8 MB that overflowed has some ten thousand frames.
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
/// May exhaust memory or take minutes on a dump made for that: use a [`Walker`] for bytes from
/// outside.
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

/// Bytes that a packed dump may have once it is unpacked for a person: no whole dump is larger.
const PERSONS_DUMP_BYTES_MAX: u64 = 4 << 30;

/// What came of a walk.
#[derive(Debug, PartialEq, Eq)]
enum Attempt {
    Walked(Vec<u8>),
    /// Stacks came by symbol files that are not mapped. Never empty.
    Wished(Vec<wire::Wish>),
}

/// The dump's bytes are scratch paper afterwards.
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
    // First, so that the others leave it its share.
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

/// Drives a future that never waits. `None` would be one that does, and nothing here wakes it.
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
