//! Split DWARF: programs with their functions in other files. Such files are accepted by every upload
//! protocol and joined by their ids. A missing file is always reported.

use std::collections::BTreeMap;
use std::io::Read;

use crate::native::run;
use crate::server::{Answer, Server, fixture};
use crate::symbols::{files_below, form, outcomes, zip_of};

/// Builds of one source: with the functions in the program, and in other files.
const BUILDS: [&str; 5] = ["gcc-4", "gcc-5", "gcc-5-packed", "clang-4", "clang-5"];

pub type Files = BTreeMap<String, Vec<u8>>;

/// The files of the builds, by `<build>/<name>`.
fn files() -> Files {
    fixtures("split")
}

/// The files in an archive of fixtures, by their paths.
pub fn fixtures(name: &str) -> Files {
    let packed = fixture(&format!("native/{name}.tar.xz"));
    let mut archive = tar::Archive::new(liblzma::read::XzDecoder::new(&packed[..]));
    let mut files = Files::new();
    for entry in archive.entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a name").display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("readable");
        let path = path.strip_prefix(&format!("{name}/")).unwrap_or(&path);
        files.insert(path.to_owned(), bytes);
    }
    files
}

impl Server {
    fn zip(&self, files: &[(&str, &[u8])]) -> Answer {
        self.request("POST", "/upload/", &[], &zip_of(files))
    }

    /// The symbol file of the last file in an answer.
    fn text_of(&self, answer: &Answer) -> String {
        let json = answer.json();
        let files = json["files"].as_array().expect("files");
        let last = files.last().expect("a file");
        let url = last["url"].as_str();
        self.get(url.unwrap_or_else(|| panic!("{last}"))).text()
    }
}

fn notes(answer: &Answer) -> String {
    answer.json()["files"].to_string()
}

fn stored(name: &str, outcome: &str) -> (String, String) {
    (name.to_owned(), outcome.to_owned())
}

/// The content of a symbol file without its module line. Numbers of files and origins are replaced by names.
fn said(text: &str) -> Vec<String> {
    let mut names: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    let mut said = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.splitn(3, ' ').collect();
        match words[..] {
            ["FILE" | "INLINE_ORIGIN", number, name] => {
                names.insert((words[0], number), name);
            }
            ["MODULE", ..] | ["INFO", ..] => {}
            ["INLINE", ..] => {
                let fields: Vec<&str> = line.split(' ').collect();
                let file = names[&("FILE", fields[3])];
                let origin = names[&("INLINE_ORIGIN", fields[4])];
                let (depth, line, ranges) = (fields[1], fields[2], fields[5..].join(" "));
                said.push(format!("INLINE {depth} {line} {file} {origin} {ranges}"));
            }
            // The name of a function without a name has the name of its file.
            ["FUNC", ..] if line.contains("<unknown in ") => {}
            ["FUNC" | "PUBLIC" | "STACK", ..] => said.push(line.to_owned()),
            _ => {
                let (rest, file) = line.rsplit_once(' ').expect("a line");
                said.push(format!("{rest} {}", names[&("FILE", file)]));
            }
        }
    }
    said
}

/// The content for the build without split DWARF.
fn plain(server: &Server, files: &Files, build: &str) -> Vec<String> {
    let answer = server.zip(&[("plain", &files[&format!("{build}/plain")])]);
    assert_eq!(outcomes(&answer), [stored("plain", "stored")]);
    let said = said(&server.text_of(&answer));
    let count = |record: &str| said.iter().filter(|line| line.starts_with(record)).count();
    // The symbol table also names functions of the C runtime, which have no lines.
    let has_lines = |pair: &&[String]| {
        pair[0].starts_with("FUNC ")
            && !["FUNC ", "STACK "]
                .iter()
                .any(|record| pair[1].starts_with(record))
    };
    let functions = said.windows(2).filter(has_lines).count();
    assert_eq!(functions, 4, "{build}");
    assert!(count("INLINE ") >= 10 && count("STACK ") > 0, "{build}");
    said
}

#[test]
fn halves_say_what_the_whole_would() {
    let files = files();
    for build in BUILDS {
        let server = Server::start();
        let expected = plain(&server, &files, build);
        let file = |name: &str| &files[&format!("{build}/{name}")][..];
        // The halves come first, and file names give no hint.
        let loose = server.zip(&[
            ("a", file("two.dwo")),
            ("obj/b.o", file("one.dwo")),
            ("bin/app", file("app")),
        ]);
        let expected_outcomes = [
            stored("bin/app", "stored"),
            stored("a and 1 more", "completed"),
        ];
        assert_eq!(outcomes(&loose), expected_outcomes, "{build}");
        assert_eq!(said(&server.text_of(&loose)), expected, "{build}");
        // The same halves again change nothing.
        let again = server.zip(&[("a", file("two.dwo")), ("b", file("one.dwo"))]);
        assert_eq!(outcomes(&again), [stored("a and 1 more", "same")]);

        // A program with one unit that is not split.
        let mixed = server.zip(&[("mixed", file("mixed")), ("one.dwo", file("one.dwo"))]);
        assert_eq!(outcomes(&mixed)[1], stored("one.dwo", "completed"));
        assert_eq!(said(&server.text_of(&mixed)), expected, "{build}");
        assert_eq!(files_below(&server.data.join("incoming")), [""; 0]);
    }
}

#[test]
fn a_package_completes_the_program_or_its_debug_file_whenever_it_comes() {
    let files = files();
    for build in ["gcc-4", "clang-4", "clang-5"] {
        let file = |name: &str| &files[&format!("{build}/{name}")][..];
        let server = Server::start();
        let expected = plain(&server, &files, build);
        // As a team may upload them: first the shipped program, then its debug file, and days later the
        // package.
        let first = server.zip(&[("app", file("app.stripped"))]);
        assert!(notes(&first).contains("is stripped"), "{}", notes(&first));
        let second = server.zip(&[("app.debug", file("app.debug"))]);
        let lacks =
            "the functions of 2 units are in separate files (one.dwo, two.dwo); also send the .dwp";
        assert!(notes(&second).contains(lacks), "{}", notes(&second));
        let missing = &second.json()["files"][0]["debug_id"];
        let id = missing.as_str().expect("an id").to_owned();
        let hits = |server: &Server| {
            server.get(&format!("/api/Symbols/?debug_id={id}")).json()["hits"][0].clone()
        };
        assert_eq!(hits(&server)["usable"], false);
        let third = server.request("PUT", "/upload/app.dwp", &[], file("app.dwp"));
        assert_eq!(outcomes(&third), [stored("app.dwp", "completed")]);
        assert_eq!(hits(&server)["usable"], true);
        assert_eq!(said(&server.text_of(&third)), expected, "{build}");

        // In one form with curl. The package comes first.
        let server = Server::start();
        let body = form(&[
            ("a", Some("app.dwp"), file("app.dwp")),
            ("b", Some("app"), file("app")),
        ]);
        let header = [("Content-Type", "multipart/form-data; boundary=b")];
        let both = server.request("POST", "/upload/", &header, &body);
        assert_eq!(outcomes(&both)[1], stored("app.dwp", "completed"));
        assert_eq!(said(&server.text_of(&both)), expected, "{build}");
    }
}

#[test]
fn what_is_missing_is_named() {
    let files = files();
    let server = Server::start();
    let file = |name: &str| &files[name][..];
    // Halves without their program.
    let alone = server.request("PUT", "/upload/app.dwp", &[], file("clang-5/app.dwp"));
    assert_eq!(alone.status, 400);
    let why = alone.text();
    assert!(
        why.contains("split debug information of 2 units, and the matching program is missing; send the program"),
        "{why}"
    );
    // Halves of another build.
    let other = server.zip(&[
        ("app", file("clang-5/app")),
        ("app.dwp", file("clang-4/app.dwp")),
    ]);
    assert_eq!(
        outcomes(&other),
        [stored("app", "stored"), stored("app.dwp", "refused")]
    );
    // One of two halves: its functions are used, and the answer says what is missing.
    let one = server.request("PUT", "/upload/x", &[], file("clang-5/one.dwo"));
    assert_eq!(outcomes(&one), [stored("x", "completed")]);
    let lacks = "the functions of 1 unit are in separate files (two.dwo)";
    assert!(notes(&one).contains(lacks), "{}", notes(&one));
    let has = |text: &str, record: &str| text.lines().any(|line| line.starts_with(record));
    let text = server.text_of(&one);
    assert!(text.contains("geo::Square::area()") && has(&text, "STACK CFI"));
    assert!(!text.contains("geo::fail(int)\n3"), "{text}");
    // Both halves contain more, so they replace the one.
    let both = server.zip(&[
        ("one.dwo", file("clang-5/one.dwo")),
        ("two.dwo", file("clang-5/two.dwo")),
    ]);
    assert_eq!(outcomes(&both), [stored("one.dwo and 1 more", "completed")]);
    assert!(!notes(&both).contains("in separate files"));
}

/// Two builds with one common unit, as on consecutive days. The unit has the same id in both.
#[test]
fn a_build_that_lacks_nothing_is_left_alone() {
    let files = files();
    let file = |name: &str| &files[&format!("clang-5/{name}")][..];
    let server = Server::start();
    let monday = server.zip(&[("mixed", file("mixed")), ("one.dwo", file("one.dwo"))]);
    assert_eq!(outcomes(&monday)[1], stored("one.dwo", "completed"));
    // The program of the second day, and its package alone.
    server.zip(&[("app", file("app"))]);
    let package = server.request("PUT", "/upload/app.dwp", &[], file("app.dwp"));
    assert_eq!(outcomes(&package), [stored("app.dwp", "completed")]);
    let id = &monday.json()["files"][0]["debug_id"];
    let id = id.as_str().expect("an id").to_owned();
    let module = server.get(&format!("/api/Symbols/?debug_id={id}")).json();
    let uploads = module["hits"][0]["uploads"].as_array().map(Vec::len);
    assert_eq!(uploads, Some(2), "{module}");
    // Sent again, it is recognised. From an archive with all files, each program gets its own halves.
    let again = server.request("PUT", "/upload/app.dwp", &[], file("app.dwp"));
    assert_eq!(outcomes(&again), [stored("app.dwp", "same")]);
    let program = server.request("PUT", "/upload/app", &[], file("app"));
    assert_eq!(outcomes(&program), [stored("app", "same")]);
    assert!(!notes(&program).contains("in separate files"));
    let other = Server::start();
    let all = other.zip(&[
        ("app.dwp", file("app.dwp")),
        ("one.dwo", file("one.dwo")),
        ("app", file("app")),
    ]);
    let expected = [stored("app", "stored"), stored("app.dwp", "completed")];
    assert_eq!(outcomes(&all), expected);
}

#[test]
fn garbage_in_a_half_costs_its_functions_alone() {
    let files = files();
    let server = Server::start();
    let whole = &files["clang-5/app.dwp"];
    let (one, two) = (&files["clang-5/one.dwo"], &files["clang-5/two.dwo"]);
    server.zip(&[("app", &files["clang-5/app"])]);
    let mut dice = 88_172_645_463_325_252_u64;
    let mut roll = |below: usize| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        (dice % below as u64) as usize
    };
    for round in 0..40 {
        let mut bytes = whole.clone();
        match round % 4 {
            0 => bytes.truncate(roll(whole.len())),
            _ => (0..1 + roll(60)).for_each(|_| {
                // The table of sections at the end is unchanged, so that more code reads the file.
                let at = 64 + roll(2400);
                bytes[at] = roll(256) as u8;
            }),
        }
        let answer = server.request("PUT", "/upload/app.dwp", &[], &bytes);
        assert!(matches!(answer.status, 200 | 400), "{}", answer.text());
    }
    // A half with an unreadable unit, together with a valid one.
    let mut broken = two.clone();
    let abbreviations = broken
        .windows(5)
        .position(|bytes| bytes == [1, 0x11, 1, 0x25, 0x25])
        .expect("the abbreviation of the unit");
    broken[abbreviations + 4] = 0x7f;
    let fresh = Server::start();
    fresh.zip(&[("app", &files["clang-5/app"])]);
    let answer = fresh.zip(&[("one.dwo", one), ("two.dwo", &broken)]);
    let expected = [stored("two.dwo", "refused"), stored("one.dwo", "completed")];
    assert_eq!(outcomes(&answer), expected);
    let text = fresh.text_of(&answer);
    assert!(text.contains("geo::Square::area()"), "{text}");
    assert_eq!(files_below(&server.data.join("incoming")), [""; 0]);
    assert_eq!(server.metric("crashkeep_panics_total"), 0);
}

#[test]
fn a_folder_with_halves_is_added_at_once_or_through_a_server() {
    let files = files();
    let folder = tempfile::tempdir().expect("a folder");
    let build = folder.path().join("build");
    std::fs::create_dir_all(build.join("obj")).expect("a folder");
    // As a build creates them: the halves are in another folder, and are listed first.
    for (name, file) in [
        ("zapp", "gcc-5/app"),
        ("obj/one.dwo", "gcc-5/one.dwo"),
        ("obj/two.dwo", "gcc-5/two.dwo"),
        ("packed", "clang-4/app"),
        ("packed.dwp", "clang-4/app.dwp"),
    ] {
        std::fs::write(build.join(name), &files[file]).expect("a file");
    }
    let (status, text) = run(folder.path(), &["symbols", "check", "build"]);
    assert_eq!(status, Some(1), "{text}");
    let (status, text) = run(folder.path(), &["symbols", "add", "build"]);
    assert_eq!(status, Some(0), "{text}");
    assert_eq!(text.matches("completed: ").count(), 2, "{text}");
    let (status, text) = run(folder.path(), &["symbols", "check", "build"]);
    assert_eq!(status, Some(0), "{text}");

    let server = Server::start();
    let url = format!("http://{}", server.address);
    let (status, text) = run(
        folder.path(),
        &[
            "symbols",
            "add",
            "build",
            "--server",
            &url,
            "--token",
            server.key(),
        ],
    );
    assert_eq!(status, Some(0), "{text}");
    let (status, text) = run(
        folder.path(),
        &[
            "symbols",
            "check",
            "build",
            "--server",
            &url,
            "--token",
            server.key(),
        ],
    );
    assert_eq!(status, Some(0), "{text}");
}
