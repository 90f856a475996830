//! From the bytes of a request to a durable report and its answer.
//!
//! An [`Intake`] takes a body piece by piece: inflates it within bounds, cuts it into parts, and
//! has [`Parts`] sort them. [`accept`] maps the client's dialect, asks the throttle, and makes the
//! report durable.
//!
//! It never looks into a dump beyond its first four bytes, and it does no network I/O.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use flate2::write::MultiGzDecoder;

use crate::config::Http;
use crate::crash::id::{CrashId, Kept};
use crate::crash::raw::{Metadata, Part, RawCrash, key};
use crate::dialect;
use crate::form::{Parts, malformed};
use crate::limits;
use crate::multipart::{self, BadContentType, Multipart, MultipartError};
use crate::store::counters::Discard;
use crate::store::{NewCrash, Payload};
use crate::throttle::{self, Outcome};
use crate::web::{App, Params};

pub use crate::form::Refusal;

/// What the head of a submission says.
#[derive(Clone, Debug, Default)]
pub struct SubmitHead {
    pub content_type: Option<String>,
    pub content_encoding: Option<String>,
    pub content_length: Option<u64>,
    pub user_agent: Option<String>,
    pub query: Params,
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
    body: Body,
    received_bytes: u64,
}

enum Body {
    /// Too short to tell whether it is compressed.
    Unknown {
        first: Vec<u8>,
        form: Box<Form>,
    },
    Plain(Box<Form>),
    Gzip(Box<MultiGzDecoder<Form>>),
    /// While it turns from one into another.
    Taken,
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
                form: Box::new(form),
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
        match std::mem::replace(&mut self.body, Body::Taken) {
            Body::Unknown {
                mut first,
                mut form,
            } => {
                first.extend_from_slice(piece);
                if first.len() < 2 {
                    self.body = Body::Unknown { first, form };
                    return Ok(());
                }
                // Crash clients that forget the header do exist; no multipart body begins so.
                self.body = if first.starts_with(&[0x1f, 0x8b]) {
                    form.parts
                        .note("body is gzip although no Content-Encoding says so");
                    Body::Gzip(Box::new(MultiGzDecoder::new(*form)))
                } else {
                    Body::Plain(form)
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
            Body::Plain(form) => form.take(piece),
            Body::Gzip(inflater) => {
                inflater.get_mut().received_bytes = self.received_bytes;
                match inflater.write_all(piece) {
                    Err(error) => gzip_error(inflater.get_mut(), &error),
                    Ok(()) => Ok(()),
                }
            }
        }
    }

    /// Bytes that the report holds in memory so far.
    pub fn memory_bytes(&self) -> usize {
        match &self.body {
            Body::Unknown { form, .. } | Body::Plain(form) => form.parts.memory_bytes(),
            Body::Gzip(inflater) => inflater.get_ref().parts.memory_bytes(),
            Body::Taken => 0,
        }
    }

    /// The body has ended.
    pub fn finish(self) -> Result<Report, Refusal> {
        let compressed = matches!(self.body, Body::Gzip(_));
        let form = match self.body {
            Body::Unknown { first, mut form } => {
                form.take(&first)?;
                *form
            }
            Body::Plain(form) => *form,
            // Only a piece that panicked leaves it so, and then nobody asks for the end.
            Body::Taken => return Err(incomplete_body("the body was not read to its end")),
            Body::Gzip(mut inflater) => {
                if let Err(error) = inflater.try_finish() {
                    gzip_error(inflater.get_mut(), &error)?;
                }
                std::mem::replace(inflater.get_mut(), Form::empty())
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

/// What an error of the inflater means. Behind a whole form there may be anything.
fn gzip_error(form: &mut Form, error: &io::Error) -> Result<(), Refusal> {
    if form.failure.is_none() && form.multipart.is_complete() {
        form.parts
            .note_once("bytes behind the report's end were left out");
        return Ok(());
    }
    Err(form.failure.take().unwrap_or_else(|| {
        malformed(
            400,
            "bad_gzip",
            format!("the body is no whole gzip stream: {error}"),
        )
    }))
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
    let config = app.config.get();
    let decision = throttle::decide(&config.throttle.value, &annotations, || {
        // 53 bits, the precision of the result.
        (uuid::Uuid::new_v4().as_u128() >> 75) as f64 / (1u64 << 53) as f64 * 100.0
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
    metadata.throttle_rule = decision.rule.clone();
    let raw = RawCrash {
        annotations,
        metadata,
    };
    let json = serde_json::to_vec(&raw).expect("texts and numbers become JSON");
    app.store.accept(NewCrash {
        id,
        received_at,
        product,
        version,
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

    /// Stands where a form was taken out.
    fn empty() -> Self {
        let limits = IntakeLimits {
            report_bytes_max: 0,
            inflated_bytes_max: 0,
            ratio_max: 0,
        };
        Self::new("", limits, Path::new(""))
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
