//! Joins the parts of a program that a dump of Linux has as several modules.
//!
//! Breakpad makes a module of each mapping of a file whose permissions do not continue those of the mapping before it.
//! lld maps the headers of a program separately from its code, so older versions of Breakpad report such a program
//! twice: headers with the build id, and code without one, because an id is only found behind the headers. The code
//! then had no symbols, and its offsets started at the wrong address. Data of a program can become a module, too.
//!
//! Only a module without an id is joined, and only with the module directly before it, of the same path. So two loads
//! of one file stay two modules: the second one starts with headers, and so it has an id.

use minidump::system_info::Os;
use minidump::{MinidumpModule, MinidumpModuleList, Module};

/// Limit of lines that are read: the default limit of mappings in Linux.
const MAPS_MAX: usize = 65_530;

/// Joins modules. `maps` is the content of `/proc/<pid>/maps`, if the dump has it.
pub(super) fn joined(
    modules: MinidumpModuleList,
    os: Os,
    maps: Option<&[u8]>,
) -> MinidumpModuleList {
    if !matches!(os, Os::Linux | Os::Android) {
        return modules;
    }
    let all: Vec<&MinidumpModule> = modules.iter().collect();
    let mut by_base: Vec<usize> = (0..all.len()).collect();
    by_base.sort_by_key(|&at| all[at].raw.base_of_image);
    let maps = Maps::read(maps.unwrap_or_default());
    // The parts that start with headers: the place in the list, and the module.
    let mut kept: Vec<(usize, MinidumpModule)> = Vec::new();
    for at in by_base {
        let next = all[at];
        if let Some((place, first)) = kept.last_mut()
            && let Some(bytes) = bytes_with(first, next, &maps)
        {
            first.raw.size_of_image = bytes;
            // The program itself is the first in the list, and Breakpad looks for it by the address of its code.
            *place = at.min(*place);
        } else {
            kept.push((at, next.clone()));
        }
    }
    if kept.len() == all.len() {
        return modules;
    }
    kept.sort_by_key(|(place, _)| *place);
    MinidumpModuleList::from_modules(kept.into_iter().map(|(_, module)| module).collect())
}

/// The size of `first` and `next` together, if `next` is another part of the same load of the same file.
fn bytes_with(first: &MinidumpModule, next: &MinidumpModule, maps: &Maps<'_>) -> Option<u32> {
    let has_id = |module: &MinidumpModule| {
        module.debug_identifier().is_some_and(|id| !id.is_nil())
            || module.code_identifier().is_some()
    };
    if !first.name.starts_with('/')
        || first.name != next.name
        || !has_id(first)
        || has_id(next)
        || next.raw.size_of_image == 0
    {
        return None;
    }
    let start = first.raw.base_of_image;
    let end = start.checked_add(first.raw.size_of_image.into())?;
    let after = next.raw.base_of_image;
    if after != end && !(after > end && maps.are_one_load(start, end, after, &first.name)) {
        return None;
    }
    let bytes = (after - start).checked_add(next.raw.size_of_image.into())?;
    u32::try_from(bytes).ok()
}

struct Mapping<'d> {
    start: u64,
    end: u64,
    /// In the file.
    offset: u64,
    is_accessible: bool,
    path: &'d [u8],
}

/// The mappings of a process, by address. Empty if they are not known.
struct Maps<'d>(Vec<Mapping<'d>>);

impl<'d> Maps<'d> {
    fn read(text: &'d [u8]) -> Self {
        let lines = text.split(|&byte| byte == b'\n').take(MAPS_MAX);
        let mut maps: Vec<Mapping> = lines.filter_map(mapping).collect();
        maps.sort_by_key(|mapping| mapping.start);
        Self(maps)
    }

    /// The mapping that has this address.
    fn at(&self, address: u64) -> Option<&Mapping<'d>> {
        let after = self.0.partition_point(|mapping| mapping.start <= address);
        let mapping = &self.0[after.checked_sub(1)?];
        (address < mapping.end).then_some(mapping)
    }

    /// Whether `start` and `after` are mappings of the file at `path`, in the order of the file, and between `end`
    /// and `after` is nothing but the file and memory that only reserves addresses.
    fn are_one_load(&self, start: u64, end: u64, after: u64, path: &str) -> bool {
        let path = path.as_bytes();
        let (Some(first), Some(next)) = (self.at(start), self.at(after)) else {
            return false;
        };
        if first.path != path || next.path != path || first.offset >= next.offset {
            return false;
        }
        let from = self.0.partition_point(|mapping| mapping.start < end);
        let between = self.0[from..].iter().take_while(|m| m.start < after);
        // A mapping of the start of the file would be another load.
        between.into_iter().all(|m| {
            let is_reserved = m.path.is_empty() && !m.is_accessible;
            is_reserved || (m.path == path && m.offset > first.offset)
        })
    }
}

/// Reads a line such as `7f00-7f01 r-xp 00001000 08:01 1234   /usr/bin/app`.
fn mapping(line: &[u8]) -> Option<Mapping<'_>> {
    let mut rest = line;
    let mut word = || {
        let word;
        (word, rest) = match rest.iter().position(|&byte| byte == b' ') {
            Some(at) => (&rest[..at], rest[at..].trim_ascii_start()),
            None => (rest, &[][..]),
        };
        std::str::from_utf8(word).ok()
    };
    let (start, end) = word()?.split_once('-')?;
    let permissions = word()?;
    let offset = word()?;
    let (_device, _inode) = (word()?, word()?);
    let hex = |digits| u64::from_str_radix(digits, 16).ok();
    Some(Mapping {
        start: hex(start)?,
        end: hex(end)?,
        offset: hex(offset)?,
        is_accessible: !permissions.starts_with("---"),
        path: rest,
    })
}

#[cfg(test)]
mod tests {
    use minidump::Endian;
    use minidump::format::MINIDUMP_MODULE;

    use super::*;

    /// A module as a dump has it: base, size, path, and bytes of its build id.
    type Given = (u64, u32, &'static str, &'static [u8]);

    fn module((base, size, path, id): Given) -> MinidumpModule {
        let path: Vec<u8> = path.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let mut bytes = (path.len() as u32).to_le_bytes().to_vec();
        bytes.extend(path);
        let record = bytes.len();
        let mut raw = MINIDUMP_MODULE {
            base_of_image: base,
            size_of_image: size,
            ..MINIDUMP_MODULE::default()
        };
        if !id.is_empty() {
            bytes.extend(b"LEpB");
            bytes.extend(id);
            raw.cv_record.rva = record as u32;
            raw.cv_record.data_size = (bytes.len() - record) as u32;
        }
        MinidumpModule::read(raw, &bytes, Endian::Little, None).expect("a module")
    }

    /// Base, size and whether there is an id, of each module after joining.
    fn check(os: Os, maps: &str, given: &[Given], expected: &[(u64, u32, bool)]) {
        let modules = given.iter().copied().map(module).collect();
        let modules = MinidumpModuleList::from_modules(modules);
        let joined = joined(modules, os, Some(maps.as_bytes()));
        let found: Vec<_> = joined
            .iter()
            .map(|m| {
                let has_id = m.debug_identifier().is_some();
                (m.raw.base_of_image, m.raw.size_of_image, has_id)
            })
            .collect();
        assert_eq!(found, expected, "{given:x?}\n{maps}");
    }

    const APP: &str = "/bin/app";
    const ID: &[u8] = b"an id of a file";
    const NO_ID: &[u8] = &[0; 16];

    #[test]
    fn parts_without_an_id_are_joined_with_their_headers() {
        let code = (0x5000, 0x3000, APP, &b""[..]);
        let head = (0x4000, 0x1000, APP, ID);
        let other = (0x9000, 0x1000, "/lib/c.so", ID);
        let whole = (0x4000, 0x4000, true);
        check(Os::Linux, "", &[head, code], &[whole]);
        check(
            Os::Android,
            "",
            &[head, (0x5000, 0x3000, APP, NO_ID)],
            &[whole],
        );
        // Breakpad puts the module with the program's first instruction at the front.
        let expected = [whole, (0x9000, 0x1000, true)];
        check(Os::Linux, "", &[code, other, head], &expected);
        // Three parts.
        let data = (0x8000, 0x1000, APP, &b""[..]);
        check(
            Os::Linux,
            "",
            &[data, head, code],
            &[(0x4000, 0x5000, true)],
        );
    }

    #[test]
    fn nothing_else_is_joined() {
        let head = (0x4000, 0x1000, APP, ID);
        for next in [
            // Its own headers: another load of the file.
            (0x5000, 0x3000, APP, ID),
            // Not adjacent, or overlapping.
            (0x6000, 0x3000, APP, b""),
            (0x4800, 0x3000, APP, b""),
            // Another file.
            (0x5000, 0x3000, "/bin/app2", b""),
            // No address is in it, or its end is beyond what a size can be.
            (0x5000, 0, APP, b""),
            (0x5000, u32::MAX, APP, b""),
        ] {
            let expected = [head, next].map(|m| (m.0, m.1, m.3 == ID));
            check(Os::Linux, "", &[head, next], &expected);
        }
        let code = (0x5000, 0x3000, APP, &b""[..]);
        let both = [(0x4000, 0x1000, true), (0x5000, 0x3000, false)];
        check(Os::Windows, "", &[head, code], &both);
        // Memory that is no file, and files without ids, such as fonts.
        for path in ["", "[heap]"] {
            check(
                Os::Linux,
                "",
                &[(head.0, head.1, path, ID), (code.0, code.1, path, b"")],
                &both,
            );
        }
        let expected = [(0x4000, 0x1000, false), (0x5000, 0x3000, false)];
        check(
            Os::Linux,
            "",
            &[(0x4000, 0x1000, APP, b""), code],
            &expected,
        );
        let at_end = (u64::MAX - 0xfff, 0x1000, APP, ID);
        let expected = [(0, 0x10, false), (at_end.0, 0x1000, true)];
        check(Os::Linux, "", &[(0, 0x10, APP, b""), at_end], &expected);
    }

    /// glibc maps a whole library before it knows the permissions, and takes all away from the rest.
    #[test]
    fn a_gap_needs_the_mappings_of_the_process() {
        const FIRST: &str = "4000-5000 r-xp 00000000 08:01 7    /bin/app\n";
        const NEXT: &str = "7000-8000 rw-p 00001000 08:01 7    /bin/app\n";
        const FILE: &str = "5000-7000 ---p 00001000 08:01 7    /bin/app\n";
        const RESERVED: &str = "5000-7000 ---p 00000000 00:00 0 \n";
        let given = [(0x4000, 0x1000, APP, ID), (0x7000, 0x1000, APP, b"")];
        let two = [(0x4000, 0x1000, true), (0x7000, 0x1000, false)];
        let one = [(0x4000, 0x4000, true)];
        for gap in [FILE, RESERVED, ""] {
            check(Os::Linux, &format!("{FIRST}{gap}{NEXT}"), &given, &one);
            check(Os::Linux, &format!("{NEXT}{gap}{FIRST}"), &given, &one);
        }
        for gap in [
            "5000-6000 rw-p 00000000 00:00 0\n",
            "5000-6000 ---p 00001000 08:01 9 /bin/other\n",
            "5000-6000 r--p 00000000 08:01 7 /bin/app\n",
        ] {
            check(Os::Linux, &format!("{FIRST}{gap}{NEXT}"), &given, &two);
        }
        for maps in [FIRST, NEXT, "", "7000-8000", "x-y r\n4000", "- - - - -\n\n"] {
            check(Os::Linux, maps, &given, &two);
        }
        // Another load of the file, from its start.
        let again = NEXT.replace("00001000", "00000000");
        check(Os::Linux, &format!("{FIRST}{again}"), &given, &two);
    }
}
