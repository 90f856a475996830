//! `crashkeep demo`.

use std::process::ExitCode;

use super::common::Common;
use super::serve::{self, Running};
use crate::addresses::Listen;
use crate::demo;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Address to bind instead of the configured address; port 0 means any free port
    #[arg(long, value_name = "ADDR")]
    listen: Option<Listen>,
}

pub(super) fn run(args: Args, common: &Common) -> anyhow::Result<ExitCode> {
    let mut config = common.config()?;
    serve::listen_on(&mut config, args.listen);
    let running = Running::begin()?;
    let folder = tempfile::tempdir()?;
    let (appliance, sent) = demo::start(config, &folder.path().join("data"), &running.program)?;
    eprintln!("{sent} reports were sent. Stop with Ctrl-C; all data is deleted.");
    // The rules exist only in this process, so there is no file to reload.
    let config = appliance.config();
    running.serve(appliance, || Ok((*config).clone()))
}
