//! The options of commands that use a running server.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::common::Common;
use crate::access::local_key;

/// The environment variable that may contain a token.
const VARIABLE: &str = "CRASHKEEP_TOKEN";

/// A running server, and the right to use it.
#[derive(clap::Args)]
pub(super) struct Remote {
    /// Use this running server, such as https://crashes.example.org, instead of the data directory
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,
    /// Token for that server; other users can see it in the process list, so prefer --token-file
    #[arg(
        long,
        value_name = "T",
        requires = "server",
        conflicts_with = "token_file"
    )]
    token: Option<String>,
    /// File with a token for that server; the default is CRASHKEEP_TOKEN, and on the server's own
    /// machine the local key of the data directory
    #[arg(long, value_name = "FILE", requires = "server")]
    token_file: Option<PathBuf>,
}

impl Remote {
    /// The token to send, if any.
    pub(crate) fn token(&self, common: &Common) -> anyhow::Result<Option<String>> {
        let Some(server) = &self.server else {
            return Ok(None);
        };
        if let Some(token) = &self.token {
            return Ok(Some(token.clone()));
        }
        if let Some(path) = &self.token_file {
            return read(path).map(Some);
        }
        if let Some(token) = std::env::var(VARIABLE)
            .ok()
            .filter(|token| !token.is_empty())
        {
            return Ok(Some(token));
        }
        if is_this_machine(server) {
            Ok(local_key::read(&common.data)?)
        } else {
            Ok(None)
        }
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    let shown = || path.display().to_string();
    let text = std::fs::read_to_string(path).with_context(shown)?;
    match text.trim() {
        "" => bail!("{}: the file contains no token", shown()),
        token => Ok(token.to_owned()),
    }
}

fn is_this_machine(server: &str) -> bool {
    let rest = server.split_once("://").map_or(server, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return false;
    }
    let host = match authority.strip_prefix('[') {
        Some(host) => host.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    let address: Option<IpAddr> = host.parse().ok();
    host.eq_ignore_ascii_case("localhost") || address.is_some_and(|a| a.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_server_of_this_machine_gets_the_local_key() {
        for (server, expected) in [
            ("http://127.0.0.1:8000", true),
            ("https://localhost/", true),
            ("http://[::1]:80", true),
            ("http://127.0.0.1.example.org", false),
            ("http://127.0.0.1@example.org", false),
            ("http://example.org/127.0.0.1", false),
            ("http://localhost.example.org", false),
        ] {
            assert_eq!(is_this_machine(server), expected, "{server}");
        }
    }
}
