//! What an index knows of the field catalogue (ADR 19).
//!
//! An index is made for one version of the catalogue. If it is opened with another version, it continues to
//! answer for the fields that are the same in both, while its successor is built beside it. New crashes are
//! written to it, too, with only those fields. So every commit stores what the index knows completely: the
//! fields that are the same in all catalogues under which it was written. Otherwise a server that goes back
//! to an earlier catalogue would miss the crashes that were written without a field.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::schema::Layout;
use crate::fields::{self, Field, Source};
use crate::query::{FieldRef, Query};

/// Version of the index's layout, apart from the catalogue. 1: the first. 2: a negative zero is zero.
///
/// An index with another layout is not read, because searches would have to know both.
const LAYOUT: u32 = 2;

/// Stored in each commit, see [`Writer`](super::Writer).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    layout: u32,
    /// For each field that is known completely, everything that its values in the index depend on.
    fields: BTreeSet<String>,
    /// Annotations that were fields at some time. Some crashes lack them as `annotation.<Key>`, and their
    /// words may be in either place.
    annotations: BTreeSet<String>,
}

impl Known {
    /// Everything that a catalogue names.
    pub fn of(catalogue: &[Field]) -> Self {
        let annotations = catalogue.iter().filter_map(Field::annotation);
        Self {
            layout: LAYOUT,
            fields: catalogue.iter().map(line).collect(),
            annotations: annotations.map(str::to_owned).collect(),
        }
    }

    /// What remains if crashes are written under another catalogue, which knows `other`.
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

    /// Whether searches can read this layout.
    pub fn is_readable(&self) -> bool {
        self.layout == LAYOUT
    }

    /// Whether every crash has this field as the catalogue defines it.
    pub fn has(&self, field: &Field) -> bool {
        self.fields.contains(&line(field))
    }

    /// Annotations that were fields, but are not fields in `other`.
    pub fn former_fields(&self, other: &Self) -> BTreeSet<String> {
        self.annotations
            .difference(&other.annotations)
            .cloned()
            .collect()
    }
}

/// The annotation comes last, because it may contain any characters.
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
    pub fn fields(&self) -> &[String] {
        match self {
            Self::Whole => &[],
            Self::SomeCrashes(fields) | Self::SomeWords(fields) => fields,
        }
    }
}

impl Layout {
    /// Fields in a query that are not known completely, each once.
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

    /// Fields that the full-text search of a query should include or exclude, but that are not known.
    pub fn lacks_words(&self, query: &Query) -> Vec<String> {
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
            .map(|field| field.name.to_owned())
            .chain(former)
            .collect()
    }
}
