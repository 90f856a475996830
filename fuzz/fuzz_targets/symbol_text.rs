//! Any text must be accepted or refused as a whole. An accepted one must answer look-ups.
#![no_main]

use crashkeep::symbols::mapped::{Mapped, Stamp};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    let stamp = Stamp { bytes: text.len() as u64, modified_ns: 0 };
    let mapped = Mapped::from_text(text, stamp).expect("memory does not fail");
    assert_eq!(mapped.stamp(), stamp);
    for address in [0, 0x10, 0x1000, u64::from(u32::MAX), u64::MAX] {
        if let Some(function) = mapped.function(address) {
            assert!(mapped.corrupt().is_none());
            assert!(mapped.string(function.name).is_some());
            mapped.line(&function, address);
            mapped.inline(&function, 0, address);
        }
        if let Some(public) = mapped.public(address) {
            assert!(public.address <= address && mapped.string(public.name).is_some());
        }
        if let Some(cfi) = mapped.cfi(address) {
            assert!(mapped.string(cfi.rules).is_some());
            mapped.deltas(&cfi, address).for_each(|delta| assert!(delta.address <= address));
        }
    }
});
