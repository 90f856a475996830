//! Writes a function the same way whatever compiler, linker or symbol reader wrote it: step `spelling` of the
//! ruleset `crashkeep`.
//!
//! [`tidied`] runs before a name is normalised. It demangles, and removes what a compiler adds to the name of
//! one function: suffixes of its parts and copies, ABI tags, hashes, numbers of lambdas and closures.
//! [`language`] recognises the languages whose names must not be cut at dots, spaces or brackets.
//!
//! The time of every step is linear in the text.

use std::borrow::Cow;

use super::name::Language;
use super::text;
use crate::demangle::{demangled, without_clones};

/// Characters that rustc's first mangling writes as words.
const RUST_ESCAPES: [(&str, &str); 13] = [
    ("$LT$", "<"),
    ("$GT$", ">"),
    ("$u20$", " "),
    ("$u27$", "'"),
    ("$u5b$", "["),
    ("$u5d$", "]"),
    ("$u7b$", "{"),
    ("$u7d$", "}"),
    ("$RF$", "&"),
    ("$BP$", "*"),
    ("$LP$", "("),
    ("$RP$", ")"),
    ("$C$", ","),
];

/// A function without what differs between compilers and builds.
pub(super) fn tidied(function: &str) -> Cow<'_, str> {
    let mut name = Cow::Borrowed(without_suffixes(function));
    for step in [
        demangled,
        with_rust_escapes,
        without_rust_hash,
        without_abi_tags,
        with_one_anonymous_namespace,
        with_lambdas_alike,
        with_closures_alike,
    ] {
        if let Some(changed) = step(&name) {
            name = changed.into();
        }
    }
    name
}

/// The language of a tidied name, if the name shows it; otherwise that of its file.
pub(super) fn language(name: &str, of_file: Language) -> Language {
    // `<signal handler called>`, `<name omitted>`: a reader's own words.
    let is_remark = name.starts_with('<') && name.ends_with('>') && !name.contains("::");
    if is_remark || name.starts_with("-[") || name.starts_with("+[") {
        return Language::Verbatim;
    }
    if of_file == Language::Swift || name.starts_with("closure #") {
        return Language::Swift;
    }
    if of_file == Language::Verbatim || is_go(name) {
        return Language::Verbatim;
    }
    if name.starts_with('<') && (name.contains(" as ") || name.contains(">::")) {
        return Language::Rust;
    }
    of_file
}

/// A Go name without the numbers of its function literals.
pub(super) fn verbatim(name: &str) -> String {
    let name = name.strip_suffix("-fm").unwrap_or(name);
    let mut outer = name;
    let mut rest = name;
    while let Some((before, last)) = rest.rsplit_once('.') {
        let number = last.strip_prefix("func");
        let digits = number.unwrap_or(last);
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            break;
        }
        // A number alone counts the literals within a literal.
        if number.is_some() {
            outer = before;
        }
        rest = before;
    }
    if outer.len() < name.len() {
        format!("{outer}.func")
    } else {
        name.to_string()
    }
}

/// A Swift function without its parameters and its result.
pub(super) fn swift(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut depth = 0_usize;
    for c in name.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ if depth == 0 => out.push(c),
            _ => {}
        }
    }
    // `closure #1 () -> Int in f()`: the result is between the arrow and ` in `.
    let mut parts: Vec<&str> = Vec::new();
    for part in out.split(" in ") {
        let part = part.split(" -> ").next().unwrap_or(part);
        parts.push(match part.strip_prefix("closure #") {
            Some(numbered) => {
                let rest = numbered.trim_start_matches(|c: char| c.is_ascii_digit());
                if text::strip(rest).is_empty() {
                    "closure"
                } else {
                    part
                }
            }
            None => text::strip(part),
        });
    }
    parts.join(" in ")
}

/// Whether a name is spelled as Go spells the functions of packages: a receiver, or a path with slashes.
fn is_go(name: &str) -> bool {
    if name.contains(".(*") {
        return true;
    }
    let Some((path, rest)) = name.rsplit_once('/') else {
        return false;
    };
    let is_path = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | b'/');
    path.bytes().all(is_path) && rest.contains('.') && !rest.contains([' ', '(', ':', '<'])
}

/// Removes compilers' suffixes: `.cold.3`, ` [clone .isra.0]`, ` (.cold)`. A dot in the middle of a name is part
/// of it: Go, Kotlin, Zig, D, Nim and OCaml write names with dots.
fn without_suffixes(function: &str) -> &str {
    let mut name = without_clones(function.trim_end());
    while let Some(shorter) = without_bracketed(name).filter(|shorter| !shorter.is_empty()) {
        name = without_clones(shorter);
    }
    name
}

fn without_bracketed(name: &str) -> Option<&str> {
    let clone = name.strip_suffix(']').and_then(|name| {
        let at = name.rfind("[clone ")?;
        Some(&name[..at])
    });
    let marked = || {
        let at = name.strip_suffix(')')?.rfind("(.")?;
        let suffix = &name[at + 1..name.len() - 1];
        // A suffix alone has no name before it.
        let example = format!("f{suffix}");
        (without_clones(&example) == "f").then(|| &name[..at])
    };
    clone.or_else(marked).map(str::trim_end)
}

fn with_rust_escapes(name: &str) -> Option<String> {
    let is_escaped = RUST_ESCAPES.iter().any(|(escape, _)| name.contains(escape));
    // A reader that replaced the escapes may have left the rest.
    let is_half = name.starts_with("_<") && name.contains("..");
    if !is_escaped && !is_half {
        return None;
    }
    let mut out = name.to_string();
    for (escape, character) in RUST_ESCAPES {
        out = out.replace(escape, character);
    }
    if let Some(rest) = out.strip_prefix('_')
        && rest.starts_with(['<', '{'])
    {
        out = rest.to_string();
    }
    Some(out.replace("..", "::"))
}

/// Difference `rust-hash`: removes only a hash of 16 digits, which is what rustc writes. So `list::head` keeps
/// its name.
pub(super) fn without_rust_hash(name: &str) -> Option<String> {
    const HASH_BYTES: usize = "::h0123456789abcdef".len();
    let (start, hash) = name.split_at_checked(name.len().checked_sub(HASH_BYTES)?)?;
    let digits = hash.strip_prefix("::h")?;
    let is_hash = digits.bytes().all(|b| b.is_ascii_hexdigit());
    is_hash.then(|| start.to_string())
}

/// Removes `[abi:cxx11]` and other tags of the Itanium ABI.
fn without_abi_tags(name: &str) -> Option<String> {
    const TAG: &str = "[abi:";
    let first = name.find(TAG)?;
    let mut out = name[..first].to_string();
    let mut rest = &name[first..];
    while let Some(at) = rest.find(TAG) {
        out.push_str(&rest[..at]);
        let end = rest[at..].find(']')?;
        rest = &rest[at + end + 1..];
    }
    Some(out + rest)
}

/// Writes the unnamed namespace of clang, GCC and MSVC alike, without MSVC's hash.
fn with_one_anonymous_namespace(name: &str) -> Option<String> {
    const ONE: &str = "(anonymous namespace)";
    const HASHED: &str = "?A0x";
    let mut out = name
        .replace("`anonymous namespace'", ONE)
        .replace("`anonymous-namespace'", ONE)
        .replace("{anonymous}", ONE);
    if out.contains(HASHED) {
        let mut parts = out.split(HASHED);
        let mut joined = parts.next().unwrap_or_default().to_string();
        for part in parts {
            joined.push_str(ONE);
            joined.push_str(part.trim_start_matches(|c: char| c.is_ascii_hexdigit()));
        }
        out = joined;
    }
    (out != name).then_some(out)
}

/// Writes the lambdas of clang, GCC and MSVC alike: `$_0`, `{lambda(int)#1}`, `'lambda0'(int)` and
/// `<lambda_1f2e>` become `{lambda}`.
fn with_lambdas_alike(name: &str) -> Option<String> {
    const STARTS: [&str; 5] = ["$_", "{lambda", "'lambda", "<lambda", "{unnamed type#"];
    const ONE: &str = "{lambda}";
    if !name.contains("$_") && !name.contains("lambda") && !name.contains("{unnamed") {
        return None;
    }
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(at) = rest.find(['$', '{', '\'', '<']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let start = STARTS.iter().find(|start| rest.starts_with(**start));
        let inner = &rest[start.map_or(1, |start| start.len())..];
        let end = match start {
            None => None,
            Some(&"$_") => inner
                .find(|c: char| !c.is_ascii_digit())
                .or(Some(inner.len())),
            Some(&"'lambda") => inner.find('\'').map(|at| at + 1),
            Some(&"<lambda") => closing(inner, '<', '>'),
            Some(_) => closing(inner, '{', '}'),
        };
        match end {
            Some(end) if end > 0 => {
                out.push_str(ONE);
                rest = &inner[end..];
            }
            // An opening bracket without its end is text, and so is what follows.
            None if start.is_some() => break,
            _ => {
                out.push_str(&rest[..1]);
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    Some(out)
}

/// The end of the part whose opening bracket was just before `rest`; `None` if it has no end.
fn closing(rest: &str, open: char, close: char) -> Option<usize> {
    let mut depth = 1;
    for (at, c) in rest.char_indices() {
        if c == open {
            depth += 1;
        } else if c == close {
            depth -= 1;
            if depth == 0 {
                return Some(at + close.len_utf8());
            }
        }
    }
    None
}

/// Writes Rust's closures without their number, and closures in closures once.
fn with_closures_alike(name: &str) -> Option<String> {
    const ONE: &str = "{{closure}}";
    if !name.contains("{closure") && !name.contains("{impl#") {
        return None;
    }
    let mut out = name.to_string();
    for (start, one) in [
        ("{closure#", ONE),
        ("{closure_env#", ONE),
        ("{impl#", "{impl}"),
    ] {
        out = with_numbers_replaced(&out, start, one);
    }
    for twice in ["{{closure}}::{{closure}}", "{{closure}}{{closure}}"] {
        while out.contains(twice) {
            out = out.replace(twice, ONE);
        }
    }
    (out != name).then_some(out)
}

/// Replaces `start`, a number and `}` by `one`.
fn with_numbers_replaced(name: &str, start: &str, one: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some((before, numbered)) = rest.split_once(start)
        && let Some((_, after)) = numbered.split_once('}')
    {
        out.push_str(before);
        out.push_str(one);
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_compilers_add_is_removed_at_the_end_only() {
        let check = |text: &str, expected: &str| assert_eq!(tidied(text), expected, "{text}");
        check("f(int) const [clone .cold]", "f(int) const");
        check("f(int) [clone .isra.0] [clone .cold.3]", "f(int)");
        check("parse.constprop.0", "parse");
        check("parse.part.1.cold", "parse");
        check("parse.llvm.11A2B3", "parse");
        check("storage.part.add", "storage.part.add");
        check("parse (.cold)", "parse");
        check("main.coldStart", "main.coldStart");
        check("storage.part.flush", "storage.part.flush");
        check(
            "kfun:app.cold.Loader#load(){}",
            "kfun:app.cold.Loader#load(){}",
        );
        check(".cold", ".cold");
        check("a.1", "a.1");
    }

    #[test]
    fn spellings_of_one_function_are_alike() {
        let same = |texts: &[&str]| {
            let first = tidied(texts[0]);
            texts
                .iter()
                .for_each(|text| assert_eq!(tidied(text), first, "{text}"));
        };
        same(&[
            "(anonymous namespace)::f",
            "`anonymous namespace'::f",
            "`anonymous-namespace'::f",
            "?A0x1f2e3d4c::f",
            "{anonymous}::f",
        ]);
        same(&[
            "app::run()::{lambda}::operator()",
            "app::run()::$_0::operator()",
            "app::run()::{lambda(int, foo<int>)#3}::operator()",
            "app::run()::'lambda1'::operator()",
            "app::run()::<lambda_5f1e2>::operator()",
        ]);
        same(
            &[
                "app::load::{{closure}}",
                "app::load::{closure#0}",
                "app::load::{closure#2}::{closure#0}",
                "app::load::{{closure}}::{{closure}}::h0123456789abcdef",
                "app::load::_$u7b$$u7b$closure$u7d$$u7d$",
            ]
            .map(|text| text.replace("::_$", "::$"))
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>(),
        );
        same(&["std::string::f[abi:cxx11](int)", "std::string::f(int)"]);
        same(&["_ZN3app5Shell4openEi", "app::Shell::open(int)"]);
    }

    #[test]
    fn languages_with_dots_are_recognised_by_their_names() {
        let check = |name: &str, expected: Language| {
            assert_eq!(language(name, Language::Cpp), expected, "{name}");
        };
        check("main.(*Server).Serve", Language::Verbatim);
        check("github.com/acme/app/store.Open", Language::Verbatim);
        check("-[NSView setFrame:]", Language::Verbatim);
        check("<signal handler called>", Language::Verbatim);
        check("a::operator/(int)", Language::Cpp);
        check("<app::Config as Drop>::drop", Language::Rust);
        check("closure #1 in App.run()", Language::Swift);
        check("app::run", Language::Cpp);
    }

    #[test]
    fn go_and_swift_lose_numbers_and_parameters() {
        assert_eq!(verbatim("main.run.func1"), "main.run.func");
        assert_eq!(verbatim("main.run.func2.1"), "main.run.func");
        assert_eq!(verbatim("main.(*T).run-fm"), "main.(*T).run");
        assert_eq!(verbatim("main.v1"), "main.v1");
        assert_eq!(
            swift("App.Texture.decode(Swift.Int) -> ()"),
            "App.Texture.decode"
        );
        assert_eq!(
            swift("closure #2 (Swift.Int) -> () in App.run(x:)"),
            "closure in App.run"
        );
    }

    #[test]
    fn a_megabyte_takes_no_longer_than_its_length() {
        for part in [
            "$_1",
            "$",
            "'",
            "{lambda",
            "{lambda}",
            "[abi:",
            "?A0x1",
            ".cold",
            "{closure#1}",
            "$LT$",
            "(",
            ".func1",
            ".1",
            "/",
        ] {
            let text = part.repeat(1_000_000 / part.len());
            let name = tidied(&text);
            verbatim(&name);
            swift(&name);
        }
    }
}
