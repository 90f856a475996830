//! `crashkeep health`: the heartbeat of the server that has the data directory open. A container image without
//! a shell and curl uses it as its health check.

use std::process::ExitCode;

use anyhow::{Context, bail};

use super::common::Common;
use crate::access::commands::RunningServer;
use crate::client::{self, Sent};

pub(super) fn run(common: &Common) -> anyhow::Result<ExitCode> {
    let shown = common.data.display();
    let server = RunningServer::find(&common.data)
        .with_context(|| shown.to_string())?
        .with_context(|| format!("no server has {shown} open"))?;
    let url = format!("http://{}/__heartbeat__", server.address);
    let (status, answer) = client::ask(&url, Sent::Get, Some(&server.key))?;
    if status != 200 {
        bail!("{}", answer.trim());
    }
    println!("{}", answer.trim());
    Ok(ExitCode::SUCCESS)
}
