//! The walk of a dump as data: the JSON of `minidump-stackwalk` 0.27, as types.
//!
//! Source: `json-schema.md` of minidump-processor 0.27. Its rule is that every field may be absent or null,
//! and that keys are only added. So here everything is optional or has a default, and unknown keys are
//! ignored. Addresses stay text: hex with `0x`, padded to the pointer width of the crashed program, and shown
//! unchanged.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// A function whose extent is known but not its name is called this, then the module's file name, then `>`.
/// The name is that of Mozilla's dump_syms.
pub(crate) const UNKNOWN_IN: &str = "<unknown in ";

/// The walk of one dump.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Walk {
    /// `OK`. A walk that failed has no JSON at all.
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) status: String,
    pub(crate) pid: Option<u64>,
    /// Seconds from the start of the process to the dump.
    pub(crate) process_uptime: Option<u64>,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) crash_info: CrashInfo,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) system_info: SystemInfo,
    /// Linux only.
    pub(crate) lsb_release: Option<LsbRelease>,
    pub(crate) linux_memory_map_count: Option<u64>,
    /// `{"num_records", "records": [{"thread", "module", "message", ...}]}`, macOS only.
    pub(crate) mac_crash_info: Option<Value>,
    pub(crate) mac_boot_args: Option<String>,
    /// `{"limits": [{"name", "soft", "hard", "unit"}]}`, Linux only. A limit is a number, `unlimited` or
    /// `err`.
    pub(crate) proc_limits: Option<Value>,
    /// What the writer of the dump could not do, in its own words.
    pub(crate) soft_errors: Option<Value>,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) thread_count: u64,
    #[serde(deserialize_with = "null_as_default")]
    pub threads: Vec<Thread>,
    /// The thread that crashed or requested the dump, a second time, with its index in `threads` and with
    /// registers on frame 0. Absent if it has no frames. Prefer [`Walk::crashing_thread`].
    #[serde(rename = "crashing_thread")]
    pub(crate) crashing: Option<Thread>,
    /// Index of the program itself in `modules`.
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) main_module: usize,
    pub(crate) modules_contains_cert_info: Option<bool>,
    /// In the order of the dump.
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) modules: Vec<Module>,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) unloaded_modules: Vec<UnloadedModule>,
    /// `[{"handle", "type_name", "object_name"}]`, Windows only.
    pub(crate) handles: Option<Value>,
    /// Sentences about data of the dump that is missing here, because a limit was reached. Our addition to
    /// the schema.
    #[serde(deserialize_with = "null_as_default")]
    pub partial: Vec<String>,
}

/// Why the dump was written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct CrashInfo {
    /// The crash reason, such as `SIGSEGV / SEGV_MAPERR`; absent if nothing crashed.
    #[serde(rename = "type")]
    pub(crate) reason: Option<String>,
    /// Why the dump was written, in words. Our addition to the schema.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason_text: Option<String>,
    /// The address that the crash is about: of the data that could not be accessed, or of the code.
    pub(crate) address: Option<String>,
    /// A better guess at `address`, from the crashing instruction.
    pub(crate) adjusted_address: Option<AdjustedAddress>,
    /// The crashing instruction, disassembled; x86-64 only.
    pub(crate) instruction: Option<String>,
    /// Absent if the instruction could not be analysed; empty if it accesses no memory.
    pub(crate) memory_accesses: Option<Vec<MemoryAccess>>,
    pub(crate) instruction_pointer_update: Option<InstructionPointerUpdate>,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) possible_bit_flips: Vec<PossibleBitFlip>,
    /// Snake-case words, such as `int_div_by_zero_not_possible`.
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) crash_inconsistencies: Vec<String>,
    /// Index in `threads` of the thread that crashed or requested the dump.
    pub(crate) crashing_thread: Option<usize>,
    pub(crate) assertion: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct AdjustedAddress {
    /// `non-canonical`, with `address`, or `null-pointer`, with `offset`.
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) kind: String,
    pub(crate) address: Option<String>,
    pub(crate) offset: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct MemoryAccess {
    pub(crate) address: Option<String>,
    /// Bytes.
    pub(crate) size: Option<u64>,
    /// Present only if it is true.
    pub(crate) is_likely_guard_page: Option<bool>,
    /// `read`, `write` or `readwrite`.
    pub(crate) access_type: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct InstructionPointerUpdate {
    pub(crate) address: Option<String>,
    pub(crate) is_likely_guard_page: Option<bool>,
}

/// A valid address that differs from the crash address by one bit: perhaps bad memory and not a bug.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PossibleBitFlip {
    pub(crate) address: Option<String>,
    pub(crate) source_register: Option<String>,
    /// 0 to 1.
    pub(crate) confidence: Option<f64>,
    /// The heuristics behind `confidence`.
    pub(crate) details: Option<Value>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct SystemInfo {
    /// `Linux`, `Windows NT`, `Mac OS X`, `iOS`, `Android` ...
    pub(crate) os: Option<String>,
    pub(crate) os_ver: Option<String>,
    /// `x86`, `amd64`, `arm`, `arm64` ...
    pub(crate) cpu_arch: Option<String>,
    pub(crate) cpu_info: Option<String>,
    pub(crate) cpu_count: Option<u64>,
    /// Hex with `0x`.
    pub(crate) cpu_microcode_version: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LsbRelease {
    pub(crate) id: Option<String>,
    pub(crate) release: Option<String>,
    pub(crate) codename: Option<String>,
    pub(crate) description: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Thread {
    /// Index in `threads`; only on [`Walk::crashing`].
    pub(crate) threads_index: Option<usize>,
    pub(crate) thread_id: Option<u64>,
    pub(crate) thread_name: Option<String>,
    /// Windows' `GetLastError()`, in words.
    pub(crate) last_error_value: Option<String>,
    /// Number of frames that were found. It is greater than the length of `frames` if frames in the middle
    /// were left out.
    #[serde(deserialize_with = "null_as_default")]
    pub frame_count: u64,
    /// Present only if it is true: one entry in the middle replaces the frames that were left out.
    pub truncated: Option<bool>,
    /// Innermost callee first.
    #[serde(deserialize_with = "null_as_default")]
    pub frames: Vec<Frame>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Frame {
    /// Index in the thread, 0 is innermost. Inlined calls are not counted.
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) frame: u64,
    /// Set if this is not a frame but replaces frames that were left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truncated: Option<Truncated>,
    /// How the frame was found: `context`, `cfi`, `frame_pointer`, `cfi_scan`, `scan`, `prewalked`, `non`.
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) trust: String,
    /// The absolute address. For a caller, it is within the call instruction.
    pub(crate) offset: Option<String>,
    /// File name of the code file, without folders.
    pub(crate) module: Option<String>,
    pub(crate) module_offset: Option<String>,
    pub(crate) function: Option<String>,
    /// Relative to the function's start.
    pub(crate) function_offset: Option<String>,
    /// If the function is known but not its name: its start, relative to the start of the module. It is the
    /// same for all addresses of a function. Our addition to the schema.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) function_start: Option<String>,
    pub(crate) file: Option<String>,
    pub(crate) line: Option<u32>,
    /// Calls inlined into this function at this place, innermost first. They share the frame's address. The
    /// frame's own `file` and `line` are the place from which the outermost of them is called.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(crate) inlines: Vec<Inline>,
    /// If the address is in no loaded module: the modules that were there before they were unloaded.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(crate) unloaded_modules: Vec<UnloadedAt>,
    pub(crate) missing_symbols: Option<bool>,
    /// Register name to hex value, in the CPU's usual order; only on frame 0 of [`Walk::crashing`].
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "Map::is_empty"
    )]
    pub(crate) registers: Map<String, Value>,
}

/// Socorro's marker for frames that were left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Truncated {
    /// `1234 frames left out`.
    pub msg: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Inline {
    pub(crate) function: Option<String>,
    pub(crate) file: Option<String>,
    pub(crate) line: Option<u32>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct UnloadedAt {
    pub(crate) module: Option<String>,
    /// One for each place at which the module was loaded, ascending.
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) offsets: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Module {
    pub(crate) base_addr: Option<String>,
    /// The first address after the module.
    pub(crate) end_addr: Option<String>,
    /// File name of the code file, without folders.
    pub(crate) filename: Option<String>,
    pub(crate) code_id: Option<String>,
    /// File name of the debug file, without folders.
    pub(crate) debug_file: Option<String>,
    /// Breakpad form; all zeros if the dump has none.
    pub(crate) debug_id: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) cert_subject: Option<String>,
    /// A frame needed its symbols, and there were none.
    pub(crate) missing_symbols: Option<bool>,
    /// Symbols were found. They may still be corrupt.
    pub(crate) loaded_symbols: Option<bool>,
    /// Symbols were found, but not used because they are corrupt.
    pub(crate) corrupt_symbols: Option<bool>,
    pub(crate) symbol_url: Option<String>,
    /// Absent if the walk is to equal that of `minidump-stackwalk`. Our addition to the schema.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) location: Option<Location>,
}

/// Whose folder a module was loaded from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Location {
    /// The folder of the program, or one below.
    Program,
    /// A folder of the operating system.
    System,
    /// A folder of drivers.
    Driver,
    /// Another one, or none is known.
    Other,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct UnloadedModule {
    pub(crate) base_addr: Option<String>,
    pub(crate) end_addr: Option<String>,
    pub(crate) filename: Option<String>,
    pub(crate) code_id: Option<String>,
    pub(crate) cert_subject: Option<String>,
}

impl Walk {
    /// The thread that crashed or requested the dump, and its index in `threads`.
    ///
    /// Its first frame has the registers if the walk has them.
    pub fn crashing_thread(&self) -> Option<(usize, &Thread)> {
        if let Some(thread) = &self.crashing
            && let Some(index) = thread.threads_index.or(self.crash_info.crashing_thread)
        {
            return Some((index, thread));
        }
        let index = self.crash_info.crashing_thread?;
        Some((index, self.threads.get(index)?))
    }
}

/// Modules of runtimes that make code while a program runs: the start of the file name in lower case without
/// `lib`, and the runtime.
const RUNTIMES: [(&str, &str); 19] = [
    ("coreclr", ".NET"),
    ("clrjit", ".NET"),
    ("clr.dll", ".NET"),
    ("mscorwks", ".NET"),
    ("mono-", "Mono"),
    ("mono.", "Mono"),
    ("monosgen", "Mono"),
    ("monobdwgc", "Mono"),
    ("jvm.", "Java"),
    ("j9jit", "Java"),
    ("luajit", "LuaJIT"),
    ("lua51.dll", "LuaJIT"),
    ("v8.", "V8 (JavaScript)"),
    ("node.", "V8 (JavaScript)"),
    ("nw.", "V8 (JavaScript)"),
    ("cef.", "V8 (JavaScript)"),
    ("javascriptcore", "JavaScriptCore"),
    ("xul.", "SpiderMonkey (JavaScript)"),
    ("art.so", "ART (Android)"),
];

impl Walk {
    /// The first runtime in the process that makes code while the program runs (JIT). No symbol file has
    /// names for that code.
    pub(crate) fn code_maker(&self) -> Option<&'static str> {
        self.modules.iter().find_map(|module| {
            let name = module.filename.as_deref()?.to_ascii_lowercase();
            let name = name.strip_prefix("lib").unwrap_or(&name);
            let runtime = RUNTIMES.iter().find(|(start, _)| name.starts_with(start));
            runtime.map(|(_, runtime)| *runtime)
        })
    }
}

impl Thread {
    /// Number of frames that are in no module, loaded or unloaded. Address 0 and its neighbours are no code.
    pub(crate) fn frames_outside_modules(&self) -> usize {
        let is_null_page = |frame: &Frame| {
            let digits = frame
                .offset
                .as_deref()
                .and_then(|hex| hex.strip_prefix("0x"));
            let address = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
            address.is_none_or(|address| address < 4096)
        };
        self.frames
            .iter()
            .filter(|frame| {
                frame.truncated.is_none()
                    && frame.module.is_none()
                    && frame.unloaded_modules.is_empty()
                    && !is_null_page(frame)
            })
            .count()
    }
}

impl Frame {
    /// Whether the function is known, but not its name.
    pub(crate) fn is_unnamed(&self) -> bool {
        let function = self.function.as_deref();
        function.is_some_and(|function| function.starts_with(UNKNOWN_IN))
    }

    /// The best name that is known.
    pub(crate) fn place(&self) -> String {
        if let Some(function) = &self.function {
            return function.clone();
        }
        let address = self.offset.as_deref().unwrap_or("?");
        match (
            &self.module,
            &self.module_offset,
            self.unloaded_modules.first(),
        ) {
            (Some(module), Some(offset), _) => format!("{module} + {}", short(offset)),
            (Some(module), None, _) => module.clone(),
            (None, _, Some(unloaded)) => {
                let name = unloaded.module.as_deref().unwrap_or("unknown");
                let offset = unloaded.offsets.first().map_or(address, String::as_str);
                format!("(unloaded {name}) + {}", short(offset))
            }
            _ => short(address),
        }
    }
}

/// An address without its leading zeros.
fn short(hex: &str) -> String {
    match hex
        .strip_prefix("0x")
        .map(|digits| digits.trim_start_matches('0'))
    {
        Some("") => "0x0".into(),
        Some(digits) => format!("0x{digits}"),
        None => hex.to_owned(),
    }
}

fn null_as_default<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Default + Deserialize<'de>,
    D: Deserializer<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_of_nothing_reads_as_one_of_nulls_does() {
        let empty: Walk = serde_json::from_str("{}").unwrap();
        assert_eq!(empty, Walk::default());
        let whole = serde_json::to_value(Walk {
            threads: vec![Thread {
                frames: vec![Frame::default()],
                ..Thread::default()
            }],
            ..Walk::default()
        });
        let Value::Object(keys) = whole.unwrap() else {
            panic!("a walk is an object");
        };
        let nulls: Map<_, _> = keys
            .into_iter()
            .map(|(key, _)| (key, Value::Null))
            .collect();
        let read: Walk = serde_json::from_value(Value::Object(nulls)).unwrap();
        assert_eq!(read, Walk::default());
    }

    #[test]
    fn nulls_deep_inside_and_unknown_keys_are_taken() {
        let walk: Walk = serde_json::from_str(
            r#"{"crash_info": {"crashing_thread": 0, "possible_bit_flips": null, "new": 1},
                "threads": [{"frames": [{"frame": null, "trust": null, "inlines": null}]},
                            {"frames": null}]}"#,
        )
        .unwrap();
        assert_eq!(walk.threads[0].frames, [Frame::default()]);
        let (index, thread) = walk.crashing_thread().unwrap();
        assert_eq!((index, thread), (0, &walk.threads[0]));
    }

    #[test]
    fn the_crashing_thread_is_the_copy_with_registers_where_there_is_one() {
        let text = r#"{"crash_info": {"crashing_thread": 1}, "threads": [{}, {}],
            "crashing_thread": {"threads_index": 1, "frames": [{"registers": {"rip": "0x1"}}]}}"#;
        let walk: Walk = serde_json::from_str(text).unwrap();
        let (index, thread) = walk.crashing_thread().unwrap();
        assert_eq!(index, 1);
        assert_eq!(thread.frames[0].registers["rip"], "0x1");
    }

    #[test]
    fn an_index_past_the_threads_is_no_thread() {
        let text = r#"{"crash_info": {"crashing_thread": 5}, "threads": [{}]}"#;
        let walk: Walk = serde_json::from_str(text).unwrap();
        assert_eq!(walk.crashing_thread(), None);
    }

    #[test]
    fn code_made_at_run_time_is_recognised_by_its_runtime() {
        let runtime = |filename: &str| {
            let module = Module {
                filename: Some(filename.into()),
                ..Module::default()
            };
            let walk = Walk {
                modules: vec![Module::default(), module],
                ..Walk::default()
            };
            walk.code_maker()
        };
        for (filename, expected) in [
            ("libcoreclr.so", Some(".NET")),
            ("CLR.DLL", Some(".NET")),
            ("mono-2.0-bdwgc.dll", Some("Mono")),
            ("libmonosgen-2.0.so.1", Some("Mono")),
            ("libjvm.so", Some("Java")),
            ("libluajit-5.1.so.2", Some("LuaJIT")),
            ("libart.so", Some("ART (Android)")),
            ("libart.so.1.txt", Some("ART (Android)")),
            ("monitor", None),
            ("artist.exe", None),
            ("libc.so.6", None),
        ] {
            assert_eq!(runtime(filename), expected, "{filename}");
        }
        let thread: Thread = serde_json::from_str(
            r#"{"frames": [{"offset": "0x00007f0012345678"}, {"offset": "0x0000000000000000"},
                {"offset": "0x00007f0012345678", "module": "app"}, {"truncated": {"msg": "x"}},
                {"offset": "0x10000", "unloaded_modules": [{"module": "old.dll"}]}, {"offset": "junk"}]}"#,
        )
        .unwrap();
        assert_eq!(thread.frames_outside_modules(), 1);
    }

    #[test]
    fn a_frame_is_called_by_the_best_that_is_known() {
        let frame =
            |function: Option<&str>, module: Option<&str>, module_offset: Option<&str>| Frame {
                function: function.map(Into::into),
                module: module.map(Into::into),
                module_offset: module_offset.map(Into::into),
                offset: Some("0x0000000000000010".into()),
                ..Frame::default()
            };
        assert_eq!(frame(Some("f"), Some("m"), None).place(), "f");
        assert_eq!(
            frame(None, Some("m.so"), Some("0x0000000000001f26")).place(),
            "m.so + 0x1f26"
        );
        assert_eq!(frame(None, None, None).place(), "0x10");
    }
}
