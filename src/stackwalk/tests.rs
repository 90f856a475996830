//! Compares walks of whole dumps with the output of `minidump-stackwalk --json` 0.27.0.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde_json::Value;

use super::walk::{Attempt, attempt};
use super::*;
use crate::crash::walk::{Thread, Walk};
use crate::symbols::SymbolDirs;
use crate::symbols::mapped::MappedDir;

pub(super) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn gunzip(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    flate2::read::GzDecoder::new(file)
        .read_to_end(&mut bytes)
        .unwrap();
    bytes
}

/// Unpacks every `.sym.gz` below `from` to the same place below `to`.
fn unpack(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            unpack(&path, &to.join(name));
        } else if let Some(name) = name.strip_suffix(".gz") {
            fs::create_dir_all(to).unwrap();
            fs::write(to.join(name), gunzip(&path)).unwrap();
        }
    }
}

/// The corpus's symbols, unpacked once for all tests.
pub(super) static SYMBOLS: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let root = tempfile::tempdir().unwrap();
    unpack(&fixtures().join("symbols"), root.path());
    root
});

pub(super) fn with_symbols() -> SymbolCache {
    let dirs = SymbolDirs::new(vec![SYMBOLS.path().to_owned()]);
    SymbolCache::new(dirs, MAP_BYTES_MAX)
}

pub(super) fn without_symbols() -> SymbolCache {
    SymbolCache::new(SymbolDirs::default(), 0)
}

pub(super) fn dumps() -> Vec<(String, Vec<u8>)> {
    let mut dumps: Vec<_> = fs::read_dir(fixtures().join("dumps"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "dmp"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, fs::read(path).unwrap())
        })
        .collect();
    dumps.sort();
    assert_eq!(dumps.len(), 52, "the corpus changed");
    dumps
}

/// An absent key and null are the same.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key, without_nulls(value)))
            .collect(),
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

/// In the typed form, an absent list and an empty one are the same, too.
fn without_empty_lists(value: Value) -> Value {
    let is_empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
    match value {
        Value::Object(map) => map
            .into_iter()
            .filter(|(_, value)| !is_empty(value))
            .map(|(key, value)| (key, without_empty_lists(value)))
            .collect(),
        Value::Array(items) => items.into_iter().map(without_empty_lists).collect(),
        other => other,
    }
}

/// The first difference between two values, as a path and both sides.
fn difference(path: &str, ours: &Value, theirs: &Value) -> Option<String> {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let mut keys: Vec<_> = a.keys().chain(b.keys()).collect();
            keys.sort();
            keys.dedup();
            keys.into_iter().find_map(|key| {
                let side = |map: &serde_json::Map<String, Value>| {
                    map.get(key).cloned().unwrap_or(Value::Null)
                };
                difference(&format!("{path}.{key}"), &side(a), &side(b))
            })
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => a
            .iter()
            .zip(b)
            .enumerate()
            .find_map(|(index, (a, b))| difference(&format!("{path}[{index}]"), a, b)),
        _ if ours == theirs => None,
        _ => Some(format!("{path}: ours {ours}, theirs {theirs}")),
    }
}

/// Compares every dump of the corpus. Lists the first difference of each dump that has one.
fn check_against(kind: &str, symbols: &SymbolCache) {
    let mut differing = Vec::new();
    for (name, dump) in dumps() {
        let json = match walk(&dump, symbols, &WalkLimits::NONE, Mode::Compat) {
            Ok(json) => json,
            Err(error) => {
                differing.push(format!("{name}: {error}"));
                continue;
            }
        };
        let ours = without_nulls(serde_json::from_slice(&json).unwrap());
        let theirs = fixtures().join(format!("expected/{name}.{kind}.json.gz"));
        let theirs = without_nulls(serde_json::from_slice(&gunzip(&theirs)).unwrap());
        if let Some(difference) = difference("", &ours, &theirs) {
            differing.push(format!("{name}{difference}"));
        }
        assert_eq!(ours == theirs, difference("", &ours, &theirs).is_none());
        check_typed(&name, &json, &ours);
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

/// Checks that the typed form of a walk loses no data that it has fields for.
fn check_typed(name: &str, json: &[u8], value: &Value) {
    let typed: Walk = serde_json::from_slice(json).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(typed.threads.len() as u64, typed.thread_count, "{name}");
    let crashing = value["crash_info"]["crashing_thread"].as_u64();
    if let Some((index, thread)) = typed.crashing_thread() {
        assert_eq!(Some(index as u64), crashing, "{name}");
        assert_eq!(thread.frames.len() as u64, thread.frame_count, "{name}");
    } else {
        assert_eq!(crashing, None, "{name}");
    }
    let again: Walk = serde_json::from_str(&serde_json::to_string(&typed).unwrap()).unwrap();
    assert_eq!(again, typed, "{name}");
    let round = without_nulls(serde_json::to_value(&typed).unwrap());
    let (round, value) = (
        without_empty_lists(round),
        without_empty_lists(value.clone()),
    );
    assert_eq!(difference("", &round, &value), None, "{name}");
}

#[test]
fn every_dump_of_the_corpus_walks_as_the_reference_does_without_symbols() {
    check_against("plain", &without_symbols());
}

#[test]
fn every_dump_of_the_corpus_walks_as_the_reference_does_with_symbols() {
    check_against("symbols", &with_symbols());
}

#[test]
fn every_dump_of_the_corpus_walks_so_from_mapped_files_too() {
    let root = tempfile::tempdir().unwrap();
    let dirs = SymbolDirs::new(vec![SYMBOLS.path().to_owned()]);
    let mapped = MappedDir::new(root.path().join("mapped"), root.path().join("incoming"));
    let symbols = SymbolCache::new(dirs.clone(), MAP_BYTES_MAX)
        .with_mapped(Some(mapped.root().to_owned()), MAPS_MAX);
    let mut requested = 0;
    for (_, dump) in dumps() {
        while let Attempt::NeedsMaps(requests) = attempt(
            &mut dump.clone(),
            &symbols,
            &WalkLimits::NONE,
            Unmapped::Request,
            Mode::Compat,
        )
        .unwrap()
        {
            for request in requests {
                requested += 1;
                assert!(
                    mapped
                        .convert(&dirs, &request.debug_file, &request.debug_id)
                        .unwrap()
                );
            }
        }
    }
    assert!(
        (5..=19).contains(&requested),
        "each file is asked for once, not {requested}"
    );
    check_against("symbols", &symbols);
}

#[test]
fn a_cache_that_keeps_nothing_gives_the_same_walks() {
    let dirs = SymbolDirs::new(vec![SYMBOLS.path().to_owned()]);
    let (uncached, warm) = (SymbolCache::new(dirs, 0), with_symbols());
    for (name, dump) in dumps()
        .into_iter()
        .filter(|(name, _)| name.contains("acmed"))
    {
        let first = walk(&dump, &uncached, &WalkLimits::NONE, Mode::True).unwrap();
        for _ in 0..2 {
            assert!(
                first == walk(&dump, &warm, &WalkLimits::NONE, Mode::True).unwrap(),
                "{name}"
            );
        }
    }
}

#[test]
fn broken_dumps_end_as_the_reference_says() {
    let parse = [
        ("truncated_90pct", 4),
        ("truncated_last_byte", 4),
        ("win_truncated_50pct", 1),
        ("thread_context_past_eof", 4),
        ("module_count_max", 1),
        ("module_name_past_eof", 1),
        ("unknown_cpu", 0),
        ("memory_size_max", 4),
        ("exception_unknown_thread", 0),
        ("lldb_bad_overlapping_streams", 2),
        // The reference does not read compressed dumps.
        ("gzipped", 4),
    ];
    let fail = [
        ("empty", "EmptyMinidump"),
        ("magic_only", "MissingHeader"),
        ("header_only", "MissingDirectory"),
        ("header_and_directory", "MissingThreadList"),
        ("truncated_25pct", "MissingSystemInfo"),
        ("truncated_50pct", "MissingSystemInfo"),
        ("wrong_magic", "VersionMismatch"),
        ("wrong_version", "VersionMismatch"),
        ("big_endian_header", "MissingDirectory"),
        ("stream_count_max", "MissingDirectory"),
        ("stream_count_zero", "MissingThreadList"),
        ("directory_past_eof", "MissingDirectory"),
        ("thread_count_max", "MissingThreadList"),
        ("thread_list_past_eof", "MissingThreadList"),
        ("no_thread_list", "MissingThreadList"),
        ("no_system_info", "MissingSystemInfo"),
        ("all_streams_same_place", "MissingThreadList"),
        ("random_after_header", "MissingThreadList"),
        ("bit_flips_200", "MissingSystemInfo"),
        ("html_page", "HeaderMismatch"),
        ("microdump_text_arm64", "HeaderMismatch"),
        ("rm_invalid_range", "MissingThreadList"),
        ("rm_invalid_record_count", "MissingThreadList"),
        ("lldb_bad_duplicate_streams", "MissingThreadList"),
        ("lldb_module_list_only", "MissingThreadList"),
        ("lldb_arm_modules_zero_uuids", "MissingThreadList"),
    ];
    let folder = fixtures().join("broken/dumps");
    let files = fs::read_dir(&folder).unwrap().count();
    assert_eq!(files, parse.len() + fail.len(), "the corpus changed");
    let symbols = with_symbols();
    let outcome = |name: &str| {
        let dump = fs::read(folder.join(format!("{name}.dmp"))).unwrap();
        walk(&dump, &symbols, &WalkLimits::NONE, Mode::True)
    };
    for (name, frames) in parse {
        let json = outcome(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        let walk: Walk = serde_json::from_slice(&json).unwrap();
        let found = walk
            .crashing_thread()
            .map_or(0, |(_, thread)| thread.frames.len());
        assert_eq!(found, frames, "{name}");
    }
    for (name, status) in fail {
        let error = outcome(name).expect_err(name);
        assert_eq!(error.status, status, "{name}: {error}");
    }
}

#[test]
fn a_walk_past_its_output_limit_leaves_something_out_and_says_what() {
    let symbols = without_symbols();
    for (name, dump) in dumps().into_iter().step_by(9) {
        let whole = walk(&dump, &symbols, &WalkLimits::NONE, Mode::True)
            .unwrap()
            .len() as u64;
        for json_bytes_max in [0, 100, whole / 4, whole / 2, whole - 1, whole * 2] {
            let limits = WalkLimits {
                json_bytes_max,
                ..WalkLimits::NONE
            };
            match walk(&dump, &symbols, &limits, Mode::True) {
                Ok(json) => {
                    assert!(json.len() as u64 <= json_bytes_max, "{name}");
                    let walk: Walk = serde_json::from_slice(&json).unwrap();
                    assert_eq!(walk.partial.is_empty(), json_bytes_max > whole, "{name}");
                }
                Err(error) => assert_eq!(error.status, "OutputTooLarge", "{name}"),
            }
        }
    }
}

#[test]
fn the_limits_of_stored_walks_change_nothing_for_the_corpus_but_the_middle_of_long_stacks() {
    let symbols = with_symbols();
    let limits = WalkLimits {
        kept_frames_max: usize::MAX,
        ..WalkLimits::stored(64 << 20)
    };
    for (name, dump) in dumps() {
        let whole = walk(&dump, &symbols, &WalkLimits::NONE, Mode::True).unwrap();
        assert!(
            whole == walk(&dump, &symbols, &limits, Mode::True).unwrap(),
            "{name}"
        );
        let stored = walk(&dump, &symbols, &WalkLimits::stored(64 << 20), Mode::True).unwrap();
        let [whole, stored]: [Walk; 2] =
            [whole, stored].map(|json| serde_json::from_slice(&json).unwrap());
        for (thread, all) in stored.threads.iter().zip(&whole.threads) {
            check_cut(thread, all);
        }
        assert_eq!(stored.partial, Vec::<String>::new(), "{name}");
    }
}

/// Compares a stack without its middle with the whole stack.
fn check_cut(thread: &Thread, all: &Thread) {
    assert_eq!(thread.frame_count, all.frame_count);
    if all.frames.len() <= 500 {
        assert_eq!(thread, all);
        return;
    }
    let (head, tail) = (&thread.frames[..250], &thread.frames[251..]);
    assert_eq!(head, &all.frames[..250]);
    assert_eq!(tail, &all.frames[all.frames.len() - 250..]);
    let omitted = format!("{} frames left out", all.frames.len() - 500);
    let gap = thread.frames[250].truncated.as_ref().unwrap();
    assert_eq!(gap.msg.as_deref(), Some(omitted.as_str()));
    assert_eq!(thread.truncated, Some(true));
}

#[test]
fn a_corrupt_symbol_file_is_reported_and_changes_no_frame() {
    let dump = fs::read(fixtures().join("dumps/linux-x86_64-null_read_av.dmp")).unwrap();
    let walk = |symbols: &SymbolCache| -> Walk {
        let json = walk(&dump, symbols, &WalkLimits::NONE, Mode::True).unwrap();
        serde_json::from_slice(&json).unwrap()
    };
    let plain = walk(&without_symbols());
    let id = plain.modules[0].debug_id.as_deref().unwrap();
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("null_read_av").join(id);
    fs::create_dir_all(&folder).unwrap();
    let junk = fixtures().join("broken/symbols/module_then_junk.sym");
    fs::copy(junk, folder.join("null_read_av.sym")).unwrap();
    let dirs = SymbolDirs::new(vec![root.path().to_owned()]);
    let corrupt = walk(&SymbolCache::new(dirs, MAP_BYTES_MAX));
    assert_eq!(corrupt.threads, plain.threads);
    let module = &corrupt.modules[0];
    assert_eq!(module.corrupt_symbols, Some(true));
    assert_eq!(module.loaded_symbols, Some(true));
    assert_eq!(module.missing_symbols, Some(false));
}
