//! `crashkeep symbols check`: checks before a release that each program has usable symbols.

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::files::files_of;
use super::server::Server;
use crate::appliance;
use crate::cli::common::Common;
use crate::cli::remote::Remote;
use crate::client::Sent;
use crate::crash::symbols::Content;
use crate::symbols::native::{self, Identity};
use crate::symbols::{Map, SymbolStore};

pub(super) fn check(
    paths: &[PathBuf],
    remote: &Remote,
    common: &Common,
) -> anyhow::Result<ExitCode> {
    let files = files_of(paths)?;
    let server = Server::of(remote, common)?;
    let symbol_store = appliance::symbol_store_to_read(&common.data);
    let (mut programs, mut bad) = (0, 0);
    for path in files {
        let shown = path.display();
        let file = File::open(&path).with_context(|| shown.to_string())?;
        if file.metadata()?.len() == 0 {
            continue;
        }
        let bytes = Map::of(&file).with_context(|| shown.to_string())?;
        let leaf = path.file_name().unwrap_or_default().to_string_lossy();
        for identity in native::identify(&bytes, &leaf).into_iter().flatten() {
            let verdict = match &identity {
                Err(why) => Err(why.clone()),
                // Only programs are shipped. Debug files supply their symbols.
                Ok(identity) if !identity.holds_code => continue,
                Ok(identity) => usable(identity, server.as_ref(), &symbol_store)?,
            };
            programs += 1;
            match verdict {
                Ok(how) => println!("ok       {shown}: {how}"),
                Err(why) => {
                    bad += 1;
                    println!("missing  {shown}: {why}");
                }
            }
        }
    }
    ensure!(programs > 0, "found no program to check");
    println!("{programs} programs, {bad} without usable symbols");
    Ok(match bad {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// Whether crashes of a program would get good stacks: how, or why not and what would help.
fn usable(
    identity: &Identity,
    server: Option<&Server>,
    symbol_store: &SymbolStore,
) -> anyhow::Result<Result<String, String>> {
    let id = &identity.debug_id;
    let content = match server {
        None => symbol_store.module(id).map(|module| module.content()),
        Some(server) => {
            let url = format!("{}/api/Symbols/?debug_id={id}", server.url);
            let json = server.ask(Sent::Get, &url)?;
            let hits = json["hits"].as_array();
            let hits = hits.with_context(|| format!("{url}: {}", json["error"]))?;
            let count = |hit: &Value, key: &str| hit[key].as_u64().unwrap_or(0);
            hits.first().map(|hit| Content {
                functions: count(hit, "functions"),
                publics: count(hit, "publics"),
                cfi: count(hit, "unwind_rules"),
                ..Content::default()
            })
        }
    };
    let name = &identity.debug_file;
    Ok(match content {
        None => Err(format!(
            "no symbols are stored for {name} {id}; add it and its debug file with crashkeep symbols add"
        )),
        Some(content) if !content.has_functions() => Err(format!(
            "the symbols stored for {name} {id} have no functions; add its debug file (PDB, dSYM, .debug), or its .dwp"
        )),
        Some(content) if !content.has_unwind() => Err(format!(
            "the symbols stored for {name} {id} have no unwind rules; add the program itself"
        )),
        Some(content) => Ok(format!(
            "{} functions, {} unwind rules",
            content.functions,
            content.cfi + content.win
        )),
    })
}
