//! Redaction: reduces a crash to what users may see who have access to public fields only.
//!
//! Data that is not known to be public is left out, so new data does not leak. The parts of the walk that may
//! contain what a user typed or opened are registers, handles and memory.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Catalogue, JSON_DUMP};
use crate::crash::processed::OTHER_DUMP_PREFIX;

/// Annotations that no field copies directly, but from which processing computes public fields.
const PUBLIC_ANNOTATIONS: [&str; 15] = [
    "Accessibility",
    "Add-ons",
    "BackgroundTaskName",
    "CPUArchitecture",
    "CPUInfo",
    "CPUMicrocodeVersion",
    "CrashTime",
    "DistributionID",
    "LinuxLSBDescription",
    "OS",
    "OSVersion",
    "ProcessType",
    "SecondsSinceLastCrash",
    "StartupTime",
    "SubmittedFrom",
];

/// Public keys of a processed crash that are not fields.
const PUBLIC_KEYS: [&str; 2] = ["memory_measures", "uuid"];

/// Public parts of a walk, at its top level.
const PUBLIC_WALK: [&str; 16] = [
    "crash_info",
    "crashing_thread",
    "lsb_release",
    "mac_crash_info",
    "main_module",
    "modules",
    "modules_contains_cert_info",
    "partial",
    "pid",
    "process_uptime",
    "status",
    "system_info",
    "thread_count",
    "threads",
    "unloaded_modules",
    "linux_memory_map_count",
];

/// Protected parts of a walk, anywhere inside the public ones.
const PROTECTED_IN_WALK: [&str; 2] = ["registers", "is_likely_guard_page"];

/// Public keys of a dump other than the main one.
const PUBLIC_OTHER_DUMP: [&str; 3] = ["mdsw_status_string", "stackwalk_version", "success"];

/// A processed crash without its protected parts.
///
/// # Errors
/// `json` is not an object.
pub(crate) fn processed(catalogue: &Catalogue, json: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    let mut fields: Map<String, Value> = serde_json::from_slice(json)?;
    fields.retain(|key, value| match catalogue.by_name(key) {
        Some(field) => !field.is_protected(),
        None if key == JSON_DUMP => {
            walk(value);
            true
        }
        None if key.starts_with(OTHER_DUMP_PREFIX) => {
            other_dump(value);
            true
        }
        None => PUBLIC_KEYS.contains(&key.as_str()),
    });
    serde_json::to_vec(&fields)
}

/// Removes the protected annotations of a raw crash.
pub(crate) fn annotations(catalogue: &Catalogue, annotations: &mut BTreeMap<String, String>) {
    annotations.retain(|key, _| is_public_annotation(catalogue, key));
}

fn is_public_annotation(catalogue: &Catalogue, key: &str) -> bool {
    match catalogue.by_annotation(key) {
        Some(field) => !field.is_protected(),
        None => PUBLIC_ANNOTATIONS.contains(&key),
    }
}

fn other_dump(value: &mut Value) {
    if let Value::Object(dump) = value {
        dump.retain(|key, value| {
            if key == JSON_DUMP {
                walk(value);
                return true;
            }
            PUBLIC_OTHER_DUMP.contains(&key.as_str())
        });
    }
}

fn walk(value: &mut Value) {
    if let Value::Object(walk) = value {
        walk.retain(|key, _| PUBLIC_WALK.contains(&key.as_str()));
    }
    inside(value);
}

fn inside(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, _| !PROTECTED_IN_WALK.contains(&key.as_str()));
            map.values_mut().for_each(inside);
        }
        Value::Array(items) => items.iter_mut().for_each(inside),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_known_to_be_public_is_gone() {
        let crash = json!({
            "crash_id": "x", "signature": "foo", "user_comments": "secret", "url": "secret",
            "something_new": "secret", "mdsw_stderr": "secret",
            "json_dump": {
                "status": "OK", "handles": ["secret"], "something_new": "secret",
                "crash_info": {"type": "SIGSEGV", "memory_accesses": [{"address": "0x0", "is_likely_guard_page": "secret"}]},
                "threads": [{"frames": [{"function": "foo", "registers": {"rax": "secret"}}]}],
            },
            "upload_file_minidump_browser": {"success": true, "mdsw_stderr": "secret", "json_dump": {"soft_errors": "secret", "pid": 7}},
        });
        let public =
            processed(&Catalogue::builtin(), crash.to_string().as_bytes()).expect("an object");
        let expected = json!({
            "crash_id": "x", "signature": "foo",
            "json_dump": {
                "status": "OK",
                "crash_info": {"type": "SIGSEGV", "memory_accesses": [{"address": "0x0"}]},
                "threads": [{"frames": [{"function": "foo"}]}],
            },
            "upload_file_minidump_browser": {"success": true, "json_dump": {"pid": 7}},
        });
        let public: Value = serde_json::from_slice(&public).expect("JSON");
        assert_eq!(public, expected);
        assert!(!public.to_string().contains("secret"));
    }

    #[test]
    fn annotations_are_public_by_their_field() {
        let mut all: BTreeMap<String, String> =
            ["ProductName", "URL", "Comments", "ProcessType", "Unknown"]
                .map(|key| (key.to_owned(), "x".to_owned()))
                .into();
        annotations(&Catalogue::builtin(), &mut all);
        assert_eq!(
            all.into_keys().collect::<Vec<_>>(),
            ["ProcessType", "ProductName"]
        );
    }
}
