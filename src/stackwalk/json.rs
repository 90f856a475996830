//! Writes the walk as JSON, in the schema of `minidump-stackwalk --json` 0.27.
//!
//! It writes directly into one buffer. The crates' own `print_json` first builds a tree of the whole answer,
//! which costs three to four times as much as the walk itself. On a dump of 11,000 frames this writer needs a
//! twentieth of that. `print_json` still writes the head (crash, system, limits), which is small and has some
//! types that other crates cannot name. The large parts of the state are removed before that.
//!
//! There are two differences, in form only: a key whose value would be null is left out, and
//! `proc_limits.limits`, which comes from a hash map, is sorted by name. Address arithmetic wraps, because a
//! module of a hostile dump may end after the last address.

use std::collections::{BTreeMap, HashMap, HashSet};

use minidump::system_info::PointerWidth;
use minidump::{
    MinidumpContext, MinidumpContextValidity, MinidumpHandleDataStream, MinidumpHandleDescriptor,
    MinidumpModule, MinidumpModuleList, MinidumpUnloadedModule, MinidumpUnloadedModuleList, Module,
};
use minidump_processor::{LinuxProcLimits, ProcessState};
use minidump_unwind::{CallStack, CallStackInfo, SymbolStats};
use serde::Serialize;
use serde_json::value::RawValue;

use super::WalkError;
use super::frame::{Frame, Stack, leaf};
use super::location;
use super::mode::Mode;
use crate::crash::walk::UNKNOWN_IN;

/// The keys taken from the crates' own writer, in our order.
const HEAD: [&str; 12] = [
    "status",
    "pid",
    "process_uptime",
    "crash_info",
    "system_info",
    "lsb_release",
    "linux_memory_map_count",
    "mac_crash_info",
    "mac_boot_args",
    "soft_errors",
    "main_module",
    "modules_contains_cert_info",
];

/// What is known before stacks are walked.
pub(super) struct Head {
    /// The report of the processor.
    pub(super) state: ProcessState,
    /// Why the dump was written, in words.
    pub(super) reason_text: Option<String>,
    /// Number of threads.
    pub(super) threads: usize,
    /// Index of the crashing thread.
    pub(super) crashing: Option<usize>,
}

/// The answer for one dump while it is written: the head, then each thread, then the rest.
pub(super) struct Answer {
    json: Writer,
    /// The crashing thread. It is walked first, and written again later among the other threads.
    crashing: Option<(usize, Vec<u8>)>,
    /// Why the answer does not contain everything in the dump.
    notes: Vec<String>,
}

impl Answer {
    /// Starts with everything except stacks.
    pub(super) fn begin(
        head: Head,
        bytes_max: u64,
        notes: Vec<String>,
        mode: Mode,
    ) -> Result<Self, WalkError> {
        let Head {
            mut state,
            reason_text,
            threads,
            crashing,
        } = head;
        let limits = state.linux_proc_limits.take();
        let mut json = Writer {
            out: Vec::with_capacity(64 << 10),
            address_digits: match state.system_info.cpu.pointer_width() {
                PointerWidth::Bits32 => 8,
                _ => 16,
            },
            bytes_max,
            mode,
        };
        // The head contains the index of the crashing thread, and the crates' writer looks up the thread at
        // this index.
        state.requesting_thread = crashing;
        state.threads = crashing.map_or(vec![], |index| {
            vec![CallStack::with_info(0, CallStackInfo::Ok); index + 1]
        });
        json.open(b'{');
        json.head(&state, reason_text.as_deref())?;
        if let Some(limits) = &limits {
            json.proc_limits(limits);
        }
        json.number("thread_count", threads as u64);
        Ok(Self {
            json,
            crashing: None,
            notes,
        })
    }

    /// Writes the crashing thread at the top level, with its index and the registers of its first frame.
    /// Keeps it for the list of threads.
    pub(super) fn crashing_thread(&mut self, index: usize, stack: &Stack) {
        self.note_end(index, stack);
        let json = &mut self.json;
        let Some(context) = &stack.context else {
            return;
        };
        json.key("crashing_thread");
        json.open(b'{');
        json.number("threads_index", index as u64);
        let from = json.out.len();
        let written = json.thread_members(stack);
        let mut thread = vec![b'{'];
        // Here the members start with a comma. In their own object they start without one.
        thread.extend_from_slice(&json.out[from + 1..]);
        json.close(b'}');
        thread.push(b'}');
        json.insert_registers(written.first_frame_end, context);
        self.note_full(index, stack, &written);
        self.crashing = Some((index, thread));
    }

    pub(super) fn open_threads(&mut self) {
        self.json.key("threads");
        self.json.open(b'[');
    }

    /// Writes the thread of [`Answer::crashing_thread`] again, if `index` is its index.
    pub(super) fn repeat_crashing_thread(&mut self, index: usize) -> bool {
        match self.crashing.take_if(|(crashing, _)| *crashing == index) {
            Some((_, thread)) => {
                self.json.comma();
                self.json.out.extend_from_slice(&thread);
                true
            }
            None => false,
        }
    }

    pub(super) fn thread(&mut self, index: usize, stack: &Stack) {
        self.note_end(index, stack);
        self.json.open(b'{');
        let written = self.json.thread_members(stack);
        self.json.close(b'}');
        self.note_full(index, stack, &written);
    }

    fn note_end(&mut self, index: usize, stack: &Stack) {
        if stack.is_unfinished {
            self.note(format!(
                "thread {index} was followed for {} frames and no further: the frames of a dump and the \
                 look-ups for them are bounded",
                stack.count
            ));
        }
    }

    fn note_full(&mut self, index: usize, stack: &Stack, written: &Written) {
        if written.frames < stack.head.len() + stack.tail.len() {
            self.note(format!(
                "{} of {} frames of thread {index} were kept: the walk takes more than {} bytes",
                written.frames, stack.count, self.json.bytes_max
            ));
        }
    }

    fn note(&mut self, note: String) {
        // A dump with many threads may reach the same limit in each of them.
        match self.notes.len() {
            0..NOTES_MAX => self.notes.push(note),
            NOTES_MAX => self.notes.push("and so on".to_owned()),
            _ => {}
        }
    }

    /// Writes the modules with the state of their symbols, the handles, and the notes.
    pub(super) fn end(
        mut self,
        modules: &MinidumpModuleList,
        unloaded_modules: &MinidumpUnloadedModuleList,
        handles: Option<&MinidumpHandleDataStream>,
        symbol_stats: &HashMap<String, SymbolStats>,
    ) -> Result<Vec<u8>, WalkError> {
        let json = &mut self.json;
        json.close(b']');
        let mut left_out = [0; 3];
        json.key("modules");
        json.open(b'[');
        let program = modules.main_module().map(MinidumpModule::code_file);
        let program = program.as_deref().unwrap_or_default();
        for module in modules.iter() {
            if json.is_full(3, 4) {
                left_out[0] += 1
            } else {
                json.module(module, program, symbol_stats)
            }
        }
        json.close(b']');
        json.key("unloaded_modules");
        json.open(b'[');
        for module in unloaded_modules.iter() {
            if json.is_full(7, 8) {
                left_out[1] += 1
            } else {
                json.unloaded_module(module)
            }
        }
        json.close(b']');
        if let Some(handles) = handles {
            json.key("handles");
            json.open(b'[');
            for handle in handles.iter() {
                if json.is_full(7, 8) {
                    left_out[2] += 1
                } else {
                    json.handle(handle)
                }
            }
            json.close(b']');
        }
        let bytes_max = json.bytes_max;
        for (left_out, what) in left_out
            .into_iter()
            .zip(["modules", "unloaded modules", "handles"])
        {
            if left_out > 0 {
                self.notes.push(format!(
                    "{left_out} {what} were left out: the walk takes more than {bytes_max} bytes"
                ));
            }
        }
        let json = &mut self.json;
        if !self.notes.is_empty() {
            json.member("partial", &self.notes);
        }
        json.close(b'}');
        if json.out.len() as u64 > bytes_max {
            Err(WalkError::new(
                "OutputTooLarge",
                format!("the walk takes more than {bytes_max} bytes even without its stacks"),
            ))
        } else {
            Ok(self.json.out)
        }
    }
}

/// Limit of sentences about what an answer lacks.
const NOTES_MAX: usize = 20;

/// The result of writing the frames of a thread.
struct Written {
    frames: usize,
    /// Offset of the first frame's closing bracket; 0 if there is none.
    first_frame_end: usize,
}

/// A buffer that adds JSON's commas. No value ends in an opening bracket or a colon, so the last byte shows
/// whether a comma is needed.
struct Writer {
    out: Vec<u8>,
    /// Number of hex digits of an address, by the CPU's pointer width.
    address_digits: usize,
    bytes_max: u64,
    mode: Mode,
}

impl Writer {
    fn head(&mut self, state: &ProcessState, reason_text: Option<&str>) -> Result<(), WalkError> {
        let unprintable =
            |error| WalkError::new("UnknownError", format!("head of the JSON: {error}"));
        let mut head = Vec::new();
        state.print_json(&mut head, false).map_err(unprintable)?;
        let head: BTreeMap<&str, &RawValue> = serde_json::from_slice(&head).map_err(unprintable)?;
        for key in HEAD {
            if let Some(value) = head.get(key)
                && value.get() != "null"
            {
                self.key(key);
                self.out.extend_from_slice(value.get().as_bytes());
                if key == "crash_info"
                    && let Some(text) = reason_text
                    && self.out.pop_if(|last| *last == b'}').is_some()
                {
                    self.text("reason_text", text);
                    self.close(b'}');
                }
            }
        }
        Ok(())
    }

    fn proc_limits(&mut self, limits: &LinuxProcLimits) {
        let mut limits: Vec<_> = limits.limits.iter().collect();
        limits.sort_unstable_by_key(|(name, _)| name.as_str());
        self.key("proc_limits");
        self.open(b'{');
        self.key("limits");
        self.open(b'[');
        for (name, limit) in limits {
            self.open(b'{');
            self.member("name", name);
            self.member("soft", &limit.soft);
            self.member("hard", &limit.hard);
            self.member("unit", &limit.unit);
            self.close(b'}');
        }
        self.close(b']');
        self.close(b'}');
    }

    /// Writes the members of a thread into the open object.
    fn thread_members(&mut self, stack: &Stack) -> Written {
        self.number("thread_id", u64::from(stack.thread_id));
        self.optional_text("thread_name", stack.name.as_deref());
        self.optional_text("last_error_value", stack.last_error.as_deref());
        self.number("frame_count", stack.count as u64);
        let is_cut = stack.omitted() > 0;
        if is_cut {
            self.flag("truncated", true);
        }
        self.key("frames");
        self.open(b'[');
        let mut written = Written {
            frames: 0,
            first_frame_end: 0,
        };
        for (index, frame) in stack.head.iter().enumerate() {
            if self.is_full(1, 2) {
                break;
            }
            self.frame(index, frame);
            if index == 0 {
                written.first_frame_end = self.out.len() - 1;
            }
            written.frames += 1;
        }
        if is_cut && !self.is_full(1, 2) {
            self.gap(stack.head.len(), stack.omitted());
        }
        let first_of_tail = stack.count - stack.tail.len();
        for (index, frame) in stack.tail.iter().enumerate() {
            if self.is_full(1, 2) {
                break;
            }
            self.frame(first_of_tail + index, frame);
            written.frames += 1;
        }
        self.close(b']');
        written
    }

    /// Writes the marker for the missing middle of a long stack, as in Socorro's processed crashes.
    fn gap(&mut self, index: usize, omitted: usize) {
        self.open(b'{');
        self.number("frame", index as u64);
        self.key("truncated");
        self.open(b'{');
        self.text("msg", &format!("{omitted} frames left out"));
        self.close(b'}');
        self.close(b'}');
    }

    fn frame(&mut self, index: usize, frame: &Frame) {
        self.open(b'{');
        self.number("frame", index as u64);
        self.address("offset", frame.instruction);
        if let Some(module) = &frame.module {
            self.text("module", leaf(&module.name));
            let base = module.raw.base_of_image;
            self.address("module_offset", frame.instruction.wrapping_sub(base));
        }
        if let Some(function) = &frame.function {
            self.text("function", &function.name);
            let offset = frame.instruction.wrapping_sub(function.base);
            self.address("function_offset", offset);
            if let Some(module) = &frame.module
                && self.mode == Mode::True
                && function.name.starts_with(UNKNOWN_IN)
            {
                let base = module.raw.base_of_image;
                self.address("function_start", function.base.wrapping_sub(base));
            }
        }
        if let Some(source) = &frame.source {
            self.text("file", &source.file);
            self.number("line", u64::from(source.line));
        }
        if !frame.inlines.is_empty() {
            self.key("inlines");
            self.open(b'[');
            for inline in &frame.inlines {
                self.open(b'{');
                self.text("function", &inline.function_name);
                self.optional_text("file", inline.source_file_name.as_deref());
                if let Some(line) = inline.source_line {
                    self.number("line", u64::from(line));
                }
                self.close(b'}');
            }
            self.close(b']');
        }
        if !frame.unloaded_modules.is_empty() {
            self.key("unloaded_modules");
            self.open(b'[');
            for (module, offsets) in &frame.unloaded_modules {
                self.open(b'{');
                self.text("module", module);
                self.key("offsets");
                self.open(b'[');
                for offset in offsets {
                    self.comma();
                    self.address_value(*offset);
                }
                self.close(b']');
                self.close(b'}');
            }
            self.close(b']');
        }
        self.flag("missing_symbols", frame.function.is_none());
        self.text("trust", frame.trust.as_str());
        self.close(b'}');
    }

    /// Inserts registers into the object that ends at `end`.
    fn insert_registers(&mut self, end: usize, context: &MinidumpContext) {
        if end == 0 {
            return;
        }
        let rest = self.out.split_off(end);
        self.registers(context);
        self.out.extend_from_slice(&rest);
    }

    fn registers(&mut self, context: &MinidumpContext) {
        let all = context.general_purpose_registers();
        let is_valid = |register: &&str| match &context.valid {
            MinidumpContextValidity::All => true,
            MinidumpContextValidity::Some(which) => HashSet::contains(which, *register),
        };
        self.key("registers");
        self.open(b'{');
        for register in all.iter().filter(|register| is_valid(register)) {
            self.text(register, &context.format_register(register));
        }
        self.close(b'}');
    }

    fn module(
        &mut self,
        module: &MinidumpModule,
        program: &str,
        stats: &HashMap<String, SymbolStats>,
    ) {
        let code_file = module.code_file();
        let name = leaf(&code_file);
        let stats = stats.get(name);
        let debug_file = module.debug_file();
        let debug_id = module.debug_identifier().unwrap_or_default();
        let code_id = module.code_identifier();
        let (base, size) = (module.raw.base_of_image, module.raw.size_of_image);
        self.open(b'{');
        self.address("base_addr", base);
        self.address("end_addr", base.wrapping_add(u64::from(size)));
        self.text("filename", name);
        self.text("code_id", code_id.as_ref().map_or("", |id| id.as_str()));
        self.text("debug_file", leaf(debug_file.as_deref().unwrap_or("")));
        self.text("debug_id", &debug_id.breakpad().to_string());
        self.optional_text("version", module.version().as_deref());
        // Only modules that a frame needed can miss symbols. For the other modules we do not know.
        let is_loaded = stats.is_some_and(|stats| stats.loaded_symbols);
        self.flag("missing_symbols", stats.is_some() && !is_loaded);
        self.flag("loaded_symbols", is_loaded);
        let is_corrupt = stats.is_some_and(|stats| stats.corrupt_symbols);
        self.flag("corrupt_symbols", is_corrupt);
        let url = stats.and_then(|stats| stats.symbol_url.as_deref());
        self.optional_text("symbol_url", url);
        if self.mode == Mode::True {
            self.member("location", &location::of(&code_file, program));
        }
        self.close(b'}');
    }

    fn unloaded_module(&mut self, module: &MinidumpUnloadedModule) {
        let code_id = module.code_identifier();
        let (base, size) = (module.raw.base_of_image, module.raw.size_of_image);
        self.open(b'{');
        self.address("base_addr", base);
        self.address("end_addr", base.wrapping_add(u64::from(size)));
        self.text("filename", &module.name);
        self.text("code_id", code_id.as_ref().map_or("", |id| id.as_str()));
        self.close(b'}');
    }

    fn handle(&mut self, handle: &MinidumpHandleDescriptor) {
        self.open(b'{');
        if let Some(handle) = handle.raw.handle() {
            self.number("handle", *handle);
        }
        self.optional_text("type_name", handle.type_name.as_deref());
        self.optional_text("object_name", handle.object_name.as_deref());
        self.close(b'}');
    }

    /// Whether more than a share of the allowed bytes is used.
    fn is_full(&self, share: u64, of: u64) -> bool {
        self.out.len() as u64 > self.bytes_max / of * share
    }

    fn comma(&mut self) {
        if !matches!(self.out.last(), None | Some(b'{' | b'[' | b':')) {
            self.out.push(b',');
        }
    }

    fn open(&mut self, bracket: u8) {
        self.comma();
        self.out.push(bracket);
    }

    fn close(&mut self, bracket: u8) {
        self.out.push(bracket);
    }

    /// Writes a key of the schema: a plain word that needs no escapes.
    fn key(&mut self, key: &str) {
        self.comma();
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn member(&mut self, key: &str, value: &(impl Serialize + ?Sized)) {
        self.key(key);
        serde_json::to_writer(&mut self.out, value).expect("plain values are JSON");
    }

    fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        let mut digits = [0; 20];
        let mut at = digits.len();
        let mut rest = value;
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.out.extend_from_slice(&digits[at..]);
    }

    fn flag(&mut self, key: &str, value: bool) {
        self.key(key);
        let word: &[u8] = if value { b"true" } else { b"false" };
        self.out.extend_from_slice(word);
    }

    fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        // Names of functions and files rarely need an escape. Then they are copied directly.
        let is_plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
        if value.bytes().all(is_plain) {
            self.out.push(b'"');
            self.out.extend_from_slice(value.as_bytes());
            self.out.push(b'"');
        } else {
            serde_json::to_writer(&mut self.out, value).expect("a text is JSON");
        }
    }

    fn optional_text(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    fn address(&mut self, key: &str, address: u64) {
        self.key(key);
        self.address_value(address);
    }

    /// `"0x0000dead"`: padded to the pointer width, and wider if the value needs it.
    fn address_value(&mut self, address: u64) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let needed = (64 - address.leading_zeros() as usize).div_ceil(4);
        self.out.extend_from_slice(b"\"0x");
        for digit in (0..self.address_digits.max(needed)).rev() {
            let nibble = (address >> (digit * 4)) & 0xf;
            self.out.push(HEX[nibble as usize]);
        }
        self.out.push(b'"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_padded_to_the_pointer_width_and_never_cut() {
        for (digits, address, expected) in [
            (8, 0, "\"0x00000000\""),
            (8, 0xdead_beef, "\"0xdeadbeef\""),
            (8, 0x1_0000_0000, "\"0x100000000\""),
            (16, 0x7fff, "\"0x0000000000007fff\""),
            (16, u64::MAX, "\"0xffffffffffffffff\""),
        ] {
            let mut json = Writer {
                out: vec![],
                address_digits: digits,
                bytes_max: 0,
                mode: Mode::Compat,
            };
            json.address_value(address);
            assert_eq!(String::from_utf8(json.out).unwrap(), expected);
        }
    }
}
