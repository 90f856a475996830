//! The shapes that the body of a report can have. Each one knows how to cut the body into parts.

use crate::crash::raw::MAIN_DUMP;
use crate::envelope::{Envelope, EnvelopeError};
use crate::ingest;
use crate::multipart::{Multipart, MultipartError, PartHead, PartSink};
use crate::report_parts::{Parts, Refusal, malformed};
use crate::unreal::{CrashFile, UnrealError};

pub(crate) use crate::envelope::Contents;

pub(crate) enum Shape {
    /// `multipart/form-data`.
    Form(Box<Multipart>),
    /// Only a dump: its content type, and whether its first byte has arrived.
    Dump {
        content_type: String,
        has_begun: bool,
    },
    /// An envelope of Sentry's clients.
    Envelope(Box<Envelope>),
    /// A decompressed crash file of Unreal's CrashReportClient.
    Unreal(Box<CrashFile>),
}

impl Shape {
    pub(crate) fn dump(content_type: &str) -> Self {
        Self::Dump {
            content_type: content_type.to_owned(),
            has_begun: false,
        }
    }

    pub(crate) fn envelope() -> Self {
        Self::Envelope(Box::default())
    }

    pub(crate) fn unreal() -> Self {
        Self::Unreal(Box::default())
    }

    /// The name of the shape in the metadata of a report.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Form(_) => "multipart",
            Self::Dump { .. } => "dump",
            Self::Envelope(_) => "envelope",
            Self::Unreal(_) => "unreal",
        }
    }

    /// True if a body of this shape may begin with any bytes, including those of a compressed file.
    pub(crate) fn takes_any_bytes(&self) -> bool {
        matches!(self, Self::Dump { .. })
    }

    /// True if all bytes that matter have arrived.
    pub(crate) fn is_complete(&self) -> bool {
        match self {
            Self::Form(multipart) => multipart.is_complete(),
            Self::Dump { .. } | Self::Envelope(_) | Self::Unreal(_) => false,
        }
    }

    /// Takes the next piece of the body.
    ///
    /// # Errors
    /// [`Refusal::Malformed`] if the body does not have this shape or exceeds a limit, [`Refusal::Store`] if
    /// a part cannot be stored.
    pub(crate) fn feed(&mut self, bytes: &[u8], parts: &mut Parts) -> Result<(), Refusal> {
        match self {
            Self::Form(multipart) => multipart.feed(bytes, parts).map_err(|e| match e {
                MultipartError::Sink(refusal) => refusal,
                other => malformed(400, "invalid_payload_structure", other.to_string()),
            }),
            Self::Dump {
                content_type,
                has_begun,
            } => {
                if bytes.is_empty() {
                    return Ok(());
                }
                if !*has_begun {
                    *has_begun = true;
                    parts.begin(PartHead {
                        name: Some(MAIN_DUMP.to_owned()),
                        file_name: None,
                        content_type: Some(content_type.clone()),
                    })?;
                }
                parts.data(bytes)
            }
            Self::Envelope(envelope) => envelope.feed(bytes, parts).map_err(no_envelope),
            Self::Unreal(file) => file.feed(bytes, parts).map_err(no_crash_file),
        }
    }

    /// Call this at the end of the body. Returns the contents of the envelope, if the body is one.
    ///
    /// # Errors
    /// [`Refusal::Malformed`] if the body is empty, not complete or exceeds a limit, [`Refusal::Store`] if a
    /// part cannot be stored.
    pub(crate) fn finish(self, parts: &mut Parts) -> Result<Option<Contents>, Refusal> {
        match self {
            Self::Form(multipart) => multipart
                .finish::<Refusal>()
                .map(|()| None)
                .map_err(|e| malformed(400, "invalid_payload_structure", e.to_string())),
            Self::Dump { has_begun, .. } => {
                if has_begun {
                    parts.end().map(|()| None)
                } else {
                    Err(ingest::no_content())
                }
            }
            Self::Envelope(envelope) => envelope.finish(parts).map(Some).map_err(no_envelope),
            Self::Unreal(file) => file.finish().map(|()| None).map_err(no_crash_file),
        }
    }
}

fn no_crash_file(error: UnrealError<Refusal>) -> Refusal {
    match error {
        UnrealError::Sink(refusal) => refusal,
        other => malformed(400, "invalid_unreal", other.to_string()),
    }
}

fn no_envelope(error: EnvelopeError<Refusal>) -> Refusal {
    match error {
        EnvelopeError::Sink(refusal) => refusal,
        other => malformed(400, "invalid_envelope", other.to_string()),
    }
}
