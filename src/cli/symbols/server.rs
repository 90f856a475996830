//! Requests to a running server.

use serde_json::Value;

use crate::cli::common::Common;
use crate::cli::remote::Remote;
use crate::client::{self, Sent};

/// A running server, and the token for it.
pub(super) struct Server {
    /// Without a trailing slash.
    pub(super) url: String,
    token: Option<String>,
}

impl Server {
    pub(super) fn of(remote: &Remote, common: &Common) -> anyhow::Result<Option<Self>> {
        let Some(url) = &remote.server else {
            return Ok(None);
        };
        Ok(Some(Self {
            url: url.trim_end_matches('/').to_owned(),
            token: remote.token(common)?,
        }))
    }

    /// The answer of a server, parsed as JSON.
    pub(super) fn ask(&self, sent: Sent, url: &str) -> anyhow::Result<Value> {
        let (status, answer) = client::ask(url, sent, self.token.as_deref())?;
        serde_json::from_str(&answer).map_err(|_| {
            let start: String = answer.trim().chars().take(300).collect();
            anyhow::anyhow!("{url} answered with status {status}: {start}")
        })
    }
}
