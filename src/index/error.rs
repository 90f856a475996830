//! The errors of the index. It is derived from the store, so each of them costs time, never data.

use std::{fmt, io};

use crate::limits;

#[derive(Debug)]
pub enum IndexError {
    /// The search would use more memory than it may. The caller can narrow it.
    TooComplex,
    /// The search took too long. The caller can narrow it.
    TimedOut,
    /// All searches together would use more memory than they may. The caller can try again later.
    Busy,
    /// No index can answer for all crashes yet, because an index with these fields (or, without a name, with
    /// all crashes) is still being built. The caller can wait.
    Unbuilt(Vec<String>),
    /// Reading or writing failed. Opening the writer again may help.
    Io(String),
    /// The files are not what was written. Only building the index again helps.
    Damaged(String),
}

impl fmt::Display for IndexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Socorro's messages, which its clients know.
            Self::TooComplex => f.write_str(
                "Search query is too complex to execute. Simplify the search pattern and try again.",
            ),
            Self::TimedOut => f.write_str(
                "Search query timed out. Narrow the dates or simplify the search and try again.",
            ),
            Self::Busy => write!(
                f,
                "searches that run just now take all of the {} MiB that they share: search again in a few seconds, or narrow the search",
                limits::SEARCHES_BYTES_MAX >> 20
            ),
            Self::Unbuilt(fields) => {
                let (what, way) = if fields.is_empty() { ("every crash".to_owned(), "come") } else { (
                        format!("{} of every crash", fields.join(", ")),
                        "leave it out, or come",
                    ) };
                write!(
                    f,
                    "the index does not have {what} yet: {way} again when it is built, /status/ says how far it is"
                )
            }
            Self::Io(why) => write!(f, "index: {why}"),
            Self::Damaged(why) => write!(f, "index is damaged: {why}; it is built anew"),
        }
    }
}

impl std::error::Error for IndexError {}

impl From<io::Error> for IndexError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                Self::Damaged(error.to_string())
            }
            _ => Self::Io(error.to_string()),
        }
    }
}

impl From<tantivy::TantivyError> for IndexError {
    fn from(error: tantivy::TantivyError) -> Self {
        use tantivy::TantivyError;
        use tantivy::directory::error::OpenReadError;
        match &error {
            TantivyError::DataCorruption(_)
            | TantivyError::IncompatibleIndex(_)
            | TantivyError::SchemaError(_)
            | TantivyError::OpenReadError(
                OpenReadError::FileDoesNotExist(_) | OpenReadError::IncompatibleIndex(_),
            ) => Self::Damaged(error.to_string()),
            _ => Self::Io(error.to_string()),
        }
    }
}
