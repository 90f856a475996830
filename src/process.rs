//! One crash: raw crash and walk in, processed crash out, through an ordered list of small steps.
//!
//! Each step sets a few keys of the processed crash. A step that fails, or even panics, leaves a
//! note and the list goes on: a crash always comes out, with a signature and with what is known.
//! Pure: no store, no clock, no process; the walk of the dump was done before.
//!
//! Names and meanings of the keys are those of Socorro's processed crash schema.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::{Map, Value, json};

use crate::clock::Timestamp;
use crate::crash::id::CrashId;
use crate::crash::raw::{MAIN_DUMP, Part, PartKind, RawCrash, key};
use crate::crash::walk::{Thread, Walk};
use crate::fields;
use crate::signature::{self, CrashData, Generator};

/// What the walk of the main dump came to.
#[derive(Debug)]
pub enum Walked {
    /// The JSON of the walk.
    Whole(Vec<u8>),
    /// The report has no dump.
    NoDump,
    /// The dump cannot be walked: status word, and a sentence for people.
    Unreadable { status: String, why: String },
    /// It was given up: the crash counts as failed.
    GivenUp { status: String, why: String },
}

/// What is known of a crash when its processing begins.
pub struct Input<'a> {
    pub id: CrashId,
    pub raw: &'a RawCrash,
    pub parts: Vec<&'a Part>,
    pub walked: Walked,
    pub started_at: Timestamp,
    pub now: Timestamp,
}

/// A processed crash, ready to be stored.
#[derive(Debug)]
pub struct Processed {
    /// One object; `json_dump`, if there is one, stands last.
    pub json: Vec<u8>,
    pub signature: String,
    /// Why it counts as failed.
    pub failure: Option<String>,
}

/// A processed crash in the making.
struct Draft<'a> {
    input: &'a Input<'a>,
    generator: &'a Generator,
    walk: Option<Walk>,
    out: Map<String, Value>,
    notes: Vec<String>,
}

type Step = (&'static str, fn(&mut Draft) -> Result<(), String>);

const STEPS: &[Step] = &[
    ("Identifiers", identifiers),
    ("ReadWalk", read_walk),
    ("CopyAnnotations", copy_annotations),
    ("Dates", dates),
    ("ProcessType", process_type),
    ("MajorVersion", major_version),
    ("Dumps", dumps),
    ("Cpu", cpu),
    ("Os", os),
    ("CrashingThread", crashing_thread),
    ("CrashHints", crash_hints),
    ("TopmostFile", topmost_file),
    ("ModulesInStack", modules_in_stack),
    ("MissingSymbols", missing_symbols),
    ("Signature", name_crash),
];

/// Runs all steps.
pub fn process(input: &Input, generator: &Generator) -> Processed {
    let mut draft = Draft {
        input,
        generator,
        walk: None,
        out: Map::new(),
        notes: input.raw.metadata.collector_notes.clone(),
    };
    for (name, step) in STEPS {
        match catch_unwind(AssertUnwindSafe(|| step(&mut draft))) {
            Ok(Ok(())) => {}
            Ok(Err(why)) => draft.notes.push(format!("{name}: {why}")),
            Err(_) => {
                tracing::error!(crash_id = %input.id, step = name, "a processing step panicked");
                draft
                    .notes
                    .push(format!("{name}: failed by a fault of its own"));
            }
        }
    }
    draft.finish()
}

impl Draft<'_> {
    fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.out.insert(name.to_owned(), value.into());
    }

    /// Sets a key unless there is no value.
    fn set_some(&mut self, name: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    fn int(&self, name: &str) -> Option<i64> {
        self.out.get(name).and_then(Value::as_i64)
    }

    fn thread(&self) -> Option<(usize, &Thread)> {
        self.walk.as_ref()?.crashing_thread()
    }

    fn finish(mut self) -> Processed {
        let signature = match self
            .out
            .get(fields::name::SIGNATURE)
            .and_then(Value::as_str)
        {
            Some(text) if !text.is_empty() => text.to_owned(),
            _ => "EMPTY: crash failed to process".to_owned(),
        };
        self.set(fields::name::SIGNATURE, signature.as_str());
        let failure = match &self.input.walked {
            Walked::GivenUp { why, .. } => Some(why.clone()),
            _ => None,
        };
        self.set(
            "state",
            if failure.is_some() {
                "failed"
            } else {
                "processed"
            },
        );
        let notes = std::mem::take(&mut self.notes).join("\n");
        self.set("processor_notes", notes);
        self.set("completed_datetime", self.input.now.rfc3339());
        let mut json = serde_json::to_vec(&self.out).expect("a map of JSON values is JSON");
        if let (Walked::Whole(walk), Some(_)) = (&self.input.walked, &self.walk) {
            // The walk is stored as it came; reading it into values and back would cost more
            // than all of the steps.
            json.pop();
            json.extend_from_slice(b",\"json_dump\":");
            json.extend_from_slice(walk.trim_ascii());
            json.push(b'}');
        }
        Processed {
            json,
            signature,
            failure,
        }
    }
}

fn identifiers(draft: &mut Draft) -> Result<(), String> {
    let id = draft.input.id.to_string();
    draft.set("crash_id", id.as_str());
    draft.set("uuid", id);
    draft.set(
        "throttle_rule",
        draft.input.raw.metadata.throttle_rule.as_str(),
    );
    Ok(())
}

fn read_walk(draft: &mut Draft) -> Result<(), String> {
    let (status, success) = match &draft.input.walked {
        Walked::Whole(json) => {
            let walk: Walk = serde_json::from_slice(json)
                .map_err(|e| format!("the walk cannot be read: {e}"))?;
            let status = walk.status.clone();
            draft.walk = Some(walk);
            (status, true)
        }
        Walked::NoDump => {
            draft.notes.push("the report has no minidump".into());
            (String::new(), true)
        }
        Walked::Unreadable { status, why } => {
            draft
                .notes
                .push(format!("the minidump cannot be walked: {why}"));
            (status.clone(), false)
        }
        Walked::GivenUp { status, why } => {
            draft
                .notes
                .push(format!("the minidump was given up: {why}"));
            (status.clone(), false)
        }
    };
    if !status.is_empty() {
        draft.set("mdsw_status_string", status);
    }
    draft.set("success", success);
    draft.set(
        "stackwalk_version",
        concat!("crashkeep ", env!("CARGO_PKG_VERSION")),
    );
    Ok(())
}

/// Takes over every annotation that the catalogue names, as its field's type.
fn copy_annotations(draft: &mut Draft) -> Result<(), String> {
    let raw = draft.input.raw;
    for field in fields::annotation_fields() {
        let Some(text) = field.annotation().and_then(|key| raw.annotation(key)) else {
            continue;
        };
        match field.value_of(text) {
            Ok(value) => draft.set(field.key, value),
            Err(why) => draft.notes.push(why),
        }
    }
    let keys: Vec<&str> = raw
        .annotations
        .keys()
        .map(String::as_str)
        .chain(
            draft
                .input
                .parts
                .iter()
                .filter(|p| p.kind == PartKind::Dump)
                .map(|p| p.name.as_str()),
        )
        .collect();
    draft.set("crash_report_keys", keys);
    Ok(())
}

fn dates(draft: &mut Draft) -> Result<(), String> {
    let received_at = draft.input.raw.metadata.received_at();
    // The date of a crash is that of its receipt: processing it again must not move it.
    draft.set("date_processed", received_at.rfc3339());
    draft.set("submitted_timestamp", received_at.rfc3339());
    draft.set("started_datetime", draft.input.started_at.rfc3339());
    let number = |key: &str| {
        draft
            .input
            .raw
            .annotation(key)
            .and_then(|t| t.parse::<i64>().ok())
    };
    let crash_time = number("CrashTime").unwrap_or(received_at.ms() / 1000);
    let startup_time = number("StartupTime").unwrap_or(crash_time);
    let install_time = number("InstallTime").unwrap_or(startup_time);
    let (has_start, has_install) = (
        number("StartupTime").is_some(),
        number("InstallTime").is_some(),
    );
    let last_crash = number("SecondsSinceLastCrash").filter(|s| *s >= 0);
    draft.set("crash_time", crash_time);
    draft.set(
        "client_crash_date",
        Timestamp::from_ms(crash_time.saturating_mul(1000)).rfc3339(),
    );
    if has_install {
        draft.set(
            "install_age",
            crash_time.saturating_sub(install_time).max(0),
        );
    }
    let uptime = match has_start {
        true => Some(crash_time.saturating_sub(startup_time).max(0)),
        // Clients that send no times still have them in the dump.
        false => draft
            .walk
            .as_ref()
            .and_then(|w| w.process_uptime)
            .and_then(|s| i64::try_from(s).ok()),
    };
    draft.set_some("uptime", uptime);
    draft.set_some("last_crash", last_crash);
    Ok(())
}

fn process_type(draft: &mut Draft) -> Result<(), String> {
    let sent = draft
        .input
        .raw
        .annotation(key::PROCESS_TYPE)
        .unwrap_or("parent");
    let process_type = if matches!(sent, "main" | "browser") {
        "parent"
    } else {
        sent
    };
    draft.set(fields::name::PROCESS_TYPE, process_type);
    Ok(())
}

fn major_version(draft: &mut Draft) -> Result<(), String> {
    let version = draft.input.raw.annotation(key::VERSION).unwrap_or_default();
    let major = version
        .split('.')
        .next()
        .and_then(|head| head.parse::<i64>().ok())
        .unwrap_or(0);
    draft.set("major_version", major);
    Ok(())
}

fn dumps(draft: &mut Draft) -> Result<(), String> {
    let dumps: Vec<&Part> = draft
        .input
        .parts
        .iter()
        .copied()
        .filter(|part| part.kind == PartKind::Dump)
        .collect();
    let Some(main) = main_dump(&dumps) else {
        return Ok(());
    };
    draft.set("minidump_sha256_hash", main.sha256_hex());
    let others: Vec<&str> = dumps
        .iter()
        .filter(|part| part.name != main.name)
        .map(|part| part.name.as_str())
        .collect();
    if !others.is_empty() {
        draft.set("additional_minidumps", others);
    }
    Ok(())
}

/// The dump that is walked: the one with the usual name, else the first.
pub fn main_dump<'a>(parts: &[&'a Part]) -> Option<&'a Part> {
    let dumps = || {
        parts
            .iter()
            .copied()
            .filter(|part| part.kind == PartKind::Dump)
    };
    dumps()
        .find(|part| part.name == MAIN_DUMP)
        .or_else(|| dumps().next())
}

fn cpu(draft: &mut Draft) -> Result<(), String> {
    let system = draft
        .walk
        .as_ref()
        .map(|w| w.system_info.clone())
        .unwrap_or_default();
    let raw = draft.input.raw;
    let sent = |key: &str| raw.annotation(key).map(str::to_owned);
    draft.set(
        "cpu_arch",
        system
            .cpu_arch
            .or_else(|| sent("CPUArchitecture"))
            .unwrap_or("unknown".into()),
    );
    draft.set("cpu_count", system.cpu_count.unwrap_or(0));
    draft.set_some("cpu_info", system.cpu_info.or_else(|| sent("CPUInfo")));
    draft.set_some("cpu_microcode_version", system.cpu_microcode_version);
    Ok(())
}

fn os(draft: &mut Draft) -> Result<(), String> {
    let system = draft
        .walk
        .as_ref()
        .map(|w| w.system_info.clone())
        .unwrap_or_default();
    let raw = draft.input.raw;
    let name = system
        .os
        .or_else(|| raw.annotation("OS").map(str::to_owned))
        .unwrap_or("Unknown".into());
    let version = system
        .os_ver
        .or_else(|| raw.annotation("OSVersion").map(str::to_owned))
        .unwrap_or_default();
    let lsb = draft
        .walk
        .as_ref()
        .and_then(|w| w.lsb_release.as_ref())
        .and_then(|lsb| lsb.description.clone())
        .filter(|description| !description.is_empty())
        .or_else(|| raw.annotation("LinuxLSBDescription").map(str::to_owned))
        .or_else(|| raw.annotation("lsb-release").map(str::to_owned));
    draft.set(
        "os_pretty_version",
        pretty_os(&name, &version, lsb.as_deref()),
    );
    draft.set("os_name", name);
    draft.set("os_version", version);
    Ok(())
}

/// The system as people call it: `Windows 11`, `macOS 14`, `Debian GNU/Linux 12`.
fn pretty_os(name: &str, version: &str, lsb: Option<&str>) -> String {
    let mut numbers = version
        .split(['.', ' '])
        .map(|part| part.parse::<u32>().ok());
    let mut next = || numbers.next().flatten();
    let (major, minor, build) = (next(), next(), next());
    match name {
        "Windows NT" => match (major, minor, build) {
            (Some(10), Some(0), Some(21_996..)) => "Windows 11".into(),
            (Some(10), Some(0), _) => "Windows 10".into(),
            (Some(6), Some(3), _) => "Windows 8.1".into(),
            (Some(6), Some(2), _) => "Windows 8".into(),
            (Some(6), Some(1), _) => "Windows 7".into(),
            (Some(6), Some(0), _) => "Windows Vista".into(),
            (Some(5), Some(1), _) => "Windows XP".into(),
            _ => "Windows Unknown".into(),
        },
        "Mac OS X" => match (major, minor) {
            (Some(major @ 11..), _) => format!("macOS {major}"),
            (Some(10), Some(minor)) => format!("OS X 10.{minor}"),
            _ => "macOS Unknown".into(),
        },
        "Linux" => lsb.unwrap_or("Linux").to_owned(),
        other => other.to_owned(),
    }
}

fn crashing_thread(draft: &mut Draft) -> Result<(), String> {
    let Some(walk) = draft.walk.take() else {
        return Ok(());
    };
    let info = &walk.crash_info;
    draft.set_some("reason", info.reason.clone());
    let address = match (&info.adjusted_address, &info.address) {
        // A null pointer with an offset is a null pointer: the offset would part one bug in many.
        (Some(adjusted), Some(address)) if adjusted.kind == "null-pointer" => {
            Some(format!("0x{}", "0".repeat(address.len().saturating_sub(2))))
        }
        (Some(adjusted), _) if adjusted.kind == "non-canonical" => adjusted.address.clone(),
        _ => info.address.clone(),
    };
    draft.set_some("address", address);
    draft.set("thread_count", walk.thread_count);
    match walk.crashing_thread() {
        Some((index, thread)) => {
            draft.set("crashing_thread", index);
            draft.set_some("crashing_thread_name", thread.thread_name.clone());
            draft.set_some("last_error_value", thread.last_error_value.clone());
        }
        None => draft.notes.push("the dump names no crashing thread".into()),
    }
    draft.walk = Some(walk);
    Ok(())
}

fn crash_hints(draft: &mut Draft) -> Result<(), String> {
    let Some(info) = draft.walk.as_ref().map(|w| w.crash_info.clone()) else {
        return Ok(());
    };
    let confidence = info
        .possible_bit_flips
        .iter()
        .filter_map(|flip| flip.confidence)
        .fold(0.0, f64::max);
    if confidence > 0.0 {
        draft.set(
            "possible_bit_flips_max_confidence",
            (confidence * 100.0) as i64,
        );
    }
    if !info.crash_inconsistencies.is_empty() {
        draft.set("crash_inconsistencies", info.crash_inconsistencies);
    }
    let guarded = info.memory_accesses.unwrap_or_default();
    if guarded
        .iter()
        .any(|access| access.is_likely_guard_page == Some(true))
    {
        draft.set("has_guard_page_access", true);
    }
    let mac = draft
        .walk
        .as_ref()
        .and_then(|w| w.mac_crash_info.as_ref())
        .map(Value::to_string);
    draft.set_some("mac_crash_info", mac);
    Ok(())
}

fn topmost_file(draft: &mut Draft) -> Result<(), String> {
    let file = draft.thread().and_then(|(_, thread)| {
        thread
            .frames
            .iter()
            .flat_map(|frame| frame.inlines.iter().map(|i| &i.file).chain([&frame.file]))
            .flatten()
            .find(|file| !file.is_empty())
            .cloned()
    });
    draft.set_some("topmost_filenames", file);
    Ok(())
}

fn modules_in_stack(draft: &mut Draft) -> Result<(), String> {
    let modules = draft.thread().map(|(_, thread)| {
        let in_stack: BTreeSet<&str> = thread
            .frames
            .iter()
            .filter_map(|frame| frame.module.as_deref())
            .collect();
        let mut found = BTreeSet::new();
        for module in draft.walk.iter().flat_map(|w| &w.modules) {
            let (Some(file), Some(id)) = (module.filename.as_deref(), module.debug_id.as_deref())
            else {
                continue;
            };
            if in_stack.contains(file) {
                let file: String = file
                    .chars()
                    .filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c))
                    .collect();
                let id: String = id.chars().filter(char::is_ascii_hexdigit).collect();
                found.insert(format!("{file}/{id}"));
            }
        }
        found.into_iter().collect::<Vec<_>>().join(";")
    });
    draft.set_some("modules_in_stack", modules.filter(|m| !m.is_empty()));
    Ok(())
}

fn missing_symbols(draft: &mut Draft) -> Result<(), String> {
    let missing: BTreeSet<String> = draft
        .walk
        .iter()
        .flat_map(|w| &w.modules)
        .filter(|module| module.missing_symbols == Some(true))
        .map(|module| {
            let mut text = [
                module.filename.as_deref().unwrap_or_default(),
                module.version.as_deref().unwrap_or("None"),
                module
                    .debug_id
                    .as_deref()
                    .unwrap_or("000000000000000000000000000000000"),
            ]
            .join("/");
            if let Some(code_id) = &module.code_id {
                text = format!("{text}/{code_id}");
            }
            text
        })
        .collect();
    if !missing.is_empty() {
        draft.set(
            "missing_symbols",
            missing.into_iter().collect::<Vec<_>>().join(";"),
        );
    }
    Ok(())
}

fn name_crash(draft: &mut Draft) -> Result<(), String> {
    let raw = draft.input.raw;
    let walk = draft.walk.take();
    let exception = raw
        .annotation("JavaException")
        .and_then(|text| signature::Value::parse(text).ok());
    let others = draft
        .out
        .get("additional_minidumps")
        .cloned()
        .unwrap_or(json!([]));
    let status = draft
        .out
        .get("mdsw_status_string")
        .cloned()
        .unwrap_or(Value::Null);
    let size = draft.int("oom_allocation_size");
    let mut data = walk.as_ref().map(crash_data).unwrap_or_default();
    data.oom_allocation_size = size.into();
    data.js_large_allocation_failure = raw.annotation("JSLargeAllocationFailure").into();
    data.abort_message = raw.annotation("AbortMessage").into();
    data.async_shutdown_timeout = raw.annotation("AsyncShutdownTimeout").into();
    data.ipc_channel_error = raw.annotation("ipc_channel_error").into();
    data.ipc_message_name = raw.annotation("IPCMessageName").into();
    data.hang = raw.annotation("Hang").into();
    data.java_stack_trace = raw.annotation("JavaStackTrace").into();
    data.java_exception = exception.unwrap_or_default();
    data.additional_minidumps = (&others).into();
    data.mdsw_status_string = (&status).into();
    let signature = draft.generator.generate(&data);
    drop(data);
    draft.set(fields::name::SIGNATURE, signature.text);
    draft.set_some(fields::name::PROTO_SIGNATURE, signature.proto);
    draft.notes.extend(signature.notes);
    draft.walk = walk;
    Ok(())
}

/// The part of a walk that signatures read. Only the crashing thread and thread 0 can name a
/// crash; the others stay empty in their places.
fn crash_data(walk: &Walk) -> CrashData<'_> {
    let crashing = walk.crash_info.crashing_thread;
    let threads = walk
        .threads
        .iter()
        .enumerate()
        .map(|(index, thread)| signature::Thread {
            frames: match index == 0 || Some(index) == crashing {
                true => thread
                    .frames
                    .iter()
                    .take(signature::FRAMES_MAX)
                    .map(frame_data)
                    .collect(),
                false => Vec::new(),
            },
            last_error_value: thread.last_error_value.as_deref().into(),
            ..signature::Thread::default()
        });
    CrashData {
        crashing_thread: crashing.map(|index| index as u64).into(),
        threads: threads.collect(),
        os: walk.system_info.os.as_deref().into(),
        reason: walk.crash_info.reason.as_deref().into(),
        ..CrashData::default()
    }
}

fn frame_data(frame: &crate::crash::walk::Frame) -> signature::Frame<'_> {
    signature::Frame {
        function: frame.function.as_deref().into(),
        module: frame.module.as_deref().into(),
        file: frame.file.as_deref().into(),
        line: frame.line.into(),
        module_offset: frame.module_offset.as_deref().into(),
        offset: frame.offset.as_deref().into(),
        inlines: frame
            .inlines
            .iter()
            .map(|inline| signature::Inline {
                function: inline.function.as_deref().into(),
                file: inline.file.as_deref().into(),
                line: inline.line.into(),
                ..signature::Inline::default()
            })
            .collect(),
        unloaded_modules: frame
            .unloaded_modules
            .iter()
            .map(|unloaded| signature::UnloadedModule {
                module: unloaded.module.as_deref().into(),
                ..signature::UnloadedModule::default()
            })
            .collect(),
        ..signature::Frame::default()
    }
}
