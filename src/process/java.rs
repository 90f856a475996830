//! Java stacks without the messages of their exceptions, which quote data of the program.

/// Keeps frames and the classes of exceptions. Returns `malformed` if there are none.
///
/// A message may have several lines with any text. So a line counts as a frame only if all of it has the
/// syntax of a frame. It counts as a class only where a class must be: at the start, or after `Caused by:`
/// outside a message.
/// behind `Caused by:` unless that is inside of a message.
pub fn without_messages(stack: &str) -> String {
    let mut kept: Vec<String> = Vec::new();
    let mut is_in_message = false;
    for (at, line) in stack.lines().enumerate() {
        let text = line.trim();
        let indent = &line[..line.len() - line.trim_start().len()];
        if is_frame(text) || is_more(text) {
            is_in_message = false;
            kept.push(format!("{indent}{text}"));
            continue;
        }
        let lead = ["Caused by: ", "Suppressed: "]
            .into_iter()
            .find(|lead| text.starts_with(lead));
        let class = match (lead, at) {
            (Some(lead), _) if !is_in_message => exception_class(&text[lead.len()..]),
            (None, 0) => exception_class(without_thread(text)),
            _ => None,
        };
        match class {
            Some(class) => kept.push(format!("{indent}{}{class}", lead.unwrap_or_default())),
            // The following lines are a message, until the next frame.
            None => is_in_message = true,
        }
    }
    if kept.is_empty() {
        "malformed".into()
    } else {
        kept.join("\n")
    }
}

/// The text after `Exception in thread "main" `.
fn without_thread(text: &str) -> &str {
    let rest = text.strip_prefix("Exception in thread \"");
    rest.and_then(|rest| rest.split_once("\" "))
        .map_or(text, |(_, rest)| rest)
}

/// The class before the message of an exception: names separated by dots.
fn exception_class(text: &str) -> Option<&str> {
    let class = text.split(':').next().unwrap_or_default().trim_end();
    (class.contains('.') && class.split('.').all(is_name)).then_some(class)
}

fn is_name(text: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '-');
    !text.is_empty() && text.chars().all(is_part)
}

/// True for `... 12 more` and `... 12 common frames omitted`.
fn is_more(text: &str) -> bool {
    let rest = text
        .strip_prefix("... ")
        .and_then(|rest| rest.split_once(' '));
    rest.is_some_and(|(number, what)| {
        number.parse::<u32>().is_ok() && matches!(what, "more" | "common frames omitted")
    })
}

/// True for `at module/package.Class.method(Source.java:12)`, optionally followed by the file of the class.
fn is_frame(text: &str) -> bool {
    let Some((method, rest)) = text
        .strip_prefix("at ")
        .and_then(|rest| rest.split_once('('))
    else {
        return false;
    };
    let Some((source, packaging)) = rest.split_once(')') else {
        return false;
    };
    // The loader and the module, as in app//x and java.base@17.0.1/x.
    let (modules, method) = method.rsplit_once('/').unwrap_or(("", method));
    let is_module = |c: char| c.is_alphanumeric() || "_$.-@/".contains(c);
    let is_method = |part: &str| is_name(part.trim_start_matches('<').trim_end_matches('>'));
    method.contains('.')
        && method.split('.').all(is_method)
        && modules.chars().all(is_module)
        && is_source(source)
        && is_packaging(packaging)
}

/// True for the source position of a method.
fn is_source(text: &str) -> bool {
    if matches!(text, "Native Method" | "Unknown Source" | "Native method") {
        return true;
    }
    let (file, line) = match text.rsplit_once(':') {
        Some((file, line)) => (file, Some(line)),
        None => (text, None),
    };
    let is_line = line.is_none_or(|line| line.trim_start_matches('-').parse::<u32>().is_ok());
    let is_known = matches!(file, "Unknown Source" | "SourceFile" | "Native Method")
        || [".java", ".kt", ".kts", ".scala", ".groovy", ".clj"]
            .iter()
            .any(|ending| file.ends_with(ending));
    // Obfuscators and generators create file names with other endings. Then a line number must follow.
    let is_file = file.split('.').all(is_name) && (is_known || line.is_some());
    is_line && (is_file || file == "Unknown Source")
}

/// True for ` [app.jar:1.2]` and ` ~[app.jar:?]`, which logging frameworks append.
fn is_packaging(text: &str) -> bool {
    let inner = text.trim_start().trim_start_matches('~');
    let inner = inner
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let is_part = |c: char| c.is_alphanumeric() || "._-:?!/+".contains(c);
    text.is_empty() || inner.is_some_and(|inner| inner.chars().all(is_part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_java_exceptions_are_left_out_however_they_look() {
        fn check(stack: &str, expected: &str) {
            assert_eq!(without_messages(stack), expected, "{stack}");
        }
        check(
            "java.lang.IllegalStateException: login failed for\njane.doe@example.com\n/home/jane/taxes.pdf\nat home with jane\njane.doe\nCaused by: jane.doe: x\n\tat a.b.c(D.java:1)\nCaused by: java.io.IOException: secret: more\n\tat a.b.<init>(D.kt)\n\t... 3 more",
            "java.lang.IllegalStateException\n\tat a.b.c(D.java:1)\nCaused by: java.io.IOException\n\tat a.b.<init>(D.kt)\n\t... 3 more",
        );
        check(
            "Exception in thread \"jane's\" x.Y: z\n\tSuppressed: q.R: s",
            "x.Y\n\tSuppressed: q.R",
        );
        for frame in [
            "at java.base/java.lang.Thread.run(Thread.java:833)",
            "at app//org.x.Y.lambda$z$0(Y.java)",
            "at com.sun.proxy.$Proxy0.foo(Unknown Source)",
            "at a.b.c(Unknown Source:12)",
            "at java.lang.reflect.Method.invoke(Native Method)",
            "at o.a.b(SourceFile:3)",
            "at a.B.c(D8$$SyntheticClass:0)",
            "at kotlin.X.invoke-suspend(X.kt:9)",
            "at a.B.c(D.java:1) ~[app-1.2.jar:1.2]",
            "at java.base@17.0.1/a.B.c(D.java:1)",
        ] {
            check(frame, frame);
        }
        for message in [
            "at home",
            "at jane.doe (her place)",
            "at jane.doe(secret)",
            "at a.b(D.java:1) jane",
            "at a b.c(D.java:1)",
            "... and more",
            "jane.doe@example.com",
            "/home/jane.pdf",
            "Error: x",
        ] {
            check(message, "malformed");
        }
    }
}
