//! A Java stack without messages has none to lose, and no line that was not in the stack.
#![no_main]

use crashkeep::process::java::without_messages;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let kept = without_messages(text);
    assert_eq!(without_messages(&kept), kept);
    if kept != "malformed" {
        for line in kept.lines() {
            assert!(text.contains(line.trim()), "{line}");
        }
    }
});
