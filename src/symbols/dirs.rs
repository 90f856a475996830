//! Folders in which the symbol file of a module is looked up. There are symbol stores, where the module's folder is
//! `<DEBUGID>`, and Breakpad folders, which have the layout of a symbol server:
//! `<debug file>/<DEBUGID>/<debug file without .pdb>.sym`.
//!
//! The names come from dumps, and a dump is hostile input. Every part is reduced to a single path component
//! or refused, so no look-up can leave its folders.

use std::fs::{File, Metadata};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::file::{DESCRIPTION, SymbolFile};
use crate::crash::symbols::DEBUG_ID_DIGITS;

/// Length of a code id in text: at least 9 for a Windows program, 40 for a usual build id, and up to 64.
const CODE_ID_DIGITS: std::ops::RangeInclusive<usize> = 9..=64;
/// Length of the code id of a Windows program: 8 digits of time, and 1 to 8 of size.
const PROGRAM_ID_DIGITS: std::ops::RangeInclusive<usize> = 9..=16;
/// Limit of bytes of a list of debug ids.
const CODE_BYTES_MAX: u64 = 64 * 1024;

/// An ordered list of symbol folders. The first folder that has a file wins.
///
/// Each look-up reads the folders again, so symbols that arrive late are found.
#[derive(Debug, Clone, Default)]
pub struct SymbolDirs {
    dirs: Vec<PathBuf>,
}

impl SymbolDirs {
    pub fn new(dirs: Vec<PathBuf>) -> Self {
        Self { dirs }
    }

    /// Whether there is no folder.
    pub(crate) fn is_empty(&self) -> bool {
        self.dirs.is_empty()
    }

    /// Finds the symbol file of a module. Returns `None` if no folder has it or the names are unusable.
    ///
    /// `debug_file` may be a whole path in Windows or Unix style; only its last component is used. In a symbol store
    /// the name is not used at all: an id names one build, and programs that were stripped, renamed or linked
    /// to have many names. `debug_id` is the Breakpad form, 33 to 40 hex digits. In a Breakpad folder it is
    /// compared as written.
    pub(crate) fn find(&self, debug_file: &str, debug_id: &str) -> Option<SymbolFile> {
        let (file, _) = self.find_with_metadata(debug_file, debug_id)?;
        Some(file)
    }

    /// The same, with [`SymbolFile::metadata`]. A walk needs both for each module.
    pub(crate) fn find_with_metadata(
        &self,
        debug_file: &str,
        debug_id: &str,
    ) -> Option<(SymbolFile, Metadata)> {
        let file = symbol_file_name(checked_leaf(debug_file)?);
        self.dirs.iter().find_map(|dir| {
            let folder = folder_of_id(dir, debug_id)?;
            if let Some(metadata) = file_below(dir, &folder.join(DESCRIPTION)) {
                return Some((SymbolFile::Stored(folder), metadata));
            }
            let plain = module_folder(dir, debug_file, debug_id)?.join(&file);
            let metadata = file_below(dir, &plain)?;
            Some((SymbolFile::Plain(plain), metadata))
        })
    }

    /// The same, but `id` may also be the code id of a program if the dump has no record of its debug file.
    pub(crate) fn find_by_either_id(&self, file: &str, id: &str) -> Option<SymbolFile> {
        match checked_id(id) {
            Some(debug_id) => self.find(file, debug_id),
            None => self.find(file, &self.debug_id_of_program(file, id)?),
        }
    }

    /// The debug id of the module of the program `file`. Programs without a build time in their header (Go) have
    /// the code id of every program of the same size, so the one with this name is preferred.
    pub(crate) fn debug_id_of_program(&self, file: &str, code_id: &str) -> Option<String> {
        let named = debug_id_of_code(code_id, file).filter(|id| {
            let folders = self
                .dirs
                .iter()
                .filter_map(|dir| Some((dir, folder_of_id(dir, id)?)));
            let mut found =
                folders.filter_map(|(dir, folder)| file_below(dir, &folder.join(DESCRIPTION)));
            found.next().is_some()
        });
        named.or_else(|| self.debug_id_of(code_id))
    }

    /// The debug id of a program's module. It is needed if only the program is known, because a dump may lack
    /// the record that names the debug file. Only symbol stores have this information.
    pub(crate) fn debug_id_of(&self, code_id: &str) -> Option<String> {
        self.dirs.iter().find_map(|dir| {
            let path = code_path(dir, code_id)?;
            file_below(dir, &path)?;
            let list = File::open(path).ok()?;
            let mut ids = String::new();
            list.take(CODE_BYTES_MAX).read_to_string(&mut ids).ok()?;
            let is_there = |id: &&str| {
                let folder = folder_of_id(dir, id);
                folder.is_some_and(|f| file_below(dir, &f.join(DESCRIPTION)).is_some())
            };
            ids.lines().find(is_there).map(str::to_owned)
        })
    }
}

/// The file with the debug ids of a program's modules, one per line.
pub(super) fn code_path(root: &Path, code_id: &str) -> Option<PathBuf> {
    let is_usable = CODE_ID_DIGITS.contains(&code_id.len())
        && code_id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_usable.then(|| root.join("by-code-id").join(code_id.to_ascii_lowercase()))
}

/// The debug id of a Windows program that has none, because its linker wrote no CodeView record (MinGW, Go, Wine):
/// its code id, which is the time of the build and the size of the image, filled up with zeros. Without a time,
/// programs of one size would be one module, so the id ends with a hash of the name.
pub(crate) fn debug_id_of_code(code_id: &str, file: &str) -> Option<String> {
    let is_usable = PROGRAM_ID_DIGITS.contains(&code_id.len())
        && code_id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let has_time = !code_id.starts_with("00000000");
    let name = match checked_leaf(file).unwrap_or_default().to_ascii_lowercase() {
        _ if has_time => 0,
        name => xxhash_rust::xxh3::xxh3_64(name.as_bytes()) as u32,
    };
    is_usable.then(|| format!("{:0<24}{name:08X}0", code_id.to_ascii_uppercase()))
}

/// The metadata of a file below `root`; `None` if it is not a file, or if its path contains a link below
/// `root`. A link may lead anywhere, and the server sends these files to clients. The root itself may be a
/// link.
fn file_below(root: &Path, path: &Path) -> Option<Metadata> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    let folders = path
        .ancestors()
        .skip(1)
        .take_while(|folder| *folder != root);
    let is_plain = |folder: &Path| std::fs::symlink_metadata(folder).is_ok_and(|it| it.is_dir());
    (metadata.is_file() && folders.into_iter().all(is_plain)).then_some(metadata)
}

/// The folder of a module in the symbol store `root`.
pub(super) fn folder_of_id(root: &Path, debug_id: &str) -> Option<PathBuf> {
    Some(root.join(checked_id(debug_id)?.to_ascii_uppercase()))
}

/// The folder of a module below `root`; `None` if its names are unusable.
pub(super) fn module_folder(root: &Path, debug_file: &str, debug_id: &str) -> Option<PathBuf> {
    let (leaf, id) = (checked_leaf(debug_file)?, checked_id(debug_id)?);
    Some(root.join(leaf).join(id))
}

/// The last component of a path in either style, if it can be a file name.
pub(crate) fn checked_leaf(path: &str) -> Option<&str> {
    let leaf = path.rsplit(['/', '\\']).next()?;
    // No separator is left. But `..` and `.` would still change or keep the folder, NUL ends a C string
    // early, and on Windows a colon names a drive or an alternate stream.
    let is_usable = !leaf.is_empty()
        && leaf != "."
        && leaf != ".."
        && !leaf.contains('\0')
        && !(cfg!(windows) && leaf.contains(':'));
    is_usable.then_some(leaf)
}

pub(super) fn checked_id(id: &str) -> Option<&str> {
    let is_usable =
        DEBUG_ID_DIGITS.contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_usable.then_some(id)
}

/// `app.pdb` -> `app.sym`, `libc.so.6` -> `libc.so.6.sym`: only `.pdb` is replaced, in any case.
pub(crate) fn symbol_file_name(leaf: &str) -> String {
    let stem = match leaf.rsplit_once('.') {
        Some((stem, extension)) if extension.eq_ignore_ascii_case("pdb") => stem,
        _ => leaf,
    };
    format!("{stem}.sym")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "5A9832E5287241C1838ED98914E9B7FF1";

    fn store_with(parts: [&str; 3]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("symbols").join(parts[0]).join(parts[1]);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(parts[2]), "MODULE").unwrap();
        std::fs::write(root.path().join("secret.sym"), "MODULE").unwrap();
        root
    }

    #[test]
    fn a_pdb_loses_its_extension_and_other_names_keep_theirs() {
        for (leaf, expected) in [
            ("test_app.pdb", "test_app.sym"),
            ("TEST.PDB", "TEST.sym"),
            ("libc.so.6", "libc.so.6.sym"),
            ("acmed", "acmed.sym"),
            (".pdb", ".sym"),
            ("pdb", "pdb.sym"),
        ] {
            assert_eq!(symbol_file_name(leaf), expected, "{leaf}");
        }
    }

    #[test]
    fn a_program_without_a_debug_id_has_one_from_its_code_id() {
        let of = |code_id, file| debug_id_of_code(code_id, file);
        let id = of("6b0c541e74000", "wd.exe").expect("an id");
        assert_eq!(
            id,
            "6B0C541E74000000000000000000000000"
                .split_at(32)
                .0
                .to_owned()
                + "0"
        );
        assert_eq!(checked_id(&id), Some(id.as_str()));
        assert_eq!(of("6b0c541e74000", "renamed.exe"), Some(id));
        let go = |file| of("000000005000", file).expect("an id");
        assert_eq!(go("c:\\a\\Tool.exe"), go("tool.exe"));
        assert_ne!(go("tool.exe"), go("other.exe"));
        for bad in ["", "12345678", "6b0c541e740000000", "6b0c541e7400x"] {
            assert_eq!(of(bad, "a"), None, "{bad}");
        }
    }

    #[test]
    fn a_module_is_found_by_the_leaf_of_its_debug_file() {
        let root = store_with(["app.pdb", ID, "app.sym"]);
        let dirs = SymbolDirs::new(vec![
            root.path().join("no such folder"),
            root.path().join("symbols"),
        ]);
        for name in ["app.pdb", "c:\\build\\app.pdb", "/build/app.pdb"] {
            assert!(dirs.find(name, ID).is_some(), "{name}");
        }
        assert_eq!(dirs.find("other.pdb", ID), None);
    }

    #[test]
    fn no_name_from_a_dump_leaves_the_symbol_folder() {
        let root = store_with(["app.pdb", ID, "app.sym"]);
        let dirs = SymbolDirs::new(vec![root.path().join("symbols")]);
        for name in [
            "",
            "/",
            "\\",
            ".",
            "..",
            "a/..",
            "a\\..",
            "app.pdb\0",
            "app.pdb/",
        ] {
            assert_eq!(dirs.find(name, ID), None, "{name:?}");
        }
        let long = "0".repeat(41);
        for id in [
            "",
            "..",
            "../../../secret",
            "5A9832E5287241C1838ED98914E9B7F/1",
            "5A9832E5287241C1838ED98914E9B7F\\1",
            "5A9832E5287241C1838ED98914E9B7FG1",
            "5A9832E5287241C1838ED98914E9B7F1",
            &long,
        ] {
            assert_eq!(dirs.find("app.pdb", id), None, "{id:?}");
        }
    }

    #[test]
    #[cfg(unix)]
    fn links_below_a_symbol_folder_lead_nowhere() {
        use std::os::unix::fs::symlink;
        let root = store_with(["app.pdb", ID, "app.sym"]);
        let symbols = root.path().join("symbols");
        let secret = root.path().join("secret.sym");
        std::fs::create_dir_all(symbols.join("file.pdb").join(ID)).unwrap();
        symlink(&secret, symbols.join("file.pdb").join(ID).join("file.sym")).unwrap();
        symlink(symbols.join("app.pdb"), symbols.join("folder.pdb")).unwrap();
        symlink(symbols.join("app.pdb").join(ID), symbols.join(ID)).unwrap();
        std::fs::write(symbols.join("app.pdb").join(ID).join(DESCRIPTION), "{}").unwrap();
        std::fs::write(symbols.join("app.pdb").join(ID).join("folder.sym"), "M").unwrap();
        let dirs = SymbolDirs::new(vec![symbols.clone()]);
        assert_eq!(dirs.find("file.pdb", ID), None, "a file");
        assert_eq!(dirs.find("folder.pdb", ID), None, "a folder");
        assert!(dirs.find("app.pdb", ID).is_some());
        // If the configuration names a link, it means the target of the link.
        symlink(&symbols, root.path().join("other")).unwrap();
        let dirs = SymbolDirs::new(vec![root.path().join("other")]);
        assert!(dirs.find("app.pdb", ID).is_some());
    }

    #[test]
    fn symbols_that_arrive_late_are_seen() {
        let root = store_with(["app.pdb", ID, "app.sym"]);
        let dirs = SymbolDirs::new(vec![root.path().join("late"), root.path().join("symbols")]);
        let first = dirs.find("app.pdb", ID).unwrap();
        let late = root.path().join("late").join("app.pdb").join(ID);
        std::fs::create_dir_all(&late).unwrap();
        std::fs::write(late.join("app.sym"), "MODULE").unwrap();
        let second = dirs.find("app.pdb", ID).unwrap();
        assert_ne!(first, second);
        assert!(second.path().starts_with(root.path().join("late")));
    }
}
