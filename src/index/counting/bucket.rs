//! The values that are listed.

use crate::fields::Kind;
use crate::fields::version::VersionKey;

/// A value that is counted. Sorts like the answer does for values with the same count.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Text(Box<str>),
    /// A value of a column of numbers, or the start of a histogram's interval as a float or date.
    Number(u64),
}

/// A value that is listed.
#[derive(Debug)]
pub(crate) struct Bucket {
    /// Position of the listed value that contains it, in the list of the parent facet.
    pub(crate) parent: u32,
    pub(crate) key: Key,
    pub(crate) count: u64,
}

impl Bucket {
    /// Memory of the bucket here and in the answer.
    pub(super) fn bytes(&self) -> usize {
        let text = match &self.key {
            Key::Text(text) => text.len(),
            Key::Number(_) => 0,
        };
        2 * (text + std::mem::size_of::<Self>()) + 100
    }
}

/// The sort key of a text in a field of versions. Equal keys sort by the text.
pub(crate) fn version(kind: Kind, text: &str) -> Option<VersionKey> {
    (kind == Kind::Version).then(|| VersionKey::new(text))
}
