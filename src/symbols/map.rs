//! A file as bytes in memory, by a mapping: the one unsafe call of the crate.

use std::fs::File;
use std::io;
use std::ops::Deref;

use memmap2::{Advice, Mmap};

/// A file mapped read-only, whole. Its pages belong to the system: they are shared by all
/// processes that map the file, and go when memory is short.
pub struct Map(Mmap);

impl Map {
    /// Maps a file that is replaced by renaming another over it, never changed in place.
    #[allow(unsafe_code)]
    pub fn of(file: &File) -> io::Result<Self> {
        // SAFETY: bytes behind a shared slice must not change. Only we write below the folder of
        // mapped symbols, each file once, under another name, before anybody can open it; what
        // replaces it is another file, and this mapping keeps the old one. Somebody else who
        // truncates such a file in place makes a read raise SIGBUS, which ends a walker and no
        // more: servers map nothing. Somebody who overwrites one in place makes readers see other
        // bytes, which the reader takes for what they are: it checks every offset on every read,
        // and every string for UTF-8 each time it hands one out.
        let map = unsafe { Mmap::map(file)? };
        Ok(Self(map))
    }

    /// From now on single pages are read here and there, so reading ahead is waste.
    pub fn expect_random_reads(&self) {
        // Only advice: where a system does not take it, reads are slower.
        let _ = self.0.advise(Advice::Random);
    }
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
