//! Bodies in both directions: requests have limits and time-outs, answers are streamed.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::connections::{Connection, Stage, is_too_slow};
use crate::limits;
use crate::store::PayloadReader;

/// Bytes of a stream that are read at a time.
const STREAM_PIECE_BYTES: usize = 64 * 1024;

/// Why a body could not be read to its end.
#[derive(Debug)]
pub(crate) enum ReadError<E> {
    /// The connection ended, or the client broke the protocol.
    Incomplete(String),
    TimedOut,
    /// The consumer refuses more data.
    Refused(E),
}

/// Passes the pieces of a body to `take` until the body ends.
///
/// # Errors
/// [`ReadError::TimedOut`] if the body arrives too slowly or stalls. [`ReadError::Refused`] with the error
/// of `take`.
pub(crate) async fn pump<E>(
    body: &mut Incoming,
    connection: &Connection,
    mut take: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), ReadError<E>> {
    let begun = Instant::now();
    let idle = Duration::from_secs(limits::BODY_IDLE_SECONDS_MAX);
    let mut received: u64 = 0;
    loop {
        if is_too_slow(received, begun.elapsed(), connection.is_short()) {
            return Err(ReadError::TimedOut);
        }
        match timeout(idle, body.frame()).await {
            Err(_) => return Err(ReadError::TimedOut),
            Ok(None) => return Ok(()),
            Ok(Some(Err(error))) => return Err(ReadError::Incomplete(error.to_string())),
            Ok(Some(Ok(frame))) => {
                if let Some(bytes) = frame.data_ref() {
                    received += bytes.len() as u64;
                    take(bytes).map_err(ReadError::Refused)?;
                }
            }
        }
    }
}

/// Reads for a short time after a refusal. A client that is still sending when the connection closes never
/// sees the answer.
pub(crate) async fn drain(body: &mut Incoming) {
    const BYTES: usize = 1024 * 1024;
    let mut left = BYTES;
    let read = async {
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, |bytes| bytes.len()));
            if left == 0 {
                return;
            }
        }
    };
    let _ = timeout(Duration::from_secs(2), read).await;
}

/// The body of an answer.
pub(crate) enum Outgoing {
    Whole(Option<Bytes>),
    Streamed {
        pieces: mpsc::Receiver<io::Result<Bytes>>,
        /// Remaining bytes, if known.
        left: Option<u64>,
    },
}

impl Outgoing {
    pub(crate) fn bytes(bytes: Vec<u8>) -> Self {
        Self::Whole(Some(bytes.into()))
    }

    /// For an answer to HEAD: the length without a body.
    pub(crate) fn length_alone(bytes: Option<u64>) -> Self {
        Self::Streamed {
            pieces: mpsc::channel(1).1,
            left: bytes,
        }
    }

    /// Sends a stored payload while it is read. The connection is cut if the payload is damaged, or if the
    /// client reads nothing for some time. So no client takes half a dump for a complete one, and a stalled
    /// download does not hold a thread.
    pub(crate) fn payload(reader: Box<PayloadReader>) -> Self {
        let bytes = Some(reader.bytes());
        let pieces = reader.map(|piece| {
            piece.map_err(|error| {
                tracing::error!(%error, "a stored payload is damaged; its download ends early");
                io::Error::other(error)
            })
        });
        Self::streamed(bytes, pieces)
    }

    /// Sends the content of a reader in the same way.
    pub(crate) fn stream(mut reader: Box<dyn io::Read + Send>, bytes: Option<u64>) -> Self {
        let pieces = std::iter::from_fn(move || {
            let mut piece = vec![0; STREAM_PIECE_BYTES];
            let read = reader.read(&mut piece);
            read.map(|count| {
                piece.truncate(count);
                (count > 0).then_some(piece)
            })
            .transpose()
        });
        Self::streamed(bytes, pieces)
    }

    fn streamed(
        left: Option<u64>,
        mut reader: impl Iterator<Item = io::Result<Vec<u8>>> + Send + 'static,
    ) -> Self {
        let (sender, pieces) = mpsc::channel(2);
        tokio::spawn(async move {
            let idle = Duration::from_secs(limits::ANSWER_IDLE_SECONDS_MAX);
            loop {
                let read = tokio::task::spawn_blocking(move || {
                    let piece = reader.next();
                    (reader, piece)
                });
                let Ok((back, Some(piece))) = read.await else {
                    return;
                };
                reader = back;
                let piece = piece.map(Bytes::from);
                if !matches!(timeout(idle, sender.send(piece)).await, Ok(Ok(()))) {
                    return;
                }
            }
        });
        Self::Streamed { pieces, left }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Self::Streamed { pieces, left } => pieces.poll_recv(cx).map(|piece| {
                piece.map(|piece| {
                    piece.map(|bytes| {
                        *left = left.map(|left| left.saturating_sub(bytes.len() as u64));
                        Frame::data(bytes)
                    })
                })
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64))
            }
            Self::Streamed { left, .. } => left.map_or_else(SizeHint::new, SizeHint::with_exact),
        }
    }
}

/// Reads a small body completely. `Ok(None)` if it is larger than [`limits::SMALL_BODY_BYTES_MAX`].
pub(crate) async fn read_small(
    body: &mut Incoming,
    connection: &Connection,
) -> Result<Option<Vec<u8>>, ReadError<Infallible>> {
    connection.enter(Stage::Body);
    let mut bytes = Vec::new();
    let result = pump(body, connection, |piece| {
        if bytes.len() + piece.len() > limits::SMALL_BODY_BYTES_MAX {
            return Err(());
        }
        bytes.extend_from_slice(piece);
        Ok(())
    })
    .await;
    match result {
        Ok(()) => Ok(Some(bytes)),
        Err(ReadError::Refused(())) => {
            drain(body).await;
            Ok(None)
        }
        Err(ReadError::Incomplete(why)) => Err(ReadError::Incomplete(why)),
        Err(ReadError::TimedOut) => Err(ReadError::TimedOut),
    }
}
