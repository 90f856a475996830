//! Instructions that compilers put where a program must not go on.
//!
//! Clang's checks for undefined behaviour (`-fsanitize=... -fsanitize-trap`) put the number of the check into
//! the instruction: `ud1l N(%eax), %eax` on x86-64, `brk #0x5500 + N` on ARM64.

use minidump::system_info::Cpu;

use super::crash::Crash;

/// The checks of clang, by number (its list of sanitizer handlers).
const CHECKS: [&str; 25] = [
    "an addition overflowed",
    "unreachable code was reached",
    "control flow integrity: a call or a cast to a wrong type",
    "a division overflowed or was by zero",
    "an object has another dynamic type than expected",
    "a floating-point number does not fit into the type it was converted to",
    "a function was called through a pointer of the wrong type",
    "an implicit conversion changed a value",
    "a built-in function got an invalid argument",
    "an invalid Objective-C cast",
    "a value is not valid for its type (bool or enum)",
    "a function that returns a value ended without one",
    "a multiplication overflowed",
    "a negation overflowed",
    "null was passed as an argument that must not be null",
    "null was returned where it must not be",
    "null was passed as an argument that must not be null",
    "null was returned where it must not be",
    "an array index is out of bounds",
    "arithmetic on a pointer overflowed",
    "a shift is too large or of a negative value",
    "a subtraction overflowed",
    "a pointer is null, misaligned or to an object of the wrong type",
    "an assumption about alignment is wrong",
    "the length of an array is not positive",
];

/// The text for the instruction at which a program stopped with an illegal instruction or a breakpoint.
pub(super) fn text(crash: &Crash) -> Option<String> {
    let at = crash.instruction?;
    let check = match crash.cpu {
        Cpu::X86 | Cpu::X86_64 => match crash.memory.bytes(at) {
            Some([0x67, 0x0f, 0xb9, 0x40, check]) => check,
            Some([0x0f, 0xb9, 0x40, check, _]) => check,
            Some([0x0f, 0x0b, ..]) => return Some(TRAP.to_owned()),
            _ => return None,
        },
        Cpu::Arm64 => {
            let instruction = crash.memory.u32(at)?;
            let operand = (instruction >> 5) & 0xffff;
            match (instruction & 0xffe0_001f, operand) {
                (0xd420_0000, 0x5500..=0x55ff) => operand as u8,
                (0xd420_0000, 1) => return Some(TRAP.to_owned()),
                _ => return None,
            }
        }
        _ => return None,
    };
    let check = CHECKS.get(usize::from(check))?;
    Some(format!("UndefinedBehaviorSanitizer: {check}"))
}

const TRAP: &str = "a trap that compilers put where a program must not go on: a failed check, or code that \
                    cannot be reached";

#[cfg(test)]
mod tests {
    use minidump::system_info::Os;

    use super::super::tests::{Pieces, said};
    use super::*;

    #[test]
    fn the_number_in_a_trap_is_a_check() {
        let text = |cpu, code: u32, bytes: &[u8]| {
            let mut pieces = Pieces::default();
            pieces.put(0x40_1000, bytes);
            said((Os::Linux, cpu), (code, 2), &[], &pieces).unwrap()
        };
        let index = "UndefinedBehaviorSanitizer: an array index is out of bounds";
        assert_eq!(text(Cpu::X86_64, 4, &[0x67, 0x0f, 0xb9, 0x40, 18]), index);
        assert_eq!(text(Cpu::X86_64, 4, &[0x0f, 0xb9, 0x40, 18, 0]), index);
        let brk = |operand: u32| (0xd420_0000 | operand << 5).to_le_bytes();
        assert_eq!(text(Cpu::Arm64, 5, &brk(0x5512)), index);
        assert_eq!(text(Cpu::Arm64, 5, &brk(1)), TRAP);
        assert_eq!(text(Cpu::X86_64, 4, &[0x0f, 0x0b, 0, 0, 0]), TRAP);
        // A check of a newer compiler, other code, and no code.
        let illegal = "the CPU does not know the instruction";
        assert_eq!(text(Cpu::X86_64, 4, &[0x67, 0x0f, 0xb9, 0x40, 99]), illegal);
        assert_eq!(text(Cpu::X86_64, 4, &[0x90; 5]), illegal);
        assert_eq!(text(Cpu::X86_64, 4, &[]), illegal);
    }
}
