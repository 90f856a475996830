//! The rules of ARCHITECTURE.md, checked against the sources: which way imports point, who may name a library, and
//! that files of a folder can be put in an order. ARCHITECTURE.md holds the lists.

mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use sources::Source;

/// Modules that must not use each other although they are in one row: each owns a part of the data.
const APART: [(&str, &[&str]); 4] = [
    ("store", &["index", "stackwalk", "symbols"]),
    ("index", &["store", "stackwalk", "symbols"]),
    ("symbols", &["store", "index", "stackwalk"]),
    ("outbound", &["store", "index", "stackwalk", "symbols"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

fn all_sources() -> &'static [Source] {
    static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(|| {
        let found = sources::sources(&root().join("src"));
        assert!(found.len() > 200, "the sources were found");
        found
    });
    &SOURCES
}

fn architecture() -> String {
    std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md")
}

/// The names in backticks, without a slash at their end.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    let inside = text.split('`').skip(1).step_by(2);
    inside.map(|name| name.trim_end_matches('/'))
}

/// The row of each module, counted from the top.
fn rows() -> BTreeMap<String, usize> {
    let text = architecture();
    let (_, list) = text
        .split_once("Imports point down only:")
        .expect("the list");
    let (list, _) = list.split_once("\n\n").expect("an end");
    let rows = list.split('>').enumerate();
    rows.flat_map(|(row, names)| {
        let names: Vec<&str> = quoted(names).flat_map(str::split_whitespace).collect();
        names.into_iter().map(move |name| (name.to_owned(), row))
    })
    .collect()
}

/// The table of modules: the names of each line, and the libraries that it owns.
fn table() -> Vec<(Vec<String>, Vec<String>)> {
    let text = architecture();
    let (_, table) = text.split_once("| module |").expect("the table");
    let lines = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    lines
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
            let libraries = cells[2]
                .split(',')
                .map(str::trim)
                .filter(|name| !name.is_empty());
            (
                quoted(cells[0]).map(str::to_owned).collect(),
                libraries.map(|name| name.replace('-', "_")).collect(),
            )
        })
        .collect()
}

#[test]
fn every_module_is_in_the_table_and_in_the_order() {
    let there: BTreeSet<String> = all_sources()
        .iter()
        .map(|source| source.top().to_owned())
        .filter(|top| top != "lib")
        .collect();
    let listed: BTreeSet<String> = table().into_iter().flat_map(|(names, _)| names).collect();
    assert_eq!(there, listed, "the table of modules");
    let ordered: BTreeSet<String> = rows().into_keys().collect();
    assert_eq!(there, ordered, "the order of imports");
}

#[test]
fn imports_point_down() {
    let rows = rows();
    for source in all_sources().iter().filter(|source| source.top() != "lib") {
        let own = source.top();
        for path in source
            .uses
            .iter()
            .filter(|path| path[0] == "crate" || path[0] == "crashkeep")
        {
            let Some(used) = path.get(1).filter(|used| rows.contains_key(*used)) else {
                continue;
            };
            let place = source.path.display();
            assert!(
                rows[used] >= rows[own],
                "{place}: {own} must not use {used}: {path:?}"
            );
            let is_apart = APART
                .iter()
                .any(|(a, others)| *a == own && others.contains(&used.as_str()));
            assert!(!is_apart, "{place}: {own} must not use {used}: {path:?}");
        }
    }
}

#[test]
fn only_its_owner_names_a_library() {
    let table = table();
    let owners = |library: &str| -> BTreeSet<&str> {
        let owns = |pattern: &String| match pattern.strip_suffix('*') {
            Some(start) => library.starts_with(start),
            None => library == pattern,
        };
        let lines = table
            .iter()
            .filter(|(_, libraries)| libraries.iter().any(owns));
        lines
            .flat_map(|(names, _)| names.iter().map(String::as_str))
            .collect()
    };
    let mut seen = BTreeSet::new();
    for source in all_sources() {
        for path in source.uses.iter().filter(|path| path[0] != "crate") {
            let owners = owners(&path[0]);
            if owners.is_empty() {
                continue;
            }
            seen.insert(path[0].clone());
            assert!(
                owners.contains(source.top()),
                "{}: {path:?} is for {owners:?}",
                source.path.display()
            );
        }
    }
    for (_, libraries) in &table {
        for library in libraries.iter().filter(|library| !library.ends_with('*')) {
            assert!(
                seen.contains(library),
                "ARCHITECTURE.md names {library}, the sources do not"
            );
        }
    }
}

#[test]
fn files_of_a_folder_do_not_use_each_other_in_a_circle() {
    let circles = sources::circles(all_sources());
    assert!(circles.is_empty(), "{circles:?}");
}

#[test]
fn async_functions_are_in_http_alone() {
    for source in all_sources() {
        // The trait of symbol providers is async.
        let may = source.top() == "http" || source.path.ends_with("stackwalk/provider.rs");
        assert!(may || !source.has_async, "{}", source.path.display());
    }
}

#[test]
fn only_maud_writes_markup() {
    for source in all_sources() {
        let writes = source
            .uses
            .iter()
            .any(|path| path.last().is_some_and(|name| name == "PreEscaped"));
        assert!(
            !writes,
            "{}: texts are escaped by maud",
            source.path.display()
        );
    }
}
