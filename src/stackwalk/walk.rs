//! One walk within this process, from the bytes of a dump to the JSON.

use minidump::{Minidump, MinidumpHandleDataStream};

use super::cache::{SymbolCache, Unmapped};
use super::error::WalkError;
use super::frame::Reach;
use super::mode::Mode;
use super::provider::{MapRequest, Provider};
use super::raw::Raw;
use super::threads::Threads;
use super::{head, json, preflight, sanitize, unpack};
use crate::symbols::Bounds;

/// Limits of what a walk may use and produce. If a walk reaches a limit, it is not refused: its field
/// `partial` says what is missing (ADR 16).
#[derive(Debug, Clone, Copy)]
pub struct WalkLimits {
    /// Bytes of JSON. Frames may use half of it.
    pub json_bytes_max: u64,
    /// Total number of frames in all threads. Each thread has at least one.
    pub frames_max: usize,
    /// Frames kept per thread: half of them from each end of the stack.
    pub kept_frames_max: usize,
    /// Number of symbol look-ups. After that, look-ups find nothing.
    pub lookups_max: u64,
}

impl WalkLimits {
    /// For a user who requests the complete walk of one dump.
    pub const NONE: Self = Self {
        json_bytes_max: u64::MAX,
        frames_max: usize::MAX,
        kept_frames_max: usize::MAX,
        lookups_max: u64::MAX,
    };

    /// For walks that are stored. No real crash that we know comes near the limits for frames and look-ups: a
    /// stack of 8 MB that overflowed has some ten thousand frames. Such a stack loses its middle.
    pub fn stored(json_bytes_max: u64) -> Self {
        Self {
            json_bytes_max,
            frames_max: 40_000,
            kept_frames_max: 500,
            lookups_max: 500_000,
        }
    }
}

/// Walks a dump and returns the JSON, UTF-8 without a final newline.
///
/// It may exhaust memory or take minutes on a hostile dump. Use a [`Walker`](super::Walker) for bytes from outside.
///
/// # Errors
/// The dump cannot be walked. Trying again gives the same error.
pub fn walk(
    dump: &[u8],
    symbols: &SymbolCache,
    limits: &WalkLimits,
    mode: Mode,
) -> Result<Vec<u8>, WalkError> {
    let bounds = Bounds {
        inflated_bytes_max: COMMAND_DUMP_BYTES_MAX,
        ratio_max: u64::MAX,
        free_bytes: COMMAND_DUMP_BYTES_MAX,
        entries_max: 1,
    };
    let mut dump = unpack::unwrap(dump.to_vec(), bounds)?;
    match attempt(&mut dump, symbols, limits, Unmapped::Convert, mode)? {
        Attempt::Walked(json) => Ok(json),
        Attempt::NeedsMaps(_) => unreachable!("no symbols are asked for with `Unmapped::Convert`"),
    }
}

/// Limit of the size of a decompressed dump in `walk`. No complete dump is larger.
const COMMAND_DUMP_BYTES_MAX: u64 = 4 << 30;

/// The result of one try to walk a dump.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    Walked(Vec<u8>),
    /// Stacks need symbol files that are not mapped. Never empty.
    NeedsMaps(Vec<MapRequest>),
}

/// One try. It uses the dump's bytes as scratch space, so they are changed afterwards.
pub(super) fn attempt(
    dump: &mut [u8],
    symbols: &SymbolCache,
    limits: &WalkLimits,
    unmapped: Unmapped,
    mode: Mode,
) -> Result<Attempt, WalkError> {
    preflight::check(dump)?;
    let mut raw = Raw::new(dump);
    let notes = sanitize::sanitize(&mut raw);
    let provider = Provider::new(symbols, unmapped, limits.lookups_max, mode);
    let state = head::read(&mut raw, &provider)?;
    let minidump = Minidump::read(raw.bytes())?;
    let system = state.system_info.clone();
    let threads = Threads::read(&minidump, &system, mode)?;
    let crashing = threads.crashing();
    let json_bytes_max = limits.json_bytes_max;
    let reason_text = match mode {
        Mode::Compat => None,
        Mode::True => threads.reason_text(),
    };
    let head = json::Head {
        state,
        reason_text,
        threads: threads.count(),
        crashing,
    };
    let mut answer = json::Answer::begin(head, json_bytes_max, notes, mode)?;
    let mut frames_left = limits.frames_max;
    let mut walk = |index: usize| {
        let reach = Reach {
            frames_max: frames_left.max(1),
            kept_max: limits.kept_frames_max,
        };
        let stack = threads.walk(index, reach, &provider);
        frames_left = frames_left.saturating_sub(stack.count);
        stack
    };
    // The crashing thread goes first, so that the other threads cannot use up the limits before it.
    if let Some(index) = crashing {
        answer.crashing_thread(index, &walk(index));
    }
    answer.open_threads();
    for index in 0..threads.count() {
        if !answer.repeat_crashing_thread(index) {
            answer.thread(index, &walk(index));
        }
    }
    let session = provider.end();
    if !session.map_requests.is_empty() {
        return Ok(Attempt::NeedsMaps(session.map_requests));
    }
    let handles = minidump.get_stream::<MinidumpHandleDataStream>().ok();
    answer
        .end(
            &threads.modules,
            &threads.unloaded_modules,
            handles.as_ref(),
            &session.stats,
        )
        .map(Attempt::Walked)
}
