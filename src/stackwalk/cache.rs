//! Open mapped symbol files, shared by all walks of a process and limited in bytes and number.
//!
//! A dump looks up the symbols of a module once, because its [`Provider`](super::provider) remembers the
//! result. The cache then checks the folders again, so symbols that arrived since the last dump are found.
//! Only files that were found are kept. A miss costs only a few `stat` calls, and a remembered miss would
//! hide late symbols as long as the process lives.
//!
//! An entry is used only while the text still has the length and modification time from which the mapped file
//! was made, so a replaced symbol file is opened again. An entry that is known to be damaged is not used
//! either.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::symbols::mapped::{Check, Mapped, MappedDir, Stamp};
use crate::symbols::{SymbolDirs, SymbolFile};
use parking_lot::{Mutex, MutexGuard};

/// Mapped symbols kept open between dumps, in bytes.
pub const MAP_BYTES_MAX: u64 = 256 << 20;
/// Number of mapped files kept open between dumps. The system allows a process 65,530 mappings in total.
pub(crate) const MAPS_MAX: u64 = 1024;

/// What to do with a symbol file that has no mapped form.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unmapped {
    /// Convert it in memory. For processes that cannot have it mapped.
    Convert,
    /// Report it as [`Lookup::Unmapped`]. The server converts it before the next try.
    Request,
}

/// The result of a look-up.
#[derive(Clone)]
pub(crate) enum Lookup {
    Found(Arc<Mapped>),
    /// The symbol file is corrupt, so none of it is used.
    Corrupt,
    Missing,
    /// The symbol file has no mapped form yet.
    Unmapped,
}

/// Symbol folders and the open files from them. The least recently used file is closed first.
pub struct SymbolCache {
    dirs: SymbolDirs,
    mapped: Option<PathBuf>,
    bytes_max: u64,
    count_max: u64,
    held_text_bytes_max: u64,
    open_files: Mutex<OpenFiles>,
}

#[derive(Default)]
struct OpenFiles {
    entries: HashMap<PathBuf, Entry>,
    /// Sum of the entries' lengths.
    bytes: u64,
    /// Counts look-ups. The entry with the smallest `used_at` is closed first.
    now: u64,
}

struct Entry {
    symbols: Arc<Mapped>,
    used_at: u64,
}

impl SymbolCache {
    /// `bytes_max` limits what stays open between dumps. A dump in progress keeps the files that it uses, so
    /// a file larger than the limit is still used, but only by that dump.
    pub fn new(dirs: SymbolDirs, bytes_max: u64) -> Self {
        Self {
            dirs,
            mapped: None,
            bytes_max,
            count_max: MAPS_MAX,
            held_text_bytes_max: u64::MAX,
            open_files: Mutex::default(),
        }
    }

    /// Also uses the mapped files below `root`, and keeps at most `count_max` of them open between dumps.
    pub(crate) fn with_mapped(self, root: Option<PathBuf>, count_max: u64) -> Self {
        Self {
            mapped: root,
            count_max,
            ..self
        }
    }

    /// Limits the length of a text that is converted in memory. The conversion needs about twice this length.
    pub(crate) fn with_held_text_bytes_max(self, held_text_bytes_max: u64) -> Self {
        Self {
            held_text_bytes_max,
            ..self
        }
    }

    /// Whether there are any folders. If not, no module's symbols are reported as missing.
    pub(super) fn can_look(&self) -> bool {
        !self.dirs.is_empty()
    }

    /// The debug id of the module of a program; see [`SymbolDirs::debug_id_of_program`].
    pub(crate) fn debug_id_of(&self, file: &str, code_id: &str) -> Option<String> {
        self.dirs.debug_id_of_program(file, code_id)
    }

    /// The symbols of a module by debug file (a name or a whole path) and Breakpad debug id.
    pub(crate) fn find(&self, debug_file: &str, debug_id: &str, unmapped: Unmapped) -> Lookup {
        let Some((text, metadata)) = self.dirs.find_with_metadata(debug_file, debug_id) else {
            return Lookup::Missing;
        };
        let mapped = (self.mapped.as_deref())
            .and_then(|root| MappedDir::path_in(root, debug_file, debug_id));
        self.load(&text, Stamp::of(&metadata), mapped.as_deref(), unmapped)
            .unwrap_or_else(|error| {
                tracing::warn!(path = %text.path().display(), %error, "symbol file cannot be read");
                Lookup::Missing
            })
    }

    fn load(
        &self,
        text: &SymbolFile,
        stamp: Stamp,
        mapped: Option<&Path>,
        unmapped: Unmapped,
    ) -> io::Result<Lookup> {
        let path = text.path();
        if let Some(symbols) = self.open_files().take_from(&path, stamp) {
            return Ok(lookup_of(symbols));
        }
        let check = match unmapped {
            // If the file can be made again, it is enough to find out about damage during the walk.
            Unmapped::Request => Check::Pieces,
            Unmapped::Convert => Check::Whole,
        };
        let opened = mapped.map(|path| Mapped::open(&File::open(path)?, check));
        let symbols = match opened {
            Some(Ok(symbols)) if symbols.stamp() == stamp => symbols,
            _ if unmapped == Unmapped::Request => return Ok(Lookup::Unmapped),
            _ => self.hold(text)?,
        };
        if let Some(reason) = symbols.corrupt() {
            tracing::warn!(path = %path.display(), reason, "symbol file is corrupt");
        }
        let symbols = Arc::new(symbols);
        if symbols.len() <= self.bytes_max {
            let mut open_files = self.open_files();
            open_files.shrink_to(self.bytes_max - symbols.len(), self.count_max.max(1) - 1);
            open_files.put(&path, symbols.clone());
        }
        Ok(lookup_of(symbols))
    }

    fn hold(&self, text: &SymbolFile) -> io::Result<Mapped> {
        let bytes = text.text_bytes()?;
        if bytes > self.held_text_bytes_max {
            return Err(io::Error::other(format!(
                "it is {} MiB, and could not be mapped; walkers convert up to {} MiB in memory",
                bytes >> 20,
                self.held_text_bytes_max >> 20
            )));
        }
        let text = text.open()?;
        Mapped::from_text(text.reader, text.stamp)
    }

    /// A panic in a walk leaves them consistent, because every change to it is a single step.
    fn open_files(&self) -> MutexGuard<'_, OpenFiles> {
        self.open_files.lock()
    }
}

fn lookup_of(symbols: Arc<Mapped>) -> Lookup {
    match symbols.corrupt() {
        None => Lookup::Found(symbols),
        Some(_) => Lookup::Corrupt,
    }
}

impl OpenFiles {
    fn take_from(&mut self, path: &Path, stamp: Stamp) -> Option<Arc<Mapped>> {
        self.now += 1;
        let entry = self.entries.get_mut(path)?;
        if entry.symbols.stamp() != stamp || entry.symbols.is_damaged() {
            self.remove(path);
            return None;
        }
        entry.used_at = self.now;
        Some(entry.symbols.clone())
    }

    fn put(&mut self, path: &Path, symbols: Arc<Mapped>) {
        self.remove(path);
        self.bytes += symbols.len();
        let entry = Entry {
            symbols,
            used_at: self.now,
        };
        self.entries.insert(path.to_owned(), entry);
    }

    fn shrink_to(&mut self, bytes_max: u64, count_max: u64) {
        while self.bytes > bytes_max || self.entries.len() as u64 > count_max {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used_at);
            let Some(path) = oldest.map(|(path, _)| path.clone()) else {
                return;
            };
            self.remove(&path);
        }
    }

    fn remove(&mut self, path: &Path) {
        if let Some(entry) = self.entries.remove(path) {
            self.bytes -= entry.symbols.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> String {
        format!("{n:033X}")
    }

    /// A folder with `count` symbol files of at least `bytes` each, named `m0`, `m1` ...
    fn store(count: usize, bytes: usize) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for n in 0..count {
            write(root.path(), n, bytes);
        }
        root
    }

    fn write(root: &Path, n: usize, bytes: usize) {
        let name = "x".repeat(bytes);
        let id = id(n);
        let text = format!("MODULE Linux x86_64 {id} m{n}\nFUNC 10 10 0 {name}\n");
        let folder = root.join(format!("texts/m{n}")).join(id);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("m{n}.sym")), text).unwrap();
    }

    fn texts(root: &tempfile::TempDir) -> SymbolDirs {
        SymbolDirs::new(vec![root.path().join("texts")])
    }

    fn find(cache: &SymbolCache, n: usize) -> Lookup {
        cache.find(&format!("m{n}"), &id(n), Unmapped::Convert)
    }

    fn find_mapped(cache: &SymbolCache, n: usize) -> Lookup {
        cache.find(&format!("m{n}"), &id(n), Unmapped::Request)
    }

    fn same(a: &Lookup, b: &Lookup) -> bool {
        match (a, b) {
            (Lookup::Found(a), Lookup::Found(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    fn cache(root: &tempfile::TempDir, bytes_max: u64) -> SymbolCache {
        SymbolCache::new(texts(root), bytes_max)
            .with_mapped(Some(root.path().join("mapped")), MAPS_MAX)
    }

    fn mapped(root: &tempfile::TempDir) -> MappedDir {
        MappedDir::new(root.path().join("mapped"), root.path().join("incoming"))
    }

    fn convert(root: &tempfile::TempDir, n: usize) {
        let is_there = mapped(root).convert(&texts(root), &format!("m{n}"), &id(n));
        assert!(is_there.unwrap());
    }

    #[test]
    fn a_file_is_opened_once_while_it_stays_the_same() {
        let root = store(1, 0);
        let cache = cache(&root, MAP_BYTES_MAX);
        assert!(matches!(find_mapped(&cache, 0), Lookup::Unmapped));
        convert(&root, 0);
        let first = find_mapped(&cache, 0);
        assert!(same(&first, &find_mapped(&cache, 0)));
        write(root.path(), 0, 20_000);
        assert!(
            matches!(find_mapped(&cache, 0), Lookup::Unmapped),
            "it was replaced"
        );
        convert(&root, 0);
        let second = find_mapped(&cache, 0);
        assert!(matches!(second, Lookup::Found(_)));
        assert!(!same(&first, &second), "a replaced file is read again");
    }

    #[test]
    fn the_least_recently_used_file_leaves_first_and_the_bounds_hold() {
        let root = store(3, 10_000);
        for by_count in [false, true] {
            let cache = if by_count {
                SymbolCache::new(texts(&root), MAP_BYTES_MAX).with_mapped(None, 2)
            } else {
                cache(&root, 25_000)
            };
            let (zero, one) = (find(&cache, 0), find(&cache, 1));
            assert!(same(&zero, &find(&cache, 0)));
            find(&cache, 2);
            assert!(cache.open_files().bytes <= 25_000);
            assert_eq!(cache.open_files().entries.len(), 2);
            assert!(same(&zero, &find(&cache, 0)));
            assert!(!same(&one, &find(&cache, 1)));
        }
    }

    #[test]
    fn a_file_larger_than_the_cache_is_used_but_not_kept() {
        let root = store(1, 10_000);
        let cache = cache(&root, 5_000);
        assert!(matches!(find(&cache, 0), Lookup::Found(_)));
        assert_eq!(cache.open_files().bytes, 0);
    }

    #[test]
    fn a_text_too_long_to_be_held_is_used_once_it_is_mapped() {
        let root = store(1, 10_000);
        let cache = cache(&root, MAP_BYTES_MAX).with_held_text_bytes_max(9_999);
        assert!(matches!(find(&cache, 0), Lookup::Missing));
        convert(&root, 0);
        assert!(matches!(find(&cache, 0), Lookup::Found(_)));
    }

    #[test]
    fn missing_symbols_are_not_remembered() {
        let root = store(0, 0);
        let cache = cache(&root, MAP_BYTES_MAX);
        assert!(matches!(find(&cache, 7), Lookup::Missing));
        write(root.path(), 7, 0);
        assert!(matches!(find(&cache, 7), Lookup::Found(_)));
    }

    #[test]
    fn a_corrupt_file_is_known_until_it_is_replaced() {
        let root = store(1, 0);
        let path = root.path().join("texts/m0").join(id(0)).join("m0.sym");
        std::fs::write(&path, "MODULE Linux x86_64 junk\n\0\0\n").unwrap();
        let cache = cache(&root, MAP_BYTES_MAX);
        convert(&root, 0);
        assert!(matches!(find_mapped(&cache, 0), Lookup::Corrupt));
        assert!(matches!(find_mapped(&cache, 0), Lookup::Corrupt));
        write(root.path(), 0, 0);
        convert(&root, 0);
        assert!(matches!(find_mapped(&cache, 0), Lookup::Found(_)));
    }

    #[test]
    fn a_damaged_piece_is_found_when_it_is_read_and_the_file_opened_anew() {
        let root = store(1, 0);
        // More text than fits into one piece, so that there are records in another piece.
        let name = "x".repeat(40_000);
        let id_0 = id(0);
        let mut text = format!("MODULE Linux x86_64 {id_0} m0\n");
        for n in 1..4 {
            text += &format!("FUNC {n}0 10 0 {n}{name}\n");
        }
        let file = root.path().join("texts/m0").join(&id_0).join("m0.sym");
        std::fs::write(file, text).unwrap();
        convert(&root, 0);
        let path = MappedDir::path_in(&root.path().join("mapped"), "m0", &id(0)).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        flipped[30_000] ^= 1;
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, flipped).unwrap();
        let cache = cache(&root, MAP_BYTES_MAX);
        let Lookup::Found(symbols) = find_mapped(&cache, 0) else {
            panic!("its head is whole");
        };
        let function = symbols.function(0x10).unwrap();
        assert!(!symbols.is_damaged());
        assert_eq!(symbols.string(function.name), None);
        assert!(symbols.is_damaged());
        convert(&root, 0);
        assert!(std::fs::read(&path).unwrap() == whole);
        let Lookup::Found(symbols) = find_mapped(&cache, 0) else {
            panic!("it was made again");
        };
        let name = symbols.string(function.name).unwrap();
        assert_eq!(name.len(), 40_001);
    }

    #[test]
    fn a_damaged_mapped_file_is_reported_and_made_again() {
        let root = store(1, 100);
        convert(&root, 0);
        let path = MappedDir::path_in(&root.path().join("mapped"), "m0", &id(0)).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        // A byte of the checksums.
        flipped[whole.len() - 4] ^= 1;
        for damaged in [&flipped[..], &whole[..whole.len() - 1], &whole[..20], b""] {
            // Replaced as a server does it, and not in place.
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, damaged).unwrap();
            let cache = cache(&root, MAP_BYTES_MAX);
            assert!(matches!(find_mapped(&cache, 0), Lookup::Unmapped));
            // A process that cannot have it made again reads the text.
            assert!(matches!(find(&cache, 0), Lookup::Found(_)));
            convert(&root, 0);
            assert!(matches!(find_mapped(&cache, 0), Lookup::Found(_)));
            assert!(std::fs::read(&path).unwrap() == whole);
        }
        assert_eq!(root.path().join("incoming").read_dir().unwrap().count(), 0);
    }
}
