//! Names of functions as their language writes them: demangled, without what compilers append.

pub(crate) mod swift;

use symbolic_common::{Language, Name, NameMangling};
use symbolic_demangle::{Demangle, DemangleOptions};

/// Limit of bytes of a name that is demangled. Demanglers expand what they read.
const MANGLED_BYTES_MAX: usize = 4_096;
/// Limit of bytes of a demangled name; a longer one stays mangled.
const DEMANGLED_BYTES_MAX: usize = 16 * 1024;
/// How mangled names start: C++ (Itanium, on Apple systems with one more `_`), Rust, MSVC, Swift.
const STARTS: [&str; 7] = ["_Z", "__Z", "_R", "?", "$s", "_$s", "$S"];

/// A mangled name with its parameters and without its result; `None` if the name is not mangled, or not by a
/// scheme that is known.
pub(crate) fn demangled(name: &str) -> Option<String> {
    let is_mangled = STARTS.iter().any(|start| name.starts_with(start));
    if !is_mangled || name.len() > MANGLED_BYTES_MAX {
        return None;
    }
    if let Some(text) = swift::readable(name) {
        return Some(text);
    }
    let name = Name::new(name, NameMangling::Unknown, Language::Unknown);
    let options = DemangleOptions::complete().return_type(false);
    name.demangle(options)
        .filter(|text| !text.is_empty() && text.len() <= DEMANGLED_BYTES_MAX)
}

/// What compilers append behind a dot to the name of a part or a copy of a function. Its number differs from
/// build to build. Each is followed by at least one number, except those of [`BARE`].
const CLONES: [&str; 11] = [
    "cold",
    "constprop",
    "isra",
    "part",
    LLVM,
    "lto_priv",
    "localalias",
    "specialized",
    "clone",
    "__uniq",
    "cfi",
];
/// Suffixes that compilers also append without a number.
const BARE: [&str; 3] = ["cold", "localalias", "cfi"];
/// The only suffix whose number may be hexadecimal, in upper case.
const LLVM: &str = "llvm";

/// The symbol of the whole function for the symbol of a part or a copy of it.
///
/// Only suffixes at the end are removed. Languages with dots in their names (Go, Zig, Kotlin) have packages
/// and functions with the same words: `storage.part.flush`, `main.coldStart`.
pub(crate) fn without_clones(symbol: &str) -> &str {
    let mut whole = symbol;
    // A suffix with its numbers is at the end of what the suffixes after it left.
    while let Some(shorter) = without_clone(whole) {
        whole = shorter;
    }
    whole
}

fn without_clone(symbol: &str) -> Option<&str> {
    let is_decimal = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit());
    let is_hex = |word: &str| {
        word.bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'))
    };
    let mut stem = symbol;
    let mut has_number = false;
    let mut has_hex = false;
    loop {
        let (before, word) = stem.rsplit_once('.')?;
        if !word.is_empty() && is_hex(word) {
            has_number = true;
            has_hex |= !is_decimal(word);
            stem = before;
            continue;
        }
        let is_clone = CLONES.contains(&word)
            && (has_number || BARE.contains(&word))
            && (!has_hex || word == LLVM);
        return (is_clone && !before.is_empty()).then_some(before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_each_scheme_are_written_as_their_language_does() {
        let check = |mangled: &str, expected: Option<&str>| {
            assert_eq!(demangled(mangled).as_deref(), expected, "{mangled}");
        };
        check("_ZN3app5Shell4openEi", Some("app::Shell::open(int)"));
        check("?open@Shell@app@@QEAAXH@Z", Some("app::Shell::open(int)"));
        check(
            "_RNvCskwGfYPst2Cb_3foo16example_function",
            Some("foo::example_function"),
        );
        check("$s3app6ConfigC4loadyyF", Some("Config.load()"));
        check("main", None);
        check("_Zzz", None);
        check(&format!("_Z{}", "3app".repeat(2_000)), None);
    }

    #[test]
    fn only_what_a_compiler_appended_is_removed() {
        let check = |name: &str, whole: &str| assert_eq!(without_clones(name), whole);
        check("parse.cold", "parse");
        check("parse.part.1.cold", "parse");
        check("parse.llvm.11A2B3", "parse");
        check("storage.part.add", "storage.part.add");
        check("storage.part.ADD", "storage.part.ADD");
        check("storage.part", "storage.part");
        check("a.1", "a.1");
        check(".cold", ".cold");
    }
}
