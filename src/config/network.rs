//! Values about the network: addresses to listen on, URLs, origins, paths, proxies.

use toml::de::DeValue;

use super::value::{Value, print_words, words};
use crate::addresses::{Listen, PublicUrl, TrustedProxies};
use crate::bugs::reference;

impl Value for Listen {
    const FORM: &'static str = "an address and port such as \"127.0.0.1:8000\" or \"[::1]:8000\", or \"unix:/run/crashkeep.sock\"";

    fn read(value: &DeValue) -> Option<Self> {
        value.as_str()?.parse().ok()
    }

    fn print(&self) -> String {
        self.to_string().print()
    }
}

/// The address of an optional listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaybeListen(pub(crate) Option<Listen>);

impl Value for MaybeListen {
    const FORM: &'static str = "an address and port such as \"0.0.0.0:8001\", or \"\" for none";

    fn read(value: &DeValue) -> Option<Self> {
        match value.as_str()? {
            "" => Some(Self(None)),
            text => text.parse().ok().map(|listen| Self(Some(listen))),
        }
    }

    fn print(&self) -> String {
        let text = self.0.as_ref().map(Listen::to_string);
        text.unwrap_or_default().print()
    }
}

/// The listeners that use TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsFor {
    pub(crate) listen: bool,
    pub(crate) collector_listen: bool,
}

impl Value for TlsFor {
    const FORM: &'static str =
        "\"listen\", \"collector_listen\" or both, with a space between them";

    fn read(value: &DeValue) -> Option<Self> {
        let mut read = Self {
            listen: false,
            collector_listen: false,
        };
        for word in words(value)? {
            match word {
                "listen" => read.listen = true,
                "collector_listen" => read.collector_listen = true,
                _ => return None,
            }
        }
        (read.listen || read.collector_listen).then_some(read)
    }

    fn print(&self) -> String {
        let named = [
            ("listen", self.listen),
            ("collector_listen", self.collector_listen),
        ];
        let names = named
            .iter()
            .filter(|(_, used)| *used)
            .map(|(name, _)| *name);
        names.collect::<Vec<_>>().join(" ").print()
    }
}

impl Value for PublicUrl {
    const FORM: &'static str = "an address such as \"https://crashes.example.org\" or \"https://example.org/crashes\", or \"\"";

    fn read(value: &DeValue) -> Option<Self> {
        value.as_str()?.parse().ok()
    }

    fn print(&self) -> String {
        self.as_str().to_owned().print()
    }
}

impl Value for TrustedProxies {
    const FORM: &'static str =
        "addresses or networks such as \"127.0.0.1 10.0.0.0/8\", \"unix\", or \"\" for none";

    fn read(value: &DeValue) -> Option<Self> {
        Self::read(words(value)?)
    }

    fn print(&self) -> String {
        self.to_string().print()
    }
}

/// URL of a tracker without a trailing slash; empty for none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackerUrl(pub(crate) String);

impl Value for TrackerUrl {
    const FORM: &'static str =
        "an address such as \"https://bugs.example.org\" (no query, no password), or \"\" for none";

    fn read(value: &DeValue) -> Option<Self> {
        let text = value.as_str()?.trim_end_matches('/');
        let ok = reference::split(text).is_ok_and(|(_, path)| !path.contains(['?', '#']));
        (text.is_empty() || ok).then(|| Self(text.to_owned()))
    }

    fn print(&self) -> String {
        self.0.print()
    }
}

/// Scheme, host and port of URLs, without a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origins(pub(crate) Vec<String>);

impl Value for Origins {
    const FORM: &'static str =
        "origins such as \"https://builds.example.org\" between spaces, or \"\" for none";

    fn read(value: &DeValue) -> Option<Self> {
        let words = value.as_str()?.split_whitespace();
        let origins = words.map(|text| {
            let text = text.trim_end_matches('/');
            let (_, path) = reference::split(text).ok()?;
            path.trim_matches('/').is_empty().then(|| text.to_owned())
        });
        origins.collect::<Option<Vec<String>>>().map(Self)
    }

    fn print(&self) -> String {
        self.0.join(" ").print()
    }
}

/// Paths on this server, without a trailing slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths(pub(crate) Vec<String>);

impl Value for Paths {
    const FORM: &'static str =
        "a list of paths such as [\"/post\", \"/cr/report\"], without a query";

    fn read(value: &DeValue) -> Option<Self> {
        let is_path = |path: &str| {
            let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._~".contains(&b);
            path.len() > 1
                && path.starts_with('/')
                && path.bytes().all(is_plain)
                && !path.contains("//")
                && !path.split('/').any(|segment| matches!(segment, "." | ".."))
        };
        words(value)?
            .into_iter()
            .map(|path| {
                let path = path.trim_end_matches('/');
                is_path(path).then(|| path.to_owned())
            })
            .collect::<Option<Vec<String>>>()
            .map(Self)
    }

    fn print(&self) -> String {
        print_words(&self.0)
    }
}

/// Origins of other sites, or `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorsOrigins(pub(crate) Vec<String>);

impl CorsOrigins {
    /// True if pages of this origin are allowed.
    pub(crate) fn allow(&self, origin: &str) -> bool {
        self.0
            .iter()
            .any(|known| known == "*" || known.eq_ignore_ascii_case(origin))
    }
}

impl Value for CorsOrigins {
    const FORM: &'static str =
        "a list of origins such as [\"https://profiler.firefox.com\"], or [\"*\"] for every one";

    fn read(value: &DeValue) -> Option<Self> {
        words(value)?
            .into_iter()
            .map(|origin| {
                let origin = origin.trim_end_matches('/');
                let is_origin = origin == "*"
                    || reference::split(origin).is_ok_and(|(_, path)| path.is_empty());
                is_origin.then(|| origin.to_owned())
            })
            .collect::<Option<Vec<String>>>()
            .map(Self)
    }

    fn print(&self) -> String {
        print_words(&self.0)
    }
}
