//! `crashkeep symbols add`: stores files in a data directory, or sends them to a server.

use std::fs::File;
use std::io::Seek;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};

use super::files::{ENDINGS, HALVES, files_of};
use super::server::Server;
use crate::appliance;
use crate::cli::common::Common;
use crate::cli::remote::Remote;
use crate::client::Sent;
use crate::clock::{Clock, SystemClock};
use crate::symbols::arrival::{Receiver, Verdict};
use crate::symbols::{self, Conflict};
use crate::upload;

pub(super) fn add(
    paths: &[PathBuf],
    remote: &Remote,
    replace: bool,
    release: &[(&str, Option<String>)],
    common: &Common,
) -> anyhow::Result<ExitCode> {
    let files = files_of(paths)?;
    if files.is_empty() {
        bail!(
            "found no program, no debug file, and no file that ends in {}",
            ENDINGS.join(", ")
        );
    }
    let all_taken = match Server::of(remote, common)? {
        Some(server) => send_all(files, &server, replace, release)?,
        None => put(&files, replace, common)?,
    };
    Ok(if all_taken {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn put(paths: &[PathBuf], replace: bool, common: &Common) -> anyhow::Result<bool> {
    let conflict = if replace {
        Conflict::Replace
    } else {
        Conflict::KeepFirst
    };
    let symbol_store = appliance::symbol_store(&common.data)
        .with_context(|| format!("data directory {}", common.data.display()))?;
    let config = common.config()?;
    let converter = appliance::converter(&config, std::env::current_exe()?);
    let receiver = Receiver {
        symbol_store: &symbol_store,
        converter: &converter,
        bounds: upload::bounds(&config),
        conflict,
        now_ms: SystemClock.now().ms(),
    };
    let mut together = receiver.together();
    let mut all_taken = true;
    for path in paths {
        let shown = path.display().to_string();
        let file = File::open(path).with_context(|| shown.clone())?;
        let arrival = together.take(file, &shown).with_context(|| shown.clone())?;
        all_taken &= say_all(&arrival.verdicts);
    }
    Ok(all_taken & say_all(&together.finish()))
}

/// Prints the results of files. Returns true if all were accepted.
fn say_all(verdicts: &[Verdict]) -> bool {
    let mut all_taken = true;
    for verdict in verdicts {
        match &verdict.result {
            Ok(taken) => say(verdict.outcome(), &taken.place, &taken.notes),
            Err(refused) => {
                all_taken = false;
                eprintln!("{}: {:?}: {refused}", verdict.outcome(), verdict.name);
            }
        }
    }
    all_taken
}

fn say(outcome: &str, place: &str, notes: &[String]) {
    println!("{outcome}: {place}");
    for note in notes {
        println!("  {note}");
    }
}

/// Sends each file to a server. Sends the other halves last, in one upload.
fn send_all(
    files: Vec<PathBuf>,
    server: &Server,
    replace: bool,
    release: &[(&str, Option<String>)],
) -> anyhow::Result<bool> {
    let is_half = |path: &PathBuf| {
        let name = path.to_string_lossy();
        HALVES.iter().any(|ending| name.ends_with(ending))
    };
    let (halves, whole): (Vec<_>, Vec<_>) = files.into_iter().partition(is_half);
    let mut all_taken = true;
    let mut send = |leaf: &str, body: File, shown: &str| {
        all_taken &= send(leaf, body, shown, server, replace, release)?;
        anyhow::Ok(())
    };
    for path in whole {
        let shown = path.display().to_string();
        let body = File::open(&path).with_context(|| shown.clone())?;
        let leaf = path.file_name().unwrap_or_default().to_string_lossy();
        send(&leaf, body, &shown)?;
    }
    if !halves.is_empty() {
        let mut together = tempfile::tempfile()?;
        let files = halves.iter().map(|path| {
            let leaf = path.file_name().unwrap_or_default();
            (leaf.to_string_lossy().into_owned(), path.as_path())
        });
        symbols::bundle(files, &mut together).context("the .dwo and .dwp files")?;
        together.rewind()?;
        send("halves.tar", together, "the .dwo and .dwp files")?;
    }
    Ok(all_taken)
}

fn send(
    leaf: &str,
    body: File,
    shown: &str,
    server: &Server,
    replace: bool,
    release: &[(&str, Option<String>)],
) -> anyhow::Result<bool> {
    let leaf = percent_encoding::utf8_percent_encode(leaf, percent_encoding::NON_ALPHANUMERIC);
    let mut query = form_urlencoded::Serializer::new(String::new());
    if replace {
        query.append_pair("replace", "1");
    }
    for (key, value) in release {
        if let Some(value) = value {
            query.append_pair(key, value);
        }
    }
    let url = format!("{}/upload/{leaf}?{}", server.url, query.finish());
    let json = server.ask(Sent::Put(body), &url)?;
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
                eprintln!("{}: {:?}: {error}", text("outcome"), text("name"));
            }
        }
    }
    Ok(all_taken)
}
