//! The closing record of a report. Only with it does a report count.
//!
//! ```text
//! body  the row (`rows/report.rs`) | u128 keyed hash of all records of the report before it, and of the row
//! ```
//!
//! The hash is keyed with a random secret of the store, because clients choose the payloads. A client that
//! does not know the secret cannot make bytes that count as a report.

use xxhash_rust::xxh3::Xxh3;

use crate::store::rows::{self, ReportRow};

/// Bytes of the hash at the end of a closing record.
const HASH_BYTES: usize = 16;
/// Limit of a closing record's body.
pub(crate) const CLOSING_BYTES_MAX: u64 = (1 << 20) + HASH_BYTES as u64;

/// The body of a closing record. `hash` has seen all records of the report before it.
pub(crate) fn close(row: &ReportRow, mut hash: Xxh3) -> Vec<u8> {
    let mut body = rows::encode(row);
    hash.update(&body);
    body.extend_from_slice(&hash.digest128().to_le_bytes());
    body
}

/// Reads the body of a closing record; `None` if it is no such body, or closes other records than `hash` has
/// seen.
pub(crate) fn closed(body: &[u8], mut hash: Xxh3) -> Option<ReportRow> {
    let (row, expected) = body.split_last_chunk::<HASH_BYTES>()?;
    hash.update(row);
    let is_whole = hash.digest128() == u128::from_le_bytes(*expected);
    is_whole.then(|| rows::decode_or_skip(row)).flatten()
}
