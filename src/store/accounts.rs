//! Accounts, the keys that identify their holders, and the searches that they saved.
//!
//! ```text
//! users        name -> UserRow
//! keys         id   -> KeyRow        a token
//! key_hashes   hash -> id            SHA-256 of the secret; the secret itself is not stored
//! sessions     hash -> SessionRow    SHA-256 of the value of a browser's cookie
//! searches     id   -> SearchRow     searches that a user saved under a name
//! ```
//!
//! Tokens, sessions and saved searches are deleted with their user. A session is also deleted with the token
//! that opened it.

use redb::{ReadableTable, ReadableTableMetadata};

use super::batch::Batch;
use super::command::Command;
use super::error::StoreError;
use super::handle::Store;
use super::rows::{self};
pub(crate) use super::rows::{KeyRow, SearchRow, SessionRow, UserRow};
use super::tables::*;
use super::txn::Txn;
use crate::clock::Timestamp;
use crate::rights::{Rights, Role};

/// SHA-256 of a token's secret.
pub(crate) type KeyHash = [u8; 32];

impl UserRow {
    pub(crate) fn new(name: String, role: Role, created_at: Timestamp) -> Self {
        Self {
            name,
            role: role as u8,
            created_at_ms: created_at.ms(),
        }
    }

    /// The user's role. A role that this version does not know becomes the one with the fewest rights.
    pub fn role(&self) -> Role {
        let known = Role::ALL.into_iter().find(|role| *role as u8 == self.role);
        known.unwrap_or(Role::Viewer)
    }
}

impl KeyRow {
    /// The rights of the key alone. [`Holder::rights`] limits them to the current rights of its user.
    pub(crate) fn rights(&self) -> Rights {
        Rights::from_bits(self.rights)
    }
}

/// A new key for [`AccountChange::AddKey`].
#[derive(Clone, Debug)]
pub(crate) struct NewKey {
    pub(crate) user: String,
    pub(crate) hash: KeyHash,
    pub(crate) rights: Rights,
    pub(crate) label: String,
    pub(crate) created_at: Timestamp,
    pub(crate) expires_at: Option<Timestamp>,
}

/// A key and its user.
#[derive(Clone, Debug)]
pub struct Holder {
    pub(crate) key_id: u64,
    pub key: KeyRow,
    /// `None` if the account does not exist any more.
    pub user: Option<UserRow>,
}

impl Holder {
    /// The rights that both the key and its user have.
    pub fn rights(&self) -> Rights {
        let role = self.user.as_ref().map(|user| user.role().rights());
        role.unwrap_or(Rights::NONE).and(self.key.rights())
    }

    pub(crate) fn has_expired(&self, now: Timestamp) -> bool {
        self.key.expires_at_ms.is_some_and(|at| at <= now.ms())
    }
}

/// A session, and the holder of the token that opened it.
#[derive(Clone, Debug)]
pub(crate) struct OpenSession {
    pub(crate) row: SessionRow,
    /// `None` for a session of the local key.
    pub(crate) holder: Option<Holder>,
}

/// Sessions per token. Opening another one ends the oldest.
const SESSIONS_PER_KEY_MAX: usize = 20;

/// One change of accounts. Applying a change twice has the same effect as once, except for ids.
#[derive(Clone, Debug)]
pub(crate) enum AccountChange {
    /// Adds an account, or changes the role of an existing one.
    PutUser(UserRow),
    /// Removes an account with all its keys.
    RemoveUser(String),
    AddKey(NewKey),
    RemoveKey(u64),
    PutSession(KeyHash, SessionRow),
    RemoveSession(KeyHash),
    /// Replaces the search of the same owner with the same name.
    PutSearch(SearchRow),
    RemoveSearch(u64),
}

impl Store {
    /// Changes accounts, all in one transaction. Returns the id of the last key added.
    ///
    /// # Errors
    /// The store cannot be written, or a row that the changes concern is damaged.
    pub(crate) fn change_accounts(&self, changes: Vec<AccountChange>) -> Result<u64, StoreError> {
        self.ask(ChangeAccounts(changes))
    }

    /// Every account, by name.
    ///
    /// # Errors
    /// The store cannot be read, or the row of an account is damaged.
    pub fn users(&self) -> Result<Vec<UserRow>, StoreError> {
        self.read(|read| {
            let mut users = Vec::new();
            for entry in read.open_table(USERS)?.iter()? {
                users.push(rows::decode(entry?.1.value())?);
            }
            Ok(users)
        })
    }

    /// The account with this name.
    ///
    /// # Errors
    /// The store cannot be read, or the row of this account is damaged.
    pub(crate) fn user(&self, name: &str) -> Result<Option<UserRow>, StoreError> {
        self.read(|read| {
            let row = read.open_table(USERS)?.get(name)?;
            row.map(|row| rows::decode(row.value())).transpose()
        })
    }

    /// True if any account exists.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn has_users(&self) -> Result<bool, StoreError> {
        self.read(|read| Ok(!read.open_table(USERS)?.is_empty()?))
    }

    /// Every token with its id, or only the tokens of one user.
    ///
    /// # Errors
    /// The store cannot be read, or the row of a token is damaged. This also fails for one user if the
    /// damaged token belongs to another.
    pub(crate) fn tokens(&self, user: Option<&str>) -> Result<Vec<(u64, KeyRow)>, StoreError> {
        self.read(|read| {
            let mut tokens = Vec::new();
            for entry in read.open_table(KEYS)?.iter()? {
                let (id, row) = entry?;
                let row: KeyRow = rows::decode(row.value())?;
                if user.is_none_or(|user| user == row.user) {
                    tokens.push((id.value(), row));
                }
            }
            Ok(tokens)
        })
    }

    /// Every saved search with its id, oldest first.
    ///
    /// # Errors
    /// The store cannot be read, or the row of a search is damaged.
    pub fn searches(&self) -> Result<Vec<(u64, SearchRow)>, StoreError> {
        self.read(|read| {
            let mut searches = Vec::new();
            for entry in read.open_table(SEARCHES)?.iter()? {
                let (id, row) = entry?;
                searches.push((id.value(), rows::decode(row.value())?));
            }
            Ok(searches)
        })
    }

    /// The holder of the key with this hash.
    ///
    /// # Errors
    /// The store cannot be read, or the row of this key or of its account is damaged. The caller must not be
    /// let in.
    pub fn holder(&self, hash: &KeyHash) -> Result<Option<Holder>, StoreError> {
        self.read(|read| {
            let key_id = read.open_table(KEY_HASHES)?.get(hash)?.map(|id| id.value());
            key_id.map_or(Ok(None), |key_id| holder_of_key(read, key_id))
        })
    }

    /// The session whose cookie has this hash; `None` also if its token was removed.
    ///
    /// # Errors
    /// The store cannot be read, or the row of this session, its token or its account is damaged. The caller
    /// must not be let in.
    pub(crate) fn session(&self, hash: &KeyHash) -> Result<Option<OpenSession>, StoreError> {
        self.read(|read| {
            let Some(row) = read.open_table(SESSIONS)?.get(hash)? else {
                return Ok(None);
            };
            let row: SessionRow = rows::decode(row.value())?;
            let Some(key_id) = row.key_id else {
                return Ok(Some(OpenSession { row, holder: None }));
            };
            let holder = holder_of_key(read, key_id)?;
            Ok(holder.map(|holder| OpenSession {
                row,
                holder: Some(holder),
            }))
        })
    }

    /// A lock for checking accounts and then changing them. It prevents two simultaneous requests from
    /// removing the last two admins or creating more tokens than are allowed.
    pub(crate) fn lock_accounts(&self) -> parking_lot::MutexGuard<'_, ()> {
        self.accounts_lock.lock()
    }
}

fn holder_of_key(read: &redb::ReadTransaction, key_id: u64) -> Result<Option<Holder>, StoreError> {
    let Some(key) = read.open_table(KEYS)?.get(key_id)? else {
        return Ok(None);
    };
    let key: KeyRow = rows::decode(key.value())?;
    let user = read.open_table(USERS)?.get(key.user.as_str())?;
    let user = user.map(|row| rows::decode(row.value())).transpose()?;
    Ok(Some(Holder { key_id, key, user }))
}

/// All of the changes or none. Answers with the id of the last key added.
struct ChangeAccounts(Vec<AccountChange>);

impl Command for ChangeAccounts {
    type Answer = u64;

    fn apply(&self, txn: &mut Txn, _: &mut Batch) -> Result<u64, StoreError> {
        txn.change_accounts(&self.0)
    }
}

impl Txn<'_> {
    fn change_accounts(&mut self, changes: &[AccountChange]) -> Result<u64, StoreError> {
        let mut added = 0;
        for change in changes {
            match change {
                AccountChange::PutUser(row) => {
                    let bytes = rows::encode(row);
                    self.users.insert(row.name.as_str(), bytes.as_slice())?;
                }
                AccountChange::RemoveUser(name) => {
                    self.users.remove(name.as_str())?;
                    self.remove_keys(|_, key| key.user == *name)?;
                    self.remove_searches(|search| search.owner == *name)?;
                }
                AccountChange::AddKey(new) => added = self.add_key(new)?,
                AccountChange::RemoveKey(id) => self.remove_keys(|known, _| known == *id)?,
                AccountChange::PutSession(hash, row) => self.put_session(hash, row)?,
                AccountChange::RemoveSession(hash) => drop(self.sessions.remove(hash)?),
                AccountChange::PutSearch(row) => {
                    self.remove_searches(|known| {
                        known.owner == row.owner && known.name == row.name
                    })?;
                    added = self.next(meta::NEXT_SEARCH)?;
                    self.searches.insert(added, rows::encode(row).as_slice())?;
                }
                AccountChange::RemoveSearch(id) => drop(self.searches.remove(id)?),
            }
        }
        Ok(added)
    }

    fn add_key(&mut self, new: &NewKey) -> Result<u64, StoreError> {
        // A batch that is tried again must not add the key twice.
        if let Some(known) = self.key_hashes.get(&new.hash)? {
            return Ok(known.value());
        }
        let id = self.next(meta::NEXT_KEY)?;
        let row = KeyRow {
            user: new.user.clone(),
            hash: new.hash,
            rights: new.rights.bits(),
            label: new.label.clone(),
            created_at_ms: new.created_at.ms(),
            expires_at_ms: new.expires_at.map(Timestamp::ms),
        };
        self.keys.insert(id, rows::encode(&row).as_slice())?;
        self.key_hashes.insert(&new.hash, id)?;
        Ok(id)
    }

    fn remove_keys(&mut self, goes: impl Fn(u64, &KeyRow) -> bool) -> Result<(), StoreError> {
        let mut gone = Vec::new();
        for entry in self.keys.iter()? {
            let (id, row) = entry?;
            let row: Option<KeyRow> = rows::decode_or_skip(row.value());
            if let Some(row) = row.filter(|row| goes(id.value(), row)) {
                gone.push((id.value(), row.hash));
            }
        }
        if gone.is_empty() {
            return Ok(());
        }
        for (id, hash) in &gone {
            self.keys.remove(id)?;
            self.key_hashes.remove(hash)?;
        }
        self.remove_sessions(|session| {
            let key_id = session.key_id;
            gone.iter().any(|(id, _)| key_id == Some(*id))
        })
    }

    /// Adds a session. Removes sessions that have expired, and the oldest session of the token if it has too
    /// many.
    fn put_session(&mut self, hash: &KeyHash, new: &SessionRow) -> Result<(), StoreError> {
        let mut of_key = Vec::new();
        for entry in self.sessions.iter()? {
            let row: Option<SessionRow> = rows::decode_or_skip(entry?.1.value());
            let row = row.filter(|row| row.key_id == new.key_id);
            of_key.extend(row.map(|row| row.created_at_ms));
        }
        of_key.sort_unstable_by_key(|at| std::cmp::Reverse(*at));
        let oldest_kept = of_key.get(SESSIONS_PER_KEY_MAX - 2).copied();
        self.remove_sessions(|row| {
            let is_too_old = oldest_kept.is_some_and(|at| row.created_at_ms < at);
            row.expires_at_ms <= new.created_at_ms || (row.key_id == new.key_id && is_too_old)
        })?;
        self.sessions.insert(hash, rows::encode(new).as_slice())?;
        Ok(())
    }

    fn remove_sessions(&mut self, goes: impl Fn(&SessionRow) -> bool) -> Result<(), StoreError> {
        let mut gone = Vec::new();
        for entry in self.sessions.iter()? {
            let (hash, row) = entry?;
            if rows::decode_or_skip(row.value()).is_some_and(|row| goes(&row)) {
                gone.push(*hash.value());
            }
        }
        for hash in gone {
            self.sessions.remove(&hash)?;
        }
        Ok(())
    }

    fn remove_searches(&mut self, goes: impl Fn(&SearchRow) -> bool) -> Result<(), StoreError> {
        let mut gone = Vec::new();
        for entry in self.searches.iter()? {
            let (id, row) = entry?;
            if rows::decode_or_skip(row.value()).is_some_and(|row| goes(&row)) {
                gone.push(id.value());
            }
        }
        for id in gone {
            self.searches.remove(id)?;
        }
        Ok(())
    }
}
