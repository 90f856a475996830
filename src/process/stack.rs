//! Steps that read the walk: where the process crashed, and the functions on its stack.

use std::collections::BTreeSet;

use serde_json::Value;

use super::draft::Draft;
use crate::crash::lack::{Lack, What};
use crate::crash::walk::Module;
use crate::fields::name;
use crate::limits;
use crate::symbols::debug_id_of_code;

pub(crate) fn crashing_thread(draft: &mut Draft) -> Result<(), String> {
    let Some(walk) = draft.walk.take() else {
        return Ok(());
    };
    let info = &walk.crash_info;
    draft.set_some("reason", info.reason.clone());
    let address = match (&info.adjusted_address, &info.address) {
        // The address of a null pointer with an offset is set to null. The offset would split one bug into
        // many.
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
        None => draft.notes.push("the dump has no crashing thread".into()),
    }
    draft.walk = Some(walk);
    Ok(())
}

pub(crate) fn crash_hints(draft: &mut Draft) -> Result<(), String> {
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

pub(crate) fn topmost_file(draft: &mut Draft) -> Result<(), String> {
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

pub(crate) fn modules_in_stack(draft: &mut Draft) -> Result<(), String> {
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

pub(crate) fn missing_symbols(draft: &mut Draft) -> Result<(), String> {
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
            name::MISSING_SYMBOLS,
            missing.into_iter().collect::<Vec<_>>().join(";"),
        );
    }
    Ok(())
}

/// Modules without symbols, for which symbols may arrive later.
pub(crate) fn lacks(draft: &Draft) -> Vec<Lack> {
    let is_missing = |module: &Module| module.missing_symbols == Some(true);
    let mut missing = modules(draft, is_missing, debug_id);
    missing.extend(modules(draft, is_missing, |module| {
        let code_id = module.code_id.as_ref();
        let code_id = code_id.filter(|_| debug_id(module).is_none());
        code_id.map(|id| id.to_ascii_lowercase())
    }));
    let lack = |(debug_file, debug_id)| Lack {
        debug_file,
        debug_id,
        what: What::Symbols,
    };
    missing
        .into_iter()
        .take(limits::LACKED_MAX)
        .map(lack)
        .collect()
}

/// Modules whose symbols the walk used.
pub(crate) fn used(draft: &Draft) -> Vec<(String, String)> {
    let is_loaded = |module: &Module| module.loaded_symbols == Some(true);
    let mut used = modules(draft, is_loaded, debug_id);
    // A program without a CodeView record has the id that its symbols are stored under.
    used.extend(modules(draft, is_loaded, |module| {
        let code_id = module.code_id.as_ref();
        let code_id = code_id.filter(|_| debug_id(module).is_none())?;
        debug_id_of_code(code_id, module.filename.as_deref()?)
    }));
    used.truncate(limits::LACKED_MAX);
    used
}

/// The debug id of a module. All zeros mean that the dump has no record of the debug file.
fn debug_id(module: &Module) -> Option<String> {
    let id = module.debug_id.as_ref();
    id.filter(|id| id.bytes().any(|digit| digit != b'0'))
        .cloned()
}

/// File and id of the modules in the walk that have both.
fn modules(
    draft: &Draft,
    wanted: impl Fn(&Module) -> bool,
    id: impl Fn(&Module) -> Option<String>,
) -> Vec<(String, String)> {
    let walks = draft.walk.iter().chain(&draft.other_walks);
    let modules = walks.flat_map(|walk| &walk.modules);
    let named = modules
        .filter(|module| wanted(module))
        .filter_map(|module| {
            let file = module.debug_file.as_deref().filter(|file| !file.is_empty());
            let file = file.or(module.filename.as_deref())?;
            Some((file.to_owned(), id(module).filter(|id| !id.is_empty())?))
        });
    let named: BTreeSet<(String, String)> = named
        .filter(|(file, id)| file.len() + id.len() <= limits::LACKED_NAME_BYTES_MAX)
        .collect();
    named.into_iter().take(limits::LACKED_MAX).collect()
}

/// Maximum characters of the errors that the dump writer recorded.
const SOFT_ERRORS_CHARS_MAX: usize = 4096;

pub(crate) fn soft_errors(draft: &mut Draft) -> Result<(), String> {
    let errors = draft
        .walk
        .as_ref()
        .and_then(|w| w.soft_errors.as_ref())
        .filter(|errors| errors.as_array().is_none_or(|errors| !errors.is_empty()))
        .map(Value::to_string);
    let cut = errors.map(|text| text.chars().take(SOFT_ERRORS_CHARS_MAX).collect::<String>());
    draft.set_some("soft_errors", cut);
    Ok(())
}
