//! The child's side of a walker: reads dumps and answers with walks, until its parent closes the pipe.
//!
//! It keeps one [`SymbolCache`] for its whole life. This is why it handles more than one dump. It writes only
//! frames of `wire` to its output. Messages go to stderr, where the parent keeps the last of them for the
//! text of a fault.

use std::io::{self, BufReader, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use super::{faults, wire};
use crate::limits;
use crate::stackwalk::sandbox::{self, Limits, Restrictions};
use crate::stackwalk::walk::attempt;
use crate::stackwalk::{Mode, SymbolCache, Unmapped, WalkError, WalkLimits, unpack};
use crate::symbols::{Bounds, SymbolDirs};

/// The settings that a walker gets on its command line. `None` means no limit.
#[derive(Debug, Clone)]
pub(crate) struct WalkerSettings {
    /// Symbol folders. The first one that has a file wins.
    pub(crate) symbols: Vec<PathBuf>,
    /// Private memory, in bytes.
    pub(crate) heap_bytes: Option<u64>,
    /// Address space, in bytes. It must exceed `heap_bytes` by the size of the program and its mappings.
    pub(crate) address_bytes: Option<u64>,
    /// CPU time per dump, in seconds.
    pub(crate) cpu_seconds: Option<u64>,
    /// JSON per dump, in bytes.
    pub(crate) output_bytes_max: u64,
    /// Limit of the size of a compressed dump after decompression, in bytes.
    pub(crate) unpacked_bytes_max: u64,
    /// Limit of the ratio by which decompression may enlarge a dump, beyond [`limits::INFLATE_FREE_BYTES`].
    pub(crate) ratio_max: u64,
    /// The folder of mapped symbols, if there is one.
    pub(crate) mapped: Option<PathBuf>,
    /// Mapped symbols kept open between dumps, in bytes.
    pub(crate) map_bytes_max: u64,
    /// Number of mapped files kept open between dumps.
    pub(crate) maps_max: u64,
    /// Commit the faults that dumps request, see `faults`. Only for tests.
    pub(crate) commits_faults: bool,
}

impl WalkerSettings {
    /// All folders that a walker reads.
    fn folders(&self) -> Vec<PathBuf> {
        self.symbols.iter().chain(&self.mapped).cloned().collect()
    }
}

/// Puts this process into its sandbox, then walks incoming dumps until the input ends.
///
/// # Errors
/// The parent is gone or uses another protocol. There is no process left to answer.
pub(crate) fn serve(
    settings: WalkerSettings,
    input: impl Read,
    mut output: impl Write,
) -> io::Result<()> {
    enter_sandbox(&settings)?;
    // Without a folder of mapped symbols, the parent maps nothing.
    let has_mapped = settings.mapped.is_some();
    let symbols = SymbolCache::new(SymbolDirs::new(settings.symbols), settings.map_bytes_max)
        .with_mapped(settings.mapped, settings.maps_max)
        // A quarter of the heap, because the mapped form is built in memory beside its text.
        .with_held_text_bytes_max(settings.heap_bytes.map_or(u64::MAX, |bytes| bytes / 4));
    let walk_limits = WalkLimits::stored(settings.output_bytes_max);
    let bounds = Bounds {
        inflated_bytes_max: settings.unpacked_bytes_max,
        ratio_max: settings.ratio_max,
        free_bytes: limits::INFLATE_FREE_BYTES,
        entries_max: 1,
    };
    let mut input = BufReader::new(input);
    while let Some(request) = wire::read_request(&mut input)? {
        if let Some(seconds) = settings.cpu_seconds {
            sandbox::allow_cpu(seconds)?;
        }
        if settings.commits_faults {
            faults::commit(&request.dump, &mut output);
        }
        let unmapped = if has_mapped {
            request.unmapped
        } else {
            Unmapped::Convert
        };
        let (job, dump) = (request.job, request.dump);
        let reply = contained(|| {
            let mut dump = unpack::unwrap(dump, bounds)?;
            attempt(&mut dump, &symbols, &walk_limits, unmapped, Mode::True)
        });
        wire::write_reply(&mut output, job, &reply)?;
    }
    Ok(())
}

/// Puts this process into the sandbox of a walker, tries what a walker must not be able to do, and writes the
/// results. Returns true if everything that must be refused was refused.
///
/// # Errors
/// The limits of the process cannot be set, or the results cannot be written.
pub(crate) fn self_test(settings: &WalkerSettings, output: &mut impl Write) -> io::Result<bool> {
    let restrictions = enter_sandbox(settings)?;
    sandbox::self_test(restrictions, &settings.folders(), output)
}

fn enter_sandbox(settings: &WalkerSettings) -> io::Result<Restrictions> {
    sandbox::set_limits(&Limits {
        heap_bytes: settings.heap_bytes,
        address_bytes: settings.address_bytes,
    })?;
    Ok(sandbox::restrict(&settings.folders()))
}

/// Turns a panic into a refusal. The cache is still consistent after a panic, and nothing else survives a
/// walk.
fn contained(walk: impl FnOnce() -> wire::Reply) -> wire::Reply {
    catch_unwind(AssertUnwindSafe(walk)).unwrap_or_else(|panic| {
        let message = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
            (Some(text), _) => text,
            (_, Some(text)) => text.as_str(),
            _ => "of an unknown kind",
        };
        Err(WalkError::panic(message))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_in_a_walk_becomes_a_refusal_with_its_message() {
        let error = contained(|| panic!("index {} out of range", 3)).unwrap_err();
        assert_eq!(error.status, "Panic");
        assert_eq!(error.sentence, "panic: index 3 out of range");
    }
}
