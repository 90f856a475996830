//! What the processor says of a dump beside its stacks: the crash, the system, the process.
//!
//! The processor of the minidump crates unwinds all threads at once and to their ends, however many
//! frames that gives. So it is shown the dump without them: the thread list holds the crashing
//! thread alone, whose stack the analysis of the crashing instruction reads, and that one is named as
//! the thread that wrote the dump, which the processor never walks. What costs most to read and is
//! read by [`threads`](super::threads) anyway (modules, names, handles) is left out, too. The bytes
//! are changed in place and put back: a dump may be 250 MB.

use minidump::Minidump;
use minidump_processor::{ProcessState, process_minidump};

use super::provider::Provider;
use super::raw::{DIRECTORY_ENTRY_BYTES, Raw, THREAD_BYTES, Undo, kind};
use super::{WalkError, complete};

/// Where the flags of the header lie, which nobody reads: here they become a BreakpadInfo stream of
/// twelve bytes, the last four of which do not count.
const FLAGS_AT: usize = 24;
const BREAKPAD_INFO_BYTES: u32 = 12;
/// BreakpadInfo: its field of the thread that wrote the dump counts.
const HAS_DUMP_THREAD: u32 = 1;
/// Streams that the head does not come from; their directory entries are free for other use.
const LEFT_OUT: [u32; 5] = [
    kind::BREAKPAD_INFO,
    kind::THREAD_NAMES,
    kind::MODULE_LIST,
    kind::UNLOADED_MODULE_LIST,
    kind::HANDLE_DATA,
];

/// A state without threads, modules and handles. The dump is as it was afterwards.
pub(super) fn read(raw: &mut Raw, provider: &Provider) -> Result<ProcessState, WalkError> {
    let mut undo = Undo::new();
    take_out_threads(raw, &mut undo);
    let state = process(raw.bytes(), provider);
    raw.undo(undo);
    state
}

fn process(dump: &[u8], provider: &Provider) -> Result<ProcessState, WalkError> {
    let dump = Minidump::read(dump)?;
    let state = complete(process_minidump(&dump, provider));
    Ok(
        state
            .ok_or_else(|| WalkError::new("UnknownError", "the walk stopped before its end"))??,
    )
}

fn take_out_threads(raw: &mut Raw, undo: &mut Undo) {
    // A list that the reader will refuse stays as it is, to be refused by it.
    let Some(stream) = raw.stream(kind::THREAD_LIST) else {
        return;
    };
    let Some(list) = stream.list(raw, THREAD_BYTES) else {
        return;
    };
    let entries: Vec<usize> = raw.entries().collect();
    let Some(first) = entries.first() else {
        return;
    };
    raw.keep(undo, FLAGS_AT, 8);
    raw.keep(undo, *first, entries.len() * DIRECTORY_ENTRY_BYTES);
    raw.keep(undo, stream.at, 8 + THREAD_BYTES);
    let crashing = raw
        .stream(kind::EXCEPTION)
        .and_then(|exception| raw.word(exception.at))
        .and_then(|id| {
            // Of several threads with one id the reader knows the last.
            let at = (0..list.count)
                .rev()
                .map(|index| list.at + index * THREAD_BYTES)
                .find(|at| raw.word(*at) == Some(id))?;
            Some((id, at))
        });
    let mut spare = None;
    for entry in entries {
        if raw.word(entry).is_some_and(|kind| LEFT_OUT.contains(&kind)) {
            raw.put(entry, kind::UNUSED);
            raw.put(entry + 4, 0);
            spare = Some(entry);
        }
    }
    if let Some((id, at)) = crashing {
        raw.shift(at, THREAD_BYTES, stream.at + 4);
        if let Some(entry) = spare {
            raw.put(FLAGS_AT, HAS_DUMP_THREAD);
            raw.put(FLAGS_AT + 4, id);
            raw.put(entry, kind::BREAKPAD_INFO);
            raw.put(entry + 4, BREAKPAD_INFO_BYTES);
            raw.put(entry + 8, FLAGS_AT as u32);
        }
    }
    let threads = usize::from(crashing.is_some());
    raw.put(stream.at, threads as u32);
    raw.resize(&stream, 4 + threads * THREAD_BYTES);
}
