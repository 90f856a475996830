//! `crashkeep symbols missing`: asks a server which symbols its crashes lack.

use std::process::ExitCode;

use anyhow::{Context, bail};

use super::server::Server;
use crate::cli::common::Common;
use crate::cli::remote::Remote;
use crate::client::Sent;

pub(super) fn missing(
    remote: &Remote,
    release: &[(&str, Option<String>)],
    common: &Common,
) -> anyhow::Result<ExitCode> {
    let Some(server) = Server::of(remote, common)? else {
        bail!("--server is missing: only a running server knows which symbols its crashes lack");
    };
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (key, value) in release {
        if let Some(value) = value {
            query.append_pair(key, value);
        }
    }
    let url = format!("{}/api/MissingSymbols/?{}", server.url, query.finish());
    let json = server.ask(Sent::Get, &url)?;
    let findings = json["hits"].as_array();
    let findings = findings.with_context(|| format!("{url}: {}", json["error"]))?;
    for finding in findings {
        let text = |key: &str| finding[key].as_str().unwrap_or_default();
        let crashes = finding["crashes"].as_u64().unwrap_or(0);
        println!("{crashes:>8}  {} {}", text("debug_file"), text("debug_id"));
        println!("          {}", text("explanation"));
        for other in finding["other_builds"].as_array().into_iter().flatten() {
            let text = |key: &str| other[key].as_str().unwrap_or_default();
            println!(
                "            {} of {}",
                text("debug_id"),
                text("uploaded_at")
            );
        }
        if !text("command").is_empty() {
            println!("          {}", text("command"));
        }
    }
    Ok(if findings.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
