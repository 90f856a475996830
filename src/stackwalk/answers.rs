//! Passes the contents of mapped symbols to the unwinder.
//!
//! With [`Mode::Compat`], exactly as breakpad-symbols 0.27 does. With [`Mode::True`], a public symbol names
//! only addresses that its function is known to hold. Public symbols have no size, and a stripped library has
//! a hundred functions for each of them. Its unwind rules have one range per function. So a public symbol
//! ends where the unwind rules of another function begin. An address in such a function gets the name
//! `<unknown in MODULE>`, with the start of that function. (Mozilla's dump_syms writes this name for
//! functions that it only knows from unwind data.)
//!
//! The crate's evaluator of STACK WIN is used unchanged. It is called through a symbol file of one record,
//! because its own type has no public name. Only x86 Windows pays for that.

use breakpad_symbols::SymbolFile;
use minidump::Module;
use minidump_unwind::{FrameSymbolizer, FrameWalker};

use super::cfi;
use super::frame::leaf;
use super::mode::Mode;
use crate::crash::walk::UNKNOWN_IN;
use crate::symbols::mapped::{Cfi, Function, Mapped, Public, Win};

/// The function at an address of the module.
pub(super) struct Enclosing<'a> {
    /// `None` if only the start of the function is known.
    pub(super) name: Option<&'a str>,
    address: u64,
    parameter_size: u32,
    /// `None` if there is no FUNC record.
    record: Option<Function>,
}

/// Whether a scan of the stack may take a word for a return address. `address` is that of the call.
pub(super) fn may_return_to(symbols: &Mapped, address: u64, mode: Mode) -> bool {
    let Some(function) = function(symbols, address, mode) else {
        return false;
    };
    match (function.name, mode) {
        (Some(name), Mode::Compat) => !name.is_empty(),
        // A pointer to a function is no return address, except where a call that never returns ends the
        // function before it. Stacks have many of the former, and scans find few of the latter.
        (Some(name), Mode::True) => !name.is_empty() && !is_start(symbols, address + 1),
        // A file with FUNC records has one for each function that calls others.
        (None, _) => symbols.function_before(address).is_none(),
    }
}

fn is_start(symbols: &Mapped, address: u64) -> bool {
    let function = symbols.function(address).map(|function| function.address);
    let public = symbols.public(address).map(|public| public.address);
    function == Some(address) || public == Some(address)
}

/// Length of a page of memory. Code and data never share one.
const PAGE_BYTES: u64 = 4096;

/// The function at an address of the module, or the public symbol before it.
pub(super) fn function(symbols: &Mapped, address: u64, mode: Mode) -> Option<Enclosing<'_>> {
    let Some(function) = symbols.function(address) else {
        return match mode {
            Mode::Compat => public(symbols, address),
            Mode::True => bounded_public(symbols, address),
        };
    };
    // Parameter sizes in FUNC records are often wrong, and x86 frames are unwound with them.
    let win = symbols.framedata(address).or_else(|| symbols.fpo(address));
    Some(Enclosing {
        name: Some(symbols.string(function.name)?),
        address: function.address,
        parameter_size: win.map_or(function.parameter_size, |win| win.parameter_size),
        record: Some(function),
    })
}

/// The public symbol for an address. Public symbols have no size: one that starts before the last function
/// ends at that function.
fn public(symbols: &Mapped, address: u64) -> Option<Enclosing<'_>> {
    let public = symbols.public(address)?;
    let function = symbols.function_before(address);
    if function.is_some_and(|function| public.address <= function.address) {
        return None;
    }
    named(symbols, &public)
}

fn named<'a>(symbols: &'a Mapped, public: &Public) -> Option<Enclosing<'a>> {
    Some(Enclosing {
        name: Some(symbols.string(public.name)?),
        address: public.address,
        parameter_size: public.parameter_size,
        record: None,
    })
}

/// The public symbol for an address in no FUNC, if its function is known to hold the address.
fn bounded_public(symbols: &Mapped, address: u64) -> Option<Enclosing<'_>> {
    let rules = symbols.cfi_before(address);
    let function = symbols.function_before(address);
    if rules.is_none() && function.is_none() {
        // Nothing is known about extents.
        return public(symbols, address);
    }
    let covering = rules.filter(|rules| address < rules.end());
    let start = match (covering, rules) {
        (Some(covering), _) => first_range(symbols, covering),
        (None, before) => before.map_or(0, |before| before.end()),
    };
    // No function that holds the address starts before this.
    let start = function.map_or(start, |function| function.end().max(start));
    match (symbols.public(address), covering) {
        (Some(public), Some(_)) if public.address >= start => named(symbols, &public),
        (Some(public), None) if public.address >= start => {
            // After the last function, an address may be in data. Only the rest of the page is certainly code.
            let is_code = public.address / PAGE_BYTES == address / PAGE_BYTES
                || symbols.has_code_after(address);
            is_code.then(|| named(symbols, &public)).flatten()
        }
        (_, Some(_)) => Some(Enclosing {
            name: None,
            address: start,
            parameter_size: 0,
            record: None,
        }),
        (_, None) => None,
    }
}

/// The start of the first range of a function.
///
/// A function of 64-bit Windows has several ranges, one after the other, if it saves registers late. The
/// symbols of Microsoft have a PUBLIC for the first range only. Compilers align functions but not these
/// ranges. In an ELF file, each range is a function, and the records look different.
fn first_range(symbols: &Mapped, range: Cfi) -> u64 {
    const RANGES_MAX: usize = 64;
    const ALIGNMENT: u64 = 16;
    let is_of_windows = |range: &Cfi| {
        let rules = symbols.string(range.rules);
        rules.is_some_and(|rules| rules.ends_with(" .ra: .cfa 8 - ^"))
    };
    let mut first = range;
    for _ in 0..RANGES_MAX {
        if first.address.is_multiple_of(ALIGNMENT) || !is_of_windows(&first) {
            break;
        }
        let before = first.address.checked_sub(1).and_then(|at| symbols.cfi(at));
        let Some(before) = before else {
            break;
        };
        // A public symbol inside of the function is another function.
        if symbols
            .public(first.address)
            .is_some_and(|public| public.address == first.address)
        {
            break;
        }
        first = before;
    }
    first.address
}

/// Names the frame's instruction: function, source line, and inlined calls from the outermost inwards. Sets
/// nothing if the address is in no function. The stack scanner then rejects it as a return address.
pub(super) fn fill_symbol(
    symbols: &Mapped,
    module: &dyn Module,
    frame: &mut dyn FrameSymbolizer,
    mode: Mode,
) {
    let base = module.base_address();
    let address = frame.get_instruction().checked_sub(base);
    let found = address.and_then(|at| Some((at, function(symbols, at, mode)?)));
    let Some((address, found)) = found else {
        return;
    };
    // No overflow: a function starts at its frame's instruction or before it.
    let start = found.address + base;
    match found.name {
        Some(name) => frame.set_function(name, start, found.parameter_size),
        None => {
            let code_file = module.code_file();
            let name = format!("{UNKNOWN_IN}{}>", leaf(&code_file));
            frame.set_function(&name, start, found.parameter_size);
        }
    }
    if let Some(function) = found.record {
        fill_source(symbols, &function, base, address, frame);
    }
}

/// An INLINE record has a function and the place of its call, but a frame needs each function with the place
/// inside it. So each function gets the place of the next INLINE, and the last one gets the line record.
fn fill_source(
    symbols: &Mapped,
    function: &Function,
    base: u64,
    address: u64,
    frame: &mut dyn FrameSymbolizer,
) {
    let line = symbols.line(function, address);
    let Some(outermost) = symbols.inline(function, 0, address) else {
        if let Some(line) = line
            && let Some(file) = symbols.file(line.file)
        {
            frame.set_source_file(file, line.line, line.address + base);
        }
        return;
    };
    if let Some(file) = symbols.file(outermost.call_file) {
        frame.set_source_file(file, outermost.call_line, outermost.address + base);
    }
    let mut origin = outermost.origin;
    for depth in 1.. {
        let Some(inline) = symbols.inline(function, depth, address) else {
            break;
        };
        if let Some(name) = symbols.origin(origin) {
            let file = symbols.file(inline.call_file);
            frame.add_inline_frame(name, file, Some(inline.call_line));
        }
        origin = inline.origin;
    }
    let file = line.and_then(|line| symbols.file(line.file));
    let line = line.map(|line| line.line).filter(|line| *line != 0);
    if let Some(name) = symbols.origin(origin) {
        frame.add_inline_frame(name, file, line);
    }
}

/// Finds the caller's registers with unwind rules; `None` if there are none.
pub(super) fn walk_frame(
    symbols: &Mapped,
    module: &dyn Module,
    walker: &mut dyn FrameWalker,
    mode: Mode,
) -> Option<()> {
    let base = module.base_address();
    let address = walker.get_instruction().checked_sub(base)?;
    let win = match (symbols.framedata(address), symbols.fpo(address)) {
        (Some(win), _) => walk_with_win(symbols, &win, "4", "1", module, walker),
        (None, Some(win)) => walk_with_win(symbols, &win, "0", "0", module, walker),
        (None, None) => None,
    };
    win.or_else(|| walk_with_cfi(symbols, base, address, walker, mode))
}

fn walk_with_cfi(
    symbols: &Mapped,
    base: u64,
    address: u64,
    walker: &mut dyn FrameWalker,
    mode: Mode,
) -> Option<()> {
    let cfi = symbols.cfi(address)?;
    let deltas = symbols.deltas(&cfi, address).map(|delta| delta.rules);
    let rules: Option<Vec<&str>> = std::iter::once(cfi.rules)
        .chain(deltas)
        .map(|rules| symbols.string(rules))
        .collect();
    let rules = rules?;
    // Without the start of the range, the unwinder trusts a guessed link register on ARM64 and invents
    // frames. The start must not remain set after this evaluation.
    walker.set_cfi_rules_start_address(Some(base + cfi.address));
    let walked = cfi::walk(&rules, walker, mode);
    walker.set_cfi_rules_start_address(None);
    walked
}

fn walk_with_win(
    symbols: &Mapped,
    win: &Win,
    kind: &str,
    has_program: &str,
    module: &dyn Module,
    walker: &mut dyn FrameWalker,
) -> Option<()> {
    let program = symbols.string(win.program)?;
    let record = format!(
        "STACK WIN {kind} {:x} {:x} {:x} {:x} {:x} {:x} {:x} {:x} {has_program} {program}\n",
        win.address,
        win.size,
        win.prologue_size,
        win.epilogue_size,
        win.parameter_size,
        win.saved_register_size,
        win.local_size,
        win.max_stack_size,
    );
    SymbolFile::from_bytes(record.as_bytes())
        .ok()?
        .walk_frame(module, walker)
}
