//! Lists: tables that can occur many times, as `[[name]]`.

use std::fmt;
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::file::{ConfigError, File};
use super::value::Value;

/// A type of table that can occur many times, as `[[name]]`.
pub(super) trait Entry: Sized {
    /// The name of such a table in error texts: "a throttle rule".
    const WHAT: &'static str;
    const KEYS: &'static [&'static str];
    fn read(found: &Found) -> Result<Self, ConfigError>;
    /// Checks the entries against each other. An error says which entry is wrong and why.
    fn check(_all: &[Self]) -> Result<(), (usize, String)> {
        Ok(())
    }
    /// Its keys and values, one per line.
    fn print(&self) -> String;
}

/// One table of a list in the file. Its keys are known to be valid.
pub(super) struct Found<'a> {
    file: &'a File<'a>,
    list: &'a str,
    at: &'a Spanned<DeValue<'a>>,
    table: &'a DeTable<'a>,
}

impl<'a> Found<'a> {
    pub(super) fn value(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table
            .iter()
            .find(|(found, _)| found.get_ref().as_ref() == key)
            .map(|(_, value)| value)
    }

    /// The string of a key; empty if the key is missing.
    pub(super) fn text(&self, key: &str) -> Result<String, ConfigError> {
        let Some(value) = self.value(key) else {
            return Ok(String::new());
        };
        <String as Value>::read(value.get_ref())
            .ok_or_else(|| self.refused(value, key, format!("must be {}", String::FORM)))
    }

    /// The parsed string of a key; `None` if the key is missing.
    pub(super) fn parsed<T: FromStr<Err: fmt::Display>>(
        &self,
        key: &str,
    ) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        let parsed = self.text(key)?.parse();
        parsed
            .map(Some)
            .map_err(|e| self.refused(value, key, format!("cannot be used: {e}")))
    }

    pub(super) fn refused(&self, value: &Spanned<DeValue>, key: &str, why: String) -> ConfigError {
        self.file
            .error(value, format!("[[{}]] {key} {why}", self.list))
    }

    /// An error about the whole table.
    pub(super) fn error(&self, why: &str) -> ConfigError {
        self.file.error(self.at, format!("[[{}]] {why}", self.list))
    }
}

pub(super) fn read_list<T: Entry>(
    file: &File,
    list: &str,
    content: &Spanned<DeValue>,
) -> Result<Vec<T>, ConfigError> {
    let DeValue::Array(entries) = content.get_ref() else {
        let message = format!("{list} must be written as [[{list}]], once for each entry");
        return Err(file.error(content, message));
    };
    let mut read = Vec::new();
    for at in entries.iter() {
        let keys = T::KEYS.join(", ");
        let Some(table) = at.get_ref().as_table() else {
            return Err(file.error(at, format!("{} is a table of {keys}", T::WHAT)));
        };
        for (key, value) in table {
            if !T::KEYS.contains(&key.get_ref().as_ref()) {
                let key = key.get_ref();
                let message = format!("[[{list}]] has no key {key:?}; known: {keys}");
                return Err(file.error(value, message));
            }
        }
        read.push(T::read(&Found {
            file,
            list,
            at,
            table,
        })?);
    }
    T::check(&read).map_err(|(at, why)| {
        let entry = entries.get(at).unwrap_or(content);
        file.error(entry, format!("[[{list}]] {why}"))
    })?;
    Ok(read)
}
