//! `crashkeep walk` and the hidden `crashkeep walker`.

use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct Args {
    /// The minidump
    dump: PathBuf,
    /// A folder of Breakpad symbols, laid out as a symbol server's; may be repeated
    #[arg(long = "symbols", value_name = "DIR")]
    symbols: Vec<PathBuf>,
    /// Print the whole result as JSON, in the schema of minidump-stackwalk 0.27
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub struct WalkerArgs {}

pub fn run(_args: Args) -> anyhow::Result<ExitCode> {
    todo!()
}

pub fn run_walker(_args: WalkerArgs) -> anyhow::Result<ExitCode> {
    todo!()
}
