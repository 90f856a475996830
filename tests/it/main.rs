//! Features from the outside, in one binary: the program itself and the library as others use it.

mod browser;
mod bugs;
mod clients;
mod collector;
mod commands;
mod counters;
mod fake_bugzilla;
mod faults;
mod hostile;
mod house;
mod life;
mod mends;
mod naming;
mod native;
mod oracle;
mod report;
mod retention;
mod searches;
mod server;
mod sim_disk;
mod store;
mod symbols;
mod topcrashers;
mod trends;
mod walker;
mod webdriver;
