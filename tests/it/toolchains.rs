//! Programs of many toolchains: what their files say about functions, lines and unwinding is found, and nothing
//! is named that they do not name.

use std::path::Path;

use crate::native::run;
use crate::split::{Files, fixtures};

/// A folder with the files of the fixture, and a data directory in it.
struct Bench {
    folder: tempfile::TempDir,
    files: Files,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let files = fixtures("toolchains");
        for (name, bytes) in &files {
            std::fs::write(folder.path().join(name), bytes).expect("a file");
        }
        Self { folder, files }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn add(&self, names: &[&str]) -> String {
        let data = self.path().join("data");
        std::fs::create_dir_all(&data).expect("a folder");
        let arguments = [&["symbols", "add", "--data", "data"], names].concat();
        run(self.path(), &arguments).1
    }

    /// The frames of the crashed thread: names, lines and trust.
    fn walk(&self, dump: &str) -> Vec<String> {
        let arguments = ["walk", dump, "--symbols", "data/symbols"];
        let (status, text) = run(self.path(), &arguments);
        assert_eq!(status, Some(0), "{text}");
        let (_, thread) = text.split_once("(crashed)").expect("a crashed thread");
        let frames = thread
            .lines()
            .skip(1)
            .take_while(|line| !line.trim().is_empty());
        frames.map(|line| line.trim().to_owned()).collect()
    }

    /// The text of the only module.
    fn text(&self) -> String {
        let modules = std::fs::read_dir(self.path().join("data/symbols")).expect("modules");
        let mut folders = modules.map(|entry| entry.expect("an entry").path());
        let folder = folders.find(|path| !path.ends_with("by-code-id"));
        let files = std::fs::read_dir(folder.expect("a module")).expect("files");
        let texts = files.map(|entry| entry.expect("an entry").path());
        let mut texts = texts.filter(|path| path.to_string_lossy().ends_with(".sym.zst"));
        let packed = std::fs::read(texts.next().expect("a text")).expect("readable");
        String::from_utf8(zstd::decode_all(&packed[..]).expect("zstd")).expect("UTF-8")
    }
}

#[track_caller]
fn assert_frames(frames: &[String], expected: &[(&str, &str)]) {
    assert!(frames.len() >= expected.len(), "{frames:#?}");
    for (frame, (function, trust)) in frames.iter().zip(expected) {
        assert!(
            frame.contains(function) && frame.contains(trust),
            "{function}: {frames:#?}"
        );
    }
}

const REGISTERS: &str = "(registers)";
const CFI: &str = "(call frame info)";

#[test]
fn signed_return_addresses_and_epilogues_of_arm64_are_unwound() {
    for (program, dump, last) in [("s_pac", "s_pac.dmp", 4), ("s_epi", "s_epi.dmp", 3)] {
        let bench = Bench::new();
        bench.add(&[program]);
        let expected = [
            ("!decode ", REGISTERS),
            ("!load ", CFI),
            ("!outer ", CFI),
            ("!_start ", CFI),
        ];
        assert_frames(&bench.walk(dump), &expected[..last]);
    }
}

#[test]
fn arm_is_unwound_by_its_own_tables() {
    let bench = Bench::new();
    bench.add(&["s_ehabi"]);
    let expected = [
        ("!leaf ", REGISTERS),
        ("!mid ", CFI),
        ("!outer ", CFI),
        ("!_start ", CFI),
    ];
    assert_frames(&bench.walk("s_ehabi.dmp"), &expected);
}

#[test]
fn windows_on_arm64_is_unwound_with_packed_data_too() {
    let bench = Bench::new();
    bench.add(&["a64.exe", "a64.pdb"]);
    let expected = [
        ("!decode(int) ", REGISTERS),
        ("!load(int) ", CFI),
        ("!mainCRTStartup() ", CFI),
    ];
    assert_frames(&bench.walk("winarm64.dmp"), &expected);
}

/// lld maps headers and code separately, and an old Breakpad wrote the code as a module without an id.
#[test]
fn a_program_that_a_dump_has_as_two_modules_is_one() {
    let bench = Bench::new();
    bench.add(&["pie"]);
    let frames = bench.walk("split_mod.dmp");
    let expected = [("!used ", "t.c:4]"), ("!main ", "t.c:5]")];
    assert_frames(&frames, &expected);
    let arguments = [
        "walk",
        "split_mod.dmp",
        "--symbols",
        "data/symbols",
        "--json",
    ];
    let modules = |more: &[&str]| {
        let (_, text) = run(bench.path(), &[&arguments, more].concat());
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let modules = json["modules"].as_array().expect("modules").clone();
        let of_pie = modules.iter().filter(|module| module["filename"] == "pie");
        of_pie.cloned().collect::<Vec<_>>()
    };
    let joined = modules(&[]);
    assert_eq!(joined.len(), 1, "{joined:?}");
    assert_eq!(joined[0]["base_addr"], "0x0000555555554000");
    assert_eq!(joined[0]["end_addr"], "0x0000555555558000");
    assert_eq!(modules(&["--compat"]).len(), 2);
}

/// A cabinet with both kinds of compressed blocks, and with addresses of calls that the compression has changed.
#[test]
fn cabinets_with_lzx_are_unpacked() {
    let bench = Bench::new();
    let tar = &mut Vec::new();
    crashkeep::symbols::cabinet::to_tar(&bench.files["lzx.cab"], 1 << 20, tar).expect("a cabinet");
    let mut archive = tar::Archive::new(&tar[..]);
    let mut names = Vec::new();
    for entry in archive.entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        let name = entry.path().expect("a name").display().to_string();
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).expect("readable");
        assert!(content == bench.files[&name], "{name}");
        names.push(name);
    }
    assert_eq!(names, ["a64.pdb", "a64.exe", "nullcall_nofp"]);
    let said = bench.add(&["lzx.cab"]);
    assert!(said.contains("stored: a64.pdb/"), "{said}");
    let frames = bench.walk("winarm64.dmp");
    assert_frames(
        &frames,
        &[("!decode(int) ", REGISTERS), ("!load(int) ", CFI)],
    );
}

/// The files of a symbol server that symstore filled with its option /compress.
#[test]
fn cabinets_are_unpacked() {
    let bench = Bench::new();
    let store = bench.path().join("store");
    std::fs::create_dir(&store).expect("a folder");
    for (name, file) in [("a64.pd_", "a64.pdb"), ("a64.ex_", "a64.exe")] {
        let mut builder = cab::CabinetBuilder::new();
        let folder = builder.add_folder(cab::CompressionType::MsZip);
        folder.add_file(file);
        let output = std::fs::File::create(store.join(name)).expect("a file");
        let mut writer = builder.build(output).expect("a cabinet");
        while let Some(mut writer) = writer.next_file().expect("a file") {
            std::io::Write::write_all(&mut writer, &bench.files[file]).expect("written");
        }
        writer.finish().expect("a cabinet");
    }
    let said = bench.add(&["store"]);
    assert!(
        said.contains("stored: a64.pdb/") && said.contains("completed: "),
        "{said}"
    );
    let frames = bench.walk("winarm64.dmp");
    assert_frames(
        &frames,
        &[("!decode(int) ", REGISTERS), ("!load(int) ", CFI)],
    );
    // A damaged one is refused, whatever its reader makes of it.
    let mut bytes = std::fs::read(store.join("a64.pd_")).expect("a file");
    bytes[60..].reverse();
    std::fs::write(bench.path().join("bad.pd_"), &bytes).expect("a file");
    assert!(bench.add(&["bad.pd_"]).contains("refused"));
}

#[test]
fn line_tables_alone_give_lines() {
    let bench = Bench::new();
    bench.add(&["gmlt"]);
    let frames = bench.walk("gmlt_1.dmp");
    assert_frames(&frames, &[("!plain_fn ", "a.c:7]"), ("!main ", "a.c:14]")]);
}

#[test]
fn a_common_file_of_dwz_names_inlined_functions_whenever_it_comes() {
    let bench = Bench::new();
    let alone = bench.add(&["common.debug"]);
    assert!(alone.contains("refused"), "{alone}");
    let first = bench.add(&["d1", "d1.debug"]);
    assert!(first.contains("also send that file"), "{first}");
    let later = bench.add(&["common.debug"]);
    assert!(later.contains("completed"), "{later}");
    let frames = bench.walk("d1.dmp");
    assert!(frames[3].contains("!helper_inline "), "{frames:#?}");
    let together = Bench::new();
    together.add(&["common.debug", "d1.debug", "d1"]);
    assert_eq!(together.walk("d1.dmp"), frames);
}

/// Debug files to which only the checksum in their program refers.
#[test]
fn a_debug_file_without_a_build_id_is_joined_with_its_program_whenever_it_comes() {
    for program in ["linked", "linked.exe"] {
        let debug_file = &format!("{program}.debug");
        let bench = Bench::new();
        let first = bench.add(&[program]);
        assert!(
            first.contains(&format!("{debug_file}; also send that file")),
            "{first}"
        );
        // A file with the right name and other bytes is not meant.
        let path = bench.path().join(debug_file);
        let whole = std::fs::read(&path).expect("a file");
        std::fs::write(&path, [&whole[..], b"x"].concat()).expect("written");
        let other = bench.add(&[debug_file]);
        assert!(!other.contains("completed"), "{other}");
        // The right bytes with another name are meant.
        std::fs::write(bench.path().join("renamed"), &whole).expect("written");
        let later = bench.add(&["renamed"]);
        assert!(later.contains("completed"), "{later}");
        let again = bench.add(&["renamed"]);
        assert!(again.contains("same"), "{again}");
        let together = Bench::new();
        let both = together.add(&[debug_file, program]);
        assert!(both.contains("completed"), "{both}");
    }
    let alone = Bench::new();
    let said = alone.add(&["linked.debug"]);
    assert!(said.contains("send the program first"), "{said}");
    // This one may be of a program that was not stripped, whose size it has.
    let said = alone.add(&["linked.exe.debug"]);
    assert!(said.contains("stored"), "{said}");
}

#[test]
fn a_compressed_symbol_table_names_a_stripped_program() {
    let bench = Bench::new();
    bench.add(&["basic.minidebuginfo"]);
    let text = bench.text();
    let theirs = String::from_utf8(bench.files["basic.minidebuginfo.sym"].clone()).expect("UTF-8");
    let names: Vec<&str> = (theirs.lines())
        .filter_map(|line| match line.split_once(' ')? {
            ("FUNC", rest) => rest.splitn(4, ' ').nth(3),
            ("PUBLIC", rest) => rest.splitn(3, ' ').nth(2),
            _ => None,
        })
        .collect();
    assert!(names.contains(&"main"), "{names:?}");
    let ours: Vec<&str> = (text.lines())
        .filter_map(|line| line.strip_prefix("FUNC "))
        .filter_map(|line| line.splitn(4, ' ').nth(3))
        .collect();
    // They also call extents without names `<unknown in ...>` or by their section.
    for name in names.into_iter().filter(|name| !name.starts_with('<')) {
        assert!(ours.contains(&name), "{name} is not in {ours:?}");
    }
}

#[test]
fn names_of_other_languages_are_whole() {
    let bench = Bench::new();
    bench.add(&["zig"]);
    let text = bench.text();
    for name in [
        "kfun:com.acme.coldstorage.Rack#open(){}",
        "storage.part.flush",
    ] {
        assert!(
            text.lines()
                .any(|line| line.ends_with(&format!(" 0 {name}"))),
            "{text}"
        );
    }
}

#[test]
fn names_of_swift_are_readable() {
    let bench = Bench::new();
    bench.add(&["sw"]);
    let expected = [
        ("!Texture.decode(Int) ", REGISTERS),
        ("!Renderer.render(Int) ", CFI),
        ("!main ", CFI),
    ];
    assert_frames(&bench.walk("swift.dmp"), &expected);
}

/// A library with two exported functions, three others and a constructor, stripped.
#[test]
fn an_export_names_its_own_function_only() {
    let bench = Bench::new();
    let said = bench.add(&["libexports.so"]);
    assert!(
        said.contains("of the code, ") && said.contains("(exports only)"),
        "{said}"
    );
    let text = bench.text();
    let functions: Vec<&str> = (text.lines())
        .filter_map(|line| line.strip_prefix("FUNC "))
        .filter_map(|line| line.splitn(4, ' ').nth(3))
        .collect();
    let count = |name| {
        functions
            .iter()
            .filter(|function| **function == name)
            .count()
    };
    assert_eq!([count("first"), count("second")], [1, 1], "{text}");
    assert_eq!(
        count("<unknown in libexports.so>"),
        functions.len() - 2,
        "{text}"
    );
    assert!(functions.len() >= 6 && !text.contains("PUBLIC "), "{text}");
    let (_, listed) = run(bench.path(), &["symbols", "list", "--data", "data"]);
    assert!(!listed.contains("functions"), "{listed}");
}

#[test]
fn the_symbol_table_of_mingw_names_its_functions() {
    let bench = Bench::new();
    bench.add(&["wd2_symtab.exe"]);
    let text = bench.text();
    let named = |line: &&str| line.starts_with("FUNC ") && !line.contains("<unknown in ");
    // nm lists 845 functions at 780 addresses: most constructors have two names. Only their sections name 15 more.
    assert_eq!(text.lines().filter(named).count(), 795);
    assert!(text.contains("FUNC 11d40 5d 0 get_adjusted_ptr("), "{text}");
    assert!(text.contains("FUNC 1647 5a 0 main\n"));
}

/// The same program without the record that names its debug file, as many linkers make it.
#[test]
fn a_program_without_a_debug_id_is_known_by_its_code_id() {
    let bench = Bench::new();
    let mut program = bench.files["wd2_symtab.exe"].clone();
    let header = u32::from_le_bytes(program[0x3c..0x40].try_into().expect("four bytes")) as usize;
    // The seventh of the directories after 112 bytes of the optional header.
    let directory = header + 24 + 112 + 6 * 8;
    program[directory..directory + 8].fill(0);
    std::fs::create_dir(bench.path().join("out")).expect("a folder");
    std::fs::write(bench.path().join("out/wd2.exe"), &program).expect("a file");
    let check = || run(bench.path(), &["symbols", "check", "out", "--data", "data"]);
    std::fs::create_dir(bench.path().join("data")).expect("a folder");
    let (status, missing) = check();
    assert_eq!(status, Some(1), "{missing}");
    let added = bench.add(&["out/wd2.exe"]);
    assert!(added.starts_with("stored: wd2.exe/"), "{added}");
    assert_eq!(check().0, Some(0), "{}", check().1);
    let text = bench.text();
    let code_id = text
        .lines()
        .find_map(|line| line.strip_prefix("INFO CODE_ID "));
    let (code_id, file) = code_id
        .and_then(|id| id.split_once(' '))
        .expect("a code id");
    assert_eq!(file, "wd2.exe");
    // Walks that know the code id only look here.
    let known = bench.path().join("data/symbols/by-code-id").join(code_id);
    let debug_id = std::fs::read_to_string(known).expect("a list");
    assert!(debug_id.starts_with(&code_id.to_uppercase()), "{debug_id}");
}
