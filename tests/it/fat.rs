//! Fat Mach-O files: each program in one becomes its own module.

use std::collections::BTreeMap;

use crate::native::run;
use crate::server::{Answer, Server};
use crate::split::{Files, fixtures};
use crate::symbols::{files_below, outcomes, zip_of};

const X86_64: &str = "4C4C44B655553144A137F600EB29FB4B0";
const ARM64: &str = "4C4C44A455553144A1541945F265F8C20";

/// The debug ids in an answer, and the number of files with each.
fn debug_ids(answer: &Answer) -> BTreeMap<String, usize> {
    let mut ids = BTreeMap::new();
    for file in answer.json()["files"].as_array().expect("files") {
        let id = file["debug_id"].as_str();
        *ids.entry(id.unwrap_or_else(|| panic!("{file}")).to_owned())
            .or_default() += 1;
    }
    ids
}

fn twice() -> BTreeMap<String, usize> {
    [X86_64, ARM64].map(|id| (id.to_owned(), 1)).into()
}

/// A dSYM in a zip, as macOS creates it.
fn dsym(files: &Files, name: &str) -> Vec<u8> {
    zip_of(&[
        ("app.dSYM/Contents/Info.plist", b"<plist/>"),
        ("app.dSYM/Contents/Resources/DWARF/app", &files[name]),
        ("__MACOSX/app.dSYM/Contents/._Info.plist", b"x"),
    ])
}

#[test]
fn each_program_of_a_fat_file_is_a_module_with_its_own_symbols() {
    let files = fixtures("fat");
    let server = Server::start();
    let program = server.request("PUT", "/upload/app", &[], &files["app"]);
    assert_eq!(program.status, 200, "{}", program.text());
    assert_eq!(debug_ids(&program), twice());
    let debug = server.request("POST", "/upload/", &[], &dsym(&files, "app.dwarf"));
    assert_eq!(debug.status, 201, "{}", debug.text());
    assert_eq!(debug_ids(&debug), twice());
    assert!(
        outcomes(&debug)
            .iter()
            .all(|(_, outcome)| outcome == "completed"),
        "{}",
        debug.text()
    );
    // Their content is the same as that of the thin files.
    let thin = Server::start();
    for (arch, id) in [("x86_64", X86_64), ("arm64", ARM64)] {
        let name = format!("app-{arch}");
        thin.request("PUT", "/upload/app", &[], &files[&name]);
        let zip = dsym(&files, &format!("{name}.dwarf"));
        assert_eq!(
            debug_ids(&thin.request("POST", "/upload/", &[], &zip)).len(),
            1
        );
        let address = format!("/symbols/app/{id}/app.sym");
        let text = server.get(&address).text();
        assert!(
            text.starts_with(&format!("MODULE mac {arch} {id} app\n")),
            "{text}"
        );
        let has = |record: &str| text.lines().any(|line| line.starts_with(record));
        assert!(text.contains("geo::Square::area() const\n"), "{text}");
        assert!(
            has("FUNC ") && has("INLINE ") && has("STACK CFI "),
            "{text}"
        );
        assert_eq!(thin.get(&address).text(), text);
    }
    assert_eq!(files_below(&server.data.join("incoming")), [""; 0]);
}

#[test]
fn a_folder_with_fat_files_and_their_dsym_is_added() {
    let files = fixtures("fat");
    let folder = tempfile::tempdir().expect("a folder");
    let dwarf = folder
        .path()
        .join("build/app.dSYM/Contents/Resources/DWARF");
    std::fs::create_dir_all(&dwarf).expect("a folder");
    std::fs::write(dwarf.join("app"), &files["app.dwarf"]).expect("a file");
    std::fs::write(folder.path().join("build/app"), &files["app"]).expect("a file");
    let (status, text) = run(folder.path(), &["symbols", "add", "build"]);
    assert_eq!(status, Some(0), "{text}");
    for id in [X86_64, ARM64] {
        assert_eq!(
            text.matches(&format!("stored: app/{id}/app.sym")).count(),
            1,
            "{text}"
        );
        assert_eq!(
            text.matches(&format!("completed: app/{id}/app.sym"))
                .count(),
            1,
            "{text}"
        );
    }
    let (status, text) = run(folder.path(), &["symbols", "check", "build"]);
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("2 programs, 0 without"), "{text}");
}

#[test]
fn a_broken_program_in_a_fat_file_does_not_cost_the_other() {
    let files = fixtures("fat");
    let server = Server::start();
    let mut bytes = files["app.dwarf"].clone();
    // Offset of the second program. It follows its CPU type and subtype.
    let second = u32::from_be_bytes(bytes[8 + 20 + 8..][..4].try_into().expect("4 bytes"));
    bytes[second as usize..][..4].fill(0);
    let answer = server.request("PUT", "/upload/app", &[], &bytes);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let outcomes: Vec<String> = outcomes(&answer).into_iter().map(|file| file.1).collect();
    assert_eq!(outcomes, ["stored", "refused"]);
    let why = &answer.json()["files"][1]["error"];
    let why = why.as_str().expect("a reason");
    assert!(why.contains("cannot be read"), "{why}");
}
