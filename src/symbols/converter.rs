//! The parent's side of converting programs and debug files to symbol files: a process of its own
//! for each, under limits, since these formats are large, intricate and come from outside.
//!
//! The child (`crashkeep convert-symbols`) reads the file that is its standard input and writes
//! what [`super::native::convert`] writes to the file that is its standard output. It opens
//! nothing.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use super::check::Refused;
use crate::child;

/// Bytes of what a child says of its failure.
const REASON_BYTES_MAX: u64 = 4096;

/// How programs and debug files are converted.
#[derive(Clone, Debug)]
pub struct Converter {
    /// `crashkeep` itself.
    pub program: PathBuf,
    /// Memory beside the file, which is mapped.
    pub memory_bytes: u64,
    /// For one file.
    pub deadline: Duration,
    /// Of the text that comes out.
    pub text_bytes_max: u64,
}

impl Converter {
    /// With room for the debug file of a browser.
    pub fn new(program: PathBuf) -> Self {
        Self {
            program,
            memory_bytes: 8 << 30,
            deadline: Duration::from_secs(15 * 60),
            text_bytes_max: 8 << 30,
        }
    }

    /// Converts `native`, writing into `output`. `name` is what the client calls the file.
    pub(super) fn convert(&self, native: &File, name: &str, output: &File) -> Result<(), Refused> {
        let mut native = native.try_clone().map_err(Refused::Storage)?;
        native.rewind().map_err(Refused::Storage)?;
        let output = output.try_clone().map_err(Refused::Storage)?;
        let mut reason = tempfile::tempfile().map_err(Refused::Storage)?;
        let stderr = reason.try_clone().map_err(Refused::Storage)?;
        let mut command = Command::new(&self.program);
        command
            .arg("convert-symbols")
            .args(["--memory-bytes", &self.memory_bytes.to_string()])
            .args(["--text-bytes-max", &self.text_bytes_max.to_string()])
            .args(["--cpu-seconds", &self.deadline.as_secs().to_string()])
            .arg("--")
            .arg(name)
            .stdin(Stdio::from(native))
            .stdout(Stdio::from(output))
            .stderr(Stdio::from(stderr))
            .env_clear();
        let status = child::run(&mut command, self.deadline).map_err(Refused::Storage)?;
        let Some(status) = status else {
            return Err(Refused::Bad(format!(
                "its conversion took longer than {} s; send what dump_syms makes of it",
                self.deadline.as_secs()
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
            // What the child says by itself.
            Some(1) => said.trim().to_owned(),
            _ => self.fault(status, said.trim()),
        }))
    }

    fn fault(&self, status: ExitStatus, reason: &str) -> String {
        let first = reason.lines().next().unwrap_or_default();
        let of_memory = reason.contains("memory allocation");
        let limit = match of_memory {
            true => format!(", which may take {} MiB of memory", self.memory_bytes >> 20),
            false => String::new(),
        };
        format!("its conversion{limit} ended by {status} {first}; send what dump_syms makes of it")
    }
}
