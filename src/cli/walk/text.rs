//! A walk as readable text: what happened, the crashing thread, the other threads, the modules.

use std::fmt::{self, Write};

use crate::crash::walk::{CrashInfo, Frame, Inline, Module, Thread, Walk};

/// The complete walk as text, ending in a newline.
///
/// All of it comes from a dump. Control characters are replaced, so that no name in it can move the cursor
/// or clear the reader's screen.
pub(super) fn render(walk: &Walk) -> String {
    let mut text = String::new();
    write_walk(&mut text, walk).expect("a String takes every write");
    text.chars()
        .map(|c| {
            if c.is_control() && c != '\n' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

fn write_walk(out: &mut String, walk: &Walk) -> fmt::Result {
    write_crash(out, walk)?;
    let crashing = walk.crashing_thread();
    if let Some((index, thread)) = crashing {
        let role = match walk.crash_info.reason {
            Some(_) => "crashed",
            None => "requested the dump",
        };
        write_thread(out, index, thread, Some(role))?;
        let frames = thread.frames_outside_modules();
        if frames > 0
            && let Some(runtime) = walk.code_maker()
        {
            writeln!(
                out,
                "  {frames} in no module: {runtime} makes code at run time (JIT), and it has no symbols here"
            )?;
        }
        write_registers(out, thread)?;
    }
    for (index, thread) in walk.threads.iter().enumerate() {
        if crashing.is_none_or(|(crashing, _)| crashing != index) {
            write_thread(out, index, thread, None)?;
        }
    }
    write_modules(out, walk)
}

fn write_crash(out: &mut String, walk: &Walk) -> fmt::Result {
    let crash = &walk.crash_info;
    let reason = crash.reason.as_deref();
    row(
        out,
        "Crash reason",
        reason.unwrap_or("none, the dump was requested"),
    )?;
    if let Some(text) = &crash.reason_text {
        row(out, "", text)?;
    }
    if let Some(address) = &crash.address {
        row(out, "Address", address)?;
    }
    if let Some(adjusted) = &crash.adjusted_address {
        let text = match (&adjusted.address, &adjusted.offset) {
            (Some(address), _) => format!("{address} (non-canonical)"),
            (_, Some(offset)) => format!("null pointer, offset {offset}"),
            _ => adjusted.kind.clone(),
        };
        row(out, "Really", &text)?;
    }
    write_instruction(out, crash)?;
    let system = &walk.system_info;
    row(out, "System", &words([&system.os, &system.os_ver]))?;
    if let Some(lsb) = &walk.lsb_release {
        let name = lsb.description.clone().filter(|text| !text.is_empty());
        row(
            out,
            "",
            &name.unwrap_or_else(|| words([&lsb.id, &lsb.release])),
        )?;
    }
    let cpus = system.cpu_count.map(|count| match count {
        1 => "1 CPU".to_owned(),
        count => format!("{count} CPUs"),
    });
    let info = system.cpu_info.as_ref().map(|info| format!("({info})"));
    row(out, "CPU", &words([&system.cpu_arch, &info, &cpus]))?;
    if let Some(pid) = walk.pid {
        let uptime = walk
            .process_uptime
            .map_or_else(String::new, |s| format!(", up {s} s"));
        row(out, "Process", &format!("{pid}{uptime}"))?;
    }
    Ok(())
}

fn write_instruction(out: &mut String, crash: &CrashInfo) -> fmt::Result {
    if let Some(instruction) = &crash.instruction {
        row(out, "Instruction", instruction)?;
    }
    for access in crash.memory_accesses.iter().flatten() {
        let size = access.size.map(|size| match size {
            1 => "1 byte at".to_owned(),
            size => format!("{size} bytes at"),
        });
        let guard =
            (access.is_likely_guard_page == Some(true)).then(|| "(likely a guard page)".to_owned());
        let text = words([&access.access_type, &size, &access.address, &guard]);
        row(out, "Memory", &text)?;
    }
    for flip in &crash.possible_bit_flips {
        let chance = flip.confidence.map(|c| format!("(confidence {c:.2})"));
        let source = flip
            .source_register
            .as_ref()
            .map(|name| format!("in {name}"));
        row(out, "Bit flip?", &words([&flip.address, &source, &chance]))?;
    }
    for inconsistency in &crash.crash_inconsistencies {
        row(out, "Odd", &inconsistency.replace('_', " "))?;
    }
    Ok(())
}

fn write_thread(
    out: &mut String,
    index: usize,
    thread: &Thread,
    role: Option<&str>,
) -> fmt::Result {
    write!(out, "\nThread {index}")?;
    if let Some(name) = thread
        .thread_name
        .as_deref()
        .filter(|name| !name.is_empty())
    {
        write!(out, " {name}")?;
    }
    if let Some(role) = role {
        write!(out, " ({role})")?;
    }
    if let Some(id) = thread.thread_id {
        write!(out, " - tid {id}")?;
    }
    out.push('\n');
    if let Some(error) = &thread.last_error_value {
        writeln!(out, "    last error: {error}")?;
    }
    if thread.frames.is_empty() {
        writeln!(out, "    no frames")?;
    }
    for frame in &thread.frames {
        write_frame(out, frame)?;
    }
    Ok(())
}

/// The lines of a frame: first one line per inlined call, innermost first, then the frame itself.
fn write_frame(out: &mut String, frame: &Frame) -> fmt::Result {
    let module = match (&frame.module, frame.unloaded_modules.first()) {
        (Some(module), _) => module.as_str(),
        (None, Some(unloaded)) => unloaded.module.as_deref().unwrap_or("unloaded"),
        (None, None) => "?",
    };
    for Inline {
        function,
        file,
        line,
    } in &frame.inlines
    {
        let function = function.as_deref().unwrap_or("?");
        write!(out, "{:>3}  {module}!{function}", frame.frame)?;
        write_source(out, file.as_deref(), *line)?;
        writeln!(out, "  (inlined)")?;
    }
    write!(out, "{:>3}  {module}", frame.frame)?;
    match (&frame.function, &frame.module_offset, &frame.offset) {
        (Some(function), _, _) => write!(out, "!{function}")?,
        (None, Some(offset), _) => write!(out, " + {}", shortened(offset))?,
        (None, None, Some(address)) => write!(out, " @ {address}")?,
        (None, None, None) => {}
    }
    if frame.file.is_some() {
        write_source(out, frame.file.as_deref(), frame.line)?;
    } else if let (Some(_), Some(offset)) = (&frame.function, &frame.function_offset) {
        write!(out, " + {}", shortened(offset))?;
    }
    if frame.module.is_none() && !frame.unloaded_modules.is_empty() {
        write!(out, " (unloaded)")?;
    }
    writeln!(out, "  ({})", trust(&frame.trust))
}

fn write_source(out: &mut String, file: Option<&str>, line: Option<u32>) -> fmt::Result {
    match (file, line) {
        (Some(file), Some(line)) => write!(out, "  [{file}:{line}]"),
        (Some(file), None) => write!(out, "  [{file}]"),
        _ => Ok(()),
    }
}

fn write_registers(out: &mut String, thread: &Thread) -> fmt::Result {
    let Some(frame) = thread
        .frames
        .first()
        .filter(|frame| !frame.registers.is_empty())
    else {
        return Ok(());
    };
    out.push_str("\nRegisters\n");
    let registers: Vec<String> = frame
        .registers
        .iter()
        .map(|(name, value)| format!("{name:>4} {}", value.as_str().unwrap_or("?")))
        .collect();
    for line in registers.chunks(4) {
        writeln!(out, "   {}", line.join("  "))?;
    }
    Ok(())
}

fn write_modules(out: &mut String, walk: &Walk) -> fmt::Result {
    out.push_str("\nModules\n");
    for module in &walk.modules {
        write_range(out, module.base_addr.as_deref(), module.end_addr.as_deref())?;
        let name = module.filename.as_deref().unwrap_or("?");
        write!(out, "  {name}")?;
        for extra in [module.version.as_deref(), module.debug_id.as_deref()] {
            if let Some(extra) = extra.filter(|text| !text.is_empty()) {
                write!(out, "  {extra}")?;
            }
        }
        writeln!(out, "{}", symbols_of(module))?;
    }
    if !walk.unloaded_modules.is_empty() {
        out.push_str("\nUnloaded modules\n");
    }
    for module in &walk.unloaded_modules {
        write_range(out, module.base_addr.as_deref(), module.end_addr.as_deref())?;
        writeln!(out, "  {}", module.filename.as_deref().unwrap_or("?"))?;
    }
    Ok(())
}

fn write_range(out: &mut String, base: Option<&str>, end: Option<&str>) -> fmt::Result {
    write!(out, "    {} - {}", base.unwrap_or("?"), end.unwrap_or("?"))
}

fn symbols_of(module: &Module) -> &'static str {
    match (
        module.loaded_symbols,
        module.corrupt_symbols,
        module.missing_symbols,
    ) {
        (_, Some(true), _) => "  (symbols corrupt)",
        (Some(true), _, _) => "  (symbols)",
        (_, _, Some(true)) => "  (symbols missing)",
        _ => "",
    }
}

/// A readable name for the schema's trust word.
fn trust(word: &str) -> &str {
    match word {
        "cfi" => "call frame info",
        "cfi_scan" => "call frame info, scanned",
        "frame_pointer" => "frame pointer",
        "scan" => "stack scan, may be wrong",
        "context" => "registers",
        "prewalked" => "from the dump",
        _ => "unknown",
    }
}

fn row(out: &mut String, title: &str, value: &str) -> fmt::Result {
    writeln!(out, "{title:<13} {value}")
}

fn words<const N: usize>(parts: [&Option<String>; N]) -> String {
    let known: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
    known.join(" ")
}

/// `0x00000000000012ab` -> `0x12ab`: an offset is short, so its padding is omitted.
fn shortened(hex: &str) -> String {
    let digits = hex.trim_start_matches("0x").trim_start_matches('0');
    format!("0x{}", if digits.is_empty() { "0" } else { digits })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_reads_from_the_reason_down_to_the_modules() {
        let walk = serde_json::from_str(
            r#"{"pid": 7, "process_uptime": 3,
              "crash_info": {"type": "SIGSEGV / SEGV_MAPERR", "address": "0x0000000000000010",
                "adjusted_address": {"kind": "null-pointer", "offset": "0x10"},
                "instruction": "mov eax, [rdi]", "crashing_thread": 1,
                "memory_accesses": [{"address": "0x10", "size": 4, "access_type": "read"}]},
              "system_info": {"os": "Linux", "os_ver": "6.1", "cpu_arch": "amd64", "cpu_count": 2},
              "threads": [
                {"thread_id": 11, "frames": [{"frame": 0, "offset": "0x1", "trust": "context"}]},
                {"thread_id": 12, "thread_name": "worker", "frames": [
                  {"frame": 0, "module": "app", "function": "draw", "file": "d.rs", "line": 4,
                   "trust": "context",
                   "inlines": [{"function": "tile", "file": "t.rs", "line": 9}]},
                  {"frame": 1, "module": "libc.so.6", "module_offset": "0x00012ab",
                   "trust": "scan"}]}],
              "modules": [{"base_addr": "0x1", "end_addr": "0x2", "filename": "app",
                "debug_id": "ABC", "loaded_symbols": true}]}"#,
        )
        .unwrap();
        let expected = "\
Crash reason  SIGSEGV / SEGV_MAPERR
Address       0x0000000000000010
Really        null pointer, offset 0x10
Instruction   mov eax, [rdi]
Memory        read 4 bytes at 0x10
System        Linux 6.1
CPU           amd64 2 CPUs
Process       7, up 3 s

Thread 1 worker (crashed) - tid 12
  0  app!tile  [t.rs:9]  (inlined)
  0  app!draw  [d.rs:4]  (registers)
  1  libc.so.6 + 0x12ab  (stack scan, may be wrong)

Thread 0 - tid 11
  0  ? @ 0x1  (registers)

Modules
    0x1 - 0x2  app  ABC  (symbols)
";
        assert_eq!(render(&walk), expected);
    }

    #[test]
    fn a_name_from_a_dump_cannot_steer_the_terminal() {
        let walk = serde_json::from_str(r#"{"threads": [{"thread_name": "a\u001b[2Jb\r"}]}"#);
        let text = render(&walk.unwrap());
        assert!(text.contains("a\u{fffd}[2Jb\u{fffd}"), "{text}");
    }
}
