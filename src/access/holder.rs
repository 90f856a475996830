//! The caller that a token or a session stands for.

use crate::clock::Timestamp;
use crate::store::accounts::Holder;
use crate::web::Caller;

/// Why a token is invalid. The texts are Socorro's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadToken {
    Unknown,
    Expired,
    UserGone,
}

impl BadToken {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Unknown => "API Token not matched",
            Self::Expired => "API Token found but expired",
            Self::UserGone => "User of API token not active",
        }
    }
}

pub(super) fn caller_of(holder: Holder, now: Timestamp) -> Result<Caller, BadToken> {
    if holder.has_expired(now) {
        return Err(BadToken::Expired);
    }
    let rights = holder.rights();
    let user = holder.user.ok_or(BadToken::UserGone)?;
    Ok(Caller {
        rights,
        user: Some(user.name),
        token: Some(holder.key_id),
        expires_at: holder.key.expires_at_ms.map(Timestamp::from_ms),
        ..Caller::anonymous()
    })
}
