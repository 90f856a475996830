//! Parsed symbol files, shared by all walks of a process and bounded in bytes.
//!
//! A dump asks for a module's symbols once (its [`Provider`](super::provider) remembers the
//! answer); the cache then looks at the folders anew, so symbols that arrived since the last dump
//! are found. Only what was found is kept: a miss costs a few `stat` calls, and a remembered miss
//! would hide late symbols for ever.
//!
//! An entry is used only while the file's length and modification time are those it was parsed
//! from, so a symbol file that was replaced is read again.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use minidump::Module;
use minidump_unwind::{FrameSymbolizer, FrameWalker, SymbolError, SymbolFile};

use crate::symbols::SymbolDirs;

/// Symbol text kept parsed between dumps, in bytes of text; the heap it takes is 2.2 times that.
pub const SYMBOL_TEXT_BYTES_MAX: u64 = 128 << 20;

/// What an entry counts at least, so that a million tiny or corrupt files are bounded too.
const ENTRY_BYTES_MIN: u64 = 4096;

/// What the symbols of one module can do for a walk: exactly this, whatever their form on disk.
pub trait ModuleSymbols: Send + Sync {
    /// Names the frame's instruction: function, source line, and inlined calls from the outermost
    /// inwards. Sets nothing if the address lies in no function, which makes the stack scanner
    /// reject it as a return address.
    fn fill_symbol(&self, module: &dyn Module, frame: &mut dyn FrameSymbolizer);

    /// Finds the caller's registers by unwind rules, or `None` where there are none.
    ///
    /// Must bracket the evaluation of a CFI rule by `set_cfi_rules_start_address`: the address
    /// where the rule's range begins before it, `None` after it. Without that the unwinder trusts
    /// a guessed link register on ARM64 and invents frames.
    fn walk_frame(&self, module: &dyn Module, walker: &mut dyn FrameWalker) -> Option<()>;
}

impl ModuleSymbols for SymbolFile {
    fn fill_symbol(&self, module: &dyn Module, frame: &mut dyn FrameSymbolizer) {
        SymbolFile::fill_symbol(self, module, frame);
    }

    fn walk_frame(&self, module: &dyn Module, walker: &mut dyn FrameWalker) -> Option<()> {
        SymbolFile::walk_frame(self, module, walker)
    }
}

/// What a look-up found.
#[derive(Clone)]
pub enum Lookup {
    Found(Arc<dyn ModuleSymbols>),
    /// There is a file, but one of its lines makes no sense: none of it is used.
    Corrupt,
    Missing,
}

/// Symbol folders and what was parsed of them, least recently used out first.
pub struct SymbolCache {
    dirs: SymbolDirs,
    text_bytes_max: u64,
    shelf: Mutex<Shelf>,
}

#[derive(Default)]
struct Shelf {
    entries: HashMap<PathBuf, Entry>,
    /// Sum of the entries' `bytes`.
    bytes: u64,
    /// Counts look-ups; the entry with the smallest `used_at` is the first to go.
    now: u64,
}

struct Entry {
    stamp: Stamp,
    /// `None`: the file is corrupt.
    symbols: Option<Arc<dyn ModuleSymbols>>,
    bytes: u64,
    used_at: u64,
}

/// Tells one content of a path from the next.
#[derive(Clone, Copy, PartialEq)]
struct Stamp {
    bytes: u64,
    modified: Option<SystemTime>,
}

impl SymbolCache {
    /// `text_bytes_max` bounds what stays between dumps. A dump in progress holds what it uses, so
    /// a file larger than the bound is still used, by that dump alone.
    pub fn new(dirs: SymbolDirs, text_bytes_max: u64) -> Self {
        Self {
            dirs,
            text_bytes_max,
            shelf: Mutex::default(),
        }
    }

    /// Whether there is anywhere to look at all; if not, no module's symbols are called missing.
    pub(super) fn can_look(&self) -> bool {
        !self.dirs.is_empty()
    }

    /// The symbols of a module by debug file (a leaf or a whole path) and Breakpad debug id.
    pub fn find(&self, debug_file: &str, debug_id: &str) -> Lookup {
        let Some(path) = self.dirs.find(debug_file, debug_id) else {
            return Lookup::Missing;
        };
        self.load(&path).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "symbol file cannot be read");
            Lookup::Missing
        })
    }

    fn load(&self, path: &Path) -> std::io::Result<Lookup> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        let stamp = Stamp {
            bytes: metadata.len(),
            modified: metadata.modified().ok(),
        };
        if let Some(lookup) = self.shelf().take_from(path, stamp) {
            return Ok(lookup);
        }
        // Make room before parsing, not after: the peak is what a memory limit sees. Not held
        // during the parse: two threads may parse the same file once each, none waits for both.
        self.shelf()
            .shrink_to(self.text_bytes_max.saturating_sub(stamp.bytes));
        let symbols: Option<Arc<dyn ModuleSymbols>> = match SymbolFile::parse(file, |_| ()) {
            Ok(symbols) => Some(Arc::new(symbols)),
            Err(SymbolError::LoadError(error)) => return Err(error),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "symbol file is corrupt");
                None
            }
        };
        let lookup = lookup_of(symbols.as_ref());
        let bytes = match symbols {
            Some(_) => stamp.bytes.max(ENTRY_BYTES_MIN),
            None => ENTRY_BYTES_MIN,
        };
        if bytes <= self.text_bytes_max {
            let mut shelf = self.shelf();
            shelf.shrink_to(self.text_bytes_max - bytes);
            shelf.put(path, stamp, symbols, bytes);
        }
        Ok(lookup)
    }

    /// A walk that panicked leaves the shelf whole: every change to it is a single step.
    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lookup_of(symbols: Option<&Arc<dyn ModuleSymbols>>) -> Lookup {
    match symbols {
        Some(symbols) => Lookup::Found(Arc::clone(symbols)),
        None => Lookup::Corrupt,
    }
}

impl Shelf {
    fn take_from(&mut self, path: &Path, stamp: Stamp) -> Option<Lookup> {
        self.now += 1;
        let entry = self.entries.get_mut(path)?;
        if entry.stamp != stamp {
            self.remove(path);
            return None;
        }
        entry.used_at = self.now;
        Some(lookup_of(entry.symbols.as_ref()))
    }

    fn put(
        &mut self,
        path: &Path,
        stamp: Stamp,
        symbols: Option<Arc<dyn ModuleSymbols>>,
        bytes: u64,
    ) {
        self.remove(path);
        self.bytes += bytes;
        let entry = Entry {
            stamp,
            symbols,
            bytes,
            used_at: self.now,
        };
        self.entries.insert(path.to_owned(), entry);
    }

    fn shrink_to(&mut self, bytes_max: u64) {
        while self.bytes > bytes_max {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used_at);
            let Some(path) = oldest.map(|(path, _)| path.clone()) else {
                return;
            };
            self.remove(&path);
        }
    }

    fn remove(&mut self, path: &Path) {
        if let Some(entry) = self.entries.remove(path) {
            self.bytes -= entry.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> String {
        format!("{n:033X}")
    }

    /// A store of `count` symbol files of at least `bytes` each, named `m0`, `m1` ...
    fn store(count: usize, bytes: usize) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for n in 0..count {
            write(root.path(), n, bytes);
        }
        root
    }

    fn write(root: &Path, n: usize, bytes: usize) {
        let mut text = format!("MODULE Linux x86_64 {} m{n}\nFUNC 10 10 0 work\n", id(n));
        while text.len() < bytes {
            text.push_str("INFO CODE_ID 0\n");
        }
        let folder = root.join(format!("m{n}")).join(id(n));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("m{n}.sym")), text).unwrap();
    }

    fn find(cache: &SymbolCache, n: usize) -> Lookup {
        cache.find(&format!("m{n}"), &id(n))
    }

    fn same(a: &Lookup, b: &Lookup) -> bool {
        match (a, b) {
            (Lookup::Found(a), Lookup::Found(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    fn cache(root: &tempfile::TempDir, text_bytes_max: u64) -> SymbolCache {
        SymbolCache::new(
            SymbolDirs::new(vec![root.path().to_owned()]),
            text_bytes_max,
        )
    }

    #[test]
    fn a_file_is_parsed_once_while_it_stays_the_same() {
        let root = store(1, 0);
        let cache = cache(&root, SYMBOL_TEXT_BYTES_MAX);
        let first = find(&cache, 0);
        assert!(same(&first, &find(&cache, 0)));
        write(root.path(), 0, 20_000);
        let second = find(&cache, 0);
        assert!(matches!(second, Lookup::Found(_)));
        assert!(!same(&first, &second), "a replaced file is read again");
    }

    #[test]
    fn the_least_recently_used_file_leaves_first_and_the_bound_holds() {
        let root = store(3, 10_000);
        let cache = cache(&root, 25_000);
        let (zero, one) = (find(&cache, 0), find(&cache, 1));
        assert!(same(&zero, &find(&cache, 0)));
        find(&cache, 2);
        assert!(cache.shelf().bytes <= 25_000);
        assert!(same(&zero, &find(&cache, 0)));
        assert!(!same(&one, &find(&cache, 1)));
    }

    #[test]
    fn a_file_larger_than_the_cache_is_used_but_not_kept() {
        let root = store(1, 10_000);
        let cache = cache(&root, 5_000);
        assert!(matches!(find(&cache, 0), Lookup::Found(_)));
        assert_eq!(cache.shelf().bytes, 0);
    }

    #[test]
    fn missing_symbols_are_not_remembered() {
        let root = store(0, 0);
        let cache = cache(&root, SYMBOL_TEXT_BYTES_MAX);
        assert!(matches!(find(&cache, 7), Lookup::Missing));
        write(root.path(), 7, 0);
        assert!(matches!(find(&cache, 7), Lookup::Found(_)));
    }

    #[test]
    fn a_corrupt_file_is_known_until_it_is_replaced() {
        let root = store(1, 0);
        let path = root.path().join("m0").join(id(0)).join("m0.sym");
        std::fs::write(&path, "MODULE Linux x86_64 junk\n\0\0\n").unwrap();
        let cache = cache(&root, SYMBOL_TEXT_BYTES_MAX);
        assert!(matches!(find(&cache, 0), Lookup::Corrupt));
        assert!(matches!(find(&cache, 0), Lookup::Corrupt));
        assert_eq!(cache.shelf().bytes, ENTRY_BYTES_MIN);
        write(root.path(), 0, 0);
        assert!(matches!(find(&cache, 0), Lookup::Found(_)));
    }
}
