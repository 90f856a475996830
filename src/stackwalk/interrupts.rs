//! Code that was interrupted by a signal: the registers that the kernel of Linux saved on the stack of the
//! signal handler.
//!
//! A handler returns to a few instructions of libc or of the kernel (`__restore_rt`,
//! `__kernel_rt_sigreturn`), at which the stack pointer points to the saved registers. Only some symbol files
//! have unwind rules or a name for that code, and no rules say that the instruction found there was not a
//! call. So it is recognised by what the kernel writes. This must be checked for every frame, so the first
//! word that is read rules out nearly everything.
//!
//! The layouts are those of `struct rt_sigframe` in Linux (arch/x86, arch/arm64) and never change, because
//! programs read them.

/// Limit of signal handlers on one stack. Each may lead to another stack, so progress is not certain.
pub(super) const INTERRUPTS_MAX: usize = 8;

/// Signals have these numbers.
const SIGNALS: std::ops::RangeInclusive<u64> = 1..=64;
const SIGBUS: u64 = 7;
const SIGSEGV: u64 = 11;
/// `si_code` of SIGSEGV and SIGBUS that the kernel raises for a wrong access. Other values mean `kill`.
const FAULT_CODES: std::ops::RangeInclusive<u64> = 1..=16;

/// The registers of interrupted code, in the order of [`super::amd64`].
pub(super) struct Amd64 {
    pub(super) registers: [u64; 17],
    /// The instruction's address, if the signal was raised because it cannot be executed.
    pub(super) not_executable: Option<u64>,
}

/// Reads `struct ucontext` of x86-64 at an address. `word` reads memory.
pub(super) fn amd64(at: u64, word: impl Fn(u64) -> Option<u64>) -> Option<Amd64> {
    /// Offsets in `struct rt_sigframe` without the return address.
    const LINK: u64 = 8;
    const REGISTERS: u64 = 40;
    const SEGMENTS: u64 = 184;
    const CR2: u64 = 216;
    const FLOATS: u64 = 224;
    const SIGINFO: u64 = 304;
    /// Where the kernel saves rax, rdx, rcx, rbx, rsi, rdi, rbp, rsp, r8 to r15, rip: in words.
    const ORDER: [u64; 17] = [13, 12, 14, 11, 9, 8, 10, 15, 0, 1, 2, 3, 4, 5, 6, 7, 16];
    /// The code segment of a 64-bit program, and its stack segment, which old kernels do not save.
    const CODE: u64 = 0x33;
    const CODE_AND_STACK: u64 = 0x2b << 48 | CODE;
    /// Flags of a context that the kernel has written.
    const FLAGS: u64 = 7;

    let read = |offset: u64| word(at.checked_add(offset)?);
    if !matches!(read(SEGMENTS)?, CODE | CODE_AND_STACK) {
        return None;
    }
    let floats = read(FLOATS)?;
    let is_saved_above = floats == 0 || floats > at && floats % 16 == 0;
    if read(0)? & !FLAGS != 0 || read(LINK)? != 0 || !is_saved_above {
        return None;
    }
    let signal = signal(&read, SIGINFO)?;
    let mut registers = [0; 17];
    for (register, place) in registers.iter_mut().zip(ORDER) {
        *register = read(REGISTERS + place * 8)?;
    }
    let rip = registers[16];
    let not_executable = (signal.is_fault && read(CR2)? == rip).then_some(rip);
    Some(Amd64 {
        registers,
        not_executable,
    })
}

/// The registers of interrupted code on ARM64.
pub(super) struct Arm64 {
    /// x0 to x30.
    pub(super) registers: [u64; 31],
    pub(super) sp: u64,
    pub(super) pc: u64,
    pub(super) not_executable: Option<u64>,
}

/// Reads `struct rt_sigframe` of ARM64 at an address. `word` reads memory.
pub(super) fn arm64(at: u64, word: impl Fn(u64) -> Option<u64>) -> Option<Arm64> {
    const FLAGS: u64 = 128;
    const LINK: u64 = 136;
    const FAULT: u64 = 304;
    const REGISTERS: u64 = 312;
    const SP: u64 = 560;
    const PC: u64 = 568;
    const STATE: u64 = 576;
    const RECORDS: u64 = 592;
    /// The first record after the registers has the vector registers.
    const FPSIMD: u64 = 0x4650_8001;
    /// The exception level and the 32-bit mode: zero in 64-bit programs.
    const MODE: u64 = 0x1f;

    let read = |offset: u64| word(at.checked_add(offset)?);
    if read(RECORDS)? & 0xffff_ffff != FPSIMD {
        return None;
    }
    if read(FLAGS)? != 0 || read(LINK)? != 0 || read(STATE)? & MODE != 0 {
        return None;
    }
    let signal = signal(&read, 0)?;
    let mut registers = [0; 31];
    for (number, register) in (0..).zip(&mut registers) {
        *register = read(REGISTERS + number * 8)?;
    }
    let pc = read(PC)?;
    Some(Arm64 {
        registers,
        sp: read(SP)?,
        pc,
        not_executable: (signal.is_fault && read(FAULT)? == pc).then_some(pc),
    })
}

struct Signal {
    /// The CPU could not access an address.
    is_fault: bool,
}

/// Reads `siginfo_t`; `None` if it is none.
fn signal(read: &impl Fn(u64) -> Option<u64>, offset: u64) -> Option<Signal> {
    let number = read(offset)? & 0xffff_ffff;
    let code = read(offset + 8)? & 0xffff_ffff;
    SIGNALS.contains(&number).then(|| Signal {
        is_fault: matches!(number, SIGBUS | SIGSEGV) && FAULT_CODES.contains(&code),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: u64 = 0x7000;

    /// A frame of words at [`AT`].
    fn frame(words: &[(u64, u64)]) -> impl Fn(u64) -> Option<u64> {
        let mut frame = vec![0; 90];
        for (offset, value) in words {
            frame[*offset as usize / 8] = *value;
        }
        move |at| {
            let offset = at.checked_sub(AT)?;
            frame.get((offset / 8) as usize).copied()
        }
    }

    #[test]
    fn registers_that_the_kernel_of_x86_64_saved_are_found() {
        let words = [
            (0, 7),
            (120, 0xb9),
            (160, 0x7fff_0000),
            (168, 0x40_1000),
            (184, 0x2b_0000_0000_0033),
            (216, 0x40_1000),
            (224, 0x8000),
            (304, 11),
            (312, 1),
        ];
        let saved = amd64(AT, frame(&words)).unwrap();
        let [rbp, rsp, rip] = [6, 7, 16].map(|register| saved.registers[register]);
        assert_eq!((rbp, rsp, rip), (0xb9, 0x7fff_0000, 0x40_1000));
        assert_eq!(saved.not_executable, Some(0x40_1000));
        // Each of these alone shows that the kernel did not write it.
        for wrong in [
            (0, 8),
            (8, AT),
            (184, 0x34),
            (184, 0x2b_0000_0001_0033),
            (224, 0x100),
            (224, 0x8008),
            (304, 0),
            (304, 65),
        ] {
            let words: Vec<_> = words.iter().copied().chain([wrong]).collect();
            assert!(amd64(AT, frame(&words)).is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn registers_that_the_kernel_of_arm64_saved_are_found() {
        let words = [
            (0, 11),
            (8, 2),
            (304, 0x1234),
            (312 + 29 * 8, 0xf9),
            (312 + 30 * 8, 0x40_2000),
            (560, 0x7fff_0000),
            (568, 0x40_1000),
            (576, 0x6000_0000),
            (592, 0x210_4650_8001),
        ];
        let saved = arm64(AT, frame(&words)).unwrap();
        assert_eq!((saved.sp, saved.pc), (0x7fff_0000, 0x40_1000));
        assert_eq!(
            (saved.registers[29], saved.registers[30]),
            (0xf9, 0x40_2000)
        );
        assert_eq!(saved.not_executable, None);
        for wrong in [(0, 0), (0, 65), (128, 1), (136, 8), (576, 4), (592, 0)] {
            let words: Vec<_> = words.iter().copied().chain([wrong]).collect();
            assert!(arm64(AT, frame(&words)).is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn a_frame_at_the_end_of_memory_or_of_the_address_space_is_none() {
        for at in [
            AT + 600,
            AT + 1,
            u64::MAX,
            u64::MAX - 184,
            u64::MAX - 592,
            0,
        ] {
            assert!(amd64(at, frame(&[(184, 0x33)])).is_none());
            assert!(arm64(at, frame(&[(592, 0x4650_8001)])).is_none());
        }
    }
}
