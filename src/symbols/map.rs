//! A file mapped into memory: the only unsafe call of the crate (ADR 9).

use std::fs::File;
use std::io;
use std::ops::Deref;

use memmap2::Mmap;

/// A whole file, mapped read-only. Its pages belong to the system: all processes that map the file share
/// them, and the system drops them when memory is short.
pub(crate) struct Map(Mmap);

impl Map {
    /// Maps a file. The file must never change in place; a new version must replace it by rename.
    ///
    /// # Errors
    /// The file cannot be mapped, for example because there is not enough address space.
    #[allow(unsafe_code)]
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        // SAFETY: the bytes of a shared slice must not change. Only we write below the folder of mapped
        // symbols. We write each file once, under another name, before any process can open it. Its
        // replacement is a different file, and this mapping keeps the old one. If someone else truncates such
        // a file in place, a read raises SIGBUS. That ends a walker and nothing else, because servers map
        // nothing. If someone overwrites a file in place, readers see other bytes. The reader does not trust
        // them: it checks every offset on every read, and checks every string for UTF-8 each time it returns
        // one.
        let map = unsafe { Mmap::map(file)? };
        Ok(Self(map))
    }

    /// Tells the system that single pages will be read at random, so that it does not read ahead.
    pub(crate) fn expect_random_reads(&self) {
        // Only advice: if the system ignores it, reads are slower.
        #[cfg(unix)]
        let _ = self.0.advise(memmap2::Advice::Random);
    }
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
