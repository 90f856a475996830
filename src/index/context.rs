//! What all parts of a search need.

use std::sync::Arc;

use tantivy::SegmentReader;

use super::bounds::Running;
use super::columns::FieldColumn;
use super::error::IndexError;
use super::schema::Layout;
use super::terms::Dictionaries;
use crate::fields::Catalogue;
use crate::query::FieldRef;

/// The context of a search: the index that answers it, and its limits.
#[derive(Clone, Copy)]
pub(crate) struct Context<'i> {
    pub(crate) catalogue: &'i Catalogue,
    pub(crate) layout: &'i Layout,
    pub(crate) dictionaries: &'i Arc<Dictionaries>,
    pub(crate) running: &'i Running,
}

impl Context<'_> {
    pub(crate) fn column(
        &self,
        segment: &SegmentReader,
        field: &FieldRef,
    ) -> Result<FieldColumn, IndexError> {
        FieldColumn::open(segment, field, self.dictionaries)
    }
}
