//! `crashkeep serve`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

use super::common::Common;
use super::signals::{self, SIGHUP, Signals};
use crate::addresses::Listen;
use crate::appliance::{Appliance, Place};
use crate::config::{Config, ConfigError, Setting, Source};
use crate::http;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Address to bind instead of the configured address; port 0 means any free port
    #[arg(long, value_name = "ADDR")]
    listen: Option<Listen>,
    /// Serve the data directory read-only: accept no reports and no changes
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

/// Uses the address of the command line, if there is one.
pub(super) fn listen_on(config: &mut Config, listen: Option<Listen>) {
    if let Some(value) = listen {
        config.http.listen = Setting {
            value,
            source: Source::Option("--listen"),
        };
    }
}

/// Prints where the server listens, and while no account exists, a URL that opens its pages. The process
/// that started us may have closed standard output. That is not an error.
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

/// What every command that runs a server needs: the log, the signals, and the path of its own program.
pub(super) struct Running {
    signals: Signals,
    pub(crate) program: PathBuf,
}

impl Running {
    pub(crate) fn begin() -> anyhow::Result<Self> {
        // JSON, so that a line end in data from a client cannot forge a line.
        tracing_subscriber::fmt()
            .json()
            // A log line that cannot be written is lost without a message. The message of tracing would be a
            // panic.
            .log_internal_errors(false)
            .with_writer(std::io::stderr)
            .with_max_level(tracing::Level::INFO)
            .init();
        http::raise_descriptors();
        // Before anything is opened, so that an early signal still causes an orderly stop.
        let signals = signals::watch()?;
        let program = std::env::current_exe().context("the program's own path")?;
        Ok(Self { signals, program })
    }

    /// Prints that the server listens, and serves until a signal arrives. SIGHUP reloads the configuration.
    pub(crate) fn serve(
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
        // A second signal ends the process at once. Every acknowledged crash is durable.
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
