//! Callers that the unwinder of the minidump crates does not find, on CPUs other than x86-64.
//!
//! The crate follows the frame pointer of a frame without unwind rules. But a function that does not exist (the
//! call of a wild pointer) has not saved one, and its caller is skipped. And the crate does not know signal
//! handlers. Can go when minidump-unwind handles both.

use std::collections::HashSet;

use minidump::{
    CpuContext, MinidumpContext, MinidumpContextValidity, MinidumpRawContext, UnifiedMemory,
};
use minidump_unwind::{FrameTrust, StackFrame};

use super::interrupts;

/// An address below this cannot be executed.
const NULL_PAGE_END: u64 = 4096;
/// Bits of an address in a program on ARM64. The rest may be a signature (pointer authentication).
const ARM64_ADDRESS: u64 = (1 << 48) - 1;
const ARM64_SAVED: [&str; 13] = [
    "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "fp", "sp", "pc",
];
const ARM_SAVED: [&str; 10] = ["r4", "r5", "r6", "r7", "r8", "r9", "r10", "fp", "sp", "pc"];
const X86_SAVED: [&str; 6] = ["ebx", "esi", "edi", "ebp", "esp", "eip"];

/// The frame that called a wild pointer, if the innermost frame is where the pointer led. `is_code` checks
/// its return address.
pub(super) fn caller_of_wild_pointer(
    context: &MinidumpContext,
    not_executable: Option<u64>,
    memory: Option<UnifiedMemory<'_, '_>>,
    is_code: impl Fn(u64) -> bool,
) -> Option<StackFrame> {
    let at = context.get_instruction_pointer();
    if at >= NULL_PAGE_END && not_executable != Some(at) {
        return None;
    }
    let (raw, saved, call): (_, &[&'static str], u64) = match &context.raw {
        MinidumpRawContext::Arm64(callee) => {
            let mut raw = callee.clone();
            let link = callee.get_register_always("lr");
            raw.set_register("pc", plain_address(link, &is_code));
            (MinidumpRawContext::Arm64(raw), &ARM64_SAVED, 4)
        }
        MinidumpRawContext::OldArm64(callee) => {
            let mut raw = *callee;
            let link = callee.get_register_always("lr");
            raw.set_register("pc", plain_address(link, &is_code));
            (MinidumpRawContext::OldArm64(raw), &ARM64_SAVED, 4)
        }
        MinidumpRawContext::Arm(callee) => {
            let mut raw = callee.clone();
            // The lowest bit says that the caller is Thumb code.
            raw.set_register("pc", callee.get_register_always("lr") & !1);
            (MinidumpRawContext::Arm(raw), &ARM_SAVED, 2)
        }
        MinidumpRawContext::X86(callee) => {
            let mut raw = callee.clone();
            let return_address: u32 = memory?.get_memory_at_address(callee.esp.into())?;
            raw.eip = return_address;
            raw.esp = callee.esp.checked_add(4)?;
            (MinidumpRawContext::X86(raw), &X86_SAVED, 1)
        }
        _ => return None,
    };
    let valid: HashSet<&'static str> = saved.iter().copied().collect();
    let valid = MinidumpContextValidity::Some(valid);
    let mut frame =
        StackFrame::from_context(MinidumpContext { raw, valid }, FrameTrust::CallFrameInfo);
    if !is_code(frame.instruction) {
        return None;
    }
    // An address within the call, as for all callers.
    frame.instruction = frame.instruction.checked_sub(call)?;
    Some(frame)
}

/// An address without its signature.
fn plain_address(address: u64, is_code: impl Fn(u64) -> bool) -> u64 {
    if is_code(address) {
        address
    } else {
        address & ARM64_ADDRESS
    }
}

/// The frame that a signal handler interrupted, if `frame` is the one to which the handler returns; and the
/// address that the CPU could not execute, if this is why.
pub(super) fn interrupted(
    frame: &StackFrame,
    memory: Option<UnifiedMemory<'_, '_>>,
) -> Option<(StackFrame, Option<u64>)> {
    let MinidumpRawContext::Arm64(callee) = &frame.context.raw else {
        return None;
    };
    if frame.trust == FrameTrust::Context {
        return None;
    }
    let memory = memory?;
    let saved = interrupts::arm64(callee.sp, |at| memory.get_memory_at_address(at))?;
    let mut raw = callee.clone();
    raw.iregs = saved.registers;
    raw.sp = saved.sp;
    raw.pc = saved.pc;
    let context = MinidumpContext {
        raw: MinidumpRawContext::Arm64(raw),
        valid: MinidumpContextValidity::All,
    };
    let frame = StackFrame::from_context(context, FrameTrust::Context);
    Some((frame, saved.not_executable))
}
