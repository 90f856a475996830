//! Removing the messages of a Java stack twice must change nothing the second time. The result must contain
//! no line that is not in the stack.
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
