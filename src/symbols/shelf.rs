//! The one place that puts symbol files on disk, and answers what is there.
//!
//! A file is checked ([`super::check`]) into a temporary file, made durable, and then gets its
//! name in one step: `<debug file>/<DEBUGID>/<file>.sym`, from its own `MODULE` line. Whoever
//! looks meanwhile, and whatever is killed, sees a whole file or none.
//!
//! A build has one debug id. A second content for it is somebody's mistake, and nobody here can
//! tell whose: the first stays in use, the other is kept beside it under a name with its hash.

use std::fs::{self, File};
use std::io::{self, BufRead, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzEncoder;
use sha2::{Digest, Sha256};

use super::breakpad::{checked_leaf, symbol_file_name};
use super::check::{self, Checked, ModuleLine, Refused};

/// What is to become of a file whose debug id is taken by another content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    KeepFirst,
    /// The new one is used from now on, and the first kept beside.
    Replace,
}

/// What became of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placed {
    New,
    /// The very same content was there.
    Same,
    /// Another content is in use; this one is kept beside it, under this name.
    Beside(String),
    /// This one is in use; the one before is kept beside it, under this name.
    Replaced(String),
}

/// A file that was taken.
#[derive(Debug)]
pub struct Taken {
    pub module: ModuleLine,
    /// Below the folder of symbols: `<debug file>/<DEBUGID>/<file>.sym`.
    pub place: String,
    pub bytes: u64,
    pub notes: Vec<String>,
    pub placed: Placed,
}

/// A file that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub debug_file: String,
    pub debug_id: String,
    pub bytes: u64,
    /// Other contents of the same debug id.
    pub beside: u64,
}

#[derive(Clone, Debug)]
pub struct Shelf {
    root: PathBuf,
    /// For files on their way in; on the same disk.
    incoming: PathBuf,
}

/// An open symbol file.
pub struct Found {
    file: File,
    pub bytes: u64,
}

impl Found {
    pub fn plain(self) -> Box<dyn Read + Send> {
        Box::new(self.file)
    }

    pub fn gzipped(self) -> Box<dyn Read + Send> {
        Box::new(GzEncoder::new(self.file, Compression::fast()))
    }
}

impl Shelf {
    /// Over the folder `root`, with `incoming` for what is under way. Both must exist before
    /// anything is taken.
    pub fn new(root: PathBuf, incoming: PathBuf) -> Self {
        Self { root, incoming }
    }

    /// Where a body can lie that is on its way in. It has no name, so it is gone with its process.
    pub fn incoming_file(&self) -> io::Result<File> {
        tempfile::tempfile_in(&self.incoming)
    }

    /// Checks a symbol file and puts it in its place. Returns when it is durable.
    pub fn take(&self, input: &mut impl BufRead, conflict: Conflict) -> Result<Taken, Refused> {
        let mut temporary =
            tempfile::NamedTempFile::new_in(&self.incoming).map_err(Refused::Storage)?;
        let mut output = BufWriter::with_capacity(256 * 1024, temporary.as_file_mut());
        let checked = check::check(input, &mut output)?;
        output.flush().map_err(Refused::Storage)?;
        drop(output);
        self.place(temporary, checked, conflict)
            .map_err(Refused::Storage)
    }

    fn place(
        &self,
        temporary: tempfile::NamedTempFile,
        checked: Checked,
        conflict: Conflict,
    ) -> io::Result<Taken> {
        temporary.as_file().sync_all()?;
        let module = checked.module;
        let name = symbol_file_name(&module.debug_file);
        let by_name = self.root.join(&module.debug_file);
        let folder = by_name.join(&module.debug_id);
        fs::create_dir_all(&folder)?;
        let path = folder.join(&name);
        let beside = |sha256: &[u8]| format!("{name}.{}", hex(&sha256[..6]));
        let placed = match temporary.persist_noclobber(&path) {
            Ok(_) => Placed::New,
            Err(failed) if failed.error.kind() == io::ErrorKind::AlreadyExists => {
                let old = hash_of(&path)?;
                if old[..] == checked.sha256 {
                    Placed::Same
                } else if conflict == Conflict::KeepFirst {
                    let other = beside(&checked.sha256);
                    failed.file.persist(folder.join(&other))?;
                    Placed::Beside(other)
                } else {
                    let other = beside(&old);
                    match fs::hard_link(&path, folder.join(&other)) {
                        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                            return Err(error);
                        }
                        _ => failed.file.persist(&path)?,
                    };
                    Placed::Replaced(other)
                }
            }
            Err(failed) => return Err(failed.error),
        };
        // The folders may be new, too.
        for folder in [&folder, &by_name, &self.root] {
            File::open(folder)?.sync_all()?;
        }
        let mut notes = checked.notes;
        match &placed {
            Placed::New | Placed::Same => {}
            Placed::Beside(other) => notes.push(format!(
                "another content of this debug id is in use; this one is kept beside it as {other}; send it again with replace (?replace=1, --replace) to put it in use"
            )),
            Placed::Replaced(other) => notes.push(format!(
                "the content used before is kept beside it as {other}"
            )),
        }
        Ok(Taken {
            place: format!("{}/{}/{name}", module.debug_file, module.debug_id),
            module,
            bytes: checked.bytes,
            notes,
            placed,
        })
    }

    /// Opens the symbol file in use for a module, whose debug id may be in any case.
    pub fn open(&self, debug_file: &str, debug_id: &str) -> Option<Found> {
        let leaf = checked_leaf(debug_file)?;
        let id = check::debug_id(debug_id).ok()?;
        let path = self.root.join(leaf).join(id).join(symbol_file_name(leaf));
        let file = File::open(path).ok()?;
        let metadata = file.metadata().ok()?;
        metadata.is_file().then_some(Found {
            file,
            bytes: metadata.len(),
        })
    }

    /// Whether `file` is what the symbol file of a module is called.
    pub fn is_name_of(file: &str, debug_file: &str) -> bool {
        checked_leaf(debug_file).is_some_and(|leaf| symbol_file_name(leaf) == file)
    }

    /// Everything that is there, by name and id. What lies there by other means counts where the
    /// look-up of a walk would find it.
    pub fn list(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for debug_file in folder_names(&self.root)? {
            let name = symbol_file_name(&debug_file);
            let folder = self.root.join(&debug_file);
            for debug_id in folder_names(&folder)? {
                let Ok(metadata) = fs::metadata(folder.join(&debug_id).join(&name)) else {
                    continue;
                };
                let files = fs::read_dir(folder.join(&debug_id))?;
                let others = files.flatten().filter(|entry| {
                    let file = entry.file_name();
                    let rest = file.to_str().and_then(|file| file.strip_prefix(&name));
                    rest.is_some_and(|rest| rest.starts_with('.'))
                });
                entries.push(Entry {
                    beside: others.count() as u64,
                    bytes: metadata.len(),
                    debug_file: debug_file.clone(),
                    debug_id,
                });
            }
        }
        Ok(entries)
    }
}

/// Names of the folders in a folder, sorted; none where there is none.
fn folder_names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.path().is_dir()
            && let Ok(name) = entry.file_name().into_string()
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn hash_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut hash = Sha256::new();
    io::copy(&mut File::open(path)?, &mut hash)?;
    Ok(hash.finalize().to_vec())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "5A9832E5287241C1838ED98914E9B7FF1";

    fn shelf() -> (tempfile::TempDir, Shelf) {
        let root = tempfile::tempdir().expect("a folder");
        let shelf = Shelf::new(root.path().join("symbols"), root.path().join("incoming"));
        for folder in [&shelf.root, &shelf.incoming] {
            fs::create_dir(folder).expect("a folder");
        }
        (root, shelf)
    }

    fn text(function: &str) -> String {
        format!("MODULE windows x86 {ID} app.pdb\nPUBLIC 10 0 {function}\n")
    }

    fn take(shelf: &Shelf, function: &str, conflict: Conflict) -> Placed {
        let taken = shelf.take(&mut text(function).as_bytes(), conflict);
        taken.expect("a good file").placed
    }

    fn stored(shelf: &Shelf) -> String {
        let mut stored = String::new();
        let found = shelf.open("app.pdb", &ID.to_lowercase()).expect("there");
        found.plain().read_to_string(&mut stored).expect("readable");
        stored
    }

    #[test]
    fn the_first_content_stays_until_somebody_replaces_it() {
        let (_root, shelf) = shelf();
        assert!(shelf.open("app.pdb", ID).is_none());
        assert_eq!(take(&shelf, "first", Conflict::KeepFirst), Placed::New);
        assert_eq!(take(&shelf, "first", Conflict::Replace), Placed::Same);
        let other = take(&shelf, "second", Conflict::KeepFirst);
        assert!(matches!(&other, Placed::Beside(name) if name.starts_with("app.sym.")));
        assert_eq!(stored(&shelf), text("first"));
        let replaced = take(&shelf, "second", Conflict::Replace);
        assert!(matches!(replaced, Placed::Replaced(_)), "{replaced:?}");
        assert_eq!(stored(&shelf), text("second"));
        let list = shelf.list().expect("a list");
        assert_eq!(list.len(), 1);
        assert_eq!((list[0].debug_id.as_str(), list[0].beside), (ID, 2));
        let left = fs::read_dir(&shelf.incoming).expect("a folder").count();
        assert_eq!(left, 0, "nothing stays on its way");
    }

    #[test]
    fn a_refused_file_leaves_nothing() {
        let (_root, shelf) = shelf();
        let refused = shelf.take(&mut &b"PUBLIC 10 0 f\n"[..], Conflict::KeepFirst);
        assert!(matches!(refused, Err(Refused::Bad(_))));
        for folder in [&shelf.root, &shelf.incoming] {
            assert_eq!(fs::read_dir(folder).expect("a folder").count(), 0);
        }
    }
}
