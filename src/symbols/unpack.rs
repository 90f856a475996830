//! Decompresses streams within one budget for the whole arrival.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::rc::Rc;

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use liblzma::bufread::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};
use zip::ZipArchive;

use super::check::Refused;

/// Memory for decompressing zstd, as a power of two: sufficient for its highest ordinary level.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// Memory for decompressing xz, in bytes. Its highest level needs 65 MiB.
const XZ_MEMORY_BYTES_MAX: u64 = 128 << 20;

/// Limits for one arrival.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub inflated_bytes_max: u64,
    /// Limit of the ratio by which decompression may enlarge the arrival, beyond `free_bytes`.
    pub ratio_max: u64,
    pub free_bytes: u64,
    /// Limit of files in one archive.
    pub entries_max: usize,
}

/// The number of bytes that decompression may still produce.
#[derive(Clone)]
pub(super) struct Budget {
    left: Rc<Cell<u64>>,
    pub(super) bounds: Bounds,
}

impl Budget {
    pub(super) fn new(bounds: Bounds, received: u64) -> Self {
        let by_ratio =
            (bounds.free_bytes).saturating_add(received.saturating_mul(bounds.ratio_max));
        let left = by_ratio.min(bounds.inflated_bytes_max);
        Self {
            left: Rc::new(Cell::new(left)),
            bounds,
        }
    }

    pub(super) fn is_spent(&self) -> bool {
        self.left.get() == 0
    }

    /// The number of bytes that may still follow.
    pub(super) fn left(&self) -> u64 {
        self.left.get()
    }

    pub(super) fn bounded<R: Read>(&self, inner: R) -> Bounded<R> {
        Bounded {
            inner,
            budget: self.clone(),
        }
    }
}

/// A reader whose bytes are subtracted from a budget.
pub(super) struct Bounded<R> {
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
                "the decompressed upload is larger than symbols.inflated_bytes_max ({} bytes) or {} times its compressed size",
                self.budget.bounds.inflated_bytes_max, self.budget.bounds.ratio_max
            )));
        }
        self.budget.left.set(left - count as u64);
        Ok(count)
    }
}

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Gzip,
    Zstd,
    Xz,
    Bzip2,
}

/// The first bytes of compressed streams.
pub(super) const PACKED: [(&[u8], Packing); 4] = [
    (b"\x1f\x8b", Packing::Gzip),
    (b"\x28\xb5\x2f\xfd", Packing::Zstd),
    (b"\xfd7zXZ\x00", Packing::Xz),
    (b"BZh", Packing::Bzip2),
];
const ZIP: &[u8] = b"PK\x03\x04";

/// Whether bytes start like a compressed file that [`unpack`] can read. Four bytes are enough.
pub(crate) fn is_packed(start: &[u8]) -> bool {
    let begins = |magic: &[u8]| start.len() >= 3 && start.starts_with(&magic[..magic.len().min(4)]);
    begins(ZIP) || PACKED.iter().any(|(magic, _)| begins(magic))
}

/// The content of a compressed stream, or of a zip with one file. `None` if the bytes are neither. An error
/// is a sentence.
pub fn unpack(packed: &[u8], bounds: Bounds) -> Option<Result<Vec<u8>, String>> {
    let budget = Budget::new(bounds, packed.len() as u64);
    let read = |mut reader: Box<dyn Read + '_>| {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map_err(|error| {
            if budget.is_spent() {
                format!(
                    "it is larger than {} bytes or {} times its compressed size when decompressed",
                    bounds.inflated_bytes_max, bounds.ratio_max
                )
            } else {
                format!("it cannot be decompressed: {error}")
            }
        })?;
        Ok(bytes)
    };
    if packed.starts_with(ZIP) {
        return Some(only_file(packed).and_then(|(mut archive, index)| {
            let entry = archive.by_index(index).map_err(|e| e.to_string())?;
            read(Box::new(budget.bounded(entry)))
        }));
    }
    let (_, packing) = PACKED.iter().find(|(magic, _)| packed.starts_with(magic))?;
    let reader = packing.unpacked(packed, &budget);
    Some(reader.map_err(|e| e.to_string()).and_then(read))
}

type ZipInMemory<'a> = ZipArchive<io::Cursor<&'a [u8]>>;

/// A zip, with the index of its only file.
fn only_file(packed: &[u8]) -> Result<(ZipInMemory<'_>, usize), String> {
    let archive = ZipArchive::new(io::Cursor::new(packed))
        .map_err(|error| format!("the zip cannot be read: {error}"))?;
    let is_file = |index: &usize| {
        let name = archive.name_for_index(*index).unwrap_or_default();
        !name.ends_with('/') && !name.starts_with("__MACOSX/")
    };
    let mut files = (0..archive.len()).filter(is_file);
    match (files.next(), files.next()) {
        (Some(index), None) => Ok((archive, index)),
        (None, _) => Err("the zip is empty".to_owned()),
        (_, Some(_)) => Err("the zip has more than one file".to_owned()),
    }
}

impl Packing {
    /// The content of a compressed stream, limited by `budget`.
    pub(super) fn unpacked<'a>(
        self,
        packed: impl BufRead + 'a,
        budget: &Budget,
    ) -> io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::Gzip => Box::new(budget.bounded(MultiGzDecoder::new(packed))),
            Self::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(packed)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Box::new(budget.bounded(decoder))
            }
            Self::Bzip2 => Box::new(budget.bounded(MultiBzDecoder::new(packed))),
            Self::Xz => {
                let stream = Stream::new_stream_decoder(XZ_MEMORY_BYTES_MAX, CONCATENATED)?;
                Box::new(budget.bounded(XzDecoder::new_stream(packed, stream)))
            }
        })
    }
}

/// Decompresses the gzip body of a request into `output`, within `bounds`.
///
/// # Errors
/// [`Refused::Bad`] if the body is damaged or too large, [`Refused::Storage`] if a file failed.
pub(crate) fn inflate(mut input: File, output: &mut File, bounds: Bounds) -> Result<(), Refused> {
    let received = input.metadata().map_err(Refused::Storage)?.len();
    input.rewind().map_err(Refused::Storage)?;
    let budget = Budget::new(bounds, received);
    let mut bounded = budget.bounded(MultiGzDecoder::new(BufReader::new(input)));
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = bounded.read(&mut buffer).map_err(|error| {
            Refused::Bad(format!("the body is not a complete gzip stream: {error}"))
        })?;
        if count == 0 {
            return Ok(());
        }
        io::Write::write_all(output, &buffer[..count]).map_err(Refused::Storage)?;
    }
}
