//! `crashkeep symbols`: adds symbols to a data directory or a server, lists them, reports what is missing,
//! and checks before a release that nothing will be missing. One file per subcommand.

mod add;
mod check;
mod files;
mod list;
mod missing;
mod server;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

use super::common::Common;
use super::remote::Remote;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Take programs, debug files (PDB, dSYM, ELF), .sym files, archives, and folders with any
    Add {
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<PathBuf>,
        #[command(flatten)]
        remote: Remote,
        /// Use these files instead of different ones with the same debug id
        #[arg(long)]
        replace: bool,
        /// The product that the files belong to
        #[arg(long, value_name = "NAME", requires = "server")]
        product: Option<String>,
        /// The version of the product
        #[arg(long, value_name = "VERSION", requires = "product")]
        version: Option<String>,
    },
    /// List the stored symbols: debug id, contents, bytes on disk, debug file
    List,
    /// List the symbols that the crashes of a running server lack, and what would help
    Missing {
        #[command(flatten)]
        remote: Remote,
        #[arg(long, value_name = "NAME")]
        product: Option<String>,
        #[arg(long, value_name = "VERSION")]
        version: Option<String>,
    },
    /// Check whether each program in a folder has usable symbols; exit code 1 if one does not
    Check {
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<PathBuf>,
        #[command(flatten)]
        remote: Remote,
    },
}

pub(super) fn run(args: Args, common: &Common) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Add {
            paths,
            remote,
            replace,
            product,
            version,
        } => {
            let release = [("product", product), ("version", version)];
            add::add(&paths, &remote, replace, &release, common)
        }
        Command::List => list::list(common),
        Command::Missing {
            remote,
            product,
            version,
        } => missing::missing(
            &remote,
            &[("product", product), ("version", version)],
            common,
        ),
        Command::Check { paths, remote } => check::check(&paths, &remote, common),
    }
}
