//! Answers that stay open: server-sent events and what ends them.
//!
//! Never holds more than one frame of its own per reader, and never outlives the server or the reader's credential.

mod ending;
mod sse;

pub(crate) use ending::ending;
pub(crate) use sse::{Chunk, resumable, sse};

use everkept_engine::{Failure, Frame, Tail};
use futures::{Stream, TryStreamExt, stream};

/// A tail's events one by one.
pub(crate) fn frames(tail: Tail) -> impl Stream<Item = Result<Frame, Failure>> + Send {
    let batches = stream::try_unfold(tail, |mut tail| async move {
        let frames = tail.next().await?;
        Ok::<_, Failure>(Some((frames, tail)))
    });
    batches.map_ok(|frames| stream::iter(frames.into_iter().map(Ok))).try_flatten()
}
