//! The types of thrown objects, as compilers leave them in memory.

use super::crash::Crash;

/// Values of the first parameter of a C++ exception of Visual C++.
const MSVC_MAGIC: [u64; 4] = [0x1993_0520, 0x1993_0521, 0x1993_0522, 0x0199_4000];

/// The type that Visual C++ threw. `Some(None)` means that it throws the current exception again.
pub(super) fn msvc(crash: &Crash) -> Option<Option<String>> {
    if !MSVC_MAGIC.contains(&crash.parameter(0)?) {
        return None;
    }
    let throw_info = crash.parameter(2)?;
    if throw_info == 0 {
        return Some(None);
    }
    let is_64_bit = crash.is_64_bit();
    // In 64-bit programs all of these are relative to the module.
    let base = if is_64_bit { crash.parameter(3)? } else { 0 };
    let memory = &crash.memory;
    let at = |place: u64| base.checked_add(u64::from(memory.u32(place)?));
    let types = at(throw_info.checked_add(12)?)?;
    // The first type is that of the object, the others are its base classes.
    let first = at(types.checked_add(4)?)?;
    let descriptor = at(first.checked_add(4)?)?;
    let name = descriptor.checked_add(if is_64_bit { 16 } else { 8 })?;
    Some(Some(msvc_name(&memory.name(name)?)))
}

/// `.?AVerror@app@@` is `app::error`. What is more complicated stays as it is.
fn msvc_name(decorated: &str) -> String {
    let simple = || {
        let name = decorated.strip_prefix(".?A")?;
        let name = name
            .strip_prefix(['V', 'U', 'T'])
            .or(name.strip_prefix("W4"))?;
        let parts: Vec<&str> = name.strip_suffix("@@")?.split('@').rev().collect();
        parts
            .iter()
            .all(|part| is_identifier(part))
            .then(|| parts.join("::"))
    };
    let built_in = match decorated {
        ".H" => Some("int"),
        ".PAD" | ".PEAD" => Some("char *"),
        ".PBD" | ".PEBD" => Some("const char *"),
        ".PB_W" | ".PEB_W" => Some("const wchar_t *"),
        _ => None,
    };
    built_in
        .map(str::to_owned)
        .or_else(simple)
        .unwrap_or_else(|| decorated.to_owned())
}

fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// What the unwinder of GCC was asked to throw: a language, and the type if it can be read.
pub(super) fn gcc(crash: &Crash) -> Option<(&'static str, Option<String>)> {
    let object = crash.parameter(0)?;
    let class = crash.memory.u64(object)?;
    let language = match &class.to_be_bytes() {
        b"GNUCC++\0" | b"GNUCC++\x01" | b"CLNGC++\0" => "C++",
        b"GNUCOBJC" => "Objective-C",
        b"MOZ\0RUST" => return Some(("Rust", None)),
        b"LUAJIT2\0" => return Some(("LuaJIT", None)),
        b"GNUCD\0\0\0" => return Some(("D", None)),
        b"GNU-Ada\0" => return Some(("Ada", None)),
        _ => return None,
    };
    let name = || {
        /// Distance from the start of the header of libstdc++ to the part that the unwinder knows.
        const HEADER_BYTES: u64 = 80;
        if !crash.is_64_bit() || language != "C++" {
            return None;
        }
        let memory = &crash.memory;
        let type_info = memory.u64(object.checked_sub(HEADER_BYTES)?)?;
        let name = memory.u64(type_info.checked_add(8)?)?;
        itanium_name(&memory.name(name)?)
    };
    Some((language, name()))
}

/// `St13runtime_error` is `std::runtime_error`, `N3app5errorE` is `app::error`. What is more complicated
/// stays as it is.
fn itanium_name(encoded: &str) -> Option<String> {
    let is_encoded = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !encoded.chars().all(is_encoded) {
        return None;
    }
    let simple = || {
        let (mut rest, is_nested) = match encoded.strip_prefix('N') {
            Some(inner) => (inner.strip_suffix('E')?, true),
            None => (encoded, false),
        };
        let mut parts = Vec::new();
        if let Some(inner) = rest.strip_prefix("St") {
            parts.push("std");
            rest = inner;
        }
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let length: usize = rest.get(..digits)?.parse().ok()?;
            let end = digits.checked_add(length)?;
            let part = rest.get(digits..end)?;
            if !is_identifier(part) {
                return None;
            }
            parts.push(part);
            rest = &rest[end..];
            if !is_nested {
                break;
            }
        }
        (rest.is_empty() && !parts.is_empty()).then(|| parts.join("::"))
    };
    Some(simple().unwrap_or_else(|| encoded.to_owned()))
}

/// The class of an object that Delphi raised.
pub(super) fn delphi(crash: &Crash) -> Option<String> {
    let is_64_bit = crash.is_64_bit();
    // The table of a class has a pointer to itself and one to its name in front of it.
    let (own, name) = if is_64_bit { (176, 112) } else { (88, 56) };
    let memory = &crash.memory;
    let table = memory.pointer(crash.parameter(1)?, is_64_bit)?;
    if memory.pointer(table.checked_sub(own)?, is_64_bit)? != table {
        return None;
    }
    memory.short_name(memory.pointer(table.checked_sub(name)?, is_64_bit)?)
}

/// The DLL, and the function if it is about one, that the helper for delayed loading did not find.
pub(super) fn delay_load(crash: &Crash) -> Option<(String, Option<String>)> {
    let is_64_bit = crash.is_64_bit();
    let (dll, by_name, function) = if is_64_bit {
        (24, 32, 40)
    } else {
        (12, 16, 20)
    };
    let memory = &crash.memory;
    let info = crash.parameter(0)?;
    let name = |offset: u64| {
        let at = memory.pointer(info.checked_add(offset)?, is_64_bit)?;
        memory.name(at)
    };
    let is_by_name = memory.u32(info.checked_add(by_name)?) == Some(1);
    let function = is_by_name.then(|| name(function)).flatten();
    Some((name(dll)?, function))
}

#[cfg(test)]
mod tests {
    use minidump::system_info::{Cpu, Os};

    use super::super::tests::{Pieces, said};
    use super::*;

    #[test]
    fn names_of_compilers_are_decoded_if_they_are_simple() {
        for (decorated, name) in [
            (".?AVruntime_error@std@@", "std::runtime_error"),
            (".?AUerror@net@app@@", "app::net::error"),
            (".?AW4Kind@@", "Kind"),
            (".H", "int"),
            (".?AV?$box@H@app@@", ".?AV?$box@H@app@@"),
            (".?AV@@", ".?AV@@"),
            ("junk", "junk"),
        ] {
            assert_eq!(msvc_name(decorated), name);
        }
        for (encoded, name) in [
            ("St13runtime_error", Some("std::runtime_error")),
            ("N3app3net5errorE", Some("app::net::error")),
            ("5error", Some("error")),
            ("i", Some("i")),
            ("N3app3boxIiEE", Some("N3app3boxIiEE")),
            ("99999999999999999999x", Some("99999999999999999999x")),
            ("a b", None),
        ] {
            assert_eq!(itanium_name(encoded).as_deref(), name, "{encoded}");
        }
    }

    #[test]
    fn the_type_of_an_exception_is_read_where_the_dump_has_it() {
        let code = (0xe06d_7363, 1);
        let x64 = (Os::Windows, Cpu::X86_64);
        let parameters = [0x1993_0520, 0x50_0000, 0x1_4000_1000, 0x1_4000_0000];
        let mut pieces = Pieces::default();
        assert_eq!(
            said(x64, code, &parameters, &pieces).unwrap(),
            "a C++ exception (Visual C++)"
        );
        pieces.put(0x1_4000_100c, &0x2000_u32.to_le_bytes());
        pieces.put(0x1_4000_2000, &[1, 0, 0, 0, 0, 0x30, 0, 0]);
        pieces.put(0x1_4000_3004, &0x4000_u32.to_le_bytes());
        pieces.put(0x1_4000_4010, b".?AVtoo_late@app@@\0");
        assert_eq!(
            said(x64, code, &parameters, &pieces).unwrap(),
            "a C++ exception (Visual C++) of type app::too_late"
        );
        let again = [0x1993_0520, 0, 0, 0];
        assert_eq!(
            said(x64, code, &again, &pieces).unwrap(),
            "a C++ exception (Visual C++), thrown again"
        );
        // In 32-bit programs all are pointers.
        let mut pieces = Pieces::default();
        pieces.put(0x40_100c, &0x40_2000_u32.to_le_bytes());
        pieces.put(0x40_2004, &0x40_3000_u32.to_le_bytes());
        pieces.put(0x40_3004, &0x40_4000_u32.to_le_bytes());
        pieces.put(0x40_4008, b".?AVtoo_late@@\0");
        let parameters = [0x1993_0520, 0x50_0000, 0x40_1000];
        assert_eq!(
            said((Os::Windows, Cpu::X86), code, &parameters, &pieces).unwrap(),
            "a C++ exception (Visual C++) of type too_late"
        );
    }

    #[test]
    fn an_object_of_the_unwinder_of_gcc_names_its_language_and_type() {
        let x64 = (Os::Windows, Cpu::X86_64);
        let mut pieces = Pieces::default();
        pieces.put(0x1050, &0x474e_5543_432b_2b00_u64.to_le_bytes());
        assert_eq!(
            said(x64, (0x2047_4343, 0), &[0x1050], &pieces).unwrap(),
            "a C++ exception (GCC)"
        );
        pieces.put(0x1000, &0x2000_u64.to_le_bytes());
        pieces.put(0x2008, &0x3000_u64.to_le_bytes());
        pieces.put(0x3000, b"St9bad_alloc\0");
        assert_eq!(
            said(x64, (0x2047_4343, 0), &[0x1050], &pieces).unwrap(),
            "a C++ exception (GCC) of type std::bad_alloc"
        );
        pieces.put(0x1050, &u64::from_be_bytes(*b"MOZ\0RUST").to_le_bytes());
        assert_eq!(
            said(x64, (0x2047_4343, 0), &[0x1050], &pieces).unwrap(),
            "a Rust exception (GCC)"
        );
    }

    #[test]
    fn the_class_of_a_delphi_object_is_read_only_through_a_class_table() {
        let x86 = (Os::Windows, Cpu::X86);
        let mut pieces = Pieces::default();
        pieces.put(0x1000, &0x2058_u32.to_le_bytes());
        pieces.put(0x2000, &0x2058_u32.to_le_bytes());
        pieces.put(0x2020, &0x3000_u32.to_le_bytes());
        pieces.put(0x3000, b"\x09EAccessVi");
        let parameters = [0x40_1234, 0x1000];
        assert_eq!(
            said(x86, (0x0eed_fade, 1), &parameters, &pieces).unwrap(),
            "a Delphi exception of class EAccessVi"
        );
        pieces.put(0x2000, &0x2059_u32.to_le_bytes());
        assert_eq!(
            said(x86, (0x0eed_fade, 1), &parameters, &pieces).unwrap(),
            "a Delphi exception"
        );
    }

    #[test]
    fn a_missing_dll_is_named() {
        let mut pieces = Pieces::default();
        pieces.put(0x1000, &[0; 24]);
        pieces.put(0x1018, &0x2000_u64.to_le_bytes());
        pieces.put(0x1020, &1_u64.to_le_bytes());
        pieces.put(0x1028, &0x3000_u64.to_le_bytes());
        pieces.put(0x2000, b"codec.dll\0");
        pieces.put(0x3000, b"open_codec\0");
        let said = |code| said((Os::Windows, Cpu::X86_64), (code, 0), &[0x1000], &pieces).unwrap();
        assert_eq!(
            said(0xc06d_007e),
            "a delay-loaded DLL was not found: codec.dll"
        );
        assert_eq!(
            said(0xc06d_007f),
            "a function of a delay-loaded DLL was not found: open_codec in codec.dll"
        );
    }
}
