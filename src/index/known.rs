//! What an index knows of the field catalogue.
//!
//! An index is made for the catalogue of its day. Opened with another one it goes on answering, while
//! its successor is built beside it: for the fields that both catalogues have alike. New crashes are
//! written to it as well, with no more than those fields. So every commit carries what the index
//! knows in full by then, which is what all catalogues agreed on under which it was written, and a
//! server that comes back to an earlier catalogue is not deceived by what was left out meanwhile.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::schema::Layout;
use crate::fields::{self, Field, Source};
use crate::query::{FieldRef, Query};

/// Layout of the index behind the catalogue. 1: the first. 2: a negative zero is zero.
///
/// An index of another layout is not read: searches would have to know both.
const LAYOUT: u32 = 2;

/// Kept in each commit, see [`Writer`](super::Writer).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    layout: u32,
    /// Of each field that is known in full all that its values in the index depend on.
    fields: BTreeSet<String>,
    /// Annotations that were fields at one time or another. As `annotation.<Key>` some crashes lack
    /// them, and their words are here or there.
    annotations: BTreeSet<String>,
}

impl Known {
    /// All that a catalogue names.
    pub fn of(catalogue: &[Field]) -> Self {
        let annotations = catalogue.iter().filter_map(Field::annotation);
        Self {
            layout: LAYOUT,
            fields: catalogue.iter().map(line).collect(),
            annotations: annotations.map(str::to_owned).collect(),
        }
    }

    /// What is left of it once crashes are written under another catalogue, which knows `other`.
    pub fn within(&self, other: &Self) -> Self {
        Self {
            layout: self.layout,
            fields: self.fields.intersection(&other.fields).cloned().collect(),
            annotations: self
                .annotations
                .union(&other.annotations)
                .cloned()
                .collect(),
        }
    }

    /// Whether searches can read what is laid out so.
    pub fn is_readable(&self) -> bool {
        self.layout == LAYOUT
    }

    /// Whether every crash has this field as the catalogue means it.
    pub fn has(&self, field: &Field) -> bool {
        self.fields.contains(&line(field))
    }

    /// Annotations that were fields, and are none to `other`.
    pub fn former_fields(&self, other: &Self) -> BTreeSet<String> {
        self.annotations
            .difference(&other.annotations)
            .cloned()
            .collect()
    }
}

/// The annotation comes last: it may hold anything.
fn line(field: &Field) -> String {
    format!(
        "{} {} {} text={} split={} {}",
        field.name,
        field.key,
        field.kind.site_word(),
        field.flags.text,
        field.flags.split,
        match field.source {
            Source::Annotation(key) => key.to_owned(),
            Source::Processed(_) => String::new(),
            Source::FirstOf(keys) => keys.join(" "),
        },
    )
}

/// How much of what a search is about an answer takes in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Coverage {
    /// All of it.
    #[default]
    Whole,
    /// Crashes that are not in the index yet are left out: it is still being built. Its predecessor,
    /// which has them, does not know these fields that the search names; without a name there is no
    /// predecessor.
    SomeCrashes(Vec<String>),
    /// All crashes, but words of these fields may be missed by the full-text search, or be found
    /// as words of an annotation.
    SomeWords(Vec<String>),
}

impl Coverage {
    pub fn is_whole(&self) -> bool {
        *self == Self::Whole
    }

    /// The fields because of which it is not.
    pub fn fields(&self) -> &[String] {
        match self {
            Self::Whole => &[],
            Self::SomeCrashes(fields) | Self::SomeWords(fields) => fields,
        }
    }
}

impl Layout {
    /// Fields that a query names and that are not known in full, once each.
    pub fn lacks(&self, query: &Query) -> Vec<String> {
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

    /// Fields whose words a query's full text is to look into, or not to, and that are not known.
    pub fn lacks_words(&self, query: &Query) -> Vec<String> {
        if query.text.is_none() {
            return Vec::new();
        }
        let sees_all = query.may_see_protected;
        let fields = self.missing.iter().filter(|field| match sees_all {
            // As an annotation that was none of the fields it was looked into.
            true => field.flags.text || field.annotation().is_some(),
            false => field.flags.text && !field.is_protected(),
        });
        let former = self.former_fields.iter().filter(|_| sees_all);
        let former = former.map(|key| format!("{}{key}", fields::ANNOTATION_PREFIX));
        fields
            .map(|field| field.name.to_owned())
            .chain(former)
            .collect()
    }
}
