//! The index's layout, derived from the field catalogue.
//!
//! ```text
//! seq               u64, indexed and a column: the key by which documents are replaced
//! <field>           a column: text with a dictionary, i64, f64 or bool by its kind; dates are
//!                   milliseconds since 1970
//! <field>_words     words with positions, for fields of the full text
//! annotation        one text column for each annotation that is no field
//! annotation_words  their words
//! ```
//!
//! Conditions, sorting, counting and result columns read columns. Only words are in an inverted index. So
//! each value is stored once, any operator is exact, and a small commit stays small.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tantivy::schema::{
    FAST, Field as Slot, FieldEntry, INDEXED, IndexRecordOption, JsonObjectOptions, NumericOptions,
    Schema, TextFieldIndexing, TextOptions,
};
use tantivy::tokenizer::{LowerCaser, RemoveLongFilter, SimpleTokenizer, TextAnalyzer};

use super::known::Known;
use crate::fields::{Catalogue, Field, Kind};

pub(crate) const SEQ: &str = "seq";
pub(crate) const ANNOTATION: &str = "annotation";
const ANNOTATION_WORDS: &str = "annotation_words";
const WORDS: &str = "words";
/// Limit of bytes of a word. Nobody types a longer one.
const WORD_BYTES_MAX: usize = 200;

/// Where a field's values are stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slots {
    pub(crate) column: Slot,
    pub(crate) words: Option<Slot>,
}

/// An index's schema, and where the fields of a catalogue are in it.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) schema: Schema,
    pub(crate) seq: Slot,
    pub(crate) annotation: Slot,
    pub(crate) annotation_words: Slot,
    pub(crate) known: Known,
    /// Fields of the catalogue that are known completely, by name.
    fields: HashMap<String, Slots>,
    /// The other fields of the catalogue.
    pub(crate) missing: Vec<Arc<Field>>,
    /// Annotations that were fields, but are not fields in the catalogue.
    pub(crate) former_fields: BTreeSet<String>,
}

impl Layout {
    /// The layout of an index that is made for the catalogue.
    pub(crate) fn new(catalogue: &Catalogue) -> Self {
        let schema = schema(catalogue);
        Self::of(schema, Known::of(catalogue), catalogue).expect("the schema has what it was given")
    }

    /// The layout of an existing index; `None` if it is not one of ours.
    pub(crate) fn of(schema: Schema, known: Known, catalogue: &Catalogue) -> Option<Self> {
        let slot = |name| schema.get_field(name).ok();
        let mut fields = HashMap::new();
        let mut missing = Vec::new();
        for field in catalogue.all() {
            match slots(&schema, field).filter(|_| known.has(catalogue, field)) {
                Some(slots) => {
                    fields.insert(field.name.to_string(), slots);
                }
                None => missing.push(field.clone()),
            }
        }
        Some(Self {
            seq: slot(SEQ)?,
            annotation: slot(ANNOTATION)?,
            annotation_words: slot(ANNOTATION_WORDS)?,
            former_fields: known.former_fields(&Known::of(catalogue)),
            schema,
            known,
            fields,
            missing,
        })
    }

    /// Where the values of a field are; `None` if they are not known completely.
    pub(crate) fn slots(&self, field: &Field) -> Option<Slots> {
        self.fields.get(&*field.name).copied()
    }
}

fn schema(catalogue: &Catalogue) -> Schema {
    let mut builder = Schema::builder();
    builder.add_u64_field(SEQ, NumericOptions::from(INDEXED) | FAST);
    for field in catalogue.all() {
        let (column, words) = entries(field);
        builder.add_field(column);
        words.map(|words| builder.add_field(words));
    }
    builder.add_json_field(ANNOTATION, JsonObjectOptions::default().set_fast("raw"));
    builder.add_text_field(ANNOTATION_WORDS, words_options());
    builder.build()
}

/// The column of a field, and its words if the full text includes them.
fn entries(field: &Field) -> (FieldEntry, Option<FieldEntry>) {
    let name = field.name.to_string();
    let numbers = NumericOptions::from(FAST);
    let column = match field.kind {
        Kind::String | Kind::Enum | Kind::Version | Kind::Address => {
            FieldEntry::new_text(name, TextOptions::default().set_fast("raw"))
        }
        Kind::Integer | Kind::Date => FieldEntry::new_i64(name, numbers),
        Kind::Float => FieldEntry::new_f64(name, numbers),
        Kind::Bool => FieldEntry::new_bool(name, numbers),
    };
    let words = field.flags.text.then(|| {
        let name = format!("{}_words", field.name);
        FieldEntry::new_text(name, words_options())
    });
    (column, words)
}

/// Where a field is in a schema; `None` if it is missing or differs from what would be created now.
fn slots(schema: &Schema, field: &Field) -> Option<Slots> {
    let find = |entry: FieldEntry| {
        let slot = schema.get_field(entry.name()).ok()?;
        (*schema.get_field_entry(slot) == entry).then_some(slot)
    };
    let (column, words) = entries(field);
    Some(Slots {
        column: find(column)?,
        words: match words {
            Some(words) => Some(find(words)?),
            None => None,
        },
    })
}

fn words_options() -> TextOptions {
    TextOptions::default().set_indexing_options(
        TextFieldIndexing::default()
            .set_tokenizer(WORDS)
            .set_fieldnorms(false)
            .set_index_option(IndexRecordOption::WithFreqsAndPositions),
    )
}

/// Splits text at everything that is not a letter or digit, in lower case.
fn analyzer() -> TextAnalyzer {
    TextAnalyzer::builder(SimpleTokenizer::default())
        .filter(RemoveLongFilter::limit(WORD_BYTES_MAX))
        .filter(LowerCaser)
        .build()
}

pub(crate) fn register_analyzer(index: &tantivy::Index) {
    index.tokenizers().register(WORDS, analyzer());
}

/// The words of a text in the index's form, in order.
pub(crate) fn words(text: &str) -> Vec<String> {
    let mut analyzer = analyzer();
    let mut stream = analyzer.token_stream(text);
    let mut found = Vec::new();
    while let Some(token) = stream.next() {
        found.push(token.text.clone());
    }
    found
}

/// The start of a text, at most `bytes_max` bytes.
pub(crate) fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = bytes_max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
