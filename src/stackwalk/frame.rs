//! A frame of a stack with only the data that the answer needs, and a stack that keeps some of its frames.
//!
//! Frames of the minidump crates contain all registers and a copy of their module, 1.8 KB each. The answer
//! has only the registers of the innermost frame.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use minidump::{MinidumpContext, MinidumpModule, MinidumpModuleList};
use minidump_unwind::{FrameSymbolizer, FrameTrust, InlineFrame, StackFrame};

use crate::crash::walk::UNKNOWN_IN;

pub(super) struct Frame<'a> {
    /// An address within the call and not after it, except for the innermost frame.
    pub(super) instruction: u64,
    pub(super) trust: FrameTrust,
    pub(super) module: Option<&'a MinidumpModule>,
    pub(super) function: Option<Function>,
    pub(super) source: Option<Source>,
    /// Inlined calls, innermost first.
    pub(super) inlines: Vec<InlineFrame>,
    /// Modules that were at this address before they were unloaded, with all offsets in them. Empty if there
    /// is a loaded module.
    pub(super) unloaded_modules: BTreeMap<String, BTreeSet<u64>>,
}

pub(super) struct Function {
    pub(super) name: String,
    pub(super) base: u64,
    pub(super) parameter_size: u32,
}

pub(super) struct Source {
    pub(super) file: String,
    pub(super) line: u32,
}

impl<'a> Frame<'a> {
    pub(super) fn new(
        instruction: u64,
        trust: FrameTrust,
        modules: &'a MinidumpModuleList,
    ) -> Self {
        Self {
            instruction,
            trust,
            module: modules.module_at_address(instruction),
            function: None,
            source: None,
            inlines: Vec::new(),
            unloaded_modules: BTreeMap::new(),
        }
    }

    /// What is known about the caller from the function's name.
    pub(super) fn caller(&self) -> Caller {
        Caller::of(self.function.as_ref().map(|function| &*function.name))
    }

    /// Names the code to which a signal handler returns. It has no name in symbol files of stripped libraries.
    pub(super) fn name_signal_trampoline(&mut self) {
        let function = self.function.as_ref();
        if function.is_none_or(|function| function.name.starts_with(UNKNOWN_IN)) {
            self.function = Some(Function {
                name: SIGNAL_TRAMPOLINE.to_owned(),
                base: function.map_or(self.instruction, |function| function.base),
                parameter_size: 0,
            });
        }
    }

    /// Converts a frame of the minidump crates. Its module is a copy of one of `modules`.
    pub(super) fn of(frame: StackFrame, modules: &'a MinidumpModuleList) -> Self {
        let function = frame.function_name.zip(frame.function_base);
        let source = frame.source_file_name.zip(frame.source_line);
        Self {
            function: function.map(|(name, base)| Function {
                name,
                base,
                parameter_size: frame.parameter_size.unwrap_or(0),
            }),
            source: source.map(|(file, line)| Source { file, line }),
            inlines: frame.inlines,
            ..Self::new(frame.instruction, frame.trust, modules)
        }
    }
}

/// The name that debuggers use.
const SIGNAL_TRAMPOLINE: &str = "<signal handler called>";

/// What is known about the caller of a function from its name. Every frame is asked, so it must be fast.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    Called,
    /// The function has no caller: it is the entry point of ELF programs, which the kernel or the loader jumps
    /// to. Many symbol files have rules for it that lead to words on the stack which are not return addresses.
    None,
    /// The function may be the code to which a signal handler returns. In symbol files of stripped libraries
    /// it has no name.
    MayBeInterrupted,
}

impl Caller {
    pub(super) fn of(function: Option<&str>) -> Self {
        let Some(function) = function else {
            return Self::MayBeInterrupted;
        };
        match function.as_bytes().first() {
            Some(b'_') if function == "_start" => Self::None,
            Some(b'_') if function.starts_with("__restore") => Self::MayBeInterrupted,
            Some(b'_') if function.starts_with("__kernel_rt_sigreturn") => Self::MayBeInterrupted,
            Some(b'<') if function.starts_with(UNKNOWN_IN) => Self::MayBeInterrupted,
            _ => Self::Called,
        }
    }
}

impl FrameSymbolizer for Frame<'_> {
    fn get_instruction(&self) -> u64 {
        self.instruction
    }

    fn set_function(&mut self, name: &str, base: u64, parameter_size: u32) {
        self.function = Some(Function {
            name: name.to_owned(),
            base,
            parameter_size,
        });
    }

    fn set_source_file(&mut self, file: &str, line: u32, _: u64) {
        let file = file.to_owned();
        self.source = Some(Source { file, line });
    }

    fn add_inline_frame(&mut self, name: &str, file: Option<&str>, line: Option<u32>) {
        self.inlines.push(InlineFrame {
            function_name: name.to_owned(),
            source_file_name: file.map(str::to_owned),
            source_line: line,
        });
    }
}

/// The last part of a path of any system.
pub(super) fn leaf(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

/// How much of a stack is followed, and how much of it is kept.
#[derive(Clone, Copy)]
pub(super) struct Reach {
    /// Number of frames after which unwinding stops; at least 1.
    pub(super) frames_max: usize,
    /// If a stack has more frames than this, half of this number is kept from each end.
    pub(super) kept_max: usize,
}

/// The stack of a thread.
pub(super) struct Stack<'a> {
    pub(super) thread_id: u32,
    pub(super) name: Option<String>,
    /// `GetLastError()`, in words.
    pub(super) last_error: Option<String>,
    /// Registers of the innermost frame.
    pub(super) context: Option<MinidumpContext>,
    /// Frames, starting with the innermost.
    pub(super) head: Vec<Frame<'a>>,
    /// The outermost frames; empty if `head` has all frames.
    pub(super) tail: VecDeque<Frame<'a>>,
    /// Number of frames found, kept or not.
    pub(super) count: usize,
    /// Unwinding stopped although the stack has more frames.
    pub(super) is_unfinished: bool,
}

impl<'a> Stack<'a> {
    pub(super) fn new(thread_id: u32) -> Self {
        Self {
            thread_id,
            name: None,
            last_error: None,
            context: None,
            head: Vec::new(),
            tail: VecDeque::new(),
            count: 0,
            is_unfinished: false,
        }
    }

    /// Adds the next frame, which is the caller of the last one.
    pub(super) fn push(&mut self, frame: Frame<'a>, kept_max: usize) {
        self.count += 1;
        if self.count <= kept_max {
            self.head.push(frame);
            return;
        }
        let half = kept_max.div_ceil(2);
        if self.head.len() > half {
            self.tail.extend(self.head.drain(half..));
        }
        self.tail.push_back(frame);
        if self.tail.len() > kept_max - half {
            self.tail.pop_front();
        }
    }

    /// Number of frames that were found but not kept.
    pub(super) fn omitted(&self) -> usize {
        self.count - self.head.len() - self.tail.len()
    }

    /// The outermost frame so far.
    pub(super) fn last_mut(&mut self) -> Option<&mut Frame<'a>> {
        self.tail.back_mut().or(self.head.last_mut())
    }

    pub(super) fn frames_mut(&mut self) -> impl Iterator<Item = &mut Frame<'a>> {
        self.head.iter_mut().chain(&mut self.tail)
    }
}
