//! Server-rendered pages, one file per page: parameters, view, markup.
//!
//! No page needs a script or loads anything from other sites. maud escapes text from clients, and [`shown`]
//! makes its invisible characters visible. A page contains markup and no colours; `style.css` defines the
//! colours.

pub(crate) mod accounts;
pub(crate) mod api;
pub(crate) mod bugs;
pub(crate) mod error;
pub(crate) mod group;
pub(crate) mod home;
pub(crate) mod login;
pub(crate) mod product;
pub(crate) mod report;
pub(crate) mod search;
pub(crate) mod signature;
pub(crate) mod signature_alike;
pub(crate) mod signature_explanation;
pub(crate) mod signature_lists;
pub(crate) mod signature_rule;
pub(crate) mod status;
pub(crate) mod symbols;
pub(crate) mod throttling;
pub(crate) mod topcrashers;
pub(crate) mod trends;
pub(crate) mod urls;

mod parts;

use std::borrow::Cow;

use maud::{DOCTYPE, Markup, html};
use serde_json::Value;
use xxhash_rust::const_xxh3::xxh3_64;

use crate::clock::Timestamp;
use crate::crash::text::is_hidden;

pub(crate) const STYLE: &str = include_str!("style.css");
pub(crate) const ICON: &str = include_str!("icon.svg");
/// Part of the URLs of both files, so that browsers may cache them without limit.
const ASSETS_HASH: u64 = xxh3_64(STYLE.as_bytes()) ^ xxh3_64(ICON.as_bytes());

/// The frame around every page.
struct Page<'a> {
    title: &'a str,
    /// Path of the menu entry that the page belongs to.
    section: &'a str,
    /// Text in the search box.
    query: &'a str,
    /// Seconds after which the browser reloads the page, if its content changes by itself.
    refresh_s: Option<u32>,
}

impl<'a> Page<'a> {
    fn new(title: &'a str, section: &'a str) -> Self {
        Self {
            title,
            section,
            query: "",
            refresh_s: None,
        }
    }

    fn render(&self, content: Markup) -> String {
        let menu = [
            ("/", "Home"),
            ("/topcrashers/", "Top crashers"),
            ("/trends/", "Trends"),
            ("/search/", "Search"),
            ("/symbols/", "Symbols"),
            ("/status/", "Status"),
            ("/account/", "Account"),
        ];
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    @if let Some(seconds) = self.refresh_s {
                        meta http-equiv="refresh" content=(seconds);
                    }
                    title { (shown(self.title)) " · crashkeep" }
                    link rel="stylesheet" href=(asset("style.css"));
                    link rel="icon" type="image/svg+xml" href=(asset("icon.svg"));
                }
                body {
                    header.bar {
                        a.mark href="/" { "crashkeep" }
                        nav aria-label="Main" {
                            @for (path, name) in menu {
                                @if path == self.section {
                                    a href=(path) aria-current="page" { (name) }
                                } @else {
                                    a href=(path) { (name) }
                                }
                            }
                        }
                        form role="search" action="/search/" {
                            input type="search" name="q" value=(self.query) aria-label="Search crashes"
                                placeholder="crash id, signature, function, module ...";
                        }
                    }
                    main { (content) }
                    footer {
                        span { "crashkeep " (env!("CARGO_PKG_VERSION")) }
                        a href="/api/" { "API" }
                        a href="/api/SuperSearchFields/" { "Fields" }
                        a href="/about/throttling/" { "How reports are throttled" }
                        a href="/signatures/" { "Signature lists" }
                        a href="/metrics" { "Metrics" }
                    }
                }
            }
        }
        .into_string()
    }
}

/// Changes the links, forms and assets of a page so that they are below `base` (`/crashes`) and not at the
/// root. Only our own markup contains such attributes, because maud escapes quotation marks in text.
pub fn below(base: &str, page: &[u8]) -> Vec<u8> {
    const ATTRIBUTES: [&[u8]; 4] = [
        b" href=\"/",
        b" action=\"/",
        b" formaction=\"/",
        b" src=\"/",
    ];
    let mut moved = Vec::with_capacity(page.len() + page.len() / 16);
    let mut rest = page;
    while let Some(at) = memchr::memmem::find(rest, b"=\"/") {
        let end = at + 3;
        let is_link = ATTRIBUTES
            .iter()
            .any(|attribute| rest[..end].ends_with(attribute));
        let is_elsewhere = rest.get(end) == Some(&b'/');
        moved.extend_from_slice(&rest[..end - 1]);
        if is_link && !is_elsewhere {
            moved.extend_from_slice(base.as_bytes());
        }
        moved.push(b'/');
        rest = &rest[end..];
    }
    moved.extend_from_slice(rest);
    moved
}

fn asset(name: &str) -> String {
    format!("/assets/{ASSETS_HASH:016x}/{name}")
}

/// Default limit for the characters of one text on a page.
const SHOWN_CHARS_MAX: usize = 1_000;

/// A text from outside, truncated to the limit. Characters that are invisible or change the direction of
/// text are replaced by their code points.
fn shown(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        None => shown_whole(text),
        Some((cut, _)) => Cow::Owned(format!("{}…", shown_whole(&text[..cut]))),
    }
}

/// The same without a limit. The caller must limit the text.
fn shown_whole(text: &str) -> Cow<'_, str> {
    let hidden = is_hidden;
    if !text.contains(hidden) {
        return Cow::Borrowed(text);
    }
    let mut visible = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if hidden(c) {
            visible.push_str(&format!("⟨U+{:04X}⟩", c as u32));
        } else {
            visible.push(c);
        }
    }
    Cow::Owned(visible)
}

/// A signature with its separators in a fainter style. A narrow column can break it between names.
fn signature(text: &str) -> Markup {
    html! {
        @for (i, part) in text.split(" | ").enumerate() {
            @if i > 0 { span.sep { " | " } }
            @for (i, word) in shown(part).split("::").enumerate() {
                @if i > 0 { "::" wbr; }
                (word)
            }
        }
    }
}

/// A search for exactly one value of a field.
fn search_for(field: &'static str, value: &str) -> String {
    parts::scope::Scope::default().with(field, value).search()
}

fn report_path(id: impl std::fmt::Display) -> String {
    format!("/report/index/{id}")
}

/// The path of a product's page.
fn product_path(product: &str) -> String {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    format!(
        "/home/product/{}",
        utf8_percent_encode(product, NON_ALPHANUMERIC)
    )
}

/// `22 Nov`, with the year if it differs.
fn day_text(day: Timestamp, now: Timestamp) -> String {
    let date = day.utc().date();
    let month = &date.month().to_string()[..3];
    if date.year() == now.utc().year() {
        format!("{} {month}", date.day())
    } else {
        format!("{} {month} {}", date.day(), date.year())
    }
}

/// `3 s`, `12 min`, `5 h`, `2 days`.
fn span_text(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn ago(at: Timestamp, now: Timestamp) -> Markup {
    html! { time datetime=(at.rfc3339()) title=(at.to_string()) { (span_text(now.ms_since(at))) " ago" } }
}

/// `512 B`, `19.7 KiB`, `1.0 GiB`.
fn bytes_text(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `1,312`.
fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 crash`, `2 crashes`.
fn counted(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(n), if n == 1 { one } else { many })
}

/// The value of a column as text for people.
fn text_of(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// `2026-11-22 09:12` for a time in RFC 3339.
fn minute(moment: &str) -> String {
    moment
        .get(..16)
        .map_or_else(|| moment.to_owned(), |text| text.replace('T', " "))
}

/// A share as a bar. It is drawn with attributes, because the page allows no inline style.
fn bar(part: u64, whole: u64) -> Markup {
    let share = (part * 100).checked_div(whole).unwrap_or(0).min(100);
    html! {
        svg.bars viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label={ (share) " %" } {
            rect.track width="100" height="8" {}
            rect.fill width=(share) height="8" {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        assert_eq!(
            (number(7), number(1312), number(1_000_000)),
            ("7".into(), "1,312".into(), "1,000,000".into())
        );
        assert_eq!(
            (bytes_text(512), bytes_text(20_160)),
            ("512 B".into(), "19.7 KiB".into())
        );
        assert_eq!(
            (span_text(3_999), span_text(720_000)),
            ("3 s".into(), "12 min".into())
        );
        assert_eq!(counted(1, "crash", "crashes"), "1 crash");
    }

    #[test]
    fn what_would_be_invisible_is_spelt_out() {
        assert_eq!(shown("plain ü"), "plain ü");
        assert_eq!(shown("a\u{202e}b\u{0}"), "a⟨U+202E⟩b⟨U+0000⟩");
        assert_eq!(
            shown(&"ü".repeat(5_000)).chars().count(),
            SHOWN_CHARS_MAX + 1
        );
    }

    #[test]
    fn a_title_hides_nothing_and_turns_nothing_around() {
        let page = Page::new("a\u{202e}b\u{7}", "").render(html! {});
        assert!(page.contains("<title>a⟨U+202E⟩b⟨U+0007⟩ · crashkeep</title>"));
    }

    #[test]
    fn texts_are_escaped_and_signatures_keep_their_words() {
        let markup = signature("<script>alert(1)</script> | b").into_string();
        assert_eq!(
            markup,
            "&lt;script&gt;alert(1)&lt;/script&gt;<span class=\"sep\"> | </span>b"
        );
        assert_eq!(signature("a::b").into_string(), "a::<wbr>b");
    }

    #[test]
    fn a_page_below_a_path_has_every_link_below_it() {
        let page = r#"<a href="/">x</a><form action="/login/"><a href="https://h/">y</a> value="/a" <a href="//h">"#;
        let moved = String::from_utf8(below("/crashes", page.as_bytes())).expect("text");
        assert_eq!(
            moved,
            r#"<a href="/crashes/">x</a><form action="/crashes/login/"><a href="https://h/">y</a> value="/a" <a href="//h">"#
        );
    }

    #[test]
    fn a_search_link_carries_its_value_encoded() {
        assert_eq!(
            search_for("signature", "a | b&c"),
            "/search/?signature=%3Da+%7C+b%26c"
        );
    }
}
