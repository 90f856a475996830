//! Real dumps whose stacks and modules are changed by a seed, so that signatures and missing symbols differ.
//!
//! The stack memory of a dump gets return addresses into its modules, and its crash gets another address. The
//! modules get other names and ids. Names keep their length, so that no other part of the dump moves.

use crate::search::crashes::Random;

const STREAM_THREADS: u32 = 3;
const STREAM_MODULES: u32 = 4;
const STREAM_EXCEPTION: u32 = 6;
/// Offsets of rsp and rip in a context of x86-64.
const RSP: usize = 0x98;
const RIP: usize = 0xf8;
/// Return addresses that are written to a stack.
const FRAMES: usize = 12;
/// Names of a module, by its place in a dump.
const NAMES: u64 = 400;

/// A dump of x86-64, and where its parts are.
pub struct Base {
    bytes: Vec<u8>,
    /// The contexts of the crash and of its thread.
    contexts: Vec<usize>,
    /// Address, offset and length of the stack of the thread that crashed.
    stack: (u64, usize, usize),
    modules: Vec<Module>,
}

struct Module {
    address: u64,
    size: u64,
    /// The last part of its name, as UTF-16.
    name: std::ops::Range<usize>,
    /// Its debug record.
    debug: std::ops::Range<usize>,
}

impl Base {
    /// `None` if the dump is none of x86-64 with a stack.
    pub fn new(bytes: Vec<u8>) -> Option<Self> {
        let long = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let offset = |at: usize| Some(word(at)? as usize);
        let stream = |kind: u32| {
            let directory = offset(12)?;
            let entry = (0..offset(8)?).map(|n| directory + 12 * n);
            entry
                .filter(|at| word(*at) == Some(kind))
                .find_map(|at| offset(at + 8))
        };
        let exception = stream(STREAM_EXCEPTION)?;
        let thread_id = word(exception)?;
        let crash_context = offset(exception + 8 + 152 + 4)?;
        let threads = stream(STREAM_THREADS)?;
        let thread = (0..offset(threads)?)
            .map(|n| threads + 4 + 48 * n)
            .find(|at| word(*at) == Some(thread_id))?;
        let stack = (
            long(thread + 24)?,
            offset(thread + 36)?,
            offset(thread + 32)?,
        );
        let contexts = vec![crash_context, offset(thread + 44)?];
        let list = stream(STREAM_MODULES)?;
        let mut modules = Vec::new();
        for at in (0..offset(list)?).map(|n| list + 4 + 108 * n) {
            let name = offset(at + 20)?;
            let (start, bytes_of_name) = (name + 4, offset(name)?);
            let text = bytes.get(start..start + bytes_of_name)?;
            let last = text
                .chunks(2)
                .rposition(|c| matches!(c, b"/\0" | b"\\\0"))
                .map_or(0, |at| at + 1);
            let debug = offset(at + 80)?;
            modules.push(Module {
                address: long(at)?,
                size: u64::from(word(at + 8)?),
                name: start + 2 * last..start + bytes_of_name,
                debug: debug..debug + offset(at + 76)?,
            });
        }
        modules.retain(|module| module.size > 0x4000 && module.debug.len() >= 24);
        let is_amd64 = word(crash_context + 0x30)? & 0x10_0000 != 0;
        (is_amd64 && !modules.is_empty() && stack.2 > 4096).then_some(Self {
            bytes,
            contexts,
            stack,
            modules,
        })
    }

    /// Whether it has at most the size of most dumps of clients.
    pub fn is_small(&self) -> bool {
        self.bytes.len() < 100_000
    }

    /// The dump of a crash of this kind. `unique` makes its bytes differ from all others.
    pub fn crash(&self, kind: u64, unique: u64) -> Vec<u8> {
        let mut random = Random::new(kind);
        let mut dump = self.bytes.clone();
        for module in &self.modules {
            let name = random.below(NAMES).min(random.below(NAMES));
            let digits = format!("{name:03}");
            // Only the first letters change, and so the ending stays.
            let place = &mut dump[module.name.clone()];
            for (letter, digit) in place.chunks_mut(2).zip(digits.bytes()) {
                letter.copy_from_slice(&[digit, 0]);
            }
            let id = &mut dump[module.debug.clone()];
            let mut own = Random::new(name);
            id[4..20]
                .iter_mut()
                .for_each(|byte| *byte = own.next() as u8);
        }
        let mut address = || {
            let module = &self.modules[random.below(self.modules.len() as u64) as usize];
            module.address + 0x1000 + random.below((module.size - 0x2000) / 16) * 16
        };
        let crashed_at = address();
        let frames: Vec<u64> = (0..FRAMES).map(|_| address()).collect();
        let (base, offset, length) = self.stack;
        let sp = base + (length as u64 / 2) / 8 * 8;
        let at = offset + (sp - base) as usize;
        for (n, frame) in frames.iter().enumerate() {
            let at = at + 16 * n;
            if at + 8 <= offset + length {
                dump[at..at + 8].copy_from_slice(&frame.to_le_bytes());
            }
        }
        for context in &self.contexts {
            dump[context + RSP..context + RSP + 8].copy_from_slice(&sp.to_le_bytes());
            dump[context + RIP..context + RIP + 8].copy_from_slice(&crashed_at.to_le_bytes());
        }
        // Bytes of the stack that no unwinder reads as an address.
        let mut noise = Random::new(unique);
        let end = offset + length;
        for byte in &mut dump[end - 64..end] {
            *byte = noise.next() as u8;
        }
        dump
    }
}
