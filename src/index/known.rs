//! What an index knows of the field catalogue (ADR 19).
//!
//! An index is made for one version of the catalogue. If it is opened with another version, it continues to
//! answer for the fields that are the same in both, while its successor is built beside it. New crashes are
//! written to it, too, with only those fields. So every commit stores what the index knows completely: the
//! fields that are the same in all catalogues under which it was written. Otherwise a server that goes back
//! to an earlier catalogue would miss the crashes that were written without a field.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::fields::{Catalogue, Field, Source};

/// Version of the index's layout, apart from the catalogue. 1: the first. 2: a negative zero is zero.
///
/// An index with another layout is not read, because searches would have to know both.
const LAYOUT: u32 = 2;

/// Stored in each commit, see [`Writer`](super::Writer).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Known {
    layout: u32,
    /// For each field that is known completely, everything that its values in the index depend on.
    fields: BTreeSet<String>,
    /// Annotations that were fields at some time. Some crashes lack them as `annotation.<Key>`, and their
    /// words may be in either place.
    annotations: BTreeSet<String>,
}

impl Known {
    /// Everything that a catalogue names.
    pub(crate) fn of(catalogue: &Catalogue) -> Self {
        let fields = catalogue.all().iter();
        let annotations = catalogue.of_annotations();
        Self {
            layout: LAYOUT,
            fields: fields.map(|field| line(catalogue, field)).collect(),
            annotations: annotations.map(|(key, _)| key.to_owned()).collect(),
        }
    }

    /// What remains if crashes are written under another catalogue, which knows `other`.
    pub(crate) fn within(&self, other: &Self) -> Self {
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
    pub(crate) fn is_readable(&self) -> bool {
        self.layout == LAYOUT
    }

    /// Whether every crash has this field as the catalogue defines it.
    pub(crate) fn has(&self, catalogue: &Catalogue, field: &Field) -> bool {
        self.fields.contains(&line(catalogue, field))
    }

    /// Annotations that were fields, but are not fields in `other`.
    pub(crate) fn former_fields(&self, other: &Self) -> BTreeSet<String> {
        self.annotations
            .difference(&other.annotations)
            .cloned()
            .collect()
    }
}

/// The annotation comes last, because it may contain any characters.
fn line(catalogue: &Catalogue, field: &Field) -> String {
    format!(
        "{} {} {} text={} split={} {}",
        field.name,
        field.key,
        field.kind.site_word(),
        field.flags.text,
        field.flags.split,
        match &field.source {
            Source::Annotation(key) => key.to_string(),
            Source::Processed => String::new(),
            Source::Installation => catalogue.installation_keys().join(" "),
        },
    )
}
