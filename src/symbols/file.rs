//! The symbol file of a module, as walks and clients read it. It is either a text in a folder, or a text that
//! is assembled from the files in a [`SymbolStore`](super::SymbolStore).
//!
//! In a symbol store, each module has a folder named by its debug id. Its description ([`read_module`]) names the
//! texts in use. The description is replaced in one step, so its length and modification time identify the
//! content of the symbol file.

use std::fs::{self, File, Metadata};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::mapped::Stamp;
use crate::crash::symbols::{Module, Upload};

/// The file that describes a module in its folder in a symbol store.
pub(super) const DESCRIPTION: &str = "module.json";
/// Limit of bytes of a description. Each upload needs some hundred bytes.
const DESCRIPTION_BYTES_MAX: u64 = 16 << 20;
/// Hex digits of an upload's hash in the names of its files.
const HASH_DIGITS: usize = 16;

/// The text of a symbol file, from its start.
pub struct OpenText {
    pub reader: Box<dyn Read + Send>,
    /// Its length in bytes; `None` if it is not known before the end.
    pub bytes: Option<u64>,
    /// Identifies this version of the content.
    pub(crate) stamp: Stamp,
}

/// The location of a module's symbol file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SymbolFile {
    /// A text file.
    Plain(PathBuf),
    /// The folder of a module in a symbol store.
    Stored(PathBuf),
}

impl SymbolFile {
    /// The file that changes whenever the content changes.
    pub(crate) fn path(&self) -> PathBuf {
        match self {
            Self::Plain(path) => path.clone(),
            Self::Stored(folder) => folder.join(DESCRIPTION),
        }
    }

    /// The metadata of [`Self::path`]. Its length and modification time identify the content.
    ///
    /// # Errors
    /// The file does not exist any more, or cannot be read.
    pub(crate) fn metadata(&self) -> io::Result<Metadata> {
        fs::metadata(self.path())
    }

    /// Upper bound of the length of the text in bytes.
    ///
    /// # Errors
    /// The file does not exist any more or cannot be read, or the description of the module is damaged.
    pub(crate) fn text_bytes(&self) -> io::Result<u64> {
        match self {
            Self::Plain(_) => Ok(self.metadata()?.len()),
            Self::Stored(folder) => {
                let module = read_module(folder)?;
                let of = |upload: &Upload| upload.text_bytes;
                Ok(of(module.symbols()) + of(module.unwind()))
            }
        }
    }

    /// Opens the text.
    ///
    /// # Errors
    /// A file of the module does not exist any more or cannot be read, or the description of the module is
    /// damaged.
    pub(crate) fn open(&self) -> io::Result<OpenText> {
        match self {
            Self::Plain(path) => {
                let file = File::open(path)?;
                let stamp = Stamp::of(&file.metadata()?);
                Ok(OpenText {
                    reader: Box::new(file),
                    bytes: Some(stamp.bytes),
                    stamp,
                })
            }
            Self::Stored(folder) => {
                let description = File::open(folder.join(DESCRIPTION))?;
                let stamp = Stamp::of(&description.metadata()?);
                let module = parse_module(description)?;
                let (reader, bytes) = text_of(folder, &module)?;
                Ok(OpenText {
                    reader,
                    bytes,
                    stamp,
                })
            }
        }
    }
}

/// Reads the description in a module's folder.
pub(super) fn read_module(folder: &Path) -> io::Result<Module> {
    parse_module(File::open(folder.join(DESCRIPTION))?)
}

fn parse_module(description: File) -> io::Result<Module> {
    let bytes = BufReader::new(description).take(DESCRIPTION_BYTES_MAX);
    let module: Module = serde_json::from_reader(bytes)?;
    if module.is_sound() {
        Ok(module)
    } else {
        Err(io::Error::other("a module's description names no upload"))
    }
}

/// The name of the file with an upload's text.
pub(super) fn text_name(upload: &Upload) -> String {
    format!("{}.sym.zst", &upload.sha256[..HASH_DIGITS])
}

/// The name of the file with an upload as received, if it was not a text.
pub(super) fn original_name(upload: &Upload) -> String {
    let hash = &upload.sha256[..HASH_DIGITS];
    format!("{hash}.{}.zst", upload.kind.name())
}

/// The name of the file that lists the units whose functions are missing in an upload's text.
pub(super) fn skeletons_name(upload: &Upload) -> String {
    format!("{}.skeletons.json", &upload.sha256[..HASH_DIGITS])
}

pub(super) fn unpacked(path: &Path) -> io::Result<impl Read + Send + use<>> {
    zstd::Decoder::new(File::open(path)?)
}

/// The text in use: names and functions of one upload, and unwind rules of another if that upload provides
/// them.
fn text_of(folder: &Path, module: &Module) -> io::Result<(Box<dyn Read + Send>, Option<u64>)> {
    let Module {
        os,
        arch,
        debug_id,
        debug_file,
        ..
    } = module;
    let head = format!("MODULE {os} {arch} {debug_id} {debug_file}\n");
    let symbols = lines_of(folder, module.symbols())?;
    let head_bytes = head.len() as u64;
    let head = io::Cursor::new(head.into_bytes());
    if module.symbols_from == module.unwind_from {
        let first = symbols.line.len() as u64;
        let rest = module.symbols().text_bytes.saturating_sub(first);
        return Ok((Box::new(head.chain(symbols.input)), Some(head_bytes + rest)));
    }
    let unwind = lines_of(folder, module.unwind())?;
    let symbols = Lines {
        keep: |line| !is_unwind(line),
        ..symbols
    };
    let unwind = Lines {
        keep: is_unwind,
        ..unwind
    };
    Ok((Box::new(head.chain(symbols).chain(unwind)), None))
}

fn is_unwind(line: &[u8]) -> bool {
    line.starts_with(b"STACK ")
}

/// The selected lines of a text. Its first line has already been read.
struct Lines<R> {
    input: R,
    keep: fn(&[u8]) -> bool,
    line: Vec<u8>,
    /// Number of bytes of `line` that were returned.
    given: usize,
}

fn lines_of(folder: &Path, upload: &Upload) -> io::Result<Lines<impl BufRead + Send + use<>>> {
    let text = unpacked(&folder.join(text_name(upload)))?;
    let mut input = BufReader::with_capacity(256 * 1024, text);
    let mut first = Vec::new();
    // The length of lines was limited when the text was checked.
    input.read_until(b'\n', &mut first)?;
    Ok(Lines {
        input,
        keep: |_| true,
        line: first,
        given: usize::MAX,
    })
}

impl<R: BufRead> Read for Lines<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            if self.given >= self.line.len() {
                self.line.clear();
                self.given = 0;
                if self.input.read_until(b'\n', &mut self.line)? == 0 {
                    break;
                }
                if !(self.keep)(&self.line) {
                    self.given = usize::MAX;
                    continue;
                }
            }
            let rest = &self.line[self.given..];
            let count = rest.len().min(buffer.len() - filled);
            buffer[filled..filled + count].copy_from_slice(&rest[..count]);
            self.given += count;
            filled += count;
        }
        Ok(filled)
    }
}
