//! Normalises a frame to one text: removes what varies between builds and calls, and keeps what names the
//! code.
//!
//! Argument lists, return types and qualifiers are removed, and template arguments become `<T>`. The steps
//! are exactly siggen's, folklore included: `Foo::isconst` becomes `Foo::is`, because siggen does not look
//! for whole words. List entries are written for these texts, so a better step would break them.
//!
//! The time of every step is linear in the text, which may be a megabyte of template.

use std::borrow::Cow;

use memchr::{memchr, memchr2};

use super::lists::Scoped;
use super::name::Language;
use super::spelling;
use super::step::Step;
use super::text;
use super::value::{Fault, Value};

/// Qualifiers at the end of a C++ function. Each is tried once, in this order.
const QUALIFIERS: [&str; 5] = ["const", "const&", "const &", "&&", "&"];

/// Rust 1.34 omitted the path of these functions from the symbols. It is added again. Source path, function,
/// path to put before it.
const RUST_1_34: [(&str, &[&str], &str); 5] = [
    (
        "src/liballoc/raw_vec.rs",
        &["capacity_overflow"],
        "alloc::raw_vec",
    ),
    ("src/libcore/option.rs", &["expect_failed"], "core::option"),
    (
        "src/libcore/panicking.rs",
        &["panic_bounds_check", "panic_fmt", "panic"],
        "core::panicking",
    ),
    (
        "src/libcore/slice/mod.rs",
        &["slice_index_order_fail"],
        "core::slice",
    ),
    (
        "src/libstd/panicking.rs",
        &[
            "begin_panic_fmt",
            "continue_panic_fmt",
            "rust_panic_with_hook",
        ],
        "std::panicking",
    ),
];

/// A normalised function.
pub(super) struct Normal<'f> {
    pub(crate) text: Cow<'f, str>,
    /// Whether the line number is part of it.
    pub(crate) has_line: bool,
}

/// The language of a function, as its file shows, and its repaired text, if it needs repair.
pub(super) fn language(
    function: &str,
    file: Option<&str>,
    lists: &Scoped,
) -> (Language, Option<String>) {
    let source = file.and_then(|file| source_path(file).or_else(|| relative_rust(file, lists)));
    match source {
        Some(source) if source.ends_with(".rs") => (Language::Rust, rust_1_34(source, function)),
        _ if lists.has(Step::Spelling) => (file.map_or(Language::Cpp, by_file), None),
        _ => (Language::Cpp, None),
    }
}

fn by_file(file: &str) -> Language {
    let is = |end: &str| file.ends_with(end);
    if is(".go") {
        Language::Verbatim
    } else if is(".swift") {
        Language::Swift
    } else {
        Language::Cpp
    }
}

/// Normalises a function by the rules of its language.
pub(super) fn function<'f>(
    function: &'f str,
    language: Language,
    line: &Value,
    lists: &Scoped,
) -> Result<Normal<'f>, Fault> {
    if !lists.has(Step::Spelling) {
        return by_language(function, language, line, lists);
    }
    let tidied = spelling::tidied(function);
    let language = spelling::language(&tidied, language);
    match tidied {
        Cow::Borrowed(tidied) => by_language(tidied, language, line, lists),
        Cow::Owned(tidied) => {
            let Normal { text, has_line } = by_language(&tidied, language, line, lists)?;
            Ok(Normal {
                text: text.into_owned().into(),
                has_line,
            })
        }
    }
}

fn by_language<'f>(
    function: &'f str,
    language: Language,
    line: &Value,
    lists: &Scoped,
) -> Result<Normal<'f>, Fault> {
    let verbatim = match language {
        Language::Cpp => return cpp_function(function, line, lists),
        Language::Rust => return rust_function(function, line, lists),
        Language::Swift => spelling::swift(function),
        Language::Verbatim => spelling::verbatim(function),
    };
    let mut name = Cow::Owned(verbatim);
    let has_line = finish(&mut name, line, lists);
    Ok(Normal {
        text: name,
        has_line,
    })
}

/// The path within the source tree: the third part of `vcs:root:path:revision`, the second of two parts,
/// otherwise the whole text if it is absolute.
fn source_path(file: &str) -> Option<&str> {
    let mut parts = file.split(':');
    match (
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
    ) {
        (_, _, Some(path), Some(_), None) => Some(path),
        (_, Some(path), None, ..) => Some(path),
        _ => file.starts_with('/').then_some(file),
    }
}

/// Difference `relative-rust`: cargo gives relative paths, which siggen does not recognise.
fn relative_rust<'f>(file: &'f str, lists: &Scoped) -> Option<&'f str> {
    (!lists.is_parity() && file.ends_with(".rs")).then_some(file)
}

fn rust_1_34(source: &str, function: &str) -> Option<String> {
    let (_, functions, path) = RUST_1_34.iter().find(|(file, ..)| *file == source)?;
    functions
        .contains(&function)
        .then(|| format!("{path}::{function}"))
}

fn cpp_function<'f>(function: &'f str, line: &Value, lists: &Scoped) -> Result<Normal<'f>, Fault> {
    let mut bare = function;
    if lists.is_parity() {
        for qualifier in QUALIFIERS {
            if let Some(rest) = bare.strip_suffix(qualifier) {
                bare = text::strip(rest);
            }
        }
    } else {
        bare = without_qualifiers(bare);
    }
    bare = if lists.has(Step::Spelling) {
        without_result(bare)?
    } else if bare.contains("::operator") {
        bare
    } else {
        last_token(bare)?
    };
    let mut name = Cow::Borrowed(bare);
    if name.contains("`anonymous namespace'") {
        name = name
            .replace("`anonymous namespace'", "(anonymous namespace)")
            .into();
    }
    replace(&mut name, without_lambda_number);
    let kept = ["name omitted", "IPC::ParamTraits", " in "];
    if lists.is_parity() {
        replace(&mut name, |name| collapsed(name, b'<', b'>', "<T>", &kept))
    } else {
        replace(&mut name, |name| with_operators_kept(name, &kept))
    }
    let kept = ["anonymous namespace", "operator"];
    replace(&mut name, |name| collapsed(name, b'(', b')', "", &kept));
    if name.contains("clone .cold") {
        replace(&mut name, |name| collapsed(name, b'[', b']', "", &[]));
        if !lists.is_parity() {
            replace(&mut name, trimmed);
        }
    }
    let has_line = finish(&mut name, line, lists);
    Ok(Normal {
        text: name,
        has_line,
    })
}

/// The name of a C++ function without its result. The name of an operator may contain a space, as in
/// `operator new`, and what is before it is treated like any other name.
fn without_result(function: &str) -> Result<&str, Fault> {
    const OPERATOR: &str = "operator";
    let is_word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    let is_operator = |at: &usize| {
        let before = function.as_bytes()[..*at].last();
        let after = function.as_bytes().get(at + OPERATOR.len());
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    };
    let mut operators = memchr::memmem::find_iter(function.as_bytes(), OPERATOR);
    let Some(at) = operators.find(is_operator) else {
        return last_token(function);
    };
    if at == 0 || function[..at].ends_with(' ') {
        return Ok(&function[at..]);
    }
    let owner = last_token(&function[..at])?;
    // The token is a part of the text before the operator, up to its end.
    Ok(&function[at - owner.len()..])
}

fn rust_function<'f>(function: &'f str, line: &Value, lists: &Scoped) -> Result<Normal<'f>, Fault> {
    let mut name = if lists.has(Step::Spelling) {
        without_self_brackets(function)?
    } else {
        Cow::Borrowed(last_token(function)?)
    };
    replace(&mut name, |name| {
        collapsed(name, b'<', b'>', "<T>", &[" as "])
    });
    replace(&mut name, |name| collapsed(name, b'(', b')', "", &[]));
    let has_line = finish(&mut name, line, lists);
    if lists.is_parity() {
        replace(&mut name, without_hash)
    } else {
        replace(&mut name, spelling::without_rust_hash)
    }
    Ok(Normal {
        text: name,
        has_line,
    })
}

/// An inherent method of a type, which rustc writes as `<app::Config>::load`, without the angle brackets. A
/// trait's method, `<app::Config as Drop>::drop`, keeps them.
fn without_self_brackets(function: &str) -> Result<Cow<'_, str>, Fault> {
    if !function.starts_with('<') {
        return last_token(function).map(Cow::Borrowed);
    }
    let end = part_end(function.as_bytes(), 0, b'<', b'>');
    let is_trait = function[..end].contains(" as ");
    if is_trait || !function[end..].starts_with("::") {
        return Ok(Cow::Borrowed(function));
    }
    let (inner, rest) = (&function[1..end - 1], &function[end..]);
    Ok(Cow::Owned(format!("{inner}{rest}")))
}

/// Difference `qualifier-words`: only whole words are removed, and all of them. So `isconst` keeps its end,
/// `f() const &&` loses both, and `operator&` is kept.
fn without_qualifiers(function: &str) -> &str {
    const WORDS: [&str; 5] = ["const", "volatile", "noexcept", "&&", "&"];
    let mut bare = function.trim_end();
    // A word after an argument list is a qualifier. A name itself may be `const`.
    while let Some(rest) = WORDS.iter().find_map(|word| bare.strip_suffix(word)) {
        let rest = rest.trim_end();
        if !rest.ends_with(')') && !WORDS.iter().any(|word| rest.ends_with(word)) {
            break;
        }
        bare = rest;
    }
    bare
}

/// Difference `operator-names`: the angle brackets of `operator<`, `operator<<`, `operator->` and similar
/// operators are part of a name, and neither open nor close anything.
fn with_operators_kept(name: &str, kept: &[&str]) -> Option<String> {
    const OPERATORS: [&str; 9] = ["<=>", "<<=", ">>=", "->*", "<<", ">>", "<=", ">=", "->"];
    const OPERATOR: &str = "operator";
    let Some(at) = name.rfind(OPERATOR) else {
        return collapsed(name, b'<', b'>', "<T>", kept);
    };
    let (before, after) = name.split_at(at + OPERATOR.len());
    let symbol = OPERATORS
        .iter()
        .chain(&["<", ">"])
        .find(|symbol| after.starts_with(**symbol));
    let Some(symbol) = symbol else {
        return collapsed(name, b'<', b'>', "<T>", kept);
    };
    let rest = &after[symbol.len()..];
    let shorten =
        |part: &str| collapsed(part, b'<', b'>', "<T>", kept).unwrap_or_else(|| part.to_string());
    Some(format!("{}{symbol}{}", shorten(before), shorten(rest)))
}

/// Difference `cold-spaces`: no space remains when `[clone .cold]` is removed.
fn trimmed(name: &str) -> Option<String> {
    let trimmed = text::strip(name);
    (trimmed.len() < name.len()).then(|| trimmed.to_string())
}

/// The steps that both languages share: the line number, and the spaces at commas. Returns whether the line
/// number was added.
fn finish(name: &mut Cow<str>, line: &Value, lists: &Scoped) -> bool {
    let has_line = lists.has_line_number(name);
    if has_line {
        let name = name.to_mut();
        name.push(':');
        name.push_str(&line.str());
    }
    replace(name, without_space_before_punctuation);
    replace(name, with_space_after_commas);
    has_line
}

fn replace(text: &mut Cow<str>, step: impl FnOnce(&str) -> Option<String>) {
    if let Some(changed) = step(text) {
        *text = Cow::Owned(changed);
    }
}

/// The text after the last space outside all brackets: the name without prefix and return type.
///
/// An argument list or a `[clone ...]` after a space is not a name, so it stays with the text before it.
/// Quirk: two spaces at the end give an empty last token.
fn last_token(function: &str) -> Result<&str, Fault> {
    if function.is_empty() {
        return Err(Fault::new("function has no text left to split"));
    }
    let bytes = function.as_bytes();
    let mut open: Vec<u8> = Vec::new();
    let mut start = 0;
    let mut end = bytes.len();
    for (at, &byte) in bytes.iter().enumerate() {
        match byte {
            b' ' if open.is_empty() => {
                let rest = &bytes[at + 1..];
                if rest.is_empty() {
                    end = at;
                } else if !rest.starts_with(b"(") && !rest.starts_with(b"[clone") {
                    start = at + 1;
                }
            }
            b'(' | b'{' | b'[' | b'<' | b'`' => open.push(byte),
            b')' | b'}' | b']' | b'>' | b'\'' => {
                let opener = match byte {
                    b')' => b'(',
                    b'}' => b'{',
                    b']' => b'[',
                    b'>' => b'<',
                    _ => b'`',
                };
                if open.last() == Some(&opener) {
                    open.pop();
                }
            }
            _ => (),
        }
    }
    Ok(&function[start..end])
}

/// Replaces every bracketed part by `replacement`, unless it contains one of the `kept` texts or one is
/// directly before it. An unclosed part counts as a part. `None` if there is no opening bracket.
///
/// Quirk: `->` closes a part.
fn collapsed(text: &str, open: u8, close: u8, replacement: &str, kept: &[&str]) -> Option<String> {
    let bytes = text.as_bytes();
    let first = memchr(open, bytes)?;
    let mut out = String::with_capacity(text.len());
    out.push_str(&text[..first]);
    let mut at = first;
    loop {
        // `at` is at an opening bracket outside all parts.
        let end = if kept.iter().any(|kept| text[..at].ends_with(kept)) {
            out.push(char::from(open));
            at + 1
        } else {
            let end = part_end(bytes, at, open, close);
            let part = &text[at..end];
            let is_kept = kept.iter().any(|kept| part.contains(kept));
            out.push_str(if is_kept { part } else { replacement });
            end
        };
        let Some(next) = memchr(open, &bytes[end..]) else {
            out.push_str(&text[end..]);
            return Some(out);
        };
        at = end + next;
        out.push_str(&text[end..at]);
    }
}

/// The end of the part that opens at `start`: after its closing bracket, or at the end of the text.
fn part_end(bytes: &[u8], start: usize, open: u8, close: u8) -> usize {
    let mut level = 1;
    let mut at = start + 1;
    while let Some(next) = memchr2(open, close, &bytes[at..]) {
        at += next + 1;
        level = if bytes[at - 1] == open {
            level + 1
        } else {
            level - 1
        };
        if level == 0 {
            return at;
        }
    }
    bytes.len()
}

/// Replaces `::$_12::` by `::$::`, because the compiler numbers lambdas in their order.
fn without_lambda_number(text: &str) -> Option<String> {
    const START: &str = "::$_";
    let mut out = String::new();
    let mut done = 0;
    let mut from = 0;
    while let Some(found) = text[from..].find(START) {
        let digits = from + found + START.len();
        let is_digit = |c: char| text::decimal_digit(c).is_some();
        let rest = text[digits..].trim_start_matches(is_digit);
        let end = text.len() - rest.len();
        if end == digits || !rest.starts_with("::") {
            from = digits;
            continue;
        }
        out.push_str(&text[done..from + found]);
        out.push_str("::$::");
        done = end + "::".len();
        from = done;
    }
    (done > 0).then(|| out + &text[done..])
}

/// Removes each space directly before `*`, `&` or `,`.
fn without_space_before_punctuation(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let is_dropped = |at: usize| matches!(bytes.get(at + 1), Some(b'*' | b'&' | b','));
    let mut spaces = memchr::memchr_iter(b' ', bytes)
        .filter(|&at| is_dropped(at))
        .peekable();
    spaces.peek()?;
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for at in spaces {
        out.push_str(&text[done..at]);
        done = at + 1;
    }
    Some(out + &text[done..])
}

/// Adds a space after each comma that has none.
fn with_space_after_commas(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let is_bare = |at: usize| bytes.get(at + 1) != Some(&b' ');
    let mut commas = memchr::memchr_iter(b',', bytes)
        .filter(|&at| is_bare(at))
        .peekable();
    commas.peek()?;
    let mut out = String::with_capacity(text.len() + 8);
    let mut done = 0;
    for at in commas {
        out.push_str(&text[done..=at]);
        out.push(' ');
        done = at + 1;
    }
    Some(out + &text[done..])
}

/// Removes the hash that rustc adds at the end, `::h` and any number of hex digits.
fn without_hash(text: &str) -> Option<String> {
    // A newline at the end stays: Python's `$` matches before it.
    let (line, newline) = match text.strip_suffix('\n') {
        Some(line) => (line, "\n"),
        None => (text, ""),
    };
    let rest = line.trim_end_matches(|c: char| c.is_ascii_hexdigit());
    let name = rest
        .strip_suffix("::h")
        .filter(|_| rest.len() < line.len())?;
    Some(format!("{name}{newline}"))
}

#[cfg(test)]
mod tests {
    use super::super::{Lists, Ruleset};
    use super::*;

    fn normalised(text: &str, file: Option<&str>) -> String {
        let lists = Lists::builtin();
        let lists = lists.scoped(Ruleset::Socorro, "");
        match text_of(text, file, &Value::Int(42), &lists) {
            Ok(name) => name,
            Err(fault) => format!("FAULT {}", fault.0),
        }
    }

    fn text_of(
        text: &str,
        file: Option<&str>,
        line: &Value,
        lists: &Scoped,
    ) -> Result<String, Fault> {
        let (language, repaired) = language(text, file, lists);
        let text = repaired.as_deref().unwrap_or(text);
        function(text, language, line, lists).map(|name| name.text.into_owned())
    }

    #[test]
    fn cpp_functions_lose_types_arguments_and_qualifiers() {
        let lists = Lists::builtin();
        let lists = lists.scoped(Ruleset::Socorro, "");
        let check = |text: &str, expected: &str| {
            let name = text_of(text, None, &Value::Int(42), &lists);
            assert_eq!(name.as_deref(), Ok(expected), "{text:?}");
        };
        check("void Foo::bar(int, char const*) const", "Foo::bar");
        check(
            "static unsigned int Foo::Baz<Qux<int>,7>::operator()(int)",
            "static unsigned int Foo::Baz<T>::operator()",
        );
        check("a::operator<(int)", "a::operator<T>");
        check(
            "`anonymous namespace'::helper(int)",
            "(anonymous namespace)::helper",
        );
        check("Foo::$_12::$_3::__invoke(void*)", "Foo::$::$_3::__invoke");
        check("Foo::$_12", "Foo::$_12");
        check("<name omitted>", "<name omitted>");
        check(
            "foo::bar(int) [clone .isra.1] [clone .cold.2]",
            "foo::bar  ",
        );
        check("foo::bar(int) [clone .isra.1]", "foo::bar [clone .isra.1]");
        check("js_InterpretFoo(int)", "js_InterpretFoo:42");
        check("-[NSView setFoo:bar:]", "-[NSView setFoo:bar:]");
        check("unmatched>::foo(int)", "unmatched>::foo");
        check("foo<bar", "foo<T>");
        check("Foo::isconst", "Foo::is");
        check("foo() const &&", "const");
        check("unsigned int (*Foo::bar(int))(char)", "int ");
        check("f(int) volatile", "volatile");
        check("a::operator , (x)", "a::operator, ");
        check("f ", "f");
        check("f  ", "");
        check(" ", "");
        check("(a) (b) [clone c]", "  [clone c]");
    }

    #[test]
    fn a_function_that_is_only_a_qualifier_is_a_fault() {
        assert!(normalised("const", None).starts_with("FAULT"));
        assert!(normalised(" &", None).starts_with("FAULT"));
    }

    #[test]
    fn rust_functions_keep_trait_casts_and_lose_hashes() {
        let lists = Lists::builtin();
        let lists = lists.scoped(Ruleset::Socorro, "");
        let check = |text: &str, expected: &str| {
            let name = text_of(text, Some("/a/b.rs"), &Value::Null, &lists);
            assert_eq!(name.as_deref(), Ok(expected), "{text:?}");
        };
        check(
            "core::option::expect_failed::h7f635057bfba806a",
            "core::option::expect_failed",
        );
        check("a::habc::hdead\n", "a::habc\n");
        check("a::h", "a::h");
        check(
            "<a::Vec<T> as c::Drop>::drop::h1",
            "<a::Vec<T> as c::Drop>::drop",
        );
        check("static void foo::bar<u8>(u8*)", "foo::bar<T>");
        check("m::{{closure}}::h0123", "m::{{closure}}");
        check("js_Interpret", "js_Interpret:None");
    }

    #[test]
    fn a_source_path_is_recognised_by_its_colons() {
        let check = |file: &str, expected: Option<&str>| assert_eq!(source_path(file), expected);
        check("git:github.com/x/y:src/lib.rs:abc", Some("src/lib.rs"));
        check("c:/src/lib.rs", Some("/src/lib.rs"));
        check("/a/lib.rs", Some("/a/lib.rs"));
        check("/a:b:c", Some("/a:b:c"));
        check("src/lib.rs", None);
        check("a:b:c:d:e", None);
        check("", None);
    }

    #[test]
    fn functions_that_rust_1_34_cut_short_are_repaired() {
        let file = Some("git:github.com/rust-lang/rust:src/libcore/panicking.rs:13c");
        assert_eq!(normalised("panic", file), "core::panicking::panic");
        assert_eq!(normalised("panicked", file), "panicked");
        assert_eq!(
            normalised("panic", Some("src/libcore/panicking.rs")),
            "panic"
        );
    }

    #[test]
    fn a_megabyte_takes_no_longer_than_its_length() {
        let started = std::time::Instant::now();
        for part in [
            "<",
            "(",
            "a (",
            ") (",
            "::$_1",
            " *",
            ",",
            "operator<",
            "[clone .cold",
            "> ",
        ] {
            let text = part.repeat(1_000_000 / part.len());
            normalised(&text, None);
            normalised(&text, Some("/x.rs"));
        }
        // What grows with the square of the text takes hours.
        assert!(started.elapsed().as_secs() < 900);
    }
}
