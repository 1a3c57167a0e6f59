//! One client's socket, with the patience we have for it.
//!
//! A write that waits longer than [`WRITE_STALL`] fails, which ends the connection: a reader that does not read costs
//! what the buffers below us hold and no more. Closing reads on for a moment, so that a client still sending its body
//! gets to see why it was refused instead of a reset.
//!
//! Never keeps anything it reads while closing, and never lets a connection outlive its place in the count.

use everkept_engine::Clock;
use futures::future::BoxFuture;
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::OwnedSemaphorePermit,
};

pub(super) const WRITE_STALL: Duration = Duration::from_secs(30);
const LINGER: Duration = Duration::from_secs(1);

pub(super) struct Socket<IO> {
    io: IO,
    clock: Arc<dyn Clock>,
    stalled: Option<BoxFuture<'static, ()>>,
    lingering: Option<BoxFuture<'static, ()>>,
    /// The connection's place among those that may be open; a WebSocket takes it along.
    _place: Option<OwnedSemaphorePermit>,
}

impl<IO> Socket<IO> {
    pub fn new(io: IO, clock: Arc<dyn Clock>, place: Option<OwnedSemaphorePermit>) -> Self {
        Socket { io, clock, stalled: None, lingering: None, _place: place }
    }

    fn in_time<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let clock = &self.clock;
        let timer = self.stalled.get_or_insert_with(|| clock.sleep(WRITE_STALL));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the reader does not read")))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Socket<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Socket<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.in_time(cx, written)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bytes);
        self.in_time(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.in_time(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            let shut = Pin::new(&mut self.io).poll_shutdown(cx);
            ready!(self.in_time(cx, shut))?;
        }
        let this = &mut *self;
        let lingering = this.lingering.get_or_insert_with(|| this.clock.sleep(LINGER));
        let mut thrown_away = [0; 8 * 1024];
        loop {
            if lingering.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut buffer = ReadBuf::new(&mut thrown_away);
            match ready!(Pin::new(&mut this.io).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                Ok(()) | Err(_) => return Poll::Ready(Ok(())),
            }
        }
    }
}
