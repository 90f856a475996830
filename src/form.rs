//! The parts of a form, sorted into annotations, dumps and attachments while they come in.
//!
//! Nothing that a client sent is dropped: a second part of one name gets another, a text that is
//! too long or no text becomes an attachment, each with a note. Files are packed as they come and
//! spill to disk, so that a report's size is not its memory.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::crash::raw::{MAIN_DUMP, Part, PartKind};
use crate::limits;
use crate::multipart::{PartHead, PartSink};
use crate::store::{Payload, PayloadBuilder, StoreError};

/// Why a report was not taken.
#[derive(Debug)]
pub enum Refusal {
    /// The client sent something that is no report, or one over a bound.
    Malformed {
        status: u16,
        code: &'static str,
        why: String,
    },
    /// The report may be good; we could not keep it.
    Store(StoreError),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { why, .. } => f.write_str(why),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// A report over a bound, or none at all.
pub fn malformed(status: u16, code: &'static str, why: impl Into<String>) -> Refusal {
    Refusal::Malformed {
        status,
        code,
        why: why.into(),
    }
}

/// Sorts the parts of a form.
pub struct Parts {
    spill_dir: PathBuf,
    pub annotations: BTreeMap<String, String>,
    annotation_bytes: usize,
    pub files: Vec<(Part, Payload)>,
    /// Bytes of `files` that are in memory.
    memory_bytes: usize,
    pub notes: Vec<String>,
    pub json_seen: bool,
    current: Option<Current>,
}

enum Current {
    Text {
        key: String,
        bytes: Vec<u8>,
    },
    Json {
        bytes: Vec<u8>,
    },
    File {
        part: Part,
        builder: Box<PayloadBuilder>,
        magic: Vec<u8>,
    },
}

impl Parts {
    pub fn new(spill_dir: &Path) -> Self {
        Self {
            spill_dir: spill_dir.to_path_buf(),
            annotations: BTreeMap::new(),
            annotation_bytes: 0,
            files: Vec::new(),
            memory_bytes: 0,
            notes: Vec::new(),
            json_seen: false,
            current: None,
        }
    }

    /// A note that may come up again and again.
    pub fn note_once(&mut self, note: &str) {
        if !self.notes.iter().any(|found| found == note) {
            self.note(note);
        }
    }

    pub fn note(&mut self, note: impl Into<String>) {
        if self.notes.len() < limits::COLLECTOR_NOTES_MAX {
            self.notes.push(note.into());
        }
    }

    /// Adds an annotation; a second one of the same key is kept beside the first.
    pub fn annotate(&mut self, key: String, value: String) -> Result<(), Refusal> {
        self.check_annotation_count()?;
        self.annotation_bytes += key.len() + value.len();
        self.check_annotation_bytes(0)?;
        let key = clean(&key, limits::ANNOTATION_KEY_BYTES_MAX);
        let free = free_name(&key, |name| self.annotations.contains_key(name));
        if free != key {
            self.note(format!(
                "annotation {key} came twice, the second is kept as {free}"
            ));
        }
        self.annotations.insert(free, value.replace('\0', ""));
        Ok(())
    }

    fn check_annotation_count(&self) -> Result<(), Refusal> {
        match self.annotations.len() >= limits::ANNOTATIONS_MAX {
            false => Ok(()),
            true => Err(malformed(
                413,
                "too_many_annotations",
                format!(
                    "the report has more than {} annotations",
                    limits::ANNOTATIONS_MAX
                ),
            )),
        }
    }

    fn check_annotation_bytes(&self, more: usize) -> Result<(), Refusal> {
        match self.annotation_bytes + more > limits::ANNOTATIONS_BYTES_MAX {
            false => Ok(()),
            true => Err(malformed(
                413,
                "annotations_too_large",
                format!(
                    "the annotations are larger than {} bytes",
                    limits::ANNOTATIONS_BYTES_MAX
                ),
            )),
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
                "part {} is kept as {free}",
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
        let builder = Box::new(PayloadBuilder::spilling(&self.spill_dir, memory_left));
        Ok(Current::File {
            part,
            builder,
            magic: Vec::new(),
        })
    }

    fn end_file(
        &mut self,
        mut part: Part,
        builder: PayloadBuilder,
        magic: &[u8],
    ) -> Result<(), Refusal> {
        let payload = builder.finish().map_err(StoreError::from)?;
        part.bytes = payload.bytes();
        part.sha256 = payload.sha256();
        // A client with a name of its own for the dump: what begins like one is one.
        if magic == b"MDMP" {
            part.kind = PartKind::Dump;
        }
        if part.kind == PartKind::Dump && part.bytes == 0 {
            self.note(format!("dump {} is empty", part.name));
        }
        self.memory_bytes += payload.memory_bytes();
        self.files.push((part, payload));
        Ok(())
    }

    /// Keeps bytes as an attachment that came as something else.
    fn attach(&mut self, name: &str, bytes: &[u8]) -> Result<(), Refusal> {
        let Current::File {
            part, mut builder, ..
        } = self.begin_file(name, &PartHead::default())?
        else {
            return Ok(());
        };
        builder.write(bytes).map_err(StoreError::from)?;
        self.end_file(part, *builder, b"")
    }

    fn end_text(&mut self, key: String, bytes: Vec<u8>) -> Result<(), Refusal> {
        let value = match String::from_utf8_lossy(&bytes) {
            Cow::Borrowed(text) => text.to_owned(),
            Cow::Owned(replaced) => {
                self.note(format!(
                    "annotation {} is not UTF-8; its bytes are kept as an attachment",
                    clean(&key, limits::ANNOTATION_KEY_BYTES_MAX)
                ));
                self.attach(&key, &bytes)?;
                replaced
            }
        };
        self.annotate(key, value)
    }

    fn end_json(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let bad = |e: serde_json::Error| {
            malformed(400, "invalid_json", format!("part extra is no JSON: {e}"))
        };
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            let _: IgnoredAny = serde_json::from_slice(bytes).map_err(bad)?;
            let why = "part extra is JSON, but no object";
            return Err(malformed(400, "invalid_json_value", why));
        }
        let entries: Entries = serde_json::from_slice(bytes).map_err(bad)?;
        self.json_seen = true;
        for (key, value) in entries.0 {
            let text = match serde_json::from_str::<String>(value.get()) {
                Ok(text) => text,
                // Other values stay JSON; so does a text that is no Unicode.
                Err(_) => value.get().to_owned(),
            };
            if text.len() > limits::ANNOTATION_BYTES_MAX {
                self.note_too_long(&key);
                self.attach(&key, text.as_bytes())?;
            } else {
                self.annotate(key, text)?;
            }
        }
        Ok(())
    }

    fn note_too_long(&mut self, key: &str) {
        self.note(format!(
            "annotation {} is longer than {} bytes; it is kept as an attachment",
            clean(key, limits::ANNOTATION_KEY_BYTES_MAX),
            limits::ANNOTATION_BYTES_MAX
        ));
    }

    /// Bytes held in memory: annotations, and files that have not spilled.
    pub fn memory_bytes(&self) -> usize {
        let current = match &self.current {
            Some(Current::Text { bytes, .. } | Current::Json { bytes }) => bytes.len(),
            Some(Current::File { builder, .. }) => builder.memory_bytes(),
            None => 0,
        };
        self.memory_bytes + self.annotation_bytes + current
    }
}

/// The members of an object in their order, also those of one name, up to one more than may be
/// taken. Values stay text: a tree of them can be a hundred times as large.
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
        let is_file = head.file_name.is_some() || name.starts_with(MAIN_DUMP);
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
                bytes: Vec::new(),
            }
        });
        Ok(())
    }

    fn data(&mut self, piece: &[u8]) -> Result<(), Refusal> {
        match &mut self.current {
            Some(Current::Text { key, bytes }) => {
                bytes.extend_from_slice(piece);
                if bytes.len() > limits::ANNOTATION_BYTES_MAX {
                    let (key, bytes) = (std::mem::take(key), std::mem::take(bytes));
                    self.note_too_long(&key);
                    self.current = Some(self.begin_file(&key, &PartHead::default())?);
                    return self.data(&bytes);
                }
                Ok(())
            }
            Some(Current::Json { bytes }) => {
                bytes.extend_from_slice(piece);
                let held = bytes.len();
                self.check_annotation_bytes(held)
            }
            Some(Current::File { builder, magic, .. }) => {
                let missing = 4 - magic.len();
                magic.extend_from_slice(&piece[..missing.min(piece.len())]);
                Ok(builder.write(piece).map_err(StoreError::from)?)
            }
            None => Ok(()),
        }
    }

    fn end(&mut self) -> Result<(), Refusal> {
        match self.current.take() {
            Some(Current::Text { key, bytes }) => self.end_text(key, bytes),
            Some(Current::Json { bytes }) => self.end_json(&bytes),
            Some(Current::File {
                part,
                builder,
                magic,
            }) => self.end_file(part, *builder, &magic),
            None => Ok(()),
        }
    }
}

/// The last component of what may be a path of any system.
fn leaf(name: &str) -> &str {
    name.rsplit(['/', '\\']).next().unwrap_or_default()
}

/// A name without control characters and of bounded length.
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

/// `name`, or `name_2`, `name_3` and so on.
fn free_name(name: &str, taken: impl Fn(&str) -> bool) -> String {
    if !taken(name) {
        return name.to_owned();
    }
    (2..)
        .map(|n| format!("{name}_{n}"))
        .find(|n| !taken(n))
        .expect("numbers do not end")
}
