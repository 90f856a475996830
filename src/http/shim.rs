//! The socket that hyper reads from. Every request head goes through [`Heads`] first.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::head::Heads;

/// Bytes that are read at a time outside bodies.
const PIECE_BYTES: usize = 4096;

pub(crate) struct HeadShim<T> {
    inner: T,
    heads: Heads,
    /// Bytes for hyper. Those before `given` have been passed on.
    ready: Vec<u8>,
    given: usize,
}

impl<T> HeadShim<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self {
            inner,
            heads: Heads::default(),
            ready: Vec::new(),
            given: 0,
        }
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
            if this.given < this.ready.len() {
                let count = out.remaining().min(this.ready.len() - this.given);
                out.put_slice(&this.ready[this.given..this.given + count]);
                this.given += count;
                return Poll::Ready(Ok(()));
            }
            this.ready.clear();
            this.given = 0;
            if this.heads.is_over() {
                return Poll::Ready(Ok(()));
            }
            // Most bytes belong to bodies and need no copy.
            if let Some(left) = this.heads.body_left() {
                let room = usize::try_from(left).unwrap_or(usize::MAX);
                let room = out.initialize_unfilled_to(room.min(out.remaining()));
                let mut body = ReadBuf::new(room);
                ready!(Pin::new(&mut this.inner).poll_read(cx, &mut body))?;
                let count = body.filled().len();
                out.advance(count);
                this.heads.passed(count);
                return Poll::Ready(Ok(()));
            }
            let mut piece = [0; PIECE_BYTES];
            let mut piece = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut piece))?;
            if piece.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.heads.take(piece.filled(), &mut this.ready);
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
