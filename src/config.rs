//! The configuration: one list of settings. Parsing, defaults and `config print` derive from it. A test
//! checks that the commented `appliance.toml` contains the same settings and defaults.
//!
//! An unknown key or an invalid value is refused. The error names the file, the line, and what is accepted.
//! Otherwise a misspelt limit would silently become no limit.
//!
//! - This file has the list of settings. `derive` makes everything else from it.
//! - `setting` is a value with its source. `value` is the trait of values; `units`, `names` and `network`
//!   have the types.
//! - `entry` reads a list of tables such as `[[throttle]]`; `lists` has the tables.
//! - `load` reads a file, and `file` names its lines in errors.

mod derive;
mod entry;
mod file;
mod lists;
mod load;
mod names;
mod network;
mod setting;
#[cfg(test)]
mod tests;
mod units;
mod value;

use std::net::SocketAddr;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

pub(crate) use file::ConfigError;
pub(crate) use names::{Keys, RulesetName};
pub(crate) use network::{CorsOrigins, MaybeListen, Origins, Paths, TlsFor, TrackerUrl};
pub(crate) use setting::{Setting, Source};
pub(crate) use units::{Days, Size, Span};

use crate::addresses::{Listen, PublicUrl, TrustedProxies};
use crate::bugs::template::Template;
use crate::fields;
use crate::fields::site::SiteField;
use crate::symbol_source::SymbolSource;
use crate::throttle::Rule;
use derive::settings;
use entry::{Entry, read_list};
use file::File;
use value::Value;

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
    symbol_source: SymbolSource, at_start;
    /// `[[fields]]`, in order.
    fields: SiteField, at_start;
}
