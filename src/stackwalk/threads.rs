//! The threads of a dump, unwound one after the other.
//!
//! The same steps as in minidump-processor 0.27, which unwinds all threads side by side and holds
//! every frame, 1.8 KB each, until the end. Here a thread's frames live until they are written, and
//! of a long stack only those that are kept.
//!
//! The unwinder cannot be told to stop: it follows a stack for as long as the stack leads on, which
//! 8 MB of it do for a million frames. It does call back at each frame, though, and a panic from
//! there (not a real one: no hook sees it) ends it with all frames so far in place. As it looks at the
//! last two frames only, it can be started again from them: a stack is walked in pieces of bounded
//! size, and the result is that of one walk.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use minidump::{
    Minidump, MinidumpBreakpadInfo, MinidumpContext, MinidumpException, MinidumpMiscInfo,
    MinidumpModuleList, MinidumpSystemInfo, MinidumpThread, MinidumpThreadList,
    MinidumpThreadNames, MinidumpUnloadedModuleList, UnifiedMemory, UnifiedMemoryList,
};
use minidump_unwind::{CallStack, CallStackInfo, FrameTrust, StackFrame, SystemInfo, walk_stack};

use super::provider::Provider;
use super::{WalkError, complete};

/// Frames of a piece, each 1.8 KB and the names of its module.
const PIECE_FRAMES: usize = 512;
/// Frames of most stacks, at least.
const FRAMES_USUAL: usize = 32;
/// What the unwinder looks at to find the next frame: the last one and its callee.
const CARRIED_FRAMES: usize = 2;

/// Everything that the unwinding of a thread reads.
pub(super) struct Threads<'a> {
    list: MinidumpThreadList<'a>,
    names: MinidumpThreadNames,
    pub(super) modules: MinidumpModuleList,
    pub(super) unloaded_modules: MinidumpUnloadedModuleList,
    memory: UnifiedMemoryList<'a>,
    dump_system: MinidumpSystemInfo,
    misc: Option<MinidumpMiscInfo>,
    exception: Option<MinidumpException<'a>>,
    /// The thread that wrote the dump, which is of no interest.
    writer_id: Option<u32>,
    requesting_id: Option<u32>,
    system: &'a SystemInfo,
}

/// What is kept of a stack, and how far it is followed.
#[derive(Clone, Copy)]
pub(super) struct Reach {
    /// Frames after which the unwinding stops; at least 1.
    pub(super) frames_max: usize,
    /// Of a stack with more frames than this, half of it at either end is kept.
    pub(super) kept_max: usize,
}

/// A thread, unwound.
pub(super) struct Stack {
    pub(super) thread_id: u32,
    pub(super) name: Option<String>,
    /// `GetLastError()`, in words.
    pub(super) last_error: Option<String>,
    /// Frames from the innermost on.
    pub(super) head: Vec<StackFrame>,
    /// The outermost frames; empty if `head` has all.
    pub(super) tail: VecDeque<StackFrame>,
    /// Frames found, kept or not.
    pub(super) count: usize,
    /// The stack went on where the unwinding stopped.
    pub(super) is_unfinished: bool,
}

impl<'a> Threads<'a> {
    pub(super) fn read(
        dump: &'a Minidump<'a, &'a [u8]>,
        system: &'a SystemInfo,
    ) -> Result<Self, WalkError> {
        use minidump_processor::ProcessError::{MissingSystemInfo, MissingThreadList};

        let breakpad = dump.get_stream::<MinidumpBreakpadInfo>().ok();
        Ok(Self {
            list: dump.get_stream().or(Err(MissingThreadList))?,
            names: dump.get_stream().unwrap_or_default(),
            modules: dump.get_stream().unwrap_or_default(),
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

    /// Index of the thread that crashed or asked for the dump: of several with its id the last.
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

    /// Unwinds the thread at an index.
    pub(super) fn walk(&self, index: usize, reach: Reach, provider: &Provider) -> Stack {
        let thread = &self.list.threads[index];
        let id = thread.raw.thread_id;
        let mut stack = Stack {
            thread_id: id,
            name: None,
            last_error: None,
            head: Vec::new(),
            tail: VecDeque::new(),
            count: 0,
            is_unfinished: false,
        };
        if self.writer_id == Some(id) {
            return stack;
        }
        stack.name = self.names.get_name(id).map(|name| name.into_owned());
        stack.last_error = thread
            .last_error(self.system.cpu, &self.memory)
            .map(|error| error.to_string());
        if let Some(context) = self.context(thread) {
            let memory = self.memory(thread, &context);
            self.unwind(&mut stack, context, memory, reach, provider);
        }
        stack
    }

    /// The registers of a thread: of the crashing one those at the crash, not in the handler.
    fn context(&self, thread: &MinidumpThread) -> Option<MinidumpContext> {
        let misc = self.misc.as_ref();
        let at_crash = (self.crashing_id() == Some(thread.raw.thread_id))
            .then_some(self.exception.as_ref())
            .flatten()
            .and_then(|exception| exception.context(&self.dump_system, misc));
        let context = at_crash.or_else(|| thread.context(&self.dump_system, misc))?;
        Some(context.into_owned())
    }

    /// The memory that the stack pointer points into, or else the one that the thread names.
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
        match is_pointed_to {
            true => named,
            false => self.memory.memory_at_address(at).or(named),
        }
    }

    fn unwind(
        &self,
        stack: &mut Stack,
        context: MinidumpContext,
        memory: Option<UnifiedMemory<'_, 'a>>,
        reach: Reach,
        provider: &Provider,
    ) {
        let mut piece = CallStack::with_info(stack.thread_id, CallStackInfo::Ok);
        // Room for most stacks: frames are large, and copied when the room grows.
        piece.frames = Vec::with_capacity(FRAMES_USUAL);
        piece
            .frames
            .push(StackFrame::from_context(context, FrameTrust::Context));
        // What lies at the front of a piece from the one before.
        let mut carried = 0;
        loop {
            let frames = match reach.kept_max {
                usize::MAX => usize::MAX,
                _ => PIECE_FRAMES.min(reach.frames_max - stack.count),
            };
            let is_stopped = self.unwind_piece(&mut piece, frames + carried, memory, provider);
            let is_last = !is_stopped || stack.count + frames >= reach.frames_max;
            let next = match is_last {
                true => Vec::new(),
                false => piece.frames[piece.frames.len().saturating_sub(CARRIED_FRAMES)..].to_vec(),
            };
            let frames = std::mem::replace(&mut piece.frames, next);
            stack.take(frames, carried, reach.kept_max);
            if is_last {
                stack.is_unfinished = is_stopped;
                break;
            }
            carried = piece.frames.len();
            // The unwinder names the last frame again, and appends to its inlined calls.
            if let Some(last) = piece.frames.last_mut() {
                last.inlines.clear();
            }
        }
        for frame in stack.head.iter_mut().chain(&mut stack.tail) {
            if frame.module.is_none() {
                frame.unloaded_modules = self.unloaded_at(frame.instruction);
            }
        }
    }

    /// Unwinds until a piece has so many frames; returns whether that stopped it.
    fn unwind_piece(
        &self,
        piece: &mut CallStack,
        frames: usize,
        memory: Option<UnifiedMemory<'_, 'a>>,
        provider: &Provider,
    ) -> bool {
        /// Tells the end of a piece from a panic.
        struct End;

        let at_frame = move |index: usize, _: &StackFrame| {
            if index + 1 >= frames {
                resume_unwind(Box::new(End));
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
            Ok(()) => false,
            Err(end) if end.is::<End>() => true,
            Err(panic) => resume_unwind(panic),
        }
    }

    /// Modules that lay at an address before they were unloaded, with all offsets in them.
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

impl Stack {
    /// Takes a piece's frames over, but for those carried from the last.
    fn take(&mut self, mut frames: Vec<StackFrame>, carried: usize, kept_max: usize) {
        if self.count == 0 && frames.len() <= kept_max {
            self.count = frames.len();
            self.head = frames;
            return;
        }
        self.count += frames.len() - carried;
        frames.drain(..carried);
        let half = kept_max.div_ceil(2);
        if self.head.len() > half {
            self.tail.extend(self.head.drain(half..));
        }
        let missing = (half - self.head.len()).min(frames.len());
        self.head.extend(frames.drain(..missing));
        self.tail.extend(frames);
        let over = self.tail.len().saturating_sub(kept_max - half);
        self.tail.drain(..over);
    }

    /// Frames that were found and are not here.
    pub(super) fn omitted(&self) -> usize {
        self.count - self.head.len() - self.tail.len()
    }
}
