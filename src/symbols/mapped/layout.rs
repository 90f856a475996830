//! The bytes of a mapped symbol file.
//!
//! ```text
//! header      see [`Header`]; bytes 8..16 are the checksum (xxh3) of the rest of it, sections and sums
//! sections    [`SECTIONS`] entries, see [`Section`]: where each one is
//! strings     each 4 bytes of length, then UTF-8; a reference is the offset of the length
//! files       [`Named`], by id                 origins     [`Named`], by id
//! functions   [`Function`], by address, none overlaps another
//! lines       [`Line`], those of a function together, by address, none overlaps another
//! inlines     [`Inline`], those of a function together, by depth, then address
//! publics     [`Public`], by address, one per address
//! cfi         [`Cfi`], by address, none overlaps another
//! deltas      [`Delta`], those of a `Cfi` together, by address
//! framedata   [`Win`] of type 4                fpo         [`Win`] of type 0, both like `functions`
//! sums        8 bytes (xxh3) for each piece of [`PIECE_BYTES`] between sections and sums
//! ```
//! All numbers are little-endian. Nothing is aligned. Addresses are relative to the module's start.

/// "CKSYMMAP".
pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"CKSYMMAP");
/// 1: the first. 2: a checksum for each piece, so that opening a file does not read it.
pub const VERSION: u32 = 2;
/// The header's checksum covers the bytes from this offset on.
pub(super) const CHECKED_FROM: usize = 16;
/// Length of a piece, which has its own checksum. The last piece may be shorter.
pub(super) const PIECE_BYTES: usize = 64 << 10;
/// A reference to no string.
pub(super) const NO_TEXT: u32 = u32::MAX;

/// The sections, in their order in the file.
#[derive(Clone, Copy)]
pub(super) enum Part {
    Strings,
    Files,
    Origins,
    Functions,
    Lines,
    Inlines,
    Publics,
    Cfi,
    Deltas,
    FrameData,
    Fpo,
    Sums,
}

pub(super) const SECTIONS: usize = Part::Sums as usize + 1;
pub(super) const HEAD_BYTES: usize = Header::BYTES + SECTIONS * Section::BYTES;

/// A value of a fixed number of bytes.
pub(super) trait Fixed: Sized {
    const BYTES: usize;

    fn write(&self, out: &mut Vec<u8>);

    /// Reads the value from the front of `bytes`; `None` if too few bytes are left.
    fn take(bytes: &mut &[u8]) -> Option<Self>;
}

macro_rules! numbers {
    ($($type:ty),*) => { $(
        impl Fixed for $type {
            const BYTES: usize = size_of::<Self>();

            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }

            #[inline]
            fn take(bytes: &mut &[u8]) -> Option<Self> {
                let (first, rest) = bytes.split_first_chunk()?;
                *bytes = rest;
                Some(Self::from_le_bytes(*first))
            }
        }
    )* };
}

numbers!(u32, u64);

/// Structs that are stored as their fields one after the other.
macro_rules! records {
    ($( $(#[$doc:meta])* $vis:vis $Name:ident { $( $(#[$field_doc:meta])* $field:ident: $type:ty, )* } )*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        $vis struct $Name { $( $(#[$field_doc])* $vis $field: $type, )* }

        impl Fixed for $Name {
            const BYTES: usize = 0 $( + <$type as Fixed>::BYTES )*;

            fn write(&self, out: &mut Vec<u8>) {
                $( self.$field.write(out); )*
            }

            #[inline]
            fn take(bytes: &mut &[u8]) -> Option<Self> {
                Some(Self { $( $field: <$type as Fixed>::take(bytes)?, )* })
            }
        }
    )* };
}

records! {
    /// The first bytes of the file.
    pub(crate) Header {
        magic: u64,
        checksum: u64,
        version: u32,
        /// A reference to the reason why the text is corrupt; [`NO_TEXT`] if it is not.
        corrupt: u32,
        /// Length of this file.
        bytes: u64,
        /// Length and modification time of the text from which this was made, see [`Stamp`](super::Stamp).
        text_bytes: u64,
        text_modified_ns: u64,
        /// A reference to the text's debug id.
        debug_id: u32,
        /// A reference to the URL from which the text says that it was downloaded; often [`NO_TEXT`].
        url: u32,
    }

    /// The position of a section: offset from the start of the file, and length.
    pub(crate) Section { offset: u64, bytes: u64, }

    /// A FILE or INLINE_ORIGIN.
    pub(crate) Named { id: u32, name: u32, }

    /// A FUNC; `size` is at least 1.
    pub Function {
        address: u64,
        size: u32,
        parameter_size: u32,
        name: u32,
        lines_first: u32,
        lines_count: u32,
        inlines_first: u32,
        inlines_count: u32,
    }

    /// A line record; `size` is at least 1.
    pub Line { address: u64, size: u32, line: u32, file: u32, }

    /// One range of an INLINE. The fields are in sort order.
    pub Inline {
        depth: u32,
        address: u64,
        size: u32,
        call_file: u32,
        call_line: u32,
        origin: u32,
    }

    /// A PUBLIC.
    pub Public { address: u64, parameter_size: u32, name: u32, }

    /// A STACK CFI INIT; `size` is at least 1.
    pub Cfi {
        address: u64,
        size: u32,
        rules: u32,
        deltas_first: u32,
        deltas_count: u32,
    }

    /// A STACK CFI.
    pub Delta { address: u64, rules: u32, }

    /// A STACK WIN; `size` is at least 1. `program` is the last part of the record, unchanged.
    pub Win {
        address: u64,
        size: u32,
        prologue_size: u32,
        epilogue_size: u32,
        parameter_size: u32,
        saved_register_size: u32,
        local_size: u32,
        max_stack_size: u32,
        program: u32,
    }
}

/// A record that covers a range of addresses.
pub(super) trait Covers {
    fn first(&self) -> u64;
    fn size(&self) -> u32;

    /// The last address; `None` if it covers nothing or exceeds the address space.
    fn last(&self) -> Option<u64> {
        self.first()
            .checked_add(u64::from(self.size().checked_sub(1)?))
    }

    fn covers(&self, address: u64) -> bool {
        self.first() <= address && self.last().is_some_and(|last| address <= last)
    }
}

macro_rules! covers {
    ($($Name:ident),*) => { $(
        impl Covers for $Name {
            fn first(&self) -> u64 { self.address }
            fn size(&self) -> u32 { self.size }
        }
    )* };
}

covers!(Function, Line, Inline, Cfi, Win);

impl Function {
    /// The first address after the function.
    pub(crate) fn end(&self) -> u64 {
        self.address.saturating_add(self.size.into())
    }
}

impl Cfi {
    /// The first address after the range.
    pub(crate) fn end(&self) -> u64 {
        self.address.saturating_add(self.size.into())
    }
}
