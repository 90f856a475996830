//! The sandbox of a child process that reads a dump or symbols (ADR 16).
//!
//! - `limits`: memory, CPU time and file size.
//! - `syscalls`: which files and system calls it may use.
//! - `self_test`: tries what must be refused, and reports the results.
//!
//! A process enters the sandbox itself, after its start and before it reads data from outside. It cannot leave
//! it again.

mod limits;
mod self_test;
mod syscalls;

use std::io;

pub(super) use limits::{Limits, allow_cpu, set_limits};
pub(super) use self_test::self_test;
pub(super) use syscalls::{Restrictions, restrict};

/// Sets limits for a process that converts one symbol file and ends. It may open no files.
///
/// # Errors
/// A limit cannot be set. The process must end before it reads data from outside.
pub(crate) fn confine_converter(
    heap_bytes: u64,
    file_bytes: u64,
    cpu_seconds: u64,
) -> io::Result<()> {
    set_limits(&Limits {
        heap_bytes: Some(heap_bytes),
        // The file is mapped, so it counts as address space and not as heap.
        address_bytes: None,
    })?;
    limits::allow_file(file_bytes)?;
    allow_cpu(cpu_seconds)?;
    restrict(&[]);
    Ok(())
}
