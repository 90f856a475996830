//! What is kept of a module's symbols: who the module is, what was uploaded for it, and which of
//! that is in use.

use serde::{Deserialize, Serialize};

/// Length of a debug id: 32 hex digits of GUID and 1 to 8 of age. Shorter ids are of programs.
pub const DEBUG_ID_DIGITS: std::ops::RangeInclusive<usize> = 33..=40;

/// The format of an upload. Its content tells, never its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// The text of a Breakpad symbol file.
    Sym,
    Elf,
    Pdb,
    Pe,
    MachO,
    /// Other halves of an ELF file's units (`.dwo`, `.dwp`), one file or a tar of several. Its text
    /// is made of both.
    Split,
    /// A zip of source files, as sentry-cli makes it. It belongs to a debug id and has no symbols.
    Sources,
}

impl Kind {
    /// For people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Sym => "Breakpad symbol file",
            Self::Elf => "ELF file",
            Self::Pdb => "PDB file",
            Self::Pe => "Windows program (PE)",
            Self::MachO => "Mach-O file",
            Self::Split => "split debug information (dwo, dwp)",
            Self::Sources => "source bundle",
        }
    }

    /// For files and programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sym => "sym",
            Self::Elf => "elf",
            Self::Pdb => "pdb",
            Self::Pe => "pe",
            Self::MachO => "macho",
            Self::Split => "split",
            Self::Sources => "sources",
        }
    }
}

/// How many records of each sort a symbol file has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    pub functions: u64,
    pub lines: u64,
    pub inlines: u64,
    pub publics: u64,
    /// `STACK CFI INIT`.
    pub cfi: u64,
    /// `STACK WIN`.
    pub win: u64,
}

impl Content {
    /// Whether frames get the names of functions, and not just of what is exported.
    pub fn has_functions(&self) -> bool {
        self.functions > 0
    }

    /// Whether it says how to unwind.
    pub fn has_unwind(&self) -> bool {
        self.cfi + self.win > 0
    }
}

/// One upload, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// Of the content: a symbol file's as repaired, any other's as it came. In hex.
    pub sha256: String,
    pub kind: Kind,
    /// What the client called it, its leaf alone.
    pub name: String,
    /// Whether it has the program's code, and not its debug information alone.
    pub holds_code: bool,
    /// Of the content.
    pub bytes: u64,
    /// Of the text that came or was made of it.
    pub text_bytes: u64,
    /// Of everything that is kept of it.
    pub stored_bytes: u64,
    pub added_at_ms: i64,
    pub content: Content,
    /// It is of the same sort as one that was there, and differs from it.
    pub conflict: bool,
}

/// A module with all that was uploaded for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    pub debug_file: String,
    /// In upper case.
    pub debug_id: String,
    pub os: String,
    pub arch: String,
    /// Leaf of the program's name; empty where no upload tells.
    pub code_file: String,
    /// In lower case; empty where no upload tells.
    pub code_id: String,
    /// In the order of their arrival.
    pub uploads: Vec<Upload>,
    /// Index of the upload whose functions, lines and publics are used.
    pub symbols_from: usize,
    /// Index of the upload whose rules of unwinding are used.
    pub unwind_from: usize,
}

impl Module {
    /// What a walk finds.
    pub fn content(&self) -> Content {
        let unwind = self.unwind().content;
        Content {
            cfi: unwind.cfi,
            win: unwind.win,
            ..self.symbols().content
        }
    }

    pub fn symbols(&self) -> &Upload {
        &self.uploads[self.symbols_from]
    }

    pub fn unwind(&self) -> &Upload {
        &self.uploads[self.unwind_from]
    }

    pub fn stored_bytes(&self) -> u64 {
        self.uploads.iter().map(|upload| upload.stored_bytes).sum()
    }

    pub fn is_in_use(&self, index: usize) -> bool {
        index == self.symbols_from || index == self.unwind_from
    }

    /// Whether what it says of itself can be: it is read from files.
    pub fn is_sound(&self) -> bool {
        self.symbols_from < self.uploads.len() && self.unwind_from < self.uploads.len()
    }
}
