//! `crashkeep retention`: says whether a pass of retention waits for somebody, and lets it go on.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use serde_json::Value;

use super::Common;
use crate::appliance;
use crate::http::{Sent, ask};

/// Nothing was found, something waits, or the command could not run.
const SUCCESS: u8 = 0;
const WAITS: u8 = 1;
const FAILED: u8 = 2;

#[derive(clap::Args)]
pub struct Args {
    /// Let the pass go on that has stopped itself; without a server: make one pass
    #[arg(long)]
    confirm: bool,
    /// A running server, such as http://127.0.0.1:8000, instead of the data directory
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// An admin's token of that server; others on this machine can see it
    #[arg(long, value_name = "T", requires = "server")]
    token: Option<String>,
    /// A file with the token, instead of CRASHKEEP_TOKEN or the data directory's local key
    #[arg(long, value_name = "FILE", requires = "server")]
    token_file: Option<PathBuf>,
}

pub(super) fn run(args: Args, common: &Common) -> anyhow::Result<ExitCode> {
    let code = match &args.server {
        Some(server) => on_server(server, &args, common),
        None => offline(&args, common),
    };
    Ok(ExitCode::from(code.unwrap_or_else(|error| {
        eprintln!("crashkeep: {error:#}");
        FAILED
    })))
}

fn offline(args: &Args, common: &Common) -> anyhow::Result<u8> {
    let config = common.config()?;
    let (plan, done) = appliance::retain(&config, &common.data, args.confirm)
        .context("where a server has it open, name the server with --server")?;
    match done {
        Some(_) => println!("deleted: {plan}"),
        None => println!("would delete: {plan}"),
    }
    Ok(match done.is_none() && plan.must_wait() {
        true => {
            println!(
                "this is more than the days since the last pass explain; --confirm deletes it"
            );
            WAITS
        }
        false => SUCCESS,
    })
}

fn on_server(server: &str, args: &Args, common: &Common) -> anyhow::Result<u8> {
    let url = format!("{}/api/Retention/", server.trim_end_matches('/'));
    let sent = match args.confirm {
        true => Sent::Post {
            content_type: "application/x-www-form-urlencoded".into(),
            body: Vec::new(),
        },
        false => Sent::Get,
    };
    let token = token(args, common)?;
    let (status, answer) = ask(&url, sent, token.as_deref())?;
    let answer: Value = serde_json::from_str(&answer).unwrap_or_else(|_| answer.as_str().into());
    match (status, args.confirm) {
        (200, true) => {
            println!("confirmed");
            Ok(SUCCESS)
        }
        (409, true) => {
            println!("no pass of retention waits to be confirmed");
            Ok(SUCCESS)
        }
        (200, false) => match answer["reason"].as_str() {
            Some(reason) => {
                println!("{reason}");
                Ok(WAITS)
            }
            None => {
                println!("no pass of retention waits to be confirmed");
                Ok(SUCCESS)
            }
        },
        _ => bail!("{url}: {status} {answer}"),
    }
}

/// The right to use the server: as an option, in a file, in the environment, or by the local key.
fn token(args: &Args, common: &Common) -> anyhow::Result<Option<String>> {
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path);
        text.map(|text| text.trim().to_owned())
            .with_context(|| path.display().to_string())
    };
    if let Some(token) = &args.token {
        return Ok(Some(token.clone()));
    }
    if let Some(path) = &args.token_file {
        return read(path).map(Some);
    }
    if let Ok(token) = std::env::var("CRASHKEEP_TOKEN") {
        return Ok(Some(token));
    }
    let local = common.data.join("local-key");
    match local.is_file() {
        true => read(&local).map(Some),
        false => Ok(None),
    }
}
