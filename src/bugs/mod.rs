//! Bugs: what trackers know about signatures. Words and pure functions; no I/O, no store.
//!
//! [`reference`] reads what somebody typed as a bug, [`field`] what a Bugzilla keeps in its
//! crash-signature field; [`template`] and [`filing`] make the address under which a new bug is
//! filed.

pub mod field;
pub mod filing;
pub mod reference;
pub mod template;

/// Which bug: its id, and the tracker that the id belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BugKey {
    /// As people write it: `1234567`, `owner/repo#12`, `APP-7`.
    pub id: String,
    /// The tracker's address, without a slash at the end.
    pub tracker: String,
}

/// What the tracker says of a bug; all empty until it has been asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    pub summary: String,
    /// In the tracker's words, such as `RESOLVED`.
    pub status: String,
    /// In the tracker's words, such as `FIXED`; empty while the bug is open.
    pub resolution: String,
    pub is_open: Option<bool>,
}

/// A bug as it is known here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bug {
    pub key: BugKey,
    /// Its page.
    pub url: String,
    pub standing: Standing,
}

impl Bug {
    pub fn is_resolved(&self) -> bool {
        self.standing.is_open == Some(false)
    }
}
