//! Reads a configuration file over the defaults.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::Config;
use super::file::{ConfigError, File};

impl Config {
    /// Reads a file and applies it over the defaults.
    ///
    /// # Errors
    /// The file is invalid, cannot be read, or is missing although it is `required`.
    pub(crate) fn load(path: &Path, required: bool) -> Result<Self, ConfigError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&path.display().to_string(), &text),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !required => Ok(Self::default()),
            Err(e) => Err(ConfigError(format!("{}: {e}", path.display()))),
        }
    }

    /// Reads a text and applies it over the defaults. Sources name the text `name`.
    ///
    /// # Errors
    /// The [`ConfigError`] names the text, the line and what is accepted there.
    pub fn parse(name: &str, text: &str) -> Result<Self, ConfigError> {
        let file = File { name, text };
        let table = DeTable::parse(text)
            .map_err(|e| ConfigError(format!("{name}: {}", e.to_string().trim())))?;
        let mut config = Self::default();
        for (section, content) in table.get_ref() {
            match (section.get_ref().as_ref(), content.get_ref()) {
                (list, _) if Self::LISTS.contains(&list) => {
                    config.set_list(&file, list, content)?;
                }
                (known, DeValue::Table(keys)) if Self::SECTIONS.contains(&known) => {
                    for (key, value) in keys {
                        config.set(&file, known, key.get_ref(), value)?;
                    }
                }
                (unknown, _) => {
                    let message = format!(
                        "unknown section [{unknown}]; known: {}",
                        Self::section_names()
                    );
                    return Err(file.error(section, message));
                }
            }
        }
        Ok(config)
    }

    fn section_names() -> String {
        let sections = Self::SECTIONS.iter().map(|name| format!("[{name}]"));
        let lists = Self::LISTS.iter().map(|name| format!("[[{name}]]"));
        sections.chain(lists).collect::<Vec<_>>().join(", ")
    }
}
