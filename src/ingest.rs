//! From the bytes of a request to a durable report and its answer.
//!
//! An [`Intake`] takes a body piece by piece. It decompresses the body within limits, cuts it into parts
//! according to its [`Shape`], and passes these to [`Parts`]. [`accept`] maps the client's dialect, applies
//! the throttle rules, and makes the report durable.
//!
//! This module does no network I/O. It never looks into a dump, except for texts around it.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::Path;

use flate2::write::{MultiGzDecoder, ZlibDecoder};
use sha2::{Digest, Sha256};

use crate::app::App;
use crate::config::Http;
use crate::crash::id::{CrashId, Kept};
use crate::crash::raw::{Metadata, Part, PartKind, RawCrash, key};
use crate::dialect;
use crate::limits;
use crate::multipart::{self, BadContentType, Multipart};
use crate::report_parts::{Parts, malformed};
use crate::sentry;
use crate::shape::Shape;
use crate::store::counters::Discard;
use crate::store::repeats::Repeat;
use crate::store::{NewCrash, Payload};
use crate::throttle::{self, Outcome};
use crate::unreal;
use crate::web::Params;

pub(crate) use crate::report_parts::Refusal;
pub(crate) use crate::shape::Contents;

/// The address that received a report. It determines which bodies are understood and how they are answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Endpoint {
    /// A form, or only a dump, as Breakpad's and Crashpad's clients send it.
    #[default]
    Submit,
    /// The same at the address for Sentry's clients.
    SentryMinidump,
    /// An envelope of Sentry's clients.
    SentryEnvelope,
    /// A crash file of Unreal, at the address for Sentry's clients.
    SentryUnreal,
}

/// The relevant fields of the head of a submission.
#[derive(Clone, Debug, Default)]
pub struct SubmitHead {
    pub endpoint: Endpoint,
    pub content_type: Option<String>,
    pub content_encoding: Option<String>,
    pub content_length: Option<u64>,
    pub user_agent: Option<String>,
    pub query: Params,
    /// Address of the sender.
    pub peer: Option<IpAddr>,
}

/// A refusal because the connection ended before the body did.
pub(crate) fn incomplete_body(why: impl Into<String>) -> Refusal {
    malformed(400, "incomplete_body", why)
}

/// The answer to the client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The report is durable (or a rule pretends that it is).
    CrashId(CrashId),
    Discarded {
        rule: String,
    },
    /// The same report arrived recently and is stored under this id.
    Repeated(CrashId),
    /// The request had no crash in it. It is acknowledged, so that its sender does not send it again.
    NoCrash {
        /// The id of the event, from its envelope.
        event_id: Option<String>,
    },
}

/// Limits for one report.
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

/// A report that was read completely. The throttle has not decided yet.
#[derive(Debug)]
pub struct Report {
    annotations: BTreeMap<String, String>,
    files: Vec<(Part, Payload)>,
    /// Its `received_at_ms` and `throttle_rule` are not set yet.
    metadata: Metadata,
    /// Address of the sender.
    peer: Option<IpAddr>,
    /// The contents of its envelope, if it came in one.
    envelope: Option<Contents>,
}

/// A body that is being read.
pub struct Intake {
    limits: IntakeLimits,
    head: SubmitHead,
    body: Body,
    received_bytes: u64,
}

enum Body {
    /// Too few bytes to see whether the body is compressed.
    Unknown {
        first: Vec<u8>,
        reader: Box<BodyReader>,
    },
    Plain(Box<BodyReader>),
    Gzip(Box<MultiGzDecoder<BodyReader>>),
    Zlib(Box<ZlibDecoder<BodyReader>>),
    /// A placeholder while the body changes from one variant to another.
    Taken,
}

impl Intake {
    /// Checks the head. Large files spill to `spill_dir`.
    ///
    /// # Errors
    /// The content type or encoding is not supported, or the body is empty. The refusal is the answer to the
    /// client.
    pub fn begin(
        head: SubmitHead,
        limits: IntakeLimits,
        spill_dir: &Path,
    ) -> Result<Self, Refusal> {
        let reader = BodyReader::new(shape_of(&head)?, limits.clone(), spill_dir);
        if head.content_length == Some(0) {
            return Err(no_content());
        }
        let encoding = head
            .content_encoding
            .as_deref()
            .map(|e| e.trim().to_ascii_lowercase());
        let body = match encoding.as_deref() {
            None | Some("" | "identity") if head.endpoint == Endpoint::SentryUnreal => {
                Body::Zlib(Box::new(ZlibDecoder::new(reader)))
            }
            // A body that is not a form may be a gzip file itself. It is stored as it came.
            None | Some("" | "identity") if reader.shape.takes_any_bytes() => {
                Body::Plain(Box::new(reader))
            }
            None | Some("" | "identity") => Body::Unknown {
                first: Vec::new(),
                reader: Box::new(reader),
            },
            Some("gzip" | "x-gzip") => Body::Gzip(Box::new(MultiGzDecoder::new(reader))),
            Some(_) => {
                return Err(malformed(
                    415,
                    "unknown_encoding",
                    "unknown Content-Encoding; use gzip, or none",
                ));
            }
        };
        let intake = Self {
            limits,
            body,
            received_bytes: 0,
            head,
        };
        if let Some(length) = intake.head.content_length {
            intake.check_size(length)?;
        }
        Ok(intake)
    }

    /// Whether a piece of the body may become many times as large.
    pub(crate) fn may_inflate(&self) -> bool {
        !matches!(self.body, Body::Plain(_))
    }

    fn check_size(&self, bytes: u64) -> Result<(), Refusal> {
        if bytes > self.limits.report_bytes_max {
            Err(malformed(
                413,
                "report_too_large",
                format!(
                    "report of {bytes} bytes or more is larger than http.report_bytes_max ({} bytes)",
                    self.limits.report_bytes_max
                ),
            ))
        } else {
            Ok(())
        }
    }

    /// Takes the next piece of the body, as received.
    ///
    /// # Errors
    /// The body is malformed or exceeds a limit. The refusal is the answer to the client.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), Refusal> {
        self.received_bytes += piece.len() as u64;
        self.check_size(self.received_bytes)?;
        match std::mem::replace(&mut self.body, Body::Taken) {
            Body::Unknown {
                mut first,
                mut reader,
            } => {
                first.extend_from_slice(piece);
                if first.len() < 2 {
                    self.body = Body::Unknown { first, reader };
                    return Ok(());
                }
                // Some crash clients forget the header. No multipart body begins with these bytes.
                self.body = if first.starts_with(&[0x1f, 0x8b]) {
                    reader
                        .parts
                        .note("body is gzip, but there is no Content-Encoding header");
                    Body::Gzip(Box::new(MultiGzDecoder::new(*reader)))
                } else {
                    Body::Plain(reader)
                };
                self.pass_on(&first)
            }
            known => {
                self.body = known;
                self.pass_on(piece)
            }
        }
    }

    fn pass_on(&mut self, piece: &[u8]) -> Result<(), Refusal> {
        match &mut self.body {
            Body::Unknown { .. } | Body::Taken => Ok(()),
            Body::Plain(reader) => reader.take(piece),
            Body::Gzip(inflater) => {
                inflater.get_mut().received_bytes = self.received_bytes;
                match inflater.write_all(piece) {
                    Err(error) => gzip_error(inflater.get_mut(), &error),
                    Ok(()) => Ok(()),
                }
            }
            Body::Zlib(inflater) => {
                inflater.get_mut().received_bytes = self.received_bytes;
                inflater
                    .write_all(piece)
                    .map_err(|error| zlib_error(inflater.get_mut(), &error))
            }
        }
    }

    /// Bytes of the report that are in memory now.
    pub(crate) fn memory_bytes(&self) -> usize {
        match &self.body {
            Body::Unknown { reader, .. } | Body::Plain(reader) => reader.parts.memory_bytes(),
            Body::Gzip(inflater) => inflater.get_ref().parts.memory_bytes(),
            Body::Zlib(inflater) => inflater.get_ref().parts.memory_bytes(),
            Body::Taken => 0,
        }
    }

    /// Call this at the end of the body.
    ///
    /// # Errors
    /// The body is incomplete or malformed. The refusal is the answer to the client.
    pub fn finish(self) -> Result<Report, Refusal> {
        let compressed = matches!(self.body, Body::Gzip(_) | Body::Zlib(_));
        let reader = match self.body {
            Body::Unknown { first, mut reader } => {
                reader.take(&first)?;
                *reader
            }
            Body::Plain(reader) => *reader,
            // Only a panic in `feed` leaves this state, and then nobody calls `finish`.
            Body::Taken => return Err(incomplete_body("the body was not read completely")),
            Body::Zlib(mut inflater) => {
                if let Err(error) = inflater.try_finish() {
                    return Err(zlib_error(inflater.get_mut(), &error));
                }
                std::mem::replace(inflater.get_mut(), BodyReader::empty())
            }
            Body::Gzip(mut inflater) => {
                if let Err(error) = inflater.try_finish() {
                    gzip_error(inflater.get_mut(), &error)?;
                }
                std::mem::replace(inflater.get_mut(), BodyReader::empty())
            }
        };
        let payload_bytes = reader.inflated_bytes;
        let mut parts = reader.parts;
        let format = reader.shape.name();
        let envelope = reader.shape.finish(&mut parts)?;
        for (key, value) in self.head.query.0 {
            // Crashpad also puts product and version into the URL. Annotations in the form take precedence.
            if !key.is_empty() && !parts.annotations.contains_key(&key) {
                parts.annotate(key, value)?;
            }
        }
        parts.complete()?;
        let context = parts.read.iter().find(|(name, _)| name == unreal::CONTEXT);
        for (key, value) in context.map_or(Vec::new(), |(_, xml)| unreal::properties(xml)) {
            parts.derive(&key, &value);
        }
        for (key, value) in sentry::annotations(&parts.annotations, &parts.read) {
            parts.derive(&key, &value);
        }
        let is_empty = parts.annotations.is_empty() && parts.files.is_empty();
        if is_empty && envelope.is_none() {
            return Err(malformed(
                400,
                "no_annotations",
                "the report has no annotations and no files",
            ));
        }
        Ok(Report {
            annotations: parts.annotations,
            files: parts.files,
            metadata: Metadata {
                payload: if parts.json_seen { "json" } else { format }.into(),
                payload_compressed: compressed,
                payload_bytes,
                user_agent: self.head.user_agent,
                collector_notes: parts.notes,
                ..Metadata::default()
            },
            peer: self.head.peer,
            envelope,
        })
    }
}

/// Translates an error of the decompressor. Any bytes may follow a complete form.
fn gzip_error(reader: &mut BodyReader, error: &io::Error) -> Result<(), Refusal> {
    if reader.failure.is_none() && reader.shape.is_complete() {
        reader
            .parts
            .note_once("bytes after the end of the report were ignored");
        return Ok(());
    }
    Err(reader.failure.take().unwrap_or_else(|| {
        malformed(
            400,
            "bad_gzip",
            format!("the body is not a complete gzip stream: {error}"),
        )
    }))
}

fn zlib_error(reader: &mut BodyReader, error: &io::Error) -> Refusal {
    reader.failure.take().unwrap_or_else(|| {
        malformed(
            400,
            "bad_zlib",
            format!("the body is not a complete zlib stream: {error}"),
        )
    })
}

/// Applies the throttle rules to a report and makes it durable. Blocks until it is.
///
/// # Errors
/// [`Refusal::Store`] is temporary or a fault of the server. The client must not be told that we have the
/// report.
pub(crate) fn accept(app: &App, report: Report) -> Result<Answer, Refusal> {
    let Report {
        mut annotations,
        files,
        mut metadata,
        peer,
        envelope,
    } = report;
    if let Some(contents) = envelope {
        for item in &contents.left_out {
            app.metrics.sentry_items.add(item);
        }
        if !contents.has_crash {
            let event_id = contents.event_id;
            return Ok(Answer::NoCrash { event_id });
        }
    }
    dialect::map(&mut annotations);
    let received_at = app.clock.now();
    let mut digest = digest(peer, &annotations, &files);
    if let Some(known) = digest {
        match app.store.repeated(known, received_at)? {
            Repeat::New => {}
            Repeat::Stored(id) => return Ok(Answer::Repeated(id)),
            // The report is stored as a new one that no repeat can match.
            Repeat::Lost => digest = None,
        }
    }
    let random = (app.random)();
    let config = app.config.get();
    let decision = throttle::decide(&config.throttle.value, &annotations, || {
        // 53 bits are the precision of an f64.
        ((app.random)() >> 75) as f64 / (1u64 << 53) as f64 * 100.0
    });
    app.metrics.throttled.add(&decision.rule);
    let name = |key| {
        let value = annotations.get(key).map_or("", String::as_str);
        value
            .chars()
            .take(limits::NAME_CHARS_MAX)
            .collect::<String>()
    };
    let (product, version) = (name(key::PRODUCT), name(key::VERSION));
    let (kept, deferred_days) = match decision.outcome {
        Outcome::Accept => (Kept::Accepted, None),
        Outcome::Defer => (Kept::Deferred, Some(config.deferred.keep_days.0)),
        outcome @ (Outcome::Reject | Outcome::FakeAccept) => {
            app.store.discarded(Discard {
                day: received_at.day(),
                rule: decision.rule.clone(),
                outcome,
                product,
                version,
            });
            return Ok(match outcome {
                Outcome::FakeAccept => {
                    Answer::CrashId(CrashId::new(random, Kept::Accepted, received_at))
                }
                _ => Answer::Discarded {
                    rule: decision.rule,
                },
            });
        }
    };
    let id = CrashId::new(random, kept, received_at);
    metadata.received_at_ms = received_at.ms();
    metadata.crash_loop_s = (app.crash_loops).note(&app.catalogue, &annotations, received_at);
    metadata.throttle_rule = decision.rule.clone();
    let raw = RawCrash {
        annotations,
        metadata,
    };
    let json = serde_json::to_vec(&raw).expect("texts and numbers become JSON");
    let kept = app.store.accept(NewCrash {
        id,
        received_at,
        product,
        version,
        throttle_rule: decision.rule,
        deferred_days,
        raw: Payload::from_bytes(&json),
        parts: files,
        digest,
    })?;
    Ok(if kept == id {
        Answer::CrashId(id)
    } else {
        Answer::Repeated(kept)
    })
}

/// A hash that is equal for two copies of the same report. It covers the sender, the annotations, the dumps
/// and the attachments, so no different report is dropped. `None` without a dump: then nothing proves that
/// it was the same crash.
fn digest(
    peer: Option<IpAddr>,
    annotations: &BTreeMap<String, String>,
    files: &[(Part, Payload)],
) -> Option<u128> {
    let is_dump = |(part, _): &(Part, Payload)| part.kind == PartKind::Dump && part.bytes > 0;
    if !files.iter().any(is_dump) {
        return None;
    }
    let mut files: Vec<_> = files
        .iter()
        .map(|(part, _)| (part.name.as_str(), part.sha256))
        .collect();
    files.sort();
    let mut hash = Sha256::new();
    // Each value is hashed with its length, so that bytes cannot move from one value to the next.
    let mut add = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    add(format!("{peer:?}").as_bytes());
    for (name, sha256) in files {
        add(name.as_bytes());
        add(&sha256);
    }
    for (key, value) in annotations {
        add(key.as_bytes());
        add(value.as_bytes());
    }
    let hash: [u8; 32] = hash.finalize().into();
    let half: [u8; 16] = hash[..16].try_into().expect("16 bytes of 32");
    Some(u128::from_le_bytes(half))
}

/// The shape of the body of a request.
fn shape_of(head: &SubmitHead) -> Result<Shape, Refusal> {
    match head.endpoint {
        Endpoint::SentryEnvelope => return Ok(Shape::envelope()),
        Endpoint::SentryUnreal => return Ok(Shape::unreal()),
        Endpoint::Submit | Endpoint::SentryMinidump => {}
    }
    let content_type = head.content_type.as_deref().ok_or_else(|| {
        malformed(
            400,
            "no_content_type",
            "the request has no Content-Type header",
        )
    })?;
    match multipart::boundary(content_type) {
        Ok(boundary) => Ok(Shape::Form(Box::new(Multipart::new(&boundary)))),
        Err(BadContentType::NoBoundary) => Err(malformed(
            400,
            "no_boundary",
            "the Content-Type header has no boundary",
        )),
        Err(BadContentType::Wrong) if is_dump_type(content_type) => Ok(Shape::dump(content_type)),
        Err(BadContentType::Wrong) => Err(malformed(
            400,
            "wrong_content_type",
            "unsupported Content-Type; send a report as multipart/form-data with the dump in a part named upload_file_minidump, or send only the dump as application/x-dmp",
        )),
    }
}

/// Content types with which clients post only a dump.
fn is_dump_type(content_type: &str) -> bool {
    const TYPES: [&str; 7] = [
        "application/octet-stream",
        "application/x-dmp",
        "application/x-minidump",
        "application/vnd.tcpdump.pcap",
        "application/gzip",
        "application/x-gzip",
        "application/zip",
    ];
    let kind = content_type.split([';', ',']).next().unwrap_or_default();
    let kind = kind.trim();
    TYPES.iter().any(|known| kind.eq_ignore_ascii_case(known))
}

pub(crate) fn no_content() -> Refusal {
    malformed(400, "no_content_length", "the request has no body")
}

/// The decompressed body, which is cut into parts.
struct BodyReader {
    shape: Shape,
    parts: Parts,
    limits: IntakeLimits,
    received_bytes: u64,
    inflated_bytes: u64,
    /// The error that stopped the decompressor. The decompressor's own error can carry only text.
    failure: Option<Refusal>,
}

impl BodyReader {
    fn new(shape: Shape, limits: IntakeLimits, spill_dir: &Path) -> Self {
        Self {
            shape,
            parts: Parts::new(spill_dir),
            limits,
            received_bytes: 0,
            inflated_bytes: 0,
            failure: None,
        }
    }

    /// A placeholder for a reader that was moved out.
    fn empty() -> Self {
        let limits = IntakeLimits {
            report_bytes_max: 0,
            inflated_bytes_max: 0,
            ratio_max: 0,
        };
        Self::new(Shape::dump(""), limits, Path::new(""))
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
        self.shape.feed(bytes, &mut self.parts)
    }

    fn check_ratio(&self, more: usize) -> Result<(), Refusal> {
        let inflated = self.inflated_bytes + more as u64;
        let allowed =
            limits::INFLATE_FREE_BYTES + self.received_bytes.saturating_mul(self.limits.ratio_max);
        if inflated > allowed {
            Err(malformed(
                413,
                "inflated_too_large",
                format!(
                    "the decompressed body is more than http.ratio_max ({}) times larger than the compressed body",
                    self.limits.ratio_max
                ),
            ))
        } else {
            Ok(())
        }
    }
}

impl Write for BodyReader {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self
            .check_ratio(bytes.len())
            .and_then(|()| self.take(bytes));
        result.map(|()| bytes.len()).map_err(|refusal| {
            self.failure = Some(refusal);
            io::Error::other("the form was rejected")
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
