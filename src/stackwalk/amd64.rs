//! Unwinding on x86-64, where most crashes come from (ADR 20).
//!
//! It finds the same frames as minidump-unwind 0.27, by the same three methods in the same order: unwind
//! rules, frame pointers, scanning. Tests compare the two on mutated stacks. For each frame, the crate moves
//! 1.8 KB several times and keeps the known registers in a hash set. Here a caller is seventeen words and a
//! mask.
//!
//! With [`Mode::True`], it also follows calls of wild pointers and signal handlers (`interrupts`), and a
//! stack ends at `_start`.

use minidump::system_info::Os;
use minidump::{MinidumpContext, MinidumpModule, MinidumpModuleList, MinidumpRawContext};
use minidump::{UnifiedMemory, UnifiedMemoryList};
use minidump_unwind::{FrameTrust, FrameWalker, SystemInfo};

use super::frame::{Caller, Frame, Reach, Stack};
use super::interrupts::{self, INTERRUPTS_MAX};
use super::mode::Mode;
use super::provider::Provider;

const WORD: u64 = 8;
/// A return address below this is invalid: the stack has ended.
const NULL_PAGE_END: u64 = 4096;
/// Number of words that are scanned for a return address.
const SCAN_WORDS: u64 = 40;
/// The same for a frame that is certain: there may be code made at run time between it and the next frame.
const SCAN_WORDS_FROM_SURE: u64 = 160;
/// Limit of the distance between a saved frame pointer and the place where it is saved.
const FRAME_BYTES_MAX: u64 = 128 * 1024;
/// On Windows the frame pointer may point into the middle of the frame, at a multiple of 16 bytes up to 240.
const WINDOWS_FRAME_OFFSETS: u64 = 16;
const WINDOWS_FRAME_STEP: u64 = 16;

const NAMES: [&str; 17] = [
    "rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15", "rip",
];
const RBP: usize = 6;
const RSP: usize = 7;
const RIP: usize = 16;
/// Callee-saved registers: rbx, rbp, r12 to r15.
const SAVED: u32 = 1 << 3 | 1 << RBP | 0b1111 << 12;

/// A name of at most seven bytes as one word. A leading one marks its length.
const fn word_of(name: &str) -> u64 {
    let (bytes, mut word, mut at) = (name.as_bytes(), 1, 0);
    while at < bytes.len() {
        word = word << 8 | bytes[at] as u64;
        at += 1;
    }
    word
}

const WORDS: [u64; NAMES.len()] = {
    let (mut words, mut register) = ([0; NAMES.len()], 0);
    while register < words.len() {
        words[register] = word_of(NAMES[register]);
        register += 1;
    }
    words
};

/// The number of a register. It must be fast, because unwind rules name several registers for each frame.
fn number(name: &str) -> Option<usize> {
    if name.len() > 7 {
        return None;
    }
    let word = word_of(name);
    WORDS.iter().position(|known| *known == word)
}

/// Registers, and which of them are known.
#[derive(Clone, Copy)]
struct Registers {
    values: [u64; NAMES.len()],
    known: u32,
}

impl Registers {
    fn of(context: &MinidumpContext) -> Option<Self> {
        let MinidumpRawContext::Amd64(_) = context.raw else {
            return None;
        };
        let mut registers = Self::unknown();
        for (register, name) in NAMES.iter().enumerate() {
            match context.get_register(name) {
                Some(value) => registers.set(register, value),
                // The crate also reads registers that are not known.
                None => registers.values[register] = context.get_register_always(name),
            }
        }
        Some(registers)
    }

    fn unknown() -> Self {
        Self {
            values: [0; NAMES.len()],
            known: 0,
        }
    }

    fn set(&mut self, register: usize, value: u64) {
        self.values[register] = value;
        self.known |= 1 << register;
    }

    fn is_known(&self, register: usize) -> bool {
        self.known & 1 << register != 0
    }

    fn get(&self, register: usize) -> Option<u64> {
        self.is_known(register).then_some(self.values[register])
    }

    /// The registers of a caller: its instruction, its stack pointer, and its frame pointer if known.
    fn caller(rip: u64, rsp: u64, rbp: Option<u64>) -> Self {
        let mut caller = Self::unknown();
        caller.set(RIP, rip);
        caller.set(RSP, rsp);
        if let Some(rbp) = rbp {
            caller.set(RBP, rbp);
        }
        caller
    }
}

/// The registers of code that a signal handler interrupted.
struct Interrupted {
    registers: Registers,
    not_executable: Option<u64>,
}

impl Registers {
    /// The registers that the kernel has saved at the callee's stack pointer, if the callee is the code to
    /// which a signal handler returns.
    fn interrupted(callee: &Callee) -> Option<Interrupted> {
        let saved = interrupts::amd64(callee.registers.get(RSP)?, |at| callee.word(at))?;
        let mut registers = Self::unknown();
        for (register, value) in saved.registers.into_iter().enumerate() {
            registers.set(register, value);
        }
        Some(Interrupted {
            registers,
            not_executable: saved.not_executable,
        })
    }
}

/// The data that unwinding one thread reads.
pub(super) struct Unwinder<'a, 's> {
    pub(super) modules: &'a MinidumpModuleList,
    pub(super) memory: Option<UnifiedMemory<'s, 's>>,
    /// All memory of the dump: a signal handler may have another stack than the code that it interrupted.
    pub(super) memories: &'s UnifiedMemoryList<'s>,
    pub(super) system: &'s SystemInfo,
    pub(super) provider: &'s Provider<'s>,
    /// The address that the CPU could not execute, if this is why the thread crashed.
    pub(super) not_executable: Option<u64>,
}

impl<'a> Unwinder<'a, '_> {
    /// Fills the stack, starting with the registers of its innermost frame. Returns false if they are not
    /// those of x86-64.
    pub(super) fn unwind(
        &self,
        stack: &mut Stack<'a>,
        context: &MinidumpContext,
        reach: Reach,
    ) -> bool {
        let Some(mut registers) = Registers::of(context) else {
            return false;
        };
        let is_true = self.provider.mode == Mode::True;
        let has_signals = is_true && matches!(self.system.os, Os::Linux | Os::Android);
        let mut memory = self.memory.filter(|memory| memory.memory_range().is_some());
        let mut instruction = registers.values[RIP];
        let mut trust = FrameTrust::Context;
        let mut grand_callee = None;
        let mut not_executable = self.not_executable;
        let mut interrupts = 0;
        loop {
            let mut frame = Frame::new(instruction, trust, self.modules);
            let module = frame.module;
            if let Some(module) = module {
                // The result does not matter: without symbols, a frame has no name.
                let _ = self.provider.name(module, &mut frame);
                // Symbols report inlined calls from the outermost inwards.
                frame.inlines.reverse();
            }
            let parameter_size = frame.function.as_ref().map_or(0, |f| f.parameter_size);
            let of_name = frame.caller();
            stack.push(frame, reach.kept_max);
            if is_true && of_name == Caller::None {
                break;
            }
            if stack.count >= reach.frames_max {
                stack.is_unfinished = true;
                break;
            }
            let Some(known_memory) = memory else {
                break;
            };
            let callee = Callee {
                registers,
                instruction,
                trust,
                module,
                grand_callee,
                memory: known_memory,
            };
            if has_signals
                && of_name == Caller::MayBeInterrupted
                && interrupts < INTERRUPTS_MAX
                && trust != FrameTrust::Context
                && let Some(interrupted) = Registers::interrupted(&callee)
            {
                interrupts += 1;
                if let Some(trampoline) = stack.last_mut() {
                    trampoline.name_signal_trampoline();
                }
                registers = interrupted.registers;
                not_executable = interrupted.not_executable;
                trust = FrameTrust::Context;
                // Not within a call: the instruction has not been executed.
                instruction = registers.values[RIP];
                grand_callee = None;
                memory = self.memory_at(registers.values[RSP], known_memory);
                continue;
            }
            let Some((caller, found_by)) = self.caller(&callee, not_executable) else {
                break;
            };
            let (rip, rsp) = (caller.values[RIP], caller.values[RSP]);
            // The stack pointer must increase from frame to frame. Otherwise unwinding might not end.
            if rip < NULL_PAGE_END || rsp <= registers.values[RSP] {
                break;
            }
            (registers, trust) = (caller, found_by);
            // An address within the call, because the instruction after it may belong to another function.
            instruction = rip - 1;
            grand_callee = Some(parameter_size);
        }
        true
    }

    /// The memory that contains an address: that of the callee if possible.
    fn memory_at<'m>(
        &'m self,
        at: u64,
        of_callee: UnifiedMemory<'m, 'm>,
    ) -> Option<UnifiedMemory<'m, 'm>> {
        if of_callee.get_memory_at_address::<u64>(at).is_some() {
            return Some(of_callee);
        }
        let memory = self.memories.memory_at_address(at);
        memory.filter(|memory| memory.memory_range().is_some())
    }

    fn caller(
        &self,
        callee: &Callee,
        not_executable: Option<u64>,
    ) -> Option<(Registers, FrameTrust)> {
        if let Some(caller) = self.by_call(callee, not_executable) {
            return Some((caller, FrameTrust::CallFrameInfo));
        }
        if let Some(caller) = self.by_rules(callee) {
            return Some((caller, FrameTrust::CallFrameInfo));
        }
        if let Some(caller) = self.by_frame_pointer(callee) {
            return Some((caller, FrameTrust::FramePointer));
        }
        Some((self.by_scan(callee)?, FrameTrust::Scan))
    }

    /// The caller of a function that does not exist: the call of a wild pointer has pushed its return address
    /// and changed no other register. The frame pointer is still that of the caller, so following it would
    /// skip the caller.
    fn by_call(&self, callee: &Callee, not_executable: Option<u64>) -> Option<Registers> {
        if callee.trust != FrameTrust::Context || self.provider.mode == Mode::Compat {
            return None;
        }
        let (rip, rsp) = (callee.registers.get(RIP)?, callee.registers.get(RSP)?);
        if rip >= NULL_PAGE_END && not_executable != Some(rip) {
            return None;
        }
        // After a `ret` to a wild address, the address itself is below the stack pointer.
        let is_return = rip != 0 && callee.word(rsp.wrapping_sub(WORD)) == Some(rip);
        let return_address = callee.word(rsp).filter(|at| self.may_return_to(*at))?;
        if is_return {
            return None;
        }
        let mut caller = Registers {
            known: callee.registers.known & SAVED,
            ..callee.registers
        };
        caller.set(RIP, return_address);
        caller.set(RSP, rsp.checked_add(WORD)?);
        Some(caller)
    }

    fn by_rules(&self, callee: &Callee) -> Option<Registers> {
        let module = callee.module?;
        callee.registers.get(RSP)?;
        let mut walk = Walk {
            callee,
            caller: Registers {
                known: callee.registers.known & SAVED,
                ..callee.registers
            },
        };
        self.provider.unwind(module, &mut walk)?;
        Some(walk.caller)
    }

    /// The frame pointer points to the saved frame pointer of the caller, and the return address follows it.
    fn by_frame_pointer(&self, callee: &Callee) -> Option<Registers> {
        let (rbp, rsp) = (callee.registers.get(RBP)?, callee.registers.get(RSP)?);
        if rbp >= u64::MAX - 2 * WORD {
            return None;
        }
        let offsets = match self.system.os {
            Os::Windows => WINDOWS_FRAME_OFFSETS,
            _ => 1,
        };
        for offset in 0..offsets {
            let at = rbp.wrapping_add(offset * WINDOWS_FRAME_STEP);
            let caller_rip = callee.word(at.wrapping_add(WORD))?;
            let caller_rbp = callee.word(at)?;
            let caller_rsp = at.wrapping_add(2 * WORD);
            if caller_rsp <= rbp || caller_rbp < caller_rsp {
                continue;
            }
            callee.word(caller_rbp)?;
            let is_on_stack = caller_rsp > rsp && callee.word(caller_rsp).is_some();
            if is_canonical(caller_rip) && is_on_stack {
                return Some(Registers::caller(caller_rip, caller_rsp, Some(caller_rbp)));
            }
        }
        None
    }

    /// The first word on the stack that may be a return address.
    fn by_scan(&self, callee: &Callee) -> Option<Registers> {
        let rsp = callee.registers.get(RSP)?;
        let rbp = callee.registers.get(RBP);
        let words = match callee.trust {
            FrameTrust::Context | FrameTrust::CallFrameInfo => SCAN_WORDS_FROM_SURE,
            _ => SCAN_WORDS,
        };
        for word in 0..words {
            let at = rsp.checked_add(word * WORD)?;
            let rip = callee.word(at)?;
            if !self.may_return_to(rip) {
                continue;
            }
            let caller_rsp = at.checked_add(WORD)?;
            let mut caller_rbp = None;
            // If the first word is the return address, the frame has no room for a frame pointer.
            if let (Some(rbp), 1..) = (rbp, word) {
                let before = at - WORD;
                let saved = callee.word(before)?;
                if rbp == before && saved > at && saved - before <= FRAME_BYTES_MAX {
                    caller_rbp = callee.word(saved).map(|_| saved);
                } else if rbp >= caller_rsp {
                    // The callee has not changed it.
                    caller_rbp = Some(rbp);
                }
            }
            return Some(Registers::caller(rip, caller_rsp, caller_rbp));
        }
        None
    }

    fn may_return_to(&self, address: u64) -> bool {
        // A call that never returns may be the last instruction of its function. So look within the call, as
        // above.
        let instruction = address.saturating_sub(1);
        let module = || self.modules.module_at_address(instruction);
        is_canonical(address)
            && instruction > 0
            && module().is_some_and(|module| self.provider.may_return_to(module, instruction))
    }
}

/// Whether bits 48 to 63 repeat bit 47.
fn is_canonical(address: u64) -> bool {
    !(0x8000_0000_0000..0xffff_8000_0000_0000).contains(&address)
}

/// A frame whose caller we look for.
struct Callee<'s> {
    registers: Registers,
    instruction: u64,
    trust: FrameTrust,
    module: Option<&'s MinidumpModule>,
    /// Bytes of parameters of the function that it called; `None` for the innermost frame.
    grand_callee: Option<u32>,
    memory: UnifiedMemory<'s, 's>,
}

impl Callee<'_> {
    fn word(&self, address: u64) -> Option<u64> {
        self.memory.get_memory_at_address(address)
    }
}

/// A caller while unwind rules are applied.
struct Walk<'s> {
    callee: &'s Callee<'s>,
    caller: Registers,
}

impl FrameWalker for Walk<'_> {
    fn get_instruction(&self) -> u64 {
        self.callee.instruction
    }

    fn has_grand_callee(&self) -> bool {
        self.callee.grand_callee.is_some()
    }

    fn get_grand_callee_parameter_size(&self) -> u32 {
        self.callee.grand_callee.unwrap_or(0)
    }

    fn get_register_at_address(&self, address: u64) -> Option<u64> {
        self.callee.word(address)
    }

    fn get_callee_register(&self, name: &str) -> Option<u64> {
        self.callee.registers.get(number(name)?)
    }

    fn set_caller_register(&mut self, name: &str, value: u64) -> Option<()> {
        self.caller.set(number(name)?, value);
        Some(())
    }

    fn clear_caller_register(&mut self, name: &str) {
        if let Some(register) = number(name) {
            self.caller.known &= !(1 << register);
        }
    }

    fn set_cfa(&mut self, value: u64) -> Option<()> {
        self.caller.set(RSP, value);
        Some(())
    }

    fn set_ra(&mut self, value: u64) -> Option<()> {
        self.caller.set(RIP, value);
        Some(())
    }

    /// Only needed on CPUs where a return address may be in a register.
    fn set_cfi_rules_start_address(&mut self, _: Option<u64>) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_are_known_by_their_whole_names() {
        for (register, name) in NAMES.iter().enumerate() {
            assert_eq!(number(name), Some(register));
        }
        for name in [
            "", "r", "ra", "raxx", "rax\0", "\0rax", "r16", "eax", "$rax", "RAX",
        ] {
            assert_eq!(number(name), None, "{name:?}");
        }
    }
}
