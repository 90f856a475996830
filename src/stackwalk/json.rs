//! The walk as JSON, in the schema of `minidump-stackwalk --json` 0.27.
//!
//! Written straight into one buffer. The crates' own `print_json` builds a tree of the whole
//! answer first and costs three to four times the walk itself; on a dump of 11,000 frames this
//! writer takes a twentieth of that. It is still the authority for the head (crash, system, limits:
//! small, and partly of types that cannot be named from outside): the state is stripped of its bulk
//! before it prints that.
//!
//! Differences in form only: a key whose value would be null is left out, and
//! `proc_limits.limits`, which comes out of a hash map, is sorted by name. Address arithmetic wraps:
//! a module of a hostile dump may end past the last address.

use std::collections::{BTreeMap, HashMap, HashSet};

use minidump::system_info::PointerWidth;
use minidump::{
    MinidumpContext, MinidumpContextValidity, MinidumpHandleDataStream, MinidumpModule,
    MinidumpModuleList, MinidumpUnloadedModuleList, Module,
};
use minidump_processor::{LinuxProcLimits, ProcessState};
use minidump_unwind::{CallStack, CallStackInfo, StackFrame, SymbolStats};
use serde::Serialize;
use serde_json::value::RawValue;

use super::WalkError;

/// The keys taken over from the crates' own writer, in our order.
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

/// Writes the state, or refuses when the text grows past `bytes_max`.
pub(super) fn write(mut state: ProcessState, bytes_max: u64) -> Result<Vec<u8>, WalkError> {
    let bulk = Bulk::strip_from(&mut state);
    let mut json = Writer {
        out: Vec::with_capacity(64 << 10),
        address_digits: match state.system_info.cpu.pointer_width() {
            PointerWidth::Bits32 => 8,
            _ => 16,
        },
        bytes_max,
    };
    json.open(b'{');
    json.head(&state)?;
    if let Some(limits) = &bulk.proc_limits {
        json.proc_limits(limits);
    }
    json.member("thread_count", &bulk.threads.len());
    if let Some(index) = bulk.crashing_thread {
        let thread = &bulk.threads[index];
        if let Some(frame) = thread.frames.first() {
            json.key("crashing_thread");
            json.thread(thread, Some((index, &frame.context)))?;
        }
    }
    json.key("threads");
    json.open(b'[');
    for thread in &bulk.threads {
        json.thread(thread, None)?;
    }
    json.close(b']');
    json.key("modules");
    json.open(b'[');
    for module in bulk.modules.iter() {
        json.module(module, &bulk.symbol_stats)?;
    }
    json.close(b']');
    json.unloaded_modules(&bulk.unloaded_modules)?;
    if let Some(handles) = &bulk.handles {
        json.handles(handles)?;
    }
    json.close(b'}');
    json.check_size()?;
    Ok(json.out)
}

/// The parts of a state that grow with the dump; what is left prints in microseconds.
struct Bulk {
    threads: Vec<CallStack>,
    crashing_thread: Option<usize>,
    modules: MinidumpModuleList,
    unloaded_modules: MinidumpUnloadedModuleList,
    handles: Option<MinidumpHandleDataStream>,
    proc_limits: Option<LinuxProcLimits>,
    symbol_stats: HashMap<String, SymbolStats>,
}

impl Bulk {
    fn strip_from(state: &mut ProcessState) -> Self {
        let threads = std::mem::take(&mut state.threads);
        state.requesting_thread = state
            .requesting_thread
            .filter(|index| *index < threads.len());
        // The head names the crashing thread by index, and its writer looks that thread up.
        if let Some(index) = state.requesting_thread {
            state.threads = vec![CallStack::with_info(0, CallStackInfo::Ok); index + 1];
        }
        Self {
            threads,
            crashing_thread: state.requesting_thread,
            modules: std::mem::replace(&mut state.modules, MinidumpModuleList::new()),
            unloaded_modules: std::mem::replace(
                &mut state.unloaded_modules,
                MinidumpUnloadedModuleList::new(),
            ),
            handles: state.handles.take(),
            proc_limits: state.linux_proc_limits.take(),
            symbol_stats: std::mem::take(&mut state.symbol_stats),
        }
    }
}

/// A buffer that knows JSON's commas. Every value ends in a byte other than an opening bracket or
/// a colon, so the last byte tells whether a comma is due.
struct Writer {
    out: Vec<u8>,
    /// Hex digits of an address, by the CPU's pointer width.
    address_digits: usize,
    bytes_max: u64,
}

impl Writer {
    fn head(&mut self, state: &ProcessState) -> Result<(), WalkError> {
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

    /// A thread; the crashing one stands at the top level a second time, there with its index and
    /// the registers of its first frame.
    fn thread(
        &mut self,
        thread: &CallStack,
        crashing: Option<(usize, &MinidumpContext)>,
    ) -> Result<(), WalkError> {
        self.open(b'{');
        if let Some((index, _)) = crashing {
            self.member("threads_index", &index);
        }
        self.member("thread_id", &thread.thread_id);
        self.optional("thread_name", thread.thread_name.as_ref());
        let last_error = thread.last_error_value.map(|error| error.to_string());
        self.optional("last_error_value", last_error.as_ref());
        self.member("frame_count", &thread.frames.len());
        self.key("frames");
        self.open(b'[');
        for (index, frame) in thread.frames.iter().enumerate() {
            let registers = crashing.filter(|_| index == 0).map(|(_, context)| context);
            self.frame(index, frame, registers);
            self.check_size()?;
        }
        self.close(b']');
        self.close(b'}');
        Ok(())
    }

    fn frame(&mut self, index: usize, frame: &StackFrame, registers: Option<&MinidumpContext>) {
        self.open(b'{');
        self.member("frame", &index);
        self.address("offset", frame.instruction);
        if let Some(module) = &frame.module {
            self.member("module", leaf(&module.name));
            let base = module.raw.base_of_image;
            self.address("module_offset", frame.instruction.wrapping_sub(base));
        }
        self.optional("function", frame.function_name.as_ref());
        if let Some(base) = frame.function_base {
            self.address("function_offset", frame.instruction.wrapping_sub(base));
        }
        self.optional("file", frame.source_file_name.as_ref());
        self.optional("line", frame.source_line.as_ref());
        if !frame.inlines.is_empty() {
            self.key("inlines");
            self.open(b'[');
            for inline in &frame.inlines {
                self.open(b'{');
                self.member("function", &inline.function_name);
                self.optional("file", inline.source_file_name.as_ref());
                self.optional("line", inline.source_line.as_ref());
                self.close(b'}');
            }
            self.close(b']');
        }
        if !frame.unloaded_modules.is_empty() {
            self.key("unloaded_modules");
            self.open(b'[');
            for (module, offsets) in &frame.unloaded_modules {
                self.open(b'{');
                self.member("module", module);
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
        self.member("missing_symbols", &frame.function_name.is_none());
        self.member("trust", frame.trust.as_str());
        if let Some(context) = registers {
            self.registers(context);
        }
        self.close(b'}');
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
            self.member(register, &context.format_register(register));
        }
        self.close(b'}');
    }

    fn module(
        &mut self,
        module: &MinidumpModule,
        stats: &HashMap<String, SymbolStats>,
    ) -> Result<(), WalkError> {
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
        self.member("filename", name);
        self.member("code_id", code_id.as_ref().map_or("", |id| id.as_str()));
        self.member("debug_file", leaf(debug_file.as_deref().unwrap_or("")));
        self.member("debug_id", &debug_id.breakpad().to_string());
        self.optional("version", module.version().as_ref());
        // Missing is said only of modules some frame asked for; of the others nothing is known.
        let is_loaded = stats.is_some_and(|stats| stats.loaded_symbols);
        self.member("missing_symbols", &(stats.is_some() && !is_loaded));
        self.member("loaded_symbols", &is_loaded);
        let is_corrupt = stats.is_some_and(|stats| stats.corrupt_symbols);
        self.member("corrupt_symbols", &is_corrupt);
        self.optional(
            "symbol_url",
            stats.and_then(|stats| stats.symbol_url.as_ref()),
        );
        self.close(b'}');
        self.check_size()
    }

    fn unloaded_modules(&mut self, modules: &MinidumpUnloadedModuleList) -> Result<(), WalkError> {
        self.key("unloaded_modules");
        self.open(b'[');
        for module in modules.iter() {
            let code_id = module.code_identifier();
            let (base, size) = (module.raw.base_of_image, module.raw.size_of_image);
            self.open(b'{');
            self.address("base_addr", base);
            self.address("end_addr", base.wrapping_add(u64::from(size)));
            self.member("filename", &module.name);
            self.member("code_id", code_id.as_ref().map_or("", |id| id.as_str()));
            self.close(b'}');
            self.check_size()?;
        }
        self.close(b']');
        Ok(())
    }

    fn handles(&mut self, handles: &MinidumpHandleDataStream) -> Result<(), WalkError> {
        self.key("handles");
        self.open(b'[');
        for handle in handles.iter() {
            self.open(b'{');
            self.optional("handle", handle.raw.handle());
            self.optional("type_name", handle.type_name.as_ref());
            self.optional("object_name", handle.object_name.as_ref());
            self.close(b'}');
            self.check_size()?;
        }
        self.close(b']');
        Ok(())
    }

    fn check_size(&self) -> Result<(), WalkError> {
        match self.out.len() as u64 > self.bytes_max {
            false => Ok(()),
            true => Err(WalkError::new(
                "OutputTooLarge",
                format!(
                    "the walk takes more than {} bytes of JSON, too many threads, frames or modules",
                    self.bytes_max
                ),
            )),
        }
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

    /// A key of the schema: a plain word, nothing to escape.
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

    fn optional(&mut self, key: &str, value: Option<&(impl Serialize + ?Sized)>) {
        if let Some(value) = value {
            self.member(key, value);
        }
    }

    fn address(&mut self, key: &str, address: u64) {
        self.key(key);
        self.address_value(address);
    }

    /// `"0x0000dead"`: padded to the pointer width, wider if the value is.
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

fn leaf(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
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
            };
            json.address_value(address);
            assert_eq!(String::from_utf8(json.out).unwrap(), expected);
        }
    }
}
