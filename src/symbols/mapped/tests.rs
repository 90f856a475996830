//! Tests of damaged mapped files, and of the conversion of texts.

use std::io::Cursor;

use super::layout::CHECKED_FROM;
use super::*;

const TEXT: &str = "MODULE Linux x86_64 000000000000000000000000000000001 app\n\
    INFO URL https://symbols.example/app.sym\n\
    FILE 0 main.c\nFILE 1 lib.h\nINLINE_ORIGIN 0 helper\n\
    PUBLIC 10 0 start\nPUBLIC m 10 4 start_too\nPUBLIC 900 0 end\n\
    FUNC 100 40 8 main\nINLINE 0 7 0 0 110 10 130 8\nINLINE 1 9 1 0 114 4\n\
    100 10 5 0\n110 10 20 1\n120 20 6 0\n\
    FUNC m 140 10 0 other\n140 10 30 0\n\
    STACK CFI INIT 100 40 .cfa: $rsp 8 + .ra: .cfa -8 + ^\nSTACK CFI 104 .cfa: $rsp 16 +\n\
    STACK WIN 4 200 20 1 0 4 0 8 0 1 $T0 .raSearch = $eip $T0 ^ = $esp $T0 4 + =\n\
    STACK WIN 0 300 20 1 0 8 0 8 0 0 1\n";

const STAMP: Stamp = Stamp {
    bytes: 7,
    modified_ns: 8,
};

fn converted(text: &[u8]) -> Vec<u8> {
    let mut out = Cursor::new(vec![]);
    convert(text, STAMP, None, &mut out).unwrap();
    out.into_inner()
}

fn corrupt(text: &[u8]) -> Option<String> {
    let mapped = Mapped::from_bytes(converted(text)).unwrap();
    mapped.corrupt().map(str::to_owned)
}

/// The answers to all possible look-ups, at each interesting address in [`TEXT`].
fn ask(mapped: &Mapped) -> String {
    let mut answers = format!(
        "{:?} {:?} {:?} {:?}\n",
        mapped.stamp(),
        mapped.corrupt(),
        mapped.debug_id(),
        mapped.url()
    );
    for address in (0..0x400).step_by(2).chain([u64::MAX - 1, u64::MAX]) {
        let function = mapped.function(address);
        answers += &format!("{address:x} {function:?} {:?}", mapped.public(address));
        if let Some(function) = function {
            let line = mapped.line(&function, address);
            let file = line.and_then(|line| mapped.file(line.file));
            answers += &format!(" {:?} {line:?} {file:?}", mapped.string(function.name));
            for depth in 0..3 {
                let inline = mapped.inline(&function, depth, address);
                let origin = inline.and_then(|inline| mapped.origin(inline.origin));
                answers += &format!(" {inline:?} {origin:?}");
            }
        }
        if let Some(cfi) = mapped.cfi(address) {
            let rules = mapped.deltas(&cfi, address);
            let rules: Vec<_> = rules.map(|delta| mapped.string(delta.rules)).collect();
            answers += &format!(" {:?} {rules:?}", mapped.string(cfi.rules));
        }
        for win in [mapped.framedata(address), mapped.fpo(address)] {
            let program = win.and_then(|win| mapped.string(win.program));
            answers += &format!(" {win:?} {program:?}\n");
        }
    }
    answers
}

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn what_a_text_says_is_found_again() {
    let mapped = Mapped::from_bytes(converted(TEXT.as_bytes())).unwrap();
    assert_eq!(mapped.corrupt(), None);
    assert_eq!(mapped.stamp(), STAMP);
    assert_eq!(mapped.url(), Some("https://symbols.example/app.sym"));
    let main = mapped.function(0x116).unwrap();
    assert_eq!(mapped.string(main.name), Some("main"));
    assert_eq!(mapped.line(&main, 0x116).unwrap().line, 20);
    assert_eq!(mapped.inline(&main, 1, 0x116).unwrap().call_line, 9);
    assert_eq!(mapped.inline(&main, 2, 0x116), None);
    assert_eq!(mapped.inline(&main, 0, 0x13a), None);
    let public = mapped.public(0x20).unwrap();
    assert_eq!(mapped.string(public.name), Some("start_too"));
    assert_eq!(mapped.framedata(0x210).unwrap().parameter_size, 4);
    let cfi = mapped.cfi(0x103).unwrap();
    assert_eq!(mapped.deltas(&cfi, 0x103).count(), 0);
    assert_eq!(mapped.deltas(&cfi, 0x104).count(), 1);
}

#[test]
fn any_damage_is_refused_by_the_checksum() {
    let whole = converted(TEXT.as_bytes());
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << bit;
            assert!(Mapped::from_bytes(damaged).is_err(), "byte {at}, bit {bit}");
        }
    }
    for length in 0..whole.len() {
        assert!(Mapped::from_bytes(whole[..length].to_vec()).is_err());
    }
}

#[test]
fn damage_that_no_checksum_shows_never_panics() {
    let whole = converted(TEXT.as_bytes());
    let mut seed = 0x5eed_5eed_5eed_5eed;
    for round in 0..4000 {
        let mut damaged = whole.clone();
        for _ in 0..1 + round % 8 {
            let at = CHECKED_FROM + random(&mut seed) as usize % (damaged.len() - CHECKED_FROM);
            damaged[at] = match round % 3 {
                0 => 0xff,
                1 => 0,
                _ => random(&mut seed) as u8,
            };
        }
        if let Ok(mapped) = Mapped::trusted(damaged) {
            ask(&mapped);
        }
    }
}

#[test]
fn carriage_returns_change_nothing() {
    let plain = Mapped::from_bytes(converted(TEXT.as_bytes())).unwrap();
    for end in ["\r\n", "\r\r\n"] {
        let text = TEXT.replace('\n', end);
        let mapped = Mapped::from_bytes(converted(text.as_bytes())).unwrap();
        assert_eq!(ask(&mapped), ask(&plain), "{end:?}");
    }
}

#[test]
fn a_text_that_makes_no_sense_says_where() {
    for (text, reason) in [
        ("", "it is empty"),
        ("MODULE a b 0 c\nFUNC 10\n", "line 2 is invalid"),
        ("MODULE a b 0 c\nFUNC 10 10 0 x", "line 2 has no line end"),
        ("\nMODULE a b 0 c\n", "line 2 is a second MODULE record"),
        ("STACK CFI 10 .cfa: 8\n", "line 1 is invalid"),
    ] {
        let found = corrupt(text.as_bytes()).unwrap_or_default();
        assert!(found.contains(reason), "{text:?}: {found}");
    }
}

#[test]
fn a_line_too_long_is_passed_over_wherever_the_pieces_of_the_file_end() {
    let long = "x".repeat(200 << 10);
    let very_long = "x".repeat(3 << 20);
    let text = format!(
        "MODULE a b 0 c\nFUNC 10 10 0 {long}\nFUNC 20 10 0 short\nPUBLIC 5 0 {very_long}\n20 10 1 0\n"
    );
    let mapped = Mapped::from_bytes(converted(text.as_bytes())).unwrap();
    assert_eq!(mapped.corrupt(), None);
    assert_eq!(mapped.function(0x10), None);
    let short = mapped.function(0x20).unwrap();
    assert!(mapped.line(&short, 0x20).is_some());
}

#[test]
fn spilling_changes_no_byte() {
    let mut text = TEXT.to_owned();
    for n in 0..60_000_u64 {
        let address = 0x1000 + n * 0x100;
        text += &format!("FUNC {address:x} 100 0 function_{n}_with_a_long_name_of_its_own\n");
        for line in 0..20 {
            text += &format!("{:x} c {line} 0\n", address + line * 12);
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let mut spilled = Cursor::new(vec![]);
    convert(text.as_bytes(), STAMP, Some(folder.path()), &mut spilled).unwrap();
    assert!(spilled.get_ref().len() > 17 << 20);
    assert!(spilled.into_inner() == converted(text.as_bytes()));
}
