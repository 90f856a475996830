//! `crashkeep serve`.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::Common;
use crate::appliance::{Appliance, Place};
use crate::config::{Config, ConfigError, Setting, Source};

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
    let read = || {
        let mut config = common.config()?;
        listen_on(&mut config, args.listen);
        Ok(config)
    };
    let config = read()?;
    let running = Running::begin()?;
    let place = Place {
        data: common.data.clone(),
        program: running.program.clone(),
        read_only: args.read_only,
    };
    running.serve(Appliance::start(config, &place)?, read)
}

/// Takes over the address of the command line, if there is one.
pub(super) fn listen_on(config: &mut Config, listen: Option<SocketAddr>) {
    if let Some(value) = listen {
        config.http.listen = Setting {
            value,
            source: Source::Option("--listen"),
        };
    }
}

/// What a process needs that runs a server: its log, its signals, the path of its own program.
pub(super) struct Running {
    signals: Signals,
    pub program: PathBuf,
}

impl Running {
    pub fn begin() -> anyhow::Result<Self> {
        // JSON, so that a line end in what a client sent cannot forge a line.
        tracing_subscriber::fmt()
            .json()
            .with_writer(std::io::stderr)
            .with_max_level(tracing::Level::INFO)
            .init();
        // Before anything is opened: a signal that comes early must still end things in order.
        let signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
        let program = std::env::current_exe().context("the program's own path")?;
        Ok(Self { signals, program })
    }

    /// Says that the server listens, and serves until a signal comes. On SIGHUP it reads the
    /// configuration again.
    pub fn serve(
        mut self,
        appliance: Appliance,
        read: impl Fn() -> Result<Config, ConfigError>,
    ) -> anyhow::Result<ExitCode> {
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "listening on http://{}", appliance.address())?;
        stdout.flush()?;
        drop(stdout);
        let reloaded = |signal: &i32| {
            let is_reload = *signal == SIGHUP;
            if is_reload {
                appliance.reload(read());
            }
            is_reload
        };
        let signal = self.signals.forever().find(|signal| !reloaded(signal));
        tracing::info!(?signal, "stopping");
        // A second signal ends at once: every answered crash is durable anyway.
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                if self.signals.forever().any(|signal| signal != SIGHUP) {
                    std::process::exit(1);
                }
            })?;
        appliance.stop();
        Ok(ExitCode::SUCCESS)
    }
}

pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "write an address and a port, such as 127.0.0.1:8000 or [::1]:0".to_owned())
}
