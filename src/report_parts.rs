//! Sorts the parts of a form into annotations, dumps and attachments as they arrive.
//!
//! Nothing that a client sent is dropped. A second part with the same name gets another name. A text that is
//! too long or is not text becomes an attachment. Each such change adds a note. Files are compressed as they
//! arrive and spill to disk, so that the size of a report does not determine our memory use. A dump that its
//! client compressed, or that is itself a multipart body, is stored as it came. The walk unpacks it.

mod nested;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use nested::Nested;

use crate::crash::raw::{MAIN_DUMP, Part, PartKind};
use crate::limits;
use crate::multipart::{PartHead, PartSink};
use crate::sentry;
use crate::store::{Payload, PayloadBuilder, StoreError};
use crate::symbols;
use crate::unreal;

/// Why a report was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The request is not a report, or it exceeds a limit.
    #[error("{why}")]
    Malformed {
        status: u16,
        code: &'static str,
        why: String,
    },
    /// The report may be good, but we could not store it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A refusal for a report that is malformed or exceeds a limit.
pub(crate) fn malformed(status: u16, code: &'static str, why: impl Into<String>) -> Refusal {
    Refusal::Malformed {
        status,
        code,
        why: why.into(),
    }
}

/// Sorts the parts of a form.
pub(crate) struct Parts {
    spill_dir: PathBuf,
    pub(crate) annotations: BTreeMap<String, String>,
    annotation_bytes: usize,
    pub(crate) files: Vec<(Part, Payload)>,
    /// Bytes of `files` that are in memory.
    memory_bytes: usize,
    pub(crate) notes: Vec<String>,
    pub(crate) json_seen: bool,
    /// Values that arrive in pieces, by key and by the number of the piece.
    pieces: BTreeMap<String, BTreeMap<u32, Vec<u8>>>,
    /// Annotations from inside a dump.
    nested: Vec<(String, String)>,
    /// Files whose content describes the crash, by the name of the part.
    pub(crate) read: Vec<(String, Vec<u8>)>,
    current: Option<Current>,
}

enum Current {
    Text {
        key: String,
        head: PartHead,
        bytes: Vec<u8>,
    },
    Json {
        bytes: Vec<u8>,
    },
    File(Box<FilePart>),
}

/// A file that is arriving.
struct FilePart {
    part: Part,
    builder: PayloadBuilder,
    /// Its first bytes.
    magic: Vec<u8>,
    /// Set for a dump that may be a multipart body.
    nested: Option<Nested>,
    /// The bytes of a file that is read as well as stored.
    copy: Option<Vec<u8>>,
}

impl Parts {
    pub(crate) fn new(spill_dir: &Path) -> Self {
        Self {
            spill_dir: spill_dir.to_path_buf(),
            annotations: BTreeMap::new(),
            annotation_bytes: 0,
            files: Vec::new(),
            memory_bytes: 0,
            notes: Vec::new(),
            json_seen: false,
            pieces: BTreeMap::new(),
            nested: Vec::new(),
            read: Vec::new(),
            current: None,
        }
    }

    /// Adds a note once, although its cause may occur repeatedly.
    pub(crate) fn note_once(&mut self, note: &str) {
        if !self.notes.iter().any(|found| found == note) {
            self.note(note);
        }
    }

    pub(crate) fn note(&mut self, note: impl Into<String>) {
        if self.notes.len() < limits::COLLECTOR_NOTES_MAX {
            self.notes.push(note.into());
        }
    }

    /// Adds an annotation. A second one of the same key is stored under another key.
    ///
    /// # Errors
    /// [`Refusal::Malformed`] with status 413 if the report has too many annotations, or too many bytes of
    /// them.
    pub(crate) fn annotate(&mut self, key: String, value: String) -> Result<(), Refusal> {
        self.check_annotation_count()?;
        self.annotation_bytes += key.len() + value.len();
        self.check_annotation_bytes(0)?;
        let key = clean(&key, limits::ANNOTATION_KEY_BYTES_MAX);
        let free = free_name(&key, |name| self.annotations.contains_key(name));
        if free != key {
            self.note(format!(
                "annotation {key} was sent twice; the second is stored as {free}"
            ));
        }
        self.annotations.insert(free, value.replace('\0', ""));
        Ok(())
    }

    /// Adds an annotation that we derived, unless the client sent one with this key. This never makes the
    /// report fail: if a limit is reached, it adds a note instead.
    pub(crate) fn derive(&mut self, key: &str, value: &str) {
        let is_sent = |text: &String| !text.trim().is_empty();
        if value.trim().is_empty() || self.annotations.get(key).is_some_and(is_sent) {
            return;
        }
        let key = clean(key, limits::ANNOTATION_KEY_BYTES_MAX);
        let bytes = key.len() + value.len();
        if value.len() > limits::ANNOTATION_BYTES_MAX
            || self.check_annotation_count().is_err()
            || self.check_annotation_bytes(bytes).is_err()
        {
            self.note_once("some values from the client's files were not stored as annotations");
            return;
        }
        self.annotation_bytes += bytes;
        self.annotations.insert(key, value.replace('\0', ""));
    }

    /// Call this after the last part. Joins values that came in pieces, and adds the annotations from inside
    /// dumps.
    ///
    /// # Errors
    /// [`Refusal::Malformed`] with status 413 if the report has too many annotations or files, or too many
    /// bytes of annotations. [`Refusal::Store`] if a value cannot be stored as an attachment.
    pub(crate) fn complete(&mut self) -> Result<(), Refusal> {
        for (key, pieces) in std::mem::take(&mut self.pieces) {
            let numbers_run = pieces.keys().copied().eq(1..=pieces.len() as u32);
            if pieces.len() > 1 && numbers_run && !self.annotations.contains_key(&key) {
                let bytes: Vec<u8> = pieces.into_values().flatten().collect();
                self.annotation_bytes = self.annotation_bytes.saturating_sub(bytes.len());
                if bytes.len() > limits::ANNOTATION_BYTES_MAX {
                    self.note_too_long(&key);
                    self.attach(&key, &PartHead::default(), &bytes)?;
                } else {
                    self.end_text(key, &bytes)?;
                }
                continue;
            }
            for (number, bytes) in pieces {
                self.annotation_bytes = self.annotation_bytes.saturating_sub(bytes.len());
                self.end_text(format!("{key}__{number}"), &bytes)?;
            }
        }
        let nested = std::mem::take(&mut self.nested);
        self.annotation_bytes = self.annotation_bytes.saturating_sub(bytes_of(&nested));
        for (key, value) in nested {
            self.derive(&key, &value);
        }
        Ok(())
    }

    fn check_annotation_count(&self) -> Result<(), Refusal> {
        let pieces: usize = self.pieces.values().map(BTreeMap::len).sum();
        if self.annotations.len() + pieces >= limits::ANNOTATIONS_MAX {
            Err(malformed(
                413,
                "too_many_annotations",
                format!(
                    "the report has more than {} annotations",
                    limits::ANNOTATIONS_MAX
                ),
            ))
        } else {
            Ok(())
        }
    }

    fn check_annotation_bytes(&self, more: usize) -> Result<(), Refusal> {
        if self.annotation_bytes + more > limits::ANNOTATIONS_BYTES_MAX {
            Err(malformed(
                413,
                "annotations_too_large",
                format!(
                    "the annotations are larger than {} bytes",
                    limits::ANNOTATIONS_BYTES_MAX
                ),
            ))
        } else {
            Ok(())
        }
    }

    fn begin_file(&mut self, name: &str, head: &PartHead) -> Result<Current, Refusal> {
        if self.files.len() >= limits::FILES_MAX {
            return Err(malformed(
                413,
                "too_many_files",
                format!("the report has more than {} files", limits::FILES_MAX),
            ));
        }
        let is_dump = name.starts_with(MAIN_DUMP);
        let clean_name = if is_dump {
            name.chars()
                .filter(|c| c.is_ascii_alphanumeric() || *c == '_')
                .take(limits::PART_NAME_CHARS_MAX)
                .collect()
        } else {
            clean(leaf(name), limits::PART_NAME_CHARS_MAX)
        };
        let free = free_name(&clean_name, |name| {
            self.files.iter().any(|(part, _)| part.name == name)
        });
        if free != name {
            self.note(format!(
                "part {} is stored as {free}",
                clean(name, limits::PART_NAME_CHARS_MAX)
            ));
        }
        let part = Part {
            name: free,
            kind: if is_dump {
                PartKind::Dump
            } else {
                PartKind::Attachment
            },
            file_name: head
                .file_name
                .as_deref()
                .map(|n| clean(leaf(n), limits::PART_NAME_CHARS_MAX)),
            content_type: head
                .content_type
                .as_deref()
                .map(|t| clean(t, limits::PART_NAME_CHARS_MAX)),
            bytes: 0,
            sha256: [0; 32],
        };
        let memory_left = limits::REPORT_MEMORY_BYTES_MAX.saturating_sub(self.memory_bytes);
        let is_read = is_read(name) && self.read.len() <= sentry::PARTS.len();
        Ok(Current::File(Box::new(FilePart {
            nested: (part.kind == PartKind::Dump).then(Nested::default),
            copy: is_read.then(Vec::new),
            part,
            builder: PayloadBuilder::spilling(&self.spill_dir, memory_left),
            magic: Vec::new(),
        })))
    }

    fn end_file(&mut self, file: FilePart) -> Result<(), Refusal> {
        let FilePart {
            mut part,
            builder,
            magic,
            nested,
            copy,
        } = file;
        let payload = builder.finish().map_err(StoreError::from)?;
        part.bytes = payload.bytes();
        part.sha256 = payload.sha256();
        // Some clients use another name for the dump. A file that begins like a dump is a dump.
        if magic == b"MDMP" || (symbols::is_packed(&magic) && is_called_dump(&part)) {
            part.kind = PartKind::Dump;
        }
        if let Some(bytes) = copy {
            self.annotation_bytes += bytes.len();
            self.read.push((part.name.clone(), bytes));
        }
        if let Some(texts) = nested.and_then(Nested::finish) {
            self.note(format!("dump {} is a multipart body", part.name));
            if self.nested.is_empty() {
                self.annotation_bytes += bytes_of(&texts);
                self.nested = texts;
            }
        }
        if part.kind == PartKind::Dump && symbols::is_packed(&magic) {
            self.note(format!("dump {} was compressed", part.name));
        }
        if part.kind == PartKind::Dump && part.bytes == 0 {
            self.note(format!("dump {} is empty", part.name));
        }
        self.memory_bytes += payload.memory_bytes();
        self.files.push((part, payload));
        Ok(())
    }

    /// Stores bytes as an attachment that arrived as a text.
    fn attach(&mut self, name: &str, head: &PartHead, bytes: &[u8]) -> Result<(), Refusal> {
        self.current = Some(self.begin_file(name, head)?);
        self.data(bytes)?;
        self.end()
    }

    /// Takes a text as an annotation, or stores it until the other pieces of its value have arrived.
    fn take_text(&mut self, key: String, head: &PartHead, bytes: Vec<u8>) -> Result<(), Refusal> {
        // Some clients send their dump without a file name.
        if bytes.starts_with(b"MDMP") || (is_binary(head) && symbols::is_packed(&bytes)) {
            return self.attach(&key, head, &bytes);
        }
        let Some((base, number)) = piece_of(&key) else {
            return self.end_text(key, &bytes);
        };
        let is_new = |pieces: &BTreeMap<u32, Vec<u8>>| !pieces.contains_key(&number);
        if !self.pieces.get(base).is_none_or(is_new) {
            return self.end_text(key, &bytes);
        }
        self.check_annotation_count()?;
        self.annotation_bytes += bytes.len();
        self.check_annotation_bytes(0)?;
        let pieces = self.pieces.entry(base.to_owned()).or_default();
        pieces.insert(number, bytes);
        Ok(())
    }

    fn end_text(&mut self, key: String, bytes: &[u8]) -> Result<(), Refusal> {
        let value = match String::from_utf8_lossy(bytes) {
            Cow::Borrowed(text) => text.to_owned(),
            Cow::Owned(replaced) => {
                self.note(format!(
                    "annotation {} is not UTF-8; it is stored as an attachment",
                    clean(&key, limits::ANNOTATION_KEY_BYTES_MAX)
                ));
                self.attach(&key, &PartHead::default(), bytes)?;
                replaced
            }
        };
        self.annotate(key, value)
    }

    fn end_json(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let bad = |e: serde_json::Error| {
            malformed(
                400,
                "invalid_json",
                format!("part extra is not valid JSON: {e}"),
            )
        };
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            let _: IgnoredAny = serde_json::from_slice(bytes).map_err(bad)?;
            let why = "part extra is not a JSON object";
            return Err(malformed(400, "invalid_json_value", why));
        }
        let entries: Entries = serde_json::from_slice(bytes).map_err(bad)?;
        self.json_seen = true;
        for (key, value) in entries.0 {
            let text = match serde_json::from_str::<String>(value.get()) {
                Ok(text) => text,
                // Other values stay JSON, and so does a string that is not valid Unicode.
                Err(_) => value.get().to_owned(),
            };
            if text.len() > limits::ANNOTATION_BYTES_MAX {
                self.note_too_long(&key);
                self.attach(&key, &PartHead::default(), text.as_bytes())?;
            } else {
                self.annotate(key, text)?;
            }
        }
        Ok(())
    }

    fn note_too_long(&mut self, key: &str) {
        self.note(format!(
            "annotation {} is longer than {} bytes; it is stored as an attachment",
            clean(key, limits::ANNOTATION_KEY_BYTES_MAX),
            limits::ANNOTATION_BYTES_MAX
        ));
    }

    /// Bytes in memory: annotations, and files that have not spilled.
    pub(crate) fn memory_bytes(&self) -> usize {
        let current = match &self.current {
            Some(Current::Text { bytes, .. } | Current::Json { bytes }) => bytes.len(),
            Some(Current::File(file)) => file.memory_bytes(),
            None => 0,
        };
        self.memory_bytes + self.annotation_bytes + current
    }
}

impl FilePart {
    fn memory_bytes(&self) -> usize {
        let copied = self.copy.as_ref().map_or(0, Vec::len);
        let nested = self.nested.as_ref().map_or(0, Nested::memory_bytes);
        self.builder.memory_bytes() + copied + nested
    }

    fn take(&mut self, piece: &[u8]) -> Result<(), Refusal> {
        let missing = 4 - self.magic.len();
        let missing = missing.min(piece.len());
        self.magic.extend_from_slice(&piece[..missing]);
        if let Some(copy) = &mut self.copy {
            copy.extend_from_slice(piece);
        }
        let too_long = |copy: &Vec<u8>| copy.len() > limits::SENTRY_BYTES_MAX;
        self.copy.take_if(|copy| too_long(copy));
        self.nested.take_if(|nested| !nested.take(piece));
        Ok(self.builder.write(piece).map_err(StoreError::from)?)
    }
}

fn bytes_of(texts: &[(String, String)]) -> usize {
    texts
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum()
}

/// True if a file of this name describes the crash.
fn is_read(name: &str) -> bool {
    sentry::PARTS.contains(&name) || name == unreal::CONTEXT
}

/// True if the names of a file say that it is a dump.
fn is_called_dump(part: &Part) -> bool {
    let file_name = part.file_name.as_deref().unwrap_or_default();
    let file_name = file_name.to_ascii_lowercase();
    part.name.to_ascii_lowercase().contains("minidump")
        || file_name.contains(".dmp")
        || file_name.contains(".mdmp")
}

/// True if the content type of a part says that it is not text.
fn is_binary(head: &PartHead) -> bool {
    let kind = head.content_type.as_deref().unwrap_or_default();
    kind.starts_with("application/") && !kind.starts_with("application/json")
}

/// `key__2` is the second piece of `key`: Breakpad splits values that are longer than 255 bytes.
fn piece_of(key: &str) -> Option<(&str, u32)> {
    let (base, number) = key.rsplit_once("__")?;
    let is_number = number.bytes().all(|b| b.is_ascii_digit()) && !number.starts_with('0');
    let number = number.parse().ok().filter(|_| is_number)?;
    (!base.is_empty()).then_some((base, number))
}

/// The members of an object in order, including duplicate names, up to one more than the limit. Values stay
/// text, because a tree of values can be a hundred times as large.
struct Entries(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    if entries.len() <= limits::ANNOTATIONS_MAX {
                        entries.push(entry);
                    }
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

impl PartSink for Parts {
    type Error = Refusal;

    fn begin(&mut self, head: PartHead) -> Result<(), Refusal> {
        let name = head.name.clone().unwrap_or_default();
        let is_file = head.file_name.is_some() || name.starts_with(MAIN_DUMP) || is_read(&name);
        let is_json = head
            .content_type
            .as_deref()
            .is_some_and(|t| t.starts_with("application/json"));
        self.current = Some(if name == "extra" && is_json {
            Current::Json { bytes: Vec::new() }
        } else if is_file || name.is_empty() {
            let name = if name.is_empty() {
                head.file_name.clone().unwrap_or_default()
            } else {
                name
            };
            self.begin_file(&name, &head)?
        } else {
            self.check_annotation_count()?;
            Current::Text {
                key: name,
                head,
                bytes: Vec::new(),
            }
        });
        Ok(())
    }

    fn data(&mut self, piece: &[u8]) -> Result<(), Refusal> {
        match &mut self.current {
            Some(Current::Text { key, head, bytes }) => {
                bytes.extend_from_slice(piece);
                if bytes.len() > limits::ANNOTATION_BYTES_MAX {
                    let (key, bytes) = (std::mem::take(key), std::mem::take(bytes));
                    let head = std::mem::take(head);
                    if !bytes.starts_with(b"MDMP") {
                        self.note_too_long(&key);
                    }
                    self.current = Some(self.begin_file(&key, &head)?);
                    return self.data(&bytes);
                }
                Ok(())
            }
            Some(Current::Json { bytes }) => {
                bytes.extend_from_slice(piece);
                let held = bytes.len();
                self.check_annotation_bytes(held)
            }
            Some(Current::File(file)) => file.take(piece),
            None => Ok(()),
        }
    }

    fn end(&mut self) -> Result<(), Refusal> {
        match self.current.take() {
            Some(Current::Text { key, head, bytes }) => self.take_text(key, &head, bytes),
            Some(Current::Json { bytes }) => self.end_json(&bytes),
            Some(Current::File(file)) => self.end_file(*file),
            None => Ok(()),
        }
    }
}

/// The last component of a name that may be a path of any operating system.
fn leaf(name: &str) -> &str {
    name.rsplit(['/', '\\']).next().unwrap_or_default()
}

/// A name without control characters and with at most `bytes_max` bytes.
fn clean(name: &str, bytes_max: usize) -> String {
    let mut clean: String = name.chars().filter(|c| !c.is_control()).collect();
    let mut end = clean.len().min(bytes_max);
    while !clean.is_char_boundary(end) {
        end -= 1;
    }
    clean.truncate(end);
    match clean.trim() {
        "" | "." | ".." => "unnamed".into(),
        _ => clean,
    }
}

/// Returns `name` if it is free, otherwise `name_2`, `name_3` and so on.
fn free_name(name: &str, taken: impl Fn(&str) -> bool) -> String {
    if !taken(name) {
        return name.to_owned();
    }
    (2..)
        .map(|n| format!("{name}_{n}"))
        .find(|n| !taken(n))
        .expect("numbers do not end")
}
