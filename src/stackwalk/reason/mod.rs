//! Explains in words why a dump was written.
//!
//! The minidump crates name the codes of the operating system. Runtimes raise codes that only they define
//! (Delphi, LuaJIT, .NET, Unreal ...), and put more into the exception's parameters and into memory: the type
//! of a C++ exception, the size of an allocation. The text says only what the dump contains. It has no
//! messages from memory, because they may contain data of the user, and this text is public.
//!
//! Every pointer here comes from the dump. [`Memory`] reads at most 256 bytes of a name, and no
//! reader follows a list.

mod apple;
mod crash;
mod linux;
mod thrown;
mod traps;
mod windows;

use minidump::system_info::Os;

pub(super) use crash::{Crash, Memory};

/// The text; `None` if nothing more is known than the reason's own term.
pub(super) fn text(crash: &Crash) -> Option<String> {
    match crash.os {
        Os::Windows => windows::text(crash),
        Os::MacOs | Os::Ios => apple::text(crash),
        Os::Linux | Os::Android => linux::text(crash),
        _ => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use minidump::system_info::Cpu;

    use super::*;

    /// Memory of a dump: pieces by address.
    #[derive(Default)]
    pub(super) struct Pieces(pub(super) BTreeMap<u64, Vec<u8>>);

    impl Pieces {
        pub(super) fn put(&mut self, at: u64, bytes: &[u8]) {
            self.0.insert(at, bytes.to_vec());
        }

        pub(super) fn byte(&self, at: u64) -> Option<u8> {
            let (start, bytes) = self.0.range(..=at).next_back()?;
            bytes.get(usize::try_from(at - start).ok()?).copied()
        }
    }

    pub(super) fn said(
        (os, cpu): (Os, Cpu),
        (code, flags): (u32, u32),
        parameters: &[u64],
        pieces: &Pieces,
    ) -> Option<String> {
        text(&Crash {
            os,
            cpu,
            code,
            flags,
            parameters,
            instruction: Some(0x40_1000),
            memory: Memory {
                byte: &|at| pieces.byte(at),
            },
        })
    }

    #[test]
    fn a_name_must_be_whole_and_printable() {
        let mut pieces = Pieces::default();
        pieces.put(0x100, b"name\0");
        pieces.put(0x200, b"nam\x07e\0");
        pieces.put(0x300, b"name");
        pieces.put(0x400, b"\0");
        pieces.put(0x1000, &[b'x'; 300]);
        pieces.put(u64::MAX - 1, b"ab");
        let memory = Memory {
            byte: &|at| pieces.byte(at),
        };
        assert_eq!(memory.name(0x100).as_deref(), Some("name"));
        for at in [
            0x200,
            0x300,
            0x400,
            0x500,
            0x1000,
            0,
            u64::MAX - 1,
            u64::MAX,
        ] {
            assert_eq!(memory.name(at), None, "{at:x}");
        }
        assert_eq!(memory.u64(u64::MAX - 3), None);
        assert_eq!(memory.short_name(u64::MAX), None);
    }

    /// Any code with any parameters, all of which point into memory that contains pointers.
    #[test]
    fn lying_parameters_give_a_text_or_none() {
        let mut pieces = Pieces::default();
        let words: Vec<u8> = (0..4096_u64)
            .flat_map(|word| match word % 3 {
                0 => (0x1000 + word * 5 % 0x8000).to_le_bytes(),
                1 => u64::MAX.to_le_bytes(),
                _ => *b"abcdefgh",
            })
            .collect();
        pieces.put(0x1000, &words);
        pieces.put(u64::MAX - 15, &[0xff; 16]);
        let codes = [
            0xe06d_7363,
            0x2047_4343,
            0x0eed_fade,
            0xc06d_007e,
            0xe043_4352,
            0xe000_0008,
            0xc000_0409,
            0xc000_0005,
            0xe24c_4a05,
            0x4000,
            11,
            12,
            1,
            4,
            5,
            6,
            8,
            0,
            u32::MAX,
        ];
        let values = [
            0,
            1,
            8,
            0x1993_0520,
            0x1000,
            0x1008,
            0x2345,
            u64::MAX,
            u64::MAX - 12,
            1 << 61,
        ];
        for os in [Os::Windows, Os::MacOs, Os::Linux, Os::Android] {
            for cpu in [Cpu::X86, Cpu::X86_64, Cpu::Arm64] {
                for code in codes {
                    for seed in 0..200_usize {
                        let parameters: Vec<u64> = (0..seed % 5)
                            .map(|n| values[(seed / 5 + n * 7) % values.len()])
                            .collect();
                        let text = said((os, cpu), (code, seed as u32), &parameters, &pieces);
                        assert!(text.is_none_or(|text| text.len() < 1000));
                    }
                }
            }
        }
    }
}
