//! Symbol files on disk: where they lie and how a module of a dump finds its own.
//!
//! This room knows names, folders and bytes. It never walks a stack and never names the unwinder's
//! types: `mapped` says what symbols say of an address, and `stackwalk` what that means for a frame.

pub mod breakpad;
mod map;
pub mod mapped;

pub use breakpad::SymbolDirs;
