//! The field catalogue: the only list of the data of a processed crash that users search and see.
//!
//! Index schema, documents, query checks, search form, columns, report table, help and redaction derive from
//! it and repeat nothing. A field that is not marked public is protected. An annotation without a field is
//! available as `annotation.<Key>`, protected.
//!
//! A site adds fields for its own annotations, so each server has its own [`Catalogue`]. The composition root
//! makes it from the configuration and passes it on: handlers have it in `App`, the index and the indexer have
//! the one for which the index was opened, and workers have it for the annotations that they copy. Built-in
//! fields are constants. So code that uses a field by its constant in [`name`] needs no catalogue, only code
//! that lists fields or finds one by a text.

mod catalogue;
mod field;
pub(crate) mod redact;
pub(crate) mod site;
pub mod version;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

pub use field::{Field, Kind, Source};
pub(crate) use field::{INSTALLATION_KEYS, Visibility};

use catalogue::FIELDS;
use site::SiteField;

/// Field names that the code uses, as in a query.
pub mod name {
    pub const UUID: &str = "uuid";
    pub const DATE: &str = "date";
    pub(crate) const SIGNATURE: &str = "signature";
    pub(crate) const PROTO_SIGNATURE: &str = "proto_signature";
    pub(crate) const PRODUCT: &str = "product";
    pub(crate) const VERSION: &str = "version";
    pub(crate) const BUILD_ID: &str = "build_id";
    pub(crate) const RELEASE_CHANNEL: &str = "release_channel";
    pub(crate) const PROCESS_TYPE: &str = "process_type";
    pub(crate) const PLATFORM: &str = "platform";
    pub(crate) const PLATFORM_PRETTY_VERSION: &str = "platform_pretty_version";
    pub(crate) const CPU_ARCH: &str = "cpu_arch";
    pub(crate) const REASON: &str = "reason";
    pub(crate) const REASON_TEXT: &str = "reason_text";
    pub(crate) const ADDRESS: &str = "address";
    pub(crate) const REPORT_TYPE: &str = "report_type";
    pub(crate) const VERDICT: &str = "verdict";
    pub(crate) const VERDICT_EVIDENCE: &str = "verdict_evidence";
    pub(crate) const MISSING_SYMBOLS: &str = "missing_symbols";
    pub(crate) const STATE: &str = "state";
    pub(crate) const THROTTLE_RULE: &str = "throttle_rule";
    pub(crate) const UPTIME: &str = "uptime";
    pub(crate) const INSTALLATION: &str = "installation";
    pub(crate) const STARTUP_CRASH: &str = "startup_crash";
    pub(crate) const IS_GARBAGE_COLLECTING: &str = "is_garbage_collecting";
    #[cfg(test)]
    pub(crate) const USER_COMMENTS: &str = "user_comments";
    #[cfg(test)]
    pub(crate) const URL: &str = "url";
    pub(crate) const URL_PAGE: &str = "url_page";
    pub(crate) const URL_DOMAIN: &str = "url_domain";
}

/// Key of the walk in the processed crash. It comes last and is not a field.
pub(crate) const JSON_DUMP: &str = "json_dump";
/// The state of a report that the throttle has deferred.
pub(crate) const DEFERRED: &str = "deferred";
/// Prefix of the key of an annotation without a field.
pub(crate) const ANNOTATION_PREFIX: &str = "annotation.";

/// A server's list of fields, with its look-up tables.
#[derive(Debug)]
pub struct Catalogue {
    /// The built-in fields, then those of the site.
    fields: Vec<Arc<Field>>,
    /// Number of built-in fields.
    builtin: usize,
    /// The annotations that identify an installation.
    installation_keys: Vec<String>,
    by_name: HashMap<Cow<'static, str>, usize>,
    by_key: HashMap<Cow<'static, str>, usize>,
    by_annotation: HashMap<String, usize>,
}

impl Catalogue {
    /// The built-in fields and the fields of a site. `installation_keys` are the annotations that identify an
    /// installation.
    pub(crate) fn new(site: &[SiteField], installation_keys: &[String]) -> Self {
        Self::of(FIELDS.to_vec(), site, installation_keys)
    }

    /// The catalogue of a site that configures nothing.
    pub fn builtin() -> Self {
        Self::new(&[], &INSTALLATION_KEYS.map(str::to_owned))
    }

    /// The catalogue of another version of the program, which had other built-in fields. For tests of an
    /// index that such a version left.
    pub fn of(builtin: Vec<Field>, site: &[SiteField], installation_keys: &[String]) -> Self {
        let count = builtin.len();
        let fields: Vec<Arc<Field>> = builtin
            .into_iter()
            .chain(site.iter().map(site::field))
            .map(Arc::new)
            .collect();
        let numbered = || fields.iter().enumerate();
        let keys = numbered().map(|(at, field)| (field.key.clone(), at));
        let names = numbered().map(|(at, field)| (field.name.clone(), at));
        Self {
            by_name: keys.clone().chain(names).collect(),
            by_key: keys.collect(),
            by_annotation: numbered()
                .filter_map(|(at, field)| Some((field.annotation()?.to_owned(), at)))
                .collect(),
            builtin: count,
            installation_keys: installation_keys.to_vec(),
            fields,
        }
    }

    /// Every field, in the order in which pages show them.
    pub fn all(&self) -> &[Arc<Field>] {
        &self.fields
    }

    /// The fields that the site has added.
    pub(crate) fn of_site(&self) -> &[Arc<Field>] {
        &self.fields[self.builtin..]
    }

    /// Fields that are copied from an annotation, each with the annotation's key.
    pub(crate) fn of_annotations(&self) -> impl Iterator<Item = (&str, &Arc<Field>)> {
        let fields = self.fields.iter();
        fields.filter_map(|field| Some((field.annotation()?, field)))
    }

    /// A field by its name, or otherwise by its key in the processed crash.
    pub fn by_name(&self, name: &str) -> Option<&Arc<Field>> {
        self.by_name.get(name).map(|at| &self.fields[*at])
    }

    /// A field by its key in the processed crash.
    pub(crate) fn by_key(&self, key: &str) -> Option<&Arc<Field>> {
        self.by_key.get(key).map(|at| &self.fields[*at])
    }

    /// The field that is copied from an annotation.
    pub fn by_annotation(&self, annotation: &str) -> Option<&Arc<Field>> {
        self.by_annotation
            .get(annotation)
            .map(|at| &self.fields[*at])
    }

    /// The field name that the user most likely meant by `text`, among the names that the caller may see.
    pub(crate) fn nearest(&self, text: &str, sees_protected: bool) -> Option<&str> {
        let known = self
            .fields
            .iter()
            .filter(|field| sees_protected || !field.is_protected())
            .map(|field| (strsim::damerau_levenshtein(text, &field.name), &*field.name));
        let (distance, name) = known.min()?;
        (distance <= 1 + text.len() / 4).then_some(name)
    }

    /// The annotations that identify an installation, the most specific one first.
    pub fn installation_keys(&self) -> &[String] {
        &self.installation_keys
    }

    /// The value of the field `installation`: a hash of the first annotation that identifies the installation
    /// and has a value. It shows only whether two installations are equal, so it may be shown to users who
    /// may not see the annotation.
    pub(crate) fn installation(&self, annotations: &BTreeMap<String, String>) -> Option<String> {
        let keys = self.installation_keys.iter();
        let mut values = keys.filter_map(|key| Some((key, annotations.get(key)?.trim())));
        let (key, value) = values.find(|(_, value)| !value.is_empty())?;
        let hash = xxh3_64(format!("{key}\0{value}").as_bytes());
        Some(format!("{hash:016x}"))
    }
}

/// A built-in field by its constant in [`name`]. It is the same in every catalogue, so this needs none.
pub(crate) fn builtin(name: &'static str) -> Arc<Field> {
    let field = FIELDS.iter().find(|field| field.name == name);
    Arc::new(field.expect("a built-in field").clone())
}

/// The number of an address.
pub(crate) fn address(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.strip_prefix("0x").or(text.strip_prefix("0X"))?;
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn every_name_and_key_is_there_once() {
        let catalogue = Catalogue::builtin();
        let all = catalogue.all();
        let names: HashSet<_> = all.iter().map(|f| &f.name).collect();
        let keys: HashSet<_> = all.iter().map(|f| &f.key).collect();
        assert_eq!((names.len(), keys.len()), (all.len(), all.len()));
        for field in all {
            assert_eq!(catalogue.by_name(&field.name), Some(field));
            let found = catalogue.by_name(&field.key);
            assert_eq!(found.map(|f| &f.key), Some(&field.key));
            assert!(!field.title.is_empty() && !field.description.is_empty());
            assert!(!field.description.ends_with('.'), "{}", field.name);
        }
        assert!(catalogue.by_name(JSON_DUMP).is_none());
    }

    #[test]
    fn an_annotation_is_the_source_of_one_field_at_most() {
        let catalogue = Catalogue::builtin();
        let keys: HashSet<_> = catalogue.of_annotations().map(|(key, _)| key).collect();
        assert_eq!(keys.len(), catalogue.of_annotations().count());
    }

    #[test]
    fn what_users_wrote_is_protected() {
        for name in [
            name::USER_COMMENTS,
            name::URL,
            "remote_type",
            "glean_client_id",
        ] {
            assert!(builtin(name).is_protected(), "{name}");
        }
        assert!(!builtin(name::SIGNATURE).is_protected());
    }

    #[test]
    fn an_annotation_becomes_the_value_of_its_kind() {
        fn check(name: &'static str, text: &str, expected: Option<Value>) {
            assert_eq!(builtin(name).value_of(text).ok(), expected, "{name} {text}");
        }
        check("startup_crash", "1", Some(true.into()));
        check("startup_crash", "False", Some(false.into()));
        check("startup_crash", "maybe", None);
        check("install_time", " 17 ", Some(17.into()));
        check("install_time", "17.5", None);
        check("uptime_ts", "17.5", Some(17.5.into()));
        check("uptime_ts", "inf", None);
        check("product", "Fire fox \n", Some("Fire fox".into()));
        let note = builtin("install_time").value_of("secret");
        assert_eq!(
            note,
            Err("the value of InstallTime is not a valid integer".into())
        );
    }

    #[test]
    fn each_catalogue_has_its_own_fields_and_installation_keys() {
        let site = |annotation: &str, name: &str| SiteField {
            annotation: annotation.to_owned(),
            name: name.to_owned(),
            kind: Kind::Integer,
            title: String::new(),
            description: String::new(),
            unit: String::new(),
            public: true,
            text: false,
        };
        let one = Catalogue::new(&[site("Thing", "thing")], &["A".to_owned()]);
        let other = Catalogue::new(&[site("Thing", "another")], &["B".to_owned()]);
        assert!(one.by_name("thing").is_some() && other.by_name("thing").is_none());
        let name = |catalogue: &Catalogue| catalogue.by_annotation("Thing").map(|f| f.name.clone());
        assert_eq!(name(&one).as_deref(), Some("thing"));
        assert_eq!(name(&other).as_deref(), Some("another"));
        assert_eq!(
            (one.of_site().len(), Catalogue::builtin().of_site().len()),
            (1, 0)
        );
        let annotations = BTreeMap::from([("A".to_owned(), "x".to_owned())]);
        assert!(one.installation(&annotations).is_some());
        assert_eq!(other.installation(&annotations), None);
    }
}
