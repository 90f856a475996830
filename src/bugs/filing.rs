//! The values of a crash for the placeholders of a template.
//!
//! They contain only public fields, because a tracker may be public.

use super::template::{UrlTemplate, Values};
use crate::crash::processed::ProcessedCrash;
use crate::crash::walk::Walk;
use crate::limits;

/// Maximum lines of a stack in a bug.
const FRAMES_MAX: usize = 10;
/// Maximum characters of one function, module or source file in a frame.
const FRAME_TEXT_CHARS_MAX: usize = 80;
/// Maximum characters of any other value.
const VALUE_CHARS_MAX: usize = 255;
/// Maximum characters of a summary. Bugzilla accepts no longer one.
const TITLE_CHARS_MAX: usize = 255;

/// The crash about which a bug is filed.
pub(crate) struct Filing<'a> {
    pub(crate) processed: &'a ProcessedCrash,
    /// URL of its report, including the scheme.
    pub(crate) crash_url: &'a str,
    /// URL of the page of its signature, including the scheme.
    pub(crate) signature_url: &'a str,
}

impl Filing<'_> {
    /// The URL of the template for this crash. Removes frames from the outermost end until the URL is short
    /// enough for trackers.
    pub(crate) fn address(&self, template: &UrlTemplate) -> String {
        let mut stack = self.stack();
        loop {
            let url = template.fill(&self.values(&stack));
            if url.len() <= limits::BUG_LINK_BYTES_MAX || stack.pop().is_none() {
                return url;
            }
        }
    }

    fn values(&self, stack: &[String]) -> Values {
        let signature = self.text("signature");
        Values {
            title: title(&signature),
            description: self.description(stack),
            product: self.text("product"),
            version: self.text("version"),
            build_id: self.text("build"),
            platform: self.text("os_name"),
            op_sys: op_sys(&self.text("os_pretty_version")),
            rep_platform: self.text("cpu_arch"),
            reason: self.text("reason"),
            address: self.text("address"),
            crash_url: self.crash_url.to_owned(),
            signature_url: self.signature_url.to_owned(),
            uuid: self.text("crash_id"),
            stack: stack.join("\n"),
            signature,
        }
    }

    fn text(&self, key: &str) -> String {
        cut(
            &self.processed.text(key).unwrap_or_default(),
            VALUE_CHARS_MAX,
        )
    }

    /// The wording and order are Socorro's.
    fn description(&self, stack: &[String]) -> String {
        let mut text = format!("Crash report: {}\n", self.crash_url);
        let assertion = self.text("moz_crash_reason");
        let reason = self.text("reason");
        if !assertion.is_empty() {
            text += &format!("\nMOZ_CRASH Reason: {assertion}\n");
        } else if !reason.is_empty() {
            text += &format!("\nReason: {reason}\n");
        }
        if !stack.is_empty() {
            // In a code block, because most trackers read Markdown and would join the lines.
            let lines = stack.join("\n");
            text += &format!(
                "\nTop {} frames of crashing thread:\n```\n{lines}\n```\n",
                stack.len()
            );
        }
        text + &format!("\nCrashes like it: {}\n", self.signature_url)
    }

    fn stack(&self) -> Vec<String> {
        match &self.processed.walk {
            Some(walk) => frames(walk),
            // A crash of Java code has no walk.
            None => {
                let trace = self.processed.text("java_stack_trace").unwrap_or_default();
                let lines = trace.lines().take(FRAMES_MAX);
                lines.map(|line| cut(line, VALUE_CHARS_MAX)).collect()
            }
        }
    }
}

/// One line per frame: number, module, function and source. Inlined calls come before the frame that
/// contains them and have its number.
fn frames(walk: &Walk) -> Vec<String> {
    let Some((_, thread)) = walk.crashing_thread() else {
        return Vec::new();
    };
    let line =
        |number: u64, module: &str, function: &str, file: Option<&str>, line: Option<u32>| {
            let mut text = format!("{number}  {}  {}", frame_text(module), frame_text(function));
            if let Some(file) = file.filter(|file| !file.is_empty()) {
                text += &format!("  {}", frame_text(file));
                if let Some(line) = line {
                    text += &format!(":{line}");
                }
            }
            text
        };
    let mut lines = Vec::new();
    for frame in thread.frames.iter().take(FRAMES_MAX) {
        let module = frame.module.as_deref().unwrap_or("?");
        for inline in &frame.inlines {
            let function = inline.function.as_deref().unwrap_or("?");
            let file = inline.file.as_deref();
            lines.push(line(frame.frame, module, function, file, inline.line));
        }
        let file = frame.file.as_deref();
        lines.push(line(frame.frame, module, &frame.place(), file, frame.line));
    }
    lines.truncate(FRAMES_MAX);
    lines
}

/// A text on one line, truncated to the limit.
fn frame_text(text: &str) -> String {
    cut(&text.replace(char::is_control, " "), FRAME_TEXT_CHARS_MAX)
}

fn title(signature: &str) -> String {
    let title = format!("Crash in [@ {signature}]");
    if title.chars().count() > TITLE_CHARS_MAX {
        cut(&title, TITLE_CHARS_MAX - 3) + "..."
    } else {
        title
    }
}

fn cut(text: &str, chars_max: usize) -> String {
    text.chars().take(chars_max).collect()
}

/// The system's name in Bugzilla's list. Some of our names are more specific.
fn op_sys(pretty: &str) -> String {
    match pretty {
        "Windows 8.1" => "Windows 8",
        "Windows Unknown" | "Windows 2000" => "Windows",
        _ if pretty.starts_with("OS X") || pretty.starts_with("macOS") => "macOS",
        _ => pretty,
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::Catalogue;

    const CRASH: &str = "https://c.example/report/index/1";
    const SIGNATURE: &str = "https://c.example/signature/?signature=a";

    fn filled(processed: &str, template: &str) -> String {
        let processed = ProcessedCrash::parse(processed.as_bytes()).expect("a processed crash");
        let filing = Filing {
            processed: &processed,
            crash_url: CRASH,
            signature_url: SIGNATURE,
        };
        let url = filing.address(&template.parse().expect("a template"));
        let url = percent_encoding::percent_decode_str(&url);
        url.decode_utf8().expect("text").into_owned()
    }

    #[test]
    fn a_bug_tells_of_the_crash_in_words() {
        let processed = r#"{"signature": "a::b", "reason": "SIGSEGV", "json_dump": {
            "crash_info": {"crashing_thread": 0}, "threads": [{"frames": [
              {"frame": 0, "module": "m.so", "function": "a::b", "file": "a.cc", "line": 3,
               "inlines": [{"function": "inner", "file": "i.h", "line": 9}]},
              {"frame": 1, "module": "m.so", "module_offset": "0x0010"}]}]}}"#;
        assert_eq!(
            filled(processed, "https://h/{description}"),
            format!(
                "https://h/Crash report: {CRASH}\n\nReason: SIGSEGV\n\nTop 3 frames of crashing thread:\n```\n\
                 0  m.so  inner  i.h:9\n0  m.so  a::b  a.cc:3\n1  m.so  m.so + 0x10\n```\n\nCrashes like it: {SIGNATURE}\n"
            )
        );
        let asserted = r#"{"reason": "SIGSEGV", "moz_crash_reason": "MOZ_ASSERT(x)"}"#;
        let text = filled(asserted, "https://h/{description}");
        assert!(text.contains("MOZ_CRASH Reason: MOZ_ASSERT(x)\n"), "{text}");
        assert!(
            !text.contains("SIGSEGV") && !text.contains("frames"),
            "{text}"
        );
        let java = r#"{"java_stack_trace": "E\n\tat a.b(C.java:1)"}"#;
        assert_eq!(
            filled(java, "https://h/{stack}"),
            "https://h/E\n\tat a.b(C.java:1)"
        );
    }

    #[test]
    fn a_title_is_cut_at_255_characters() {
        for (length, expected) in [(241, 254), (242, 255), (243, 255), (255, 255)] {
            let title = title(&"ü".repeat(length));
            assert_eq!(title.chars().count(), expected, "{length}");
            assert_eq!(title.ends_with("..."), length > 242, "{length}");
        }
        assert_eq!(title("a"), "Crash in [@ a]");
    }

    #[test]
    fn systems_get_the_names_that_bugzilla_has() {
        for (pretty, expected) in [
            ("OS X 10.11", "macOS"),
            ("macOS 14", "macOS"),
            ("Windows 8.1", "Windows 8"),
            ("Windows Unknown", "Windows"),
            ("Windows 11", "Windows 11"),
            ("Debian GNU/Linux 12", "Debian GNU/Linux 12"),
        ] {
            assert_eq!(op_sys(pretty), expected);
        }
    }

    #[test]
    fn a_huge_stack_loses_frames_until_the_address_is_short() {
        let wide = "ü".repeat(200);
        let frame = format!(r#"{{"module": "{wide}", "function": "{wide}", "file": "{wide}"}}"#);
        let frames = vec![frame; 20].join(",");
        let processed = format!(
            r#"{{"signature": "s", "json_dump": {{"crash_info": {{"crashing_thread": 0}}, "threads": [{{"frames": [{frames}]}}]}}}}"#
        );
        let processed = ProcessedCrash::parse(processed.as_bytes()).expect("a processed crash");
        let filing = Filing {
            processed: &processed,
            crash_url: CRASH,
            signature_url: SIGNATURE,
        };
        assert_eq!(filing.stack().len(), FRAMES_MAX);
        let template = "https://h/{title}/{description}".parse().expect("one");
        let url = filing.address(&template);
        assert!(url.len() <= limits::BUG_LINK_BYTES_MAX, "{}", url.len());
        assert!(url.contains("Top%204%20frames"), "{url}");
    }

    #[test]
    fn what_is_protected_never_enters_a_bug() {
        let protected: String = Catalogue::builtin()
            .all()
            .iter()
            .filter(|field| field.is_protected())
            .map(|field| format!("\"{}\": \"SECRET\",", field.key))
            .collect();
        assert!(protected.contains("\"user_comments\"") && protected.contains("\"url\""));
        let processed = format!("{{{protected} \"signature\": \"s\"}}");
        let all: Vec<String> = super::super::template::PLACEHOLDERS
            .iter()
            .map(|name| format!("{{{name}}}"))
            .collect();
        let text = filled(&processed, &format!("https://h/{}", all.join("/")));
        assert!(
            text.contains("Crash in [@ s]") && !text.contains("SECRET"),
            "{text}"
        );
    }
}
