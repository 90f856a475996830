//! Adds documents to an index and commits them.

use std::sync::Arc;

use tantivy::indexer::{IndexWriterOptions, LogMergePolicy};
use tantivy::schema::OwnedValue;
use tantivy::{IndexWriter, TantivyDocument, Term};

use super::document::{Document, Scalar};
use super::folder::Opened;
use super::keys::Keys;
use super::known::Known;
use super::schema::{ANNOTATION, cut};
use super::watermark::{Payload, Watermark};
use super::{Index, IndexError, Side};
use crate::limits;

/// Bytes of documents in memory before they become a segment. An idle writer uses none.
const MEMORY_BYTES: usize = 15_000_000;
/// The same while an index is built beside another one. Larger segments are merged less often.
const MEMORY_BYTES_NEXT: usize = 50_000_000;
/// Number of segments of similar size that are merged into one. Each segment has its own dictionaries, so a
/// smaller number makes searches faster and merges more frequent.
const MERGE_SEGMENTS: usize = 5;
/// A segment with more documents is not merged any more.
const MERGE_DOCS_MAX: usize = 1_000_000;
/// Share of deleted documents at which a segment is merged to remove them.
const DELETED_RATIO_MAX: f32 = 0.2;

/// The only writer of one side of an open index. It lives as long as the indexer, because merges end with it.
pub struct Writer {
    index: Arc<Index>,
    opened: Arc<Opened>,
    writer: IndexWriter,
    /// What the index knows completely about crashes that this writer adds.
    known: Known,
    /// Annotations that have columns.
    keys: Keys,
}

impl Writer {
    /// # Errors
    /// Another writer is open, or the directory cannot be written.
    pub fn open(index: &Arc<Index>, side: Side) -> Result<Self, IndexError> {
        let opened = index.side(side)?;
        let options = IndexWriterOptions::builder()
            .memory_budget_per_thread(match side {
                Side::Current => MEMORY_BYTES,
                Side::Next => MEMORY_BYTES_NEXT,
            })
            .num_worker_threads(1)
            .num_merge_threads(1)
            .build();
        let writer: IndexWriter = opened.tantivy.writer_with_options(options)?;
        let mut merges = LogMergePolicy::default();
        merges.set_min_num_segments(MERGE_SEGMENTS);
        merges.set_max_docs_before_merge(MERGE_DOCS_MAX);
        merges.set_del_docs_ratio_before_merge(DELETED_RATIO_MAX);
        writer.set_merge_policy(Box::new(merges));
        let keys = match opened.keys() {
            Some(keys) => (*keys).clone(),
            None if opened.watermark().is_none() => match side {
                Side::Current => Keys::default(),
                Side::Next => {
                    let current = index.side(Side::Current)?.keys();
                    current.map_or_else(Keys::default, |keys| keys.for_rebuild())
                }
            },
            None => {
                let mut columns = Vec::new();
                for field in opened.tantivy.fields_metadata()? {
                    if let Some(path) = field.field_name.strip_prefix(ANNOTATION)
                        && let Some(key) = path.strip_prefix('.')
                    {
                        columns.push(key.replace("\\.", "."));
                    }
                }
                Keys::of_columns(columns)
            }
        };
        Ok(Self {
            index: index.clone(),
            known: opened
                .layout
                .known
                .within(&Known::of(&index.folders.catalogue)),
            opened,
            writer,
            keys,
        })
    }

    /// Adds a crash, or replaces the crash in the index.
    ///
    /// # Errors
    /// As for [`Self::add`].
    pub fn put(&mut self, document: &Document) -> Result<(), IndexError> {
        self.delete(document.seq);
        self.add(document)
    }

    /// Adds a crash that is not in the index, with the fields that the index knows. This is faster than
    /// `put`, because each deletion is looked up in every segment.
    ///
    /// # Errors
    /// The writer has failed, for example because the disk is full. The caller must open it again and add
    /// everything since the last commit once more.
    pub(crate) fn add(&mut self, document: &Document) -> Result<(), IndexError> {
        let layout = &self.opened.layout;
        let mut doc = TantivyDocument::new();
        doc.add_u64(layout.seq, document.seq);
        for (field, values) in &document.fields {
            let Some(slots) = layout.slots(field) else {
                continue;
            };
            for value in values {
                match value {
                    Scalar::Text(text) => {
                        doc.add_text(slots.column, cut(text, limits::INDEX_VALUE_BYTES_MAX));
                        if let Some(words) = slots.words {
                            doc.add_text(words, cut(text, limits::INDEX_TEXT_BYTES_MAX));
                        }
                    }
                    Scalar::Integer(number) => doc.add_i64(slots.column, *number),
                    // Both zeros are one value, but columns compare bits.
                    Scalar::Float(number) => doc.add_f64(slots.column, *number + 0.0),
                    Scalar::Bool(value) => doc.add_bool(slots.column, *value),
                }
            }
        }
        let mut annotations = Vec::new();
        for (key, value) in &document.annotations {
            doc.add_text(layout.annotation_words, value);
            if !self.keys.take(key) {
                continue;
            }
            annotations.push((key.clone(), OwnedValue::Str(value.clone())));
        }
        if !annotations.is_empty() {
            doc.add_field_value(layout.annotation, &OwnedValue::Object(annotations));
        }
        self.writer.add_document(doc)?;
        Ok(())
    }

    pub fn delete(&mut self, seq: u64) {
        let term = Term::from_field_u64(self.opened.layout.seq, seq);
        self.writer.delete_term(term);
    }

    /// Makes everything since the last commit durable and searchable.
    ///
    /// # Errors
    /// The index cannot be written. Searches continue to use the last commit that succeeded. The caller must
    /// open the writer again.
    pub fn commit(&mut self, watermark: Watermark) -> Result<(), IndexError> {
        let payload = Payload {
            store: format!("{:032x}", self.index.folders.store_id),
            watermark,
            known: self.known.clone(),
            keys: Some(self.keys.clone()),
        };
        let payload = serde_json::to_string(&payload).expect("a payload is plain data");
        let mut commit = self.writer.prepare_commit()?;
        commit.set_payload(&payload);
        commit.commit()?;
        self.opened.reader.reload()?;
        self.opened.set_watermark(watermark);
        self.opened.set_keys(self.keys.clone());
        Ok(())
    }
}
