//! The walk of a dump as data: the JSON of `minidump-stackwalk` 0.27, as types.
//!
//! Source: `json-schema.md` of minidump-processor 0.27. Its rule is that every field may be absent or null,
//! and that keys are only added. So here everything is optional or has a default, and unknown keys are
//! ignored. Addresses stay text: hex with `0x`, padded to the pointer width of the crashed program, and shown
//! unchanged.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// The walk of one dump.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Walk {
    /// `OK`. A walk that failed has no JSON at all.
    #[serde(deserialize_with = "null_as_default")]
    pub status: String,
    pub pid: Option<u64>,
    /// Seconds from the start of the process to the dump.
    pub process_uptime: Option<u64>,
    #[serde(deserialize_with = "null_as_default")]
    pub crash_info: CrashInfo,
    #[serde(deserialize_with = "null_as_default")]
    pub system_info: SystemInfo,
    /// Linux only.
    pub lsb_release: Option<LsbRelease>,
    pub linux_memory_map_count: Option<u64>,
    /// `{"num_records", "records": [{"thread", "module", "message", ...}]}`, macOS only.
    pub mac_crash_info: Option<Value>,
    pub mac_boot_args: Option<String>,
    /// `{"limits": [{"name", "soft", "hard", "unit"}]}`, Linux only. A limit is a number, `unlimited` or
    /// `err`.
    pub proc_limits: Option<Value>,
    /// What the writer of the dump could not do, in its own words.
    pub soft_errors: Option<Value>,
    #[serde(deserialize_with = "null_as_default")]
    pub thread_count: u64,
    #[serde(deserialize_with = "null_as_default")]
    pub threads: Vec<Thread>,
    /// The thread that crashed or requested the dump, a second time, with its index in `threads` and with
    /// registers on frame 0. Absent if it has no frames. Prefer [`Walk::crashing_thread`].
    #[serde(rename = "crashing_thread")]
    pub crashing: Option<Thread>,
    /// Index of the program itself in `modules`.
    #[serde(deserialize_with = "null_as_default")]
    pub main_module: usize,
    pub modules_contains_cert_info: Option<bool>,
    /// In the order of the dump.
    #[serde(deserialize_with = "null_as_default")]
    pub modules: Vec<Module>,
    #[serde(deserialize_with = "null_as_default")]
    pub unloaded_modules: Vec<UnloadedModule>,
    /// `[{"handle", "type_name", "object_name"}]`, Windows only.
    pub handles: Option<Value>,
    /// Sentences about data of the dump that is missing here, because a limit was reached. Our addition to
    /// the schema.
    #[serde(deserialize_with = "null_as_default")]
    pub partial: Vec<String>,
}

/// Why the dump was written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CrashInfo {
    /// The crash reason, such as `SIGSEGV / SEGV_MAPERR`; absent if nothing crashed.
    #[serde(rename = "type")]
    pub reason: Option<String>,
    /// The address that the crash is about: of the data that could not be accessed, or of the code.
    pub address: Option<String>,
    /// A better guess at `address`, from the crashing instruction.
    pub adjusted_address: Option<AdjustedAddress>,
    /// The crashing instruction, disassembled; x86-64 only.
    pub instruction: Option<String>,
    /// Absent if the instruction could not be analysed; empty if it accesses no memory.
    pub memory_accesses: Option<Vec<MemoryAccess>>,
    pub instruction_pointer_update: Option<InstructionPointerUpdate>,
    #[serde(deserialize_with = "null_as_default")]
    pub possible_bit_flips: Vec<PossibleBitFlip>,
    /// Snake-case words, such as `int_div_by_zero_not_possible`.
    #[serde(deserialize_with = "null_as_default")]
    pub crash_inconsistencies: Vec<String>,
    /// Index in `threads` of the thread that crashed or requested the dump.
    pub crashing_thread: Option<usize>,
    pub assertion: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AdjustedAddress {
    /// `non-canonical`, with `address`, or `null-pointer`, with `offset`.
    #[serde(deserialize_with = "null_as_default")]
    pub kind: String,
    pub address: Option<String>,
    pub offset: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryAccess {
    pub address: Option<String>,
    /// Bytes.
    pub size: Option<u64>,
    /// Present only if it is true.
    pub is_likely_guard_page: Option<bool>,
    /// `read`, `write` or `readwrite`.
    pub access_type: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct InstructionPointerUpdate {
    pub address: Option<String>,
    pub is_likely_guard_page: Option<bool>,
}

/// A valid address that differs from the crash address by one bit: perhaps bad memory and not a bug.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PossibleBitFlip {
    pub address: Option<String>,
    pub source_register: Option<String>,
    /// 0 to 1.
    pub confidence: Option<f64>,
    /// The heuristics behind `confidence`.
    pub details: Option<Value>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SystemInfo {
    /// `Linux`, `Windows NT`, `Mac OS X`, `iOS`, `Android` ...
    pub os: Option<String>,
    pub os_ver: Option<String>,
    /// `x86`, `amd64`, `arm`, `arm64` ...
    pub cpu_arch: Option<String>,
    pub cpu_info: Option<String>,
    pub cpu_count: Option<u64>,
    /// Hex with `0x`.
    pub cpu_microcode_version: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LsbRelease {
    pub id: Option<String>,
    pub release: Option<String>,
    pub codename: Option<String>,
    pub description: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Thread {
    /// Index in `threads`; only on [`Walk::crashing`].
    pub threads_index: Option<usize>,
    pub thread_id: Option<u64>,
    pub thread_name: Option<String>,
    /// Windows' `GetLastError()`, in words.
    pub last_error_value: Option<String>,
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
    pub frame: u64,
    /// Set if this is not a frame but replaces frames that were left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truncated: Option<Truncated>,
    /// How the frame was found: `context`, `cfi`, `frame_pointer`, `cfi_scan`, `scan`, `prewalked`, `non`.
    #[serde(deserialize_with = "null_as_default")]
    pub trust: String,
    /// The absolute address. For a caller, it is within the call instruction.
    pub offset: Option<String>,
    /// File name of the code file, without folders.
    pub module: Option<String>,
    pub module_offset: Option<String>,
    pub function: Option<String>,
    /// Relative to the function's start.
    pub function_offset: Option<String>,
    pub file: Option<String>,
    pub line: Option<u32>,
    /// Calls inlined into this function at this place, innermost first. They share the frame's address. The
    /// frame's own `file` and `line` are the place from which the outermost of them is called.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub inlines: Vec<Inline>,
    /// If the address is in no loaded module: the modules that were there before they were unloaded.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub unloaded_modules: Vec<UnloadedAt>,
    pub missing_symbols: Option<bool>,
    /// Register name to hex value, in the CPU's usual order; only on frame 0 of [`Walk::crashing`].
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "Map::is_empty"
    )]
    pub registers: Map<String, Value>,
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
pub struct Inline {
    pub function: Option<String>,
    pub file: Option<String>,
    pub line: Option<u32>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UnloadedAt {
    pub module: Option<String>,
    /// One for each place at which the module was loaded, ascending.
    #[serde(deserialize_with = "null_as_default")]
    pub offsets: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Module {
    pub base_addr: Option<String>,
    /// The first address after the module.
    pub end_addr: Option<String>,
    /// File name of the code file, without folders.
    pub filename: Option<String>,
    pub code_id: Option<String>,
    /// File name of the debug file, without folders.
    pub debug_file: Option<String>,
    /// Breakpad form; all zeros if the dump has none.
    pub debug_id: Option<String>,
    pub version: Option<String>,
    pub cert_subject: Option<String>,
    /// A frame needed its symbols, and there were none.
    pub missing_symbols: Option<bool>,
    /// Symbols were found. They may still be corrupt.
    pub loaded_symbols: Option<bool>,
    /// Symbols were found, but not used because they are corrupt.
    pub corrupt_symbols: Option<bool>,
    pub symbol_url: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UnloadedModule {
    pub base_addr: Option<String>,
    pub end_addr: Option<String>,
    pub filename: Option<String>,
    pub code_id: Option<String>,
    pub cert_subject: Option<String>,
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

impl Frame {
    /// The best name that is known.
    pub fn place(&self) -> String {
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
