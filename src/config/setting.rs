//! A setting: its value, and where the value came from.

use std::fmt;

/// Where the value of a setting came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Default,
    File {
        name: String,
        line: usize,
    },
    /// An option of the command line.
    Option(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { name, line } => write!(f, "{name}:{line}"),
            Self::Option(option) => f.write_str(option),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Setting<T> {
    pub(crate) value: T,
    pub(crate) source: Source,
}

impl<T> std::ops::Deref for Setting<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}
