//! What arrives as symbols: one file or an archive of them, packed or not, told by its first
//! bytes alone and never by its name.
//!
//! Every file gets a verdict of its own, so a bad one does not cost the others. Inflation is
//! bounded over the whole arrival, however many streams it is made of.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::rc::Rc;

use flate2::bufread::MultiGzDecoder;
use zip::ZipArchive;

use super::check::Refused;
use super::shelf::{Conflict, Placed, Shelf, Taken};

/// Bytes that are read of a file to tell what it is. A tape archive says so at 257.
const MAGIC_BYTES: usize = 264;
/// Bytes read to find out what is in an archive: its directory is held in memory.
const DIRECTORY_BYTES_MAX: u64 = 16 << 20;
/// Characters of a client's name for a file.
const NAME_CHARS_MAX: usize = 300;

/// Bounds on one arrival.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub inflated_bytes_max: u64,
    /// Most times that it may grow by inflation, beyond `free_bytes`.
    pub ratio_max: u64,
    pub free_bytes: u64,
    /// Files of one archive.
    pub entries_max: usize,
}

/// What became of one file.
#[derive(Debug)]
pub struct Verdict {
    /// What the client calls it.
    pub name: String,
    pub result: Result<Taken, Refused>,
}

impl Verdict {
    /// A word for what became of the file.
    pub fn outcome(&self) -> &'static str {
        match &self.result {
            Ok(taken) => match taken.placed {
                Placed::New => "stored",
                Placed::Same => "same",
                Placed::Beside(_) => "kept_beside",
                Placed::Replaced(_) => "replaced",
            },
            Err(Refused::Bad(_)) => "refused",
            Err(Refused::Storage(_)) => "failed",
        }
    }
}

#[derive(Debug)]
pub struct Arrival {
    pub is_archive: bool,
    pub verdicts: Vec<Verdict>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Zip,
    Gzip,
    /// Symbols, or nothing that we know.
    Text,
    /// Its name, and what to do with it.
    Other(&'static str, &'static str),
}

const DUMP_SYMS: &str = "run dump_syms on it and send the .sym file that it writes";
const REPACK: &str = "unpack it and send a zip, a gzip-compressed file or the .sym file itself";

/// First bytes, and what begins so.
const MAGICS: &[(&[u8], Format)] = &[
    (b"PK\x03\x04", Format::Zip),
    (b"PK\x05\x06", Format::Zip),
    (b"\x1f\x8b", Format::Gzip),
    (b"\x7fELF", Format::Other("an ELF file", DUMP_SYMS)),
    (
        b"Microsoft C/C++ MSF",
        Format::Other("a PDB file", DUMP_SYMS),
    ),
    (b"MZ", Format::Other("a Windows program (PE)", DUMP_SYMS)),
    (
        b"\xcf\xfa\xed\xfe",
        Format::Other("a Mach-O file", DUMP_SYMS),
    ),
    (
        b"\xce\xfa\xed\xfe",
        Format::Other("a Mach-O file", DUMP_SYMS),
    ),
    (
        b"\xca\xfe\xba\xbe",
        Format::Other("a fat Mach-O file", DUMP_SYMS),
    ),
    (
        b"BSJB",
        Format::Other("a portable PDB file", "it cannot be used for native stacks"),
    ),
    (
        b"\x28\xb5\x2f\xfd",
        Format::Other("packed with zstd", REPACK),
    ),
    (b"\xfd7zXZ\x00", Format::Other("packed with xz", REPACK)),
    (b"BZh", Format::Other("packed with bzip2", REPACK)),
    (b"7z\xbc\xaf\x27\x1c", Format::Other("a 7z archive", REPACK)),
    (b"MSCF", Format::Other("a cabinet archive", REPACK)),
    (b"MDMP", Format::Other("a minidump", "send it to /submit")),
];

fn format_of(start: &[u8]) -> Format {
    if start.get(257..262) == Some(b"ustar") {
        return Format::Other("a tar archive", REPACK);
    }
    MAGICS
        .iter()
        .find(|(magic, _)| start.starts_with(magic))
        .map_or(Format::Text, |(_, format)| *format)
}

fn refused(why: impl Into<String>) -> Refused {
    Refused::Bad(why.into())
}

/// The bytes that may still come out of inflation.
#[derive(Clone)]
struct Budget {
    left: Rc<Cell<u64>>,
    bounds: Bounds,
}

impl Budget {
    fn new(bounds: Bounds, received: u64) -> Self {
        let by_ratio = bounds.free_bytes + received.saturating_mul(bounds.ratio_max);
        let left = by_ratio.min(bounds.inflated_bytes_max);
        Self {
            left: Rc::new(Cell::new(left)),
            bounds,
        }
    }

    fn is_spent(&self) -> bool {
        self.left.get() == 0
    }
}

/// A reader whose bytes are taken off a budget.
struct Bounded<R> {
    inner: R,
    budget: Budget,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let left = self.budget.left.get();
        if count as u64 > left {
            self.budget.left.set(0);
            return Err(io::Error::other(format!(
                "the upload grows by inflation to more than symbols.inflated_bytes_max ({} bytes) or {} times its size",
                self.budget.bounds.inflated_bytes_max, self.budget.bounds.ratio_max
            )));
        }
        self.budget.left.set(left - count as u64);
        Ok(count)
    }
}

/// The body of a request that says it is gzip, inflated within `bounds` into `output`.
pub fn inflate(mut input: File, output: &mut File, bounds: Bounds) -> Result<(), Refused> {
    let received = input.metadata().map_err(Refused::Storage)?.len();
    input.rewind().map_err(Refused::Storage)?;
    let inner = MultiGzDecoder::new(BufReader::new(input));
    let budget = Budget::new(bounds, received);
    let mut bounded = Bounded { inner, budget };
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = bounded.read(&mut buffer);
        let count =
            read.map_err(|error| refused(format!("the body is no whole gzip stream: {error}")))?;
        if count == 0 {
            return Ok(());
        }
        io::Write::write_all(output, &buffer[..count]).map_err(Refused::Storage)?;
    }
}

/// Takes what lies in `file` into `shelf`. `name` is what the client calls it.
pub fn take(
    shelf: &Shelf,
    mut file: File,
    name: &str,
    bounds: Bounds,
    conflict: Conflict,
) -> io::Result<Arrival> {
    file.rewind()?;
    let budget = Budget::new(bounds, file.metadata()?.len());
    let mut start = Vec::new();
    file.by_ref()
        .take(MAGIC_BYTES as u64)
        .read_to_end(&mut start)?;
    file.rewind()?;
    if format_of(&start) == Format::Zip {
        let verdicts = take_archive(shelf, file, name, &budget, conflict);
        return Ok(Arrival {
            is_archive: true,
            verdicts,
        });
    }
    let result = take_one(shelf, file, &budget, conflict);
    Ok(Arrival {
        is_archive: false,
        verdicts: vec![verdict(name, result)],
    })
}

fn verdict(name: &str, result: Result<Taken, Refused>) -> Verdict {
    Verdict {
        name: name.chars().take(NAME_CHARS_MAX).collect(),
        result,
    }
}

/// One file that may be gzip-compressed.
fn take_one(
    shelf: &Shelf,
    input: impl Read,
    budget: &Budget,
    conflict: Conflict,
) -> Result<Taken, Refused> {
    let mut input = BufReader::with_capacity(64 * 1024, input);
    let start = input.fill_buf().map_err(|e| refused(e.to_string()))?;
    match format_of(start) {
        Format::Gzip => {
            let inner = MultiGzDecoder::new(input);
            let bounded = Bounded {
                inner,
                budget: budget.clone(),
            };
            let mut input = BufReader::with_capacity(64 * 1024, bounded);
            let start = input.fill_buf().map_err(|e| refused(e.to_string()))?;
            match format_of(start) {
                Format::Text => shelf.take(&mut input, conflict),
                Format::Zip | Format::Gzip => {
                    Err(refused(format!("it is an archive within gzip; {REPACK}")))
                }
                Format::Other(what, way_out) => Err(refused(format!("it is {what}; {way_out}"))),
            }
        }
        Format::Text => shelf.take(&mut input, conflict),
        Format::Zip => Err(refused(format!("it is an archive in an archive; {REPACK}"))),
        Format::Other(what, way_out) => Err(refused(format!("it is {what}; {way_out}"))),
    }
}

/// A file whose reads are counted while `left` is bounded.
struct Metered {
    file: File,
    left: Rc<Cell<u64>>,
}

impl Read for Metered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        let left = self.left.get().checked_sub(count as u64);
        self.left.set(left.ok_or_else(|| {
            io::Error::other(format!(
                "its directory is larger than {DIRECTORY_BYTES_MAX} bytes"
            ))
        })?);
        Ok(count)
    }
}

impl Seek for Metered {
    fn seek(&mut self, position: io::SeekFrom) -> io::Result<u64> {
        self.file.seek(position)
    }
}

fn take_archive(
    shelf: &Shelf,
    file: File,
    name: &str,
    budget: &Budget,
    conflict: Conflict,
) -> Vec<Verdict> {
    let left = Rc::new(Cell::new(DIRECTORY_BYTES_MAX));
    let metered = Metered {
        file,
        left: left.clone(),
    };
    let mut archive = match ZipArchive::new(BufReader::new(metered)) {
        Ok(archive) => archive,
        Err(error) => {
            let why = format!("the archive cannot be read: {error}; it may be cut off");
            return vec![verdict(name, Err(refused(why)))];
        }
    };
    left.set(u64::MAX);
    let entries_max = budget.bounds.entries_max;
    if archive.len() > entries_max {
        let why = format!(
            "the archive has {} entries, more than {entries_max}; send it in parts",
            archive.len()
        );
        return vec![verdict(name, Err(refused(why)))];
    }
    let mut verdicts = Vec::new();
    for index in 0..archive.len() {
        let entry_name = archive.name_for_index(index).unwrap_or(name).to_owned();
        let entry = match archive.by_index(index) {
            Ok(entry) => entry,
            Err(error) => {
                let why = format!("the entry cannot be read: {error}");
                verdicts.push(verdict(&entry_name, Err(refused(why))));
                continue;
            }
        };
        if entry.is_dir() || is_list(&entry_name) {
            continue;
        }
        let bounded = Bounded {
            inner: entry,
            budget: budget.clone(),
        };
        let mut result = take_one(shelf, bounded, budget, conflict);
        if let Ok(taken) = &mut result
            && !is_place(&entry_name, &taken.place)
        {
            let place = &taken.place;
            let note = format!("it is kept as {place}, as its MODULE line says");
            taken.notes.push(note);
        }
        let storage_failed = matches!(result, Err(Refused::Storage(_)));
        verdicts.push(verdict(&entry_name, result));
        if budget.is_spent() || storage_failed {
            let why = refused("the entries after this one were not read");
            verdicts.push(verdict(name, Err(why)));
            break;
        }
    }
    verdicts
}

/// Firefox's archives carry a list of what is in them.
fn is_list(name: &str) -> bool {
    !name.contains('/') && name.ends_with("-symbols.txt")
}

/// Whether an archive names a file as we do, but for case and for a packed file's ending.
fn is_place(name: &str, place: &str) -> bool {
    let name = name.strip_suffix(".gz").unwrap_or(name);
    name.eq_ignore_ascii_case(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_that_are_not_taken_are_named() {
        for (start, what) in [
            (&b"\x7fELF\x02"[..], "an ELF file"),
            (b"Microsoft C/C++ MSF 7.00", "a PDB file"),
            (b"\x28\xb5\x2f\xfd", "packed with zstd"),
            (b"MDMP\x93\xa7", "a minidump"),
        ] {
            assert!(
                matches!(format_of(start), Format::Other(found, _) if found == what),
                "{what}"
            );
        }
        assert_eq!(format_of(b"MODULE Linux"), Format::Text);
        assert_eq!(format_of(b""), Format::Text);
    }
}
