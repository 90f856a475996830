//! Reads text about bugs from a tracker or a person. Nothing must panic, and written text must be read back
//! unchanged.
#![no_main]

use crashkeep::bugs::template::{UrlTemplate, Values};
use crashkeep::bugs::{field, reference};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for signature in field::signatures(text) {
        assert!(text.contains(&signature) && !signature.contains("[@"));
    }
    if let Ok(bug) = reference::read(text, None)
        && let Ok(again) = reference::read(&bug.url, None)
    {
        assert_eq!(again.key, bug.key);
    }
    if let Ok(template) = text.parse::<UrlTemplate>() {
        assert_eq!(template.to_string().parse(), Ok(template.clone()));
        let url = template.fill(&Values::default());
        assert!(reference::split(&url).is_ok(), "{url}");
    }
});
