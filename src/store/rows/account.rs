//! Accounts, their tokens and sessions, and saved searches.

use serde::{Deserialize, Serialize};

use super::Row;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRow {
    pub name: String,
    /// See [`crate::rights::Role`]. A number that this program does not know is the lowest role.
    pub(in crate::store) role: u8,
    pub(crate) created_at_ms: i64,
}

impl Row for UserRow {
    const NAME: &'static str = "a user";
    const VERSION: u8 = 1;
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRow {
    pub(crate) user: String,
    /// SHA-256 of the token's secret.
    pub(in crate::store) hash: [u8; 32],
    /// A bit for each scope; see [`crate::rights::Rights`].
    pub(in crate::store) rights: u8,
    /// What its owner calls it.
    pub label: String,
    pub created_at_ms: i64,
    pub expires_at_ms: Option<i64>,
}

impl Row for KeyRow {
    const NAME: &'static str = "a token";
    const VERSION: u8 = 1;
}

/// A login in a browser.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SessionRow {
    /// The token that was shown at login; `None` for a session of the local key.
    pub(crate) key_id: Option<u64>,
    pub(crate) created_at_ms: i64,
    pub(crate) expires_at_ms: i64,
}

impl Row for SessionRow {
    const NAME: &'static str = "a session";
    const VERSION: u8 = 1;
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchRow {
    pub owner: String,
    pub name: String,
    /// Parameters of the search page, as the query of its address.
    pub query: String,
    pub(crate) saved_at_ms: i64,
}

impl Row for SearchRow {
    const NAME: &'static str = "a saved search";
    const VERSION: u8 = 1;
}
