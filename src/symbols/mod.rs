//! Symbol files on disk: where they lie and how a module of a dump finds its own.
//!
//! This room knows names, folders and bytes. It never walks a stack and never names the unwinder's
//! types: what a symbol file can do for a walk (name an address, unwind a frame) is the trait
//! `stackwalk::ModuleSymbols`, and `stackwalk::SymbolCache` is the one place that turns a path
//! found here into such an object.

pub mod breakpad;

pub use breakpad::SymbolDirs;
