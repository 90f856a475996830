//! The errors of the index. It is derived from the store, so each of them costs time, never data.

use std::io;

use crate::limits;

#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The search would use more memory than it may. The caller can narrow it. The text is Socorro's, which
    /// its clients know.
    #[error("Search query is too complex to execute. Simplify the search pattern and try again.")]
    TooComplex,
    /// The search took too long. The caller can narrow it. The text is Socorro's.
    #[error("Search query timed out. Narrow the dates or simplify the search and try again.")]
    TimedOut,
    /// All searches together would use more memory than they may. The caller can try again later.
    #[error(
        "the running searches use all of the {} MiB that searches may use together: search again in a few seconds, or narrow the search",
        limits::SEARCHES_BYTES_MAX >> 20
    )]
    Busy,
    /// No index can answer for all crashes yet, because an index with these fields (or, without a name, with
    /// all crashes) is still being built. The caller can wait.
    #[error("{}", unbuilt(.0))]
    Unbuilt(Vec<String>),
    /// Reading or writing failed. Opening the writer again may help.
    #[error("index: {0}")]
    Io(String),
    /// The files are not what was written. Only building the index again helps.
    #[error("the index is damaged: {0}; it will be rebuilt")]
    Damaged(String),
}

fn unbuilt(fields: &[String]) -> String {
    if fields.is_empty() {
        return "the index does not have every crash yet: search again when it is built; /status/ shows the progress"
            .to_owned();
    }
    format!(
        "the index does not have {} of every crash yet: leave it out, or search again when it is built; /status/ shows the progress",
        fields.join(", ")
    )
}

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
