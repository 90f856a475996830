//! Which files a command takes.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Names of the files that are taken from a folder. A file that is given directly may have any name.
pub(super) const ENDINGS: [&str; 14] = [
    ".sym", ".sym.gz", ".sym.zst", ".sym.xz", ".zip", ".tar", ".tar.gz", ".tar.zst", ".tar.xz",
    ".pd_", ".dl_", ".ex_", HALVES[0], HALVES[1],
];
/// The other halves of a program's units, which must arrive in one upload.
pub(super) const HALVES: [&str; 2] = [".dwo", ".dwp"];
/// The first bytes of a file that show whether it is a program or debug file.
const START_BYTES: usize = 20;

/// The files that `paths` name: a file as it is, and of a folder the files that may be symbols.
pub(super) fn files_of(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            gather(path, &mut files)?
        } else {
            files.push(path.clone())
        }
    }
    Ok(files)
}

/// The files below a folder that may be symbols, in order.
fn gather(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let shown = || folder.display().to_string();
    let entries = std::fs::read_dir(folder).with_context(shown)?;
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.with_context(shown)?.path());
    }
    paths.sort();
    for path in paths {
        let name = path.to_string_lossy();
        if path.is_dir() && !path.is_symlink() {
            gather(&path, files)?;
        } else if ENDINGS.iter().any(|ending| name.ends_with(ending)) || is_native(&path) {
            files.push(path);
        }
    }
    Ok(())
}

/// True if a file is a program, a library or a debug file. False for object files and scripts, which are
/// often in the same folder.
fn is_native(path: &Path) -> bool {
    use std::io::Read;
    let mut start = Vec::new();
    let read =
        File::open(path).and_then(|file| file.take(START_BYTES as u64).read_to_end(&mut start));
    if read.is_err() || !path.is_file() {
        return false;
    }
    // Byte 16 of an ELF file is its type: a program or library (2, 3), or not linked yet (1).
    let is_elf = start.starts_with(b"\x7fELF") && matches!(start.get(16), Some(2 | 3));
    let is_other = [
        &b"Microsoft C/C++ MSF"[..],
        b"MZ",
        b"\xcf\xfa\xed\xfe",
        b"\xce\xfa\xed\xfe",
    ];
    is_elf || is_other.iter().any(|magic| start.starts_with(magic)) || is_fat(&start)
}

/// True if a file is a fat Mach-O. A Java class begins with the same bytes. It has a version of 45 or more
/// where the fat Mach-O has its number of programs.
fn is_fat(start: &[u8]) -> bool {
    start.starts_with(b"\xca\xfe\xba\xbe")
        && start.get(4..8).is_some_and(|n| n < &[0, 0, 0, 40][..])
}
