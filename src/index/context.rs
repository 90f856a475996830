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
pub struct Context<'i> {
    pub catalogue: &'i Catalogue,
    pub layout: &'i Layout,
    pub dictionaries: &'i Arc<Dictionaries>,
    pub running: &'i Running,
}

impl Context<'_> {
    pub fn column(
        &self,
        segment: &SegmentReader,
        field: &FieldRef,
    ) -> Result<FieldColumn, IndexError> {
        FieldColumn::open(segment, field, self.dictionaries)
    }
}
