//! The stored data about a module's symbols: the module's names, its uploads, and which of them are in use.

use serde::{Deserialize, Serialize};

/// Length of a debug id: 32 hex digits of GUID and 1 to 8 of age. Shorter ids are code ids of programs.
pub(crate) const DEBUG_ID_DIGITS: std::ops::RangeInclusive<usize> = 33..=40;

/// The format of an upload. Its content determines it, never its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// The text of a Breakpad symbol file.
    Sym,
    Elf,
    Pdb,
    Pe,
    MachO,
    /// Other halves of an ELF file's units (`.dwo`, `.dwp`), one file or a tar of several, or a debug file without an
    /// id. Its text is made from the program and this file.
    Split,
    /// A zip of source files, as sentry-cli makes it. It belongs to a debug id and has no symbols.
    Sources,
}

impl Kind {
    /// Name for users.
    pub(crate) fn title(self) -> &'static str {
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

    /// Name for file names and programs.
    pub(crate) fn name(self) -> &'static str {
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

/// The number of records of each kind in a symbol file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Content {
    pub(crate) functions: u64,
    pub(crate) lines: u64,
    pub(crate) inlines: u64,
    pub(crate) publics: u64,
    /// `STACK CFI INIT`.
    pub(crate) cfi: u64,
    /// `STACK WIN`.
    pub(crate) win: u64,
}

impl Content {
    /// Whether it has functions, and not only exported symbols.
    pub(crate) fn has_functions(&self) -> bool {
        self.functions > 0
    }

    /// Whether it has unwind rules.
    pub(crate) fn has_unwind(&self) -> bool {
        self.cfi + self.win > 0
    }
}

/// Bytes of a program's code, and how many of them have what a walk needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Coverage {
    /// 0 if the file does not say where code is.
    pub(crate) code: u64,
    /// In functions that have a name.
    pub(crate) named: u64,
    pub(crate) lines: u64,
    pub(crate) unwind: u64,
}

impl Coverage {
    /// The share of the code, in percent. A part that is not quite everything is never 100 %.
    fn percent(&self, bytes: u64) -> u64 {
        let bytes = bytes.min(self.code);
        (u128::from(bytes) * 100)
            .checked_div(self.code.into())
            .map_or(0, |percent| percent as u64)
    }

    /// Whether a stack through this code may have frames without a name, a line or a rule.
    pub(crate) fn has_gaps(&self) -> bool {
        self.percent(self.named) < 90
            || self.percent(self.lines) < 50
            || self.percent(self.unwind) < 90
    }
}

/// One upload, as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// Hash of the content in hex: of a symbol file as repaired, of any other file as received.
    pub sha256: String,
    pub(crate) kind: Kind,
    /// The client's name of the file, without folders.
    pub(crate) name: String,
    /// Whether it contains the program's code, and not only its debug information.
    pub(crate) holds_code: bool,
    /// Length of the content.
    pub(crate) bytes: u64,
    /// Length of the text that was received or converted from it.
    pub(crate) text_bytes: u64,
    /// Length of everything that is stored for it.
    pub(crate) stored_bytes: u64,
    pub(crate) added_at_ms: i64,
    pub(crate) content: Content,
    /// `None` for text, and for uploads of older versions.
    #[serde(default)]
    pub(crate) coverage: Option<Coverage>,
    /// There was an upload of the same kind, and this one differs from it.
    pub(crate) conflict: bool,
}

/// A module with all its uploads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    pub debug_file: String,
    /// In upper case.
    pub debug_id: String,
    pub(crate) os: String,
    pub(crate) arch: String,
    /// File name of the program; empty if no upload contains it.
    pub code_file: String,
    /// In lower case; empty if no upload contains it.
    pub code_id: String,
    /// In the order of arrival.
    pub uploads: Vec<Upload>,
    /// Index of the upload whose functions, lines and publics are in use.
    pub(crate) symbols_from: usize,
    /// Index of the upload whose unwind rules are in use.
    pub(crate) unwind_from: usize,
}

impl Module {
    /// The content that a walk finds.
    pub(crate) fn content(&self) -> Content {
        let unwind = self.unwind().content;
        Content {
            cfi: unwind.cfi,
            win: unwind.win,
            ..self.symbols().content
        }
    }

    /// How much of the code has what a walk finds. `None` if no upload says how much code there is, or if one
    /// in use does not say what it covers.
    pub(crate) fn coverage(&self) -> Option<Coverage> {
        let code = self.uploads.iter().filter_map(|upload| upload.coverage);
        let code = code.map(|coverage| coverage.code).max().unwrap_or(0);
        let (symbols, unwind) = (self.symbols().coverage?, self.unwind().coverage?);
        (code > 0).then_some(Coverage {
            code,
            unwind: unwind.unwind,
            ..symbols
        })
    }

    /// A sentence about [`Self::coverage`].
    pub(crate) fn coverage_sentence(&self) -> Option<String> {
        let coverage = self.coverage()?;
        let exports = if self.symbols().content.has_functions() {
            ""
        } else {
            " (exports only)"
        };
        Some(format!(
            "of the code, {} % has names{exports}, {} % has source lines, {} % has unwind rules",
            coverage.percent(coverage.named),
            coverage.percent(coverage.lines),
            coverage.percent(coverage.unwind)
        ))
    }

    pub(crate) fn symbols(&self) -> &Upload {
        &self.uploads[self.symbols_from]
    }

    pub(crate) fn unwind(&self) -> &Upload {
        &self.uploads[self.unwind_from]
    }

    pub(crate) fn stored_bytes(&self) -> u64 {
        self.uploads.iter().map(|upload| upload.stored_bytes).sum()
    }

    pub(crate) fn is_in_use(&self, index: usize) -> bool {
        index == self.symbols_from || index == self.unwind_from
    }

    /// Whether its indexes are valid. It must be checked because modules are read from files.
    pub(crate) fn is_sound(&self) -> bool {
        self.symbols_from < self.uploads.len() && self.unwind_from < self.uploads.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_never_rounded_up_and_never_more_than_all() {
        let coverage = Coverage {
            code: 1000,
            named: 999,
            lines: 5000,
            unwind: 0,
        };
        let shares = [coverage.named, coverage.lines, coverage.unwind];
        assert_eq!(shares.map(|bytes| coverage.percent(bytes)), [99, 100, 0]);
        assert!(coverage.has_gaps());
        let huge = Coverage {
            code: u64::MAX,
            named: u64::MAX,
            lines: u64::MAX,
            unwind: u64::MAX,
        };
        assert!(!huge.has_gaps());
        assert_eq!(Coverage::default().percent(7), 0);
    }
}
