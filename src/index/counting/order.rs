//! The order in which the values of a facet are listed.

use std::collections::HashMap;

use super::bucket::{Bucket, Key, version};
use crate::fields::Kind;
use crate::fields::version::VersionKey;
use crate::index::bounds::Running;
use crate::index::error::IndexError;
use crate::index::unique::KeyHash;
use crate::limits;

/// Numbers for texts, over all segments.
#[derive(Default)]
pub(super) struct Interner {
    keys: HashMap<Box<str>, u64>,
    texts: Vec<Box<str>>,
    pub(super) bytes: usize,
}

impl Interner {
    pub(super) fn key(&mut self, text: &str) -> u64 {
        if let Some(key) = self.keys.get(text) {
            return *key;
        }
        let key = self.texts.len() as u64;
        self.keys.insert(text.into(), key);
        self.texts.push(text.into());
        self.bytes += 2 * text.len() + 100;
        key
    }
}

/// The order in which the values of a facet are listed.
pub(super) struct Order<'i> {
    pub(super) kind: Kind,
    /// Only for facets of texts.
    pub(super) texts: Option<&'i Interner>,
    pub(super) is_histogram: bool,
    pub(super) size: usize,
}

impl Order<'_> {
    pub(super) fn listed(
        &self,
        mut found: Vec<((u32, u64), u64)>,
        running: &Running,
    ) -> Result<Vec<Bucket>, IndexError> {
        running.check_time()?;
        let text = |key: u64| self.texts.map(|texts| &*texts.texts[key as usize]);
        let mut versions: HashMap<u64, Option<VersionKey>, KeyHash> = HashMap::default();
        if self.kind == Kind::Version {
            let keys = found.iter().map(|((_, key), _)| *key);
            versions.extend(keys.map(|key| (key, text(key).and_then(|t| version(self.kind, t)))));
        }
        let by_key = |a: u64, b: u64| {
            let order = versions.get(&a).cmp(&versions.get(&b));
            order.then_with(|| text(a).cmp(&text(b)).then(a.cmp(&b)))
        };
        let order = |a: &((u32, u64), u64), b: &((u32, u64), u64)| {
            if self.is_histogram {
                by_key(a.0.1, b.0.1)
            } else {
                b.1.cmp(&a.1).then_with(|| by_key(a.0.1, b.0.1))
            }
        };
        found.sort_unstable_by_key(|((parent, _), _)| *parent);
        let mut listed = Vec::new();
        for group in found.chunk_by_mut(|a, b| a.0.0 == b.0.0) {
            let mut group = group;
            if self.is_histogram {
                if group.len() > limits::FACETS_SIZE_MAX {
                    return Err(IndexError::TooComplex);
                }
            } else if group.len() > self.size {
                group.select_nth_unstable_by(self.size, order);
                group = &mut group[..self.size];
            }
            group.sort_unstable_by(order);
            listed.extend(group.iter().map(|&((parent, key), count)| Bucket {
                parent,
                key: text(key).map_or(Key::Number(key), |text| Key::Text(text.into())),
                count,
            }));
        }
        Ok(listed)
    }
}
