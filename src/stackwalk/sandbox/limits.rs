//! The limits that a walker sets on itself before it reads a byte of a dump.
//!
//! | limit | what it stops | how it shows |
//! |---|---|---|
//! | data | a dump that multiplies into gigabytes | an allocation fails, the process aborts |
//! | address space | the same through mappings | the same |
//! | CPU, per job | a walk that does not end | SIGXCPU |
//! | core 0 | core dumps on the disk | |
//! | parent death | a walker that outlives its server | SIGKILL |
//!
//! Only on Linux. On other systems the parent's deadline is the only limit.

use std::io;

/// Limits in bytes; `None` leaves the limit that the process started with.
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
pub(in crate::stackwalk) struct Limits {
    pub(in crate::stackwalk) heap_bytes: Option<u64>,
    pub(in crate::stackwalk) address_bytes: Option<u64>,
}

#[cfg(target_os = "linux")]
mod linux {
    use super::*;

    use rustix::process::{
        Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit,
    };
    use rustix::time::{ClockId, clock_gettime};

    /// Sets the limits permanently: the hard limits are lowered together with the soft ones.
    pub(in crate::stackwalk) fn set_limits(limits: &Limits) -> io::Result<()> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        lower(Resource::Core, Some(0))?;
        lower(Resource::Data, limits.heap_bytes)?;
        lower(Resource::As, limits.address_bytes)
    }

    fn lower(resource: Resource, limit: Option<u64>) -> io::Result<()> {
        let Some(limit) = limit else { return Ok(()) };
        // A limit that is already lower, such as a container's, cannot be raised and does not have to be.
        let limit = getrlimit(resource)
            .maximum
            .map_or(limit, |max| max.min(limit));
        let limit = Rlimit {
            current: Some(limit),
            maximum: Some(limit),
        };
        Ok(setrlimit(resource, limit)?)
    }

    /// Limits the size of every file that this process writes.
    pub(in crate::stackwalk) fn allow_file(bytes: u64) -> io::Result<()> {
        lower(Resource::Fsize, Some(bytes))
    }

    /// Allows `seconds` of CPU time from now on. The kernel counts the CPU time of the whole process, so each
    /// job moves the soft limit. The hard limit does not change.
    pub(in crate::stackwalk) fn allow_cpu(seconds: u64) -> io::Result<()> {
        let used = clock_gettime(ClockId::ProcessCPUTime).tv_sec.max(0) as u64;
        let maximum = getrlimit(Resource::Cpu).maximum;
        // The limit has whole seconds only. One more, so that a job never gets less than its budget.
        let limit = used.saturating_add(seconds).saturating_add(1);
        let limit = Rlimit {
            current: Some(maximum.map_or(limit, |max| max.min(limit))),
            maximum,
        };
        Ok(setrlimit(Resource::Cpu, limit)?)
    }
}

#[cfg(target_os = "linux")]
pub(in crate::stackwalk) use linux::{allow_cpu, allow_file, set_limits};

#[cfg(not(target_os = "linux"))]
pub(in crate::stackwalk) fn set_limits(_: &Limits) -> io::Result<()> {
    Ok(())
}

#[cfg(not(target_os = "linux"))]
pub(in crate::stackwalk) fn allow_file(_: u64) -> io::Result<()> {
    Ok(())
}

#[cfg(not(target_os = "linux"))]
pub(in crate::stackwalk) fn allow_cpu(_: u64) -> io::Result<()> {
    Ok(())
}
