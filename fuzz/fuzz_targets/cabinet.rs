//! A cabinet becomes a tar within the limit of bytes, with names that stay in their folder, or it is refused.
#![no_main]

use std::io::{self, Read, Write};
use std::panic;
use std::path::Component;
use std::sync::Once;

use crashkeep::symbols::cabinet;
use libfuzzer_sys::fuzz_target;

/// The limit of bytes in files, and of a tar with these files.
const FILES_BYTES_MAX: u64 = 1 << 20;
const TAR_BYTES_MAX: usize = (1 << 20) + (64 << 10);

/// Panics if a tar exceeds the limit.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert!(self.0.len() + bytes.len() <= TAR_BYTES_MAX);
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The crates that read cabinets panic on some damaged ones, which is why a child process runs them. Only other panics
/// are findings.
fn tolerate_known_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let abort = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let file = info.location().map_or("", |at| at.file());
            if !file.contains("/cab-") && !file.contains("/lzxd-") {
                abort(info);
            }
        }));
    });
}

fuzz_target!(|bytes: &[u8]| {
    tolerate_known_panics();
    let unpacked = panic::catch_unwind(|| {
        let mut out = Bounded(Vec::new());
        cabinet::to_tar(bytes, FILES_BYTES_MAX, &mut out).map(|()| out.0)
    });
    let Ok(Ok(tar)) = unpacked else {
        return;
    };
    let mut archive = tar::Archive::new(&tar[..]);
    for entry in archive.entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        let name = entry.path().expect("a name").into_owned();
        let components: Vec<_> = name.components().collect();
        assert!(matches!(components[..], [Component::Normal(_)]), "{name:?}");
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("readable");
        assert_eq!(content.len() as u64, entry.size());
    }
});
