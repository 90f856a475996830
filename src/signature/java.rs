//! Signatures of Java crashes, from a printed stack trace or from an exception in Sentry's form.

use super::ruleset::Ruleset;
use super::text;
use super::value::{Fault, Value};

/// The longest signature of a stack trace that keeps the exception's description, in characters.
const CHARS_MAX: usize = 255;

/// A signature and remarks on how it was computed.
pub(super) struct JavaName {
    pub(crate) signature: String,
    pub(crate) notes: Vec<&'static str>,
}

/// The signature of a printed stack trace: exception class, description, innermost method.
///
/// Object addresses in the description and line numbers in the method are removed, because they differ
/// between runs and releases.
pub(super) fn stack_trace(trace: &Value, ruleset: Ruleset) -> JavaName {
    let Value::Text(trace) = trace else {
        return JavaName {
            signature: "EMPTY: Java stack trace not in expected format".to_string(),
            notes: vec!["JavaSignatureTool: stack trace not in expected format"],
        };
    };
    let mut notes = Vec::new();
    let mut lines = text::split_lines(trace).map(text::strip);
    let head = lines.next().unwrap_or_default();
    let (class, description) = match head.split_once(':') {
        Some((class, description)) => (text::strip(class), text::strip(description)),
        None => {
            notes.push("JavaSignatureTool: stack trace line 1 is not in the expected format");
            (head, "")
        }
    };
    let description = without_addresses(description);
    let method = match lines.next() {
        Some("") => {
            notes.push("JavaSignatureTool: stack trace line 2 is empty");
            String::new()
        }
        Some(line) => without_line_number(line, ruleset),
        None => {
            notes.push("JavaSignatureTool: stack trace line 2 is missing");
            String::new()
        }
    };
    let joined = |parts: &[&str], separator: &str| {
        let parts: Vec<&str> = parts
            .iter()
            .copied()
            .filter(|part| !part.is_empty())
            .collect();
        parts.join(separator)
    };
    let mut signature = if description.ends_with("<addr>") {
        joined(&[class, &description, &method], ": ")
    } else {
        // Two parts are joined by one space. This is an old bug, but all groups since depend on it.
        joined(&[class, &joined(&[&description, &method], " ")], ": ")
    };
    if text::is_longer_than(&signature, CHARS_MAX) {
        notes.push("JavaSignatureTool: dropped Java exception description due to length");
        signature = format!("{class}: {method}");
    }
    JavaName { signature, notes }
}

/// Replaces `@1a2b3c4d` by `@<addr>`.
fn without_addresses(text: &str) -> String {
    const DIGITS: usize = 8;
    let mut parts = text.split('@');
    let mut out = parts.next().unwrap_or_default().to_string();
    for part in parts {
        out.push('@');
        match part.get(..DIGITS) {
            Some(digits)
                if digits
                    .bytes()
                    .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) =>
            {
                out.push_str("<addr>");
                out.push_str(&part[DIGITS..]);
            }
            _ => out.push_str(part),
        }
    }
    out
}

/// Replaces `.java:12)` at the end by `.java)`. Difference `kotlin-lines`: `.kt:12)` too.
fn without_line_number(method: &str, ruleset: Ruleset) -> String {
    let shortened = method.strip_suffix(')').and_then(|rest| {
        let name = rest.trim_end_matches(|c| text::decimal_digit(c).is_some());
        let name = name.strip_suffix(':').filter(|_| name.len() < rest.len())?;
        let is_source =
            name.ends_with(".java") || (ruleset != Ruleset::Socorro && name.ends_with(".kt"));
        is_source.then(|| format!("{name})"))
    });
    shortened.unwrap_or_else(|| method.to_string())
}

/// The signature of an exception object: its class and the first frame of its stack trace.
pub(super) fn exception(exception: &Value) -> Result<JavaName, Fault> {
    let trace = exception
        .get("exception")
        .and_then(|exception| exception.get("values"))
        .and_then(|values| match values {
            Value::List(values) => values.first(),
            values => values.get("0"),
        })
        .and_then(|value| value.get("stacktrace"))
        .filter(|trace| trace.is_truthy());
    let Some(trace) = trace else {
        return Ok(JavaName {
            signature: "EMPTY: Java exception not in expected format".to_string(),
            notes: vec!["JavaExceptionSignatureTool: value not in expected format"],
        });
    };
    if !matches!(trace, Value::Object(_)) {
        return Err(trace.no_attribute("get"));
    }
    let class = class(trace);
    let signature = match trace.get("frames") {
        Some(Value::List(frames)) if !frames.is_empty() => {
            // All frames must be readable, although only the first one is used.
            let places = frames.iter().map(frame).collect::<Result<Vec<_>, _>>()?;
            format!("{class}: at {}", places[0])
        }
        Some(Value::Text(text)) if !text.is_empty() => {
            return Err(Value::from("").no_attribute("get"));
        }
        Some(Value::Object(entries)) if !entries.is_empty() => return Err(Fault::new("0")),
        Some(other) if other.is_truthy() && !matches!(other, Value::List(_)) => {
            let name = other.type_name();
            return Err(Fault::new(format!("'{name}' object is not subscriptable")));
        }
        _ => class,
    };
    Ok(JavaName {
        signature,
        notes: Vec::new(),
    })
}

fn class(trace: &Value) -> String {
    let unknown = Value::from("Unknown");
    let kind = trace.get("type").unwrap_or(&unknown);
    match trace.get("module") {
        Some(module) if module.is_truthy() && kind.is_truthy() => {
            format!("{}.{}", module.str(), kind.str())
        }
        _ => kind.str().into_owned(),
    }
}

fn frame(frame: &Value) -> Result<String, Fault> {
    if !matches!(frame, Value::Object(_)) {
        return Err(frame.no_attribute("get"));
    }
    let known = |key: &str| frame.get(key).filter(|value| value.is_truthy());
    let place = match (known("module"), known("function")) {
        (Some(Value::Text(module)), Some(Value::Text(function))) => format!("{module}.{function}"),
        (Some(_), Some(_)) => return Err(Fault::new("module and function must be text to join")),
        (Some(place), None) | (None, Some(place)) => place.str().into_owned(),
        (None, None) => return Ok("unknown".to_string()),
    };
    Ok(match known("filename") {
        Some(file) => format!("{place}({})", file.str()),
        None => place,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_trace_is_named_by_class_description_and_method() {
        let check = |trace: &str, expected: &str| {
            assert_eq!(
                stack_trace(&trace.into(), Ruleset::Socorro).signature,
                expected,
                "{trace:?}"
            );
        };
        check(
            "a.B: c@1a2b3c4d\n\tat a.b.c(D.java:12)",
            "a.B: c@<addr>: at a.b.c(D.java)",
        );
        check(
            "a.B: c@1a2b3c4d e\r\n at a.b(D.java:12)",
            "a.B: c@<addr> e at a.b(D.java)",
        );
        check("a.B: c\n at a.b.c(D.kt:12)", "a.B: c at a.b.c(D.kt:12)");
        check("a.B\n at x", "a.B: at x");
        check("a.B: @@1234567g", "a.B: @@1234567g");
        check(":", "");
        check(&format!("a.B: {}", "x".repeat(300)), "a.B: ");
        assert!(
            stack_trace(&Value::Int(1), Ruleset::Socorro)
                .signature
                .starts_with("EMPTY")
        );
    }
}
