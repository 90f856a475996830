//! Symbols on disk: how they arrive, where they are stored, and how the symbols of a dump's module are found.
//!
//! [`arrival`] recognises the format of a file and has it unpacked (`unpack`). A separate process converts
//! programs and debug files into the text of a symbol file ([`converter`], [`native`]). With split DWARF,
//! this happens when the other halves have arrived (`halves`, [`split`]). [`check`] reads and repairs each
//! text, and [`SymbolStore`] stores it. [`SymbolDirs`] finds the [`SymbolFile`] of a module.
//!
//! This module handles names, folders and bytes. It never walks a stack and never uses the unwinder's types.
//! `mapped` looks up the symbols of an address, and `stackwalk` decides what they mean for a frame.

pub mod arrival;
pub mod check;
pub mod converter;
mod dirs;
mod file;
mod halves;
mod map;
pub mod mapped;
pub mod native;
mod receiver;
pub mod split;
mod symbol_store;
mod unpack;

pub use dirs::{SymbolDirs, checked_leaf, symbol_file_name};
pub use file::{OpenText, SymbolFile};
pub use halves::bundle;
pub use map::Map;
pub use symbol_store::{Bundle, Conflict, Incoming, Native, Placed, SymbolStore, Taken, place_of};
pub use unpack::{Bounds, inflate, is_packed, unpack};
