//! Values that are names: of a ruleset, of annotations.

use toml::de::DeValue;

use super::value::{Value, words};

/// The name of a ruleset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RulesetName(pub(crate) &'static str);

impl Value for RulesetName {
    const FORM: &'static str = "\"crashkeep\" or \"socorro\"";

    fn read(value: &DeValue) -> Option<Self> {
        let found = value.as_str()?;
        ["crashkeep", "socorro"]
            .into_iter()
            .find(|name| *name == found)
            .map(RulesetName)
    }

    fn print(&self) -> String {
        format!("\"{}\"", self.0)
    }
}

/// Names of annotations, written as a list or separated by spaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys(pub(crate) Vec<String>);

impl Value for Keys {
    const FORM: &'static str = "names of annotations such as \"InstallTime guid\" between spaces";

    fn read(value: &DeValue) -> Option<Self> {
        let names = words(value)?.into_iter();
        let names: Vec<String> = names.map(str::to_owned).collect();
        let is_plain = |name: &String| !name.contains(char::is_control);
        names.iter().all(is_plain).then_some(Self(names))
    }

    fn print(&self) -> String {
        self.0.join(" ").print()
    }
}
