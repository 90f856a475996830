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
//! Conditions, sorting, counting and result columns all read columns; only words are inverted.
//! So each value is stored once, any operator is exact, and a small commit stays small.

use std::collections::HashMap;

use tantivy::schema::{
    FAST, Field as Slot, INDEXED, IndexRecordOption, JsonObjectOptions, NumericOptions, Schema,
    TextFieldIndexing, TextOptions,
};
use tantivy::tokenizer::{LowerCaser, RemoveLongFilter, SimpleTokenizer, TextAnalyzer};

use crate::fields::{self, Kind};

pub const SEQ: &str = "seq";
pub const ANNOTATION: &str = "annotation";
const ANNOTATION_WORDS: &str = "annotation_words";
const WORDS: &str = "words";
/// Bytes of a word; a longer one is no word that anybody types.
const WORD_BYTES_MAX: usize = 200;

/// Where a field's values go.
#[derive(Clone, Copy, Debug)]
pub struct Slots {
    pub column: Slot,
    pub words: Option<Slot>,
}

/// The schema and the places in it.
#[derive(Debug)]
pub struct Layout {
    pub schema: Schema,
    pub seq: Slot,
    pub fields: HashMap<&'static str, Slots>,
    pub annotation: Slot,
    pub annotation_words: Slot,
}

impl Layout {
    pub fn new() -> Self {
        let mut builder = Schema::builder();
        let seq = builder.add_u64_field(SEQ, NumericOptions::from(INDEXED) | FAST);
        let column = TextOptions::default().set_fast("raw");
        let words = TextOptions::default().set_indexing_options(
            TextFieldIndexing::default()
                .set_tokenizer(WORDS)
                .set_fieldnorms(false)
                .set_index_option(IndexRecordOption::WithFreqsAndPositions),
        );
        let mut places = HashMap::new();
        for field in fields::all() {
            let slot = match field.kind {
                Kind::String | Kind::Enum | Kind::Version | Kind::Address => {
                    builder.add_text_field(field.name, column.clone())
                }
                Kind::Integer | Kind::Date => builder.add_i64_field(field.name, FAST),
                Kind::Float => builder.add_f64_field(field.name, FAST),
                Kind::Bool => builder.add_bool_field(field.name, FAST),
            };
            let words = field
                .flags
                .text
                .then(|| builder.add_text_field(&words_name(field.name), words.clone()));
            places.insert(
                field.name,
                Slots {
                    column: slot,
                    words,
                },
            );
        }
        let annotation =
            builder.add_json_field(ANNOTATION, JsonObjectOptions::default().set_fast("raw"));
        let annotation_words = builder.add_text_field(ANNOTATION_WORDS, words);
        Self {
            schema: builder.build(),
            seq,
            fields: places,
            annotation,
            annotation_words,
        }
    }
}

fn words_name(field: &str) -> String {
    format!("{field}_words")
}

/// Splits text at everything that is no letter or digit, in lower case.
fn analyzer() -> TextAnalyzer {
    TextAnalyzer::builder(SimpleTokenizer::default())
        .filter(RemoveLongFilter::limit(WORD_BYTES_MAX))
        .filter(LowerCaser)
        .build()
}

pub fn register_analyzer(index: &tantivy::Index) {
    index.tokenizers().register(WORDS, analyzer());
}

/// The words of a text as the index knows them, in order.
pub fn words(text: &str) -> Vec<String> {
    let mut analyzer = analyzer();
    let mut stream = analyzer.token_stream(text);
    let mut found = Vec::new();
    while let Some(token) = stream.next() {
        found.push(token.text.clone());
    }
    found
}

/// As much of a text as fits into so many bytes.
pub fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = bytes_max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
