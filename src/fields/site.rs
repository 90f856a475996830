//! Fields that a site adds for its own annotations, from `[[fields]]` in the configuration.

use std::str::FromStr;

use super::catalogue::FIELDS;
use super::field::{Field, Flags, Kind, Source, Visibility};

/// One entry, as in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteField {
    /// The annotation's key.
    pub(crate) annotation: String,
    /// Its name in queries.
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) title: String,
    pub(crate) description: String,
    pub(crate) unit: String,
    pub(crate) public: bool,
    /// The full-text search includes it.
    pub(crate) text: bool,
}

const NAME_BYTES_MAX: usize = 64;
/// Limit of site fields, because each costs columns in every segment of the index.
pub(crate) const SITE_FIELDS_MAX: usize = 200;

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Kind::SITE.into_iter().find(|(name, _)| *name == text);
        found.map(|(_, kind)| kind).ok_or_else(|| {
            let known = Kind::SITE.map(|(name, _)| name).join(", ");
            format!("unknown kind {text:?}; accepted: {known}")
        })
    }
}

impl Kind {
    /// Kinds, by their words in a configuration.
    const SITE: [(&'static str, Kind); 8] = [
        ("string", Kind::String),
        ("enum", Kind::Enum),
        ("version", Kind::Version),
        ("integer", Kind::Integer),
        ("float", Kind::Float),
        ("bool", Kind::Bool),
        ("date", Kind::Date),
        ("address", Kind::Address),
    ];

    /// Its word in a configuration.
    pub(crate) fn site_word(self) -> &'static str {
        let found = Self::SITE.iter().find(|(_, kind)| *kind == self);
        found.map_or("string", |(word, _)| word)
    }
}

/// A field name for an annotation: `my_annotation` for `MyAnnotation`.
pub(crate) fn name_of(annotation: &str) -> String {
    let mut name = String::new();
    let mut was_lower = false;
    for c in annotation.chars() {
        if c.is_ascii_uppercase() && was_lower {
            name.push('_');
        }
        was_lower = c.is_ascii_lowercase() || c.is_ascii_digit();
        name.push(if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '_'
        });
    }
    name
}

/// Checks an entry against the built-in fields and the entries before it.
///
/// # Errors
/// Why the entry cannot be used.
pub(crate) fn check(entry: &SiteField, before: &[SiteField]) -> Result<(), String> {
    let SiteField {
        annotation, name, ..
    } = entry;
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    let starts_well = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    if !starts_well || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_plain) {
        return Err(format!(
            "{name:?} is not a valid field name; use up to {NAME_BYTES_MAX} of a-z, 0-9 and _, starting with a letter"
        ));
    }
    if let Some(taken) = FIELDS.iter().find(|f| f.name == *name || f.key == *name) {
        return Err(format!("{name:?} is a built-in field: {}", taken.title));
    }
    if let Some(taken) = FIELDS
        .iter()
        .find(|f| f.annotation() == Some(annotation.as_str()))
    {
        return Err(format!(
            "{annotation} is already the built-in field {:?}",
            taken.name
        ));
    }
    let clashes = |known: &SiteField| known.name == *name || known.annotation == *annotation;
    if before.iter().any(clashes) {
        Err(format!(
            "{name:?} or its annotation {annotation} is defined twice"
        ))
    } else {
        Ok(())
    }
}

/// The entry as a field of the catalogue.
pub(super) fn field(entry: &SiteField) -> Field {
    Field {
        name: entry.name.clone().into(),
        key: entry.name.clone().into(),
        title: entry.title.clone().into(),
        kind: entry.kind,
        unit: (!entry.unit.is_empty()).then(|| entry.unit.clone().into()),
        source: Source::Annotation(entry.annotation.clone().into()),
        visibility: if entry.public {
            Visibility::Public
        } else {
            Visibility::Protected
        },
        description: entry.description.clone().into(),
        example: None,
        flags: Flags {
            text: entry.text && entry.kind.is_text(),
            column: true,
            form: true,
            ..Flags::NONE
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(annotation: &str) -> SiteField {
        SiteField {
            annotation: annotation.to_owned(),
            name: name_of(annotation),
            kind: Kind::Integer,
            title: annotation.to_owned(),
            description: "x".to_owned(),
            unit: String::new(),
            public: false,
            text: false,
        }
    }

    #[test]
    fn names_are_made_of_annotations() {
        for (annotation, name) in [
            ("MyThing", "my_thing"),
            ("gpuVendor2", "gpu_vendor2"),
            ("a-b.C", "a_b_c"),
        ] {
            assert_eq!(name_of(annotation), name);
        }
    }

    #[test]
    fn nothing_built_in_is_taken_over() {
        assert!(check(&entry("MyThing"), &[]).is_ok());
        assert!(check(&entry("MyThing"), &[entry("MyThing")]).is_err());
        let why = check(&entry("ProductName"), &[]).expect_err("built in");
        assert!(why.contains("product"), "{why}");
        assert!(
            check(&entry("Signature"), &[]).is_err(),
            "a name that is taken"
        );
        assert!(check(&entry("9lives"), &[]).is_err());
    }
}
