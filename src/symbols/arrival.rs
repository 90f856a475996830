//! Files that arrive as symbols: a single file or an archive, compressed or not. The format is recognised by
//! the first bytes only, never by the name.
//!
//! Every file gets its own verdict, so one bad file does not affect the others. One budget limits the
//! unpacking of a whole arrival, however many streams it contains.
//!
//! The other halves of a program's units (`.dwo`, `.dwp`) and debug files without an id are useless alone. They wait
//! until the whole arrival is read, and are then joined with their programs ([`super::halves`]).

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, Write};
use std::rc::Rc;

use sha2::{Digest, Sha256};
use zip::ZipArchive;

use super::check::Refused;
use super::converter::Others;
use super::halves::{self, Part};
use super::native::Head;
use super::receiver::refused;
use super::symbol_store::{Bundle, Incoming, Native, Taken, place_of};
use super::unpack::{Budget, PACKED, Packing};

pub use super::receiver::Receiver;
pub(crate) use super::receiver::Verdict;

/// Bytes read to recognise the format of a file. A tar archive has its magic at offset 257.
const MAGIC_BYTES: usize = 264;
/// Limit of bytes read for a zip's directory, because it is held in memory.
const DIRECTORY_BYTES_MAX: u64 = 16 << 20;
/// Limit of seeks while reading a zip's directory. There are a few for each entry, and each discards a
/// buffer.
const DIRECTORY_JUMPS_MAX: u64 = 100_000;
/// Limit of bytes of a source bundle's manifest, which has a line for each file.
const MANIFEST_BYTES_MAX: u64 = 64 << 20;
/// Limit of nested archives and compressions: `x.tar.gz` in a zip has three.
const LAYERS_MAX: usize = 4;
#[derive(Debug)]
pub struct Arrival {
    pub(crate) is_archive: bool,
    pub verdicts: Vec<Verdict>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Zip,
    Tar,
    Cabinet,
    Packed(Packing),
    /// A program or its debug file.
    Native,
    /// A source bundle.
    Sources,
    /// Symbols as text, or an unknown format.
    Text,
    /// A format that we refuse: its name, and what the client can do.
    Other(&'static str, &'static str),
}

const REPACK: &str = "unpack it and send the files, or send them as a zip or tar";

/// First bytes, and the format that starts with them.
const MAGICS: &[(&[u8], Format)] = &[
    (b"PK\x03\x04", Format::Zip),
    (b"PK\x05\x06", Format::Zip),
    (b"SYSB", Format::Sources),
    (b"\x7fELF", Format::Native),
    (b"Microsoft C/C++ MSF", Format::Native),
    (b"MZ", Format::Native),
    (b"\xcf\xfa\xed\xfe", Format::Native),
    (b"\xce\xfa\xed\xfe", Format::Native),
    (b"\xfe\xed\xfa\xcf", Format::Native),
    (b"\xfe\xed\xfa\xce", Format::Native),
    (b"\xca\xfe\xba\xbe", Format::Native),
    (
        b"\xca\xfe\xba\xbf",
        Format::Other(
            "a fat Mach-O file with 64-bit offsets",
            "extract the programs with lipo -thin and send them one by one",
        ),
    ),
    (
        b"BSJB",
        Format::Other(
            "a portable PDB file",
            "which does not work for native stacks",
        ),
    ),
    (b"7z\xbc\xaf\x27\x1c", Format::Other("a 7z archive", REPACK)),
    (b"MSCF", Format::Cabinet),
    (
        b"!<arch>",
        Format::Other(
            "a static library",
            "send the program that it is linked into",
        ),
    ),
    (b"MDMP", Format::Other("a minidump", "send it to /submit")),
];

fn format_of(start: &[u8]) -> Format {
    if start.get(257..262) == Some(b"ustar") {
        return Format::Tar;
    }
    let packed = PACKED
        .iter()
        .map(|(magic, it)| (*magic, Format::Packed(*it)));
    packed
        .chain(MAGICS.iter().copied())
        .find(|(magic, _)| start.starts_with(magic))
        .map_or(Format::Text, |(_, format)| format)
}

fn unreadable(error: io::Error) -> Refused {
    refused(error.to_string())
}

impl<'a> Receiver<'a> {
    /// Stores the contents of `file`. `name` is the client's name of it.
    ///
    /// # Errors
    /// Only if `file` cannot be read or examined. Everything else is in the verdicts.
    pub fn take(&self, file: File, name: &str) -> io::Result<Arrival> {
        let mut together = self.together();
        let mut arrival = together.take(file, name)?;
        arrival.verdicts.extend(together.finish());
        Ok(arrival)
    }

    /// Starts an arrival of several files that belong together.
    pub(crate) fn together(&'a self) -> Together<'a> {
        Together {
            receiver: self,
            parts: Vec::new(),
            debug_ids: BTreeSet::new(),
        }
    }
}

/// Files that arrived together. The halves of a program's units may be in other files than the program.
pub(crate) struct Together<'a> {
    receiver: &'a Receiver<'a>,
    parts: Vec<Part>,
    /// Debug ids of the programs among them.
    debug_ids: BTreeSet<String>,
}

impl Together<'_> {
    /// Stores the contents of `file`, except halves. `name` is the client's name of it.
    ///
    /// # Errors
    /// Only if `file` cannot be read or examined. Everything else is in the verdicts.
    pub(crate) fn take(&mut self, mut file: File, name: &str) -> io::Result<Arrival> {
        file.rewind()?;
        let mut arriving = Arriving {
            receiver: self.receiver,
            budget: Budget::new(self.receiver.bounds, file.metadata()?.len()),
            is_archive: false,
            verdicts: Vec::new(),
            parts: Vec::new(),
        };
        arriving.take(&mut file, name, LAYERS_MAX);
        self.parts.append(&mut arriving.parts);
        let taken = (arriving.verdicts.iter()).filter_map(|verdict| verdict.result.as_ref().ok());
        self.debug_ids
            .extend(taken.map(|taken| taken.module.debug_id.clone()));
        Ok(Arrival {
            is_archive: arriving.is_archive,
            verdicts: arriving.verdicts,
        })
    }

    /// Joins the halves with their programs, and returns the results.
    pub(crate) fn finish(self) -> Vec<Verdict> {
        halves::join(self.receiver, self.parts, &self.debug_ids)
    }
}

/// An arrival while its layers are unpacked.
struct Arriving<'a> {
    receiver: &'a Receiver<'a>,
    budget: Budget,
    is_archive: bool,
    verdicts: Vec<Verdict>,
    parts: Vec<Part>,
}

impl Arriving<'_> {
    fn decide(&mut self, name: &str, result: Result<Taken, Refused>) {
        self.verdicts.push(Verdict::new(name, result));
    }

    /// Whether to leave the rest of an archive unread. If so, adds a verdict about it.
    fn is_over(&mut self, name: &str) -> bool {
        let storage_failed = matches!(
            self.verdicts.last(),
            Some(Verdict {
                result: Err(Refused::Storage(_)),
                ..
            })
        );
        let is_over = self.budget.is_spent() || storage_failed;
        if is_over {
            self.decide(
                name,
                Err(refused("the entries after this one were not read")),
            );
        }
        is_over
    }

    fn take(&mut self, input: &mut dyn Read, name: &str, layers: usize) {
        if let Err(why) = self.try_take(input, name, layers) {
            self.decide(name, Err(why));
        }
    }

    /// Handles a file and everything in it. An error is about the file itself.
    fn try_take(&mut self, input: &mut dyn Read, name: &str, layers: usize) -> Result<(), Refused> {
        let mut start = Vec::new();
        (&mut *input)
            .take(MAGIC_BYTES as u64)
            .read_to_end(&mut start)
            .map_err(unreadable)?;
        let format = format_of(&start);
        let whole = io::Cursor::new(start).chain(input);
        let mut input = BufReader::with_capacity(64 * 1024, whole);
        let is_layer = matches!(
            format,
            Format::Zip | Format::Tar | Format::Cabinet | Format::Packed(_)
        );
        if layers == 0 && is_layer {
            return Err(refused(format!(
                "it is an archive nested in {LAYERS_MAX} other archives; {REPACK}"
            )));
        }
        match format {
            Format::Packed(packing) => {
                let mut unpacked = packing.unpacked(input, &self.budget).map_err(unreadable)?;
                self.try_take(&mut unpacked, unpacked_name(name), layers - 1)
            }
            Format::Zip => {
                self.is_archive = true;
                let mut file =
                    (self.receiver.symbol_store.incoming_file()).map_err(Refused::Storage)?;
                self.spool(&mut input, &mut file)?;
                self.take_zip(file, name, layers - 1)
            }
            Format::Tar => {
                self.is_archive = true;
                self.take_tar(input, name, layers - 1)
            }
            Format::Cabinet => {
                let mut file =
                    (self.receiver.symbol_store.incoming_file()).map_err(Refused::Storage)?;
                self.spool(&mut input, &mut file)?;
                self.take_cabinet(&file, name, layers - 1)
            }
            Format::Native => self.take_native(&mut input, name),
            Format::Sources => self.take_sources(&mut input, name),
            Format::Text => {
                let result = self.take_text(&mut input, name, None, Vec::new());
                self.decide(name, result);
                Ok(())
            }
            Format::Other(what, way_out) => Err(refused(format!("it is {what}; {way_out}"))),
        }
    }

    /// Copies the input to `file`. Returns its hash and length.
    fn spool(&self, input: &mut impl Read, file: &mut File) -> Result<([u8; 32], u64), Refused> {
        let mut hash = Sha256::new();
        let mut bytes = 0;
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let count = input.read(&mut buffer).map_err(unreadable)?;
            if count == 0 {
                break;
            }
            hash.update(&buffer[..count]);
            file.write_all(&buffer[..count]).map_err(Refused::Storage)?;
            bytes += count as u64;
        }
        file.rewind().map_err(Refused::Storage)?;
        Ok((hash.finalize().into(), bytes))
    }

    fn take_text(
        &self,
        text: &mut impl BufRead,
        name: &str,
        native: Option<&Native>,
        notes: Vec<String>,
    ) -> Result<Taken, Refused> {
        let incoming = Incoming {
            name,
            native,
            notes,
            now_ms: self.receiver.now_ms,
        };
        let mut taken = self
            .receiver
            .symbol_store
            .take(text, incoming, self.receiver.conflict)?;
        if self.is_archive && native.is_none() && !is_place(name, &taken.place) {
            let place = place_of(&taken.module);
            let note = format!("it is stored as {place}, the name in its MODULE line");
            taken.notes.push(note);
        }
        Ok(taken)
    }

    /// A program or debug file: stores each text that the converter makes of it.
    fn take_native(&mut self, input: &mut impl Read, name: &str) -> Result<(), Refused> {
        let receiver = self.receiver;
        let mut file = (receiver.symbol_store.incoming_named()).map_err(Refused::Storage)?;
        let (sha256, bytes) = self.spool(input, file.as_file_mut())?;
        let texts = (receiver.symbol_store.incoming_file()).map_err(Refused::Storage)?;
        (receiver.converter).convert(file.as_file(), Others::Unknown, name, &texts)?;
        let native = |head: &mut Head| {
            Ok(Native {
                kind: head.kind,
                holds_code: head.holds_code,
                coverage: head.coverage,
                file: file.as_file().try_clone()?,
                sha256,
                bytes,
                skeletons: std::mem::take(&mut head.skeletons),
            })
        };
        let others = receiver.take_texts(texts, native, |mut text, native, notes| {
            let result = self.take_text(&mut text, name, Some(&native), notes);
            self.decide(name, result);
        })?;
        for why in others.refused {
            self.decide(name, Err(refused(why)));
        }
        if let Some((kind, ids)) = others.parts {
            self.parts.push(Part {
                name: name.to_owned(),
                path: file.into_temp_path(),
                sha256,
                kind,
                ids,
            });
        }
        Ok(())
    }

    /// A source bundle: a zip after eight bytes, with a manifest that names the debug id. It is stored
    /// without unpacking its sources.
    fn take_sources(&mut self, input: &mut impl Read, name: &str) -> Result<(), Refused> {
        let mut file = (self.receiver.symbol_store.incoming_file()).map_err(Refused::Storage)?;
        let (sha256, bytes) = self.spool(input, &mut file)?;
        let copy = file.try_clone().map_err(Refused::Storage)?;
        let mut archive = open_zip(copy)?;
        self.check_entries(archive.len())?;
        let manifest = archive.by_name("manifest.json");
        let manifest = manifest.map_err(|e| refused(format!("it has no manifest.json: {e}")))?;
        let manifest = self.budget.bounded(manifest).take(MANIFEST_BYTES_MAX);
        let manifest: Manifest = serde_json::from_reader(BufReader::new(manifest))
            .map_err(|e| refused(format!("its manifest.json cannot be read: {e}")))?;
        let Some(debug_id) = debug_id_of(&manifest.debug_id) else {
            return Err(refused("its manifest.json has no debug id"));
        };
        let result = self.receiver.symbol_store.take_sources(Bundle {
            name,
            debug_file: &manifest.object_name,
            debug_id: &debug_id,
            arch: &manifest.arch,
            file,
            sha256,
            bytes,
            now_ms: self.receiver.now_ms,
        });
        self.decide(name, result);
        Ok(())
    }

    fn take_zip(&mut self, file: File, name: &str, layers: usize) -> Result<(), Refused> {
        let mut archive = open_zip(file)?;
        self.check_entries(archive.len())?;
        for index in 0..archive.len() {
            let entry_name = archive.name_for_index(index).unwrap_or(name).to_owned();
            let entry = match archive.by_index(index) {
                Ok(entry) => entry,
                Err(error) => {
                    let why = format!("the entry cannot be read: {error}");
                    self.decide(&entry_name, Err(refused(why)));
                    continue;
                }
            };
            if entry.is_dir() || is_beside_symbols(&entry_name) {
                continue;
            }
            let mut bounded = self.budget.bounded(entry);
            self.take(&mut bounded, &entry_name, layers);
            if self.is_over(name) {
                break;
            }
        }
        Ok(())
    }

    /// A cabinet, as Microsoft's tools compress the files of a symbol server: `app.pd_`. A child process makes a
    /// tar of it.
    fn take_cabinet(&mut self, cabinet: &File, name: &str, layers: usize) -> Result<(), Refused> {
        let receiver = self.receiver;
        let mut tar = (receiver.symbol_store.incoming_file()).map_err(Refused::Storage)?;
        (receiver.converter).unpack(cabinet, &tar, self.budget.left())?;
        tar.rewind().map_err(Refused::Storage)?;
        let bounded = self.budget.bounded(BufReader::new(tar));
        self.take_tar(bounded, name, layers)
    }

    fn take_tar(&mut self, input: impl Read, name: &str, layers: usize) -> Result<(), Refused> {
        let mut archive = tar::Archive::new(input);
        let entries = archive.entries().map_err(unreadable)?;
        // Raw, because otherwise the crate reads long names into memory, whatever their length.
        for (count, entry) in entries.raw(true).enumerate() {
            let mut entry = entry
                .map_err(|e| refused(format!("the rest of the archive cannot be read: {e}")))?;
            self.check_entries(count + 1)?;
            let entry_name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            if !entry.header().entry_type().is_file() || is_beside_symbols(&entry_name) {
                continue;
            }
            self.take(&mut entry, &entry_name, layers);
            if self.is_over(name) {
                break;
            }
        }
        Ok(())
    }

    fn check_entries(&self, count: usize) -> Result<(), Refused> {
        let max = self.budget.bounds.entries_max;
        if count > max {
            Err(refused(format!(
                "the archive has more than {max} entries; split it into smaller archives"
            )))
        } else {
            Ok(())
        }
    }
}

/// The part of a source bundle's manifest that describes the program.
#[derive(serde::Deserialize)]
struct Manifest {
    #[serde(default)]
    debug_id: String,
    #[serde(default)]
    object_name: String,
    #[serde(default)]
    arch: String,
}

/// Converts `f4b454d9-31de-...`, with or without an age, to `F4B454D9...0`.
fn debug_id_of(text: &str) -> Option<String> {
    let id: String = text.chars().filter(|c| *c != '-').collect();
    let id = id.to_ascii_uppercase();
    let id = if id.len() == 32 { id + "0" } else { id };
    let is_id = (33..=40).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_hexdigit());
    is_id.then_some(id)
}

fn open_zip(file: File) -> Result<ZipArchive<Metered>, Refused> {
    let left = Rc::new(Cell::new(DIRECTORY_BYTES_MAX));
    let metered = Metered {
        file: BufReader::new(file),
        left: left.clone(),
        jumps: 0,
    };
    let archive = ZipArchive::new(metered).map_err(|error| {
        refused(format!(
            "the archive cannot be read: {error}; it may be incomplete"
        ))
    })?;
    left.set(u64::MAX);
    Ok(archive)
}

/// A file that counts the bytes read from it while `left` is limited. Bytes that only its buffer reads are
/// not counted: a reader that seeks, as for a zip's directory, discards most of them.
struct Metered {
    file: BufReader<File>,
    left: Rc<Cell<u64>>,
    jumps: u64,
}

impl Read for Metered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        let left = self.left.get().checked_sub(count as u64);
        self.left.set(left.ok_or_else(|| {
            io::Error::other(format!(
                "the directory of the archive is larger than {DIRECTORY_BYTES_MAX} bytes"
            ))
        })?);
        Ok(count)
    }
}

impl Seek for Metered {
    fn seek(&mut self, position: io::SeekFrom) -> io::Result<u64> {
        self.jumps += 1;
        if self.left.get() != u64::MAX && self.jumps > DIRECTORY_JUMPS_MAX {
            return Err(io::Error::other(
                "the directory of the archive has too many entries",
            ));
        }
        self.file.seek(position)
    }
}

/// Whether a file of an archive is not a symbol file but belongs to one: Firefox's list of the archive's
/// contents, or the other files of a dSYM.
fn is_beside_symbols(name: &str) -> bool {
    let is_list = !name.contains('/') && name.ends_with("-symbols.txt");
    let in_dsym = name.contains(".dSYM/") && !name.contains("/DWARF/");
    is_list || in_dsym || name.starts_with("__MACOSX/")
}

/// The name of a compressed file's content.
fn unpacked_name(name: &str) -> &str {
    [".gz", ".zst", ".xz"]
        .iter()
        .find_map(|ending| name.strip_suffix(ending))
        .unwrap_or(name)
}

/// Whether the name in an archive equals our place for the file, ignoring case.
fn is_place(name: &str, place: &str) -> bool {
    name.eq_ignore_ascii_case(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_their_first_bytes() {
        for (start, format) in [
            (&b"\x7fELF\x02"[..], Format::Native),
            (b"Microsoft C/C++ MSF 7.00", Format::Native),
            (b"MODULE Linux", Format::Text),
            (b"", Format::Text),
        ] {
            assert_eq!(format_of(start), format);
        }
        assert!(matches!(
            format_of(b"MDMP\x93\xa7"),
            Format::Other("a minidump", _)
        ));
        assert_eq!(format_of(b"MSCF\0\0\0\0"), Format::Cabinet);
        let mut tar = [0; MAGIC_BYTES];
        tar[257..262].copy_from_slice(b"ustar");
        assert_eq!(format_of(&tar), Format::Tar);
    }
}
