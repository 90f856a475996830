//! `crashkeep serve`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::Common;
use crate::addresses::Listen;
use crate::appliance::{Appliance, Place};
use crate::config::{Config, ConfigError, Setting, Source};
use crate::http;

#[derive(clap::Args)]
pub struct Args {
    /// Address to bind, instead of the configuration's; port 0 is any free one
    #[arg(long, value_name = "ADDR")]
    listen: Option<Listen>,
    /// Show what the data directory holds and change nothing in it
    #[arg(long)]
    read_only: bool,
}

pub(super) fn run(args: Args, common: &Common) -> anyhow::Result<ExitCode> {
    let read = || {
        let mut config = common.config()?;
        listen_on(&mut config, args.listen.clone());
        http::check(&config)?;
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
pub(super) fn listen_on(config: &mut Config, listen: Option<Listen>) {
    if let Some(value) = listen {
        config.http.listen = Setting {
            value,
            source: Source::Option("--listen"),
        };
    }
}

/// Says where the server listens, and how to open its pages while there is no account. Whoever
/// started it may have closed standard output: that is no reason to stop.
fn announce(appliance: &Appliance) {
    let url = appliance.url();
    let mut text = format!("listening on {url}\n");
    if let Some(key) = appliance.local_key() {
        let config = appliance.config();
        let site = match (appliance.address(), config.http.public_url.as_str()) {
            (Listen::Tcp(_), _) => url,
            (Listen::Unix(_), "") => "http://PROXY",
            (Listen::Unix(_), public) => public,
        };
        text += &format!("open {site}/?key={key}\n");
    }
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes());
    if let Err(error) = written.and_then(|()| stdout.flush()) {
        tracing::info!(%error, "standard output is closed");
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
            // What cannot be written is lost, and said nowhere: tracing would say so with a panic.
            .log_internal_errors(false)
            .with_writer(std::io::stderr)
            .with_max_level(tracing::Level::INFO)
            .init();
        http::raise_descriptors();
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
        announce(&appliance);
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
