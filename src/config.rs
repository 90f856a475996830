//! The configuration: one list of settings. Parsing, defaults and `config print` derive from it. A test
//! checks that the commented `appliance.toml` contains the same settings and defaults.
//!
//! An unknown key or an invalid value is refused. The error names the file, the line, and what is accepted.
//! Otherwise a misspelt limit would silently become no limit.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::addresses::{Listen, PublicUrl, TrustedProxies};
use crate::bugs::reference;
use crate::bugs::template::Template;
use crate::fields::site::{self, SiteField};
use crate::fields::{self, Kind};
use crate::symbol_source::{SourceKind, SymbolSource};
use crate::throttle::{Op, Outcome, Rule};

/// Where the value of a setting came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Default,
    File {
        name: String,
        line: usize,
    },
    /// An option of the command line.
    Option(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { name, line } => write!(f, "{name}:{line}"),
            Self::Option(option) => f.write_str(option),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Setting<T> {
    pub value: T,
    pub source: Source,
}

impl<T> std::ops::Deref for Setting<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

/// A type of setting: how to read it from TOML and print it as TOML.
trait Value: Sized {
    /// The accepted form, for error texts: "a size such as \"100 MiB\"".
    const FORM: &'static str;
    fn read(value: &DeValue) -> Option<Self>;
    fn print(&self) -> String;
}

/// A type of table that can occur many times, as `[[name]]`.
trait Entry: Sized {
    /// The name of such a table in error texts: "a throttle rule".
    const WHAT: &'static str;
    const KEYS: &'static [&'static str];
    fn read(found: &Found) -> Result<Self, ConfigError>;
    /// Checks the entries against each other. An error says which entry is wrong and why.
    fn check(_all: &[Self]) -> Result<(), (usize, String)> {
        Ok(())
    }
    /// Its keys and values, one per line.
    fn print(&self) -> String;
}

/// One setting per line. `at_start` marks settings that are read only when the server starts.
macro_rules! settings {
    (@fixed) => { false };
    (@fixed at_start) => { true };
    ($( $(#[$section_doc:meta])* $section:ident: $Struct:ident {
        $( $(#[doc = $doc:literal])+ $key:ident: $type:ty = $default:expr $(, $fixed:ident)?; )*
    } )*
    @lists $( $(#[$list_doc:meta])* $list:ident: $Entry:ty; )*) => {
        $(
            $(#[$section_doc])*
            #[derive(Clone, Debug)]
            pub struct $Struct {
                $( $(#[doc = $doc])+ pub $key: Setting<$type>, )*
            }
        )*

        /// The effective configuration.
        #[derive(Clone, Debug)]
        pub struct Config {
            $( pub $section: $Struct, )*
            $( $(#[$list_doc])* pub $list: Setting<Vec<$Entry>>, )*
        }

        impl Default for Config {
            fn default() -> Self {
                Self {
                    $( $section: $Struct {
                        $( $key: Setting { value: $default, source: Source::Default }, )*
                    }, )*
                    $( $list: Setting { value: Vec::new(), source: Source::Default }, )*
                }
            }
        }

        impl Config {
            fn set(
                &mut self,
                file: &File,
                section: &str,
                key: &str,
                value: &Spanned<DeValue>,
            ) -> Result<(), ConfigError> {
                match (section, key) {
                    $($( (stringify!($section), stringify!($key)) => {
                        let read = <$type as Value>::read(value.get_ref());
                        let read = read.ok_or_else(|| {
                            let name = concat!("[", stringify!($section), "] ", stringify!($key));
                            file.error(value, format!("{name} must be {}", <$type as Value>::FORM))
                        })?;
                        self.$section.$key = Setting { value: read, source: file.source(value) };
                    } )*)*
                    _ => return Err(file.error(value, format!(
                        "[{section}] has no key {key:?}; known: {}", Self::known(section).join(", ")
                    ))),
                }
                Ok(())
            }

            fn set_list(
                &mut self,
                file: &File,
                name: &str,
                content: &Spanned<DeValue>,
            ) -> Result<(), ConfigError> {
                match name {
                    $( stringify!($list) => {
                        self.$list = Setting {
                            value: read_list(file, stringify!($list), content)?,
                            source: file.source(content),
                        };
                    } )*
                    _ => return Err(file.error(content, format!("there is no list [[{name}]]"))),
                }
                Ok(())
            }

            fn known(section: &str) -> Vec<&'static str> {
                match section {
                    $( stringify!($section) => vec![$( stringify!($key) ),*], )*
                    _ => Vec::new(),
                }
            }

            const SECTIONS: &'static [&'static str] = &[$( stringify!($section) ),*];
            const LISTS: &'static [&'static str] = &[$( stringify!($list) ),*];

            /// All settings: section, key, value as TOML, and the source of the value.
            pub fn entries(&self) -> Vec<(&'static str, &'static str, String, &Source)> {
                vec![$($( (
                    stringify!($section),
                    stringify!($key),
                    self.$section.$key.value.print(),
                    &self.$section.$key.source,
                ), )*)*]
            }

            /// Keeps the values of `running` for settings that cannot change while the server runs. Returns
            /// the names of those settings whose new value differs.
            pub fn keep_started(&mut self, running: &Config) -> Vec<String> {
                let mut waiting = Vec::new();
                $($( if settings!(@fixed $($fixed)?) {
                    let (now, then) = (&mut self.$section.$key, &running.$section.$key);
                    if now.value.print() != then.value.print() {
                        waiting.push(concat!("[", stringify!($section), "] ", stringify!($key)).to_owned());
                        *now = then.clone();
                    }
                } )*)*
                waiting
            }

            /// All entries of all lists: name of the list, the entry as TOML, and its source.
            pub fn list_entries(&self) -> Vec<(&'static str, String, &Source)> {
                let mut entries = Vec::new();
                $(
                    let printed = self.$list.value.iter().map(Entry::print);
                    entries.extend(printed.map(|text| (stringify!($list), text, &self.$list.source)));
                )*
                entries
            }
        }
    };
}

settings! {
    /// `[http]`: what the server listens on and how much it accepts.
    http: Http {
        /// Address and port to bind, or `unix:/path`. On an address other than loopback the server serves
        /// only the collector and the health URLs until an account exists.
        listen: Listen = Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 8000))), at_start;
        /// The URL under which users reach the pages; it may have a path. Adds a ViewURL line to the
        /// collector's answer, and is used in links that leave the server.
        public_url: PublicUrl = PublicUrl::default();
        /// Proxies whose X-Forwarded-For names the client: addresses, networks, and `unix` for every peer on
        /// our Unix socket.
        trusted_proxies: TrustedProxies = TrustedProxies::default();
        /// A second address that accepts only crash reports, for clients that cannot use a proxy; empty for
        /// none.
        collector_listen: MaybeListen = MaybeListen(None), at_start;
        /// A certificate with its chain in PEM form; empty for no TLS. SIGHUP reads it again.
        tls_certificate: String = String::new();
        /// The private key of that certificate.
        tls_key: String = String::new();
        /// The listeners that use TLS if there is a certificate.
        tls_for: TlsFor = TlsFor { listen: true, collector_listen: true }, at_start;
        /// Whether to ask search engines not to index the pages.
        noindex: bool = true;
        /// Maximum size of the body of a report as received.
        report_bytes_max: Size = Size(100 << 20);
        /// Maximum size of the body of a report after decompression.
        inflated_bytes_max: Size = Size(200 << 20);
        /// Maximum compression ratio of a body, not counting its first MiB.
        ratio_max: u32 = 200;
        /// Further paths that accept reports like /submit, for clients whose address cannot change.
        submit_paths: Paths = Paths(Vec::new());
        /// Origins whose pages may read symbols and /symbolicate/v5 in a browser; "*" means every origin.
        cors_origins: CorsOrigins = CorsOrigins(Vec::new());
    }
    /// `[access]`: who may read, and how often.
    access: Access {
        /// Whether everybody may read public fields without a token once an account exists.
        public_read: bool = false;
        /// Requests per minute and token.
        requests_per_minute: u32 = 1_000;
        /// Requests per minute and address without a token.
        anonymous_per_minute: u32 = 100;
        /// Wrong tokens per minute and address. Above that, tokens from the address are refused unchecked,
        /// except those that were right before.
        failed_logins_per_minute: u32 = 20;
    }
    /// `[deferred]`: reports that a throttle rule deferred.
    deferred: Deferred {
        /// Days for which a deferred report is kept.
        keep_days: Days = Days(7);
        /// Whether opening the page of a deferred report processes it. Otherwise a user with the right to
        /// reprocess must request it.
        process_on_view: bool = false;
    }
    /// `[installations]`: how installations of a product are told apart and counted.
    installations: Installations {
        /// Annotation names, separated by spaces. The first one that a report has identifies the
        /// installation.
        told_by: Keys = Keys(fields::INSTALLATION_KEYS.map(str::to_owned).to_vec()), at_start;
    }
    /// `[retention]`: how long crashes are kept after receipt.
    retention: RetentionSettings {
        /// Days for which a processed crash is kept.
        processed_days: Days = Days(180);
        /// Days for which a failed crash is kept.
        failed_days: Days = Days(30);
        /// Days for which symbols are kept after the last walk that used them; 0 means no limit.
        symbols_unused_days: u32 = 0;
        /// Days for which symbols are kept after their upload, used or not; 0 means no limit.
        symbols_days: u32 = 0;
    }
    /// `[workers]`: the pool that walks dumps.
    workers: Workers {
        /// Worker threads, each with its own walker process; 0 means one per CPU core.
        count: u32 = 0, at_start;
        /// Time limit per dump, not counting time spent waiting for a CPU. A quarter of it may be CPU time.
        walk_deadline: Span = Span(Duration::from_secs(60)), at_start;
    }
    /// `[signature]`: how signatures are computed.
    signature: Signature {
        /// `crashkeep`, or `socorro` for the same signatures as Mozilla's.
        ruleset: RulesetName = RulesetName("crashkeep"), at_start;
    }
    /// `[store]`: the embedded database.
    store: StoreSettings {
        /// Memory for its page cache.
        cache_bytes: Size = Size(64 << 20), at_start;
    }
    /// `[symbols]`: the files that map addresses to functions.
    symbols: Symbols {
        /// Symbols that each walker keeps open, in bytes of their mapped files.
        map_bytes: Size = Size(256 << 20), at_start;
        /// Maximum number of mapped files that each walker keeps open.
        maps_max: u32 = 1024, at_start;
        /// Maximum size of an upload of symbols as received.
        upload_bytes_max: Size = Size(2 << 30);
        /// Maximum size of one upload of symbols after unpacking; http.ratio_max applies, too.
        inflated_bytes_max: Size = Size(8 << 30);
        /// Memory limit for converting one program or debug file; a small one gets less.
        convert_bytes_max: Size = Size(8 << 30), at_start;
        /// Time limit (wall clock) for converting one file; a small one gets less.
        convert_deadline: Span = Span(Duration::from_secs(15 * 60)), at_start;
        /// Maximum size of a file that is fetched from a symbol source, or from a URL that an upload names.
        fetch_bytes_max: Size = Size(2 << 30), at_start;
        /// Time limit (wall clock) for fetching one file.
        fetch_deadline: Span = Span(Duration::from_secs(120)), at_start;
        /// How long a source that did not have a module is not asked for it again.
        miss_kept: Span = Span(Duration::from_secs(24 * 60 * 60)), at_start;
        /// Origins such as "https://builds.example.org", separated by spaces, from which an upload may have
        /// its zip fetched; empty for none.
        fetch_from: Origins = Origins(Vec::new());
    }
    /// `[bugzilla]`: the one bug tracker that the server polls, if any.
    bugzilla: Bugzilla {
        /// URL of the tracker; empty for none. Then the server never opens a connection to a tracker.
        url: TrackerUrl = TrackerUrl(String::new()), at_start;
        /// Time between two passes.
        every: Span = Span(Duration::from_secs(60 * 60)), at_start;
    }
    @lists
    /// `[[throttle]]`, in order.
    throttle: Rule;
    /// `[[bug_template]]`, in order.
    bug_template: Template;
    /// `[[symbol_source]]`, in order.
    symbol_source: SymbolSource;
    /// `[[fields]]`, in order; read when the server starts.
    fields: SiteField;
}

/// A number of bytes, written as a number or with a unit: `"100 MiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

const SIZE_UNITS: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) = SIZE_UNITS
            .into_iter()
            .find(|(_, n)| self.0 >= *n && self.0.is_multiple_of(*n))
            .unwrap_or(("B", 1));
        write!(f, "{} {unit}", self.0 / factor)
    }
}

/// A number and a unit, such as `60 s`.
fn quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = units.iter().find(|(name, _)| *name == unit.trim())?.1;
    number
        .parse::<u64>()
        .ok()?
        .checked_mul(factor)
        .filter(|n| *n > 0)
}

impl Value for Size {
    const FORM: &'static str =
        "a size such as \"100 MiB\", \"512 KiB\" or a number of bytes, at least 1";

    fn read(value: &DeValue) -> Option<Self> {
        match value {
            DeValue::String(text) => quantity(text, &SIZE_UNITS).map(Size),
            DeValue::Integer(n) => integer(n).filter(|n| *n > 0).map(Size),
            _ => None,
        }
    }

    fn print(&self) -> String {
        format!("\"{self}\"")
    }
}

/// A length of time, written with a unit: `"60 s"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

const SPAN_UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1)];

impl Value for Span {
    const FORM: &'static str = "a time such as \"60 s\", \"2 min\" or \"500 ms\", at least 1 ms";

    fn read(value: &DeValue) -> Option<Self> {
        quantity(value.as_str()?, &SPAN_UNITS).map(|ms| Span(Duration::from_millis(ms)))
    }

    fn print(&self) -> String {
        let ms = self.0.as_millis() as u64;
        let (unit, factor) = SPAN_UNITS
            .into_iter()
            .find(|(_, n)| ms >= *n && ms.is_multiple_of(*n))
            .unwrap_or(("ms", 1));
        format!("\"{} {unit}\"", ms / factor)
    }
}

/// A number of days, 1 or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Days(pub u32);

impl Value for Days {
    const FORM: &'static str = "a whole number of days, 1 to 36500";

    fn read(value: &DeValue) -> Option<Self> {
        u32::read(value)
            .filter(|days| (1..=36_500).contains(days))
            .map(Days)
    }

    fn print(&self) -> String {
        self.0.to_string()
    }
}

/// The name of a ruleset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RulesetName(pub &'static str);

impl Value for RulesetName {
    const FORM: &'static str = "\"crashkeep\" or \"socorro\"";

    fn read(value: &DeValue) -> Option<Self> {
        let found = value.as_str()?;
        ["crashkeep", "socorro"]
            .into_iter()
            .find(|name| *name == found)
            .map(RulesetName)
    }

    fn print(&self) -> String {
        format!("\"{}\"", self.0)
    }
}

/// URL of a tracker without a trailing slash; empty for none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackerUrl(pub String);

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
pub struct Origins(pub Vec<String>);

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

/// Names of annotations, written as a list or separated by spaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys(pub Vec<String>);

impl Value for Keys {
    const FORM: &'static str = "names of annotations such as \"InstallTime guid\" between spaces";

    fn read(value: &DeValue) -> Option<Self> {
        let names = words(value)?.into_iter();
        let names: Vec<String> = names.map(str::to_owned).collect();
        let is_plain = |name: &String| !name.contains(char::is_control);
        names.iter().all(is_plain).then_some(Self(names))
    }

    fn print(&self) -> String {
        self.0.join(" ").print()
    }
}

fn print_words(words: &[String]) -> String {
    let printed: Vec<String> = words.iter().map(Value::print).collect();
    format!("[{}]", printed.join(", "))
}

/// Paths on this server, without a trailing slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths(pub Vec<String>);

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
pub struct CorsOrigins(pub Vec<String>);

impl CorsOrigins {
    /// True if pages of this origin are allowed.
    pub fn allow(&self, origin: &str) -> bool {
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
pub struct MaybeListen(pub Option<Listen>);

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
    pub listen: bool,
    pub collector_listen: bool,
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

/// The words of a string, separated by spaces or commas, or the strings of a list.
fn words<'a>(value: &'a DeValue) -> Option<Vec<&'a str>> {
    match value {
        DeValue::String(text) => {
            let words = text.split([' ', ',']);
            Some(words.filter(|word| !word.is_empty()).collect())
        }
        DeValue::Array(texts) => texts.iter().map(|text| text.get_ref().as_str()).collect(),
        _ => None,
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

impl Value for String {
    const FORM: &'static str = "a text, without control characters";

    fn read(value: &DeValue) -> Option<Self> {
        value
            .as_str()
            .filter(|t| !t.contains(char::is_control))
            .map(str::to_owned)
    }

    fn print(&self) -> String {
        format!("\"{}\"", self.replace('\\', "\\\\").replace('"', "\\\""))
    }
}

impl Value for bool {
    const FORM: &'static str = "true or false";

    fn read(value: &DeValue) -> Option<Self> {
        match value {
            DeValue::Boolean(value) => Some(*value),
            _ => None,
        }
    }

    fn print(&self) -> String {
        self.to_string()
    }
}

impl Value for u32 {
    const FORM: &'static str = "a whole number, 0 or more";

    fn read(value: &DeValue) -> Option<Self> {
        integer(value.as_integer()?).and_then(|n| n.try_into().ok())
    }

    fn print(&self) -> String {
        self.to_string()
    }
}

fn integer(n: &toml::de::DeInteger) -> Option<u64> {
    u64::from_str_radix(n.as_str(), n.radix()).ok()
}

/// The configuration is invalid. The message names the file and line, and what is accepted.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

struct File<'a> {
    name: &'a str,
    text: &'a str,
}

impl File<'_> {
    fn line<T>(&self, at: &Spanned<T>) -> usize {
        self.text[..at.span().start.min(self.text.len())]
            .matches('\n')
            .count()
            + 1
    }

    fn source<T>(&self, at: &Spanned<T>) -> Source {
        Source::File {
            name: self.name.to_owned(),
            line: self.line(at),
        }
    }

    fn error<T>(&self, at: &Spanned<T>, message: String) -> ConfigError {
        ConfigError(format!("{}:{}: {message}", self.name, self.line(at)))
    }
}

impl Config {
    /// Reads a file and applies it over the defaults.
    ///
    /// # Errors
    /// The file is invalid, cannot be read, or is missing although it is `required`.
    pub fn load(path: &Path, required: bool) -> Result<Self, ConfigError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&path.display().to_string(), &text),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !required => Ok(Self::default()),
            Err(e) => Err(ConfigError(format!("{}: {e}", path.display()))),
        }
    }

    /// Reads a text and applies it over the defaults. Errors and sources name the text `name`.
    pub fn parse(name: &str, text: &str) -> Result<Self, ConfigError> {
        let file = File { name, text };
        let table = DeTable::parse(text)
            .map_err(|e| ConfigError(format!("{name}: {}", e.to_string().trim())))?;
        let mut config = Self::default();
        for (section, content) in table.get_ref() {
            match (section.get_ref().as_ref(), content.get_ref()) {
                (list, _) if Self::LISTS.contains(&list) => {
                    config.set_list(&file, list, content)?;
                }
                (known, DeValue::Table(keys)) if Self::SECTIONS.contains(&known) => {
                    for (key, value) in keys {
                        config.set(&file, known, key.get_ref(), value)?;
                    }
                }
                (unknown, _) => {
                    let message = format!(
                        "there is no section [{unknown}]; known: {}",
                        Self::section_names()
                    );
                    return Err(file.error(section, message));
                }
            }
        }
        Ok(config)
    }

    fn section_names() -> String {
        let sections = Self::SECTIONS.iter().map(|name| format!("[{name}]"));
        let lists = Self::LISTS.iter().map(|name| format!("[[{name}]]"));
        sections.chain(lists).collect::<Vec<_>>().join(", ")
    }
}

/// One table of a list in the file. Its keys are known to be valid.
struct Found<'a> {
    file: &'a File<'a>,
    list: &'a str,
    at: &'a Spanned<DeValue<'a>>,
    table: &'a DeTable<'a>,
}

impl<'a> Found<'a> {
    fn value(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table
            .iter()
            .find(|(found, _)| found.get_ref().as_ref() == key)
            .map(|(_, value)| value)
    }

    /// The string of a key; empty if the key is missing.
    fn text(&self, key: &str) -> Result<String, ConfigError> {
        let Some(value) = self.value(key) else {
            return Ok(String::new());
        };
        <String as Value>::read(value.get_ref())
            .ok_or_else(|| self.refused(value, key, format!("must be {}", String::FORM)))
    }

    /// The parsed string of a key; `None` if the key is missing.
    fn parsed<T: FromStr<Err: fmt::Display>>(&self, key: &str) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        let parsed = self.text(key)?.parse();
        parsed
            .map(Some)
            .map_err(|e| self.refused(value, key, format!("cannot be used: {e}")))
    }

    fn refused(&self, value: &Spanned<DeValue>, key: &str, why: String) -> ConfigError {
        self.file
            .error(value, format!("[[{}]] {key} {why}", self.list))
    }

    /// An error about the whole table.
    fn error(&self, why: &str) -> ConfigError {
        self.file.error(self.at, format!("[[{}]] {why}", self.list))
    }
}

fn read_list<T: Entry>(
    file: &File,
    list: &str,
    content: &Spanned<DeValue>,
) -> Result<Vec<T>, ConfigError> {
    let DeValue::Array(entries) = content.get_ref() else {
        let message = format!("{list} must be written as [[{list}]], once for {}", T::WHAT);
        return Err(file.error(content, message));
    };
    let mut read = Vec::new();
    for at in entries.iter() {
        let keys = T::KEYS.join(", ");
        let Some(table) = at.get_ref().as_table() else {
            return Err(file.error(at, format!("{} is a table of {keys}", T::WHAT)));
        };
        for (key, value) in table {
            if !T::KEYS.contains(&key.get_ref().as_ref()) {
                let key = key.get_ref();
                let message = format!("[[{list}]] has no key {key:?}; known: {keys}");
                return Err(file.error(value, message));
            }
        }
        read.push(T::read(&Found {
            file,
            list,
            at,
            table,
        })?);
    }
    T::check(&read).map_err(|(at, why)| {
        let entry = entries.get(at).unwrap_or(content);
        file.error(entry, format!("[[{list}]] {why}"))
    })?;
    Ok(read)
}

impl Entry for Rule {
    const WHAT: &'static str = "a throttle rule";
    const KEYS: &'static [&'static str] = &["name", "field", "op", "value", "percent", "outcome"];

    fn read(found: &Found) -> Result<Self, ConfigError> {
        let name = found.text("name")?;
        let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        if name.is_empty() || !name.bytes().all(is_plain) {
            return Err(found.error("name must be of a-z, 0-9 and _"));
        }
        let field = found.text("field")?;
        let op = found.parsed::<Op>("op")?;
        let outcome = found.parsed::<Outcome>("outcome")?;
        let (Some(op), Some(outcome)) = (op, outcome) else {
            return Err(found.error(&format!("{name} needs field, op and outcome")));
        };
        if field.is_empty() && op != Op::Always {
            return Err(found.error(&format!("{name} needs field, op and outcome")));
        }
        let percent = match found.value("percent") {
            None => 100.0,
            Some(value) => {
                let number = match value.get_ref() {
                    DeValue::Integer(n) => n.as_str().parse::<f64>().ok(),
                    DeValue::Float(n) => n.as_str().parse::<f64>().ok(),
                    _ => None,
                };
                let number = number.filter(|n| (0.0..=100.0).contains(n));
                number.ok_or_else(|| {
                    found.refused(value, "percent", "must be a number from 0 to 100".into())
                })?
            }
        };
        Ok(Self {
            name,
            field,
            op,
            value: found.text("value")?,
            percent,
            outcome,
        })
    }

    fn print(&self) -> String {
        format!(
            "name = {}\nfield = {}\nop = \"{}\"\nvalue = {}\npercent = {}\noutcome = \"{}\"",
            self.name.print(),
            self.field.print(),
            self.op,
            self.value.print(),
            self.percent,
            self.outcome
        )
    }
}

impl Entry for Template {
    const WHAT: &'static str = "a bug template";
    const KEYS: &'static [&'static str] = &["name", "product", "url"];

    fn read(found: &Found) -> Result<Self, ConfigError> {
        let name = found.text("name")?;
        if name.is_empty() {
            return Err(found.error("needs a name, which is the text of its link"));
        }
        let Some(url) = found.parsed("url")? else {
            return Err(found.error(&format!("{name:?} needs a url")));
        };
        Ok(Self {
            name,
            product: found.text("product")?,
            url,
        })
    }

    fn print(&self) -> String {
        format!(
            "name = {}\nproduct = {}\nurl = {}",
            self.name.print(),
            self.product.print(),
            self.url.to_string().print()
        )
    }
}

impl Entry for SymbolSource {
    const WHAT: &'static str = "a symbol source";
    const KEYS: &'static [&'static str] = &["name", "kind", "at", "allow"];

    fn read(found: &Found) -> Result<Self, ConfigError> {
        let Some(kind) = found.parsed::<SourceKind>("kind")? else {
            let known = SourceKind::ALL.map(SourceKind::name).join(", ");
            return Err(found.error(&format!("needs a kind: {known}")));
        };
        let at = found.text("at")?.trim_end_matches('/').to_owned();
        if at.is_empty() {
            return Err(found.error("needs at, which is a folder or the address of a server"));
        }
        let allow: Vec<String> = (found.text("allow")?.split_whitespace())
            .map(str::to_owned)
            .collect();
        let addresses = std::iter::once(&at).chain(&allow);
        if kind != SourceKind::Folder
            && let Some(bad) = addresses
                .into_iter()
                .find(|text| reference::split(text).is_err())
        {
            return Err(found.error(&format!(
                "{bad:?} is no address such as \"https://symbols.example.org\""
            )));
        }
        let name = match found.text("name")? {
            name if name.is_empty() => at.clone(),
            name => name,
        };
        Ok(Self {
            name,
            kind,
            at,
            allow,
        })
    }

    fn print(&self) -> String {
        format!(
            "name = {}\nkind = \"{}\"\nat = {}\nallow = {}",
            self.name.print(),
            self.kind,
            self.at.print(),
            self.allow.join(" ").print()
        )
    }
}

impl Entry for SiteField {
    const WHAT: &'static str = "a field of the site";
    const KEYS: &'static [&'static str] = &[
        "annotation",
        "name",
        "kind",
        "title",
        "description",
        "unit",
        "public",
        "text",
    ];

    fn read(found: &Found) -> Result<Self, ConfigError> {
        let annotation = found.text("annotation")?;
        if annotation.is_empty() {
            return Err(found.error("needs the annotation that it is copied from"));
        }
        let given =
            |text: String, otherwise: String| if text.is_empty() { otherwise } else { text };
        let flag = |key: &str| match found.value(key) {
            None => Ok(false),
            Some(value) => <bool as Value>::read(value.get_ref())
                .ok_or_else(|| found.refused(value, key, format!("must be {}", bool::FORM))),
        };
        Ok(Self {
            name: given(found.text("name")?, site::name_of(&annotation)),
            kind: found.parsed::<Kind>("kind")?.unwrap_or(Kind::String),
            title: given(found.text("title")?, annotation.clone()),
            description: given(
                found.text("description")?,
                format!("The annotation {annotation}"),
            ),
            unit: found.text("unit")?,
            public: flag("public")?,
            text: flag("text")?,
            annotation,
        })
    }

    fn check(all: &[Self]) -> Result<(), (usize, String)> {
        if all.len() > site::SITE_FIELDS_MAX {
            let why = format!("is one of more than {}", site::SITE_FIELDS_MAX);
            return Err((site::SITE_FIELDS_MAX, why));
        }
        for (at, entry) in all.iter().enumerate() {
            site::check(entry, &all[..at]).map_err(|why| (at, why))?;
        }
        Ok(())
    }

    fn print(&self) -> String {
        format!(
            "annotation = {}\nname = {}\nkind = \"{}\"\ntitle = {}\ndescription = {}\nunit = {}\npublic = {}\ntext = {}",
            self.annotation.print(),
            self.name.print(),
            self.kind.site_word(),
            self.title.print(),
            self.description.print(),
            self.unit.print(),
            self.public,
            self.text
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Config::parse("appliance.toml", text)
            .expect_err("a bad configuration")
            .to_string()
    }

    #[test]
    fn the_shipped_file_is_the_defaults_written_out() {
        let shipped =
            Config::parse("appliance.toml", include_str!("../appliance.toml")).expect("it parses");
        let default = Config::default();
        let values = |c: &Config| {
            c.entries()
                .into_iter()
                .map(|(s, k, v, _)| (s, k, v))
                .collect::<Vec<_>>()
        };
        assert_eq!(values(&shipped), values(&default));
        assert!(
            shipped
                .entries()
                .iter()
                .all(|(.., source)| **source != Source::Default),
            "every key is in it"
        );
        assert_eq!(shipped.list_entries(), default.list_entries());
    }

    #[test]
    fn values_carry_units_and_their_line() {
        let text = "[http]\nlisten = \"[::1]:0\"\nreport_bytes_max = \"2 MiB\"\n\n[workers]\nwalk_deadline = \"1500 ms\"\n";
        let config = Config::parse("a.toml", text).expect("a good configuration");
        assert_eq!(config.http.report_bytes_max.value, Size(2 << 20));
        assert_eq!(
            config.http.report_bytes_max.source,
            Source::File {
                name: "a.toml".into(),
                line: 3
            }
        );
        assert_eq!(
            config.workers.walk_deadline.value.0,
            Duration::from_millis(1500)
        );
        assert_eq!(config.workers.walk_deadline.value.print(), "\"1500 ms\"");
        assert_eq!(config.store.cache_bytes.source, Source::Default);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_line_and_the_accepted_form() {
        assert_eq!(
            error("[http]\nreport_bytes_max = \"many\"\n"),
            "appliance.toml:2: [http] report_bytes_max must be a size such as \"100 MiB\", \"512 KiB\" or a number of bytes, at least 1"
        );
        assert!(
            error("[http]\nreport_bytes = 1\n")
                .contains("known: listen, public_url, trusted_proxies")
        );
        assert!(error("[htpp]\n").contains("appliance.toml:1: there is no section [htpp]"));
        assert!(error("[workers]\ncount = -1\n").contains("whole number"));
        assert!(error("[retention]\nfailed_days = 0\n").contains("1 to 36500"));
        assert!(error("[workers]\nwalk_deadline = \"0 s\"\n").contains("at least 1 ms"));
        assert!(error("[signature]\nruleset = \"x\"\n").contains("\"crashkeep\" or \"socorro\""));
        assert!(error("x = [").contains("appliance.toml"));
    }

    #[test]
    fn throttle_rules_are_read_in_order_and_checked() {
        let text = "[[throttle]]\nname = \"a\"\nfield = \"ReleaseChannel\"\nop = \"is\"\nvalue = \"release\"\npercent = 12.5\noutcome = \"defer\"\n\
                    [[throttle]]\nname = \"rest\"\nop = \"always\"\noutcome = \"reject\"\n";
        let config = Config::parse("a.toml", text).expect("good rules");
        assert_eq!(
            config
                .throttle
                .value
                .iter()
                .map(|r| r.name.as_str())
                .collect::<Vec<_>>(),
            ["a", "rest"]
        );
        assert_eq!(config.throttle.value[0].percent, 12.5);
        assert!(
            error(
                "[[throttle]]\nname = \"a\"\nfield = \"x\"\nop = \"like\"\noutcome = \"accept\"\n"
            )
            .contains(
                "appliance.toml:4: [[throttle]] op cannot be used: unknown word \"like\"; accepted: is, is-not"
            )
        );
        assert!(
            error("[[throttle]]\nname = \"A b\"\nop = \"always\"\noutcome = \"accept\"\n")
                .contains("a-z")
        );
        assert!(
            error("[[throttle]]\nname = \"a\"\nop = \"always\"\n")
                .contains("needs field, op and outcome")
        );
    }

    #[test]
    fn bug_templates_are_read_in_order_and_checked() {
        let text = "[[bug_template]]\nname = \"Tracker\"\nproduct = \"A \\\"B\\\"\"\nurl = \"https://h/{{new}}?t={title}\"\n\
                    [[bug_template]]\nname = \"Other\"\nurl = \"https://h/new\"\n";
        let config = Config::parse("a.toml", text).expect("good templates");
        let names: Vec<&str> = config
            .bug_template
            .iter()
            .map(|t| t.name.as_str())
            .collect();
        assert_eq!(names, ["Tracker", "Other"]);
        let printed: String = config
            .list_entries()
            .iter()
            .map(|(list, text, _)| format!("[[{list}]]\n{text}\n"))
            .collect();
        let again = Config::parse("b.toml", &printed).expect("what is printed is read");
        assert_eq!(again.bug_template.value, config.bug_template.value);

        let bad = |line: &str| error(&format!("[[bug_template]]\nname = \"T\"\n{line}\n"));
        let unknown = bad("url = \"https://h/{titel}\"");
        assert!(
            unknown.starts_with("appliance.toml:3: [[bug_template]] url cannot be used: unknown placeholder {titel}; accepted: {signature}, {title}"),
            "{unknown}"
        );
        assert!(bad("url = \"https://h/{title\"").contains("unmatched {"));
        assert!(bad("url = \"javascript:alert(1)\"").contains("https://"));
        assert!(bad("url = 3").contains("appliance.toml:3: [[bug_template]] url must be a text"));
        assert!(bad("").contains("appliance.toml:1: [[bug_template]] \"T\" needs a url"));
        assert!(bad("link = \"x\"").contains("no key \"link\"; known: name, product, url"));
        assert!(error("[[bug_template]]\nurl = \"https://h/\"\n").contains("needs a name"));
        assert!(error("bug_template = 3\n").contains("must be written as [[bug_template]]"));
    }

    #[test]
    fn the_shipped_file_shows_templates_that_can_be_used() {
        let shipped = include_str!("../appliance.toml");
        let lists = shipped.find("# [[").expect("examples");
        for name in crate::bugs::template::PLACEHOLDERS {
            assert!(shipped.contains(&format!("{{{name}}}")), "{name}");
        }
        let examples: String = shipped[lists..]
            .lines()
            .filter_map(|line| line.strip_prefix("# "))
            .filter(|line| line.starts_with("[[") || line.contains(" = "))
            .map(|line| format!("{line}\n"))
            .collect();
        let config = Config::parse("examples", &examples).expect("they can be used");
        assert_eq!((config.throttle.len(), config.bug_template.len()), (1, 4));
    }

    #[test]
    fn paths_and_origins_are_lists_or_words() {
        let http = |line: &str| Config::parse("a", &format!("[http]\n{line}\n"));
        for line in [
            "submit_paths = [\"/post/\", \"/cr/report\"]",
            "submit_paths = \"/post /cr/report\"",
        ] {
            let config = http(line).expect(line);
            assert_eq!(config.http.submit_paths.0, ["/post", "/cr/report"]);
            assert_eq!(
                config.http.submit_paths.print(),
                "[\"/post\", \"/cr/report\"]"
            );
        }
        for path in ["post", "/", "/a?b", "/a//b", "/a/../b", "/{}", "/a b/"] {
            let error = http(&format!("submit_paths = [\"{path}\"]")).expect_err(path);
            assert!(error.to_string().contains("a list of paths"), "{error}");
        }
        let config = http("cors_origins = [\"https://profiler.firefox.com/\"]").expect("good");
        assert!(
            config
                .http
                .cors_origins
                .allow("https://profiler.firefox.com")
        );
        assert!(
            !config
                .http
                .cors_origins
                .allow("https://profiler.firefox.com.evil.example")
        );
        assert!(!config.http.cors_origins.allow("null"));
        assert!(
            http("cors_origins = \"*\"")
                .expect("good")
                .http
                .cors_origins
                .allow("null")
        );
        assert!(http("cors_origins = [\"https://a.example/b\"]").is_err());
    }

    #[test]
    fn a_tracker_is_an_address_or_none() {
        let url = |text: &str| Config::parse("a", &format!("[bugzilla]\nurl = \"{text}\"\n"));
        for (text, read) in [("", ""), ("https://b.example/bz/", "https://b.example/bz")] {
            assert_eq!(url(text).expect(text).bugzilla.url.0, read);
        }
        for text in [
            "b.example",
            "ftp://b",
            "https://b/?x",
            "https://u@b/",
            "https://",
        ] {
            let error = url(text).expect_err(text).to_string();
            assert!(
                error.contains("a:2: [bugzilla] url must be an address"),
                "{error}"
            );
        }
    }
}
