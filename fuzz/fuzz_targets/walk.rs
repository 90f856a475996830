//! Walking any bytes must give JSON within the limit, or an error.
#![no_main]

use crashkeep::stackwalk::{Mode, SymbolCache, WalkLimits, walk};
use crashkeep::symbols::SymbolDirs;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|dump: &[u8]| {
    let symbols = SymbolCache::new(SymbolDirs::default(), 0);
    let limits = WalkLimits::stored(16 << 20);
    for mode in [Mode::Compat, Mode::True] {
        let Ok(json) = walk(dump, &symbols, &limits, mode) else {
            continue;
        };
        let walk: crashkeep::crash::walk::Walk =
            serde_json::from_slice(&json).expect("its own JSON");
        let frames: u64 = walk.threads.iter().map(|thread| thread.frame_count).sum();
        // The frame behind a signal handler brings its caller with it.
        assert!(frames as usize <= limits.frames_max + 1 + walk.threads.len());
        assert!(json.len() <= 16 << 20);
    }
});
