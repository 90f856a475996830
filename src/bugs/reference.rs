//! Reads a bug that a user typed: its URL, or its id if the tracker is known.

use super::{Bug, BugKey, Standing};
use crate::limits;

/// Splits a URL into its origin (`https://host:port`) and the rest.
///
/// # Errors
/// The URL is not a plain http or https URL. A link on a page must not contain a script, a password or a
/// line break.
pub fn split(address: &str) -> Result<(&str, &str), String> {
    let refused = |why: &str| Err(format!("{address:?} {why}"));
    if address.len() > limits::BUG_URL_BYTES_MAX {
        return Err(format!(
            "the address has {} bytes; the limit is {}",
            address.len(),
            limits::BUG_URL_BYTES_MAX
        ));
    }
    let lower = address.to_ascii_lowercase();
    let Some(scheme) = ["https://", "http://"]
        .into_iter()
        .find(|scheme| lower.starts_with(scheme))
    else {
        return refused("does not begin with https:// or http://");
    };
    if address.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return refused("contains a space or line break");
    }
    let rest = &address[scheme.len()..];
    let host = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    if host.contains(['@', '\\', '{', '}']) {
        return refused("has more than a host and a port before its path");
    }
    let (name, port) = match host.rfind(':') {
        Some(at) if !host.ends_with(']') => (&host[..at], Some(&host[at + 1..])),
        _ => (host, None),
    };
    if name.is_empty() || port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return refused("has no host");
    }
    Ok(address.split_at(scheme.len() + host.len()))
}

/// Reads the URL of a bug, or its number if `tracker` is a Bugzilla.
///
/// # Errors
/// The text is for the user who typed it.
pub fn read(text: &str, tracker: Option<&str>) -> Result<Bug, String> {
    let text = text.trim();
    if let Some(number) = number(text) {
        return match tracker {
            Some(tracker) => Ok(in_bugzilla(tracker, number)),
            None => Err(format!(
                "{text} does not say which bug tracker; give the complete URL, or set [bugzilla] url"
            )),
        };
    }
    let (origin, path) = split(text)?;
    let (key, url) = key(origin, path);
    Ok(Bug {
        key,
        url: url.unwrap_or_else(|| text.to_owned()),
        standing: Standing::default(),
    })
}

/// The bug of a Bugzilla with this number.
pub fn in_bugzilla(tracker: &str, number: u64) -> Bug {
    Bug {
        key: BugKey {
            id: number.to_string(),
            tracker: tracker.to_owned(),
        },
        url: format!("{tracker}/show_bug.cgi?id={number}"),
        standing: Standing::default(),
    }
}

fn number(text: &str) -> Option<u64> {
    // `parse` would also accept a sign.
    let is_plain = text.bytes().all(|b| b.is_ascii_digit());
    is_plain.then(|| text.parse().ok()).flatten()
}

/// The key of the bug at a URL, and for a Bugzilla its normalised URL. Different URLs of one bug give the
/// same key: the text after the id (comments, anchors) is ignored.
fn key(origin: &str, path: &str) -> (BugKey, Option<String>) {
    let bug = |id: String, tracker: String| BugKey { id, tracker };
    let origin = origin.to_ascii_lowercase();
    let plain = path.split(['?', '#']).next().unwrap_or_default();
    let query = path.split_once('?').map_or("", |(_, query)| query);
    let query = query.split('#').next().unwrap_or_default();
    if let Some(folder) = plain.strip_suffix("/show_bug.cgi") {
        let id = query.split(['&', ';']).find_map(|p| p.strip_prefix("id="));
        if let Some(id) = id.and_then(number) {
            let found = in_bugzilla(&format!("{origin}{folder}"), id);
            return (found.key, Some(found.url));
        }
    }
    let words: Vec<&str> = plain.split('/').filter(|word| !word.is_empty()).collect();
    let last = words.last().and_then(|word| number(word));
    match (&words[..], last) {
        // Jira.
        ([folder @ .., "browse", id], _) => {
            let folder: String = folder.iter().map(|word| format!("/{word}")).collect();
            (bug((*id).to_owned(), format!("{origin}{folder}")), None)
        }
        // GitHub and Gitea. GitLab inserts a dash and may nest projects.
        ([project @ .., "issues" | "work_items", _], Some(number)) if !project.is_empty() => {
            let project = project.iter().copied().filter(|word| *word != "-");
            let project: Vec<&str> = project.collect();
            (bug(format!("{}#{number}", project.join("/")), origin), None)
        }
        // Bugzilla's short form.
        ([_], Some(number)) => {
            let found = in_bugzilla(&origin, number);
            (found.key, Some(found.url))
        }
        _ => (bug(path.trim_start_matches('/').to_owned(), origin), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, id: &str, tracker: &str) {
        let bug = read(text, Some("https://bugs.example.org/bz")).expect(text);
        assert_eq!(
            (bug.key.id.as_str(), bug.key.tracker.as_str()),
            (id, tracker),
            "{text}"
        );
    }

    #[test]
    fn addresses_of_every_tracker_are_told_apart() {
        check(" 0012 ", "12", "https://bugs.example.org/bz");
        check(
            "https://bugs.example.org/bz/show_bug.cgi?ctype=x&id=12#c3",
            "12",
            "https://bugs.example.org/bz",
        );
        check(
            "https://Bugzilla.Mozilla.org/1234567",
            "1234567",
            "https://bugzilla.mozilla.org",
        );
        check(
            "https://github.com/owner/repo/issues/12#issuecomment-1",
            "owner/repo#12",
            "https://github.com",
        );
        check(
            "https://gitlab.example/group/sub/app/-/issues/7",
            "group/sub/app#7",
            "https://gitlab.example",
        );
        check(
            "https://jira.example:8443/jira/browse/APP-7?focus=1",
            "APP-7",
            "https://jira.example:8443/jira",
        );
        check("http://[::1]:80/t?x=4", "t?x=4", "http://[::1]:80");
    }

    #[test]
    fn one_bug_of_a_bugzilla_has_one_address() {
        let bug = read("https://bz.example/7", None).expect("a bug");
        assert_eq!(bug.url, "https://bz.example/show_bug.cgi?id=7");
        let same = read("https://bz.example/show_bug.cgi?id=7#c1", None);
        assert_eq!(same.expect("a bug"), bug);
    }

    #[test]
    fn what_is_no_plain_address_is_refused() {
        fn refused(text: &str, why: &str) {
            let error = read(text, None).expect_err(text);
            assert!(error.contains(why), "{error}");
        }
        refused("javascript:alert(1)", "does not begin with https://");
        refused("", "does not begin with https://");
        refused("12", "set [bugzilla] url");
        refused("https://user:secret@host/1", "more than a host");
        refused("https:///1", "has no host");
        refused("https://host:99999/1", "has no host");
        refused("https://host/a b", "a space");
        refused(
            &format!("https://host/{}", "a".repeat(3_000)),
            "the limit is 2000",
        );
    }
}
