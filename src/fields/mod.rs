//! The field catalogue: the only list of the data of a processed crash that users search and see.
//!
//! Index schema, documents, query checks, search form, columns, report table, help and redaction derive from
//! it and repeat nothing. A field that is not marked public is protected. An annotation without a field is
//! available as `annotation.<Key>`, protected. A site adds fields for its own annotations. The list is
//! created once per process.

mod catalogue;
mod field;
pub mod redact;
pub mod site;
pub mod version;

use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

use xxhash_rust::xxh3::xxh3_64;

pub use field::{Field, Flags, INSTALLATION_KEYS, Kind, Source, Visibility};

use catalogue::FIELDS;

/// Field names that the code uses, as in a query.
pub mod name {
    pub const UUID: &str = "uuid";
    pub const DATE: &str = "date";
    pub const SIGNATURE: &str = "signature";
    pub const PROTO_SIGNATURE: &str = "proto_signature";
    pub const PRODUCT: &str = "product";
    pub const VERSION: &str = "version";
    pub const BUILD_ID: &str = "build_id";
    pub const RELEASE_CHANNEL: &str = "release_channel";
    pub const PROCESS_TYPE: &str = "process_type";
    pub const PLATFORM: &str = "platform";
    pub const PLATFORM_VERSION: &str = "platform_version";
    pub const PLATFORM_PRETTY_VERSION: &str = "platform_pretty_version";
    pub const CPU_ARCH: &str = "cpu_arch";
    pub const REASON: &str = "reason";
    pub const ADDRESS: &str = "address";
    pub const REPORT_TYPE: &str = "report_type";
    pub const MISSING_SYMBOLS: &str = "missing_symbols";
    pub const STATE: &str = "state";
    pub const THROTTLE_RULE: &str = "throttle_rule";
    pub const UPTIME: &str = "uptime";
    pub const INSTALL_TIME: &str = "install_time";
    pub const INSTALLATION: &str = "installation";
    pub const STARTUP_CRASH: &str = "startup_crash";
    pub const IS_GARBAGE_COLLECTING: &str = "is_garbage_collecting";
    pub const USER_COMMENTS: &str = "user_comments";
    pub const URL: &str = "url";
    pub const URL_PAGE: &str = "url_page";
    pub const URL_DOMAIN: &str = "url_domain";
    pub const MOZ_CRASH_REASON: &str = "moz_crash_reason";
}

/// Key of the walk in the processed crash. It comes last and is not a field.
pub const JSON_DUMP: &str = "json_dump";
/// The state of a report that the throttle has deferred.
pub const DEFERRED: &str = "deferred";
/// Prefix of the key of an annotation without a field.
pub const ANNOTATION_PREFIX: &str = "annotation.";

/// The list of this process, with its look-up tables.
struct Catalogue {
    fields: Vec<Field>,
    by_name: HashMap<&'static str, usize>,
    by_key: HashMap<&'static str, usize>,
    by_annotation: HashMap<&'static str, usize>,
}

static CATALOGUE: OnceLock<Catalogue> = OnceLock::new();

impl Catalogue {
    fn new(fields: Vec<Field>) -> Self {
        let numbered = || fields.iter().enumerate();
        let keys = numbered().map(|(at, field)| (field.key, at));
        let names = numbered().map(|(at, field)| (field.name, at));
        Self {
            by_name: keys.clone().chain(names).collect(),
            by_key: keys.collect(),
            by_annotation: numbered()
                .filter_map(|(at, field)| Some((field.annotation()?, at)))
                .collect(),
            fields,
        }
    }

    fn get() -> &'static Self {
        CATALOGUE.get_or_init(|| Self::new(FIELDS.to_vec()))
    }
}

/// Adds a site's fields after the built-in ones, and sets the annotations that identify an installation. Must
/// be called before the list is used.
///
/// # Errors
/// The list is already in use with other fields. Only a restart of the process helps.
pub fn extend(site: &[site::SiteField], installation_keys: &[String]) -> Result<(), String> {
    let added = site.iter().map(site::field);
    let mut fields: Vec<Field> = FIELDS.iter().copied().chain(added).collect();
    if installation_keys != INSTALLATION_KEYS {
        let keys = installation_keys.iter();
        let keys = keys.map(|key| &*String::leak(key.clone())).collect();
        let installation = fields.iter_mut().find(|f| f.name == name::INSTALLATION);
        installation.expect("it is built in").source = Source::FirstOf(Vec::leak(keys));
    }
    let known = CATALOGUE.get_or_init(|| Catalogue::new(fields.clone()));
    if known.fields == fields {
        Ok(())
    } else {
        Err("fields cannot change while the server runs; restart it".to_owned())
    }
}

/// Every field, in the order in which pages show them.
pub fn all() -> &'static [Field] {
    &Catalogue::get().fields
}

/// The fields that a site has added.
pub fn of_site() -> &'static [Field] {
    &all()[FIELDS.len()..]
}

/// Fields that are copied from an annotation.
pub fn annotation_fields() -> impl Iterator<Item = &'static Field> {
    all().iter().filter(|field| field.annotation().is_some())
}

/// A field by its name, or otherwise by its key in the processed crash.
pub fn by_name(name: &str) -> Option<&'static Field> {
    let catalogue = Catalogue::get();
    catalogue.by_name.get(name).map(|at| &catalogue.fields[*at])
}

/// A field by its key in the processed crash.
pub fn by_key(key: &str) -> Option<&'static Field> {
    let catalogue = Catalogue::get();
    catalogue.by_key.get(key).map(|at| &catalogue.fields[*at])
}

/// The field that is copied from an annotation.
pub fn by_annotation(annotation: &str) -> Option<&'static Field> {
    let catalogue = Catalogue::get();
    let at = catalogue.by_annotation.get(annotation)?;
    Some(&catalogue.fields[*at])
}

/// The field name that the user most likely meant by `text`, among the names that the caller may see.
pub fn nearest(text: &str, sees_protected: bool) -> Option<&'static str> {
    let known = all()
        .iter()
        .filter(|field| sees_protected || !field.is_protected())
        .map(|field| (strsim::damerau_levenshtein(text, field.name), field.name));
    let (distance, name) = known.min()?;
    (distance <= 1 + text.len() / 4).then_some(name)
}

/// A hash of the first of these annotations that has a value. It shows only whether two values are equal, so
/// it may be shown to users who may not see the annotation.
pub fn hash_of_first(keys: &[&str], annotations: &BTreeMap<String, String>) -> Option<String> {
    let mut values = keys
        .iter()
        .filter_map(|key| Some((key, annotations.get(*key)?.trim())));
    let (key, value) = values.find(|(_, value)| !value.is_empty())?;
    let hash = xxh3_64(format!("{key}\0{value}").as_bytes());
    Some(format!("{hash:016x}"))
}

/// The number of an address.
pub fn address(text: &str) -> Option<u64> {
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
        let names: HashSet<_> = all().iter().map(|f| f.name).collect();
        let keys: HashSet<_> = all().iter().map(|f| f.key).collect();
        assert_eq!((names.len(), keys.len()), (all().len(), all().len()));
        for field in all() {
            assert_eq!(by_name(field.name), Some(field), "{}", field.name);
            assert_eq!(by_name(field.key).map(|f| f.key), Some(field.key));
            assert!(!field.title.is_empty() && !field.description.is_empty());
            assert!(!field.description.ends_with('.'), "{}", field.name);
        }
        assert!(by_name(JSON_DUMP).is_none());
    }

    #[test]
    fn an_annotation_is_the_source_of_one_field_at_most() {
        let keys: HashSet<_> = annotation_fields().map(|f| f.annotation()).collect();
        assert_eq!(keys.len(), annotation_fields().count());
    }

    #[test]
    fn what_users_wrote_is_protected() {
        for name in [
            name::USER_COMMENTS,
            name::URL,
            "remote_type",
            "glean_client_id",
        ] {
            assert!(by_name(name).is_some_and(Field::is_protected), "{name}");
        }
        assert!(!by_name(name::SIGNATURE).unwrap().is_protected());
    }

    #[test]
    fn an_annotation_becomes_the_value_of_its_kind() {
        fn check(name: &str, text: &str, expected: Option<Value>) {
            assert_eq!(
                by_name(name).unwrap().value_of(text).ok(),
                expected,
                "{name} {text}"
            );
        }
        check("startup_crash", "1", Some(true.into()));
        check("startup_crash", "False", Some(false.into()));
        check("startup_crash", "maybe", None);
        check("install_time", " 17 ", Some(17.into()));
        check("install_time", "17.5", None);
        check("uptime_ts", "17.5", Some(17.5.into()));
        check("uptime_ts", "inf", None);
        check("product", "Fire fox \n", Some("Fire fox".into()));
        let note = by_name("install_time").unwrap().value_of("secret");
        assert_eq!(
            note,
            Err("the value of InstallTime is not a valid integer".into())
        );
    }
}
