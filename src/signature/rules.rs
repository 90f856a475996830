//! The rules, in their order. Each rule reads the crash and the current signature, and may change the
//! signature. If several rules add text in front, the last one is leftmost.
//!
//! If a rule fails, a note is added, what the rule has set so far stays, and the next rule runs. So a crash
//! with an odd annotation still gets a signature. The notes are siggen's, except where they quote Python.

use std::borrow::Cow;

use super::computed::{SIGNATURE_CHARS_MAX, Signature};
use super::crash_data::CrashData;
use super::families::Kind;
use super::generator::Generator;
use super::ruleset::Ruleset;
use super::value::{Fault, NotInteger, Value};
use super::{java, native, select, text};

/// Limit of an abort message in a signature, in characters.
const ABORT_CHARS_MAX: usize = 80;
/// Limit of an IPC channel error in a signature, in characters.
const IPC_ERROR_CHARS_MAX: usize = 100;
/// A larger allocation than this is a large one.
const SMALL_OOM_BYTES_MAX: i64 = 262_144;

/// A named step.
#[derive(Clone, Copy)]
pub(super) struct Rule {
    pub(crate) name: &'static str,
    pub(crate) apply: fn(&Generator, &CrashData, &mut Signature) -> Result<(), Fault>,
}

/// The thirteen rules of siggen 2.2.20241029.
pub(super) const RULES: [Rule; 13] = [
    Rule {
        name: GENERATION,
        apply: generation,
    },
    Rule {
        name: "StackwalkerErrorSignatureRule",
        apply: stackwalker_error,
    },
    Rule {
        name: "BadHardware",
        apply: bad_hardware,
    },
    Rule {
        name: "OOMSignature",
        apply: out_of_memory,
    },
    Rule {
        name: "AbortSignature",
        apply: abort,
    },
    Rule {
        name: "SignatureShutdownTimeout",
        apply: shutdown_timeout,
    },
    Rule {
        name: "SignatureRunWatchDog",
        apply: run_watchdog,
    },
    Rule {
        name: "SignatureIPCChannelError",
        apply: ipc_channel_error,
    },
    Rule {
        name: "SignatureIPCMessageName",
        apply: ipc_message_name,
    },
    Rule {
        name: "StackOverflowSignature",
        apply: stack_overflow,
    },
    Rule {
        name: "HungProcess",
        apply: hung_process,
    },
    Rule {
        name: "SigFixWhitespace",
        apply: fix_whitespace,
    },
    Rule {
        name: "SigTruncate",
        apply: truncate,
    },
];

const GENERATION: &str = "SignatureGenerationRule";

/// Takes the signature from the Java stack, the Java exception or the crashing thread's frames.
fn generation(generator: &Generator, data: &CrashData, out: &mut Signature) -> Result<(), Fault> {
    let (digits, index) = crashing_thread(data);
    generate(generator, data, &digits, index, Lists::Given, out)
}

/// The lists that apply to the native stack.
enum Lists {
    Given,
    Watchdog,
}

/// Sets the signature, unless the stack gives none.
fn generate(
    generator: &Generator,
    data: &CrashData,
    thread_digits: &str,
    thread_index: i64,
    lists: Lists,
    out: &mut Signature,
) -> Result<(), Fault> {
    let java = if data.java_stack_trace.is_truthy() {
        Some(java::stack_trace(
            &data.java_stack_trace,
            generator.ruleset(),
        ))
    } else if data.java_exception.is_truthy() {
        Some(java::exception(&data.java_exception)?)
    } else {
        None
    };
    if let Some(name) = java {
        for note in name.notes {
            out.note(GENERATION, note);
        }
        // Unlike a native stack, a Java stack may set an empty signature.
        out.set(GENERATION, name.signature);
        return Ok(());
    }
    let thread = data.thread(thread_index);
    let system = native::System::new(&data.os, &data.reason);
    let lists = match lists {
        Lists::Given => generator.scoped(&data.product),
        Lists::Watchdog => generator.watchdog_lists(&data.product),
    };
    let stack = native::stack(thread, system, &lists, None)?;
    if stack.is_without_frame {
        let text = format!("CSignatureTool: no frame data for crashing thread ({thread_digits})");
        out.note(GENERATION, &text);
    }
    if stack.proto.is_some() {
        out.proto = stack.proto;
    }
    if !stack.signature.is_empty() {
        out.set(GENERATION, stack.signature);
    }
    Ok(())
}

/// The crashing thread as text and as index. A value that is not a number means thread 0.
pub(super) fn crashing_thread(data: &CrashData) -> (String, i64) {
    match data.crashing_thread.int() {
        Ok(integer) => (integer.digits, integer.value),
        Err(_) => ("0".to_string(), 0),
    }
}

/// The rule that computes the signature from thread 0, because the watchdog's own stack says nothing about
/// the hang.
pub(super) const WATCHDOG: &str = "SignatureRunWatchDog";

/// Adds the reason why there is no stack. Difference `status-ok`: a successful walk is not a reason.
fn stackwalker_error(
    generator: &Generator,
    data: &CrashData,
    out: &mut Signature,
) -> Result<(), Fault> {
    let status = &data.mdsw_status_string;
    let is_reason = generator.ruleset() == Ruleset::Socorro || !status.is_text("OK");
    if out.text.starts_with("EMPTY") && status.is_truthy() && is_reason {
        out.set(
            "StackwalkerErrorSignatureRule",
            format!("{}; {}", out.text, status.str()),
        );
    }
    Ok(())
}

fn bad_hardware(_: &Generator, data: &CrashData, out: &mut Signature) -> Result<(), Fault> {
    if data.reason.holds("STATUS_DEVICE_DATA_ERROR")? {
        out.set("BadHardware", format!("bad hardware | {}", out.text));
    }
    Ok(())
}

/// Classifies out-of-memory crashes by the size of the failed allocation.
///
/// If a small allocation fails, the code that requested it is not the cause, so the signature is discarded.
fn out_of_memory(_: &Generator, data: &CrashData, out: &mut Signature) -> Result<(), Fault> {
    // The ruleset `crashkeep` has put the kind in front already, if the stack shows it.
    let of_stack = without_kind(&out.text, Kind::OutOfMemory.word()).map(str::to_string);
    if of_stack.is_none() && !is_out_of_memory(data, out)? {
        return Ok(());
    }
    if let Some(text) = of_stack {
        out.text = text;
    }
    let size = &data.oom_allocation_size;
    let signature = if data.js_large_allocation_failure.is_text("Reporting") {
        format!("OOM | large | {}", out.text)
    } else {
        match size.int() {
            Ok(size) if size.value <= SMALL_OOM_BYTES_MAX => "OOM | small".to_string(),
            Ok(_) => format!("OOM | large | {}", out.text),
            Err(NotInteger::Type) => format!("OOM | unknown | {}", out.text),
            Err(NotInteger::Value(fault)) => return Err(fault),
        }
    };
    out.set("OOMSignature", signature);
    Ok(())
}

/// The signature without the kind in front of it, if it has this kind.
fn without_kind<'s>(signature: &'s str, kind: &str) -> Option<&'s str> {
    signature
        .strip_prefix(kind)?
        .strip_prefix(native::SEPARATOR)
}

fn is_out_of_memory(data: &CrashData, out: &Signature) -> Result<bool, Fault> {
    const FRAGMENTS: [&str; 5] = [
        "NS_ABORT_OOM",
        "mozalloc_handle_oom",
        "CrashAtUnhandlableOOM",
        "AutoEnterOOMUnsafeRegion",
        "alloc::oom::oom",
    ];
    const ERRORS: [&str; 2] = ["ERROR_COMMITMENT_LIMIT", "ERROR_NOT_ENOUGH_MEMORY"];
    const REASONS: [&str; 2] = ["STATUS_FATAL_MEMORY_EXHAUSTION", "STATUS_NO_MEMORY"];
    let is_any = |value: &Value, texts: &[&str]| texts.iter().any(|text| value.is_text(text));
    if data.oom_allocation_size.is_truthy() {
        return Ok(true);
    }
    if out.text.is_empty() {
        return Ok(false);
    }
    if FRAGMENTS.iter().any(|fragment| out.text.contains(fragment)) {
        return Ok(true);
    }
    if let Some(thread) = data.thread(crashing_thread(data).1) {
        if let (true, Some(fault)) = (thread.is_malformed, &thread.unreadable) {
            return Err(fault.clone());
        }
        if is_any(&thread.last_error_value, &ERRORS) {
            return Ok(true);
        }
    }
    Ok(is_any(&data.reason, &REASONS) || data.js_large_allocation_failure.is_text("Reporting"))
}

/// Adds the program's abort message in front.
fn abort(generator: &Generator, data: &CrashData, out: &mut Signature) -> Result<(), Fault> {
    let message = &data.abort_message;
    if !message.is_truthy() {
        return Ok(());
    }
    let message: Cow<str> = match message {
        Value::Text(message) => Cow::Borrowed(message),
        Value::List(items) => joined_chars(items.iter()).into(),
        Value::Object(_) => {
            let keys: Vec<Value> = message
                .entries()
                .iter()
                .map(|(key, _)| (*key).into())
                .collect();
            joined_chars(keys.iter()).into()
        }
        _ => {
            return Err(message
                .holds("")
                .err()
                .unwrap_or_else(|| message.not_iterable()));
        }
    };
    // The ruleset `crashkeep` has put the same in front already, if the stack shows it.
    let text = without_kind(&out.text, Kind::Abort.word()).unwrap_or(&out.text);
    let signature = if message.contains("###!!! ABORT: file ") {
        format!("Abort | {text}")
    } else {
        format!(
            "Abort | {} | {text}",
            abort_text(&message, generator.ruleset())
        )
    };
    out.set("AbortSignature", signature);
    Ok(())
}

/// Treats a list as a text of single characters. Other items are ignored.
fn joined_chars<'v>(items: impl Iterator<Item = &'v Value<'v>>) -> String {
    let chars = items.filter_map(|item| match item {
        Value::Text(c) if c.chars().count() == 1 => Some(&**c),
        _ => None,
    });
    chars.collect()
}

/// The part of an abort message that does not vary, without source position and font names.
///
/// Difference `font-brackets`: nothing is doubled if the brackets are in the wrong order.
fn abort_text(message: &str, ruleset: Ruleset) -> String {
    let mut message = Cow::Borrowed(match message.split_once("###!!! ABORT:") {
        Some((_, rest)) => rest,
        None => message,
    });
    if let Some(at) = message.find(": file ") {
        message = message[..at].to_string().into();
    }
    if message.contains("unable to find a usable font")
        && let (Some(open), Some(close)) = (message.find('('), message.rfind(')'))
        && (open < close || ruleset == Ruleset::Socorro)
    {
        // Quirk: if the last `)` is before the first `(`, the text between them appears twice.
        message = format!("{}{}", &message[..open], &message[close + 1..]).into();
    }
    let printable: String = message.chars().filter(|c| matches!(c, ' '..='~')).collect();
    shortened(text::strip(&printable), ABORT_CHARS_MAX)
}

fn shortened(text: &str, chars_max: usize) -> String {
    const ELLIPSIS: &str = "...";
    if !text::is_longer_than(text, chars_max) {
        return text.to_string();
    }
    text::first_chars(text, chars_max - ELLIPSIS.len()).to_string() + ELLIPSIS
}

/// Names a shutdown that took too long by its phase and the conditions that it waited for.
fn shutdown_timeout(_: &Generator, data: &CrashData, out: &mut Signature) -> Result<(), Fault> {
    const NAME: &str = "SignatureShutdownTimeout";
    let timeout = match &data.async_shutdown_timeout {
        timeout if !timeout.is_truthy() => return Ok(()),
        Value::Text(timeout) => timeout,
        other => {
            return Err(Fault::new(format!(
                "the JSON object must be str, bytes or bytearray, not {}",
                other.type_name()
            )));
        }
    };
    let mut parts = "AsyncShutdownTimeout".to_string();
    if let Err(problem) = shutdown_parts(timeout, &mut parts)? {
        out.note(
            NAME,
            &format!("Error parsing AsyncShutdownTimeout: {problem}"),
        );
        parts.push_str(" | UNKNOWN");
    }
    let was = format!(
        "Signature replaced with a Shutdown Timeout signature, was: \"{}\"",
        out.text
    );
    out.note(NAME, &was);
    out.set(NAME, parts);
    Ok(())
}

/// Adds phase and conditions as far as they can be read. The inner error ends the signature there, the outer
/// error fails the rule.
fn shutdown_parts(timeout: &str, parts: &mut String) -> Result<Result<(), String>, Fault> {
    let timeout = match Value::parse(timeout) {
        Ok(timeout) => timeout,
        Err(super::JsonError::Depth) => {
            return Err(Fault::new("maximum recursion depth exceeded"));
        }
        Err(error) => return Ok(Err(error.to_string())),
    };
    if !matches!(timeout, Value::Object(_)) {
        return Err(timeout.no_attribute("get"));
    }
    parts.push_str(" | ");
    match timeout.get("phase") {
        Some(Value::Text(phase)) => parts.push_str(phase),
        _ => parts.push_str("(unknown)"),
    }
    let mut names: Vec<Cow<str>> = Vec::new();
    match timeout.get("conditions") {
        Some(Value::List(conditions)) => {
            for condition in conditions {
                match (condition, condition.get("name")) {
                    (Value::Object(_), None) => return Ok(Err("'name'".to_string())),
                    (Value::Object(_), Some(name)) => names.push(name.str()),
                    _ => names.push(condition.str()),
                }
            }
        }
        Some(Value::Text(text)) => names.extend(text.chars().map(|c| c.to_string().into())),
        Some(conditions @ Value::Object(_)) => {
            names.extend(
                conditions
                    .entries()
                    .into_iter()
                    .map(|(key, _)| Cow::Borrowed(key)),
            );
        }
        Some(other) if other.is_truthy() => return Err(other.not_iterable()),
        _ => (),
    }
    // Byte order of UTF-8 is the order of code points.
    names.sort_unstable();
    parts.push_str(" | ");
    parts.push_str(&if names.is_empty() {
        "(none)".to_string()
    } else {
        names.join(",")
    });
    Ok(Ok(()))
}

/// Names a crash of the watchdog by the thread that hung, thread 0.
///
/// Quirk: this always uses the built-in lists, and the signature of thread 0 replaces what earlier rules
/// added.
fn run_watchdog(generator: &Generator, data: &CrashData, out: &mut Signature) -> Result<(), Fault> {
    if !out.text.contains("RunWatchdog") {
        return Ok(());
    }
    generate(generator, data, "0", 0, Lists::Watchdog, out)?;
    out.set(WATCHDOG, format!("shutdownhang | {}", out.text));
    Ok(())
}

fn ipc_channel_error(_: &Generator, data: &CrashData, out: &mut Signature) -> Result<(), Fault> {
    const NAME: &str = "SignatureIPCChannelError";
    let error = &data.ipc_channel_error;
    if !error.is_truthy() {
        return Ok(());
    }
    let is_browser = data
        .additional_minidumps
        .holds("upload_file_minidump_browser")?;
    let process = if is_browser { "browser" } else { "content" };
    let error: Cow<str> = match error {
        Value::Text(error) => text::first_chars(error, IPC_ERROR_CHARS_MAX).into(),
        Value::List(items) => {
            let first = items.iter().take(IPC_ERROR_CHARS_MAX).cloned().collect();
            Value::List(first).repr().into()
        }
        Value::Object(_) => return Err(Fault::new("unhashable type: 'slice'")),
        other => {
            let name = other.type_name();
            return Err(Fault::new(format!("'{name}' object is not subscriptable")));
        }
    };
    out.set(NAME, format!("IPCError-{process} | {error}"));
    out.note(NAME, "IPC Channel Error stomped on signature");
    Ok(())
}

fn ipc_message_name(_: &Generator, data: &CrashData, out: &mut Signature) -> Result<(), Fault> {
    let name = &data.ipc_message_name;
    if name.is_truthy() {
        let signature = format!("{} | IPC_Message_Name={}", out.text, name.str());
        out.set("SignatureIPCMessageName", signature);
    }
    Ok(())
}

fn stack_overflow(_: &Generator, data: &CrashData, out: &mut Signature) -> Result<(), Fault> {
    let is_said = without_kind(&out.text, select::STACK_OVERFLOW).is_some();
    if data.reason.is_text("EXCEPTION_STACK_OVERFLOW") && !is_said {
        out.set(
            "StackOverflowSignature",
            format!("stackoverflow | {}", out.text),
        );
    }
    Ok(())
}

/// Difference `empty-hang`: an annotation without a value is ignored.
fn hung_process(generator: &Generator, data: &CrashData, out: &mut Signature) -> Result<(), Fault> {
    let says_nothing = generator.ruleset() != Ruleset::Socorro && data.hang.is_text("");
    if data.hang != Value::Null && !says_nothing {
        out.set(
            "HungProcess",
            format!("hang: {} | {}", data.hang.str(), out.text),
        );
    }
    Ok(())
}

/// Replaces all white space by single spaces.
fn fix_whitespace(_: &Generator, _: &CrashData, out: &mut Signature) -> Result<(), Fault> {
    let bytes = out.text.as_bytes();
    let is_tidy = bytes.iter().all(|byte| matches!(byte, b' '..=b'~'))
        && !bytes.starts_with(b" ")
        && !bytes.ends_with(b" ")
        && !bytes.windows(2).any(|pair| pair == b"  ");
    if is_tidy {
        return Ok(());
    }
    let stripped = text::strip(&out.text);
    let fixed = text::one_line(stripped);
    if fixed != out.text {
        out.set("SigFixWhitespace", fixed);
    }
    Ok(())
}

fn truncate(_: &Generator, _: &CrashData, out: &mut Signature) -> Result<(), Fault> {
    const NAME: &str = "SigTruncate";
    if text::is_longer_than(&out.text, SIGNATURE_CHARS_MAX) {
        out.set(NAME, shortened(&out.text, SIGNATURE_CHARS_MAX));
        out.note(NAME, "SigTrunc: signature truncated due to length");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_abort_message_loses_what_varies() {
        let check = |message: &str, expected: &str| {
            assert_eq!(abort_text(message, Ruleset::Socorro), expected);
        };
        check(
            "[4] ###!!! ABORT: foo bad: file /x/y.cpp, line 3",
            "foo bad",
        );
        check(
            "unable to find a usable font (Sans) x",
            "unable to find a usable font  x",
        );
        check(
            ") unable to find a usable font (",
            ") unable to find a usable font  unable to find a usable font (",
        );
        check("a\nb é", "ab");
        check(&"x".repeat(80), &"x".repeat(80));
        check(&"x".repeat(81), &format!("{}...", "x".repeat(77)));
    }

    #[test]
    fn a_shutdown_timeout_is_named_as_far_as_it_reads() {
        let check = |timeout: &str, expected: Option<&str>| {
            let mut parts = String::new();
            let read = shutdown_parts(timeout, &mut parts);
            let parts = read
                .ok()
                .map(|read| parts + read.map_or(" | UNKNOWN", |()| ""));
            assert_eq!(parts.as_deref(), expected, "{timeout}");
        };
        check(
            r#"{"phase":"p","conditions":["b","a",{"name":"c"}]}"#,
            Some(" | p | a,b,c"),
        );
        check(
            r#"{"phase":5,"conditions":"ba"}"#,
            Some(" | (unknown) | a,b"),
        );
        check(
            r#"{"phase":"p","conditions":{"z":1,"y":2,"z":3}}"#,
            Some(" | p | y,z"),
        );
        check(
            r#"{"phase":"p","conditions":[{"noname":1}]}"#,
            Some(" | p | UNKNOWN"),
        );
        check(r#"{"phase":"p","conditions":[]}"#, Some(" | p | (none)"));
        check("{bad", Some(" | UNKNOWN"));
        check(r#"{"phase":"p","conditions":7}"#, None);
        check("[]", None);
    }
}
