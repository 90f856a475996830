//! Counts documents by value, exactly and to any depth.
//!
//! Facets are counted one level at a time. Those at the top are counted over all matching documents. When it
//! is known which values the answer lists, the facets inside them are counted, for the listed values only. So
//! memory depends on the size of the answer and not on the number of values. tantivy's own aggregations are
//! not used, because their counts of texts are approximate over several segments (ADR 6).
//!
//! 1. [`Counting::open`] prepares the facets of a level for a segment (`part`). Texts are counted by the
//!    numbers of the entries in its dictionary (`tally`).
//! 2. [`Part::count`] counts the segment's documents, one block after the other.
//! 3. [`Counting::add`] adds the counts of a segment (`sum`). [`Counting::keep`] selects the values that are
//!    listed, when the level is done (`top`, `order`).

mod bucket;
mod counts;
mod order;
mod part;
mod sum;
mod tally;
mod top;
mod values;

pub(crate) use bucket::{Bucket, Key};
pub(crate) use counts::Counting;
pub(crate) use part::Part;
