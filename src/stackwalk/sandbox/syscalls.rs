//! Restricts a walker, after its start, to reading symbols (ADR 16).
//!
//! There are two restrictions, each used if the kernel supports it. Either of them alone prevents writing
//! files, TCP connections, starting programs and signals to the parent. Landlock (Linux 5.13, networks 6.7)
//! refuses every file outside the symbol folders, and every TCP port. Seccomp refuses every system call that
//! a walk does not need. Of the calls that a walk needs, open is limited to reading, limits and signals to
//! the walker itself, and fcntl to four commands. A refused call returns "not permitted" and does not kill
//! the process, because a future C library may try a call that we do not know and work without it.
//!
//! A kernel without them still runs walks. `crashkeep walker --self-test` reports what is refused.

use std::path::PathBuf;

/// Which restrictions are active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::stackwalk) struct Restrictions {
    /// Files, and TCP ports if the kernel supports that.
    pub(in crate::stackwalk) has_landlock: bool,
    pub(in crate::stackwalk) has_seccomp: bool,
}

#[cfg(not(target_os = "linux"))]
pub(in crate::stackwalk) fn restrict(_: &[PathBuf]) -> Restrictions {
    Restrictions {
        has_landlock: false,
        has_seccomp: false,
    }
}

#[cfg(target_os = "linux")]
pub(in crate::stackwalk) use linux::restrict;

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::BTreeMap;

    use landlock::{
        ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
        RulesetStatus, Scope, path_beneath_rules,
    };
    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
        SeccompRule,
    };

    use super::*;

    /// Restricts this process permanently. Folders that do not exist yet will not be readable.
    pub(in crate::stackwalk) fn restrict(readable: &[PathBuf]) -> Restrictions {
        // In this order: seccomp refuses the calls that set up Landlock.
        let has_landlock =
            landlock(readable).is_ok_and(|status| status != RulesetStatus::NotEnforced);
        let has_seccomp = seccomp().is_ok();
        Restrictions {
            has_landlock,
            has_seccomp,
        }
    }

    fn landlock(readable: &[PathBuf]) -> Result<RulesetStatus, RulesetError> {
        // An older kernel ignores what it does not support of this.
        let abi = ABI::V6;
        let status = Ruleset::default()
            .handle_access(AccessFs::from_all(abi))?
            .handle_access(AccessNet::from_all(abi))?
            .scope(Scope::from_all(abi))?
            .create()?
            .add_rules(path_beneath_rules(
                readable,
                AccessFs::ReadFile | AccessFs::ReadDir,
            ))?
            .restrict_self()?;
        Ok(status.ruleset)
    }

    /// System calls of a walk that are allowed with any arguments.
    const CALLS: [i64; 38] = [
        // Pipes, and files that were opened.
        libc::SYS_read,
        libc::SYS_readv,
        libc::SYS_pread64,
        libc::SYS_write,
        libc::SYS_writev,
        libc::SYS_close,
        libc::SYS_lseek,
        libc::SYS_fstat,
        libc::SYS_newfstatat,
        libc::SYS_statx,
        libc::SYS_getdents64,
        libc::SYS_readlinkat,
        libc::SYS_faccessat,
        libc::SYS_fadvise64,
        libc::SYS_getcwd,
        // Memory.
        libc::SYS_brk,
        libc::SYS_mmap,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_mprotect,
        libc::SYS_madvise,
        // Its only thread, and its exit.
        libc::SYS_futex,
        libc::SYS_sched_yield,
        libc::SYS_sched_getaffinity,
        libc::SYS_getpid,
        libc::SYS_getppid,
        libc::SYS_gettid,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        libc::SYS_restart_syscall,
        libc::SYS_exit,
        libc::SYS_exit_group,
        // Clocks and randomness.
        libc::SYS_clock_gettime,
        libc::SYS_clock_nanosleep,
        libc::SYS_gettimeofday,
        libc::SYS_getrandom,
    ];

    /// The fcntl commands of a walk. Other commands make the kernel send signals, also to the server
    /// (F_SETOWN, F_SETSIG, F_NOTIFY), or lock files.
    const FCNTL_COMMANDS: [i32; 4] = [
        libc::F_DUPFD_CLOEXEC,
        libc::F_GETFD,
        libc::F_SETFD,
        libc::F_GETFL,
    ];

    fn seccomp() -> Result<(), Box<dyn std::error::Error>> {
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
            CALLS.iter().map(|call| (*call, vec![])).collect();
        let writes = libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC | libc::O_TMPFILE;
        // O_TMPFILE includes O_DIRECTORY: an unnamed temporary file is a folder opened for writing.
        let writes = (writes & !libc::O_DIRECTORY) as u64;
        rules.insert(
            libc::SYS_openat,
            only(2, SeccompCmpOp::MaskedEq(writes), 0)?,
        );
        // musl still uses the old calls, where the CPU has them.
        #[cfg(target_arch = "x86_64")]
        {
            rules.insert(libc::SYS_open, only(1, SeccompCmpOp::MaskedEq(writes), 0)?);
            rules.insert(libc::SYS_stat, vec![]);
            rules.insert(libc::SYS_lstat, vec![]);
        }
        let commands = FCNTL_COMMANDS.iter().map(|command| {
            let condition = SeccompCondition::new(
                1,
                SeccompCmpArgLen::Dword,
                SeccompCmpOp::Eq,
                *command as u64,
            )?;
            SeccompRule::new(vec![condition])
        });
        rules.insert(libc::SYS_fcntl, commands.collect::<Result<_, _>>()?);
        // Its own limits, by the number 0, and the signal with which an aborting program ends itself.
        rules.insert(libc::SYS_prlimit64, only(0, SeccompCmpOp::Eq, 0)?);
        let own = u64::from(std::process::id());
        rules.insert(libc::SYS_tgkill, only(0, SeccompCmpOp::Eq, own)?);
        // musl's abort. The only thread has the number of the process.
        rules.insert(libc::SYS_tkill, only(0, SeccompCmpOp::Eq, own)?);
        rules.insert(libc::SYS_kill, only(0, SeccompCmpOp::Eq, own)?);
        let filter = SeccompFilter::new(
            rules,
            SeccompAction::Errno(libc::EPERM as u32),
            SeccompAction::Allow,
            std::env::consts::ARCH.try_into()?,
        )?;
        let program: BpfProgram = filter.try_into()?;
        Ok(seccompiler::apply_filter(&program)?)
    }

    fn only(
        argument: u8,
        is: SeccompCmpOp,
        value: u64,
    ) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
        let length = SeccompCmpArgLen::Dword;
        let condition = SeccompCondition::new(argument, length, is, value)?;
        Ok(vec![SeccompRule::new(vec![condition])?])
    }
}
