//! `crashkeep retention`: says whether a pass of retention waits for confirmation, and confirms it.

use std::process::ExitCode;

use anyhow::{Context, bail};
use serde_json::Value;

use super::common::Common;
use super::remote::Remote;
use crate::appliance;
use crate::client::{Sent, ask};

/// Exit codes: no pass waits, a pass waits, the command failed.
const SUCCESS: u8 = 0;
const WAITS: u8 = 1;
const FAILED: u8 = 2;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Confirm the pass that is on hold; without a running server: run one pass
    #[arg(long)]
    confirm: bool,
    #[command(flatten)]
    remote: Remote,
}

pub(super) fn run(args: Args, common: &Common) -> anyhow::Result<ExitCode> {
    let code = match &args.remote.server {
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
        .context("if a server has it open, use --server")?;
    match done {
        Some(_) => println!("deleted: {plan}"),
        None => println!("would delete: {plan}"),
    }
    Ok(if done.is_none() && plan.must_wait() {
        println!("this is more than expected since the last pass; use --confirm to delete it");
        WAITS
    } else {
        SUCCESS
    })
}

fn on_server(server: &str, args: &Args, common: &Common) -> anyhow::Result<u8> {
    let url = format!("{}/api/Retention/", server.trim_end_matches('/'));
    let sent = if args.confirm {
        Sent::Post {
            content_type: "application/x-www-form-urlencoded".into(),
            body: Vec::new(),
        }
    } else {
        Sent::Get
    };
    let token = args.remote.token(common)?;
    let (status, answer) = ask(&url, sent, token.as_deref())?;
    let answer: Value = serde_json::from_str(&answer).unwrap_or_else(|_| answer.as_str().into());
    match (status, args.confirm) {
        (200, true) => {
            println!("confirmed");
            Ok(SUCCESS)
        }
        (409, true) => {
            println!("retention is not on hold");
            Ok(SUCCESS)
        }
        (200, false) => match answer["reason"].as_str() {
            Some(reason) => {
                println!("{reason}");
                Ok(WAITS)
            }
            None => {
                println!("retention is not on hold");
                Ok(SUCCESS)
            }
        },
        _ => bail!("{url}: {status} {answer}"),
    }
}
