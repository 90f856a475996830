//! Dumps and symbols with which minidump-stackwalk 0.27 gives a wrong result, and the true result.
//!
//! The files are in `tests/fixtures/unwinding/`. A debugger has shown the true stacks.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use breakpad_symbols::SimpleModule;
use minidump_unwind::FrameSymbolizer;

use super::answers;
use super::tests::fixtures;
use super::*;
use crate::crash::walk::{Frame, Walk};
use crate::symbols::SymbolDirs;
use crate::symbols::mapped::{Mapped, Stamp};

/// The symbols of all cases, in the layout of a symbol server.
static SYMBOLS: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let root = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixtures().join("unwinding")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "sym") {
            let text = fs::read_to_string(&path).unwrap();
            put(root.path(), &text);
        }
    }
    root
});

/// Stores a symbol file under the names in its first line.
fn put(root: &Path, text: &str) {
    let words: Vec<&str> = text.lines().next().unwrap().split(' ').collect();
    let (id, module) = (words[3], words[4]);
    let folder = root.join(module).join(id);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(format!("{module}.sym")), text).unwrap();
}

fn dump(name: &str) -> Vec<u8> {
    fs::read(fixtures().join(format!("unwinding/{name}.dmp"))).unwrap()
}

fn walked(dump: &[u8], mode: Mode) -> Walk {
    let dirs = SymbolDirs::new(vec![SYMBOLS.path().to_owned()]);
    let symbols = SymbolCache::new(dirs, MAP_BYTES_MAX);
    let json = walk(dump, &symbols, &WalkLimits::NONE, mode).unwrap();
    serde_json::from_slice(&json).unwrap()
}

/// The crashing stack: functions, or addresses where there is none.
fn stack(dump: &[u8], mode: Mode) -> Vec<String> {
    let walk = walked(dump, mode);
    let (_, thread) = walk.crashing_thread().unwrap();
    thread.frames.iter().map(Frame::place).collect()
}

#[test]
fn a_public_symbol_names_only_its_own_function() {
    let dump = dump("public_without_size");
    assert_eq!(stack(&dump, Mode::Compat)[0], "pthread_key_delete");
    let unknown = "<unknown in libc.so.6>";
    assert_eq!(
        stack(&dump, Mode::True),
        [
            unknown,
            "gsignal",
            "abort",
            "net_poll",
            "main",
            unknown,
            "__libc_start_main",
            "_start"
        ]
    );
    let walk = walked(&dump, Mode::True);
    let frame = &walk.crashing_thread().unwrap().1.frames[0];
    assert_eq!(frame.function_start.as_deref(), Some("0x000000000008ade0"));
    assert_eq!(frame.function_offset.as_deref(), Some("0x000000000000010c"));
    assert_eq!(frame.missing_symbols, Some(false));
}

#[test]
fn the_caller_of_a_null_pointer_is_found() {
    for name in ["null_call", "end_of_stack"] {
        let stack = stack(&dump(name), Mode::True);
        assert_eq!(
            stack[..5],
            ["0x0", "dispatch", "handle_event", "loop", "main"],
            "{name}"
        );
        assert_eq!(stack.last().unwrap(), "_start", "{name}");
    }
    assert_eq!(stack(&dump("null_call"), Mode::Compat)[1], "handle_event");
}

#[test]
fn the_frames_behind_a_signal_handler_are_found() {
    let unknown = "<unknown in libc.so.6>";
    assert_eq!(
        stack(&dump("signal_handler"), Mode::True),
        [
            unknown,
            "gsignal",
            "abort",
            "report_crash",
            "on_signal",
            "<signal handler called>",
            "parse",
            "load",
            "main",
            unknown,
            "__libc_start_main",
            "_start"
        ]
    );
    let walk = walked(&dump("signal_handler"), Mode::True);
    let frames = &walk.crashing_thread().unwrap().1.frames;
    // The instruction was not a call, so it is named exactly.
    assert_eq!(frames[6].trust, "context");
    assert_eq!(frames[6].line, Some(9));
    assert!(!stack(&dump("signal_handler"), Mode::Compat).contains(&"parse".to_owned()));
}

#[test]
fn signed_return_addresses_and_epilogues_of_arm64_are_unwound() {
    for name in ["signed_return_addresses", "epilogue"] {
        assert_eq!(
            stack(&dump(name), Mode::True),
            ["decode", "load", "outer", "_start"],
            "{name}"
        );
    }
}

/// A dump whose crashing thread is changed.
struct Changed {
    dump: Vec<u8>,
    /// Offset of the registers.
    context: usize,
    stack_base: u64,
    /// Offset of the stack.
    stack: usize,
}

impl Changed {
    fn of(name: &str) -> Self {
        let dump = dump(name);
        let word = |at: usize| u32::from_le_bytes(dump[at..at + 4].try_into().unwrap()) as usize;
        let stream = |kind: usize| {
            let entries = (0..word(8)).map(|n| word(12) + n * 12);
            entries
                .into_iter()
                .find(|at| word(*at) == kind)
                .map(|at| word(at + 8))
                .unwrap()
        };
        let thread = stream(3) + 4;
        let (context, stack) = (word(stream(6) + 164), word(thread + 36));
        let stack_base = u64::from_le_bytes(dump[thread + 24..thread + 32].try_into().unwrap());
        Self {
            context,
            stack,
            stack_base,
            dump,
        }
    }

    fn register(&self, offset: usize) -> u64 {
        let at = self.context + offset;
        u64::from_le_bytes(self.dump[at..at + 8].try_into().unwrap())
    }

    fn set_register(&mut self, offset: usize, value: u64) {
        let at = self.context + offset;
        self.dump[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }

    fn set_word(&mut self, address: u64, value: u64) {
        let at = self.stack + (address - self.stack_base) as usize;
        self.dump[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
}

/// The handler has another stack here, at higher addresses than that of the code it interrupted. It has no
/// unwind rules, and the interrupted code is at address 0, which was called.
#[test]
fn a_signal_handler_with_another_stack_and_a_null_call_in_the_code_it_interrupted() {
    const RSP: usize = 0x98;
    const RBP: usize = 0xa0;
    const RIP: usize = 0xf8;
    /// rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8 to r15, rip: where the kernel saves them, in words.
    const SAVED: [u64; 17] = [13, 14, 12, 11, 15, 10, 9, 8, 0, 1, 2, 3, 4, 5, 6, 7, 16];

    let mut changed = Changed::of("null_call");
    let module = walked(&changed.dump, Mode::Compat).modules[0]
        .base_addr
        .clone()
        .unwrap();
    let module = u64::from_str_radix(&module[2..], 16).unwrap();
    let frame = (changed.stack_base + 0x800).next_multiple_of(16);
    for (number, place) in SAVED.into_iter().enumerate() {
        let value = changed.register(0x78 + number * 8);
        changed.set_word(frame + 40 + place * 8, value);
    }
    for (offset, value) in [
        (0, 7),
        (8, 0),
        (184, 0x2b_0000_0000_0033),
        (216, 0),
        (224, 0),
        (304, 11),
        (312, 1),
        // The frame record of the handler.
        (-16_i64 as u64, frame + 8),
        (-8_i64 as u64, module + 0x20),
    ] {
        changed.set_word(frame.wrapping_add(offset), value);
    }
    changed.set_register(RSP, frame - 64);
    changed.set_register(RBP, frame - 16);
    changed.set_register(RIP, module + 0x10);
    let stack = stack(&changed.dump, Mode::True);
    assert_eq!(
        stack[1..7],
        [
            "<signal handler called>",
            "0x0",
            "dispatch",
            "handle_event",
            "loop",
            "main"
        ]
    );
    // If the interrupted stack is not in the dump, its innermost frame still is.
    changed.set_word(frame + 40 + 15 * 8, 0x1000);
    changed.set_word(frame + 40 + 16 * 8, module + 0x1140);
    let stack = self::stack(&changed.dump, Mode::True);
    assert_eq!(stack.len(), 3, "{stack:?}");
    // A frame that saves itself does not loop.
    changed.set_word(frame + 40 + 15 * 8, frame - 64);
    changed.set_word(frame + 40 + 10 * 8, frame - 16);
    changed.set_word(frame + 40 + 16 * 8, module + 0x10);
    let stack = self::stack(&changed.dump, Mode::True);
    assert!(stack.len() < 100, "{}", stack.len());
}

#[test]
fn a_signal_handler_on_arm64() {
    const FP: usize = 240;
    const SP: usize = 256;
    const PC: usize = 264;

    let mut changed = Changed::of("epilogue");
    let module = walked(&changed.dump, Mode::Compat).modules[0]
        .base_addr
        .clone()
        .unwrap();
    let module = u64::from_str_radix(&module[2..], 16).unwrap();
    let frame = (changed.stack_base + 0x800).next_multiple_of(16);
    for number in 0..33 {
        let value = changed.register(8 + number * 8);
        changed.set_word(frame + 312 + number as u64 * 8, value);
    }
    for (offset, value) in [
        (0, 11),
        (8, 1),
        (128, 0),
        (136, 0),
        (304, 0),
        (576, 0x6000_0000),
        (592, 0x210_4650_8001),
        (-16_i64 as u64, 0),
        (-8_i64 as u64, module + 0x20),
    ] {
        changed.set_word(frame.wrapping_add(offset), value);
    }
    changed.set_register(FP, frame - 16);
    changed.set_register(SP, frame - 64);
    changed.set_register(PC, module + 0x10);
    let stack = stack(&changed.dump, Mode::True);
    assert_eq!(
        stack[1..],
        [
            "<signal handler called>",
            "decode",
            "load",
            "outer",
            "_start"
        ]
    );
    // The call of a null pointer: x30 has the return address.
    let mut changed = Changed::of("epilogue");
    changed.set_register(PC, 0);
    let stack = self::stack(&changed.dump, Mode::True);
    assert_eq!(stack, ["0x0", "load", "outer", "_start"]);
}

/// The name at each address of a module called `m`; `-` if there is none.
#[track_caller]
fn check_names(text: &str, names: &[(u64, &str)]) {
    #[derive(Default)]
    struct Named(u64, String, u64);

    impl FrameSymbolizer for Named {
        fn get_instruction(&self) -> u64 {
            self.0
        }
        fn set_function(&mut self, name: &str, base: u64, _: u32) {
            (self.1, self.2) = (name.to_owned(), base);
        }
        fn set_source_file(&mut self, _: &str, _: u32, _: u64) {}
        fn add_inline_frame(&mut self, _: &str, _: Option<&str>, _: Option<u32>) {}
    }

    let text = format!("MODULE Linux x86_64 0 m\n{text}");
    let stamp = Stamp {
        bytes: 0,
        modified_ns: 0,
    };
    let symbols = Mapped::from_text(text.as_bytes(), stamp).unwrap();
    let module = SimpleModule {
        base_address: Some(0x10_0000),
        code_file: Some("/lib/m".to_owned()),
        ..SimpleModule::default()
    };
    for (address, expected) in names {
        let mut named = Named(0x10_0000 + address, String::new(), 0);
        answers::fill_symbol(&symbols, &module, &mut named, Mode::True);
        let shown = match named.1.as_str() {
            "" => "-".to_owned(),
            "<unknown in m>" => format!("? {:x}", named.2 - 0x10_0000),
            name => name.to_owned(),
        };
        assert_eq!(&shown, expected, "{address:x}");
    }
}

#[test]
fn unwind_rules_bound_public_symbols() {
    const RULES: &str = ".cfa: $rsp 8 + .ra: .cfa -8 + ^";
    let text = format!(
        "PUBLIC 1000 0 a\nPUBLIC 1100 0 b\nPUBLIC 1108 0 inner\nPUBLIC 3ff0 0 _fini\n\
         STACK CFI INIT 1000 20 {RULES}\nSTACK CFI INIT 1020 10 {RULES}\n\
         STACK CFI INIT 10ff 30 {RULES}\nSTACK CFI INIT 1200 10 {RULES}\n"
    );
    check_names(
        &text,
        &[
            // Before everything.
            (0x10, "-"),
            (0x1000, "a"),
            (0x101f, "a"),
            // Another function, with the same start at all its addresses.
            (0x1020, "? 1020"),
            (0x102f, "? 1020"),
            // Code without rules that no symbol is known to hold.
            (0x1030, "-"),
            // The rules of `__restore_rt` start one byte early.
            (0x10ff, "? 10ff"),
            (0x1100, "b"),
            (0x1108, "inner"),
            (0x112e, "inner"),
            (0x112f, "-"),
            (0x1205, "? 1200"),
            // The last function has no rules. Its page is code, the next may be data.
            (0x3ff0, "_fini"),
            (0x3fff, "_fini"),
            (0x4000, "-"),
            (0x9000, "-"),
            (u64::MAX - 0x10_0000, "-"),
        ],
    );
}

#[test]
fn without_unwind_rules_functions_bound_public_symbols() {
    check_names(
        "FUNC 1000 10 0 f\nPUBLIC 1000 0 f_alias\nPUBLIC 1008 0 label\nPUBLIC 1010 0 p\nPUBLIC 3000 0 _fini\n",
        &[
            (0x1008, "f"),
            (0x1010, "p"),
            (0x2fff, "p"),
            (0x3000, "_fini"),
            (0x4000, "-"),
        ],
    );
    // If nothing at all is known about extents, a symbol ends at the next.
    check_names(
        "PUBLIC 1000 0 a\nPUBLIC 2000 0 b\n",
        &[(0xfff, "-"), (0x1fff, "a"), (0x9000, "b")],
    );
}

#[test]
fn the_ranges_of_a_windows_function_belong_together() {
    const RULES: &str = ".cfa: $rsp 40 + $rbx: .cfa 16 - ^ .ra: .cfa 8 - ^";
    let text = format!(
        "PUBLIC 1000 0 a\nSTACK CFI INIT 1000 13 {RULES}\nSTACK CFI INIT 1013 d {RULES}\n\
         STACK CFI INIT 1020 10 {RULES}\nSTACK CFI INIT 1030 7 {RULES}\n"
    );
    check_names(
        &text,
        &[
            (0x1012, "a"),
            (0x1013, "a"),
            (0x101f, "a"),
            (0x1020, "? 1020"),
            (0x1036, "? 1030"),
        ],
    );
}
