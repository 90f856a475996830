//! The facts about a crash, and the memory in its dump.

use minidump::system_info::{Cpu, Os};

/// Limit of a name in memory. Names of C++ templates are longer, but say nothing more.
const TEXT_BYTES_MAX: u64 = 256;

/// The facts about a crash from which the text is made.
pub(in crate::stackwalk) struct Crash<'a> {
    pub(in crate::stackwalk) os: Os,
    pub(in crate::stackwalk) cpu: Cpu,
    pub(in crate::stackwalk) code: u32,
    pub(in crate::stackwalk) flags: u32,
    pub(in crate::stackwalk) parameters: &'a [u64],
    /// The address of the instruction, if it is known.
    pub(in crate::stackwalk) instruction: Option<u64>,
    pub(in crate::stackwalk) memory: Memory<'a>,
}

impl Crash<'_> {
    pub(super) fn parameter(&self, index: usize) -> Option<u64> {
        self.parameters.get(index).copied()
    }

    pub(super) fn is_64_bit(&self) -> bool {
        matches!(self.cpu, Cpu::X86_64 | Cpu::Arm64)
    }
}

/// The memory in a dump.
pub(in crate::stackwalk) struct Memory<'a> {
    pub(in crate::stackwalk) byte: &'a dyn Fn(u64) -> Option<u8>,
}

impl Memory<'_> {
    pub(super) fn bytes<const N: usize>(&self, at: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        for (offset, byte) in (0..).zip(&mut bytes) {
            *byte = (self.byte)(at.checked_add(offset)?)?;
        }
        Some(bytes)
    }

    pub(super) fn u32(&self, at: u64) -> Option<u32> {
        self.bytes(at).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&self, at: u64) -> Option<u64> {
        self.bytes(at).map(u64::from_le_bytes)
    }

    pub(super) fn pointer(&self, at: u64, is_64_bit: bool) -> Option<u64> {
        if is_64_bit {
            self.u64(at)
        } else {
            self.u32(at).map(u64::from)
        }
    }

    /// A name that ends with a zero byte: printable ASCII, not empty.
    pub(super) fn name(&self, at: u64) -> Option<String> {
        let mut name = String::new();
        for offset in 0..TEXT_BYTES_MAX {
            match (self.byte)(at.checked_add(offset)?)? {
                0 if name.is_empty() => return None,
                0 => return Some(name),
                byte @ b' '..=b'~' => name.push(byte.into()),
                _ => return None,
            }
        }
        None
    }

    /// A name of Delphi: a byte with its length, then the name.
    pub(super) fn short_name(&self, at: u64) -> Option<String> {
        let length = u64::from((self.byte)(at)?);
        let byte = |offset| (self.byte)(at.checked_add(offset)?);
        let name: Option<Vec<u8>> = (1..=length).map(byte).collect();
        let is_identifier = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.<>,".contains(byte);
        let name = name.filter(|name| !name.is_empty() && name.iter().all(is_identifier))?;
        String::from_utf8(name).ok()
    }
}
