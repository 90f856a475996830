//! Symbols on disk: how they arrive, where they are stored, and how the symbols of a dump's module are found.
//!
//! An upload takes these steps:
//!
//! 1. [`arrival`] recognises the format of each file. `unpack` decompresses it within one budget, a child process
//!    unpacks cabinets ([`cabinet`]).
//! 2. [`converter`] starts a child process, in which [`native`] converts a program or debug file into the text of a
//!    symbol file.
//! 3. `halves` waits for files that are useless alone: the other halves of split DWARF, which [`split`] joins with
//!    their program, and debug files without an id (`debug_link`). `skeleton` describes what a program lacks.
//! 4. [`check`] reads the text, repairs it and determines its module.
//! 5. [`SymbolStore`] stores it (`symbol_store`).
//! 6. `receiver` says where the files of an upload go, and has the verdict about each.
//!
//! A walk takes these: [`SymbolDirs`] finds the symbols of a module (`dirs`), and [`SymbolFile`] reads their text
//! (`file`). [`mapped`] converts the text into files that are mapped into memory (`map`) and looks up addresses in
//! them.
//!
//! This module handles names, folders and bytes. It never walks a stack and never uses the unwinder's types.
//! `stackwalk` decides what symbols mean for a frame.

pub mod arrival;
pub mod cabinet;
pub mod check;
pub mod converter;
mod debug_link;
mod dirs;
mod file;
mod halves;
mod map;
pub mod mapped;
pub mod native;
mod receiver;
mod skeleton;
pub(crate) mod split;
mod symbol_store;
mod unpack;

pub use dirs::SymbolDirs;
pub(crate) use dirs::{checked_leaf, debug_id_of_code, symbol_file_name};
pub(crate) use file::{OpenText, SymbolFile};
pub(crate) use halves::bundle;
pub(crate) use map::Map;
pub use symbol_store::{Conflict, Incoming, SymbolStore};
pub(crate) use symbol_store::{Placed, Taken, place_of};
pub use unpack::{Bounds, unpack};
pub(crate) use unpack::{inflate, is_packed};
