//! Any bytes walk to JSON or to an error, within the bound.
#![no_main]

use crashkeep::stackwalk::{SymbolCache, WalkLimits, walk};
use crashkeep::symbols::SymbolDirs;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|dump: &[u8]| {
    let symbols = SymbolCache::new(SymbolDirs::default(), 0);
    let limits = WalkLimits { json_bytes_max: 16 << 20 };
    if let Ok(json) = walk(dump, &symbols, &limits) {
        let _: crashkeep::crash::walk::Walk = serde_json::from_slice(&json).expect("its own JSON");
    }
});
