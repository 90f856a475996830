//! Symbols on disk: how they get there, where they lie, and how a module of a dump finds its own.
//!
//! What arrives is told apart by [`arrival`], which has it unpacked (`unpack`) and has programs and
//! debug files turned into the text of a symbol file by a process of its own ([`converter`],
//! [`native`]), those with split DWARF once the other halves are there (`halves`, [`split`]). Each text is read and repaired by [`check`] and put in its place by [`Shelf`].
//! [`SymbolDirs`] finds the [`SymbolFile`] of a module again.
//!
//! This room knows names, folders and bytes. It never walks a stack and never names the unwinder's
//! types: `mapped` says what symbols say of an address, and `stackwalk` what that means for a frame.

pub mod arrival;
pub mod check;
pub mod converter;
mod dirs;
mod file;
mod halves;
mod map;
pub mod mapped;
pub mod native;
mod shelf;
pub mod split;
mod unpack;

pub use dirs::{SymbolDirs, checked_leaf, symbol_file_name};
pub use file::{OpenText, SymbolFile};
pub use halves::bundle;
pub use map::Map;
pub use shelf::{Bundle, Conflict, Incoming, Native, Placed, Shelf, Taken, place_of};
pub use unpack::{Bounds, inflate, is_packed, unpack};
