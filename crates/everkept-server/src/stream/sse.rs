//! Server-sent events as an answer's body.
//!
//! Never a silent connection: a comment every [`KEEP_ALIVE`] tells the reader, and the kernel, that it is alive.

use crate::{app::App, front::Credential, stream::ending};
use axum::{
    body::Body,
    http::{HeaderValue, header},
    response::Response,
};
use bytes::Bytes;
use everkept_engine::Clock;
use futures::{Stream, StreamExt, future::BoxFuture, stream};

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

const KEEP_ALIVE: Duration = Duration::from_secs(15);
const ALIVE: Bytes = Bytes::from_static(b":\n\n");
/// How soon a reader that lost us comes back.
const BEGIN: Bytes = Bytes::from_static(b"retry: 1000\n\n");

/// One event as it is written, blank line included.
pub(crate) type Chunk = Bytes;

/// An answer that goes on until `chunks` end, or the server or the credential does; readers are told how to come back.
pub(crate) fn resumable(app: &App, credential: &Credential, chunks: impl Stream<Item = Chunk> + Send + 'static) -> Response {
    sse(app, credential, stream::iter([BEGIN]).chain(chunks))
}

/// The same without a word of our own: some clients take every block for an event.
pub(crate) fn sse(app: &App, credential: &Credential, chunks: impl Stream<Item = Chunk> + Send + 'static) -> Response {
    let body = Events {
        chunks: Box::pin(chunks),
        ending: ending(app, credential),
        clock: app.engine.runtime().clock.clone(),
        silence: None,
        ended: false,
    };
    let mut response = Response::new(Body::from_stream(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    // Proxies that buffer would hold events back.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

struct Events {
    chunks: Pin<Box<dyn Stream<Item = Chunk> + Send>>,
    ending: BoxFuture<'static, ()>,
    clock: Arc<dyn Clock>,
    silence: Option<BoxFuture<'static, ()>>,
    ended: bool,
}

impl Stream for Events {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.ended || this.ending.as_mut().poll(cx).is_ready() {
            this.ended = true;
            return Poll::Ready(None);
        }
        if let Poll::Ready(chunk) = this.chunks.as_mut().poll_next(cx) {
            this.silence = None;
            this.ended = chunk.is_none();
            return Poll::Ready(chunk.map(Ok));
        }
        let clock = &this.clock;
        let silence = this.silence.get_or_insert_with(|| clock.sleep(KEEP_ALIVE));
        if silence.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        this.silence = None;
        Poll::Ready(Some(Ok(ALIVE)))
    }
}
