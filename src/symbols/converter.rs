//! The parent's side of converting programs and debug files to symbol files. Each conversion runs in a child
//! process with limits, because these formats are large and complicated and come from outside (ADR 13).
//!
//! The child (`crashkeep convert-symbols`) reads the file on its standard input and writes the output of
//! [`super::native::convert`] to the file on its standard output. It opens only one other file, the other
//! halves of the file's units, if it is given any. It does this before it looks at a byte.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use super::check::Refused;
use crate::child;

/// Limit of bytes of a child's error message.
const REASON_BYTES_MAX: u64 = 4096;

/// Time and memory for any file, and additional time and memory by its size. This is ten times what large
/// debug files need, so a small hostile file fails soon.
const TIME_FREE: Duration = Duration::from_secs(20);
const TIME_PER_MIB: Duration = Duration::from_millis(500);
const MEMORY_BYTES_FREE: u64 = 1 << 30;
const MEMORY_PER_BYTE: u64 = 32;

/// Settings for converting programs and debug files.
#[derive(Clone, Debug)]
pub struct Converter {
    /// The `crashkeep` binary itself.
    pub(crate) program: PathBuf,
    /// Upper limit of memory in bytes, without the file, which is mapped.
    pub(crate) memory_bytes: u64,
    /// Upper limit of time for one file.
    pub(crate) deadline: Duration,
    /// Upper limit of the resulting text.
    pub(crate) text_bytes_max: u64,
}

/// Where the other files with debug information of a program are, as in [`OtherFiles`](super::native::OtherFiles).
#[derive(Clone, Copy, Debug)]
pub(super) enum Others<'p> {
    Unknown,
    Missing,
    In(&'p Path),
}

impl Converter {
    /// Settings that are sufficient for the debug file of a browser.
    pub fn new(program: PathBuf) -> Self {
        Self {
            program,
            memory_bytes: 8 << 30,
            deadline: Duration::from_secs(15 * 60),
            text_bytes_max: 8 << 30,
        }
    }

    /// Converts `native` and writes into `output`. `name` is the client's name of the file.
    pub(super) fn convert(
        &self,
        native: &File,
        others: Others<'_>,
        name: &str,
        output: &File,
    ) -> Result<(), Refused> {
        let mut bytes = native.metadata().map_err(Refused::Storage)?.len();
        let mut options = Vec::new();
        match others {
            Others::Unknown => {}
            Others::Missing => options.push(OsStr::new("--alone")),
            Others::In(parts) => {
                bytes += parts.metadata().map_err(Refused::Storage)?.len();
                options.extend([OsStr::new("--parts"), parts.as_os_str()]);
            }
        }
        options.extend(["--", name].map(OsStr::new));
        self.run(native, bytes, self.text_bytes_max, &options, output)
    }

    /// Writes the files of a cabinet into `output`, as a tar of at most `bytes_max` bytes.
    pub(super) fn unpack(
        &self,
        cabinet: &File,
        output: &File,
        bytes_max: u64,
    ) -> Result<(), Refused> {
        let bytes = cabinet.metadata().map_err(Refused::Storage)?.len();
        let options = ["--cabinet", "--", "cabinet"].map(OsStr::new);
        self.run(cabinet, bytes, bytes_max, &options, output)
    }

    /// Runs a child that reads `input` and writes `output`. Its limits are for `bytes` of input.
    fn run(
        &self,
        input: &File,
        bytes: u64,
        output_bytes_max: u64,
        options: &[&OsStr],
        output: &File,
    ) -> Result<(), Refused> {
        let mut input = input.try_clone().map_err(Refused::Storage)?;
        let mib = u32::try_from(bytes >> 20).unwrap_or(u32::MAX);
        let time = TIME_FREE.saturating_add(TIME_PER_MIB.saturating_mul(mib));
        let deadline = time.min(self.deadline);
        let memory = MEMORY_BYTES_FREE.saturating_add(bytes.saturating_mul(MEMORY_PER_BYTE));
        let memory_bytes = memory.min(self.memory_bytes);
        input.rewind().map_err(Refused::Storage)?;
        let output = output.try_clone().map_err(Refused::Storage)?;
        let mut reason = tempfile::tempfile().map_err(Refused::Storage)?;
        let stderr = reason.try_clone().map_err(Refused::Storage)?;
        let mut command = Command::new(&self.program);
        command
            .arg("convert-symbols")
            .args(["--memory-bytes", &memory_bytes.to_string()])
            .args(["--text-bytes-max", &output_bytes_max.to_string()])
            .args(["--cpu-seconds", &deadline.as_secs().max(1).to_string()])
            .args(options)
            .stdin(Stdio::from(input))
            .stdout(Stdio::from(output))
            .stderr(Stdio::from(stderr))
            .env_clear();
        let status = child::run(&mut command, deadline).map_err(Refused::Storage)?;
        let Some(status) = status else {
            return Err(Refused::Bad(format!(
                "the conversion took longer than {} s; send the output of dump_syms instead",
                deadline.as_secs()
            )));
        };
        if status.success() {
            return Ok(());
        }
        let mut said = Vec::new();
        reason.rewind().map_err(Refused::Storage)?;
        let read = reason.take(REASON_BYTES_MAX).read_to_end(&mut said);
        read.map_err(Refused::Storage)?;
        let said = String::from_utf8_lossy(&said);
        Err(Refused::Bad(match status.code() {
            // The child's own error message.
            Some(1) => said.trim().to_owned(),
            _ => fault(status, said.trim(), memory_bytes),
        }))
    }
}

/// A description of how a child was ended or died.
fn fault(status: ExitStatus, said: &str, memory_bytes: u64) -> String {
    let how = match status.code() {
        // A panic message helps only us, so it goes to the log.
        Some(101) => {
            tracing::warn!(said, "a conversion panicked");
            "failed because of its content".to_owned()
        }
        _ if said.contains("memory allocation") => {
            format!("took more than {} MiB of memory", memory_bytes >> 20)
        }
        _ => format!("was killed ({status})"),
    };
    format!("the conversion {how}; send the output of dump_syms instead")
}
