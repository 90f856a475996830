//! `crashkeep symbols`: adds symbols to a data directory or a server, lists them, reports what is missing,
//! and checks before a release that nothing will be missing.

use std::fs::File;
use std::io::Seek;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use clap::Subcommand;
use serde_json::Value;

use super::Common;
use super::remote::Remote;
use crate::appliance;
use crate::client::{self, Sent};
use crate::clock::{Clock, SystemClock};
use crate::crash::symbols::Content;
use crate::symbols::arrival::{Receiver, Verdict};
use crate::symbols::native::{self, Identity};
use crate::symbols::{self, Conflict, Map, Shelf};
use crate::upload;

/// Names of the files that are taken from a folder. A file that is given directly may have any name.
const ENDINGS: [&str; 11] = [
    ".sym", ".sym.gz", ".sym.zst", ".sym.xz", ".zip", ".tar", ".tar.gz", ".tar.zst", ".tar.xz",
    HALVES[0], HALVES[1],
];
/// The other halves of a program's units, which must arrive in one upload.
const HALVES: [&str; 2] = [".dwo", ".dwp"];
/// The first bytes of a file that show whether it is a program or debug file.
const START_BYTES: usize = 20;

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Take programs, debug files (PDB, dSYM, ELF), .sym files, archives, and folders with any
    Add {
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<PathBuf>,
        #[command(flatten)]
        remote: Remote,
        /// Use these files instead of different ones with the same debug id
        #[arg(long)]
        replace: bool,
        /// The product that the files belong to
        #[arg(long, value_name = "NAME", requires = "server")]
        product: Option<String>,
        /// The version of the product
        #[arg(long, value_name = "VERSION", requires = "product")]
        version: Option<String>,
    },
    /// List the stored symbols: debug id, contents, bytes on disk, debug file
    List,
    /// List the symbols that the crashes of a running server lack, and what would help
    Missing {
        #[command(flatten)]
        remote: Remote,
        #[arg(long, value_name = "NAME")]
        product: Option<String>,
        #[arg(long, value_name = "VERSION")]
        version: Option<String>,
    },
    /// Check whether each program in a folder has usable symbols; exit code 1 if one does not
    Check {
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<PathBuf>,
        #[command(flatten)]
        remote: Remote,
    },
}

/// A running server, and the token for it.
struct Server {
    /// Without a trailing slash.
    url: String,
    token: Option<String>,
}

impl Server {
    fn of(remote: &Remote, common: &Common) -> anyhow::Result<Option<Self>> {
        let Some(url) = &remote.server else {
            return Ok(None);
        };
        Ok(Some(Self {
            url: url.trim_end_matches('/').to_owned(),
            token: remote.token(common)?,
        }))
    }
}

pub(super) fn run(args: Args, common: &Common) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Add {
            paths,
            remote,
            replace,
            product,
            version,
        } => {
            let release = [("product", product), ("version", version)];
            add(&paths, &remote, replace, &release, common)
        }
        Command::List => list(common),
        Command::Missing {
            remote,
            product,
            version,
        } => missing(
            &remote,
            &[("product", product), ("version", version)],
            common,
        ),
        Command::Check { paths, remote } => check(&paths, &remote, common),
    }
}

fn add(
    paths: &[PathBuf],
    remote: &Remote,
    replace: bool,
    release: &[(&str, Option<String>)],
    common: &Common,
) -> anyhow::Result<ExitCode> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            gather(path, &mut files)?
        } else {
            files.push(path.clone())
        }
    }
    if files.is_empty() {
        bail!(
            "no file there is a program or its debug file, or ends in {}",
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
        } else if ENDINGS.iter().any(|ending| name.ends_with(ending)) || is_native(&path) {
            files.push(path);
        }
    }
    Ok(())
}

/// True if a file is a program, a library or a debug file. False for object files and scripts, which are
/// often in the same folder.
fn is_native(path: &Path) -> bool {
    use std::io::Read;
    let mut start = Vec::new();
    let read =
        File::open(path).and_then(|file| file.take(START_BYTES as u64).read_to_end(&mut start));
    if read.is_err() || !path.is_file() {
        return false;
    }
    // Byte 16 of an ELF file is its type: a program or library (2, 3), or not linked yet (1).
    let is_elf = start.starts_with(b"\x7fELF") && matches!(start.get(16), Some(2 | 3));
    let is_other = [
        &b"Microsoft C/C++ MSF"[..],
        b"MZ",
        b"\xcf\xfa\xed\xfe",
        b"\xce\xfa\xed\xfe",
    ];
    is_elf || is_other.iter().any(|magic| start.starts_with(magic)) || is_fat(&start)
}

/// True if a file is a fat Mach-O. A Java class begins with the same bytes. It has a version of 45 or more
/// where the fat Mach-O has its number of programs.
fn is_fat(start: &[u8]) -> bool {
    start.starts_with(b"\xca\xfe\xba\xbe")
        && start.get(4..8).is_some_and(|n| n < &[0, 0, 0, 40][..])
}

fn put(paths: &[PathBuf], replace: bool, common: &Common) -> anyhow::Result<bool> {
    let conflict = if replace {
        Conflict::Replace
    } else {
        Conflict::KeepFirst
    };
    let shelf = appliance::shelf(&common.data)
        .with_context(|| format!("data directory {}", common.data.display()))?;
    let config = common.config()?;
    let converter = appliance::converter(&config, std::env::current_exe()?);
    let receiver = Receiver {
        shelf: &shelf,
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
    let json = ask(Sent::Put(body), &url, server)?;
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

/// The answer of a server, parsed as JSON.
fn ask(sent: Sent, url: &str, server: &Server) -> anyhow::Result<Value> {
    let (status, answer) = client::ask(url, sent, server.token.as_deref())?;
    serde_json::from_str(&answer).map_err(|_| {
        let start: String = answer.trim().chars().take(300).collect();
        anyhow::anyhow!("{url} answered with status {status}: {start}")
    })
}

fn list(common: &Common) -> anyhow::Result<ExitCode> {
    let shelf = appliance::shelf_to_read(&common.data);
    for id in shelf.debug_ids()? {
        let Some(module) = shelf.module(&id) else {
            continue;
        };
        let content = module.content();
        let has = |has: bool, word| if has { word } else { "-" };
        let conflicts = module.uploads.iter().filter(|u| u.conflict).count();
        let beside = match conflicts {
            0 => String::new(),
            n => format!("  ({n} other contents beside it)"),
        };
        println!(
            "{id:<40} {:<9} {:<6} {:>12} {}{beside}",
            has(content.has_functions(), "functions"),
            has(content.has_unwind(), "unwind"),
            module.stored_bytes(),
            module.debug_file
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn missing(
    remote: &Remote,
    release: &[(&str, Option<String>)],
    common: &Common,
) -> anyhow::Result<ExitCode> {
    let Some(server) = Server::of(remote, common)? else {
        bail!("a running server knows what crashes lack; name it with --server");
    };
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (key, value) in release {
        if let Some(value) = value {
            query.append_pair(key, value);
        }
    }
    let url = format!("{}/api/MissingSymbols/?{}", server.url, query.finish());
    let json = ask(Sent::Get, &url, &server)?;
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

fn check(paths: &[PathBuf], remote: &Remote, common: &Common) -> anyhow::Result<ExitCode> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            gather(path, &mut files)?
        } else {
            files.push(path.clone())
        }
    }
    let server = Server::of(remote, common)?;
    let shelf = appliance::shelf_to_read(&common.data);
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
                Ok(identity) => usable(identity, server.as_ref(), &shelf)?,
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
    ensure!(programs > 0, "no program is there to be checked");
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
    shelf: &Shelf,
) -> anyhow::Result<Result<String, String>> {
    let id = &identity.debug_id;
    let content = match server {
        None => shelf.module(id).map(|module| module.content()),
        Some(server) => {
            let url = format!("{}/api/Symbols/?debug_id={id}", server.url);
            let json = ask(Sent::Get, &url, server)?;
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
            "nothing is stored for {name} {id}; add it and its debug file with crashkeep symbols add"
        )),
        Some(content) if !content.has_functions() => Err(format!(
            "what is stored for {name} {id} has no functions; add its debug file (PDB, dSYM, .debug), or its .dwp"
        )),
        Some(content) if !content.has_unwind() => Err(format!(
            "what is stored for {name} {id} has no rules of unwinding; add the program itself"
        )),
        Some(content) => Ok(format!(
            "{} functions, {} rules of unwinding",
            content.functions,
            content.cfi + content.win
        )),
    })
}
