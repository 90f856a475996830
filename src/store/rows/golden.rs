//! The bytes of every row, and of a record of a segment. What is written here is on disks: a line is added for a new version of a
//! row, and no line is ever changed.

use std::fmt::Debug;
use std::sync::Arc;

use super::*;
use crate::store::disk::{Disk, OsDisk};
use crate::store::identity::Secret;
use crate::store::log;
use crate::store::payload::Payload;
use crate::store::segment_head::{Position, SegmentHead};
use crate::store::segments::{self, Appender, Readers, RecordKind};

/// Bytes as one example of a row is written today.
fn check<R: Row + Clone + PartialEq + Debug>(example: R, hex: &str) {
    assert_eq!(to_hex(&encode(&example)), hex, "{} is written", R::NAME);
    reads(&example, hex);
}

/// Bytes of any version that must read as this example.
fn reads<R: Row + Clone + PartialEq + Debug>(example: &R, hex: &str) {
    let row: R = decode(&from_hex(hex)).expect("golden bytes");
    assert_eq!(row, *example);
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).expect("hex"), 16);
    digits.map(|pair| byte(pair).expect("hex")).collect()
}

fn text(text: &str) -> Option<String> {
    Some(text.into())
}

fn blob(n: u32) -> BlobRef {
    BlobRef {
        segment: n,
        offset: 300,
        stored_bytes: 70_000,
        raw_bytes: 1 << 33,
    }
}

fn crash() -> CrashRow {
    CrashRow {
        id: 0x5c3f1b52_9a0e_4d1f_8a77_2f10c0261122,
        state: State::Processed,
        received_at_ms: 1_795_000_000_000,
        product: "Firefox".into(),
        version: "99.0b10".into(),
        throttle_rule: "accept_everything".into(),
        raw: blob(1),
        parts: vec![
            PartRow {
                name: "upload_file_minidump".into(),
                kind: PartKindRow::Dump,
                file_name: text("a.dmp"),
                content_type: text("application/octet-stream"),
                bytes: 4096,
                sha256: [7; 32],
                blob: blob(2),
            },
            PartRow {
                name: "log".into(),
                kind: PartKindRow::Attachment,
                file_name: None,
                content_type: None,
                bytes: 0,
                sha256: [0; 32],
                blob: blob(3),
            },
        ],
        processed: Some(ProcessedRow {
            blob: blob(4),
            signature: "mozilla::ä | b".into(),
            processed_at_ms: 1_795_000_000_001,
        }),
        attempts: 3,
        faults: 255,
        server_deaths: 1,
        reason: text("walker died"),
        lane: Lane::Slowest,
        deferred_until_ms: Some(-1),
        counted: Some(CountedRow {
            product: 1,
            version: 251,
            build: 65_536,
            signature: 4,
            system: 3,
            uptime_s: Some(86_400),
        }),
    }
}

#[test]
fn crashes() {
    check(crash(), CRASH_2);
    let before = CrashRow {
        counted: None,
        ..crash()
    };
    reads(&before, CRASH_1);
    let small = CrashRow {
        state: State::Queued,
        parts: Vec::new(),
        processed: None,
        reason: None,
        lane: Lane::Priority,
        deferred_until_ms: None,
        counted: None,
        ..crash()
    };
    check(small, SMALL_CRASH_2);
}

#[test]
fn segments() {
    let segment = SegmentRow {
        stream: Stream::Deferred,
        bytes: 128 << 20,
        live_bytes: 5,
        created_at_ms: 1_795_000_000_000,
        sealed: true,
        dead: true,
    };
    check(segment.clone(), SEGMENT_2);
    let before = SegmentRow {
        dead: false,
        ..segment
    };
    reads(&before, SEGMENT_1);
}

#[test]
fn reprocessings() {
    let reprocessing = ReprocessingRow {
        modules: vec!["a.pdb/ABC1".into(), "b/DEF0 unwind".into()],
        begun_at_ms: 1,
        ended_at_ms: Some(2),
        affected: 1000,
        done: 999,
        improved: 251,
        asked: text("product=A"),
    };
    check(reprocessing.clone(), REPROCESSING_2);
    let before = ReprocessingRow {
        asked: None,
        ..reprocessing
    };
    reads(&before, REPROCESSING_1);
}

#[test]
fn bugs() {
    let bug = BugRow {
        url: "https://bugs.example/1".into(),
        summary: "It crashes".into(),
        status: "RESOLVED".into(),
        resolution: "FIXED".into(),
        is_open: Some(false),
        updated_at_ms: Some(5),
    };
    check(bug, BUG_1);
}

#[test]
fn passes() {
    let pass = PassRow {
        at_ms: 1_795_000_000_000,
        processed_days: 180,
        failed_days: 30,
        symbols_unused_days: 365,
        symbols_days: 0,
    };
    check(pass, PASS_1);
}

#[test]
fn counters() {
    let tally = |crashes| TallyRow {
        crashes,
        with_uptime: 2,
        uptime_s: 100_000,
    };
    check(
        CounterRow([tally(1), tally(2), tally(3), tally(251)]),
        COUNTER_1,
    );
}

#[test]
fn accounts() {
    let user = UserRow {
        name: "ana".into(),
        role: 2,
        created_at_ms: 9,
    };
    check(user, USER_1);
    let key = KeyRow {
        user: "ana".into(),
        hash: [9; 32],
        rights: 0b1010_1010,
        label: "CI".into(),
        created_at_ms: 10,
        expires_at_ms: Some(11),
    };
    check(key, KEY_1);
    let session = SessionRow {
        key_id: Some(7),
        created_at_ms: 12,
        expires_at_ms: 13,
    };
    check(session, SESSION_1);
    let search = SearchRow {
        owner: "ana".into(),
        name: "mine".into(),
        query: "product=A&_sort=-date".into(),
        saved_at_ms: 14,
    };
    check(search, SEARCH_1);
}

#[test]
fn signatures() {
    let input = InputRow {
        product: "Firefox".into(),
        crashing: vec![1, 300, 70_000],
        first: Some(vec![2]),
        is_windows: true,
        last_error: text("ERROR_SUCCESS"),
        reason: text("SIGSEGV"),
        oom_allocation_size: Some(-5),
        js_large_allocation_failure: text("a"),
        abort_message: text("b"),
        async_shutdown_timeout: text("c"),
        ipc_channel_error: text("d"),
        ipc_message_name: text("e"),
        has_browser_dump: true,
        hang: text("f"),
        mdsw_status_string: text("OK"),
        java_stack_trace: text("g"),
        java_exception: text("{}"),
    };
    check(input, INPUT_1);
    let frame = FrameRow {
        function: text("main"),
        module: text("a.exe"),
        file: text("a.c"),
        line: Some(17),
        module_offset: text("0x10"),
        offset: text("0x400010"),
        inlines: vec![InlineRow {
            function: text("inner"),
            file: None,
            line: Some(1),
        }],
        unloaded_module: Some(text("old.dll")),
        location: None,
    };
    reads(&frame, FRAME_1);
    let frame = FrameRow {
        location: Some(LocationRow::System),
        ..frame
    };
    check(frame, FRAME_2);
    let group = GroupRow {
        name: 300,
        merged_into: Some(2),
        origin: None,
        began_ms: 15,
        first_ms: Some(-1),
    };
    check(group, GROUP_1);
    let files = [
        ("irrelevant_signature_re.txt", "a"),
        ("prefix_signature_re.txt", "b"),
        ("signature_sentinels.txt", "c"),
        ("signatures_with_line_numbers_re.txt", "d"),
        ("site_rules.txt", "e"),
    ];
    let revision = RevisionRow {
        lists: files.map(|(file, text)| (file.into(), text.into())).into(),
        author: "ana".into(),
        at_ms: 15,
        comment: "why".into(),
        restores: Some(3),
    };
    reads(&revision, REVISION_1);
    check(revision, REVISION_2);
    let resign = ResignRow {
        begun_at_ms: 16,
        ended_at_ms: None,
        superseded: true,
        cursor: 1,
        total: 2,
        looked_at: 3,
        changed: 4,
        unreadable: 5,
    };
    check(resign, RESIGN_1);
}

#[test]
fn symbols() {
    let content = ContentRow {
        functions: 1,
        lines: 2,
        inlines: 3,
        publics: 4,
        cfi: 5,
        win: 6,
    };
    let upload = |kind| UploadRow {
        sha256: "ab".into(),
        kind,
        name: "a.pdb".into(),
        holds_code: true,
        bytes: 1,
        text_bytes: 2,
        stored_bytes: 3,
        added_at_ms: 4,
        content,
        conflict: true,
        coverage: None,
    };
    let kinds = [
        KindRow::Sym,
        KindRow::Elf,
        KindRow::Pdb,
        KindRow::Pe,
        KindRow::MachO,
        KindRow::Split,
        KindRow::Sources,
    ];
    let mut symbols = SymbolsRow {
        module: ModuleRow {
            debug_file: "a.pdb".into(),
            debug_id: "ABC1".into(),
            os: "windows".into(),
            arch: "x86_64".into(),
            code_file: "a.exe".into(),
            code_id: "5ab38077c000".into(),
            uploads: kinds.map(upload).into(),
            symbols_from: 1,
            unwind_from: 300,
        },
        used_at_ms: Some(5),
        releases: vec![ReleaseRow {
            product: "A".into(),
            version: "1".into(),
        }],
        is_fetched: false,
    };
    reads(&symbols, SYMBOLS_1);
    symbols.module.uploads[1].coverage = Some(CoverageRow {
        code: 7,
        named: 8,
        lines: 9,
        unwind: 10,
    });
    reads(&symbols, SYMBOLS_2);
    symbols.is_fetched = true;
    check(symbols, &format!("03{}01", &SYMBOLS_2[2..]));
}

#[test]
fn a_segment_record() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = OsDisk::new(folder.path()).expect("a disk");
    disk.create_dir(segments::DIR).expect("a folder");
    let file = disk.create(&segments::file_name(3)).expect("a file");
    let mut appender = Appender::new(3, file, 0, 0);
    let content = b"dump";
    let written = appender
        .append(RecordKind::Part, 7, &Payload::from_bytes(content), None)
        .expect("appended");
    appender.sync().expect("synced");
    let bytes = std::fs::read(folder.path().join(segments::file_name(3))).expect("a file");
    assert_eq!(to_hex(&bytes), RECORD);
    let blob = BlobRef {
        segment: 3,
        offset: 0,
        stored_bytes: bytes.len() as u64,
        raw_bytes: content.len() as u64,
    };
    assert_eq!(written, blob);
    let read = Readers::new(Arc::new(disk)).read(blob).expect("a record");
    assert_eq!(read.read_all().expect("its payload"), content);
}

#[test]
fn a_report_in_the_log() {
    let report = ReportRow {
        seq: 9,
        crash: crash(),
        digest: Some(5),
    };
    check(report.clone(), &format!("0109{}0105", &CRASH_2[2..]));
    let secret = Secret::new(7);
    let closing = log::close(&report, secret.hash());
    let hash = &closing[closing.len() - 16..];
    assert_eq!(to_hex(hash), CLOSING_HASH);
    assert_eq!(log::closed(&closing, secret.hash()), Some(report));
    let other = Secret::new(8);
    assert_eq!(log::closed(&closing, other.hash()), None);
}

#[test]
fn the_head_of_a_segment() {
    let head = SegmentHead {
        store: 1 << 100,
        life: 2,
        stream: Stream::Log,
        number: 4,
        created_at_ms: 1_795_000_000_000,
        continues: Position {
            segment: 3,
            offset: 300,
        },
    };
    assert_eq!(to_hex(&head.to_bytes()), HEAD);
}

#[test]
fn what_is_no_row_is_damage() {
    let damage = |bytes: &[u8]| {
        let error = decode::<PassRow>(bytes).expect_err("no row");
        error.to_string()
    };
    assert!(damage(&[]).contains("a pass of retention: it is empty"));
    assert!(damage(&[0, 0]).contains("version 0 is not known"));
    assert!(damage(&[1, 0xfe]).contains("a pass of retention"));
}

#[test]
fn a_row_of_a_newer_program_is_no_damage() {
    let error = decode::<PassRow>(&[9, 0]).expect_err("a newer row");
    assert!(matches!(error, StoreError::Newer(_)), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("a pass of retention has version 9"), "{text}");
    assert!(text.contains("versions up to 1"), "{text}");
}

const CLOSING_HASH: &str = "999085cebb5fbc384766aff1eb7ce0ee";
const HEAD: &str = "\
    434b53320300000004000000030000002c010000000000000200000000000000005e56eea10100000000000000\
    0000000000000010000000483aeec6ad5cfdc6";
const CRASH_2: &str = "\
    02fe221126c0102f778a1f4d0e9a521b3f5c03fd00bcacdc430300000746697265666f780739392e3062313011\
    6163636570745f65766572797468696e6701fb2c01fc70110100fd0000000002000000021475706c6f61645f66\
    696c655f6d696e6964756d70000105612e646d7001186170706c69636174696f6e2f6f637465742d7374726561\
    6dfb0010070707070707070707070707070707070707070707070707070707070707070702fb2c01fc70110100\
    fd0000000002000000036c6f670100000000000000000000000000000000000000000000000000000000000000\
    0000000003fb2c01fc70110100fd00000000020000000104fb2c01fc70110100fd00000000020000000f6d6f7a\
    696c6c613a3ac3a4207c2062fd02bcacdc4303000003ff01010b77616c6b657220646965640501010101fbfb00\
    fc00000100040301fc80510100";
const CRASH_1: &str = "\
    01fe221126c0102f778a1f4d0e9a521b3f5c03fd00bcacdc430300000746697265666f780739392e3062313011\
    6163636570745f65766572797468696e6701fb2c01fc70110100fd0000000002000000021475706c6f61645f66\
    696c655f6d696e6964756d70000105612e646d7001186170706c69636174696f6e2f6f637465742d7374726561\
    6dfb0010070707070707070707070707070707070707070707070707070707070707070702fb2c01fc70110100\
    fd0000000002000000036c6f670100000000000000000000000000000000000000000000000000000000000000\
    0000000003fb2c01fc70110100fd00000000020000000104fb2c01fc70110100fd00000000020000000f6d6f7a\
    696c6c613a3ac3a4207c2062fd02bcacdc4303000003ff01010b77616c6b65722064696564050101";
const SMALL_CRASH_2: &str = "\
    02fe221126c0102f778a1f4d0e9a521b3f5c00fd00bcacdc430300000746697265666f780739392e3062313011\
    6163636570745f65766572797468696e6701fb2c01fc70110100fd0000000002000000000003ff0100000000";
const SEGMENT_2: &str = "0202fc0000000805fd00bcacdc430300000101";
const SEGMENT_1: &str = "0102fc0000000805fd00bcacdc4303000001";
const REPROCESSING_2: &str = "\
    02020a612e7064622f414243310d622f4445463020756e77696e64020104fbe803fbe703fbfb00010970726f64\
    7563743d41";
const REPROCESSING_1: &str =
    "01020a612e7064622f414243310d622f4445463020756e77696e64020104fbe803fbe703fbfb00";
const BUG_1: &str = "\
    011668747470733a2f2f627567732e6578616d706c652f310a49742063726173686573085245534f4c56454405\
    46495845440100010a";
const PASS_1: &str = "01fd00bcacdc43030000b41efb6d0100";
const COUNTER_1: &str = "010102fca08601000202fca08601000302fca0860100fbfb0002fca0860100";
const USER_1: &str = "0103616e610212";
const KEY_1: &str = "\
    0103616e610909090909090909090909090909090909090909090909090909090909090909aa024349140116";
const SESSION_1: &str = "010107181a";
const SEARCH_1: &str = "0103616e61046d696e651570726f647563743d41265f736f72743d2d646174651c";
const INPUT_1: &str = "\
    010746697265666f780301fb2c01fc7011010001010201010d4552524f525f5355434345535301075349475345\
    475601090101610101620101630101640101650101016601024f4b01016701027b7d";
const GROUP_1: &str = "01fb2c010102001e0101";
const FRAME_2: &str = "0201046d61696e0105612e6578650103612e63011101043078313001083078343030303130010105696e6e65720001010101076f6c642e646c6c0101";
const FRAME_1: &str = "0101046d61696e0105612e6578650103612e63011101043078313001083078343030303130010105696e6e65720001010101076f6c642e646c6c";
const REVISION_2: &str = "02051b697272656c6576616e745f7369676e61747572655f72652e7478740161177072656669785f7369676e61747572655f72652e7478740162177369676e61747572655f73656e74696e656c732e7478740163237369676e6174757265735f776974685f6c696e655f6e756d626572735f72652e74787401640e736974655f72756c65732e747874016503616e611e037768790103";
const REVISION_1: &str = "010161016201630164016503616e611e037768790103";
const RESIGN_1: &str = "012000010102030405";
const SYMBOLS_1: &str = "\
    0105612e70646204414243310777696e646f7773067838365f363405612e6578650c3561623338303737633030\
    30070261620005612e7064620101020308010203040506010261620105612e7064620101020308010203040506\
    010261620205612e7064620101020308010203040506010261620305612e706462010102030801020304050601\
    0261620405612e7064620101020308010203040506010261620505612e70646201010203080102030405060102\
    61620605612e70646201010203080102030405060101fb2c01010a0101410131";
const SYMBOLS_2: &str = "\
    0205612e70646204414243310777696e646f7773067838365f363405612e6578650c3561623338303737633030\
    30070261620005612e706462010102030801020304050601000261620105612e70646201010203080102030405\
    0601010708090a0261620205612e706462010102030801020304050601000261620305612e7064620101020308\
    01020304050601000261620405612e706462010102030801020304050601000261620505612e70646201010203\
    0801020304050601000261620605612e7064620101020308010203040506010001fb2c01010a0101410131";
const RECORD: &str = "\
    434b503102000000070000000000000004000000000000000c0000000000000064a6de3d8040364ce86ca2306a\
    860956040000000400008064756d70";
