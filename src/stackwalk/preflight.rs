//! Cheap checks of a dump's first bytes, before the reader sees them.
//!
//! The reader would find the same errors, in the same order and with the same names. But these sentences tell
//! the sender of the file what is wrong with it.

use super::WalkError;
use super::raw::DIRECTORY_ENTRY_BYTES;

/// Header: magic, version, stream count, directory offset, checksum, time, flags.
const HEADER_BYTES: usize = 32;
/// The low 16 bits of the version word. The program that wrote the dump may use the high bits.
const FORMAT_VERSION: u16 = 0xa793;

/// Other files that clients send as dumps, by their first bytes.
const LOOKALIKES: [(&[u8], &str); 11] = [
    (b"\x1f\x8b", "gzip-compressed data"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed data"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x7fELF", "an ELF file (a core dump or a program)"),
    (b"PAGEDU", "a Windows kernel dump"),
    (b"\xcf\xfa\xed\xfe", "a Mach-O file"),
    (b"<!", "an HTML or XML page"),
    (b"<html", "an HTML page"),
    (b"<?xml", "an XML document"),
    (b"{", "JSON text"),
    (b"--", "a multipart body that was not taken apart"),
];

/// Refuses bytes that are not a minidump, or that end before the end of their stream directory.
pub(super) fn check(dump: &[u8]) -> Result<(), WalkError> {
    if dump.is_empty() {
        return Err(WalkError::new(
            "EmptyMinidump",
            "the dump is empty (0 bytes)",
        ));
    }
    let Some(header) = dump.get(..HEADER_BYTES) else {
        return Err(WalkError::new(
            "MissingHeader",
            format!(
                "the dump is {} bytes, shorter than a minidump header ({HEADER_BYTES} bytes)",
                dump.len()
            ),
        ));
    };
    let is_big_endian = match &header[..4] {
        b"MDMP" => false,
        b"PMDM" => true,
        _ => return Err(WalkError::new("HeaderMismatch", not_a_minidump(dump))),
    };
    let word = |at: usize| {
        let bytes = [header[at], header[at + 1], header[at + 2], header[at + 3]];
        if is_big_endian {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        }
    };
    let version = (word(4) & 0xffff) as u16;
    if version != FORMAT_VERSION {
        return Err(WalkError::new(
            "VersionMismatch",
            format!("the dump has format version {version:#06x}, not {FORMAT_VERSION:#06x}"),
        ));
    }
    let (streams, directory) = (u64::from(word(8)), u64::from(word(12)));
    let directory_end = directory + streams * DIRECTORY_ENTRY_BYTES as u64;
    if streams > 0 && directory_end > dump.len() as u64 {
        return Err(WalkError::new(
            "MissingDirectory",
            format!(
                "the stream directory of the dump ends at byte {directory_end}, but the dump has \
                 only {} bytes (cut off?)",
                dump.len()
            ),
        ));
    }
    Ok(())
}

fn not_a_minidump(dump: &[u8]) -> String {
    let known = LOOKALIKES.iter().find(|(start, _)| {
        dump.len() >= start.len() && dump[..start.len()].eq_ignore_ascii_case(start)
    });
    match known {
        Some((_, what)) => format!("not a minidump: it looks like {what}"),
        None if is_text(dump) => "not a minidump: it is text".to_owned(),
        None => format!(
            "not a minidump: it begins with {:02x} {:02x} {:02x} {:02x} instead of `MDMP`",
            dump[0], dump[1], dump[2], dump[3]
        ),
    }
}

/// Whether the first bytes are lines of text, such as those of an Android microdump.
fn is_text(dump: &[u8]) -> bool {
    dump[..dump.len().min(256)]
        .iter()
        .all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | 0x20..=0x7e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(words: [u32; 4]) -> Vec<u8> {
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.resize(HEADER_BYTES, 0);
        bytes
    }

    const MAGIC: u32 = u32::from_le_bytes(*b"MDMP");
    const VERSION: u32 = FORMAT_VERSION as u32;

    #[test]
    fn each_kind_of_bad_header_has_its_word_and_a_sentence() {
        let swapped = u32::from_le_bytes(*b"PMDM");
        for (dump, status, part) in [
            (vec![], "EmptyMinidump", "0 bytes"),
            (b"MDMP".to_vec(), "MissingHeader", "4 bytes"),
            (vec![0x1f; 31], "MissingHeader", "31 bytes"),
            (header([0x8b1f, 0, 0, 0]), "HeaderMismatch", "gzip"),
            (header([0, 0, 0, 0]), "HeaderMismatch", "00 00 00 00"),
            (
                b"<HTML><body>moved, but for ever".repeat(2),
                "HeaderMismatch",
                "HTML",
            ),
            (
                b"-----BEGIN BREAKPAD MICRODUMP-----".to_vec(),
                "HeaderMismatch",
                "multipart",
            ),
            (
                b"W/google-breakpad( 4242): V Android".to_vec(),
                "HeaderMismatch",
                "text",
            ),
            (header([MAGIC, 0, 0, 0]), "VersionMismatch", "0x0000"),
            (
                header([swapped, VERSION, 0, 0]),
                "VersionMismatch",
                "0xa793",
            ),
            (
                header([MAGIC, VERSION, 1, 32]),
                "MissingDirectory",
                "byte 44",
            ),
            (
                header([MAGIC, VERSION, u32::MAX, 32]),
                "MissingDirectory",
                "32 bytes",
            ),
        ] {
            let error = check(&dump).unwrap_err();
            assert_eq!(error.status, status, "{error}");
            assert!(error.sentence.contains(part), "{error} lacks {part:?}");
        }
    }

    #[test]
    fn a_header_without_streams_passes_for_the_reader_to_judge() {
        assert_eq!(
            check(&header([MAGIC, VERSION | 0x1234_0000, 0, 32])),
            Ok(())
        );
    }
}
