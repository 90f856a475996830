//! Events and breadcrumbs, JSON or MessagePack, must become annotations or nothing.
#![no_main]

use std::collections::BTreeMap;

use crashkeep::sentry;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (event, crumbs) = bytes.split_at(bytes.len() / 2);
    let files = [
        (sentry::PARTS[0].to_owned(), event.to_vec()),
        (sentry::PARTS[1].to_owned(), crumbs.to_vec()),
    ];
    let text = String::from_utf8_lossy(bytes).into_owned();
    let key = format!("sentry[{}]", text.lines().next().unwrap_or_default());
    let sent = BTreeMap::from([("sentry".to_owned(), text), (key, "x".to_owned())]);
    for (key, value) in sentry::annotations(&sent, &files) {
        assert!(!key.is_empty() && !value.is_empty());
    }
});
