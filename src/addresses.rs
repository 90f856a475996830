//! The addresses that the server binds, its public URL, and the proxies whose forwarding headers it trusts.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use crate::bugs::reference;

/// An address that a listener binds: `127.0.0.1:8000`, or `unix:/run/crashkeep.sock` for a proxy on the same
/// machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Listen {
    /// True if only this machine can connect to it.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.starts_with('/') {
                Ok(Self::Unix(path.into()))
            } else {
                Err(format!("{text:?} needs an absolute path after unix:"))
            };
        }
        text.parse().map(Self::Tcp).map_err(|_| {
            format!("{text:?} is not an address with a port, such as 127.0.0.1:8000 or [::1]:0")
        })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The URL under which users reach the pages, without a trailing slash; empty if none is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublicUrl(String);

impl PublicUrl {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn is_https(&self) -> bool {
        self.0.starts_with("https://")
    }

    /// Host and port, in the form of a Host header.
    pub(crate) fn host(&self) -> &str {
        let (origin, _) = self.split();
        origin.split_once("://").map_or("", |(_, host)| host)
    }

    /// The path of the URL: `/crashes` for `https://example.org/crashes`, empty if the URL has no path.
    pub fn base_path(&self) -> &str {
        self.split().1
    }

    fn split(&self) -> (&str, &str) {
        reference::split(&self.0).unwrap_or(("", ""))
    }
}

impl FromStr for PublicUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim_end_matches('/');
        if text.is_empty() {
            return Ok(Self::default());
        }
        let (origin, path) = reference::split(text)?;
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
        let has_odd_segment = path
            .split('/')
            .skip(1)
            .any(|segment| matches!(segment, "" | "." | ".."));
        if !path.bytes().all(is_plain) || has_odd_segment {
            return Err(format!(
                "the path {path:?} is invalid; use letters, digits and - . _ ~ between single slashes"
            ));
        }
        let (scheme, host) = origin.split_once("://").unwrap_or_default();
        let (scheme, host) = (scheme.to_ascii_lowercase(), host.to_ascii_lowercase());
        Ok(Self(format!("{scheme}://{host}{path}")))
    }
}

/// Peers that forward requests for clients: networks, and every peer on our Unix socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    /// Network address, and length of the prefix in bits.
    networks: Vec<(IpAddr, u8)>,
    unix: bool,
}

impl TrustedProxies {
    /// Reads words such as `127.0.0.1`, `10.0.0.0/8` and `unix`. Returns `None` if a word is none of these.
    pub fn read<'a>(words: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut proxies = Self::default();
        for word in words {
            if word == "unix" {
                proxies.unix = true;
                continue;
            }
            let (address, bits) = word
                .split_once('/')
                .map_or((word, None), |(a, b)| (a, Some(b)));
            let address: IpAddr = address.parse().ok()?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            let bits = bits.map_or(Some(most), |bits| bits.parse().ok())?;
            if bits > most {
                return None;
            }
            proxies.networks.push((address, bits));
        }
        Some(proxies)
    }

    /// True if we believe the forwarding headers of this peer. `None` is a peer on the Unix socket.
    pub(crate) fn trusts(&self, peer: Option<IpAddr>) -> bool {
        match peer.map(|address| address.to_canonical()) {
            None => self.unix,
            Some(address) => self
                .networks
                .iter()
                .any(|(network, bits)| contains(*network, *bits, address)),
        }
    }

    /// The address of the client behind `peer`. `forwarded_for` holds the `X-Forwarded-For` headers in the
    /// order received. Each proxy appends the address that it sees. So the last address that is not one of
    /// our proxies is the client. The client may have invented the entries before it.
    pub fn client<'a>(
        &self,
        peer: Option<IpAddr>,
        forwarded_for: impl DoubleEndedIterator<Item = &'a str>,
    ) -> Option<IpAddr> {
        if !self.trusts(peer) {
            return peer;
        }
        let mut client = peer;
        let words = forwarded_for.rev().flat_map(|header| header.rsplit(','));
        for word in words.map(str::trim).filter(|word| !word.is_empty()) {
            let Some(address) = address_of(word) else {
                break;
            };
            client = Some(address);
            if !self.trusts(client) {
                break;
            }
        }
        client
    }
}

impl fmt::Display for TrustedProxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let networks = self
            .networks
            .iter()
            .map(|(address, bits)| match (address, bits) {
                (IpAddr::V4(_), 32) | (IpAddr::V6(_), 128) => address.to_string(),
                _ => format!("{address}/{bits}"),
            });
        let unix = self.unix.then(|| "unix".to_owned());
        f.write_str(&networks.chain(unix).collect::<Vec<_>>().join(" "))
    }
}

fn contains(network: IpAddr, bits: u8, address: IpAddr) -> bool {
    let (width, network, address) = match (network, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (32, u128::from(a.to_bits()), u128::from(b.to_bits())),
        (IpAddr::V6(a), IpAddr::V6(b)) => (128, a.to_bits(), b.to_bits()),
        _ => return false,
    };
    let shift = width - u32::from(bits);
    // A shift by the full width is undefined. A prefix of 0 bits contains every address.
    network.checked_shr(shift) == address.checked_shr(shift)
}

/// The address in an entry of `X-Forwarded-For`. Some proxies add a port.
fn address_of(word: &str) -> Option<IpAddr> {
    let word = word.trim_matches('"');
    let parsed = word.parse::<IpAddr>().ok().or_else(|| {
        let with_port = word.parse::<SocketAddr>().ok();
        with_port.map(|address| address.ip())
    });
    let bracketed = || word.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    parsed
        .or_else(bracketed)
        .map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_url_is_kept_without_its_last_slash_and_in_lower_case_up_to_the_path() {
        let read = |text: &str| text.parse::<PublicUrl>();
        let url = read("HTTPS://Crashes.example.org:8443/Crashes/").expect("a url");
        assert_eq!(url.as_str(), "https://crashes.example.org:8443/Crashes");
        assert_eq!(url.base_path(), "/Crashes");
        assert_eq!(url.host(), "crashes.example.org:8443");
        assert!(url.is_https());
        let none = read("").expect("none");
        assert_eq!(
            (none.as_str().is_empty(), none.base_path(), none.host()),
            (true, "", "")
        );
        for bad in [
            "a",
            "ftp://a",
            "https://",
            "https://u@h/",
            "https://h/a?b",
            "https://h/a#b",
            "https://h/a//b",
            "https://h/../b",
            "https://h/a\"b",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_client_is_the_last_address_that_is_no_trusted_proxy() {
        let client = |proxies: &str, peer: Option<&str>, headers: &[&str]| {
            let proxies = TrustedProxies::read(proxies.split_whitespace()).expect("proxies");
            let peer = peer.map(|peer| peer.parse().expect("an address"));
            let client = proxies.client(peer, headers.iter().copied());
            client
                .map(|address| address.to_string())
                .unwrap_or_default()
        };
        let local = Some("127.0.0.1");
        assert_eq!(
            client("", local, &["203.0.113.9"]),
            "127.0.0.1",
            "nobody is trusted"
        );
        assert_eq!(client("127.0.0.1", local, &["203.0.113.9"]), "203.0.113.9");
        assert_eq!(client("127.0.0.1", local, &[]), "127.0.0.1");
        assert_eq!(client("10.0.0.0/8", local, &["203.0.113.9"]), "127.0.0.1");
        // The client's own claims come before the address that the proxy saw.
        assert_eq!(
            client("127.0.0.1", local, &["1.1.1.1, 203.0.113.9"]),
            "203.0.113.9"
        );
        assert_eq!(
            client("127.0.0.1", local, &["1.1.1.1", "203.0.113.9"]),
            "203.0.113.9"
        );
        assert_eq!(
            client("127.0.0.1 10.0.0.0/8", local, &["203.0.113.9, 10.1.2.3"]),
            "203.0.113.9",
            "two proxies of ours"
        );
        assert_eq!(
            client("127.0.0.1", local, &["x, 203.0.113.9"]),
            "203.0.113.9"
        );
        assert_eq!(
            client("127.0.0.1", local, &["203.0.113.9, unknown"]),
            "127.0.0.1"
        );
        assert_eq!(
            client("127.0.0.1", local, &["[2001:db8::1]:443"]),
            "2001:db8::1"
        );
        assert_eq!(client("unix", None, &["203.0.113.9"]), "203.0.113.9");
        assert_eq!(client("127.0.0.1", None, &["203.0.113.9"]), "");
        assert_eq!(
            client("127.0.0.1", Some("::ffff:127.0.0.1"), &["2.2.2.2"]),
            "2.2.2.2"
        );
        assert_eq!(client("0.0.0.0/0", local, &["2.2.2.2"]), "2.2.2.2");
        for bad in ["localhost", "10.0.0.0/33", "::1/129", "10.0.0.0/x"] {
            assert!(TrustedProxies::read([bad]).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_listener_binds_an_address_or_a_unix_socket() {
        for text in ["127.0.0.1:8000", "[::1]:0", "unix:/run/crashkeep.sock"] {
            assert_eq!(text.parse::<Listen>().expect(text).to_string(), text);
        }
        for bad in ["localhost", "127.0.0.1", "unix:run", "unix:"] {
            assert!(bad.parse::<Listen>().is_err(), "{bad}");
        }
    }
}
