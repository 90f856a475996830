//! Names of functions for display.

use std::borrow::Cow;

use symbolic_common::{Language, Name, NameMangling};
use symbolic_demangle::{Demangle, DemangleOptions};

use crate::demangle::{swift, without_clones};

/// Limit of bytes of a function's name. Names of template-heavy code have some thousand bytes.
const NAME_BYTES_MAX: usize = 8 * 1024;

/// Languages whose compilers append none of these suffixes, but whose programmers may.
fn keeps_dots(language: Language) -> bool {
    matches!(language, Language::Go)
}

/// A function's name for display: demangled, with its parameters and without its return type.
pub(super) fn readable(name: &Name<'_>) -> String {
    let whole = match name.as_str() {
        symbol if keeps_dots(name.language()) => symbol,
        symbol => without_clones(symbol),
    };
    let plain = Name::new(whole, name.mangling(), name.language());
    let options = DemangleOptions::complete().return_type(false);
    let text = match swift::readable(whole).or_else(|| plain.demangle(options)) {
        Some(text) if text.len() <= NAME_BYTES_MAX => text,
        _ => whole.chars().take(NAME_BYTES_MAX / 4).collect(),
    };
    match one_line(&text) {
        text if text.trim().is_empty() => "<name omitted>".to_owned(),
        text => text.into_owned(),
    }
}

/// The same for a symbol of a symbol table, whose language is unknown.
pub(super) fn readable_symbol(symbol: &str) -> String {
    readable(&Name::new(symbol, NameMangling::Unknown, Language::Unknown))
}

pub(super) fn one_line(text: &str) -> Cow<'_, str> {
    if text.contains(char::is_control) {
        text.replace(char::is_control, " ").into()
    } else {
        text.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_of_a_function_have_its_name() {
        for (symbol, name) in [
            ("main.cold", "main"),
            ("main.cold.1", "main"),
            ("_ZN1a1bEv.constprop.104", "_ZN1a1bEv"),
            ("_ZN1a1bEv.constprop.0.isra.0", "_ZN1a1bEv"),
            ("_ZN1a1bEv.isra.20.part.21.cold", "_ZN1a1bEv"),
            ("_ZN1a1bEv.llvm.8213", "_ZN1a1bEv"),
            ("_ZN1a1bEv.lto_priv.0.cold.2.3", "_ZN1a1bEv"),
        ] {
            assert_eq!(without_clones(symbol), name);
        }
    }

    #[test]
    fn dots_within_a_name_are_the_programmers() {
        for symbol in [
            "operator.parts",
            "operator.part",
            ".cold",
            "main.coldStart",
            "storage.part.flush",
            "storage.part",
            "main.(*Store).coldLoad",
            "kfun:com.acme.coldstorage.Rack#open(){}",
            "mem.Allocator.cold.open",
            "runtime.isra.",
            "a.7",
            "main.runAll.func1",
            "_ZN1a1bEv.resume",
            "",
            ".",
        ] {
            assert_eq!(without_clones(symbol), symbol);
        }
        let go = |name| Name::new(name, NameMangling::Unknown, Language::Go);
        assert_eq!(readable(&go("main.cold")), "main.cold");
    }

    #[test]
    fn a_name_is_one_line_and_never_empty() {
        assert_eq!(readable_symbol("a\nb"), "a b");
        assert_eq!(readable_symbol(" "), "<name omitted>");
        let long = "x".repeat(100_000);
        assert!(readable_symbol(&long).len() <= NAME_BYTES_MAX);
    }
}
