//! What the processor reports about a dump apart from its stacks: the crash, the system, the process.
//!
//! The processor of the minidump crates unwinds all threads in parallel to their ends, however many frames
//! that gives. So it gets the dump without the threads (ADR 16). The thread list contains only the crashing
//! thread, because the analysis of the crashing instruction reads its stack. This thread is named as the
//! thread that wrote the dump, which the processor never walks. The streams that are the most expensive to
//! read (modules, names, handles) are left out, too, because [`threads`](super::threads) reads them anyway.
//! The bytes are changed in place and restored, because a dump may be 250 MB.

use minidump::Minidump;
use minidump_processor::{ProcessState, process_minidump};

use super::WalkError;
use super::provider::{Provider, complete};
use super::raw::{DIRECTORY_ENTRY_BYTES, Raw, THREAD_BYTES, Undo, kind};

/// Offset of the header's flags, which nothing reads. Here they become a BreakpadInfo stream of twelve bytes.
/// Its last four bytes are not used.
const FLAGS_AT: usize = 24;
const BREAKPAD_INFO_BYTES: u32 = 12;
/// BreakpadInfo: its field for the thread that wrote the dump is valid.
const HAS_DUMP_THREAD: u32 = 1;
/// Streams that the head does not need. Their directory entries are free for other use.
const LEFT_OUT: [u32; 5] = [
    kind::BREAKPAD_INFO,
    kind::THREAD_NAMES,
    kind::MODULE_LIST,
    kind::UNLOADED_MODULE_LIST,
    kind::HANDLE_DATA,
];

/// Returns a state without threads, modules and handles. The dump's bytes are restored afterwards.
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
    // A list that the reader would refuse is not changed, so that the reader refuses it.
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
            // If several threads have this id, the reader uses the last one.
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
