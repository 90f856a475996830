//! `crashkeep user` and `crashkeep token`. If no server has the data directory open, the command changes the
//! store itself. If a server runs, the command sends a request to it; the server listens for this on
//! loopback.
//!
//! The address of the server and a key are in a file in the data directory, which only its owner can read.
//! Everybody who can read it could also change the store directly. The key is new at every start.

use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::accounts::{self, AccountError, NewToken, Parent, hash_of, new_secret};
use crate::clock::Timestamp;
use crate::rights::Role;
use crate::store::Store;
use crate::store::accounts::{AccountChange, KeyHash};

/// Name of the file in the data directory.
const FILE: &str = "server";

/// A command about accounts or tokens.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "command")]
pub enum AccountCommand {
    UserAdd {
        name: String,
        role: String,
    },
    UserRemove {
        name: String,
    },
    UserList,
    TokenCreate {
        user: String,
        /// Names separated by commas; empty for everything that the user may do.
        scopes: String,
        label: String,
        days: Option<u32>,
    },
    TokenRevoke {
        id: u64,
    },
    TokenList,
}

/// Executes a command. Returns the text to print.
///
/// # Errors
/// [`AccountError::Bad`] names the parameter that is invalid. [`AccountError::Store`] if the store cannot be
/// read or written.
pub(crate) fn run(
    store: &Store,
    command: &AccountCommand,
    now: Timestamp,
) -> Result<String, AccountError> {
    Ok(match command {
        AccountCommand::UserAdd { name, role } => {
            let role = role_named(role)?;
            let is_new = accounts::put_user(store, name, role, now)?;
            let done = if is_new { "added" } else { "changed" };
            format!("{done} {name}, {}\n", role.name())
        }
        AccountCommand::UserRemove { name } => {
            accounts::remove_user(store, name)?;
            format!("removed {name}\n")
        }
        AccountCommand::UserList => {
            let line = |user: &crate::store::accounts::UserRow| {
                let made = Timestamp::from_ms(user.created_at_ms);
                format!("{:<24} {:<10} {made}\n", user.name, user.role().name())
            };
            store.users()?.iter().map(line).collect()
        }
        AccountCommand::TokenCreate {
            user,
            scopes,
            label,
            days,
        } => {
            let new = NewToken {
                user,
                scopes: accounts::scopes(scopes)?,
                label,
                days: *days,
                parent: Parent::UNBOUNDED,
            };
            format!("{}\n", accounts::create_token(store, &new, now)?)
        }
        AccountCommand::TokenRevoke { id } => {
            if !store.tokens(None)?.iter().any(|(known, _)| known == id) {
                return Err(AccountError::Bad(
                    "id",
                    format!("token {id} does not exist; `crashkeep token list` lists all tokens"),
                ));
            }
            store.change_accounts(vec![AccountChange::RemoveKey(*id)])?;
            format!("revoked {id}\n")
        }
        AccountCommand::TokenList => {
            let line = |(id, token): &(u64, crate::store::accounts::KeyRow)| {
                let ends = token
                    .expires_at_ms
                    .map_or("never".to_owned(), |at| Timestamp::from_ms(at).to_string());
                let rights = token.rights().to_string();
                let (user, label) = (&token.user, &token.label);
                format!("{id:>6} {user:<24} {rights:<32} {ends:<24} {label}\n")
            };
            store.tokens(None)?.iter().map(line).collect()
        }
    })
}

/// The role with this name.
///
/// # Errors
/// [`AccountError::Bad`] if there is no such role. The message lists the roles.
pub(crate) fn role_named(name: &str) -> Result<Role, AccountError> {
    Role::by_name(name).ok_or_else(|| {
        let known = Role::ALL.map(Role::name).join(", ");
        AccountError::Bad("role", format!("unknown role {name:?}; accepted: {known}"))
    })
}

/// The key with which commands authenticate to the running server.
pub(crate) struct CommandKey {
    secret: String,
    hash: KeyHash,
}

impl CommandKey {
    pub(crate) fn new() -> Self {
        let secret = new_secret();
        let hash = hash_of(&secret);
        Self { secret, hash }
    }

    /// True if this is the hash of the key.
    pub(crate) fn is(&self, hash: &KeyHash) -> bool {
        self.hash == *hash
    }
}

impl Default for CommandKey {
    fn default() -> Self {
        Self::new()
    }
}

/// The address for commands of the running server, and the key.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RunningServer {
    pub(crate) address: SocketAddr,
    pub(crate) key: String,
}

impl RunningServer {
    /// The server that has the data directory open, if it wrote its address.
    ///
    /// # Errors
    /// The file with the address exists, but cannot be read.
    pub(crate) fn find(data: &Path) -> io::Result<Option<Self>> {
        match fs::read(data.join(FILE)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
            Ok(text) => Ok(serde_json::from_slice(&text).ok()),
        }
    }
}

/// The file with the address and the key. Dropping this removes the file.
pub(crate) struct Announcement(PathBuf);

impl Announcement {
    /// Writes the file. Only its owner can read it.
    ///
    /// # Errors
    /// The data directory cannot be written.
    pub(crate) fn write(data: &Path, address: SocketAddr, key: &CommandKey) -> io::Result<Self> {
        let path = data.join(FILE);
        let running = RunningServer {
            address,
            key: key.secret.clone(),
        };
        let mut file = tempfile::NamedTempFile::new_in(data)?;
        serde_json::to_writer(&mut file, &running)?;
        file.flush()?;
        file.persist(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::warn!(%error, file = %self.0.display(), "a file could not be removed");
        }
    }
}
