//! All crash data must get a signature on one line and of limited length.
#![no_main]

use std::sync::{Arc, LazyLock};

use crashkeep::signature::{CrashData, Generator, Lists, Ruleset};
use libfuzzer_sys::fuzz_target;

static GENERATORS: LazyLock<[Generator; 2]> = LazyLock::new(|| {
    let lists = Arc::new(Lists::builtin());
    [Ruleset::Socorro, Ruleset::Crashkeep].map(|ruleset| Generator::new(ruleset, lists.clone()))
});

fuzz_target!(|text: &str| {
    if let Ok(data) = CrashData::parse(text) {
        for generator in GENERATORS.iter() {
            let signature = generator.generate(&data);
            assert!(signature.text.chars().count() <= 255);
            assert!(!signature.text.contains('\n'));
        }
    }
});
