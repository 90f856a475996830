//! Steps that read the client's annotations.

use super::draft::Draft;
use super::java;
use crate::clock::Timestamp;
use crate::crash::raw::{PartKind, key};
use crate::fields;

/// Copies every annotation in the catalogue, converted to the type of its field.
pub(crate) fn copy_annotations(draft: &mut Draft) -> Result<(), String> {
    let raw = draft.input.raw;
    for (key, field) in draft.catalogue.of_annotations() {
        let Some(text) = raw.annotation(key) else {
            continue;
        };
        match field.value_of(text) {
            Ok(value) => draft.set(&field.key, value),
            Err(why) => draft.notes.push(why),
        }
    }
    let keys: Vec<&str> = raw
        .annotations
        .keys()
        .map(String::as_str)
        .chain(
            draft
                .input
                .parts
                .iter()
                .filter(|p| p.kind == PartKind::Dump)
                .map(|p| p.name.as_str()),
        )
        .collect();
    draft.set("crash_report_keys", keys);
    Ok(())
}

/// Extracts the parts of a URL that other crashes may share.
pub(crate) fn url_parts(draft: &mut Draft) -> Result<(), String> {
    let url = draft.input.raw.annotation("URL").unwrap_or_default();
    if let Some((page, domain)) = page_and_domain(url) {
        draft.set(fields::name::URL_PAGE, page);
        draft.set_some(fields::name::URL_DOMAIN, domain);
    }
    Ok(())
}

/// A URL without its query, and its host in lower case. `None` if the URL has no protocol.
fn page_and_domain(url: &str) -> Option<(&str, Option<String>)> {
    let page = url.trim().split(['?', '#']).next()?;
    let (protocol, rest) = page.split_once("://")?;
    if protocol.is_empty() || rest.is_empty() {
        return None;
    }
    let authority = rest.split('/').next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let host = match host.strip_prefix('[') {
        Some(address) => address.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let host = host.trim_end_matches('.').to_lowercase();
    Some((page, (!host.is_empty()).then_some(host)))
}

/// A time since 1970 of at least this value is in milliseconds. In seconds it would be in the year 5138.
const MILLISECONDS_MIN: i64 = 100_000_000_000;

pub(crate) fn dates(draft: &mut Draft) -> Result<(), String> {
    let received_at = draft.input.raw.metadata.received_at();
    // The date of a crash is the date of its receipt, so that reprocessing does not change it.
    draft.set("date_processed", received_at.rfc3339());
    draft.set("submitted_timestamp", received_at.rfc3339());
    draft.set("started_datetime", draft.input.started_at.rfc3339());
    let mut notes = Vec::new();
    let mut seconds = |key: &str| {
        let number: i64 = draft.input.raw.annotation(key)?.parse().ok()?;
        if number < MILLISECONDS_MIN {
            return Some(number);
        }
        notes.push(format!(
            "{key} is in milliseconds and was converted to seconds"
        ));
        Some(number / 1000)
    };
    let crash_time = seconds("CrashTime").unwrap_or(received_at.ms() / 1000);
    let (start, install) = (seconds("StartupTime"), seconds("InstallTime"));
    let startup_time = start.unwrap_or(crash_time);
    let install_time = install.unwrap_or(startup_time);
    let (has_start, has_install) = (start.is_some(), install.is_some());
    let last_crash = draft.input.raw.annotation("SecondsSinceLastCrash");
    let last_crash = last_crash
        .and_then(|t| t.parse::<i64>().ok())
        .filter(|s| *s >= 0);
    if !notes.is_empty() {
        draft.notes.extend(notes);
        draft.set_some("startup_time", start);
        draft.set_some("install_time", install);
    }
    draft.set("crash_time", crash_time);
    draft.set(
        "client_crash_date",
        Timestamp::from_ms(crash_time.saturating_mul(1000)).rfc3339(),
    );
    if has_install {
        draft.set(
            "install_age",
            crash_time.saturating_sub(install_time).max(0),
        );
    }
    let uptime = if has_start {
        Some(crash_time.saturating_sub(startup_time).max(0))
    } else {
        // Clients that send no times have them in the dump.
        let uptime = draft.walk.as_ref().and_then(|walk| walk.process_uptime);
        uptime.and_then(|s| i64::try_from(s).ok())
    };
    draft.set_some("uptime", uptime);
    draft.set_some("last_crash", last_crash);
    Ok(())
}

pub(crate) fn process_type(draft: &mut Draft) -> Result<(), String> {
    let sent = draft
        .input
        .raw
        .annotation(key::PROCESS_TYPE)
        .unwrap_or("parent");
    let process_type = if matches!(sent, "main" | "browser") {
        "parent"
    } else {
        sent
    };
    draft.set(fields::name::PROCESS_TYPE, process_type);
    Ok(())
}

pub(crate) fn major_version(draft: &mut Draft) -> Result<(), String> {
    let version = draft.input.raw.annotation(key::VERSION).unwrap_or_default();
    let major = version
        .split('.')
        .next()
        .and_then(|head| head.parse::<i64>().ok())
        .unwrap_or(0);
    draft.set("major_version", major);
    Ok(())
}

pub(crate) fn submitted_from(draft: &mut Draft) -> Result<(), String> {
    let from = draft
        .input
        .raw
        .annotation("SubmittedFrom")
        .unwrap_or("Unknown");
    draft.set("submitted_from", from);
    Ok(())
}

/// Prefixes of assertion texts that quote data of the user.
const REASONS_WITH_USER_DATA: [&str; 3] = [
    "Failed to load module",
    "byte index",
    "do not use eval with system privileges",
];

/// The failed assertion: the original text is protected, the cleaned text is public.
pub(crate) fn crash_reason_text(draft: &mut Draft) -> Result<(), String> {
    let Some(reason) = draft.input.raw.annotation("MozCrashReason") else {
        return Ok(());
    };
    draft.set("moz_crash_reason_raw", reason);
    let quotes = REASONS_WITH_USER_DATA
        .iter()
        .any(|start| reason.starts_with(start));
    let public = if quotes {
        "cleaned; the raw crash has the original text"
    } else {
        reason
    };
    draft.set("moz_crash_reason", public);
    Ok(())
}

/// A Java stack: the original text is protected. The public text lacks the exceptions' messages, which quote
/// data of the program.
pub(crate) fn java_stack(draft: &mut Draft) -> Result<(), String> {
    let Some(stack) = draft.input.raw.annotation("JavaStackTrace") else {
        return Ok(());
    };
    draft.set("java_stack_trace_raw", stack);
    draft.set("java_stack_trace", java::without_messages(stack));
    Ok(())
}

pub(crate) fn addons(draft: &mut Draft) -> Result<(), String> {
    let raw = draft.input.raw;
    let addons: Vec<String> = raw
        .annotation("Add-ons")
        .unwrap_or_default()
        .split(',')
        .filter(|addon| !addon.is_empty())
        .map(|addon| {
            let addon = percent_encoding::percent_decode_str(addon).decode_utf8_lossy();
            if addon.contains(':') {
                addon.into_owned()
            } else {
                format!("{addon}:NO_VERSION")
            }
        })
        .collect();
    if !addons.is_empty() {
        draft.set("addons", addons);
    }
    if let Some(state) = raw.annotation("Accessibility") {
        draft.set("accessibility", state == "Active");
    }
    if let Some(checked) = raw.annotation("EMCheckCompatibility") {
        draft.set("addons_checked", matches!(checked, "1" | "true"));
    }
    Ok(())
}

pub(crate) fn collector_notes(draft: &mut Draft) -> Result<(), String> {
    let notes = &draft.input.raw.metadata.collector_notes;
    if !notes.is_empty() {
        draft.set("collector_notes", notes.clone());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_cut_before_its_query_and_its_host_is_lower_case() {
        fn check(url: &str, expected: Option<(&str, Option<&str>)>) {
            let found = page_and_domain(url);
            let found = found.as_ref().map(|(page, host)| (*page, host.as_deref()));
            assert_eq!(found, expected, "{url}");
        }
        check(
            "https://Example.ORG:8443/a/b?token=1#x",
            Some(("https://Example.ORG:8443/a/b", Some("example.org"))),
        );
        check(
            "http://u:p@h.example.",
            Some(("http://u:p@h.example.", Some("h.example"))),
        );
        check(
            "http://[2001:DB8::1]:80/",
            Some(("http://[2001:DB8::1]:80/", Some("2001:db8::1"))),
        );
        check("file:///home/x", Some(("file:///home/x", None)));
        check("http://?x", None);
        check("about:blank", None);
        check("://x", None);
        check("", None);
    }
}
