//! The step that says if a crash is probably not a bug of the program, and why.

use super::draft::Draft;
use crate::crash::walk::{Location, Module, Walk};
use crate::crash_loops;
use crate::fields::name;
use crate::signature::Owner;

/// A bit flip explains a crash from this confidence on, in percent. The crates give it to an address that no
/// program can have and that differs by one bit from one that this program has.
const BIT_FLIP_MIN: i64 = 90;
/// An allocation that failed although this much was left was too large by itself, in bytes.
const MEMORY_LEFT_MAX: i64 = 128 << 20;
/// An allocation above this size is the program's own fault, in bytes.
const ALLOCATION_MAX: i64 = 256 << 20;
/// Frames that are searched for the code that crashed.
const FRAMES_MAX: usize = 40;
/// Crash reasons that tell of faulty memory, a faulty disk or a lost network folder: their start, and what
/// happened.
const HARDWARE: [(&str, &str); 4] = [
    (
        "EXCEPTION_IN_PAGE_ERROR",
        "the system could not read a page of memory from its file",
    ),
    (
        "SIGBUS / BUS_MCEERR",
        "the processor reported faulty memory",
    ),
    (
        "EXC_BAD_ACCESS / KERN_MEMORY_ERROR",
        "the system could not read a page of memory from its file",
    ),
    (
        "EXC_BAD_ACCESS / KERN_MEMORY_FAILURE",
        "the system could not provide a page of memory",
    ),
];
/// Contradictions between a crash reason and the instruction that cannot have caused it.
const CONTRADICTIONS: [&str; 3] = [
    "int_div_by_zero_not_possible",
    "priv_instruction_crash_without_priv_instruction",
    "access_violation_when_access_allowed",
];

/// A verdict: a word to search for, and the evidence in a sentence.
type Verdict = (&'static str, String);

/// Sets the verdict, if there is one. The strongest evidence comes first.
pub(crate) fn verdict(draft: &mut Draft) -> Result<(), String> {
    let found = hardware(draft)
        .or_else(|| bit_flip(draft))
        .or_else(|| crash_loop(draft))
        .or_else(|| system_memory(draft))
        .or_else(|| foreign_code(draft));
    if let Some((verdict, evidence)) = found {
        draft.set(name::VERDICT, verdict);
        draft.set(name::VERDICT_EVIDENCE, evidence);
    }
    Ok(())
}

fn hardware(draft: &Draft) -> Option<Verdict> {
    let info = &draft.walk.as_ref()?.crash_info;
    let reason = info.reason.as_deref().unwrap_or_default();
    let by_reason = HARDWARE.iter().find(|(start, _)| reason.starts_with(start));
    if let Some((_, what)) = by_reason {
        return Some(("hardware", format!("{what} ({reason})")));
    }
    let contradiction = info
        .crash_inconsistencies
        .iter()
        .find(|found| CONTRADICTIONS.contains(&found.as_str()))?;
    Some((
        "hardware",
        format!("the instruction cannot cause this crash reason ({contradiction})"),
    ))
}

fn bit_flip(draft: &Draft) -> Option<Verdict> {
    let confidence = draft.int("possible_bit_flips_max_confidence")?;
    (confidence >= BIT_FLIP_MIN).then(|| {
        (
            "bit-flip",
            format!("the address differs by one bit from a valid one (confidence {confidence} %)"),
        )
    })
}

fn crash_loop(draft: &Draft) -> Option<Verdict> {
    let seconds = draft.input.raw.metadata.crash_loop_s?;
    Some((
        "crash-loop",
        format!(
            "this installation sent {} crashes within {} before this one",
            crash_loops::CRASHES,
            match seconds {
                0..=60 => "a minute",
                61..=600 => "ten minutes",
                _ => "an hour",
            }
        ),
    ))
}

fn system_memory(draft: &Draft) -> Option<Verdict> {
    let size = draft.int("oom_allocation_size")?;
    if size > ALLOCATION_MAX {
        return None;
    }
    let pressure = draft
        .out
        .get("mac_memory_pressure")
        .and_then(|p| p.as_str());
    if pressure == Some("Critical") {
        return Some((
            "system-memory",
            format!("an allocation of {size} bytes failed while the memory pressure was critical"),
        ));
    }
    // What Windows can still commit; elsewhere free memory and swap.
    let left = draft.int("available_page_file").or_else(|| {
        let swap = draft.int("available_swap_memory")?;
        Some(draft.int("available_physical_memory")?.saturating_add(swap))
    })?;
    (left < MEMORY_LEFT_MAX.max(size)).then(|| {
        (
            "system-memory",
            format!("an allocation of {size} bytes failed while the system had {left} bytes left"),
        )
    })
}

/// A driver or a foreign module that has crashed before any code of the program on the stack.
fn foreign_code(draft: &Draft) -> Option<Verdict> {
    let walk = draft.walk.as_ref()?;
    let (_, thread) = walk.crashing_thread()?;
    let product = draft.product();
    let code = draft.generator.code_of(&product);
    let frames = &thread.frames[..thread.frames.len().min(FRAMES_MAX)];
    // What is above a dispatch ran after the crash.
    let start = frames
        .iter()
        .rposition(|frame| (frame.function.as_deref()).is_some_and(|name| code.is_dispatch(name)))
        .map_or(0, |at| at + 1);
    for frame in &frames[start..] {
        let Some(file) = frame.module.as_deref() else {
            continue;
        };
        let module = walk
            .modules
            .iter()
            .find(|m| m.filename.as_deref() == Some(file));
        let location = module.and_then(|module| module.location);
        match code.owner(file, location) {
            Some(Owner::Library) => {}
            Some(Owner::Driver) => {
                return Some(("driver", format!("the crash is in the driver {file}")));
            }
            Some(Owner::Foreign) => {
                let evidence = format!("the crash is in {file}, which other programs add");
                return Some(("foreign-module", evidence));
            }
            Some(Owner::Program) => return None,
            None => {
                return module.filter(|module| is_elsewhere(module, walk)).map(|_| {
                    let evidence = format!(
                        "the crash is in {file}, which is in another folder than the program \
                             and the system and has no symbols here"
                    );
                    ("foreign-module", evidence)
                });
            }
        }
    }
    None
}

/// Whether a module is in a folder of neither the program nor the system. Whoever uploads the symbols of a
/// module builds it, so it is no foreign one.
fn is_elsewhere(module: &Module, walk: &Walk) -> bool {
    let program = walk.modules.get(walk.main_module);
    module.location == Some(Location::Other)
        && module.loaded_symbols != Some(true)
        && program.is_some_and(|program| program.location == Some(Location::Program))
}
