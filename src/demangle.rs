//! Writes mangled names as their language does.

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
pub fn demangled(name: &str) -> Option<String> {
    let is_mangled = STARTS.iter().any(|start| name.starts_with(start));
    if !is_mangled || name.len() > MANGLED_BYTES_MAX {
        return None;
    }
    let name = Name::new(name, NameMangling::Unknown, Language::Unknown);
    let options = DemangleOptions::complete().return_type(false);
    name.demangle(options)
        .filter(|text| !text.is_empty() && text.len() <= DEMANGLED_BYTES_MAX)
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
        check("main", None);
        check("_Zzz", None);
        check(&format!("_Z{}", "3app".repeat(2_000)), None);
    }
}
