//! The frames between a server and its walker: one request, one reply, alternating, on two pipes.
//!
//! ```text
//! request   0  4  magic "CKWQ"           reply   0  4  magic "CKWA"
//!           4  4  version                        4  4  version
//!           8  4  header length H                8  8  job, as in the request
//!          12  H  header, JSON {"job": n, ...}  16  1  kind: 0 walked, 1 refused, 2 needs maps
//!        12+H  8  dump length D                 17  8  body length B
//!        20+H  D  dump                          25  B  body: the walk's JSON,
//!                                                      or {"status", "sentence"},
//!                                                      or [{"debug_file", "debug_id"}]
//! ```
//! Numbers are little-endian. New keys may be added to the request's header; a reader ignores keys that it
//! does not know. A reply repeats the job, so that a late reply cannot be taken for that of the next dump.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use crate::stackwalk::walk::Attempt;
use crate::stackwalk::{Unmapped, WalkError};

/// 1: the first. 2: a reply may ask for symbol files to be mapped.
const VERSION: u32 = 2;
const REQUEST_MAGIC: [u8; 4] = *b"CKWQ";
const REPLY_MAGIC: [u8; 4] = *b"CKWA";
const HEADER_BYTES_MAX: u32 = 64 << 10;
/// A refusal is a word and a sentence.
const REFUSAL_BYTES_MAX: u64 = 64 << 10;

/// [`MAP_REQUESTS_MAX`](crate::stackwalk::provider::MAP_REQUESTS_MAX) symbols, each named in a few hundred bytes.
const MAP_REQUESTS_BYTES_MAX: u64 = 1 << 20;

const WALKED: u8 = 0;
const REFUSED: u8 = 1;
const NEEDS_MAPS: u8 = 2;

#[derive(Serialize, Deserialize)]
struct Header {
    job: u64,
    /// Convert symbols without a mapped form in memory, and ask for no maps.
    #[serde(default)]
    hold: bool,
}

/// The answer of a walker.
pub(super) type Reply = Result<Attempt, WalkError>;

pub(super) struct Request {
    pub(super) job: u64,
    pub(super) unmapped: Unmapped,
    pub(super) dump: Vec<u8>,
}

/// Why there is no reply.
#[derive(Debug)]
pub(super) enum ReplyError {
    /// The pipe was closed or broke: the child has ended or is about to end.
    Ended,
    /// The data is not a reply to this request.
    Garbled(String),
}

impl From<io::Error> for ReplyError {
    fn from(_: io::Error) -> Self {
        Self::Ended
    }
}

pub(super) fn write_request(
    pipe: &mut impl Write,
    job: u64,
    unmapped: Unmapped,
    dump: &[u8],
) -> io::Result<()> {
    let hold = unmapped == Unmapped::Convert;
    let header = serde_json::to_vec(&Header { job, hold })?;
    let mut start = Vec::with_capacity(20 + header.len());
    start.extend_from_slice(&REQUEST_MAGIC);
    start.extend_from_slice(&VERSION.to_le_bytes());
    start.extend_from_slice(&(header.len() as u32).to_le_bytes());
    start.extend_from_slice(&header);
    start.extend_from_slice(&(dump.len() as u64).to_le_bytes());
    pipe.write_all(&start)?;
    pipe.write_all(dump)?;
    pipe.flush()
}

/// Reads the next request; `None` if the parent closed the pipe after the last one.
pub(super) fn read_request(pipe: &mut impl Read) -> io::Result<Option<Request>> {
    let mut magic = [0; 4];
    if pipe.read(&mut magic[..1])? == 0 {
        return Ok(None);
    }
    pipe.read_exact(&mut magic[1..])?;
    if magic != REQUEST_MAGIC {
        return Err(invalid(format!("request begins with {magic:02x?}")));
    }
    let version = read_u32(pipe)?;
    if version != VERSION {
        return Err(invalid(format!(
            "request has version {version}, not {VERSION}"
        )));
    }
    let header_bytes = read_u32(pipe)?;
    if header_bytes > HEADER_BYTES_MAX {
        return Err(invalid(format!(
            "request header is {header_bytes} bytes, more than {HEADER_BYTES_MAX}"
        )));
    }
    let mut header = vec![0; header_bytes as usize];
    pipe.read_exact(&mut header)?;
    let Header { job, hold } = serde_json::from_slice(&header)?;
    let dump_bytes = read_u64(pipe)?;
    // Allocated in one piece: growing by doubling would need three times the memory of a large dump.
    let mut dump = vec![0; usize::try_from(dump_bytes).map_err(io::Error::other)?];
    pipe.read_exact(&mut dump)?;
    let unmapped = if hold {
        Unmapped::Convert
    } else {
        Unmapped::Request
    };
    Ok(Some(Request {
        job,
        unmapped,
        dump,
    }))
}

pub(super) fn write_reply(pipe: &mut impl Write, job: u64, reply: &Reply) -> io::Result<()> {
    let text;
    let (kind, body) = match reply {
        Ok(Attempt::Walked(json)) => (WALKED, json),
        Ok(Attempt::NeedsMaps(requests)) => {
            text = serde_json::to_vec(requests)?;
            (NEEDS_MAPS, &text)
        }
        Err(error) => {
            text = serde_json::to_vec(error)?;
            (REFUSED, &text)
        }
    };
    let mut start = Vec::with_capacity(25);
    start.extend_from_slice(&REPLY_MAGIC);
    start.extend_from_slice(&VERSION.to_le_bytes());
    start.extend_from_slice(&job.to_le_bytes());
    start.push(kind);
    start.extend_from_slice(&(body.len() as u64).to_le_bytes());
    pipe.write_all(&start)?;
    pipe.write_all(body)?;
    pipe.flush()
}

/// Reads the reply to `job`. Never holds more than `bytes_max` of JSON, whatever the length field says.
pub(super) fn read_reply(
    pipe: &mut impl Read,
    job: u64,
    bytes_max: u64,
) -> Result<Reply, ReplyError> {
    let mut magic = [0; 4];
    pipe.read_exact(&mut magic)?;
    if magic != REPLY_MAGIC {
        return Err(ReplyError::Garbled(format!(
            "reply begins with {magic:02x?}"
        )));
    }
    let version = read_u32(pipe)?;
    if version != VERSION {
        let text = format!("reply has version {version}, not {VERSION}");
        return Err(ReplyError::Garbled(text));
    }
    let answered = read_u64(pipe)?;
    if answered != job {
        let text = format!("reply is to job {answered}, not {job}");
        return Err(ReplyError::Garbled(text));
    }
    let mut kind = [0];
    pipe.read_exact(&mut kind)?;
    let bytes = read_u64(pipe)?;
    let bytes_max = match kind[0] {
        WALKED => bytes_max,
        REFUSED => REFUSAL_BYTES_MAX,
        NEEDS_MAPS => MAP_REQUESTS_BYTES_MAX,
        kind => return Err(ReplyError::Garbled(format!("reply is of kind {kind}"))),
    };
    if bytes > bytes_max {
        let text = format!("reply is {bytes} bytes, more than {bytes_max}");
        return Err(ReplyError::Garbled(text));
    }
    // The length was checked above, so this fits. Memory is used only as bytes arrive.
    let mut body = vec![0; bytes as usize];
    pipe.read_exact(&mut body)?;
    let garbled = |error| ReplyError::Garbled(format!("reply cannot be read: {error}"));
    match kind[0] {
        WALKED => Ok(Ok(Attempt::Walked(body))),
        NEEDS_MAPS => serde_json::from_slice(&body)
            .map(|requests| Ok(Attempt::NeedsMaps(requests)))
            .map_err(garbled),
        _ => serde_json::from_slice(&body).map(Err).map_err(garbled),
    }
}

fn read_u32(pipe: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    pipe.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

fn read_u64(pipe: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    pipe.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stackwalk::provider::MapRequest;

    #[test]
    fn a_request_reads_back_and_a_closed_pipe_is_the_end() {
        let mut pipe = Vec::new();
        write_request(&mut pipe, 7, Unmapped::Convert, b"MDMP...").unwrap();
        write_request(&mut pipe, 8, Unmapped::Request, b"").unwrap();
        let mut pipe = pipe.as_slice();
        let first = read_request(&mut pipe).unwrap().unwrap();
        assert_eq!((first.job, first.dump.as_slice()), (7, &b"MDMP..."[..]));
        assert!(first.unmapped == Unmapped::Convert);
        let second = read_request(&mut pipe).unwrap().unwrap();
        assert_eq!(second.job, 8);
        assert!(second.unmapped == Unmapped::Request);
        assert!(read_request(&mut pipe).unwrap().is_none());
    }

    #[test]
    fn a_request_cut_anywhere_is_an_error() {
        let mut whole = Vec::new();
        write_request(&mut whole, 7, Unmapped::Convert, b"MDMP...").unwrap();
        for end in 1..whole.len() {
            assert!(read_request(&mut &whole[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn all_kinds_of_reply_read_back() {
        let refusal = WalkError::new("MissingThreadList", "no threads");
        let request = MapRequest {
            debug_file: "app.pdb".to_owned(),
            debug_id: "0".repeat(33),
        };
        for reply in [
            Ok(Attempt::Walked(b"{}".to_vec())),
            Ok(Attempt::NeedsMaps(vec![request])),
            Err(refusal),
        ] {
            let mut pipe = Vec::new();
            write_reply(&mut pipe, 3, &reply).unwrap();
            let read = read_reply(&mut pipe.as_slice(), 3, 2).unwrap();
            assert_eq!(read, reply);
            for end in 0..pipe.len() {
                let cut = read_reply(&mut &pipe[..end], 3, 2);
                assert!(matches!(cut, Err(ReplyError::Ended)), "cut at {end}");
            }
        }
    }

    #[test]
    fn a_reply_to_another_job_or_past_the_bound_is_garbled() {
        let mut pipe = Vec::new();
        write_reply(&mut pipe, 3, &Ok(Attempt::Walked(b"{\"a\":1}".to_vec()))).unwrap();
        for (job, bytes_max) in [(4, 100), (3, 6)] {
            let read = read_reply(&mut pipe.as_slice(), job, bytes_max);
            assert!(matches!(read, Err(ReplyError::Garbled(_))));
        }
        assert!(read_reply(&mut pipe.as_slice(), 3, 7).is_ok());
        let noise = read_reply(&mut &b"Segmentation fault"[..], 3, 100);
        assert!(matches!(noise, Err(ReplyError::Garbled(_))));
    }
}
