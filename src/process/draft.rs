//! The input of processing, and the processed crash that the steps work on.

use serde_json::{Map, Value};

use crate::clock::Timestamp;
use crate::crash::id::CrashId;
use crate::crash::raw::{Part, RawCrash};
use crate::crash::walk::{Thread, Walk};
use crate::fields::Catalogue;
use crate::limits;
use crate::signature::{Generator, Input as Named, StoredFrame};

/// The result of walking the main dump.
#[derive(Debug)]
pub(crate) enum Walked {
    /// The JSON of the walk.
    Whole(Vec<u8>),
    /// The report has no dump.
    NoDump,
    /// The dump cannot be walked: a status word, and a sentence for people.
    Unreadable { status: String, why: String },
    /// The walk was given up, so the crash fails.
    GivenUp { status: String, why: String },
}

/// The input of the processing of a crash.
pub(crate) struct Input<'a> {
    pub(crate) id: CrashId,
    pub(crate) raw: &'a RawCrash,
    pub(crate) parts: Vec<&'a Part>,
    pub(crate) walked: Walked,
    /// The walks of the other dumps in the report, by name.
    pub(crate) others: Vec<(String, Walked)>,
    /// The attachment [`memory::PART`](super::memory::PART), as received.
    pub(crate) memory_report: Option<&'a [u8]>,
    /// Whether somebody who uses this server builds the module with a debug id: they uploaded its symbols.
    pub(crate) is_own: &'a dyn Fn(&str) -> bool,
    pub(crate) started_at: Timestamp,
    pub(crate) now: Timestamp,
}

/// A processed crash under construction.
pub(super) struct Draft<'a> {
    pub(super) input: &'a Input<'a>,
    pub(super) catalogue: &'a Catalogue,
    pub(super) generator: &'a Generator,
    pub(super) walk: Option<Walk>,
    /// The walks of the other dumps that have one.
    pub(super) other_walks: Vec<Walk>,
    pub(super) out: Map<String, Value>,
    pub(super) notes: Vec<String>,
    /// The signature and its input.
    pub(super) named: Option<Named<StoredFrame>>,
}

impl Draft<'_> {
    pub(super) fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.out.insert(name.to_owned(), value.into());
    }

    /// Sets a key, if there is a value.
    pub(super) fn set_some(&mut self, name: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    /// Adds notes about what a walk omits because it reached a limit.
    pub(super) fn note_lacks(&mut self, walk: &Walk, of_dump: &str) {
        let notes = walk.partial.iter();
        self.notes
            .extend(notes.map(|note| format!("{of_dump}incomplete walk: {note}")));
    }

    pub(super) fn int(&self, name: &str) -> Option<i64> {
        self.out.get(name).and_then(Value::as_i64)
    }

    /// The product as in lists.
    pub(super) fn product(&self) -> String {
        let product = self.input.raw.annotation("ProductName").unwrap_or_default();
        product.chars().take(limits::NAME_CHARS_MAX).collect()
    }

    pub(super) fn thread(&self) -> Option<(usize, &Thread)> {
        self.walk.as_ref()?.crashing_thread()
    }
}

pub(super) const STACKWALK_VERSION: &str = concat!("crashkeep ", env!("CARGO_PKG_VERSION"));
