//! Signals of Linux and Android. The flags of the exception are `si_code`.

use super::crash::Crash;
use super::traps;

pub(super) fn text(crash: &Crash) -> Option<String> {
    const SIGILL: u32 = 4;
    const SIGTRAP: u32 = 5;
    const SIGABRT: u32 = 6;
    const SIGBUS: u32 = 7;
    const SIGFPE: u32 = 8;
    const SIGSEGV: u32 = 11;
    const SIGPIPE: u32 = 13;
    const SIGXCPU: u32 = 24;
    const SIGXFSZ: u32 = 25;
    const SIGSYS: u32 = 31;
    /// `si_code` of a signal that a thread has sent, and of one that the kernel raises without details. 0 would
    /// be `kill`, but old clients always write 0.
    const SI_TKILL: u32 = -6_i32 as u32;
    const SI_KERNEL: u32 = 0x80;

    if let SIGILL | SIGTRAP = crash.code
        && let Some(text) = traps::text(crash)
    {
        return Some(text);
    }
    let text = match (crash.code, crash.flags) {
        (SIGABRT, _) => "the program aborted itself",
        (SIGSEGV | SIGBUS | SIGILL | SIGFPE, SI_TKILL) => {
            "a process sent this signal; it is not from the instruction"
        }
        (SIGSEGV, 1) => "there is no memory at the address",
        (SIGSEGV, 2) => "the memory at the address does not allow this access",
        (SIGSEGV, 3) => "the access failed the check of its bounds",
        (SIGSEGV, 4) => "protection keys forbid the access",
        (SIGSEGV, 8 | 9) => "memory tagging (MTE): the pointer has another tag than the memory",
        (SIGSEGV, 10) => "the return address is not that of the shadow stack",
        (SIGSEGV, SI_KERNEL) => "the address is not one that the CPU can use",
        (SIGBUS, 1) => "the address is not aligned",
        (SIGBUS, 2) => "the address is outside of the mapped file, or its data could not be read",
        (SIGBUS, 3) => "the hardware reports an error of this memory",
        (SIGBUS, 4 | 5) => "the hardware reports an error of memory",
        (SIGILL, _) => "the CPU does not know the instruction",
        (SIGFPE, 1) => "a division of integers by zero",
        (SIGFPE, 2) => "the result of an integer operation is too large",
        (SIGFPE, 3) => "a division of floating-point numbers by zero",
        (SIGTRAP, _) => "a breakpoint, or a trap in the code",
        (SIGPIPE, _) => "the program wrote to a pipe or socket that nobody reads",
        (SIGXCPU, _) => "the program used more CPU time than it may",
        (SIGXFSZ, _) => "the program wrote a larger file than it may",
        (SIGSYS, _) => "the sandbox forbids the system call",
        (u32::MAX, _) => "the program asked for the dump; it did not crash",
        _ => return None,
    };
    Some(text.to_owned())
}
