//! Bugs: the formats of trackers, and their data about signatures. Pure functions and plain data; no I/O, no
//! store.
//!
//! [`mod@reference`] reads a bug that a user typed. [`field`] reads the crash-signature field of a Bugzilla.
//! [`template`] and [`filing`] create the URL that files a new bug.

pub mod field;
pub(crate) mod filing;
pub mod reference;
pub mod template;

/// The key of a bug: its id, and the tracker to which the id belongs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BugKey {
    /// The usual form of the id: `1234567`, `owner/repo#12`, `APP-7`.
    pub id: String,
    /// URL of the tracker, without a trailing slash.
    pub(crate) tracker: String,
}

/// The tracker's data about a bug; empty until the first request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    pub summary: String,
    /// In the tracker's terms, such as `RESOLVED`.
    pub status: String,
    /// In the tracker's terms, such as `FIXED`; empty while the bug is open.
    pub resolution: String,
    pub is_open: Option<bool>,
}

/// A bug with the data that we have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bug {
    pub key: BugKey,
    /// URL of its page.
    pub url: String,
    pub standing: Standing,
}

impl Bug {
    pub fn is_resolved(&self) -> bool {
        self.standing.is_open == Some(false)
    }
}
