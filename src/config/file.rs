//! A configuration file: which line a value is on, and errors that name the line.

use toml::Spanned;

use super::setting::Source;

/// The configuration is invalid. The message names the file and line, and what is accepted.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub(crate) String);

pub(super) struct File<'a> {
    pub(super) name: &'a str,
    pub(super) text: &'a str,
}

impl File<'_> {
    fn line<T>(&self, at: &Spanned<T>) -> usize {
        self.text[..at.span().start.min(self.text.len())]
            .matches('\n')
            .count()
            + 1
    }

    pub(super) fn source<T>(&self, at: &Spanned<T>) -> Source {
        Source::File {
            name: self.name.to_owned(),
            line: self.line(at),
        }
    }

    pub(super) fn error<T>(&self, at: &Spanned<T>, message: String) -> ConfigError {
        ConfigError(format!("{}:{}: {message}", self.name, self.line(at)))
    }
}
