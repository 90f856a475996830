//! The lists: throttle rules, bug templates, symbol sources, and fields of the site.

use toml::de::DeValue;

use super::entry::{Entry, Found};
use super::file::ConfigError;
use super::value::Value;
use crate::bugs::reference;
use crate::bugs::template::Template;
use crate::fields::Kind;
use crate::fields::site::{self, SiteField};
use crate::symbol_source::{SourceKind, SymbolSource};
use crate::throttle::{Op, Outcome, Rule};

impl Entry for Rule {
    const WHAT: &'static str = "a throttle rule";
    const KEYS: &'static [&'static str] = &["name", "field", "op", "value", "percent", "outcome"];

    fn read(found: &Found) -> Result<Self, ConfigError> {
        let name = found.text("name")?;
        let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        if name.is_empty() || !name.bytes().all(is_plain) {
            return Err(found.error("name must consist of a-z, 0-9 and _"));
        }
        let field = found.text("field")?;
        let op = found.parsed::<Op>("op")?;
        let outcome = found.parsed::<Outcome>("outcome")?;
        let (Some(op), Some(outcome)) = (op, outcome) else {
            return Err(found.error(&format!("{name} needs field, op and outcome")));
        };
        if field.is_empty() && op != Op::Always {
            return Err(found.error(&format!("{name} needs field, op and outcome")));
        }
        let percent = match found.value("percent") {
            None => 100.0,
            Some(value) => {
                let number = match value.get_ref() {
                    DeValue::Integer(n) => n.as_str().parse::<f64>().ok(),
                    DeValue::Float(n) => n.as_str().parse::<f64>().ok(),
                    _ => None,
                };
                let number = number.filter(|n| (0.0..=100.0).contains(n));
                number.ok_or_else(|| {
                    found.refused(value, "percent", "must be a number from 0 to 100".into())
                })?
            }
        };
        Ok(Self {
            name,
            field,
            op,
            value: found.text("value")?,
            percent,
            outcome,
        })
    }

    fn print(&self) -> String {
        format!(
            "name = {}\nfield = {}\nop = \"{}\"\nvalue = {}\npercent = {}\noutcome = \"{}\"",
            self.name.print(),
            self.field.print(),
            self.op,
            self.value.print(),
            self.percent,
            self.outcome
        )
    }
}

impl Entry for Template {
    const WHAT: &'static str = "a bug template";
    const KEYS: &'static [&'static str] = &["name", "product", "url"];

    fn read(found: &Found) -> Result<Self, ConfigError> {
        let name = found.text("name")?;
        if name.is_empty() {
            return Err(found.error("needs a name, which is the text of its link"));
        }
        let Some(url) = found.parsed("url")? else {
            return Err(found.error(&format!("{name:?} needs a url")));
        };
        Ok(Self {
            name,
            product: found.text("product")?,
            url,
        })
    }

    fn print(&self) -> String {
        format!(
            "name = {}\nproduct = {}\nurl = {}",
            self.name.print(),
            self.product.print(),
            self.url.to_string().print()
        )
    }
}

impl Entry for SymbolSource {
    const WHAT: &'static str = "a symbol source";
    const KEYS: &'static [&'static str] = &["name", "kind", "at", "allow"];

    fn read(found: &Found) -> Result<Self, ConfigError> {
        let Some(kind) = found.parsed::<SourceKind>("kind")? else {
            let known = SourceKind::ALL.map(SourceKind::name).join(", ");
            return Err(found.error(&format!("needs a kind: {known}")));
        };
        let at = found.text("at")?.trim_end_matches('/').to_owned();
        if at.is_empty() {
            return Err(found.error("needs at, which is a folder or the address of a server"));
        }
        let allow: Vec<String> = (found.text("allow")?.split_whitespace())
            .map(str::to_owned)
            .collect();
        let addresses = std::iter::once(&at).chain(&allow);
        if kind != SourceKind::Folder
            && let Some(bad) = addresses
                .into_iter()
                .find(|text| reference::split(text).is_err())
        {
            return Err(found.error(&format!(
                "{bad:?} is not an address such as \"https://symbols.example.org\""
            )));
        }
        let name = match found.text("name")? {
            name if name.is_empty() => at.clone(),
            name => name,
        };
        Ok(Self {
            name,
            kind,
            at,
            allow,
        })
    }

    fn print(&self) -> String {
        format!(
            "name = {}\nkind = \"{}\"\nat = {}\nallow = {}",
            self.name.print(),
            self.kind,
            self.at.print(),
            self.allow.join(" ").print()
        )
    }
}

impl Entry for SiteField {
    const WHAT: &'static str = "a field of the site";
    const KEYS: &'static [&'static str] = &[
        "annotation",
        "name",
        "kind",
        "title",
        "description",
        "unit",
        "public",
        "text",
    ];

    fn read(found: &Found) -> Result<Self, ConfigError> {
        let annotation = found.text("annotation")?;
        if annotation.is_empty() {
            return Err(found.error("needs the annotation that it is copied from"));
        }
        let given =
            |text: String, otherwise: String| if text.is_empty() { otherwise } else { text };
        let flag = |key: &str| match found.value(key) {
            None => Ok(false),
            Some(value) => <bool as Value>::read(value.get_ref())
                .ok_or_else(|| found.refused(value, key, format!("must be {}", bool::FORM))),
        };
        Ok(Self {
            name: given(found.text("name")?, site::name_of(&annotation)),
            kind: found.parsed::<Kind>("kind")?.unwrap_or(Kind::String),
            title: given(found.text("title")?, annotation.clone()),
            description: given(
                found.text("description")?,
                format!("The annotation {annotation}"),
            ),
            unit: found.text("unit")?,
            public: flag("public")?,
            text: flag("text")?,
            annotation,
        })
    }

    fn check(all: &[Self]) -> Result<(), (usize, String)> {
        if all.len() > site::SITE_FIELDS_MAX {
            let why = format!("exceeds the limit of {} fields", site::SITE_FIELDS_MAX);
            return Err((site::SITE_FIELDS_MAX, why));
        }
        for (at, entry) in all.iter().enumerate() {
            site::check(entry, &all[..at]).map_err(|why| (at, why))?;
        }
        Ok(())
    }

    fn print(&self) -> String {
        format!(
            "annotation = {}\nname = {}\nkind = \"{}\"\ntitle = {}\ndescription = {}\nunit = {}\npublic = {}\ntext = {}",
            self.annotation.print(),
            self.name.print(),
            self.kind.site_word(),
            self.title.print(),
            self.description.print(),
            self.unit.print(),
            self.public,
            self.text
        )
    }
}
