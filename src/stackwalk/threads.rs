//! Unwinds the threads of a dump, one after the other (ADR 16).
//!
//! The steps are those of minidump-processor 0.27, which unwinds all threads in parallel and holds every
//! frame, 1.8 KB each, until the end. Here the frames of a thread exist only until they are written, and of a
//! long stack only some are kept.
//!
//! `amd64` unwinds stacks of x86-64, and the crate all others. The crate's unwinder has no way to stop it: it
//! follows a stack to its end, which may be a million frames in a stack of 8 MB. But it calls a callback for
//! each frame. A panic from the callback ends it and leaves all frames so far in place. (`resume_unwind`
//! raises it, so no panic hook is called.) The unwinder looks only at the last two frames, so it can be
//! started again from them. In this way a stack is walked in pieces of limited size, with the same result as
//! in one walk.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use minidump::system_info::Os;
use minidump::{
    Minidump, MinidumpBreakpadInfo, MinidumpContext, MinidumpException, MinidumpMiscInfo,
    MinidumpModuleList, MinidumpSystemInfo, MinidumpThread, MinidumpThreadList,
    MinidumpThreadNames, MinidumpUnloadedModuleList, UnifiedMemory, UnifiedMemoryList,
};
use minidump_unwind::{CallStack, CallStackInfo, FrameTrust, StackFrame, SystemInfo, walk_stack};

use super::WalkError;
use super::amd64::Unwinder;
use super::calls;
use super::frame::{Caller, Frame, Reach, Stack};
use super::interrupts::INTERRUPTS_MAX;
use super::mappings;
use super::mode::Mode;
use super::provider::{Provider, complete};
use super::raw::kind;
use super::reason;

/// Frames of a piece, each 1.8 KB and the names of its module.
const PIECE_FRAMES: usize = 512;
/// Initial capacity for frames: enough for most stacks.
const FRAMES_USUAL: usize = 32;
/// The unwinder finds the next frame from these: the last frame and its callee.
const CARRIED_FRAMES: usize = 2;

/// Where the crate's unwinder starts.
struct Start<'m, 'a> {
    context: MinidumpContext,
    memory: Option<UnifiedMemory<'m, 'a>>,
    /// The address that the CPU could not execute, if this is why the thread crashed.
    not_executable: Option<u64>,
}

/// Why the crate's unwinder has stopped.
enum End {
    /// It found no more callers.
    Callers,
    /// The piece is full.
    Full,
    /// The last frame's function has no caller.
    Outermost,
    /// The last frame is the one to which a signal handler returns.
    Interrupted,
}

/// The data that unwinding a thread reads.
pub(super) struct Threads<'a> {
    list: MinidumpThreadList<'a>,
    names: MinidumpThreadNames,
    pub(super) modules: MinidumpModuleList,
    pub(super) unloaded_modules: MinidumpUnloadedModuleList,
    memory: UnifiedMemoryList<'a>,
    dump_system: MinidumpSystemInfo,
    misc: Option<MinidumpMiscInfo>,
    exception: Option<MinidumpException<'a>>,
    /// The thread that wrote the dump. It is not walked.
    writer_id: Option<u32>,
    requesting_id: Option<u32>,
    system: &'a SystemInfo,
}

impl<'a> Threads<'a> {
    pub(super) fn read(
        dump: &'a Minidump<'a, &'a [u8]>,
        system: &'a SystemInfo,
        mode: Mode,
    ) -> Result<Self, WalkError> {
        use minidump_processor::ProcessError::{MissingSystemInfo, MissingThreadList};

        let breakpad = dump.get_stream::<MinidumpBreakpadInfo>().ok();
        let modules = dump.get_stream().unwrap_or_default();
        let modules = match mode {
            Mode::Compat => modules,
            Mode::True => {
                let maps = dump.get_raw_stream(kind::LINUX_MAPS).ok();
                mappings::joined(modules, system.os, maps)
            }
        };
        Ok(Self {
            list: dump.get_stream().or(Err(MissingThreadList))?,
            names: dump.get_stream().unwrap_or_default(),
            modules,
            unloaded_modules: dump.get_stream().unwrap_or_default(),
            memory: dump.get_memory().unwrap_or_default(),
            dump_system: dump.get_stream().or(Err(MissingSystemInfo))?,
            misc: dump.get_stream().ok(),
            exception: dump.get_stream().ok(),
            writer_id: breakpad.as_ref().and_then(|info| info.dump_thread_id),
            requesting_id: breakpad.and_then(|info| info.requesting_thread_id),
            system,
        })
    }

    pub(super) fn count(&self) -> usize {
        self.list.threads.len()
    }

    /// Index of the thread that crashed or requested the dump. If several threads have its id, the last one.
    pub(super) fn crashing(&self) -> Option<usize> {
        let id = self.crashing_id()?;
        let is_crashing = |thread: &MinidumpThread| thread.raw.thread_id == id;
        (Some(id) != self.writer_id)
            .then(|| self.list.threads.iter().rposition(is_crashing))
            .flatten()
    }

    fn crashing_id(&self) -> Option<u32> {
        let of_exception = self.exception.as_ref().map(|e| e.get_crashing_thread_id());
        of_exception.or(self.requesting_id)
    }

    /// Why the dump was written, in words.
    pub(super) fn reason_text(&self) -> Option<String> {
        let exception = self.exception.as_ref()?;
        let record = &exception.raw.exception_record;
        let parameters = &record.exception_information;
        let count = (record.number_parameters as usize).min(parameters.len());
        let context = exception.context(&self.dump_system, self.misc.as_ref());
        let byte = |at: u64| {
            let memory = self.memory.memory_at_address(at)?;
            memory.get_memory_at_address::<u8>(at)
        };
        reason::text(&reason::Crash {
            os: self.system.os,
            cpu: self.system.cpu,
            code: record.exception_code,
            flags: record.exception_flags,
            parameters: &parameters[..count],
            instruction: context.map(|context| context.get_instruction_pointer()),
            memory: reason::Memory { byte: &byte },
        })
    }

    /// Unwinds the thread at an index.
    pub(super) fn walk(&self, index: usize, reach: Reach, provider: &Provider) -> Stack<'_> {
        let thread = &self.list.threads[index];
        let id = thread.raw.thread_id;
        let mut stack = Stack::new(id);
        if self.writer_id == Some(id) {
            return stack;
        }
        stack.name = self.names.get_name(id).map(|name| name.into_owned());
        stack.last_error = thread
            .last_error(self.system.cpu, &self.memory)
            .map(|error| error.to_string());
        if let Some(context) = self.context(thread) {
            let memory = self.memory(thread, &context);
            let not_executable = self.not_executable(thread, &context);
            let unwinder = Unwinder {
                modules: &self.modules,
                memory,
                memories: &self.memory,
                system: self.system,
                provider,
                not_executable,
            };
            if !unwinder.unwind(&mut stack, &context, reach) {
                let start = Start {
                    context: context.clone(),
                    memory,
                    not_executable,
                };
                self.unwind(&mut stack, start, reach, provider);
            }
            stack.context = Some(context);
        }
        for frame in stack.frames_mut() {
            if frame.module.is_none() {
                frame.unloaded_modules = self.unloaded_at(frame.instruction);
            }
        }
        stack
    }

    /// The registers of a thread. For the crashing thread, those at the crash and not those in the handler.
    fn context(&self, thread: &MinidumpThread) -> Option<MinidumpContext> {
        let misc = self.misc.as_ref();
        let at_crash = (self.crashing_id() == Some(thread.raw.thread_id))
            .then_some(self.exception.as_ref())
            .flatten()
            .and_then(|exception| exception.context(&self.dump_system, misc));
        let context = at_crash.or_else(|| thread.context(&self.dump_system, misc))?;
        Some(context.into_owned())
    }

    /// The memory to which the stack pointer points. If there is none, the memory that the thread names.
    fn memory<'m>(
        &'m self,
        thread: &'m MinidumpThread<'a>,
        context: &MinidumpContext,
    ) -> Option<UnifiedMemory<'m, 'a>> {
        let named = thread.stack_memory(&self.memory);
        let at = context.get_stack_pointer();
        let is_pointed_to = named
            .as_ref()
            .and_then(|memory| memory.get_memory_at_address::<u64>(at))
            .is_some();
        if is_pointed_to {
            named
        } else {
            self.memory.memory_at_address(at).or(named)
        }
    }

    /// The address that the CPU could not execute, if this is why the thread crashed.
    fn not_executable(&self, thread: &MinidumpThread, context: &MinidumpContext) -> Option<u64> {
        const ACCESS_VIOLATION: u32 = 0xc000_0005;
        const EXC_BAD_ACCESS: u32 = 1;
        const SIGBUS: u32 = 7;
        const SIGSEGV: u32 = 11;

        if self.crashing_id() != Some(thread.raw.thread_id) {
            return None;
        }
        let exception = self.exception.as_ref()?;
        let code = exception.raw.exception_record.exception_code;
        let is_access = match self.system.os {
            Os::Windows => code == ACCESS_VIOLATION,
            Os::MacOs | Os::Ios => code == EXC_BAD_ACCESS,
            Os::Linux | Os::Android => matches!(code, SIGBUS | SIGSEGV),
            _ => false,
        };
        let at = exception.get_crash_address(self.system.os, self.system.cpu);
        (is_access && at == context.get_instruction_pointer()).then_some(at)
    }

    /// Fills the stack with the unwinder of the minidump crates.
    fn unwind<'s>(
        &'s self,
        stack: &mut Stack<'s>,
        start: Start<'_, 'a>,
        reach: Reach,
        provider: &Provider,
    ) {
        let Start {
            context,
            mut memory,
            not_executable,
        } = start;
        let mut piece = CallStack::with_info(stack.thread_id, CallStackInfo::Ok);
        // Enough for most stacks: frames are large, and are copied when the vector grows.
        piece.frames = Vec::with_capacity(FRAMES_USUAL);
        let finds_caller = provider.mode == Mode::True && reach.frames_max > 1;
        let caller = finds_caller
            .then(|| {
                let is_code = |at| self.is_code(at, provider);
                calls::caller_of_wild_pointer(&context, not_executable, memory, is_code)
            })
            .flatten();
        piece
            .frames
            .push(StackFrame::from_context(context, FrameTrust::Context));
        piece.frames.extend(caller);
        // Number of frames at the start of a piece that belong to the piece before.
        let mut carried = 0;
        let mut interrupts = 0;
        loop {
            let frames = match reach.kept_max {
                usize::MAX => usize::MAX,
                _ => PIECE_FRAMES.min(reach.frames_max - stack.count),
            };
            // The last frame of a piece may already be there, if its callee had to be found first.
            let frames = frames.max(piece.frames.len() - carried);
            let follows_signals = interrupts < INTERRUPTS_MAX;
            let limit = frames.saturating_add(carried);
            let end = self.unwind_piece(&mut piece, limit, follows_signals, memory, provider);
            let mut next = match end {
                End::Callers | End::Outermost => Vec::new(),
                End::Full | End::Interrupted => {
                    piece.frames[piece.frames.len().saturating_sub(CARRIED_FRAMES)..].to_vec()
                }
            };
            // The unwinder names the last frame again, and would append to its inlined calls.
            if let Some(last) = next.last_mut() {
                last.inlines.clear();
            }
            let now_carried = next.len();
            if let End::Interrupted = end
                && let Some(last) = next.last()
                && let Some((interrupted, not_executable)) = calls::interrupted(last, memory)
            {
                interrupts += 1;
                let context = &interrupted.context;
                memory = self.memory_of_stack(context.get_stack_pointer(), memory);
                let is_code = |at| self.is_code(at, provider);
                let caller =
                    calls::caller_of_wild_pointer(context, not_executable, memory, is_code);
                next.push(interrupted);
                next.extend(caller);
            }
            let frames = std::mem::replace(&mut piece.frames, next);
            for frame in frames.into_iter().skip(carried) {
                stack.push(Frame::of(frame, &self.modules), reach.kept_max);
            }
            if let End::Interrupted = end
                && let Some(trampoline) = stack.last_mut()
            {
                trampoline.name_signal_trampoline();
            }
            carried = now_carried;
            if piece.frames.is_empty() {
                break;
            }
            if stack.count >= reach.frames_max {
                stack.is_unfinished = true;
                break;
            }
        }
    }

    /// Unwinds until a piece has `frames_max` frames, or something else ends it.
    fn unwind_piece(
        &self,
        piece: &mut CallStack,
        frames_max: usize,
        follows_signals: bool,
        memory: Option<UnifiedMemory<'_, 'a>>,
        provider: &Provider,
    ) -> End {
        let is_true = provider.mode == Mode::True;
        // A panic from the callback is the only way to stop the crate's unwinder (ADR 16).
        let at_frame = move |index: usize, frame: &StackFrame| {
            let caller = if is_true {
                Caller::of(frame.function_name.as_deref())
            } else {
                Caller::Called
            };
            if caller == Caller::None {
                resume_unwind(Box::new(End::Outermost));
            }
            if index + 1 >= frames_max {
                resume_unwind(Box::new(End::Full));
            }
            let may_be_interrupted = follows_signals && caller == Caller::MayBeInterrupted;
            if may_be_interrupted && calls::interrupted(frame, memory).is_some() {
                resume_unwind(Box::new(End::Interrupted));
            }
        };
        let walk = || {
            complete(walk_stack(
                0,
                at_frame,
                piece,
                memory,
                &self.modules,
                self.system,
                provider,
            ));
        };
        match catch_unwind(AssertUnwindSafe(walk)) {
            Ok(()) => End::Callers,
            // Everything else is a real panic.
            Err(end) => match end.downcast::<End>() {
                Ok(end) => *end,
                Err(panic) => resume_unwind(panic),
            },
        }
    }

    /// The memory that contains a stack pointer: that of the callee if possible.
    fn memory_of_stack<'m>(
        &'m self,
        at: u64,
        of_callee: Option<UnifiedMemory<'m, 'a>>,
    ) -> Option<UnifiedMemory<'m, 'a>> {
        let is_in_it =
            |memory: &UnifiedMemory<'_, '_>| memory.get_memory_at_address::<u64>(at).is_some();
        of_callee
            .filter(is_in_it)
            .or_else(|| self.memory.memory_at_address(at))
    }

    /// Whether a word may be a return address.
    fn is_code(&self, address: u64, provider: &Provider) -> bool {
        let instruction = address.saturating_sub(1);
        let module = self.modules.module_at_address(instruction);
        module.is_some_and(|module| provider.may_return_to(module, instruction))
    }

    /// Modules that were at an address before they were unloaded, with all offsets in them.
    fn unloaded_at(&self, address: u64) -> BTreeMap<String, BTreeSet<u64>> {
        let mut offsets: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        for module in self.unloaded_modules.modules_at_address(address) {
            let offset = address - module.raw.base_of_image;
            offsets
                .entry(module.name.clone())
                .or_default()
                .insert(offset);
        }
        offsets
    }
}

#[cfg(test)]
mod tests {
    use minidump::{MinidumpRawContext, Module};

    use super::super::raw::Raw;
    use super::super::tests::{dumps, with_symbols, without_symbols};
    use super::super::{SymbolCache, Unmapped, head};
    use super::*;

    /// Offsets of RSP, RBP and RIP in a CONTEXT_AMD64.
    const REGISTERS: [usize; 3] = [0x98, 0xa0, 0xf8];

    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 11) as usize % bound
        }
    }

    /// Replaces words in stacks and registers by other values that mean something there.
    fn mutate(dump: &mut [u8], system: &SystemInfo, random: &mut Random) {
        let mut places = Vec::new();
        let mut words = vec![0, 1, 0x1000, u64::MAX, 1 << 47, u64::MAX << 47];
        {
            let read = Minidump::read(&*dump).unwrap();
            let threads = Threads::read(&read, system, Mode::Compat).unwrap();
            for thread in &threads.list.threads {
                let Some(stack) = thread.stack_memory(&threads.memory) else {
                    continue;
                };
                let at = stack.bytes().as_ptr() as usize - dump.as_ptr() as usize;
                // The frames are at the start of the stack.
                let length = stack.bytes().len().min(2048) / 8;
                places.extend((0..length).map(|word| at + word * 8));
                let length = stack.bytes().len() / 8 + 4;
                words.extend(
                    (0..40).map(|_| stack.base_address() + random.below(length) as u64 * 8),
                );
                let context = thread.raw.thread_context.rva as usize;
                if random.below(3) == 0 {
                    places.push(context + REGISTERS[random.below(3)]);
                }
            }
            for module in threads.modules.iter() {
                let size = module.size().max(1) as usize;
                words.extend((0..4).map(|_| module.base_address() + random.below(size) as u64));
            }
        }
        for _ in 0..places.len() / 12 {
            let place = places[random.below(places.len())];
            if let Some(word) = dump.get_mut(place..place + 8) {
                word.copy_from_slice(&words[random.below(words.len())].to_le_bytes());
            }
        }
    }

    fn described(stack: &Stack) -> Vec<String> {
        let frames = stack.head.iter().chain(&stack.tail).map(|frame| {
            let function = frame.function.as_ref();
            format!(
                "{:x} {} {:?} {:?} {:?} {:?}",
                frame.instruction,
                frame.trust.as_str(),
                frame.module.map(|module| module.base_address()),
                function.map(|f| (&f.name, f.base, f.parameter_size)),
                frame.source.as_ref().map(|s| (&s.file, s.line)),
                frame.inlines
            )
        });
        let end = format!("{} {}", stack.count, stack.is_unfinished);
        frames.chain([end]).collect()
    }

    /// Returns how many frames each method found.
    fn check(name: &str, dump: &[u8], symbols: &SymbolCache, rounds: usize) -> [usize; 3] {
        let mut ways = [0; 3];
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        for round in 0..rounds {
            let mut dump = dump.to_vec();
            let provider = || Provider::new(symbols, Unmapped::Convert, u64::MAX, Mode::Compat);
            let state = head::read(&mut Raw::new(&mut dump), &provider()).unwrap();
            if round > 0 {
                mutate(&mut dump, &state.system_info, &mut random);
            }
            let read = Minidump::read(&dump[..]).unwrap();
            let system = &state.system_info;
            let threads = Threads::read(&read, system, Mode::Compat).unwrap();
            let reach = match round % 3 {
                0 => Reach {
                    frames_max: usize::MAX,
                    kept_max: usize::MAX,
                },
                _ => Reach {
                    frames_max: 1 + random.below(40),
                    kept_max: 1 + random.below(30),
                },
            };
            let (ours, theirs) = (provider(), provider());
            for thread in &threads.list.threads {
                let Some(context) = threads.context(thread) else {
                    continue;
                };
                assert!(
                    matches!(context.raw, MinidumpRawContext::Amd64(_)),
                    "{name}"
                );
                let memory = threads.memory(thread, &context);
                let mut expected = Stack::new(0);
                let start = Start {
                    context: context.clone(),
                    memory,
                    not_executable: None,
                };
                threads.unwind(&mut expected, start, reach, &theirs);
                let mut found = Stack::new(0);
                let unwinder = Unwinder {
                    modules: &threads.modules,
                    memory,
                    memories: &threads.memory,
                    system,
                    provider: &ours,
                    not_executable: None,
                };
                assert!(unwinder.unwind(&mut found, &context, reach));
                assert_eq!(
                    described(&found),
                    described(&expected),
                    "{name}, round {round}"
                );
                for frame in &found.head {
                    match frame.trust {
                        FrameTrust::CallFrameInfo => ways[0] += 1,
                        FrameTrust::FramePointer => ways[1] += 1,
                        FrameTrust::Scan => ways[2] += 1,
                        _ => {}
                    }
                }
            }
        }
        ways
    }

    #[test]
    fn any_stack_of_x86_64_unwinds_as_the_crate_unwinds_it() {
        let (with, without) = (with_symbols(), without_symbols());
        let mut ways = [0; 3];
        let mut systems = BTreeSet::new();
        for (name, dump) in dumps() {
            let Some((system, _)) = name.split_once("-x86_64-") else {
                continue;
            };
            systems.insert(system.to_owned());
            for (symbols, rounds) in [(&with, 40), (&without, 15)] {
                let found = check(&name, &dump, symbols, rounds);
                ways.iter_mut()
                    .zip(found)
                    .for_each(|(all, found)| *all += found);
            }
        }
        assert_eq!(
            Vec::from_iter(systems),
            ["ios", "linux", "macos", "windows"]
        );
        assert!(ways.iter().all(|frames| *frames > 1_000), "{ways:?}");
    }
}
