//! Turns a raw crash and its walk into a processed crash, through an ordered list of small steps.
//!
//! Each step sets a few keys of the processed crash. If a step fails or panics, the code adds a note and
//! continues with the next step. So there is always a result, with a signature and all known data. This
//! module is pure: no store, no clock, no process. The dump was walked before.
//!
//! The names and meanings of the keys are those of Socorro's processed crash schema.

mod annotations;
mod draft;
pub mod java;
mod machine;
pub(crate) mod memory;
mod name;
mod others;
mod reason;
mod stack;
mod verdict;

pub(crate) use draft::{Input, Walked};
pub(crate) use name::input;

use std::panic::{AssertUnwindSafe, catch_unwind};

use draft::{Draft, STACKWALK_VERSION};
use serde_json::{Map, Value};

use crate::crash::facts::{Facts, System};
use crate::crash::lack::Lack;
use crate::crash::processed::ProcessedCrash;
use crate::crash::raw::{MAIN_DUMP, Part, PartKind, RawCrash};
use crate::crash::walk::Walk;
use crate::fields::{self, Catalogue};
use crate::limits;
use crate::signature::{Generator, Input as Named, Signature, StoredFrame};

/// A processed crash, ready to be stored.
#[derive(Debug)]
pub(crate) struct Processed {
    /// One object. `json_dump`, if it exists, is the last member.
    pub(crate) json: Vec<u8>,
    pub(crate) signature: String,
    /// The values for the counters.
    pub(crate) facts: Facts,
    /// The signature and its input.
    pub(crate) named: Named<StoredFrame>,
    /// Modules whose symbols the walk needed and did not find.
    pub(crate) lacks: Vec<Lack>,
    /// Debug file and debug id of the modules whose symbols the walk used.
    pub(crate) used: Vec<(String, String)>,
    /// The reason if the crash fails.
    pub(crate) failure: Option<String>,
}

type Step = (&'static str, fn(&mut Draft) -> Result<(), String>);

const STEPS: &[Step] = &[
    ("Identifiers", identifiers),
    ("ReadWalk", read_walk),
    ("OtherDumps", others::read_walks),
    ("CopyAnnotations", annotations::copy_annotations),
    ("UrlParts", annotations::url_parts),
    ("Dates", annotations::dates),
    ("ProcessType", annotations::process_type),
    ("SubmittedFrom", annotations::submitted_from),
    ("CrashReasonText", annotations::crash_reason_text),
    ("JavaStack", annotations::java_stack),
    ("Addons", annotations::addons),
    ("CollectorNotes", annotations::collector_notes),
    ("MajorVersion", annotations::major_version),
    ("Dumps", dumps),
    ("Cpu", machine::cpu),
    ("Os", machine::os),
    ("CrashingThread", stack::crashing_thread),
    ("CrashHints", stack::crash_hints),
    ("TopmostFile", stack::topmost_file),
    ("ModulesInStack", stack::modules_in_stack),
    ("MissingSymbols", stack::missing_symbols),
    ("MacBootArgs", machine::mac_boot_args),
    ("SoftErrors", stack::soft_errors),
    ("MemoryReport", memory::measures),
    ("Signature", name::name_crash),
    ("ReasonText", reason::reason_text),
    ("ReportType", name::report_type),
    ("Verdict", verdict::verdict),
];

/// What is known about a deferred report, in the form of a processed crash: its annotations, converted to
/// the types of their fields.
pub(crate) fn unprocessed(catalogue: &Catalogue, raw: &RawCrash, throttle_rule: &str) -> Vec<u8> {
    let mut out = Map::new();
    for (key, field) in catalogue.of_annotations() {
        if let Some(Ok(value)) = raw.annotation(key).map(|text| field.value_of(text)) {
            out.insert(field.key.to_string(), value);
        }
    }
    out.insert(fields::name::STATE.into(), fields::DEFERRED.into());
    out.insert(fields::name::THROTTLE_RULE.into(), throttle_rule.into());
    serde_json::to_vec(&out).expect("a map of JSON values is JSON")
}

/// Runs all steps. The annotations that fields of the catalogue name are copied.
pub(crate) fn process(input: &Input, catalogue: &Catalogue, generator: &Generator) -> Processed {
    let mut draft = Draft {
        input,
        catalogue,
        generator,
        walk: None,
        other_walks: Vec::new(),
        out: Map::new(),
        notes: Vec::new(),
        named: None,
    };
    for (name, step) in STEPS {
        match catch_unwind(AssertUnwindSafe(|| step(&mut draft))) {
            Ok(Ok(())) => {}
            Ok(Err(why)) => draft.notes.push(format!("{name}: {why}")),
            Err(_) => {
                tracing::error!(crash_id = %input.id, step = name, "a processing step panicked");
                draft.notes.push(format!("{name}: internal error"));
            }
        }
    }
    draft.finish()
}

impl Draft<'_> {
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
        let facts = self.facts();
        let (lacks, used) = (stack::lacks(&self), stack::used(&self));
        let walk = match (&self.input.walked, &self.walk) {
            (Walked::Whole(walk), Some(_)) => std::str::from_utf8(walk).ok(),
            _ => None,
        };
        let mut json = serde_json::to_vec(&self.out).expect("a map of JSON values is JSON");
        others::write(&self.input.others, &mut json);
        let json = ProcessedCrash::with_walk(json, walk);
        Processed {
            json,
            signature,
            facts,
            named: self.named.unwrap_or_default(),
            lacks,
            used,
            failure,
        }
    }

    fn facts(&self) -> Facts {
        let text = |key: &str| self.out.get(key).and_then(Value::as_str).unwrap_or("");
        Facts {
            build: text("build").chars().take(limits::NAME_CHARS_MAX).collect(),
            system: System::of(text("os_name")),
            uptime_s: self.int("uptime").and_then(|s| u64::try_from(s).ok()),
        }
    }
}

/// A processed crash with another signature.
///
/// # Errors
/// `json` is not an object, so it is not a processed crash.
pub(crate) fn renamed(
    json: &[u8],
    signature: &Signature,
    note: &str,
) -> Result<Vec<u8>, serde_json::Error> {
    ProcessedCrash::edited(json, |out| {
        let notes = out.get("processor_notes").and_then(Value::as_str);
        let notes = format!("{}\n{note}", notes.unwrap_or_default());
        out.insert("processor_notes".into(), notes.trim_start().into());
        out.insert(
            fields::name::SIGNATURE.into(),
            signature.text.as_str().into(),
        );
        if let Some(proto) = &signature.proto {
            out.insert(fields::name::PROTO_SIGNATURE.into(), proto.as_str().into());
        }
    })
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
            draft.note_lacks(&walk, "");
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
                .push(format!("the minidump was not processed: {why}"));
            (status.clone(), false)
        }
    };
    if !status.is_empty() {
        draft.set("mdsw_status_string", status);
    }
    draft.set("success", success);
    draft.set("stackwalk_version", STACKWALK_VERSION);
    Ok(())
}

fn dumps(draft: &mut Draft) -> Result<(), String> {
    let parts = draft.input.parts.clone();
    let Some(main) = main_dump(&parts) else {
        return Ok(());
    };
    draft.set("minidump_sha256_hash", main.sha256_hex());
    let others: Vec<&str> = other_dumps(&parts).map(|part| part.name.as_str()).collect();
    if !others.is_empty() {
        draft.set("additional_minidumps", others);
    }
    Ok(())
}

/// The dump to walk: the one with the usual name, otherwise the first.
pub(crate) fn main_dump<'a>(parts: &[&'a Part]) -> Option<&'a Part> {
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

/// The dumps other than the main one, in the order of the report.
pub(crate) fn other_dumps<'a>(parts: &[&'a Part]) -> impl Iterator<Item = &'a Part> {
    let main = main_dump(parts).map(|part| part.name.as_str());
    parts
        .iter()
        .copied()
        .filter(move |part| part.kind == PartKind::Dump && Some(part.name.as_str()) != main)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::Timestamp;
    use crate::crash::id::{CrashId, Kept};
    use crate::signature::{Lists, Ruleset};

    const WALK: &str = r#"{"status": "OK", "thread_count": 2,
        "crash_info": {"type": "SIGSEGV", "reason_text": "there is no memory at the address", "address": "0x0000000000000008", "crashing_thread": 1,
            "adjusted_address": {"kind": "null-pointer", "offset": "0x8"}},
        "system_info": {"os": "Linux", "os_ver": "6.1", "cpu_arch": "amd64", "cpu_count": 8},
        "lsb_release": {"description": "Debian 12"},
        "modules": [{"filename": "app", "debug_id": "AB1", "missing_symbols": true},
                    {"filename": "libc.so.6", "debug_id": "CD2", "version": "6"}],
        "threads": [{"frames": [{"function": "wait"}]},
                    {"thread_name": "worker", "frames": [{"module": "app", "module_offset": "0x1f26"}]}]}"#;

    const OTHER_WALK: &str = r#"{"status": "OK", "partial": ["its handles"],
        "modules": [{"filename": "browser", "debug_file": "browser.pdb", "debug_id": "EF3", "missing_symbols": true}]}"#;

    /// The processed crash of a report with these annotations.
    fn processed(annotations: &[(&str, &str)], walked: Walked) -> (Value, Processed) {
        processed_with(annotations, walked, &|_| false)
    }

    /// The same on a server that has some symbols.
    fn processed_with(
        annotations: &[(&str, &str)],
        walked: Walked,
        is_own: &dyn Fn(&str) -> bool,
    ) -> (Value, Processed) {
        let now = Timestamp::from_ms(1_795_338_764_123);
        let mut raw = RawCrash::default();
        raw.metadata.received_at_ms = now.ms();
        raw.annotations = annotations
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect();
        let input = Input {
            id: CrashId::new(1, Kept::Accepted, now),
            raw: &raw,
            parts: Vec::new(),
            walked,
            others: vec![(
                "upload_file_minidump_browser".into(),
                Walked::Whole(OTHER_WALK.as_bytes().to_vec()),
            )],
            memory_report: None,
            is_own,
            started_at: now,
            now,
        };
        let generator = Generator::new(Ruleset::Crashkeep, Arc::new(Lists::builtin()));
        let processed = process(&input, &Catalogue::builtin(), &generator);
        (
            serde_json::from_slice(&processed.json).expect("JSON"),
            processed,
        )
    }

    fn walked(annotations: &[(&str, &str)]) -> Value {
        processed(annotations, Walked::Whole(WALK.as_bytes().to_vec())).0
    }

    #[test]
    fn a_walk_becomes_the_fields_that_people_search() {
        let crash = walked(&[
            ("ProductName", "App"),
            ("Version", "2.1"),
            ("StartupTime", "1795338000"),
        ]);
        for (key, value) in [
            ("signature", "app@0x1f26"),
            ("product", "App"),
            ("os_pretty_version", "Debian 12"),
            ("cpu_arch", "amd64"),
            ("reason", "SIGSEGV"),
            ("reason_text", "there is no memory at the address"),
            ("address", "0x0000000000000000"),
            ("crashing_thread_name", "worker"),
            ("modules_in_stack", "app/AB1"),
            ("missing_symbols", "app/None/AB1"),
            ("process_type", "parent"),
            ("report_type", "crash"),
            ("state", "processed"),
            ("date_processed", "2026-11-22T09:12:44.123Z"),
        ] {
            assert_eq!(crash[key], value, "{key}");
        }
        assert_eq!(
            (&crash["uptime"], &crash["major_version"]),
            (&764.into(), &2.into())
        );
        assert_eq!(
            crash["json_dump"]["thread_count"], 2,
            "the walk is stored as it came"
        );
        assert_eq!(
            crash
                .as_object()
                .and_then(|o| o.keys().next_back())
                .map(String::as_str),
            Some("json_dump")
        );
    }

    #[test]
    fn modules_belong_to_the_program_by_folder_or_by_their_symbols() {
        let walk = r#"{"status": "OK", "crash_info": {"type": "SIGSEGV", "crashing_thread": 0}, "main_module": 0,
            "modules": [{"filename": "app", "location": "program"},
                {"filename": "libengine.so", "debug_id": "C0", "location": "system", "loaded_symbols": true}],
            "threads": [{"frames": [{"module": "libengine.so", "function": "engine::load"},
                {"module": "app", "function": "app::open"}]}]}"#;
        let signature = |is_own: &dyn Fn(&str) -> bool| {
            let walked = Walked::Whole(walk.as_bytes().to_vec());
            let (crash, _) = processed_with(&[], walked, is_own);
            crash["signature"].as_str().expect("a signature").to_owned()
        };
        assert_eq!(signature(&|_| false), "engine::load | app::open");
        assert_eq!(signature(&|debug_id| debug_id == "C0"), "engine::load");
    }

    #[test]
    fn a_verdict_tells_what_is_no_bug_of_the_program() {
        let crash = |info: &str, annotations: &[(&str, &str)], stack: &[(&str, &str, &str)]| {
            let frames: Vec<Value> = stack
                .iter()
                .map(|(module, function, _)| serde_json::json!({"module": module, "function": function}))
                .collect();
            let modules: Vec<Value> = [("app", "main", "program")]
                .iter()
                .chain(stack)
                .map(|(module, _, location)| serde_json::json!({"filename": module, "location": location}))
                .collect();
            let info: Value = serde_json::from_str(info).expect("JSON");
            let walk = serde_json::json!({"status": "OK", "crash_info": info, "main_module": 0,
                "modules": modules, "threads": [{"frames": frames}]});
            processed(annotations, Walked::Whole(walk.to_string().into_bytes())).0
        };
        let fault = r#"{"type": "SIGSEGV", "crashing_thread": 0}"#;
        let ours = [("app", "paint", "program")];
        let low_memory = [
            ("OOMAllocationSize", "4096"),
            ("AvailablePageFile", "1000000"),
        ];
        let rich = [
            ("OOMAllocationSize", "4096"),
            ("AvailablePageFile", "8000000000"),
        ];
        let huge = [
            ("OOMAllocationSize", "4000000000"),
            ("AvailablePageFile", "1000000"),
        ];
        for (info, annotations, stack, verdict) in [
            (fault, &[][..], &ours[..], None),
            (
                r#"{"type": "EXCEPTION_IN_PAGE_ERROR_READ / STATUS_DEVICE_DATA_ERROR", "crashing_thread": 0}"#,
                &[],
                &ours,
                Some("hardware"),
            ),
            (
                r#"{"type": "SIGFPE", "crashing_thread": 0, "crash_inconsistencies": ["int_div_by_zero_not_possible"]}"#,
                &[],
                &ours,
                Some("hardware"),
            ),
            (
                r#"{"type": "SIGSEGV", "crashing_thread": 0, "possible_bit_flips": [{"confidence": 0.925}]}"#,
                &[],
                &ours,
                Some("bit-flip"),
            ),
            (
                r#"{"type": "SIGSEGV", "crashing_thread": 0, "possible_bit_flips": [{"confidence": 0.625}]}"#,
                &[],
                &ours,
                None,
            ),
            (fault, &low_memory, &ours, Some("system-memory")),
            (fault, &rich, &ours, None),
            (fault, &huge, &ours, None),
            (
                fault,
                &[],
                &[
                    ("libc.so.6", "memcpy", "system"),
                    ("radeonsi_dri.so", "f", "driver"),
                    ours[0],
                ],
                Some("driver"),
            ),
            (
                fault,
                &[],
                &[ours[0], ("radeonsi_dri.so", "f", "driver")],
                None,
            ),
            (
                fault,
                &[],
                &[
                    ("radeonsi_dri.so", "f", "driver"),
                    ("libc.so.6", "<signal handler called>", "system"),
                    ours[0],
                ],
                None,
            ),
            (
                fault,
                &[],
                &[("snxhk64.dll", "hook", "other"), ours[0]],
                Some("foreign-module"),
            ),
            (
                fault,
                &[],
                &[("plugin.so", "f", "other"), ours[0]],
                Some("foreign-module"),
            ),
            (fault, &[], &[("libfoo.so", "f", "program"), ours[0]], None),
        ] {
            let crash = crash(info, annotations, stack);
            assert_eq!(
                crash.get("verdict").and_then(Value::as_str),
                verdict,
                "{stack:?} {info}"
            );
            assert_eq!(crash.get("verdict_evidence").is_some(), verdict.is_some());
        }
    }

    #[test]
    fn a_function_without_a_name_is_its_module_and_start_in_the_signature() {
        let walk = r#"{"status": "OK", "crash_info": {"type": "SIGABRT", "crashing_thread": 0},
            "threads": [{"frames": [{"function": "<unknown in app>", "module": "app",
                "module_offset": "0x0000000000001f26", "function_start": "0x0000000000001e00"}]}]}"#;
        let (crash, _) = processed(&[], Walked::Whole(walk.as_bytes().to_vec()));
        assert_eq!(crash["signature"], "app@0x1e00");
    }

    #[test]
    fn other_dumps_stand_under_their_names_and_their_symbols_are_missed_too() {
        let (crash, result) = processed(&[], Walked::Whole(WALK.as_bytes().to_vec()));
        let other = &crash["upload_file_minidump_browser"];
        assert_eq!(other["json_dump"]["modules"][0]["filename"], "browser");
        assert_eq!(other["success"], true);
        assert_eq!(crash["signature"], "app@0x1f26");
        assert!(
            result
                .lacks
                .iter()
                .any(|lack| lack.debug_file == "browser.pdb")
        );
        let notes = crash["processor_notes"].as_str().expect("notes");
        assert!(notes.contains("upload_file_minidump_browser: incomplete walk: its handles"));
    }

    #[test]
    fn a_crash_without_a_walk_still_has_a_name_and_a_reason() {
        let unreadable = Walked::Unreadable {
            status: "HeaderMismatch".into(),
            why: "no minidump".into(),
        };
        let (crash, result) = processed(&[], unreadable);
        assert_eq!(
            crash["signature"],
            "EMPTY: no frame data available; HeaderMismatch"
        );
        assert!(
            crash["processor_notes"]
                .as_str()
                .is_some_and(|n| n.contains("no minidump"))
        );
        assert_eq!((result.failure, &crash["success"]), (None, &false.into()));

        let given_up = Walked::GivenUp {
            status: "WalkerFailed".into(),
            why: "it overran 60 s".into(),
        };
        let (crash, result) = processed(&[], given_up);
        assert_eq!(
            (&crash["state"], result.failure.as_deref()),
            (&"failed".into(), Some("it overran 60 s"))
        );
    }

    #[test]
    fn texts_that_quote_the_user_are_cleaned_for_the_public() {
        let crash = walked(&[
            (
                "MozCrashReason",
                "byte index 3 is out of bounds of `secret`",
            ),
            (
                "JavaStackTrace",
                "java.lang.Error: secret\nmore secret\n\tat a.B.c(D.java:1)\nCaused by: x.Y: secret",
            ),
        ]);
        assert!(!crash["moz_crash_reason"].to_string().contains("secret"));
        assert!(crash["moz_crash_reason_raw"].to_string().contains("secret"));
        assert_eq!(
            crash["java_stack_trace"],
            "java.lang.Error\n\tat a.B.c(D.java:1)\nCaused by: x.Y"
        );
        assert_eq!(crash["signature"], "java.lang.Error: at a.B.c(D.java)");
    }

    #[test]
    fn a_value_of_the_wrong_type_is_noted_and_left_out() {
        let crash = walked(&[
            ("InstallTime", "yesterday"),
            ("StartupCrash", "1"),
            ("Hang", "ui"),
        ]);
        assert_eq!(crash.get("install_time"), None);
        assert!(
            crash["processor_notes"]
                .as_str()
                .is_some_and(|n| n.contains("InstallTime"))
        );
        assert_eq!(
            (&crash["startup_crash"], &crash["report_type"]),
            (&true.into(), &"hang".into())
        );
        assert_eq!(crash["signature"], "hang: ui | app@0x1f26");
    }

    #[test]
    fn every_key_that_processing_sets_is_in_the_catalogue() {
        let crash = walked(&[
            ("ProductName", "A"),
            ("Accessibility", "Active"),
            ("Add-ons", "a:1,b"),
        ]);
        let known = [
            "json_dump",
            "upload_file_minidump_browser",
            "uuid",
            "state",
            "client_crash_date",
        ];
        let catalogue = Catalogue::builtin();
        for key in crash.as_object().expect("an object").keys() {
            assert!(
                catalogue.by_key(key).is_some() || known.contains(&key.as_str()),
                "{key} is no field"
            );
        }
    }
}
