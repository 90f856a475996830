#![forbid(unsafe_code)]
//! crashkeep: a crash-report server in one binary.
//!
//! The path of a crash is the list of modules: [`http`] reads the request, [`ingest`] makes a
//! report of it, [`store`] keeps it durably, [`queue`] hands it to [`workers`], [`process`] walks
//! and names it, [`indexer`] makes it searchable, [`pages`] and [`api`] show it.
//! `ARCHITECTURE.md` draws the house and its rules.

pub mod cli;
pub mod clock;
pub mod config;
pub mod crash;
pub mod dialect;
pub mod fields;
pub mod index;
pub mod indexer;
pub mod limits;
pub mod metrics;
pub mod multipart;
pub mod query;
pub mod queue;
pub mod signature;
pub mod stackwalk;
pub mod store;
pub mod symbols;
pub mod throttle;
