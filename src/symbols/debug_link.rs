//! Debug files that do not say to which program they belong.
//!
//! An ELF file that was linked without a build id is known by a hash of its code, and its debug file has no code. A
//! program of MinGW without a build id is known by its time and size, but strip changes the size of the program, and
//! its debug file keeps the old one. In both cases only the program's section `.gnu_debuglink` refers to the debug
//! file, by name and by the checksum of all its bytes. Files are matched by the checksum, because people rename files.
//!
//! Such a file is handled like the other halves of units ([`halves`](super::halves)): it waits for its program, in
//! the same upload or stored before, and becomes an upload of the program's module.

use flate2::Crc;
use gimli::{Endianity, RunTimeEndian};
use symbolic_debuginfo::dwarf::Dwarf;
use symbolic_debuginfo::pe::PeObject;
use symbolic_debuginfo::{Object, ObjectKind};

use super::skeleton::{Skeleton, SkeletonKind, leaf_of};

/// What a program without a build id lacks, if it refers to a debug file.
pub(super) fn skeleton_of(program: &Object<'_>) -> Option<Skeleton> {
    let (content, endian) = match program {
        // With a build id, its debug file has the same one.
        Object::Elf(elf) if elf.code_id().is_none() => {
            (elf.section("gnu_debuglink")?.data, elf.endianity())
        }
        Object::Pe(pe) if pe.debug_id().is_nil() => (link_section(pe)?.into(), pe.endianity()),
        _ => return None,
    };
    let (name, checksum) = link(&content, endian)?;
    Some(Skeleton {
        id: checksum.into(),
        name: leaf_of(&String::from_utf8_lossy(name)),
        kind: SkeletonKind::Linked,
    })
}

/// By the size in the file, because symbolic reads sections by their size in memory, where this one is not.
fn link_section<'d>(pe: &PeObject<'d>) -> Option<&'d [u8]> {
    let section = pe.section(".gnu_debuglink")?;
    let content = pe.data().get(section.pointer_to_raw_data as usize..)?;
    content.get(..section.size_of_raw_data as usize)
}

/// The name, and the checksum at the next multiple of four bytes. In Windows programs more padding follows, which
/// symbolic would take for the checksum.
fn link(content: &[u8], endian: RunTimeEndian) -> Option<(&[u8], u32)> {
    let end = memchr::memchr(0, content)?;
    let checksum = content.get((end + 1).next_multiple_of(4)..)?;
    let checksum = endian.read_u32(checksum.get(..4)?);
    Some((&content[..end], checksum))
}

/// Whether a file without code is a debug file that only a program's link can refer to.
pub(super) fn is_debug_file(object: &Object<'_>) -> bool {
    match object {
        Object::Elf(elf) => elf.debug_id().is_nil() && elf.kind() != ObjectKind::Relocatable,
        Object::Pe(pe) => pe.debug_id().is_nil(),
        _ => false,
    }
}

/// The id of a debug file for the programs that refer to it.
pub(super) fn id_of(debug_file: &[u8]) -> u64 {
    let mut crc = Crc::new();
    crc.update(debug_file);
    crc.sum().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_a_name_and_a_checksum() {
        let check = |content: &[u8], expected: Option<(&[u8], u32)>| {
            assert_eq!(
                link(content, RunTimeEndian::Little),
                expected,
                "{content:?}"
            );
        };
        check(
            b"a.debug\0\x01\x02\x03\x04",
            Some((b"a.debug", 0x0403_0201)),
        );
        check(b"app\0\x01\0\0\0\0\0\0\0", Some((b"app", 1)));
        check(b"ab\0\0\x01\0\0\0", Some((b"ab", 1)));
        check(b"\0\0\0\0\x01\0\0\0", Some((b"", 1)));
        for short in [&b""[..], b"app", b"app\0", b"app\0\x01\0\0", b"ab\0"] {
            check(short, None);
        }
        let big = link(b"app\0\0\0\0\x01", RunTimeEndian::Big);
        assert_eq!(big, Some((&b"app"[..], 1)));
    }
}
