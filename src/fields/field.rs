//! One entry of the catalogue, and its properties.

use std::borrow::Cow;

use serde_json::Value;

use crate::clock::Timestamp;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text that is searched by words, parts and patterns.
    String,
    /// Text with few different values, compared as a whole.
    Enum,
    /// An enum whose values sort as versions.
    Version,
    /// A number written as `0x` and hexadecimal digits. Compared as a number, but also found by parts of its
    /// text.
    Address,
    Integer,
    Float,
    Bool,
    /// A time: RFC 3339 in the processed crash, milliseconds since 1970 in the index.
    Date,
}

impl Kind {
    /// Its name in errors and in help.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::String | Self::Address => "string",
            Self::Enum | Self::Version => "enum",
            Self::Integer => "integer",
            Self::Float => "float",
            Self::Bool => "bool",
            Self::Date => "date",
        }
    }

    pub fn is_text(self) -> bool {
        matches!(
            self,
            Self::String | Self::Enum | Self::Version | Self::Address
        )
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Copied from this annotation of the raw crash.
    Annotation(Cow<'static, str>),
    /// Computed by processing.
    Processed,
    /// Computed when a crash is indexed, see [`Catalogue::installation`](super::Catalogue::installation).
    Installation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Visibility {
    Public,
    Protected,
}

/// What a field can be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags {
    /// The full-text search includes it.
    pub text: bool,
    /// The processed crash has a list joined by `;`.
    pub split: bool,
    /// Counting by it is useful.
    pub(crate) facet: bool,
    pub(crate) sort: bool,
    /// Offered as a column of results.
    pub(crate) column: bool,
    /// Offered in the search form.
    pub(crate) form: bool,
}

impl Flags {
    pub(super) const NONE: Self = Self {
        text: false,
        split: false,
        facet: true,
        sort: true,
        column: false,
        form: false,
    };

    pub(super) const fn with(mut self, flag: &str) -> Self {
        match flag.as_bytes() {
            b"text" => self.text = true,
            b"split" => self.split = true,
            b"nofacet" => self.facet = false,
            b"nosort" => self.sort = false,
            b"column" => self.column = true,
            b"form" => self.form = true,
            b"public" => {}
            _ => panic!("the catalogue uses a flag that does not exist"),
        }
        self
    }
}

/// One entry of the catalogue. The texts of built-in fields are constants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name in queries, columns and the index.
    pub name: Cow<'static, str>,
    /// Its key in the processed crash.
    pub key: Cow<'static, str>,
    pub(crate) title: Cow<'static, str>,
    pub kind: Kind,
    pub(crate) unit: Option<Cow<'static, str>>,
    pub source: Source,
    pub(crate) visibility: Visibility,
    pub(crate) description: Cow<'static, str>,
    pub(crate) example: Option<Cow<'static, str>>,
    pub flags: Flags,
}

impl Field {
    pub fn is_protected(&self) -> bool {
        self.visibility == Visibility::Protected
    }

    /// The annotation from which it is copied.
    pub(crate) fn annotation(&self) -> Option<&str> {
        match &self.source {
            Source::Annotation(key) => Some(key),
            Source::Processed | Source::Installation => None,
        }
    }

    /// The typed value of an annotation's text.
    ///
    /// # Errors
    /// A note for the processed crash. It contains the annotation's name but not its value, which may be user
    /// data.
    pub(crate) fn value_of(&self, text: &str) -> Result<Value, String> {
        let bad = || {
            let annotation = self.annotation().unwrap_or(&self.key);
            format!(
                "the value of {annotation} is not a valid {}",
                self.kind.name()
            )
        };
        let trimmed = text.trim();
        match self.kind {
            Kind::String | Kind::Enum | Kind::Version | Kind::Address => Ok(text.trim_end().into()),
            Kind::Integer => trimmed.parse::<i64>().map(Value::from).map_err(|_| bad()),
            Kind::Float => match trimmed.parse::<f64>() {
                Ok(number) if number.is_finite() => Ok(number.into()),
                _ => Err(bad()),
            },
            Kind::Bool => match trimmed.to_ascii_lowercase().as_str() {
                "1" | "true" => Ok(true.into()),
                "0" | "false" => Ok(false.into()),
                _ => Err(bad()),
            },
            Kind::Date => Timestamp::parse_rfc3339(trimmed)
                .map(|moment| moment.rfc3339().into())
                .ok_or_else(bad),
        }
    }
}

/// The annotations that identify an installation, if the configuration names none. Firefox sends the time of
/// installation, Crashpad and Electron send an id of the installation.
pub(crate) const INSTALLATION_KEYS: [&str; 5] = [
    "InstallTime",
    "guid",
    "_installation_id",
    "installation_id",
    "client_id",
];
