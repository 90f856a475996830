//! Stores symbols on disk and looks them up. No other module writes symbols.
//!
//! ```text
//! <DEBUGID>/module.json        the module's names, its uploads, and which of them are in use
//! <DEBUGID>/<hash>.sym.zst     an upload's text: as received, or converted from a program
//! <DEBUGID>/<hash>.<kind>.zst  the program or debug file as received
//! <DEBUGID>/<hash>.skeletons.json  the units whose functions its text lacks, if any
//! <DEBUGID>/<hash>.sources.zst  a source bundle as received
//! <DEBUGID>/sources.json       the source bundles, which may arrive without symbols
//! by-code-id/<code id>         the debug ids of the modules whose program has this id, one per line
//! ```
//!
//! Files are written under temporary names, synced, and renamed. `module.json` is replaced last. So every
//! reader, also after a kill, sees a module either before or after an upload.
//!
//! A build has one debug id, but several files may describe it: functions are in the debug file, unwind rules
//! often only in the program (ADR 12). So each of the two is used from the upload that had it first. A
//! second, different file of the same kind is a mistake, and the server cannot know which file is wrong. The
//! first one stays in use. The second is kept beside it until someone decides.

use std::fs::{self, File};
use std::io::{self, BufRead, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use tempfile::NamedTempFile;

use super::check::{self, Checked, Refused};
use super::dirs::{checked_leaf, code_path, folder_of_id, symbol_file_name};
use super::file::{self, DESCRIPTION, OpenText, SymbolFile};
use super::skeleton::{self, Skeleton};
use crate::crash::symbols::{Content, Coverage, Kind, Module, Upload};

/// Fast, and about a quarter of the size of the text.
const ZSTD_LEVEL: i32 = 3;

/// What to do with a different file for a known debug id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    KeepFirst,
    /// Use the new one from now on, and keep the first beside it.
    Replace,
}

/// The result of storing a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placed {
    New,
    /// The same content was already stored.
    Same,
    /// It has what the module's other uploads lack. That part is in use from now on.
    Completed,
    /// It has nothing that the others lack. It is stored for debuggers.
    Kept,
    /// A different file of the same kind is in use. This one is kept beside it.
    Beside,
    /// It is in use, instead of a different file before.
    Replaced,
}

/// A file that was stored.
#[derive(Debug)]
pub struct Taken {
    /// The module, with this upload.
    pub module: Module,
    /// Path below the URL of symbols: `<debug file>/<DEBUGID>/<file>.sym`.
    pub(crate) place: String,
    /// Length of the file's content.
    pub(crate) bytes: u64,
    pub(crate) notes: Vec<String>,
    pub(crate) placed: Placed,
}

impl Taken {
    /// Whether it is a source bundle, which has no symbols.
    pub(crate) fn is_sources(&self) -> bool {
        self.module
            .uploads
            .iter()
            .all(|upload| upload.kind == Kind::Sources)
    }
}

/// An incoming text, and the file from which it was converted, if any.
pub struct Incoming<'a> {
    /// The client's name of the file.
    pub name: &'a str,
    pub native: Option<&'a Native>,
    pub notes: Vec<String>,
    pub now_ms: i64,
}

/// An incoming source bundle.
pub(crate) struct Bundle<'a> {
    /// The client's name of the file.
    pub(crate) name: &'a str,
    /// The program whose sources it contains.
    pub(crate) debug_file: &'a str,
    pub(crate) debug_id: &'a str,
    pub(crate) arch: &'a str,
    pub(crate) file: File,
    pub(crate) sha256: [u8; 32],
    pub(crate) bytes: u64,
    pub(crate) now_ms: i64,
}

/// A program or debug file as received.
pub struct Native {
    pub(crate) kind: Kind,
    pub(crate) holds_code: bool,
    pub(crate) file: File,
    pub(crate) sha256: [u8; 32],
    pub(crate) bytes: u64,
    pub(crate) coverage: Coverage,
    /// The units whose functions are missing in the text made from it.
    pub(crate) skeletons: Vec<Skeleton>,
}

/// A module whose program has skeleton units.
pub(super) struct Split<'m> {
    /// The upload with the skeletons.
    pub(super) program: &'m Upload,
    pub(super) skeletons: Vec<Skeleton>,
    /// The skeletons whose functions are missing in the text in use.
    pub(super) lacking: Vec<Skeleton>,
}

#[derive(Clone, Debug)]
pub struct SymbolStore {
    root: PathBuf,
    /// Folder for incoming files, on the same disk.
    incoming: PathBuf,
}

impl SymbolStore {
    /// A store in the folder `root`, with `incoming` for files that are not complete yet. Both folders must
    /// exist before anything is stored.
    pub fn new(root: PathBuf, incoming: PathBuf) -> Self {
        Self { root, incoming }
    }

    /// Creates a file for an incoming body. It has no name, so it disappears with its process.
    ///
    /// # Errors
    /// The folder of incoming files does not exist or cannot be written.
    pub fn incoming_file(&self) -> io::Result<File> {
        tempfile::tempfile_in(&self.incoming)
    }

    /// The same with a name, until it is dropped or renamed.
    ///
    /// # Errors
    /// The folder of incoming files does not exist or cannot be written.
    pub(crate) fn incoming_named(&self) -> io::Result<NamedTempFile> {
        NamedTempFile::new_in(&self.incoming)
    }

    /// The path of an incoming file. The file stays until it is removed or the server starts.
    pub(crate) fn incoming_path(&self, name: &str) -> PathBuf {
        self.incoming.join(name)
    }

    /// Bytes of the incoming files whose names start with `prefix`.
    ///
    /// # Errors
    /// The folder of incoming files cannot be read.
    pub(crate) fn incoming_bytes(&self, prefix: &str) -> io::Result<u64> {
        let mut bytes = 0;
        for entry in fs::read_dir(&self.incoming)? {
            let entry = entry?;
            let is_meant = entry.file_name().to_string_lossy().starts_with(prefix);
            // A file that was removed in the meantime uses no space.
            if let (true, Ok(metadata)) = (is_meant, entry.metadata()) {
                bytes += metadata.len();
            }
        }
        Ok(bytes)
    }

    /// Checks the text of a symbol file and stores it. Returns when it is durable.
    ///
    /// # Errors
    /// [`Refused::Bad`] if the file is wrong, [`Refused::Storage`] if the disk failed.
    pub fn take(
        &self,
        text: &mut impl BufRead,
        incoming: Incoming<'_>,
        conflict: Conflict,
    ) -> Result<Taken, Refused> {
        let mut packer = self.packer().map_err(Refused::Storage)?;
        let checked = check::check(text, &mut packer)?;
        let text = finish(packer).map_err(Refused::Storage)?;
        self.place(text, checked, incoming, conflict)
            .map_err(Refused::Storage)
    }

    fn packer(&self) -> io::Result<zstd::Encoder<'static, BufWriter<NamedTempFile>>> {
        let file = NamedTempFile::new_in(&self.incoming)?;
        zstd::Encoder::new(BufWriter::with_capacity(256 * 1024, file), ZSTD_LEVEL)
    }

    /// Compresses the whole of a file.
    fn pack(&self, mut file: &File) -> io::Result<NamedTempFile> {
        let mut packer = self.packer()?;
        file.rewind()?;
        io::copy(&mut file, &mut packer)?;
        finish(packer)
    }

    fn place(
        &self,
        text: NamedTempFile,
        checked: Checked,
        incoming: Incoming<'_>,
        conflict: Conflict,
    ) -> io::Result<Taken> {
        let original = incoming.native.map(|native| self.pack(&native.file));
        let original = original.transpose()?;
        let mut stored_bytes = 0;
        for file in [Some(&text), original.as_ref()].into_iter().flatten() {
            stored_bytes += file.as_file().metadata()?.len();
        }
        let upload = upload_of(&incoming, &checked, stored_bytes);
        let bytes = upload.bytes;
        let skeletons = incoming.native.map_or(&[][..], |native| &native.skeletons);
        let folder = self.root.join(&checked.module.debug_id);
        let skeletons_at = folder.join(file::skeletons_name(&upload));

        let _turn = self.lock()?;
        let mut module = module_in(&folder, &checked)?;
        let placed = admit(&mut module, upload, &checked, conflict);
        fs::create_dir_all(&folder)?;
        // Also for uploads that were stored before skeletons were described.
        if !skeletons.is_empty() && !skeletons_at.exists() {
            self.durable_json(skeletons)?.persist(skeletons_at)?;
        }
        if placed != Placed::Same {
            let upload = module.uploads.last().expect("it was just admitted");
            text.persist(folder.join(file::text_name(upload)))?;
            if let Some(original) = original {
                original.persist(folder.join(file::original_name(upload)))?;
            }
            self.describe(&folder, &module)?;
        }

        let mut notes = incoming.notes;
        notes.extend(checked.notes.iter().cloned());
        // If halves are in use, their own notes have said what is missing.
        let is_half = incoming
            .native
            .is_some_and(|native| native.kind == Kind::Split);
        if is_half || module.symbols().kind != Kind::Split {
            notes.extend(skeleton::note_of(skeletons));
        }
        notes.extend(note_of(placed, &module, &checked, !skeletons.is_empty()));
        Ok(Taken {
            place: place_of(&module),
            module,
            bytes,
            notes,
            placed,
        })
    }

    /// Stores a source bundle beside the symbols of its debug id, whether there are any or not.
    ///
    /// # Errors
    /// [`Refused::Bad`] if the bundle is wrong, [`Refused::Storage`] if the disk failed.
    pub(crate) fn take_sources(&self, bundle: Bundle<'_>) -> Result<Taken, Refused> {
        let Some(folder) = folder_of_id(&self.root, bundle.debug_id) else {
            return Err(Refused::Bad("its manifest has no debug id".to_owned()));
        };
        self.place_sources(&folder, bundle)
            .map_err(Refused::Storage)
    }

    fn place_sources(&self, folder: &Path, bundle: Bundle<'_>) -> io::Result<Taken> {
        let packed = self.pack(&bundle.file)?;
        let upload = Upload {
            sha256: hex(&bundle.sha256),
            kind: Kind::Sources,
            name: leaf_of(bundle.name),
            holds_code: false,
            bytes: bundle.bytes,
            text_bytes: 0,
            stored_bytes: packed.as_file().metadata()?.len(),
            added_at_ms: bundle.now_ms,
            content: Default::default(),
            coverage: None,
            conflict: false,
        };
        let _turn = self.lock()?;
        let mut known = sources_in(folder);
        let is_new = !known.iter().any(|known| known.sha256 == upload.sha256);
        if is_new {
            fs::create_dir_all(folder)?;
            packed.persist(folder.join(file::original_name(&upload)))?;
            known.push(upload.clone());
            let description = self.durable_json(&known)?;
            description.persist(folder.join(SOURCES))?;
            File::open(folder)?.sync_all()?;
            File::open(&self.root)?.sync_all()?;
        }
        let leaf = leaf_of(bundle.debug_file);
        let debug_id = bundle.debug_id.to_ascii_uppercase();
        Ok(Taken {
            place: format!("{leaf}/{debug_id}/{leaf}.src.zip"),
            module: Module {
                debug_file: leaf,
                debug_id,
                os: String::new(),
                arch: bundle.arch.to_owned(),
                code_file: String::new(),
                code_id: String::new(),
                uploads: vec![upload],
                symbols_from: 0,
                unwind_from: 0,
            },
            bytes: bundle.bytes,
            notes: Vec::new(),
            placed: if is_new { Placed::New } else { Placed::Same },
        })
    }

    /// The source bundles of a debug id, in the order of arrival.
    pub(crate) fn sources(&self, debug_id: &str) -> Vec<Upload> {
        folder_of_id(&self.root, debug_id).map_or(Vec::new(), |folder| sources_in(&folder))
    }

    /// Debug ids that have source bundles but no symbols.
    ///
    /// # Errors
    /// The folder exists, but cannot be read.
    pub(crate) fn sources_alone(&self) -> io::Result<Vec<String>> {
        let is_alone =
            |folder: &Path| folder.join(SOURCES).is_file() && !folder.join(DESCRIPTION).is_file();
        self.ids_where(is_alone)
    }

    /// Adds the module to `by-code-id`, so that walks that know only the program find it.
    ///
    /// # Errors
    /// The symbol store or the folder of incoming files cannot be written. Only walks that know nothing but the
    /// program are affected.
    pub(crate) fn mark_code(&self, module: &Module) -> io::Result<()> {
        let Some(path) = code_path(&self.root, &module.code_id) else {
            return Ok(());
        };
        let known = fs::read_to_string(&path).unwrap_or_default();
        if known.lines().any(|id| id == module.debug_id) {
            return Ok(());
        }
        // Debug ids of modules that no longer exist are dropped.
        let is_there = |id: &&str| {
            folder_of_id(&self.root, id).is_some_and(|folder| folder.join(DESCRIPTION).is_file())
        };
        let mut marked = NamedTempFile::new_in(&self.incoming)?;
        for id in known
            .lines()
            .filter(is_there)
            .chain([module.debug_id.as_str()])
        {
            writeln!(marked, "{id}")?;
        }
        fs::create_dir_all(path.parent().unwrap_or(&self.root))?;
        marked.persist(path)?;
        Ok(())
    }

    /// Puts a module's description in place. Everything that was put there before becomes durable with it.
    fn describe(&self, folder: &Path, module: &Module) -> io::Result<()> {
        let description = self.durable_json(module)?;
        // The files that it names must be durable before it exists.
        File::open(folder)?.sync_all()?;
        description.persist(folder.join(DESCRIPTION))?;
        File::open(folder)?.sync_all()?;
        self.mark_code(module)?;
        File::open(&self.root)?.sync_all()
    }

    /// A file with this JSON, durable, that still needs its name.
    fn durable_json(&self, value: &(impl Serialize + ?Sized)) -> io::Result<NamedTempFile> {
        let mut file = NamedTempFile::new_in(&self.incoming)?;
        serde_json::to_writer_pretty(&mut file, value)?;
        file.as_file().sync_all()?;
        Ok(file)
    }

    /// The lock for changes to a module's folder, by this process or another one.
    fn lock(&self) -> io::Result<File> {
        let folder = File::open(&self.root)?;
        folder.lock()?;
        Ok(folder)
    }

    /// Renames a module. Needed if its first upload had no name. `None` if there is no such module, or if the
    /// name cannot be used.
    ///
    /// # Errors
    /// The description of the module is damaged, or the symbol store cannot be written.
    pub(crate) fn rename(&self, debug_id: &str, debug_file: &str) -> io::Result<Option<Module>> {
        let (Some(leaf), Some(folder)) =
            (checked_leaf(debug_file), folder_of_id(&self.root, debug_id))
        else {
            return Ok(None);
        };
        let _turn = self.lock()?;
        let mut module = match file::read_module(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            module => module?,
        };
        module.debug_file = leaf.to_owned();
        if !module.code_file.is_empty() {
            module.code_file = leaf.to_owned();
        }
        self.describe(&folder, &module)?;
        Ok(Some(module))
    }

    /// Removes a module. Files that walks have open stay readable for them.
    ///
    /// # Errors
    /// The symbol store cannot be written. The module may be removed, but not all of its files; the caller can call
    /// this again.
    pub(crate) fn remove(&self, debug_id: &str) -> io::Result<()> {
        let Some(folder) = folder_of_id(&self.root, debug_id) else {
            return Ok(());
        };
        let _turn = self.lock()?;
        // The description goes first: without it there is no module, even if the removal is interrupted.
        for path in [folder.join(DESCRIPTION)] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The module of a debug id, in any case.
    pub(crate) fn module(&self, debug_id: &str) -> Option<Module> {
        file::read_module(&folder_of_id(&self.root, debug_id)?).ok()
    }

    /// Opens the text of the symbol file in use for a debug id, in any case.
    pub fn open(&self, debug_id: &str) -> Option<OpenText> {
        let folder = folder_of_id(&self.root, debug_id)?;
        SymbolFile::Stored(folder).open().ok()
    }

    /// Opens an upload as received.
    ///
    /// # Errors
    /// The file is missing or cannot be read. Damage in its content shows only while it is read.
    pub(crate) fn open_original(
        &self,
        module: &Module,
        upload: &Upload,
    ) -> io::Result<Box<dyn Read + Send>> {
        let name = match upload.kind {
            Kind::Sym => file::text_name(upload),
            _ => file::original_name(upload),
        };
        let path = self.root.join(&module.debug_id).join(name);
        Ok(Box::new(file::unpacked(&path)?))
    }

    /// The skeletons of a module. If both a debug file and a program have them, those of the debug file.
    pub(super) fn split<'m>(&self, module: &'m Module) -> Option<Split<'m>> {
        let folder = self.root.join(&module.debug_id);
        let skeletons_of = |upload: &Upload| -> Option<Vec<Skeleton>> {
            let described = fs::read(folder.join(file::skeletons_name(upload))).ok()?;
            serde_json::from_slice(&described).ok()
        };
        let is_program = |upload: &&Upload| matches!(upload.kind, Kind::Elf | Kind::Pe);
        let programs = module.uploads.iter().filter(is_program);
        let (program, skeletons) = programs
            .filter_map(|upload| Some((upload, skeletons_of(upload)?)))
            .min_by_key(|(upload, _)| upload.holds_code)?;
        let in_use = module.symbols();
        let lacking = match in_use.kind {
            Kind::Split => skeletons_of(in_use).unwrap_or_default(),
            _ => skeletons.clone(),
        };
        Some(Split {
            program,
            skeletons,
            lacking,
        })
    }

    /// The debug ids of all stored modules, sorted.
    ///
    /// # Errors
    /// The folder exists, but cannot be read.
    pub fn debug_ids(&self) -> io::Result<Vec<String>> {
        self.ids_where(|folder| folder.join(DESCRIPTION).is_file())
    }

    fn ids_where(&self, fits: impl Fn(&Path) -> bool) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut ids = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            if let Some(id) = name.to_str()
                && folder_of_id(&self.root, id).is_some_and(|folder| fits(&folder))
            {
                ids.push(id.to_owned());
            }
        }
        ids.sort();
        Ok(ids)
    }
}

/// Describes the source bundles of a debug id.
const SOURCES: &str = "sources.json";

fn sources_in(folder: &Path) -> Vec<Upload> {
    let described = fs::read(folder.join(SOURCES)).unwrap_or_default();
    serde_json::from_slice(&described).unwrap_or_default()
}

/// The description of an incoming file that was checked.
fn upload_of(incoming: &Incoming<'_>, checked: &Checked, stored_bytes: u64) -> Upload {
    let as_text = Upload {
        sha256: hex(&checked.sha256),
        kind: Kind::Sym,
        name: leaf_of(incoming.name),
        holds_code: false,
        bytes: checked.bytes,
        text_bytes: checked.bytes,
        stored_bytes,
        added_at_ms: incoming.now_ms,
        content: checked.content,
        coverage: None,
        conflict: false,
    };
    match incoming.native {
        None => as_text,
        Some(native) => Upload {
            sha256: hex(&native.sha256),
            kind: native.kind,
            holds_code: native.holds_code,
            bytes: native.bytes,
            coverage: Some(native.coverage),
            ..as_text
        },
    }
}

/// The module in a folder, without uploads if it is new.
fn module_in(folder: &Path, checked: &Checked) -> io::Result<Module> {
    match file::read_module(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Module {
            debug_file: checked.module.debug_file.clone(),
            debug_id: checked.module.debug_id.clone(),
            os: checked.module.os.clone(),
            arch: checked.module.arch.clone(),
            code_file: String::new(),
            code_id: String::new(),
            uploads: Vec::new(),
            symbols_from: 0,
            unwind_from: 0,
        }),
        read => read,
    }
}

/// Adds an upload to a module and returns the result.
fn admit(module: &mut Module, mut upload: Upload, checked: &Checked, conflict: Conflict) -> Placed {
    if let Some(at) = (module.uploads.iter()).position(|known| known.sha256 == upload.sha256) {
        // It was sent again to put it in use.
        let is_rival = module.uploads[at].conflict || !module.is_in_use(at);
        if conflict == Conflict::Replace && is_rival && put_in_use(module, at) {
            return Placed::Replaced;
        }
        return Placed::Same;
    }
    if !checked.code_id.is_empty() && (module.code_id.is_empty() || upload.holds_code) {
        module.code_id = checked.code_id.clone();
    }
    // A program has the name that crashes report, or names its debug file. The name of a debug file that
    // arrived alone is only its sender's choice.
    let is_first_program = upload.holds_code && !module.uploads.iter().any(|u| u.holds_code);
    if is_first_program && module.uploads.iter().all(|u| u.kind != Kind::Sym) {
        module.debug_file = checked.module.debug_file.clone();
    }
    if !checked.code_file.is_empty() && (module.code_file.is_empty() || upload.holds_code) {
        module.code_file = checked.code_file.clone();
    }
    let at = module.uploads.len();
    let content = upload.content;
    let is_rival = (module.uploads.iter())
        .any(|known| known.kind == upload.kind && known.holds_code == upload.holds_code);
    if at == 0 {
        module.uploads.push(upload);
        return Placed::New;
    }
    let (symbols, unwind) = (module.symbols().content, module.unwind().content);
    let more_publics = !symbols.has_functions() && content.publics > symbols.publics;
    // A text with split units contains everything that the program's text has, because it includes the
    // program's plain units. The symbol table may have named all functions already, but only the units have
    // inlined calls.
    let total = |of: Content| of.functions + of.lines + of.inlines;
    let outdoes = upload.kind == Kind::Split
        && match module.symbols().kind {
            Kind::Elf | Kind::Pe => total(content) >= total(symbols) && content.has_functions(),
            Kind::Split => total(content) > total(symbols),
            _ => false,
        };
    // A program's symbol table names its functions. Its debug file also has their lines, and may have arrived
    // later. Some programs have lines of a few functions, those of a static library.
    let worth = |of: Content| (of.has_functions(), of.has_functions() && of.lines > 0);
    let has_more_symbols = outdoes
        || worth(content) > worth(symbols)
        || !symbols.has_functions() && more_publics && !is_rival
        || !is_rival && content.lines / 2 > symbols.lines;
    let has_more_unwind = !unwind.has_unwind() && content.has_unwind();
    upload.conflict = is_rival && !has_more_symbols && !has_more_unwind;
    module.uploads.push(upload);
    if has_more_symbols {
        module.symbols_from = at;
    }
    if has_more_unwind {
        module.unwind_from = at;
    }
    match (has_more_symbols || has_more_unwind, is_rival, conflict) {
        (true, ..) => Placed::Completed,
        (false, _, Conflict::Replace) if put_in_use(module, at) => Placed::Replaced,
        (false, true, _) => Placed::Beside,
        (false, false, _) => Placed::Kept,
    }
}

/// Puts everything in use that an upload has. Returns false if that changes nothing.
fn put_in_use(module: &mut Module, at: usize) -> bool {
    let content = module.uploads[at].content;
    let before = (module.symbols_from, module.unwind_from);
    if content.has_functions() || !module.symbols().content.has_functions() {
        module.symbols_from = at;
    }
    if content.has_unwind() || !module.unwind().content.has_unwind() {
        module.unwind_from = at;
    }
    let is_changed = before != (module.symbols_from, module.unwind_from);
    if is_changed {
        for index in 0..module.uploads.len() {
            module.uploads[index].conflict &= !module.is_in_use(index);
        }
        for index in [before.0, before.1] {
            module.uploads[index].conflict = !module.is_in_use(index);
        }
    }
    is_changed
}

fn note_of(placed: Placed, module: &Module, checked: &Checked, is_split: bool) -> Vec<String> {
    let mut notes = Vec::new();
    match placed {
        Placed::New | Placed::Same => {}
        Placed::Completed => {
            notes.push("it adds to the symbols already stored for this debug id".to_owned());
        }
        Placed::Kept => notes.push(
            "the symbols already stored for this debug id are complete; this file is stored for debuggers".to_owned(),
        ),
        Placed::Beside => notes.push(
            "a different file is in use for this debug id; this file is stored but not used; to use it, upload it again with replace (?replace=1, --replace)".to_owned(),
        ),
        Placed::Replaced => notes.push("the previous file is stored but not used any more".to_owned()),
    }
    if module.debug_file != checked.module.debug_file {
        notes.push(format!(
            "this debug id belongs to {}; it is stored under that name",
            module.debug_file
        ));
    }
    if module
        .coverage()
        .is_some_and(|coverage| coverage.has_gaps())
    {
        notes.extend(module.coverage_sentence());
    }
    let content = module.content();
    // For a split program, another note has said where the functions are.
    if !content.has_functions() && !is_split {
        notes.push(match content.publics {
            0 => "no function names for this debug id: the program is stripped; also send its debug file".to_owned(),
            _ => "only exported functions for this debug id: the program is stripped; also send its debug file".to_owned(),
        });
    } else if content.lines == 0 && !is_split {
        notes.push("functions without source lines for this debug id, from the symbol table; also send its debug file".to_owned());
    }
    if !content.has_unwind() {
        notes.push(
            "no unwind information for this debug id, so stacks through this module are unreliable; also send the program itself".to_owned(),
        );
    }
    notes
}

/// The path under which clients find a module's symbol file.
pub(crate) fn place_of(module: &Module) -> String {
    let file = symbol_file_name(&module.debug_file);
    format!("{}/{}/{file}", module.debug_file, module.debug_id)
}

fn finish(packer: zstd::Encoder<'static, BufWriter<NamedTempFile>>) -> io::Result<NamedTempFile> {
    let mut output = packer.finish()?;
    output.flush()?;
    let file = output.into_inner().map_err(|error| error.into_error())?;
    file.as_file().sync_all()?;
    Ok(file)
}

fn leaf_of(name: &str) -> String {
    let leaf = checked_leaf(name).unwrap_or_default();
    leaf.chars().take(check::NAME_BYTES_MAX / 4).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "5A9832E5287241C1838ED98914E9B7FF1";
    const CFI: &str = "STACK CFI INIT 10 4 .cfa: $rsp 8 + .ra: .cfa -8 + ^\n";

    fn store() -> (tempfile::TempDir, SymbolStore) {
        let root = tempfile::tempdir().expect("a folder");
        let store = SymbolStore::new(root.path().join("symbols"), root.path().join("incoming"));
        for folder in [&store.root, &store.incoming] {
            fs::create_dir(folder).expect("a folder");
        }
        (root, store)
    }

    fn text(records: &str) -> String {
        format!("MODULE windows x86 {ID} app.pdb\n{records}")
    }

    fn take(
        store: &SymbolStore,
        records: &str,
        native: Option<&Native>,
        conflict: Conflict,
    ) -> Taken {
        let incoming = Incoming {
            name: "folder/app.sym",
            native,
            notes: Vec::new(),
            now_ms: 7,
        };
        let taken = store.take(&mut text(records).as_bytes(), incoming, conflict);
        taken.expect("a good file")
    }

    fn native(kind: Kind, content: &[u8]) -> Native {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(content).expect("written");
        Native {
            kind,
            holds_code: kind == Kind::Pe,
            file,
            sha256: [content[0]; 32],
            bytes: content.len() as u64,
            coverage: Coverage::default(),
            skeletons: Vec::new(),
        }
    }

    fn stored(store: &SymbolStore) -> String {
        let mut stored = String::new();
        let mut text = store.open(&ID.to_lowercase()).expect("there");
        text.reader.read_to_string(&mut stored).expect("readable");
        assert!(text.bytes.is_none_or(|bytes| bytes == stored.len() as u64));
        stored
    }

    #[test]
    fn the_first_content_stays_until_somebody_replaces_it() {
        let (_root, store) = store();
        assert!(store.open(ID).is_none());
        let (first, second) = ("FUNC 10 4 0 first\n", "FUNC 10 4 0 second\n");
        let placed = |records, conflict| take(&store, records, None, conflict).placed;
        assert_eq!(placed(first, Conflict::KeepFirst), Placed::New);
        assert_eq!(placed(first, Conflict::Replace), Placed::Same);
        assert_eq!(placed(second, Conflict::KeepFirst), Placed::Beside);
        assert_eq!(stored(&store), text(first));
        assert_eq!(placed(second, Conflict::Replace), Placed::Replaced);
        assert_eq!(stored(&store), text(second));
        assert_eq!(placed(second, Conflict::Replace), Placed::Same);
        let module = store.module(ID).expect("a module");
        let conflicts: Vec<bool> = module.uploads.iter().map(|u| u.conflict).collect();
        assert_eq!(conflicts, [true, false]);
        assert_eq!(module.uploads[0].name, "app.sym");
        assert_eq!(store.debug_ids().expect("a list"), [ID]);
        let left = fs::read_dir(&store.incoming).expect("a folder").count();
        assert_eq!(left, 0, "nothing stays on its way");
    }

    #[test]
    fn functions_and_rules_of_unwinding_are_used_from_where_they_are() {
        let (_root, store) = store();
        let functions = "FUNC 10 4 0 f\n10 4 7 0\n";
        let (pdb, pe) = (native(Kind::Pdb, b"pdb"), native(Kind::Pe, b"exe"));
        let first = take(&store, functions, Some(&pdb), Conflict::KeepFirst);
        assert!(
            first
                .notes
                .iter()
                .any(|note| note.contains("unwind information"))
        );
        let records = format!("PUBLIC 10 0 exported\n{CFI}");
        let second = take(&store, &records, Some(&pe), Conflict::KeepFirst);
        assert_eq!(second.placed, Placed::Completed);
        assert_eq!(stored(&store), text(&format!("{functions}{CFI}")));
        let both = format!("{functions}{CFI}");
        let third = take(&store, &both, None, Conflict::KeepFirst);
        assert_eq!(third.placed, Placed::Kept);
        let content = third.module.content();
        assert_eq!((content.functions, content.cfi, content.publics), (1, 1, 0));
        for (upload, bytes) in third.module.uploads.iter().zip([&b"pdb"[..], b"exe"]) {
            let mut original = Vec::new();
            let mut reader = store.open_original(&third.module, upload).expect("there");
            reader.read_to_end(&mut original).expect("readable");
            assert_eq!(original, bytes);
        }
        store.remove(ID).expect("removed");
        assert!(store.module(ID).is_none() && store.debug_ids().expect("a list").is_empty());
    }

    #[test]
    fn lines_that_arrive_late_are_used() {
        let (_root, store) = store();
        let names = "FUNC 10 4 0 f\nFUNC 20 4 0 g\n";
        let lines = "FUNC 10 4 0 f\n10 4 7 0\nFUNC 20 4 0 g\n20 4 8 0\n";
        let (program, debug) = (native(Kind::Pe, b"exe"), native(Kind::Pdb, b"pdb"));
        let placed = |records, of| take(&store, records, Some(of), Conflict::KeepFirst).placed;
        assert_eq!(placed(names, &program), Placed::New);
        assert_eq!(placed(lines, &debug), Placed::Completed);
        assert_eq!(stored(&store), text(lines));
        assert_eq!(placed(names, &native(Kind::Elf, b"x")), Placed::Kept);
        assert_eq!(stored(&store), text(lines));
    }

    #[test]
    fn a_refused_file_leaves_nothing() {
        let (_root, store) = store();
        let incoming = Incoming {
            name: "x",
            native: None,
            notes: Vec::new(),
            now_ms: 0,
        };
        let refused = store.take(&mut &b"PUBLIC 10 0 f\n"[..], incoming, Conflict::KeepFirst);
        assert!(matches!(refused, Err(Refused::Bad(_))));
        for folder in [&store.root, &store.incoming] {
            assert_eq!(fs::read_dir(folder).expect("a folder").count(), 0);
        }
    }
}
