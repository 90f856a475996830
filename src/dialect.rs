//! Client dialects: Breakpad, Crashpad, Electron and Firefox use different names for the same things.
//!
//! [`map`] adds the standard key beside the key that the client sent. It renames and drops nothing.

use std::collections::BTreeMap;

use crate::crash::raw::key;

/// The standard key, then the keys that clients use for it, in order of preference. Electron sends `prod` =
/// "Electron" beside the application's own `_productName`, so `_productName` comes first.
const DIALECTS: [(&str, &[&str]); 5] = [
    (key::PRODUCT, &["_productName", "prod", "product"]),
    (key::VERSION, &["_version", "ver", "version"]),
    (key::PROCESS_TYPE, &["process_type", "ptype"]),
    (key::RELEASE_CHANNEL, &["channel"]),
    (key::BUILD_ID, &["build_id"]),
];

/// Adds a standard key if the client used only another name for it.
pub(crate) fn map(annotations: &mut BTreeMap<String, String>) {
    for (ours, theirs) in DIALECTS {
        if annotations.get(ours).is_some_and(|v| !v.trim().is_empty()) {
            continue;
        }
        let found = theirs
            .iter()
            .filter_map(|key| annotations.get(*key))
            .map(|v| v.trim())
            .find(|v| !v.is_empty())
            .map(str::to_owned);
        if let Some(value) = found {
            annotations.insert(ours.to_owned(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sent: &[(&str, &str)], product: Option<&str>, version: Option<&str>) {
        let mut annotations: BTreeMap<String, String> = sent
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect();
        map(&mut annotations);
        assert_eq!(
            annotations.get(key::PRODUCT).map(String::as_str),
            product,
            "{sent:?}"
        );
        assert_eq!(
            annotations.get(key::VERSION).map(String::as_str),
            version,
            "{sent:?}"
        );
        for (k, v) in sent
            .iter()
            .filter(|(k, _)| *k != key::PRODUCT && *k != key::VERSION)
        {
            assert_eq!(
                annotations.get(*k).map(String::as_str),
                Some(*v),
                "what was sent stays"
            );
        }
    }

    #[test]
    fn every_dialect_ends_in_one_vocabulary() {
        check(&[("prod", "App"), ("ver", "1")], Some("App"), Some("1"));
        check(
            &[
                ("prod", "Electron"),
                ("ver", "33.0"),
                ("_productName", "App"),
                ("_version", "1"),
            ],
            Some("App"),
            Some("1"),
        );
        check(
            &[
                ("ProductName", "Firefox"),
                ("Version", "121"),
                ("prod", "x"),
            ],
            Some("Firefox"),
            Some("121"),
        );
        check(
            &[("ProductName", " "), ("product", "App")],
            Some("App"),
            None,
        );
        check(&[("guid", "1")], None, None);
    }
}
