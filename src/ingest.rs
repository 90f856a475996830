//! From the bytes of a request to a durable report and its answer.
//!
//! An [`Intake`] takes a body piece by piece: inflates it, cuts it into parts, sorts these into
//! annotations, dumps and attachments, and packs files as they come. [`accept`] maps the client's
//! dialect, asks the throttle, and makes the report durable. Nothing that a client sent is
//! dropped: what does not fit one form is kept in another, with a note.
//!
//! It never looks into a dump beyond its first four bytes, and it does no network I/O.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use flate2::write::MultiGzDecoder;

use crate::config::Http;
use crate::crash::id::{CrashId, Kept};
use crate::crash::raw::{MAIN_DUMP, Metadata, Part, PartKind, RawCrash, key};
use crate::dialect;
use crate::limits;
use crate::multipart::{self, BadContentType, Multipart, MultipartError, PartHead, PartSink};
use crate::store::{NewCrash, Payload, PayloadBuilder, StoreError};
use crate::throttle::{self, Outcome};
use crate::web::{App, Params};

/// What the head of a submission says.
#[derive(Clone, Debug, Default)]
pub struct SubmitHead {
    pub content_type: Option<String>,
    pub content_encoding: Option<String>,
    pub content_length: Option<u64>,
    pub user_agent: Option<String>,
    pub query: Params,
}

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

fn malformed(status: u16, code: &'static str, why: impl Into<String>) -> Refusal {
    Refusal::Malformed {
        status,
        code,
        why: why.into(),
    }
}

/// The connection ended before the body did.
pub fn incomplete_body(why: impl Into<String>) -> Refusal {
    malformed(400, "incomplete_body", why)
}

/// What the client is to be told.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// Kept durably (or pretended to, by a rule).
    CrashId(CrashId),
    Discarded {
        rule: String,
    },
}

/// Bounds on one report.
#[derive(Clone, Debug)]
pub struct IntakeLimits {
    pub report_bytes_max: u64,
    pub inflated_bytes_max: u64,
    pub ratio_max: u64,
}

impl From<&Http> for IntakeLimits {
    fn from(http: &Http) -> Self {
        Self {
            report_bytes_max: http.report_bytes_max.0,
            inflated_bytes_max: http.inflated_bytes_max.0,
            ratio_max: u64::from(http.ratio_max.value),
        }
    }
}

/// A report that was read whole, before anybody decided about it.
#[derive(Debug)]
pub struct Report {
    annotations: BTreeMap<String, String>,
    files: Vec<(Part, Payload)>,
    /// Its `received_at_ms` and `throttle_rule` are still open.
    metadata: Metadata,
}

/// A body being read.
pub struct Intake {
    limits: IntakeLimits,
    head: SubmitHead,
    boundary: String,
    body: Body,
    received_bytes: u64,
}

enum Body {
    /// Too short to tell whether it is compressed.
    Unknown {
        first: Vec<u8>,
        form: Form,
    },
    Plain(Form),
    Gzip(Box<MultiGzDecoder<Form>>),
}

impl Intake {
    /// Checks the head. Large files spill below `spill_dir`.
    pub fn begin(
        head: SubmitHead,
        limits: IntakeLimits,
        spill_dir: &Path,
    ) -> Result<Self, Refusal> {
        let content_type = head.content_type.as_deref().ok_or_else(|| {
            malformed(
                400,
                "no_content_type",
                "the request has no Content-Type header",
            )
        })?;
        let boundary = multipart::boundary(content_type).map_err(|e| match e {
            BadContentType::Wrong => malformed(
                400,
                "wrong_content_type",
                "a report is posted as multipart/form-data, with the dump in a part named upload_file_minidump",
            ),
            BadContentType::NoBoundary => {
                malformed(400, "no_boundary", "the Content-Type header names no boundary")
            }
        })?;
        let form = Form::new(&boundary, limits.clone(), spill_dir);
        let encoding = head
            .content_encoding
            .as_deref()
            .map(|e| e.trim().to_ascii_lowercase());
        let body = match encoding.as_deref() {
            None | Some("" | "identity") => Body::Unknown {
                first: Vec::new(),
                form,
            },
            Some("gzip" | "x-gzip") => Body::Gzip(Box::new(MultiGzDecoder::new(form))),
            Some(_) => {
                return Err(malformed(
                    415,
                    "unknown_encoding",
                    "the Content-Encoding is not known; send gzip, or none",
                ));
            }
        };
        let intake = Self {
            limits,
            boundary,
            body,
            received_bytes: 0,
            head,
        };
        if let Some(length) = intake.head.content_length {
            intake.check_size(length)?;
        }
        Ok(intake)
    }

    fn check_size(&self, bytes: u64) -> Result<(), Refusal> {
        match bytes > self.limits.report_bytes_max {
            false => Ok(()),
            true => Err(malformed(
                413,
                "report_too_large",
                format!(
                    "report of {bytes} bytes or more is larger than http.report_bytes_max ({} bytes)",
                    self.limits.report_bytes_max
                ),
            )),
        }
    }

    /// Takes the next piece of the body, as it came over the wire.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), Refusal> {
        self.received_bytes += piece.len() as u64;
        self.check_size(self.received_bytes)?;
        if let Body::Unknown { first, form } = &mut self.body {
            first.extend_from_slice(piece);
            if first.len() < 2 {
                return Ok(());
            }
            let first = std::mem::take(first);
            let empty = Form::new(
                &self.boundary,
                self.limits.clone(),
                &form.parts.spill_dir.clone(),
            );
            let mut form = std::mem::replace(form, empty);
            // Crash clients that forget the header do exist; no multipart body begins like this.
            self.body = if first.starts_with(&[0x1f, 0x8b]) {
                form.parts
                    .note("body is gzip although no Content-Encoding says so");
                Body::Gzip(Box::new(MultiGzDecoder::new(form)))
            } else {
                Body::Plain(form)
            };
            return self.pass_on(&first);
        }
        self.pass_on(piece)
    }

    fn pass_on(&mut self, piece: &[u8]) -> Result<(), Refusal> {
        match &mut self.body {
            Body::Unknown { .. } => Ok(()),
            Body::Plain(form) => form.take(piece),
            Body::Gzip(inflater) => {
                inflater.get_mut().received_bytes = self.received_bytes;
                inflater
                    .write_all(piece)
                    .map_err(|e| gzip_refusal(inflater.get_mut(), &e))
            }
        }
    }

    /// The body has ended.
    pub fn finish(self) -> Result<Report, Refusal> {
        let compressed = matches!(self.body, Body::Gzip(_));
        let form = match self.body {
            Body::Unknown { first, mut form } => {
                form.take(&first)?;
                form
            }
            Body::Plain(form) => form,
            Body::Gzip(mut inflater) => {
                if let Err(error) = inflater.try_finish() {
                    return Err(gzip_refusal(inflater.get_mut(), &error));
                }
                inflater
                    .finish()
                    .map_err(|e| malformed(400, "bad_gzip", e.to_string()))?
            }
        };
        let payload_bytes = form.inflated_bytes;
        form.multipart.finish::<Refusal>().map_err(|e| match e {
            MultipartError::Sink(refusal) => refusal,
            other => malformed(400, "invalid_payload_structure", other.to_string()),
        })?;
        let mut parts = form.parts;
        for (key, value) in self.head.query.0 {
            // Crashpad names product and version in the URL too; the form comes first.
            if !key.is_empty() && !parts.annotations.contains_key(&key) {
                parts.annotate(key, value)?;
            }
        }
        if parts.annotations.is_empty() && parts.files.is_empty() {
            return Err(malformed(
                400,
                "no_annotations",
                "the report has neither annotations nor files",
            ));
        }
        Ok(Report {
            annotations: parts.annotations,
            files: parts.files,
            metadata: Metadata {
                payload: if parts.json_seen { "json" } else { "multipart" }.into(),
                payload_compressed: compressed,
                payload_bytes,
                user_agent: self.head.user_agent,
                collector_notes: parts.notes,
                ..Metadata::default()
            },
        })
    }
}

fn gzip_refusal(form: &mut Form, error: &io::Error) -> Refusal {
    form.failure.take().unwrap_or_else(|| {
        malformed(
            400,
            "bad_gzip",
            format!("the body is no whole gzip stream: {error}"),
        )
    })
}

/// Decides over a report and makes it durable. Blocks until it is.
pub fn accept(app: &App, report: Report) -> Result<Answer, Refusal> {
    let Report {
        mut annotations,
        files,
        mut metadata,
    } = report;
    dialect::map(&mut annotations);
    let received_at = app.clock.now();
    let random = uuid::Uuid::new_v4().as_u128();
    let decision = throttle::decide(&app.config.throttle.value, &annotations, || {
        // 53 bits, the precision of the result.
        (uuid::Uuid::new_v4().as_u128() >> 75) as f64 / (1u64 << 53) as f64 * 100.0
    });
    let (kept, deferred_days) = match decision.outcome {
        Outcome::Accept => (Kept::Accepted, None),
        Outcome::Defer => (Kept::Deferred, Some(app.config.deferred.keep_days.value)),
        Outcome::Reject => {
            return Ok(Answer::Discarded {
                rule: decision.rule,
            });
        }
        Outcome::FakeAccept => {
            return Ok(Answer::CrashId(CrashId::new(
                random,
                Kept::Accepted,
                received_at,
            )));
        }
    };
    let id = CrashId::new(random, kept, received_at);
    metadata.received_at_ms = received_at.ms();
    metadata.throttle_rule = decision.rule.clone();
    let raw = RawCrash {
        annotations,
        metadata,
    };
    let name = |key| {
        let value = raw.annotation(key).unwrap_or_default();
        value
            .chars()
            .take(limits::NAME_CHARS_MAX)
            .collect::<String>()
    };
    let json = serde_json::to_vec(&raw).expect("texts and numbers become JSON");
    app.store.accept(NewCrash {
        id,
        received_at,
        product: name(key::PRODUCT),
        version: name(key::VERSION),
        throttle_rule: decision.rule,
        deferred_days,
        raw: Payload::from_bytes(&json),
        parts: files,
    })?;
    Ok(Answer::CrashId(id))
}

/// The inflated body, on its way into parts.
struct Form {
    multipart: Multipart,
    parts: Parts,
    limits: IntakeLimits,
    received_bytes: u64,
    inflated_bytes: u64,
    /// What stopped the inflater, since its own error can carry only text.
    failure: Option<Refusal>,
}

impl Form {
    fn new(boundary: &str, limits: IntakeLimits, spill_dir: &Path) -> Self {
        Self {
            multipart: Multipart::new(boundary),
            parts: Parts::new(spill_dir),
            limits,
            received_bytes: 0,
            inflated_bytes: 0,
            failure: None,
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        self.inflated_bytes += bytes.len() as u64;
        if self.inflated_bytes > self.limits.inflated_bytes_max {
            return Err(malformed(
                413,
                "inflated_too_large",
                format!(
                    "the body is larger than http.inflated_bytes_max ({} bytes)",
                    self.limits.inflated_bytes_max
                ),
            ));
        }
        self.multipart
            .feed(bytes, &mut self.parts)
            .map_err(|e| match e {
                MultipartError::Sink(refusal) => refusal,
                other => malformed(400, "invalid_payload_structure", other.to_string()),
            })
    }

    fn check_ratio(&self, more: usize) -> Result<(), Refusal> {
        let inflated = self.inflated_bytes + more as u64;
        let allowed =
            limits::INFLATE_FREE_BYTES + self.received_bytes.saturating_mul(self.limits.ratio_max);
        match inflated > allowed {
            false => Ok(()),
            true => Err(malformed(
                413,
                "inflated_too_large",
                format!(
                    "the body grows more than http.ratio_max ({}) times by inflation",
                    self.limits.ratio_max
                ),
            )),
        }
    }
}

impl Write for Form {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self
            .check_ratio(bytes.len())
            .and_then(|()| self.take(bytes));
        result.map(|()| bytes.len()).map_err(|refusal| {
            self.failure = Some(refusal);
            io::Error::other("the form was refused")
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sorts the parts of a form.
struct Parts {
    spill_dir: std::path::PathBuf,
    annotations: BTreeMap<String, String>,
    annotation_bytes: usize,
    files: Vec<(Part, Payload)>,
    /// Bytes of `files` that are in memory.
    memory_bytes: usize,
    notes: Vec<String>,
    json_seen: bool,
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
    fn new(spill_dir: &Path) -> Self {
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

    fn note(&mut self, note: impl Into<String>) {
        if self.notes.len() < limits::COLLECTOR_NOTES_MAX {
            self.notes.push(note.into());
        }
    }

    /// Adds an annotation; a second one of the same key is kept beside the first.
    fn annotate(&mut self, key: String, value: String) -> Result<(), Refusal> {
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
        let value: serde_json::Value = serde_json::from_slice(bytes)
            .map_err(|e| malformed(400, "invalid_json", format!("part extra is no JSON: {e}")))?;
        let serde_json::Value::Object(object) = value else {
            return Err(malformed(
                400,
                "invalid_json_value",
                "part extra is JSON, but no object",
            ));
        };
        self.json_seen = true;
        for (key, value) in object {
            let text = match value {
                serde_json::Value::String(text) => text,
                other => other.to_string(),
            };
            self.annotate(key, text)?;
        }
        Ok(())
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
                    self.note(format!(
                        "annotation {} is longer than {} bytes; it is kept as an attachment",
                        clean(&key, limits::ANNOTATION_KEY_BYTES_MAX),
                        limits::ANNOTATION_BYTES_MAX
                    ));
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
