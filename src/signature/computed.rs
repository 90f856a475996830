//! The result of the rules: the text, and how it was computed.

/// Limit of a signature, in characters.
pub(super) const SIGNATURE_CHARS_MAX: usize = 255;

/// The signature of a crash, and how it was computed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Signature {
    /// One line of at most 255 characters. Empty if nothing is known about the crash.
    pub text: String,
    /// All frames of the thread that were looked at, callee first, joined by ` | `. `None` if the thread has
    /// no frames. Not shortened.
    pub(crate) proto: Option<String>,
    /// Remarks, each as `<rule>: <text>`. They may quote annotations.
    pub(crate) notes: Vec<String>,
    /// The rules that set the text, in order. The rule for the watchdog also runs the first rule again.
    pub(crate) decided_by: Vec<&'static str>,
}

impl Signature {
    pub(super) fn set(&mut self, rule: &'static str, text: String) {
        self.text = text;
        self.decided_by.push(rule);
    }

    pub(super) fn note(&mut self, rule: &str, text: &str) {
        self.notes.push(format!("{rule}: {text}"));
    }
}
