//! `crashkeep symbols`: adds symbol files to a data directory or through a server, and lists them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Subcommand;

use super::Common;
use crate::appliance;
use crate::symbols::Conflict;
use crate::symbols::arrival;
use crate::upload;

/// What is taken out of a folder; a file that is named is sent whatever it is called.
const ENDINGS: [&str; 3] = [".sym", ".sym.gz", ".zip"];

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Take .sym files (plain or gzip), zips of them, and folders with either
    Add {
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<PathBuf>,
        /// A running server, such as http://127.0.0.1:8000, instead of the data directory
        #[arg(long, value_name = "URL")]
        server: Option<String>,
        /// Put these in use where another content of a debug id is
        #[arg(long)]
        replace: bool,
    },
    /// Print what the data directory holds: debug id, bytes, debug file
    List,
}

pub(super) fn run(args: Args, common: &Common) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Add {
            paths,
            server,
            replace,
        } => add(&paths, server.as_deref(), replace, common),
        Command::List => list(common),
    }
}

fn add(
    paths: &[PathBuf],
    server: Option<&str>,
    replace: bool,
    common: &Common,
) -> anyhow::Result<ExitCode> {
    let mut files = Vec::new();
    for path in paths {
        match path.is_dir() {
            true => gather(path, &mut files)?,
            false => files.push(path.clone()),
        }
    }
    if files.is_empty() {
        bail!("no file there ends in {}", ENDINGS.join(", "));
    }
    let mut all_taken = true;
    for path in files {
        all_taken &= match server {
            Some(url) => send(&path, url, replace)?,
            None => put(&path, replace, common)?,
        };
    }
    Ok(match all_taken {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// The files below a folder that may be symbols, in order.
fn gather(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let shown = || folder.display().to_string();
    let entries = std::fs::read_dir(folder).with_context(shown)?;
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.with_context(shown)?.path());
    }
    paths.sort();
    for path in paths {
        let name = path.to_string_lossy();
        if path.is_dir() && !path.is_symlink() {
            gather(&path, files)?;
        } else if ENDINGS.iter().any(|ending| name.ends_with(ending)) {
            files.push(path);
        }
    }
    Ok(())
}

fn put(path: &Path, replace: bool, common: &Common) -> anyhow::Result<bool> {
    let shown = path.display().to_string();
    let file = File::open(path).with_context(|| shown.clone())?;
    let conflict = match replace {
        true => Conflict::Replace,
        false => Conflict::KeepFirst,
    };
    let shelf = appliance::shelf(&common.data)
        .with_context(|| format!("data directory {}", common.data.display()))?;
    let bounds = upload::bounds(&common.config()?);
    let arrival =
        arrival::take(&shelf, file, &shown, bounds, conflict).with_context(|| shown.clone())?;
    let mut all_taken = true;
    for verdict in &arrival.verdicts {
        match &verdict.result {
            Ok(taken) => say(verdict.outcome(), &taken.place, &taken.notes),
            Err(refused) => {
                all_taken = false;
                eprintln!("{}: {:?}: {refused}", verdict.outcome(), verdict.name);
            }
        }
    }
    Ok(all_taken)
}

fn say(outcome: &str, place: &str, notes: &[String]) {
    println!("{outcome}: {place}");
    for note in notes {
        println!("  {note}");
    }
}

fn send(path: &Path, server: &str, replace: bool) -> anyhow::Result<bool> {
    let shown = path.display().to_string();
    let body = std::fs::read(path).with_context(|| shown.clone())?;
    let query = if replace { "?replace=1" } else { "" };
    let url = format!("{}/upload/{query}", server.trim_end_matches('/'));
    let (status, answer) = crate::http::post(&url, "application/octet-stream", body)?;
    let Ok(json) = serde_json::from_str::<serde_json::Value>(&answer) else {
        let start: String = answer.trim().chars().take(300).collect();
        bail!("{url} answered with status {status}: {start}");
    };
    let files = json["files"].as_array().cloned().unwrap_or_default();
    if files.is_empty() {
        bail!("{shown}: {}", json["error"].as_str().unwrap_or("no reason"));
    }
    let mut all_taken = true;
    for file in files {
        let text = |key: &str| file[key].as_str().unwrap_or_default();
        let notes = file["notes"].as_array().into_iter().flatten();
        let notes: Vec<String> = notes
            .filter_map(|n| n.as_str().map(str::to_owned))
            .collect();
        match file["error"].as_str() {
            None => say(
                text("outcome"),
                text("url").trim_start_matches("/symbols/"),
                &notes,
            ),
            Some(error) => {
                all_taken = false;
                let name = match text("name") {
                    "body" => shown.as_str(),
                    name => name,
                };
                eprintln!("{}: {name:?}: {error}", text("outcome"));
            }
        }
    }
    Ok(all_taken)
}

fn list(common: &Common) -> anyhow::Result<ExitCode> {
    let shelf = appliance::shelf_to_read(&common.data);
    for entry in shelf.list()? {
        let beside = match entry.beside {
            0 => String::new(),
            n => format!("  ({n} other contents beside it)"),
        };
        println!(
            "{:<40} {:>12} {}{beside}",
            entry.debug_id, entry.bytes, entry.debug_file
        );
    }
    Ok(ExitCode::SUCCESS)
}
