//! From the bytes of a dump to threads, frames and names: landlord of the minidump crates.
//!
//! A walk, here in one process:
//!
//! 1. `preflight` refuses what is no minidump, in a sentence its sender understands.
//! 2. The reader and the processor of the minidump crates take the dump apart and unwind each
//!    thread; `provider` and `answers` tell them about symbols out of the shared [`SymbolCache`].
//! 3. `json` writes the answer in the schema of `minidump-stackwalk --json` 0.27.
//!
//! No walk waits for anything but the disk, so the processor's future is driven by one poll.
//!
//! A dump comes from outside and may be made to hurt: 19 KB can ask for 200,000 frames and 1.5 GB.
//! No thread survives running out of memory, so a server walks in a child process: [`Walker`] is
//! the parent's side (`sandbox`), [`serve`] the child's (`walker`, under the limits of `confine`),
//! and `wire` the frames between them. A child that dies or overruns is a [`WalkerFault`] of that
//! dump and is replaced at the next walk; a dump that is merely bad is a [`WalkError`].
//!
//! Walkers write no files. One that comes by a symbol file without a mapped form answers with its
//! name instead of a walk; the parent maps the file and asks again (`sandbox`).
//!
//! This room never opens a connection or keeps a dump.

mod answers;
mod cache;
mod confine;
mod error;
mod json;
mod name;
mod preflight;
mod provider;
mod sandbox;
mod walker;
mod wire;

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use minidump::Minidump;
use minidump_processor::process_minidump;

pub use cache::{Lookup, MAP_BYTES_MAX, MAPS_MAX, SymbolCache, Unmapped};
pub use confine::confine_converter;
pub use error::WalkError;
pub use name::{Inlined, ModuleNames, Named};
pub use sandbox::{Overrun, WalkReply, Walker, WalkerFault, WalkerOptions};
pub use walker::{WalkerSettings, serve};

/// What a walk may produce.
#[derive(Debug, Clone, Copy)]
pub struct WalkLimits {
    /// Bytes of JSON; past them the walk ends in `OutputTooLarge`.
    pub json_bytes_max: u64,
}

impl WalkLimits {
    /// For a person who asked for one dump and wants all of it.
    pub const NONE: Self = Self {
        json_bytes_max: u64::MAX,
    };
}

/// Walks a dump and returns the JSON, UTF-8 without a final newline.
///
/// May panic, exhaust memory or take minutes on a dump made for that: use a [`Walker`] for bytes
/// from outside.
pub fn walk(dump: &[u8], symbols: &SymbolCache, limits: &WalkLimits) -> Result<Vec<u8>, WalkError> {
    match attempt(dump, symbols, limits, Unmapped::Held)? {
        Attempt::Walked(json) => Ok(json),
        Attempt::Wished(_) => unreachable!("what is held is not wished for"),
    }
}

/// What came of a walk.
#[derive(Debug, PartialEq, Eq)]
enum Attempt {
    Walked(Vec<u8>),
    /// Stacks came by symbol files that are not mapped. Never empty.
    Wished(Vec<wire::Wish>),
}

fn attempt(
    dump: &[u8],
    symbols: &SymbolCache,
    limits: &WalkLimits,
    unmapped: Unmapped,
) -> Result<Attempt, WalkError> {
    preflight::check(dump)?;
    let minidump = Minidump::read(dump)?;
    let provider = provider::Provider::new(symbols, unmapped);
    let state = complete(process_minidump(&minidump, &provider))
        .ok_or_else(|| WalkError::new("UnknownError", "the walk stopped before its end"))??;
    let wishes = provider.into_wishes();
    if !wishes.is_empty() {
        return Ok(Attempt::Wished(wishes));
    }
    Ok(Attempt::Walked(json::write(state, limits.json_bytes_max)?))
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
