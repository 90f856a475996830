//! `crashkeep config check` and `crashkeep config print`.

use std::process::ExitCode;

use clap::Subcommand;

use super::common::Common;
use crate::config::Config;
use crate::http;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Check whether the configuration is valid
    Check,
    /// Print the effective configuration, and the source of each value
    Print,
}

pub(super) fn run(args: Args, common: &Common) -> anyhow::Result<ExitCode> {
    let config = common.config()?;
    http::check(&config)?;
    match args.action {
        Action::Check => println!("the configuration is valid"),
        Action::Print => print(&config),
    }
    Ok(ExitCode::SUCCESS)
}

fn print(config: &Config) {
    let mut last = "";
    for (section, key, value, source) in config.entries() {
        if section != last {
            println!("{}[{section}]", if last.is_empty() { "" } else { "\n" });
            last = section;
        }
        println!("{:<40} # {source}", format!("{key} = {value}"));
    }
    for (list, entry, source) in config.list_entries() {
        println!("\n[[{list}]] # {source}\n{entry}");
    }
}
