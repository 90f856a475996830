//! Reads an envelope of Sentry's clients as it arrives, piece by piece, and passes on the items that are
//! about a crash.
//!
//! ```text
//! {"event_id": "..."}                                          header, JSON on one line
//! {"type": "event", "length": 41}                              head of an item, on one line
//! {...41 bytes...}                                             its content; without a length, one line
//! {"type": "attachment", "length": 9, "filename": "a.dmp", "attachment_type": "event.minidump"}
//! MDMP.....
//! ```
//!
//! Sessions, transactions and all other items that such a client sends are left out. [`Contents::left_out`]
//! lists them. Like [`multipart`](crate::multipart) this module holds at most one line, does no I/O, and
//! knows nothing about crashes except the names of parts. Source: develop.sentry.dev, "Envelopes".

use std::fmt;

use serde::Deserialize;

use crate::crash::raw::MAIN_DUMP;
use crate::multipart::{PartHead, PartSink};
use crate::sentry::EVENT_PART;

/// Maximum bytes of the header line, and of the head line of an item.
pub(crate) const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Maximum number of items in one envelope.
pub(crate) const ITEMS_MAX: usize = 1_000;

/// Types of items that are counted by name. All other types are counted together.
const LEFT_OUT: [&str; 18] = [
    "session",
    "sessions",
    "transaction",
    "client_report",
    "user_report",
    "feedback",
    "check_in",
    "profile",
    "profile_chunk",
    "replay_event",
    "replay_recording",
    "replay_video",
    "log",
    "otel_log",
    "span",
    "statsd",
    "metric_buckets",
    "trace_metric",
];

/// The contents of an envelope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// The id from the header of the envelope.
    pub(crate) event_id: Option<String>,
    /// True if there was an event or a dump.
    pub(crate) has_crash: bool,
    /// Types of the items that were left out, from a fixed set.
    pub(crate) left_out: Vec<&'static str>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum EnvelopeError<E> {
    /// A line is not a JSON object, or is too long; the text says which line.
    BadHead(&'static str),
    TooManyItems,
    /// An item is followed by something other than a line end.
    BadEnd,
    /// The body ended inside an item.
    Unfinished,
    Sink(E),
}

impl<E: fmt::Display> fmt::Display for EnvelopeError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadHead(which) => write!(
                f,
                "{which} is not a JSON object on one line of at most {HEAD_BYTES_MAX} bytes"
            ),
            Self::TooManyItems => write!(f, "the envelope has more than {ITEMS_MAX} items"),
            Self::BadEnd => f.write_str("an item of the envelope is not followed by a line end"),
            Self::Unfinished => f.write_str("the envelope ends within an item"),
            Self::Sink(error) => error.fmt(f),
        }
    }
}

#[derive(Deserialize)]
struct Header {
    #[serde(default)]
    event_id: Option<String>,
}

#[derive(Deserialize)]
struct ItemHead {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    length: Option<u64>,
    #[serde(default)]
    filename: Option<String>,
    #[serde(default)]
    content_type: Option<String>,
    #[serde(default)]
    attachment_type: Option<String>,
}

#[derive(Clone, Copy)]
enum State {
    Header,
    ItemHead,
    /// Remaining bytes of the item, or `None` if its length is unknown and it ends with its line; and
    /// whether the item is passed on.
    Item(Option<u64>, bool),
    /// After an item of known length.
    ItemEnd,
}

pub struct Envelope {
    state: State,
    line: Vec<u8>,
    items: usize,
    contents: Contents,
}

impl Default for Envelope {
    fn default() -> Self {
        Self {
            state: State::Header,
            line: Vec::new(),
            items: 0,
            contents: Contents::default(),
        }
    }
}

impl Envelope {
    /// Takes the next piece of the body.
    ///
    /// # Errors
    /// [`EnvelopeError::Sink`] has the error of `sink`. Any other error means that the body is not a valid
    /// envelope. The caller must stop in both cases.
    pub fn feed<S: PartSink>(
        &mut self,
        mut piece: &[u8],
        sink: &mut S,
    ) -> Result<(), EnvelopeError<S::Error>> {
        while let Some(first) = piece.first() {
            match self.state {
                State::Header | State::ItemHead => {
                    let end = memchr::memchr(b'\n', piece);
                    let (line, rest) = piece.split_at(end.unwrap_or(piece.len()));
                    self.line.extend_from_slice(line);
                    if self.line.len() > HEAD_BYTES_MAX {
                        return Err(self.bad_head());
                    }
                    piece = rest;
                    if end.is_some() {
                        piece = &piece[1..];
                        self.end_line(sink)?;
                    }
                }
                State::Item(Some(left), is_kept) => {
                    let count = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
                    let (content, rest) = piece.split_at(count);
                    if is_kept {
                        sink.data(content).map_err(EnvelopeError::Sink)?;
                    }
                    piece = rest;
                    self.state = State::Item(Some(left - count as u64), is_kept);
                    self.end_item_at_length(sink)?;
                }
                State::Item(None, is_kept) => {
                    let end = memchr::memchr(b'\n', piece);
                    let (content, rest) = piece.split_at(end.unwrap_or(piece.len()));
                    if is_kept {
                        sink.data(content).map_err(EnvelopeError::Sink)?;
                    }
                    piece = rest;
                    if end.is_some() {
                        piece = &piece[1..];
                        self.end_item(is_kept, sink)?;
                        self.state = State::ItemHead;
                    }
                }
                State::ItemEnd => {
                    if *first != b'\n' {
                        return Err(EnvelopeError::BadEnd);
                    }
                    piece = &piece[1..];
                    self.state = State::ItemHead;
                }
            }
        }
        Ok(())
    }

    /// Call this at the end of the body.
    ///
    /// # Errors
    /// [`EnvelopeError::Unfinished`] if the body ends within an item. Otherwise as for [`Self::feed`].
    pub fn finish<S: PartSink>(
        mut self,
        sink: &mut S,
    ) -> Result<Contents, EnvelopeError<S::Error>> {
        if !self.line.is_empty() || matches!(self.state, State::Header) {
            self.end_line(sink)?;
        }
        match self.state {
            State::Item(Some(_), _) => return Err(EnvelopeError::Unfinished),
            State::Item(None, is_kept) => self.end_item(is_kept, sink)?,
            State::Header | State::ItemHead | State::ItemEnd => {}
        }
        Ok(self.contents)
    }

    fn bad_head<E>(&self) -> EnvelopeError<E> {
        EnvelopeError::BadHead(match self.state {
            State::Header => "the envelope's header",
            _ => "the header of an item",
        })
    }

    fn end_line<S: PartSink>(&mut self, sink: &mut S) -> Result<(), EnvelopeError<S::Error>> {
        let line = std::mem::take(&mut self.line);
        if matches!(self.state, State::Header) {
            let header: Header = serde_json::from_slice(&line).map_err(|_| self.bad_head())?;
            self.contents.event_id = header.event_id;
            self.state = State::ItemHead;
            return Ok(());
        }
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        let head: ItemHead = serde_json::from_slice(&line).map_err(|_| self.bad_head())?;
        self.items += 1;
        if self.items > ITEMS_MAX {
            return Err(EnvelopeError::TooManyItems);
        }
        let length = head.length;
        let part = self.part_of(head);
        self.state = State::Item(length, part.is_some());
        if let Some(part) = part {
            sink.begin(part).map_err(EnvelopeError::Sink)?;
        }
        self.end_item_at_length(sink)
    }

    /// The part for an item; `None` if the item is left out.
    fn part_of(&mut self, head: ItemHead) -> Option<PartHead> {
        let kind = head.attachment_type.as_deref().unwrap_or_default();
        let is_dump = kind == "event.minidump" || head.kind == "minidump";
        let name = match head.kind.as_str() {
            "event" => EVENT_PART.to_owned(),
            "attachment" | "minidump" if is_dump => MAIN_DUMP.to_owned(),
            "attachment" => head.filename.clone().unwrap_or_else(|| "attachment".into()),
            kind => {
                let known = LEFT_OUT.iter().find(|known| **known == kind);
                self.contents
                    .left_out
                    .push(known.copied().unwrap_or("other"));
                return None;
            }
        };
        self.contents.has_crash |= head.kind == "event" || is_dump;
        let file_name = head.filename.unwrap_or_else(|| name.clone());
        Some(PartHead {
            name: Some(name),
            file_name: Some(file_name),
            content_type: head.content_type,
        })
    }

    fn end_item_at_length<S: PartSink>(
        &mut self,
        sink: &mut S,
    ) -> Result<(), EnvelopeError<S::Error>> {
        if let State::Item(Some(0), is_kept) = self.state {
            self.end_item(is_kept, sink)?;
            self.state = State::ItemEnd;
        }
        Ok(())
    }

    fn end_item<S: PartSink>(
        &mut self,
        is_kept: bool,
        sink: &mut S,
    ) -> Result<(), EnvelopeError<S::Error>> {
        if is_kept {
            sink.end().map_err(EnvelopeError::Sink)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default, Debug, PartialEq)]
    struct Parts(Vec<(String, Vec<u8>, bool)>);

    impl PartSink for Parts {
        type Error = std::convert::Infallible;
        fn begin(&mut self, head: PartHead) -> Result<(), Self::Error> {
            let name = format!(
                "{} {}",
                head.name.unwrap_or_default(),
                head.file_name.unwrap_or_default()
            );
            self.0.push((name, Vec::new(), false));
            Ok(())
        }
        fn data(&mut self, bytes: &[u8]) -> Result<(), Self::Error> {
            self.0.last_mut().expect("begun").1.extend_from_slice(bytes);
            Ok(())
        }
        fn end(&mut self) -> Result<(), Self::Error> {
            self.0.last_mut().expect("begun").2 = true;
            Ok(())
        }
    }

    type Outcome = Result<(Parts, Contents), EnvelopeError<std::convert::Infallible>>;

    fn check(body: &[u8]) -> Outcome {
        let parse = |step: usize| {
            let (mut parser, mut parts) = (Envelope::default(), Parts::default());
            for piece in body.chunks(step) {
                parser.feed(piece, &mut parts)?;
            }
            let contents = parser.finish(&mut parts)?;
            Ok((parts, contents))
        };
        let whole = parse(body.len().max(1));
        for step in 1..=body.len().min(60) {
            assert_eq!(parse(step), whole, "in pieces of {step}");
        }
        whole
    }

    #[test]
    fn events_attachments_and_dumps_are_handed_on_and_all_else_is_named() {
        let body = b"{\"event_id\": \"e1\", \"dsn\": \"x\"}\n{\"type\":\"event\"}\n{\"a\": 1}\n\
            {\"type\":\"attachment\",\"length\":5,\"filename\":\"a.txt\"}\n1\n2\n3\n\n\
            {\"type\":\"attachment\",\"length\":6,\"filename\":\"x.dmp\",\"attachment_type\":\"event.minidump\"}\nMDMP\n.\n\
            {\"type\":\"session\",\"length\":2}\n{}\n{\"type\":\"sessions\"}\n{}\n{\"type\":\"new kind\",\"length\":0}\n\n\
            {\"type\":\"attachment\",\"length\":0}\n";
        let (parts, contents) = check(body).expect("an envelope");
        let part = |name: &str, bytes: &[u8]| (name.to_owned(), bytes.to_vec(), true);
        assert_eq!(
            parts.0,
            [
                part("__sentry-event __sentry-event", b"{\"a\": 1}"),
                part("a.txt a.txt", b"1\n2\n3"),
                part("upload_file_minidump x.dmp", b"MDMP\n."),
                part("attachment attachment", b""),
            ]
        );
        let expected = Contents {
            event_id: Some("e1".into()),
            has_crash: true,
            left_out: vec!["session", "sessions", "other"],
        };
        assert_eq!(contents, expected);
    }

    #[test]
    fn an_envelope_without_a_crash_is_whole_too() {
        let (parts, contents) = check(b"{}\n{\"type\":\"session\"}\n{\"sid\":1}").expect("whole");
        assert_eq!((parts.0.len(), contents.has_crash), (0, false));
        assert!(check(b"{}").is_ok_and(|(_, c)| c == Contents::default()));
        assert!(check(b"{}\n\n").is_ok());
        let attached = check(b"{}\n{\"type\":\"attachment\",\"length\":1}\nx");
        assert!(!attached.expect("whole").1.has_crash);
    }

    #[test]
    fn what_is_no_envelope_is_refused() {
        let long = [&b"{}\n{\"type\":\""[..], &[b'x'; HEAD_BYTES_MAX]].concat();
        for (body, error) in [
            (&b""[..], EnvelopeError::BadHead("the envelope's header")),
            (b"MDMP", EnvelopeError::BadHead("the envelope's header")),
            (b"{}\n{}\n", EnvelopeError::BadHead("the header of an item")),
            (&long, EnvelopeError::BadHead("the header of an item")),
            (
                b"{}\n{\"type\":\"event\",\"length\":3}\n{}",
                EnvelopeError::Unfinished,
            ),
            (
                b"{}\n{\"type\":\"event\",\"length\":1}\n{}",
                EnvelopeError::BadEnd,
            ),
        ] {
            assert_eq!(check(body).map(|_| ()), Err(error));
        }
        let many = [
            &b"{}\n"[..],
            &b"{\"type\":\"log\"}\n\n".repeat(ITEMS_MAX + 1),
        ]
        .concat();
        let mut parser = Envelope::default();
        assert_eq!(
            parser.feed(&many, &mut Parts::default()),
            Err(EnvelopeError::TooManyItems)
        );
    }
}
