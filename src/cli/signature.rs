//! `crashkeep signature`.

use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct Args {
    /// `socorro` is siggen's parity; `crashkeep` names frames without a function by module@offset
    #[arg(long, default_value = "socorro")]
    ruleset: String,
    /// A folder with signature lists, instead of the built-in ones
    #[arg(long, value_name = "DIR")]
    lists: Option<PathBuf>,
    /// Print JSON lines: signature, notes, proto_signature
    #[arg(long)]
    json: bool,
}

pub fn run(_args: Args) -> anyhow::Result<ExitCode> {
    todo!()
}
