//! A compressed dump must be unpacked within the limits, or refused.
#![no_main]

use crashkeep::symbols::{Bounds, unpack};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let bounds = Bounds {
        inflated_bytes_max: 1 << 20,
        ratio_max: 100,
        free_bytes: 1 << 16,
        entries_max: 1,
    };
    if let Some(Ok(unpacked)) = unpack(bytes, bounds) {
        assert!(unpacked.len() as u64 <= bounds.inflated_bytes_max);
    }
});
