//! Makes stock Crashpad's requests readable to hyper.
//!
//! Crashpad's own socket transport on Linux sends `POST ... HTTP/1.0` with `Transfer-Encoding:
//! chunked`, which HTTP/1.0 does not have; hyper answers 400 and the report is lost for ever. The
//! wrapper holds back a connection's first head while it may be such a one, and changes the
//! version's last digit. Such a client also expects the connection to be closed after the answer.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::limits::HEAD_BYTES_MAX;

enum Phase {
    /// Collecting the head.
    Holding,
    /// Handing on what was held, from this byte on.
    Releasing(usize),
    Passing,
}

pub struct HeadShim<T> {
    inner: T,
    held: Vec<u8>,
    phase: Phase,
    rewritten: Arc<AtomicBool>,
}

impl<T> HeadShim<T> {
    /// The flag turns true when a head was rewritten.
    pub fn new(inner: T) -> (Self, Arc<AtomicBool>) {
        let rewritten = Arc::new(AtomicBool::new(false));
        (
            Self {
                inner,
                held: Vec::new(),
                phase: Phase::Holding,
                rewritten: rewritten.clone(),
            },
            rewritten,
        )
    }
}

/// What to do with the bytes of a head so far.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    NeedMore,
    PassOn,
    /// Change the digit at this offset from `0` to `1`.
    Rewrite(usize),
}

fn judge(head: &[u8]) -> Verdict {
    let too_long = head.len() >= HEAD_BYTES_MAX;
    let Some(line_end) = memchr::memchr(b'\n', head) else {
        return if too_long {
            Verdict::PassOn
        } else {
            Verdict::NeedMore
        };
    };
    let line = head[..line_end].trim_ascii_end();
    if !line.ends_with(b" HTTP/1.0") {
        return Verdict::PassOn;
    }
    // A head without header lines ends with the end of its first line.
    let Some(end) = memchr::memmem::find(head, b"\r\n\r\n") else {
        return if too_long {
            Verdict::PassOn
        } else {
            Verdict::NeedMore
        };
    };
    let chunked = head[..end]
        .get(line_end + 1..)
        .unwrap_or_default()
        .split(|b| *b == b'\n')
        .any(|header| {
            let mut halves = header.splitn(2, |b| *b == b':');
            halves
                .next()
                .is_some_and(|name| name.trim_ascii().eq_ignore_ascii_case(b"transfer-encoding"))
        });
    if chunked {
        Verdict::Rewrite(line.len() - 1)
    } else {
        Verdict::PassOn
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for HeadShim<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            match this.phase {
                Phase::Passing => return Pin::new(&mut this.inner).poll_read(cx, out),
                Phase::Releasing(from) => {
                    let n = out.remaining().min(this.held.len() - from);
                    out.put_slice(&this.held[from..from + n]);
                    this.phase = if from + n == this.held.len() {
                        this.held = Vec::new();
                        Phase::Passing
                    } else {
                        Phase::Releasing(from + n)
                    };
                    return Poll::Ready(Ok(()));
                }
                Phase::Holding => {
                    let mut chunk = [0; 4096];
                    let mut buffer = ReadBuf::new(&mut chunk);
                    ready!(Pin::new(&mut this.inner).poll_read(cx, &mut buffer))?;
                    let read = buffer.filled();
                    this.held.extend_from_slice(read);
                    match judge(&this.held) {
                        Verdict::NeedMore if !read.is_empty() => continue,
                        Verdict::Rewrite(at) => {
                            this.held[at] = b'1';
                            this.rewritten.store(true, Ordering::Relaxed);
                        }
                        Verdict::NeedMore | Verdict::PassOn => {}
                    }
                    this.phase = if this.held.is_empty() {
                        Phase::Passing
                    } else {
                        Phase::Releasing(0)
                    };
                    if this.held.is_empty() {
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for HeadShim<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_chunked_head_of_http_1_0_is_rewritten() {
        let crashpad = b"POST /submit HTTP/1.0\r\nContent-Encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n5";
        assert_eq!(judge(crashpad), Verdict::Rewrite(20));
        assert_eq!(crashpad[20], b'0');
        assert_eq!(
            judge(b"POST /submit HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc"),
            Verdict::PassOn
        );
        assert_eq!(
            judge(b"POST /submit HTTP/1.1\r\nTransfer-Enc"),
            Verdict::PassOn
        );
        assert_eq!(
            judge(b"POST /submit HTTP/1.0\r\nTransfer-Encoding: chunked\r\n"),
            Verdict::NeedMore
        );
        assert_eq!(judge(b"POST /sub"), Verdict::NeedMore);
        assert_eq!(judge(&[b'x'; HEAD_BYTES_MAX]), Verdict::PassOn);
        assert_eq!(judge(b"GET / HTTP/1.0\r\n\r\n"), Verdict::PassOn);
        assert_eq!(judge(b" HTTP/1.0\n\r\n\r\n"), Verdict::PassOn);
    }
}
