//! Symbol files on disk: how they get there, where they lie, and how a module of a dump finds its
//! own.
//!
//! What arrives is told apart and unpacked by [`arrival`], read and repaired by [`check`], and put
//! in its place by [`Shelf`].
//!
//! This room knows names, folders and bytes. It never walks a stack and never names the unwinder's
//! types: `mapped` says what symbols say of an address, and `stackwalk` what that means for a frame.

pub mod arrival;
pub mod breakpad;
pub mod check;
mod map;
pub mod mapped;
mod shelf;

pub use breakpad::SymbolDirs;
pub use shelf::{Conflict, Entry, Found, Placed, Shelf, Taken};
