//! The rules of ARCHITECTURE.md, checked in the sources: the direction of imports, and which module may use
//! which crate.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// From top to bottom. A module may use modules in its own row or below.
const ROWS: [&[&str]; 11] = [
    &["main", "cli", "appliance", "demo"],
    &["http"],
    &["ingest", "report_parts", "shape", "pages", "api"],
    &["upload"],
    &["access", "app", "errors"],
    &[
        "workers",
        "indexer",
        "retention",
        "bugzilla",
        "late_symbols",
        "symbol_fetcher",
        "missing_symbols",
    ],
    &["naming"],
    &["queue", "process"],
    &[
        "store",
        "index",
        "stackwalk",
        "symbols",
        "outbound",
        "client",
    ],
    &[
        "addresses",
        "bugs",
        "config",
        "fields",
        "query",
        "throttle",
        "signature",
        "dialect",
        "envelope",
        "multipart",
        "reload",
        "sentry",
        "symbol_source",
        "unreal",
    ],
    &[
        "child", "crash", "clock", "periodic", "limits", "metrics", "rights", "vital",
    ],
];

/// Modules in one row that must not use each other, because each owns a library.
const APART: [(&str, &[&str]); 4] = [
    ("store", &["index", "stackwalk", "symbols"]),
    ("index", &["store", "stackwalk", "symbols"]),
    ("symbols", &["store", "index", "stackwalk"]),
    ("outbound", &["store", "index", "stackwalk", "symbols"]),
];

/// The owners of crates. No other module may name the crate.
const LANDLORDS: [(&str, &[&str]); 30] = [
    ("landlock", &["stackwalk"]),
    ("seccompiler", &["stackwalk"]),
    ("libc", &["stackwalk"]),
    ("redb", &["store"]),
    ("bincode", &["store"]),
    ("lz4_flex", &["store"]),
    ("tantivy", &["index"]),
    ("hyper", &["http"]),
    ("tokio", &["http"]),
    ("rustls", &["http"]),
    ("tokio_rustls", &["http"]),
    ("base64", &["access"]),
    ("maud", &["pages"]),
    ("csv", &["api"]),
    ("minidump_processor", &["stackwalk"]),
    ("minidump_unwind", &["stackwalk"]),
    ("breakpad_symbols", &["stackwalk"]),
    ("memmap2", &["symbols"]),
    ("clap", &["cli"]),
    ("ureq", &["outbound", "client"]),
    (
        "flate2",
        &[
            "api",
            "demo",
            "report_parts",
            "ingest",
            "process",
            "stackwalk",
            "signature",
            "symbols",
        ],
    ),
    ("zip", &["symbols"]),
    ("tar", &["symbols"]),
    ("zstd", &["symbols"]),
    ("liblzma", &["symbols"]),
    ("bzip2", &["symbols"]),
    ("symbolic_debuginfo", &["symbols"]),
    ("gimli", &["symbols"]),
    ("symbolic_cfi", &["symbols"]),
    ("symbolic_demangle", &["symbols"]),
];

/// All source files, each with its module. Tests below `#[cfg(test)]` are excluded.
fn sources() -> Vec<(PathBuf, String, String)> {
    fn visit(folder: &Path, root: &Path, found: &mut Vec<(PathBuf, String, String)>) {
        for entry in std::fs::read_dir(folder).expect("a source folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                visit(&path, root, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let relative = path.strip_prefix(root).expect("below src");
                let first = relative.components().next().expect("a name").as_os_str();
                let module = first.to_string_lossy().trim_end_matches(".rs").to_owned();
                let text = std::fs::read_to_string(&path).expect("readable");
                let code = text
                    .split("#[cfg(test)]")
                    .next()
                    .unwrap_or_default()
                    .to_owned();
                if module != "lib" {
                    found.push((relative.to_path_buf(), module, code));
                }
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    visit(&root, &root, &mut found);
    assert!(found.len() > 40, "the sources were found");
    found
}

/// The lines of code, without comments.
fn code_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(|line| line.split("//").next().unwrap_or_default())
}

#[test]
fn imports_point_down() {
    let row_of: BTreeMap<&str, usize> = ROWS
        .iter()
        .enumerate()
        .flat_map(|(row, names)| names.iter().map(move |n| (*n, row)))
        .collect();
    for (path, module, code) in sources() {
        let own = row_of
            .get(module.as_str())
            .unwrap_or_else(|| panic!("{module} has no row"));
        for line in code_lines(&code) {
            for used in line.split("crate::").skip(1) {
                let used: String = used
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                let Some(row) = row_of.get(used.as_str()) else {
                    continue;
                };
                assert!(
                    row >= own,
                    "{}: {module} may not use {used}: {line}",
                    path.display()
                );
                let apart = APART
                    .iter()
                    .any(|(a, others)| *a == module && others.contains(&used.as_str()));
                assert!(
                    !apart,
                    "{}: {module} and {used} stay apart: {line}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn a_library_is_named_by_its_landlord_alone() {
    for (path, module, code) in sources() {
        for (library, landlords) in LANDLORDS {
            let path_use = format!("{library}::");
            for line in code_lines(&code) {
                let named = line.match_indices(&path_use).any(|(at, _)| {
                    !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
                });
                assert!(
                    !named || landlords.contains(&module.as_str()),
                    "{}: {line}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn async_functions_live_in_http_alone() {
    for (path, module, code) in sources() {
        for line in code_lines(&code) {
            let provider = path.ends_with("stackwalk/provider.rs");
            assert!(
                !line.contains("async fn") || module == "http" || provider,
                "{}: {line}",
                path.display()
            );
        }
    }
}

#[test]
fn only_maud_writes_markup() {
    for (path, _, code) in sources() {
        assert!(
            !code.contains("PreEscaped"),
            "{}: texts are escaped by maud",
            path.display()
        );
    }
}
