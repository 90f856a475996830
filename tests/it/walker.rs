//! The stackwalk child: it gives the same answer as a walk in this process. Whatever happens to it, the next
//! dump is walked.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crashkeep::crash::walk::Walk;
use crashkeep::stackwalk::{
    MAP_BYTES_MAX, Mode, Overrun, SymbolCache, WalkLimits, Walker, WalkerFault, WalkerOptions, walk,
};
use crashkeep::symbols::SymbolDirs;
use crashkeep::symbols::mapped::MappedDir;

use crate::hostile;

fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_crashkeep"))
}

fn dump(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn small_dump() -> Vec<u8> {
    dump("dumps/linux-x86_64-null_read_av.dmp")
}

fn walked_here(dump: &[u8]) -> Vec<u8> {
    let symbols = SymbolCache::new(SymbolDirs::default(), MAP_BYTES_MAX);
    walk(dump, &symbols, &WalkLimits::NONE, Mode::True).unwrap()
}

/// A program that replaces the walker and runs a shell script. Like walkers, it starts with an empty
/// environment, so the script must use full paths of programs.
fn stand_in(folder: &Path, script: &str) -> PathBuf {
    let (text, program) = (folder.join("script.txt"), folder.join("stand-in"));
    std::fs::write(&text, format!("#!/bin/sh\n{script}\n")).unwrap();
    // Another process copies the file. If this process wrote it, a child that another test has just forked
    // could still have it open for writing. Then it could not be executed.
    let install = Command::new("install")
        .args(["-m", "755"])
        .args([&text, &program])
        .status();
    assert!(install.unwrap().success());
    program
}

fn options_of(script: &str) -> (tempfile::TempDir, WalkerOptions) {
    let folder = tempfile::tempdir().unwrap();
    let options = WalkerOptions::new(stand_in(folder.path(), script));
    (folder, options)
}

#[test]
fn a_walk_through_the_child_equals_one_in_this_process() {
    let mut walker = Walker::new(WalkerOptions::new(program()));
    let mut first_pid = None;
    for name in [
        "dumps/linux-x86_64-null_read_av.dmp",
        "dumps/windows-x86_64-electron.dmp",
        "dumps/linux-x86_64-acmed_stack_overflow.dmp",
        "dumps/macos-x86_64-crash.dmp",
    ] {
        let dump = dump(name);
        let json = walker.walk(&dump).unwrap().unwrap();
        assert!(json == walked_here(&dump), "{name}");
        assert_eq!(*first_pid.get_or_insert(walker.pid()), walker.pid());
    }
}

#[test]
fn the_child_finds_symbols_that_arrive_between_two_dumps() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = WalkerOptions::new(program());
    options.symbols = vec![folder.path().to_owned()];
    let mut walker = Walker::new(options);
    let dump = small_dump();
    let module = |json: &[u8]| {
        let json: serde_json::Value = serde_json::from_slice(json).unwrap();
        let modules = json["modules"].as_array().unwrap();
        let module = modules
            .iter()
            .find(|module| module["filename"] == "null_read_av");
        module.unwrap().clone()
    };
    let before = module(&walker.walk(&dump).unwrap().unwrap());
    assert_eq!(before["missing_symbols"], true);
    let id = before["debug_id"].as_str().unwrap();
    let place = folder.path().join("null_read_av").join(id);
    std::fs::create_dir_all(&place).unwrap();
    let text = format!("MODULE Linux x86_64 {id} null_read_av\nFUNC 0 100000 0 whole_program\n");
    std::fs::write(place.join("null_read_av.sym"), text).unwrap();
    let json = walker.walk(&dump).unwrap().unwrap();
    assert_eq!(module(&json)["loaded_symbols"], true);
    assert!(String::from_utf8(json).unwrap().contains("whole_program"));
}

/// Symbols for the small dump, in `folder`.
fn put_symbols(folder: &Path, function: &str) {
    let id = "7B7D1968FF0D47AE4366E9C3A7E1B6750";
    let place = folder.join("null_read_av").join(id);
    std::fs::create_dir_all(&place).unwrap();
    let text = format!("MODULE Linux x86_64 {id} null_read_av\nFUNC 0 100000 0 {function}\n");
    std::fs::write(place.join("null_read_av.sym"), text).unwrap();
}

#[test]
fn symbols_are_mapped_at_the_first_walk_and_again_when_they_change() {
    let folder = tempfile::tempdir().unwrap();
    let [texts, mapped, incoming] =
        ["symbols", "mapped", "incoming"].map(|name| folder.path().join(name));
    let mut options = WalkerOptions::new(program());
    options.symbols = vec![texts.clone()];
    options.mapped = Some(Arc::new(MappedDir::new(mapped.clone(), incoming)));
    let mut walker = Walker::new(options);
    let mut pid = None;
    for function in ["first_build", "second_build_of_it"] {
        put_symbols(&texts, function);
        for _ in 0..2 {
            let json = walker.walk(&small_dump()).unwrap().unwrap();
            assert!(String::from_utf8(json).unwrap().contains(function));
            assert_eq!(*pid.get_or_insert(walker.pid()), walker.pid());
        }
    }
    let file = mapped.join("null_read_av/7B7D1968FF0D47AE4366E9C3A7E1B6750/symbols.map");
    assert!(std::fs::read(file).unwrap().starts_with(b"CKSYMMAP"));
}

#[test]
fn symbols_that_cannot_be_mapped_are_used_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    put_symbols(&folder.path().join("symbols"), "whole_program");
    let file = folder.path().join("file");
    std::fs::write(&file, "no folder").unwrap();
    let mut options = WalkerOptions::new(program());
    options.symbols = vec![folder.path().join("symbols")];
    options.mapped = Some(Arc::new(MappedDir::new(
        file.join("mapped"),
        file.join("incoming"),
    )));
    let json = Walker::new(options).walk(&small_dump()).unwrap().unwrap();
    assert!(String::from_utf8(json).unwrap().contains("whole_program"));
}

#[test]
fn a_bad_dump_is_refused_and_the_same_child_walks_the_next() {
    let mut walker = Walker::new(WalkerOptions::new(program()));
    for (name, status) in [
        ("broken/dumps/empty.dmp", "EmptyMinidump"),
        ("broken/dumps/html_page.dmp", "HeaderMismatch"),
        ("broken/dumps/no_thread_list.dmp", "MissingThreadList"),
    ] {
        let error = walker.walk(&dump(name)).unwrap().unwrap_err();
        assert_eq!(error.status, status);
    }
    let pid = walker.pid();
    assert!(walker.walk(&small_dump()).unwrap().is_ok());
    assert_eq!(walker.pid(), pid);
}

#[test]
fn a_child_that_dies_on_a_dump_is_a_fault_with_its_last_words_and_the_next_walk_works() {
    let folder = tempfile::tempdir().unwrap();
    let died = folder.path().join("died");
    let script = format!(
        "[ -e {died} ] && exec {program} \"$@\"\n: > {died}\necho 'oh no' >&2\nkill -SEGV $$",
        died = died.display(),
        program = program().display(),
    );
    let mut walker = Walker::new(WalkerOptions::new(stand_in(folder.path(), &script)));
    let fault = walker.walk(&small_dump()).unwrap_err();
    let expected = WalkerFault::Died {
        end: "signal 11".to_owned(),
        stderr: "oh no\n".to_owned(),
    };
    assert_eq!(fault, expected);
    assert_eq!(walker.pid(), None);
    assert!(walker.walk(&small_dump()).unwrap().is_ok());
}

#[test]
fn a_child_that_exits_in_the_middle_of_its_reply_has_died() {
    let (_folder, options) = options_of("printf 'CKWA\\002\\000\\000\\000'\nexit 3");
    let fault = Walker::new(options).walk(&small_dump()).unwrap_err();
    let expected = WalkerFault::Died {
        end: "exit code 3".to_owned(),
        stderr: String::new(),
    };
    assert_eq!(fault, expected);
}

#[test]
fn a_child_that_died_while_idle_is_replaced_without_a_fault() {
    let mut walker = Walker::new(WalkerOptions::new(program()));
    walker.walk(&small_dump()).unwrap().unwrap();
    let pid = walker.pid().unwrap();
    crate::server::send_signal(pid, rustix::process::Signal::KILL);
    crate::server::wait_for("its end", || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        stat.map_or(true, |stat| stat.contains(") Z "))
            .then_some(())
    });
    walker.walk(&small_dump()).unwrap().unwrap();
    assert_ne!(walker.pid(), Some(pid));
}

#[test]
fn a_child_killed_while_it_walks_is_a_fault_of_signal_nine() {
    let folder = tempfile::tempdir().unwrap();
    let script = "read -r line; kill -9 $$";
    let mut walker = Walker::new(WalkerOptions::new(stand_in(folder.path(), script)));
    let mut dump = small_dump();
    dump.resize(4 << 20, b'\n');
    match walker.walk(&dump).unwrap_err() {
        WalkerFault::Died { end, .. } => assert_eq!(end, "signal 9"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_child_past_the_deadline_is_killed_whether_it_reads_or_not() {
    let mut dump = small_dump();
    dump.resize(1 << 20, 0);
    // The second script reads the complete request. Its third descriptor keeps the pipe of the reply open.
    for script in ["exec /bin/sleep 3600", "exec 3>&1; exec /bin/cat >&2"] {
        let (_folder, mut options) = options_of(script);
        options.deadline = Duration::from_millis(300);
        let mut walker = Walker::new(options);
        let start = Instant::now();
        let fault = walker.walk(&dump).unwrap_err();
        let expected = Overrun::Deadline(Duration::from_millis(300));
        assert_eq!(fault, WalkerFault::Overran(expected), "{script}");
        assert!(start.elapsed() < Duration::from_secs(3600), "{script}");
        assert_eq!(walker.pid(), None);
    }
}

#[test]
fn a_child_that_prints_something_else_is_garbled() {
    for script in [
        "echo Segmentation fault; exec /bin/cat > /dev/null",
        "exec /bin/cat",
    ] {
        let (_folder, options) = options_of(script);
        match Walker::new(options).walk(&small_dump()).unwrap_err() {
            WalkerFault::Garbled { reason } => assert!(reason.contains("reply begins with")),
            other => panic!("{script}: {other:?}"),
        }
    }
}

#[test]
fn a_reply_that_claims_to_be_huge_is_not_read() {
    // Version 2, job 1, walked, 2^56 - 1 bytes.
    let reply = "CKWA\\002\\000\\000\\000\\001\\000\\000\\000\\000\\000\\000\\000\\000\
                 \\377\\377\\377\\377\\377\\377\\377\\000";
    let (_folder, options) = options_of(&format!("printf '{reply}'; exec /bin/cat /dev/zero"));
    match Walker::new(options).walk(&small_dump()).unwrap_err() {
        WalkerFault::Garbled { reason } => assert!(reason.contains("more than"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_program_that_cannot_be_started_is_no_fault_of_the_dump() {
    let mut walker = Walker::new(WalkerOptions::new("/no/such/program".into()));
    let fault = walker.walk(&small_dump()).unwrap_err();
    assert!(matches!(fault, WalkerFault::Unstarted { .. }), "{fault}");
}

#[test]
fn the_environment_of_the_server_stays_with_the_server() {
    let script = "[ -z \"$HOME$CARGO_MANIFEST_DIR\" ] && exit 5\nexit 6";
    let (_folder, options) = options_of(script);
    match Walker::new(options).walk(&small_dump()).unwrap_err() {
        WalkerFault::Died { end, .. } => assert_eq!(end, "exit code 5"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_walk_past_its_output_limit_is_refused_by_the_child_itself() {
    let mut options = WalkerOptions::new(program());
    options.output_bytes_max = 1000;
    let mut walker = Walker::new(options);
    let error = walker.walk(&small_dump()).unwrap().unwrap_err();
    assert_eq!(error.status, "OutputTooLarge");
    assert!(walker.pid().is_some());
}

#[cfg(target_os = "linux")]
#[test]
fn every_hostile_dump_is_walked_in_part_within_128_mib() {
    let mut options = WalkerOptions::new(program());
    options.heap_bytes = 128 << 20;
    let mut walker = Walker::new(options);
    let mut pid = None;
    for (name, dump) in hostile::dumps() {
        let json = walker
            .walk(&dump)
            .unwrap_or_else(|fault| panic!("{name}: {fault}"))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(json.len() <= 16 << 20, "{name}: {} bytes", json.len());
        let walk: Walk = serde_json::from_slice(&json).unwrap();
        let (_, crashing) = walk.crashing_thread().expect(name);
        assert!(crashing.frame_count > 0, "{name}");
        let is_whole = ["endless_handle", "return_addresses_256kb"].contains(&name);
        assert_eq!(
            walk.partial.is_empty(),
            is_whole,
            "{name}: {:?}",
            walk.partial
        );
        for thread in &walk.threads {
            assert!(thread.frames.len() <= 501, "{name}");
        }
        assert_eq!(*pid.get_or_insert(walker.pid()), walker.pid(), "{name}");
    }
}

#[test]
fn a_stack_too_long_to_keep_has_both_its_ends_and_its_true_count() {
    let mut walker = Walker::new(WalkerOptions::new(program()));
    let (_, dump) = hostile::dumps()
        .into_iter()
        .find(|(name, _)| *name == "return_addresses_256kb")
        .unwrap();
    let read = |json: Vec<u8>| -> Walk { serde_json::from_slice(&json).unwrap() };
    let stored = read(walker.walk(&dump).unwrap().unwrap());
    let whole = read(walked_here(&dump));
    let ([stored], [whole]) = (&stored.threads[..], &whole.threads[..]) else {
        panic!("one thread");
    };
    assert_eq!(whole.frames.len(), 32_769);
    assert_eq!((stored.frame_count, stored.truncated), (32_769, Some(true)));
    assert_eq!(stored.frames[..250], whole.frames[..250]);
    assert_eq!(stored.frames[251..], whole.frames[32_519..]);
    let gap = stored.frames[250].truncated.as_ref().unwrap();
    assert_eq!(gap.msg.as_deref(), Some("32269 frames left out"));
}

#[test]
fn a_walker_ends_with_its_input_and_says_nothing_on_its_output() {
    let child = Command::new(program())
        .arg("walker")
        .stdin(Stdio::null())
        .output();
    let output = child.unwrap();
    assert!(output.status.success());
    assert_eq!(output.stdout, b"");
}

#[test]
fn a_dropped_walker_leaves_no_child_behind() {
    let mut walker = Walker::new(WalkerOptions::new(program()));
    walker.walk(&small_dump()).unwrap().unwrap();
    let pid = walker.pid().unwrap();
    drop(walker);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn the_command_prints_json_or_text_or_says_why_not() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let run = |arguments: &[&str], file: &str| {
        let mut command = Command::new(program());
        command.arg("walk").args(arguments).arg(fixtures.join(file));
        command.output().unwrap()
    };
    let good = "dumps/linux-x86_64-null_read_av.dmp";
    let json = run(&["--json"], good);
    assert!(json.status.success());
    let mut expected = walked_here(&small_dump());
    expected.push(b'\n');
    assert!(json.stdout == expected);
    let text = run(&[], good);
    assert!(text.status.success());
    assert!(text.stdout.starts_with(b"Crash reason  SIGSEGV"));
    let bad = run(&["--json"], "broken/dumps/empty.dmp");
    assert_eq!(bad.status.code(), Some(1));
    assert_eq!(bad.stdout, b"");
    let reason = String::from_utf8(bad.stderr).unwrap();
    assert_eq!(
        reason,
        "crashkeep: empty.dmp: the dump is empty (0 bytes) (EmptyMinidump)\n"
    );
}

/// Without nulls, and with the lists in one order that the program prints in random order.
fn comparable(value: &serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Object(map) => {
            let known = map.iter().filter(|(_, value)| !value.is_null());
            let mut map: serde_json::Map<String, Value> = known
                .map(|(key, value)| (key.clone(), comparable(value)))
                .collect();
            if let Some(Value::Array(limits)) = map.get_mut("limits") {
                limits.sort_by_key(|limit| limit["name"].to_string());
            }
            Value::Object(map)
        }
        Value::Array(items) => items.iter().map(comparable).collect(),
        other => other.clone(),
    }
}

/// Also for the dumps with which the program is wrong.
#[test]
fn the_command_with_compat_prints_what_minidump_stackwalk_prints() {
    let Some(stackwalk) = crate::clients::installed("CRASHKEEP_MINIDUMP_STACKWALK") else {
        return;
    };
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/unwinding");
    let symbols = tempfile::tempdir().unwrap();
    let mut dumps = Vec::new();
    for entry in std::fs::read_dir(&fixtures).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "sym") {
            let text = std::fs::read_to_string(&path).unwrap();
            let words: Vec<&str> = text.lines().next().unwrap().split(' ').collect();
            let folder = symbols.path().join(words[4]).join(words[3]);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(format!("{}.sym", words[4])), text).unwrap();
        } else if path.extension().is_some_and(|extension| extension == "dmp") {
            dumps.push(path);
        }
    }
    assert!(dumps.len() >= 6);
    let printed = |command: &mut Command| -> serde_json::Value {
        serde_json::from_slice(&command.output().unwrap().stdout).unwrap()
    };
    for dump in dumps {
        let ours = |more: &[&str]| {
            let mut command = Command::new(program());
            command
                .args(["walk", "--json", "--symbols"])
                .arg(symbols.path());
            printed(command.args(more).arg(&dump))
        };
        let mut theirs = Command::new(&stackwalk);
        theirs
            .args(["--json", "--symbols-path"])
            .arg(symbols.path());
        let theirs = printed(theirs.arg(&dump));
        let name = dump.display();
        assert_eq!(
            comparable(&ours(&["--compat"])),
            comparable(&theirs),
            "{name}"
        );
        assert_ne!(comparable(&ours(&[])), comparable(&theirs), "{name}");
    }
}

/// A walker that commits the faults that dumps order.
pub fn faulty(folder: &Path) -> PathBuf {
    let script = format!("exec {} \"$@\" --plant-faults", program().display());
    stand_in(folder, &script)
}

/// The same, but only the first walker commits faults. Later ones work normally.
pub fn faulty_once(folder: &Path) -> PathBuf {
    let script = format!(
        "mkdir '{0}/first' 2>/dev/null && exec {1} \"$@\" --plant-faults\nexec {1} \"$@\"",
        folder.display(),
        program().display()
    );
    stand_in(folder, &script)
}

#[cfg(target_os = "linux")]
#[test]
fn every_planted_fault_has_its_reason_and_leaves_the_next_dump_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = WalkerOptions::new(faulty(folder.path()));
    options.heap_bytes = 100 << 20;
    options.cpu_seconds = 0;
    for (fault, reason) in [
        ("abort", "the walker died on this dump (signal 6)"),
        ("overflow", "has overflowed its stack"),
        ("loop", "the walk took more than 0 s of CPU time"),
        ("memory", "the walk took more than 100 MiB of memory"),
        (
            "garbage",
            "the walker sent an invalid answer: reply begins with",
        ),
        ("stop", "the walk took longer than 2s"),
    ] {
        // Only the walker that does nothing must reach the deadline, however busy the machine is.
        options.deadline = Duration::from_secs(if fault == "stop" { 2 } else { 60 });
        let mut walker = Walker::new(options.clone());
        let order = format!("CKFAULT {fault}");
        let end = walker.walk(order.as_bytes()).unwrap_err();
        assert!(end.is_of_the_dump(), "{fault}");
        assert!(end.to_string().contains(reason), "{fault}: {end}");
        assert_eq!(walker.pid(), None, "{fault}");
        assert!(walker.walk(&small_dump()).unwrap().is_ok(), "{fault}");
    }
}

#[test]
fn a_walker_of_a_server_obeys_no_orders() {
    let mut walker = Walker::new(WalkerOptions::new(program()));
    let error = walker
        .walk(b"CKFAULT abort, if you please......")
        .unwrap()
        .unwrap_err();
    assert_eq!(error.status, "HeaderMismatch");
}

/// Runs the self-test with a folder of symbols. Returns its output, and whether every restriction works.
#[cfg(target_os = "linux")]
fn self_test(symbols: &Path) -> (String, bool) {
    let output = Command::new(program())
        .args(["walker", "--self-test", "--symbols"])
        .arg(symbols)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (text, output.status.success())
}

#[cfg(target_os = "linux")]
#[test]
fn a_walker_can_read_symbols_and_do_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    put_symbols(folder.path(), "whole_program");
    let (text, is_closed) = self_test(folder.path());
    assert!(is_closed, "{text}");
    let is_active = |name: &str| text.contains(&format!("{name}: active"));
    // The tests may run on a kernel without these features. The output then says so.
    for (what, refused_by) in [
        ("read a file elsewhere", &["landlock"][..]),
        ("write a file", &["landlock", "seccomp"]),
        ("open a connection", &["seccomp"]),
        ("wait for connections", &["seccomp"]),
        ("send a datagram", &["seccomp"]),
        ("start a program", &["landlock", "seccomp"]),
        ("start a thread", &["seccomp"]),
        ("signal the parent", &["seccomp"]),
        ("have files send signals", &["seccomp"]),
    ] {
        if refused_by.iter().any(|name| is_active(name)) {
            assert!(text.contains(&format!("{what}: refused")), "{text}");
        }
    }
    assert!(text.contains("1 entries"), "{text}");
    assert!(!folder.path().join("walker-self-test").exists());
}

#[cfg(target_os = "linux")]
#[test]
fn a_walker_that_cannot_read_its_symbols_fails_its_self_test() {
    let (text, is_closed) = self_test(Path::new("/no/such/folder"));
    assert!(!is_closed, "{text}");
    assert!(text.contains("read /no/such/folder: failed"), "{text}");
}
