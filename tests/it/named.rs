//! What the files of each toolchain say about an address, through a server: in `POST /symbolicate/v5` and in the stacks
//! of crashes. The expected values are those of gdb, addr2line or nm.

use serde_json::{Value, json};

use crate::server::Server;
use crate::split::fixtures;
use crate::symbols::zip_of;

/// The files of one program, and addresses in it.
struct Case {
    files: &'static [&'static str],
    /// Offsets in the module, and the functions there with file and line, from the innermost to the outermost.
    addresses: &'static [(u64, &'static str)],
    /// A dump of the program, with its signature and the first frames of the crashed thread.
    crash: Option<(&'static str, &'static str, &'static [&'static str])>,
}

const CASES: &[Case] = &[
    // Line tables only, and assembler code.
    Case {
        files: &["gmlt"],
        addresses: &[
            (0x178f, "plain_fn a.c:7"),
            (0x17a8, "inl a.c:3 < with_inline a.c:11"),
            (0x17d5, "main a.c:14"),
            (0x17f7, "asm_fn b.s:10"),
        ],
        crash: Some(("gmlt_1.dmp", "plain_fn", &["plain_fn a.c:7", "main a.c:14"])),
    },
    // dwz: the name of the inlined function is in the common file.
    Case {
        files: &["common.debug", "d1.debug", "d1"],
        addresses: &[(0x1630, "helper_inline d1.cc:8 < walk_tree(Node*) d1.cc:9")],
        crash: Some((
            "d1.dmp",
            "visit_node",
            &[
                "visit_node(Node*, int) d1.cc:7",
                "visit_node(Node*, int) d1.cc:7",
                "visit_node(Node*, int) d1.cc:7",
                "helper_inline d1.cc:8 < walk_tree(Node*) d1.cc:9",
                "main d1.cc:10",
            ],
        )),
    },
    // Kotlin/Native and Zig.
    Case {
        files: &["zig"],
        addresses: &[
            (0x1740, "main"),
            (0x174c, "kfun:com.acme.coldstorage.Rack#open(){}"),
            (0x1754, "storage.part.flush"),
        ],
        crash: None,
    },
    Case {
        files: &["sw"],
        addresses: &[
            (0x1750, "Texture.decode(Int) s.c:2"),
            (0x1770, "Renderer.render(Int) s.c:3"),
        ],
        crash: Some((
            "swift.dmp",
            "Texture.decode",
            &[
                "Texture.decode(Int) s.c:2",
                "Renderer.render(Int) s.c:3",
                "main s.c:4",
            ],
        )),
    },
    // Fedora's compressed symbol table.
    Case {
        files: &["basic.minidebuginfo"],
        addresses: &[
            (0x1125, "inline_1(int)"),
            (0x11a9, "inline_3(int)"),
            (0x11e4, "foo(int)"),
            (0x12bd, "main"),
        ],
        crash: None,
    },
    // The symbol table of MinGW.
    Case {
        files: &["wd2_symtab.exe"],
        addresses: &[
            (0x1530, "filt(_EXCEPTION_POINTERS*)"),
            (0x1647, "main"),
            (0x13800, "std::string::get_allocator() const"),
            // Only the name of its section names this one.
            (0x18c80, "std::(anonymous namespace)::__x86_rdrand(void*)"),
        ],
        crash: None,
    },
    // Only a link by checksum joins these.
    Case {
        files: &["linked.debug", "linked"],
        addresses: &[
            (0x1000, "put linked.c:5 < helper linked.c:8"),
            (0x1012, "_start linked.c:14"),
            (0x101e, "put linked.c:5 < _start linked.c:14"),
        ],
        crash: None,
    },
    Case {
        files: &["linked.exe", "linked.exe.debug"],
        addresses: &[
            (0x1000, "put linked.c:5 < helper linked.c:8"),
            (0x1010, "_start linked.c:12"),
            (0x1026, "put linked.c:5 < _start linked.c:14"),
        ],
        crash: None,
    },
    // Headers and code are two modules of the dump.
    Case {
        files: &["pie"],
        addresses: &[(0x173f, "used t.c:4")],
        crash: Some(("split_mod.dmp", "used", &["used t.c:4", "main t.c:5"])),
    },
    // A library with two exports and no other names.
    Case {
        files: &["libexports.so"],
        addresses: &[
            (0x30c, "first"),
            (0x315, "second"),
            (0x2d0, "<unknown in libexports.so>"),
        ],
        crash: None,
    },
    Case {
        files: &["a64.exe", "a64.pdb"],
        addresses: &[],
        crash: Some((
            "winarm64.dmp",
            "decode",
            &[
                "decode(int) a64.c:4",
                "load(int) a64.c:5",
                "mainCRTStartup() a64.c:6",
            ],
        )),
    },
];

/// The functions of a frame as `inlined FILE:LINE < function FILE:LINE`.
fn shown(frame: &Value) -> String {
    let place = |of: &Value| {
        let function = of["function"].as_str().unwrap_or("-");
        match (of["file"].as_str(), of["line"].as_u64()) {
            (Some(file), Some(line)) => {
                let leaf = file.rsplit('/').next().unwrap_or(file);
                format!("{function} {leaf}:{line}")
            }
            _ => function.to_owned(),
        }
    };
    let inlines = frame["inlines"].as_array().cloned().unwrap_or_default();
    let all: Vec<String> = inlines.iter().chain([frame]).map(place).collect();
    all.join(" < ")
}

#[test]
fn addresses_and_stacks_are_named_as_debuggers_name_them() {
    let server = Server::start();
    let fixtures = fixtures("toolchains");
    for case in CASES {
        let files: Vec<(&str, &[u8])> = (case.files.iter())
            .map(|name| (*name, &fixtures[*name][..]))
            .collect();
        let answer = server.request("POST", "/upload/", &[], &zip_of(&files));
        let answer = answer.json();
        // `/symbols/<debug file>/<debug id>/<file>`
        let stored = answer["files"].as_array().expect("files").last().cloned();
        let url = stored.as_ref().and_then(|file| file["url"].as_str());
        let url: Vec<&str> = url
            .unwrap_or_else(|| panic!("{answer}"))
            .split('/')
            .collect();
        let stack: Vec<Value> = (case.addresses.iter())
            .map(|(offset, _)| json!([0, offset]))
            .collect();
        let question = json!({"memoryMap": [[url[2], url[3]]], "stacks": [stack]}).to_string();
        let json_type = ("Content-Type", "application/json");
        let answer = server.request("POST", "/symbolicate/v5", &[json_type], question.as_bytes());
        let answer = answer.json();
        let frames = answer["results"][0]["stacks"][0].as_array();
        let frames = frames.unwrap_or_else(|| panic!("{answer}"));
        let named: Vec<String> = frames.iter().map(shown).collect();
        let expected: Vec<&str> = case.addresses.iter().map(|(_, shown)| *shown).collect();
        assert_eq!(named, expected, "{:?}", case.files);
        let Some((dump, signature, stack)) = case.crash else {
            continue;
        };
        let dump = [("upload_file_minidump", dump, &fixtures[dump][..])];
        let id = server.submit(&[("ProductName", "App")], &dump).crash_id();
        assert_eq!(server.wait_processed(&id), "processed");
        let crash = server.processed(&id);
        let frames = crash["json_dump"]["crashing_thread"]["frames"].as_array();
        let frames = frames.expect("frames").iter().take(stack.len());
        let named: Vec<String> = frames.map(shown).collect();
        assert_eq!(named, stack, "{:?}", case.files);
        assert_eq!(crash["signature"], signature, "{:?}", case.files);
    }
}
