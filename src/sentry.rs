//! Turns the data that Sentry's clients send with a dump into annotations.
//!
//! The native clients write an event into a file `__sentry-event` and breadcrumbs into two more files, all
//! as MessagePack. Other clients send `sentry={json}` or `sentry[release]=...` in the form, or an envelope
//! with the event as JSON. All of these yield one event, from which we take:
//!
//! ```text
//! release        ProductName, Version: name@version+build
//! dist           BuildID
//! environment    Environment
//! event_id       SentryEventId
//! user           SentryUser, as JSON
//! tags           SentryTags as key=value;..., and tag.<key> for each
//! contexts       SentryContexts, as JSON
//! breadcrumbs    Breadcrumbs, as JSON
//! ```
//!
//! This module is pure. The caller limits sizes. Depth and number of values are limited here.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::crash::raw::key;
use crate::limits;

/// Names of the parts that are read.
pub const PARTS: [&str; 3] = [EVENT_PART, "__sentry-breadcrumb1", "__sentry-breadcrumb2"];
pub(crate) const EVENT_PART: &str = "__sentry-event";

const DEPTH_MAX: usize = 32;
/// A value uses up to a hundred bytes of memory, however few bytes it has in a file.
const VALUES_MAX: usize = 100_000;

/// The annotations for a report of one of Sentry's clients. `sent` are the annotations that arrived, `files`
/// the contents of files by the name of their part. Empty if the report is not from such a client.
pub fn annotations(
    sent: &BTreeMap<String, String>,
    files: &[(String, Vec<u8>)],
) -> Vec<(String, String)> {
    let mut event = Map::new();
    let mut breadcrumbs = Vec::new();
    for (name, bytes) in files {
        if name == EVENT_PART {
            merge(&mut event, read(bytes).into_iter().next());
        } else if PARTS.contains(&name.as_str()) {
            breadcrumbs.extend(read(bytes));
        }
    }
    if let Some(text) = sent.get("sentry") {
        merge(&mut event, read(text.as_bytes()).into_iter().next());
    }
    merge(&mut event, Some(bracketed(sent)));
    from_event(&event, breadcrumbs, sent)
}

/// Adds the members that do not exist yet.
fn merge(event: &mut Map<String, Value>, other: Option<Value>) {
    if let Some(Value::Object(other)) = other {
        for (key, value) in other {
            event.entry(key).or_insert(value);
        }
    }
}

/// `sentry[tags][gpu]=x` as an object.
fn bracketed(sent: &BTreeMap<String, String>) -> Value {
    let mut event = Map::new();
    for (key, value) in sent {
        let Some(path) = key
            .strip_prefix("sentry[")
            .and_then(|k| k.strip_suffix(']'))
        else {
            continue;
        };
        let names: Vec<&str> = path.split("][").collect();
        let Some((last, parents)) = names.split_last().filter(|(_, p)| p.len() < DEPTH_MAX) else {
            continue;
        };
        let mut at = Some(&mut event);
        for parent in parents {
            at = at.and_then(|map| {
                map.entry((*parent).to_owned())
                    .or_insert_with(|| Value::Object(Map::new()))
                    .as_object_mut()
            });
        }
        if let Some(map) = at {
            map.insert((*last).to_owned(), value.as_str().into());
        }
    }
    Value::Object(event)
}

fn from_event(
    event: &Map<String, Value>,
    mut breadcrumbs: Vec<Value>,
    sent: &BTreeMap<String, String>,
) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut add = |key: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            found.push((key.to_owned(), value));
        }
    };
    let text = |key: &str| event.get(key).and_then(plain);
    // The application's own name precedes Electron's. Both precede a release.
    let has = |key: &str| sent.get(key).is_some_and(|v| !v.trim().is_empty());
    let is_named = has(key::PRODUCT) || has("_productName");
    let release = text("release");
    let (name, version) = release.as_deref().map_or((None, None), split_release);
    if !is_named {
        add(key::PRODUCT, name);
    }
    if !is_named || !(has("_version") || has("ver") || has("version")) {
        add(key::VERSION, version);
    }
    add(key::BUILD_ID, text("dist"));
    add("Environment", text("environment"));
    add("SentryEventId", text("event_id"));
    let json = |key: &str| {
        event
            .get(key)
            .filter(|v| !is_empty(v))
            .map(Value::to_string)
    };
    add("SentryUser", json("user"));
    add("SentryContexts", json("contexts"));
    let tags = tags(event.get("tags"));
    let listed: Vec<String> = tags
        .iter()
        .map(|(key, value)| format!("{key}={value}").replace(';', ","))
        .collect();
    add("SentryTags", Some(listed.join(";")));
    for (tag, value) in tags {
        add(&format!("tag.{tag}"), Some(value));
    }
    let own = match event.get("breadcrumbs") {
        Some(Value::Object(map)) => map.get("values"),
        other => other,
    };
    if let Some(Value::Array(own)) = own {
        breadcrumbs.extend(own.iter().cloned());
    }
    // The client writes to two files in turn, so that the newest breadcrumbs are not lost. Their times give
    // the order.
    breadcrumbs.sort_by_cached_key(|crumb| crumb.get("timestamp").and_then(plain));
    if !breadcrumbs.is_empty() {
        add("Breadcrumbs", Some(Value::Array(breadcrumbs).to_string()));
    }
    found
}

/// Name and version of `name@version`. A release without a name is only a version.
fn split_release(release: &str) -> (Option<String>, Option<String>) {
    let release = release.trim();
    // A name may begin with `@` itself, as those of npm do.
    let at = release.char_indices().skip(1).find(|(_, c)| *c == '@');
    match at {
        Some((at, _)) => (
            Some(release[..at].to_owned()),
            Some(release[at + 1..].to_owned()),
        ),
        None => (None, Some(release.to_owned())),
    }
}

/// Tags are an object or a list of pairs.
fn tags(tags: Option<&Value>) -> Vec<(String, String)> {
    let pairs: Vec<(String, String)> = match tags {
        Some(Value::Object(map)) => map
            .iter()
            .filter_map(|(key, value)| Some((key.clone(), plain(value)?)))
            .collect(),
        Some(Value::Array(list)) => list
            .iter()
            .filter_map(|pair| Some((plain(pair.get(0)?)?, plain(pair.get(1)?)?)))
            .collect(),
        _ => Vec::new(),
    };
    pairs.into_iter().take(limits::SENTRY_TAGS_MAX).collect()
}

/// A string, number or bool as text.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

/// The values in a file, JSON or MessagePack, one after the other, up to the first broken one.
pub(crate) fn read(bytes: &[u8]) -> Vec<Value> {
    let is_json = matches!(bytes.trim_ascii_start().first(), Some(b'{' | b'['));
    if is_json {
        let values = bytes.iter().filter(|b| matches!(b, b',' | b'{' | b'['));
        if values.count() > VALUES_MAX {
            return Vec::new();
        }
        return serde_json::from_slice(bytes).into_iter().collect();
    }
    let mut reader = MessagePack {
        rest: bytes,
        values_left: VALUES_MAX,
    };
    let mut values = Vec::new();
    while !reader.rest.is_empty() {
        let Some(value) = reader.value(DEPTH_MAX) else {
            break;
        };
        values.push(value);
    }
    values
}

/// A reader of MessagePack. Source: the MessagePack specification.
struct MessagePack<'a> {
    rest: &'a [u8],
    values_left: usize,
}

impl MessagePack<'_> {
    fn value(&mut self, depth: usize) -> Option<Value> {
        self.values_left = self.values_left.checked_sub(1)?;
        let depth = depth.checked_sub(1)?;
        let kind = self.bytes(1)?[0];
        Some(match kind {
            0x00..=0x7f => kind.into(),
            0x80..=0x8f => self.map(u64::from(kind & 0x0f), depth)?,
            0x90..=0x9f => self.list(u64::from(kind & 0x0f), depth)?,
            0xa0..=0xbf => self.text(u64::from(kind & 0x1f))?,
            0xc2 => false.into(),
            0xc3 => true.into(),
            // Binary data is of no use to readers.
            0xc4..=0xc6 => self.skip(kind - 0xc4, 0)?,
            0xc7..=0xc9 => self.skip(kind - 0xc7, 1)?,
            0xca => f32::from_bits(self.number(4)? as u32).into(),
            0xcb => f64::from_bits(self.number(8)?).into(),
            0xcc..=0xcf => self.number(1 << (kind - 0xcc))?.into(),
            0xd0 => (self.number(1)? as i8).into(),
            0xd1 => (self.number(2)? as i16).into(),
            0xd2 => (self.number(4)? as i32).into(),
            0xd3 => (self.number(8)? as i64).into(),
            0xd4..=0xd8 => {
                self.bytes(1 + (1 << (kind - 0xd4)))?;
                Value::Null
            }
            0xd9..=0xdb => {
                let bytes = self.number(1 << (kind - 0xd9))?;
                self.text(bytes)?
            }
            0xdc | 0xdd => {
                let count = self.number(2 << (kind - 0xdc))?;
                self.list(count, depth)?
            }
            0xde | 0xdf => {
                let count = self.number(2 << (kind - 0xde))?;
                self.map(count, depth)?
            }
            0xe0..=0xff => (kind as i8).into(),
            0xc0 | 0xc1 => Value::Null,
        })
    }

    fn bytes(&mut self, count: usize) -> Option<&[u8]> {
        let (bytes, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(bytes)
    }

    /// A big-endian number of up to eight bytes.
    fn number(&mut self, bytes: usize) -> Option<u64> {
        let bytes = self.bytes(bytes)?;
        Some(bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)))
    }

    fn text(&mut self, bytes: u64) -> Option<Value> {
        let bytes = self.bytes(usize::try_from(bytes).ok()?)?;
        Some(String::from_utf8_lossy(bytes).into_owned().into())
    }

    /// Skips a byte string whose length has `1 << size` bytes, plus `more` bytes.
    fn skip(&mut self, size: u8, more: usize) -> Option<Value> {
        let count = usize::try_from(self.number(1 << size)?).ok()?;
        self.bytes(count.checked_add(more)?)?;
        Some(Value::Null)
    }

    fn list(&mut self, count: u64, depth: usize) -> Option<Value> {
        let mut list = Vec::new();
        for _ in 0..count {
            list.push(self.value(depth)?);
        }
        Some(list.into())
    }

    fn map(&mut self, count: u64, depth: usize) -> Option<Value> {
        let mut map = Map::new();
        for _ in 0..count {
            let key = self.value(depth)?;
            let value = self.value(depth)?;
            map.insert(plain(&key).unwrap_or_default(), value);
        }
        Some(map.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sent: &[(&str, &str)], event: &[u8], expected: &[(&str, &str)]) {
        let sent = sent.iter().map(|(k, v)| (k.to_string(), v.to_string()));
        let files = [(EVENT_PART.to_owned(), event.to_vec())];
        let found = annotations(&sent.collect(), &files);
        let expected: Vec<_> = expected
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn an_event_becomes_annotations() {
        check(
            &[],
            br#"{"release": "@a/b@1.2+3", "dist": 7, "environment": "qa", "event_id": "e1", "user": {"id": "u"},
                "tags": {"a": "1;2", "n": 3}, "contexts": {"os": {"name": "Linux"}}, "breadcrumbs": {"values": [{"message": "m"}]}}"#,
            &[
                ("ProductName", "@a/b"),
                ("Version", "1.2+3"),
                ("BuildID", "7"),
                ("Environment", "qa"),
                ("SentryEventId", "e1"),
                ("SentryUser", r#"{"id":"u"}"#),
                ("SentryContexts", r#"{"os":{"name":"Linux"}}"#),
                ("SentryTags", "a=1,2;n=3"),
                ("tag.a", "1;2"),
                ("tag.n", "3"),
                ("Breadcrumbs", r#"[{"message":"m"}]"#),
            ],
        );
    }

    #[test]
    fn a_form_with_brackets_or_json_says_the_same() {
        check(
            &[
                ("sentry[release]", "g@2"),
                ("sentry[tags][map]", "dust"),
                ("sentry[", "x"),
            ],
            b"",
            &[
                ("ProductName", "g"),
                ("Version", "2"),
                ("SentryTags", "map=dust"),
                ("tag.map", "dust"),
            ],
        );
        check(
            &[("sentry", r#"{"release": "3", "tags": [["map", "aztec"]]}"#)],
            b"",
            &[
                ("Version", "3"),
                ("SentryTags", "map=aztec"),
                ("tag.map", "aztec"),
            ],
        );
        // The application's own names take precedence.
        check(
            &[
                ("_productName", "App"),
                ("_version", "9"),
                ("sentry", r#"{"release": "g@2"}"#),
            ],
            b"",
            &[],
        );
        check(&[("guid", "1")], b"", &[]);
    }

    #[test]
    fn message_pack_is_read_and_what_is_broken_is_left_out() {
        let event = b"\x82\xa7release\xa5g@4.5\xa4tags\x81\xa1k\xcd\x01\x00";
        check(
            &[],
            event,
            &[
                ("ProductName", "g"),
                ("Version", "4.5"),
                ("SentryTags", "k=256"),
                ("tag.k", "256"),
            ],
        );
        for end in 0..event.len() {
            assert!(read(&event[..end]).is_empty(), "cut at {end}");
        }
        let two = read(b"\x81\xa1a\xcb\x3f\xf8\0\0\0\0\0\0\xc0\xd0\xff\xdf\xff\xff\xff\xff");
        assert_eq!(Value::from(two), serde_json::json!([{"a": 1.5}, null, -1]));
        assert!(read(&[0x91; 100_000]).is_empty(), "depth is bounded");
        assert!(read(&[&[0xdd, 0, 2, 0, 0][..], &[0xc0; 200_000]].concat()).is_empty());
        assert!(read(&[b"[".as_slice(), &b"[],".repeat(200_000)].concat()).is_empty());
    }
}
