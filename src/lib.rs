//! crashkeep: a crash-report server in one binary.
//!
//! The modules follow the path of a crash: [`http`] reads the request, [`ingest`] turns it into a report,
//! [`store`] makes it durable, [`queue`] passes it to [`workers`], [`stackwalk`] walks the dump, [`process`]
//! makes the processed crash, [`indexer`] makes it searchable, [`pages`] and [`api`] show it.
//! `ARCHITECTURE.md` describes the modules and their rules.

pub mod access;
pub mod addresses;
pub mod api;
mod app;
pub mod appliance;
pub mod bugs;
pub mod bugzilla;
mod child;
pub mod cli;
mod client;
pub mod clock;
pub mod config;
pub mod crash;
mod crash_loops;
mod demangle;
mod demo;
mod dialect;
pub mod envelope;
mod errors;
pub mod fields;
pub mod http;
pub mod index;
pub mod indexer;
pub mod ingest;
mod late_symbols;
pub mod limits;
pub mod metrics;
mod missing_symbols;
pub mod multipart;
pub mod naming;
mod number;
pub mod outbound;
pub mod pages;
mod periodic;
pub mod process;
pub mod query;
pub mod queue;
mod reload;
mod report_parts;
pub mod retention;
pub mod rights;
pub mod sentry;
mod shape;
pub mod signature;
pub mod stackwalk;
pub mod store;
mod symbol_fetcher;
mod symbol_source;
pub mod symbols;
pub mod throttle;
pub mod unreal;
mod upload;
pub mod vital;
pub mod web;
mod workers;
