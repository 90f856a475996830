//! Turns the bytes of a dump into threads, frames and names. Only this module uses the minidump crates.
//!
//! A walk, within one process (`walk`):
//!
//! 1. `unpack` decompresses the dump, if its client compressed or wrapped it.
//! 2. `preflight` refuses data that is not a minidump, with a sentence that its sender understands.
//! 3. `sanitize` removes data from it that would multiply when it is read.
//! 4. `head` has the processor of the minidump crates report what crashed, and on which machine.
//! 5. `reason` explains in words why the dump was written.
//! 6. `mappings` joins modules that are parts of one program.
//! 7. `threads` unwinds one thread after the other, those of x86-64 with `amd64`. `provider` and `answers`
//!    look up symbols in the shared [`SymbolCache`].
//! 8. `json` writes each thread as soon as it is unwound, in the schema of `minidump-stackwalk --json` 0.27.
//!
//! Where minidump-stackwalk 0.27 is known to be wrong, the result is different from its result. With
//! [`Mode::Compat`] it is the same, so that tests can compare the two.
//!
//! A walk waits for nothing but the disk, so one poll runs the processor's future to its end.
//!
//! A dump comes from outside and may be hostile: 19 KB can request 200,000 frames and 1.5 GB. No thread
//! survives running out of memory, so a server walks in a child process. [`Walker`] is the parent's side
//! (`walker/parent`), [`serve`] is the child's (`walker/child`), and `walker/wire` defines the frames between
//! them. The child runs in a `sandbox`. A child that dies or exceeds a limit is a [`WalkerFault`] of that
//! dump, and the next walk starts a new child. A dump that is merely bad is a [`WalkError`].
//!
//! Walkers write no files. If a walker needs a symbol file that has no mapped form, it answers with the name
//! of that file instead of a walk. The parent maps the file and sends the dump again (`walker/parent`).
//!
//! This module never opens a connection and never stores a dump.

mod amd64;
mod answers;
mod cache;
mod calls;
mod cfi;
mod error;
mod frame;
mod head;
mod interrupts;
mod json;
mod location;
mod mappings;
mod mode;
mod name;
mod preflight;
mod provider;
mod raw;
mod reason;
mod sandbox;
mod sanitize;
mod threads;
mod unpack;
mod walk;
mod walker;

pub use cache::{MAP_BYTES_MAX, SymbolCache};
pub(crate) use cache::{MAPS_MAX, Unmapped};
pub(crate) use error::WalkError;
pub use mode::Mode;
pub(crate) use name::{Named, Namer, Question, serve_names};
pub(crate) use sandbox::confine_converter;
pub use walk::{WalkLimits, walk};
pub use walker::{Overrun, Walker, WalkerFault, WalkerOptions};
pub(crate) use walker::{WalkerSettings, WalkerStop, self_test, serve};

#[cfg(test)]
mod cases;
#[cfg(test)]
mod exactness;
#[cfg(test)]
mod tests;
