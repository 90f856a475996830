//! Removes data from a dump's bytes that would multiply when it is read.
//!
//! Entries of a list refer to their texts by offset. So a thousand entries of twenty bytes can refer to the
//! same megabyte a thousand times, and the reader copies it each time: 1.2 MB become 2.9 GB. This module
//! removes entries that exceed the limits from their lists. The limits are far above what any honest writer
//! of dumps produces, and the walk says what was removed.
//!
//! Two more cases concern handles. A handle of the longer kind refers to a chain of further descriptions,
//! which the reader follows to its end. Nothing shows these descriptions, and a chain may have no end, so all
//! handles lose theirs. And handles may claim to have no bytes each: the reader allocates memory for as many
//! as the dump claims before it reads the first one, and four billion of them fit into an empty list.

use super::raw::{List, Raw, Stream, THREAD_BYTES, kind};

/// Limit of streams in a dump. Real dumps have 10 to 40.
const STREAMS_MAX: u32 = 1_024;
/// Limit of threads in a dump, the same as Breakpad's.
const THREADS_MAX: usize = 4_096;
const MODULES_MAX: usize = 8_192;
const THREAD_NAMES_MAX: usize = 8_192;
/// Windows keeps 64. Each frame outside of all modules is compared with every one.
const UNLOADED_MODULES_MAX: usize = 512;
const HANDLES_MAX: usize = 65_536;
/// Limit of bytes of the texts of one entry: the longest path that Windows allows.
const ENTRY_TEXT_BYTES_MAX: u64 = 64 << 10;
/// Limit of bytes of all texts in the lists. Each text counts as often as an entry refers to it.
const TEXTS_BYTES_MAX: u64 = 8 << 20;

const MODULE_BYTES: usize = 108;
const UNLOADED_MODULE_BYTES: usize = 24;
const THREAD_NAME_BYTES: usize = 12;
const HANDLE_BYTES: usize = 32;
const HANDLE_2_BYTES: usize = 40;

/// Removes what exceeds the limits. Returns one sentence for each list that was changed.
pub(super) fn sanitize(raw: &mut Raw) -> Vec<String> {
    let mut notes = Vec::new();
    let streams = raw.stream_count();
    if streams > STREAMS_MAX {
        raw.set_stream_count(STREAMS_MAX);
        notes.push(format!(
            "the dump has {streams} streams; the first {STREAMS_MAX} were read"
        ));
    }
    if let Some((stream, list)) = simple_list(raw, kind::THREAD_LIST, THREAD_BYTES)
        && list.count > THREADS_MAX
    {
        shorten(raw, &stream, &list, THREADS_MAX, THREAD_BYTES);
        notes.push(format!(
            "the dump has {} threads; the first {THREADS_MAX} were walked",
            list.count
        ));
    }
    let mut left = TEXTS_BYTES_MAX;
    for rule in [
        Rule {
            what: "modules",
            kind: kind::MODULE_LIST,
            entry_bytes: MODULE_BYTES,
            count_max: MODULES_MAX,
            texts: module_texts,
        },
        Rule {
            what: "thread names",
            kind: kind::THREAD_NAMES,
            entry_bytes: THREAD_NAME_BYTES,
            count_max: THREAD_NAMES_MAX,
            texts: thread_name_texts,
        },
    ] {
        if let Some((stream, list)) = simple_list(raw, rule.kind, rule.entry_bytes) {
            let kept = rule.sift(raw, &list, &mut left);
            if kept < list.count {
                shorten(raw, &stream, &list, kept, rule.entry_bytes);
                notes.push(rule.taken_out(kept, list.count));
            }
        }
    }
    if let Some(found) = described_list(raw, kind::UNLOADED_MODULE_LIST) {
        let rule = Rule {
            what: "unloaded modules",
            kind: kind::UNLOADED_MODULE_LIST,
            entry_bytes: found.entry_bytes,
            count_max: UNLOADED_MODULES_MAX,
            texts: unloaded_module_texts,
        };
        notes.extend(rule.apply(raw, &found, &mut left));
    }
    if let Some(note) = without_unknown_handles(raw) {
        notes.push(note);
    }
    if let Some(found) = described_list(raw, kind::HANDLE_DATA) {
        let rule = Rule {
            what: "handles",
            kind: kind::HANDLE_DATA,
            entry_bytes: found.entry_bytes,
            count_max: HANDLES_MAX,
            texts: handle_texts,
        };
        notes.extend(rule.apply(raw, &found, &mut left));
        if found.entry_bytes == HANDLE_2_BYTES {
            for index in 0..found.list.count.min(HANDLES_MAX) {
                raw.put(found.list.at + index * HANDLE_2_BYTES + 32, 0);
            }
        }
    }
    notes
}

/// Removes handles in an unknown form. The reader would refuse them only after it has allocated memory for
/// them.
fn without_unknown_handles(raw: &mut Raw) -> Option<String> {
    let mut note = None;
    // If the last stream of a type is removed, the one before it becomes valid.
    while let Some(stream) = raw.stream(kind::HANDLE_DATA)
        && described_list(raw, kind::HANDLE_DATA).is_none()
    {
        raw.put(stream.entry, kind::UNUSED);
        note = Some("the list of handles has an unknown format and was not read".to_owned());
    }
    note
}

/// Limits for one list.
struct Rule {
    what: &'static str,
    kind: u32,
    entry_bytes: usize,
    count_max: usize,
    /// Bytes of the texts of the entry at an offset.
    texts: fn(&Raw, usize) -> u64,
}

impl Rule {
    fn apply(&self, raw: &mut Raw, found: &Described, left: &mut u64) -> Option<String> {
        let kept = self.sift(raw, &found.list, left);
        if kept == found.list.count {
            return None;
        }
        raw.put(found.count_at, kept as u32);
        Some(self.taken_out(kept, found.list.count))
    }

    /// Moves the entries within the limits to the front of their list, in order. Returns their number.
    fn sift(&self, raw: &mut Raw, list: &List, left: &mut u64) -> usize {
        let mut kept = 0;
        for index in 0..list.count {
            let from = list.at + index * self.entry_bytes;
            let bytes = (self.texts)(raw, from);
            if kept == self.count_max || bytes > ENTRY_TEXT_BYTES_MAX || bytes > *left {
                continue;
            }
            *left -= bytes;
            if kept < index {
                raw.shift(from, self.entry_bytes, list.at + kept * self.entry_bytes);
            }
            kept += 1;
        }
        kept
    }

    fn taken_out(&self, kept: usize, count: usize) -> String {
        format!(
            "{kept} of {count} {} were read: more than {}, or with names longer than {} KiB each or \
             {} MiB in all",
            self.what,
            self.count_max,
            ENTRY_TEXT_BYTES_MAX >> 10,
            TEXTS_BYTES_MAX >> 20
        )
    }
}

fn simple_list(raw: &Raw, kind: u32, entry_bytes: usize) -> Option<(Stream, List)> {
    let stream = raw.stream(kind)?;
    Some((stream, stream.list(raw, entry_bytes)?))
}

/// A list after a header that contains the length of the header, the length of an entry and the number of
/// entries.
struct Described {
    /// Offset of the number of entries.
    count_at: usize,
    list: List,
    entry_bytes: usize,
}

fn described_list(raw: &Raw, kind: u32) -> Option<Described> {
    let stream = raw.stream(kind)?;
    let header_bytes = raw.word(stream.at)? as usize;
    let entry_bytes = raw.word(stream.at + 4)? as usize;
    let count = raw.word(stream.at + 8)? as usize;
    let is_known = match kind {
        kind::UNLOADED_MODULE_LIST => entry_bytes == UNLOADED_MODULE_BYTES,
        _ => matches!(entry_bytes, HANDLE_BYTES | HANDLE_2_BYTES),
    };
    let end = header_bytes.checked_add(count.checked_mul(entry_bytes)?)?;
    (is_known && end <= stream.bytes).then_some(Described {
        count_at: stream.at + 8,
        list: List {
            count,
            at: stream.at + header_bytes,
        },
        entry_bytes,
    })
}

/// Shortens a list. The reader accepts a list only if its size matches its count.
fn shorten(raw: &mut Raw, stream: &Stream, list: &List, count: usize, entry_bytes: usize) {
    raw.put(stream.at, count as u32);
    raw.resize(stream, list.at - stream.at + count * entry_bytes);
}

/// Length of the text whose offset is at `at`; 0 if the reader finds none.
fn text(raw: &Raw, at: usize) -> u64 {
    raw.word(at).map_or(0, |rva| text_at(raw, u64::from(rva)))
}

fn text_at(raw: &Raw, rva: u64) -> u64 {
    let all = raw.bytes().len() as u64;
    let Some(bytes) = usize::try_from(rva).ok().and_then(|at| raw.word(at)) else {
        return 0;
    };
    if rva.saturating_add(4 + u64::from(bytes)) <= all {
        u64::from(bytes)
    } else {
        0
    }
}

/// The name, and the CodeView record, which contains the name of the debug file.
fn module_texts(raw: &Raw, at: usize) -> u64 {
    text(raw, at + 20) + raw.word(at + 76).map_or(0, u64::from)
}

fn unloaded_module_texts(raw: &Raw, at: usize) -> u64 {
    text(raw, at + 20)
}

fn thread_name_texts(raw: &Raw, at: usize) -> u64 {
    // Eight bytes of offset, in the dump's byte order.
    match (raw.word(at + 4), raw.word(at + 8)) {
        (Some(first), Some(second)) => {
            let words = if raw.is_big_endian() {
                [first, second]
            } else {
                [second, first]
            };
            text_at(raw, u64::from(words[0]) << 32 | u64::from(words[1]))
        }
        _ => 0,
    }
}

fn handle_texts(raw: &Raw, at: usize) -> u64 {
    text(raw, at + 8) + text(raw, at + 12)
}
