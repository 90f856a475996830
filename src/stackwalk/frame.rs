//! A frame of a stack, as much of it as the answer tells, and the stack that keeps some of them.
//!
//! The frames of the minidump crates carry all registers and a copy of their module, 1.8 KB each.
//! Only the innermost frame's registers are told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use minidump::{MinidumpContext, MinidumpModule, MinidumpModuleList};
use minidump_unwind::{FrameSymbolizer, FrameTrust, InlineFrame, StackFrame};

pub(super) struct Frame<'a> {
    /// Within the call, not after it, but for the innermost frame.
    pub(super) instruction: u64,
    pub(super) trust: FrameTrust,
    pub(super) module: Option<&'a MinidumpModule>,
    pub(super) function: Option<Function>,
    pub(super) source: Option<Source>,
    /// Inlined calls, the innermost first.
    pub(super) inlines: Vec<InlineFrame>,
    /// What lay there before, with all offsets in it; empty where there is a module.
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

    /// Takes a frame over from the minidump crates, whose module is a copy of one of `modules`.
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

/// What is kept of a stack, and how far it is followed.
#[derive(Clone, Copy)]
pub(super) struct Reach {
    /// Frames after which the unwinding stops; at least 1.
    pub(super) frames_max: usize,
    /// Of a stack with more frames than this, half of it at either end is kept.
    pub(super) kept_max: usize,
}

/// A thread, unwound.
pub(super) struct Stack<'a> {
    pub(super) thread_id: u32,
    pub(super) name: Option<String>,
    /// `GetLastError()`, in words.
    pub(super) last_error: Option<String>,
    /// Registers of the innermost frame.
    pub(super) context: Option<MinidumpContext>,
    /// Frames from the innermost on.
    pub(super) head: Vec<Frame<'a>>,
    /// The outermost frames; empty if `head` has all.
    pub(super) tail: VecDeque<Frame<'a>>,
    /// Frames found, kept or not.
    pub(super) count: usize,
    /// The stack went on where the unwinding stopped.
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

    /// Takes the next frame outwards.
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

    /// Frames that were found and are not here.
    pub(super) fn omitted(&self) -> usize {
        self.count - self.head.len() - self.tail.len()
    }

    pub(super) fn frames_mut(&mut self) -> impl Iterator<Item = &mut Frame<'a>> {
        self.head.iter_mut().chain(&mut self.tail)
    }
}
