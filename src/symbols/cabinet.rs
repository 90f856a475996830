//! Cabinets, in which Microsoft's tools compress the files of a symbol server.
//!
//! The crate that reads them panics on some damaged ones. So a cabinet becomes a tar in the converter's child
//! process, and the server reads the tar.

use std::io::{self, Cursor, Read, Write};

/// Limit of files in a cabinet. Symbol servers have one in each. To read one, everything before it is decompressed.
const FILES_MAX: usize = 16;

/// Writes the files of a cabinet as a tar. They may have at most `bytes_max` bytes together.
///
/// # Errors
/// A sentence for the sender.
pub fn to_tar(cabinet: &[u8], bytes_max: u64, out: &mut impl Write) -> Result<(), String> {
    let failed = |error: io::Error| format!("the cabinet cannot be read: {error}");
    let mut cabinet = cab::Cabinet::new(Cursor::new(cabinet)).map_err(failed)?;
    let entries = cabinet
        .folder_entries()
        .flat_map(|folder| folder.file_entries());
    let files: Vec<(String, u64)> = entries
        .map(|entry| (entry.name().to_owned(), entry.uncompressed_size().into()))
        .take(FILES_MAX + 1)
        .collect();
    if files.len() > FILES_MAX {
        return Err(format!(
            "the cabinet has more than {FILES_MAX} files; unpack it and send the files, or send them as a zip or tar"
        ));
    }
    let bytes: u64 = files.iter().map(|(_, bytes)| bytes).sum();
    if bytes > bytes_max {
        return Err(format!(
            "the files in the cabinet have {bytes} bytes, more than the {bytes_max} that may be unpacked from a file of this size"
        ));
    }
    let mut tar = tar::Builder::new(out);
    for (number, (name, bytes)) in files.iter().enumerate() {
        let mut header = tar::Header::new_gnu();
        header.set_size(*bytes);
        header.set_mode(0o644);
        // Only for display, but the crate for tars refuses names with `..` and absolute ones.
        let leaf =
            super::checked_leaf(name).map_or_else(|| format!("file-{number}"), str::to_owned);
        let content = cabinet.read_file(name).map_err(failed)?;
        // If the cabinet has fewer bytes than it says, everything after them would be garbage.
        let content = content.take(*bytes).chain(Missing);
        tar.append_data(&mut header, leaf, content.take(*bytes))
            .map_err(failed)?;
    }
    tar.finish().map_err(failed)
}

/// What follows a file that is too short.
struct Missing;

impl Read for Missing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cabinet with these files.
    fn cabinet(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = cab::CabinetBuilder::new();
        let folder = builder.add_folder(cab::CompressionType::MsZip);
        for (name, _) in files {
            folder.add_file(*name);
        }
        let mut writer = builder.build(Cursor::new(Vec::new())).expect("a cabinet");
        let mut contents = files.iter();
        while let Some(mut file) = writer.next_file().expect("a file") {
            let (_, content) = contents.next().expect("as many");
            file.write_all(content).expect("written");
        }
        writer.finish().expect("a cabinet").into_inner()
    }

    fn unpacked(cabinet: &[u8]) -> Result<Vec<(String, Vec<u8>)>, String> {
        let mut out = Vec::new();
        to_tar(cabinet, 1 << 20, &mut out)?;
        let mut archive = tar::Archive::new(&out[..]);
        let mut files = Vec::new();
        for entry in archive.entries().expect("a tar") {
            let mut entry = entry.expect("an entry");
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("readable");
            let name = entry.path().expect("a name").display().to_string();
            files.push((name, content));
        }
        Ok(files)
    }

    #[test]
    fn files_keep_their_content_and_lose_their_folders() {
        let long = b"MODULE a b c d\n".repeat(10_000);
        let made = cabinet(&[("..\\..\\a.pdb", &long), ("/etc/b.sym", b"x"), ("..", b"y")]);
        let files = unpacked(&made).expect("a cabinet");
        let expected = [("a.pdb", &long[..]), ("b.sym", b"x"), ("file-2", b"y")];
        let expected = expected.map(|(name, content)| (name.to_owned(), content.to_vec()));
        assert_eq!(files, expected);
    }

    #[test]
    fn a_cabinet_of_many_files_or_of_half_a_file_is_refused() {
        let many = vec![("a", &b"x"[..]); FILES_MAX + 1];
        let why = unpacked(&cabinet(&many)).expect_err("too many");
        assert!(why.contains("more than 16 files"), "{why}");
        let bomb = cabinet(&[("a", &vec![0; 1 << 20]), ("b", b"x")]);
        assert!(bomb.len() < 10_000, "{}", bomb.len());
        let why = unpacked(&bomb).expect_err("too large");
        assert!(
            why.contains("1048577 bytes, more than the 1048576"),
            "{why}"
        );
        let good = cabinet(&[("a", &b"x".repeat(70_000)[..])]);
        assert!(unpacked(&good[..good.len() - 20]).is_err());
        assert!(unpacked(b"MSCF").is_err() && unpacked(b"").is_err());
    }
}
