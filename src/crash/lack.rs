//! Symbols that a crash lacks.

use std::fmt;

use super::symbols::DEBUG_ID_DIGITS;

/// What a walk needed and did not find. Written as `<debug file>/<debug id>`. If the module has symbols but
/// they are incomplete, a blank and the missing part follow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lack {
    pub debug_file: String,
    /// If the dump has no record of the debug file: the code id, with the program as the file.
    pub debug_id: String,
    pub(crate) what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum What {
    /// The module has no symbols.
    Symbols,
    /// The symbols have no functions: only exported functions have names.
    Functions,
    /// The symbols have no unwind rules: frames are found by guessing.
    Unwind,
}

impl What {
    const ENDINGS: [(What, &'static str); 2] =
        [(What::Functions, " functions"), (What::Unwind, " unwind")];

    /// How much the crash lacks. Symbols that have functions or unwind rules only are better than none.
    pub(crate) fn weight(self) -> u64 {
        match self {
            Self::Symbols => 3,
            Self::Functions | Self::Unwind => 1,
        }
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ending = What::ENDINGS.iter().find(|(what, _)| *what == self.what);
        let ending = ending.map_or("", |(_, ending)| ending);
        write!(f, "{}/{}{ending}", self.debug_file, self.debug_id)
    }
}

impl Lack {
    /// Whether only the program is known. Code ids are shorter than debug ids.
    pub(crate) fn is_of_program(&self) -> bool {
        self.debug_id.len() < *DEBUG_ID_DIGITS.start()
    }

    /// Parses the text that `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        let (what, module) = What::ENDINGS
            .iter()
            .find_map(|(what, ending)| Some((*what, text.strip_suffix(ending)?)))
            .unwrap_or((What::Symbols, text));
        let (file, id) = module.rsplit_once('/')?;
        Some(Self {
            debug_file: file.to_owned(),
            debug_id: id.to_owned(),
            what,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lack_reads_as_it_is_written() {
        for what in [What::Symbols, What::Functions, What::Unwind] {
            let lack = Lack {
                debug_file: "a b/c.pdb".into(),
                debug_id: "AB1".into(),
                what,
            };
            assert_eq!(Lack::parse(&lack.to_string()), Some(lack));
        }
        assert_eq!(Lack::parse("nothing"), None);
    }
}
