//! How the value of a setting is read from TOML and printed as TOML, and the simple types of values.

use toml::de::DeValue;

/// A type of setting: how to read it from TOML and print it as TOML.
pub(super) trait Value: Sized {
    /// The accepted form, for error texts: "a size such as \"100 MiB\"".
    const FORM: &'static str;
    fn read(value: &DeValue) -> Option<Self>;
    fn print(&self) -> String;
}

impl Value for String {
    const FORM: &'static str = "a text, without control characters";

    fn read(value: &DeValue) -> Option<Self> {
        value
            .as_str()
            .filter(|t| !t.contains(char::is_control))
            .map(str::to_owned)
    }

    fn print(&self) -> String {
        format!("\"{}\"", self.replace('\\', "\\\\").replace('"', "\\\""))
    }
}

impl Value for bool {
    const FORM: &'static str = "true or false";

    fn read(value: &DeValue) -> Option<Self> {
        match value {
            DeValue::Boolean(value) => Some(*value),
            _ => None,
        }
    }

    fn print(&self) -> String {
        self.to_string()
    }
}

impl Value for u32 {
    const FORM: &'static str = "a whole number, 0 or more";

    fn read(value: &DeValue) -> Option<Self> {
        integer(value.as_integer()?).and_then(|n| n.try_into().ok())
    }

    fn print(&self) -> String {
        self.to_string()
    }
}

pub(super) fn integer(n: &toml::de::DeInteger) -> Option<u64> {
    u64::from_str_radix(n.as_str(), n.radix()).ok()
}

/// The words of a string, separated by spaces or commas, or the strings of a list.
pub(super) fn words<'a>(value: &'a DeValue) -> Option<Vec<&'a str>> {
    match value {
        DeValue::String(text) => {
            let words = text.split([' ', ',']);
            Some(words.filter(|word| !word.is_empty()).collect())
        }
        DeValue::Array(texts) => texts.iter().map(|text| text.get_ref().as_str()).collect(),
        _ => None,
    }
}

pub(super) fn print_words(words: &[String]) -> String {
    let printed: Vec<String> = words.iter().map(Value::print).collect();
    format!("[{}]", printed.join(", "))
}
