//! Evaluates STACK CFI rules in place, in the mapped symbols (ADR 16).
//!
//! The language and the results are those of breakpad-symbols 0.27. The crate copies each rule's text,
//! collects the registers in a hash map and evaluates on the heap, which took a third of the time of a walk.
//! Compilers' rules set a handful of registers with expressions of a few words. Larger rules are passed to
//! the crate.

use breakpad_symbols::CfiRules;
use breakpad_symbols::walker::walk_with_stack_cfi;
use minidump_unwind::FrameWalker;

use super::mode::Mode;

/// Limit of registers that one frame's rules set. x86-64 has 17, ARM64 33 without its vectors.
const REGISTERS_MAX: usize = 48;
/// Limit of words in an expression, and so of values on its stack.
const WORDS_MAX: usize = 16;

/// A return address of 0. The unwinders end a stack there, with any method.
const END_OF_STACK: u64 = 0;

/// Sets the caller's registers by the rules of a range and the changes after it, in order. Returns `None` if
/// the rules are invalid or lack a value.
///
/// `.ra: .undef` is how symbol files say that a function has no caller, as `_start` and `clone` do. With
/// [`Mode::True`] it ends the stack. The crate looks for a caller with other methods, and invents one.
pub(super) fn walk(rules: &[&str], walker: &mut dyn FrameWalker, mode: Mode) -> Option<()> {
    let mut registers = Registers::default();
    for text in rules {
        match registers.read(text) {
            Ok(()) => {}
            Err(Unread::Nonsense) => return None,
            Err(Unread::Large) => return walk_large(rules, walker),
        }
    }
    let cfa = evaluate(registers.get(".cfa")?, walker, None)?;
    let ra = registers.get(".ra")?;
    if mode == Mode::True && ra.trim_ascii() == ".undef" {
        walker.set_cfa(cfa)?;
        return walker.set_ra(END_OF_STACK);
    }
    let ra = evaluate(ra, walker, Some(cfa))?;
    walker.set_cfa(cfa)?;
    walker.set_ra(ra)?;
    for &(name, expression) in registers.all() {
        // If a register cannot be computed, it is unknown. The callee's value of it is not used.
        match (name, evaluate(expression, walker, Some(cfa))) {
            (".cfa" | ".ra", _) => {}
            (name, Some(value)) => {
                walker.set_caller_register(plain(name), value);
            }
            (name, None) => walker.clear_caller_register(plain(name)),
        }
    }
    Some(())
}

fn walk_large(rules: &[&str], walker: &mut dyn FrameWalker) -> Option<()> {
    let rules: Vec<_> = rules
        .iter()
        .map(|rules| CfiRules {
            address: 0,
            rules: (*rules).to_owned(),
        })
        .collect();
    let (first, changes) = rules.split_first()?;
    walk_with_stack_cfi(first, changes, walker)
}

/// Register names have a dollar sign or not.
fn plain(name: &str) -> &str {
    name.strip_prefix('$').unwrap_or(name)
}

/// The last expression of each register.
struct Registers<'a> {
    rules: [(&'a str, &'a str); REGISTERS_MAX],
    count: usize,
}

impl Default for Registers<'_> {
    fn default() -> Self {
        Self {
            rules: [("", ""); REGISTERS_MAX],
            count: 0,
        }
    }
}

enum Unread {
    Nonsense,
    Large,
}

impl<'a> Registers<'a> {
    /// Reads `REG: EXPR REG: EXPR ...`.
    fn read(&mut self, text: &'a str) -> Result<(), Unread> {
        let mut rest = text.trim_ascii();
        let (mut name, after) = word(rest).ok_or(Unread::Nonsense)?;
        rest = after;
        loop {
            // The first word must be a register. Later registers are recognised by their colon.
            let register = name.strip_suffix(':').ok_or(Unread::Nonsense)?;
            let begin = rest;
            let mut words = 0;
            let expression = loop {
                let Some((next, after)) = word(rest) else {
                    break begin;
                };
                if next.ends_with(':') {
                    let length = begin.len() - rest.len();
                    name = next;
                    rest = after;
                    break &begin[..length];
                }
                rest = after;
                words += 1;
            };
            if words == 0 {
                return Err(Unread::Nonsense);
            }
            if words > WORDS_MAX {
                return Err(Unread::Large);
            }
            self.set(register, expression)?;
            if begin.len() == expression.len() {
                return Ok(());
            }
        }
    }

    fn set(&mut self, name: &'a str, expression: &'a str) -> Result<(), Unread> {
        let known = self.rules[..self.count]
            .iter_mut()
            .find(|(known, _)| is_same(known, name));
        match known {
            Some(rule) => rule.1 = expression,
            None if self.count == REGISTERS_MAX => return Err(Unread::Large),
            None => {
                self.rules[self.count] = (name, expression);
                self.count += 1;
            }
        }
        Ok(())
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        let found = self.all().iter().find(|(known, _)| *known == name);
        found.map(|(_, expression)| *expression)
    }

    fn all(&self) -> &[(&'a str, &'a str)] {
        &self.rules[..self.count]
    }
}

/// `$rbx` and `rbx` are the same register; `.cfa` and `$.cfa` are not.
fn is_same(a: &str, b: &str) -> bool {
    let is_special = |name: &str| matches!(name, ".cfa" | ".ra");
    if is_special(a) || is_special(b) {
        a == b
    } else {
        plain(a) == plain(b)
    }
}

/// The next word, and the text after it.
fn word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_ascii_start();
    let end = text
        .bytes()
        .position(|byte| byte.is_ascii_whitespace())
        .unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// The value of a postfix expression of at most [`WORDS_MAX`] words.
fn evaluate(mut expression: &str, walker: &dyn FrameWalker, cfa: Option<u64>) -> Option<u64> {
    let mut stack = Stack {
        values: [0; WORDS_MAX],
        depth: 0,
    };
    while let Some((word, rest)) = word(expression) {
        expression = rest;
        match word {
            "+" => stack.combine(|a, b| Some(a.wrapping_add(b)))?,
            "-" => stack.combine(|a, b| Some(a.wrapping_sub(b)))?,
            "*" => stack.combine(|a, b| Some(a.wrapping_mul(b)))?,
            "/" => stack.combine(u64::checked_div)?,
            "%" => stack.combine(u64::checked_rem)?,
            "@" => stack.combine(|a, b| b.is_power_of_two().then(|| a & !(b - 1)))?,
            "^" => {
                let address = stack.pop()?;
                stack.push(walker.get_register_at_address(address)?);
            }
            ".cfa" => stack.push(cfa?),
            ".undef" => return None,
            _ => stack.push(value(word, walker)?),
        }
    }
    match stack.depth {
        1 => stack.pop(),
        _ => None,
    }
}

fn value(word: &str, walker: &dyn FrameWalker) -> Option<u64> {
    if let Some((_, register)) = word.split_once('$') {
        return walker.get_callee_register(register);
    }
    match word.parse::<i64>() {
        Ok(number) => Some(number as u64),
        // Registers of ARM have no dollar sign.
        Err(_) => walker.get_callee_register(word),
    }
}

struct Stack {
    values: [u64; WORDS_MAX],
    depth: usize,
}

impl Stack {
    fn push(&mut self, value: u64) {
        self.values[self.depth] = value;
        self.depth += 1;
    }

    fn pop(&mut self) -> Option<u64> {
        self.depth = self.depth.checked_sub(1)?;
        Some(self.values[self.depth])
    }

    fn combine(&mut self, operator: impl Fn(u64, u64) -> Option<u64>) -> Option<()> {
        let (right, left) = (self.pop()?, self.pop()?);
        self.push(operator(left, right)?);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// A callee with some registers, and a stack in which each word is three times its address.
    #[derive(Default, PartialEq, Debug)]
    struct Frames {
        caller: BTreeMap<String, Option<u64>>,
    }

    impl FrameWalker for Frames {
        fn get_instruction(&self) -> u64 {
            0x1000
        }
        fn has_grand_callee(&self) -> bool {
            false
        }
        fn get_grand_callee_parameter_size(&self) -> u32 {
            0
        }
        fn get_register_at_address(&self, address: u64) -> Option<u64> {
            (address < 0x1_0000).then(|| address * 3)
        }
        fn get_callee_register(&self, name: &str) -> Option<u64> {
            match name {
                "rsp" => Some(0x2000),
                "rbp" => Some(0x2040),
                "x11" => Some(7),
                _ => None,
            }
        }
        fn set_caller_register(&mut self, name: &str, value: u64) -> Option<()> {
            self.caller.insert(name.to_owned(), Some(value));
            Some(())
        }
        fn clear_caller_register(&mut self, name: &str) {
            self.caller.insert(name.to_owned(), None);
        }
        fn set_cfa(&mut self, value: u64) -> Option<()> {
            self.set_caller_register("the cfa", value)
        }
        fn set_ra(&mut self, value: u64) -> Option<()> {
            self.set_caller_register("the ra", value)
        }
        fn set_cfi_rules_start_address(&mut self, _: Option<u64>) {}
    }

    #[track_caller]
    fn check(rules: &[&str]) -> bool {
        let (mut ours, mut theirs) = (Frames::default(), Frames::default());
        let walked = walk(rules, &mut ours, Mode::Compat);
        let expected = walk_large(rules, &mut theirs);
        assert_eq!((walked, &ours), (expected, &theirs), "{rules:?}");
        walked.is_some()
    }

    #[test]
    fn rules_of_compilers_are_evaluated_as_the_crate_does() {
        assert!(check(&[
            ".cfa: $rsp 8 + .ra: .cfa -8 + ^",
            ".cfa: $rsp 16 + $rbp: .cfa -16 + ^",
            ".cfa: $rbp 16 +",
        ]));
        assert!(check(&[".cfa: x11 8 + .ra: .cfa 8 @ x29: .undef x29: x11"]));
        assert!(!check(&[".cfa: $rsp 8 +"]));
        assert!(!check(&[""]));
        assert!(!check(&["$rsp 8 +"]));
        assert!(!check(&[".cfa: .ra: 8"]));
    }

    #[test]
    fn an_undefined_return_address_is_the_end_of_the_stack() {
        let end = |rules: &[&str], mode| {
            let mut frames = Frames::default();
            walk(rules, &mut frames, mode).map(|()| frames.caller["the ra"])
        };
        for rules in [
            &[".cfa: $rsp 8 + .ra: .undef"][..],
            &[".cfa: $rsp 8 + .ra: .cfa -8 + ^", ".ra: .undef"],
        ] {
            assert_eq!(end(rules, Mode::True), Some(Some(0)));
            assert_eq!(end(rules, Mode::Compat), None);
        }
        // Rules that could not be written say that the CFA is unknown. They are no end.
        assert_eq!(end(&[".cfa: .undef .ra: .undef"], Mode::True), None);
        assert_eq!(end(&[".cfa: $rsp 8 + .ra: .undef ^"], Mode::True), None);
    }

    #[test]
    fn rules_too_large_for_this_are_left_to_the_crate() {
        let deep = format!(".cfa: {} {} .ra: 1", "1 ".repeat(40), "+ ".repeat(39));
        assert!(check(&[&deep]));
        let wide: String = (0..100).map(|n| format!(" r{n}: {n}")).collect();
        assert!(check(&[&format!(".cfa: 1 .ra: 2{wide}")]));
    }

    #[test]
    fn any_words_in_any_order_give_what_the_crate_gives() {
        const WORDS: [&str; 30] = [
            ".cfa:",
            ".ra:",
            "$rbp:",
            "rbp:",
            "x11:",
            "$.cfa:",
            ":",
            "$rsp",
            "rsp",
            "$rbp",
            "x11",
            "$none",
            "a$rsp",
            ".cfa",
            ".undef",
            "+",
            "-",
            "*",
            "/",
            "%",
            "@",
            "^",
            "0",
            "8",
            "-8",
            "+4",
            "16",
            "99999999999999999999",
            "$",
            "\u{e9}",
        ];
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 33) as usize % below
        };
        let mut walked = 0;
        for _ in 0..200_000 {
            let mut texts = Vec::new();
            for line in 0..=next(3) {
                let mut text = String::new();
                if line == 0 && next(4) > 0 {
                    text.push_str(".cfa: $rsp 8 + .ra: .cfa 8 - ^ ");
                }
                for _ in 0..next(12) {
                    text.push_str(WORDS[next(WORDS.len())]);
                    text.push_str(["  ", " ", "\t"][next(3)]);
                }
                texts.push(text);
            }
            let rules: Vec<&str> = texts.iter().map(String::as_str).collect();
            walked += usize::from(check(&rules));
        }
        assert!(walked > 5_000, "most rules made no sense: {walked}");
    }
}
