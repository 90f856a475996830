//! Incoming other halves of units (`.dwo`, `.dwp`; see [`split`](super::split)), and debug files without an id
//! ([`debug_link`](super::debug_link)). Such a file is useless alone. It becomes an upload of the module of its
//! program (ADR 21).
//!
//! The symbol store has the skeleton ids of each program that has any. When the whole arrival is read, each
//! program that has the id of a half is converted again together with it, first the programs of the same
//! arrival. The result is an upload of the program's module. So the halves may arrive days after the program,
//! as a debug file may.
//!
//! Several `.dwo` files of one program become one upload, a tar of them. So they must arrive together: of two
//! such uploads, the one with more functions is in use.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use sha2::{Digest, Sha256};
use tempfile::TempPath;

use super::check::Refused;
use super::converter::Others;
use super::native::Head;
use super::receiver::{Receiver, Verdict, refused};
use super::skeleton::{self, Skeleton, SkeletonKind};
use super::symbol_store::{Incoming, Native, Taken};
use crate::crash::symbols::{Module, Upload};

/// A file with other halves.
pub(super) struct Part {
    pub(super) name: String,
    pub(super) path: TempPath,
    pub(super) sha256: [u8; 32],
    pub(super) kind: SkeletonKind,
    pub(super) ids: Vec<u64>,
}

/// Joins `parts` with the programs that have their ids: first the programs in `debug_ids`, then, for the
/// remaining parts, any program in the symbol store.
///
/// Ids are computed from the content of a unit, so the builds of two days share most ids. A build that lacks
/// nothing is left alone, unless no other program fits a part.
pub(super) fn join(
    receiver: &Receiver<'_>,
    parts: Vec<Part>,
    debug_ids: &BTreeSet<String>,
) -> Vec<Verdict> {
    let mut joining = Joining {
        receiver,
        used: vec![false; parts.len()],
        parts: &parts,
        verdicts: Vec::new(),
    };
    for debug_id in debug_ids {
        joining.join_with(debug_id, true);
    }
    if joining.is_left() {
        joining.join_with_stored(debug_ids);
    }
    let mut verdicts = joining.verdicts;
    let mut alone: BTreeMap<SkeletonKind, Vec<&Part>> = BTreeMap::new();
    for (part, _) in parts.iter().zip(joining.used).filter(|(_, used)| !used) {
        if part.kind == SkeletonKind::Linked
            && let Some(result) = take_alone(receiver, part)
        {
            verdicts.push(Verdict::new(&part.name, result));
            continue;
        }
        alone.entry(part.kind).or_default().push(part);
    }
    for (kind, parts) in alone {
        let count = parts.iter().map(|part| part.ids.len()).sum();
        let why = skeleton::alone(kind, count);
        verdicts.push(Verdict::new(&label(&parts), Err(refused(why))));
    }
    verdicts
}

struct Joining<'a> {
    receiver: &'a Receiver<'a>,
    parts: &'a [Part],
    /// Which of the parts were joined with a program.
    used: Vec<bool>,
    verdicts: Vec<Verdict>,
}

impl Joining<'_> {
    fn is_left(&self) -> bool {
        self.used.contains(&false)
    }

    fn join_with_stored(&mut self, but: &BTreeSet<String>) {
        let all = match self.receiver.symbol_store.debug_ids() {
            Ok(all) => all,
            Err(error) => {
                let parts: Vec<&Part> = self.parts.iter().collect();
                let failed = Verdict::new(&label(&parts), Err(Refused::Storage(error)));
                return self.verdicts.push(failed);
            }
        };
        let mut complete = Vec::new();
        for debug_id in all.iter().filter(|id| !but.contains(*id)) {
            if let Some(ids) = self.join_with(debug_id, false) {
                complete.push((debug_id, ids));
            }
        }
        // Join each part with the program that has most of its ids.
        while self.is_left() {
            let left = self
                .parts
                .iter()
                .zip(&self.used)
                .filter(|(_, used)| !**used);
            let left: Vec<u64> = left
                .flat_map(|(part, _)| part.ids.iter().copied())
                .collect();
            let count = |ids: &HashSet<u64>| left.iter().filter(|id| ids.contains(id)).count();
            let counts = complete
                .iter()
                .enumerate()
                .map(|(at, (_, ids))| (count(ids), at));
            match counts.max() {
                Some((1.., at)) => {
                    let (debug_id, _) = complete.swap_remove(at);
                    self.join_with(debug_id, true);
                }
                _ => return,
            }
        }
    }

    /// Joins a module with the parts that it lacks. With `with_complete`, also with parts that it already
    /// has. If it is not joined, returns the ids of its skeletons, if there are any.
    fn join_with(&mut self, debug_id: &str, with_complete: bool) -> Option<HashSet<u64>> {
        let store = self.receiver.symbol_store;
        let module = store.module(debug_id)?;
        let split = store.split(&module)?;
        let ids_of = |of: &[Skeleton]| of.iter().map(|skeleton| skeleton.id).collect();
        let ids: HashSet<u64> = ids_of(&split.skeletons);
        let lacking: HashSet<u64> = ids_of(&split.lacking);
        let has = |ids: &HashSet<u64>, part: &Part| part.ids.iter().any(|id| ids.contains(id));
        if !with_complete && !self.parts.iter().any(|part| has(&lacking, part)) {
            return Some(ids);
        }
        let mut fitting = Vec::new();
        for (at, part) in self.parts.iter().enumerate() {
            let count = part.ids.iter().filter(|id| ids.contains(id)).count();
            if count > 0 {
                self.used[at] = true;
                fitting.push((count, at));
            }
        }
        // First the part with the most ids. Of the others only those that add ids, in the order of arrival.
        fitting.sort_by_key(|&(count, at)| (Reverse(count), at));
        let mut open = ids;
        let mut taken = Vec::new();
        for (_, at) in fitting {
            let part = &self.parts[at];
            let before = open.len();
            part.ids.iter().for_each(|id| _ = open.remove(id));
            if open.len() < before {
                taken.push(part);
            }
        }
        if !taken.is_empty() {
            let result = take(self.receiver, &module, split.program, &taken);
            self.verdicts.push(Verdict::new(&label(&taken), result));
        }
        None
    }
}

/// The name for several files together.
fn label(parts: &[&Part]) -> String {
    match parts {
        [] => String::new(),
        [part] => part.name.clone(),
        [first, others @ ..] => format!("{} and {} more", first.name, others.len()),
    }
}

/// Converts a program of `module` with the halves in `parts`, and stores the text and the halves.
fn take(
    receiver: &Receiver<'_>,
    module: &Module,
    program: &Upload,
    parts: &[&Part],
) -> Result<Taken, Refused> {
    let store = receiver.symbol_store;
    let mut original = store.incoming_file().map_err(Refused::Storage)?;
    let mut packed = (store.open_original(module, program)).map_err(Refused::Storage)?;
    io::copy(&mut packed, &mut original).map_err(Refused::Storage)?;
    let bundle;
    let (path, sha256) = match parts {
        [part] => (&*part.path, part.sha256),
        _ => {
            bundle = bundled(receiver, parts).map_err(Refused::Storage)?;
            let mut hash = Sha256::new();
            for part in parts {
                hash.update(part.sha256);
            }
            (&*bundle, hash.finalize().into())
        }
    };
    let others = Others::In(path);
    let texts = store.incoming_file().map_err(Refused::Storage)?;
    (receiver.converter).convert(&original, others, &program.name, &texts)?;
    take_texts(receiver, texts, &parts[0].name, path, sha256)
}

/// Stores a debug file whose program is missing, if it has an id: the size and time of a program that strip
/// did not change. `None` if it has none.
fn take_alone(receiver: &Receiver<'_>, part: &Part) -> Option<Result<Taken, Refused>> {
    let converted = || {
        let file = File::open(&part.path).map_err(Refused::Storage)?;
        let texts = (receiver.symbol_store.incoming_file()).map_err(Refused::Storage)?;
        (receiver.converter).convert(&file, Others::Missing, &part.name, &texts)?;
        take_texts(receiver, texts, &part.name, &part.path, part.sha256)
    };
    match converted() {
        Err(Refused::Bad(_)) => None,
        result => Some(result),
    }
}

/// Stores the text that was made with the file at `path`, and that file.
fn take_texts(
    receiver: &Receiver<'_>,
    texts: File,
    name: &str,
    path: &Path,
    sha256: [u8; 32],
) -> Result<Taken, Refused> {
    let native = |head: &mut Head| {
        let file = File::open(path)?;
        Ok(Native {
            kind: head.kind,
            holds_code: head.holds_code,
            coverage: head.coverage,
            bytes: file.metadata()?.len(),
            file,
            sha256,
            skeletons: std::mem::take(&mut head.skeletons),
        })
    };
    let mut result = Err(refused("it could not be combined with its program"));
    receiver.take_texts(texts, native, |mut text, native, notes| {
        let incoming = Incoming {
            name,
            native: Some(&native),
            notes,
            now_ms: receiver.now_ms,
        };
        result = (receiver.symbol_store).take(&mut text, incoming, receiver.conflict);
    })?;
    result
}

/// A tar of several files.
fn bundled(receiver: &Receiver<'_>, parts: &[&Part]) -> io::Result<TempPath> {
    let bundle = receiver.symbol_store.incoming_named()?;
    let files = parts.iter().map(|part| {
        let leaf = Path::new(&part.name).file_name().unwrap_or_default();
        (leaf.to_string_lossy().into_owned(), &*part.path)
    });
    let mut output = io::BufWriter::new(bundle.as_file());
    self::bundle(files, &mut output)?;
    output.flush()?;
    drop(output);
    Ok(bundle.into_temp_path())
}

/// Writes a tar of files with the given names. A file without a name is called `part`.
///
/// # Errors
/// A file cannot be read, or the output cannot be written.
pub(crate) fn bundle<'p>(
    files: impl Iterator<Item = (String, &'p Path)>,
    output: &mut impl Write,
) -> io::Result<()> {
    let mut builder = tar::Builder::new(output);
    for (name, path) in files {
        let file = File::open(path)?;
        let mut header = tar::Header::new_gnu();
        header.set_size(file.metadata()?.len());
        header.set_mode(0o644);
        let name = if name.is_empty() { "part" } else { &name };
        builder.append_data(&mut header, name, file)?;
    }
    builder.finish()
}
