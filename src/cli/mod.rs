//! The command line: one file a command.

mod signature;
mod walk;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "crashkeep",
    version,
    about = "A crash-report server in one binary"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Walk one minidump: no server, no data directory
    Walk(walk::Args),
    /// Name crashes: siggen-input JSON lines on stdin, one signature a line on stdout
    Signature(signature::Args),
    /// The stackwalk child of a server's worker; speaks on stdin and stdout
    #[command(hide = true)]
    Walker(walk::WalkerArgs),
}

/// Parses the command line and runs one command. Errors go to stderr as `crashkeep: <text>`.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Walk(args) => walk::run(args),
        Command::Signature(args) => signature::run(args),
        Command::Walker(args) => walk::run_walker(args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("crashkeep: {error:#}");
            ExitCode::FAILURE
        }
    }
}
