//! Templates of URLs that file a new bug in a tracker, such as
//! `https://bugs.example.org/enter_bug.cgi?short_desc={title}&comment={description}`.
//!
//! A word in braces is a placeholder for a value of the crash, which is percent-encoded. `{{` and `}}` are
//! literal braces. The host must be literal, because data from clients must not decide where a link leads.

use std::fmt;
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::reference;

/// All characters except those that RFC 3986 permits everywhere.
const QUOTED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

macro_rules! placeholders {
    ($( #[doc = $doc:literal] $name:ident; )*) => {
        /// The values of the placeholders, not encoded.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Values {
            $( #[doc = $doc] pub(crate) $name: String, )*
        }

        impl Values {
            fn get(&self, placeholder: &str) -> &str {
                match placeholder {
                    $( stringify!($name) => &self.$name, )*
                    _ => "",
                }
            }
        }

        /// The names of all placeholders.
        pub(crate) const PLACEHOLDERS: &[&str] = &[$( stringify!($name) ),*];
    };
}

placeholders! {
    /// Only the signature.
    signature;
    /// `Crash in [@ signature]`, of at most 255 characters.
    title;
    /// A description of the crash: URL, reason, stack.
    description;
    /// The product's name.
    product;
    /// The product's version.
    version;
    /// The product's build.
    build_id;
    /// The operating system, such as `Windows NT`.
    platform;
    /// The operating system as in Bugzilla's list, such as `Windows 11`.
    op_sys;
    /// The processor's architecture, such as `amd64`.
    rep_platform;
    /// Exception or signal.
    reason;
    /// The address in the exception.
    address;
    /// URL of the report.
    crash_url;
    /// URL of the page of the signature.
    signature_url;
    /// The crash id.
    uuid;
    /// The innermost frames, one per line.
    stack;
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Placeholder(&'static str),
}

/// A URL with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlTemplate(Vec<Piece>);

impl FromStr for UrlTemplate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                plain.push_str(brace);
                rest = after;
                continue;
            }
            let name = rest.find(['{', '}']).map(|end| rest.split_at(end));
            let (name, after) = match name {
                Some((name, after)) if brace == "{" && after.starts_with('}') => {
                    (name, &after[1..])
                }
                _ => {
                    return Err(format!(
                        "unmatched {brace} at {:?}; write {brace}{brace} for a literal brace",
                        beginning(&text[text.len() - rest.len() - 1..])
                    ));
                }
            };
            let Some(placeholder) = PLACEHOLDERS.iter().find(|known| **known == name) else {
                let known = PLACEHOLDERS.join("}, {");
                return Err(format!(
                    "unknown placeholder {{{name}}}; accepted: {{{known}}}"
                ));
            };
            if pieces.is_empty() {
                check_start(&plain)?;
            }
            pieces.push(Piece::Text(std::mem::take(&mut plain)));
            pieces.push(Piece::Placeholder(placeholder));
            rest = after;
        }
        plain.push_str(rest);
        pieces.push(Piece::Text(plain));
        pieces.retain(|piece| *piece != Piece::Text(String::new()));
        let template = Self(pieces);
        reference::split(&template.fill(&Values::default()))?;
        Ok(template)
    }
}

/// The text before the first placeholder must contain the complete host.
fn check_start(plain: &str) -> Result<(), String> {
    let (_, path) = reference::split(plain)?;
    if path.is_empty() {
        Err(format!(
            "there is a placeholder in the host after {plain:?}; write the scheme and the host without placeholders"
        ))
    } else {
        Ok(())
    }
}

fn beginning(text: &str) -> String {
    text.chars().take(20).collect()
}

impl fmt::Display for UrlTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => {
                    f.write_str(&text.replace('{', "{{").replace('}', "}}"))?;
                }
                Piece::Placeholder(name) => write!(f, "{{{name}}}")?,
            }
        }
        Ok(())
    }
}

impl UrlTemplate {
    /// The URL for a crash.
    pub fn fill(&self, values: &Values) -> String {
        let mut url = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => url.push_str(text),
                Piece::Placeholder(name) => {
                    url.extend(utf8_percent_encode(values.get(name), QUOTED));
                }
            }
        }
        url
    }
}

/// An entry of `[[bug_template]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// Text of the link.
    pub(crate) name: String,
    /// The product whose crashes have the link; empty for all.
    pub(crate) product: String,
    pub(crate) url: UrlTemplate,
}

impl Template {
    pub(crate) fn fits(&self, product: &str) -> bool {
        self.product.is_empty() || self.product == product
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(template: &str, values: &Values) -> String {
        let parsed: UrlTemplate = template.parse().expect(template);
        assert_eq!(parsed.to_string(), template, "it prints as it was written");
        parsed.fill(values)
    }

    #[test]
    fn values_are_quoted_and_doubled_braces_are_braces() {
        let values = Values {
            title: "Crash in [@ a<b> | c&d=ü]".into(),
            stack: "0 x\n1 {uuid}".into(),
            ..Values::default()
        };
        assert_eq!(
            filled("https://h.example/new?{{x}}&title={title}", &values),
            "https://h.example/new?{x}&title=Crash%20in%20%5B%40%20a%3Cb%3E%20%7C%20c%26d%3D%C3%BC%5D"
        );
        assert_eq!(
            filled("http://h:8080/{stack}{version}{{", &values),
            "http://h:8080/0%20x%0A1%20%7Buuid%7D{"
        );
        assert_eq!(filled("https://h/new", &values), "https://h/new");
    }

    #[test]
    fn every_placeholder_has_its_value() {
        for name in PLACEHOLDERS {
            let parsed: UrlTemplate = format!("https://h/{{{name}}}").parse().expect(name);
            assert_eq!(parsed.fill(&Values::default()), "https://h/", "{name}");
        }
        let values = Values {
            uuid: "u".into(),
            rep_platform: "amd64".into(),
            ..Values::default()
        };
        assert_eq!(
            filled("https://h/{uuid}/{rep_platform}", &values),
            "https://h/u/amd64"
        );
    }

    #[test]
    fn a_template_that_cannot_be_filled_is_refused() {
        fn refused(template: &str, why: &str) {
            let error = template.parse::<UrlTemplate>().expect_err(template);
            assert!(error.contains(why), "{error}");
        }
        refused(
            "https://h/{titel}",
            "unknown placeholder {titel}; accepted: {signature}, {title}",
        );
        refused("https://h/{titel}", "{stack}");
        refused("https://h/{}", "unknown placeholder {}");
        refused("https://h/{title", "unmatched { at \"{title\"");
        refused("https://h/title}x", "unmatched } at \"}x\"");
        refused("https://h/{a{title}", "unmatched { at \"{a{title}\"");
        refused("https://h/{{title}", "unmatched }");
        refused("https://h/{title} x", "a space");
        refused(
            &format!("https://h/{}", "a".repeat(2_000)),
            "the limit is 2000",
        );
        refused("ftp://h/{title}", "does not begin with https://");
        refused("", "does not begin with https://");
        refused("{title}", "does not begin with https://");
        refused("https://{product}.example/", "has no host");
        refused("https://h{product}/", "there is a placeholder in the host");
        refused("https://user@h/{title}", "more than a host");
    }
}
