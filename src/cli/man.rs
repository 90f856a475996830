//! The hidden `crashkeep man`: writes the manual pages, for packages.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder for the pages: crashkeep.1 and one for each command
    folder: PathBuf,
}

pub(super) fn run(args: Args, command: clap::Command) -> anyhow::Result<ExitCode> {
    let shown = || args.folder.display().to_string();
    std::fs::create_dir_all(&args.folder).with_context(shown)?;
    clap_mangen::generate_to(command, &args.folder).with_context(shown)?;
    Ok(ExitCode::SUCCESS)
}
