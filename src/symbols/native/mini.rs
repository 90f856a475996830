//! MiniDebugInfo: the section `.gnu_debugdata` of stripped programs of Fedora and others. It has a compressed ELF
//! file with the symbol table.

use std::borrow::Cow;
use std::io::Read;

use liblzma::bufread::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};
use symbolic_debuginfo::dwarf::Dwarf;
use symbolic_debuginfo::elf::ElfObject;

use super::code::Symbol;
use super::elf;

/// Limit of bytes of the inner file, and of memory to decompress it. The inner file of a browser has some MB.
const BYTES_MAX: u64 = 256 << 20;
const MEMORY_MAX: u64 = 128 << 20;

/// The symbols in the `.gnu_debugdata` of a program; empty if it has none.
///
/// # Errors
/// A sentence for the sender.
pub(super) fn symbols(elf: &ElfObject<'_>) -> Result<Vec<Symbol<'static>>, String> {
    let Some(section) = elf.section("gnu_debugdata") else {
        return Ok(Vec::new());
    };
    let inner = unpacked(&section.data)?;
    let symbols = elf::symbols_in(&inner, elf.load_address());
    let owned = symbols.into_iter().map(|symbol| Symbol {
        name: Cow::Owned(symbol.name.into_owned()),
        ..symbol
    });
    Ok(owned.collect())
}

fn unpacked(packed: &[u8]) -> Result<Vec<u8>, String> {
    let failed = |error: &dyn std::fmt::Display| format!(".gnu_debugdata was ignored: {error}");
    let stream = Stream::new_stream_decoder(MEMORY_MAX, CONCATENATED).map_err(|e| failed(&e))?;
    let mut inner = Vec::new();
    let mut decoder = XzDecoder::new_stream(packed, stream).take(BYTES_MAX + 1);
    decoder.read_to_end(&mut inner).map_err(|e| failed(&e))?;
    if inner.len() as u64 > BYTES_MAX {
        return Err(failed(&format!(
            "it has more than {} MiB when decompressed; send the debug file instead",
            BYTES_MAX >> 20
        )));
    }
    Ok(inner)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_bomb_is_refused_before_it_fills_the_memory() {
        let mut packed = Vec::new();
        let mut encoder = liblzma::write::XzEncoder::new(&mut packed, 0);
        let zeros = vec![0; 1 << 20];
        for _ in 0..=(BYTES_MAX >> 20) {
            encoder.write_all(&zeros).expect("xz");
        }
        encoder.finish().expect("xz");
        let why = unpacked(&packed).expect_err("too large");
        assert!(why.contains("more than 256 MiB"), "{why}");
        assert!(unpacked(b"\xfd7zXZ\0 but no more").is_err());
        assert!(unpacked(b"").is_err());
    }
}
