#![forbid(unsafe_code)]
//! crashkeep: a crash-report server in one binary.
//!
//! The path of a crash is the list of modules: [`http`] reads the request, [`ingest`] makes a
//! report of it, [`store`] keeps it durably, [`queue`] hands it to [`workers`], [`process`] walks
//! and names it, [`indexer`] makes it searchable, [`pages`] and [`api`] show it.
//! `ARCHITECTURE.md` draws the house and its rules.

pub mod cli;
pub mod crash;
pub mod signature;
pub mod stackwalk;
pub mod symbols;
