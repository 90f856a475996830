//! `crashkeep walk` and the hidden `crashkeep walker`.

mod text;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

use crate::crash::walk::Walk;
use crate::stackwalk::{
    self, MAP_BYTES_MAX, MAPS_MAX, Mode, SymbolCache, WalkLimits, WalkerSettings,
};
use crate::symbols::SymbolDirs;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The minidump
    dump: PathBuf,
    /// Folder with Breakpad symbols in the layout of a symbol server; can be repeated
    #[arg(long = "symbols", value_name = "DIR")]
    symbols: Vec<PathBuf>,
    /// Print the whole result as JSON, in the schema of minidump-stackwalk 0.27
    #[arg(long)]
    json: bool,
    /// Give the result of minidump-stackwalk 0.27 also where it is known to be wrong. With --json, the result
    /// then equals that of `minidump-stackwalk --json`
    #[arg(long)]
    compat: bool,
}

/// Started by a server's worker, never by hand: see `stackwalk::WalkerOptions`.
#[derive(clap::Args)]
pub(crate) struct WalkerArgs {
    /// A folder of Breakpad symbols; may be repeated
    #[arg(long = "symbols", value_name = "DIR")]
    symbols: Vec<PathBuf>,
    /// Private memory
    #[arg(long, value_name = "N")]
    heap_bytes: Option<u64>,
    /// Address space
    #[arg(long, value_name = "N")]
    address_bytes: Option<u64>,
    /// CPU time for each dump
    #[arg(long, value_name = "N")]
    cpu_seconds: Option<u64>,
    /// JSON for each dump
    #[arg(long, value_name = "N", default_value_t = u64::MAX)]
    output_bytes_max: u64,
    /// Limit of a packed dump after unpacking
    #[arg(long, value_name = "N", default_value_t = u64::MAX)]
    unpacked_bytes_max: u64,
    /// Limit of the growth of a packed dump, as a factor
    #[arg(long, value_name = "N", default_value_t = u64::MAX)]
    ratio_max: u64,
    /// The folder of mapped symbols
    #[arg(long, value_name = "DIR")]
    mapped: Option<PathBuf>,
    /// Mapped symbols kept open between dumps
    #[arg(long, value_name = "N", default_value_t = MAP_BYTES_MAX)]
    map_bytes_max: u64,
    /// Mapped files kept open between dumps
    #[arg(long, value_name = "N", default_value_t = MAPS_MAX)]
    maps_max: u64,
    /// Try everything that a walker must not be able to do, and report the results
    #[arg(long)]
    self_test: bool,
    /// Commit the faults that dumps ask for, for tests
    #[arg(long)]
    plant_faults: bool,
}

/// Started by a server, never by hand: see `stackwalk::Namer`.
#[derive(clap::Args)]
pub(crate) struct NamerArgs {
    /// A folder of symbols; may be repeated
    #[arg(long = "symbols", value_name = "DIR")]
    symbols: Vec<PathBuf>,
    /// The folder of mapped symbols
    #[arg(long, value_name = "DIR")]
    mapped: Option<PathBuf>,
}

/// Walks one dump in this process, without limits.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let name = args.dump.display().to_string();
    let dump = std::fs::read(&args.dump).with_context(|| name.clone())?;
    for folder in args.symbols.iter().filter(|folder| !folder.is_dir()) {
        eprintln!(
            "crashkeep: symbol folder {} does not exist",
            folder.display()
        );
    }
    let symbols = SymbolCache::new(SymbolDirs::new(args.symbols), MAP_BYTES_MAX);
    // The file name identifies the dump, and is the same from every working directory.
    let leaf = args
        .dump
        .file_name()
        .map_or(name, |leaf| leaf.display().to_string());
    let mode = if args.compat {
        Mode::Compat
    } else {
        Mode::True
    };
    let mut out = stackwalk::walk(&dump, &symbols, &WalkLimits::NONE, mode).context(leaf)?;
    if args.json {
        out.push(b'\n');
    } else {
        let walk: Walk = serde_json::from_slice(&out).context("the walk cannot be read back")?;
        out = text::render(&walk).into_bytes();
    }
    match io::stdout().lock().write_all(&out) {
        // `crashkeep walk X | head` closes the pipe early.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        written => Ok(written.map(|()| ExitCode::SUCCESS)?),
    }
}

/// Serves walks on stdin and stdout until stdin ends.
pub(crate) fn run_walker(args: WalkerArgs) -> anyhow::Result<ExitCode> {
    let settings = WalkerSettings {
        symbols: args.symbols,
        heap_bytes: args.heap_bytes,
        address_bytes: args.address_bytes,
        cpu_seconds: args.cpu_seconds,
        output_bytes_max: args.output_bytes_max,
        unpacked_bytes_max: args.unpacked_bytes_max,
        ratio_max: args.ratio_max,
        mapped: args.mapped,
        map_bytes_max: args.map_bytes_max,
        maps_max: args.maps_max,
        commits_faults: args.plant_faults,
    };
    if args.self_test {
        let is_closed = stackwalk::self_test(&settings, &mut io::stdout().lock())?;
        return Ok(if is_closed {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        });
    }
    stackwalk::serve(settings, io::stdin().lock(), io::stdout().lock()).context("walker")?;
    Ok(ExitCode::SUCCESS)
}

/// Answers requests about addresses: reads stdin, writes stdout.
pub(crate) fn run_namer(args: NamerArgs) -> anyhow::Result<ExitCode> {
    let (input, output) = (io::stdin().lock(), io::stdout().lock());
    stackwalk::serve_names(args.symbols, args.mapped, input, output).context("namer")?;
    Ok(ExitCode::SUCCESS)
}
