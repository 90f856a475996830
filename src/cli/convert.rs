//! The hidden `crashkeep convert-symbols`: reads a program or debug file from standard input and writes the
//! text of a symbol file to standard output. Only `symbols::converter` starts it.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use crate::stackwalk::confine_converter;
use crate::symbols::native::{self, OtherFiles};
use crate::symbols::{Map, cabinet};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Memory in addition to the file
    #[arg(long, value_name = "N")]
    memory_bytes: u64,
    /// Limit of the text
    #[arg(long, value_name = "N")]
    text_bytes_max: u64,
    #[arg(long, value_name = "N")]
    cpu_seconds: u64,
    /// Split debug information of the program, or its debug file
    #[arg(long, value_name = "PATH")]
    parts: Option<PathBuf>,
    /// Read a debug file although its program is missing
    #[arg(long)]
    alone: bool,
    /// Write the files of a cabinet as a tar
    #[arg(long)]
    cabinet: bool,
    /// The sender's name for the file
    name: String,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    // A copy of the handle, so that we need not hold the lock on standard input. A confined process can
    // neither open nor copy a handle. No byte of the file has been read before.
    #[cfg(unix)]
    let input = std::os::fd::AsFd::as_fd(&io::stdin()).try_clone_to_owned()?;
    #[cfg(windows)]
    let input = std::os::windows::io::AsHandle::as_handle(&io::stdin()).try_clone_to_owned()?;
    let input = File::from(input);
    let map = Map::of(&input)?;
    let parts = match &args.parts {
        Some(path) => Some(Map::of(&File::open(path)?)?),
        None => None,
    };
    confine_converter(args.memory_bytes, args.text_bytes_max, args.cpu_seconds)?;
    let mut out = BufWriter::with_capacity(1 << 20, io::stdout().lock());
    let converted = if args.cabinet {
        cabinet::to_tar(&map, args.text_bytes_max, &mut out)
    } else {
        let others = match (&parts, args.alone) {
            (Some(parts), _) => OtherFiles::Known(parts),
            (None, true) => OtherFiles::Missing,
            (None, false) => OtherFiles::Unknown,
        };
        native::convert(&map, others, &args.name, &mut out)
    };
    match converted {
        Ok(()) => {
            out.flush()?;
            Ok(ExitCode::SUCCESS)
        }
        Err(why) => {
            eprintln!("{why}");
            Ok(ExitCode::FAILURE)
        }
    }
}
