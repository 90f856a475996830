//! The data that the rules read of a crash, in a form that can be stored. With it, a signature can be
//! computed again without the dump (ADR 15).
//!
//! An input contains only what can affect a signature, so crashes of one cause have equal inputs, and the
//! frames of a program are stored once. It has the crashing thread and thread 0, at most [`FRAMES_MAX`]
//! frames of each, and the texts that the rules read. The address of a frame whose module is known is left
//! out, because it differs between runs and no rule reads it.

use std::collections::HashMap;
use std::hash::Hash;

use serde::{Deserialize, Serialize};

use super::crash_data::{CrashData, Frame, Inline, Thread, UnloadedModule};
use super::lists::Scoped;
use super::name::Name;
use super::native;
use super::value::Value;
use super::{FRAMES_MAX, Generator, text};
use crate::crash::walk::Location;

/// The data of a crash that its signature depends on. `F` is a frame, or an id of a frame.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Input<F> {
    pub product: String,
    /// Callee first. Empty if nothing is known.
    pub crashing: Vec<F>,
    /// Thread 0, unless it is the crashing thread.
    pub first: Option<Vec<F>>,
    pub is_windows: bool,
    pub last_error: Option<String>,
    pub reason: Option<String>,
    /// In bytes.
    pub oom_allocation_size: Option<i64>,
    pub js_large_allocation_failure: Option<String>,
    pub abort_message: Option<String>,
    pub async_shutdown_timeout: Option<String>,
    pub ipc_channel_error: Option<String>,
    pub ipc_message_name: Option<String>,
    /// Whether the report also contained the browser's dump.
    pub has_browser_dump: bool,
    pub hang: Option<String>,
    pub mdsw_status_string: Option<String>,
    /// The first two lines.
    pub java_stack_trace: Option<String>,
    /// JSON.
    pub java_exception: Option<String>,
}

impl<F> Default for Input<F> {
    fn default() -> Self {
        Input {
            product: String::new(),
            crashing: Vec::new(),
            first: None,
            is_windows: false,
            last_error: None,
            reason: None,
            oom_allocation_size: None,
            js_large_allocation_failure: None,
            abort_message: None,
            async_shutdown_timeout: None,
            ipc_channel_error: None,
            ipc_message_name: None,
            has_browser_dump: false,
            hang: None,
            mdsw_status_string: None,
            java_stack_trace: None,
            java_exception: None,
        }
    }
}

/// One physical frame.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StoredFrame {
    pub function: Option<String>,
    pub module: Option<String>,
    pub file: Option<String>,
    pub line: Option<u64>,
    pub module_offset: Option<String>,
    pub offset: Option<String>,
    /// Innermost first.
    pub inlines: Vec<StoredInline>,
    /// The first unloaded module that covered the address.
    pub unloaded_module: Option<Option<String>>,
    /// Whose folder the module is in.
    pub location: Option<Location>,
}

/// A call that was inlined into a frame.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StoredInline {
    pub(crate) function: Option<String>,
    pub(crate) file: Option<String>,
    pub(crate) line: Option<u64>,
}

/// The browser's dump, sent together with that of another process.
const BROWSER_DUMP: &str = "upload_file_minidump_browser";

/// Whether a dump with this name is the browser's.
pub(crate) fn is_browser_dump(name: &str) -> bool {
    name == BROWSER_DUMP
}

/// Truncates a Java stack to the lines that affect the signature.
pub(crate) fn java_lines(trace: &str) -> String {
    text::split_lines(trace)
        .take(2)
        .collect::<Vec<_>>()
        .join("\n")
}

impl StoredFrame {
    /// Removes fields that no rule reads, given the frame's other fields.
    pub fn reduced(mut self, is_windows: bool) -> StoredFrame {
        if is_windows && let Some(module) = &mut self.module {
            *module = module.to_lowercase();
        }
        let has = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        let is_named = has(&self.function) || (has(&self.file) && self.line.is_some_and(|n| n > 0));
        // Inlined calls without a function name are named by the place in the module instead.
        let is_offset_read = !is_named || self.inlines.iter().any(|i| !has(&i.function));
        if !is_offset_read {
            self.module_offset = None;
        }
        if is_named || has(&self.module) {
            self.unloaded_module = None;
        }
        let is_address_read =
            !has(&self.module) && self.unloaded_module.is_none() && is_offset_read;
        if !is_address_read {
            // It differs between runs.
            self.offset = None;
        }
        self
    }

    fn data(&self) -> Frame<'_> {
        Frame {
            function: self.function.as_deref().into(),
            module: self.module.as_deref().into(),
            file: self.file.as_deref().into(),
            line: self.line.into(),
            module_offset: self.module_offset.as_deref().into(),
            offset: self.offset.as_deref().into(),
            inlines: self
                .inlines
                .iter()
                .map(|inline| Inline {
                    function: inline.function.as_deref().into(),
                    file: inline.file.as_deref().into(),
                    line: inline.line.into(),
                    ..Inline::default()
                })
                .collect(),
            unloaded_modules: self
                .unloaded_module
                .iter()
                .map(|module| UnloadedModule {
                    module: module.as_deref().into(),
                    ..UnloadedModule::default()
                })
                .collect(),
            location: self.location,
            ..Frame::default()
        }
    }
}

impl<F> Input<F> {
    /// The same input with other frames.
    ///
    /// # Errors
    /// The first error of `frame`.
    pub(crate) fn map<G, E>(
        &self,
        mut frame: impl FnMut(&F) -> Result<G, E>,
    ) -> Result<Input<G>, E> {
        let mut stack = |frames: &[F]| frames.iter().map(&mut frame).collect::<Result<Vec<G>, E>>();
        Ok(Input {
            crashing: stack(&self.crashing)?,
            first: self.first.as_deref().map(stack).transpose()?,
            product: self.product.clone(),
            is_windows: self.is_windows,
            last_error: self.last_error.clone(),
            reason: self.reason.clone(),
            oom_allocation_size: self.oom_allocation_size,
            js_large_allocation_failure: self.js_large_allocation_failure.clone(),
            abort_message: self.abort_message.clone(),
            async_shutdown_timeout: self.async_shutdown_timeout.clone(),
            ipc_channel_error: self.ipc_channel_error.clone(),
            ipc_message_name: self.ipc_message_name.clone(),
            has_browser_dump: self.has_browser_dump,
            hang: self.hang.clone(),
            mdsw_status_string: self.mdsw_status_string.clone(),
            java_stack_trace: self.java_stack_trace.clone(),
            java_exception: self.java_exception.clone(),
        })
    }

    /// The crash data of this input, with these stacks.
    fn data<'a>(&'a self, crashing: Thread<'a>, first: Option<Thread<'a>>) -> CrashData<'a> {
        let exception = self.java_exception.as_deref();
        let browser_dump = self.has_browser_dump.then(|| Value::from(BROWSER_DUMP));
        let crashing = Thread {
            last_error_value: self.last_error.as_deref().into(),
            ..crashing
        };
        CrashData {
            crashing_thread: Value::Int(first.is_some().into()),
            threads: first.into_iter().chain([crashing]).collect(),
            os: self.is_windows.then_some("Windows NT").into(),
            reason: self.reason.as_deref().into(),
            oom_allocation_size: self.oom_allocation_size.into(),
            js_large_allocation_failure: self.js_large_allocation_failure.as_deref().into(),
            abort_message: self.abort_message.as_deref().into(),
            async_shutdown_timeout: self.async_shutdown_timeout.as_deref().into(),
            ipc_channel_error: self.ipc_channel_error.as_deref().into(),
            ipc_message_name: self.ipc_message_name.as_deref().into(),
            additional_minidumps: Value::List(browser_dump.into_iter().collect()),
            hang: self.hang.as_deref().into(),
            mdsw_status_string: self.mdsw_status_string.as_deref().into(),
            java_stack_trace: self.java_stack_trace.as_deref().into(),
            java_exception: exception
                .and_then(|text| Value::parse(text).ok())
                .unwrap_or_default(),
            product: self.product.as_str().into(),
        }
    }
}

impl Input<StoredFrame> {
    /// The crash data of siggen for this input.
    pub fn crash_data(&self) -> CrashData<'_> {
        fn thread(frames: &[StoredFrame]) -> Thread<'_> {
            let frames = frames.iter().take(FRAMES_MAX);
            Thread {
                frames: frames.map(StoredFrame::data).collect(),
                ..Thread::default()
            }
        }
        let first = self.first.as_deref().map(thread);
        self.data(thread(&self.crashing), first)
    }
}

/// The names of frames under one set of lists. Each is computed once. For signatures of the whole history.
pub(crate) struct KnownFrames<'g> {
    generator: &'g Generator,
    /// By system and product, because list entries may apply to one product only.
    known: HashMap<bool, HashMap<String, HashMap<u32, Vec<Name<'static>>>>>,
}

impl<'g> KnownFrames<'g> {
    pub(crate) fn new(generator: &'g Generator) -> Self {
        KnownFrames {
            generator,
            known: HashMap::new(),
        }
    }

    pub(crate) fn generator(&self) -> &Generator {
        self.generator
    }

    /// The names of the frames of a crash, each computed once.
    fn known<E>(
        &mut self,
        input: &Input<u32>,
        frame: &mut dyn FnMut(u32) -> Result<StoredFrame, E>,
    ) -> Result<(&HashMap<u32, Vec<Name<'static>>>, Scoped<'g>), E> {
        let product = self.generator.lists().site().scope(&input.product);
        let of_system = self.known.entry(input.is_windows).or_default();
        if !of_system.contains_key(product) {
            of_system.insert(product.to_string(), HashMap::new());
        }
        let Some(known) = of_system.get_mut(product) else {
            unreachable!("it was inserted above");
        };
        let scoped = self.generator.scoped(product);
        for id in input.crashing.iter().chain(input.first.iter().flatten()) {
            if known.contains_key(id) {
                continue;
            }
            let stored = frame(*id)?;
            let data = stored.data();
            let mut names = Vec::new();
            // Stored frames contain only texts and numbers, so they are always readable.
            let _ = native::frame_names(&data, input.is_windows, &scoped, &mut names);
            let judged = names.into_iter().map(|name| name.shared(&scoped));
            known.insert(*id, judged.collect());
        }
        Ok((known, scoped))
    }

    /// The functions of the crashing stack, callee first, and how much each says about the bug: 1 for code of
    /// the program, less for code of libraries, nothing for frames that never name a crash.
    ///
    /// # Errors
    /// Only errors of `frame`.
    pub(crate) fn stack<E>(
        &mut self,
        input: &Input<u32>,
        frame: &mut dyn FnMut(u32) -> Result<StoredFrame, E>,
    ) -> Result<Vec<(String, f64)>, E> {
        let (known, scoped) = self.known(input, frame)?;
        let names = input.crashing.iter().flat_map(|id| &known[id]);
        let weighted = names.take(FRAMES_MAX).map(|name| {
            let weight = native::weight(name, &scoped);
            (name.text.to_string(), weight)
        });
        Ok(weighted.filter(|(_, weight)| *weight > 0.0).collect())
    }

    /// The signature of a crash by siggen's rules and the site's rules, without splits. `frame` returns
    /// frames that are not known yet.
    ///
    /// # Errors
    /// Only errors of `frame`.
    pub(crate) fn name<E>(
        &mut self,
        input: &Input<u32>,
        frame: &mut dyn FnMut(u32) -> Result<StoredFrame, E>,
    ) -> Result<String, E> {
        let (known, scoped) = self.known(input, frame)?;
        let is_fault = input.reason.as_deref().is_some_and(native::is_fault);
        let composed = |ids: &[u32]| {
            let frames: Vec<&Name> = ids
                .iter()
                .flat_map(|id| &known[id])
                .take(FRAMES_MAX)
                .collect();
            Thread {
                composed: Some(native::compose(&frames, is_fault, &scoped, None)),
                ..Thread::default()
            }
        };
        let crashing = composed(&input.crashing);
        let first = input.first.as_deref().map(composed);
        let signature = self.generator.generate(&input.data(crashing, first));
        if self.generator.is_watchdog_apart(&signature) {
            // For these crashes siggen uses other lists than for all others.
            let whole = input.map(|id| frame(*id))?;
            return Ok(self.generator.generate(&whole.crash_data()).text);
        }
        Ok(signature.text)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{ListTexts, Lists, Ruleset};
    use super::*;

    fn frame(function: &str, module: &str, offset: &str) -> StoredFrame {
        StoredFrame {
            function: (!function.is_empty()).then(|| function.to_string()),
            module: (!module.is_empty()).then(|| module.to_string()),
            module_offset: (!module.is_empty()).then(|| "0x1f".to_string()),
            offset: Some(offset.to_string()),
            ..StoredFrame::default()
        }
    }

    #[test]
    fn a_frame_keeps_what_can_name_it_and_loses_what_differs_from_run_to_run() {
        let check = |frame: StoredFrame, is_windows, expected: StoredFrame| {
            assert_eq!(frame.reduced(is_windows), expected);
        };
        let module_only = StoredFrame {
            offset: None,
            ..frame("", "a.dll", "")
        };
        check(frame("", "A.dll", "0x7ff1"), true, module_only);
        let named = StoredFrame {
            function: Some("f".into()),
            module: Some("a".into()),
            ..StoredFrame::default()
        };
        check(frame("f", "a", "0x7ff1"), false, named);
        check(frame("", "", "0x1"), false, frame("", "", "0x1"));
    }

    #[test]
    fn what_is_kept_is_named_as_the_whole_crash_was_also_from_known_frames() {
        let mut texts = ListTexts::builtin();
        texts.0[4] = "irrelevant @Lynx skip\nmerge two => one".into();
        let lists = Arc::new(Lists::new(texts).unwrap());
        for ruleset in [Ruleset::Socorro, Ruleset::Crashkeep] {
            let generator = Generator::new(ruleset, lists.clone());
            let frames = [
                frame("memcpy", "", ""),
                frame("skip", "", ""),
                frame("", "App.exe", "0x7fff0000"),
                frame("RunWatchdog", "", ""),
                frame("two", "", ""),
                frame("", "", "0x0010"),
            ];
            for product in ["Lynx", "Fox"] {
                for (crashing, first) in [
                    (vec![0, 1, 2], None),
                    (vec![3], Some(vec![0, 1, 4])),
                    (vec![4], None),
                    (vec![1, 5], Some(vec![])),
                    (vec![], None),
                ] {
                    let kept = Input::<u32> {
                        product: product.to_string(),
                        crashing,
                        first,
                        is_windows: true,
                        hang: Some("ui".into()),
                        ..Input::default()
                    };
                    let read = |id: &u32| Ok::<_, ()>(frames[*id as usize].clone());
                    let whole = kept.map(read).unwrap();
                    let expected = generator.generate(&whole.crash_data()).text;
                    let reduced = kept.map(|id| read(id).map(|f| f.reduced(true))).unwrap();
                    assert_eq!(generator.generate(&reduced.crash_data()).text, expected);
                    let mut known = KnownFrames::new(&generator);
                    let mut stored = |id: u32| read(&id).map(|f| f.reduced(true));
                    for _ in 0..2 {
                        assert_eq!(
                            known.name(&kept, &mut stored),
                            Ok(expected.clone()),
                            "{kept:?}"
                        );
                    }
                }
            }
        }
    }
}
