//! Tests of features from the outside, in one binary: they use the program, and the library as a client
//! would.

#![allow(unreachable_pub, reason = "nothing outside uses a test")]

mod access;
mod architecture;
mod browser;
mod bugs;
mod buttons;
mod catalogue;
mod chromium;
mod clients;
mod collector;
mod commands;
mod compat;
mod counters;
mod fake_bugzilla;
mod fat;
mod faults;
mod hostile;
mod intake;
mod life;
mod listeners;
mod marionette;
mod named;
mod naming;
mod native;
mod oracle;
mod proxies;
mod repeats;
mod report;
mod reprocessing;
mod retention;
mod search;
mod searches;
mod server;
mod sim_disk;
mod snapshots;
mod split;
mod store;
mod symbols;
mod toolchains;
mod topcrashers;
mod trends;
mod walker;
mod webdriver;
