//! Exceptions of macOS and iOS. `EXC_RESOURCE` and `EXC_GUARD` pack several numbers into their code.
//!
//! The layouts are those of XNU (osfmk/kern/exc_resource.h, exc_guard.h).

use super::crash::Crash;
use super::traps;

pub(super) fn text(crash: &Crash) -> Option<String> {
    const EXC_BAD_ACCESS: u32 = 1;
    const EXC_BAD_INSTRUCTION: u32 = 2;
    const EXC_ARITHMETIC: u32 = 3;
    const EXC_SOFTWARE: u32 = 5;
    const EXC_BREAKPOINT: u32 = 6;
    const EXC_RESOURCE: u32 = 11;
    const EXC_GUARD: u32 = 12;
    const KERN_INVALID_ADDRESS: u32 = 1;
    const KERN_PROTECTION_FAILURE: u32 = 2;
    const KERN_CODESIGN_ERROR: u32 = 50;
    /// Codes that Breakpad and Crashpad write.
    const ABORT: u32 = 0x1_0002;
    const NS_EXCEPTION: u32 = 0xdead_c0de;
    const SIMULATED: u32 = 0x4350_7378;

    let code = crash.parameter(0).zip(crash.parameter(1));
    let text = match (crash.code, crash.flags) {
        (EXC_RESOURCE, _) => return code.and_then(|(code, subcode)| resource(code, subcode)),
        (EXC_GUARD, _) => return code.and_then(|(code, subcode)| guard(code, subcode)),
        (EXC_BAD_INSTRUCTION | EXC_BREAKPOINT, _) => return traps::text(crash),
        (EXC_BAD_ACCESS, KERN_INVALID_ADDRESS) => "there is no memory at the address",
        (EXC_BAD_ACCESS, KERN_PROTECTION_FAILURE) => {
            "the memory at the address does not allow this access"
        }
        (EXC_BAD_ACCESS, KERN_CODESIGN_ERROR) => {
            "the signature of the code does not match: the file was changed while it was in use"
        }
        (EXC_ARITHMETIC, _) => "an arithmetic error, such as a division by zero",
        (EXC_SOFTWARE, ABORT) => "the program aborted itself",
        (EXC_SOFTWARE, NS_EXCEPTION) => "an Objective-C exception was not caught",
        (SIMULATED, _) => "the program asked for the dump; it did not crash",
        _ => return None,
    };
    Some(text.to_owned())
}

fn bits(value: u64, from: u32, count: u32) -> u64 {
    value >> from & ((1 << count) - 1)
}

fn resource(code: u64, subcode: u64) -> Option<String> {
    let flavor = bits(code, 58, 3);
    Some(match bits(code, 61, 3) {
        1 => format!(
            "the program used too much CPU time: {} % in {} s, allowed are {} %",
            bits(subcode, 0, 7),
            bits(code, 7, 25),
            bits(code, 0, 7)
        ),
        2 => format!(
            "the program woke up the CPU too often: {} times per second in {} s, allowed are {}",
            bits(subcode, 0, 12),
            bits(code, 20, 20),
            bits(code, 0, 12)
        ),
        3 => format!(
            "the program used more memory than allowed: the limit is {} MB",
            bits(code, 0, 13)
        ),
        4 => format!(
            "the program {} too much to disk: {} MB in {} s, allowed are {} MB",
            if flavor == 1 {
                "wrote"
            } else {
                "read or wrote"
            },
            bits(subcode, 0, 15),
            bits(code, 15, 17),
            bits(code, 0, 15)
        ),
        5 => format!(
            "the program has more threads than allowed: the limit is {}",
            bits(code, 0, 15)
        ),
        _ => return None,
    })
}

fn guard(code: u64, subcode: u64) -> Option<String> {
    let target = code & 0xffff_ffff;
    let flavor = bits(code, 32, 29);
    Some(match bits(code, 61, 3) {
        1 => {
            let what = match flavor {
                1 => "was destroyed",
                2 => "lost or got a right",
                4 => "got another context",
                8 => "is not guarded, but was treated as if it were",
                16 => "was used with the wrong guard",
                32 => "cannot be moved",
                _ => "was used in a forbidden way",
            };
            format!("the guarded Mach port {target:#x} {what} (guard {subcode:#x})")
        }
        2 => {
            let what = match flavor {
                1 => "was closed",
                2 => "was duplicated",
                4 => "lost its close-on-exec flag",
                8 => "was sent through a socket",
                16 => "was made a fileport",
                32 => "was used with the wrong guard",
                64 => "was written to",
                _ => "was used in a forbidden way",
            };
            format!("the guarded file descriptor {target} {what} (guard {subcode:#x})")
        }
        3 => format!("a library stopped the program (namespace {target}, reason {subcode:#x})"),
        4 => format!("a guarded file was changed (guard {subcode:#x})"),
        5 => format!("guarded memory was released at {subcode:#x}"),
        6 => format!("the sandbox forbids the system call {subcode}"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use minidump::system_info::{Cpu, Os};

    use super::super::tests::{Pieces, said};

    #[track_caller]
    fn check(exception: u32, code: u64, subcode: u64, text: Option<&str>) {
        let place = (Os::MacOs, Cpu::Arm64);
        let said = said(place, (exception, 0), &[code, subcode], &Pieces::default());
        assert_eq!(said.as_deref(), text);
    }

    #[test]
    fn the_numbers_of_resources_and_guards_are_unpacked() {
        check(
            11,
            1 << 61 | 1 << 58 | 180 << 7 | 50,
            97,
            Some("the program used too much CPU time: 97 % in 180 s, allowed are 50 %"),
        );
        check(
            11,
            3 << 61 | 1 << 58 | 2098,
            0,
            Some("the program used more memory than allowed: the limit is 2098 MB"),
        );
        check(
            12,
            2 << 61 | 1 << 32 | 17,
            0xbeef,
            Some("the guarded file descriptor 17 was closed (guard 0xbeef)"),
        );
        check(
            12,
            1 << 61 | 2 << 32 | 0x103,
            0,
            Some("the guarded Mach port 0x103 lost or got a right (guard 0x0)"),
        );
        check(11, u64::MAX, u64::MAX, None);
        check(12, 0, 0, None);
    }
}
