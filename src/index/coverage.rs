//! How much of the requested data an index covers, while its successor is being built (ADR 19).

use super::schema::Layout;
use crate::fields;
use crate::query::{FieldRef, Query};

/// How much of the requested data an answer covers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Coverage {
    /// All of it.
    #[default]
    Whole,
    /// Crashes that are not in the index yet are missing, because it is still being built. The index before
    /// it has all crashes, but does not know these fields of the search. If there are no names, there is no
    /// index before it.
    SomeCrashes(Vec<String>),
    /// All crashes, but the full-text search may miss words of these fields, or find them as words of an
    /// annotation.
    SomeWords(Vec<String>),
}

impl Coverage {
    pub fn is_whole(&self) -> bool {
        *self == Self::Whole
    }

    /// The fields that are the reason.
    pub(crate) fn fields(&self) -> &[String] {
        match self {
            Self::Whole => &[],
            Self::SomeCrashes(fields) | Self::SomeWords(fields) => fields,
        }
    }
}

impl Layout {
    /// Fields in a query that are not known completely, each once.
    pub(crate) fn lacks(&self, query: &Query) -> Vec<String> {
        let mut names: Vec<String> = query
            .fields()
            .into_iter()
            .filter(|field| match field {
                FieldRef::Known(field) => self.slots(field).is_none(),
                FieldRef::Annotation(key) => self.former_fields.contains(key),
            })
            .map(FieldRef::name)
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Fields that the full-text search of a query should include or exclude, but that are not known.
    pub(crate) fn lacks_words(&self, query: &Query) -> Vec<String> {
        if query.text.is_none() {
            return Vec::new();
        }
        let sees_all = query.may_see_protected;
        let fields = self.missing.iter().filter(|field| {
            if sees_all {
                // The full-text search included it as an annotation without a field.
                field.flags.text || field.annotation().is_some()
            } else {
                field.flags.text && !field.is_protected()
            }
        });
        let former = self.former_fields.iter().filter(|_| sees_all);
        let former = former.map(|key| format!("{}{key}", fields::ANNOTATION_PREFIX));
        fields
            .map(|field| field.name.to_string())
            .chain(former)
            .collect()
    }
}
