//! `crashkeep serve`.

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::Common;
use crate::appliance::{Appliance, Place};
use crate::config::{Setting, Source};

#[derive(clap::Args)]
pub struct Args {
    /// Address to bind, instead of the configuration's; port 0 is any free one
    #[arg(long, value_name = "ADDR", value_parser = address)]
    listen: Option<SocketAddr>,
    /// Show what the data directory holds and change nothing in it
    #[arg(long)]
    read_only: bool,
}

pub(super) fn run(args: Args, common: &Common) -> anyhow::Result<ExitCode> {
    let mut config = common.config()?;
    if let Some(listen) = args.listen {
        config.http.listen = Setting {
            value: listen,
            source: Source::Option("--listen"),
        };
    }
    // JSON, so that a line end in what a client sent cannot forge a line.
    tracing_subscriber::fmt()
        .json()
        .with_writer(std::io::stderr)
        .with_max_level(tracing::Level::INFO)
        .init();
    // Before anything is opened: a signal that comes early must still end things in order.
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let program = std::env::current_exe().context("the program's own path")?;
    let appliance = Appliance::start(
        config,
        &Place {
            data: common.data.clone(),
            program,
            read_only: args.read_only,
        },
    )?;
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "listening on http://{}", appliance.address())?;
    stdout.flush()?;
    drop(stdout);
    let signal = signals.forever().next();
    tracing::info!(?signal, "stopping");
    // A second signal ends at once: every answered crash is durable anyway.
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            if signals.forever().next().is_some() {
                std::process::exit(1);
            }
        })?;
    appliance.stop();
    Ok(ExitCode::SUCCESS)
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "write an address and a port, such as 127.0.0.1:8000 or [::1]:0".to_owned())
}
