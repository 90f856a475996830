//! Unwind rules of Windows programs for ARM64: `.pdata` and `.xdata` as STACK CFI records.
//!
//! symbolic writes registers with a dot before their names, which no walk knows, and leaves out functions with
//! packed unwind data, which are most. Can go when it does both.
//!
//! Unwind data lists the instructions of a prologue, the last one first. To undo them is to find the caller's
//! registers. Each code is one instruction, so there is also a rule for every address in the prologue, and in the
//! epilogues, which have lists of the same kind.

use std::io::{self, Write};

use super::ranges::{Range, containing};

/// Limit of instructions of a prologue or an epilogue for which there are rules one by one.
const STEPS_MAX: usize = 64;
/// Limit of epilogues of one function for which there are rules one by one.
const EPILOGUES_MAX: usize = 32;
/// Limit of records of one file.
const ROWS_MAX: usize = 50_000_000;

const FP: u8 = 29;
const LR: u8 = 30;

/// An entry of `.pdata`, and the bytes of its `.xdata`, if it is not packed.
pub(super) struct Entry<'d> {
    pub(super) start: u32,
    pub(super) packed: u32,
    pub(super) full: Option<&'d [u8]>,
}

/// Writes the rules of the functions in `code`.
///
/// # Errors
/// The output cannot be written.
pub(super) fn write<'d>(
    entries: impl Iterator<Item = Entry<'d>>,
    code: &[Range],
    out: &mut Vec<u8>,
) -> io::Result<()> {
    let mut rows = 0;
    for entry in entries {
        let start = u64::from(entry.start);
        if containing(code, start).is_none() {
            continue;
        }
        let function = match entry.full {
            Some(bytes) => full(bytes),
            None => packed(entry.packed),
        };
        if let Some(function) = function {
            rows += function.write(start, out)?;
        }
        if rows > ROWS_MAX {
            break;
        }
    }
    Ok(())
}

/// Reads any bytes as the data of a function.
pub(super) fn read_any(bytes: &[u8]) -> usize {
    let word = bytes
        .first_chunk()
        .map_or(0, |bytes| u32::from_le_bytes(*bytes));
    let entries = [None, Some(bytes)].map(|full| Entry {
        start: 0,
        packed: word,
        full,
    });
    let mut out = Vec::new();
    let written = write(entries.into_iter(), &[(0, u64::MAX)], &mut out);
    written.map_or(0, |()| out.len())
}

/// What undoing one instruction does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Step {
    /// Registers that it restores, and their places from the stack pointer on.
    saved: [Option<(u8, i64)>; 2],
    /// Bytes that it then adds to the stack pointer.
    alloc: i64,
    /// It sets the stack pointer to the frame pointer less this number.
    from_fp: Option<i64>,
}

impl Step {
    fn alloc(bytes: i64) -> Self {
        Self {
            alloc: bytes,
            ..Self::default()
        }
    }

    fn one(register: u8, at: i64, alloc: i64) -> Self {
        Self {
            saved: [Some((register, at)), None],
            alloc,
            from_fp: None,
        }
    }

    fn pair(first: u8, second: u8, at: i64, alloc: i64) -> Self {
        Self {
            saved: [Some((first, at)), Some((second, at + 8))],
            alloc,
            from_fp: None,
        }
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Function {
    bytes: u64,
    /// To undo after the prologue, in this order.
    body: Vec<Step>,
    /// The number of its steps that are instructions of this function. The others are of the function that it is
    /// a part of.
    prologue: usize,
    /// The start of an epilogue in bytes, and what is to undo at its start.
    epilogues: Vec<(u64, Vec<Step>)>,
}

/// The caller's registers: the expressions of `.cfa`, `.ra` and x19 to x29.
type Rules = Vec<(String, String)>;

fn rules(steps: &[Step]) -> Rules {
    let (mut base, mut distance) = ("sp", 0i64);
    let mut saved: Vec<(u8, &str, i64)> = Vec::new();
    for step in steps {
        if let Some(below) = step.from_fp {
            (base, distance) = ("x29", -below);
        }
        for (register, at) in step.saved.into_iter().flatten() {
            saved.retain(|(known, ..)| *known != register);
            saved.push((register, base, distance + at));
        }
        distance += step.alloc;
    }
    saved.sort_unstable();
    let place = |of: &str, at: i64| {
        if of == base {
            format!(".cfa {} + ^", at - distance)
        } else {
            format!("{of} {at} + ^")
        }
    };
    let ra = saved.iter().find(|(register, ..)| *register == LR);
    let ra = ra.map_or_else(|| "x30".to_owned(), |&(_, of, at)| place(of, at));
    let mut rules = vec![
        (".cfa".to_owned(), format!("{base} {distance} +")),
        (".ra".to_owned(), ra),
    ];
    let others = saved.iter().filter(|(register, ..)| *register != LR);
    rules.extend(others.map(|&(register, of, at)| (format!("x{register}"), place(of, at))));
    rules
}

impl Function {
    /// Writes the records of the function. Returns their number.
    fn write(&self, start: u64, out: &mut Vec<u8>) -> io::Result<usize> {
        let mut rows: Vec<(u64, Rules)> = Vec::new();
        let prologue = self.prologue.min(self.body.len());
        if prologue <= STEPS_MAX {
            for done in 0..prologue {
                rows.push((done as u64 * 4, rules(&self.body[prologue - done..])));
            }
        }
        let body = rules(&self.body);
        rows.push((rows.len() as u64 * 4, body.clone()));
        for (at, steps) in self.epilogues.iter().take(EPILOGUES_MAX) {
            let is_after = rows.last().is_some_and(|last| last.0 < *at);
            if steps.len() > STEPS_MAX || !is_after {
                continue;
            }
            for done in 0..=steps.len() {
                rows.push((at + done as u64 * 4, rules(&steps[done..])));
            }
            rows.push((at + steps.len() as u64 * 4 + 4, body.clone()));
        }
        let mut known: Rules = Vec::new();
        let mut written = 0;
        for (at, rules) in rows.into_iter().filter(|row| row.0 < self.bytes) {
            let mut line = Vec::new();
            for (register, rule) in &rules {
                if known
                    .iter()
                    .all(|known| known != &(register.clone(), rule.clone()))
                {
                    write!(line, " {register}: {rule}")?;
                }
            }
            for (register, _) in &known {
                // A rule stays in force until the next one for the same register.
                if rules.iter().all(|(now, _)| now != register) {
                    write!(line, " {register}: {register}")?;
                }
            }
            if at == 0 {
                write!(out, "STACK CFI INIT {start:x} {:x}", self.bytes)?;
            } else if !line.is_empty() {
                write!(out, "STACK CFI {:x}", start + at)?;
            }
            if !line.is_empty() {
                out.write_all(&line)?;
                out.push(b'\n');
                written += 1;
            }
            known = rules;
        }
        Ok(written)
    }
}

fn bits(word: u32, from: u32, count: u32) -> u32 {
    (word >> from) & ((1 << count) - 1)
}

/// A function with its unwind data in the entry itself: its prologue is of the usual form.
fn packed(word: u32) -> Option<Function> {
    let is_fragment = match bits(word, 0, 2) {
        1 => false,
        2 => true,
        _ => return None,
    };
    let bytes = u64::from(bits(word, 2, 11)) * 4;
    let (floats, integers) = (bits(word, 13, 3), bits(word, 16, 4));
    let (homes, chain) = (bits(word, 20, 1) == 1, bits(word, 21, 2));
    let frame = i64::from(bits(word, 23, 9)) * 16;
    if integers > 10 {
        return None;
    }
    let saves_lr = chain == 1;
    let integer_bytes = i64::from(integers) * 8 + i64::from(saves_lr) * 8;
    let float_count = if floats == 0 { 0 } else { floats + 1 };
    let float_bytes = i64::from(float_count) * 8;
    let saved = (integer_bytes + float_bytes + i64::from(homes) * 64 + 15) & !15;
    let locals = frame - saved;
    if locals < 0 {
        return None;
    }
    // The instructions of the prologue, the first one first, and whether the epilogue undoes them one by one.
    let mut steps = Vec::new();
    if chain == 2 {
        // The return address is signed.
        steps.push((Step::default(), true));
    }
    let signed = steps.len();
    let alloc = |steps: &Vec<_>| if steps.len() == signed { saved } else { 0 };
    let mut registers: Vec<u8> = (0..integers).map(|number| 19 + number as u8).collect();
    if saves_lr {
        registers.push(LR);
    }
    let mut at = 0;
    for group in registers.chunks(2) {
        let step = match *group {
            [first, second] => Step::pair(first, second, at, alloc(&steps)),
            [first, ..] => Step::one(first, at, alloc(&steps)),
            [] => break,
        };
        steps.push((step, true));
        at += group.len() as i64 * 8;
    }
    for _ in 0..float_count.div_ceil(2) {
        steps.push((Step::alloc(alloc(&steps)), true));
    }
    for _ in 0..i64::from(homes) * 4 {
        // Parameters are not loaded again, but their place is released.
        let bytes = alloc(&steps);
        steps.push((Step::alloc(bytes), bytes > 0));
    }
    let has_frame = chain >= 2;
    if has_frame && locals <= 512 {
        steps.push((Step::pair(FP, LR, 0, locals), true));
    } else if locals > 0 {
        let first = locals.min(4080);
        steps.push((Step::alloc(first), true));
        if locals > first {
            steps.push((Step::alloc(locals - first), true));
        }
        if has_frame {
            steps.push((Step::pair(FP, LR, 0, 0), true));
        }
    }
    if has_frame {
        // The epilogue need not compute the stack pointer from the frame pointer.
        let from_fp = Step {
            from_fp: Some(0),
            ..Step::default()
        };
        steps.push((from_fp, false));
    }
    steps.reverse();
    let prologue = if is_fragment { 0 } else { steps.len() };
    let undone = steps.iter().filter(|(_, in_epilogue)| *in_epilogue);
    let undone: Vec<Step> = undone.map(|(step, _)| *step).collect();
    let steps = steps.into_iter().map(|(step, _)| step).collect();
    let length = undone.len() as u64 * 4 + 4;
    let epilogue = bytes
        .checked_sub(length)
        .filter(|_| !is_fragment && bytes > 0);
    Some(Function {
        bytes,
        body: steps,
        prologue,
        epilogues: epilogue.map(|at| (at, undone)).into_iter().collect(),
    })
}

/// A function with its unwind data in `.xdata`.
fn full(bytes: &[u8]) -> Option<Function> {
    let word = |at: usize| {
        let bytes = bytes.get(at..)?.first_chunk()?;
        Some(u32::from_le_bytes(*bytes))
    };
    let head = word(0)?;
    if bits(head, 18, 2) != 0 {
        return None;
    }
    let mut at = 4;
    let (mut epilogues, mut words) = (bits(head, 22, 5), bits(head, 27, 5));
    let is_single = bits(head, 21, 1) == 1;
    if epilogues == 0 && words == 0 {
        let more = word(4)?;
        (epilogues, words) = (bits(more, 0, 16), bits(more, 16, 8));
        at = 8;
    }
    let scopes = if is_single { 0 } else { epilogues as usize };
    let codes_at = at + scopes * 4;
    let codes = bytes.get(codes_at..)?.get(..words as usize * 4)?;
    let length = u64::from(bits(head, 0, 18)) * 4;
    let mut function = Function {
        bytes: length,
        ..Function::default()
    };
    (function.body, function.prologue) = steps(codes)?;
    if is_single {
        let (steps, _) = steps(codes.get(epilogues as usize..)?)?;
        let start = length.checked_sub(steps.len() as u64 * 4 + 4);
        function.epilogues.extend(start.map(|start| (start, steps)));
    }
    for scope in 0..scopes.min(EPILOGUES_MAX) {
        let scope = word(at + scope * 4)?;
        let from = codes.get(bits(scope, 22, 10) as usize..)?;
        let start = u64::from(bits(scope, 0, 18)) * 4;
        if let Some((steps, _)) = steps(from) {
            function.epilogues.push((start, steps));
        }
    }
    Some(function)
}

/// A code of unwind data.
enum Code {
    Step(Step),
    /// A pair of registers, its place, and what it allocates. `None` if a walk does not restore them.
    Pair(Option<u8>, i64, i64),
    /// The pair after the one that was saved by the instruction before.
    Next,
    End,
    /// The end of this function's own instructions. Those of the function that it is part of follow.
    EndOfPart,
}

/// The steps in a list of codes, and how many of them are this function's own. `None` if a code is unknown.
fn steps(codes: &[u8]) -> Option<(Vec<Step>, usize)> {
    let mut found = Vec::new();
    let mut own = None;
    let mut bytes = codes.iter().copied();
    loop {
        // The last code may be left out if the words are full.
        match bytes.next().map(|first| code(first, &mut bytes)) {
            None => break,
            Some(None) => return None,
            Some(Some(Code::End)) => break,
            Some(Some(Code::EndOfPart)) => own = own.or(Some(found.len())),
            Some(Some(code)) => found.push(code),
        }
    }
    // In the order of the instructions, a pair is known before the next one.
    let mut last = None;
    let mut steps: Vec<Step> = Vec::with_capacity(found.len());
    for code in found.iter().rev() {
        steps.push(match *code {
            Code::Pair(register, at, alloc) => {
                last = Some((register, at));
                register.map_or_else(
                    || Step::alloc(alloc),
                    |first| Step::pair(first, first + 1, at, alloc),
                )
            }
            Code::Next => {
                let (register, at) = last?;
                let next = (register.map(|register| register + 2), at + 16);
                last = Some(next);
                match next.0 {
                    Some(first) if first < FP => Step::pair(first, first + 1, next.1, 0),
                    Some(_) => return None,
                    None => Step::default(),
                }
            }
            Code::Step(step) => step,
            Code::End | Code::EndOfPart => continue,
        });
    }
    steps.reverse();
    let own = own.unwrap_or(steps.len());
    Some((steps, own))
}

fn code(first: u8, bytes: &mut impl Iterator<Item = u8>) -> Option<Code> {
    let mut two = || Some((u32::from(first) << 8) | u32::from(bytes.next()?));
    // x19 to lr, and in a pair the one before lr.
    let integer = |number: u32| (number <= 11).then_some(19 + number as u8);
    let first_of_two = |number: u32| integer(number).filter(|register| *register < LR);
    let at = |word: u32| i64::from(bits(word, 0, 6)) * 8;
    Some(match first {
        0x00..=0x1f => Code::Step(Step::alloc(i64::from(first & 0x1f) * 16)),
        0x20..=0x3f => Code::Pair(Some(19), 0, i64::from(first & 0x1f) * 8),
        0x40..=0x7f => Code::Step(Step::pair(FP, LR, i64::from(first & 0x3f) * 8, 0)),
        0x80..=0xbf => Code::Step(Step::pair(FP, LR, 0, i64::from(first & 0x3f) * 8 + 8)),
        0xc0..=0xc7 => Code::Step(Step::alloc(i64::from(bits(two()?, 0, 11)) * 16)),
        0xc8..=0xcb => {
            let word = two()?;
            Code::Pair(Some(first_of_two(bits(word, 6, 4))?), at(word), 0)
        }
        0xcc..=0xcf => {
            let word = two()?;
            Code::Pair(Some(first_of_two(bits(word, 6, 4))?), 0, at(word) + 8)
        }
        0xd0..=0xd3 => {
            let word = two()?;
            Code::Step(Step::one(integer(bits(word, 6, 4))?, at(word), 0))
        }
        0xd4 | 0xd5 => {
            let word = two()?;
            let alloc = i64::from(bits(word, 0, 5)) * 8 + 8;
            Code::Step(Step::one(integer(bits(word, 5, 4))?, 0, alloc))
        }
        0xd6 | 0xd7 => {
            let word = two()?;
            let register = first_of_two(bits(word, 6, 3) * 2)?;
            Code::Step(Step::pair(register, LR, at(word), 0))
        }
        // Registers of the floating-point unit.
        0xd8 | 0xd9 => Code::Pair(None, at(two()?), 0),
        0xda | 0xdb => Code::Pair(None, 0, at(two()?) + 8),
        0xdc | 0xdd => {
            two()?;
            Code::Step(Step::default())
        }
        0xde => Code::Step(Step::alloc(i64::from(bits(two()?, 0, 5)) * 8 + 8)),
        0xe0 => {
            let [high, mid, low] = [bytes.next()?, bytes.next()?, bytes.next()?];
            let count = u32::from_be_bytes([0, high, mid, low]);
            Code::Step(Step::alloc(i64::from(count) * 16))
        }
        0xe1 => Code::Step(Step {
            from_fp: Some(0),
            ..Step::default()
        }),
        0xe2 => Code::Step(Step {
            from_fp: Some(i64::from(bytes.next()?) * 8),
            ..Step::default()
        }),
        // Nothing, and a signature of the return address.
        0xe3 | 0xfc => Code::Step(Step::default()),
        0xe4 => Code::End,
        0xe5 => Code::EndOfPart,
        0xe6 => Code::Next,
        0xe7 => any_register([bytes.next()?, bytes.next()?])?,
        // Frames of the kernel and reserved codes.
        _ => return None,
    })
}

/// Any register or pair of registers, of any kind.
fn any_register([second, third]: [u8; 2]) -> Option<Code> {
    let (is_pair, is_pre_indexed) = (second & 0x40 != 0, second & 0x20 != 0);
    let (register, kind) = (second & 0x1f, third >> 6);
    if second & 0x80 != 0 || kind > 2 || register > LR {
        return None;
    }
    let offset = i64::from(third & 0x3f);
    let (at, alloc) = match (is_pre_indexed, is_pair || kind == 2) {
        (true, _) => (0, (offset + 1) * 16),
        (false, true) => (offset * 16, 0),
        (false, false) => (offset * 8, 0),
    };
    let is_integer = kind == 0;
    Some(Code::Step(match (is_integer, is_pair) {
        (true, true) if register < LR => Step::pair(register, register + 1, at, alloc),
        (true, true) => return None,
        (true, false) => Step::one(register, at, alloc),
        (false, _) => Step::alloc(alloc),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(function: Option<Function>) -> String {
        let mut out = Vec::new();
        let function = function.expect("a function");
        function.write(0x1000, &mut out).expect("a vector");
        String::from_utf8(out).expect("UTF-8")
    }

    /// The words of `.xdata`: a head with these fields, and then the codes.
    fn xdata(
        length: u32,
        is_single: bool,
        epilogues: u32,
        scopes: &[u32],
        codes: &[u8],
    ) -> Vec<u8> {
        let words = codes.len() as u32 / 4;
        let head = (length / 4) | (u32::from(is_single) << 21) | (epilogues << 22) | (words << 27);
        let words = [&[head][..], scopes].concat();
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.extend(codes);
        bytes
    }

    #[test]
    fn each_address_of_a_function_has_the_rule_of_its_place() {
        // stp x29, lr, [sp, #-32]!; mov x29, sp; ... ldp x29, lr, [sp], #32; ret
        let codes = [0xe1, 0x83, 0xe4, 0xe3];
        assert_eq!(
            text(full(&xdata(0x40, true, 1, &[], &codes))),
            "STACK CFI INIT 1000 40 .cfa: sp 0 + .ra: x30\n\
             STACK CFI 1004 .cfa: sp 32 + .ra: .cfa -24 + ^ x29: .cfa -32 + ^\n\
             STACK CFI 1008 .cfa: x29 32 +\n\
             STACK CFI 1038 .cfa: sp 32 +\n\
             STACK CFI 103c .cfa: sp 0 + .ra: x30 x29: x29\n"
        );
        // stp x19, x20, [sp, #-48]!; stp x21, x22, [sp, #16]; stp x23, lr, [sp, #32]; an epilogue in the middle
        let codes = [0xd7, 0x04, 0xe6, 0x26, 0xe4, 0xe3, 0xe3, 0xe3];
        let body = ".cfa: sp 48 + .ra: .cfa -8 + ^";
        let text = text(full(&xdata(0x40, false, 1, &[0x20 / 4], &codes)));
        assert!(text.starts_with("STACK CFI INIT 1000 40 .cfa: sp 0 + .ra: x30\nSTACK CFI 1004 .cfa: sp 48 + x19: .cfa -48 + ^ x20: .cfa -40 + ^\nSTACK CFI 1008 x21: .cfa -32 + ^ x22: .cfa -24 + ^\n"), "{text}");
        assert!(
            text.contains("STACK CFI 1030 .cfa: sp 48 + .ra: .cfa -8 + ^ x19"),
            "{body} {text}"
        );
    }

    #[test]
    fn packed_functions_have_the_usual_prologue() {
        // 0x20 bytes, x19 and x20, a frame of 32 bytes with x29 and lr.
        let word = 1 | (0x20 / 4) << 2 | 2 << 16 | 3 << 21 | 2 << 23;
        assert_eq!(
            text(packed(word)),
            "STACK CFI INIT 1000 20 .cfa: sp 0 + .ra: x30\n\
             STACK CFI 1004 .cfa: sp 16 + x19: .cfa -16 + ^ x20: .cfa -8 + ^\n\
             STACK CFI 1008 .cfa: sp 32 + .ra: .cfa -24 + ^ x29: .cfa -32 + ^\n\
             STACK CFI 100c .cfa: x29 32 +\n\
             STACK CFI 1014 .cfa: sp 32 +\n\
             STACK CFI 1018 .cfa: sp 16 + .ra: x30 x29: x29\n\
             STACK CFI 101c .cfa: sp 0 + x19: x19 x20: x20\n"
        );
        // A leaf that only moves the stack pointer, and a fragment.
        let leaf = 1 | 4 << 2 | 1 << 23;
        assert!(text(packed(leaf)).contains("STACK CFI 1004 .cfa: sp 16 +\n"));
        let fragment = 2 | 4 << 2 | 1 << 21 | 1 << 23;
        assert_eq!(
            text(packed(fragment)),
            "STACK CFI INIT 1000 10 .cfa: sp 16 + .ra: .cfa -16 + ^\n"
        );
    }

    #[test]
    fn data_that_lies_is_no_function_and_never_panics() {
        // More registers than there are, less frame than they need, a reserved flag.
        for word in [1 | 15 << 16 | 9 << 23, 1 | 8 << 16, 3, 0] {
            assert_eq!(packed(word), None);
        }
        for codes in [
            [0xe6, 0xe4, 0xe4, 0xe4],
            [0xe8, 0xe4, 0xe4, 0xe4],
            [0xff, 0xe4, 0xe4, 0xe4],
            [0xcb, 0xc0, 0xe4, 0xe4],
            [0xe7, 0x80, 0x00, 0xe4],
            [0xe3, 0xe3, 0xe0, 0xff],
        ] {
            assert_eq!(full(&xdata(0x40, true, 0, &[], &codes)), None, "{codes:x?}");
        }
        let good = xdata(0x40, true, 1, &[], &[0xe1, 0x83, 0xe4, 0xe3]);
        for end in 0..good.len() {
            assert_eq!(full(&good[..end]), None);
        }
        // A version that does not exist, and an epilogue whose codes are past the end.
        assert_eq!(full(&xdata(0x40 | 1 << 20, true, 0, &[], &[0xe4; 4])), None);
        assert_eq!(full(&xdata(0x40, true, 9, &[], &[0xe4; 4])), None);
        let mut state = 1u64;
        for _ in 0..50_000 {
            let mut bytes = [0; 48];
            for byte in &mut bytes {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                *byte = (state >> 56) as u8;
            }
            bytes[2] &= 0xf3;
            for function in [full(&bytes), packed(state as u32)].into_iter().flatten() {
                function.write(0x1000, &mut Vec::new()).expect("a vector");
            }
        }
    }
}
