//! Any bytes must give an answer or none, and never a panic, even if their checksums are not checked.
#![no_main]

use crashkeep::symbols::mapped::Mapped;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    if bytes.len() >= 32 {
        // A fuzzer cannot guess these: magic, version and length.
        bytes[..8].copy_from_slice(b"CKSYMMAP");
        bytes[16..20].copy_from_slice(&crashkeep::symbols::mapped::VERSION.to_le_bytes());
        let length = (bytes.len() as u64).to_le_bytes();
        bytes[24..32].copy_from_slice(&length);
    }
    let Ok(mapped) = Mapped::trusted(bytes) else {
        return;
    };
    let _ = (mapped.corrupt(), mapped.debug_id(), mapped.url(), mapped.file(1), mapped.origin(1));
    for address in [0, 1, 0x10, 0x1000, u64::from(u32::MAX), u64::MAX] {
        if let Some(function) = mapped.function(address) {
            let _ = (mapped.string(function.name), mapped.line(&function, address));
            for depth in [0, 1, u32::MAX] {
                mapped.inline(&function, depth, address);
            }
        }
        let _ = (mapped.public(address), mapped.framedata(address), mapped.fpo(address));
        let _ = mapped.function_before(address);
        if let Some(cfi) = mapped.cfi(address) {
            mapped.deltas(&cfi, address).take(1000).for_each(|delta| {
                mapped.string(delta.rules);
            });
        }
    }
});
