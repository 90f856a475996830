//! Creates and ends accounts and tokens. The command line and the pages share this code.

use sha2::{Digest, Sha256};

use crate::clock::Timestamp;
use crate::limits;
use crate::rights::{Rights, Role, Scope};
use crate::store::accounts::{AccountChange, KeyHash, NewKey, UserRow};
use crate::store::{Store, StoreError};
use crate::web::Caller;

const NAME_CHARS_MAX: usize = 64;
const LABEL_CHARS_MAX: usize = 100;
const DAY_MS: i64 = crate::clock::DAY_MS;
/// Ten years.
pub(crate) const TOKEN_DAYS_MAX: u32 = 3_650;

/// Why a change of accounts failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccountError {
    /// The parameter that is invalid, and why.
    #[error("{1}")]
    Bad(&'static str, String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn bad<T>(field: &'static str, why: impl Into<String>) -> Result<T, AccountError> {
    Err(AccountError::Bad(field, why.into()))
}

/// A secret that cannot be guessed: 32 hexadecimal digits, 122 random bits.
pub(crate) fn new_secret() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// The hash by which the store knows the secret of a token.
pub(crate) fn hash_of(secret: &str) -> KeyHash {
    Sha256::digest(secret.as_bytes()).into()
}

/// Adds an account, or changes the role of an existing one. Returns true if the account is new.
///
/// # Errors
/// [`AccountError::Bad`] if the name is invalid or the last admin would lose the role.
pub(crate) fn put_user(
    store: &Store,
    name: &str,
    role: Role,
    now: Timestamp,
) -> Result<bool, AccountError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._@+-".contains(c);
    if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(is_plain) {
        return bad(
            "name",
            format!(
                "{name:?} is not a valid account name; use 1 to {NAME_CHARS_MAX} letters, digits and . _ @ + -"
            ),
        );
    }
    let _changing = store.lock_accounts();
    let known = store.user(name)?;
    if role != Role::Admin {
        keep_an_admin(store, name)?;
    }
    let created_at = known
        .as_ref()
        .map_or(now, |row| Timestamp::from_ms(row.created_at_ms));
    let row = UserRow::new(name.to_owned(), role, created_at);
    store.change_accounts(vec![AccountChange::PutUser(row)])?;
    Ok(known.is_none())
}

/// Removes an account with its tokens and saved searches.
///
/// # Errors
/// [`AccountError::Bad`] if the account does not exist or is the last admin.
pub(crate) fn remove_user(store: &Store, name: &str) -> Result<(), AccountError> {
    let _changing = store.lock_accounts();
    if store.user(name)?.is_none() {
        return bad("name", format!("account {name:?} does not exist"));
    }
    keep_an_admin(store, name)?;
    store.change_accounts(vec![AccountChange::RemoveUser(name.to_owned())])?;
    Ok(())
}

/// Refuses the change if no admin would remain. Otherwise nobody could change accounts any more.
fn keep_an_admin(store: &Store, leaving: &str) -> Result<(), AccountError> {
    let users = store.users()?;
    let is_admin = |user: &&UserRow| user.role() == Role::Admin;
    let leaves = users
        .iter()
        .any(|user| user.name == leaving && is_admin(&user));
    let others = users
        .iter()
        .filter(is_admin)
        .any(|user| user.name != leaving);
    if leaves && !others {
        bad(
            "name",
            format!("{leaving} is the last admin; create another admin first"),
        )
    } else {
        Ok(())
    }
}

/// The properties of a token to be created.
#[derive(Clone, Debug)]
pub(crate) struct NewToken<'a> {
    pub(crate) user: &'a str,
    /// Empty for everything that the user may do.
    pub(crate) scopes: Vec<Scope>,
    pub(crate) label: &'a str,
    /// `None` if the token expires with its parent, or never.
    pub(crate) days: Option<u32>,
    /// The rights and the expiry of the creator.
    pub(crate) parent: Parent,
}

/// Limits that a new token inherits. A token must not create one with more rights or a later expiry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parent {
    pub(crate) rights: Rights,
    /// `None` if it does not expire.
    pub(crate) expires_at: Option<Timestamp>,
}

impl Parent {
    /// For creators that are not limited by a token.
    pub(crate) const UNBOUNDED: Self = Self {
        rights: Rights::ALL,
        expires_at: None,
    };
}

impl From<&Caller> for Parent {
    fn from(caller: &Caller) -> Self {
        Self {
            rights: caller.rights,
            expires_at: caller.expires_at,
        }
    }
}

/// True if a caller may create and end the tokens of its own account. A token with fewer rights than its
/// owner may not: it could end all other tokens, or replace itself before it expires.
pub(crate) fn manages_own_tokens(caller: &Caller, owner: &UserRow) -> bool {
    caller.rights.contains(owner.role().rights())
}

/// Creates a token. Returns its secret, 32 hexadecimal digits, which is not stored anywhere.
///
/// # Errors
/// [`AccountError::Bad`] names the parameter that is invalid.
pub(crate) fn create_token(
    store: &Store,
    new: &NewToken,
    now: Timestamp,
) -> Result<String, AccountError> {
    let _changing = store.lock_accounts();
    let Some(user) = store.user(new.user)? else {
        return bad("user", format!("account {:?} does not exist", new.user));
    };
    let known = store.tokens(Some(new.user))?.len();
    if known >= limits::TOKENS_PER_USER_MAX {
        return bad(
            "user",
            format!(
                "{} has {known} tokens; the limit is {}; revoke one first",
                user.name,
                limits::TOKENS_PER_USER_MAX
            ),
        );
    }
    let allowed = user.role().rights();
    let rights = if new.scopes.is_empty() {
        allowed.and(new.parent.rights)
    } else {
        Rights::of(new.scopes.iter().copied())
    };
    if let Some(beyond) = new.scopes.iter().find(|s| !new.parent.rights.has(**s)) {
        return bad(
            "scopes",
            format!(
                "your token does not have the scope {:?}; it has {}",
                beyond.name(),
                new.parent.rights
            ),
        );
    }
    if let Some(beyond) = new.scopes.iter().find(|scope| !allowed.has(**scope)) {
        return bad(
            "scopes",
            format!(
                "{} has the role {}, which does not have the scope {:?}; it has {allowed}",
                user.name,
                user.role().name(),
                beyond.name()
            ),
        );
    }
    if new
        .days
        .is_some_and(|days| days == 0 || days > TOKEN_DAYS_MAX)
    {
        return bad("days", format!("days must be from 1 to {TOKEN_DAYS_MAX}"));
    }
    if new.label.chars().count() > LABEL_CHARS_MAX {
        return bad(
            "label",
            format!("the label has more than {LABEL_CHARS_MAX} characters"),
        );
    }
    let secret = new_secret();
    let asked = new
        .days
        .map(|days| Timestamp::from_ms(now.ms().saturating_add(i64::from(days) * DAY_MS)));
    let expires_at = match (asked, new.parent.expires_at) {
        (Some(asked), Some(most)) => Some(asked.min(most)),
        (asked, most) => asked.or(most),
    };
    store.change_accounts(vec![AccountChange::AddKey(NewKey {
        user: user.name,
        hash: hash_of(&secret),
        rights,
        label: new.label.to_owned(),
        created_at: now,
        expires_at,
    })])?;
    Ok(secret)
}

/// The scopes in a text such as `read,symbols:write`.
///
/// # Errors
/// [`AccountError::Bad`] if a name is not a scope. The message lists the scopes.
pub(crate) fn scopes(text: &str) -> Result<Vec<Scope>, AccountError> {
    let names = text
        .split([',', ' '])
        .map(str::trim)
        .filter(|name| !name.is_empty());
    names
        .map(|name| {
            Scope::by_name(name).map_or_else(
                || {
                    let known = Scope::ALL.map(Scope::name).join(", ");
                    bad(
                        "scopes",
                        format!("unknown scope {name:?}; accepted: {known}"),
                    )
                },
                Ok,
            )
        })
        .collect()
}
