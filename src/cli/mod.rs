//! The command line: one file per command.

mod accounts;
mod common;
mod config;
mod convert;
mod demo;
mod health;
mod man;
mod reindex;
mod remote;
mod retention;
mod serve;
mod signals;
mod signature;
mod submit;
mod symbols;
mod walk;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use common::Common;

#[derive(Parser)]
#[command(
    name = "crashkeep",
    version,
    about = "A crash-report server in one binary"
)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server
    Serve(serve::Args),
    /// Run a server on a temporary directory, filled with real reports of three products
    Demo(demo::Args),
    /// Walk one minidump, without a server or a data directory
    Walk(walk::Args),
    /// Upload a report as a client would, and print the answer
    Submit(submit::Args),
    /// Compute signatures: siggen input as JSON lines on stdin, one signature per line on stdout
    Signature(signature::Args),
    /// Add, list and check symbol files
    Symbols(symbols::Args),
    /// Add, remove and list accounts
    User(accounts::UserArgs),
    /// Create, revoke and list tokens
    Token(accounts::TokenArgs),
    /// Rebuild the search index while no server runs; if it is interrupted, the old index remains
    Reindex(reindex::Args),
    /// Report whether retention is on hold; --confirm lets it continue
    Retention(retention::Args),
    /// Check or print the configuration
    Config(config::Args),
    /// Print the heartbeat of the server that has the data directory open; exit code 1 if it is not healthy
    Health,
    /// Write the manual pages to a folder
    #[command(hide = true)]
    Man(man::Args),
    /// Stackwalk child process of a worker; communicates over stdin and stdout
    #[command(hide = true)]
    Walker(walk::WalkerArgs),
    /// Convert a program or debug file to symbols, for the server
    #[command(hide = true)]
    ConvertSymbols(convert::Args),
    /// Look up addresses in symbols, for the server
    #[command(hide = true)]
    NameAddresses(walk::NamerArgs),
}

/// Parses the command line and runs one command. Errors go to stderr as `crashkeep: <text>`.
pub fn main() -> ExitCode {
    let Cli { common, command } = Cli::parse();
    // All files that we or our libraries create are readable only by our user.
    #[cfg(unix)]
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let result = match command {
        Command::Serve(args) => serve::run(args, &common),
        Command::Demo(args) => demo::run(args, &common),
        Command::Walk(args) => walk::run(args),
        Command::Submit(args) => submit::run(args),
        Command::Signature(args) => signature::run(args),
        Command::Symbols(args) => symbols::run(args, &common),
        Command::User(args) => accounts::user(args, &common),
        Command::Token(args) => accounts::token(args, &common),
        Command::Reindex(args) => reindex::run(args, &common),
        Command::Retention(args) => retention::run(args, &common),
        Command::Config(args) => config::run(args, &common),
        Command::Health => health::run(&common),
        Command::Man(args) => man::run(args, Cli::command()),
        Command::Walker(args) => walk::run_walker(args),
        Command::ConvertSymbols(args) => convert::run(args),
        Command::NameAddresses(args) => walk::run_namer(args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("crashkeep: {error:#}");
            ExitCode::FAILURE
        }
    }
}
