//! Unpacks a minidump from what clients wrap it in.
//!
//! Many programs send a dump compressed inside its part (gzip, xz, bzip2, zstd, a zip of one file), and old
//! Electron on Linux sends a whole multipart body as the dump. The store keeps the bytes as received. Only
//! the walk unpacks them, in the walker's process. So a hostile compressed file meets the walker's limits on
//! memory and time, and affects only its own report.

use super::WalkError;
use crate::crash::raw::MAIN_DUMP;
use crate::limits::DUMP_LAYERS_MAX;
use crate::multipart::{Multipart, PartHead, PartSink, leading_boundary};
use crate::symbols::{self, Bounds};

/// Returns the dump in `bytes`, or `bytes` unchanged if nothing is wrapped around it.
pub(super) fn unwrap(mut bytes: Vec<u8>, bounds: Bounds) -> Result<Vec<u8>, WalkError> {
    for _ in 0..DUMP_LAYERS_MAX {
        if let Some(unpacked) = symbols::unpack(&bytes, bounds) {
            bytes = unpacked.map_err(|why| {
                WalkError::new("BadPacking", format!("the dump is packed, but {why}"))
            })?;
        } else if let Some(dump) = dump_of_form(&bytes) {
            bytes = dump;
        } else {
            break;
        }
    }
    Ok(bytes)
}

/// The dump in a multipart body.
fn dump_of_form(body: &[u8]) -> Option<Vec<u8>> {
    let boundary = leading_boundary(body)?;
    // A truncated body may still contain a dump, so we add the missing end.
    let end = format!("\r\n--{boundary}--\r\n");
    let mut parser = Multipart::new(boundary);
    let mut dump = DumpPart::default();
    for piece in body.chunks(64 * 1024).chain([end.as_bytes()]) {
        if parser.feed(piece, &mut dump).is_err() {
            break;
        }
    }
    dump.found
}

/// Keeps the first part that is a dump by its name or by its first bytes.
#[derive(Default)]
struct DumpPart {
    is_named: bool,
    current: Option<Vec<u8>>,
    found: Option<Vec<u8>>,
}

/// Stops the parser, because the rest of the body does not matter.
struct Found;

impl PartSink for DumpPart {
    type Error = Found;

    fn begin(&mut self, head: PartHead) -> Result<(), Found> {
        self.is_named = head.name.is_some_and(|name| name.starts_with(MAIN_DUMP));
        self.current = Some(Vec::new());
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), Found> {
        if let Some(current) = &mut self.current {
            current.extend_from_slice(bytes);
            if !self.is_named && current.len() >= 4 && !current.starts_with(b"MDMP") {
                self.current = None;
            }
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Found> {
        let is_dump = |part: &Vec<u8>| self.is_named || part.starts_with(b"MDMP");
        self.found = self.current.take().filter(is_dump);
        match self.found {
            Some(_) => Err(Found),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const BOUNDS: Bounds = Bounds {
        inflated_bytes_max: 1 << 20,
        ratio_max: 100,
        free_bytes: 64 << 10,
        entries_max: 1,
    };
    const DUMP: &[u8] = b"MDMP\x93\xa7 and so on";

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(bytes).expect("memory");
        packer.finish().expect("memory")
    }

    fn form(parts: &[(&str, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        for (name, bytes) in parts {
            let head = format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n");
            body.extend([head.as_bytes(), bytes, b"\r\n"].concat());
        }
        body.extend_from_slice(b"--b--\r\n");
        body
    }

    #[test]
    fn a_dump_comes_out_of_every_wrapping() {
        let check = |wrapped: Vec<u8>| {
            assert_eq!(unwrap(wrapped, BOUNDS).expect("unwrapped"), DUMP);
        };
        check(DUMP.to_vec());
        check(gzip(DUMP));
        check(zstd::encode_all(DUMP, 1).expect("memory"));
        check(symbols_xz(DUMP));
        let mut packer = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        packer.write_all(DUMP).expect("memory");
        check(packer.finish().expect("memory"));
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let options = zip::write::SimpleFileOptions::default();
        zip.add_directory("a/", options).expect("memory");
        zip.start_file("a/x.dmp", options).expect("memory");
        zip.write_all(DUMP).expect("memory");
        check(zip.finish().expect("memory").into_inner());
        check(form(&[("prod", b"App"), ("upload_file_minidump", DUMP)]));
        check(form(&[("x", b""), ("minidump", DUMP), ("log", b"text")]));
        check(gzip(&form(&[("upload_file_minidump", &gzip(DUMP))])));
        let cut = form(&[("upload_file_minidump", DUMP)]);
        let end = cut.len() - b"\r\n--b--\r\n".len();
        check(cut[..end].to_vec());
    }

    fn symbols_xz(bytes: &[u8]) -> Vec<u8> {
        let mut packer = liblzma::write::XzEncoder::new(Vec::new(), 1);
        packer.write_all(bytes).expect("memory");
        packer.finish().expect("memory")
    }

    #[test]
    fn what_grows_too_much_or_is_damaged_is_refused_with_a_sentence() {
        let zeros = vec![0; 2 << 20];
        let bzip2 = {
            let mut packer = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
            packer.write_all(&zeros).expect("memory");
            packer.finish().expect("memory")
        };
        for bomb in [
            gzip(&zeros),
            symbols_xz(&zeros),
            bzip2,
            zstd::encode_all(&zeros[..], 1).expect("memory"),
        ] {
            let error = unwrap(bomb, BOUNDS).expect_err("too large");
            assert_eq!(error.status, "BadPacking");
            assert!(
                error.sentence.contains("larger than 1048576 bytes"),
                "{}",
                error.sentence
            );
        }
        let mut damaged = gzip(DUMP);
        damaged.truncate(15);
        assert!(unwrap(damaged, BOUNDS).is_err());
        let layers = (0..6).fold(DUMP.to_vec(), |bytes, _| gzip(&bytes));
        let left = unwrap(layers, BOUNDS).expect("some layers");
        assert!(left.starts_with(b"\x1f\x8b"), "a bound on the layers");
    }
}
