//! The parent's side of converting programs and debug files to symbol files: a process of its own
//! for each, under limits, since these formats are large, intricate and come from outside.
//!
//! The child (`crashkeep convert-symbols`) reads the file that is its standard input and writes
//! what [`super::native::convert`] writes to the file that is its standard output. It opens
//! nothing.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::check::Refused;

/// Bytes of what a child says of its failure.
const REASON_BYTES_MAX: u64 = 4096;
/// Between two looks at whether a child has ended.
const LOOK_EVERY: Duration = Duration::from_millis(5);

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
        let child = Command::new(&self.program)
            .arg("convert-symbols")
            .args(["--memory-bytes", &self.memory_bytes.to_string()])
            .args(["--text-bytes-max", &self.text_bytes_max.to_string()])
            .args(["--cpu-seconds", &self.deadline.as_secs().to_string()])
            .arg("--")
            .arg(name)
            .stdin(Stdio::from(native))
            .stdout(Stdio::from(output))
            .stderr(Stdio::piped())
            .env_clear()
            .spawn()
            .map_err(Refused::Storage)?;
        let mut child = Killed(child);
        let stderr = child.0.stderr.take();
        let status = self.wait(&mut child.0).map_err(Refused::Storage)?;
        let Some(status) = status else {
            return Err(Refused::Bad(format!(
                "its conversion took longer than {} s; send what dump_syms makes of it",
                self.deadline.as_secs()
            )));
        };
        if status.success() {
            return Ok(());
        }
        // The child has ended, so its last words are all there.
        let mut reason = Vec::new();
        if let Some(stderr) = stderr {
            let _ = stderr.take(REASON_BYTES_MAX).read_to_end(&mut reason);
        }
        let reason = String::from_utf8_lossy(&reason);
        Err(Refused::Bad(match status.code() {
            // What the child says by itself.
            Some(1) => reason.trim().to_owned(),
            _ => self.fault(status, reason.trim()),
        }))
    }

    /// `None` where the time was up. A child that writes more than its standard error holds would
    /// wait for ever, but it writes one sentence.
    fn wait(&self, child: &mut Child) -> io::Result<Option<ExitStatus>> {
        let until = Instant::now() + self.deadline;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(Some(status));
            }
            if Instant::now() >= until {
                return Ok(None);
            }
            // Portable, and nothing to the seconds that a conversion takes.
            std::thread::sleep(LOOK_EVERY);
        }
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

/// A child that does not outlive us.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Both fail where it has ended, which is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
