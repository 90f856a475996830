//! Signature lists must be refused with a line number, or give every crash a signature on one line.
#![no_main]

use std::sync::Arc;

use crashkeep::signature::{CrashData, FILES, Generator, ListTexts, Lists, Ruleset};
use libfuzzer_sys::fuzz_target;

// The first line selects the file of the list. The last one is a function for the signature.
fuzz_target!(|text: &str| {
    let Some((file, rest)) = text.split_once('\n') else { return };
    let Some((list, function)) = rest.rsplit_once('\n') else { return };
    let mut texts = ListTexts(Default::default());
    texts.0[file.len() % FILES.len()] = list.to_string();
    match Lists::new(texts.clone()) {
        Err(error) => {
            let lines = list.split(['\n', '\r']).count();
            assert!(error.line.is_none_or(|line| (1..=lines).contains(&line)), "{error}");
            assert!(!error.reason.is_empty());
        }
        Ok(lists) => {
            let frame = serde_json::json!({ "function": function });
            let crash = serde_json::json!({ "product": "P", "threads": [{ "frames": [frame] }] });
            let generator = Generator::new(Ruleset::Crashkeep, Arc::new(lists));
            let told = generator.explain(&CrashData::from_json(&crash), &|_| Some("v".into()));
            assert!(told.signature.text.chars().count() <= 255);
            assert!(!told.signature.text.contains('\n'));
        }
    }
    if let Ok(imported) = ListTexts::import(list) {
        assert_eq!(ListTexts::import(&imported.export()).as_ref(), Ok(&imported));
    }
    // A text without a final newline gets one when it is exported and imported.
    let Ok(again) = ListTexts::import(&texts.export()) else { return };
    for (text, again) in texts.0.iter().zip(&again.0) {
        assert_eq!(text.trim_end_matches('\n'), again.trim_end_matches('\n'));
    }
});
