//! The options that every command takes.

use std::path::PathBuf;

use crate::config::{Config, ConfigError};

/// Options that every command takes.
#[derive(clap::Args)]
pub(super) struct Common {
    /// Configuration file; default: appliance.toml if it exists
    #[arg(long, value_name = "FILE", global = true)]
    pub(super) config: Option<PathBuf>,
    /// Data directory
    #[arg(long, value_name = "DIR", default_value = "data", global = true)]
    pub(super) data: PathBuf,
}

pub(super) const CONFIG_FILE: &str = "appliance.toml";

impl Common {
    /// The effective configuration, without the command's own options.
    pub(super) fn config(&self) -> Result<Config, ConfigError> {
        match &self.config {
            Some(path) => Config::load(path, true),
            None => Config::load(CONFIG_FILE.as_ref(), false),
        }
    }
}
